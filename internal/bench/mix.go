package bench

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is what a caller does next.
type Kind int

// The kinds.
const (
	Adjust  Kind = iota // one unit more at one level
	Reserve             // one unit at one level
	Release             // a reservation of the caller's own
	Fulfil              // likewise
	Read                // what is in stock at one level
	kinds
)

var kindNames = [kinds]string{"adjust", "reserve", "release", "fulfil", "read"}

// String is the name of the kind, as in a mix.
func (k Kind) String() string { return kindNames[k] }

// A Mix says how many of 100 are of each kind.
type Mix [kinds]int

// AllAdjust is the mix of the figures in design.
var AllAdjust = Mix{Adjust: 100}

// ParseMix reads a mix such as adjust=50,reserve=20,release=10,fulfil=10,read=10.
func ParseMix(text string) (m Mix, err error) {
	sum := 0
	for part := range strings.SplitSeq(text, ",") {
		name, share, _ := strings.Cut(strings.TrimSpace(part), "=")
		kind, known := kindOf(name)
		percent, err := strconv.Atoi(share)
		switch {
		case !known:
			return m, fmt.Errorf("mix %q: there is no kind %q; there are %s", text, name, strings.Join(kindNames[:], ", "))
		case err != nil || percent < 0 || percent > 100:
			return m, fmt.Errorf("mix %q: the share of %s must be a whole number from 0 to 100", text, name)
		case m[kind] != 0:
			return m, fmt.Errorf("mix %q: %s is there twice", text, name)
		}
		m[kind] = percent
		sum += percent
	}
	if sum != 100 {
		return m, fmt.Errorf("mix %q: the shares are %d together; they must be 100", text, sum)
	}
	return m, nil
}

func kindOf(name string) (Kind, bool) {
	for k, known := range kindNames {
		if known == name {
			return Kind(k), true
		}
	}
	return 0, false
}

// String is the mix as ParseMix reads it.
func (m Mix) String() string {
	var parts []string
	for kind, share := range m {
		if share > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", Kind(kind), share))
		}
	}
	return strings.Join(parts, ",")
}

// MarshalText writes it as ParseMix reads it.
func (m Mix) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// kind is the kind that a number from 0 to 99 stands for.
func (m Mix) kind(n int) Kind {
	for kind, share := range m {
		if n < share {
			return Kind(kind)
		}
		n -= share
	}
	return Adjust
}

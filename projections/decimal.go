package projections

import (
	"fmt"
	"strings"

	"github.com/stockledger/stockledger/events"
)

// Quantities that rows are found and ordered by are stored as keys: texts whose
// order byte by byte is the order of the numbers, so that an index needs no
// collation of ours. A key is the plain notation after a letter that says how
// many digits are before the point: 0 is Q0, 0.5 is Q0.5, 12.5 is R12.5. Below
// zero the letters go the other way, each digit is 9 less itself, and ~ ends the
// key, so that -12 (M87~) comes after -12.5 (M87.4~).
//
// Letters reach for 46 digits before the point. Nothing comes near: a quantity
// has at most [events.MaxDigits], and a sum of as many as there are positions 38.

const (
	aboveZero = 'P'
	belowZero = 'O'
	keyEnd    = "~"
)

// quantityKey is the key of a quantity.
func quantityKey(q events.Quantity) string {
	plain := q.String()
	digits, negative := strings.CutPrefix(plain, "-")
	whole := len(digits)
	if point := strings.IndexByte(digits, '.'); point >= 0 {
		whole = point
	}
	if !negative {
		return string(rune(aboveZero+whole)) + plain
	}
	return string(rune(belowZero-whole)) + complement(digits) + keyEnd
}

// parseKey reads a key.
func parseKey(key string) (events.Quantity, error) {
	if len(key) < 2 {
		return events.Quantity{}, fmt.Errorf("%w: the key %q is too short", events.ErrQuantity, key)
	}
	digits, negative := strings.CutSuffix(key[1:], keyEnd)
	if !negative {
		return events.ParseSum(digits)
	}
	return events.ParseSum("-" + complement(digits))
}

func complement(digits string) string {
	return strings.Map(func(c rune) rune {
		if c == '.' {
			return c
		}
		return '0' + '9' - c
	}, digits)
}

package events

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/shopspring/decimal"
)

// MaxDigits is how many significant digits a quantity may have, as many as an
// int64 carries safely, so that every database and language a reader may use
// has an exact type for it.
const MaxDigits = 18

// ErrQuantity is what every quantity that cannot be read wraps.
var ErrQuantity = errors.New("not a quantity")

// A Quantity is an exact decimal number of units of an item. The zero value is
// 0. Sums and differences are exact; nothing is ever rounded. A quantity read
// from outside has at most [MaxDigits] significant digits; a sum may have more,
// and [Quantity.Fits] tells.
//
// On the wire it is a JSON number, never a string and never a float: 1.50 reads
// as 1.5, 1e2 as 100.
type Quantity struct{ d decimal.Decimal }

// Units is n whole units.
func Units(n int64) Quantity { return Quantity{decimal.NewFromInt(n)} }

// ParseQuantity reads a JSON number. It fails with an error that wraps
// ErrQuantity when s is something else, has more than MaxDigits digits, or is
// written with more than 64 characters before the exponent or four in it.
func ParseQuantity(s string) (Quantity, error) {
	if !isNumber(s) {
		return Quantity{}, fmt.Errorf("%w: %.40q is not a number", ErrQuantity, s)
	}
	// The bounds keep a short text such as 1e999999999 from becoming a huge
	// number before its digits can be counted.
	if mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e"); len(mantissa) > 64 || len(exponent) > 4 {
		return Quantity{}, fmt.Errorf("%w: %.40s has more than %d digits", ErrQuantity, s, MaxDigits)
	}
	d, err := decimal.NewFromString(s)
	if err != nil { // an exponent beyond what decimal takes
		return Quantity{}, fmt.Errorf("%w: %.40s has more than %d digits", ErrQuantity, s, MaxDigits)
	}
	q := Quantity{d.Normalize()}
	if !q.Fits() {
		return Quantity{}, fmt.Errorf("%w: %.40s has more than %d digits", ErrQuantity, s, MaxDigits)
	}
	return q, nil
}

// ParseSum reads what [Quantity.String] wrote, however many digits it has. It is
// for what a ledger has stored itself, such as sums; it fails with an error that
// wraps ErrQuantity when s is not a number in plain notation.
func ParseSum(s string) (Quantity, error) {
	if !isNumber(s) || strings.ContainsAny(s, "eE") {
		return Quantity{}, fmt.Errorf("%w: %.40q is not a number in plain notation", ErrQuantity, s)
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return Quantity{}, fmt.Errorf("%w: %.40q: %w", ErrQuantity, s, err)
	}
	return Quantity{d.Normalize()}, nil
}

// isNumber reports whether s is a number as JSON writes it.
func isNumber(s string) bool {
	digits := func() bool {
		n := 0
		for n < len(s) && '0' <= s[n] && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n > 0
	}
	s = strings.TrimPrefix(s, "-")
	if strings.HasPrefix(s, "0") {
		s = s[1:]
	} else if !digits() {
		return false
	}
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		if !digits() {
			return false
		}
	}
	if strings.HasPrefix(s, "e") || strings.HasPrefix(s, "E") {
		s = s[1:]
		if strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") {
			s = s[1:]
		}
		if !digits() {
			return false
		}
	}
	return s == ""
}

// Fits reports whether q has at most MaxDigits significant digits, counted on
// the plain notation: 1e17 has 18, 1e18 has 19, 0.001 has 3.
func (q Quantity) Fits() bool {
	n := q.d.Normalize()
	if n.Exponent() < -MaxDigits {
		return false
	}
	return n.NumDigits()+max(0, int(n.Exponent())) <= MaxDigits
}

// Plus is q + o.
func (q Quantity) Plus(o Quantity) Quantity { return Quantity{q.d.Add(o.d)} }

// Minus is q − o.
func (q Quantity) Minus(o Quantity) Quantity { return Quantity{q.d.Sub(o.d)} }

// Negated is −q.
func (q Quantity) Negated() Quantity { return Quantity{q.d.Neg()} }

// Over is how many whole times o, which must be positive, fits into q; it is
// rounded down, also below zero.
func (q Quantity) Over(o Quantity) Quantity {
	// Not Div and Floor: Div rounds, and 0.99999999999999999 over 1 would be 1.
	times, rest := q.d.QuoRem(o.d, 0)
	if rest.Sign() < 0 {
		times = times.Sub(decimal.New(1, 0))
	}
	return Quantity{times}
}

// Cmp is −1, 0 or 1 as q is less than, equal to or greater than o.
func (q Quantity) Cmp(o Quantity) int { return q.d.Cmp(o.d) }

// Less reports whether q < o.
func (q Quantity) Less(o Quantity) bool { return q.d.Cmp(o.d) < 0 }

// Equal reports whether q and o are the same number.
func (q Quantity) Equal(o Quantity) bool { return q.d.Equal(o.d) }

// Sign is −1, 0 or 1 as q is negative, zero or positive.
func (q Quantity) Sign() int { return q.d.Sign() }

// IsZero reports whether q is 0; encoding/json's omitzero asks it.
func (q Quantity) IsZero() bool { return q.d.IsZero() }

// String is q in plain notation without trailing zeros, such as -12.5.
func (q Quantity) String() string { return q.d.String() }

// MarshalJSON implements json.Marshaler.
func (q Quantity) MarshalJSON() ([]byte, error) { return []byte(q.d.String()), nil }

// UnmarshalJSON implements json.Unmarshaler. null leaves q as it is.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	parsed, err := ParseQuantity(string(b))
	if err != nil {
		return err
	}
	*q = parsed
	return nil
}

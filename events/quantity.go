package events

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// MaxDigits is how many significant digits a quantity may have, as many as an
// int64 carries safely, so that every database and language a reader may use
// has an exact type for it.
const MaxDigits = 18

// maxText is how many characters a quantity may be written with. Sums of as many
// quantities as a log has positions have 40.
const maxText = 64

// ErrQuantity is what every quantity that cannot be read wraps.
var ErrQuantity = errors.New("not a quantity")

// A Quantity is an exact decimal number of units of an item. The zero value is
// 0. Sums and differences are exact; nothing is ever rounded. A quantity read
// from outside has at most [MaxDigits] significant digits; a sum may have more,
// and [Quantity.Fits] tells.
//
// On the wire it is a JSON number, never a string and never a float: 1.50 reads
// as 1.5, 1e2 as 100.
type Quantity struct {
	// The number is units × 10^-scale, and scale is the least from 0 to MaxDigits
	// that makes units whole. What an int64 cannot say so is in large. Next to
	// decimals alone, that halves what it takes to fold an event.
	units int64
	scale int32
	large *decimal.Decimal // normalized, never changed
}

// Units is n whole units.
func Units(n int64) Quantity { return Quantity{units: n} }

// tens are the powers of ten that an int64 holds.
var tens = [...]int64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
}

// scaled is units × 10^-scale.
func scaled(units int64, scale int32) Quantity {
	for scale > 0 && units%10 == 0 {
		units, scale = units/10, scale-1
	}
	return Quantity{units: units, scale: scale}
}

// exactly is a decimal as a quantity.
func exactly(d decimal.Decimal) Quantity {
	d = d.Normalize()
	if d.Exponent() >= -MaxDigits && d.Exponent() < int32(len(tens)) {
		coefficient := d.Coefficient()
		if d.Exponent() > 0 {
			coefficient.Mul(coefficient, big.NewInt(tens[d.Exponent()]))
		}
		if coefficient.IsInt64() {
			return scaled(coefficient.Int64(), max(0, -d.Exponent()))
		}
	}
	return Quantity{large: &d}
}

func (q Quantity) decimal() decimal.Decimal {
	if q.large != nil {
		return *q.large
	}
	return decimal.New(q.units, -q.scale)
}

// ParseQuantity reads a JSON number. It fails with an error that wraps
// ErrQuantity when s is something else, has more than MaxDigits digits, or is
// written with more than 64 characters before the exponent or four in it.
func ParseQuantity(s string) (Quantity, error) {
	if q, ok := parsePlain(s); ok {
		return q, nil
	}
	if !isNumber(s) {
		return Quantity{}, fmt.Errorf("%w: %.40q is not a number", ErrQuantity, s)
	}
	// The bounds keep a short text such as 1e999999999 from becoming a huge
	// number before its digits can be counted.
	if mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e"); len(mantissa) > maxText || len(exponent) > 4 {
		return Quantity{}, fmt.Errorf("%w: %.40s has more than %d digits", ErrQuantity, s, MaxDigits)
	}
	d, err := decimal.NewFromString(s)
	if err != nil { // an exponent beyond what decimal takes
		return Quantity{}, fmt.Errorf("%w: %.40s has more than %d digits", ErrQuantity, s, MaxDigits)
	}
	q := exactly(d)
	if !q.Fits() {
		return Quantity{}, fmt.Errorf("%w: %.40s has more than %d digits", ErrQuantity, s, MaxDigits)
	}
	return q, nil
}

// ParseSum reads what [Quantity.String] wrote, however many digits it has. It is
// for what a ledger has stored itself, such as sums; it fails with an error that
// wraps ErrQuantity when s is not a number in plain notation.
func ParseSum(s string) (Quantity, error) {
	if q, ok := parsePlain(s); ok {
		return q, nil
	}
	if !isNumber(s) || strings.ContainsAny(s, "eE") {
		return Quantity{}, fmt.Errorf("%w: %.40q is not a number in plain notation", ErrQuantity, s)
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		return Quantity{}, fmt.Errorf("%w: %.40q: %w", ErrQuantity, s, err)
	}
	return exactly(d), nil
}

// parsePlain reads a number in plain notation with at most MaxDigits digits,
// which nearly all are.
func parsePlain[T string | []byte](s T) (q Quantity, ok bool) {
	begin := 0
	if len(s) > 0 && s[0] == '-' {
		begin = 1
	}
	if len(s) > begin+1 && s[begin] == '0' && s[begin+1] != '.' {
		return Quantity{}, false
	}
	digits, point := 0, -1
	for at := begin; at < len(s); at++ {
		switch c := s[at]; {
		case '0' <= c && c <= '9' && digits < MaxDigits:
			q.units = 10*q.units + int64(c-'0')
			digits++
			if point >= 0 {
				q.scale++
			}
		case c == '.' && digits > 0 && point < 0 && at < len(s)-1:
			point = at
		default:
			return Quantity{}, false
		}
	}
	if begin > 0 {
		q.units = -q.units
	}
	return scaled(q.units, q.scale), digits > 0
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
	return q.large == nil && -tens[MaxDigits] < q.units && q.units < tens[MaxDigits]
}

// Plus is q + o.
func (q Quantity) Plus(o Quantity) Quantity {
	if a, b, scale, ok := together(q, o); ok {
		if sum := a + b; (sum > a) == (b > 0) { // or it is too large for an int64
			return scaled(sum, scale)
		}
	}
	return exactly(q.decimal().Add(o.decimal()))
}

// together are the units of two quantities at one scale, if int64s hold them.
func together(q, o Quantity) (a, b int64, scale int32, ok bool) {
	if q.large != nil || o.large != nil {
		return 0, 0, 0, false
	}
	a, b, scale = q.units, o.units, max(q.scale, o.scale)
	if q.scale == o.scale {
		return a, b, scale, true
	}
	more, less := &a, tens[scale-q.scale]
	if q.scale == scale {
		more, less = &b, tens[scale-o.scale]
	}
	if *more > math.MaxInt64/less || *more < -math.MaxInt64/less {
		return 0, 0, 0, false
	}
	*more *= less
	return a, b, scale, true
}

// Minus is q − o.
func (q Quantity) Minus(o Quantity) Quantity { return q.Plus(o.Negated()) }

// Negated is −q.
func (q Quantity) Negated() Quantity {
	if q.large != nil || q.units == math.MinInt64 {
		return exactly(q.decimal().Neg())
	}
	q.units = -q.units
	return q
}

// Over is how many whole times o, which must be positive, fits into q; it is
// rounded down, also below zero.
func (q Quantity) Over(o Quantity) Quantity {
	// Not Div and Floor: Div rounds, and 0.99999999999999999 over 1 would be 1.
	times, rest := q.decimal().QuoRem(o.decimal(), 0)
	if rest.Sign() < 0 {
		times = times.Sub(decimal.New(1, 0))
	}
	return exactly(times)
}

// Cmp is −1, 0 or 1 as q is less than, equal to or greater than o.
func (q Quantity) Cmp(o Quantity) int {
	if a, b, _, ok := together(q, o); ok {
		return cmp.Compare(a, b)
	}
	return q.decimal().Cmp(o.decimal())
}

// Less reports whether q < o.
func (q Quantity) Less(o Quantity) bool { return q.Cmp(o) < 0 }

// Equal reports whether q and o are the same number.
func (q Quantity) Equal(o Quantity) bool {
	if q.large == nil || o.large == nil {
		return q == o // each number is written in one way
	}
	return q.large.Equal(*o.large)
}

// Sign is −1, 0 or 1 as q is negative, zero or positive.
func (q Quantity) Sign() int {
	if q.large != nil {
		return q.large.Sign()
	}
	return cmp.Compare(q.units, 0)
}

// IsZero reports whether q is 0; encoding/json's omitzero asks it.
func (q Quantity) IsZero() bool { return q == Quantity{} }

// Whole is q as an integer, if it is one that an int64 holds.
func (q Quantity) Whole() (units int64, ok bool) {
	return q.units, q.large == nil && q.scale == 0
}

// String is q in plain notation without trailing zeros, such as -12.5.
func (q Quantity) String() string {
	if q.large != nil {
		return q.large.String()
	}
	if q.scale == 0 {
		return strconv.FormatInt(q.units, 10)
	}
	return string(q.append(make([]byte, 0, 24)))
}

// append writes String to b.
func (q Quantity) append(b []byte) []byte {
	if q.large != nil {
		return append(b, q.large.String()...)
	}
	if q.scale == 0 {
		return strconv.AppendInt(b, q.units, 10)
	}
	begin := len(b)
	b = strconv.AppendInt(b, q.units, 10)
	if q.units < 0 {
		begin++
	}
	// At least one digit comes before the point, so there must be more than scale.
	point := len(b) - int(q.scale)
	if point <= begin {
		b = slices.Insert(b, begin, bytes.Repeat([]byte("0"), begin+1-point)...)
		point = begin + 1
	}
	return slices.Insert(b, point, '.')
}

// MarshalJSON implements json.Marshaler.
func (q Quantity) MarshalJSON() ([]byte, error) { return q.append(make([]byte, 0, 24)), nil }

// UnmarshalJSON implements json.Unmarshaler. It reads every quantity that
// MarshalJSON writes, so also a sum that does not fit: what is available may have
// a digit more than what is stocked. null leaves q as it is.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	if plain, ok := parsePlain(b); ok {
		*q = plain
		return nil
	}
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	parsed, err := ParseQuantity(string(b))
	if err != nil && len(b) <= maxText && !bytes.ContainsAny(b, "eE") {
		parsed, err = ParseSum(string(b))
	}
	if err != nil {
		return err
	}
	*q = parsed
	return nil
}

// ReadAsked is UnmarshalJSON for what a ledger is asked: it also fails when the
// quantity does not fit.
func ReadAsked(number []byte, q *Quantity) error {
	if err := q.UnmarshalJSON(number); err != nil || q.Fits() {
		return err
	}
	_, err := ParseQuantity(string(number))
	return err
}

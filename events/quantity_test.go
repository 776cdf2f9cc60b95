package events_test

import (
	"encoding/json"
	"math"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
)

func TestAQuantityReadsJSONNumbersExactly(t *testing.T) {
	for text, want := range map[string]string{
		"0":                        "0",
		"-0":                       "0",
		"-0.000":                   "0",
		"0e5":                      "0",
		"0e9999":                   "0",
		"7":                        "7",
		"-7":                       "-7",
		"1.50":                     "1.5",
		"1.0":                      "1",
		"100":                      "100",
		"1e2":                      "100",
		"1E+2":                     "100",
		"1e-2":                     "0.01",
		"12.5e1":                   "125",
		"0.1":                      "0.1",
		"0.30000000000000004":      "0.30000000000000004",
		"9007199254740993":         "9007199254740993", // no float64 is this number
		"1e17":                     "100000000000000000",
		"999999999999999999":       "999999999999999999",
		"-999999999999999999":      "-999999999999999999",
		"0.999999999999999999":     "0.999999999999999999",
		"1e-18":                    "0.000000000000000001",
		"999999999999999999000e-3": "999999999999999999",
		"1.000000000000000000000":  "1",
	} {
		t.Run(text, func(t *testing.T) {
			got, err := events.ParseQuantity(text)
			require.NoError(t, err)
			require.Equal(t, want, got.String())

			onTheWire, err := json.Marshal(got)
			require.NoError(t, err)
			require.Equal(t, want, string(onTheWire))
			var back events.Quantity
			require.NoError(t, json.Unmarshal(onTheWire, &back))
			require.True(t, back.Equal(got))
		})
	}
}

func TestAQuantityIsNothingElse(t *testing.T) {
	for _, text := range []string{
		"", " ", "-", "+1", "01", "-01", "00", "1.", ".5", "-.5", "1.e2", "1e", "1e+", "1e1.5", "1..2", "1e1e1", "--1",
		"NaN", "nan", "Inf", "-Infinity", "1,5", "1 ", " 1", "1\n", "0x10", "1_000", "١", "\u22121",
		`"1"`, "true", "{}", "[1]", "null",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := events.ParseQuantity(text)
			require.ErrorIs(t, err, events.ErrQuantity)
			require.ErrorContains(t, err, "is not a number")
		})
	}
}

func TestAQuantityHasNoMoreThan18Digits(t *testing.T) {
	for _, text := range []string{
		"1e18", "1000000000000000000", "1234567890123456789", "-1234567890123456789",
		"1e-19", "0.0000000000000000001", "123456789.0123456789", "1e400", "-1e400", "1e-400",
		"1e9999", "1e-9999", "1.55e-9999", "1e10000", "1e999999999", "1e-999999999", "1e99999999999999999999",
		"1e00017", "0e00000", "0." + strings.Repeat("0", 63), // or is written as if it had
		strings.Repeat("9", 1<<20), "0." + strings.Repeat("3", 1<<20), "1e" + strings.Repeat("9", 1<<20),
	} {
		t.Run(text[:min(len(text), 40)], func(t *testing.T) {
			_, err := events.ParseQuantity(text)
			require.ErrorIs(t, err, events.ErrQuantity)
			require.ErrorContains(t, err, "more than 18 digits")
			require.Less(t, len(err.Error()), 120, "an error does not repeat a megabyte")
		})
	}
}

// A number of a few bytes must not become one of gigabytes.
func TestReadingAQuantityCostsNoMoreThanItsText(t *testing.T) {
	for _, text := range []string{
		"1e999999999", "-1e999999999", "1e-999999999", "1e9999", "1e-9999", "9.9e9999",
		strings.Repeat("9", 64) + "e9999", strings.Repeat("9", 1<<16),
	} {
		const times = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range times {
			_, err := events.ParseQuantity(text)
			require.Error(t, err)
		}
		runtime.ReadMemStats(&after)
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)/times, uint64(16<<10+2*len(text)), "%.20s", text)
	}
}

func TestAQuantityInJSON(t *testing.T) {
	var line struct {
		Is    events.Quantity  `json:"is"`
		Maybe *events.Quantity `json:"maybe"`
		Left  events.Quantity  `json:"left,omitzero"`
	}
	require.NoError(t, json.Unmarshal([]byte(`{"is": 1.10, "maybe": null}`), &line))
	require.Equal(t, "1.1", line.Is.String())
	require.Nil(t, line.Maybe)
	out, err := json.Marshal(line)
	require.NoError(t, err)
	require.Equal(t, `{"is":1.1,"maybe":null}`, string(out))

	for _, body := range []string{`{"is":"1"}`, `{"is":true}`, `{"is":[1]}`, `{"is":1e18}`} {
		require.ErrorIs(t, json.Unmarshal([]byte(body), &line), events.ErrQuantity, body)
	}
	for _, body := range []string{`{"is":NaN}`, `{"is":+1}`, `{"is":01}`, `{"is":1.}`, `{"is":.5}`} {
		require.Error(t, json.Unmarshal([]byte(body), &line), body)
	}
	require.Equal(t, "1.1", line.Is.String(), "what cannot be read changes nothing")
}

func TestTenthsAddUp(t *testing.T) {
	sum := number(t, "0.1").Plus(number(t, "0.2"))
	require.True(t, sum.Equal(number(t, "0.3")))
	require.Equal(t, "0.3", sum.String())

	for range 1000 {
		sum = sum.Plus(number(t, "0.1"))
	}
	require.Equal(t, "100.3", sum.String())
}

func TestTheZeroQuantityIsZero(t *testing.T) {
	var zero events.Quantity
	require.True(t, zero.IsZero())
	require.Zero(t, zero.Sign())
	require.True(t, zero.Fits())
	require.Equal(t, "0", zero.String())
	require.True(t, zero.Equal(number(t, "-0.0")))
	require.Equal(t, "5", zero.Plus(events.Units(5)).String())
	require.Equal(t, "-5", zero.Minus(events.Units(5)).String())
	require.Equal(t, "0", zero.Negated().String())
	require.Equal(t, "0", zero.Over(events.Units(3)).String())
}

func TestASumMayOutgrowWhatMayBeRead(t *testing.T) {
	for _, tc := range []struct {
		sum  events.Quantity
		fits bool
	}{
		{number(t, "999999999999999999"), true},
		{number(t, "999999999999999999").Plus(events.Units(1)), false},
		{number(t, "999999999999999999").Minus(events.Units(1)), true},
		{number(t, "-999999999999999999").Minus(events.Units(1)), false},
		{number(t, "1e17").Plus(number(t, "1e-18")), false},
		{number(t, "1e17").Plus(number(t, "0.5")), false},
		{number(t, "0.5").Plus(number(t, "0.5")), true},
		{events.Units(math.MaxInt64), false},
		{events.Units(math.MinInt64), false},
	} {
		require.Equal(t, tc.fits, tc.sum.Fits(), "%s", tc.sum)
	}
}

// A sum is read again as it was written, and nothing else is.
func TestASumIsReadAgain(t *testing.T) {
	for _, s := range []string{"0", "-12.5", "0.000001", "1099999999999999998.900001", "-1234567890123456789012345678901234567890.5"} {
		q, err := events.ParseSum(s)
		require.NoError(t, err)
		require.Equal(t, s, q.String())
		var read events.Quantity
		require.NoError(t, json.Unmarshal([]byte(s), &read))
		require.True(t, read.Equal(q), s)
	}
	for _, s := range []string{strings.Repeat("9", 65), "0." + strings.Repeat("3", 1<<20)} {
		require.ErrorIs(t, new(events.Quantity).UnmarshalJSON([]byte(s)), events.ErrQuantity)
	}
	for _, s := range []string{"", "-", "1e5", "1E5", "0x1", "01", "1.", ".5", "one", " 1"} {
		_, err := events.ParseSum(s)
		require.ErrorIs(t, err, events.ErrQuantity, "%q", s)
	}
}

func TestHowOftenOneQuantityFitsIntoAnother(t *testing.T) {
	for _, tc := range []struct{ q, o, want string }{
		{"10", "3", "3"},
		{"9", "3", "3"},
		{"2", "3", "0"},
		{"0", "3", "0"},
		{"-1", "3", "-1"},
		{"-3", "3", "-1"},
		{"-4", "3", "-2"},
		{"1", "0.1", "10"},
		{"0.3", "0.1", "3"},
		{"2.5", "0.75", "3"},
		{"0.99999999999999999", "1", "0"}, // nothing is rounded up
		{"2.99999999999999999", "1", "2"},
		{"-0.00000000000000001", "1", "-1"},
		{"1", "0.000000000000000003", "333333333333333333"},
		{"1e17", "1e-18", "100000000000000000000000000000000000"},
	} {
		require.Equal(t, tc.want, number(t, tc.q).Over(number(t, tc.o)).String(), "%s over %s", tc.q, tc.o)
	}
}

// Whatever is written, a quantity is the number that was written, or refused
// for a reason anybody can check.
func TestAQuantityIsTheNumberThatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := anyNumberText().Draw(t, "text")
		q, err := events.ParseQuantity(text)
		mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
		if !isJSONNumber(text) || len(mantissa) > 64 || len(exponent) > 4 {
			require.ErrorIs(t, err, events.ErrQuantity)
			return
		}
		want, ok := new(big.Rat).SetString(text)
		require.True(t, ok)
		if !has18Digits(want) {
			require.ErrorIs(t, err, events.ErrQuantity)
			return
		}
		require.NoError(t, err)
		require.Zero(t, want.Cmp(rat(t, q)), "%s read as %s", text, q)
	})
}

// The arithmetic is that of exact fractions.
func TestQuantitiesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyQuantity().Draw(t, "a"), anyQuantity().Draw(t, "b")
		x, y := rat(t, a), rat(t, b)
		same := func(want *big.Rat, got events.Quantity) {
			t.Helper()
			require.Zero(t, want.Cmp(rat(t, got)), "want %s, got %s", want.RatString(), got)
			require.Equal(t, has18Digits(want), got.Fits(), "%s fits", got)
		}
		same(new(big.Rat).Add(x, y), a.Plus(b))
		same(new(big.Rat).Sub(x, y), a.Minus(b))
		same(new(big.Rat).Neg(x), a.Negated())
		require.Equal(t, x.Cmp(y), a.Cmp(b))
		require.Equal(t, x.Cmp(y) < 0, a.Less(b))
		require.Equal(t, x.Cmp(y) == 0, a.Equal(b))
		require.Equal(t, x.Sign(), a.Sign())
		require.Equal(t, x.Sign() == 0, a.IsZero())
		require.True(t, a.Plus(b).Minus(b).Equal(a))
		if b.Sign() > 0 {
			times := new(big.Rat).Quo(x, y)
			floor := new(big.Int).Div(times.Num(), times.Denom()) // Euclidean, the floor over a positive divisor
			same(new(big.Rat).SetInt(floor), a.Over(b))
		}
	})
}

// Sums outgrow what a machine word holds, and come back.
func TestSumsAreExactHoweverLarge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anySum := rapid.OneOf(
			rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?`),
			rapid.StringMatching(`-?(0|[1-9][0-9]{16,19})(\.[0-9]{1,2})?`),
			rapid.SampledFrom([]string{"9223372036854775807", "-9223372036854775808", "9223372036854775808", "-922337203685477580.8", "0.000000000000000001"}),
		)
		sum, want := events.Quantity{}, new(big.Rat)
		for _, text := range rapid.SliceOfN(anySum, 1, 8).Draw(t, "texts") {
			q, err := events.ParseSum(text)
			require.NoError(t, err)
			x := rat(t, q)
			before, wanted := sum, new(big.Rat).Set(want)
			sum, want = sum.Plus(q), want.Add(want, x)
			require.Zero(t, want.Cmp(rat(t, sum)), "%s and %s make %s", before, text, sum)
			require.Equal(t, wanted.Cmp(x), before.Cmp(q))
			require.Equal(t, wanted.Cmp(x) == 0, before.Equal(q))
			require.True(t, sum.Minus(q).Equal(before), "%s less %s", sum, text)
			require.True(t, sum.Negated().Negated().Equal(sum))
			again, err := events.ParseSum(sum.String())
			require.NoError(t, err)
			require.Equal(t, sum, again, "each number is held in one way")
		}
	})
}

func FuzzParseQuantity(f *testing.F) {
	for _, seed := range []string{
		"0", "-0", "1", "1.50", "1e17", "1e18", "1e400", "1e-400", "NaN", `"1"`, "+1", "01", "1.", ".5",
		"0.1", "999999999999999999", "9999999999999999999", "1e999999999", "1E+2", "0e9999", "1.55e-9999",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := events.ParseQuantity(text)
		if err != nil {
			require.ErrorIs(t, err, events.ErrQuantity)
			return
		}
		require.True(t, isJSONNumber(text), "%q", text)
		require.True(t, q.Fits())
		again, err := events.ParseQuantity(q.String())
		require.NoError(t, err)
		require.True(t, again.Equal(q))
		require.Equal(t, q.String(), again.String())
		require.LessOrEqual(t, len(q.String()), len("-0.")+2*events.MaxDigits)
	})
}

// anyQuantity draws quantities of every size, most of them small or near each other.
func anyQuantity() *rapid.Generator[events.Quantity] {
	return rapid.Custom(func(t *rapid.T) events.Quantity {
		n := rapid.OneOf(rapid.Int64Range(-20, 20), rapid.Int64Range(-999999999999999999, 999999999999999999)).Draw(t, "n")
		scale := rapid.IntRange(0, events.MaxDigits).Draw(t, "scale")
		q, err := events.ParseQuantity(new(big.Int).SetInt64(n).String() + "e-" + big.NewInt(int64(scale)).String())
		require.NoError(t, err)
		return q
	})
}

// anyNumberText draws what might be a number: well formed, nearly so, or not.
func anyNumberText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?`),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,5})(\.[0-9]{1,5})?([eE][+-]?[0-9])?`),
		rapid.StringMatching(`[-+]?[0-9]{0,3}\.?[0-9]{0,3}[eE]?[+-]?[0-9]{0,2}`),
		rapid.StringOf(rapid.SampledFrom([]rune("0123456789+-.eE \"n"))),
	)
}

func isJSONNumber(text string) bool {
	return json.Valid([]byte(text)) && strings.Trim(text, "0123456789+-.eE") == ""
}

// has18Digits counts the digits of x in plain notation.
func has18Digits(x *big.Rat) bool {
	shifted := new(big.Rat).Set(x)
	ten := big.NewRat(10, 1)
	for range events.MaxDigits {
		if shifted.IsInt() {
			break
		}
		shifted.Mul(shifted, ten)
	}
	return shifted.IsInt() && len(new(big.Int).Abs(shifted.Num()).String()) <= events.MaxDigits
}

func rat(t require.TestingT, q events.Quantity) *big.Rat {
	x, ok := new(big.Rat).SetString(q.String())
	require.True(t, ok, "%s", q)
	return x
}

func number(t require.TestingT, text string) events.Quantity {
	q, err := events.ParseQuantity(text)
	require.NoError(t, err)
	return q
}

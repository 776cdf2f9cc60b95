package events_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
)

func TestStreamNames(t *testing.T) {
	for _, tc := range []struct{ stream, want, kind, subject string }{
		{events.ItemStream("iitem_01"), "item-iitem_01", "item", "iitem_01"},
		{events.ItemStream("a-b"), "item-a-b", "item", "a-b"},
		{events.SKUStream("BANK CHARGES"), "sku-BANK=20CHARGES", "sku", "BANK CHARGES"},
		{events.SKUStream("85123A"), "sku-85123A", "sku", "85123A"},
		{events.SKUStream("85123a"), "sku-85123a", "sku", "85123a"},
		{events.SKUStream("a.b*c>d"), "sku-a=2Eb=2Ac=3Ed", "sku", "a.b*c>d"},
		{events.SKUStream("=20"), "sku-=3D20", "sku", "=20"},
		{events.SKUStream("Größe\x00\n"), "sku-Gr=C3=B6=C3=9Fe=00=0A", "sku", "Größe\x00\n"},
		{events.SKUStream("\xff"), "sku-=FF", "sku", "\xff"},
		{events.SKUStream(""), "sku-", "sku", ""},
		{events.VariantStream("variant_1"), "variant-variant_1", "variant", "variant_1"},
		{events.LocationStream("sloc/1"), "location-sloc=2F1", "location", "sloc/1"},
		{events.CommandStream("order#7"), "command-order=237", "command", "order#7"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			require.Equal(t, tc.want, tc.stream)
			kind, subject, err := events.SplitStream(tc.stream)
			require.NoError(t, err)
			require.Equal(t, tc.kind, kind)
			require.Equal(t, tc.subject, subject)
		})
	}

	_, _, err := events.SplitStream("item")
	require.ErrorContains(t, err, "names no kind")
	_, _, err = events.SplitStream("item-a b")
	require.Error(t, err)
}

// A stream has one name, so what Escape does not write is refused.
func TestUnescapeRefusesWhatEscapeDoesNotWrite(t *testing.T) {
	for _, text := range []string{
		"=", "=4", "a=", "a=2", "=2e", "=zz", "=+F", "=-1", "= 2", "=0x", "=61", "=2D", "=5F", "=3d", "a b", "a.b", "ö", "\x00", "==20", "=20=",
	} {
		_, err := events.Unescape(text)
		require.ErrorContains(t, err, "unescape", "%q", text)
	}
}

var safe = regexp.MustCompile(`^[A-Za-z0-9_=-]*$`)

// Any text can name a stream, and no two texts name the same one.
func TestEscapingIsReversible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := anyText().Draw(t, "text")
		escaped := events.Escape(text)
		require.Regexp(t, safe, escaped)
		back, err := events.Unescape(escaped)
		require.NoError(t, err)
		require.Equal(t, text, back)

		other := anyText().Draw(t, "other")
		require.Equal(t, text == other, escaped == events.Escape(other), "%q and %q", text, other)
		if safe.MatchString(text) {
			require.Equal(t, text == events.Escape(text), regexp.MustCompile(`^[^=]*$`).MatchString(text))
		}
	})
}

func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{"", "a", "=20", "=3D20", "=2e", "=", "=4", "=+F", "=61", "a b", "Gr=C3=B6=C3=9Fe"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		back, err := events.Unescape(events.Escape(text))
		require.NoError(t, err)
		require.Equal(t, text, back)

		plain, err := events.Unescape(text)
		if err != nil {
			return
		}
		require.Regexp(t, safe, text)
		require.Equal(t, text, events.Escape(plain))
	})
}

// anyText draws texts of any bytes, many of them of those that escapes are made of.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringOf(rapid.SampledFrom([]rune("=23DdAa0 -_"))),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }),
	)
}

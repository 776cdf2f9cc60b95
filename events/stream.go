package events

import (
	"fmt"
	"strings"
)

// Stream names. What a stream is about follows the first hyphen, escaped, so
// that SKUs and ids may be any text and every engine can carry the name.

// ItemStream holds the facts of one inventory item, its levels and its reservations.
func ItemStream(id string) string { return "item-" + Escape(id) }

// SKUStream holds which item owns a SKU.
func SKUStream(sku string) string { return "sku-" + Escape(sku) }

// VariantStream holds the inventory items a product variant is made of.
func VariantStream(id string) string { return "variant-" + Escape(id) }

// LocationStream holds the facts of one stock location.
func LocationStream(id string) string { return "location-" + Escape(id) }

// CommandStream holds the acceptance of a command that changed nothing.
func CommandStream(id string) string { return "command-" + Escape(id) }

// SplitStream is the kind and the subject of a stream, "item" and "iitem_1" of
// "item-iitem_1".
func SplitStream(stream string) (kind, subject string, err error) {
	kind, escaped, found := strings.Cut(stream, "-")
	if !found {
		return "", "", fmt.Errorf("stream %q names no kind", stream)
	}
	subject, err = Unescape(escaped)
	return kind, subject, err
}

// Escape writes s with letters, digits, hyphen and underscore only: any other
// byte becomes '=' and two hexadecimal digits, as in "BANK=20CHARGES". It keeps
// case, and no two texts escape alike. '=' is the escape because NATS subjects,
// file names and URLs all carry it, and the other usual ones they do not.
func Escape(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && isPlain(s[i])
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if isPlain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "=%02X", s[i])
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// Unescape undoes Escape. It refuses what Escape does not write, so that a
// stream has one name only.
func Unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		var c byte
		if i+2 >= len(s) {
			return "", fmt.Errorf("unescape %q: cut short", s)
		}
		if _, err := fmt.Sscanf(s[i+1:i+3], "%02X", &c); err != nil {
			return "", fmt.Errorf("unescape %q: %w", s, err)
		}
		b.WriteByte(c)
		i += 2
	}
	if Escape(b.String()) != s {
		return "", fmt.Errorf("unescape %q: not what Escape writes", s)
	}
	return b.String(), nil
}

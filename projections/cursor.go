package projections

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/stockledger/stockledger/internal/fault"
)

// A cursor holds the key of the last row of a page, which is what rows are
// ordered by and, among equals, the position. The next page begins behind that
// key, whether its row is still there or not, so that rows that do not change
// come exactly once, whatever happens to others.
type cursor struct {
	Of  string `json:"o"` // a digest of what was asked for
	Key []any  `json:"k"`
}

// cursor is that of the page that ends with a row.
func (f *finder) cursor(last found) (string, error) {
	text, err := json.Marshal(cursor{f.cursorOf, append(last.keys, last.position)})
	return base64.RawURLEncoding.EncodeToString(text), err
}

// resume reads the cursor that was given, if one was.
func (f *finder) resume(asked List) error {
	question, err := json.Marshal([]any{f.table.name, asked.Filter, asked.Q, asked.Order, asked.WithDeleted})
	if err != nil {
		return fault.New(fault.Invalid, "invalid_type", "the selectors cannot be read: %v", err)
	}
	digest := sha256.Sum256(question)
	f.cursorOf = base64.RawURLEncoding.EncodeToString(digest[:9])
	if asked.Cursor == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(asked.Cursor)
	var c cursor
	numbers := json.NewDecoder(bytes.NewReader(text))
	numbers.UseNumber()
	if err != nil || numbers.Decode(&c) != nil || c.Of != f.cursorOf || !f.keyed(c.Key) {
		return fault.New(fault.Invalid, "invalid_cursor", "the cursor is not of a page of this list, with these selectors and this order").
			With("field", "cursor")
	}
	f.after = c.Key
	return nil
}

// keyed reports whether it is a key of the order, and makes its numbers int64.
func (f *finder) keyed(key []any) bool {
	if len(key) != len(f.order)+1 {
		return false
	}
	for i, v := range key {
		if number, ok := v.(json.Number); ok {
			n, err := number.Int64()
			if err != nil {
				return false
			}
			key[i] = n
		}
		_, whole := key[i].(int64)
		_, text := key[i].(string)
		wantsText := i < len(f.order) && (f.order[i].kind == asText || f.order[i].kind == asNumber)
		if text != wantsText && key[i] != nil || whole == wantsText && key[i] != nil || i == len(f.order) && !whole {
			return false
		}
	}
	return true
}

// A segment is a part of the order that is a range of an index: the rows that
// are equal to a key in the first columns, and behind it in the next.
type segment []condition

// A condition is about one column of the order, or about the position.
type condition struct {
	column, text string
	args         []any
}

const positionColumn = `position`

// segments are the parts behind the key that the page comes after, in their
// order: those most like the key come first.
func (f *finder) segments() []segment {
	if f.after == nil {
		return []segment{nil}
	}
	var equal segment
	var parts []segment
	for i, o := range f.order {
		for _, behind := range o.behind(f.after[i]) {
			parts = append(parts, append(equal[:i:i], behind))
		}
		equal = append(equal, o.equal(f.after[i]))
	}
	position := condition{positionColumn, ` > ?`, f.after[len(f.order):]}
	if f.descending() {
		position.text = ` < ?`
	}
	parts = append(parts, append(equal, position))
	slices.SortStableFunc(parts, func(a, b segment) int { return len(b) - len(a) })
	return parts
}

func (o ordering) equal(v any) condition {
	if v == nil {
		return condition{o.name, ` IS NULL`, nil}
	}
	return condition{o.name, ` = ?`, []any{v}}
}

// behind are the ranges after a value: NULL is the greatest.
func (o ordering) behind(v any) []condition {
	switch {
	case v == nil && o.descending:
		return []condition{{o.name, ` IS NOT NULL`, nil}}
	case v == nil:
		return nil
	case o.descending:
		return []condition{{o.name, ` < ?`, []any{v}}}
	}
	return []condition{{o.name, ` > ?`, []any{v}}, {o.name, ` IS NULL`, nil}}
}

// narrow keeps the part of an index on a column.
func (s segment) narrow(l leg, key string) leg {
	for _, c := range s {
		switch c.column {
		case key:
			l = l.and(key+c.text, c.args...)
		case positionColumn:
			l = l.and(l.at+c.text, c.args...)
		}
	}
	return l
}

// addTo keeps the rows of the segment.
func (s segment) addTo(q *statement) {
	for _, c := range s {
		column := c.column
		if column == positionColumn {
			column = q.position
		}
		q.and(column+c.text, c.args...)
	}
}

// beyond is the segment without what narrow has seen to.
func (s segment) beyond(key string) (rest segment) {
	for _, c := range s {
		if c.column != key && c.column != positionColumn {
			rest = append(rest, c)
		}
	}
	return rest
}

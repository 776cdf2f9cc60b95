package projections

import (
	"bytes"
	"context"
	encoding "encoding/json"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// A listing is a List as JSON has it: the selectors stand beside the rest.
type listing struct {
	Q           string                    `json:"q"`
	Skip        *int                      `json:"skip"`
	Offset      *int                      `json:"offset"`
	Take        *int                      `json:"take"`
	Limit       *int                      `json:"limit"`
	Order       jsontext.Value            `json:"order"`
	WithDeleted bool                      `json:"with_deleted"`
	Fields      jsontext.Value            `json:"fields"`
	Select      jsontext.Value            `json:"select"`
	Relations   []string                  `json:"relations"`
	Cursor      string                    `json:"cursor"`
	Count       *bool                     `json:"count"`
	Filter      map[string]jsontext.Value `json:",embed"`
}

func (l listing) check() error {
	for _, pair := range []struct {
		name, alias string
		both        bool
	}{
		{"skip", "offset", l.Skip != nil && l.Offset != nil},
		{"take", "limit", l.Take != nil && l.Limit != nil},
		{"fields", "select", l.Fields != nil && l.Select != nil},
	} {
		if pair.both {
			return fault.New(fault.Invalid, "invalid_value", "'%s' and '%s' are the same; leave one out", pair.name, pair.alias).
				With("field", pair.alias)
		}
	}
	return nil
}

// lists makes a query of listings.
func lists[T any](about string, l *list[T], of source) query {
	q := ask(about, of, page(l, of))
	q.Answer, q.Selectors = Page[T]{}, true
	return q
}

// page answers a listing.
func page[T any](l *list[T], of source) func(context.Context, *Models, listing) (any, error) {
	return func(ctx context.Context, m *Models, asked listing) (any, error) {
		want, err := asked.list()
		if err != nil {
			return nil, err
		}
		names, err := texts("fields", firstOf(asked.Fields, asked.Select))
		if err != nil {
			return nil, err
		}
		if names == nil {
			return l.run(ctx, m, of, want)
		}
		chosen, err := choose(l, names)
		if err != nil {
			return nil, err
		}
		for name := range chosen {
			if l.relations[name].bring != nil {
				want.Relations = append(want.Relations, name)
			}
		}
		whole, err := l.run(ctx, m, of, want)
		if err != nil {
			return nil, err
		}
		return trimmed(whole, chosen)
	}
}

func firstOf(a, b jsontext.Value) jsontext.Value {
	if a != nil {
		return a
	}
	return b
}

// list reads the listing.
func (l listing) list() (List, error) {
	asked := List{
		Q: l.Q, Take: l.Take, WithDeleted: l.WithDeleted, Relations: l.Relations, Cursor: l.Cursor,
		NoCount: l.Count != nil && !*l.Count, Filter: make(map[string]any, len(l.Filter)),
	}
	if l.Limit != nil {
		asked.Take = l.Limit
	}
	switch {
	case l.Skip != nil:
		asked.Skip = *l.Skip
	case l.Offset != nil:
		asked.Skip = *l.Offset
	}
	var err error
	if asked.Order, err = orderOf(l.Order); err != nil {
		return asked, err
	}
	for name, value := range l.Filter {
		if asked.Filter[name], err = selectorValue(name, value, 0); err != nil {
			return asked, err
		}
	}
	return asked, nil
}

// selectorValue reads what a column is compared with. Numbers stay exact.
func selectorValue(name string, value jsontext.Value, depth int) (any, error) {
	if depth > 2*maxDepth {
		return nil, fault.New(fault.Invalid, "too_complex", "selectors may be nested %d deep", maxDepth).With("max", maxDepth)
	}
	switch value.Kind() {
	case 't', 'f':
		return value.Kind() == 't', nil
	case '"':
		var s string
		err := json.Unmarshal(value, &s)
		return s, err
	case '0':
		q, err := events.ParseQuantity(string(value))
		if err != nil {
			return nil, fault.New(fault.Invalid, "invalid_quantity", "Field '%s': %v", name, err).With("field", name)
		}
		return q, nil
	case '[':
		var values []jsontext.Value
		if err := json.Unmarshal(value, &values); err != nil {
			return nil, err
		}
		all := make([]any, len(values))
		for i, one := range values {
			var err error
			if all[i], err = selectorValue(name, one, depth+1); err != nil {
				return nil, err
			}
		}
		return all, nil
	case '{':
		var members map[string]jsontext.Value
		if err := json.Unmarshal(value, &members); err != nil {
			return nil, err
		}
		all := make(map[string]any, len(members))
		for member, one := range members {
			var err error
			field := name
			if !strings.HasPrefix(member, "$") {
				field = member
			}
			if all[member], err = selectorValue(field, one, depth+1); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return nil, nil // null
}

// texts reads a list of names, or the names in a text with commas between them.
func texts(field string, value jsontext.Value) (names []string, err error) {
	switch value.Kind() {
	case 0, 'n':
		return nil, nil
	case '"':
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return nil, err
		}
		names = strings.Split(text, ",")
	default:
		if json.Unmarshal(value, &names) != nil {
			return nil, wrongType(field, "list of names")
		}
	}
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	return names, nil
}

// orderOf reads an order: names, or an object of names and directions, which
// come in the order they are written.
func orderOf(value jsontext.Value) (order []string, err error) {
	if value.Kind() != '{' {
		return texts("order", value)
	}
	d := jsontext.NewDecoder(bytes.NewReader(value))
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		column := name.String()
		direction, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		switch strings.ToUpper(direction.String()) {
		case "ASC":
		case "DESC":
			column = "-" + column
		default:
			return nil, fault.New(fault.Invalid, "invalid_order", "'%s' is ordered ASC or DESC", column).
				With("field", "order").With("column", column)
		}
		order = append(order, column)
	}
	return order, nil
}

// fieldsOf are the members that every R has in JSON.
func fieldsOf[R any]() []string {
	var zero R
	var members map[string]jsontext.Value
	text, err := encoding.Marshal(zero)
	if err == nil {
		err = json.Unmarshal(text, &members)
	}
	if err != nil {
		panic(err) // a row is an object
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	return names
}

// A choice is the members to keep, and those of each; nil is all of it.
type choice map[string]choice

// choose reads fields: names of a row, of a relation, and of its rows, such as
// location_levels.stocked_quantity.
func choose[T any](l *list[T], names []string) (choice, error) {
	chosen := choice{}
	own := fieldsOf[T]()
	for _, name := range names {
		outer, inner, dotted := strings.Cut(name, ".")
		relation, isRelation := l.relations[outer]
		switch {
		case isRelation && (!dotted || slices.Contains(relation.fields(), inner)):
		case !dotted && slices.Contains(own, outer):
		default:
			return nil, unknownField(name)
		}
		part, known := chosen[outer]
		switch {
		case !dotted || known && part == nil:
			chosen[outer] = nil
		case !known:
			chosen[outer] = choice{inner: nil}
		default:
			part[inner] = nil
		}
	}
	return chosen, nil
}

// trimmed keeps the chosen members of the rows.
func trimmed[T any](whole Page[T], chosen choice) (Page[jsontext.Value], error) {
	page := Page[jsontext.Value]{
		Rows: make([]jsontext.Value, len(whole.Rows)), Count: whole.Count, Skip: whole.Skip, Take: whole.Take, Next: whole.Next,
	}
	for i := range whole.Rows {
		text, err := encoding.Marshal(&whole.Rows[i])
		if err != nil {
			return page, err
		}
		var out bytes.Buffer
		if err := chosen.copy(jsontext.NewEncoder(&out), jsontext.NewDecoder(bytes.NewReader(text))); err != nil {
			return page, err
		}
		page.Rows[i] = bytes.TrimSpace(out.Bytes())
	}
	return page, nil
}

// copy copies a value without the members that are not chosen. An id stays.
func (c choice) copy(to *jsontext.Encoder, from *jsontext.Decoder) error {
	if kind := from.PeekKind(); c == nil || kind != '{' && kind != '[' {
		value, err := from.ReadValue()
		if err != nil {
			return err
		}
		return to.WriteValue(value)
	}
	begin, err := from.ReadToken()
	if err != nil {
		return err
	}
	object := begin.Kind() == '{'
	if err := to.WriteToken(begin); err != nil {
		return err
	}
	for kind := from.PeekKind(); kind != '}' && kind != ']'; kind = from.PeekKind() {
		part := c
		if object {
			name, err := from.ReadToken()
			if err != nil {
				return err
			}
			text := name.String()
			var kept bool
			if part, kept = c[text]; !kept && text != "id" {
				if err := from.SkipValue(); err != nil {
					return err
				}
				continue
			}
			if err := to.WriteToken(jsontext.String(text)); err != nil {
				return err
			}
		}
		if err := part.copy(to, from); err != nil {
			return err
		}
	}
	end, err := from.ReadToken()
	if err != nil {
		return err
	}
	return to.WriteToken(end)
}

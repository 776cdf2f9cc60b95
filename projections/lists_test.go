package projections_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

// A record is a row as plain values by column: nil, string, bool, number or
// time. Items have their levels beside them.
type record struct {
	id      string
	values  map[string]any
	deleted bool
	place   int // in the order of creation
	levels  []*record
	item    *record
}

type number struct{ events.Quantity }

// kinds of the columns that lists may be asked by.
var (
	itemKinds = map[string]string{
		"id": "text", "sku": "text", "title": "text", "description": "text", "thumbnail": "text", "origin_country": "text", "hs_code": "text",
		"mid_code": "text", "material": "text", "unit_of_measure": "text", "weight": "number", "length": "number", "height": "number",
		"width": "number", "requires_shipping": "boolean", "stocked_quantity": "number", "reserved_quantity": "number",
		"incoming_quantity": "number", "available_quantity": "number", "version": "whole", "created_at": "time", "updated_at": "time",
		"deleted_at": "time",
	}
	levelKinds = map[string]string{
		"id": "text", "inventory_item_id": "text", "location_id": "text", "stocked_quantity": "number", "reserved_quantity": "number",
		"incoming_quantity": "number", "available_quantity": "number", "version": "whole", "created_at": "time", "updated_at": "time",
		"deleted_at": "time",
	}
	reservationKinds = map[string]string{
		"id": "text", "inventory_item_id": "text", "level_id": "text", "location_id": "text", "quantity": "number",
		"fulfilled_quantity": "number", "status": "text", "line_item_id": "text", "description": "text", "external_id": "text",
		"created_by": "text", "allow_backorder": "boolean", "version": "whole", "created_at": "time", "updated_at": "time", "deleted_at": "time",
	}
)

// A population is a random warehouse, and its rows as plain values.
type population struct {
	models                      *projections.Models
	items, levels, reservations []*record
}

var (
	someTexts   = []string{"", "a", "B", "ab", "Abc", "abc", "ABC-1", "a%c", "a_c", `a\c`, "a*c", "[ab]?", "ÄÖÜ 12", "äöü", "straße", "hex bolt m8", "Hex Nut", "日本語の棚", "x\ny", `"q"`}
	someNumbers = []string{"0", "1", "-1", "1.5", "-1.5", "10", "9.75", "0.000001", "100000000000000000", "2"}
)

func populate(t testing.TB, r *rand.Rand, few int) *population {
	b := newBook()
	maybe := func() *string {
		if r.IntN(3) == 0 {
			return nil
		}
		return new(someTexts[r.IntN(len(someTexts))])
	}
	quantity := func() events.Quantity { return qty(someNumbers[r.IntN(len(someNumbers))]) }
	maybeNumber := func() *events.Quantity {
		if r.IntN(3) == 0 {
			return nil
		}
		return new(quantity())
	}
	places := []string{"berlin", "paris", "rome"}
	for i := range 40 {
		id := fmt.Sprintf("item%d", i)
		b.record(events.ItemCreated{ItemID: id, Attributes: events.ItemAttributes{
			SKU: maybe(), Title: maybe(), Description: maybe(), Thumbnail: maybe(), OriginCountry: maybe(), HSCode: maybe(), MIDCode: maybe(),
			Material: maybe(), UnitOfMeasure: maybe(), Weight: maybeNumber(), Length: maybeNumber(), Height: maybeNumber(), Width: maybeNumber(),
			RequiresShipping: r.IntN(2) == 0,
		}})
		if r.IntN(8) == 0 {
			b.record(events.ItemDeleted{ItemID: id})
			continue
		}
		for n := range r.IntN(4) {
			place := places[r.IntN(len(places))]
			level, stocked, incoming := fmt.Sprintf("%s-level%d", id, n), quantity(), quantity()
			b.record(events.LevelCreated{ItemID: id, LevelID: level, LocationID: place, Stocked: stocked, Incoming: incoming})
			if r.IntN(6) == 0 {
				b.record(events.LevelDeleted{ItemID: id, LevelID: level, LocationID: place, Stocked: stocked, Incoming: incoming})
				continue
			}
			held := events.Quantity{}
			for k := range r.IntN(3) {
				reservation, q := fmt.Sprintf("%s-reservation%d", level, k), qty("2")
				held = held.Plus(q)
				b.record(events.ReservationCreated{
					ItemID: id, LevelID: level, LocationID: place, ReservationID: reservation, Quantity: q, Stocked: stocked, Reserved: held,
					Details: events.ReservationDetails{
						LineItemID: maybe(), Description: maybe(), ExternalID: maybe(), CreatedBy: maybe(), AllowBackorder: r.IntN(2) == 0,
					},
				})
				switch r.IntN(4) {
				case 0:
					held = held.Minus(q)
					b.record(events.ReservationReleased{
						ItemID: id, LevelID: level, LocationID: place, ReservationID: reservation, Quantity: q, Stocked: stocked, Reserved: held,
					})
				case 1:
					held, stocked = held.Minus(units(1)), stocked.Minus(units(1))
					b.record(events.ReservationFulfilled{
						ItemID: id, LevelID: level, LocationID: place, ReservationID: reservation, Quantity: units(1), Remaining: units(1),
						Stocked: stocked, Reserved: held,
					})
				}
			}
		}
		if r.IntN(4) == 0 {
			b.record(events.ItemUpdated{ItemID: id, Attributes: events.ItemAttributes{SKU: maybe(), Title: maybe(), Description: maybe()}})
		}
	}
	m, err := projections.Open(t.Context(), projections.Config{Dir: filepath.Join(t.TempDir(), "models"), Store: b.store}.Finding(few))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	b.caughtUp(t, m)

	everything := projections.List{WithDeleted: true, Take: new(1000)}
	p := &population{models: m}
	items := make(map[string]*record)
	p.items = records(t, m.ListItems, everything, itemKinds)
	p.levels = records(t, m.ListLevels, everything, levelKinds)
	p.reservations = records(t, m.ListReservations, everything, reservationKinds)
	for _, it := range p.items {
		items[it.id] = it
	}
	for _, l := range p.levels {
		l.item = items[l.values["inventory_item_id"].(string)]
		l.item.levels = append(l.item.levels, l)
	}
	for _, one := range p.reservations {
		one.item = items[one.values["inventory_item_id"].(string)]
	}
	return p
}

// records are all rows of a list, as plain values.
func records[T any](
	t testing.TB, list func(context.Context, projections.List) (projections.Page[T], error), asked projections.List, kinds map[string]string,
) (all []*record) {
	page, err := list(t.Context(), asked)
	require.NoError(t, err)
	require.Nil(t, page.Next)
	for i, row := range page.Rows {
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(asJSON(t, row)), &members))
		r := &record{values: make(map[string]any), place: i}
		for name, kind := range kinds {
			text, has := members[name]
			require.True(t, has, name)
			if string(text) == "null" {
				r.values[name] = nil
				continue
			}
			switch kind {
			case "text":
				r.values[name] = decoded[string](t, text)
			case "boolean":
				r.values[name] = decoded[bool](t, text)
			case "time":
				r.values[name] = decoded[time.Time](t, text)
			default:
				q, err := events.ParseSum(string(text))
				require.NoError(t, err)
				r.values[name] = number{q}
			}
		}
		r.id, r.deleted = r.values["id"].(string), r.values["deleted_at"] != nil
		all = append(all, r)
	}
	return all
}

func decoded[T any](t testing.TB, text []byte) (v T) {
	require.NoError(t, json.Unmarshal(text, &v))
	return v
}

// A verdict is one of SQL's three.
type verdict int

const (
	no verdict = iota
	unknown
	yes
)

func sure(b bool) verdict {
	if b {
		return yes
	}
	return no
}

// An oracle says what selectors are of a row, from the row alone.
type oracle struct{ withDeleted bool }

func (o oracle) all(selectors map[string]any, r *record) verdict {
	v := yes
	for name, value := range selectors {
		v = min(v, o.one(name, value, r))
	}
	return v
}

func (o oracle) one(name string, value any, r *record) verdict {
	switch name {
	case "$and", "$or":
		v, pick := yes, func(a, b verdict) verdict { return min(a, b) }
		if name == "$or" {
			v, pick = no, func(a, b verdict) verdict { return max(a, b) }
		}
		for _, branch := range value.([]any) {
			v = pick(v, o.all(branch.(map[string]any), r))
		}
		return v
	case "$not":
		return yes - o.all(value.(map[string]any), r)
	case "location_id":
		if _, isLevel := r.values["location_id"]; !isLevel {
			return o.one("location_levels", map[string]any{"location_id": value}, r)
		}
	case "location_levels":
		for _, l := range r.levels {
			if (o.withDeleted || !l.deleted) && o.all(value.(map[string]any), l) == yes {
				return yes
			}
		}
		return no
	}
	return o.column(r.values[name], value)
}

func (o oracle) column(has, value any) verdict {
	operators, ok := value.(map[string]any)
	if !ok {
		return o.operator(has, "$eq", value)
	}
	v := yes
	for name, operand := range operators {
		v = min(v, o.operator(has, name, operand))
	}
	return v
}

func (o oracle) operator(has any, name string, operand any) verdict {
	list, isList := operand.([]any)
	switch name {
	case "$not":
		return yes - o.column(has, operand)
	case "$ne":
		return yes - o.operator(has, "$eq", operand)
	case "$nin":
		return yes - o.operator(has, "$eq", operand)
	case "$exists":
		return sure((has != nil) == operand.(bool))
	case "$eq", "$in":
		switch {
		case operand == nil:
			return sure(has == nil)
		case isList && len(list) == 0:
			return no
		case has == nil:
			return unknown
		case isList:
			return sure(slices.ContainsFunc(list, func(one any) bool { return order(has, one) == 0 }))
		}
		return sure(order(has, operand) == 0)
	}
	if has == nil {
		return unknown
	}
	switch name {
	case "$gt", "gt":
		return sure(order(has, operand) > 0)
	case "$gte", "gte":
		return sure(order(has, operand) >= 0)
	case "$lt", "lt":
		return sure(order(has, operand) < 0)
	case "$lte", "lte":
		return sure(order(has, operand) <= 0)
	}
	text, low, pattern := has.(string), strings.ToLower(has.(string)), operand.(string)
	switch name {
	case "$re":
		return sure(regexp.MustCompile(pattern).MatchString(text))
	case "$like":
		return sure(like(pattern).MatchString(text))
	case "$ilike":
		return sure(like(strings.ToLower(pattern)).MatchString(low))
	case "contains", "$contains":
		return sure(strings.Contains(low, strings.ToLower(pattern)))
	case "starts_with":
		return sure(strings.HasPrefix(low, strings.ToLower(pattern)))
	case "ends_with":
		return sure(strings.HasSuffix(low, strings.ToLower(pattern)))
	}
	panic("no operator " + name)
}

// like is a pattern of LIKE as a regular expression.
func like(pattern string) *regexp.Regexp {
	var re strings.Builder
	escaped := false
	for _, c := range pattern {
		switch {
		case escaped || !strings.ContainsRune(`%_\`, c):
			re.WriteString(regexp.QuoteMeta(string(c)))
			escaped = false
		case c == '%':
			re.WriteString(`.*`)
		case c == '_':
			re.WriteString(`.`)
		default:
			escaped = true
		}
	}
	return regexp.MustCompile(`(?s)^` + re.String() + `$`)
}

// order compares values that are not NULL.
func order(a, b any) int {
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string))
	case bool:
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	case time.Time:
		return a.Compare(b.(time.Time))
	case number:
		q, ok := b.(events.Quantity)
		if !ok {
			q = b.(number).Quantity
		}
		return a.Cmp(q)
	}
	panic(fmt.Sprintf("%T", a))
}

// orderNulls puts NULL after everything.
func orderNulls(a, b any) int {
	if a == nil || b == nil {
		return cmp.Compare(fmt.Sprint(a == nil), fmt.Sprint(b == nil))
	}
	return order(a, b)
}

// has is what q asks of a row.
func (r *record) has(token string) bool {
	columns := []string{"description"}
	if r.item == nil {
		columns = []string{"sku", "hs_code", "mid_code", "title", "description"}
	} else if r.item.has(token) {
		return true
	}
	return slices.ContainsFunc(columns, func(c string) bool {
		text, _ := r.values[c].(string)
		return strings.Contains(strings.ToLower(text), token)
	})
}

// expect are the ids that a list must have.
func expect(all []*record, asked projections.List) (ids []string) {
	o := oracle{asked.WithDeleted}
	rows := slices.DeleteFunc(slices.Clone(all), func(r *record) bool {
		misses := slices.ContainsFunc(strings.Fields(strings.ToLower(asked.Q)), func(token string) bool { return !r.has(token) })
		return misses || r.deleted && !asked.WithDeleted || o.all(asked.Filter, r) != yes
	})
	slices.SortFunc(rows, func(a, b *record) int {
		sign := 1
		for _, field := range asked.Order {
			name, descending := strings.CutPrefix(field, "-")
			sign = 1
			if descending {
				sign = -1
			}
			if c := orderNulls(a.values[name], b.values[name]); c != 0 {
				return sign * c
			}
		}
		return sign * cmp.Compare(a.place, b.place)
	})
	for _, r := range rows {
		ids = append(ids, r.id)
	}
	return ids
}

// sublist is one of the lists, with its rows.
type sublist struct {
	name  string
	kinds map[string]string
	rows  []*record
	ids   func(context.Context, projections.List) (ids []string, count *uint64, next *string, err error)
}

func ids[T any](
	list func(context.Context, projections.List) (projections.Page[T], error), id func(T) string,
) func(context.Context, projections.List) ([]string, *uint64, *string, error) {
	return func(ctx context.Context, l projections.List) (ids []string, count *uint64, next *string, err error) {
		page, err := list(ctx, l)
		for _, row := range page.Rows {
			ids = append(ids, id(row))
		}
		return ids, page.Count, page.Next, err
	}
}

func (p *population) lists() []sublist {
	return []sublist{
		{"items", itemKinds, p.items, ids(p.models.ListItems, func(r projections.ItemRow) string { return r.ID })},
		{"levels", levelKinds, p.levels, ids(p.models.ListLevels, func(r projections.LevelRow) string { return r.ID })},
		{"reservations", reservationKinds, p.reservations, ids(p.models.ListReservations, func(r projections.ReservationRow) string { return r.ID })},
	}
}

// operands of the operators, by kind.
var operands = map[string][]string{
	"any":     {"$eq", "$ne", "$in", "$nin", "$not", "$exists"},
	"ordered": {"$gt", "$gte", "$lt", "$lte", "gt", "gte", "lt", "lte"},
	"text":    {"$like", "$ilike", "$re", "$contains", "contains", "starts_with", "ends_with"},
}

func takes(kind, class string) bool {
	return class == "any" || class == "ordered" && kind != "boolean" || class == "text" && kind == "text"
}

// values are what a column is compared with: what is in it, and something else.
func (s sublist) values(column string) (values []any) {
	seen := map[string]bool{}
	for _, r := range s.rows {
		v := r.values[column]
		if n, ok := v.(number); ok {
			v = n.Quantity
		}
		if text := fmt.Sprint(v); v != nil && !seen[text] && len(values) < 5 {
			seen[text] = true
			values = append(values, v)
		}
	}
	switch s.kinds[column] {
	case "text":
		values = append(values, "nowhere")
	case "number", "whole":
		values = append(values, qty("77"))
	case "time":
		values = append(values, start.Add(-time.Hour))
	}
	return values
}

var somePatterns = []string{"", "a", "%", "_", "a%", "%c", "a_c", `a\%c`, `a\_c`, `a\\c`, "ABC%", "abc", "%bolt%", "%Ö%", "%[ab]%", "a*c", "%hex%m8", "straSSE", "%traß%", "__", `%"q"%`}

// Every column with every operator, against the rows themselves; and those that
// make no sense are refused, by name.
func TestEverySelectorAndOperator(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	some := rand.New(rand.NewPCG(seed, 1))
	check := func(s sublist, l projections.List) {
		if !race.On || some.IntN(6) == 0 {
			s.check(t, l)
		}
	}
	for _, few := range []int{1, 10_000} { // every way to the rows
		p := populate(t, rand.New(rand.NewPCG(seed, 0)), few)
		for _, s := range p.lists() {
			for column, kind := range s.kinds {
				for class, operators := range operands {
					for _, operator := range operators {
						if !takes(kind, class) {
							_, _, _, err := s.ids(t.Context(), projections.List{Filter: map[string]any{column: map[string]any{operator: "a"}}})
							require.Equal(t, "invalid_operator", fault.Code(err), "%s %s", column, operator)
							require.Equal(t, fault.Invalid, fault.Of(err).Kind)
							require.Equal(t, []any{column, operator}, []any{fault.Of(err).Details["field"], fault.Of(err).Details["operator"]})
							continue
						}
						for _, operand := range s.operands(column, operator) {
							check(s, projections.List{Filter: map[string]any{column: map[string]any{operator: operand}}})
						}
					}
				}
				for _, value := range append(s.values(column), nil) {
					check(s, projections.List{Filter: map[string]any{column: value}})
					check(s, projections.List{Filter: map[string]any{column: value}, WithDeleted: true})
				}
			}
		}
	}
}

// operands are what an operator is tried with.
func (s sublist) operands(column, operator string) (all []any) {
	values := s.values(column)
	switch operator {
	case "$in", "$nin":
		return []any{[]any{}, values[:1], values[:len(values)/2+1], values}
	case "$exists":
		return []any{true, false}
	case "$eq":
		return append(values, nil, values[:1])
	case "$ne":
		return append(values, nil)
	case "$not":
		return append(values, nil, map[string]any{"$in": values[:1]}, map[string]any{"$eq": nil})
	case "$like", "$ilike", "contains", "$contains", "starts_with", "ends_with":
		for _, pattern := range somePatterns {
			all = append(all, pattern)
		}
		return all
	case "$re":
		return []any{"", "^a", "b+", "(?i)^ABC", "[0-9]", "^.$", "ö"}
	}
	return values
}

// check compares the first page and the count with what must be there.
func (s sublist) check(t testing.TB, asked projections.List) {
	want := expect(s.rows, asked)
	asked.Take = new(1000)
	got, count, _, err := s.ids(t.Context(), asked)
	require.NoError(t, err, "%s %v", s.name, asked)
	require.Equal(t, want, got, "%s %v", s.name, asked)
	require.Equal(t, uint64(len(want)), *count, "%s %v", s.name, asked)
}

// Every column orders, either way, alone and before another, NULL being the
// greatest; and pages follow on in that order.
func TestEveryOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := populate(t, rand.New(rand.NewPCG(seed, 0)), 10)
	for _, s := range p.lists() {
		for column := range s.kinds {
			for _, order := range [][]string{{column}, {"-" + column}, {column, "-id"}, {"-version", column}} {
				if order[0] == "-version" && column == "version" || column == "id" && len(order) == 2 && order[1] == "-id" {
					continue
				}
				s.walk(t, projections.List{Order: order, WithDeleted: true}, 7)
			}
		}
		s.walk(t, projections.List{}, 1)
	}
}

// walk reads all pages by their cursors.
func (s sublist) walk(t testing.TB, asked projections.List, take int) {
	want := expect(s.rows, asked)
	asked.Take = new(take)
	var got []string
	for {
		page, count, next, err := s.ids(t.Context(), asked)
		require.NoError(t, err, "%s %v", s.name, asked)
		require.Equal(t, uint64(len(want)), *count, "%s %v", s.name, asked)
		got = append(got, page...)
		if next == nil {
			break
		}
		require.Len(t, page, take)
		asked.Cursor = *next
	}
	require.Equal(t, want, got, "%s %v", s.name, asked)
}

// Whatever is asked for, however deep, in whatever order and pages, is what the
// rows say.
func TestRandomSelectors(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed of the population %d", seed)
	var populations []*population
	for _, few := range []int{1, 5, 10_000} {
		populations = append(populations, populate(t, rand.New(rand.NewPCG(seed, 0)), few))
	}
	rapid.Check(t, func(rt *rapid.T) {
		for range 40 {
			p := rapid.SampledFrom(populations).Draw(rt, "population")
			s := rapid.SampledFrom(p.lists()).Draw(rt, "list")
			asked := projections.List{Filter: s.selectors(rt, p, 3), WithDeleted: rapid.Bool().Draw(rt, "with deleted")}
			if s.name != "levels" && rapid.IntRange(0, 3).Draw(rt, "search") == 0 {
				asked.Q = rapid.SampledFrom([]string{"hex", "abc", "A", "bolt M8", "öü", "%", "_c", `"q"`, "日本語", "hex nut", "x y"}).Draw(rt, "q")
			}
			for range rapid.IntRange(0, 2).Draw(rt, "orders") {
				column := rapid.SampledFrom(sorted(s.kinds)).Draw(rt, "column")
				if !slices.ContainsFunc(asked.Order, func(o string) bool { return strings.TrimPrefix(o, "-") == column }) {
					asked.Order = append(asked.Order, rapid.SampledFrom([]string{"", "-"}).Draw(rt, "direction")+column)
				}
			}
			if rapid.IntRange(0, 3).Draw(rt, "whole") == 0 {
				s.walk(rt0{t, rt}, asked, rapid.IntRange(1, 20).Draw(rt, "take"))
			} else {
				s.check(rt0{t, rt}, asked)
			}
		}
	})
}

// rt0 is a test that fails as rapid's do.
type rt0 struct {
	testing.TB
	rt *rapid.T
}

func (t rt0) Errorf(format string, args ...any) { t.rt.Errorf(format, args...) }
func (t rt0) FailNow()                          { t.rt.FailNow() }
func (t rt0) Helper()                           {}

func sorted(kinds map[string]string) (names []string) {
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// selectors draws selectors.
func (s sublist) selectors(t *rapid.T, p *population, depth int) map[string]any {
	all := map[string]any{}
	for range rapid.IntRange(0, 2).Draw(t, "columns") {
		column := rapid.SampledFrom(sorted(s.kinds)).Draw(t, "column")
		all[column] = s.operand(t, column)
	}
	if depth == 0 {
		return all
	}
	some := func(name string) []any {
		var branches []any
		for range rapid.IntRange(0, 3).Draw(t, name) {
			branches = append(branches, s.selectors(t, p, depth-1))
		}
		return append([]any{}, branches...)
	}
	switch rapid.IntRange(0, 7).Draw(t, "nest") {
	case 0, 1:
		all["$or"] = some("or")
	case 2:
		all["$and"] = some("and")
	case 3:
		all["$not"] = s.selectors(t, p, depth-1)
	case 4:
		if s.name == "items" {
			levels := p.lists()[1]
			all["location_levels"] = levels.selectors(t, p, depth-1)
		}
	case 5:
		if s.name == "items" {
			all["location_id"] = rapid.SampledFrom([]any{"berlin", []any{"paris", "rome"}, map[string]any{"$ne": "rome"}}).Draw(t, "location")
		}
	}
	return all
}

func (s sublist) operand(t *rapid.T, column string) any {
	var operators []string
	for class, names := range operands {
		if takes(s.kinds[column], class) {
			operators = append(operators, names...)
		}
	}
	slices.Sort(operators)
	asked := map[string]any{}
	for range rapid.IntRange(1, 2).Draw(t, "operators") {
		operator := rapid.SampledFrom(operators).Draw(t, "operator")
		asked[operator] = rapid.SampledFrom(s.operands(column, operator)).Draw(t, "operand")
	}
	return asked
}

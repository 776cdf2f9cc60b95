package projections_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// Lists as JSON asks for them, and the answers as JSON, whole but for what is
// not the list's business.
func TestListings(t *testing.T) {
	m := warehouse().models(t)
	for _, tc := range []struct{ query, body, answer string }{
		{"list-inventory-items", `{"fields":"sku"}`, `{"rows":[{"id":"bolts","sku":"B-8"},{"id":"nuts","sku":"N-8"}],"count":2,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"select":["id","stocked_quantity"],"count":false,"limit":1,"offset":1}`, `{"rows":[{"id":"nuts","stocked_quantity":0}],"count":null,"skip":1,"take":1,"next":null}`},
		{"list-inventory-items", `{"fields":["title","location_levels.stocked_quantity"],"sku":"B-8"}`, `{"rows":[{"id":"bolts","title":"Bolts","location_levels":[{"id":"lev-b","stocked_quantity":10},{"id":"lev-p","stocked_quantity":1.5}]}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id, variants.variant_id ,variants.required_quantity","id":{"$in":["nuts"]}}`, `{"rows":[{"id":"nuts","variants":[{"variant_id":"v1","required_quantity":1}]}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id","order":"-sku"}`, `{"rows":[{"id":"nuts"},{"id":"bolts"}],"count":2,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id","order":{"requires_shipping":"desc","sku":"ASC"}}`, `{"rows":[{"id":"bolts"},{"id":"nuts"}],"count":2,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id","order":["title"],"with_deleted":true,"q":"NUT"}`, `{"rows":[{"id":"nuts"}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id","location_levels":{"location_id":"berlin","stocked_quantity":{"$gte":3}}}`, `{"rows":[{"id":"bolts"}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id","$or":[{"sku":"N-8"},{"$not":{"title":{"$ilike":"bo%"}}}],"with_deleted":true}`, `{"rows":[{"id":"nuts"}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id","deleted_at":{"$ne":null},"with_deleted":true}`, `{"rows":[{"id":"gone"}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"id","created_at":{"$lt":"2026-03-01T09:00:02Z"}}`, `{"rows":[{"id":"bolts"}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-items", `{"fields":"metadata","sku":"B-8"}`, `{"rows":[{"id":"bolts","metadata":{"a":1}}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-inventory-levels", `{"fields":"inventory_item.sku,stock_locations.name","location_id":"berlin"}`, `{"rows":[{"id":"lev-b","inventory_item":{"id":"bolts","sku":"B-8"},"stock_locations":[{"id":"berlin","name":"Berlin"}]}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-reservation-items", `{"fields":"quantity,inventory_item.title","quantity":{"gt":3},"q":"bolts"}`, `{"rows":[{"id":"r1","quantity":4,"inventory_item":{"id":"bolts","title":"Bolts"}}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-stock-locations", `{"fields":"id","address":{"$exists":true}}`, `{"rows":[{"id":"berlin"}],"count":1,"skip":0,"take":50,"next":null}`},
		{"list-stock-locations", `{"fields":"id","address":null,"id":"berlin"}`, `{"rows":[],"count":0,"skip":0,"take":50,"next":null}`},
		{"list-stock-locations", `{"fields":"id","sales_channel_id":["web","shop"]}`, `{"rows":[],"count":0,"skip":0,"take":50,"next":null}`},
		{"list-stock-locations", `{"fields":"name","q":"ERL"}`, `{"rows":[{"id":"berlin","name":"Berlin"}],"count":1,"skip":0,"take":50,"next":null}`},
	} {
		t.Run(tc.query+" "+tc.body, func(t *testing.T) {
			require.JSONEq(t, tc.answer, asJSON(t, ask(t, m, tc.query, tc.body)))
		})
	}
}

// What a row brings along is there when it was asked for, empty or not, and not
// otherwise; what is deleted comes along when rows that are deleted do.
func TestRelations(t *testing.T) {
	m := warehouse().models(t)
	for _, tc := range []struct {
		query, body, path, has string
	}{
		{"list-inventory-items", `{"id":"bolts"}`, "location_levels", ""},
		{"list-inventory-items", `{"id":"bolts","relations":["location_levels"]}`, "location_levels", "lev-b lev-p"},
		{"list-inventory-items", `{"id":"bolts","relations":["location_levels"]}`, "reservation_items", ""},
		{"list-inventory-items", `{"id":"bolts","relations":["reservation_items","variants"]}`, "reservation_items", "r1"},
		{"list-inventory-items", `{"id":"nuts","relations":["location_levels"]}`, "location_levels", "none"},
		{"list-inventory-items", `{"id":"nuts","relations":["location_levels"],"with_deleted":true}`, "location_levels", "lev-n"},
		{"list-inventory-levels", `{"id":"lev-b","relations":["inventory_item"]}`, "inventory_item", "bolts"},
		{"list-inventory-levels", `{"id":"lev-b","relations":["stock_locations"]}`, "stock_locations", "berlin"},
		{"list-inventory-levels", `{"id":"lev-p","relations":["stock_locations"]}`, "stock_locations", "none"},
		{"list-reservation-items", `{"relations":["inventory_item"]}`, "inventory_item", "bolts"},
	} {
		t.Run(tc.query+" "+tc.body+" "+tc.path, func(t *testing.T) {
			var page struct{ Rows []map[string]json.RawMessage }
			require.NoError(t, json.Unmarshal([]byte(asJSON(t, ask(t, m, tc.query, tc.body))), &page))
			require.Len(t, page.Rows, 1)
			text, there := page.Rows[0][tc.path]
			if tc.has == "" {
				require.False(t, there)
				return
			}
			if text[0] == '{' {
				text = json.RawMessage("[" + string(text) + "]")
			}
			var found []struct{ ID string }
			require.NoError(t, json.Unmarshal(text, &found))
			var ids []string
			for _, one := range found {
				ids = append(ids, one.ID)
			}
			if tc.has == "none" {
				require.Equal(t, "[]", string(text))
			} else {
				require.Equal(t, tc.has, strings.Join(ids, " "))
			}
		})
	}
}

// What a person reads who sent something that cannot be.
func TestRefusalsSayWhatWasSent(t *testing.T) {
	m := warehouse().models(t)
	for body, says := range map[string]string{
		`[1]`:                       "Expected type: 'object', got: 'array'",
		`{"with_deleted":[]}`:       "Field 'with_deleted' cannot be of type 'array'",
		`{"take":{"a":1}}`:          "Field 'take' cannot be of type 'object'",
		`{"sku":{"$re":"(red"}}`:    "Field 'sku': the pattern of '$re' cannot be read: missing closing ): `(red`",
		`{"sku":{"$like":"red\\"}}`: "Field 'sku': the pattern of '$like' must not end with a \\",
	} {
		_, err := m.Query(t.Context(), "list-inventory-items", []byte(body))
		require.EqualError(t, err, says)
	}
}

// What makes no sense is refused, with its name.
func TestListsRefuse(t *testing.T) {
	m := warehouse().models(t)
	deep := strings.Repeat(`{"$not":`, 40) + `{}` + strings.Repeat(`}`, 40)
	for _, tc := range []struct{ query, body, code, field string }{
		{"list-inventory-items", `{"colour":"red"}`, "unknown_field", "colour"},
		{"list-inventory-items", `{"metadata":null}`, "unknown_field", "metadata"},
		{"list-inventory-items", `{"location_levels":{"sku":"B-8"}}`, "unknown_field", "sku"},
		{"list-inventory-items", `{"location_levels":"berlin"}`, "invalid_type", "location_levels"},
		{"list-inventory-items", `{"sku":{"$overlap":["a"]}}`, "invalid_operator", "sku"},
		{"list-inventory-items", `{"stocked_quantity":{"$like":"1%"}}`, "invalid_operator", "stocked_quantity"},
		{"list-inventory-items", `{"requires_shipping":{"$gt":false}}`, "invalid_operator", "requires_shipping"},
		{"list-inventory-items", `{"created_at":{"$contains":"2026"}}`, "invalid_operator", "created_at"},
		{"list-inventory-items", `{"created_at":"yesterday"}`, "invalid_type", "created_at"},
		{"list-inventory-items", `{"version":1.5}`, "invalid_type", "version"},
		{"list-inventory-items", `{"sku":{"$gt":null}}`, "invalid_type", "sku"},
		{"list-inventory-items", `{"sku":{"$in":"a"}}`, "invalid_type", "sku"},
		{"list-inventory-items", `{"sku":{"$in":["a",null]}}`, "invalid_type", "sku"},
		{"list-inventory-items", `{"sku":{"$exists":1}}`, "invalid_type", "sku"},
		{"list-inventory-items", `{"sku":{"$like":"a\\"}}`, "invalid_pattern", "sku"},
		{"list-inventory-items", `{"sku":{"$re":"("}}`, "invalid_pattern", "sku"},
		{"list-inventory-items", `{"sku":{"$re":"` + strings.Repeat("a", 257) + `"}}`, "invalid_pattern", "sku"},
		{"list-inventory-items", `{"sku":{"$re":7}}`, "invalid_type", "sku"},
		{"list-inventory-items", `{"stocked_quantity":{"$gt":1e400}}`, "invalid_quantity", "stocked_quantity"},
		{"list-inventory-items", `{"$or":{"sku":"a"}}`, "invalid_type", "$or"},
		{"list-inventory-items", `{"$and":["a"]}`, "invalid_type", "$and"},
		{"list-inventory-items", `{"$not":[]}`, "invalid_type", "$not"},
		{"list-inventory-items", `{"$not":` + deep + `}`, "too_complex", ""},
		{"list-inventory-items", `{"sku":` + deep + `}`, "too_complex", ""},
		{"list-inventory-items", `{"order":"colour"}`, "invalid_order", "order"},
		{"list-inventory-items", `{"order":["sku","-sku"]}`, "invalid_order", "order"},
		{"list-inventory-items", `{"order":{"sku":"up"}}`, "invalid_order", "order"},
		{"list-inventory-items", `{"order":7}`, "invalid_type", "order"},
		{"list-inventory-items", `{"fields":"sku,colour"}`, "unknown_field", "colour"},
		{"list-inventory-items", `{"fields":"location_levels.sku"}`, "unknown_field", "location_levels.sku"},
		{"list-inventory-items", `{"fields":7}`, "invalid_type", "fields"},
		{"list-inventory-items", `{"fields":"sku","select":"sku"}`, "invalid_value", "select"},
		{"list-inventory-items", `{"skip":1,"offset":1}`, "invalid_value", "offset"},
		{"list-inventory-items", `{"take":1,"limit":1}`, "invalid_value", "limit"},
		{"list-inventory-items", `{"relations":["stock_locations"]}`, "unknown_relation", "relations"},
		{"list-inventory-items", `{"relations":"variants"}`, "invalid_type", "relations"},
		{"list-inventory-items", `{"q":"` + strings.Repeat("a", 1001) + `"}`, "invalid_value", "q"},
		{"list-inventory-items", `{"cursor":"nonsense"}`, "invalid_cursor", "cursor"},
		{"list-inventory-items", `{"skip":1000001}`, "invalid_value", "skip"},
		{"list-inventory-items", `{"q":"hexagon\u0000bolts"}`, "invalid_text", "q"},
		{"list-inventory-items", `{"sku":"B-8\u0000"}`, "invalid_text", "sku"},
		{"list-inventory-items", `{"sku":["B-8","B-8\u0000"]}`, "invalid_text", "sku"},
		{"list-inventory-items", `{"sku":{"$gte":"\u0000"}}`, "invalid_text", "sku"},
		{"list-inventory-items", `{"location_levels":{"id":{"$ne":"\u0000"}}}`, "invalid_text", "id"},
		{"list-inventory-items", `{"title":{"$contains":"bolt\u0000s"}}`, "invalid_text", "title"},
		{"list-inventory-items", `{"title":{"$ilike":"%bolt\u0000s"}}`, "invalid_text", "title"},
		{"list-inventory-items", `{"title":{"$re":"\u0000"}}`, "invalid_text", "title"},
		{"list-inventory-items", `{"$or":[` + strings.Repeat(`{"title":{"$re":"a"}},`, 8) + `{"location_levels":{"id":{"$re":"a"}}}]}`, "too_complex", "id"},
		{"list-inventory-levels", `{"q":"berlin"}`, "not_searchable", "q"},
		{"list-inventory-levels", `{"sku":"B-8"}`, "unknown_field", "sku"},
	} {
		t.Run(fmt.Sprintf("%s %.60s", tc.query, tc.body), func(t *testing.T) {
			_, err := m.Query(t.Context(), tc.query, []byte(tc.body))
			require.Equal(t, tc.code, fault.Code(err), "%v", err)
			require.Equal(t, fault.Invalid, fault.Of(err).Kind)
			if tc.field != "" {
				require.Equal(t, tc.field, fault.Of(err).Details["field"])
			}
		})
	}
	many := map[string]any{}
	var branches []any
	for i := range 201 {
		branches = append(branches, map[string]any{"sku": fmt.Sprint(i)})
	}
	many["$or"] = branches
	_, err := m.ListItems(t.Context(), projections.List{Filter: many})
	require.Equal(t, "too_complex", fault.Code(err))
}

// A cursor is good for the question it came with, whatever the page's size, and
// for no other.
func TestCursorsAreOfTheirQuestion(t *testing.T) {
	m := warehouse().models(t)
	asked := projections.List{Take: new(1), Order: []string{"-sku"}, Filter: map[string]any{"sku": map[string]any{"$exists": true}}}
	page, err := m.ListItems(t.Context(), asked)
	require.NoError(t, err)
	asked.Cursor = *page.Next
	for name, change := range map[string]func(*projections.List){
		"order":        func(l *projections.List) { l.Order = []string{"sku"} },
		"selectors":    func(l *projections.List) { l.Filter = nil },
		"q":            func(l *projections.List) { l.Q = "bolts" },
		"with deleted": func(l *projections.List) { l.WithDeleted = true },
		"garbled":      func(l *projections.List) { l.Cursor = l.Cursor[:len(l.Cursor)-4] },
	} {
		other := asked
		change(&other)
		_, err := m.ListItems(t.Context(), other)
		require.Equal(t, "invalid_cursor", fault.Code(err), name)
	}
	_, err = m.ListLevels(t.Context(), projections.List{Cursor: asked.Cursor})
	require.Equal(t, "invalid_cursor", fault.Code(err))
	other := asked
	other.Skip = 1
	_, err = m.ListItems(t.Context(), other)
	require.Equal(t, "invalid_value", fault.Code(err))

	asked.Take, asked.NoCount, asked.Relations = new(7), true, []string{"variants"}
	page, err = m.ListItems(t.Context(), asked)
	require.NoError(t, err)
	require.Len(t, page.Rows, 1)
	require.Equal(t, "bolts", page.Rows[0].ID)
	require.Nil(t, page.Next)
}

// Whatever happens between two pages, rows that did not change come exactly
// once, in any order.
func TestCursorsAreStableUnderWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBook()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		levels := make(map[string]*projections.Level)
		create := func(n int) {
			id, q := fmt.Sprintf("level%d", n), units(r.Int64N(5))
			b.record(events.LevelCreated{ItemID: "bolts", LevelID: id, LocationID: id, Stocked: q})
			levels[id] = &projections.Level{ID: id, Stocked: q}
		}
		b.record(bolts)
		for n := range 30 {
			create(n)
		}
		m := open(t, b.store, t.TempDir())
		defer m.Close()
		asked := projections.List{Take: new(rapid.IntRange(1, 8).Draw(rt, "take"))}
		if order := rapid.SampledFrom([]string{"", "stocked_quantity", "-stocked_quantity", "-created_at", "id"}).Draw(rt, "order"); order != "" {
			asked.Order = []string{order}
		}
		touched, came := map[string]bool{}, map[string]int{}
		for n := 30; ; n++ {
			b.caughtUp(t, m)
			page, err := m.ListLevels(t.Context(), asked)
			require.NoError(t, err)
			for _, l := range page.Rows {
				came[l.ID]++
			}
			if page.Next == nil {
				break
			}
			asked.Cursor = *page.Next
			if n > 60 {
				continue
			}
			create(n)
			touched[fmt.Sprintf("level%d", n)] = true
			for id, l := range levels { // any of them
				touched[id] = true
				if r.IntN(2) == 0 {
					b.record(events.LevelDeleted{ItemID: "bolts", LevelID: id, LocationID: id, Stocked: l.Stocked})
					delete(levels, id)
				} else {
					l.Stocked = l.Stocked.Plus(units(1))
					b.record(events.StockAdjusted{ItemID: "bolts", LevelID: id, LocationID: id, Delta: units(1), Stocked: l.Stocked})
				}
				break
			}
		}
		for n := range 30 {
			if id := fmt.Sprintf("level%d", n); !touched[id] {
				require.Equal(t, 1, came[id], id)
			}
		}
	})
}

// Times are compared to the microsecond, as they are kept.
func TestTimesInSelectors(t *testing.T) {
	m := warehouse().models(t)
	for _, value := range []any{start.Add(time.Second), "2026-03-01T09:00:01Z", "2026-03-01T10:00:01+01:00"} {
		page, err := m.ListItems(t.Context(), projections.List{Filter: map[string]any{"created_at": value}})
		require.NoError(t, err)
		require.Len(t, page.Rows, 1)
	}
	page, err := m.ListItems(t.Context(), projections.List{Filter: map[string]any{"created_at": map[string]any{"$gte": "2026-03-02"}}})
	require.NoError(t, err)
	require.Empty(t, page.Rows)

	// An instant between two microseconds is no row's, and has all rows on one side.
	for _, tc := range []struct {
		operator, than string
		rows           int
	}{
		{"$eq", "01.0000001", 0},
		{"$ne", "01.0000001", 1},
		{"$not", "01.0000001", 1},
		{"$gte", "01.0000001", 0},
		{"$gt", "01.0000001", 0},
		{"$lt", "01.0000001", 1},
		{"$lte", "01.0000001", 1},
		{"gte", "00.9999999", 1},
		{"gt", "00.9999999", 1},
		{"lt", "00.9999999", 0},
		{"lte", "00.9999999", 0},
	} {
		page, err := m.ListItems(t.Context(), projections.List{Filter: map[string]any{"id": "bolts", "created_at": map[string]any{tc.operator: "2026-03-01T09:00:" + tc.than + "Z"}}})
		require.NoError(t, err)
		require.Len(t, page.Rows, tc.rows, "%s %s", tc.operator, tc.than)
	}
}

// Words are found in what a row says now, and what is indexed of it is the same
// as if it had never said anything else.
func TestWordsFollowChanges(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin)
	b.record(held)
	m := open(t, b.store, dir)
	said := func(title, description *string, reservation string, found map[string]int) {
		b.record(events.ItemUpdated{ItemID: "bolts", Attributes: events.ItemAttributes{Title: title, Description: description}})
		b.record(events.ReservationUpdated{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1", From: units(4), Quantity: units(4),
			Stocked: units(10), Reserved: units(4), Details: events.ReservationDetails{Description: &reservation},
		})
		b.caughtUp(t, m)
		for q, n := range found {
			items, err := m.ListItems(t.Context(), projections.List{Q: q})
			require.NoError(t, err)
			reservations, err := m.ListReservations(t.Context(), projections.List{Q: q})
			require.NoError(t, err)
			require.Equal(t, n, 10*len(items.Rows)+len(reservations.Rows), q)
		}
	}
	said(new("Hexagon bolts"), nil, "for Ann", map[string]int{"hexagon": 11, "bolt": 11, "ann": 1, "for ann": 1})
	said(new("Nuts"), new("Of brass"), "for Bob", map[string]int{"hexagon": 0, "nuts": 11, "brass": 11, "ann": 0, "bob": 1, "nuts bob": 1})
	said(nil, nil, "", map[string]int{"nuts": 0, "brass": 0, "bob": 0})
	require.NoError(t, m.Close())

	fresh := t.TempDir()
	m = open(t, b.store, fresh)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	require.Equal(t, dump(t, fresh), dump(t, dir))
}

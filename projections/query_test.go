package projections_test

import (
	"context"
	"encoding/json"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

func ask(t *testing.T, m *projections.Models, name, body string) any {
	t.Helper()
	answer, err := m.Query(t.Context(), name, []byte(body))
	require.NoError(t, err)
	return answer
}

// warehouse is a log with a little of everything.
func warehouse() *book {
	b := newBook()
	b.record(bolts, atBerlin, atParis)
	b.record(held)
	b.record(events.ItemCreated{ItemID: "nuts", Attributes: events.ItemAttributes{SKU: new("N-8"), Title: new("Nuts")}})
	b.record(events.LevelCreated{ItemID: "nuts", LevelID: "lev-n", LocationID: "berlin", Stocked: units(3)})
	b.record(events.LevelDeleted{ItemID: "nuts", LevelID: "lev-n", LocationID: "berlin", Stocked: units(3)})
	b.record(events.ItemCreated{ItemID: "gone"})
	b.record(events.ItemDeleted{ItemID: "gone"})
	b.record(opened, linked)
	b.meta.Actor, b.meta.CommandID = "ann", "key-1"
	b.record(events.ItemLinked{VariantID: "v1", ItemID: "nuts", Required: units(1)})
	return b
}

// Each query with what it answers: part of the JSON, or the code and message of
// a refusal.
func TestQueries(t *testing.T) {
	m := warehouse().models(t)
	for _, tc := range []struct {
		query, body string
		answer      string
		refused     string
		message     string
	}{
		{query: "retrieve-inventory-item", body: `{"id":"bolts"}`, answer: `{
			"id":"bolts","sku":"B-8","title":"Bolts","description":null,"thumbnail":null,"origin_country":null,"hs_code":null,"mid_code":null,
			"material":null,"unit_of_measure":null,"weight":0.25,"length":null,"height":null,"width":null,"requires_shipping":true,
			"metadata":{"a":1},"stocked_quantity":11.5,"reserved_quantity":4,"incoming_quantity":2,"available_quantity":7.5,"version":4,
			"created_at":"2026-03-01T09:00:01Z","updated_at":"2026-03-01T09:00:01Z","deleted_at":null,
			"location_levels":[
				{"id":"lev-b","inventory_item_id":"bolts","location_id":"berlin","stocked_quantity":10,"reserved_quantity":4,"incoming_quantity":2,
				 "available_quantity":6,"metadata":null,"version":4,"created_at":"2026-03-01T09:00:01Z","updated_at":"2026-03-01T09:00:02Z","deleted_at":null},
				{"id":"lev-p","inventory_item_id":"bolts","location_id":"paris","stocked_quantity":1.5,"reserved_quantity":0,"incoming_quantity":0,
				 "available_quantity":1.5,"metadata":{"row":7},"version":3,"created_at":"2026-03-01T09:00:01Z","updated_at":"2026-03-01T09:00:01Z","deleted_at":null}]}`},
		{query: "retrieve-inventory-item", body: `{"id":"ghost"}`, refused: "not_found", message: "InventoryItem with id: ghost was not found"},
		{query: "retrieve-inventory-item", body: `{"id":"gone"}`, refused: "not_found", message: "InventoryItem with id: gone was not found"},
		{query: "retrieve-inventory-item", body: `{}`, refused: "required", message: "Field 'id' is required"},

		{query: "retrieve-inventory-level", body: `{"id":"lev-p"}`, answer: `{"id":"lev-p","inventory_item_id":"bolts","location_id":"paris",
			"stocked_quantity":1.5,"reserved_quantity":0,"incoming_quantity":0,"available_quantity":1.5,"metadata":{"row":7},"version":3,
			"created_at":"2026-03-01T09:00:01Z","updated_at":"2026-03-01T09:00:01Z","deleted_at":null}`},
		{query: "retrieve-inventory-level", body: `{"inventory_item_id":"bolts","location_id":"paris"}`, answer: `{"id":"lev-p","inventory_item_id":"bolts",
			"location_id":"paris","stocked_quantity":1.5,"reserved_quantity":0,"incoming_quantity":0,"available_quantity":1.5,"metadata":{"row":7},"version":3,
			"created_at":"2026-03-01T09:00:01Z","updated_at":"2026-03-01T09:00:01Z","deleted_at":null}`},
		{query: "retrieve-inventory-level", body: `{"id":"ghost"}`, refused: "not_found", message: "InventoryLevel with id: ghost was not found"},
		{
			query: "retrieve-inventory-level", body: `{"inventory_item_id":"nuts","location_id":"berlin"}`, refused: "not_found",
			message: "Inventory level for item nuts and location berlin not found",
		},
		{query: "retrieve-inventory-level", body: `{"inventory_item_id":"nuts"}`, refused: "required", message: "Field 'location_id' is required"},
		{query: "retrieve-inventory-level", body: `{"id":"a","location_id":"b"}`, refused: "invalid_value"},

		{query: "retrieve-reservation-item", body: `{"id":"r1"}`, answer: `{"id":"r1","inventory_item_id":"bolts","level_id":"lev-b","location_id":"berlin",
			"quantity":4,"fulfilled_quantity":0,"status":"live","line_item_id":"line1","description":null,"external_id":null,"created_by":"ann",
			"allow_backorder":false,"metadata":null,"version":4,"created_at":"2026-03-01T09:00:02Z","updated_at":"2026-03-01T09:00:02Z","deleted_at":null}`},
		{query: "retrieve-reservation-item", body: `{"id":"r9"}`, refused: "not_found", message: "ReservationItem with id: r9 was not found"},

		{query: "retrieve-stock-location", body: `{"id":"berlin"}`, answer: `{"id":"berlin","name":"Berlin","address":{"address_1":"Allee 1","address_2":null,
			"company":null,"city":null,"country_code":"de","phone":null,"postal_code":null,"province":null,"metadata":null},"metadata":null,
			"version":1,
			"created_at":"2026-03-01T09:00:08Z","updated_at":"2026-03-01T09:00:08Z","deleted_at":null,"sales_channels":[],"fulfillment_providers":[],"fulfillment_sets":[]}`},
		{query: "retrieve-stock-location", body: `{"id":"mars"}`, refused: "not_found", message: "StockLocation with id: mars was not found"},

		{query: "retrieve-command", body: `{"command_id":"key-1"}`, answer: `{"command_id":"key-1","command":"adjust-inventory-levels","digest":"d1",
			"position":12,"first_position":12,"events":1,"actor":"ann","reason":"","reference":"","correlation_id":"","causation_id":"","recorded_at":"2026-03-01T09:00:09Z","effective_at":"2026-03-01T09:00:09Z",
			"answer":{"answer":"key-1"}}`},
		{query: "retrieve-command", body: `{"command_id":"command-1"}`, answer: `{"command_id":"command-1","command":"adjust-inventory-levels","digest":"d1",
			"position":3,"first_position":1,"events":3,"actor":"","reason":"","reference":"","correlation_id":"","causation_id":"","recorded_at":"2026-03-01T09:00:01Z","effective_at":"2026-03-01T09:00:01Z",
			"answer":{"answer":"command-1"}}`},
		{query: "retrieve-command", body: `{"command_id":"key-9"}`, refused: "not_found", message: "Command with id: key-9 was not found"},

		// Three different answers: for no locations at all, and no such item.
		{query: "available-quantity", body: `{"inventory_item_id":"ghost","location_ids":[]}`, answer: `{"quantity":0}`},
		{query: "stocked-quantity", body: `{"inventory_item_id":"ghost","location_ids":[]}`, answer: `{"quantity":0}`},
		{
			query: "reserved-quantity", body: `{"inventory_item_id":"ghost","location_ids":[]}`, refused: "not_found",
			message: "InventoryItem with id: ghost was not found",
		},
		{
			query: "available-quantity", body: `{"inventory_item_id":"ghost","location_ids":["berlin"]}`, refused: "not_found",
			message: "InventoryItem with id: ghost was not found",
		},
		{query: "stocked-quantity", body: `{"inventory_item_id":"gone","location_ids":["berlin"]}`, refused: "not_found"},
		{query: "reserved-quantity", body: `{"inventory_item_id":"bolts","location_ids":[]}`, answer: `{"quantity":0}`},
		{query: "available-quantity", body: `{"inventory_item_id":"bolts","location_ids":["berlin","paris","berlin","mars"]}`, answer: `{"quantity":7.5}`},
		{query: "stocked-quantity", body: `{"inventory_item_id":"bolts","location_ids":["berlin","berlin"]}`, answer: `{"quantity":10}`},
		{query: "reserved-quantity", body: `{"inventory_item_id":"bolts","location_ids":["berlin"]}`, answer: `{"quantity":4}`},
		{query: "stocked-quantity", body: `{"inventory_item_id":"nuts","location_ids":["berlin"]}`, answer: `{"quantity":0}`}, // deleted level
		{query: "available-quantity", body: `{"location_ids":[]}`, refused: "required"},

		{query: "confirm-inventory", body: `{"inventory_item_id":"bolts","location_ids":["berlin"],"quantity":6}`, answer: `{"confirmed":true,"available_quantity":6}`},
		{query: "confirm-inventory", body: `{"inventory_item_id":"bolts","location_ids":["berlin"],"quantity":6.000001}`, answer: `{"confirmed":false,"available_quantity":6}`},
		{query: "confirm-inventory", body: `{"inventory_item_id":"ghost","location_ids":[],"quantity":0}`, answer: `{"confirmed":true,"available_quantity":0}`},
		{query: "confirm-inventory", body: `{"inventory_item_id":"bolts","location_ids":["berlin"]}`, refused: "required", message: "Field 'quantity' is required"},

		{query: "no-such-query", body: `{}`, refused: "unknown_query"},
		{query: "retrieve-inventory-item", body: `{"id":"bolts","colour":1}`, refused: "unknown_field", message: "Unrecognized fields: 'colour'"},
		{query: "stock-history", body: `{"item":"bolts"}`, refused: "unknown_field", message: "Unrecognized fields: 'item'"},
		{query: "list-inventory-items", body: `{"colour":"red"}`, refused: "unknown_field", message: "Unrecognized fields: 'colour'"},
		{query: "list-inventory-levels", body: `{"sku":"B-8"}`, refused: "unknown_field", message: "Unrecognized fields: 'sku'"},
		{query: "list-inventory-items", body: `{"sku":7}`, refused: "invalid_type"},
		{query: "list-inventory-items", body: `{"requires_shipping":"yes"}`, refused: "invalid_type"},
		{query: "list-inventory-items", body: `{"sku":["a",["b"]]}`, refused: "invalid_type"},
		{query: "list-inventory-items", body: `{"take":1001}`, refused: "invalid_value"},
		{query: "list-inventory-items", body: `{"skip":-1}`, refused: "invalid_value"},
		{query: "list-inventory-items", body: `{"skip":"1"}`, refused: "invalid_type"},
		{query: "list-inventory-items", body: `{"stocked_quantity":1e400}`, refused: "invalid_quantity"},
		{query: "list-inventory-items", body: `{"sku":`, refused: "malformed_json"},
		{query: "list-inventory-items", body: `[]`, refused: "invalid_type"},
		{query: "confirm-inventory", body: `{"inventory_item_id":"b","quantity":1234567890123456789}`, refused: "invalid_quantity"},
	} {
		t.Run(tc.query+" "+tc.body, func(t *testing.T) {
			answer, err := m.Query(t.Context(), tc.query, []byte(tc.body))
			require.Equal(t, tc.refused, fault.Code(err))
			if err != nil {
				if tc.message != "" {
					require.Equal(t, tc.message, err.Error())
				}
				if tc.refused != "malformed_json" {
					require.NotEmpty(t, fault.Of(err).Details)
				}
				return
			}
			require.JSONEq(t, tc.answer, asJSON(t, answer))
		})
	}
}

// Lists by their filters: the ids of the rows in order, and their count.
func TestLists(t *testing.T) {
	m := warehouse().models(t)
	for _, tc := range []struct {
		query, body string
		ids         []string
		count       int
	}{
		{"list-inventory-items", ``, []string{"bolts", "nuts"}, 2},
		{"list-inventory-items", `{"with_deleted":true}`, []string{"bolts", "nuts", "gone"}, 3},
		{"list-inventory-items", `{"sku":"N-8"}`, []string{"nuts"}, 1},
		{"list-inventory-items", `{"sku":["N-8","B-8","X"]}`, []string{"bolts", "nuts"}, 2},
		{"list-inventory-items", `{"sku":["N-8","B-8"],"title":"Nuts"}`, []string{"nuts"}, 1},
		{"list-inventory-items", `{"sku":[]}`, nil, 0},
		{"list-inventory-items", `{"sku":"n-8"}`, nil, 0},
		{"list-inventory-items", `{"sku":null,"with_deleted":true}`, []string{"gone"}, 1},
		{"list-inventory-items", `{"requires_shipping":true}`, []string{"bolts"}, 1},
		{"list-inventory-items", `{"requires_shipping":[false]}`, []string{"nuts"}, 1},
		{"list-inventory-items", `{"stocked_quantity":11.50}`, []string{"bolts"}, 1},
		{"list-inventory-items", `{"available_quantity":[7.5,0]}`, []string{"bolts", "nuts"}, 2},
		{"list-inventory-items", `{"take":1}`, []string{"bolts"}, 2},
		{"list-inventory-items", `{"take":1,"skip":1}`, []string{"nuts"}, 2},
		{"list-inventory-items", `{"take":0}`, nil, 2},
		{"list-inventory-items", `{"skip":9}`, nil, 2},
		{"list-inventory-levels", `{}`, []string{"lev-b", "lev-p"}, 2},
		{"list-inventory-levels", `{"location_id":"berlin","with_deleted":true}`, []string{"lev-b", "lev-n"}, 2},
		{"list-inventory-levels", `{"inventory_item_id":"bolts","location_id":["paris","mars"]}`, []string{"lev-p"}, 1},
		{"list-reservation-items", `{"line_item_id":"line1","created_by":"ann"}`, []string{"r1"}, 1},
		{"list-reservation-items", `{"external_id":null,"inventory_item_id":"bolts"}`, []string{"r1"}, 1},
		{"list-reservation-items", `{"line_item_id":"line2"}`, nil, 0},
		{"list-inventory-links", `{"variant_id":"v1"}`, []string{"bolts", "nuts"}, 2},
		{"list-inventory-links", `{"inventory_item_id":"nuts"}`, []string{"nuts"}, 1},
		{"list-stock-locations", `{"name":"Berlin"}`, []string{"berlin"}, 1},
		{"list-commands", `{"actor":"ann"}`, []string{"key-1"}, 1},
		{"list-commands", `{"command":"adjust-inventory-levels","take":2}`, []string{"command-1", "command-2"}, 9},
	} {
		t.Run(tc.query+" "+tc.body, func(t *testing.T) {
			var page struct {
				Rows []struct {
					ID      string `json:"id"`
					Item    string `json:"inventory_item_id"`
					Command string `json:"command_id"`
				} `json:"rows"`
				Count int `json:"count"`
			}
			text := asJSON(t, ask(t, m, tc.query, tc.body))
			require.NoError(t, json.Unmarshal([]byte(text), &page))
			require.NotNil(t, page.Rows, "an empty page has an empty list: %s", text)
			var ids []string
			for _, r := range page.Rows {
				switch {
				case r.ID != "":
					ids = append(ids, r.ID)
				case r.Item != "":
					ids = append(ids, r.Item)
				default:
					ids = append(ids, r.Command)
				}
			}
			require.Equal(t, tc.ids, ids)
			require.Equal(t, tc.count, page.Count)
		})
	}
}

// Pages of a history follow on, in either direction, and never cut an event.
func TestHistoryPages(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin, atParis, held)
	b.record(events.ReservationMoved{
		ItemID: "bolts", ReservationID: "r1", Quantity: units(4),
		FromLevelID: "lev-b", FromLocationID: "berlin", FromStocked: units(10),
		LevelID: "lev-p", LocationID: "paris", Stocked: qty("1.5"), Reserved: units(4),
	})
	for i := range int64(6) {
		b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: units(11 + i)})
	}
	m := b.models(t)
	whole, err := m.StockHistory(t.Context(), projections.History{ItemID: projections.Names{"bolts"}})
	require.NoError(t, err)
	require.Len(t, whole.Rows, 11)
	require.False(t, whole.More)

	for _, take := range []int{1, 2, 3, 4, 5, 11} {
		var forth, back []projections.Movement
		for h := (projections.History{ItemID: projections.Names{"bolts"}, Take: new(take)}); ; h.After = forth[len(forth)-1].Position {
			page, err := m.StockHistory(t.Context(), h)
			require.NoError(t, err)
			forth = append(forth, page.Rows...)
			if !page.More {
				break
			}
		}
		require.Equal(t, asJSON(t, whole.Rows), asJSON(t, forth), "take %d", take)
		for h := (projections.History{ItemID: projections.Names{"bolts"}, Take: new(take), Before: 1 << 40}); ; h.Before = back[0].Position {
			page, err := m.StockHistory(t.Context(), h)
			require.NoError(t, err)
			back = append(page.Rows, back...)
			if !page.More {
				break
			}
		}
		require.Equal(t, asJSON(t, whole.Rows), asJSON(t, back), "take %d", take)
	}

	for _, tc := range []struct {
		body string
		rows int
		last string
	}{
		{`{"level_id":"lev-p"}`, 2, "1.5 4"},
		{`{"inventory_item_id":"bolts","location_id":"berlin"}`, 9, "16 0"},
		{`{"location_id":"paris"}`, 2, "1.5 4"},
		{`{"reservation_id":"r1"}`, 3, "0 4"},
		{`{"reservation_id":"r1","location_id":"berlin"}`, 2, "0 0"},
		{`{"reservation_id":"r9"}`, 0, ""},
		{`{"level_id":"lev-b","after_position":4,"before_position":7}`, 2, "11 0"},
	} {
		rows := ask(t, m, "stock-history", tc.body).(projections.Movements).Rows
		require.Len(t, rows, tc.rows, tc.body)
		if tc.rows > 0 {
			last := rows[len(rows)-1]
			require.Equal(t, tc.last, last.RunningStocked.String()+" "+last.RunningReserved.String(), tc.body)
		}
	}
}

// A query that names a position has it in its answer, or says that it has not.
func TestReadYourWrites(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin)
	m := b.models(t)
	for i := range int64(50) {
		position := b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: units(11 + i)})
		body := asJSON(t, map[string]any{"id": "lev-b", "after": position})
		require.True(t, ask(t, m, "retrieve-inventory-level", body).(projections.Level).Stocked.Equal(units(11+i)))
	}
	b.caughtUp(t, m)
	require.Equal(t, uint64(52), m.Position())
}

// A silent store has events and yields none.
type silent struct{ events.Store }

func (s silent) Subscribe(ctx context.Context, _ uint64) iter.Seq2[[]events.Recorded, error] {
	return s.Store.Subscribe(ctx, 2)
}

// A query waits for a position that is in the log, not for ever, and not at all
// for one that is not.
func TestQueryThatIsAhead(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin)
	m := open(t, silent{b.store}, t.TempDir())
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := m.Query(ctx, "retrieve-inventory-level", []byte(`{"id":"lev-b","after":2}`))
	require.Equal(t, "not_caught_up", fault.Code(err))
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	require.Equal(t, uint64(2), fault.Of(err).Details["after"])

	for _, err := range []error{
		m.WaitFor(soon(t), 3),
		func() error {
			_, err := m.Query(t.Context(), "retrieve-inventory-level", []byte(`{"id":"lev-b","after":3}`))
			return err
		}(),
	} {
		require.Equal(t, "after_beyond_log", fault.Code(err))
		require.Equal(t, fault.Invalid, fault.Of(err).Kind)
		require.Equal(t, map[string]any{"after": uint64(3), "head": uint64(2)}, fault.Of(err).Details)
		require.ErrorContains(t, err, "position 3 is beyond the end of the log, which is at 2")
	}
}

// Somebody who waits while the models are closed is told so.
func TestCloseWakesWhoWaits(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin)
	m := open(t, silent{b.store}, t.TempDir())
	waiting := make(chan error)
	go func() { waiting <- m.WaitFor(context.Background(), 2) }()
	require.NoError(t, m.Close())
	require.Equal(t, "not_caught_up", fault.Code(<-waiting))
}

// What the command engine asks: the index finds deleted things, too.
func TestIndex(t *testing.T) {
	b := warehouse()
	m := b.models(t)
	require.Equal(t, uint64(12), m.Position())

	position, digest, found, err := m.Command(t.Context(), "command-1")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, uint64(3), position)
	require.Equal(t, "d1", digest)
	_, _, found, err = m.Command(t.Context(), "command-99")
	require.NoError(t, err)
	require.False(t, found)

	find := func(kind, key string, want ...projections.Ref) {
		t.Helper()
		refs, err := m.Find(t.Context(), kind, key)
		require.NoError(t, err)
		require.ElementsMatch(t, want, refs)
	}
	type ref = projections.Ref
	find("reservation", "r1", ref{Item: "bolts", ID: "r1"})
	find("reservation", "r9")
	find("level", "lev-n", ref{Item: "nuts", ID: "lev-n"})
	find("line", "line1", ref{Item: "bolts", ID: "r1"})
	find("location-levels", "berlin", ref{Item: "bolts", ID: "lev-b"})
	find("location-reservations", "berlin", ref{Item: "bolts", ID: "r1"})
	find("item-variants", "nuts", ref{Item: "nuts", ID: "v1"})

	b.meta.CommandID = ""
	b.record(released, events.ItemUnlinked{VariantID: "v1", ItemID: "nuts", Required: units(1)})
	b.caughtUp(t, m)
	find("reservation", "r1", ref{Item: "bolts", ID: "r1"})
	find("line", "line1", ref{Item: "bolts", ID: "r1"})
	find("location-reservations", "berlin")
	find("item-variants", "nuts")
}

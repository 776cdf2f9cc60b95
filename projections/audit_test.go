package projections_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// moved is a delta of the level of bolts in Berlin, and what it came to.
func moved(delta, after int64) events.Fact {
	return events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(delta), Stocked: units(after)}
}

// audited is a book of which every commit differs in who, why and when.
func audited() *book {
	b := newBook()
	b.meta.Actor, b.meta.Reason, b.meta.Reference = "ann", "delivery", "po:1"
	b.record(bolts, atBerlin, atParis) // 3
	b.meta.Reason, b.meta.Reference, b.meta.Correlation = "sale", "order:1", "cart-1"
	b.record(held) // 4
	b.meta.Actor, b.meta.Command = "bob", "update-reservations"
	b.record(events.ReservationMoved{
		ItemID: "bolts", ReservationID: "r1", Quantity: units(4),
		FromLevelID: "lev-b", FromLocationID: "berlin", FromStocked: units(10),
		LevelID: "lev-p", LocationID: "paris", Stocked: qty("1.5"), Reserved: units(4),
	}) // 5
	b.meta = events.Meta{Command: "adjust-inventory-levels", Digest: "d", Actor: "bob", Effective: start.Add(-time.Hour)}
	b.record(moved(1, 11)) // 6
	b.meta.Effective = time.Time{}
	b.record(moved(2, 13), moved(-3, 10)) // 8
	b.record(events.ItemLinked{VariantID: "v1", ItemID: "bolts", Required: units(2)})
	b.record(events.ItemCreated{ItemID: "nuts"}, events.LevelCreated{ItemID: "nuts", LevelID: "lev-n", LocationID: "berlin", Stocked: units(7)}) // 11
	return b
}

// Every filter by itself, combined, and as a list.
func TestHistoryFilters(t *testing.T) {
	m := audited().models(t)
	at := func(n int) string { return asJSON(t, at(n)) }
	for _, tc := range []struct{ body, rows string }{
		{`{}`, `2 3 4 5 5 6 7 8 11`},
		{`{"inventory_item_id":"bolts"}`, `2 3 4 5 5 6 7 8`},
		{`{"inventory_item_id":["bolts","nuts"]}`, `2 3 4 5 5 6 7 8 11`},
		{`{"level_id":"lev-p"}`, `3 5`},
		{`{"location_id":"berlin"}`, `2 4 5 6 7 8 11`},
		{`{"location_id":["paris","berlin"]}`, `2 3 4 5 5 6 7 8 11`},
		{`{"location_id":"berlin","inventory_item_id":"nuts"}`, `11`},
		{`{"location_id":"mars"}`, ``},
		{`{"variant_id":"v1"}`, `2 3 4 5 5 6 7 8`},
		{`{"variant_id":"v1","inventory_item_id":"nuts"}`, ``},
		{`{"variant_id":"v9"}`, ``},
		{`{"reservation_id":"r1"}`, `4 5 5`},
		{`{"kind":"stock-adjusted"}`, `6 7 8`},
		{`{"kind":["reservation-created","level-created"]}`, `2 3 4 11`},
		{`{"kind":["stock-adjusted","stock-adjusted"]}`, `6 7 8`},
		{`{"actor":["bob","ann","bob"],"take":4}`, `2 3 4 5 5`},
		{`{"actor":["bob","bob"]}`, `5 5 6 7 8 11`},
		{`{"reservation_id":["r1","r1"]}`, `4 5 5`},
		{`{"actor":"ann"}`, `2 3 4`},
		{`{"actor":["ann","bob"],"location_id":"paris"}`, `3 5`},
		{`{"actor":"bob","kind":"stock-adjusted"}`, `6 7 8`},
		{`{"reason":"sale"}`, `4 5 5`},
		{`{"reference":"po:1"}`, `2 3`},
		{`{"reference":"order:1","actor":"bob"}`, `5 5`},
		{`{"correlation_id":"cart-1"}`, `4 5 5`},
		{`{"command":"update-reservations"}`, `5 5`},
		{`{"command_id":["command-2","command-5"]}`, `4 7 8`},
		{`{"recorded_from":` + at(2) + `}`, `4 5 5 6 7 8 11`},
		{`{"recorded_from":` + at(2) + `,"recorded_before":` + at(5) + `}`, `4 5 5 6`},
		{`{"recorded_before":` + at(1) + `}`, ``},
		{`{"recorded_before":"0001-01-01T00:00:00Z"}`, ``},
		{`{"effective_before":"0001-01-01T00:00:00Z"}`, ``},
		{`{"recorded_from":"0001-01-01T00:00:00Z","effective_from":"0001-01-01T00:00:00Z"}`, `2 3 4 5 5 6 7 8 11`},
		{`{"effective_before":` + at(1) + `}`, `6`},
		{`{"effective_from":` + at(4) + `}`, `7 8 11`},
		{`{"effective_from":"2026-03-01T08:00:00Z","effective_before":` + at(3) + `}`, `2 3 4 6`},
		{`{"actor":"bob","effective_before":` + at(4) + `}`, `5 5 6`},
		{`{"inventory_item_id":"bolts","take":2}`, `2 3`},
		{`{"inventory_item_id":"bolts","take":4}`, `2 3 4 5 5`},
		{`{"inventory_item_id":"bolts","before_position":6,"take":1}`, `5 5`},
		{`{"actor":"bob","before_position":8,"take":2}`, `6 7`},
		{`{"actor":"bob","after_position":5,"take":2}`, `6 7`},
		{`{"command_id":"command-5","after_position":7}`, `8`},
		{`{"command_id":"command-5","before_position":8}`, `7`},
		{`{"after_position":99}`, ``},
		{`{"before_position":99,"take":1}`, `11`},
		{`{"take":0}`, ``},
	} {
		page := ask(t, m, "stock-history", tc.body).(projections.Movements)
		require.NotNil(t, page.Rows)
		var rows []string
		for _, r := range page.Rows {
			rows = append(rows, fmt.Sprint(r.Position))
		}
		require.Equal(t, tc.rows, strings.Join(rows, " "), tc.body)
	}
}

// Of items, levels and locations the running sums are true balances, wherever a
// page begins; of anything else they add up the page.
func TestRunningSums(t *testing.T) {
	m := audited().models(t)
	for _, tc := range []struct{ body, sums string }{
		{`{"inventory_item_id":"bolts"}`, `10/0 11.5/0 11.5/4 11.5/0 11.5/4 12.5/4 14.5/4 11.5/4`},
		{`{"inventory_item_id":"bolts","after_position":6}`, `14.5/4 11.5/4`},
		{`{"inventory_item_id":"bolts","recorded_from":"2026-03-01T09:00:05Z"}`, `14.5/4 11.5/4`},
		{`{"variant_id":"v1","after_position":6}`, `14.5/4 11.5/4`},
		{`{"location_id":"berlin"}`, `10/0 10/4 10/0 11/0 13/0 10/0 17/0`},
		{`{"location_id":"berlin","after_position":7}`, `10/0 17/0`},
		{`{"location_id":"berlin","before_position":100,"take":1}`, `17/0`},
		{`{"location_id":["berlin","paris"],"after_position":7}`, `11.5/4 18.5/4`},
		{`{"location_id":"berlin","inventory_item_id":"bolts","after_position":7}`, `10/0`},
		{`{"inventory_item_id":"bolts","actor":"bob"}`, `0/-4 0/0 1/0 3/0 0/0`},
		{`{"actor":"bob","after_position":5}`, `1/0 3/0 0/0 7/0`},
		{`{"kind":"stock-adjusted","location_id":"berlin"}`, `1/0 3/0 0/0`},
		{`{"inventory_item_id":"bolts","effective_before":"2026-03-01T09:00:00Z"}`, `1/0`},
		{`{"after_position":6}`, `2/0 -1/0 6/0`},
	} {
		var sums []string
		for _, r := range ask(t, m, "stock-history", tc.body).(projections.Movements).Rows {
			sums = append(sums, r.RunningStocked.String()+"/"+r.RunningReserved.String())
		}
		require.Equal(t, tc.sums, strings.Join(sums, " "), tc.body)
	}
}

// What makes no sense is refused with the name of the field.
func TestAuditRefusals(t *testing.T) {
	m := audited().models(t)
	for _, tc := range []struct{ query, body, code, field string }{
		{"stock-history", `{"actor":7}`, "invalid_type", "actor"},
		{"stock-history", `{"actor":["a",7]}`, "invalid_type", "actor"},
		{"stock-history", `{"actor":""}`, "invalid_value", "actor"},
		{"stock-history", `{"actor":[]}`, "invalid_value", "actor"},
		{"stock-history", `{"kind":"stock-eaten"}`, "invalid_value", "kind"},
		{"stock-history", `{"take":1001}`, "invalid_value", "take"},
		{"stock-history", `{"take":-1}`, "invalid_value", "take"},
		{"stock-history", `{"recorded_from":"yesterday"}`, "invalid_time", "recorded_from"},
		{"stock-history", `{"colour":"red"}`, "unknown_field", "colour"},
		{"stock-history", asJSON(t, map[string]any{"actor": make([]string, 1001)}), "too_many_values", "actor"},
		{"as-of", `{"position":1}`, "required", "inventory_item_id"},
		{"as-of", `{"level_id":"lev-b"}`, "required", "at"},
		{"as-of", `{"level_id":"lev-b","inventory_item_id":"bolts","position":1}`, "invalid_value", "level_id"},
		{"as-of", `{"level_id":"lev-b","position":1,"at":"2026-03-01T09:00:00Z"}`, "invalid_value", "position"},
		{"as-of", `{"level_id":"lev-b","position":1,"clock":"effective"}`, "invalid_value", "position"},
		{"as-of", `{"level_id":"lev-b","position":1,"clock":"wall"}`, "invalid_value", "clock"},
		{"as-of", `{"level_id":"lev-b","position":12}`, "position_beyond_log", "position"},
		{"as-of", `{"level_id":"lev-b","position":1,"cursor":"x"}`, "invalid_value", "cursor"},
		{"as-of", `{"location_id":"berlin","position":1,"cursor":"x"}`, "invalid_cursor", "cursor"},
		{"as-of", `{"location_id":"berlin","position":1,"take":1001}`, "invalid_value", "take"},
		{"as-of", `{"level_id":"lev-b","at":"noon"}`, "invalid_time", "at"},
		{"explain", `{"location_id":"berlin"}`, "required", "inventory_item_id"},
		{"explain", `{"inventory_item_id":"bolts","quantity":"sold"}`, "invalid_value", "quantity"},
		{"explain", `{"level_id":"lev-b","location_id":"berlin"}`, "invalid_value", "level_id"},
		{"explain", `{"level_id":"lev-b","position":12}`, "position_beyond_log", "position"},
		{"explain", `{"level_id":"lev-b","take":1001}`, "invalid_value", "take"},
	} {
		_, err := m.Query(t.Context(), tc.query, []byte(tc.body))
		require.Equal(t, tc.code, fault.Code(err), "%s %s: %v", tc.query, tc.body, err)
		require.Equal(t, fault.Invalid, fault.Of(err).Kind)
		require.Contains(t, fmt.Sprint(fault.Of(err).Details["field"]), tc.field, "%s %s", tc.query, tc.body)
	}
	for _, tc := range []struct{ query, body, field string }{
		{"as-of", `{"level_id":"lev-x","position":1}`, "level_id"},
		{"as-of", `{"inventory_item_id":"screws","position":1}`, "inventory_item_id"},
		{"as-of", `{"location_id":"mars","position":1}`, "location_id"},
		{"as-of", `{"inventory_item_id":"nuts","location_id":"paris","position":1}`, "location_id"},
		{"as-of", `{"inventory_item_id":"screws","at":"2026-03-01T09:00:00Z","clock":"effective"}`, "inventory_item_id"},
		{"explain", `{"level_id":"lev-x"}`, "level_id"},
		{"explain", `{"inventory_item_id":"screws"}`, "inventory_item_id"},
		{"explain", `{"inventory_item_id":"nuts","location_id":"paris"}`, "location_id"},
		{"explain", `{"inventory_item_id":"screws","position":1}`, "inventory_item_id"},
	} {
		_, err := m.Query(t.Context(), tc.query, []byte(tc.body))
		require.Equal(t, fault.NotFound, fault.Of(err).Kind, "%s %s: %v", tc.query, tc.body, err)
		require.Contains(t, fault.Of(err).Details, tc.field, "%s %s", tc.query, tc.body)
	}
}

// then is what as-of answers, short.
func then(t *testing.T, m *projections.Models, body string) string {
	t.Helper()
	a := ask(t, m, "as-of", body).(projections.Then)
	var all []string
	for _, l := range a.Levels {
		all = append(all, fmt.Sprint(l.LevelID, " ", l.Stocked, " ", l.Reserved, " ", l.Incoming, " @", l.LastPosition))
	}
	if a.Stocked != nil {
		all = append(all, fmt.Sprint("sum ", a.Stocked, " ", a.Reserved, " ", a.Incoming, " ", a.Available))
	}
	when := "never"
	if a.At != nil {
		when = a.At.Format("15:04:05.000000")
	}
	return fmt.Sprint(a.Clock, " ", a.Position, " ", when, ": ", strings.Join(all, ", "))
}

// What as-of says at the edges: exactly then is included, before the beginning
// there was nothing, the future is the present, and what is deleted is not listed.
func TestAsOf(t *testing.T) {
	b := audited()
	b.record(events.LevelDeleted{ItemID: "nuts", LevelID: "lev-n", LocationID: "berlin", Stocked: units(7)}) // 12, at 8 s
	m := b.models(t)
	for _, tc := range []struct{ body, want string }{
		{`{"inventory_item_id":"bolts","position":0}`, "recorded 0 never: sum 0 0 0 0"},
		{`{"inventory_item_id":"bolts","position":1}`, "recorded 1 09:00:01.000000: sum 0 0 0 0"},
		{`{"inventory_item_id":"bolts","position":2}`, "recorded 2 09:00:01.000000: lev-b 10 0 2 @2, sum 10 0 2 10"},
		{`{"inventory_item_id":"bolts","position":5}`, "recorded 5 09:00:03.000000: lev-b 10 0 2 @5, lev-p 1.5 4 0 @5, sum 11.5 4 2 7.5"},
		{`{"level_id":"lev-b","position":7}`, "recorded 7 09:00:05.000000: lev-b 13 0 2 @7, sum 13 0 2 13"},
		{`{"inventory_item_id":"bolts","location_id":"paris","position":4}`, "recorded 4 09:00:02.000000: lev-p 1.5 0 0 @3, sum 1.5 0 0 1.5"},
		{`{"level_id":"lev-b","at":"2026-03-01T09:00:02Z"}`, "recorded 4 09:00:02.000000: lev-b 10 4 2 @4, sum 10 4 2 6"},
		{`{"level_id":"lev-b","at":"2026-03-01T09:00:01.999999Z"}`, "recorded 3 09:00:01.999999: lev-b 10 0 2 @2, sum 10 0 2 10"},
		{`{"level_id":"lev-b","at":"2026-03-01T09:00:00.999999Z"}`, "recorded 0 09:00:00.999999: sum 0 0 0 0"},
		{`{"level_id":"lev-b","at":"2030-01-01T00:00:00Z"}`, "recorded 12 00:00:00.000000: lev-b 10 0 2 @8, sum 10 0 2 10"},
		{`{"level_id":"lev-n","position":11}`, "recorded 11 09:00:07.000000: lev-n 7 0 0 @11, sum 7 0 0 7"},
		{`{"level_id":"lev-n","position":12}`, "recorded 12 09:00:08.000000: sum 0 0 0 0"},
		{`{"location_id":"berlin","position":12}`, "recorded 12 09:00:08.000000: lev-b 10 0 2 @8"},
		{`{"location_id":"berlin","position":1}`, "recorded 1 09:00:01.000000: "},
		{`{"level_id":"lev-b","clock":"effective","at":"2026-03-01T07:59:59.999999Z"}`, "effective 12 07:59:59.999999: sum 0 0 0 0"},
		{`{"level_id":"lev-b","clock":"effective","at":"2026-03-01T08:00:00Z"}`, "effective 12 08:00:00.000000: lev-b 1 0 0 @0, sum 1 0 0 1"},
		{`{"level_id":"lev-b","clock":"effective","at":"2026-03-01T09:00:01Z"}`, "effective 12 09:00:01.000000: lev-b 11 0 2 @2, sum 11 0 2 11"},
		{
			`{"inventory_item_id":"bolts","clock":"effective","at":"2026-03-01T09:00:04Z"}`,
			"effective 12 09:00:04.000000: lev-b 11 0 2 @6, lev-p 1.5 4 0 @5, sum 12.5 4 2 8.5",
		},
		{`{"location_id":"berlin","clock":"effective","at":"2026-03-01T09:00:07Z"}`, "effective 12 09:00:07.000000: lev-b 10 0 2 @8, lev-n 7 0 0 @11"},
		{`{"location_id":"berlin","clock":"effective","at":"2026-03-01T09:00:08Z"}`, "effective 12 09:00:08.000000: lev-b 10 0 2 @8"},
		{`{"location_id":"berlin","clock":"effective","at":"2026-03-01T07:00:00Z"}`, "effective 12 07:00:00.000000: "},
	} {
		require.Equal(t, tc.want, then(t, m, tc.body), tc.body)
	}
}

// Pages of a location follow on and stay what they were, whatever is recorded
// meanwhile, also for earlier.
func TestPagesOfALocationStandStill(t *testing.T) {
	for _, clock := range []string{projections.Recorded, projections.Effective} {
		t.Run(clock, func(t *testing.T) {
			b := newBook()
			for i := range 25 {
				id := fmt.Sprintf("item-%02d", i)
				b.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "level-" + id, LocationID: "berlin", Stocked: units(1)})
			}
			m, at := b.models(t), b.now
			q := projections.AsOf{LocationID: "berlin", At: &at, Clock: clock, Take: new(10)}
			var ids []string
			for page := int64(1); ; page++ {
				answer, err := m.AsOf(t.Context(), q)
				require.NoError(t, err)
				require.Nil(t, answer.Stocked)
				for _, l := range answer.Levels {
					require.True(t, l.Stocked.Equal(units(1)), "%s has %s on page %d", l.LevelID, l.Stocked, page)
					ids = append(ids, l.LevelID)
				}
				if answer.Next == nil {
					require.Equal(t, int64(3), page)
					break
				}
				q.Cursor = *answer.Next
				b.meta.Effective = start
				b.record(events.StockAdjusted{ItemID: "item-24", LevelID: "level-item-24", LocationID: "berlin", Delta: units(1), Stocked: units(1 + page)})
				b.caughtUp(t, m)
			}
			require.Len(t, ids, 25)
			require.True(t, slices.IsSorted(ids))
			later := at.Add(time.Hour)
			q.At = &later
			_, err := m.AsOf(t.Context(), q)
			require.Equal(t, "invalid_cursor", fault.Code(err), "of another question")
		})
	}
}

// cutShort ends the log it yields, and then waits, so that a batch ends inside a commit.
type cutShort struct {
	events.Store
	after uint64
}

func (s cutShort) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range s.Store.Subscribe(ctx, after) {
			if err == nil && batch[len(batch)-1].Position > s.after {
				if n := int(s.after + 1 - batch[0].Position); n > 0 && !yield(batch[:n], nil) {
					return
				}
				<-ctx.Done()
				yield(nil, ctx.Err())
				return
			}
			if !yield(batch, err) {
				return
			}
		}
	}
}

// Nobody is shown half a commit, but for who asks for a position inside it.
func TestHalfACommitIsNotShown(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin)
	b.meta.Effective = start.Add(-time.Hour)
	b.record(moved(1, 11))
	b.record(moved(2, 13), moved(4, 17), moved(8, 25))
	m := open(t, cutShort{b.store, 5}, t.TempDir())
	defer m.Close()
	require.NoError(t, m.WaitFor(soon(t), 5))
	positions, _ := statuses(t, m)
	require.Equal(t, uint64(5), positions["movements"])

	var rows []uint64
	for _, r := range ask(t, m, "stock-history", `{"level_id":"lev-b"}`).(projections.Movements).Rows {
		rows = append(rows, r.Position)
	}
	require.Equal(t, []uint64{2, 3}, rows)
	require.Equal(t, "recorded 3 00:00:00.000000: lev-b 11 0 2 @3, sum 11 0 2 11", then(t, m, `{"level_id":"lev-b","at":"2030-01-01T00:00:00Z"}`))
	require.Equal(t, "effective 3 00:00:00.000000: lev-b 11 0 2 @3, sum 11 0 2 11",
		then(t, m, `{"level_id":"lev-b","at":"2030-01-01T00:00:00Z","clock":"effective"}`))
	require.Equal(t, "recorded 4 09:00:03.000000: lev-b 13 0 2 @4, sum 13 0 2 13", then(t, m, `{"level_id":"lev-b","position":4}`))
}

// A level with very many backdated movements, recorded in any order and at the
// same instants, folded in one go or bit by bit: the sums are those of a loop.
func TestManyBackdatedMovementsOfOneLevel(t *testing.T) {
	t.Parallel()
	b := newBook()
	b.record(bolts, atBerlin)
	dir := t.TempDir()
	m := open(t, b.store, dir)
	type turn struct {
		at time.Time
		by events.Quantity
	}
	var all []turn
	stocked := units(10)
	for n := range int64(6_000) {
		one := turn{start.Add(time.Duration(n*7919%1013)*time.Minute - 24*time.Hour), units(n%17 - 8)}
		if n%3 == 0 {
			one.by = one.by.Plus(qty("0.5"))
		}
		all, stocked = append(all, one), stocked.Plus(one.by)
		b.meta.Effective = one.at
		b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: one.by, Stocked: stocked})
		if n%700 == 0 {
			b.caughtUp(t, m)
		}
		if n == 500 || n == 3_000 {
			require.NoError(t, m.Close())
			m = open(t, b.store, dir)
		}
	}
	b.caughtUp(t, m)
	asOf := func(at time.Time) projections.Then {
		a, err := m.AsOf(t.Context(), projections.AsOf{LevelID: "lev-b", At: &at, Clock: projections.Effective})
		require.NoError(t, err)
		return a
	}
	for minute := -1; minute < 1015; minute += 7 {
		at := start.Add(time.Duration(minute)*time.Minute - 24*time.Hour)
		want := units(0)
		for _, one := range all {
			if !one.at.After(at) {
				want = want.Plus(one.by)
			}
		}
		a := asOf(at)
		require.True(t, a.Stocked.Equal(want), "minute %d: %s, not %s", minute, a.Stocked, want)
		require.Equal(t, minute >= 0, len(a.Levels) == 1)
	}
	for _, seconds := range []int{1, 2, 502, 3_000, 4_000, 6_001} { // all of it has happened, some is recorded
		at := start.Add(time.Duration(seconds) * time.Second)
		require.True(t, asOf(at).Stocked.Equal(stocked), "%s, not %s, at %s", asOf(at).Stocked, stocked, at)
	}
	require.NoError(t, m.Close())
	db := sql.OpenDB(projections.Connect(filepath.Join(dir, "movements.v1.db")))
	defer db.Close()
	for _, n := range texts(t, db, `SELECT movements FROM buckets`) {
		held, err := strconv.Atoi(n)
		require.NoError(t, err)
		require.LessOrEqual(t, held, 1024)
	}
	require.Equal(t, []string{"6000"}, texts(t, db, `SELECT sum(movements) FROM buckets`))
}

// why is what explain answers, short.
func why(t *testing.T, m *projections.Models, body string) string {
	t.Helper()
	x := ask(t, m, "explain", body).(projections.Explanation)
	rows := ""
	for _, r := range x.Rows {
		rows += fmt.Sprint(" ", r.Position, ":", r.Delta, "=", r.Running)
	}
	text := fmt.Sprintf("%s %s, sum of %d is %s, agrees %v;%s", x.Quantity, x.Value, x.Events, x.Sum, x.Agrees, rows)
	if x.Opening.Events > 0 {
		text += fmt.Sprintf("; after %d of %s", x.Opening.Events, x.Opening.Sum)
	}
	if x.More {
		text += "; more"
	}
	if x.Parts != nil {
		served := x.Parts.Served.String()
		if x.Parts.Stored != nil {
			served = "'" + *x.Parts.Stored + "'"
		}
		text += fmt.Sprintf("; parts at %d in %s %s: %s, not %s", x.Parts.Position, x.Parts.Row, x.Parts.LevelID, x.Parts.Log, served)
	}
	return text
}

func TestExplain(t *testing.T) {
	b := audited()
	m := b.models(t)
	for _, tc := range []struct{ body, want string }{
		{`{"inventory_item_id":"bolts"}`, "available 7.5, sum of 8 is 7.5, agrees true; 2:10=10 3:1.5=11.5 4:-4=7.5 5:4=11.5 5:-4=7.5 6:1=8.5 7:2=10.5 8:-3=7.5"},
		{`{"inventory_item_id":"bolts","quantity":"incoming"}`, "incoming 2, sum of 1 is 2, agrees true; 2:2=2"},
		{`{"level_id":"lev-p","quantity":"reserved"}`, "reserved 4, sum of 1 is 4, agrees true; 5:4=4"},
		{`{"inventory_item_id":"bolts","location_id":"berlin","quantity":"stocked"}`, "stocked 10, sum of 4 is 10, agrees true; 2:10=10 6:1=11 7:2=13 8:-3=10"},
		{`{"level_id":"lev-b","quantity":"stocked","take":2}`, "stocked 10, sum of 4 is 10, agrees true; 7:2=13 8:-3=10; after 2 of 11"},
		{`{"level_id":"lev-b","quantity":"stocked","take":2,"after_position":0}`, "stocked 10, sum of 4 is 10, agrees true; 2:10=10 6:1=11; more"},
		{`{"level_id":"lev-b","quantity":"stocked","take":2,"after_position":2}`, "stocked 10, sum of 4 is 10, agrees true; 6:1=11 7:2=13; after 1 of 10; more"},
		{`{"inventory_item_id":"bolts","take":4}`, "available 7.5, sum of 8 is 7.5, agrees true; 5:4=11.5 5:-4=7.5 6:1=8.5 7:2=10.5 8:-3=7.5; after 3 of 7.5"},
		{`{"level_id":"lev-b","quantity":"stocked","take":0}`, "stocked 10, sum of 4 is 10, agrees true;; after 4 of 10"},
		{`{"level_id":"lev-b","quantity":"stocked","position":6}`, "stocked 11, sum of 2 is 11, agrees true; 2:10=10 6:1=11"},
		{`{"level_id":"lev-b","quantity":"reserved","at":"2026-03-01T09:00:02Z"}`, "reserved 4, sum of 1 is 4, agrees true; 4:4=4"},
		{`{"inventory_item_id":"bolts","position":0}`, "available 0, sum of 0 is 0, agrees true;"},
	} {
		require.Equal(t, tc.want, why(t, m, tc.body), tc.body)
	}
	x := ask(t, m, "explain", `{"inventory_item_id":"bolts"}`).(projections.Explanation)
	last := b.last[events.ItemStream("bolts")]
	require.Equal(t, projections.Chain{Stream: "item-bolts", Events: last.Version, Verified: true, Head: last.Hash}, x.Chain)
	require.Equal(t, projections.Served{Model: "inventory", Version: last.Version, Position: 8, Value: x.Sum}, x.Served)

	// The rows are those of the history.
	history := ask(t, m, "stock-history", `{"inventory_item_id":"bolts"}`).(projections.Movements)
	for i, r := range x.Rows {
		require.Equal(t, asJSON(t, history.Rows[i]), asJSON(t, r.Movement))
	}
	var flat map[string]any
	require.NoError(t, json.Unmarshal([]byte(asJSON(t, x.Rows[0])), &flat))
	require.Contains(t, flat, "delta_stocked")
	require.Contains(t, flat, "running")
}

// What the read model has not seen yet is not counted.
func TestExplainGoesAsFarAsTheModel(t *testing.T) {
	m := open(t, cutShort{audited().store, 7}, t.TempDir())
	defer m.Close()
	require.NoError(t, m.WaitFor(soon(t), 7))
	require.Equal(t, "stocked 13, sum of 3 is 13, agrees true; 7:2=13; after 2 of 11",
		why(t, m, `{"level_id":"lev-b","quantity":"stocked","take":1}`))
}

// A row that was changed behind the ledger's back is noticed, and where.
func TestExplainNoticesCorruptedRows(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, file, change, body, want string }{
		{
			"level", "inventory", `UPDATE levels SET stocked_quantity = 'R99' WHERE id = 'lev-b'`, `{"level_id":"lev-b","quantity":"stocked","take":0}`,
			"stocked 99, sum of 4 is 10, agrees false;; after 4 of 10; parts at 8 in levels lev-b: 10, not 99",
		},
		{
			"stored availability", "inventory", `UPDATE levels SET available_quantity = 'R99' WHERE id = 'lev-b'`, `{"level_id":"lev-b","take":0}`,
			"available 10, sum of 6 is 10, agrees false;; after 6 of 10; parts at 8 in levels lev-b: 10, not 99",
		},
		{
			"total", "inventory", `UPDATE totals SET reserved_quantity = 'Q5'`, `{"inventory_item_id":"bolts","quantity":"reserved","take":0}`,
			"reserved 5, sum of 3 is 4, agrees false;; after 3 of 4; parts at 5 in totals : 4, not 5",
		},
		{
			"level of an item", "inventory", `UPDATE levels SET stocked_quantity = 'Q3' WHERE id = 'lev-p'`, `{"inventory_item_id":"bolts","quantity":"stocked","take":0}`,
			"stocked 11.5, sum of 5 is 11.5, agrees false;; after 5 of 11.5; parts at 3 in levels lev-p: 1.5, not 3",
		},
		{
			"garbage in a level", "inventory", `UPDATE levels SET stocked_quantity = 'rubbish' WHERE id = 'lev-p'`, `{"inventory_item_id":"bolts","quantity":"stocked","take":0}`,
			"stocked 11.5, sum of 5 is 11.5, agrees false;; after 5 of 11.5; parts at 3 in levels lev-p: 1.5, not 'rubbish'",
		},
		{
			"garbage in the level", "inventory", `UPDATE levels SET reserved_quantity = '' WHERE id = 'lev-b'`, `{"level_id":"lev-b","take":0}`,
			"available 10, sum of 6 is 10, agrees false;; after 6 of 10; parts at 8 in levels lev-b: 10, not ''",
		},
		{
			"garbage in a total", "inventory", `UPDATE totals SET incoming_quantity = 'rubbish'`, `{"inventory_item_id":"bolts","quantity":"incoming","take":0}`,
			"incoming 0, sum of 1 is 2, agrees false;; after 1 of 2; parts at 2 in totals : 2, not 'rubbish'",
		},
		{
			"garbage nobody asks about", "inventory", `UPDATE totals SET incoming_quantity = 'rubbish'`, `{"inventory_item_id":"bolts","take":0}`,
			"available 7.5, sum of 8 is 7.5, agrees true;; after 8 of 7.5",
		},
		{
			"version", "inventory", `UPDATE totals SET version = 3`, `{"level_id":"lev-b","take":0}`,
			"available 10, sum of 6 is 10, agrees false;; after 6 of 10; parts at 8 in totals.version : 8, not 3",
		},
		{
			"movement", "movements", `UPDATE movements SET stocked = '12' WHERE id = 12`, `{"level_id":"lev-b","quantity":"stocked","position":6,"take":0}`,
			"stocked 12, sum of 2 is 11, agrees false;; after 2 of 11; parts at 6 in movements lev-b: 11, not 12",
		},
		{
			"movements from one on", "movements", `UPDATE movements SET stocked = stocked + 1 WHERE id BETWEEN 12 AND 16`, `{"level_id":"lev-b","quantity":"stocked","position":8,"take":0}`,
			"stocked 11, sum of 4 is 10, agrees false;; after 4 of 10; parts at 6 in movements lev-b: 11, not 12",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, dir := audited(), t.TempDir()
			m := open(t, b.store, dir)
			defer m.Close()
			b.caughtUp(t, m)
			db := sql.OpenDB(projections.Connect(filepath.Join(dir, tc.file+".v1.db")))
			defer db.Close()
			_, err := db.ExecContext(t.Context(), tc.change)
			require.NoError(t, err)
			require.Equal(t, tc.want, why(t, m, tc.body))
		})
	}
}

// garbledStream yields one event of a stream otherwise than it was recorded.
type garbledStream struct {
	events.Store
	version uint64
	garble  func(events.Recorded) events.Recorded
}

func (g garbledStream) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		for e, err := range g.Store.Read(ctx, stream, after) {
			if e.Version == g.version {
				e = g.garble(stripped(e))
			}
			if e.Version != 0 && !yield(e, err) {
				return
			}
		}
	}
}

// A chain that was broken is noticed, whatever was done to it.
func TestExplainNoticesABrokenChain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		garble func(events.Recorded) events.Recorded
		broken string
	}{
		{"another body", func(e events.Recorded) events.Recorded {
			e.Data = []byte(strings.Replace(string(e.Data), `"delta":1`, `"delta":9`, 1))
			return e
		}, "item-bolts@6: its bytes do not match its hash"},
		{"another body and hash", func(e events.Recorded) events.Recorded {
			e.Data = []byte(strings.Replace(string(e.Data), `"delta":1`, `"delta":9`, 1))
			e.Hash = e.Link()
			return e
		}, "item-bolts@7: does not continue the chain of version 6"},
		{"another author", func(e events.Recorded) events.Recorded {
			e.Meta = []byte(strings.Replace(string(e.Meta), `bob`, `eve`, 1))
			return e
		}, "item-bolts@6: its bytes do not match its hash"},
		{"an event taken out", func(events.Recorded) events.Recorded { return events.Recorded{} }, "item-bolts: version 7 follows version 5"},
		{"no body", func(e events.Recorded) events.Recorded {
			e.Data = []byte(`{`)
			return e
		}, "item-bolts@6: its bytes do not match its hash"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := open(t, garbledStream{audited().store, 6, tc.garble}, t.TempDir())
			defer m.Close()
			require.NoError(t, m.WaitFor(soon(t), 11))
			x := ask(t, m, "explain", `{"level_id":"lev-b","quantity":"stocked"}`).(projections.Explanation)
			require.False(t, x.Agrees)
			require.False(t, x.Chain.Verified)
			require.Equal(t, tc.broken, x.Chain.Broken)
		})
	}
	t.Run("the newest events taken away", func(t *testing.T) {
		b := audited()
		taken := func(events.Recorded) events.Recorded { return events.Recorded{} }
		m := open(t, garbledStream{b.store, b.last["item-bolts"].Version, taken}, t.TempDir())
		defer m.Close()
		require.NoError(t, m.WaitFor(soon(t), 11))
		x := ask(t, m, "explain", `{"level_id":"lev-p"}`).(projections.Explanation)
		require.False(t, x.Agrees)
		require.Equal(t, "item-bolts ends at version 7, and the read model has seen 8", x.Chain.Broken)
	})
}

// Commands are found and ordered by when they were recorded through an index.
func TestListCommandsByWhenTheyWereRecorded(t *testing.T) {
	m := audited().models(t)
	for _, tc := range []struct{ body, rows string }{
		{`{"recorded_at":` + asJSON(t, at(2)) + `}`, "command-2"},
		{`{"recorded_at":{"$gt":` + asJSON(t, at(2)) + `,"$lte":` + asJSON(t, at(4)) + `}}`, "command-3 command-4"},
		{`{"order":"-recorded_at","take":2}`, "command-7 command-6"},
		{`{"order":"-recorded_at","actor":"ann"}`, "command-2 command-1"},
	} {
		var ids []string
		for _, c := range ask(t, m, "list-commands", tc.body).(projections.Page[projections.Command]).Rows {
			ids = append(ids, c.CommandID)
		}
		require.Equal(t, tc.rows, strings.Join(ids, " "), tc.body)
	}
}

// Commands are found by all that they were sent with.
func TestListCommandsByWhatTheyWereSentWith(t *testing.T) {
	m := audited().models(t)
	for _, tc := range []struct {
		filter map[string]any
		ids    []string
	}{
		{map[string]any{"correlation_id": "cart-1"}, []string{"command-2", "command-3"}},
		{map[string]any{"correlation_id": nil, "actor": "ann"}, []string{"command-1"}},
		{map[string]any{"actor": "bob", "reason": nil}, []string{"command-4", "command-5", "command-6", "command-7"}},
		{map[string]any{"effective_at": map[string]any{"lt": at(1)}}, []string{"command-4"}},
		{map[string]any{"command": "update-reservations"}, []string{"command-3"}},
	} {
		page, err := m.ListCommands(t.Context(), projections.List{Filter: tc.filter})
		require.NoError(t, err)
		var ids []string
		for _, c := range page.Rows {
			ids = append(ids, c.CommandID)
		}
		require.Equal(t, tc.ids, ids, "%v", tc.filter)
	}
}

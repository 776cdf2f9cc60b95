package projections_test

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

func difference(t testing.TB, m *projections.Models, o projections.DiffOptions) projections.Difference {
	t.Helper()
	d, err := m.Diff(t.Context(), o)
	require.NoError(t, err)
	return d
}

// counted are the tables of a model where not all is equal.
func counted(d projections.ModelDifference) map[string][3]uint64 {
	unequal := make(map[string][3]uint64)
	for _, t := range d.Tables {
		if t.Different+t.Missing+t.Extra > 0 {
			unequal[t.Table] = [3]uint64{t.Different, t.Missing, t.Extra}
		}
	}
	return unequal
}

// wrongTotals is what the planted bug does to the totals of items, by id: the
// first event it is wrong about, and how much it has kept since.
func wrongTotals(t testing.TB, store events.Store) map[string]wrongTotal {
	t.Helper()
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	wrong := make(map[string]wrongTotal)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for batch, err := range store.Subscribe(ctx, 0) {
		require.NoError(t, err)
		for _, e := range batch {
			fact, err := e.Fact()
			require.NoError(t, err)
			released, ok := fact.(events.ReservationReleased)
			if !ok || released.Quantity.IsZero() {
				continue
			}
			w := wrong[released.ItemID]
			w.since = cmp.Or(w.since, e.Position)
			w.kept = w.kept.Plus(released.Quantity)
			wrong[released.ItemID] = w
		}
		if batch[len(batch)-1].Position == head {
			break
		}
	}
	return wrong
}

type wrongTotal struct {
	since uint64
	kept  events.Quantity
}

// The difference between the model with the planted bug and the one without is
// exactly the totals of the items that had a reservation released, and each of
// them parts at the first one.
func TestDiffNamesExactlyWhatIsPlanted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "") //nolint:usetesting // one for each of rapid's draws
		require.NoError(t, err)
		s := newShop()
		for range rapid.IntRange(1, 60).Draw(rt, "commits") {
			s.happen(rt)
		}
		m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: s.store, Planted: true})
		require.NoError(t, err)
		s.caughtUp(t, m)
		require.NoError(t, m.Close())

		m, err = projections.Open(t.Context(), projections.Config{Dir: dir, Store: s.store, HoldRebuilt: true})
		require.NoError(t, err)
		defer m.Close()
		untilReady(t, m, "inventory")
		for range rapid.IntRange(0, 5).Draw(rt, "commits meanwhile") {
			s.happen(rt)
		}
		s.caughtUp(t, m)
		d := difference(t, m, projections.DiffOptions{Rows: -1})
		wrong := wrongTotals(t, s.store)
		require.Len(t, d.Models, 1)
		found := d.Models[0]
		require.Equal(t, projections.Compared{Generation: 1, Version: 0, State: projections.Serving}, found.Served)
		require.Equal(t, projections.Compared{Generation: 2, Version: 1, State: projections.Ready}, found.Other)
		head, err := s.store.Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, head, d.Position)
		require.Equal(t, uint64(len(wrong)), d.Differing)
		require.Len(t, found.Rows, len(wrong))
		for _, table := range found.Tables {
			require.True(t, table.Table == "totals" || table.Different+table.Missing+table.Extra == 0, table.Table)
		}
		for _, row := range found.Rows {
			want, ok := wrong[row.Key]
			require.True(t, ok, row.Key)
			require.Equal(t, "totals", row.Table)
			require.Equal(t, projections.RowDifferent, row.Kind)
			require.Equal(t, want.kept.String(), row.By)
			require.Equal(t, projections.HowReplayed, row.How)
			require.Equal(t, want.since, row.Since.Position)
			require.Equal(t, "inventory.reservation-released.v1", row.Since.Type)
			require.Equal(t, events.ItemStream(row.Key), row.Since.Stream)
			require.Len(t, row.Columns, 2)
			reserved := row.Columns["reserved_quantity"]
			require.True(t, qty(*reserved.Served).Minus(qty(*reserved.Other)).Equal(want.kept))
			available := row.Columns["available_quantity"]
			require.True(t, sum(t, *available.Other).Minus(sum(t, *available.Served)).Equal(want.kept))
		}
		require.True(t, slices.IsSortedFunc(found.Rows, func(a, b projections.RowDifference) int { return qty(b.By).Cmp(qty(a.By)) }), "the worst first")
	})
}

func sum(t testing.TB, text string) events.Quantity {
	t.Helper()
	q, err := events.ParseSum(text)
	require.NoError(t, err)
	return q
}

// Two builds of one log do not differ, whatever is in it.
func TestDiffOfHonestBuildsIsNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "") //nolint:usetesting // one for each of rapid's draws
		require.NoError(t, err)
		s := newShop()
		m := open(t, s.store, dir)
		defer m.Close()
		for range rapid.IntRange(1, 60).Draw(rt, "commits") {
			if rapid.IntRange(0, 3).Draw(rt, "backdated") == 0 {
				s.meta.Effective = start.Add(-time.Duration(rapid.IntRange(0, 5).Draw(rt, "hours")) * time.Hour)
			}
			s.happen(rt)
			s.meta.Effective = time.Time{}
			if rapid.IntRange(0, 9).Draw(rt, "fold") == 0 {
				s.caughtUp(t, m)
			}
		}
		s.caughtUp(t, m)
		rebuilt(t, m, "inventory", "movements")
		d := difference(t, m, projections.DiffOptions{})
		require.Zero(t, d.Differing, asJSON(t, d))
		require.Len(t, d.Models, 2)
		snapshot := snapshot(t, m)
		for _, model := range d.Models {
			require.Empty(t, model.Rows)
			for _, table := range model.Tables {
				require.Len(t, rowsOf(t, snapshot, snapshot.Rows(t.Context(), model.Model, table.Table, 0, 0)), int(table.Equal), table.Table)
			}
		}
		require.NoError(t, snapshot.Close())
	})
}

// spoilt is a ledger of a few items whose served rows are then changed behind its
// back, compared with an honest build.
func spoilt(t *testing.T, model string, statements ...string) (projections.ModelDifference, *book) {
	t.Helper()
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.meta.Actor, b.meta.Reason, b.meta.Reference = "ann", "count", "doc-1"
	b.record(bolts, atBerlin, atParis)                                                                                                                  // 1, 2, 3
	b.record(held)                                                                                                                                      // 4
	b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(-3), Stocked: units(7), Reserved: units(4)})    // 5
	b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-p", LocationID: "paris", Delta: units(1), Stocked: qty("2.5")})                        // 6
	b.record(opened, linkedTo(events.SalesChannel, "shop"))                                                                                             // 7, 8
	b.record(events.LocationUnlinked{LocationID: "berlin", Kind: events.SalesChannel, ID: "shop"}, linked)                                              // 9, 10
	b.record(events.ItemUpdated{ItemID: "bolts", Changed: []string{"title"}, Attributes: events.ItemAttributes{SKU: new("B-8"), Title: new("M8")}})     // 11
	b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(100), Stocked: units(107), Reserved: units(4)}) // 12
	m := open(t, b.store, dir)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	b.caughtUp(t, m)
	for _, statement := range statements {
		vandalise(t, servedFile(t, m, dir, model), statement)
	}
	rebuilt(t, m, model)
	d := difference(t, m, projections.DiffOptions{Models: []string{model}})
	require.Len(t, d.Models, 1)
	return d.Models[0], b
}

func TestDiffSaysHowRowsPart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, model, spoil string
		counts             map[string][3]uint64 // different, missing, extra
		row                string               // table, key, kind, by, how, and position of the event; "-" for none
		columns            string               // that differ
	}{{
		name: "a row that something else changed", model: "inventory",
		spoil:  `UPDATE levels SET stocked_quantity = 'S999' WHERE id = 'lev-p'`,
		counts: map[string][3]uint64{"levels": {1, 0, 0}},
		row:    "levels lev-p different 996.5 unknown 6", columns: `{"stocked_quantity":{"served":"999","other":"2.5"}}`,
	}, {
		name: "a row that something else changed, its version, too", model: "inventory",
		spoil:  `UPDATE levels SET (stocked_quantity, version) = ('S999', 100) WHERE id = 'lev-p'`,
		counts: map[string][3]uint64{"levels": {1, 0, 0}},
		row:    "levels lev-p different 996.5 unknown 6",
	}, {
		name: "a row that misses its last event", model: "inventory",
		spoil:  `UPDATE levels SET (stocked_quantity, available_quantity, version, updated_at) = ('Q7', 'Q3', 5, 1772355603000000) WHERE id = 'lev-b'`,
		counts: map[string][3]uint64{"levels": {1, 0, 0}},
		row:    "levels lev-b different 100 stale 12",
		columns: `{"available_quantity":{"served":"3","other":"103"},"stocked_quantity":{"served":"7","other":"107"},` +
			`"updated_at":{"served":"2026-03-01T09:00:03Z","other":"2026-03-01T09:00:08Z"},"version":{"served":"5","other":"8"}}`,
	}, {
		name: "a row that is gone", model: "inventory",
		spoil:  `DELETE FROM levels WHERE id = 'lev-p'`,
		counts: map[string][3]uint64{"levels": {0, 1, 0}},
		row:    "levels lev-p missing 2.5 stale 3",
		columns: `{"available_quantity":{"served":null,"other":"2.5"},"created_at":{"served":null,"other":"2026-03-01T09:00:01Z"},` +
			`"id":{"served":null,"other":"lev-p"},"incoming_quantity":{"served":null,"other":"0"},"inventory_item_id":{"served":null,"other":"bolts"},` +
			`"location_id":{"served":null,"other":"paris"},"metadata":{"served":null,"other":"{\"row\":7}"},"position":{"served":null,"other":"3"},` +
			`"reserved_quantity":{"served":null,"other":"0"},"stocked_quantity":{"served":null,"other":"2.5"},` +
			`"updated_at":{"served":null,"other":"2026-03-01T09:00:04Z"},"version":{"served":null,"other":"6"}}`,
	}, {
		name: "a row that no event made", model: "inventory",
		spoil:  `INSERT INTO totals VALUES (5, 'Q1', 'Q0', 'Q0', 'Q1', 1, NULL)`,
		counts: map[string][3]uint64{"totals": {0, 0, 1}},
		row:    "totals 5 extra 1 unknown 5",
		columns: `{"available_quantity":{"served":"1","other":null},"incoming_quantity":{"served":"0","other":null},"position":{"served":"5","other":null},` +
			`"reserved_quantity":{"served":"0","other":null},"stocked_quantity":{"served":"1","other":null},"version":{"served":"1","other":null}}`,
	}, {
		name: "a row beyond the log", model: "inventory",
		spoil:  `INSERT INTO totals VALUES (500, 'Q1', 'Q0', 'Q0', 'Q1', 1, NULL)`,
		counts: map[string][3]uint64{"totals": {0, 0, 1}},
		row:    "totals 500 extra 1 unknown -",
	}, {
		name: "a row without a version that misses its last event", model: "inventory",
		spoil: `UPDATE items SET (title, weight, requires_shipping, metadata, updated_at) = ('Bolts', 'Q0.25', 1, '{"a":1}', 1772355601000000)`,

		counts: map[string][3]uint64{"items": {1, 0, 0}},
		row:    "items bolts different 0.25 stale 11",
	}, {
		name: "a row that ought to be gone", model: "inventory",
		spoil:  `INSERT INTO location_links VALUES ('sales_channel', 'shop', 'berlin')`,
		counts: map[string][3]uint64{"location_links": {0, 0, 1}},
		row:    "location_links sales_channel/shop/berlin extra 0 stale 9",
	}, {
		name: "a link", model: "inventory",
		spoil:  `UPDATE links SET required_quantity = 'Q3'`,
		counts: map[string][3]uint64{"links": {1, 0, 0}},
		row:    "links v1/bolts different 1 unknown 10", columns: `{"required_quantity":{"served":"3","other":"2"}}`,
	}, {
		name: "a movement", model: "movements",
		spoil:  `UPDATE movements SET stocked = '8' WHERE id = 10`,
		counts: map[string][3]uint64{"movements": {1, 0, 0}},
		row:    "movements 10 different 1 own event 5", columns: `{"stocked":{"served":"8","other":"7"}}`,
	}, {
		name: "a movement that is gone", model: "movements",
		spoil:  `DELETE FROM movements WHERE id = 24`,
		counts: map[string][3]uint64{"movements": {0, 1, 0}},
		row:    "movements 24 missing 107 own event 12",
	}, {
		name: "a level of the movements", model: "movements",
		spoil:  `UPDATE levels SET prompt = NULL WHERE id = 'lev-b'`,
		counts: map[string][3]uint64{"levels": {1, 0, 0}},
		row:    "levels lev-b different 0 unknown 2", columns: `{"prompt":{"served":null,"other":"2"}}`,
	}, {
		name: "a command", model: "movements",
		spoil:  `UPDATE commands SET actor = 'bob' WHERE position = 5`,
		counts: map[string][3]uint64{"commands": {1, 0, 0}},
		row:    "commands command-3 different 0 own event 5", columns: `{"actor":{"served":"bob","other":"ann"}}`,
	}} {
		t.Run(tc.name, func(t *testing.T) {
			d, b := spoilt(t, tc.model, tc.spoil)
			require.Equal(t, tc.counts, counted(d))
			require.Len(t, d.Rows, 1)
			row := d.Rows[0]
			since := "-"
			if row.Since != nil {
				since = strconv.FormatUint(row.Since.Position, 10)
			}
			require.Equal(t, tc.row, row.Table+" "+row.Key+" "+row.Kind+" "+row.By+" "+row.How+" "+since)
			if tc.columns != "" {
				require.JSONEq(t, tc.columns, asJSON(t, row.Columns))
			}
			if row.Since != nil {
				b.requireEvent(t, *row.Since)
			}
		})
	}
}

// requireEvent checks that a reference says of an event what the log does.
func (b *book) requireEvent(t testing.TB, ref projections.EventRef) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for batch, err := range b.store.Subscribe(ctx, ref.Position-1) {
		require.NoError(t, err)
		e := batch[0]
		meta, err := e.Metadata()
		require.NoError(t, err)
		require.Equal(t, projections.EventRef{
			Position: e.Position, Stream: e.Stream, Version: e.Version, Type: e.Type, Recorded: meta.Recorded,
			CommandID: meta.CommandID, Command: "adjust-inventory-levels", Actor: "ann", Reason: "count", Reference: "doc-1",
		}, ref)
		return
	}
}

// Wherever rows are spoilt, gone or too many, these are found and no others, by
// keys that are numbers and by those that are texts.
func TestDiffFindsRowsWhereverTheyAre(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "") //nolint:usetesting // one for each of rapid's draws
		require.NoError(t, err)
		b := newBook()
		const places = 12
		for i := range places {
			id := strconv.Itoa(i)
			b.record(
				events.LocationOpened{LocationID: id, Attributes: events.LocationAttributes{Name: id}},
				events.LocationLinked{LocationID: id, Kind: events.SalesChannel, ID: id})
		}
		m := open(t, b.store, dir)
		defer m.Close()
		b.caughtUp(t, m)
		file, want := servedFile(t, m, dir, "inventory"), make(map[string]string)
		for i := range places {
			id := strconv.Itoa(i)
			switch rapid.IntRange(0, 5).Draw(rt, "spoil") {
			case 0:
				vandalise(t, file, `DELETE FROM locations WHERE id = ?`, id)
				want["locations "+id] = "missing"
			case 1:
				vandalise(t, file, `UPDATE locations SET name = 'x' WHERE id = ?`, id)
				want["locations "+id] = "different"
			case 2:
				vandalise(t, file, `INSERT INTO locations SELECT position + 1, 'x' || id, name, address, metadata, links, version, created_at, updated_at, deleted_at
					FROM locations WHERE id = ?`, id)
				want["locations x"+id] = "extra"
			case 3:
				vandalise(t, file, `DELETE FROM location_links WHERE location_id = ?`, id)
				want["location_links sales_channel/"+id+"/"+id] = "missing"
			case 4:
				vandalise(t, file, `INSERT INTO location_links VALUES ('sales_channel', ?1 || 'x', ?1)`, id)
				want["location_links sales_channel/"+id+"x/"+id] = "extra"
			}
		}
		rebuilt(t, m, "inventory")
		got := make(map[string]string)
		for _, row := range difference(t, m, projections.DiffOptions{}).Models[0].Rows {
			got[row.Table+" "+row.Key] = row.Kind
		}
		require.Equal(t, want, got)
	})
}

// The worst rows are named, and all are counted.
func TestDiffNamesTheWorstRows(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	const items = 100
	for i := range items {
		id := strconv.Itoa(i)
		b.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "l" + id, LocationID: "x", Stocked: units(5)})
	}
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	vandalise(t, servedFile(t, m, dir, "inventory"), `UPDATE levels SET stocked_quantity = 'Q7' WHERE position < 150`)
	vandalise(t, servedFile(t, m, dir, "inventory"), `UPDATE levels SET stocked_quantity = 'R90' WHERE id = 'l60'`)
	vandalise(t, servedFile(t, m, dir, "inventory"), `UPDATE levels SET location_id = 'y' WHERE position < 150 AND id <> 'l60'`)
	rebuilt(t, m, "inventory")
	keys := func(rows int) (keys []string) {
		d := difference(t, m, projections.DiffOptions{Rows: rows})
		require.Equal(t, uint64(74), d.Differing)
		require.Equal(t, map[string][3]uint64{"levels": {74, 0, 0}}, counted(d.Models[0]))
		for _, row := range d.Models[0].Rows {
			keys = append(keys, row.Key)
		}
		return keys
	}
	require.Equal(t, []string{"l60", "l0", "l1"}, keys(3))
	require.Len(t, keys(0), 20)
	require.Len(t, keys(-1), 74)
}

// All is compared at one position, however fast commands come, and nothing after it
// counts.
func TestDiffUnderTraffic(t *testing.T) {
	t.Parallel()
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	b.record(held)
	wrong := b.record(released)
	m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, Planted: true})
	require.NoError(t, err)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	m, err = projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, HoldRebuilt: true})
	require.NoError(t, err)
	defer m.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for stocked := units(10); ; {
			select {
			case <-stop:
				return
			default:
			}
			stocked = stocked.Plus(units(1))
			at := b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: stocked})
			if at%20 == 0 {
				_ = m.WaitFor(context.Background(), at) // no faster than they can be folded
			}
		}
	}()
	defer func() { <-stopped }()
	defer close(stop)
	untilReady(t, m, "inventory")
	rebuilt(t, m, "movements")
	for last, n := uint64(0), 0; n < 8; n++ {
		d := difference(t, m, projections.DiffOptions{})
		require.Equal(t, map[string][3]uint64{"totals": {1, 0, 0}}, counted(d.Models[0]), asJSON(t, d))
		require.Empty(t, counted(d.Models[1]), asJSON(t, d))
		require.Equal(t, []any{"replayed", wrong}, []any{d.Models[0].Rows[0].How, d.Models[0].Rows[0].Since.Position})
		require.Equal(t, strconv.FormatUint(d.Position-wrong+10-4, 10), *d.Models[0].Rows[0].Columns["available_quantity"].Served)
		require.GreaterOrEqual(t, d.Position, last)
		last = d.Position
		s, err := m.Snapshot(t.Context())
		require.NoError(t, err)
		for row, err := range s.RowsWhere(t.Context(), "inventory", "levels", "id", "lev-b") {
			require.NoError(t, err)
			require.Equal(t, strconv.FormatUint(s.Position()-wrong+10, 10), row.Values[4].String, "the row is of that position")
		}
		require.NoError(t, s.Close())
	}
}

// Without one that is ready, the generation that was served before is compared,
// once it has caught up; while one is being built, nothing is.
func TestDiffWithWhatWasServedBefore(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	_, err := m.Diff(t.Context(), projections.DiffOptions{})
	require.Equal(t, "nothing_to_compare", fault.Code(err))
	_, err = m.Diff(t.Context(), projections.DiffOptions{Models: []string{"inventory"}})
	require.Equal(t, "nothing_to_compare", fault.Code(err))
	_, err = m.Diff(t.Context(), projections.DiffOptions{Models: []string{"stores"}})
	require.Equal(t, "unknown_model", fault.Code(err))

	missed := b.record(held)
	b.caughtUp(t, m)
	vandalise(t, servedFile(t, m, dir, "inventory"),
		`UPDATE levels SET (reserved_quantity, available_quantity, version, updated_at) = ('Q0', 'R10', 2, created_at)`)
	rebuilt(t, m, "inventory")
	_, err = m.Switch(t.Context(), false, "inventory")
	require.NoError(t, err)
	b.record(atParis)
	b.caughtUp(t, m)
	for range 3 {
		d := difference(t, m, projections.DiffOptions{})
		require.Equal(t, uint64(4), d.Position)
		require.Len(t, d.Models, 1)
		require.Equal(t, projections.Compared{Generation: 2, Version: 1, State: projections.Serving}, d.Models[0].Served)
		require.Equal(t, projections.Compared{Generation: 1, Version: 1, State: projections.Kept}, d.Models[0].Other)
		require.Equal(t, map[string][3]uint64{"levels": {1, 0, 0}}, counted(d.Models[0]))
		row := d.Models[0].Rows[0]
		require.Equal(t, []any{projections.HowStale, missed}, []any{row.How, row.Since.Position})
		require.Equal(t, projections.Change{Served: new("4"), Other: new("0")}, row.Columns["reserved_quantity"])
	}
	_, err = m.Switch(t.Context(), true, "inventory")
	require.NoError(t, err, "it can still be switched to")
}

// Since is found in streams longer than what is replayed at once, wherever in it.
func TestDiffOfALongStream(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin, atParis)
	stocked := units(10)
	adjust := func(times int) {
		for range times {
			stocked = stocked.Plus(units(1))
			b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: stocked})
		}
	}
	adjust(1500)
	b.record(events.ReservationCreated{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1", Quantity: units(4), Stocked: stocked, Reserved: units(4)})
	released := b.record(events.ReservationReleased{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r1", Quantity: units(4), Stocked: stocked})
	adjust(700)
	missed := b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-p", LocationID: "paris", Delta: units(1), Stocked: qty("2.5")})
	b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-p", LocationID: "paris", Delta: units(1), Stocked: qty("3.5")})
	adjust(1500)
	m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, Planted: true})
	require.NoError(t, err)
	b.caughtUp(t, m)
	vandalise(t, servedFile(t, m, dir, "inventory"),
		`UPDATE levels SET (stocked_quantity, available_quantity, version, updated_at, metadata) = ('Q1.5', 'Q1.5', 3, created_at, '{"row":7}') WHERE id = 'lev-p'`)
	require.NoError(t, m.Close())
	m, err = projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, HoldRebuilt: true})
	require.NoError(t, err)
	defer m.Close()
	untilReady(t, m, "inventory")
	b.caughtUp(t, m)
	var stages []string
	d := difference(t, m, projections.DiffOptions{Progress: func(stage string, done, total uint64) {
		require.LessOrEqual(t, done, total)
		if !slices.Contains(stages, stage) {
			stages = append(stages, stage)
		}
	}})
	require.Equal(t, []string{"comparing inventory", "finding the first events"}, stages)
	require.Len(t, d.Models[0].Rows, 2)
	for _, row := range d.Models[0].Rows {
		switch row.Table {
		case "totals":
			require.Equal(t, []any{projections.HowReplayed, released}, []any{row.How, row.Since.Position})
		case "levels":
			require.Equal(t, []any{projections.HowStale, missed}, []any{row.How, row.Since.Position})
		}
	}
}

// A row is not blamed on the fold that served it when something else has changed
// it, too.
func TestDiffOfARowThatIsPlantedAndSpoilt(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	b.record(held)
	b.record(released)
	last := b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: units(11)})
	m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, Planted: true})
	require.NoError(t, err)
	b.caughtUp(t, m)
	vandalise(t, servedFile(t, m, dir, "inventory"), `UPDATE totals SET incoming_quantity = 'Q9'`)
	require.NoError(t, m.Close())
	m, err = projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, HoldRebuilt: true})
	require.NoError(t, err)
	defer m.Close()
	untilReady(t, m, "inventory")
	row := difference(t, m, projections.DiffOptions{}).Models[0].Rows[0]
	require.Equal(t, []any{"totals", projections.HowUnknown, last}, []any{row.Table, row.How, row.Since.Position})
}

// It is the other row that is stale when the served one is right, even if that has
// come and gone.
func TestDiffOfARowThatIsRight(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(opened, linkedTo(events.SalesChannel, "shop"))
	b.record(events.LocationUnlinked{LocationID: "berlin", Kind: events.SalesChannel, ID: "shop"})
	again := b.record(linkedTo(events.SalesChannel, "shop"))
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	rebuilt(t, m, "inventory")
	vandalise(t, filepath.Join(dir, "inventory.v1.g2.db"), `DELETE FROM location_links`)
	row := difference(t, m, projections.DiffOptions{}).Models[0].Rows[0]
	require.Equal(t, []any{projections.RowExtra, projections.HowStale, again}, []any{row.Kind, row.How, row.Since.Position})
}

// When neither row is right, it is still known which event changed the row last.
func TestDiffOfRowsThatAreBothSpoilt(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin, atParis)
	last := b.record(held)
	b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-p", LocationID: "paris", Delta: units(1), Stocked: qty("2.5")})
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	rebuilt(t, m, "inventory")
	vandalise(t, servedFile(t, m, dir, "inventory"), `UPDATE levels SET version = 100 WHERE id = 'lev-b'`)
	vandalise(t, filepath.Join(dir, "inventory.v1.g2.db"), `UPDATE levels SET version = 200 WHERE id = 'lev-b'`)
	row := difference(t, m, projections.DiffOptions{}).Models[0].Rows[0]
	require.Equal(t, []any{"lev-b", projections.HowUnknown, last}, []any{row.Key, row.How, row.Since.Position})
}

// What events of other streams decide of a row does not hide what its own stream
// says of it.
func TestDiffOfARowThatOtherStreamsDecideToo(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	b.meta.Effective = start.Add(-time.Hour)
	b.record(events.ItemCreated{ItemID: "nuts"}, events.LevelCreated{ItemID: "nuts", LevelID: "lev-n", LocationID: "berlin", Stocked: units(1)})
	b.meta.Effective = time.Time{}
	prompt := b.record(events.StockAdjusted{ItemID: "nuts", LevelID: "lev-n", LocationID: "berlin", Delta: units(1), Stocked: units(2)})
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	vandalise(t, servedFile(t, m, dir, "movements"), `UPDATE levels SET prompt = NULL WHERE id = 'lev-n'`)
	rebuilt(t, m, "movements")
	d := difference(t, m, projections.DiffOptions{})
	require.Len(t, d.Models[0].Rows, 1)
	row := d.Models[0].Rows[0]
	require.Equal(t, []any{"lev-n", projections.HowStale, prompt}, []any{row.Key, row.How, row.Since.Position})
	require.Equal(t, map[string]projections.Change{"prompt": {Other: new("5")}}, row.Columns)
}

// Sums of backdated movements are the same however they were folded, and what is
// wrong in them is seen.
func TestDiffOfBuckets(t *testing.T) {
	t.Parallel()
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin, atParis)
	stocked := units(10)
	m := open(t, b.store, dir)
	defer m.Close()
	for n := range 2500 {
		stocked = stocked.Plus(units(1))
		b.meta.Effective = start.Add(-time.Duration(n*37%500) * time.Minute)
		b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: stocked})
		if n%150 == 0 {
			b.caughtUp(t, m)
		}
	}
	b.caughtUp(t, m)
	rebuilt(t, m, "movements")
	require.Zero(t, difference(t, m, projections.DiffOptions{}).Differing)
	vandalise(t, servedFile(t, m, dir, "movements"), `UPDATE buckets SET stocked = stocked + 5 WHERE id = (SELECT max(id) FROM buckets)`)
	d := difference(t, m, projections.DiffOptions{})
	require.Equal(t, map[string][3]uint64{"buckets": {1, 0, 0}}, counted(d.Models[0]))
	row := d.Models[0].Rows[0]
	require.Equal(t, []string{"5", "unknown", "item-bolts"}, []string{row.By, row.How, row.Since.Stream})
}

// What a difference is to programs.
func TestDifferenceAsJSON(t *testing.T) {
	d, _ := spoilt(t, "inventory", `UPDATE links SET required_quantity = 'Q3'`)
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(asJSON(t, d)), &got))
	rows, err := json.Marshal(got["rows"])
	require.NoError(t, err)
	require.JSONEq(t, `[{"table":"links","key":"v1/bolts","kind":"different","by":"1","how":"unknown",
		"columns":{"required_quantity":{"served":"3","other":"2"}},
		"since":{"position":10,"stream":"variant-v1","version":1,"type":"inventory.item-linked.v1","recorded_at":"2026-03-01T09:00:06Z",
			"command_id":"command-6","command":"adjust-inventory-levels","actor":"ann","reason":"count","reference":"doc-1"}}]`, string(rows))
	require.Equal(t, map[string]any{"generation": 1.0, "version": 1.0, "state": "serving"}, got["served"])
	require.Equal(t, map[string]any{"generation": 2.0, "version": 1.0, "state": "ready"}, got["other"])
	require.Equal(t, map[string]any{"table": "links", "equal": 0.0, "different": 1.0, "missing": 0.0, "extra": 0.0, "named": 1.0}, got["tables"].([]any)[2])
}

package projections_test

import (
	"database/sql"
	"fmt"
	"iter"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// snapshot takes one that the test closes.
func snapshot(t testing.TB, m *projections.Models) *projections.Snapshot {
	t.Helper()
	s, err := m.Snapshot(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// rowsOf are rows as one text each: the key, what made it, and the columns.
func rowsOf(t testing.TB, s *projections.Snapshot, rows iter.Seq2[projections.Row, error]) (all []string) {
	t.Helper()
	columns := make(map[string][]string)
	for _, table := range s.Tables() {
		columns[table.Model+table.Name] = table.Columns
	}
	for row, err := range rows {
		require.NoError(t, err)
		text := fmt.Sprintf("%s of %d:", row.Key, row.Position)
		for i, column := range columns[row.Model+row.Table] {
			if row.Values[i].Valid {
				text += " " + column + "=" + row.Values[i].String
			}
		}
		all = append(all, text)
	}
	return all
}

// servedFile is the file of the generation of a model that is served.
func servedFile(t testing.TB, m *projections.Models, dir, model string) string {
	t.Helper()
	all, err := m.Generations(t.Context())
	require.NoError(t, err)
	for _, g := range all {
		if g.Model == model && g.State == projections.Serving {
			if g.Number == 1 {
				return filepath.Join(dir, fmt.Sprintf("%s.v%d.db", model, g.Version))
			}
			return filepath.Join(dir, fmt.Sprintf("%s.v%d.g%d.db", model, g.Version, g.Number))
		}
	}
	require.Fail(t, "not served", model)
	return ""
}

// vandalise changes a file behind the back of the models.
func vandalise(t testing.TB, file, statement string, args ...any) {
	t.Helper()
	db := sql.OpenDB(projections.Connect(file))
	defer db.Close()
	_, err := db.Exec(`PRAGMA busy_timeout = 5000`)
	require.NoError(t, err)
	done, err := db.Exec(statement, args...)
	require.NoError(t, err)
	n, err := done.RowsAffected()
	require.NoError(t, err)
	require.NotZero(t, n, statement)
}

// Whoever adds a table or a column says in shapes what it means.
func TestSnapshotKnowsEveryColumn(t *testing.T) {
	s := snapshot(t, newBook().models(t))
	for _, table := range s.Tables() {
		require.ElementsMatch(t, table.Columns, projections.KnownColumns(table.Model, table.Name), "%s.%s", table.Model, table.Name)
		require.NotEmpty(t, table.Key, "%s.%s", table.Model, table.Name)
	}
	require.Len(t, s.Tables(), projections.KnownTables())
}

func TestSnapshotShowsPlainValues(t *testing.T) {
	b := newBook()
	b.meta.Actor = "ann"
	b.record(bolts, atBerlin)
	b.meta.Effective = start.Add(-time.Hour)
	b.record(held)
	b.meta.Effective = time.Time{}
	b.record(opened, events.LocationLinked{LocationID: "berlin", Kind: events.SalesChannel, ID: "shop"})
	s := snapshot(t, b.models(t))
	require.Equal(t, uint64(5), s.Position())
	for table, want := range map[string][]string{
		"inventory items": {`bolts of 1: position=1 id=bolts sku=B-8 title=Bolts weight=0.25 requires_shipping=true metadata={"a":1} ` +
			`created_at=2026-03-01T09:00:01Z updated_at=2026-03-01T09:00:01Z`},
		"inventory totals": {`bolts of 1: position=1 stocked_quantity=10 reserved_quantity=4 incoming_quantity=2 available_quantity=6 version=3`},
		"inventory levels": {`lev-b of 2: position=2 id=lev-b inventory_item_id=bolts location_id=berlin stocked_quantity=10 reserved_quantity=4 ` +
			`incoming_quantity=2 available_quantity=6 version=3 created_at=2026-03-01T09:00:01Z updated_at=2026-03-01T09:00:02Z`},
		"inventory location_links": {`sales_channel/shop/berlin of 0: kind=sales_channel id=shop location_id=berlin`},
		"movements movements": {
			`4 of 2: id=4 level=2 place=2 kind=level-created delta_stocked=10 delta_reserved=0 delta_incoming=2 stocked=10 reserved=0 incoming=2 ` +
				`place_stocked=10 place_reserved=0 dated_stocked=0 dated_reserved=0 dated_incoming=0`,
			`6 of 3: id=6 level=2 place=2 kind=reservation-created reservation_id=r1 delta_stocked=0 delta_reserved=4 delta_incoming=0 ` +
				`stocked=10 reserved=4 incoming=2 place_stocked=10 place_reserved=4 effective_at=2026-03-01T08:00:00Z dated=1 ` +
				`dated_stocked=0 dated_reserved=4 dated_incoming=0`,
		},
		"movements backdated": {`2/2026-03-01T08:00:00Z/6 of 3: level=2 effective_at=2026-03-01T08:00:00Z id=6 stocked=0 reserved=4 incoming=0`},
		"movements commands": {
			`command-1 of 2: position=2 events=2 command_id=command-1 command=adjust-inventory-levels digest=d1 actor=ann ` +
				`recorded_at=2026-03-01T09:00:01Z effective_at=2026-03-01T09:00:01Z`,
			`command-2 of 3: position=3 events=1 command_id=command-2 command=adjust-inventory-levels digest=d1 actor=ann ` +
				`recorded_at=2026-03-01T09:00:02Z effective_at=2026-03-01T08:00:00Z`,
			`command-3 of 5: position=5 events=2 command_id=command-3 command=adjust-inventory-levels digest=d1 actor=ann ` +
				`recorded_at=2026-03-01T09:00:03Z effective_at=2026-03-01T09:00:03Z`,
		},
	} {
		var model, name string
		_, err := fmt.Sscan(table, &model, &name)
		require.NoError(t, err)
		require.Equal(t, want, rowsOf(t, s, s.Rows(t.Context(), model, name, 0, 0)), table)
	}
}

func TestSnapshotFindsRows(t *testing.T) {
	b := newBook()
	b.record(bolts)
	b.record(atBerlin, atParis)
	b.record(held)
	s := snapshot(t, b.models(t))
	made := func(model, table string, from, to uint64) (at []uint64) {
		for row, err := range s.Rows(t.Context(), model, table, from, to) {
			require.NoError(t, err)
			at = append(at, row.Position)
		}
		return at
	}
	require.Equal(t, []uint64{2, 3}, made("inventory", "levels", 0, 0))
	require.Equal(t, []uint64{3}, made("inventory", "levels", 3, 0))
	require.Equal(t, []uint64{2}, made("inventory", "levels", 1, 2))
	require.Equal(t, []uint64{3, 4}, made("movements", "movements", 3, 4))
	require.Equal(t, []uint64{2}, made("movements", "movements", 0, 2))
	found := func(model, table, column, value string) (keys []string) {
		for row, err := range s.RowsWhere(t.Context(), model, table, column, value) {
			require.NoError(t, err)
			keys = append(keys, row.Key)
		}
		return keys
	}
	require.Equal(t, []string{"lev-b", "lev-p"}, found("inventory", "levels", "inventory_item_id", "bolts"))
	require.Equal(t, []string{"lev-p"}, found("inventory", "levels", "stocked_quantity", "1.5"))
	require.Equal(t, []string{"lev-b"}, found("inventory", "levels", "position", "2"))
	require.Equal(t, []string{"bolts"}, found("inventory", "items", "requires_shipping", "true"))
	require.Equal(t, []string{"bolts"}, found("inventory", "items", "created_at", "2026-03-01T09:00:01Z"))
	require.Equal(t, []string{"4", "8"}, found("movements", "movements", "level", "2"))
	require.Equal(t, []string{"8"}, found("movements", "movements", "kind", "reservation-created"))
	require.Empty(t, found("inventory", "levels", "id", "lev-x"))
	for _, err := range s.RowsWhere(t.Context(), "inventory", "levels", "colour", "red") {
		require.ErrorContains(t, err, "no column colour")
	}
	for _, err := range s.Rows(t.Context(), "inventory", "stores", 0, 0) {
		require.ErrorContains(t, err, "no table stores")
	}
}

// Rows may be looked up while others are being read, in as many places as need be.
func TestSnapshotIsReadInPlacesAtOnce(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin, atParis)
	s := snapshot(t, b.models(t))
	pairs := 0
	for range 2 { // the second time with the statements of the first
		for a, err := range s.Rows(t.Context(), "inventory", "levels", 0, 0) {
			require.NoError(t, err)
			for range s.Rows(t.Context(), "inventory", "levels", 0, 0) {
				for row, err := range s.RowsWhere(t.Context(), "inventory", "levels", "id", a.Key) {
					require.NoError(t, err)
					require.Equal(t, a, row)
					pairs++
				}
			}
		}
	}
	require.Equal(t, 8, pairs)
}

// A snapshot is of one position of all models, whatever is folded meanwhile.
func TestSnapshotStaysAsItWas(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin)
	m := b.models(t)
	s := snapshot(t, m)
	before := rowsOf(t, s, s.Rows(t.Context(), "inventory", "levels", 0, 0))
	b.record(held)
	b.record(atParis)
	b.caughtUp(t, m)
	require.Equal(t, before, rowsOf(t, s, s.Rows(t.Context(), "inventory", "levels", 0, 0)))
	require.Len(t, rowsOf(t, s, s.Rows(t.Context(), "movements", "movements", 0, 0)), 1)
	require.Equal(t, uint64(2), s.Position())
	now := snapshot(t, m)
	require.Equal(t, uint64(4), now.Position())
	require.Len(t, rowsOf(t, now, now.Rows(t.Context(), "movements", "movements", 0, 0)), 3)
}

func TestSnapshotThatIsClosed(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin, atParis)
	s, err := b.models(t).Snapshot(t.Context())
	require.NoError(t, err)
	var failed error
	for _, err := range s.Rows(t.Context(), "inventory", "levels", 0, 0) {
		failed = err
		require.NoError(t, s.Close())
	}
	require.ErrorContains(t, failed, "closed", "what is being read fails")
	require.NoError(t, s.Close())
	for _, err := range s.Rows(t.Context(), "inventory", "levels", 0, 0) {
		require.ErrorContains(t, err, "closed")
	}
}

// A value that its column cannot have is equal to no value that it can have.
func TestSnapshotShowsWhatIsUnreadable(t *testing.T) {
	b := newBook()
	b.record(bolts, atBerlin)
	dir := filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	vandalise(t, servedFile(t, m, dir, "inventory"), `UPDATE levels SET stocked_quantity = '10', reserved_quantity = 'S0', metadata = x'00', created_at = 'noon'`)
	vandalise(t, servedFile(t, m, dir, "movements"), `UPDATE movements SET delta_reserved = '0', stocked = '10.0', kind = 99`)
	s := snapshot(t, m)
	require.Equal(t, []string{`lev-b of 2: position=2 id=lev-b inventory_item_id=bolts location_id=berlin ` +
		`stocked_quantity=unreadable string "10" reserved_quantity=unreadable string "S0" incoming_quantity=2 available_quantity=10 ` +
		`metadata=unreadable []uint8 "[0]" version=2 created_at=unreadable string "noon" updated_at=2026-03-01T09:00:01Z`},
		rowsOf(t, s, s.Rows(t.Context(), "inventory", "levels", 0, 0)))
	movements := rowsOf(t, s, s.Rows(t.Context(), "movements", "movements", 0, 0))
	require.Contains(t, movements[0], `kind=unreadable int64 "99"`)
	require.Contains(t, movements[0], `delta_reserved=unreadable string "0"`)
	require.Contains(t, movements[0], ` stocked=unreadable string "10.0"`)
}

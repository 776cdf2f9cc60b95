package projections_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// Whenever the models are closed and opened again, every event counts once: the
// files hold what one fold from the start makes, and what plain maps hold.
func TestEveryEventCountsOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "") //nolint:usetesting // one for each of rapid's draws
		require.NoError(t, err)
		s := newShop()
		resumed := filepath.Join(dir, "resumed")
		held := rapid.SampledFrom([]int{1, 3, 1000}).Draw(rt, "rows in memory")
		reopen := func() *projections.Models {
			m, err := projections.Open(t.Context(), projections.Config{Dir: resumed, Store: s.store}.Holding(held))
			require.NoError(t, err)
			return m
		}
		var m *projections.Models
		for range rapid.IntRange(1, 60).Draw(rt, "commits") {
			if m == nil && rapid.IntRange(0, 4).Draw(rt, "open") == 0 {
				m = reopen()
			}
			s.happen(rt)
			if m != nil && rapid.IntRange(0, 15).Draw(rt, "close") == 0 {
				if rapid.Bool().Draw(rt, "caught up") {
					s.caughtUp(t, m)
				}
				require.NoError(t, m.Close())
				m = nil
			}
		}
		if m == nil {
			m = reopen()
		}
		s.caughtUp(t, m)
		s.compare(t, m)
		require.NoError(t, m.Close())

		fresh := open(t, s.store, filepath.Join(dir, "fresh"))
		s.caughtUp(t, fresh)
		require.NoError(t, fresh.Close())
		require.Equal(t, dump(t, filepath.Join(dir, "fresh")), dump(t, resumed))
	})
}

// compare checks the models against the plain maps.
func (s *shop) compare(t *testing.T, m *projections.Models) {
	t.Helper()
	all := projections.List{WithDeleted: true, Take: new(1000)}
	levels, err := m.ListLevels(t.Context(), all)
	require.NoError(t, err)
	require.Len(t, levels.Rows, len(s.levels))
	stocked, reserved, incoming := map[string]events.Quantity{}, map[string]events.Quantity{}, map[string]events.Quantity{}
	for _, got := range levels.Rows {
		want := s.levels[got.ID]
		require.Equal(t, asJSON(t, []any{want.item, want.location, want.stocked, want.reserved, want.incoming, want.stocked.Minus(want.reserved), want.deleted}),
			asJSON(t, []any{got.ItemID, got.LocationID, got.Stocked, got.Reserved, got.Incoming, got.Available, got.Deleted != nil}))
		if !want.deleted {
			add(stocked, got.ItemID, want.stocked)
			add(reserved, got.ItemID, want.reserved)
			add(incoming, got.ItemID, want.incoming)
		}
	}
	items, err := m.ListItems(t.Context(), all)
	require.NoError(t, err)
	require.Len(t, items.Rows, len(s.items))
	for i, got := range items.Rows {
		require.Equal(t, s.items[i], got.ID)
		require.Equal(t, asJSON(t, []any{stocked[got.ID], reserved[got.ID], incoming[got.ID], stocked[got.ID].Minus(reserved[got.ID])}),
			asJSON(t, []any{got.Stocked, got.Reserved, got.Incoming, got.Available}))
		require.Equal(t, s.last[events.ItemStream(got.ID)].Version, got.Version)

		history, err := m.StockHistory(t.Context(), projections.History{ItemID: projections.Names{got.ID}, Take: new(1000)})
		require.NoError(t, err)
		if n := len(history.Rows); n > 0 {
			last := history.Rows[n-1]
			require.Equal(t, asJSON(t, []any{got.Stocked, got.Reserved}), asJSON(t, []any{last.RunningStocked, last.RunningReserved}))
		}
	}
	reservations, err := m.ListReservations(t.Context(), all)
	require.NoError(t, err)
	require.Len(t, reservations.Rows, len(s.reservations))
	for _, got := range reservations.Rows {
		want := s.reservations[got.ID]
		require.Equal(t, asJSON(t, []any{want.level, want.quantity, want.status, want.status != "live"}),
			asJSON(t, []any{got.LevelID, got.Quantity, got.Status, got.Deleted != nil}))
	}
	links, err := m.ListLinks(t.Context(), projections.List{Take: new(1000)})
	require.NoError(t, err)
	require.Len(t, links.Rows, len(s.links))
	for _, got := range links.Rows {
		require.True(t, s.links[got.ItemID].Equal(got.Required))
	}
	commands, err := m.ListCommands(t.Context(), projections.List{Take: new(0)})
	require.NoError(t, err)
	require.Equal(t, uint64(s.commands), *commands.Count)
}

// The same with many events in a batch, all of them there before the models are.
func TestManyEvents(t *testing.T) {
	t.Parallel()
	b := newBook()
	const items = 2_000
	for i := range items {
		id := events.Units(int64(i)).String()
		b.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "l" + id, LocationID: "x", Stocked: units(1)},
			events.LevelCreated{ItemID: id, LevelID: "m" + id, LocationID: "y", Stocked: units(1)})
	}
	for i := range items {
		id := events.Units(int64(i)).String()
		b.record(events.StockAdjusted{ItemID: id, LevelID: "l" + id, LocationID: "x", Delta: units(int64(i)), Stocked: units(int64(i + 1))})
	}
	m := b.models(t)
	status, err := m.Status(t.Context())
	require.NoError(t, err)
	for _, s := range status {
		require.Equal(t, projections.ModelStatus{Name: s.Name, Version: 1, Generation: 1, Position: 4 * items, Head: 4 * items}, s)
	}
	for _, i := range []int64{0, 1, items / 2, items - 1} {
		id := units(i).String()
		it, err := m.RetrieveItem(t.Context(), id)
		require.NoError(t, err)
		require.True(t, it.Stocked.Equal(units(i+2)))
		page, err := m.ListItems(t.Context(), projections.List{Filter: map[string]any{"id": id}})
		require.NoError(t, err)
		require.True(t, page.Rows[0].Stocked.Equal(units(i+2)))
	}
}

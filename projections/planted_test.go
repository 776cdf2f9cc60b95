package projections_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// The model with the planted bug goes through a whole life of an item: wrong in
// its totals and nowhere else, and not stopped by what it is wrong about.
func TestPlantedBugIsInTotalsOnly(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	b.record(held)
	b.record(released)
	m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, Planted: true})
	require.NoError(t, err)
	defer m.Close()
	b.caughtUp(t, m)
	total := func() []string {
		it, err := m.ListItems(t.Context(), projections.List{WithDeleted: true})
		require.NoError(t, err)
		row := it.Rows[0]
		return []string{row.Stocked.String(), row.Reserved.String(), row.Incoming.String(), row.Available.String()}
	}
	require.Equal(t, []string{"10", "4", "2", "6"}, total(), "4 stay reserved")
	level, err := m.RetrieveLevel(t.Context(), "lev-b")
	require.NoError(t, err)
	require.Equal(t, "0", level.Reserved.String())
	status, err := m.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, 0, status[0].Version)

	b.record(berlinGone, boltsGone)
	b.caughtUp(t, m)
	require.Equal(t, []string{"0", "4", "0", "-4"}, total())
	b.record(events.ItemRestored{ItemID: "bolts", SKU: new("B-8")},
		events.LevelRestored{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Stocked: units(10), Incoming: units(2)})
	b.caughtUp(t, m)
	require.Equal(t, []string{"10", "4", "2", "6"}, total())
}

// Nothing but the configuration brings the bug, and what it leaves behind is built
// anew by itself without it.
func TestPlantedBugGoesWithTheConfiguration(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	b.record(held)
	b.record(released)
	reserved := func(m *projections.Models) string {
		it, err := m.ListItems(t.Context(), projections.List{})
		require.NoError(t, err)
		return it.Rows[0].Reserved.String()
	}
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.Equal(t, "0", reserved(m))
	require.NoError(t, m.Close())
	for _, planted := range []bool{true, false, true, false} {
		m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store, Planted: planted})
		require.NoError(t, err)
		want := map[bool]string{true: "4", false: "0"}[planted]
		until(t, "what is served was made with the configuration", func() bool { return reserved(m) == want })
		_, err = m.Rebuild(t.Context())
		require.NoError(t, err)
		untilReady(t, m, "inventory", "movements")
		_, err = m.Switch(t.Context(), false)
		require.NoError(t, err)
		require.Equal(t, want, reserved(m))
		require.NoError(t, m.Close())
	}
}

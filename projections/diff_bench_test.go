package projections_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// How long it takes to compare all rows of 100,000 movements of 1,000 levels with
// themselves, and to find since when one row of them all in one stream is apart.
func BenchmarkDiff(b *testing.B) {
	for _, items := range []int{1000, 1} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			s, dir := newBook(), filepath.Join(b.TempDir(), "models")
			stocked := make([]events.Quantity, items)
			for i := range items {
				id := fmt.Sprint("item-", i)
				s.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "l" + id, LocationID: "x"})
			}
			adjust := func(n int) {
				i := n % items
				id := fmt.Sprint("item-", i)
				stocked[i] = stocked[i].Plus(units(1))
				s.record(events.StockAdjusted{ItemID: id, LevelID: "l" + id, LocationID: "x", Delta: units(1), Stocked: stocked[i]})
			}
			adjust(0)
			s.record(
				events.ReservationCreated{ItemID: "item-0", LevelID: "litem-0", LocationID: "x", ReservationID: "r", Quantity: units(1), Stocked: stocked[0], Reserved: units(1)},
				events.ReservationReleased{ItemID: "item-0", LevelID: "litem-0", LocationID: "x", ReservationID: "r", Quantity: units(1), Stocked: stocked[0]})
			for n := range 100_000 {
				adjust(n)
			}
			m, err := projections.Open(b.Context(), projections.Config{Dir: dir, Store: s.store, Planted: true})
			require.NoError(b, err)
			s.caughtUp(b, m)
			require.NoError(b, m.Close())
			m, err = projections.Open(b.Context(), projections.Config{Dir: dir, Store: s.store, HoldRebuilt: true})
			require.NoError(b, err)
			defer m.Close()
			untilReady(b, m, "inventory")
			rebuilt(b, m, "movements")
			for b.Loop() {
				d, err := m.Diff(b.Context(), projections.DiffOptions{})
				require.NoError(b, err)
				require.Equal(b, uint64(1), d.Differing)
				require.Equal(b, projections.HowReplayed, d.Models[0].Rows[0].How)
			}
		})
	}
}

package projections_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// What it costs to read a row of a snapshot.
func BenchmarkSnapshotRows(b *testing.B) {
	s := newBook()
	for i := range 20_000 {
		id := fmt.Sprint("item-", i)
		s.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "l" + id, LocationID: "x", Stocked: units(int64(i))})
	}
	m := s.models(b)
	for _, table := range []string{"inventory levels", "inventory totals", "movements movements"} {
		b.Run(table, func(b *testing.B) {
			var model, name string
			_, err := fmt.Sscan(table, &model, &name)
			require.NoError(b, err)
			rows := 0
			for b.Loop() {
				snapshot, err := m.Snapshot(b.Context())
				require.NoError(b, err)
				for _, err := range snapshot.Rows(b.Context(), model, name, 0, 0) {
					require.NoError(b, err)
					rows++
				}
				require.NoError(b, snapshot.Close())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
		})
	}
}

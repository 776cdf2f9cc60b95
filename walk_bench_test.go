package stockledger_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

// What the walk over all rows takes from 64 callers, on a ledger that has 100,000
// rows at first: 20,000 items with their totals and levels, and what made them.
//
//	go test . -run XXX -bench Walk -benchtime 100000x -count 3
func BenchmarkWalk(b *testing.B) {
	const stocked = 20_000
	for _, walk := range []bool{false, true} {
		b.Run(fmt.Sprintf("walk=%t", walk), func(b *testing.B) {
			ledger, err := stockledger.Open(b.Context(), stockledger.Config{
				Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler), Walk: walk,
			})
			require.NoError(b, err)
			defer ledger.Close()
			for first := 0; first < stocked; first += 500 {
				lines := make([]string, 500)
				for i := range lines {
					lines[i] = fmt.Sprintf(`{"id":"item_%d","location_levels":[{"location_id":"paris","stocked_quantity":1}]}`, first+i)
				}
				seeded, err := ledger.DoJSON(b.Context(), commands.Envelope{}, "create-inventory-items", []byte("["+strings.Join(lines, ",")+"]"))
				require.NoError(b, err)
				require.NoError(b, ledger.Models().WaitFor(b.Context(), seeded.Position))
			}
			var next atomic.Int64
			var all sync.WaitGroup
			b.ResetTimer()
			for range 64 {
				all.Go(func() {
					one := events.Units(1)
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						_, err := ledger.Do(b.Context(), commands.Envelope{Key: fmt.Sprint("key-", n), Actor: "bench"},
							commands.AdjustInventoryLevels{Updates: []commands.Adjustment{{
								LevelName:  commands.LevelName{InventoryItemID: fmt.Sprint("item_", rand.IntN(stocked)), LocationID: "paris"},
								Adjustment: &one,
							}}})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			drift, walking := ledger.Drift()
			require.Equal(b, walk, walking)
			require.Zero(b, drift.Wrong)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(drift.Round), "rounds")
			b.ReportMetric(0, "ns/op")
		})
	}
}

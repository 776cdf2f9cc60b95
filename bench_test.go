package stockledger_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

// Adjustments through a whole ledger on disk, with its read models, each with an
// idempotency key. commands has the same without read models.
//
//	go test . -run XXX -bench LedgerAdjust -benchtime 50000x
func BenchmarkLedgerAdjust(b *testing.B) {
	const stocked = 10_000
	lines := make([]string, stocked)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"id":"item_%d","location_levels":[{"location_id":"paris","stocked_quantity":1}]}`, i)
	}
	for _, items := range []int{stocked, 1} {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("items=%d/callers=%d", items, callers), func(b *testing.B) {
				ledger, err := stockledger.Open(b.Context(), stockledger.Config{
					Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler),
				})
				require.NoError(b, err)
				defer ledger.Close()
				seeded, err := ledger.DoJSON(b.Context(), commands.Envelope{}, "create-inventory-items", []byte("["+strings.Join(lines, ",")+"]"))
				require.NoError(b, err)
				require.NoError(b, ledger.Models().WaitFor(b.Context(), seeded.Position))

				took := make([]time.Duration, b.N)
				var next atomic.Int64
				var all sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				used := cpu(b)
				for range callers {
					all.Go(func() {
						one := events.Units(1)
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							start := time.Now()
							_, err := ledger.Do(b.Context(), commands.Envelope{Key: fmt.Sprint("key-", n), Actor: "bench"},
								commands.AdjustInventoryLevels{Updates: []commands.Adjustment{{
									LevelName:  commands.LevelName{InventoryItemID: fmt.Sprint("item_", rand.IntN(items)), LocationID: "paris"},
									Adjustment: &one,
								}}})
							if err != nil {
								b.Error(err)
								return
							}
							took[n-1] = time.Since(start)
						}
					})
				}
				all.Wait()
				b.StopTimer()
				head, err := ledger.Events().Head(b.Context())
				require.NoError(b, err)
				start := time.Now()
				require.NoError(b, ledger.Models().WaitFor(b.Context(), head))
				b.ReportMetric((cpu(b)-used).Seconds()*1e6/float64(b.N), "cpu-µs/op")
				slices.Sort(took)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
				b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "models-behind-ms")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// cpu is what this process has taken of the processors so far, which says what a
// command costs also where others work on the machine.
func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

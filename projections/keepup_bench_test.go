package projections_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// processor is how long the process has computed, all threads together.
func processor() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkKeepUp folds adjustments of 10,000 items as they come, so many at a
// time, and says how much processor time one takes in both models.
//
//	go test ./projections -run xxx -bench KeepUp -benchtime 40000x
func BenchmarkKeepUp(b *testing.B) {
	const items = 10_000
	for _, together := range []int{50, 400, 2000, 4000, 8000} {
		b.Run(fmt.Sprint("together=", together), func(b *testing.B) {
			book := newBook()
			book.meta.Actor = "ann"
			id := func(n int) string { return fmt.Sprintf("iitem_0198c0de-0000-7000-8000-%012d", n) }
			for n := range items {
				book.record(events.ItemCreated{ItemID: id(n)}, events.LevelCreated{ItemID: id(n), LevelID: "ilev" + id(n)[5:], LocationID: "sloc_1"})
			}
			stocked := make([]int64, items)
			m := open(b, book.store, filepath.Join(b.TempDir(), "models"))
			defer m.Close()
			book.caughtUp(b, m)
			var spent time.Duration
			b.ResetTimer()
			for done := 0; done < b.N; done += together {
				var last uint64
				release := m.HoldAll(b)
				for i := range together {
					n := (done + i) * 7919 % items
					stocked[n]++
					book.meta.CommandID = fmt.Sprintf("0198c0df-%04d-7000-8000-%012d", (done+i)*31%10_000, done+i)
					book.meta.Digest = fmt.Sprintf("%064x", done+i)
					last = book.record(events.StockAdjusted{ItemID: id(n), LevelID: "ilev" + id(n)[5:], LocationID: "sloc_1", Delta: units(1), Stocked: units(stocked[n])})
				}
				was := processor()
				release()
				require.NoError(b, m.WaitFor(b.Context(), last))
				spent += processor() - was
			}
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N), "cpu-µs/event")
			b.ReportMetric(0, "ns/op")
		})
	}
}

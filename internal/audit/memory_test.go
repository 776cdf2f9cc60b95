package audit

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// What the books of Verify take in memory, by row: of items with three levels each,
// and a reservation of every second one. It makes the numbers in the comment of books.
func BenchmarkBooksMemory(b *testing.B) {
	const items = 50_000
	for b.Loop() {
		measure := func(what string, rows int, fill func(n int)) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for n := range items {
				fill(n)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(rows), "B/"+what)
		}
		bk := newBooks(newSeeds(), false)
		position := uint64(0)
		now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
		versions := make(map[string]uint64, items)
		apply := func(fact events.Fact) {
			position++
			now = now.Add(time.Millisecond)
			stream := streamOf(fact)
			versions[stream]++
			e := &entry{fact: fact, meta: events.Meta{Recorded: now}, at: now.UnixMicro()}
			e.Position, e.Stream, e.Version, e.Type = position, stream, versions[stream], fact.EventType()
			bk.apply(e)
			require.Empty(b, bk.problems)
		}
		for n := range items { // whose names are not the books'
			versions[events.ItemStream(fmt.Sprint("item", n))] = 0
		}
		id := func(n int) string { return fmt.Sprint("item", n) }
		measure("item", items, func(n int) {
			sku := fmt.Sprint("SKU", n)
			apply(events.ItemCreated{ItemID: id(n), Attributes: events.ItemAttributes{SKU: &sku}})
		})
		measure("level", 3*items, func(n int) {
			for _, place := range []string{"berlin", "paris", "oslo"} {
				apply(events.LevelCreated{
					ItemID: id(n), LevelID: fmt.Sprint("level", n, place), LocationID: place, Stocked: events.Units(int64(n % 1000)),
				})
			}
		})
		measure("reservation", items, func(n int) {
			apply(events.ReservationCreated{
				ItemID: id(n), LevelID: fmt.Sprint("level", n, "oslo"), LocationID: "oslo", ReservationID: fmt.Sprint("res", n),
				Quantity: events.Units(2), Stocked: events.Units(int64(n % 1000)), Reserved: events.Units(2),
			})
		})
		runtime.KeepAlive(bk)
		runtime.KeepAlive(versions)
	}
}

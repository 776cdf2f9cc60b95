package audit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/internal/audit"
)

// warehouse is a ledger of some 100,000 rows: items with three levels each, and
// changes of them.
func warehouse(b testing.TB, items, changes int) *stockledger.Ledger {
	ledger := open(b, b.TempDir())
	b.Cleanup(func() { require.NoError(b, ledger.Close()) })
	s := newShop(b, ledger, items, newSeed(b))
	const batch = 500
	for from := 0; from < items; from += batch {
		var all []object
		for n := from; n < min(items, from+batch); n++ {
			var levels []object
			for _, place := range []string{"berlin", "paris", "oslo"} {
				levels = append(levels, object{"location_id": place, "stocked_quantity": 1000})
			}
			all = append(all, object{"id": fmt.Sprint("item ", n), "sku": fmt.Sprint("SKU", n), "title": "Some item", "location_levels": levels})
		}
		s.do("create-inventory-items", all)
	}
	for from := 0; from < changes; from += batch {
		var all []object
		for range batch {
			all = append(all, object{
				"inventory_item_id": s.item(), "location_id": pick(s, []string{"berlin", "paris", "oslo"}), "adjustment": 1,
			})
		}
		s.do("adjust-inventory-levels", all)
	}
	s.settle()
	return ledger
}

func BenchmarkVerify(b *testing.B) {
	ledger := warehouse(b, 8000, 10_000)
	b.ReportAllocs()
	var report audit.Report
	for b.Loop() {
		report = verify(b, ledger)
		requireOK(b, report)
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(float64(report.Events)/seconds, "events/s")
	b.ReportMetric(float64(report.Rows), "rows")
}

// What a round costs when nobody rests: divided by the share it is how long it takes.
func BenchmarkWalkerRound(b *testing.B) {
	ledger := warehouse(b, 8000, 10_000)
	rounds := make(chan time.Duration)
	w := audit.StartWalker(audit.WalkerConfig{
		Store: ledger.Events(), Models: ledger.Models(), Every: 1000 * time.Hour,
		Wait: func(ctx context.Context, d time.Duration) {
			if d > time.Hour { // the rest between two rounds
				select {
				case rounds <- d:
				case <-ctx.Done():
				}
			}
		},
	})
	defer w.Close()
	<-rounds
	before := w.State()
	for b.Loop() {
		<-rounds
	}
	after := w.State()
	require.True(b, after.OK())
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(after.Rows-before.Rows), "ns/row")
	b.ReportMetric(float64(after.Rows-before.Rows)/float64(b.N), "rows")
}

package projections_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

const auditEvents = 1_000_000

// spread is a log of a million movements of 10,000 items at one busy location and
// 20 others, a twentieth of them backdated by up to a year. Nearly all are by
// one actor; another made three of them.
var spread = sync.OnceValue(func() *book {
	b := newBook()
	random := rand.New(rand.NewPCG(7, 7))
	const items = 10_000
	place := func(i int) string {
		if i%10 > 0 {
			return "busy"
		}
		return fmt.Sprint("place-", i%200)
	}
	for i := range items {
		id := fmt.Sprintf("item-%d", i)
		b.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "level-" + id, LocationID: place(i)})
	}
	stocked := make([]int64, items)
	for n := range auditEvents - items {
		i := random.IntN(items)
		stocked[i]++
		b.meta.Actor, b.meta.Reason, b.meta.Effective = "busy", "sale", time.Time{}
		b.meta.Reference = fmt.Sprint("invoice-", n/20)
		if n%330_000 == 1000 {
			b.meta.Actor = "rare"
		}
		if n%20 == 0 {
			b.meta.Effective = b.now.Add(-time.Duration(random.Int64N(int64(365 * 24 * time.Hour))))
		}
		id := fmt.Sprintf("item-%d", i)
		b.record(events.StockAdjusted{ItemID: id, LevelID: "level-" + id, LocationID: place(i), Delta: units(1), Stocked: units(stocked[i])})
	}
	return b
})

// hot is a log of a million movements of one level, each backdated by up to a year.
var hot = sync.OnceValue(func() *book {
	b := newBook()
	random := rand.New(rand.NewPCG(8, 8))
	b.record(events.ItemCreated{ItemID: "item-0"}, events.LevelCreated{ItemID: "item-0", LevelID: "level-item-0", LocationID: "busy"})
	for n := range auditEvents {
		b.meta.Effective = b.now.Add(-time.Duration(random.Int64N(int64(365 * 24 * time.Hour))))
		b.record(events.StockAdjusted{ItemID: "item-0", LevelID: "level-item-0", LocationID: "busy", Delta: units(1), Stocked: units(int64(n + 1))})
	}
	return b
})

// folded are the models of a book, and how long they took.
func folded(b *testing.B, from *book) *projections.Models {
	began := time.Now()
	m := open(b, from.store, filepath.Join(b.TempDir(), "models"))
	b.Cleanup(func() { require.NoError(b, m.Close()) })
	from.caughtUp(b, m)
	b.Logf("folded %d events a second", int(auditEvents/time.Since(began).Seconds()))
	return m
}

// percentiles runs a question b.N times and reports how long it took.
func percentiles(b *testing.B, ask func()) {
	took := make([]time.Duration, b.N)
	for i := range took {
		began := time.Now()
		ask()
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAsOf asks for levels at random instants of the log and the year before.
//
//	go test ./projections -run XXX -bench AsOf -benchtime 2000x
func BenchmarkAsOf(b *testing.B) {
	for _, log := range []struct {
		name  string
		book  func() *book
		items int
	}{{"spread", spread, 10_000}, {"hot", hot, 1}} {
		b.Run(log.name, func(b *testing.B) {
			from := log.book()
			m := folded(b, from)
			for _, clock := range []string{projections.Recorded, projections.Effective} {
				b.Run(clock, func(b *testing.B) {
					random := rand.New(rand.NewPCG(1, 1))
					percentiles(b, func() {
						at := from.now.Add(-time.Duration(random.Int64N(int64(400 * 24 * time.Hour))))
						if random.IntN(2) == 0 {
							at = start.Add(time.Duration(random.Int64N(int64(from.now.Sub(start)))))
						}
						_, err := m.AsOf(b.Context(), projections.AsOf{
							LevelID: fmt.Sprint("level-item-", random.IntN(log.items)), At: &at, Clock: clock,
						})
						require.NoError(b, err)
					})
				})
			}
		})
	}
}

// BenchmarkHistory asks for pages of 50 of a million movements.
//
//	go test ./projections -run XXX -bench History -benchtime 200x
func BenchmarkHistory(b *testing.B) {
	from := spread()
	m := folded(b, from)
	var head uint64 = 1_000_000
	for _, bc := range []struct {
		name string
		ask  projections.History
	}{
		{"item", projections.History{ItemID: projections.Names{"item-77"}}},
		{"busy-location", projections.History{LocationID: projections.Names{"busy"}}},
		{"busy-location-newest", projections.History{LocationID: projections.Names{"busy"}, Before: head}},
		{"busy-location-in-the-middle", projections.History{LocationID: projections.Names{"busy"}, After: head / 2}},
		{"rare-actor", projections.History{Actor: projections.Names{"rare"}}},
		{"busy-actor", projections.History{Actor: projections.Names{"busy"}}},
		{"busy-actor-newest", projections.History{Actor: projections.Names{"busy"}, Before: head}},
		{"both-actors", projections.History{Actor: projections.Names{"busy", "rare"}, After: head / 2}},
		{"busy-actor-of-an-item", projections.History{Actor: projections.Names{"busy"}, ItemID: projections.Names{"item-77"}}},
		{"rare-actor-at-the-busy-location", projections.History{Actor: projections.Names{"rare"}, LocationID: projections.Names{"busy"}}},
		{"reason", projections.History{Reason: projections.Names{"sale"}}},
		{"reference", projections.History{Reference: projections.Names{"invoice-777"}}},
		{"kind", projections.History{Kind: projections.Names{"level-created"}, Before: head}},
		{"recorded-hour", projections.History{RecordedFrom: new(start.Add(9e5 * time.Second)), RecordedBefore: new(start.Add(903_600 * time.Second))}},
		{"effective-hour", projections.History{EffectiveFrom: new(start.Add(9e5 * time.Second)), EffectiveBefore: new(start.Add(903_600 * time.Second))}},
		{"effective-a-year-ago", projections.History{EffectiveFrom: new(start.Add(-3000 * time.Hour)), EffectiveBefore: new(start.Add(-2990 * time.Hour))}},
		{"everything-newest", projections.History{Before: head}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			rows := 0
			percentiles(b, func() {
				page, err := m.StockHistory(b.Context(), bc.ask)
				require.NoError(b, err)
				rows = len(page.Rows)
			})
			b.ReportMetric(float64(rows), "rows")
		})
	}
}

package commands_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/sqlitestore"
)

const benchItems = 10_000

// Adjustments through the Go API, each with an idempotency key: over 10,000 items
// or on one, by so many callers at once. Without read models; the root has the
// same with them.
//
//	go test ./commands -run XXX -bench Adjust -benchtime 20000x
func BenchmarkAdjust(b *testing.B) {
	for _, store := range []struct {
		name string
		open func(b *testing.B) events.Store
	}{
		{"memory", func(*testing.B) events.Store { return memstore.New() }},
		{"sqlite", func(b *testing.B) events.Store {
			s, err := sqlitestore.Open(filepath.Join(b.TempDir(), "log.db"))
			require.NoError(b, err)
			return s
		}},
	} {
		for _, items := range []int{benchItems, 1} {
			for _, callers := range []int{1, 16, 64} {
				b.Run(fmt.Sprintf("%s/items=%d/callers=%d", store.name, items, callers), func(b *testing.B) {
					log := store.open(b)
					defer log.Close()
					var groups atomic.Int64
					engine, err := commands.Open(b.Context(), commands.Config{
						Store: log, Index: upToDate{store: log}, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
						Observe: func(int, int, time.Duration) { groups.Add(1) },
					})
					require.NoError(b, err)
					defer engine.Close()
					seed, err := commands.Decode("create-inventory-items", manyItems())
					require.NoError(b, err)
					_, err = engine.Do(b.Context(), commands.Envelope{}, seed)
					require.NoError(b, err)
					measure(b, callers, func(n int64) error {
						_, err := engine.Do(b.Context(), commands.Envelope{Key: fmt.Sprint("key-", n), Actor: "bench"}, adjustOne(items))
						return err
					})
					b.ReportMetric(float64(b.N)/float64(groups.Load()), "commands/group")
				})
			}
		}
	}
}

// upToDate is an index that claims to know everything, so that the engine need
// not remember it. The keys of a benchmark are used once.
type upToDate struct {
	noIndex
	store events.Store
}

func (x upToDate) Position() uint64 {
	head, err := x.store.Head(context.Background())
	if err != nil {
		return 0
	}
	return head
}

func manyItems() []byte {
	lines := make([]string, benchItems)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"id":"item_%d","location_levels":[{"location_id":"paris","stocked_quantity":1}]}`, i)
	}
	return []byte("[" + strings.Join(lines, ",") + "]")
}

func adjustOne(items int) commands.Command {
	one := events.Units(1)
	return commands.AdjustInventoryLevels{Updates: []commands.Adjustment{{
		LevelName:  commands.LevelName{InventoryItemID: fmt.Sprint("item_", rand.IntN(items)), LocationID: "paris"},
		Adjustment: &one,
	}}}
}

// measure carries out b.N commands by so many callers, and reports how many a
// second, and how long 99 of 100 took at most.
func measure(b *testing.B, callers int, do func(n int64) error) {
	b.Helper()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	used := cpu(b)
	together(callers, func(int) {
		for {
			n := next.Add(1)
			if n > int64(b.N) {
				return
			}
			start := time.Now()
			if err := do(n); err != nil {
				b.Error(err)
				return
			}
			took[n-1] = time.Since(start)
		}
	})
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric((cpu(b)-used).Seconds()*1e6/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// cpu is what this process has taken of the processors so far, which says what a
// command costs also where others work on the machine.
func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

package storetest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

const (
	benchGroup   = 64     // commits per append, as 64 waiting callers make them
	benchStreams = 10_000 // that they are spread over
)

var benchLog = flag.Int("log", 100_000, "events in the log that the reading benchmarks read")

// Benchmark measures commits of one event, of about 250 B and 500 B metadata,
// and reads of a long log. One operation is one commit or one event. The log
// that is read has -log events. open makes an empty log for one benchmark.
func Benchmark(b *testing.B, open func(b *testing.B) events.Store) {
	b.Run("append/group=64/streams=10000", func(b *testing.B) { benchAppend(b, open(b), benchGroup, benchStreams) })
	b.Run("append/group=64/streams=1", func(b *testing.B) { benchAppend(b, open(b), benchGroup, 1) })
	b.Run("append/group=1/streams=10000", func(b *testing.B) { benchAppend(b, open(b), 1, benchStreams) })

	s := open(b)
	work := NewWork(benchStreams)
	for n := 0; n < *benchLog; n += 1000 {
		if _, err := s.Append(b.Context(), work.Commits(1000)...); err != nil {
			b.Fatal(err)
		}
	}
	b.Run(fmt.Sprintf("read/streams of %d", *benchLog/benchStreams), func(b *testing.B) {
		n := 0
		for range b.N {
			for _, err := range s.Read(b.Context(), work.stream(rand.IntN(benchStreams)), 0) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	})
	b.Run("subscribe/from 0", func(b *testing.B) {
		for left := b.N; left > 0; left -= *benchLog {
			if _, err := tryAll(b.Context(), s, 0, min(left, *benchLog)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}

func benchAppend(b *testing.B, s events.Store, group, streams int) {
	commits := NewWork(streams).Commits(b.N)
	var slowest time.Duration
	b.ResetTimer()
	for at := 0; at < len(commits); at += group {
		began := b.Elapsed()
		if _, err := s.Append(b.Context(), commits[at:min(at+group, len(commits))]...); err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, b.Elapsed()-began)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(slowest.Seconds()*1e3, "slowest-ms")
}

// Work makes commits of one event, spread evenly over a number of streams in
// random order.
type Work struct {
	random *rand.Rand
	last   []events.Recorded
}

// NewWork begins as many streams.
func NewWork(streams int) *Work {
	return &Work{random: rand.New(rand.NewPCG(1, 2)), last: make([]events.Recorded, streams)}
}

func (w *Work) stream(i int) string { return fmt.Sprintf("item-iitem_01JNQ4Y5ZK3R8M%08d", i) }

// Commits makes the next n commits.
func (w *Work) Commits(n int) []events.Commit {
	commits := make([]events.Commit, n)
	for k := range commits {
		i := w.random.IntN(len(w.last))
		prev := &w.last[i]
		item := strings.TrimPrefix(w.stream(i), "item-")
		e, err := events.Record(w.stream(i), prev.Version, prev.Hash, events.StockAdjusted{
			ItemID: item, LevelID: "ilev_01JNQ4Y5ZK3R8MX7S6T5V4W3B2", LocationID: "sloc_01JNQ4Y5ZK3R8MX7S6T5V4W3B2",
			Delta: events.Units(-3), Stocked: events.Units(9_997), Reserved: events.Units(12),
		}, &events.Meta{
			EventID: uuid.NewString(), Command: "adjust-inventory-levels", CommandID: uuid.NewString(),
			Digest:      "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
			Correlation: "order-2026-000123", Actor: "warehouse-app", Reason: "cycle count", Reference: "urn:count:2026-03-01:17",
			Recorded: start.Add(time.Duration(k) * time.Microsecond),
			Answer:   []byte(`{"levels":[{"id":"ilev_01JNQ4Y5ZK3R8MX7S6T5V4W3B2","stocked_quantity":9997,"reserved_quantity":12}]}`),
		})
		if err != nil {
			panic(err)
		}
		w.last[i] = events.Recorded{Version: e.Version, Hash: e.Hash}
		commits[k] = events.Commit{e}
	}
	return commits
}

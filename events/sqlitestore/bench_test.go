package sqlitestore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/events/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B) events.Store {
		s, err := sqlitestore.Open(filepath.Join(b.TempDir(), "log.db"))
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, s.Close()) })
		return s
	})
}

// BenchmarkPlainFile is what the store is measured against: the same bytes at
// the end of a file, with one fsync per group.
func BenchmarkPlainFile(b *testing.B) {
	const group = 64
	b.Run("append/group=64/streams=10000", func(b *testing.B) {
		commits := storetest.NewWork(10_000).Commits(b.N)
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		require.NoError(b, err)
		defer f.Close()
		var buffer []byte
		var slowest time.Duration
		b.ResetTimer()
		for at := 0; at < len(commits); at += group {
			began := b.Elapsed()
			buffer = buffer[:0]
			for _, c := range commits[at:min(at+group, len(commits))] {
				for _, e := range c {
					buffer = append(buffer, e.Stream...)
					buffer = append(buffer, e.Type...)
					buffer = append(buffer, e.Data...)
					buffer = append(buffer, e.Meta...)
					buffer = append(buffer, e.Prev[:]...)
					buffer = append(buffer, e.Hash[:]...)
				}
			}
			_, err := f.Write(buffer)
			require.NoError(b, err)
			require.NoError(b, f.Sync())
			slowest = max(slowest, b.Elapsed()-began)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		b.ReportMetric(slowest.Seconds()*1e3, "slowest-ms")
		b.ReportMetric(float64(len(buffer))/float64(max(1, (b.N-1)%group+1)), "B/commit")
	})
}

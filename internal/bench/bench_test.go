package bench_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/bench"
)

// newBench measures in a directory of the test's.
func newBench(t *testing.T) *bench.Bench {
	t.Helper()
	const seed = 1
	t.Logf("seed %d", seed)
	b, err := bench.Open(bench.Config{Dir: t.TempDir(), Seed: seed, Now: time.Now, NoPostgres: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// short is a load for tests: long enough for every kind of a mix.
var short = bench.Load{Callers: 8, Duration: 200 * time.Millisecond, WarmUp: 20 * time.Millisecond}

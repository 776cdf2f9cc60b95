package bench_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/bench"
)

// What a load was told is what the log and the read models have, whatever the way to
// the ledger: sums of what was acknowledged equal what is in stock and reserved.
func TestEveryAcknowledgedCommandOfALoadIsThereOnce(t *testing.T) {
	mix, err := bench.ParseMix("adjust=40,reserve=30,release=10,fulfil=10,read=10")
	require.NoError(t, err)
	for _, by := range []bench.Transport{bench.Go, bench.NATS, bench.HTTP} {
		t.Run(string(by), func(t *testing.T) {
			b := newBench(t)
			done, check, err := b.Rounds(t.Context(), by, mix, 8, 25)
			require.NoError(t, err)
			require.NoError(t, check.Err())
			require.Len(t, done, 5, "all kinds were done: %v", done)
			require.Equal(t, 8*25-done[bench.Read], check.Acknowledged)
			require.Equal(t, check.Acknowledged, check.Recorded)
			require.Equal(t, 20, check.Levels)
		})
	}
}

// What is acknowledged and not there is found: the check can fail.
func TestALostCommandIsFound(t *testing.T) {
	check, err := newBench(t).Lose(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, check.Lost)
	require.Equal(t, 1, check.Wrong)
	require.ErrorContains(t, check.Err(), "1 acknowledged commands lost")
}

func TestMixesAreReadOrRefused(t *testing.T) {
	for text, want := range map[string]string{
		"adjust=100": "", "read=30, adjust=70": "", "adjust=50": "must be 100", "sell=100": "no kind", "adjust=x": "whole number",
		"adjust=50,adjust=50": "twice", "": "no kind", "adjust=-1,read=101": "whole number",
	} {
		mix, err := bench.ParseMix(text)
		if want != "" {
			require.ErrorContains(t, err, want, text)
			continue
		}
		require.NoError(t, err, text)
		again, err := bench.ParseMix(mix.String())
		require.NoError(t, err)
		require.Equal(t, mix, again)
	}
}

// The file has every byte that was acknowledged: RawFile fails when it has not.
func TestTheRawFileHasItsBytes(t *testing.T) {
	figures, err := newBench(t).RawFile(t.Context(), short, 818)
	require.NoError(t, err)
	require.GreaterOrEqual(t, figures.Group, 1.0)
}

func TestAnEchoIsMeasured(t *testing.T) {
	figures, err := newBench(t).Echo(t.Context(), short, bench.AllAdjust)
	require.NoError(t, err)
	require.Positive(t, figures.Done)
	require.Zero(t, figures.Errors, figures.Error)
}

// A private PostgreSQL is started, adjusted, compared with what was acknowledged, and
// gone afterwards with its directory.
func TestPostgreSQLIsMeasuredAndEnded(t *testing.T) {
	if _, err := exec.LookPath("postgres"); err != nil {
		t.Skip("there is no postgres on the path")
	}
	before, err := filepath.Glob("/tmp/stockledger-postgres-*")
	require.NoError(t, err)
	t.Chdir(t.TempDir()) // a relative directory must do
	require.NoError(t, os.Mkdir("disk", 0o700))
	b, err := bench.Open(bench.Config{Dir: "disk", Now: time.Now})
	require.NoError(t, err)
	defer b.Close()
	for _, oneStatement := range []bool{false, true} {
		figures, err := b.PostgreSQL(t.Context(), short, 20, oneStatement)
		require.NoError(t, err)
		require.Zero(t, figures.Errors, figures.Error)
	}
	require.NoError(t, b.Close())
	after, err := filepath.Glob("/tmp/stockledger-postgres-*")
	require.NoError(t, err)
	require.Subset(t, before, after)
}

// Nothing is left behind.
func TestNothingIsLeftInTheDirectory(t *testing.T) {
	dir := t.TempDir()
	b, err := bench.Open(bench.Config{Dir: dir, Now: time.Now, NoPostgres: true})
	require.NoError(t, err)
	report, err := b.Load(t.Context(), bench.LoadConfig{Load: short, Items: 5, Mix: bench.AllAdjust, Transport: bench.Go})
	require.NoError(t, err)
	require.NoError(t, report.Err())
	require.NoError(t, b.Close())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/chaos"
)

// A server that is killed under load loses nothing that it acknowledged and does
// nothing twice. `make chaos` kills it 500 times.
func TestChaosLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	report := breakLedger(t, chaos.Config{Rounds: 6, Callers: 8, Items: 50, Least: 100 * time.Millisecond, Most: 500 * time.Millisecond})
	require.Equal(t, 6, report.Points["at random"])
}

// The same at every moment that has a name, from the write to the switch of read
// models.
func TestChaosAtNamedPointsLosesNothing(t *testing.T) {
	if os.Getenv("STOCKLEDGER_TEST_CHAOS") == "" {
		t.Skip("takes minutes; STOCKLEDGER_TEST_CHAOS=1 runs it, and so does make chaos")
	}
	t.Parallel()
	report := breakLedger(t, chaos.Config{Rounds: len(chaos.PointNames()), Callers: 32, Items: 200, Points: true})
	for _, at := range chaos.PointNames() {
		require.Equal(t, 1, report.Points[at], at)
	}
}

// A chaos that is itself killed, and so cannot end its server, takes it along.
func TestTheServerOfAChaosThatIsKilledEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parent := exec.CommandContext(t.Context(), "stockledger", "chaos", "--dir", dir, "--every", "1h")
	require.NoError(t, parent.Start())
	at, err := waitReady(filepath.Join(dir, "ready.json"))
	require.NoError(t, errors.Join(err, parent.Process.Kill()))
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(at.PID, syscall.SIGKILL)
		}
	})
	require.ErrorContains(t, parent.Wait(), "signal: killed")
	where, err := url.Parse(at.NATS)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", where.Host)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, patienceInTests, 10*time.Millisecond, "the server goes on")
}

// breakLedger runs the program that the test binary also is.
func breakLedger(t *testing.T, config chaos.Config) chaos.Report {
	t.Helper()
	program, err := exec.LookPath("stockledger")
	require.NoError(t, err)
	config.Program, config.Dir, config.Now = program, filepath.Join(t.TempDir(), "chaos"), time.Now
	config.Seed = numberFrom("STOCKLEDGER_TEST_SEED", uint64(time.Now().UnixNano()))
	t.Logf("seed %d; STOCKLEDGER_TEST_SEED=%d draws the same again", config.Seed, config.Seed)
	report, err := chaos.Run(t.Context(), config)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Zero(t, report.Lost)
	require.Zero(t, report.Doubled)
	require.Positive(t, report.Acknowledged)
	require.Equal(t, report.Events, report.Feed)
	t.Log(report.Sentence())
	return report
}

func TestDurationsAreReadInOrder(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]durations{
		"200ms..3s": {200 * time.Millisecond, 3 * time.Second},
		"1s":        {time.Second, time.Second},
	} {
		var d durations
		require.NoError(t, d.UnmarshalText([]byte(text)))
		require.Equal(t, want, d)
	}
	for _, text := range []string{"", "x", "3s..1s", "0s..1s", "1s..", "-1s..1s"} {
		require.Error(t, new(durations).UnmarshalText([]byte(text)), text)
	}
}

func TestChaosTellsItsFigures(t *testing.T) {
	t.Parallel()
	report := chaos.Report{
		Kills: 501, Early: 1, Points: map[string]int{"at random": 500}, Callers: 32, Acknowledged: 1_248_112,
		RestartMedian: 210 * time.Millisecond, RestartWorst: 600 * time.Millisecond, Restarts: 499, Seed: 7,
	}
	const sentence = "501 kills, 1,248,112 acknowledged, 0 lost, 0 doubled; restart median 0.21 s, worst 0.60 s"
	for _, c := range []chaosCommand{{}, {Markdown: true}, {JSON: true}} {
		var out strings.Builder
		require.NoError(t, c.tell(&out, report, time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)))
		require.Contains(t, out.String(), sentence)
		if c.JSON {
			var read struct {
				OK    bool `json:"ok"`
				Kills int  `json:"kills"`
			}
			require.NoError(t, json.Unmarshal([]byte(out.String()), &read))
			require.True(t, read.OK)
			require.Equal(t, 501, read.Kills)
		}
		if c.Markdown {
			require.Contains(t, out.String(), "| kills | 501 |\n")
			require.Contains(t, out.String(), "2026-11-22")
		}
	}
}

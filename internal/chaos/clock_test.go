package chaos

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
)

// Whatever the clock does, the order is that of positions, and recorded times grow:
// for each commit, and over restarts.
func TestRecordedTimesGrowWhenTheClockIsSetBackOrForwardOrStands(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	l := stocked(t, dir) // by the clock of this machine
	require.NoError(t, l.Close())
	for i, now := range []time.Time{
		start.Add(-time.Hour),     // set back
		start.AddDate(10, 0, 0),   // set forward by ten years
		start,                     // and corrected
		start.Add(-1),             // back a little
		time.Unix(0, 0).UTC(),     // a battery that is empty
		start.AddDate(10, 0, 0),   // forward again
		start.AddDate(10, 0, 0),   // to the same moment, where it stands
		start.Add(24 * time.Hour), // and right
	} {
		l, err := stockledger.Open(t.Context(), stockledger.Config{
			Dir: dir, Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		for n := range 3 {
			key := fmt.Sprintf("sale-%d-%d", i, n)
			first := sell(t, l, key, 1, 1)
			require.Equal(t, first.Position, sell(t, l, key, 1, 1).Position, "and nothing happens twice")
		}
		require.NoError(t, l.Close())
	}
	l, err := openLedger(t.Context(), dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	log, err := everything(t.Context(), l.Events())
	require.NoError(t, err)
	var last time.Time
	var commit string
	for i, e := range log {
		meta, err := e.Metadata()
		require.NoError(t, err)
		require.EqualValues(t, i+1, e.Position)
		if meta.CommandID == commit {
			require.Equal(t, last, meta.Recorded, "one commit is one moment")
		} else {
			require.True(t, meta.Recorded.After(last), "position %d: %s follows %s", e.Position, meta.Recorded, last)
		}
		last, commit = meta.Recorded, meta.CommandID
	}
	report, err := l.Verify(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report.Findings)
}

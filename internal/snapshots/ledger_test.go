package snapshots_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
)

// A whole ledger keeps snapshots in its data directory. It goes on as before when
// they are deleted under it, and when they are those of another ledger.
func TestALedgerKeepsSnapshotsAndNeedsNone(t *testing.T) {
	dir, otherDir := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "snapshots.db")
	l := openLedger(t, dir)
	for range 12 { // 100 events each
		l.adjustBy1(t, 100)
	}
	l.close(t)
	requireSnapshot(t, path, l.log, true)

	l = openLedger(t, dir)
	require.Equal(t, "1200", l.adjustBy1(t, 0))
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		require.NoError(t, os.Remove(name))
	}
	require.Equal(t, "1300", l.adjustBy1(t, 100))
	l.close(t)

	l = openLedger(t, dir)
	require.Equal(t, "1300", l.adjustBy1(t, 0), "replayed in full")
	l.close(t)
	requireSnapshot(t, path, l.log, true)

	other := openLedger(t, otherDir)
	require.Equal(t, "7", other.adjustBy1(t, 7))
	other.close(t)
	theirs, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(otherDir, "snapshots.db"), theirs, 0o600))
	other = openLedger(t, otherDir)
	require.Equal(t, "8", other.adjustBy1(t, 1))
	other.close(t)
	requireSnapshot(t, filepath.Join(otherDir, "snapshots.db"), other.log, false)
}

type ledger struct {
	*stockledger.Ledger
	log string
}

func openLedger(t *testing.T, dir string) *ledger {
	t.Helper()
	l, err := stockledger.Open(t.Context(), stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, err = l.DoJSON(t.Context(), commands.Envelope{Key: "create"}, "create-inventory-items",
		[]byte(`{"items":[{"id":"cup","location_levels":[{"location_id":"paris"}]}]}`))
	require.NoError(t, err)
	return &ledger{l, l.Events().LogID()}
}

func (l *ledger) close(t *testing.T) {
	t.Helper()
	require.NoError(t, l.Close())
}

// adjustBy1 adjusts the cup by 1 so many times, in one command, and says what
// there is.
func (l *ledger) adjustBy1(t *testing.T, times int) string {
	t.Helper()
	line := fmt.Sprintf(`{"inventory_item_id":"cup","location_id":"paris","adjustment":%d}`, min(times, 1))
	body := "[" + strings.Repeat(line+",", max(times, 1)-1) + line + "]"
	answer, err := l.DoJSON(t.Context(), commands.Envelope{}, "adjust-inventory-levels", []byte(body))
	require.NoError(t, err)
	var rows []commands.LevelRow
	require.NoError(t, json.Unmarshal(answer.Result, &rows))
	return rows[len(rows)-1].StockedQuantity.String()
}

// requireSnapshot checks that the file is of a log, and whether it has a snapshot
// of the cup.
func requireSnapshot(t *testing.T, path, log string, has bool) {
	t.Helper()
	f, said := open(t, path, log)
	_, found, err := f.Snapshot(t.Context(), "item-cup")
	require.NoError(t, err)
	require.Equal(t, has, found)
	require.Empty(t, said.text.String())
	require.NoError(t, f.Close())
}

package stockledger_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

func open(t *testing.T, dir string) *stockledger.Ledger {
	t.Helper()
	ledger, err := stockledger.Open(t.Context(), quiet(dir))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ledger.Close()) })
	return ledger
}

func quiet(dir string) stockledger.Config {
	return stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
}

const newMug = `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]}`

func TestSecondProcessOnTheSameDirectoryIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := stockledger.Open(t.Context(), quiet(dir))
	require.ErrorIs(t, err, events.ErrInUse)
	require.ErrorContains(t, err, filepath.Join(dir, "log.db"))
}

func TestReadModelsOfAnotherLogAreRefused(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	for _, dir := range []string{mine, other} {
		ledger, err := stockledger.Open(t.Context(), quiet(dir))
		require.NoError(t, err)
		answer, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
		require.NoError(t, err)
		require.NoError(t, ledger.Models().WaitFor(t.Context(), answer.Position))
		require.NoError(t, ledger.Close())
	}
	log, err := os.ReadFile(filepath.Join(other, "log.db"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(mine, "log.db"), log, 0o600))
	_, err = stockledger.Open(t.Context(), quiet(mine))
	require.ErrorIs(t, err, events.ErrOtherLog)
}

func TestSameKeySameAnswerAfterRestart(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	first, err := ledger.DoJSON(t.Context(), commands.Envelope{Key: "k"}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	require.NoError(t, ledger.Close())

	again, err := open(t, dir).DoJSON(t.Context(), commands.Envelope{Key: "k"}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	require.True(t, again.Replayed)
	require.Equal(t, first.Result, again.Result)
	require.Equal(t, first.Position, again.Position)
}

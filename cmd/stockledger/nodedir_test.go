package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/backup"
)

// A server that comes up by itself after a machine died in the middle of a restoration
// would answer that there is no stock, and take commands on it.
func TestNoLedgerBeginsWhereOneIsBeingPut(t *testing.T) {
	t.Parallel()
	for _, left := range []string{backup.Restoring, unfinishedImport + "1234", unfinishedCopy} {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, left), 0o700))
		config := hostConfig{dir: dir, listen: "127.0.0.1:0", logger: slog.New(slog.DiscardHandler)}
		_, err := openHost(t.Context(), config)
		require.ErrorContains(t, err, left)
		found, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, found, 1, "nothing keeps it from being put there")

		require.NoError(t, os.Remove(filepath.Join(dir, left)))
		h, err := openHost(t.Context(), config)
		require.NoError(t, err)
		require.NoError(t, h.Close())
		require.NoError(t, os.Mkdir(filepath.Join(dir, left), 0o700))
		h, err = openHost(t.Context(), config)
		require.NoError(t, err, "there is a ledger")
		require.NoError(t, h.Close())
	}
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/evidence"
)

// An import that is killed leaves no log, and nothing that is in the way of the
// next one.
func TestAKilledImportLeavesNoLog(t *testing.T) {
	t.Parallel()
	export := exported(t, 6000)
	data := filepath.Join(t.TempDir(), "data")
	killed := exec.CommandContext(t.Context(), "stockledger", "import-log", "-", "--data", data)
	stdin, err := killed.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, killed.Start())
	_, err = stdin.Write(export[:len(export)*3/4]) // it waits for the rest
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		begun, err := filepath.Glob(filepath.Join(data, unfinishedImport+"*", "log.db"))
		return err == nil && len(begun) == 1
	}, patienceInTests, 10*time.Millisecond)
	require.NoError(t, killed.Process.Kill())
	require.Error(t, killed.Wait())
	require.NoFileExists(t, filepath.Join(data, "log.db"))

	again := exec.CommandContext(t.Context(), "stockledger", "import-log", "-", "--data", data)
	again.Stdin = bytes.NewReader(export)
	said, err := again.CombinedOutput()
	require.NoError(t, err, "%s", said)
	log, err := sqlitestore.Open(filepath.Join(data, "log.db"))
	require.NoError(t, err)
	defer log.Close()
	var out bytes.Buffer
	_, err = evidence.Export(t.Context(), log, &out, nil)
	require.NoError(t, err)
	require.Equal(t, string(export), out.String())
}

// exported is a log of n events, as text.
func exported(t *testing.T, n int) []byte {
	t.Helper()
	log, err := sqlitestore.Open(filepath.Join(t.TempDir(), "log.db"))
	require.NoError(t, err)
	defer log.Close()
	commits := make([]events.Commit, n)
	for i := range commits {
		meta := &events.Meta{CommandID: fmt.Sprint("key-", i), Recorded: time.Unix(int64(i), 0).UTC()}
		e, err := events.Record(events.SKUStream(fmt.Sprint(i)), 0, events.Hash{}, events.SKUClaimed{SKU: fmt.Sprint(i)}, meta)
		require.NoError(t, err)
		commits[i] = events.Commit{e}
	}
	_, err = log.Append(t.Context(), commits...)
	require.NoError(t, err)
	var out bytes.Buffer
	_, err = evidence.Export(t.Context(), log, &out, nil)
	require.NoError(t, err)
	return out.Bytes()
}

// Who stops what is long is told that it is not done.
func TestWhatIsStoppedSaysThatItIsNotDone(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	data := filepath.Join(t.TempDir(), "data")
	var told strings.Builder
	code := run(ctx, []string{"stockledger", "import-log", "-", "--data", data}, func(string) string { return "" },
		bytes.NewReader(exported(t, 6000)), io.Discard, &told)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "stockledger: interrupted before it was done: context canceled\n", told.String())
	require.NoFileExists(t, filepath.Join(data, "log.db"))
}

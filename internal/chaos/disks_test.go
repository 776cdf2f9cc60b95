//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// mounted mounts a file system of some bytes in memory, or skips the test where that
// is not allowed.
func mounted(t *testing.T, bytes int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("only root may mount a small disk; run the test as root to see it")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// On a disk that is full commands are refused, each of them saying that it may be
// sent again, and reads go on. Nothing that was acknowledged is lost, and what was
// refused comes through when there is room, in the ledger that is open.
func TestADiskThatIsFullRefusesAndGoesOn(t *testing.T) {
	t.Parallel()
	dir := mounted(t, 5<<20)
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 3<<20), 0o600))
	l := stocked(t, filepath.Join(dir, "ledger"))
	defer func() { require.NoError(t, l.Close()) }()

	acknowledged := make(map[string]uint64)
	last, refusal := fill(t, l, acknowledged)
	require.Equal(t, fault.Unavailable, fault.Of(refusal).Kind, "%v", refusal)
	require.Equal(t, "outcome_unknown", fault.Code(refusal), "%v", refusal)
	answer, err := l.Query(t.Context(), "retrieve-inventory-item", []byte(`{"id":"mug"}`))
	require.NoError(t, err, "reads go on")
	require.NotNil(t, answer)
	events, err := everything(t.Context(), l.Events())
	require.NoError(t, err)
	require.NotEmpty(t, events)

	require.NoError(t, os.Remove(ballast))
	select {
	case <-l.Failed():
		t.Fatal("it has stopped")
	default:
	}
	sell(t, l, last, 1)
	for key, position := range acknowledged {
		answer := sell(t, l, key, 1)
		require.True(t, answer.Replayed, key)
		require.Equal(t, position, answer.Position, key)
	}
	report, err := l.Verify(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report.Findings)
}

// fill sells until that is refused, and says which sale it was and why.
func fill(t *testing.T, l *stockledger.Ledger, acknowledged map[string]uint64) (last string, refusal error) {
	t.Helper()
	const enough = 20_000
	for i := range enough {
		key := fmt.Sprintf("sale-%d", i)
		answer, err := l.DoJSON(t.Context(), commands.Envelope{Key: key}, "adjust-inventory-levels", []byte(sale(1)))
		if err != nil {
			return key, err
		}
		acknowledged[key] = answer.Position
	}
	t.Fatalf("%d sales fit on the disk", enough)
	return "", nil
}

// A ledger on a disk that cannot be written does not open, says so, and changes
// nothing: it opens as it was when the disk can be written again.
func TestADiskThatIsReadOnlyIsRefused(t *testing.T) {
	t.Parallel()
	disk := mounted(t, 32<<20)
	dir := filepath.Join(disk, "ledger")
	l := stocked(t, dir)
	sell(t, l, "sale", 1)
	want, err := everything(t.Context(), l.Events())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	before := filesOf(t, dir)

	require.NoError(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err = openLedger(t.Context(), dir)
	require.Error(t, err)
	require.ErrorContains(t, err, "read-only file system")
	require.Equal(t, before, filesOf(t, dir))

	require.NoError(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, ""))
	l, err = openLedger(t.Context(), dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	got, err := everything(t.Context(), l.Events())
	require.NoError(t, err)
	require.Len(t, got, len(want))
	require.True(t, sell(t, l, "sale", 1).Replayed)
}

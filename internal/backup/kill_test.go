//go:build unix

package backup_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/internal/backup"
	"github.com/stockledger/stockledger/internal/fault"
)

// The test binary runs itself as a child that backs up the ledger in a directory,
// and prints every stage it comes to.
const (
	childDir   = "STOCKLEDGER_TEST_CHILD_DIR"
	childTo    = "STOCKLEDGER_TEST_CHILD_TO"
	childLimit = "STOCKLEDGER_TEST_CHILD_LIMIT" // whether no file may get larger than half the log
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

func child(dir string) {
	l, err := stockledger.Open(context.Background(), stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	if os.Getenv(childLimit) != "" {
		limited(l, dir)
	}
	last := ""
	_, err = backup.Take(context.Background(), backup.Config{
		Store: l.Events(), Dir: dir, To: os.Getenv(childTo),
		Progress: func(stage string, _, _ uint64) {
			if stage != last {
				last = stage
				fmt.Println(stage)
			}
		},
	})
	fmt.Println("done:", err)
	os.Exit(0)
}

// limited backs up to a disk that is too small, and then uses the ledger.
func limited(l *stockledger.Ledger, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	info, err := os.Stat(filepath.Join(dir, "log.db"))
	if err != nil {
		panic(err)
	}
	limit(uint64(info.Size()) / 2)
	_, err = backup.Take(context.Background(), backup.Config{Store: l.Events(), Dir: dir, To: os.Getenv(childTo)})
	fmt.Println("code:", fault.Code(err))
	limit(1 << 62)
	fmt.Println("live:", do(context.Background(), l, "adjust-inventory-levels", `{"inventory_item_id":"item-0","location_id":"paris","adjustment":1}`))
	_, err = backup.Take(context.Background(), backup.Config{Store: l.Events(), Dir: dir, To: os.Getenv(childTo)})
	fmt.Println("again:", err)
	fmt.Println("close:", l.Close())
	os.Exit(0)
}

func limit(n uint64) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		panic(err)
	}
	l.Cur = min(n, l.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		panic(err)
	}
}

// start runs a child on the ledger in dir.
func start(t *testing.T, dir, to string, env ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), childDir+"="+dir, childTo+"="+to), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// filled is a directory with a ledger that nobody has open.
func filled(t *testing.T, items int) string {
	t.Helper()
	dir := t.TempDir()
	l, err := stockledger.Open(t.Context(), stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	stock(t, l, items)
	require.NoError(t, l.Close())
	return dir
}

func TestABackupThatIsKilledLeavesNothingToRestore(t *testing.T) {
	dir, place := filled(t, 40), t.TempDir()
	for _, to := range []string{"copy", "copy.tar"} {
		to := filepath.Join(place, to)
		for killed := 1; ; killed++ { // at its first stage, at its second, …
			cmd, lines := start(t, dir, to)
			for n := 0; n < killed && lines.Scan(); n++ {
				require.NotContains(t, lines.Text(), "open:")
			}
			over := lines.Text() == "done: <nil>"
			if !over {
				require.NoError(t, cmd.Process.Kill())
			}
			for lines.Scan() { // so that it can end
			}
			_ = cmd.Wait()
			if _, err := os.Stat(to); err == nil { // it was that far, and then it is whole
				_, err := backup.Restore(t.Context(), to, filepath.Join(t.TempDir(), "ledger"), nil)
				require.NoError(t, err)
				require.NoError(t, os.RemoveAll(to))
			}
			if over {
				require.Greater(t, killed, 4)
				require.Empty(t, names(t, place), "the next backup takes the place of what the dead left")
				break
			}
			if _, err := os.Stat(filepath.Join(to+".partial", "manifest.json")); err == nil {
				continue // everything was there but the name
			}
			_, err := backup.Restore(t.Context(), to+".partial", filepath.Join(t.TempDir(), "ledger"), nil)
			require.Contains(t, []string{"no_backup", "not_found"}, fault.Code(err), "%v", err)
		}
	}
}

func TestADiskThatTakesNoMoreLeavesTheLedgerAlone(t *testing.T) {
	dir, place := filled(t, 100), t.TempDir()
	cmd, lines := start(t, dir, filepath.Join(place, "copy"), childLimit+"=half")
	var told []string
	for lines.Scan() {
		told = append(told, lines.Text())
	}
	require.NoError(t, cmd.Wait())
	require.Equal(t, []string{"code: cannot_write", "live: <nil>", "again: <nil>", "close: <nil>"}, told)
	require.Equal(t, []string{"copy"}, names(t, place))
	report, err := open(t, dir).Verify(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, report.OK())
}

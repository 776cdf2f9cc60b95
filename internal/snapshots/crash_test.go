package snapshots_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/internal/snapshots"
)

// victim names the file that a process of this test writes until it is killed.
const victim = "STOCKLEDGER_TEST_SNAPSHOTS"

func TestMain(m *testing.M) {
	if path := os.Getenv(victim); path != "" {
		writeUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

// writeUntilKilled says each version that was kept.
func writeUntilKilled(path string) {
	f := snapshots.Open(context.Background(), snapshots.Config{Path: path, Log: "log 1", Logger: slog.Default()})
	for version := uint64(1); ; version++ {
		if err := f.Keep(context.Background(), snapshot("item-a", version)); err != nil {
			panic(err)
		}
		fmt.Println(version)
	}
}

func TestAProcessKilledWhileItWritesLeavesWholeSnapshots(t *testing.T) {
	path := newPath(t)
	for round := range 10 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), victim+"="+path)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		var last uint64
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if last, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				break // cut short by the kill
			}
			if last == uint64(20+3*round) {
				require.NoError(t, child.Process.Kill())
			}
		}
		require.Error(t, child.Wait(), "it was killed")

		f, said := open(t, path, "log 1")
		got, found, err := f.Snapshot(t.Context(), "item-a")
		require.NoError(t, err)
		require.True(t, found)
		require.GreaterOrEqual(t, got.Version, uint64(20+3*round))
		require.Equal(t, snapshot("item-a", got.Version), got)
		require.Empty(t, said.text.String())
		require.NoError(t, f.Close())
	}
}

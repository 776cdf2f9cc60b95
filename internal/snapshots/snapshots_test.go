package snapshots_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/snapshots"
)

// told is what a logger wrote.
type told struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *told) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// open opens a file, which is closed with the test at the latest.
func open(t *testing.T, path, log string) (*snapshots.File, *told) {
	t.Helper()
	said := new(told)
	f := snapshots.Open(t.Context(), snapshots.Config{Path: path, Log: log, Logger: slog.New(slog.NewTextHandler(said, nil))})
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f, said
}

func newPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "snapshots.db")
}

func snapshot(stream string, version uint64) commands.Snapshot {
	return commands.Snapshot{
		Stream: stream, Version: version, Hash: [32]byte{1, byte(version)}, Format: 7, Sum: [32]byte{2, byte(version)},
		State: []byte(strings.Repeat(fmt.Sprintf("%s at %d. ", stream, version), 2000)),
	}
}

func requireHolds(t *testing.T, f *snapshots.File, want commands.Snapshot) {
	t.Helper()
	got, found, err := f.Snapshot(t.Context(), want.Stream)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, want, got)
}

func requireNone(t *testing.T, f *snapshots.File, stream string) {
	t.Helper()
	_, found, err := f.Snapshot(t.Context(), stream)
	require.NoError(t, err)
	require.False(t, found)
}

func TestTheNewestSnapshotOfAStreamIsKept(t *testing.T) {
	path := newPath(t)
	f, said := open(t, path, "log 1")
	requireNone(t, f, "item-a")
	for version := range uint64(50) {
		require.NoError(t, f.Keep(t.Context(), snapshot("item-a", version)))
	}
	require.NoError(t, f.Keep(t.Context(), snapshot("item-ä b\x00c", 3)))
	requireHolds(t, f, snapshot("item-a", 49))
	require.NoError(t, f.Close())

	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(300<<10), "the older ones are gone, and their place is used again")
	require.Equal(t, os.FileMode(0o600), info.Mode())

	f, _ = open(t, path, "log 1")
	requireHolds(t, f, snapshot("item-a", 49))
	requireHolds(t, f, snapshot("item-ä b\x00c", 3))
	requireNone(t, f, "item-b")
	require.NoError(t, f.Discard(t.Context(), "item-a"))
	require.NoError(t, f.Discard(t.Context(), "item-b"))
	requireNone(t, f, "item-a")
	require.NoError(t, f.Keep(t.Context(), snapshot("item-a", 1)))
	requireHolds(t, f, snapshot("item-a", 1))
	require.Empty(t, said.text.String())
}

func TestSnapshotsOfAnotherLogAreThrownAway(t *testing.T) {
	path := newPath(t)
	f, _ := open(t, path, "log 1")
	require.NoError(t, f.Keep(t.Context(), snapshot("item-a", 1)))
	require.NoError(t, f.Close())
	f, said := open(t, path, "log 2")
	requireNone(t, f, "item-a")
	require.NoError(t, f.Keep(t.Context(), snapshot("item-b", 1)))
	require.Equal(t, 1, strings.Count(said.text.String(), "\n"), said.text.String())
	require.NoError(t, f.Close())
	f, _ = open(t, path, "log 2")
	requireNone(t, f, "item-a")
	requireHolds(t, f, snapshot("item-b", 1))
}

// Whatever a crash, a bad disk or somebody's tidying made of the file, it opens,
// and finds what was kept or nothing.
func TestASpoiltFileIsBegunAnew(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for name, spoil := range map[string]func(t *testing.T, path string, bytes []byte) []byte{
		"empty":              func(*testing.T, string, []byte) []byte { return nil },
		"no database":        func(*testing.T, string, []byte) []byte { return []byte("these are not the bytes of a database") },
		"torn at a page":     func(_ *testing.T, _ string, b []byte) []byte { return b[:len(b)/2/16384*16384] },
		"torn inside a page": func(_ *testing.T, _ string, b []byte) []byte { return b[:len(b)/2+100] },
		"its first page":     func(_ *testing.T, _ string, b []byte) []byte { return b[:16384] },
		"zeros": func(_ *testing.T, _ string, b []byte) []byte {
			clear(b[16384:])
			return b
		},
		"noise": func(_ *testing.T, _ string, b []byte) []byte {
			for range 200 {
				b[r.IntN(len(b))] = byte(r.Int())
			}
			return b
		},
		"another version": func(t *testing.T, path string, b []byte) []byte {
			b[63]++ // the user version
			return b
		},
		"deleted, but not what is beside it": func(t *testing.T, path string, b []byte) []byte {
			require.NoError(t, os.WriteFile(path+"-wal", b[:min(len(b), 40000)], 0o600))
			require.NoError(t, os.Remove(path))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			f, _ := open(t, path, "log 1")
			for i := range uint64(40) {
				require.NoError(t, f.Keep(t.Context(), snapshot(fmt.Sprint("item-", i), i)))
			}
			require.NoError(t, f.Close())
			bytes, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, spoil(t, path, bytes), 0o600))

			for range 3 {
				f, said := open(t, path, "log 1")
				for i := range uint64(40) {
					stream := fmt.Sprint("item-", i)
					got, found, err := f.Snapshot(t.Context(), stream)
					if err == nil && found && name != "noise" { // which the checksum is for
						require.Equal(t, snapshot(stream, got.Version), got)
					}
				}
				for i := range uint64(40) { // it may turn out only now
					_ = f.Keep(t.Context(), snapshot(fmt.Sprint("item-", i), 100+i))
				}
				for i := range uint64(40) {
					require.NoError(t, f.Keep(t.Context(), snapshot(fmt.Sprint("item-", i), 200+i)), said.text.String())
				}
				for i := range uint64(40) {
					if name != "noise" {
						requireHolds(t, f, snapshot(fmt.Sprint("item-", i), 200+i))
					}
				}
				require.NoError(t, f.Close())
			}
		})
	}
}

// A file that is deleted, or cannot be there at all, costs no more than what it held.
func TestWithoutAFileThereAreNoSnapshots(t *testing.T) {
	path := newPath(t)
	f, _ := open(t, path, "log 1")
	require.NoError(t, f.Keep(t.Context(), snapshot("item-a", 1)))
	require.NoError(t, os.Remove(path))
	_, _, err := f.Snapshot(t.Context(), "item-a")
	require.NoError(t, err)
	require.NoError(t, f.Keep(t.Context(), snapshot("item-a", 2)))
	require.NoError(t, f.Close())
	f, _ = open(t, path, "log 1")
	require.NoError(t, f.Keep(t.Context(), snapshot("item-a", 3)))
	requireHolds(t, f, snapshot("item-a", 3))
	require.NoError(t, f.Close())
	requireNone(t, f, "item-a")
	require.NoError(t, f.Keep(t.Context(), snapshot("item-a", 3)), "closed")

	f, said := open(t, filepath.Join(t.TempDir(), "none", "snapshots.db"), "log 1")
	requireNone(t, f, "item-a")
	require.NoError(t, f.Keep(t.Context(), snapshot("item-a", 3)))
	requireNone(t, f, "item-a")
	require.NoError(t, f.Discard(t.Context(), "item-a"))
	require.Contains(t, said.text.String(), "no snapshots are kept")
}

func TestManyUseTheFileAtOnce(t *testing.T) {
	f, said := open(t, newPath(t), "log 1")
	var all sync.WaitGroup
	for caller := range 8 {
		all.Go(func() {
			for i := range uint64(100) {
				stream := fmt.Sprint("item-", (uint64(caller)+i)%5)
				if caller == 0 {
					if err := f.Keep(t.Context(), snapshot(stream, i)); err != nil {
						t.Error(err)
					}
					continue
				}
				got, found, err := f.Snapshot(t.Context(), stream)
				if err != nil || found && got.Version >= 100 {
					t.Error(got.Version, err)
				}
			}
		})
	}
	all.Wait()
	require.Empty(t, said.text.String())
}

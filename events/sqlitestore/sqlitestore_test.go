package sqlitestore_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/events/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childLog); path != "" {
		child(path, os.Getenv(childRound))
	}
	goleak.VerifyTestMain(m)
}

func TestStore(t *testing.T) { run(t, sqlitestore.Open) }

// The same promises hold when nothing fits into memory and stream keys collide.
func TestStoreWithNarrowBounds(t *testing.T) {
	if testing.Short() {
		t.Skip("the suite a second time")
	}
	run(t, sqlitestore.OpenNarrow)
}

func run(t *testing.T, open func(path string) (*sqlitestore.Store, error)) {
	paths := make(map[events.Store]string)
	opened := func(t *testing.T, path string) events.Store {
		s, err := open(path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		paths[s] = path
		return s
	}
	storetest.Run(t,
		func(t *testing.T) events.Store { return opened(t, newPath(t)) },
		func(t *testing.T, s events.Store) events.Store {
			require.NoError(t, s.Close())
			return opened(t, paths[s])
		})
}

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "odd ?name%20#é.db") }

func open(t *testing.T, path string) *sqlitestore.Store {
	t.Helper()
	s, err := sqlitestore.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func mustAppend(t *testing.T, s events.Store, commits ...events.Commit) {
	t.Helper()
	_, err := s.Append(t.Context(), commits...)
	require.NoError(t, err)
}

func TestALogIsMadeWithAGivenIdentityOnce(t *testing.T) {
	path, id := newPath(t), "6f1c6f3a-54a4-4b7e-9d1b-2f8f8c1f0a11"
	s, err := sqlitestore.Create(path, id)
	require.NoError(t, err)
	require.Equal(t, id, s.LogID())
	require.NoError(t, s.Close())
	require.Equal(t, id, open(t, path).LogID())

	closed := newPath(t)
	require.NoError(t, open(t, closed).Close())
	_, err = sqlitestore.Create(closed, id)
	require.ErrorContains(t, err, "there is something in the file already")
	for _, odd := range []string{"", "x", "'); DROP TABLE events; --", strings.ToUpper(id), "{" + id + "}"} {
		_, err = sqlitestore.Create(newPath(t), odd)
		require.ErrorContains(t, err, "is no UUID")
	}
}

func TestSecondOpenerIsRefusedByName(t *testing.T) {
	path := newPath(t)
	first := open(t, path)
	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(path, link))
	for _, name := range []string{path, link} {
		_, err := sqlitestore.Open(name)
		require.ErrorIs(t, err, events.ErrInUse)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, strconv.Itoa(os.Getpid()))
	}
	mustAppend(t, first, new(storetest.Author).Commit("item-1")) // unharmed
	require.NoError(t, first.Close())
	require.NoError(t, open(t, link).Close())
}

func TestLockOfADeadProcessIsTaken(t *testing.T) {
	path := newPath(t)
	require.NoError(t, os.WriteFile(path+".lock", []byte("1\n"), 0o600))
	open(t, path)
	pid, err := os.ReadFile(path + ".lock")
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(os.Getpid())+"\n", string(pid))
}

func TestOpenRefusesWhatIsNotItsLog(t *testing.T) {
	for _, tc := range []struct {
		name, script, refusal string
	}{
		{"a newer format", "CREATE TABLE meta (name TEXT, value); INSERT INTO meta VALUES ('format', 2)", "written in format 2"},
		{"another program's file", "CREATE TABLE customers (id)", "not a log of Stockledger"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := newPath(t)
			query(t, path, tc.script)
			_, err := sqlitestore.Open(path)
			require.ErrorContains(t, err, tc.refusal)
			require.ErrorContains(t, err, path)
			_, err = sqlitestore.Open(path)
			require.NotErrorIs(t, err, events.ErrInUse, "the lock was kept")
		})
	}
	t.Run("not SQLite", func(t *testing.T) {
		path := newPath(t)
		require.NoError(t, os.WriteFile(path, []byte("sku,quantity\nbolt-m8,7\n"), 0o600))
		_, err := sqlitestore.Open(path)
		require.ErrorContains(t, err, "not a database")
	})
	t.Run("no directory", func(t *testing.T) {
		_, err := sqlitestore.Open(filepath.Join(t.TempDir(), "missing", "log.db"))
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("events cut off", func(t *testing.T) {
		path := newPath(t)
		s := open(t, path)
		mustAppend(t, s, new(storetest.Author).Commit("item-1", "item-2"))
		require.NoError(t, s.Close())
		query(t, path, "DELETE FROM events WHERE position = 2")
		_, err := sqlitestore.Open(path)
		require.ErrorContains(t, err, "events are missing")
	})
}

func TestCloseLeavesOneCompleteFile(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	work := storetest.NewWork(100)
	for range 5 {
		mustAppend(t, s, work.Commits(200)...)
	}
	require.NoError(t, s.Close())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.ElementsMatch(t, []string{filepath.Base(path), filepath.Base(path) + ".lock"}, names)
	require.Equal(t, "ok", query(t, path, "PRAGMA integrity_check"))
	require.EqualValues(t, 1000, query(t, path, `SELECT count(*) FROM places p JOIN events e USING (position) WHERE p.version = e.version`))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// Who follows old events and stalls holds a batch or two, however large they are.
func TestBatchesOfLargeEventsAreSmall(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	var commit events.Commit
	var prev events.Recorded
	const n = 100
	for i := range n {
		size := 60 << 10
		if i == n/2 {
			size = 3 << 20 // it comes all the same
		}
		e, err := events.Record("item-1", prev.Version, prev.Hash, events.ItemDeleted{ItemID: "item-1"},
			&events.Meta{EventID: strconv.Itoa(i), Command: "c", CommandID: "k", Reason: strings.Repeat("x", size), Part: i + 1, Parts: n})
		require.NoError(t, err)
		commit, prev = append(commit, e), e
	}
	mustAppend(t, s, commit)
	require.NoError(t, s.Close()) // and nothing is in memory
	at := uint64(0)
	for batch, err := range open(t, path).Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		size := 0
		for _, e := range batch[:len(batch)-1] {
			size += len(e.Data) + len(e.Meta)
		}
		require.Less(t, size, 1<<20, "before the last of %d events after %d", len(batch), at)
		if at = batch[len(batch)-1].Position; at == n {
			break
		}
	}
}

// However much the other connection moves meanwhile.
func TestWriteAheadLogStaysBounded(t *testing.T) {
	path := newPath(t)
	s, err := sqlitestore.OpenBounded(path)
	require.NoError(t, err)
	defer s.Close()
	work := storetest.NewWork(10)
	for range 150 {
		mustAppend(t, s, work.Commits(10)...)
		info, err := os.Stat(path + "-wal")
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(sqlitestore.Bounded))
	}
}

// What was appended gets to the file without a commit that waits for it.
func TestWriteAheadLogMovesBesideTheWriter(t *testing.T) {
	path := newPath(t)
	s, err := sqlitestore.OpenMoved(path)
	require.NoError(t, err)
	defer s.Close()
	work := storetest.NewWork(10)
	for range 1000 {
		mustAppend(t, s, work.Commits(10)...)
		info, err := os.Stat(path)
		require.NoError(t, err)
		if info.Size() > 256<<10 {
			return
		}
	}
	t.Fatal("nothing was moved")
}

// No test of ours cuts the power, so this asks for the promise to be kept.
func TestEveryCommitIsSynced(t *testing.T) {
	got, err := open(t, newPath(t)).Synchronous()
	require.NoError(t, err)
	require.EqualValues(t, 2, got)
}

// Readers look at the index and at what waits to get there. With every append
// here a generation moves from the one to the other.
func TestReadMissesNothingThatMovesMeanwhile(t *testing.T) {
	s, err := sqlitestore.OpenNarrow(newPath(t))
	require.NoError(t, err)
	defer s.Close()
	var a storetest.Author
	var acknowledged atomic.Int64
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for acknowledged.Load() < 120 {
				want, got := acknowledged.Load(), int64(0)
				for _, err := range s.Read(t.Context(), "item-1", 0) {
					if err != nil {
						t.Error(err)
						return
					}
					got++
				}
				if got < want {
					t.Errorf("read %d events of %d", got, want)
				}
			}
		})
	}
	for range 120 {
		mustAppend(t, s, a.Commit(slices.Concat([]string{"item-1"}, slices.Repeat([]string{"item-2"}, 40))...))
		acknowledged.Add(1)
	}
	readers.Wait()
}

func TestAppendThatSQLiteRefusesLeavesNothing(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	var a storetest.Author
	mustAppend(t, s, a.Commit("item-1"))
	query(t, path, `CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.stream = 'item-3'
		BEGIN SELECT RAISE(ABORT, 'refused by a trigger'); END`)
	group := []events.Commit{a.Commit("item-1", "item-2"), a.Commit("item-2", "item-3")}
	positions, err := s.Append(t.Context(), group...)
	require.ErrorContains(t, err, "refused by a trigger")
	require.ErrorContains(t, err, path)
	require.NotErrorIs(t, err, events.ErrConflict)
	require.Empty(t, positions)
	require.Len(t, wholeLog(t, s), 1)

	query(t, path, "DROP TRIGGER refuse")
	mustAppend(t, s, group...)
	require.Len(t, wholeLog(t, s), 5)
}

func TestAppendWaitsForNoOneElseForLong(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	db, err := sql.Open("sqlite", "file:"+escape(path))
	require.NoError(t, err)
	defer db.Close()
	other, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer other.Close()
	_, err = other.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	var a storetest.Author
	commit := a.Commit("item-1")
	_, err = s.Append(t.Context(), commit)
	require.ErrorContains(t, err, "locked")
	_, err = other.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	mustAppend(t, s, commit)
}

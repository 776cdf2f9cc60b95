package sqlitestore_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/diskfault"
	"github.com/stockledger/stockledger/internal/race"
)

// A fault fails the operations of some kinds from the first-th on, so many of them.
type fault struct {
	kinds []diskfault.Kind
	err   error
	first int
	many  int

	mu    sync.Mutex
	count int
	hit   []diskfault.Op // what failed
	later []diskfault.Op // everything after that
}

func (f *fault) plan(op diskfault.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	op.Data = nil
	if len(f.hit) > 0 {
		f.later = append(f.later, op)
	}
	if !slices.Contains(f.kinds, op.Kind) {
		return nil
	}
	if f.count++; f.count < f.first || f.count >= f.first+f.many {
		return nil
	}
	f.hit = append(f.hit, op)
	return f.err
}

func (f *fault) struck() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.hit) > 0
}

// hits are the operations that failed.
func (f *fault) hits() []diskfault.Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.hit)
}

// syncedLater reports whether a file was synced after the fault.
func (f *fault) syncedLater(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, op := range f.later {
		if op.Kind == diskfault.Sync && op.Path == path {
			return true
		}
	}
	return false
}

// disk is a disk of the test's own whose power can be cut.
func disk(t *testing.T, plan func(diskfault.Op) error) *diskfault.Disk {
	t.Helper()
	d, err := diskfault.NewVolatile(fmt.Sprintf("%s-%d", t.Name(), rand.Uint64()), plan)
	require.NoError(t, err)
	return d
}

// A clerk appends, and keeps what was acknowledged. After an append that failed
// he writes to other streams, for he does not know what those hold.
type clerk struct {
	name   string
	author *storetest.Author
	page   int

	mu    sync.Mutex
	acked map[uint64]events.Hash // of the last event of each commit, by its position
}

func newClerk(name string) *clerk {
	return &clerk{name: name, acked: make(map[uint64]events.Hash), author: new(storetest.Author)}
}

// append appends a group of two commits.
func (c *clerk) append(t *testing.T, s *sqlitestore.Store) error {
	own := fmt.Sprintf("item-%s-%d", c.name, c.page)
	commits := []events.Commit{c.author.Commit(own, own+"-b", own), c.author.Commit(own + "-b")}
	positions, err := s.Append(t.Context(), commits...)
	if err != nil {
		assert.Empty(t, positions, "nothing of a group that failed is acknowledged")
		c.author, c.page = new(storetest.Author), c.page+1
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range positions {
		c.acked[p] = commits[i][len(commits[i])-1].Hash
	}
	return nil
}

// acknowledged is what was acknowledged by now.
func (c *clerk) acknowledged() map[uint64]events.Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.acked)
}

// holds checks that the log holds everything that was acknowledged, and is whole.
func (c *clerk) holds(t *testing.T, s *sqlitestore.Store) {
	t.Helper()
	log := wholeLog(t, s)
	for p, hash := range c.acked {
		require.LessOrEqual(t, p, uint64(len(log)), "position %d was acknowledged", p)
		require.Equal(t, hash, log[p-1].Hash, "position %d was acknowledged", p)
	}
}

// strike runs a script of appends on a disk with a fault. It reports false if the
// script was over before the fault came.
func strike(t *testing.T, f *fault, failed func(t *testing.T, c *clerk, s *sqlitestore.Store, err error)) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.db")
	d := disk(t, f.plan)
	c := newClerk("a")
	s, err := sqlitestore.OpenNarrowOn(d.Name(), path)
	if err == nil {
		for range 8 {
			if err := c.append(t, s); err != nil {
				require.True(t, f.struck(), "%v", err)
				failed(t, c, s, err)
				break
			}
		}
		c.holds(t, s) // reads go on
		for _, op := range f.hits() {
			require.False(t, op.Kind == diskfault.Sync && f.syncedLater(op.Path), "%s was synced again", op.Path)
		}
	}
	into := t.TempDir()
	require.NoError(t, d.PowerCut(filepath.Dir(path), into, rand.New(rand.NewPCG(uint64(f.first), 1))))
	ended := t.TempDir()
	if s != nil {
		err = errors.Join(err, s.Close())
		require.True(t, err == nil || f.struck(), "%v", err)
		for _, name := range []string{"log.db", "log.db-wal"} { // as the end of the process leaves them
			text, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
			if !errors.Is(err, os.ErrNotExist) {
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(ended, name), text, 0o600))
			}
		}
		err = sqlitestore.LetGo(s)
	}
	require.True(t, err == nil || f.struck(), "%v", err)
	require.NoError(t, d.Close())

	for _, dir := range []string{ended, into} {
		survives(t, filepath.Join(dir, "log.db"), c)
	}
	return f.struck()
}

// survives opens a log on a disk that never fails, and checks that all that was
// acknowledged is there and that the log goes on.
func survives(t *testing.T, path string, c *clerk) {
	t.Helper()
	d := disk(t, nil)
	s, err := sqlitestore.OpenNarrowOn(d.Name(), path)
	require.NoError(t, err)
	c.holds(t, s)
	require.NoError(t, newClerk("later").append(t, s))
	c.holds(t, s)
	require.NoError(t, s.Close())
	require.NoError(t, d.Close())
}

// each runs a script once for every operation at which it may fail; under the race
// detector, for some of them.
func each(t *testing.T, step int, run func(t *testing.T, n int) bool) {
	t.Helper()
	first := 1
	if race.On {
		first = 1 + rand.IntN(step)
	} else {
		step = 1
	}
	n := first
	for run(t, n) {
		n += step
	}
	t.Logf("failed at every %d of %d operations, from %d on", step, n, first)
	require.Greater(t, n, 10)
}

// An fsync that fails may have thrown away what it was to write, and the next one
// knows nothing of it.
func TestAFailedSyncStopsTheStoreWithoutAnotherTry(t *testing.T) {
	each(t, 6, func(t *testing.T, n int) bool {
		f := &fault{kinds: []diskfault.Kind{diskfault.Sync}, err: syscall.EIO, first: n, many: 1}
		return strike(t, f, func(t *testing.T, c *clerk, s *sqlitestore.Store, err error) {
			require.ErrorContains(t, err, "append to log")
			for range 3 {
				require.ErrorIs(t, c.append(t, s), events.ErrStopped)
			}
		})
	})
}

// No append syncs the file that the write-ahead log moves to, so the disk tells none
// of them that it failed: the mover does.
func TestAFailedSyncBehindTheAppendsStopsTheStore(t *testing.T) {
	for n := range 10 { // some of them are the mover's, the others the writer's
		path := filepath.Join(t.TempDir(), "log.db")
		f := &fault{kinds: []diskfault.Kind{diskfault.Sync}, err: syscall.EIO, first: math.MaxInt, many: 1}
		d := disk(t, func(op diskfault.Op) error {
			if filepath.Base(op.Path) != "log.db" {
				return nil
			}
			return f.plan(op)
		})
		s, err := sqlitestore.OpenNarrowOn(d.Name(), path)
		require.NoError(t, err)
		f.mu.Lock()
		f.first, f.count = 1+n, 0
		f.mu.Unlock()
		c := newClerk("a")
		for appends := 0; err == nil && appends < 10_000; appends++ {
			err = c.append(t, s)
		}
		require.ErrorIs(t, err, events.ErrStopped)
		require.ErrorContains(t, err, "could not be moved")
		require.False(t, f.syncedLater(f.hits()[0].Path))
		require.NoError(t, s.Close())
		require.NoError(t, sqlitestore.LetGo(s))
		require.NoError(t, d.Close())
		survives(t, path, c)
	}
}

// A sync that says it failed and did not is answered in the same way.
func TestASyncOfUnknownOutcomeStopsTheStore(t *testing.T) {
	each(t, 8, func(t *testing.T, n int) bool {
		f := &fault{kinds: []diskfault.Kind{diskfault.Synced}, err: syscall.EIO, first: n, many: 1}
		return strike(t, f, func(t *testing.T, c *clerk, s *sqlitestore.Store, _ error) {
			require.ErrorIs(t, c.append(t, s), events.ErrStopped)
		})
	})
}

// Room is made again before the third try, and the store goes on.
func TestADiskFullAtAnyWriteLosesNothing(t *testing.T) {
	for name, err := range map[string]error{"nothing": syscall.ENOSPC, "half": diskfault.Short(2048), "a little": diskfault.Short(10)} {
		t.Run(name, func(t *testing.T) {
			resumed := 0
			each(t, 41, func(t *testing.T, n int) bool {
				f := &fault{kinds: []diskfault.Kind{diskfault.Write, diskfault.Truncate}, err: err, first: n, many: 2}
				return strike(t, f, func(t *testing.T, c *clerk, s *sqlitestore.Store, err error) {
					require.NotErrorIs(t, err, events.ErrStopped)
					require.NotErrorIs(t, c.append(t, s), events.ErrStopped) // there may be room already
					for range 4 {
						require.NoError(t, c.append(t, s))
					}
					resumed++
				})
			})
			t.Logf("went on %d times", resumed)
		})
	}
}

// A transaction that does not fit into SQLite's memory is written before its COMMIT,
// and rolled back by SQLite itself when there is no room for it.
func TestADiskFullAmidAGreatAppendLosesNothing(t *testing.T) {
	f := &fault{kinds: []diskfault.Kind{diskfault.Write}, err: syscall.ENOSPC, first: math.MaxInt, many: 3}
	d := disk(t, f.plan)
	s, err := sqlitestore.OpenNarrowOn(d.Name(), filepath.Join(t.TempDir(), "log.db"))
	require.NoError(t, err)
	c := newClerk("a")
	require.NoError(t, c.append(t, s))
	f.mu.Lock()
	f.first, f.count = 10, 0
	f.mu.Unlock()
	_, err = s.Append(t.Context(), great(t))
	require.ErrorContains(t, err, "INSERT INTO events", "not in the COMMIT")
	require.True(t, f.struck())
	require.NotErrorIs(t, err, events.ErrStopped)
	f.mu.Lock()
	f.first = math.MaxInt
	f.mu.Unlock()
	require.NoError(t, c.append(t, s))
	c.holds(t, s)
	_, err = s.Append(t.Context(), great(t))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, d.Close())
}

// great is a commit larger than what SQLite keeps in memory of a transaction.
func great(t *testing.T) (commit events.Commit) {
	t.Helper()
	const n = 12
	var last events.Recorded
	for i := range n {
		e, err := events.Record("item-great", last.Version, last.Hash, events.ItemDeleted{ItemID: "great"},
			&events.Meta{EventID: fmt.Sprint("great-", i), Command: "c", CommandID: "k", Reason: strings.Repeat("x", 1<<20), Part: i + 1, Parts: n})
		require.NoError(t, err)
		commit, last = append(commit, e), e
	}
	return commit
}

func TestADiskThatFailsToWriteLosesNothing(t *testing.T) {
	each(t, 31, func(t *testing.T, n int) bool {
		f := &fault{kinds: []diskfault.Kind{diskfault.Write, diskfault.Truncate, diskfault.Delete}, err: syscall.EIO, first: n, many: 1}
		return strike(t, f, func(t *testing.T, c *clerk, s *sqlitestore.Store, _ error) {
			if err := c.append(t, s); err != nil {
				require.ErrorIs(t, err, events.ErrStopped)
			}
		})
	})
}

package diskfault_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/stockledger/stockledger/internal/diskfault"
)

// disk is a disk of the test's own.
func disk(t *testing.T, plan func(diskfault.Op) error) *diskfault.Disk {
	t.Helper()
	d, err := diskfault.NewVolatile(t.Name(), plan)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// database opens a database on d, with one connection.
func database(t *testing.T, d *diskfault.Disk, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?vfs="+d.Name()+
		"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestErrorsArriveAsWhatTheyAre(t *testing.T) {
	for name, tc := range map[string]struct {
		kind diskfault.Kind
		err  error
		want int
	}{
		"no room":              {diskfault.Write, syscall.ENOSPC, lib.SQLITE_FULL},
		"half of it, no room":  {diskfault.Write, diskfault.Short(100), lib.SQLITE_FULL},
		"a write fails":        {diskfault.Write, syscall.EIO, lib.SQLITE_IOERR_WRITE},
		"a sync fails":         {diskfault.Sync, syscall.EIO, lib.SQLITE_IOERR_FSYNC},
		"a sync seems to fail": {diskfault.Synced, syscall.EIO, lib.SQLITE_IOERR_FSYNC},
	} {
		t.Run(name, func(t *testing.T) {
			var on atomic.Bool
			d := disk(t, func(op diskfault.Op) error {
				if on.Load() && op.Kind == tc.kind {
					return tc.err
				}
				return nil
			})
			db := database(t, d, filepath.Join(t.TempDir(), "a.db"))
			_, err := db.ExecContext(t.Context(), "CREATE TABLE t (n)")
			require.NoError(t, err)
			runtime.GC()
			on.Store(true)
			_, err = db.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
			var failed *sqlite.Error
			require.ErrorAs(t, err, &failed)
			require.Equal(t, tc.want, failed.Code())
			on.Store(false)
		})
	}
}

// What a sync that failed was to write may be anybody's.
func TestAFailedSyncIsToldToEverybodyOnce(t *testing.T) {
	var left atomic.Int64
	d := disk(t, func(op diskfault.Op) error {
		if op.Kind == diskfault.Sync && left.Add(-1) == 0 {
			return syscall.EIO
		}
		return nil
	})
	path := filepath.Join(t.TempDir(), "a.db")
	one, other := database(t, d, path), database(t, d, path)
	_, err := one.ExecContext(t.Context(), "CREATE TABLE t (n)")
	require.NoError(t, err)
	insert := func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
		return err
	}
	require.NoError(t, insert(other))
	left.Store(1)
	require.Error(t, insert(one))
	require.Error(t, insert(other))
	require.NoError(t, insert(other))
	require.NoError(t, insert(one))
}

func TestAPowerCutKeepsWhatIsSyncedAndOnlyThat(t *testing.T) {
	d := disk(t, nil)
	from := t.TempDir()
	db := database(t, d, filepath.Join(from, "a.db"))
	_, err := db.ExecContext(t.Context(), "CREATE TABLE t (n); INSERT INTO t VALUES (0); PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	lost := 0
	for n := range 200 {
		synced := n%2 == 0
		_, err := db.ExecContext(t.Context(), fmt.Sprintf("PRAGMA synchronous = %d; INSERT INTO t VALUES (%d)", n%2*-2+2, n))
		require.NoError(t, err)
		into := t.TempDir()
		require.NoError(t, d.PowerCut(from, into, rand.New(rand.NewPCG(1, uint64(n)))))
		left, err := sql.Open("sqlite", "file:"+filepath.Join(into, "a.db"))
		require.NoError(t, err)
		var rows int
		require.NoError(t, left.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&rows))
		require.NoError(t, left.Close())
		if synced {
			require.Equal(t, n+2, rows)
		} else if rows < n+2 {
			lost++
		}
	}
	require.Positive(t, lost, "what was not synced was never lost")
}

func TestADiskWithOpenFilesStays(t *testing.T) {
	d, err := diskfault.New(t.Name(), nil)
	require.NoError(t, err)
	_, err = diskfault.New(t.Name(), nil)
	require.ErrorContains(t, err, "there is one of that name")
	_, err = diskfault.New("unix", nil)
	require.Error(t, err)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "a.db")+"?vfs="+d.Name())
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "CREATE TABLE t (n)")
	require.NoError(t, err)
	require.ErrorContains(t, d.Close(), "a.db is open")
	require.ErrorContains(t, d.PowerCut(os.TempDir(), os.TempDir(), nil), "does not remember")
	require.NoError(t, db.Close())
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	d, err = diskfault.New(t.Name(), nil)
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

func TestADefaultDiskIsMetByWhoDoesNotNameIt(t *testing.T) {
	var asked atomic.Int64
	d, err := diskfault.New(t.Name(), func(diskfault.Op) error { asked.Add(1); return nil })
	require.NoError(t, err)
	require.NoError(t, d.MakeDefault())
	write := func() {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "a.db"))
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "CREATE TABLE t (n)")
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
	write()
	met := asked.Load()
	require.Positive(t, met)
	require.NoError(t, d.Close())
	write()
	require.Equal(t, met, asked.Load())
}

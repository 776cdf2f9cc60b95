package backup_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/backup"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
)

// open opens a ledger in dir.
func open(t testing.TB, dir string) *stockledger.Ledger {
	t.Helper()
	l, err := stockledger.Open(t.Context(), stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func do(ctx context.Context, l *stockledger.Ledger, name, body string) error {
	_, err := l.DoJSON(ctx, commands.Envelope{}, name, []byte(body))
	return err
}

// stock makes items with stock, and one command that is refused.
func stock(t testing.TB, l *stockledger.Ledger, items int) {
	t.Helper()
	for n := range items {
		require.NoError(t, do(t.Context(), l, "create-inventory-items",
			fmt.Sprintf(`{"id":"item-%d","location_levels":[{"location_id":"paris","stocked_quantity":1000}]}`, n)))
	}
	err := do(t.Context(), l, "adjust-inventory-levels", `{"inventory_item_id":"item-0","location_id":"paris","adjustment":-9999}`)
	require.Equal(t, fault.NotAllowed, fault.Of(err).Kind)
	require.NotEmpty(t, refusals(t, l))
}

// refusals are the refused commands on record.
func refusals(t testing.TB, l *stockledger.Ledger) string {
	t.Helper()
	answer, err := l.Query(t.Context(), "list-refusals", []byte(`{}`))
	require.NoError(t, err)
	text, err := json.Marshal(answer)
	require.NoError(t, err)
	return string(text)
}

// writing has writers adjust stock until it is stopped, and counts what they did.
func writing(t testing.TB, l *stockledger.Ledger, writers, items int) (done *atomic.Int64, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	done = new(atomic.Int64)
	failed := make(chan error, writers)
	for w := range writers {
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := do(context.WithoutCancel(ctx), l, "adjust-inventory-levels",
					fmt.Sprintf(`{"inventory_item_id":"item-%d","location_id":"paris","adjustment":1}`, (w+n)%items))
				if err != nil {
					failed <- err
					return
				}
				done.Add(1)
			}
		})
	}
	return done, func() {
		cancel()
		work.Wait()
		close(failed)
		require.NoError(t, <-failed)
	}
}

// take backs up a ledger in dir.
func take(t testing.TB, l *stockledger.Ledger, dir, to string) backup.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: to, Version: "test"})
	require.NoError(t, err)
	return m
}

// names are the entries of a directory.
func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func mode(t testing.TB, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}

func TestABackupUnderLoadIsRestoredElsewhereAndVerifies(t *testing.T) {
	for _, to := range []string{"copy", "copy.tar"} {
		t.Run(to, func(t *testing.T) {
			const writers, items = 16, 40
			dir, place := t.TempDir(), t.TempDir()
			l := open(t, dir)
			stock(t, l, items)
			wrote, stop := writing(t, l, writers, items)
			began, during := time.Now(), wrote.Load()
			before, err := l.Events().Head(t.Context())
			require.NoError(t, err)
			to := filepath.Join(place, to)
			m := take(t, l, dir, to)
			during = wrote.Load() - during
			stop()
			t.Logf("%d commands in the %s of the backup", during, time.Since(began))
			require.Positive(t, during, "the ledger goes on")
			require.GreaterOrEqual(t, m.Head.Position, before)
			require.True(t, m.Verified)
			require.Equal(t, "test", m.Version)
			require.Equal(t, []string{filepath.Base(to)}, names(t, place))
			if info, err := os.Stat(to); err == nil && info.IsDir() {
				require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
				require.ElementsMatch(t, []string{"manifest.json", "log.db", "refusals.db"}, names(t, to))
				for _, name := range names(t, to) {
					require.Equal(t, fs.FileMode(0o600), mode(t, filepath.Join(to, name)), name)
				}
			} else {
				require.Equal(t, fs.FileMode(0o600), mode(t, to))
			}

			elsewhere := filepath.Join(t.TempDir(), "deep", "ledger")
			restored, err := backup.Restore(t.Context(), to, elsewhere, nil)
			require.NoError(t, err)
			require.Equal(t, m, restored)
			require.ElementsMatch(t, []string{"log.db", "models", "refusals.db"}, names(t, elsewhere))
			again := open(t, elsewhere)
			head, err := evidence.HeadOf(t.Context(), again.Events(), "", nil)
			require.NoError(t, err)
			require.Equal(t, m.Head, head)
			generations, err := again.Models().Generations(t.Context())
			require.NoError(t, err)
			for _, g := range generations {
				require.Equal(t, 1, g.Number, "the models built for the proof are served")
				require.Equal(t, m.Head.Position, g.Position)
			}
			report, err := again.Verify(t.Context(), nil)
			require.NoError(t, err)
			require.True(t, report.OK(), "%v", report.Findings)
			require.Equal(t, m.Head.Position, report.Position)
			require.Equal(t, refusals(t, l), refusals(t, again))
			require.NoError(t, do(t.Context(), again, "adjust-inventory-levels",
				`{"inventory_item_id":"item-1","location_id":"paris","adjustment":1}`), "it goes on")
		})
	}
}

func TestABackupIsMadeWhereThereIsNothing(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	l := open(t, dir)
	stock(t, l, 1)
	refused := func(to string) *fault.Error {
		_, err := backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: to})
		e, ok := errors.AsType[*fault.Error](err)
		require.True(t, ok, "%v", err)
		return e
	}
	there := filepath.Join(place, "there")
	require.NoError(t, os.Mkdir(there, 0o700))
	require.Equal(t, "file_exists", refused(there).Code)
	require.NoError(t, os.WriteFile(there+".tar", nil, 0o600))
	require.Equal(t, "file_exists", refused(there+".tar").Code)
	require.Equal(t, "unknown_format", refused(there+".tar.gz").Code)
	require.Equal(t, "cannot_write", refused(filepath.Join(place, "no", "such", "place")).Code)
	require.ElementsMatch(t, []string{"there", "there.tar"}, names(t, place))
}

func TestABackupThatIsInterruptedLeavesNothing(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	l := open(t, dir)
	stock(t, l, 20)
	stages := make(map[string]bool)
	_, err := backup.Take(t.Context(), backup.Config{
		Store: l.Events(), Dir: dir, To: filepath.Join(place, "whole.tar"),
		Progress: func(stage string, _, _ uint64) { stages[stage] = true },
	})
	require.NoError(t, err)
	require.Greater(t, len(stages), 4)
	for stage := range stages {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := backup.Take(ctx, backup.Config{
			Store: l.Events(), Dir: dir, To: filepath.Join(place, "half.tar"),
			Progress: func(now string, _, _ uint64) {
				if now == stage {
					cancel()
				}
			},
		})
		if err == nil { // the last thing it did
			require.NoError(t, os.Remove(filepath.Join(place, "half.tar")), stage)
		} else {
			require.ErrorIs(t, err, context.Canceled, stage)
		}
		require.Equal(t, []string{"whole.tar"}, names(t, place), stage)
	}
}

func TestTwoBackupsToOnePlace(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	l := open(t, dir)
	stock(t, l, 3)
	to := filepath.Join(place, "copy")
	refused := false
	_, err := backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: to, Progress: func(string, uint64, uint64) {
		if refused {
			return
		}
		_, err := backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: to})
		require.Equal(t, "in_use", fault.Code(err))
		refused = true
	}})
	require.NoError(t, err, "the first goes on")
	require.True(t, refused)
	_, err = backup.Restore(t.Context(), to, filepath.Join(t.TempDir(), "ledger"), nil)
	require.NoError(t, err)
}

// A directory of the name under which a backup is made may be somebody's, and one of
// a dead process is known by what is in it.
func TestABackupClearsAwayOnlyWhatBackupsLeave(t *testing.T) {
	place := t.TempDir()
	dir := filepath.Join(place, "ledger.partial")
	l := open(t, dir)
	stock(t, l, 3)
	theirs, copied := filepath.Join(place, "theirs.partial"), filepath.Join(place, "copied")
	require.NoError(t, os.Mkdir(theirs, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(theirs, "letter.txt"), []byte("precious"), 0o600))
	take(t, l, dir, copied)
	require.NoError(t, os.Symlink(copied, filepath.Join(place, "link.partial")))
	before := names(t, dir)
	for _, to := range []string{"ledger", "theirs", "link"} {
		_, err := backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: filepath.Join(place, to)})
		require.Equal(t, "not_empty", fault.Code(err), "%s: %v", to, err)
	}
	require.Equal(t, before, names(t, dir))
	require.Equal(t, []string{"letter.txt"}, names(t, theirs))
	require.ElementsMatch(t, []string{"log.db", "manifest.json", "refusals.db"}, names(t, copied))

	restored := t.TempDir()
	require.NoError(t, os.Symlink(theirs, filepath.Join(restored, "restore.partial")))
	_, err := backup.Restore(t.Context(), copied, restored, nil)
	require.Equal(t, "not_empty", fault.Code(err))
	require.Equal(t, []string{"letter.txt"}, names(t, theirs))
}

func TestARestorationNeedsAnEmptyDirectory(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	l := open(t, dir)
	stock(t, l, 3)
	m := take(t, l, dir, to)
	_, err := backup.Restore(t.Context(), to, dir, nil)
	require.Equal(t, "not_empty", fault.Code(err))
	require.Contains(t, names(t, dir), "log.db")

	empty := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(empty, "restore.partial"), 0o700)) // of a process that died
	require.NoError(t, os.WriteFile(filepath.Join(empty, "restore.partial", "log.db"), []byte("half"), 0o600))
	restored, err := backup.Restore(t.Context(), to, empty, nil)
	require.NoError(t, err)
	require.Equal(t, m, restored)
	require.ElementsMatch(t, []string{"log.db", "models", "refusals.db"}, names(t, empty))
}

// Whatever comes into being at the place meanwhile, such as the ledger of a server
// that was started too early, is nobody's to replace.
func TestNothingIsReplacedThatCameMeanwhile(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	l := open(t, dir)
	stock(t, l, 3)
	once := func(path string) func(string, uint64, uint64) {
		return func(string, uint64, uint64) { require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600)) }
	}
	to := filepath.Join(place, "copy.tar")
	_, err := backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: to, Progress: once(to)})
	require.Equal(t, "file_exists", fault.Code(err))
	require.Equal(t, []string{"copy.tar"}, names(t, place))
	text, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))

	to = filepath.Join(place, "copy")
	take(t, l, dir, to)
	for _, name := range []string{"log.db", "refusals.db"} {
		elsewhere := t.TempDir()
		_, err = backup.Restore(t.Context(), to, elsewhere, once(filepath.Join(elsewhere, name)))
		require.Equal(t, "not_empty", fault.Code(err))
		require.Equal(t, []string{name}, names(t, elsewhere))
		text, err = os.ReadFile(filepath.Join(elsewhere, name))
		require.NoError(t, err)
		require.Equal(t, "precious", string(text))
	}
}

// spoil turns a bit in the middle of a file.
func spoil(t testing.TB, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text[len(text)/2] ^= 1
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

func TestADamagedBackupIsNotRestored(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	stock(t, l, 10)
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, to string) { require.NoError(t, os.Remove(filepath.Join(to, name))) }
	}
	manifest := func(change func(*backup.Manifest)) func(*testing.T, string) {
		return func(t *testing.T, to string) {
			path := filepath.Join(to, "manifest.json")
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			var m backup.Manifest
			require.NoError(t, json.Unmarshal(text, &m))
			change(&m)
			text, err = json.Marshal(m)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, text, 0o600))
		}
	}
	for _, tc := range []struct {
		name, to, code string
		damage         func(t *testing.T, to string)
	}{
		{"a bit of the log", "copy", "backup_damaged", func(t *testing.T, to string) { spoil(t, filepath.Join(to, "log.db")) }},
		{"a bit of the refusals", "copy", "backup_damaged", func(t *testing.T, to string) { spoil(t, filepath.Join(to, "refusals.db")) }},
		{"no log", "copy", "backup_damaged", remove("log.db")},
		{"no refusals", "copy", "backup_damaged", remove("refusals.db")},
		{"no manifest", "copy", "no_backup", remove("manifest.json")},
		{"a manifest that is none", "copy", "backup_damaged", func(t *testing.T, to string) {
			require.NoError(t, os.WriteFile(filepath.Join(to, "manifest.json"), []byte("{"), 0o600))
		}},
		{"another format", "copy", "unknown_format", manifest(func(m *backup.Manifest) { m.Format = 2 })},
		{"another head", "copy", "backup_damaged", manifest(func(m *backup.Manifest) { m.Head.Position++ })},
		{"a file that is not listed", "copy", "backup_damaged", manifest(func(m *backup.Manifest) { m.Files = m.Files[:1] })},
		{"a bit of the file", "copy.tar", "backup_damaged", func(t *testing.T, to string) { spoil(t, to) }},
		{"a file that is cut off", "copy.tar", "backup_damaged", func(t *testing.T, to string) {
			info, err := os.Stat(to)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(to, info.Size()/2))
		}},
		{"no tar", "copy.tar", "no_backup", func(t *testing.T, to string) {
			require.NoError(t, os.WriteFile(to, make([]byte, 100_000), 0o600))
		}},
		{"nothing", "copy.tar", "not_found", func(t *testing.T, to string) { require.NoError(t, os.Remove(to)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), tc.to)
			take(t, l, dir, to)
			tc.damage(t, to)
			elsewhere := filepath.Join(t.TempDir(), "ledger")
			_, err := backup.Restore(t.Context(), to, elsewhere, nil)
			require.Error(t, err)
			require.Equal(t, tc.code, fault.Code(err), "%v", err)
			_, err = os.Stat(elsewhere)
			require.ErrorIs(t, err, fs.ErrNotExist)
			empty := t.TempDir()
			_, err = backup.Restore(t.Context(), to, empty, nil)
			require.Error(t, err)
			require.Empty(t, names(t, empty))
		})
	}
}

// Its sums are right and the bytes of every event match its hash: that a log is
// wrong all the same is seen by whoever verifies it.
func TestACopyThatDoesNotVerifyIsNoBackup(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	l := open(t, dir)
	stock(t, l, 3)
	head, err := l.Events().Head(t.Context())
	require.NoError(t, err)
	var last events.Recorded
	for batch, err := range l.Events().Subscribe(t.Context(), head-1) {
		require.NoError(t, err)
		last = batch[0]
		break
	}
	last.Prev[0] ^= 1 // it continues another stream
	hash := last.Link()
	db, err := sql.Open("sqlite", filepath.Join(dir, "log.db"))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `UPDATE events SET prev = ?, hash = ? WHERE position = ?`, last.Prev[:], hash[:], head)
	require.NoError(t, errors.Join(err, db.Close()))

	_, err = backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: filepath.Join(place, "copy")})
	require.Equal(t, "not_verified", fault.Code(err), "%v", err)
	require.Empty(t, names(t, place))

	to := filepath.Join(place, "copy")
	m, err := backup.Take(t.Context(), backup.Config{Store: l.Events(), Dir: dir, To: to, Unverified: true})
	require.NoError(t, err)
	require.False(t, m.Verified)
	empty := t.TempDir()
	_, err = backup.Restore(t.Context(), to, empty, nil)
	require.Equal(t, "not_verified", fault.Code(err), "%v", err)
	require.Empty(t, names(t, empty))
}

func TestABackupNeedsALogInAFile(t *testing.T) {
	_, err := backup.Take(t.Context(), backup.Config{To: filepath.Join(t.TempDir(), "copy")})
	require.Equal(t, "no_backup", fault.Code(err))
}

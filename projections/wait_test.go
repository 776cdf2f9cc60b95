package projections_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// lock takes the write lock of a model's file, as another process would.
func lock(t *testing.T, dir, file string) (release func()) {
	t.Helper()
	db := sql.OpenDB(projections.Connect(filepath.Join(dir, file)))
	db.SetMaxOpenConns(1)
	_, err := db.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	require.NoError(t, err)
	return func() { require.NoError(t, db.Close()) }
}

// adjusted is stock of bolts in berlin going up by one, to n.
func adjusted(n int64) events.Fact {
	return events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: units(n)}
}

// waiting returns once the model waits, and says what for.
func waiting(t *testing.T, m *projections.Models, name string) (why string) {
	t.Helper()
	require.Eventually(t, func() bool {
		all, err := m.Status(t.Context())
		require.NoError(t, err)
		for _, s := range all {
			require.Empty(t, s.Stopped)
			if s.Name == name {
				why = s.Waiting
			}
		}
		return why != ""
	}, 10*time.Second, time.Millisecond)
	return why
}

// A model whose file is locked waits, whatever happens meanwhile; the others go
// on, however much that is, and so does it when the lock is gone.
func TestLockedModelWaitsAlone(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin)
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)

	release := lock(t, dir, "levels.v1.db")
	last := b.record(adjusted(11))
	require.Contains(t, waiting(t, m, "levels"), "locked")
	for n := range int64(100) { // many more batches than may wait for a model
		last = b.record(adjusted(12 + n))
		_, err := m.Query(soon(t), "list-inventory-items", []byte(asJSON(t, map[string]any{"after": last})))
		require.NoError(t, err, "the other models go on")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := m.WaitFor(ctx, last)
	require.Equal(t, "not_caught_up", fault.Code(err))
	require.ErrorContains(t, err, "locked")

	release()
	require.NoError(t, m.WaitFor(soon(t), last))
	level, err := m.RetrieveLevel(t.Context(), "lev-b")
	require.NoError(t, err)
	require.True(t, level.Stocked.Equal(units(111)))
	all, err := m.Status(t.Context())
	require.NoError(t, err)
	for _, s := range all {
		require.Empty(t, s.Waiting+s.Stopped)
	}
}

// When the disk is full all models wait, and all go on.
func TestAllModelsWait(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin)
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	require.NoError(t, err)
	require.Len(t, files, 7)
	var releases []func()
	for _, file := range files {
		releases = append(releases, lock(t, dir, filepath.Base(file)))
	}
	last := b.record(adjusted(11))
	waiting(t, m, "commands")
	for n := range int64(60) { // somebody waits, so each is a batch of its own
		last = b.record(adjusted(12 + n))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		require.Equal(t, "not_caught_up", fault.Code(m.WaitFor(ctx, last)))
		cancel()
	}
	for _, release := range releases {
		release()
	}
	require.NoError(t, m.WaitFor(soon(t), last))
}

// Close does not wait for a lock to go, and nothing is lost.
func TestCloseWhileLocked(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin)
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	release := lock(t, dir, "levels.v1.db")
	for n := range int64(40) {
		last := b.record(adjusted(11 + n))
		_, err := m.Query(soon(t), "list-inventory-items", []byte(asJSON(t, map[string]any{"after": last})))
		require.NoError(t, err)
	}
	waiting(t, m, "levels")
	began := time.Now()
	require.NoError(t, m.Close())
	require.Less(t, time.Since(began), 4*time.Second)
	release()

	m = open(t, b.store, dir)
	defer m.Close()
	require.NoError(t, m.WaitFor(soon(t), 42))
}

// Readers of pages, however many and slow, do not keep a model from going on,
// nor the engine from its answers.
func TestReadersDoNotHoldUpAModel(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin)
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())

	m = open(t, b.store, dir)           // no row is in memory now
	t.Cleanup(func() { _ = m.Close() }) // after the pages
	m.HoldPages(t)
	require.NoError(t, m.WaitFor(soon(t), b.record(adjusted(11))))
	ctx := soon(t)
	_, err := m.Find(ctx, "level", "lev-b")
	require.NoError(t, err)
	require.NoError(t, ctx.Err())
}

// The files of the models can be deleted, all or one of them: they are made anew
// from the log, the same as they were.
func TestModelsCanBeDeleted(t *testing.T) {
	b, dir := warehouse(), filepath.Join(t.TempDir(), "models")
	build := func() map[string][]string {
		m := open(t, b.store, dir)
		b.caughtUp(t, m)
		require.NoError(t, m.Close())
		return dump(t, dir)
	}
	was := build()
	require.NoError(t, os.RemoveAll(dir))
	require.Equal(t, was, build())
	require.NoError(t, os.Remove(filepath.Join(dir, "levels.v1.db")))
	require.Equal(t, was, build())
	left, err := filepath.Glob(filepath.Join(dir, "*-*"))
	require.NoError(t, err)
	require.Empty(t, left, "closing leaves one file for each model")
}

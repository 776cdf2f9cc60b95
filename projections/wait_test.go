package projections_test

import (
	"context"
	"database/sql"
	"iter"
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
	}, time.Minute, time.Millisecond)
	return why
}

// locked is a book of three events whose inventory model has two, as its file is
// locked until it is released.
func locked(t *testing.T) (b *book, m *projections.Models, last uint64, release func()) {
	t.Helper()
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin)
	m = open(t, b.store, dir)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	b.caughtUp(t, m)
	release = lock(t, dir, "inventory.v1.db")
	last = b.record(adjusted(11))
	require.Contains(t, waiting(t, m, "inventory"), "locked")
	return b, m, last, release
}

// A model whose file is locked waits, whatever happens meanwhile; the other goes
// on, however much that is, and so does it when the lock is gone.
func TestLockedModelWaitsAlone(t *testing.T) {
	b, m, last, release := locked(t)
	for n := range int64(100) { // many more batches than may wait for a model
		last = b.record(adjusted(12 + n))
		_, err := m.Query(soon(t), "list-commands", []byte(asJSON(t, map[string]any{"after": last})))
		require.NoError(t, err, "the other model goes on")
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

// When both files are locked both models wait, and both go on.
func TestAllModelsWait(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin)
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	var releases []func()
	for _, file := range files {
		releases = append(releases, lock(t, dir, filepath.Base(file)))
	}
	last := b.record(adjusted(11))
	waiting(t, m, "movements")
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
	release := lock(t, dir, "inventory.v1.db")
	for n := range int64(40) {
		last := b.record(adjusted(11 + n))
		_, err := m.Query(soon(t), "list-commands", []byte(asJSON(t, map[string]any{"after": last})))
		require.NoError(t, err)
	}
	waiting(t, m, "inventory")
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	select {
	case err := <-closed:
		require.NoError(t, err)
	case <-soon(t).Done():
		require.Fail(t, "Close waits for the lock")
	}
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
	require.NoError(t, os.Remove(filepath.Join(dir, "inventory.v1.db")))
	require.Equal(t, was, build())
	left, err := filepath.Glob(filepath.Join(dir, "*-*"))
	require.NoError(t, err)
	require.Empty(t, left, "closing leaves one file for each model")
}

// heldBack is a log that yields nothing until it is released.
type heldBack struct {
	events.Store
	release chan struct{}
}

func (s heldBack) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		select {
		case <-s.release:
			s.Store.Subscribe(ctx, after)(yield)
		case <-ctx.Done():
			yield(nil, ctx.Err())
		}
	}
}

// A new file far behind the log is indexed once it has caught up, or can go no
// further, also when it was closed meanwhile; it is listed then, and no earlier,
// and is the same as one that had its indexes from the start.
func TestNewFilesAreIndexedWhenTheyHaveCaughtUp(t *testing.T) {
	b, dir := warehouse(), filepath.Join(t.TempDir(), "models")
	head, err := b.store.Head(t.Context())
	require.NoError(t, err)
	opened := func(store events.Store) *projections.Models {
		m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: store}.Far(1))
		require.NoError(t, err)
		return m
	}
	list := func(m *projections.Models) error {
		_, err := m.ListItems(t.Context(), projections.List{Filter: map[string]any{"sku": "B-8"}, Order: []string{"stocked_quantity"}})
		return err
	}

	m := opened(heldBack{b.store, make(chan struct{})})
	require.Equal(t, "not_caught_up", fault.Code(list(m)))
	require.Equal(t, fault.Unavailable, fault.Of(list(m)).Kind)
	_, err = m.Find(t.Context(), "line", "line1")
	require.NoError(t, err, "the engine is answered")
	require.NoError(t, m.Close())

	released := make(chan struct{})
	m = opened(heldBack{b.store, released})
	require.Equal(t, "not_caught_up", fault.Code(list(m)))
	close(released)
	require.NoError(t, m.WaitFor(t.Context(), head))
	require.NoError(t, list(m))
	require.NoError(t, m.Close())
	m = opened(b.store)
	require.NoError(t, list(m))
	require.NoError(t, m.Close())

	fresh := filepath.Join(t.TempDir(), "fresh")
	m = open(t, b.store, fresh)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	require.Equal(t, dump(t, fresh), dump(t, dir))
	require.Equal(t, indexes(t, fresh), indexes(t, dir))

	require.NoError(t, os.RemoveAll(dir))
	m = opened(garbled{b.store, head - 1, unknownType})
	defer m.Close()
	require.Equal(t, "model_stopped", fault.Code(m.WaitFor(soon(t), head)))
	require.NoError(t, list(m))
}

// indexes are those in the file of what is now.
func indexes(t *testing.T, dir string) []string {
	db := sql.OpenDB(projections.Connect(filepath.Join(dir, "inventory.v1.db")))
	defer db.Close()
	return texts(t, db, `SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY name`)
}

// A query that is answered from both models waits for both: what it names in after
// is in the answer, whichever of them is behind.
func TestAfterWaitsForAllThatAnswer(t *testing.T) {
	for _, tc := range []struct {
		behind, ahead, query string
		fact                 events.Fact
		asked                map[string]any
	}{
		{
			behind: "inventory.v1.db", ahead: "list-commands", query: "stock-history",
			fact:  events.ItemLinked{VariantID: "v1", ItemID: "bolts", Required: units(2)},
			asked: map[string]any{"variant_id": "v1"},
		},
		{
			behind: "movements.v1.db", ahead: "list-inventory-items", query: "explain",
			fact: adjusted(11), asked: map[string]any{"level_id": "lev-b", "at": start.Add(time.Hour)},
		},
	} {
		t.Run(tc.query, func(t *testing.T) {
			b, dir := newBook(), t.TempDir()
			b.record(bolts, atBerlin)
			m := open(t, b.store, dir)
			defer m.Close()
			b.caughtUp(t, m)
			release := lock(t, dir, tc.behind)
			last := b.record(tc.fact)
			_, err := m.Query(soon(t), tc.ahead, []byte(asJSON(t, map[string]any{"after": last})))
			require.NoError(t, err)
			tc.asked["after"] = last
			body := []byte(asJSON(t, tc.asked))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err = m.Query(ctx, tc.query, body)
			require.Equal(t, "not_caught_up", fault.Code(err))
			release()
			_, err = m.Query(soon(t), tc.query, body)
			require.NoError(t, err)
		})
	}
}

package projections

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

// An answer is made from the generations it began with, whatever is switched and
// dropped meanwhile; what it reads goes when it is done.
func TestAnAnswerKeepsItsGenerations(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(t.Context(), Config{Dir: dir, Store: memstore.New()})
	require.NoError(t, err)
	pinned, done, err := m.pin(ofInventory)
	require.NoError(t, err)
	again, nothing, err := pinned.pin(ofInventory)
	require.NoError(t, err)
	require.Same(t, pinned, again)
	nothing()

	_, err = m.Rebuild(t.Context(), "inventory")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err = m.Switch(t.Context(), false, "inventory")
		return err == nil
	}, time.Minute, time.Millisecond)
	require.Equal(t, 1, pinned.inventory.generation)
	after, unpin, err := m.pin(ofInventory)
	require.NoError(t, err)
	defer unpin()
	require.Equal(t, 2, after.inventory.generation)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Equal(t, "generation_in_use", fault.Code(m.Drop(ctx, "inventory", 1)))
	all, err := m.Generations(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2, "one of each model")
	_, err = pinned.RetrieveItem(t.Context(), "bolts")
	require.Equal(t, "not_found", fault.Code(err), "it is answered")
	gone := pinned.inventory.gone
	done()
	<-gone
	require.NoFileExists(t, filepath.Join(dir, "inventory.v1.db"))
	require.NoError(t, m.Close())
}

// Models are held at the furthest of their positions, and not beyond it, while
// something is done at it; then they go on, but for one that is shut.
func TestModelsAreHeldAtOnePosition(t *testing.T) {
	d := definition{name: "numbers", version: 3, parts: []part{{
		schema: `CREATE TABLE numbers (n INTEGER PRIMARY KEY)`,
		fold:   func(*file) fold { return &numbers{bug: func(uint64, bool) error { return nil }} },
	}}}
	c := &core{holding: make(chan struct{}, 1), awaited: make(chan struct{}, 1)}
	var all []*model
	for _, at := range []int{40, 10, 25} {
		one, err := openModel(t.Context(), Config{Dir: t.TempDir(), Store: memstore.New()}, d, entry{Number: 1, Version: 3, File: "numbers.v3.db"}, 0)
		require.NoError(t, err)
		defer one.file.close()
		require.True(t, one.advance(t.Context().Done(), numbered(at)))
		all = append(all, one)
	}
	ended, closing := make(chan struct{}), make(chan struct{})
	feed := func(one *model, to int) {
		one.advance(closing, numbered(to))
		ended <- struct{}{}
	}
	require.True(t, all[0].advance(closing, numbered(60)))
	go feed(all[1], 60)
	go feed(all[2], 60)
	err := c.together(t.Context(), all, nil, func(position uint64) error {
		require.Equal(t, uint64(60), position)
		for _, one := range all {
			require.Equal(t, position, one.position())
		}
		all[0].shut()
		for _, one := range all {
			go feed(one, 100)
		}
		return nil
	})
	require.NoError(t, err)
	for range 4 {
		<-ended
	}
	for _, one := range all[1:] {
		require.Equal(t, uint64(100), one.position(), "they go on")
	}
	close(closing)
	<-ended
	require.Equal(t, uint64(60), all[0].position(), "it is shut")
}

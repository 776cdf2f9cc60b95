package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

func onlyAtHead(t *testing.T, s events.Store) {
	var a Author
	for round := range 3 {
		at := head(t, s)
		first, second := a.Commit("item-1", "item-2"), a.Commit("item-1")
		for _, elsewhere := range []uint64{at - 1, at + 1, at + 2, at + 900, 1 << 62} { // at - 1 of 0 is beyond, too
			positions, err := s.AppendAt(t.Context(), elsewhere, events.Commit{event(fmt.Sprintf("item-new-%d", round), 1)})
			require.ErrorIs(t, err, events.ErrConflict, "at %d of a log that ends at %d", elsewhere, at)
			require.Empty(t, positions)
			_, err = s.AppendAt(t.Context(), elsewhere, first, second)
			require.ErrorIs(t, err, events.ErrConflict, "also with the right versions")
			require.Equal(t, at, head(t, s), "nothing was recorded")
		}
		positions, err := s.AppendAt(t.Context(), at, first, second)
		require.NoError(t, err)
		require.Equal(t, []uint64{at + 2, at + 3}, positions)
		mustAppend(t, s, a.Commit("item-3")) // by somebody who does not say where
	}
	same(t, a.Log, all(t, s, 0, len(a.Log)))
	same(t, a.stream("item-1"), read(t, s, "item-1", 0))
}

func stopsAtConflictAtHead(t *testing.T, s events.Store) {
	var a Author
	mustAppend(t, s, a.Commit("item-1", "item-2"))
	first, second, after := a.Commit("item-1"), a.Commit("item-3", "item-1"), a.Commit("item-4")
	stale := events.Commit{event("item-5", 1), event("item-2", 1)}

	positions, err := s.AppendAt(t.Context(), 2, first, second, stale, after)
	require.ErrorIs(t, err, events.ErrConflict)
	require.Equal(t, []uint64{3, 5}, positions)
	require.EqualValues(t, 5, head(t, s))
	for stream, want := range map[string]int{"item-1": 3, "item-2": 1, "item-3": 1, "item-4": 0, "item-5": 0} {
		require.Len(t, read(t, s, stream, 0), want, stream)
	}
	positions, err = s.AppendAt(t.Context(), 5, after)
	require.NoError(t, err)
	require.Equal(t, []uint64{6}, positions)
	same(t, a.Log, all(t, s, 0, 6))
}

func oneWinsAtHead(t *testing.T, s events.Store) { oneOfManyWins(t, s, s) }

// oneOfManyWins lets many append at one head at once, each to streams of his own.
func oneOfManyWins(t *testing.T, stores ...events.Store) {
	at := head(t, stores[0])
	for round := range 6 {
		var mu sync.Mutex
		var won []events.Commit
		together(6, func(n int) {
			var a Author
			stream := fmt.Sprintf("item-%d-%d", round, n)
			commit := a.Commit(stream, stream+"-b")
			positions, err := stores[n%len(stores)].AppendAt(t.Context(), at, commit)
			switch {
			case err == nil && len(positions) == 1 && positions[0] == at+2:
				mu.Lock()
				defer mu.Unlock()
				won = append(won, commit)
			case !errors.Is(err, events.ErrConflict) || len(positions) > 0:
				t.Errorf("appended at %v, %v, of a log that ended at %d", positions, err, at)
			}
		})
		require.Len(t, won, 1)
		same(t, won[0], all(t, stores[round%len(stores)], at, 2))
		at += 2
		for _, s := range stores {
			require.Equal(t, at, head(t, s))
		}
	}
}

func nothingBetween(t *testing.T, s events.Store) { nothingComesBetween(t, s, s) }

// nothingComesBetween appends at the head while others append anywhere.
func nothingComesBetween(t *testing.T, stores ...events.Store) {
	const others, commits = 3, 15
	base := head(t, stores[0])
	total := base + 2*(others+1)*commits
	together(others+1, func(n int) {
		var a Author
		s, own := stores[n%len(stores)], fmt.Sprintf("item-%d", n)
		for range commits {
			commit := a.Commit(own, own+"-b")
			if n > 0 {
				if _, err := s.Append(t.Context(), commit); err != nil {
					t.Error(err)
				}
				continue
			}
			for {
				at, err := s.Head(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				positions, err := s.AppendAt(t.Context(), at, commit)
				if errors.Is(err, events.ErrConflict) && len(positions) == 0 {
					continue
				}
				if err != nil || len(positions) != 1 || positions[0] != at+2 {
					t.Errorf("appended at %v, %v, of a log that ended at %d", positions, err, at)
				}
				break
			}
		}
	})
	require.Equal(t, total, head(t, stores[0]))
	all(t, stores[len(stores)-1], base, int(total-base))
}

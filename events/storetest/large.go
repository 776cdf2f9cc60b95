package storetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// RunTooLarge checks what a store promises about a commit that it cannot take at
// once, which one of that many events must be. open makes an empty log, and sees
// to it that it is closed when its test ends.
func RunTooLarge(t *testing.T, open func(t *testing.T) events.Store, tooMany int) {
	large := func(stream string) (c events.Commit) {
		for i := range tooMany {
			c = append(c, event(fmt.Sprintf("item-%s-%d", stream, i), 1))
		}
		return c
	}
	t.Run("a commit that is too large is refused and nothing of it is recorded", func(t *testing.T) {
		s := open(t)
		var a Author
		mustAppend(t, s, a.Commit("item-1"))
		positions, err := s.Append(t.Context(), large("a"))
		require.ErrorIs(t, err, events.ErrTooLarge)
		require.NotErrorIs(t, err, events.ErrConflict)
		require.Empty(t, positions)
		_, err = s.AppendAt(t.Context(), 1, large("a"))
		require.ErrorIs(t, err, events.ErrTooLarge)
		require.EqualValues(t, 1, head(t, s))
		require.Empty(t, read(t, s, "item-a-0", 0))
		mustAppend(t, s, a.Commit("item-a-0", "item-1"))
		same(t, a.Log, all(t, s, 0, 3))
	})
	t.Run("append stops at the first commit that is too large and keeps those before it", func(t *testing.T) {
		s := open(t)
		var a Author
		first, second, after := a.Commit("item-1"), a.Commit("item-1", "item-2"), a.Commit("item-3")
		positions, err := s.AppendAt(t.Context(), 0, first, second, large("a"), after)
		require.ErrorIs(t, err, events.ErrTooLarge)
		require.Equal(t, []uint64{1, 3}, positions)
		require.EqualValues(t, 3, head(t, s))
		positions, err = s.Append(t.Context(), after, large("b"))
		require.ErrorIs(t, err, events.ErrTooLarge)
		require.Equal(t, []uint64{4}, positions)
		same(t, a.Log, all(t, s, 0, 4))
	})
}

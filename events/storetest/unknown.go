package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// RunUnknown checks what a store promises when the answer to an append is lost.
// open makes an empty log, and sees to it that it is closed when its test ends.
// After lose the answer to the next append that reaches the store's engine does
// not come back, and the engine has recorded all that it was sent, or nothing of
// it. It is the answer to one request: a store that asks again is answered.
func RunUnknown(t *testing.T, open func(t *testing.T) (s events.Store, lose func(recorded bool))) {
	for _, promise := range []struct {
		name  string
		holds func(t *testing.T, s events.Store, lose func(recorded bool), recorded bool)
	}{
		{"a commit of one event", lostCommit("item-1")},
		{"a commit of several streams", lostCommit("item-1", "item-2", "item-1", "item-3")},
		{"a group of commits", lostGroup},
		{"an append that others write beside", lostAmongOthers},
		{"an append whose time is up", lostInTime},
	} {
		for _, recorded := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, recorded %v", promise.name, recorded), func(t *testing.T) {
				s, lose := open(t)
				promise.holds(t, s, lose, recorded)
			})
		}
	}
}

// unknown checks an error after which the caller has to read.
func unknown(t *testing.T, err error) {
	t.Helper()
	require.NotErrorIs(t, err, events.ErrConflict, "its own commit is no conflict")
	require.NotErrorIs(t, err, events.ErrTooLarge)
	require.NotErrorIs(t, err, events.ErrStopped)
	require.NotErrorIs(t, err, events.ErrClosed)
}

// lostCommit loses the answer for one commit, anywhere and at the head, and
// sends it again.
func lostCommit(streams ...string) func(t *testing.T, s events.Store, lose func(bool), recorded bool) {
	return func(t *testing.T, s events.Store, lose func(bool), recorded bool) {
		var a Author
		ctx, cancel := within(t)
		defer cancel()
		next, stop := iterate(s.Subscribe(ctx, 0))
		defer stop()
		mustAppend(t, s, a.Commit("item-1"))
		for round := range 4 {
			before := uint64(len(a.Log))
			commit := a.Commit(streams...)
			end := uint64(len(a.Log))
			send := func() ([]uint64, error) {
				if round%2 == 0 {
					return s.Append(ctx, commit)
				}
				return s.AppendAt(ctx, before, commit)
			}
			lose(recorded)
			positions, err := send()
			there := err == nil // the store found out itself
			if there {
				require.Equal(t, []uint64{end}, positions)
			} else {
				unknown(t, err)
				require.Empty(t, positions)
				there = recorded
			}
			found(t, s, commit, before, there)
			if positions, err = send(); err == nil {
				require.Equal(t, []uint64{end}, positions)
			} else {
				require.ErrorIs(t, err, events.ErrConflict)
				require.True(t, there, "it was not there, and could have been recorded: %v", err)
			}
			found(t, s, commit, before, true)
			if round%2 == 1 {
				_, err = s.AppendAt(ctx, before, events.Commit{event("item-elsewhere", 1)})
				require.ErrorIs(t, err, events.ErrConflict, "the head has moved")
			}
		}
		var got []events.Recorded
		for len(got) < len(a.Log) {
			batch, err := next()
			require.NoError(t, err)
			got = append(got, batch...)
		}
		same(t, a.Log, got)
	}
}

// found checks that a commit is at the end of the log, entirely, or not at all.
func found(t *testing.T, s events.Store, c events.Commit, before uint64, there bool) {
	t.Helper()
	if !there {
		require.Equal(t, before, head(t, s))
		for _, e := range c {
			require.Empty(t, read(t, s, e.Stream, e.Version-1))
		}
		return
	}
	require.Equal(t, before+uint64(len(c)), head(t, s))
	same(t, c, all(t, s, before, len(c)))
	for _, span := range c.Spans() {
		require.Len(t, read(t, s, span.Stream, span.Before), int(span.After-span.Before))
	}
}

// Of a group whose answer is lost some commits are there, from the first on, each
// of them entirely. What is not is sent again.
func lostGroup(t *testing.T, s events.Store, lose func(bool), recorded bool) {
	var a Author
	mustAppend(t, s, a.Commit("item-1"))
	for round := range 3 {
		at := uint64(len(a.Log))
		group := []events.Commit{
			a.Commit("item-1", "item-2"), a.Commit("item-1"), a.Commit("item-3", "item-2", "item-3"), a.Commit(fmt.Sprintf("item-new-%d", round)),
		}
		lose(recorded)
		for tries := 0; len(group) > 0; tries++ {
			require.Less(t, tries, 5, "it is never recorded")
			positions, err := s.AppendAt(t.Context(), at, group...)
			if err == nil {
				require.Len(t, positions, len(group))
			} else {
				unknown(t, err)
			}
			end := head(t, s)
			for len(group) > 0 && at < end {
				require.LessOrEqual(t, at+uint64(len(group[0])), end, "half a commit")
				at += uint64(len(group[0]))
				if len(positions) > 0 {
					require.Equal(t, at, positions[0])
					positions = positions[1:]
				}
				group = group[1:]
			}
			require.Empty(t, positions, "what was acknowledged is there")
		}
		same(t, a.Log, all(t, s, 0, len(a.Log)))
		same(t, a.stream("item-2"), read(t, s, "item-2", 0))
	}
}

// Whoever appends beside is answered rightly.
func lostAmongOthers(t *testing.T, s events.Store, lose func(bool), recorded bool) {
	const appenders, commits = 5, 8
	logs := make([][]events.Recorded, appenders)
	together(appenders, func(n int) {
		var a Author
		own := fmt.Sprintf("item-%d", n)
		for i := range commits {
			if n == 0 && i%3 == 0 {
				lose(recorded)
			}
			if err := persist(t.Context(), s, a.Commit(slicesOf(own, 1+i%3)...)); err != nil {
				t.Errorf("%s: %v", own, err)
				return
			}
		}
		logs[n] = a.Log
	})
	total := 0
	for n, log := range logs {
		same(t, log, read(t, s, fmt.Sprintf("item-%d", n), 0))
		total += len(log)
	}
	require.EqualValues(t, total, head(t, s), "all of it once")
	all(t, s, 0, total)
}

func slicesOf(stream string, n int) (all []string) {
	for range n {
		all = append(all, stream)
	}
	return all
}

// persist appends a commit of one stream, as a caller must who cannot know: after
// an error he reads, and sends it again if it is not there.
func persist(ctx context.Context, s events.Store, c events.Commit) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for first := true; ; first = false {
		_, cause := s.Append(ctx, c)
		if cause == nil {
			return nil
		}
		got, err := tryRead(ctx, s, c[0].Stream, c[0].Version-1)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", cause, err)
		case err != nil: // not yet
		case len(got) == len(c) && got[0].Hash == c[0].Hash:
			if first && errors.Is(cause, events.ErrConflict) {
				return fmt.Errorf("its own commit is no conflict: %w", cause)
			}
			return nil
		case len(got) > 0:
			return fmt.Errorf("%d events where %d were appended or none: %w", len(got), len(c), cause)
		}
	}
}

// A call ends with its context, and is unknown then.
func lostInTime(t *testing.T, s events.Store, lose func(bool), recorded bool) {
	var a Author
	mustAppend(t, s, a.Commit("item-1"))
	commit := a.Commit("item-1", "item-2")
	lose(recorded)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if positions, err := s.Append(ctx, commit); err == nil {
		require.Equal(t, []uint64{3}, positions)
	} else {
		unknown(t, err)
		// The store may still have been at it, so this tells for good only once
		// something else is recorded.
		mustAppend(t, s, events.Commit{event("item-3", 1)})
		if len(read(t, s, "item-2", 0)) == 0 {
			require.EqualValues(t, 2, head(t, s))
			mustAppend(t, s, commit)
		}
	}
	same(t, a.stream("item-1"), read(t, s, "item-1", 0))
	same(t, a.stream("item-2"), read(t, s, "item-2", 0))
}

// Package storetest is what every [events.Store] promises, as tests. A store is
// done when [Run] passes, and whichever of these apply: [RunShared] for a store
// that several processes open, [RunUnknown] and [RunReconnect] for one whose
// engine is elsewhere, [RunTooLarge] for one with limits. A new doubt is a new
// promise here.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// Run checks every promise. open makes an empty log, and sees to it that it is
// closed when its test ends. reopen closes a store and opens its log again; it
// is nil for stores that do not outlive their process.
func Run(t *testing.T, open func(t *testing.T) events.Store, reopen func(t *testing.T, s events.Store) events.Store) {
	for _, promise := range []struct {
		name  string
		holds func(t *testing.T, s events.Store)
	}{
		{"a new log is empty", newLogIsEmpty},
		{"a commit is recorded on all its streams or on none", allOrNothing},
		{"append stops at the first commit that conflicts and keeps those before it", stopsAtConflict},
		{"a commit conflicts unless its streams are at the versions it expects", expectedVersions},
		{"a commit may hold several events of a stream, and build on the commit before it", severalEvents},
		{"an append at the head is recorded there, and one at any other position conflicts", onlyAtHead},
		{"an append at the head stops at the first commit that conflicts and keeps those before it", stopsAtConflictAtHead},
		{"of concurrent appends at one head one is recorded", oneWinsAtHead},
		{"whoever appends at the head knows all that is before his commit", nothingBetween},
		{"positions and versions have no gaps, whatever conflicts between", noGaps},
		{"commits of concurrent appenders do not interleave", notInterleaved},
		{"of concurrent commits to one version one is recorded", oneWins},
		{"who appended reads what he appended", readsOwnAppends},
		{"a stream that was never written to yields nothing", neverWritten},
		{"read yields what follows a version, oldest first", readsAfter},
		{"read may be left early", readLeftEarly},
		{"subscribe yields every event from any position on", subscribeFromAnywhere},
		{"subscribe skips nothing and repeats nothing while events are appended", subscribeWhileAppending},
		{"subscribe waits for more", subscribeWaits},
		{"subscribe yields nothing that cannot be read yet", subscribeOnlyDurable},
		{"subscribe ends with the error of its context", subscribeEnds},
		{"subscribe refuses a position the log has not reached", subscribeOtherLog},
		{"bytes are kept as they are", bytesKept},
		{"the hash chain holds", chainHolds},
		{"a commit of 10,000 events is recorded", largeCommit},
		{"10,000 streams are kept apart", manyStreams},
		{"a cancelled append records nothing", cancelledAppend},
		{"an append of no commits does nothing", noCommits},
		{"an empty commit and a skipped version panic", panics},
		{"a closed store fails", closedFails},
		{"random appends do what the model does", model},
	} {
		t.Run(promise.name, func(t *testing.T) { promise.holds(t, open(t)) })
	}
	t.Run("every log has an identity of its own", func(t *testing.T) {
		a, b := open(t), open(t)
		require.NotEmpty(t, a.LogID())
		require.Equal(t, a.LogID(), a.LogID())
		require.NotEqual(t, a.LogID(), b.LogID())
	})
	if reopen != nil {
		t.Run("what was appended is there when the log is opened again", func(t *testing.T) { persists(t, open(t), reopen) })
	}
}

func newLogIsEmpty(t *testing.T, s events.Store) {
	require.Zero(t, head(t, s))
	require.Empty(t, read(t, s, "item-1", 0))
}

func allOrNothing(t *testing.T, s events.Store) {
	var a Author
	mustAppend(t, s, a.Commit("item-1", "item-1", "item-2"))

	_, err := s.Append(t.Context(), events.Commit{event("item-1", 3), event("item-3", 1), event("item-2", 1), event("item-4", 1)})
	require.ErrorIs(t, err, events.ErrConflict)
	require.ErrorContains(t, err, "item-2")
	for stream, want := range map[string]int{"item-1": 2, "item-2": 1, "item-3": 0, "item-4": 0} {
		require.Len(t, read(t, s, stream, 0), want, stream)
	}
	require.EqualValues(t, 3, head(t, s))
	mustAppend(t, s, a.Commit("item-1", "item-3", "item-2", "item-4")) // the refused commit left nothing behind
}

func stopsAtConflict(t *testing.T, s events.Store) {
	var a Author
	first, second, after := a.Commit("item-1"), a.Commit("item-2", "item-1"), a.Commit("item-3")
	stale := events.Commit{event("item-4", 1), event("item-1", 2)}

	positions, err := s.Append(t.Context(), first, second, stale, after)
	require.ErrorIs(t, err, events.ErrConflict)
	require.Equal(t, []uint64{1, 3}, positions)
	require.EqualValues(t, 3, head(t, s))
	same(t, a.Log[:3], all(t, s, 0, 3))
	require.Empty(t, read(t, s, "item-3", 0))
	require.Empty(t, read(t, s, "item-4", 0))

	a.Log = a.Log[:3]
	positions, err = s.Append(t.Context(), after)
	require.NoError(t, err)
	require.Equal(t, []uint64{4}, positions)
}

func expectedVersions(t *testing.T, s events.Store) {
	var a Author
	mustAppend(t, s, a.Commit("item-1", "item-1", "item-1"))
	for version, name := range map[uint64]string{
		1: "expects a new stream", 2: "too low", 3: "the last one again", 5: "too high", 900: "much too high",
	} {
		positions, err := s.Append(t.Context(), events.Commit{event("item-1", version)})
		require.ErrorIs(t, err, events.ErrConflict, name)
		require.Empty(t, positions, name)
	}
	_, err := s.Append(t.Context(), events.Commit{event("item-2", 2)})
	require.ErrorIs(t, err, events.ErrConflict, "expects a stream that is not there")
	require.EqualValues(t, 3, head(t, s))
	mustAppend(t, s, a.Commit("item-1"))
}

func severalEvents(t *testing.T, s events.Store) {
	var a Author
	positions := mustAppend(t, s, a.Commit("item-1", "item-1", "item-2", "item-1"), a.Commit("item-1", "item-2"))
	require.Equal(t, []uint64{4, 6}, positions)
	same(t, a.stream("item-1"), read(t, s, "item-1", 0))
	same(t, a.stream("item-2"), read(t, s, "item-2", 0))
	same(t, a.Log, all(t, s, 0, 6))
}

func noGaps(t *testing.T, s events.Store) {
	var a Author
	for range 20 {
		positions, err := s.Append(t.Context(), a.Commit("item-1", "item-2"), events.Commit{event("item-3", 7), event("item-4", 1)})
		require.ErrorIs(t, err, events.ErrConflict)
		require.Equal(t, []uint64{uint64(len(a.Log))}, positions)
	}
	same(t, a.Log, all(t, s, 0, 40)) // all checks the positions, same the versions
}

func notInterleaved(t *testing.T, s events.Store) {
	const appenders, commits = 16, 25
	together(appenders, func(n int) {
		var a Author
		own := fmt.Sprintf("item-%d", n)
		for range commits {
			positions, err := s.Append(t.Context(), a.Commit(own, own+"-b", own), a.Commit(own, own+"-b"))
			if err != nil || len(positions) != 2 || positions[1] < positions[0]+2 {
				t.Errorf("appended at %v, %v", positions, err)
			}
		}
	})
	log := all(t, s, 0, appenders*commits*5)
	versions := make(map[string]uint64)
	for i, e := range log {
		require.Equal(t, versions[e.Stream]+1, e.Version, e.Stream)
		versions[e.Stream] = e.Version
		if part := metadata(t, e); part.Part > 1 {
			require.Equal(t, metadata(t, log[i-1]).CommandID, part.CommandID, "a stranger in a commit at position %d", e.Position)
			require.Equal(t, metadata(t, log[i-1]).Part+1, part.Part)
		}
	}
}

func oneWins(t *testing.T, s events.Store) {
	for version := uint64(1); version <= 10; version++ {
		var mu sync.Mutex
		won := 0
		together(8, func(int) {
			_, err := s.Append(t.Context(), events.Commit{event("item-1", version)})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else {
				require.ErrorIs(t, err, events.ErrConflict)
			}
		})
		require.Equal(t, 1, won)
	}
	require.Len(t, read(t, s, "item-1", 0), 10)
	require.EqualValues(t, 10, head(t, s))
}

func readsOwnAppends(t *testing.T, s events.Store) {
	together(8, func(n int) {
		var a Author
		own := fmt.Sprintf("item-%d", n)
		for range 10 {
			if _, err := s.Append(t.Context(), a.Commit(own, "item-shared-"+own)); err != nil {
				t.Error(err)
			}
			if got, err := tryRead(t.Context(), s, own, 0); err != nil || len(got) != len(a.Log)/2 {
				t.Errorf("read %d events, appended %d: %v", len(got), len(a.Log)/2, err)
			}
		}
	})
}

func neverWritten(t *testing.T, s events.Store) {
	mustAppend(t, s, new(Author).Commit("item-1"))
	for _, stream := range []string{"item-2", "item-", "item-1=", "ITEM-1"} {
		require.Empty(t, read(t, s, stream, 0), stream)
		require.Empty(t, read(t, s, stream, 5), stream)
	}
}

func readsAfter(t *testing.T, s events.Store) {
	var a Author
	for range 30 { // more than a page of any store, and another stream between
		mustAppend(t, s, a.Commit(slices.Repeat([]string{"item-1", "item-1", "item-2"}, 10)...))
	}
	want := a.stream("item-1")
	for _, after := range []uint64{0, 1, 255, 256, 257, 300, 511, 512, 599, 600, 601, 1e6, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		same(t, want[min(after, 600):], read(t, s, "item-1", after))
	}
}

func readLeftEarly(t *testing.T, s events.Store) {
	var a Author
	mustAppend(t, s, a.Commit(slices.Repeat([]string{"item-1"}, 20)...))
	for range 20 { // more than any pool of connections
		for e, err := range s.Read(t.Context(), "item-1", 4) {
			require.NoError(t, err)
			require.EqualValues(t, 5, e.Version)
			break
		}
		for batch, err := range s.Subscribe(t.Context(), 4) {
			require.NoError(t, err)
			require.EqualValues(t, 5, batch[0].Position)
			break
		}
	}
	mustAppend(t, s, a.Commit("item-1"))
	same(t, a.Log, read(t, s, "item-1", 0))
}

func subscribeFromAnywhere(t *testing.T, s events.Store) {
	var a Author
	for range 50 { // further back than a store remembers, in batches of any size
		mustAppend(t, s, a.Commit(slices.Repeat([]string{"item-1", "item-2", "item-3"}, 141)...))
	}
	n := uint64(len(a.Log))
	for _, after := range []uint64{0, 1, 422, 423, 999, 1000, 1001, 3000, n / 2, n - 1001, n - 1000, n - 1} {
		same(t, a.Log[after:], all(t, s, after, int(n-after)))
	}
}

func subscribeWhileAppending(t *testing.T, s events.Store) {
	const appenders, commits = 4, 100
	const total = appenders * commits * 3
	together(appenders+3, func(n int) {
		if n < appenders {
			var a Author
			for range commits {
				if _, err := s.Append(t.Context(), a.Commit(slices.Repeat([]string{fmt.Sprintf("item-%d", n)}, 3)...)); err != nil {
					t.Error(err)
				}
			}
			return
		}
		// One subscriber stays; the others come back again and again.
		stay := total
		if n > appenders {
			stay = 70 * (n - appenders)
		}
		for at := 0; at < total; at += stay {
			if _, err := tryAll(t.Context(), s, uint64(at), min(stay, total-at)); err != nil {
				t.Error(err)
			}
		}
	})
}

func subscribeWaits(t *testing.T, s events.Store) {
	var a Author
	ctx, cancel := within(t)
	defer cancel()
	next, stop := iterate(s.Subscribe(ctx, 0))
	defer stop()
	for range 5 {
		appended := make(chan error)
		go func() {
			_, err := s.Append(ctx, a.Commit("item-1", "item-2"))
			appended <- err
		}()
		var got []events.Recorded
		for len(got) < 2 {
			batch, err := next()
			require.NoError(t, err)
			got = append(got, batch...)
		}
		require.NoError(t, <-appended)
		same(t, a.Log[len(a.Log)-2:], got)
	}
}

func subscribeOnlyDurable(t *testing.T, s events.Store) {
	const commits = 50
	together(2, func(n int) {
		if n == 0 {
			var a Author
			for range commits {
				if _, err := s.Append(t.Context(), a.Commit("item-1")); err != nil {
					t.Error(err)
				}
			}
			return
		}
		for batch, err := range s.Subscribe(t.Context(), 0) {
			if err != nil {
				t.Error(err)
				return
			}
			last := batch[len(batch)-1]
			got, err := tryRead(t.Context(), s, last.Stream, last.Version-1)
			if at, headErr := s.Head(t.Context()); err != nil || headErr != nil || len(got) == 0 || at < last.Position {
				t.Errorf("event %d came before it could be read: %v, head %d %v", last.Position, err, at, headErr)
			}
			if last.Position == commits {
				return
			}
		}
	})
}

func subscribeEnds(t *testing.T, s events.Store) {
	mustAppend(t, s, new(Author).Commit("item-1"))
	for name, when := range map[string]func(context.CancelFunc){
		"before": func(cancel context.CancelFunc) { cancel() },
		"while it waits": func(cancel context.CancelFunc) {
			t.Cleanup(cancel)
			go cancel()
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		when(cancel)
		var last error
		for _, err := range s.Subscribe(ctx, 0) {
			require.NoError(t, last, "%s: it went on after an error", name)
			last = err
		}
		require.Equal(t, context.Canceled, last, name)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, nil)
	defer cancel()
	for _, err := range s.Subscribe(ctx, 1) {
		require.Equal(t, context.DeadlineExceeded, err)
	}
}

func subscribeOtherLog(t *testing.T, s events.Store) {
	for _, n := range []uint64{0, 1} {
		for _, beyond := range []uint64{1, 2, 1 << 40, 1<<63 - 2} {
			yielded := 0
			for batch, err := range s.Subscribe(t.Context(), n+beyond) {
				yielded++
				require.ErrorIs(t, err, events.ErrOtherLog)
				require.Empty(t, batch)
			}
			require.Equal(t, 1, yielded)
		}
		mustAppend(t, s, events.Commit{event("item-1", n+1)})
	}
}

func bytesKept(t *testing.T, s events.Store) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	var commit events.Commit
	for _, subject := range []string{"BANK CHARGES", "85123a", "85123A", "Ünï ✓ 漢字 = * > .\x00\xff'\"%", string(every)} {
		stream := events.ItemStream(subject)
		version := uint64(0)
		for _, body := range [][]byte{every, {}, {0}, []byte(`{"é": 1.50 , "a":"\u0000"}`), []byte("null"), slices.Repeat(every, 1000)} {
			version++
			e := event(stream, version)
			e.Data, e.Meta = body, slices.Concat(body, []byte{0xff, 0})
			e.Prev = events.Hash(every[:32])
			e.Hash = e.Link()
			commit = append(commit, e)
		}
	}
	mustAppend(t, s, commit)
	same(t, commit, all(t, s, 0, len(commit)))
	for i := 0; i < len(commit); i += 6 {
		same(t, commit[i:i+6], read(t, s, commit[i].Stream, 0))
	}
}

func chainHolds(t *testing.T, s events.Store) {
	var a Author
	for range 10 {
		mustAppend(t, s, a.Commit("item-1", "item-2", "item-1"), a.Commit("item-2"))
	}
	for _, stream := range []string{"item-1", "item-2"} {
		var prev events.Recorded
		for _, e := range read(t, s, stream, 0) {
			require.NoError(t, e.Verify(prev))
			prev = e
		}
		require.EqualValues(t, 20, prev.Version)
	}
	last := make(map[string]events.Recorded)
	for _, e := range all(t, s, 0, 40) {
		require.NoError(t, e.Verify(last[e.Stream]))
		last[e.Stream] = e
	}
}

func largeCommit(t *testing.T, s events.Store) {
	var a Author
	streams := make([]string, 10_000)
	for i := range streams {
		streams[i] = fmt.Sprintf("item-%d", i%4000)
	}
	require.Equal(t, []uint64{10_000}, mustAppend(t, s, a.Commit(streams...)))
	same(t, a.Log, all(t, s, 0, 10_000))
	same(t, a.stream("item-7"), read(t, s, "item-7", 0))
	mustAppend(t, s, a.Commit("item-7", "item-3999"))

	large, small := a.Commit(streams[:2500]...), a.Commit("item-7")
	positions, err := s.AppendAt(t.Context(), 10_000, large, small)
	require.ErrorIs(t, err, events.ErrConflict)
	require.Empty(t, positions)
	positions, err = s.AppendAt(t.Context(), 10_002, large, small)
	require.NoError(t, err)
	require.Equal(t, []uint64{12_502, 12_503}, positions)
	same(t, a.Log[10_002:], all(t, s, 10_002, 2501))
}

func manyStreams(t *testing.T, s events.Store) {
	var a Author
	for range 2 {
		for i := 0; i < 10_000; i += 500 {
			var group []events.Commit
			for n := range 500 {
				group = append(group, a.Commit(fmt.Sprintf("item-%d", i+n)))
			}
			mustAppend(t, s, group...)
		}
	}
	for _, i := range []int{0, 1, 4999, 9998, 9999} {
		stream := fmt.Sprintf("item-%d", i)
		same(t, []events.Recorded{a.Log[i], a.Log[10_000+i]}, read(t, s, stream, 0))
	}
	same(t, a.Log, all(t, s, 0, 20_000))
}

func cancelledAppend(t *testing.T, s events.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	positions, err := s.Append(ctx, events.Commit{event("item-1", 1)})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, positions)
	_, err = s.AppendAt(ctx, 0, events.Commit{event("item-1", 1)})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, head(t, s))
	mustAppend(t, s, events.Commit{event("item-1", 1)})
}

func noCommits(t *testing.T, s events.Store) {
	positions, err := s.Append(t.Context())
	require.NoError(t, err)
	require.Empty(t, positions)
	require.Zero(t, head(t, s))
}

func panics(t *testing.T, s events.Store) {
	good := events.Commit{event("item-1", 1)}
	for name, bad := range map[string]events.Commit{
		"empty":              {},
		"skips a version":    {event("item-2", 1), event("item-2", 3)},
		"repeats a version":  {event("item-2", 1), event("item-2", 1)},
		"skips, interleaved": {event("item-2", 1), event("item-3", 1), event("item-2", 3)},
		"goes backwards":     {event("item-2", 2), event("item-2", 1)},
	} {
		require.Panics(t, func() { _, _ = s.Append(t.Context(), good, bad) }, name)
		require.Panics(t, func() { _, _ = s.AppendAt(t.Context(), 0, good, bad) }, name)
	}
	require.Zero(t, head(t, s))
	mustAppend(t, s, good)
}

func closedFails(t *testing.T, s events.Store) {
	mustAppend(t, s, events.Commit{event("item-1", 1)})
	ctx, cancel := within(t)
	defer cancel()
	waiting := make(chan error)
	next, stop := iterate(s.Subscribe(ctx, 0))
	defer stop()
	_, err := next()
	require.NoError(t, err)
	go func() {
		_, err := next()
		waiting <- err
	}()
	require.NoError(t, s.Close())
	require.Error(t, <-waiting)
	require.NoError(t, ctx.Err(), "a waiting subscriber did not notice")

	_, err = s.Append(t.Context(), events.Commit{event("item-1", 2)})
	require.Error(t, err)
	require.NotErrorIs(t, err, events.ErrConflict)
	_, err = s.AppendAt(t.Context(), 1, events.Commit{event("item-1", 2)})
	require.Error(t, err)
	require.NotErrorIs(t, err, events.ErrConflict)
	_, err = tryRead(t.Context(), s, "item-1", 0)
	require.Error(t, err)
	_, err = tryAll(t.Context(), s, 0, 1)
	require.Error(t, err)
	_, err = s.Head(t.Context())
	require.Error(t, err)
	require.NoError(t, s.Close(), "closing again")
}

func persists(t *testing.T, s events.Store, reopen func(*testing.T, events.Store) events.Store) {
	var a Author
	id := s.LogID()
	for round := range 4 {
		mustAppend(t, s, a.Commit("item-1", "item-2"), a.Commit(fmt.Sprintf("item-round-%d", round), "item-1"))
		if round == 2 { // more than a page of any store
			for range 6 {
				mustAppend(t, s, a.Commit(slices.Repeat([]string{"item-1", "item-3"}, 500)...))
			}
		}
		_, err := s.Append(t.Context(), events.Commit{event("item-2", 1)})
		require.ErrorIs(t, err, events.ErrConflict)
		s = reopen(t, s)
		require.Equal(t, id, s.LogID())
		require.EqualValues(t, len(a.Log), head(t, s))
		same(t, a.Log, all(t, s, 0, len(a.Log)))
		for _, stream := range []string{"item-1", "item-2", "item-3"} {
			same(t, a.stream(stream), read(t, s, stream, 0))
		}
		_, err = s.Append(t.Context(), events.Commit{event("item-2", 1)})
		require.ErrorIs(t, err, events.ErrConflict, "versions are checked after opening again")
	}
}

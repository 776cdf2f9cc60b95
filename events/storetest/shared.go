package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// RunShared checks what two stores promise that are open on one log at once.
// open makes an empty log and opens it twice, as two processes would, with
// nothing in common but the engine; it sees to it that both are closed when its
// test ends.
func RunShared(t *testing.T, open func(t *testing.T) (a, b events.Shared)) {
	for _, promise := range []struct {
		name  string
		holds func(t *testing.T, a, b events.Shared)
	}{
		{"both have the identity of the log", oneIdentity},
		{"what one has appended the other knows at once", knownAtOnce},
		{"a subscription on one yields what the other appends", subscribeAcross},
		{"a position that the other was given is one of this log", resumeAcross},
		{"a stream that the other has moved conflicts", conflictsAcross},
		{"a log that the other has moved conflicts at the head", headAcross},
		{"of concurrent appends at one head on both one is recorded", func(t *testing.T, a, b events.Shared) { oneOfManyWins(t, a, b) }},
		{"nothing comes between a head and what is appended there on either", func(t *testing.T, a, b events.Shared) { nothingComesBetween(t, a, b) }},
		{"the log has one order for both, whoever writes", oneOrder},
		{"random appends on either do what the model does", func(t *testing.T, a, b events.Shared) { model(t, &inTurns{a: a, b: b}) }},
		{"closing one leaves the other", closingOne},
	} {
		t.Run(promise.name, func(t *testing.T) {
			a, b := open(t)
			promise.holds(t, a, b)
		})
	}
	t.Run("registers", func(t *testing.T) {
		for _, promise := range []struct {
			name  string
			holds func(t *testing.T, a, b events.Shared)
		}{
			{"one that was never set has no value", registerUnset},
			{"a value is replaced at its revision and at no other", registerSets},
			{"values are kept as they are", registerBytes},
			{"of concurrent sets of one revision one wins", registerOneWins},
			{"two names are two registers", registerNames},
			{"they are beside the log and not in it", registerBeside},
			{"a set that was cancelled before changes nothing", registerCancelled},
		} {
			t.Run(promise.name, func(t *testing.T) {
				a, b := open(t)
				promise.holds(t, a, b)
			})
		}
	})
}

// inTurns is two stores on one log as one: every call goes to the other one.
type inTurns struct {
	a, b  events.Store
	calls atomic.Uint64
}

func (s *inTurns) next() events.Store {
	if s.calls.Add(1)%2 == 0 {
		return s.a
	}
	return s.b
}

func (s *inTurns) LogID() string { return s.next().LogID() }

func (s *inTurns) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.next().Append(ctx, commits...)
}

func (s *inTurns) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.next().AppendAt(ctx, head, commits...)
}

func (s *inTurns) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return s.next().Read(ctx, stream, after)
}

func (s *inTurns) Head(ctx context.Context) (uint64, error) { return s.next().Head(ctx) }

func (s *inTurns) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return s.next().Subscribe(ctx, after)
}

func (s *inTurns) Close() error { return errors.Join(s.a.Close(), s.b.Close()) }

func oneIdentity(t *testing.T, a, b events.Shared) {
	require.NotEmpty(t, a.LogID())
	require.Equal(t, a.LogID(), b.LogID())
}

func knownAtOnce(t *testing.T, a, b events.Shared) {
	var author Author
	writer, reader := a, b
	for round := range 20 {
		positions, err := writer.Append(t.Context(), author.Commit("item-1", "item-2", "item-1"), author.Commit(fmt.Sprintf("item-new-%d", round)))
		require.NoError(t, err)
		end := positions[1]
		require.EqualValues(t, len(author.Log), end)
		require.Equal(t, end, head(t, reader))
		same(t, author.stream("item-1"), read(t, reader, "item-1", 0))
		same(t, author.Log[len(author.Log)-1:], read(t, reader, fmt.Sprintf("item-new-%d", round), 0))
		same(t, author.Log[end-4:], all(t, reader, end-4, 4))
		writer, reader = reader, writer
	}
	same(t, author.Log, all(t, a, 0, len(author.Log)))
	same(t, author.Log, all(t, b, 0, len(author.Log)))
}

func subscribeAcross(t *testing.T, a, b events.Shared) {
	var author Author
	ctx, cancel := within(t)
	defer cancel()
	next, stop := iterate(b.Subscribe(ctx, 0))
	defer stop()
	for round := range 10 {
		appended := make(chan error)
		go func() {
			_, err := []events.Store{a, a, b}[round%3].Append(ctx, author.Commit("item-1", "item-2"))
			appended <- err
		}()
		var got []events.Recorded
		for len(got) < 2 {
			batch, err := next()
			require.NoError(t, err)
			got = append(got, batch...)
		}
		require.NoError(t, <-appended)
		same(t, author.Log[len(author.Log)-2:], got)
	}
}

// A node that has not heard of the newest events yet is asked for what comes
// after them.
func resumeAcross(t *testing.T, a, b events.Shared) {
	var author Author
	for range 20 {
		positions, err := a.Append(t.Context(), author.Commit("item-1"))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		next, stop := iterate(b.Subscribe(ctx, positions[0]))
		waited := make(chan error)
		go func() {
			batch, err := next()
			if err == nil && (len(batch) == 0 || batch[0].Position != positions[0]+1) {
				err = fmt.Errorf("%d events, not position %d, came first", len(batch), positions[0]+1)
			}
			waited <- err
		}()
		_, err = a.Append(t.Context(), author.Commit("item-1"))
		require.NoError(t, err)
		require.NoError(t, <-waited)
		stop()
		cancel()
	}
	at := head(t, b)
	for _, err := range b.Subscribe(t.Context(), at+1) {
		require.ErrorIs(t, err, events.ErrOtherLog)
	}
}

func conflictsAcross(t *testing.T, a, b events.Shared) {
	var author Author
	writer, other := a, b
	for round := range 10 {
		first := author.Commit("item-1", "item-2")
		require.NotEmpty(t, mustAppend(t, writer, first))
		_, err := other.Append(t.Context(), first)
		require.ErrorIs(t, err, events.ErrConflict)
		positions, err := other.Append(t.Context(),
			events.Commit{event(fmt.Sprintf("item-new-%d", round), 1)}, events.Commit{event("item-3", uint64(round)+1), event("item-2", uint64(round)+1)})
		require.ErrorIs(t, err, events.ErrConflict)
		require.Len(t, positions, 1, "the commit before it is recorded")
		require.Empty(t, read(t, writer, "item-3", 0))
		require.EqualValues(t, 3*(round+1), head(t, writer))
		writer, other = other, writer
	}
}

// The one who was overtaken cannot write anywhere: not on streams that the other
// left alone, not on new ones.
func headAcross(t *testing.T, a, b events.Shared) {
	var ours, theirs Author
	writer, sleeper := a, b
	mustAppend(t, sleeper, ours.Commit("item-ours"))
	for round := range 10 {
		at := head(t, sleeper)
		mustAppend(t, writer, theirs.Commit("item-theirs"))
		positions, err := sleeper.AppendAt(t.Context(), at, events.Commit{event("item-ours", uint64(round)+2)}, events.Commit{event("item-never", 1)})
		require.ErrorIs(t, err, events.ErrConflict)
		require.Empty(t, positions)
		require.Equal(t, at+1, head(t, writer))
		require.Empty(t, read(t, writer, "item-never", 0))

		positions, err = sleeper.AppendAt(t.Context(), at+1, ours.Commit("item-ours"))
		require.NoError(t, err)
		require.Equal(t, []uint64{at + 2}, positions)
		writer, sleeper = sleeper, writer
	}
}

func oneOrder(t *testing.T, a, b events.Shared) {
	const writers, commits = 4, 12
	const total = writers * commits * 3
	logs := make([][]events.Recorded, 2)
	var mu sync.Mutex
	acknowledged := make(map[string]uint64) // by command
	together(writers+2, func(n int) {
		s := []events.Store{a, b}[n%2]
		if n >= writers { // one subscriber on each, from the beginning
			got, err := tryAll(t.Context(), s, 0, total)
			if err != nil {
				t.Error(err)
			}
			logs[n%2] = got
			return
		}
		var author Author
		own := fmt.Sprintf("item-%d", n)
		for done := range commits {
			commit := author.Commit(own, own+"-b")
			commit = append(commit, event("item-hot", 1))
			for {
				at, err := tryRead(t.Context(), s, "item-hot", 0)
				if err != nil {
					t.Error(err)
					return
				}
				var prev events.Recorded
				if len(at) > 0 {
					prev = at[len(at)-1]
				}
				commit[2] = record("item-hot", prev, metadata(t, commit[0]).CommandID, 3, 3)
				positions, err := s.Append(t.Context(), commit)
				if errors.Is(err, events.ErrConflict) {
					continue
				}
				if err != nil || len(positions) != 1 {
					t.Errorf("commit %d of %s: %v, %v", done, own, positions, err)
					return
				}
				mu.Lock()
				acknowledged[metadata(t, commit[0]).CommandID] = positions[0]
				mu.Unlock()
				break
			}
		}
	})
	require.Len(t, acknowledged, writers*commits)
	require.Len(t, logs[0], total)
	same(t, logs[0], logs[1])
	last := make(map[string]events.Recorded)
	for i, e := range logs[0] {
		require.NoError(t, e.Verify(last[e.Stream]), "lost or doubled")
		last[e.Stream] = e
		if m := metadata(t, e); i%3 == 2 {
			require.Equal(t, acknowledged[m.CommandID], e.Position, "it is where its writer was told")
		}
	}
	require.EqualValues(t, writers*commits, last["item-hot"].Version)
}

func closingOne(t *testing.T, a, b events.Shared) {
	var author Author
	mustAppend(t, a, author.Commit("item-1"))
	require.NoError(t, a.Close())
	mustAppend(t, b, author.Commit("item-1"))
	same(t, author.Log, read(t, b, "item-1", 0))
	same(t, author.Log, all(t, b, 0, 2))
}

func register(t *testing.T, s events.Shared, name string) events.Register {
	t.Helper()
	r, err := s.Register(t.Context(), name)
	require.NoError(t, err)
	return r
}

func valueOf(t *testing.T, r events.Register) (string, uint64) {
	t.Helper()
	value, revision, err := r.Get(t.Context())
	require.NoError(t, err)
	return string(value), revision
}

func set(t *testing.T, r events.Register, revision uint64, value string) uint64 {
	t.Helper()
	now, err := r.Set(t.Context(), revision, []byte(value))
	require.NoError(t, err)
	require.Greater(t, now, revision)
	return now
}

func registerUnset(t *testing.T, a, b events.Shared) {
	for _, s := range []events.Shared{a, b} {
		r := register(t, s, "lease")
		value, revision, err := r.Get(t.Context())
		require.NoError(t, err)
		require.Zero(t, revision)
		require.Empty(t, value)
		_, err = r.Set(t.Context(), 1, []byte("x"))
		require.ErrorIs(t, err, events.ErrConflict)
	}
}

func registerSets(t *testing.T, a, b events.Shared) {
	ours, theirs := register(t, a, "lease"), register(t, b, "lease")
	var revision uint64
	old := []uint64{1 << 40}
	for round := range 12 {
		value := fmt.Sprint("value ", round)
		for _, stale := range old {
			_, err := theirs.Set(t.Context(), stale, []byte("stale"))
			require.ErrorIs(t, err, events.ErrConflict)
		}
		old = append(old, revision)
		revision = set(t, ours, revision, value)
		for _, r := range []events.Register{ours, theirs, register(t, b, "lease")} {
			got, at := valueOf(t, r)
			require.Equal(t, value, got)
			require.Equal(t, revision, at)
		}
		ours, theirs = theirs, ours
	}
	again := set(t, ours, revision, "value 11")
	require.Greater(t, again, revision, "also where the value is the same")
}

func registerBytes(t *testing.T, a, b events.Shared) {
	ours, theirs := register(t, a, "lease"), register(t, b, "lease")
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	var revision uint64
	for _, value := range []string{"", string(every), `{"node":"é\u0000"}`, "", string(slices.Repeat(every, 16))} {
		revision = set(t, ours, revision, value)
		got, at := valueOf(t, theirs)
		require.Equal(t, value, got)
		require.Equal(t, revision, at, "a value of no bytes is one, too")
	}
}

func registerOneWins(t *testing.T, a, b events.Shared) {
	registers := []events.Register{register(t, a, "lease"), register(t, b, "lease"), register(t, a, "lease")}
	var revision uint64
	for round := range 8 {
		var mu sync.Mutex
		var won []string
		var now uint64
		together(6, func(n int) {
			value := fmt.Sprint(round, " by ", n)
			at, err := registers[n%3].Set(t.Context(), revision, []byte(value))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won, now = append(won, value), at
			} else if !errors.Is(err, events.ErrConflict) {
				t.Error(err)
			}
		})
		require.Len(t, won, 1)
		value, at := valueOf(t, registers[round%3])
		require.Equal(t, won[0], value)
		require.Equal(t, now, at)
		require.Greater(t, now, revision)
		revision = now
	}
}

func registerNames(t *testing.T, a, b events.Shared) {
	revisions := make(map[string]uint64)
	for _, name := range []string{"lease", "Lease", "lease2", "other"} {
		value, revision := valueOf(t, register(t, b, name))
		require.Empty(t, value)
		require.Zero(t, revision)
		revisions[name] = set(t, register(t, a, name), 0, "of "+name)
	}
	for name, want := range revisions {
		value, revision := valueOf(t, register(t, b, name))
		require.Equal(t, "of "+name, value)
		require.Equal(t, want, revision)
	}
}

func registerBeside(t *testing.T, a, b events.Shared) {
	var author Author
	r := register(t, a, "lease")
	revision := set(t, r, 0, "one")
	require.Zero(t, head(t, b))
	mustAppend(t, b, author.Commit("item-1", "lease"))
	revision = set(t, r, revision, "two")
	mustAppend(t, a, author.Commit("lease"))
	set(t, r, revision, "three")
	require.EqualValues(t, 3, head(t, b))
	same(t, author.Log, all(t, b, 0, 3))
	same(t, author.stream("lease"), read(t, b, "lease", 0))
}

func registerCancelled(t *testing.T, a, b events.Shared) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := register(t, a, "lease")
	_, err := r.Set(ctx, 0, []byte("x"))
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = r.Get(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_, revision := valueOf(t, register(t, b, "lease"))
	require.Zero(t, revision)
}

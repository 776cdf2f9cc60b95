package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// patience is when a test gives up on a store that should have answered.
const patience = time.Minute

// start is the first of the times events are recorded at.
var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// Author writes commits that continue the chains of their streams, and remembers
// them in order. The zero Author begins every stream. It is for one goroutine.
type Author struct {
	Log  []events.Recorded
	last map[string]events.Recorded
}

// Commit makes the next commit, of an event of each stream named; a stream may
// be named several times. The metadata of its events number them.
func (a *Author) Commit(streams ...string) events.Commit {
	if a.last == nil {
		a.last = make(map[string]events.Recorded)
	}
	command := uuid.NewString()
	var c events.Commit
	for i, stream := range streams {
		e := record(stream, a.last[stream], command, i+1, len(streams))
		a.last[stream] = e
		c = append(c, e)
	}
	a.Log = append(a.Log, c...)
	return c
}

// stream is what a wrote to a stream.
func (a *Author) stream(stream string) (of []events.Recorded) {
	for _, e := range a.Log {
		if e.Stream == stream {
			of = append(of, e)
		}
	}
	return of
}

// event is one that continues no chain.
func event(stream string, version uint64) events.Recorded {
	return record(stream, events.Recorded{Version: version - 1}, uuid.NewString(), 1, 1)
}

func record(stream string, prev events.Recorded, command string, part, parts int) events.Recorded {
	n := prev.Version + 1
	fact := events.StockAdjusted{
		ItemID: stream, LevelID: "ilev_01JNQ4Y5", LocationID: "sloc_berlin",
		Delta: events.Units(1), Stocked: events.Units(int64(n)),
	}
	meta := &events.Meta{
		EventID: uuid.NewString(), Command: "adjust-inventory-levels", CommandID: command,
		Actor: "Zoë", Reason: "count", Recorded: start.Add(time.Duration(n)), Part: part, Parts: parts,
	}
	e, err := events.Record(stream, prev.Version, prev.Hash, fact, meta)
	if err != nil {
		panic(err)
	}
	return e
}

func metadata(t *testing.T, e events.Recorded) events.Meta {
	t.Helper()
	m, err := e.Metadata()
	require.NoError(t, err)
	return m
}

func mustAppend(t *testing.T, s events.Store, commits ...events.Commit) []uint64 {
	t.Helper()
	positions, err := s.Append(t.Context(), commits...)
	require.NoError(t, err)
	require.Len(t, positions, len(commits))
	require.Equal(t, positions[len(positions)-1], head(t, s))
	return positions
}

func head(t *testing.T, s events.Store) uint64 {
	t.Helper()
	at, err := s.Head(t.Context())
	require.NoError(t, err)
	return at
}

func read(t *testing.T, s events.Store, stream string, after uint64) []events.Recorded {
	t.Helper()
	got, err := tryRead(t.Context(), s, stream, after)
	require.NoError(t, err)
	return got
}

// tryRead reads a stream, and checks that the versions are in order.
func tryRead(ctx context.Context, s events.Store, stream string, after uint64) (got []events.Recorded, err error) {
	for e, err := range s.Read(ctx, stream, after) {
		if err != nil {
			return got, err
		}
		if after++; e.Stream != stream || e.Version != after || e.Position == 0 {
			return got, fmt.Errorf("read %s@%d at position %d, want %s@%d", e.Stream, e.Version, e.Position, stream, after)
		}
		got = append(got, e)
	}
	return got, nil
}

func all(t *testing.T, s events.Store, after uint64, n int) []events.Recorded {
	t.Helper()
	got, err := tryAll(t.Context(), s, after, n)
	require.NoError(t, err)
	return got
}

// tryAll subscribes until n events have come, and checks batches and positions.
func tryAll(ctx context.Context, s events.Store, after uint64, n int) (got []events.Recorded, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for batch, err := range s.Subscribe(ctx, after) {
		if err != nil {
			return got, fmt.Errorf("after %d of %d events: %w", len(got), n, err)
		}
		if len(batch) == 0 || len(batch) > events.MaxBatch {
			return got, fmt.Errorf("a batch of %d", len(batch))
		}
		for _, e := range batch {
			if after++; e.Position != after {
				return got, fmt.Errorf("position %d came where %d follows", e.Position, after)
			}
		}
		if got = append(got, batch...); len(got) >= n {
			return got[:n], nil
		}
	}
	return got, errors.New("the subscription ended without an error")
}

// same checks that what a store returned is what was given to it, to the byte,
// at some position.
func same(t *testing.T, want, got []events.Recorded) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		a, b := want[i], got[i]
		if a.Stream != b.Stream || a.Version != b.Version || a.Type != b.Type ||
			string(a.Data) != string(b.Data) || string(a.Meta) != string(b.Meta) || a.Prev != b.Prev || a.Hash != b.Hash {
			require.Failf(t, "an event differs", "%d of %d: %+v is stored as %+v", i, len(want), a, b)
		}
	}
}

// together calls do(0) to do(n-1) at once, and waits for all.
func together(n int, do func(n int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

func within(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), patience)
}

// iterate turns a subscription into a call that waits for its next batch.
func iterate(subscription iter.Seq2[[]events.Recorded, error]) (next func() ([]events.Recorded, error), stop func()) {
	pull, stop := iter.Pull2(subscription)
	return func() ([]events.Recorded, error) {
		batch, err, ok := pull()
		if !ok {
			return nil, errors.New("the subscription ended without an error")
		}
		return batch, err
	}, stop
}

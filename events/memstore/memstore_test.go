package memstore_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *memstore.Store {
	s := memstore.New()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) events.Store { return open(t) }, nil)
}

// handle is one of several that share a store, which stays when it is closed.
type handle struct{ *memstore.Store }

func (handle) Close() error { return nil }

func TestSharedStore(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (a, b events.Shared) {
		s := open(t)
		return handle{s}, handle{s}
	})
}

var errLost = errors.New("the connection is lost")

// faraway is a store as one whose engine is elsewhere: answers get lost.
type faraway struct {
	*memstore.Store
	recorded, forgotten atomic.Bool // what becomes of the next append
	cut                 atomic.Int32
}

func (s *faraway) lose(recorded bool) {
	if recorded {
		s.recorded.Store(true)
	} else {
		s.forgotten.Store(true)
	}
}

func (s *faraway) send(do func() ([]uint64, error)) ([]uint64, error) {
	if s.forgotten.Swap(false) || s.isCut() {
		return nil, errLost
	}
	positions, err := do()
	if s.recorded.Swap(false) {
		return nil, errLost
	}
	return positions, err
}

// isCut reports whether connections were cut: a few calls notice.
func (s *faraway) isCut() bool { return s.cut.Add(-1) >= 0 }

func (s *faraway) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.send(func() ([]uint64, error) { return s.Store.Append(ctx, commits...) })
}

func (s *faraway) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.send(func() ([]uint64, error) { return s.Store.AppendAt(ctx, head, commits...) })
}

func (s *faraway) Head(ctx context.Context) (uint64, error) {
	if s.isCut() {
		return 0, errLost
	}
	return s.Store.Head(ctx)
}

func (s *faraway) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		for e, err := range s.Store.Read(ctx, stream, after) {
			if s.isCut() {
				yield(events.Recorded{}, errLost)
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestUnknownOutcomes(t *testing.T) {
	storetest.RunUnknown(t, func(t *testing.T) (events.Store, func(recorded bool)) {
		s := &faraway{Store: open(t)}
		return s, s.lose
	})
}

func TestLostConnections(t *testing.T) {
	storetest.RunReconnect(t, func(t *testing.T) (events.Store, func()) {
		s := &faraway{Store: open(t)}
		return s, func() { s.cut.Store(2) }
	})
}

// narrow takes commits of few events.
type narrow struct{ *memstore.Store }

const widest = 10

func (s narrow) upTo(commits []events.Commit, do func(fit []events.Commit) ([]uint64, error)) ([]uint64, error) {
	for i, c := range commits {
		if len(c) > widest {
			positions, err := do(commits[:i])
			if err == nil {
				err = events.ErrTooLarge
			}
			return positions, err
		}
	}
	return do(commits)
}

func (s narrow) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.upTo(commits, func(fit []events.Commit) ([]uint64, error) { return s.Store.Append(ctx, fit...) })
}

func (s narrow) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.upTo(commits, func(fit []events.Commit) ([]uint64, error) { return s.Store.AppendAt(ctx, head, fit...) })
}

func TestCommitsThatAreTooLarge(t *testing.T) {
	storetest.RunTooLarge(t, func(t *testing.T) events.Store { return narrow{open(t)} }, widest+1)
}

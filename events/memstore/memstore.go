// Package memstore is a log in memory, for tests and examples. It keeps every
// promise of [events.Shared] but durability: who shares it shares the process.
package memstore

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

// page is how many events Read takes under the lock at once.
const page = 256

// Store is an [events.Shared] in memory.
type Store struct {
	id   string
	tail *events.Tail

	mu        sync.RWMutex
	closed    bool
	log       []events.Recorded   // the event at position p is log[p-1]
	streams   map[string][]uint64 // positions of a stream's events, oldest first
	registers map[string]*register
}

// New makes an empty log with an identity of its own.
func New() *Store {
	return &Store{id: uuid.NewString(), tail: events.NewTail(0), streams: make(map[string][]uint64), registers: make(map[string]*register)}
}

// LogID implements [events.Store].
func (s *Store) LogID() string { return s.id }

// Append implements [events.Store].
func (s *Store) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, nil, commits)
}

// AppendAt implements [events.Store].
func (s *Store) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, &head, commits)
}

// append records commits, behind head if that is given.
func (s *Store) append(ctx context.Context, head *uint64, commits []events.Commit) ([]uint64, error) {
	spans := make([][]events.Span, len(commits))
	for i, c := range commits {
		spans[i] = c.Spans()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("append: %w", events.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if at := uint64(len(s.log)); head != nil && at != *head {
		return nil, fmt.Errorf("append at %d: the log is at position %d: %w", *head, at, events.ErrConflict)
	}
	var positions []uint64
	for i, c := range commits {
		for _, span := range spans[i] {
			if at := uint64(len(s.streams[span.Stream])); at != span.Before {
				return positions, fmt.Errorf("append to %s: it is at version %d, not %d: %w",
					span.Stream, at, span.Before, events.ErrConflict)
			}
		}
		s.record(c)
		positions = append(positions, uint64(len(s.log)))
	}
	return positions, nil
}

func (s *Store) record(c events.Commit) {
	start := len(s.log)
	for _, e := range c {
		e.Position = uint64(len(s.log)) + 1
		s.log = append(s.log, e)
		s.streams[e.Stream] = append(s.streams[e.Stream], e.Position)
	}
	s.tail.Add(s.log[start:]...)
}

// Read implements [events.Store].
func (s *Store) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		for version := after; ; {
			batch, err := s.page(ctx, stream, version)
			if err != nil {
				yield(events.Recorded{}, err)
				return
			}
			for _, e := range batch {
				if !yield(e, nil) {
					return
				}
			}
			if len(batch) < page {
				return
			}
			version += page
		}
	}
}

func (s *Store) page(ctx context.Context, stream string, after uint64) ([]events.Recorded, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, fmt.Errorf("read %s: %w", stream, events.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	positions := s.streams[stream]
	positions = positions[min(after, uint64(len(positions))):]
	batch := make([]events.Recorded, min(len(positions), page))
	for i := range batch {
		batch[i] = s.log[positions[i]-1]
	}
	return batch, nil
}

// Head implements [events.Store].
func (s *Store) Head(ctx context.Context) (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, fmt.Errorf("head: %w", events.ErrClosed)
	}
	return uint64(len(s.log)), ctx.Err()
}

// Subscribe implements [events.Store].
func (s *Store) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return s.tail.Subscribe(ctx, after, func(_ context.Context, after, through uint64) ([]events.Recorded, error) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return slices.Clip(s.log[after:through]), nil
	})
}

// Close implements [events.Store]. The log is gone with the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.tail.Close()
	return nil
}

package natsstore

import (
	"context"
	"slices"
	"sync"
)

// turns lets one append at a time write to a stream, and any number at once to
// different ones. A cluster refuses a checked write to a subject that has
// another under way, and so would the version check of whoever came second.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the stream is free again
}

func newTurns() *turns { return &turns{busy: make(map[string]chan struct{})} }

// take waits until all the streams are free, and keeps them until done is
// called. Everybody takes them in the same order, so nobody waits in a circle.
func (t *turns) take(ctx context.Context, streams []string) (done func(), err error) {
	if len(streams) > 1 {
		streams = slices.Clone(streams)
		slices.Sort(streams)
	}
	for i, stream := range streams {
		if err := t.one(ctx, stream); err != nil {
			t.give(streams[:i])
			return nil, err
		}
	}
	return func() { t.give(streams) }, nil
}

func (t *turns) one(ctx context.Context, stream string) error {
	for {
		t.mu.Lock()
		free, busy := t.busy[stream]
		if !busy {
			t.busy[stream] = make(chan struct{})
		}
		t.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *turns) give(streams []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, stream := range streams {
		close(t.busy[stream])
		delete(t.busy, stream)
	}
}

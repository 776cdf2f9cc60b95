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
	mu sync.Mutex
	// busy are the streams taken. The channel, which is there once somebody waits
	// for the stream, is closed when it is free again.
	busy map[string]chan struct{}
}

func newTurns() *turns { return &turns{busy: make(map[string]chan struct{})} }

// take waits until all the streams are free, and keeps them until they are given
// back. Everybody takes them in the same order, so nobody waits in a circle.
func (t *turns) take(ctx context.Context, streams []string) error {
	if len(streams) > 1 {
		streams = slices.Sorted(slices.Values(streams))
	}
	for i, stream := range streams {
		if err := t.one(ctx, stream); err != nil {
			t.give(streams[:i])
			return err
		}
	}
	return nil
}

func (t *turns) one(ctx context.Context, stream string) error {
	for {
		free := t.try(stream)
		if free == nil {
			return nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// try takes a stream, or returns what to wait for.
func (t *turns) try(stream string) (free chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	free, busy := t.busy[stream]
	if !busy {
		t.busy[stream] = nil
		return nil
	}
	if free == nil {
		free = make(chan struct{})
		t.busy[stream] = free
	}
	return free
}

func (t *turns) give(streams []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, stream := range streams {
		if waited := t.busy[stream]; waited != nil {
			close(waited)
		}
		delete(t.busy, stream)
	}
}

package natsapi

import (
	"context"
	"sync"

	"github.com/stockledger/stockledger/internal/fault"
)

// A gate bounds what is in flight, in requests and in bytes of their bodies. It
// never makes anybody wait: who does not fit is sent away.
type gate struct {
	requests, bytes int // the most

	mu           sync.Mutex
	inside, held int
	closed       bool
	empty        chan struct{} // closed once the gate is closed and nobody is inside
}

func newGate(requests, bytes int) *gate {
	return &gate{requests: requests, bytes: bytes, empty: make(chan struct{})}
}

// retryAfter is when who was sent away may come again, in seconds: some groups
// of commits later.
const retryAfter = 0.1

// enter takes a place, or returns the refusal.
func (g *gate) enter(size int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return fault.New(fault.Unavailable, "closing", "the ledger is shutting down; nothing was changed, send it again later")
	case g.inside == g.requests || g.held+size > g.bytes && g.inside > 0:
		return fault.New(fault.Unavailable, "busy",
			"%d requests are in flight, as much as the ledger takes at once; nothing was changed, send it again in %v s",
			g.inside, retryAfter).With("in_flight", g.inside).With("retry_after", retryAfter)
	}
	g.inside++
	g.held += size
	return nil
}

func (g *gate) leave(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.held -= size
	g.wake()
}

// close lets nobody in any more, and waits until all have left or ctx ends.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		g.wake()
	}
	g.mu.Unlock()
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) wake() {
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

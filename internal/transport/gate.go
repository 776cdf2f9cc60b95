package transport

import (
	"context"
	"sync"

	"github.com/stockledger/stockledger/internal/fault"
)

// A Gate bounds what is in flight, in requests and in bytes of their bodies. It
// never makes anybody wait: who does not fit is sent away.
type Gate struct {
	requests, bytes int // the most

	mu           sync.Mutex
	inside, held int
	closed       bool
	empty        chan struct{} // closed once the gate is closed and nobody is inside
}

// NewGate makes a gate for so many requests, and so many bytes.
func NewGate(requests, bytes int) *Gate {
	return &Gate{requests: requests, bytes: bytes, empty: make(chan struct{})}
}

// retryAfter is when who was sent away may come again, in seconds: some groups
// of commits later.
const retryAfter = 0.1

// Enter takes a place, or returns the refusal.
func (g *Gate) Enter(size int) error {
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

// Leave gives the place of a request of that size back.
func (g *Gate) Leave(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.held -= size
	g.wake()
}

// Inside is how many requests are in flight.
func (g *Gate) Inside() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}

// Close lets nobody in any more, and waits until all have left or ctx ends.
func (g *Gate) Close(ctx context.Context) error {
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

func (g *Gate) wake() {
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

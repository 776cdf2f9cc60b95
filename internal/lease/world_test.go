package lease_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/lease"
)

// A node is a process that competes for a lease. It can be stopped like a process
// that gets SIGSTOP: its timers and answers then wait, and its clock goes on.
type node struct {
	name  string
	lease *lease.Lease
	link  *link
	log   *logBook

	skew  time.Duration // of its clock to the others'
	drift float64       // seconds its clock gains in a second
	began time.Time

	mu      sync.Mutex
	running chan struct{} // closed while the process runs

	leads   func(ctx context.Context) error
	leading atomic.Int64 // calls of lead
	end     context.CancelFunc
	ended   chan error // of Run
}

// register is a new register in memory.
func register(t *testing.T) events.Register {
	t.Helper()
	r, err := memstore.New().Register(t.Context(), "lease")
	require.NoError(t, err)
	return r
}

// join has a node compete for the lease in a register until it is stopped.
func join(t *testing.T, r events.Register, name string, changes ...func(*node, *lease.Config)) *node {
	t.Helper()
	n := &node{name: name, log: new(logBook), began: time.Now(), running: make(chan struct{}), ended: make(chan error, 1)}
	close(n.running)
	n.link = &link{node: n, register: r}
	n.leads = func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	c := lease.Config{
		Register: n.link, Node: name, Info: map[string]string{"http_url": "http://" + name}, Now: n.now,
		Logger: slog.New(slog.NewTextHandler(n.log, nil)),
	}
	for _, change := range changes {
		change(n, &c)
	}
	n.lease = lease.New(c)
	ctx, end := context.WithCancel(t.Context())
	n.end = end
	go func() {
		n.ended <- n.lease.Run(ctx, func(ctx context.Context) error {
			n.leading.Add(1)
			return n.leads(ctx)
		})
	}()
	return n
}

// clock is what the node's clock shows, also while it is stopped.
func (n *node) clock() time.Time {
	past := time.Since(n.began)
	return n.began.Add(n.skew + past + time.Duration(float64(past)*n.drift))
}

func (n *node) now() time.Time {
	n.awake()
	return n.clock()
}

// awake waits while the process is stopped.
func (n *node) awake() {
	n.mu.Lock()
	running := n.running
	n.mu.Unlock()
	<-running
}

// pause stops the process.
func (n *node) pause() {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.running:
		n.running = make(chan struct{})
	default:
	}
}

// wake lets it go on.
func (n *node) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.running:
	default:
		close(n.running)
	}
}

// stop ends the process cleanly.
func (n *node) stop() error {
	n.end()
	n.wake()
	return <-n.ended
}

// kill cuts the process off for good, as if it had died.
func (n *node) kill(t *testing.T) {
	n.link.fate.Store(&fate{cut: true})
	n.pause()
	t.Cleanup(func() { _ = n.stop() })
}

func (n *node) held() bool { return n.lease.HeldAt(n.clock()) }

// A link is the register as one node reaches it.
type link struct {
	node     *node
	register events.Register
	fate     atomic.Pointer[fate]
	calls    atomic.Int64
}

// A fate is what happens to calls. Its zero value is nothing.
type fate struct {
	cut  bool                        // none gets through
	draw func(set bool) (one ordeal) // for each call; nil is nothing
}

// An ordeal is what happens to one call.
type ordeal struct {
	there, back time.Duration // how long it is under way
	lost        bool          // it never arrives
	mute        bool          // its answer never arrives
	late        time.Duration // it arrives so much later than it was given up
	fails       bool          // at once, without effect
}

var errAway = errors.New("the register is away")

// An answer is what a call to the register returns.
type answer struct {
	value    []byte
	revision uint64
	err      error
}

// through takes a call to the register and back.
func (l *link) through(ctx context.Context, set bool, call func() answer) answer {
	l.node.awake()
	defer l.node.awake()
	l.calls.Add(1)
	var o ordeal
	if f := l.fate.Load(); f != nil && f.cut {
		o.lost = true
	} else if f != nil && f.draw != nil {
		o = f.draw(set)
	}
	switch {
	case o.fails:
		return answer{err: errAway}
	case o.late > 0:
		time.AfterFunc(o.late, func() { call() })
		return answer{err: errAway}
	case o.lost:
		<-ctx.Done()
		return answer{err: ctx.Err()}
	}
	time.Sleep(o.there) // it arrives even if nobody waits for it any more
	a := call()
	if o.mute {
		<-ctx.Done()
	}
	time.Sleep(o.back)
	if ctx.Err() != nil {
		return answer{err: ctx.Err()}
	}
	return a
}

func (l *link) Get(ctx context.Context) ([]byte, uint64, error) {
	a := l.through(ctx, false, func() (a answer) {
		a.value, a.revision, a.err = l.register.Get(context.WithoutCancel(ctx))
		return a
	})
	return a.value, a.revision, a.err
}

func (l *link) Set(ctx context.Context, revision uint64, value []byte) (uint64, error) {
	a := l.through(ctx, true, func() (a answer) {
		a.revision, a.err = l.register.Set(context.WithoutCancel(ctx), revision, value)
		return a
	})
	return a.revision, a.err
}

// logBook keeps what was logged.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// count is how many lines have a text.
func (l *logBook) count(text string) int { return strings.Count(l.String(), text) }

// until waits until something holds, and returns how long that took.
func until(t *testing.T, bound time.Duration, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		require.Less(t, time.Since(began), bound, "it does not happen")
		time.Sleep(time.Millisecond) // of a clock that waits for nobody
	}
	return time.Since(began)
}

// holders are the nodes that hold the lease at this instant, each by its own clock.
func holders(nodes []*node) (names []string) {
	for _, n := range nodes {
		if n.held() {
			names = append(names, n.name)
		}
	}
	return names
}

// weather draws what happens to calls, how bad it is being drawn first.
func weather(from *rand.Rand) *fate {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(from.Uint64(), 0))
	bad := r.Float64() * r.Float64() * 0.6
	slow := time.Duration(r.Int64N(int64(2 * time.Second)))
	return &fate{draw: func(set bool) (o ordeal) {
		mu.Lock()
		defer mu.Unlock()
		delay := func() time.Duration { return time.Duration(r.Float64() * r.Float64() * r.Float64() * float64(slow)) }
		o = ordeal{there: delay(), back: delay()}
		if r.Float64() > bad {
			return o
		}
		switch r.IntN(4) {
		case 0:
			o.lost = true
		case 1:
			o.mute = true
		case 2:
			o.fails = true
		default:
			if set {
				o.late = time.Duration(r.Int64N(int64(5 * time.Second)))
			}
		}
		return o
	}}
}

func described(nodes []*node) string {
	var all strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&all, "--- %s (calls %d)\n%s", n.name, n.link.calls.Load(), n.log)
	}
	return all.String()
}

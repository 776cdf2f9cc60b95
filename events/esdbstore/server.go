package esdbstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/stockledger/stockledger/events"
)

const (
	attempt     = 3 * time.Second // one call; a server gives up a write after 2 s
	patience    = 10 * time.Second
	shortest    = 5 * time.Millisecond // pause after a failure; it doubles
	longest     = time.Second
	lateInARow  = 2               // deadlines missed, after which the client is replaced
	closeWithin = 2 * time.Second // calls of a replaced client may end by themselves within
	abreast     = 90              // calls at once; a connection carries 100, and one of them is a subscription
	cutsInARow  = 3               // appends cut off while they were sent, after which it is for their size
	dials       = 1               // attempts of one client to find a server; then there is another client
)

// server is an EventStoreDB server or cluster. It is spoken to through one client
// after another, because a client does not survive what happens to connections:
//
//   - Once it cannot find a server for a while it answers with an error for ever,
//     and calls made meanwhile hang, whatever their contexts say. So it is tried
//     before anybody gets it, and has one attempt.
//   - When an answer is Unavailable it drops its connection without closing it,
//     and makes another. So it is replaced and closed before it can.
//   - Closing it makes calls inside it panic. So every call is made where a panic
//     is caught.
//   - It does not tell the server that a leader is asked for. So it is told here.
type server struct {
	config esdb.Configuration
	log    *slog.Logger

	mu      sync.Mutex
	current *generation   // nil while there is none
	built   chan struct{} // closed when building, which is under way, has ended
	failure error         // of the last attempt to build
	leader  string        // who leads, in the words of a server that does not
	closed  bool

	slots chan struct{}  // one for each call under way
	done  chan struct{}  // closed by close
	tasks sync.WaitGroup // building, closing
}

func newServer(config esdb.Configuration, log *slog.Logger) *server {
	config.MaxDiscoverAttempts = dials
	config.DiscoveryInterval = 1 // after the only attempt
	return &server{config: config, log: log, slots: make(chan struct{}, abreast), done: make(chan struct{})}
}

// close ends every client, and waits for what it started.
func (s *server) close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	g := s.current
	s.mu.Unlock()
	if first {
		close(s.done)
	}
	if g != nil {
		g.retire("the store is closed")
	}
	s.tasks.Wait()
}

// generation is one client, from when it is known to work until it is not.
type generation struct {
	server *server
	client *esdb.Client

	// gate is held for reading by a call that asks the client for its connection,
	// and taken by whoever learns that the connection is lost, before the client
	// does: so that nobody asks for a connection afterwards.
	gate      sync.RWMutex
	published atomic.Bool
	once      sync.Once
	retired   chan struct{}
	calls     sync.WaitGroup
	lateRow   atomic.Int32
}

// enter is the client that works, for one call, which must end by leave. It
// waits until there is one or ctx ends.
func (s *server) enter(ctx context.Context) (*generation, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		g, built, err := s.now()
		if err != nil {
			return nil, err
		}
		if g != nil && g.enter() {
			return g, nil
		}
		select {
		case <-built:
		case <-ctx.Done():
			return nil, s.unreached(ctx.Err())
		}
	}
}

// unreached adds to the end of a context why there was no client until then.
func (s *server) unreached(ended error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		return ended
	}
	return fmt.Errorf("%w: %w", ended, s.failure)
}

// now is the client there is, or what tells that there may be one.
func (s *server) now() (*generation, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, events.ErrClosed
	}
	if g := s.current; g != nil {
		again := make(chan struct{})
		close(again)
		return g, again, nil
	}
	if s.built == nil {
		s.built = make(chan struct{})
		s.tasks.Go(s.build)
	}
	return nil, s.built, nil
}

// build tries until there is a client that works.
func (s *server) build() {
	var pause backoff
	for {
		s.mu.Lock()
		leader := s.leader
		s.leader = ""
		s.mu.Unlock()
		g, err := s.dial(leader)
		s.mu.Lock()
		s.failure = err
		closed := s.closed
		if err == nil && !closed {
			s.current = g
		}
		if err == nil || closed {
			close(s.built)
			s.built = nil
		}
		s.mu.Unlock()
		switch {
		case err == nil && closed:
			g.retire("the store is closed")
			return
		case err == nil || closed:
			return
		}
		s.log.Warn("cannot reach EventStoreDB", "err", err)
		pause.wait(s.done)
	}
}

// dial makes a client, and has it find a server, the leader if one is named.
func (s *server) dial(leader string) (*generation, error) {
	config := s.config
	if leader != "" {
		config.Address, config.GossipSeeds, config.DnsDiscover = leader, nil, false
	}
	g := &generation{server: s, retired: make(chan struct{})}
	config.Logger = g.hear
	client, err := esdb.NewClient(&config)
	if err != nil {
		return nil, err
	}
	g.client = client
	version, err := client.GetServerVersion()
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	g.published.Store(true)
	s.log.Debug("connected to EventStoreDB", "version", fmt.Sprintf("%d.%d.%d", version.Major, version.Minor, version.Patch))
	return g, nil
}

// hear gets what the client logs. Of a failed call the client speaks before it
// drops the connection of it, in the goroutine of the call: that is the only
// moment at which the drop can be kept from making a second connection.
func (g *generation) hear(level esdb.LogLevel, format string, args ...any) {
	g.server.log.Debug("EventStoreDB client", "level", level, "says", fmt.Sprintf(format, args...))
	if !g.published.Load() {
		return
	}
	for _, arg := range args {
		switch arg := arg.(type) {
		case esdb.EndPoint:
			g.server.follow(arg)
			g.retire("it is not the leader")
		case error:
			if codeOf(arg) == codes.Unavailable && format == "unexpected exception: %v" {
				g.retire("the server is unavailable")
				g.gate.Lock()   // whoever asks for the connection now gets the one that is lost, and no other
				g.gate.Unlock() //nolint:staticcheck // SA2001: see above
			}
		}
	}
}

// follow remembers who leads, for the next client.
func (s *server) follow(leader esdb.EndPoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader = leader.String()
}

// enter begins a call, unless the client is being replaced.
func (g *generation) enter() bool {
	g.gate.RLock()
	select {
	case <-g.retired:
		g.gate.RUnlock()
		return false
	default:
	}
	g.calls.Add(1)
	return true
}

// retire replaces the client. It is closed once its calls have ended, or soon.
func (g *generation) retire(why string) {
	g.once.Do(func() {
		close(g.retired)
		s := g.server
		s.mu.Lock()
		if s.current == g {
			s.current = nil
		}
		s.tasks.Add(1)
		s.mu.Unlock()
		s.log.Debug("replacing the EventStoreDB client", "why", why)
		go g.end()
	})
}

func (g *generation) end() {
	defer g.server.tasks.Done()
	g.gate.Lock()   // no call begins after this
	g.gate.Unlock() //nolint:staticcheck // SA2001: see above
	idle := make(chan struct{})
	go func() {
		g.calls.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-time.NewTimer(closeWithin).C:
	}
	_ = g.client.Close() // always nil
	<-idle
}

// started is the context of a call. The client asks for its deadline as soon as
// it has the connection.
type started struct {
	context.Context //nolint:containedctx // it is a context
	connected       func()
}

// Deadline implements [context.Context].
func (c started) Deadline() (time.Time, bool) {
	c.connected()
	return c.Context.Deadline()
}

// run makes a call that was entered, in a goroutine of its own or one that may
// wait for closeWithin.
func run[T any](ctx context.Context, g *generation, do func(ctx context.Context, c *esdb.Client) (T, error)) (result T, err error) {
	connected := sync.OnceFunc(g.gate.RUnlock)
	defer g.calls.Done()
	defer func() {
		connected()
		if p := recover(); p != nil {
			if text, isError := p.(error); !isError || text.Error() != "send on closed channel" {
				panic(p)
			}
			err = errHung
		}
		if err != nil && broken(err) {
			g.retire("a call found it broken")
		}
	}()
	ctx = metadata.AppendToOutgoingContext(ctx, "requires-leader", "true")
	return do(started{ctx, connected}, g.client)
}

// timed counts the deadlines missed in a row.
func (g *generation) timed(err error) {
	switch {
	case err == nil || !late(err):
		g.lateRow.Store(0)
	case g.lateRow.Add(1) >= lateInARow:
		g.retire("calls are not answered in time")
	}
}

// call makes one attempt, of at most [attempt]. It returns when ctx ends, also
// where the client does not.
func call[T any](ctx context.Context, s *server, do func(ctx context.Context, c *esdb.Client) (T, error)) (T, error) {
	var zero T
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return zero, ctx.Err()
	}
	g, err := s.enter(ctx)
	if err != nil {
		<-s.slots
		return zero, err
	}
	type answer struct {
		result T
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		defer func() { <-s.slots }()
		bounded, cancel := context.WithTimeout(ctx, attempt)
		defer cancel()
		result, err := run(bounded, g, do)
		if ctx.Err() == nil {
			g.timed(err)
		}
		done <- answer{result, err}
	}()
	select {
	case a := <-done:
		if err := ctx.Err(); err != nil && a.err != nil {
			return zero, err
		}
		return a.result, a.err
	case <-ctx.Done():
		g.doubt(func() { <-done })
		return zero, ctx.Err()
	}
}

// doubt replaces the client if a call that should have ended does not.
func (g *generation) doubt(ended func()) {
	timer := time.AfterFunc(closeWithin, func() { g.retire("a call hangs") })
	go func() { // ends with the call, for which close waits
		ended()
		timer.Stop()
	}()
}

// insist repeats a call that may be repeated until it is answered, ctx ends, or
// [patience] does.
func insist[T any](ctx context.Context, s *server, do func(ctx context.Context, c *esdb.Client) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var pause backoff
	var last error
	for cuts := 1; ; {
		result, err := call(bounded, s, do)
		switch {
		case err == nil:
			return result, nil
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return result, err
		case ctx.Err() != nil:
			return result, ctx.Err()
		case bounded.Err() != nil && judge(err) == unknown:
			return result, fmt.Errorf("EventStoreDB did not answer within %v: %w", patience, errors.Join(last, err))
		case errors.Is(err, io.EOF) && cuts < cutsInARow: // it may as well be the connection, and is not kept for what it is not
			cuts++
		case judge(err) == oversize && last != nil:
			return result, errors.Join(err, errLate)
		case errors.Is(err, events.ErrClosed) || judge(err) != unknown:
			return result, err
		default:
			last = err
		}
		pause.wait(bounded.Done())
	}
}

// subscribe gives every event of a subscription to do, until ctx ends, the
// subscription does, or do fails.
func (s *server) subscribe(
	ctx context.Context, open func(context.Context, *esdb.Client) (*esdb.Subscription, error), do func(*esdb.SubscriptionEvent) error,
) error {
	g, err := s.enter(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-g.retired:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err = run(ctx, g, func(ctx context.Context, c *esdb.Client) (struct{}, error) {
		subscription, err := open(ctx, c)
		if err != nil {
			return struct{}{}, err
		}
		defer subscription.Close()
		for {
			e := subscription.Recv()
			if e.SubscriptionDropped != nil {
				return struct{}{}, fmt.Errorf("the subscription was dropped: %w", e.SubscriptionDropped.Error)
			}
			if err := do(e); err != nil {
				return struct{}{}, err
			}
		}
	})
	return err
}

// backoff is the pause between attempts: it doubles, and is never the same for
// two that fail together. The zero backoff begins.
type backoff struct{ pause time.Duration }

func (b *backoff) wait(done <-chan struct{}) {
	b.pause = min(max(shortest, 2*b.pause), longest)
	spread := b.pause/2 + rand.N(b.pause/2) //nolint:gosec // G404: nothing is secret about a pause
	timer := time.NewTimer(spread)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
	}
}

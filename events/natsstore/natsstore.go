// Package natsstore is the ledger's log in a JetStream stream of a NATS server
// or cluster, which any number of processes may have open at once.
//
// One event is one message on the subject <ledger>.log.<stream>, and its sequence
// in the JetStream stream is its position in the log: nothing is ever deleted,
// and a refused message takes no sequence. Every append has the server check the
// last position of each stream it writes to, and AppendAt the end of the log
// besides. A commit of one event is one publish, and many of them may be on
// their way at once; more than one event are an atomic batch. What an append
// that got no answer did is found out by repeating it to the letter: the checks
// let one of the two take effect.
package natsstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
)

// patience is for how long an append or a read is tried again while servers come
// and go: longer than a cluster takes to elect a leader, which is 4 to 9 s.
const patience = 12 * time.Second

// bounds are how much a store holds and asks for at once.
type bounds struct {
	warm   int    // stream heads remembered, in each of two halves: about 10 MB
	page   int    // events one request of Read brings
	near   uint64 // events of a stream read and passed over rather than looked past, a request for each step
	ahead  int    // own events kept while one before them is missing; the consumer brings the others again
	echoes uint64 // own events in a row before the process stops listening to itself
	// group is how many messages a batch has at most unless one commit alone has
	// more: every server takes 1000, its default for max_msgs.
	group int
}

var usual = bounds{warm: 1 << 16, page: 256, near: 512, ahead: 1 << 14, echoes: 200, group: 1000}

// Config says which log to open. URL must be set.
type Config struct {
	// URL is nats://USER:PASSWORD@HOST:PORT,HOST:PORT/LEDGER?replicas=3, or tls://….
	// The ledger is called "stockledger" unless the URL says otherwise. A log that
	// is made has one replica unless it says otherwise; one that is there must
	// have as many as it says.
	URL string
	// LogID is the identity the log must have. A log that is made gets it. If it
	// is "", any log will do, and one that is made gets a new one.
	LogID string
	// Existing makes no log: the error is [fs.ErrNotExist] where there is none.
	Existing bool
	// Logger hears what an operator acts on, such as a lost connection; nil is
	// slog.Default().
	Logger *slog.Logger
	// Options are further ones of the connection, for tests.
	Options []nats.Option
}

// Store is an [events.Shared] in a JetStream stream.
type Store struct {
	at     place
	bounds bounds
	prefix string // of the subjects, with its dot
	stream string // what JetStream calls the log
	logger *slog.Logger

	existing bool // the log must be there
	logID    string
	replicas int // of the log

	conn   *nats.Conn
	gone   chan struct{} // closed when the connection is closed for good
	js     jetstream.JetStream
	calls  *calls
	tail   *events.Tail
	heads  *heads
	turns  *turns
	batch  chan struct{} // as many batches as may be under way
	landed landing

	closed    chan struct{} // closed by Close
	life      sync.Mutex    // of closing, and of under.Add
	closing   bool
	under     sync.WaitGroup // appends under way
	followers sync.WaitGroup
	stop      context.CancelFunc // ends the followers
	appended  atomic.Uint64      // events this process appended
}

var _ events.Shared = (*Store)(nil)

// batches is how many batches of one process may be under way at once; a server
// takes 50 for a stream from all processes together.
const batches = 8

// Open opens the log at a URL, and makes it where there is none. It fails if the
// stream of that name is none of a ledger's, or is so configured that events
// could be deleted, and with [events.ErrOtherLog] if it has another identity
// than c.LogID. It waits a while for a cluster that has no leader yet.
func Open(ctx context.Context, c Config) (*Store, error) { return open(ctx, c, usual) }

func open(ctx context.Context, c Config, b bounds) (*Store, error) {
	at, err := parse(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Store{
		at: at, existing: c.Existing, prefix: at.ledger + ".log.", stream: "STOCKLEDGER_" + at.ledger + "_LOG", logger: c.Logger,
		bounds: b, heads: newHeads(b.warm), turns: newTurns(), batch: make(chan struct{}, batches),
		closed: make(chan struct{}), gone: make(chan struct{}), stop: func() {},
	}
	if err := s.connect(c.Options); err != nil {
		return nil, fmt.Errorf("open log %s: %w", s, err)
	}
	if err := s.open(ctx, c.LogID); err != nil {
		s.disconnect()
		return nil, fmt.Errorf("open log %s: %w", s, err)
	}
	return s, nil
}

// String names the log, without secrets.
func (s *Store) String() string { return s.at.shown + "/" + s.at.ledger }

func (s *Store) open(ctx context.Context, logID string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := s.identify(ctx, logID)
	if err != nil {
		return err
	}
	s.tail = events.NewTail(info.State.LastSeq)
	following, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.followers.Go(func() { s.follow(following) })
	return nil
}

const (
	// pingEvery is how often the connection is tried; two pings without an answer
	// are a lost connection. So a server that is paused or cut off is given up
	// after some 4 s, and another of the list taken.
	pingEvery = 2 * time.Second
	// stuckAfter is how long a write may take.
	stuckAfter = 2 * time.Second
	// connectWithin bounds connecting to one server.
	connectWithin = 2 * time.Second
	reconnectWait = 50 * time.Millisecond
)

// connect connects, and stays connected as far as it can.
func (s *Store) connect(further []nats.Option) error {
	options := []nats.Option{
		nats.Name("stockledger log of " + s.at.ledger), nats.Timeout(connectWithin),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.IgnoreAuthErrorAbort(), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2), nats.FlusherTimeout(stuckAfter),
		// What cannot be sent now is tried again by whoever wants it, not sent by
		// the library when nobody wants it any more.
		nats.ReconnectBufSize(-1),
	}
	if s.at.user != nil { // also for servers the cluster tells of
		password, both := s.at.user.Password()
		if both {
			options = append(options, nats.UserInfo(s.at.user.Username(), password))
		} else {
			options = append(options, nats.Token(s.at.user.Username()))
		}
	}
	options = append(options, further...)
	options = append(options, nats.ClosedHandler(func(*nats.Conn) { close(s.gone) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.logger.Warn("the NATS connection of the log reports an error", "log", s.String(), "err", err)
		}))
	conn, err := nats.Connect(s.at.servers, options...)
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		return errors.New("the server wants another user and password, or token, than the URL has")
	case err != nil:
		return fmt.Errorf("connect: %w", err)
	}
	s.conn = conn
	if s.calls, err = newCalls(conn, s.closed); err == nil {
		s.js, err = jetstream.New(conn)
	}
	if err != nil {
		s.disconnect()
		return err
	}
	conn.SetDisconnectErrHandler(func(_ *nats.Conn, err error) {
		s.calls.disconnected()
		if s.usable(context.Background()) != nil {
			return // it was closed
		}
		s.logger.Warn("the log lost its NATS server", "log", s.String(), "err", err)
	})
	conn.SetReconnectHandler(func(c *nats.Conn) {
		s.logger.Info("the log has a NATS server again", "log", s.String(), "server", c.ConnectedServerName())
	})
	return nil
}

// disconnect ends the connection, and waits until its goroutines have.
func (s *Store) disconnect() {
	s.conn.Close()
	<-s.gone
}

// LogID implements [events.Store].
func (s *Store) LogID() string { return s.logID }

// Head implements [events.Store]. The leader of the stream answers.
func (s *Store) Head(ctx context.Context) (uint64, error) {
	head, err := s.head(ctx)
	if err != nil && ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("head of log %s: %w", s, err)
	}
	return head, nil
}

// begin begins an append, which Close waits for.
func (s *Store) begin() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closing {
		return events.ErrClosed
	}
	s.under.Add(1)
	return nil
}

// Close implements [events.Store]. Closing again does nothing.
func (s *Store) Close() error {
	s.life.Lock()
	again := s.closing
	s.closing = true
	s.life.Unlock()
	s.under.Wait()
	if again {
		return nil
	}
	close(s.closed)
	s.tail.Close()
	s.stop()
	s.followers.Wait()
	s.disconnect()
	return nil
}

package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger/events"
)

// answerWithin is how long one try waits for its answer before it is made again:
// many times what a busy server takes, and less than an election does.
const answerWithin = 2 * time.Second

// Those that pass by themselves are also what the client library calls them, so
// that whoever waits for a server knows them by that.
var (
	// errLost is that an answer did not come, or came too late. What was asked may
	// have been done.
	errLost = fmt.Errorf("the connection was lost before the answer came: %w", nats.ErrDisconnected)
	errLate = fmt.Errorf("no answer within %s: %w", answerWithin, nats.ErrTimeout)
	// errNobody is that nobody was there to answer, so nothing was done: no leader,
	// no JetStream, or no such stream.
	errNobody = fmt.Errorf("no server answers for the log: it has no leader at present, or is not there: %w", nats.ErrNoResponders)
	// errFew is that a cluster has fewer servers than a stream is to have replicas.
	errFew = errors.New("too few servers of the cluster are there for as many replicas")
	// errBehind is that less was there than had been before.
	errBehind = errors.New("the server that answered has lost events, or leads no more")
	// errUnsent is that nothing was sent.
	errUnsent = fmt.Errorf("nothing was sent: %w", nats.ErrDisconnected)
)

// calls matches answers with what was asked, over one subscription. Other than
// the requests of the client library a call ends when the connection is lost,
// and may have many answers.
type calls struct {
	conn   *nats.Conn
	prefix string        // of the subjects answers come to, with its dot
	closed chan struct{} // closed when the store is

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *nats.Msg
	lost    chan struct{} // closed when the connection is lost, and then replaced
}

func newCalls(conn *nats.Conn, closed chan struct{}) (*calls, error) {
	c := &calls{
		conn: conn, prefix: conn.NewInbox() + ".", closed: closed,
		waiting: make(map[uint64]chan *nats.Msg), lost: make(chan struct{}),
	}
	sub, err := conn.Subscribe(c.prefix+"*", c.answered)
	if err != nil {
		return nil, err
	}
	return c, sub.SetPendingLimits(-1, -1) // what is on its way is bounded by what was asked
}

// answered hands an answer to whoever waits for it. There is room for as many as
// were asked for; what else comes is of no use to anybody.
func (c *calls) answered(m *nats.Msg) {
	id, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, c.prefix), 36, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.waiting[id] <- m: // nil, which is never ready, when nobody waits
	default:
	}
}

// disconnected ends every call under way.
func (c *calls) disconnected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.lost)
	c.lost = make(chan struct{})
}

// A call is one question under way.
type call struct {
	calls   *calls
	id      uint64
	reply   string
	answers chan *nats.Msg
	lost    chan struct{}
}

// begin makes a call that has up to that many answers. It must be ended.
func (c *calls) begin(answers int) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	k := &call{c, c.last, c.prefix + strconv.FormatUint(c.last, 36), make(chan *nats.Msg, answers), c.lost}
	c.waiting[k.id] = k.answers
	return k
}

func (k *call) end() {
	k.calls.mu.Lock()
	defer k.calls.mu.Unlock()
	delete(k.calls.waiting, k.id)
}

// timeFor is how much longer an answer about that many messages may take: a server
// that has nothing else to do takes a hundredth of that.
func timeFor(messages int) time.Duration { return time.Duration(messages) * time.Millisecond }

// wait waits for the next answer, longer if it is about many messages.
func (k *call) wait(ctx context.Context, longer time.Duration) (*nats.Msg, error) {
	late := time.NewTimer(answerWithin + longer)
	defer late.Stop()
	select {
	case m := <-k.answers:
		return answer(m)
	case <-k.lost:
	case <-late.C:
		return nil, errLate
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-k.calls.closed:
		return nil, events.ErrClosed
	}
	select {
	case m := <-k.answers: // it came before the connection went
		return answer(m)
	default:
		return nil, errLost
	}
}

func answer(m *nats.Msg) (*nats.Msg, error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return nil, errNobody
	}
	return m, nil
}

// publish sends a message, whose answer goes to the call if it is to have one.
func (c *calls) publish(m *nats.Msg) error {
	switch err := c.conn.PublishMsg(m); {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrConnectionClosed):
		return err
	case err != nil:
		return errUnsent // what it is, the log of the connection says
	}
	return nil
}

// ask sends a message and waits for the one answer.
func (c *calls) ask(ctx context.Context, m *nats.Msg) (*nats.Msg, error) { return c.askFor(ctx, m, 0) }

func (c *calls) askFor(ctx context.Context, m *nats.Msg, longer time.Duration) (*nats.Msg, error) {
	k := c.begin(1)
	defer k.end()
	m.Reply = k.reply
	if err := c.publish(m); err != nil {
		return nil, err
	}
	return k.wait(ctx, longer)
}

// passing reports whether an error is of the connection or of a cluster without
// a leader, so that asking again may help.
func passing(err error) bool {
	return errors.Is(err, errLost) || errors.Is(err, errLate) || errors.Is(err, errNobody) ||
		errors.Is(err, errFew) || errors.Is(err, errUnsent) || errors.Is(err, errBehind)
}

// A pause grows from try to try.
type pause struct{ next time.Duration }

const (
	firstPause = time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// wait waits a little longer than the last time.
func (p *pause) wait(ctx context.Context) error {
	p.next = min(max(2*p.next, firstPause), lastPause)
	t := time.NewTimer(p.next)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

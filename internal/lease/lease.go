// Package lease decides which of several processes carries out commands: the one
// that holds the lease of the ledger, a value in a register beside the log that
// all of them compare and set.
//
// The holder writes the lease anew several times within its time to live. Whoever
// else wants it reads it all the while, and takes it over by writing it himself
// once it was given back, or once he has seen the very same revision of it for as
// long as a lease lives, on his own clock. No two clocks are compared, and no
// instant is ever written down.
//
// A renewal took effect after it was begun, so the holder counts from the
// beginning of his last renewal that succeeded. A revision was written before it
// was read, so the others count from the end of the read that first showed it.
// Thus the holder's time is over before anybody else's begins, however long calls
// take, and whether or not their answers arrive. What a process does that was
// stopped between asking Held and writing to the log, the log itself refuses: the
// lease is there so that one engine works, the log's own checks so that two do no
// harm.
package lease

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

// ErrLost is what Held returns, wrapped with the reason, while this process must
// not append.
var ErrLost = errors.New("this node does not hold the lease")

// DefaultTTL is how long a lease lives that is not renewed: long enough for a
// pause of the process or the network that ends by itself, and short enough that
// after the death of a node another one serves within five seconds.
const DefaultTTL = 3 * time.Second

// The parts of a lease's life. With three seconds: 0.75 s, 0.25 s, 0.1 s, 0.1 s.
const (
	renewals = 4  // attempts to renew, each of which takes such a part at most
	polls    = 12 // reads of those who want it
	retries  = 30 // attempts after one that failed at once
	margins  = 30 // the others wait so much longer, because clocks do not run alike
	lag      = 3  // TTLs for which one that is not ready lets the others go first
)

// maxTurns bounds how many lives of a lease a node that could not lead lets the
// others go first.
const maxTurns = 10

// troubles is how many lives of a lease pass before it is logged again that the
// register fails.
const troubles = 10

// Config is what New needs. Register and Node must be set.
type Config struct {
	Register events.Register
	// Node is the name of this process among those that may lead, for people. Two
	// of one name are told apart all the same.
	Node string
	// Info is told to the other nodes while this one leads, such as where it
	// answers; see [Holder].
	Info map[string]string
	// TTL is how long the lease lives without being renewed, the same on all
	// nodes; 0 is [DefaultTTL].
	TTL time.Duration
	// Ready reports whether this process could lead at once. One that could not,
	// because it still has much to read, lets the others go first for three TTLs.
	// nil: it always could.
	Ready func() bool
	// Logger is told who leads, since when and why; nil is slog.Default().
	Logger *slog.Logger
	// Now is this process's clock, of which only differences are used; nil is
	// time.Now, whose readings are monotonic.
	Now func() time.Time
}

// A Holder is who holds the lease, as far as is known here.
type Holder struct {
	Node     string            `json:"node"` // "" when nobody does, as far as is known
	Info     map[string]string `json:"info,omitempty"`
	Since    time.Time         `json:"since"`    // when this process learned of it
	Revision uint64            `json:"revision"` // of the register when it was taken over: the term, which only grows
}

// A Lease is one process's part in the competition. Its methods may be called
// from many goroutines at once.
type Lease struct {
	config Config
	id     string // of this process, whatever it calls itself

	mu      sync.Mutex
	holder  Holder
	takes   uint64
	written bool      // the register may hold a lease of ours that was not given back
	failure error     // of the register, nil while it works
	failing time.Time // since when
	told    time.Time // when that was last logged
	telling bool      // that it works again

	// The term of this process, lost being nil during one.
	lost     error
	revision uint64               // of the lease as it is known to be written
	until    time.Time            // it is held before then
	renewing map[uint64]time.Time // when attempts began of which it is not known whether they took effect
	attempt  uint64               // the last one
	lose     context.CancelCauseFunc
	expiry   *time.Timer
}

// New makes a part in the competition for the lease in a register. Nothing
// happens before Run.
func New(c Config) *Lease {
	c.Logger = cmp.Or(c.Logger, slog.Default()).With("node", c.Node)
	c.TTL = cmp.Or(c.TTL, DefaultTTL)
	c.Info = maps.Clone(c.Info)
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the default of what the caller may set
	}
	return &Lease{config: c, id: uuid.NewString(), lost: fmt.Errorf("%w: it has not got it yet", ErrLost)}
}

// Held is nil while this process may append, and otherwise an error that wraps
// ErrLost and says why. It is meant to be asked right before every append. When
// the time is over it ends the term, at once and for good, so that a process that
// was stopped for a while learns of it whatever it does first.
func (l *Lease) Held() error {
	now := l.config.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil && !now.Before(l.until) {
		cause := fmt.Errorf("%w: it was not renewed for %s", ErrLost, now.Sub(l.until)+l.config.TTL)
		if l.failure != nil {
			cause = fmt.Errorf("%w: %w", cause, l.failure)
		}
		l.end(cause)
	}
	return l.lost
}

// Holder is who holds the lease, as this process saw it last.
func (l *Lease) Holder() Holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.holder
	h.Info = maps.Clone(h.Info)
	return h
}

// Takeovers is how often this process has got the lease.
func (l *Lease) Takeovers() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takes
}

// Run competes for the lease until ctx is done, and calls lead whenever this
// process has got it. The context of lead ends when the lease is lost, with the
// reason as its cause, and when ctx ends. In the latter case the lease is renewed
// until lead has returned, and then given back so that the next node need not
// wait; the error says that this failed, and the next node must.
//
// When lead returns before its context ends, this node cannot lead: it gives the
// lease back and lets the others go first for a while, a longer one each time.
// Run is called once.
func (l *Lease) Run(ctx context.Context, lead func(ctx context.Context) error) error {
	var turn time.Time // before then, the others go first
	for failed := 0; ; {
		won, ok := l.compete(ctx, turn)
		if !ok {
			return l.giveBack()
		}
		err, early := l.hold(ctx, won, lead)
		if !early && ctx.Err() == nil {
			failed = 0
			continue // it was lost
		}
		if ctx.Err() == nil {
			wait := min(l.config.TTL<<min(failed, maxTurns), maxTurns*l.config.TTL)
			l.config.Logger.Error("this node cannot lead; the others go first", "for", wait, "err", err)
			failed, turn = failed+1, l.config.Now().Add(wait)
		}
		if err := l.giveBack(); err != nil {
			l.config.Logger.Warn("the lease was not given back; the next node must wait until its time has passed", "err", err)
		}
	}
}

// trouble notes that the register failed, and tells of it now and then.
func (l *Lease) trouble(err error) {
	now := l.config.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failing = now
	}
	l.failure = err
	if l.told.IsZero() || now.Sub(l.told) > troubles*l.config.TTL {
		l.told, l.telling = now, true
		l.config.Logger.Warn("the register of the lease fails; trying on", "for", now.Sub(l.failing), "err", err)
	}
}

// well notes that the register works.
func (l *Lease) well() {
	now := l.config.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = nil
	if l.telling {
		l.telling = false
		l.config.Logger.Info("the register of the lease works again", "after", now.Sub(l.failing))
	}
}

// A state is what is in the register.
type state struct {
	ID       string            `json:"id"` // of the process that wrote it; "" is that nobody ever did
	Node     string            `json:"node"`
	Term     uint64            `json:"term"`    // revision at which the term began; 0: at this one
	Renewal  uint64            `json:"renewal"` // which attempt of the term to renew it wrote this
	Info     map[string]string `json:"info,omitempty"`
	Released bool              `json:"released,omitempty"` // given back
}

// read reads the register, within the time that one attempt may take.
func (l *Lease) read(ctx context.Context) (s state, revision uint64, err error) {
	defer func() {
		if err != nil && ctx.Err() == nil { // else it was us
			l.trouble(err)
		}
	}()
	bounded, cancel := context.WithTimeout(ctx, l.config.TTL/renewals)
	defer cancel()
	value, revision, err := l.config.Register.Get(bounded)
	if err == nil && revision > 0 {
		err = json.Unmarshal(value, &s)
	}
	if err != nil {
		return state{}, 0, fmt.Errorf("read the lease: %w", err)
	}
	l.well()
	return s, revision, nil
}

// write replaces what is in the register at a revision. It does not stop half
// way: what is on its way takes effect or does not, and somebody must know.
func (l *Lease) write(revision uint64, s state) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.config.TTL/renewals)
	defer cancel()
	value, err := json.Marshal(s)
	if err == nil {
		revision, err = l.config.Register.Set(ctx, revision, value)
	}
	switch {
	case errors.Is(err, events.ErrConflict):
		l.well()
	case err != nil:
		err = fmt.Errorf("write the lease: %w", err)
		l.trouble(err)
	default:
		l.well()
	}
	return revision, err
}

// ours is the lease as this process writes it.
func (l *Lease) ours() state { return state{ID: l.id, Node: l.config.Node, Info: l.config.Info} }

// wait waits, or returns the error of ctx.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

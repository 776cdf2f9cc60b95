package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The engine's bounds.
const (
	// attempts is how often a command is fetched for and decided at most. It is
	// decided again when it needs something it had not named.
	attempts = 20
	// failures is how often a command is tried again after an append failed.
	failures = 3
	// groupEvents is how many events one append takes, unless a single commit
	// has more.
	groupEvents = 2000
	// waitingCommands is how many commands wait at each step before the step
	// before it waits, too.
	waitingCommands = 1024
	// effectiveAhead is how far a publisher's clock may be ahead of ours.
	effectiveAhead = 5 * time.Minute
	// pause lets a store that failed come back before a command is tried again, and an
	// index that is far behind get on.
	pause = 50 * time.Millisecond
	// patience is how many pauses a command waits for the index: 5 s.
	patience = 100
)

// Config is what an Engine needs. Store, Index and Now must be set.
type Config struct {
	Store events.Store
	Index Index
	Now   func() time.Time // the ledger's clock
	// Snapshots keeps states of long streams, so that a start need not replay
	// them; nil is none.
	Snapshots Snapshots
	// RequireKnownLocations refuses levels at locations that are not open.
	RequireKnownLocations bool
	// Standby opens the engine resting: it follows the log and carries out nothing
	// until Lead.
	Standby bool
	// CachedStreams bounds the aggregates kept in memory; 0 is 100,000,
	// which are some 150 MB of items with three levels and a SKU.
	CachedStreams int
	// Observe hears of every group that was committed: how many commands and
	// events it had, and how long the append took on the clock of Now. It must not
	// wait, for all that comes behind waits with it. nil is nobody.
	Observe func(commands, events int, took time.Duration)
	// Logger is told what a person must act on; nil is slog.Default().
	Logger *slog.Logger
}

// Engine carries out commands. Its methods may be called from many goroutines.
//
// Several engines may be open on one log. Whatever each of them does, it appends
// only what was decided on all that the log holds, so that they oversell nothing,
// lose no update and carry out no key twice. But every commit of one sends the
// others back to read the log, so one should lead and the others rest.
type Engine struct {
	config    Config
	cache     *cache
	snapshots *snapshotter
	patience  int // patience

	life      semaphore // held while the engine changes between leading and resting
	follower  *follower // while it rests; guarded by life
	following sync.WaitGroup

	closing  sync.Once
	stopOnce sync.Once
	closed   chan struct{} // closed when the engine stops for good
	failed   chan struct{} // closed when the store has stopped for good

	// mu is held for one decision, for settling one group, and for learning one
	// batch of the log.
	mu     sync.Mutex
	role   int   // counts the changes between leading and resting
	term   *term // nil while it rests
	recent *recent
	clock  time.Time // recorded time of the newest commit
	epoch  int       // counts how often what was decided was thrown away
	head   uint64    // position of the newest event this engine knows
	stale  bool      // the log may hold what the engine has not seen
}

// job is one command on its way through the engine.
type job struct {
	command Command
	env     Envelope
	keyed   bool // by the publisher
	digest  string

	// What the decision turned out to need beyond what the command named.
	missing missing

	// What was fetched.
	streams  []string
	pinned   pins
	found    map[lookup][]Ref
	archives map[string]*archive // by item
	prior    *remembered         // the commit of the key, if it was carried out before
	seen     uint64              // position of the index before it was asked
	read     uint64              // position of the newest event read for it
	epoch    int

	handed bool // its commit was handed to the store, this time
	tried  bool // and before, with unknown outcome
	ended  chan struct{}
	again  error // not nil: fetch and decide again, because of this
	answer Answer
	err    error
}

// outcome is what was decided about a job: a commit, or an answer that must not
// leave before the commits it rests on are durable.
type outcome struct {
	job      *job
	epoch    int         // in which it was decided; it means nothing in another
	commit   *remembered // nil: nothing to record
	events   []event
	copies   []taken // states as of these events
	sealed   events.Commit
	answer   json.RawMessage
	stamp    domain.Stamp
	result   any
	err      error
	replayOf *remembered
}

// Open starts an engine on a log. Unless it is to stand by, it reads what the
// index does not know yet, and leads.
func Open(ctx context.Context, config Config) (*Engine, error) {
	if config.CachedStreams == 0 {
		config.CachedStreams = 100_000
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	snapshots := newSnapshotter(config.Store, config.Snapshots, config.Logger)
	e := &Engine{
		config:    config,
		cache:     newCache(config.Store, snapshots, config.CachedStreams),
		snapshots: snapshots,
		patience:  patience,
		life:      newSemaphore(),
		closed:    make(chan struct{}),
		failed:    make(chan struct{}),
		recent:    newRecent(),
		head:      config.Index.Position(),
	}
	e.recent.forgotten = e.head
	err := e.setClock(ctx)
	if err == nil && !config.Standby {
		err = e.catchUp(ctx, e.role)
	}
	if err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	e.snapshots.start()
	if config.Standby {
		e.follow()
	} else {
		e.begin(func() error { return nil })
	}
	return e, nil
}

// Cached is how many aggregates are in memory now.
func (e *Engine) Cached() int {
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	return len(e.cache.entries)
}

// Failed is closed when the store has stopped for good, with events.ErrStopped:
// every command is refused until the ledger is opened again.
func (e *Engine) Failed() <-chan struct{} { return e.failed }

// Do carries out a command and returns once its effect is durable, or it is
// refused. A refusal is a *fault.Error and means that nothing happened. When ctx
// ends first the outcome is unknown, and the error says so; sending the command
// again with the same key tells. The command may still be read then, so what it
// is made of must not be changed; after any other answer it may be.
func (e *Engine) Do(ctx context.Context, env Envelope, command Command) (Answer, error) {
	if err := first(env.check(), command.check()); err != nil {
		return Answer{}, err
	}
	digest, err := digest(command)
	if err != nil {
		return Answer{}, err
	}
	if c, ok := command.(interface{ identify() Command }); ok {
		command = c.identify() // after the digest: a retry has other ids, and is the same command
	}
	j := &job{command: command, env: env, keyed: env.Key != "", digest: digest}
	if !j.keyed {
		j.env.Key = "cmd_" + newUUID()
	}
	failed, behind := 0, 0
	for tries := 0; tries < attempts; tries++ {
		if err := e.try(ctx, j); err != nil {
			return Answer{}, err
		}
		switch {
		case j.again == nil:
			return j.answer, j.err
		case errors.Is(j.again, errStandby):
			return Answer{}, e.tooLate(j)
		case errors.Is(j.again, errMoved), errors.Is(j.again, events.ErrConflict), errors.As(j.again, new(missing)):
			continue
		case errors.Is(j.again, errBehind):
			if behind++; behind > e.patience || wait(ctx, pause) != nil {
				return Answer{}, j.notNow("index_behind", errBehind)
			}
			tries-- // it was not looked at
			continue
		}
		if failed++; failed == failures || errors.Is(j.again, events.ErrStopped) {
			break
		}
		if err := wait(ctx, pause); err != nil {
			break
		}
	}
	e.config.Logger.Error("command given up", "command", command.Name(), "command_id", j.env.Key, "err", j.again)
	return Answer{}, j.notNow("unavailable", j.again)
}

// try takes a job through the engine once.
func (e *Engine) try(ctx context.Context, j *job) error {
	e.mu.Lock()
	t, stale := e.term, e.stale
	e.mu.Unlock()
	if t == nil || t.allowed() != nil || closed(e.closed) {
		return e.tooLate(j)
	}
	if stale {
		if err := e.recover(ctx, t); err != nil && closed(t.over) {
			return e.tooLate(j)
		} else if err != nil {
			return j.notNow("store_unavailable", fmt.Errorf("%w: %w", errRead, err))
		}
	}
	j.ended, j.again, j.handed = make(chan struct{}), nil, false
	if err := e.fetch(ctx, j); err != nil {
		e.unpin(j)
		switch {
		case j.tried, ctx.Err() != nil:
			return j.notNow("unavailable", err)
		case errors.Is(err, errRead):
			return j.notNow("store_unavailable", err)
		}
		return err
	}
	select {
	case t.jobs <- j:
	case <-t.over:
		e.unpin(j)
		return e.tooLate(j)
	case <-ctx.Done():
		e.unpin(j)
		return j.notNow("unavailable", ctx.Err())
	}
	select {
	case <-j.ended:
		return nil
	case <-ctx.Done():
		e.sweep(t)
		return outcomeUnknown(j.env.Key, ctx.Err())
	case <-t.left:
		e.sweep(t)
		return e.leftBehind(j)
	case <-t.idle:
		e.sweep(t)
		<-j.ended
		return nil
	}
}

// tooLate is the answer for a job that came when nothing is carried out here.
func (e *Engine) tooLate(j *job) error {
	if closed(e.closed) {
		return j.notNow("closing", errClosing)
	}
	return j.notNow("standby", errStandby)
}

// leftBehind is the answer for a job of a term that was not waited for. The job
// is still on its way there.
func (e *Engine) leftBehind(j *job) error {
	if closed(j.ended) {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if j.handed {
		return outcomeUnknown(j.env.Key, errRead)
	}
	return j.notNow("standby", errStandby)
}

// notNow is the answer for a job that will not be decided because of cause.
func (j *job) notNow(code string, cause error) error {
	if j.tried {
		return outcomeUnknown(j.env.Key, cause)
	}
	return fault.New(fault.Unavailable, code, "%s; nothing was changed, send it again", plainly(cause)).With("command_id", j.env.Key)
}

// plainly says for publishers why a command was not carried out. What is behind
// it, paths and all, is in the log.
func plainly(cause error) string {
	switch {
	case errors.Is(cause, errClosing):
		return errClosing.Error()
	case errors.Is(cause, errStandby):
		return errStandby.Error()
	case errors.Is(cause, errBehind):
		return errBehind.Error()
	case errors.Is(cause, events.ErrStopped):
		return "the event store has stopped and the ledger must be started again"
	case ended(cause):
		return "there was no answer in time"
	case errors.Is(cause, events.ErrConflict), errors.Is(cause, errMoved):
		return "others write to the log all the time"
	}
	return "the event store does not answer"
}

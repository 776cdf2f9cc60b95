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
	// pause lets a store that failed come back before a command is tried again.
	pause = 50 * time.Millisecond
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
	// CachedStreams bounds the aggregates kept in memory; 0 is 200,000.
	CachedStreams int
	// Observe hears of every group that was committed: how many commands and
	// events it had, and how long the append took on the clock of Now. It must not
	// wait, for all that comes behind waits with it. nil is nobody.
	Observe func(commands, events int, took time.Duration)
	// Logger is told what a person must act on; nil is slog.Default().
	Logger *slog.Logger
}

// Engine carries out commands. Its methods may be called from many goroutines.
// There must be one Engine for a log. A second one could oversell nothing and
// lose no update, because the store checks the version of every stream; but the
// two do not know each other's keys at once, so a retry sent to the other could
// be carried out again where it touches no stream of the first.
type Engine struct {
	config    Config
	cache     *cache
	snapshots *snapshotter

	// The steps of a command, each a goroutine: decide, seal, commit.
	jobs    chan *job
	decided chan *outcome
	sealed  chan *outcome
	steps   sync.WaitGroup

	closing  sync.Once
	stopOnce sync.Once
	closed   chan struct{} // closed when the engine stops taking commands
	idle     chan struct{} // closed when it has stopped
	failed   chan struct{} // closed when the store has stopped for good

	// mu is held for one decision, for settling one group, and for recovery.
	mu     sync.Mutex
	recent *recent
	clock  time.Time // recorded time of the newest commit
	epoch  int       // counts failures
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
	pinned   map[string]*entry
	found    map[lookup][]Ref
	archives map[string]*archive // by item
	prior    *remembered         // the commit of the key, if it was carried out before
	seen     uint64              // position of the index before it was asked
	read     uint64              // position of the newest event read for it
	epoch    int

	tried  bool // its commit was handed to the store before, with unknown outcome
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

// Open starts an engine on a log. It reads what the index does not know yet.
func Open(ctx context.Context, config Config) (*Engine, error) {
	if config.CachedStreams == 0 {
		config.CachedStreams = 200_000
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	snapshots := newSnapshotter(config.Store, config.Snapshots, config.Logger)
	e := &Engine{
		config:    config,
		cache:     newCache(config.Store, snapshots, config.CachedStreams),
		snapshots: snapshots,
		jobs:      make(chan *job, waitingCommands),
		decided:   make(chan *outcome, waitingCommands),
		sealed:    make(chan *outcome, waitingCommands),
		closed:    make(chan struct{}),
		idle:      make(chan struct{}),
		failed:    make(chan struct{}),
		recent:    newRecent(),
		head:      config.Index.Position(),
	}
	e.recent.forgotten = e.head
	if err := first(e.setClock(ctx), e.catchUp(ctx)); err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	e.steps.Go(e.decideAll)
	e.steps.Go(e.sealAll)
	e.steps.Go(e.commitAll)
	e.snapshots.start()
	return e, nil
}

// Close stops the engine. Commands that were decided are committed and
// answered; others end with unavailable.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		close(e.closed)
		e.steps.Wait()
		close(e.idle)
		e.snapshots.close()
	})
	return nil
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
// again with the same key tells.
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
	failed := 0
	for range attempts {
		if err := e.try(ctx, j); err != nil {
			return Answer{}, err
		}
		switch {
		case j.again == nil:
			return j.answer, j.err
		case errors.Is(j.again, errMoved), errors.As(j.again, new(missing)):
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
	if err := e.recover(ctx); err != nil {
		return j.notNow("store_unavailable", fmt.Errorf("%w: %w", errRead, err))
	}
	j.ended, j.again = make(chan struct{}), nil
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
	case e.jobs <- j:
	case <-e.closed:
		e.unpin(j)
		return j.notNow("closing", errClosing)
	case <-ctx.Done():
		e.unpin(j)
		return j.notNow("unavailable", ctx.Err())
	}
	select {
	case <-j.ended:
		return nil
	case <-ctx.Done():
		return outcomeUnknown(j.env.Key, ctx.Err())
	case <-e.idle:
	}
	select {
	case <-j.ended:
		return nil
	default: // it came too late to be decided
		return j.notNow("closing", errClosing)
	}
}

var errClosing = errors.New("the ledger is shutting down")

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
		return "the ledger is shutting down"
	case errors.Is(cause, events.ErrStopped):
		return "the event store has stopped and the ledger must be started again"
	case ended(cause):
		return "there was no answer in time"
	}
	return "the event store does not answer"
}

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

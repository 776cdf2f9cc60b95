package commands

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// An engine leads or rests. Leading it carries out commands; resting it refuses
// them and follows the log, so that it can lead at once.

// term is one time of leading. Its steps are its own, so that one whose store
// hangs can be left behind.
type term struct {
	role int // of the engine during this term
	may  atomic.Pointer[func() error]

	// The steps of a command, each a goroutine: decide, seal, commit.
	jobs    chan *job
	decided chan *outcome
	sealed  chan *outcome
	steps   sync.WaitGroup

	// turn is held by whoever appends to the log or learns what is in it, so that
	// nobody appends at a head that is being moved.
	turn semaphore

	over    chan struct{}      // closed when the term takes no more commands
	resting chan struct{}      // closed when it hands nothing more to the store
	idle    chan struct{}      // closed when its steps have ended
	left    chan struct{}      // closed when it was left behind in the middle of an append
	abandon context.CancelFunc // ends the append under way
}

var (
	errClosing = errors.New("the ledger is shutting down")
	errStandby = errors.New("another node carries out commands")
)

// Lead makes an engine that rests carry out commands, once it knows all that the
// log holds. Before each append it asks may; while that refuses, nothing is
// appended, and commands end as those of an engine that rests. It is there to
// stop early: what keeps two engines on one log from harm is that every append
// says where the log must end. A nil may never refuses. An engine that leads
// already asks the new may from then on.
//
// After an error, which is of reading the log or ctx's, the engine rests.
func (e *Engine) Lead(ctx context.Context, may func() error) error {
	ctx, cancel := until(ctx, e.closed)
	defer cancel()
	if !e.life.take(ctx.Done()) {
		return fmt.Errorf("lead: %w", ctx.Err())
	}
	defer e.life.pass()
	if closed(e.closed) {
		return fmt.Errorf("lead: %w", errClosing)
	}
	if may == nil {
		may = func() error { return nil }
	}
	if t := e.current(); t != nil {
		t.may.Store(&may)
		return nil
	}
	e.unfollow()
	if err := e.catchUp(ctx, e.changeRole()); err != nil {
		e.follow()
		return fmt.Errorf("lead: %w", err)
	}
	e.begin(may)
	return nil
}

// Rest stops carrying out commands, and follows the log. Commands that were not
// handed to the store end with standby. Those that were are answered; when ctx
// ends before the store has answered, their outcome is unknown. The engine rests
// in any case, and Rest does not fail but for an engine that is being made to
// lead for as long as ctx lasts.
func (e *Engine) Rest(ctx context.Context) error {
	if !e.life.take(ctx.Done()) {
		return fmt.Errorf("rest: %w", ctx.Err())
	}
	defer e.life.pass()
	t := e.current()
	if t == nil || closed(e.closed) {
		return nil
	}
	close(t.resting)
	close(t.over)
	select {
	case <-t.idle:
	case <-ctx.Done():
		e.config.Logger.Warn("the event store does not end an append; resting without its answer")
		defer close(t.left)
	}
	e.changeRole()
	t.abandon()
	e.follow()
	return nil
}

// Leading reports whether the engine carries out commands.
func (e *Engine) Leading() bool { return e.current() != nil }

// Close stops the engine. Commands that were decided are committed and
// answered; others end with unavailable.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		close(e.closed)
		e.life.take(nil)
		defer e.life.pass()
		if t := e.current(); t != nil {
			close(t.over)
			<-t.idle
			e.changeRole()
			t.abandon()
		}
		e.unfollow()
		e.snapshots.close()
	})
	return nil
}

// begin starts the steps of a new term.
func (e *Engine) begin(may func() error) {
	ctx, abandon := context.WithCancel(context.Background())
	t := &term{
		role:    e.changeRole(),
		jobs:    make(chan *job, waitingCommands),
		decided: make(chan *outcome, waitingCommands),
		sealed:  make(chan *outcome, waitingCommands),
		turn:    newSemaphore(),
		over:    make(chan struct{}),
		resting: make(chan struct{}),
		idle:    make(chan struct{}),
		left:    make(chan struct{}),
		abandon: abandon,
	}
	t.may.Store(&may)
	t.steps.Go(func() { e.decideAll(t) })
	t.steps.Go(func() { t.sealAll() })
	t.steps.Go(func() { e.commitAll(ctx, t) })
	go func() {
		t.steps.Wait()
		close(t.idle)
		e.sweep(t)
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term = t
}

// sweep ends the jobs that came when a term had ended and nobody decides them any
// more. Whoever sent one sweeps when he goes, for it may have come after all others.
func (e *Engine) sweep(t *term) {
	if !closed(t.idle) {
		return
	}
	for {
		select {
		case j := <-t.jobs:
			e.end(j, errStandby)
		default:
			return
		}
	}
}

// changeRole ends what the engine was doing. What was decided and is not durable
// is no longer, and whoever still learns the log for the old role is not heard.
func (e *Engine) changeRole() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.role++
	e.term = nil
	e.disown()
	e.stale = false
	return e.role
}

// current is the term under way, nil when the engine rests.
func (e *Engine) current() *term {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.term
}

// allowed asks whether this term may still append.
func (t *term) allowed() error {
	if closed(t.resting) {
		return errStandby
	}
	if err := (*t.may.Load())(); err != nil {
		return fmt.Errorf("%w: %w", errStandby, err)
	}
	return nil
}

// recover makes an engine that leads know the log again, after an append failed
// or somebody else wrote.
func (e *Engine) recover(ctx context.Context, t *term) error {
	ctx, cancel := until(ctx, t.over)
	defer cancel()
	if !t.turn.take(ctx.Done()) {
		return ctx.Err()
	}
	defer t.turn.pass()
	if !e.isStale(t) {
		return nil
	}
	e.mu.Lock()
	e.disown()
	e.mu.Unlock()
	if err := e.catchUp(ctx, t.role); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.role == t.role {
		e.disown() // also what was fetched meanwhile
		e.stale = false
	}
	return nil
}

func (e *Engine) isStale(t *term) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stale && e.role == t.role
}

// disown begins a new epoch: everything that was decided and is not durable is
// thrown away, and so are the aggregates it changed. What is on its way to be
// decided, sealed or committed is sent back when it comes there. e.mu is held.
func (e *Engine) disown() {
	e.epoch++
	for _, c := range e.recent.drop() {
		for _, touched := range c.touched {
			e.cache.forget(touched)
		}
	}
}

// A semaphore lets one in at a time.
type semaphore chan struct{}

func newSemaphore() semaphore { return make(semaphore, 1) }

// take waits for the semaphore until stop is closed, and reports whether it has it.
func (s semaphore) take(stop <-chan struct{}) bool {
	select {
	case s <- struct{}{}:
		return true
	default:
	}
	select {
	case s <- struct{}{}:
		return true
	case <-stop:
		return false
	}
}

func (s semaphore) pass() { <-s }

// closed reports whether a channel that carries nothing is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// until is ctx, and ends also when stop is closed.
func until(ctx context.Context, stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
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

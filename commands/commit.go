package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// sealAll is the one goroutine that turns what was decided into events. It is a
// step of its own so that the disk never waits for JSON.
func (e *Engine) sealAll() {
	defer close(e.sealed)
	for o := range e.decided {
		if o.err == nil && o.replayOf == nil {
			if err := o.seal(); err != nil {
				o.err = fmt.Errorf("seal %s: %w", o.job.command.Name(), err)
			}
		}
		e.sealed <- o
	}
}

// seal writes the answer, and turns what was decided into the events to be
// stored: it names the command, and links the events to their streams' chains.
func (o *outcome) seal() error {
	answer, err := json.Marshal(o.result)
	if err != nil {
		return err
	}
	o.answer = answer
	if o.commit == nil {
		return nil
	}
	env := o.job.env
	meta := events.Meta{
		Command: o.job.command.Name(), CommandID: env.Key, Digest: o.job.digest,
		Correlation: env.Correlation, Causation: env.Causation,
		Actor: env.Actor, Reason: env.Reason, Reference: env.Reference, Trace: env.Trace,
		Recorded: o.stamp.At,
	}
	if !env.Effective.IsZero() && !env.Effective.Equal(o.stamp.At) {
		meta.Effective = env.Effective.UTC()
	}
	o.sealed = make(events.Commit, len(o.events))
	for i, ev := range o.events {
		meta := meta
		meta.EventID = newUUID()
		if len(o.events) > 1 {
			meta.Part, meta.Parts = i+1, len(o.events)
		}
		if i == len(o.events)-1 {
			meta.Answer = answer
		}
		record, err := events.Record(ev.entry.stream, ev.version-1, ev.entry.hash, ev.fact, &meta)
		if err != nil {
			return err
		}
		ev.entry.hash = record.Hash
		o.sealed[i] = record
	}
	return nil
}

// commitAll is the one goroutine that appends. It takes all that wait, up to the
// bound, so the slower the disk the larger the groups.
func (e *Engine) commitAll() {
	for o := range e.sealed {
		group, size := []*outcome{o}, len(o.sealed)
		for more := true; more && size < groupEvents; {
			select {
			case o, more = <-e.sealed:
				if more {
					group, size = append(group, o), size+len(o.sealed)
				}
			default:
				more = false
			}
		}
		e.commit(group)
	}
}

// commit makes a group durable and answers it.
func (e *Engine) commit(group []*outcome) {
	group = slices.DeleteFunc(group, e.dropped)
	var commits []events.Commit
	for i, o := range group {
		if o.commit != nil && o.err != nil { // a bug; it must not take the others with it
			o.job.err = o.err
			e.end(o.job, nil)
			e.fail(slices.Delete(group, i, i+1), o.err)
			return
		}
		if o.commit != nil {
			commits = append(commits, o.sealed)
		}
	}
	var positions []uint64
	var err error
	if len(commits) > 0 {
		positions, err = e.append(commits)
	}
	settled := e.settle(group, positions)
	if err != nil {
		e.fail(group[settled:], err)
	}
}

// append writes commits, and tells of those that are durable.
func (e *Engine) append(commits []events.Commit) ([]uint64, error) {
	var start time.Time
	if e.config.Observe != nil {
		start = e.config.Now()
	}
	// A commit is never half abandoned: whoever asked for it may go away.
	positions, err := e.config.Store.Append(context.Background(), commits...)
	if e.config.Observe != nil && len(positions) > 0 {
		size := 0
		for _, c := range commits[:len(positions)] {
			size += len(c)
		}
		e.config.Observe(len(positions), size, e.config.Now().Sub(start))
	}
	return positions, err
}

// dropped sends an outcome back that was decided before a failure, on state that
// may not be.
func (e *Engine) dropped(o *outcome) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o.epoch == e.epoch {
		return false
	}
	e.end(o.job, errMoved)
	return true
}

// settle answers the outcomes of a group up to the first whose commit has no
// position, and returns how many those are.
func (e *Engine) settle(group []*outcome, positions []uint64) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, o := range group {
		if o.commit != nil {
			if len(positions) == 0 {
				return i
			}
			e.recent.durable(o.commit, positions[0], o.answer)
			positions = positions[1:]
			e.snapshots.add(o.durableCopies()...)
			if expected := e.head + uint64(len(o.events)); o.commit.position == expected {
				e.head = expected
			} else {
				e.stale = true // somebody else wrote to the log, and we must read what
			}
		}
		o.job.answer, o.job.err = o.settled()
		e.end(o.job, nil)
	}
	e.recent.forget(e.config.Index.Position())
	return len(group)
}

// settled is what the publisher gets, now that all it rests on is durable.
func (o *outcome) settled() (Answer, error) {
	answer := Answer{CommandID: o.job.env.Key, DryRun: o.job.env.DryRun, Result: o.answer}
	switch {
	case o.err != nil:
		return Answer{}, o.err
	case o.replayOf != nil:
		if o.replayOf.digest != o.job.digest {
			return Answer{}, fault.New(fault.Conflict, "idempotency_key_reused",
				"idempotency key %s belongs to another command", o.replayOf.key).With("command_id", o.replayOf.key)
		}
		// A command that went to the store with unknown outcome finds itself.
		answer.Replayed, answer.DryRun = !o.job.tried, false
		answer.Position, answer.Result = o.replayOf.position, o.replayOf.answer
	case o.commit != nil:
		answer.Position = o.commit.position
	}
	return answer, nil
}

// fail throws away everything that was decided and is not durable, because an
// append failed: it was decided on a state that may not be. What is on its way
// here is dropped when it comes. The jobs are tried again, after the log was
// read for what it holds by now.
func (e *Engine) fail(group []*outcome, cause error) {
	e.config.Logger.Warn("append failed; deciding again", "commands", len(group), "err", cause)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.epoch++
	e.stale = true
	e.cache.clear()
	e.recent.drop()
	stopped := errors.Is(cause, events.ErrStopped)
	unknown := !stopped && !errors.Is(cause, events.ErrConflict)
	for _, o := range group {
		o.job.tried = o.job.tried || unknown && o.commit != nil
		e.end(o.job, cause)
	}
	if stopped {
		e.stopOnce.Do(func() { close(e.failed) })
	}
}

// recover makes the engine know the log again after an append failed.
func (e *Engine) recover(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stale {
		return nil
	}
	if err := e.catchUp(ctx); err != nil {
		return err
	}
	e.stale = false
	return nil
}

// setClock makes the recorded times continue from the newest event the index
// knows, whatever the clock says after a restart.
func (e *Engine) setClock(ctx context.Context) error {
	if e.head == 0 {
		return nil
	}
	for batch, err := range e.config.Store.Subscribe(ctx, e.head-1) {
		if err != nil {
			return fmt.Errorf("read the log at %d: %w", e.head, err)
		}
		meta, err := batch[0].Metadata()
		e.clock = meta.Recorded
		return err
	}
	return nil
}

// catchUp remembers what the log holds after the newest event the engine knows.
func (e *Engine) catchUp(ctx context.Context) error {
	head, err := e.config.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the head of the log: %w", err)
	}
	if head <= e.head {
		return nil
	}
	var current *remembered
	for batch, err := range e.config.Store.Subscribe(ctx, e.head) {
		if err != nil {
			return fmt.Errorf("read the log after %d: %w", e.head, err)
		}
		for _, r := range batch {
			meta, err := r.Metadata()
			if err != nil {
				return err
			}
			fact, err := r.Fact()
			if err != nil {
				return err
			}
			if current == nil || current.key != meta.CommandID {
				current = &remembered{key: meta.CommandID, digest: meta.Digest}
				e.recent.add(current)
			}
			e.recent.note(current, fact)
			e.recent.durable(current, r.Position, meta.Answer)
			e.head = r.Position
			if meta.Recorded.After(e.clock) {
				e.clock = meta.Recorded
			}
		}
		if e.head >= head {
			break
		}
		if err := e.letIndexCatchUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// letIndexCatchUp forgets what the index knows, and waits while that is too
// little: read models that were deleted are being built anew.
func (e *Engine) letIndexCatchUp(ctx context.Context) error {
	for told := false; ; told = true {
		known := e.config.Index.Position()
		e.recent.forget(known)
		if !e.recent.full() {
			return nil
		}
		if !told {
			e.config.Logger.Warn("waiting for the read models, which are being built", "position", known, "read", e.head)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

func newUUID() string { return uuid.Must(uuid.NewV7()).String() }

package commands

import (
	"errors"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// decideAll is the one goroutine that decides.
func (e *Engine) decideAll(t *term) {
	defer close(t.decided)
	for {
		j := t.next()
		if j == nil {
			return
		}
		if o := e.decide(t, j); o != nil {
			t.decided <- o
		}
	}
}

// next is the next job, nil once the term is over and those sent before are
// decided.
func (t *term) next() *job {
	select {
	case j := <-t.jobs:
		return j
	case <-t.over:
	}
	select {
	case j := <-t.jobs:
		return j
	default:
		return nil
	}
}

// decide decides one job against the state that everything decided before left,
// durable or not. It returns nil when the job has to be fetched for again.
func (e *Engine) decide(t *term, j *job) *outcome {
	e.mu.Lock()
	defer e.mu.Unlock()
	if closed(t.resting) {
		e.end(j, errStandby)
		return nil
	}
	if j.read > e.head {
		e.stale = true // somebody else wrote to the log
	}
	if j.epoch != e.epoch || e.stale || e.recent.forgotten > j.seen {
		e.end(j, errMoved)
		return nil
	}
	o := e.decideOne(j)
	if o != nil {
		o.epoch = e.epoch
	}
	return o
}

// errMoved says that what was fetched for a job no longer holds.
var errMoved = errors.New("the state moved while the command was fetched for")

// errBehind says that more is remembered than the index knows than may be.
var errBehind = errors.New("the read models are too far behind to take more commands, see stockledger status")

// decideOne returns what was decided, or nil when something was not fetched.
func (e *Engine) decideOne(j *job) *outcome {
	prior := j.prior
	if known, ok := e.recent.commands[j.env.Key]; ok {
		prior = known
	}
	if prior != nil {
		return &outcome{job: j, replayOf: prior}
	}
	if e.recent.full() {
		e.recent.forget(e.config.Index.Position())
	}
	if e.recent.full() { // it waits, and so do those who send more
		e.end(j, errBehind)
		return nil
	}
	d := &decision{engine: e, job: j, stamp: domain.Stamp{At: e.tick()}}
	result, err := d.run()
	if again, ok := errors.AsType[missing](err); ok {
		d.rollback()
		j.missing.add(again)
		e.end(j, again)
		return nil
	}
	o := &outcome{job: j, result: result, err: err, stamp: d.stamp, events: d.recorded}
	if err != nil || j.env.DryRun || len(d.recorded) == 0 {
		d.rollback()
		o.events = nil
		return o
	}
	d.keep()
	o.copies = d.copies()
	e.clock = d.stamp.At
	o.commit = &remembered{key: j.env.Key, digest: j.digest, touched: d.touched}
	e.recent.add(o.commit)
	for _, ev := range d.recorded {
		e.recent.note(o.commit, ev.fact)
	}
	return o
}

// run makes the decision. A panic is a bug in a rule; it refuses this command
// and leaves the state as it was.
func (d *decision) run() (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decide %s %s: panic: %v", d.job.command.Name(), d.job.env.Key, p)
			d.engine.config.Logger.Error("a rule is broken", "command", d.job.command.Name(), "command_id", d.job.env.Key, "err", err)
		}
	}()
	if effective := d.job.env.Effective; effective.After(d.stamp.At.Add(effectiveAhead)) {
		return nil, fault.New(fault.Invalid, "effective_in_future", "effective time %s is after the ledger's %s",
			effective.Format(time.RFC3339Nano), d.stamp.At.Format(time.RFC3339Nano)).With("field", "Ledger-Effective-At")
	}
	result, err = d.job.command.decide(d)
	if d.missing.any() {
		return nil, d.missing
	}
	if err != nil || len(d.recorded) > 0 || !d.job.keyed || d.job.env.DryRun {
		return result, err
	}
	// It changed nothing, and must change nothing when it is sent again.
	stream := events.CommandStream(d.job.env.Key)
	if d.job.pinned.of(stream) == nil {
		return nil, missing{streams: []string{stream}}
	}
	d.record(stream, events.CommandAccepted{CommandID: d.job.env.Key})
	return result, nil
}

// tick is the recorded time of the next commit: now, and later than the last.
func (e *Engine) tick() time.Time {
	now := e.config.Now().UTC().Truncate(time.Microsecond)
	if !now.After(e.clock) {
		now = e.clock.Add(time.Microsecond)
	}
	return now
}

// end finishes a job that goes back to be fetched for, or gave its answer.
func (e *Engine) end(j *job, again error) {
	j.again = again
	e.unpin(j)
	close(j.ended)
}

func (e *Engine) unpin(j *job) {
	e.cache.unpin(j.pinned.all...)
	j.pinned = pins{}
}

package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/stockledger/stockledger/events"
)

// hold has the lease put to use for as long as it lasts, and renews it meanwhile.
// Early is that lead has returned by itself.
func (l *Lease) hold(ctx context.Context, won victory, lead func(context.Context) error) (err error, early bool) {
	term, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	l.begin(won, lose)
	var renewing sync.WaitGroup
	used, done := context.WithCancel(context.WithoutCancel(ctx))
	renewing.Go(func() { l.renewUntil(used) })
	err = lead(term)
	early = term.Err() == nil
	done()
	renewing.Wait()
	l.finish()
	return err, early
}

// begin begins the term.
func (l *Lease) begin(won victory, lose context.CancelCauseFunc) {
	now := l.config.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takes++
	l.lost, l.lose = nil, lose
	l.revision, l.until = won.revision, won.until
	l.renewing, l.attempt = make(map[uint64]time.Time), 0
	l.holder = Holder{Node: l.config.Node, Info: l.config.Info, Since: now.UTC(), Revision: won.revision}
	// That the time is over is noticed even while a call to the register hangs.
	l.expiry = time.AfterFunc(won.until.Sub(now), l.expire)
	l.config.Logger.Info("this node leads now", "term", won.revision, "why", won.why)
}

// expire ends the term when its time is over, and else waits for that.
func (l *Lease) expire() {
	if l.Held() != nil {
		return
	}
	now := l.config.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.expiry.Reset(l.until.Sub(now))
	}
}

// end ends the term because of cause. The caller holds mu.
func (l *Lease) end(cause error) {
	if l.lost != nil {
		return
	}
	l.expiry.Stop()
	l.lost = cause
	l.lose(cause)
	l.config.Logger.Warn("the lease is lost; this node carries out no more commands", "term", l.holder.Revision, "err", cause)
	l.holder = Holder{}
}

// finish ends a term that has not been lost.
func (l *Lease) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return
	}
	l.expiry.Stop()
	l.lost = fmt.Errorf("%w: it has given it back", ErrLost)
	l.config.Logger.Info("this node leads no more, and gives the lease back", "term", l.holder.Revision)
	l.holder = Holder{}
}

// renewUntil renews the lease until ctx ends or it is lost.
func (l *Lease) renewUntil(ctx context.Context) {
	for pause := l.config.TTL / renewals; wait(ctx, pause) == nil && l.Held() == nil; {
		began := l.config.Now()
		if l.renew(ctx, began) {
			pause = max(0, l.config.TTL/renewals-l.config.Now().Sub(began))
		} else {
			pause = l.config.TTL / retries
		}
	}
}

// renew tries to renew the lease once.
func (l *Lease) renew(ctx context.Context, began time.Time) bool {
	next := l.ours()
	l.mu.Lock()
	l.attempt++
	l.renewing[l.attempt] = began
	before := l.revision
	next.Term, next.Renewal = l.holder.Revision, l.attempt
	l.mu.Unlock()
	revision, err := l.write(before, next)
	switch {
	case errors.Is(err, events.ErrConflict):
		return l.overtaken(ctx)
	case err != nil:
		return false // it may have taken effect, or may yet; the next attempt finds out
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed(revision, next.Renewal)
	return true
}

// renewed notes that an attempt to renew the lease took effect, and none before it
// can any more. The caller holds mu.
func (l *Lease) renewed(revision, attempt uint64) {
	began, known := l.renewing[attempt]
	maps.DeleteFunc(l.renewing, func(a uint64, _ time.Time) bool { return a <= attempt })
	l.revision = revision
	if until := began.Add(l.config.TTL); known && l.lost == nil && until.After(l.until) {
		l.until = until // where expiry finds it
	}
}

// overtaken finds out who has written to the register: this process itself, in an
// attempt whose answer was lost, or another one, which then has the lease. What is
// older than what is known was read from a server that is behind.
func (l *Lease) overtaken(ctx context.Context) bool {
	current, revision, err := l.read(ctx)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case revision <= l.revision || l.lost != nil:
	case current.ID == l.id:
		l.renewed(revision, current.Renewal)
	default:
		l.end(fmt.Errorf("%w: %s has taken it over", ErrLost, current.Node))
	}
	return false
}

// giveBack has the next node take over at once, if the register may still say
// that this one holds the lease.
func (l *Lease) giveBack() error {
	l.mu.Lock()
	written, known := l.written, l.revision
	l.mu.Unlock()
	if !written {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.config.TTL)
	defer cancel()
	for {
		current, revision, err := l.read(ctx)
		switch {
		case err == nil && revision < known:
			err = errors.New("read the lease: an old one was read")
		case err == nil && (current.ID != l.id || current.Released):
			return l.gaveBack()
		case err == nil:
			current.Released = true
			if _, err = l.write(revision, current); err == nil {
				return l.gaveBack()
			}
		}
		if wait(ctx, l.config.TTL/retries) != nil {
			return err
		}
	}
}

func (l *Lease) gaveBack() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written = false
	return nil
}

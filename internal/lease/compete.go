package lease

import (
	"context"
	"fmt"
	"time"
)

// A victory is a lease that this process has just got.
type victory struct {
	revision uint64
	until    time.Time // it is held before then
	why      string    // it could be got
}

// A sight is for how long one revision of the lease has been seen.
type sight struct {
	revision uint64
	long     time.Duration
	last     time.Time // zero: the last look failed, or there was none
}

// look adds a look at the lease. The time between two looks counts if both of
// them succeeded and showed the same: while nobody can reach the register, nobody
// can renew the lease either, and its holder shall have time to once he can.
func (s *sight) look(revision uint64, at time.Time) {
	switch {
	case s.revision != revision:
		*s = sight{revision: revision}
	case !s.last.IsZero():
		s.long += at.Sub(s.last)
	}
	s.last = at
}

// compete watches the lease until it has got it. Before turn it only watches. Not
// ok is that ctx has ended.
func (l *Lease) compete(ctx context.Context, turn time.Time) (won victory, ok bool) {
	var free time.Time // since when it could be taken over; zero: it cannot be
	for seen := new(sight); ctx.Err() == nil; _ = wait(ctx, l.config.TTL/polls) {
		current, revision, err := l.read(ctx)
		now := l.config.Now() // after the answer: it was written before
		if err != nil {
			seen.last = time.Time{}
			continue
		}
		seen.look(revision, now)
		why := l.free(current, seen)
		l.note(current, revision, why)
		switch {
		case why == "":
			free = time.Time{}
		case free.IsZero():
			free = now
		}
		if why == "" || now.Before(turn) || now.Sub(free) < lag*l.config.TTL && !l.ready() {
			continue
		}
		if won, ok = l.take(revision, why); ok {
			return won, true
		}
	}
	return victory{}, false
}

func (l *Lease) ready() bool { return l.config.Ready == nil || l.config.Ready() }

// free is why the lease can be taken over, "" if it cannot.
func (l *Lease) free(current state, seen *sight) string {
	switch {
	case current.ID == "":
		return "nobody had it"
	case current.Released:
		return fmt.Sprintf("%s gave it back", current.Node)
	case current.ID == l.id: // lost to nobody, or got without hearing of it
		return "this node had it last, and nobody has taken it over"
	case seen.long >= l.config.TTL+l.config.TTL/margins:
		return fmt.Sprintf("%s has not renewed it for %s", current.Node, seen.long.Round(time.Millisecond))
	}
	return ""
}

// take writes the lease of this process over a revision. When the outcome is
// unknown, the next look shows it.
func (l *Lease) take(revision uint64, why string) (won victory, ok bool) {
	l.mu.Lock()
	l.written = true
	l.mu.Unlock()
	began := l.config.Now()
	revision, err := l.write(revision, l.ours())
	won = victory{revision: revision, until: began.Add(l.config.TTL), why: why}
	return won, err == nil && l.config.Now().Before(won.until)
}

// note remembers who holds the lease, and tells when that has changed.
func (l *Lease) note(current state, revision uint64, free string) {
	now := l.config.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if free != "" {
		if l.holder.Node != "" {
			l.config.Logger.Info("no node leads", "why", free, "term", l.holder.Revision)
		}
		l.holder = Holder{}
		return
	}
	if term := current.term(revision); l.holder.Revision != term {
		l.holder = Holder{Node: current.Node, Info: current.Info, Since: now.UTC(), Revision: term}
		l.config.Logger.Info("another node leads", "leader", current.Node, "term", term)
	}
}

// term is the revision at which the term began.
func (s state) term(revision uint64) uint64 {
	if s.Term == 0 {
		return revision
	}
	return s.Term
}

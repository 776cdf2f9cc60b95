package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"

	"github.com/stockledger/stockledger/events"
)

// A logPass checks a log event by event: that none is missing, that commits are
// whole, that time does not go back, that no command comes twice, and that every
// stream's chain holds.
type logPass struct {
	seeds
	checks   *checks
	digest   Digest
	at       uint64 // position of the last event
	recorded int64
	commit   openCommit
	commands map[key]struct{}
	chain    map[key]link
	ends     map[key]end // of the streams in chain
}

// An end is where a stream ends.
type end struct {
	stream   string
	position uint64
}

// An openCommit is one of which not all events have come yet.
type openCommit struct {
	id          string
	part, parts int
}

func (c openCommit) open() bool { return c.part < c.parts }

func newLogPass(s seeds, c *checks) *logPass {
	return &logPass{seeds: s, checks: c, commands: make(map[key]struct{}), chain: make(map[key]link), ends: make(map[key]end)}
}

// check looks at the next event.
func (p *logPass) check(e *entry) {
	p.position(e)
	p.follows(e)
	if p.checks.see("facts", e.metaErr == nil && e.factErr == nil) {
		p.commits(e)
	} else {
		p.checks.find("facts", e.place(), "event %d cannot be read: %v", e.Position, errors.Join(e.factErr, e.metaErr))
		if e.metaErr == nil {
			p.commits(e)
		}
	}
	h := sha256.New()
	h.Write(p.digest[:])
	h.Write(e.Hash[:])
	h.Sum(p.digest[:0])
	p.at = e.Position
}

func (p *logPass) position(e *entry) {
	if !p.checks.see("positions", e.Position == p.at+1) {
		p.checks.find("positions", e.place(), "position %d follows position %d", e.Position, p.at)
	}
}

func (p *logPass) follows(e *entry) {
	stream, own := p.key(e.Stream), e.Link()
	wrong := p.broken(&e.Recorded, own, p.chain[stream])
	if !p.checks.see("chain", wrong == "") {
		f := e.place()
		if e.Hash != own {
			f.Expected, f.Served = new(own.String()), new(e.Hash.String())
		}
		p.checks.find("chain", f, "event %d: %s", e.Position, wrong)
	}
	p.ends[stream] = end{e.Stream, e.Position}
	p.chain[stream] = p.link(&e.Recorded)
}

// commits follows the commits from part to part.
func (p *logPass) commits(e *entry) {
	m := &e.meta
	if p.commit.open() {
		whole := m.CommandID == p.commit.id && m.Parts == p.commit.parts && m.Part == p.commit.part+1 && e.at == p.recorded
		if p.checks.see("commits", whole) {
			p.commit.part++
			return
		}
		p.checks.find("commits", e.place(), "event %d, part %d of %d of command %s, comes after part %d of %d of command %s",
			e.Position, m.Part, m.Parts, m.CommandID, p.commit.part, p.commit.parts, p.commit.id)
		p.commit = openCommit{m.CommandID, m.Part, m.Parts}
		p.recorded = max(p.recorded, e.at)
		return
	}
	if !p.checks.see("commits", m.Parts == 0 && m.Part == 0 || m.Parts > 1 && m.Part == 1) {
		p.checks.find("commits", e.place(), "event %d begins a commit as part %d of %d", e.Position, m.Part, m.Parts)
	}
	if !p.checks.see("clock", e.at > p.recorded) {
		p.checks.find("clock", e.place(), "event %d was recorded at %s, not after the commit before it", e.Position, moment(e.at).String)
	}
	id := p.key(m.CommandID)
	_, twice := p.commands[id]
	if !p.checks.see("command ids", !twice && m.CommandID != "") {
		p.checks.find("command ids", e.place(), "event %d: the command id %q is used twice, or is empty", e.Position, m.CommandID)
	}
	p.commands[id] = struct{}{}
	p.commit, p.recorded = openCommit{m.CommandID, m.Part, m.Parts}, max(p.recorded, e.at)
}

// end looks at what the last event leaves open.
func (p *logPass) end() {
	if p.commit.open() {
		p.checks.see("commits", false)
		p.checks.find("commits", Finding{Position: p.at}, "the log ends with part %d of %d of command %s",
			p.commit.part, p.commit.parts, p.commit.id)
	}
}

// A logReader reads a log from its first event on, as far as it is told. Where the
// store cannot read it, it goes on after that.
type logReader struct {
	store  events.Store
	checks *checks
	at     uint64 // position of the last event read
	next   func() ([]events.Recorded, error, bool)
	stop   func()
	rest   []events.Recorded // of a batch
}

func (r *logReader) close() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// maxGap is how many positions in a row may be unreadable before the rest of the
// log is given up.
const maxGap = 1000

// read hands the events up to a position to do.
func (r *logReader) read(ctx context.Context, through uint64, do func(events.Recorded) error) error {
	for r.at < through {
		if len(r.rest) == 0 {
			if err := r.fill(ctx, through); err != nil || len(r.rest) == 0 {
				return err
			}
		}
		e := r.rest[0]
		if e.Position > through {
			return nil
		}
		r.rest, r.at = r.rest[1:], e.Position
		if err := do(e); err != nil {
			return err
		}
	}
	return nil
}

// fill reads the next batch. It leaves none when nothing more can be read up to a
// position.
func (r *logReader) fill(ctx context.Context, through uint64) error {
	for skipped := 0; ; {
		anew := r.stop == nil
		if anew {
			r.next, r.stop = iter.Pull2(r.store.Subscribe(ctx, r.at))
		}
		batch, err, _ := r.next()
		if err == nil {
			if r.rest = batch; skipped > 0 {
				r.missing(r.at, "the log cannot be read at this position")
			}
			return nil
		}
		r.close()
		if ctx.Err() != nil || errors.Is(err, events.ErrClosed) || errors.Is(err, events.ErrOtherLog) {
			return err
		}
		if !anew { // a read of many fails as one: try again with few
			continue
		}
		if r.at+1 >= through || skipped == maxGap {
			r.missing(r.at+1, err.Error())
			return nil
		}
		r.at++
		skipped++
	}
}

// missing notes that what is at a position cannot be read.
func (r *logReader) missing(position uint64, why string) {
	r.checks.see("positions", false)
	r.checks.find("positions", Finding{Position: position}, "position %d: %s", position, why)
}

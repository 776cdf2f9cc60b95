package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver that reads the file

	"github.com/stockledger/stockledger/events"
)

// A committed command is one as the log has it.
type committed struct {
	position uint64 // of its last event
	meta     events.Meta
}

// A trail follows a log event by event, and sees to what holds of every log: the
// positions have no gaps, every stream is a chain, and commits are whole.
type trail struct {
	book   *book
	each   func(committed)
	at     uint64
	links  map[string]events.Recorded // the last event of each stream: its version and hash
	open   events.Meta
	levels map[place]level // what the newest event says
}

func newTrail(b *book, each func(committed)) *trail {
	return &trail{book: b, each: each, links: make(map[string]events.Recorded), levels: make(map[place]level)}
}

// event takes in the next event.
func (t *trail) event(e events.Recorded) {
	if e.Position != t.at+1 {
		t.book.wrongly("gap", "position %d follows position %d", e.Position, t.at)
	}
	t.at = e.Position
	if err := e.Verify(t.links[e.Stream]); err != nil {
		t.book.wrongly("chain", "position %d: %v", e.Position, err)
	}
	t.links[e.Stream] = events.Recorded{Version: e.Version, Hash: e.Hash}
	meta, err := e.Metadata()
	if err != nil {
		t.book.wrongly("unreadable", "position %d: %v", e.Position, err)
		return
	}
	fact, err := e.Fact()
	if err != nil {
		t.book.wrongly("unreadable", "position %d: %v", e.Position, err)
		return
	}
	t.fact(fact)
	t.part(e, meta)
}

// part follows the parts of commits, and tells of each one that is whole.
func (t *trail) part(e events.Recorded, meta events.Meta) {
	switch inside := t.open.Part < t.open.Parts; {
	case inside && (meta.CommandID != t.open.CommandID || meta.Part != t.open.Part+1):
		t.book.wrongly("torn", "position %d: part %d of %s comes inside the commit of %s", e.Position, meta.Part, meta.CommandID, t.open.CommandID)
	case !inside && meta.Part > 1:
		t.book.wrongly("torn", "position %d: the commit of %s begins with part %d", e.Position, meta.CommandID, meta.Part)
	}
	t.open = meta
	if meta.Last() {
		t.each(committed{e.Position, meta})
	}
}

// fact keeps the level that an event says it left.
func (t *trail) fact(fact events.Fact) {
	var at place
	var stocked, reserved events.Quantity
	switch f := fact.(type) {
	case events.LevelCreated:
		at, stocked = place{f.ItemID, f.LocationID}, f.Stocked
	case events.StockAdjusted:
		at, stocked, reserved = place{f.ItemID, f.LocationID}, f.Stocked, f.Reserved
	case events.ReservationCreated:
		at, stocked, reserved = place{f.ItemID, f.LocationID}, f.Stocked, f.Reserved
	case events.ReservationReleased:
		at, stocked, reserved = place{f.ItemID, f.LocationID}, f.Stocked, f.Reserved
	case events.ReservationFulfilled:
		at, stocked, reserved = place{f.ItemID, f.LocationID}, f.Stocked, f.Reserved
	default:
		return
	}
	var l level
	var ok, ok2 bool
	l.stocked, ok = stocked.Whole()
	l.reserved, ok2 = reserved.Whole()
	if !ok || !ok2 {
		t.book.wrongly("level", "%s at %s has %s, %s of them reserved: nobody asked for parts of units", at.item, at.location, stocked, reserved)
	}
	t.levels[at] = l
}

// end is called where a log ends, or is said to.
func (t *trail) end() {
	if t.open.Part < t.open.Parts {
		t.book.wrongly("torn", "the log ends at %d, inside the commit of %s: part %d of %d", t.at, t.open.CommandID, t.open.Part, t.open.Parts)
	}
}

// A checker compares a log with the book, from where it was the last time.
type checker struct {
	path  string
	book  *book
	trail *trail
}

func newChecker(path string, b *book) *checker {
	return &checker{path: path, book: b, trail: newTrail(b, b.found)}
}

// head is where the log ends.
func (c *checker) head(ctx context.Context) (head uint64, err error) {
	db, err := openReadOnly(c.path)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(position), 0) FROM events").Scan(&head)
	return head, err
}

// A cut is a moment at which a server serves and nobody has sent it anything yet:
// where its log ends, and the commands that were sent to those before it.
type cut struct {
	through uint64
	due     []name
}

// cut is called at such a moment.
func (c *checker) cut(ctx context.Context) (cut, error) {
	head, err := c.head(ctx)
	return cut{head, c.book.due()}, err
}

// advance checks the log up to a cut, and settles the commands that were sent before
// it. Others may be sent meanwhile.
func (c *checker) advance(ctx context.Context, at cut) error {
	through := at.through
	if through < c.trail.at {
		c.book.wrongly(kindLost, "the log ends at %d, and it had %d events", through, c.trail.at)
		return nil
	}
	if err := readLog(ctx, c.path, c.trail.at, through, c.trail.event); err != nil {
		return err
	}
	c.trail.end()
	c.book.settle(at)
	c.book.compare(c.trail.levels)
	return nil
}

// whole reads the whole log once more, up to where it was checked: it is what it was,
// and holds every command that was ever found in it.
func (c *checker) whole(ctx context.Context) error {
	var there uint64
	again := newTrail(c.book, func(done committed) {
		there++
		c.book.still(done)
	})
	if err := readLog(ctx, c.path, 0, c.trail.at, again.event); err != nil {
		return err
	}
	if again.at != c.trail.at {
		c.book.wrongly(kindLost, "the log ends at %d, and it was %d events long", again.at, c.trail.at)
	}
	again.end()
	c.book.same(there)
	for stream, last := range c.trail.links {
		if again.links[stream].Hash != last.Hash {
			c.book.wrongly("changed", "%s does not end as it did", stream)
		}
	}
	return nil
}

// openReadOnly opens the file of a log for reading, beside the process that writes it.
func openReadOnly(path string) (*sql.DB, error) {
	at := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: "mode=ro&_pragma=busy_timeout(10000)"}
	db, err := sql.Open("sqlite", at.String())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return db, nil
}

// readLog reads the events after a position, up to another.
func readLog(ctx context.Context, path string, after, through uint64, each func(events.Recorded)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read %s: %w", path, err)
		}
	}()
	db, err := openReadOnly(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT position, stream, version, type, data, meta, prev, hash FROM events
		WHERE position > ? AND position <= ? ORDER BY position`, after, through)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var e events.Recorded
		var prev, hash []byte
		if err := rows.Scan(&e.Position, &e.Stream, &e.Version, &e.Type, &e.Data, &e.Meta, &prev, &hash); err != nil {
			return err
		}
		copy(e.Prev[:], prev)
		copy(e.Hash[:], hash)
		each(e)
	}
	return rows.Err()
}

// found settles where a command is in the log.
func (b *book) found(done committed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := nameOf(done.meta.CommandID)
	if !ok || n.caller >= len(b.entries) || n.number >= len(b.entries[n.caller]) {
		b.complain("nobody's", "nobody sent %s, which is in the log at %d", done.meta.CommandID, done.position)
		return
	}
	e := b.entry(n)
	switch {
	case e.position != 0:
		b.complain(kindDoubled, "%s is in the log twice, at %d and at %d", n, e.position, done.position)
		return
	case e.absent:
		b.complain("late", "%s was given up and was not in the log when the next server started; now it is, at %d", n, done.position)
	case max(done.meta.Parts, 1) != int(e.parts):
		b.complain("torn", "%s is at %d with %d events, and makes %d", n, done.position, max(done.meta.Parts, 1), e.parts)
	}
	e.position = done.position
	if e.outcome == acknowledged {
		b.asTold(n, e, done)
	} else {
		e.answer = b.digest(done.meta.Answer)
	}
	for _, m := range e.moves {
		l := b.totals[m.place]
		b.totals[m.place] = level{l.stocked + m.stocked, l.reserved + m.reserved}
	}
	e.moves = nil
	b.there++
}

// asTold compares an acknowledgment with the commit.
func (b *book) asTold(n name, e *entry, done committed) {
	if e.told != done.position {
		b.complain("elsewhere", "%s was acknowledged with position %d, and is at %d", n, e.told, done.position)
	}
	if e.answer != b.digest(done.meta.Answer) {
		b.complain("answer", "%s was answered otherwise than the log at %d says", n, done.position)
	}
}

// still sees that a command is where it was found.
func (b *book) still(done committed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := nameOf(done.meta.CommandID)
	if !ok || n.caller >= len(b.entries) || n.number >= len(b.entries[n.caller]) {
		b.complain("nobody's", "nobody sent %s, which is in the log at %d", done.meta.CommandID, done.position)
		return
	}
	if e := b.entry(n); e.position != done.position {
		b.complain(kindDoubled, "%s is in the log at %d, and was at %d", n, done.position, e.position)
	}
}

// same sees that the log holds as many commands as were found in it.
func (b *book) same(there uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if there != b.there {
		b.complain(kindLost, "%d commands are in the log, and %d were", there, b.there)
	}
}

// due are the commands to settle: those that were sent until now. Of those that are
// not open, everything that will ever happen has happened.
func (b *book) due() []name {
	b.mu.Lock()
	defer b.mu.Unlock()
	due := b.pending
	b.pending = nil
	for _, n := range due {
		e := b.entry(n)
		e.over = e.outcome != open
	}
	return due
}

// settle decides on the commands of a cut after the log was read up to it. Those that
// were open then may be behind it, having been sent again since: they wait for the
// next time.
func (b *book) settle(at cut) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range at.due {
		e := b.entry(n)
		switch {
		case !e.over && e.position == 0:
			b.pending = append(b.pending, n)
		case e.outcome == acknowledged && e.position == 0:
			b.complain(kindLost, "%s was acknowledged with position %d, and is not in the log", n, e.told)
		case e.outcome == acknowledged && e.position != e.told:
			b.complain("elsewhere", "%s was acknowledged with position %d, and is at %d", n, e.told, e.position)
		case e.outcome == open:
			b.pending = append(b.pending, n) // it is there, and its caller has yet to hear of it
		case e.outcome == refused && e.position != 0:
			b.complain("refused", "%s was refused, and is in the log at %d", n, e.position)
		case e.outcome == refused:
			e.moves = nil
		case e.outcome == givenUp && e.position != 0:
			b.counts.givenUpThere++
		case e.outcome == givenUp:
			e.absent = true
			e.moves = nil
		}
	}
}

// settled sees that nothing is left open.
func (b *book) settled() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.pending {
		if e := b.entry(n); e.outcome == open {
			b.complain("unanswered", "%s was sent until the end, and never answered", n)
		} else {
			b.complain("unsettled", "what became of %s was not checked", n)
		}
	}
}

// compare adds up what the callers wanted, as often as they wanted it, which is once.
// That is what must be in stock, whatever the events say.
func (b *book) compare(levels map[place]level) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at, want := range b.totals {
		if have := levels[at]; have != want {
			b.complain("level", "%s at %s has %d, %d of them reserved; what was carried out comes to %d and %d",
				at.item, at.location, have.stocked, have.reserved, want.stocked, want.reserved)
		}
	}
}

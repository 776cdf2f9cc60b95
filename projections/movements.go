package projections

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/events"
)

// A movement is one change of the quantities of one level. What it came to
// counts: a deleted level counts nothing.
//
// Rows are narrow, as there are more of them than of anything else. They name
// their level and their place by number, and what all movements of a commit
// share stands once, in commands: the command of a movement is the first one
// whose position is not before it. It is written with the last event of its
// commit, so there may be movements whose command is not there yet; nobody is
// shown those.
//
// Two levels are concerned when a reservation is moved; the one it comes to has
// the odd id. An index ends in the id without naming it, as all of SQLite's do.
var movementsPart = part{
	stream: "item",
	schema: `
CREATE TABLE places (
	position INTEGER PRIMARY KEY, -- of the event that created the first level there; its number
	id       TEXT NOT NULL UNIQUE -- of the location
);
CREATE TABLE levels (
	position          INTEGER PRIMARY KEY, -- of the event that created it; its number
	id                TEXT NOT NULL UNIQUE,
	inventory_item_id TEXT NOT NULL,
	place             INTEGER NOT NULL,
	prompt            INTEGER              -- position of its first movement that is not backdated
);
CREATE INDEX levels_by_item  ON levels (inventory_item_id);
CREATE INDEX levels_by_place ON levels (place);
CREATE TABLE movements (
	id             INTEGER PRIMARY KEY, -- 2 × position, and 1 for the second of a pair
	level          INTEGER NOT NULL,
	place          INTEGER NOT NULL,
	kind           INTEGER NOT NULL,    -- see movementKinds
	reservation_id TEXT,
	delta_stocked  TEXT,                -- NULL is 0, here and below
	delta_reserved TEXT,
	delta_incoming TEXT,
	stocked        TEXT,                -- of the level, after
	reserved       TEXT,
	incoming       TEXT,
	place_stocked  TEXT,                -- of all levels at the place, after
	place_reserved TEXT,
	effective_at   INTEGER,             -- of a backdated movement
	dated          INTEGER,             -- how many movements of the level were backdated so far
	dated_stocked  TEXT,                -- and what they have moved together
	dated_reserved TEXT,
	dated_incoming TEXT
);
CREATE INDEX movements_by_level       ON movements (level);
CREATE INDEX movements_by_place       ON movements (place);
CREATE INDEX movements_by_kind        ON movements (kind);
CREATE INDEX movements_by_reservation ON movements (reservation_id) WHERE reservation_id IS NOT NULL;` + backdatedSchema,
	fold: newMovementsFold,
}

// movementKinds are the facts that move quantities, in the order of their
// numbers, from 1. A new one goes to the end.
var movementKinds = []string{
	"level-created", "level-deleted", "level-restored", "stock-adjusted", "stock-set", "incoming-set",
	"reservation-created", "reservation-updated", "reservation-moved", "reservation-released", "reservation-restored",
	"reservation-fulfilled",
}

// kindNumber is 0 for what is no kind of movement.
func kindNumber(kind string) int64 { return int64(slices.Index(movementKinds, kind) + 1) }

var kindDeleted = kindNumber("level-deleted")

// shortName is stock-adjusted for inventory.stock-adjusted.v1.
func shortName(fact events.Fact) string {
	name := strings.TrimPrefix(fact.EventType(), "inventory.")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return name
}

func (h holding) plus(o holding) holding {
	return holding{h.stocked.Plus(o.stocked), h.reserved.Plus(o.reserved), h.incoming.Plus(o.incoming)}
}

func (h holding) minus(o holding) holding {
	return holding{h.stocked.Minus(o.stocked), h.reserved.Minus(o.reserved), h.incoming.Minus(o.incoming)}
}

// deltas is by how much the quantities moved.
func (c *change) deltas() holding { return holding{c.stocked.by, c.reserved.by, c.incoming.by} }

// move is what the quantities came to. It refuses when the fact says otherwise.
func (h holding) move(c *change) (after holding, err error) {
	if after.stocked, err = c.stocked.from(h.stocked, "stocked"); err != nil {
		return h, err
	}
	if after.reserved, err = c.reserved.from(h.reserved, "reserved"); err != nil {
		return h, err
	}
	after.incoming, err = c.incoming.from(h.incoming, "incoming")
	return after, err
}

type movementsFold struct {
	levels  *rows[string, shelf]
	places  *rows[string, site]
	buckets *buckets
	made    []movement
	plain   *bulk // for movements of levels that never had a backdated one
	late    *bulk // for the others
}

// A shelf is a level and what it has come to. What it has come to is not stored
// with it: its newest movement says it.
type shelf struct {
	id, item, location string
	place              int64 // the place's number
	prompt             int64
	holding
	dated     holding
	backdated int64
}

// A site is a location and what all its levels together have come to.
type site struct {
	id string
	holding
}

// A movement is a change, what it led to, and the event that made it.
type movement struct {
	*change
	event        *event
	id           int64
	level, place int64 // their numbers; change.level is the id
	kind         int64
	after, there holding
	effective    driver.Value // nil unless it is backdated
	dated        holding
	backdated    int64
}

func newMovementsFold(f *file) fold {
	return &movementsFold{
		levels: newRows(f, "level", func(id string) (row[shelf], bool, error) {
			rows, err := f.lookup(context.Background(), `SELECT l.position, l.inventory_item_id, p.position, p.id, coalesce(l.prompt, 0),
					m.stocked, m.reserved, m.incoming, coalesce(m.dated, 0), m.dated_stocked, m.dated_reserved, m.dated_incoming
				FROM levels l JOIN places p ON p.position = l.place
				JOIN movements m ON m.id = (SELECT max(id) FROM movements WHERE level = l.position) WHERE l.id = ?`, id)
			return first(rows, err, func(s scanner) (r row[shelf], err error) {
				l := &r.value
				l.id = id
				err = s.Scan(&r.position, &l.item, &l.place, &l.location, &l.prompt,
					sparse{&l.stocked}, sparse{&l.reserved}, sparse{&l.incoming},
					&l.backdated, sparse{&l.dated.stocked}, sparse{&l.dated.reserved}, sparse{&l.dated.incoming})
				return r, err
			})
		}),
		places: newRows(f, "place", func(id string) (row[site], bool, error) {
			rows, err := f.lookup(context.Background(), `SELECT p.position, m.place_stocked, m.place_reserved FROM places p
				JOIN movements m ON m.id = (SELECT max(id) FROM movements WHERE place = p.position) WHERE p.id = ?`, id)
			return first(rows, err, func(s scanner) (r row[site], err error) {
				r.value.id = id
				return r, s.Scan(&r.position, sparse{&r.value.stocked}, sparse{&r.value.reserved})
			})
		}),
		buckets: newBuckets(),
		plain: newBulk(`INSERT OR FAIL INTO movements (id, level, place, kind, reservation_id,
			delta_stocked, delta_reserved, delta_incoming, stocked, reserved, incoming, place_stocked, place_reserved)`, 13),
		late: newBulk(`INSERT OR FAIL INTO movements (id, level, place, kind, reservation_id,
			delta_stocked, delta_reserved, delta_incoming, stocked, reserved, incoming, place_stocked, place_reserved,
			effective_at, dated, dated_stocked, dated_reserved, dated_incoming)`, 18),
	}
}

func (f *movementsFold) apply(e *event) error {
	_, created := e.fact.(events.LevelCreated)
	for i := range e.changes {
		c := &e.changes[i]
		if created {
			if err := f.create(e, c); err != nil {
				return err
			}
		} else if !c.moves() && c.reservation != "" {
			continue // a reservation was only described
		}
		if err := f.move(e, int64(i), c); err != nil {
			return err
		}
	}
	return nil
}

func (f *movementsFold) create(e *event, c *change) error {
	at, err := f.places.find(c.location)
	if err == nil && at == nil {
		err = f.places.add(e, c.location, site{id: c.location})
		at = f.places.byKey[c.location]
	}
	if err != nil {
		return err
	}
	return f.levels.add(e, c.level, shelf{id: c.level, item: c.item, location: c.location, place: at.position})
}

// move moves the balance of a level and of its place, and notes it.
func (f *movementsFold) move(e *event, nth int64, c *change) error {
	level, err := f.levels.find(c.level)
	if err != nil {
		return err
	}
	if level == nil {
		return fmt.Errorf("there is no level %s", c.level)
	}
	l := &level.value
	at, err := f.places.find(l.location)
	if err != nil {
		return err
	}
	if at == nil || l.location != c.location || l.item != c.item {
		return fmt.Errorf("level %s is of item %s at %s, not of %s at %s", c.level, l.item, l.location, c.item, c.location)
	}
	if l.holding, err = l.move(c); err != nil {
		return fmt.Errorf("level %s: %w", c.level, err)
	}
	at.value.holding = at.value.plus(c.deltas())
	made := movement{change: c, event: e, id: 2*int64(e.Position) + nth, level: level.position, place: at.position, kind: kindNumber(shortName(e.fact))}
	if e.backdated() {
		made.effective = storeMoment(e.meta.Effective)
		l.backdated++
		l.dated = l.dated.plus(c.deltas())
	} else if l.prompt == 0 {
		l.prompt = int64(e.Position)
		f.levels.mark(level)
	}
	made.after, made.there, made.dated, made.backdated = l.holding, at.value.holding, l.dated, l.backdated
	f.made = append(f.made, made)
	return nil
}

// backdated reports whether it happened at another time than it was recorded;
// usually before, and when clocks differ shortly after.
func (e *event) backdated() bool {
	return !e.meta.Effective.IsZero() && e.meta.Effective.UnixMicro() != e.meta.Recorded.UnixMicro()
}

func (f *movementsFold) flush(w *writer) error {
	if err := f.spill(w); err != nil {
		return err
	}
	if err := errors.Join(f.plain.end(w), f.late.end(w)); err != nil {
		return fmt.Errorf("write movements: %w", err)
	}
	return f.flushNames(w)
}

func (f *movementsFold) spill(w *writer) error {
	for i := range f.made {
		if err := f.made[i].write(w, f.plain, f.late); err != nil {
			return fmt.Errorf("write movements: %w", err)
		}
	}
	if err := f.buckets.write(w, f.made); err != nil {
		return fmt.Errorf("write backdated movements: %w", err)
	}
	f.forgetMade()
	return nil
}

func (f *movementsFold) flushNames(w *writer) error {
	known := func(*row[site]) error { return nil } // what it has come to is not stored with it
	err := f.places.flush(func(p *row[site]) error {
		return w.exec(`INSERT INTO places (position, id) VALUES (?, ?)`, p.position, p.value.id)
	}, known)
	if err != nil {
		return err
	}
	return f.levels.flush(func(r *row[shelf]) error {
		l := &r.value
		return w.exec(`INSERT INTO levels (position, id, inventory_item_id, place, prompt) VALUES (?, ?, ?, ?, ?)`,
			r.position, l.id, l.item, l.place, l.storedPrompt())
	}, func(r *row[shelf]) error {
		return w.exec(`UPDATE levels SET prompt = ? WHERE position = ?`, r.value.storedPrompt(), r.position)
	})
}

func (l *shelf) storedPrompt() driver.Value {
	if l.prompt == 0 {
		return nil
	}
	return l.prompt
}

func (m *movement) write(w *writer, plain, late *bulk) error {
	if m.backdated == 0 {
		return plain.add(w,
			m.id, m.level, m.place, m.kind, storeBlank(m.reservation),
			storeSparse(m.stocked.by), storeSparse(m.reserved.by), storeSparse(m.incoming.by),
			storeSparse(m.after.stocked), storeSparse(m.after.reserved), storeSparse(m.after.incoming),
			storeSparse(m.there.stocked), storeSparse(m.there.reserved))
	}
	return late.add(w,
		m.id, m.level, m.place, m.kind, storeBlank(m.reservation),
		storeSparse(m.stocked.by), storeSparse(m.reserved.by), storeSparse(m.incoming.by),
		storeSparse(m.after.stocked), storeSparse(m.after.reserved), storeSparse(m.after.incoming),
		storeSparse(m.there.stocked), storeSparse(m.there.reserved),
		m.effective, m.backdated, storeSparse(m.dated.stocked), storeSparse(m.dated.reserved), storeSparse(m.dated.incoming))
}

// A sparse quantity is NULL when it is 0.
type sparse struct{ *events.Quantity }

// Scan implements sql.Scanner.
func (q sparse) Scan(stored any) error {
	if stored == nil {
		*q.Quantity = events.Quantity{}
		return nil
	}
	return quantity(q).Scan(stored)
}

// storeSparse is a text to SQLite, as its column is; to hand it over as a number
// takes a third of the time.
func storeSparse(q events.Quantity) driver.Value {
	if q.IsZero() {
		return nil
	}
	if units, whole := q.Whole(); whole {
		return units
	}
	return q.String()
}

func (f *movementsFold) trim() {
	f.levels.trim()
	f.places.trim()
	f.buckets.trim(f.levels.most)
}

func (f *movementsFold) forget() {
	f.levels.forget()
	f.places.forget()
	f.buckets.forget()
	f.plain.forget()
	f.late.forget()
	f.forgetMade()
}

func (f *movementsFold) forgetMade() {
	clear(f.made)
	f.made = f.made[:0]
}

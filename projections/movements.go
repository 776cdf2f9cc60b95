package projections

import (
	"context"
	"fmt"
	"strings"

	"github.com/stockledger/stockledger/events"
)

// A movement is one change of the quantities of one level. What it came to
// counts: a deleted level counts nothing.
//
// Rows name their level by number, so that the index that everything about
// history goes through is small. Two levels are concerned when a reservation is
// moved; the one it comes to has the odd id.
var movementsModel = definition{
	name: "movements", version: 1, stream: "item",
	schema: `
CREATE TABLE levels (
	position          INTEGER PRIMARY KEY, -- of the event that created it; its number in movements
	id                TEXT NOT NULL UNIQUE,
	inventory_item_id TEXT NOT NULL,
	location_id       TEXT NOT NULL
);
CREATE INDEX levels_by_item     ON levels (inventory_item_id);
CREATE INDEX levels_by_location ON levels (location_id);
CREATE TABLE movements (
	id             INTEGER PRIMARY KEY, -- 2 × position, and 1 for the second of a pair
	level          INTEGER NOT NULL,
	kind           TEXT NOT NULL,       -- such as stock-adjusted
	recorded_at    INTEGER NOT NULL,
	effective_at   INTEGER NOT NULL,
	reservation_id TEXT,
	delta_stocked  TEXT,                -- NULL where nothing moved
	delta_reserved TEXT,
	delta_incoming TEXT,
	stocked        TEXT NOT NULL,       -- after
	reserved       TEXT NOT NULL,
	incoming       TEXT NOT NULL,
	reason         TEXT,
	reference      TEXT,
	actor          TEXT,
	command        TEXT NOT NULL,
	command_id     TEXT NOT NULL,
	correlation_id TEXT
);
CREATE INDEX movements_by_level       ON movements (level, id);
CREATE INDEX movements_by_reservation ON movements (reservation_id, id) WHERE reservation_id IS NOT NULL;`,
	fold: newMovementsFold,
}

type movementsFold struct {
	levels *rows[string, balance]
	made   []movement
}

// A balance is what a level has come to. It is not stored: the newest movement
// of the level says it.
type balance struct{ stocked, reserved, incoming events.Quantity }

// A movement is a change, what it led to, and the event that made it.
type movement struct {
	change
	after balance
	event *event
	id    int64
	level int64 // its number; change.level is its id
}

func newMovementsFold(f *file) fold {
	return &movementsFold{levels: newRows(f, "level", func(id string) (row[balance], bool, error) {
		rows, err := f.lookup(context.Background(),
			`SELECT m.stocked, m.reserved, m.incoming, l.position FROM levels l
			JOIN movements m ON m.id = (SELECT max(id) FROM movements WHERE level = l.position) WHERE l.id = ?`, id)
		return first(rows, err, func(s scanner) (r row[balance], err error) {
			b := &r.value
			err = s.Scan(quantity{&b.stocked}, quantity{&b.reserved}, quantity{&b.incoming}, &r.position)
			return r, err
		})
	})}
}

func (f *movementsFold) apply(e *event) error {
	_, created := e.fact.(events.LevelCreated)
	for i, c := range e.changes {
		if created {
			if err := f.levels.add(e, c.level, balance{}); err != nil {
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

// move moves the balance of a level, and notes it.
func (f *movementsFold) move(e *event, nth int64, c change) error {
	if err := f.levels.change(c.level, func(b *balance) error { return b.move(c) }); err != nil {
		return err
	}
	r, err := f.levels.find(c.level)
	if err != nil {
		return err
	}
	f.made = append(f.made, movement{c, r.value, e, 2*int64(e.Position) + nth, r.position})
	return nil
}

func (b *balance) move(c change) (err error) {
	if b.stocked, err = c.stocked.from(b.stocked, "stocked"); err != nil {
		return err
	}
	if b.reserved, err = c.reserved.from(b.reserved, "reserved"); err != nil {
		return err
	}
	b.incoming, err = c.incoming.from(b.incoming, "incoming")
	return err
}

func (f *movementsFold) flush(w *writer) error {
	inMovements := func(*row[balance]) error { return nil }
	if err := f.levels.flush(inMovements, inMovements); err != nil {
		return err
	}
	for i := range f.made {
		if err := f.made[i].write(w); err != nil {
			return fmt.Errorf("write movement: %w", err)
		}
	}
	f.forgetMade()
	return nil
}

func (m *movement) write(w *writer) error {
	if m.id == 2*m.level { // the first of its level
		err := w.exec(`INSERT INTO levels (position, id, inventory_item_id, location_id) VALUES (?, ?, ?, ?)`,
			m.level, m.change.level, m.item, m.location)
		if err != nil {
			return err
		}
	}
	meta := &m.event.meta
	return w.exec(`INSERT INTO movements (id, level, kind, recorded_at, effective_at, reservation_id,
		delta_stocked, delta_reserved, delta_incoming, stocked, reserved, incoming,
		reason, reference, actor, command, command_id, correlation_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		m.id, m.level, shortName(m.event.fact), storeMoment(m.event.at), storeMoment(meta.EffectiveAt()), storeBlank(m.reservation),
		m.stocked.stored(), m.reserved.stored(), m.incoming.stored(),
		m.after.stocked.String(), m.after.reserved.String(), m.after.incoming.String(),
		storeBlank(meta.Reason), storeBlank(meta.Reference), storeBlank(meta.Actor), meta.Command, meta.CommandID,
		storeBlank(meta.Correlation))
}

// stored is by how much the quantity moved, NULL when it did not.
func (m moved) stored() any {
	if m.by.IsZero() {
		return nil
	}
	return m.by.String()
}

// shortName is stock-adjusted for inventory.stock-adjusted.v1.
func shortName(fact events.Fact) string {
	name := strings.TrimPrefix(fact.EventType(), "inventory.")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return name
}

func (f *movementsFold) trim() { f.levels.trim() }

func (f *movementsFold) forget() {
	f.levels.forget()
	f.forgetMade()
}

func (f *movementsFold) forgetMade() {
	clear(f.made)
	f.made = f.made[:0]
}

package projections

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/stockledger/stockledger/events"
)

// Backdated movements once more, in the order in which they happened, so that
// they can be added up to any instant. A level that has many of them has their
// sums, bucket by bucket, so that adding up takes no longer than some thousands of
// rows, however many there are and whenever they happened.
const backdatedSchema = `
CREATE TABLE backdated (
	level        INTEGER NOT NULL,
	effective_at INTEGER NOT NULL,
	id           INTEGER NOT NULL, -- of the movement
	stocked      TEXT,             -- by how much; NULL is 0
	reserved     TEXT,
	incoming     TEXT,
	PRIMARY KEY (level, effective_at, id)
) WITHOUT ROWID;
CREATE TABLE buckets (
	level        INTEGER NOT NULL,
	effective_at INTEGER NOT NULL, -- where it begins; it ends where the next one begins
	id           INTEGER NOT NULL,
	movements    INTEGER NOT NULL, -- that are in it
	stocked      TEXT,             -- what they move together
	reserved     TEXT,
	incoming     TEXT,
	PRIMARY KEY (level, effective_at, id)
) WITHOUT ROWID;
CREATE TABLE endings (
	level        INTEGER NOT NULL,
	effective_at INTEGER NOT NULL,
	id           INTEGER NOT NULL, -- of the movement
	deleted      INTEGER NOT NULL, -- 0 when it brought the level back
	PRIMARY KEY (level, effective_at, id)
) WITHOUT ROWID;`

// bucketFull is how many backdated movements a bucket may have, and a level without
// buckets. A million of one level make some 2,000 buckets, and adding up reads those
// and one bucket's movements.
const bucketFull = 1024

// A when is a place in the order in which movements happened.
type when struct{ effective, id int64 }

func (a when) compare(b when) int {
	return cmp.Or(cmp.Compare(a.effective, b.effective), cmp.Compare(a.id, b.id))
}

// The first bucket of a level begins at the beginning, the last one ends at the ending.
var (
	beginning = when{math.MinInt64, 0}
	ending    = when{math.MaxInt64, math.MaxInt64}
)

type bucket struct {
	from      when
	movements int64
	sum       holding
	changed   bool
}

// buckets are those of the levels that were written to of late, each level's in
// their order.
type buckets struct{ byLevel map[int64][]bucket }

func newBuckets() *buckets { return &buckets{make(map[int64][]bucket)} }

func (s *buckets) trim(most int) {
	kept := 0
	for _, all := range s.byLevel {
		kept += len(all)
	}
	if kept > most {
		s.forget()
	}
}

func (s *buckets) forget() { clear(s.byLevel) }

// write writes what the made movements add: those that are backdated, and when
// levels end.
func (s *buckets) write(w *writer, made []movement) error {
	late := make(map[int64][]*movement)
	for i := range made {
		m := &made[i]
		if err := m.writeEnding(w); err != nil {
			return err
		}
		if m.effective == nil {
			continue
		}
		err := w.exec(`INSERT INTO backdated (level, effective_at, id, stocked, reserved, incoming) VALUES (?, ?, ?, ?, ?, ?)`,
			m.level, m.effective, m.id, storeSparse(m.stocked.by), storeSparse(m.reserved.by), storeSparse(m.incoming.by))
		if err != nil {
			return err
		}
		late[m.level] = append(late[m.level], m)
	}
	for level, added := range late {
		if added[len(added)-1].backdated <= bucketFull {
			continue
		}
		if err := s.add(w, level, added); err != nil {
			return err
		}
	}
	return nil
}

// writeEnding notes that a level was deleted or restored.
func (m *movement) writeEnding(w *writer) error {
	switch m.event.fact.(type) { //nolint:gochecksumtype // the others end nothing
	case events.LevelDeleted, events.LevelRestored:
		return w.exec(`INSERT INTO endings (level, effective_at, id, deleted) VALUES (?, ?, ?, ?)`,
			m.level, storeMoment(m.event.meta.EffectiveAt()), m.id, m.kind == kindDeleted)
	}
	return nil
}

// add counts movements of a level, which are in the table already. It counts one
// after the other and looks at none that came later, so that the buckets are the
// same however many movements are written together.
func (s *buckets) add(w *writer, level int64, added []*movement) error {
	all, err := s.before(w, level, added[0].backdated-1)
	if err != nil {
		return err
	}
	for _, m := range added {
		switch {
		case m.backdated <= bucketFull:
			continue
		case all == nil: // it had few until now
			all = []bucket{{from: beginning, movements: m.backdated}}
			all, err = halve(w, level, all, 0, m.id)
		default:
			n := m.bucket(all)
			all[n].movements++
			all[n].sum = all[n].sum.plus(m.deltas())
			all[n].changed = true
			if all[n].movements > bucketFull {
				all, err = halve(w, level, all, n, m.id)
			}
		}
		if err != nil {
			return err
		}
	}
	for n := range all {
		if err := all[n].write(w, level); err != nil {
			return err
		}
	}
	s.byLevel[level] = all
	return nil
}

// bucket is the number of the one that the movement belongs to.
func (m *movement) bucket(all []bucket) int {
	at := when{m.effective.(int64), m.id}
	n, exact := slices.BinarySearchFunc(all, at, func(b bucket, at when) int { return b.from.compare(at) })
	if !exact {
		n-- // the first one begins before everything
	}
	return n
}

// before are the buckets of a level that had so many backdated movements, nil when
// those were few.
func (s *buckets) before(w *writer, level, had int64) (all []bucket, err error) {
	if had <= bucketFull {
		return nil, nil
	}
	if all, found := s.byLevel[level]; found {
		return all, nil
	}
	err = w.query(`SELECT effective_at, id, movements, stocked, reserved, incoming FROM buckets
		WHERE level = ? ORDER BY effective_at, id`, func(v []driver.Value) (err error) {
		one := bucket{from: when{v[0].(int64), v[1].(int64)}, movements: v[2].(int64)}
		one.sum, err = sparseHolding(v[3:])
		all = append(all, one)
		return err
	}, level)
	return all, err
}

// halve cuts a bucket that is too full in two. It has movements up to newest.
func halve(w *writer, level int64, all []bucket, n int, newest int64) ([]bucket, error) {
	end := ending
	if n+1 < len(all) {
		end = all[n+1].from
	}
	halves := []bucket{{from: all[n].from, changed: true}}
	err := all[n].each(w, level, end, newest, func(at when, moved holding) {
		if halves[len(halves)-1].movements == bucketFull/2 && len(halves) == 1 {
			halves = append(halves, bucket{from: at, changed: true})
		}
		half := &halves[len(halves)-1]
		half.movements++
		half.sum = half.sum.plus(moved)
	})
	return slices.Replace(all, n, n+1, halves...), err
}

// each reads the movements of a bucket up to newest. The bucket ends before end.
func (s *bucket) each(w *writer, level int64, end when, newest int64, do func(at when, moved holding)) error {
	return w.query(`SELECT effective_at, id, stocked, reserved, incoming FROM backdated
		WHERE level = ? AND (effective_at, id) >= (?, ?) AND (effective_at, id) < (?, ?) AND id <= ? ORDER BY effective_at, id`,
		func(v []driver.Value) error {
			moved, err := sparseHolding(v[2:])
			if err == nil {
				do(when{v[0].(int64), v[1].(int64)}, moved)
			}
			return err
		}, level, s.from.effective, s.from.id, end.effective, end.id, newest)
}

func (s *bucket) write(w *writer, level int64) error {
	if !s.changed {
		return nil
	}
	s.changed = false
	return w.exec(`INSERT OR REPLACE INTO buckets (level, effective_at, id, movements, stocked, reserved, incoming)
		VALUES (?, ?, ?, ?, ?, ?, ?)`, level, s.from.effective, s.from.id, s.movements,
		storeSparse(s.sum.stocked), storeSparse(s.sum.reserved), storeSparse(s.sum.incoming))
}

func sparseHolding(stored []driver.Value) (a holding, err error) {
	for i, into := range []*events.Quantity{&a.stocked, &a.reserved, &a.incoming} {
		if err := (sparse{into}).Scan(stored[i]); err != nil {
			return a, err
		}
	}
	return a, nil
}

// query hands every row to do. It sees what was written and is not committed yet.
func (w *writer) query(text string, do func([]driver.Value) error, args ...driver.Value) error {
	stmt, err := w.prepare(text)
	if err != nil {
		return err
	}
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(context.Background(), w.bind(args))
	if err != nil {
		return err
	}
	defer rows.Close()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := do(values); err != nil {
			return err
		}
	}
}

package audit

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// A look compares the rows that the events of a part of the log made.
type look struct {
	*Walker
	from, to uint64
	entries  []*entry // of that part
	places   map[uint64]siteRow

	at        uint64 // the position of the snapshot
	rows      uint64
	kept      *kept
	movements map[uint64]movementRow
	differ    map[suspect]difference
}

// look brings the books of the streams concerned up to date, takes a snapshot, and
// compares. It returns what differs.
func (l *look) look(ctx context.Context) (_ map[suspect]difference, err error) {
	defer func() {
		if err != nil {
			l.kept.forget() // it is not known what is in them
		}
	}()
	l.movements, l.differ = make(map[uint64]movementRow), make(map[suspect]difference)
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	for _, e := range l.entries {
		if hasRows(e.Stream) {
			l.kept.then.apply(e)
			for _, m := range l.kept.then.made {
				l.movements[m.id] = m
			}
		}
	}
	err = l.snapshot(ctx, func(s *projections.Snapshot) error {
		l.at = s.Position()
		if err := l.catchUp(ctx, l.at); err != nil {
			return err
		}
		return l.compare(ctx, s)
	})
	l.spare(l.differ, l.entries)
	return l.differ, err
}

// hasRows reports whether facts of a stream make rows, other than of commands.
func hasRows(stream string) bool {
	kind, _, _ := strings.Cut(stream, "-")
	return kind == "item" || kind == "variant" || kind == "location"
}

func (l *look) snapshot(ctx context.Context, do func(*projections.Snapshot) error) (err error) {
	s, err := l.cfg.Models.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if l.layouts, err = layouts(s.Tables()); err != nil { // anew, as another generation may be served
		return err
	}
	return do(s)
}

// prepare brings the books to where the read models are, nearly, so that little is
// left to do while a snapshot is held. It rests on the way.
func (l *look) prepare(ctx context.Context) error {
	through := l.cfg.Models.Position()
	if l.kept.now.rows()+l.kept.then.rows() > l.cfg.kept || through-min(through, l.kept.followed) > l.cfg.gap {
		l.kept.forget()
	}
	if len(l.kept.streams) == 0 {
		l.kept.followed = through
	}
	if err := l.catchUp(ctx, through); err != nil {
		return err
	}
	for _, e := range l.entries {
		if _, known := l.kept.streams[e.Stream]; known || !hasRows(e.Stream) {
			continue
		}
		if err := l.read(ctx, e.Stream); err != nil {
			return err
		}
	}
	for range 5 {
		now := l.cfg.Models.Position()
		if now < l.kept.followed+l.cfg.gap/16 {
			break
		}
		if err := l.catchUp(ctx, now); err != nil {
			return err
		}
		l.restWhenDue(ctx)
	}
	return nil
}

// read reads a stream from its first event on, as far as the books are.
func (l *look) read(ctx context.Context, stream string) error {
	l.kept.streams[stream] = link{}
	n := 0
	for recorded, err := range l.cfg.Store.Read(ctx, stream, 0) {
		if err != nil {
			return err
		}
		if recorded.Position > l.kept.followed {
			return nil
		}
		e := readEntry(recorded)
		if _, err := l.examineOne(ctx, e, l.kept.streams[stream]); err != nil {
			return err
		}
		l.kept.apply(e)
		if e.Position < l.from {
			l.kept.then.apply(e)
		}
		if n++; n%64 == 0 {
			l.restWhenDue(ctx)
		}
	}
	return nil
}

// catchUp takes in what the streams in the books have done up to a position.
func (l *look) catchUp(ctx context.Context, through uint64) error {
	if through <= l.kept.followed {
		return nil
	}
	for batch, err := range l.cfg.Store.Subscribe(ctx, l.kept.followed) {
		if err != nil {
			return err
		}
		for _, recorded := range batch {
			if recorded.Position > through {
				l.kept.followed = through
				return nil
			}
			if !l.kept.follows(recorded.Stream, recorded.Version) {
				continue
			}
			e := readEntry(recorded)
			if _, err := l.examineOne(ctx, e, l.kept.streams[e.Stream]); err != nil {
				return err
			}
			l.kept.apply(e)
		}
		if batch[len(batch)-1].Position == through {
			l.kept.followed = through
			return nil
		}
	}
	return ctx.Err()
}

// compare compares all tables.
func (l *look) compare(ctx context.Context, s *projections.Snapshot) error {
	for _, of := range []struct {
		*sheet
		want iter.Seq[*line]
	}{
		{&itemsSheet, linesOf(l.items(), itemLine)},
		{&totalsSheet, linesOf(l.items(), totalsLine)},
		{&levelsSheet, linesOf(l.levels(), levelLine)},
		{&shelvesSheet, linesOf(l.levels(), l.sites.shelfLine)},
		{&reservationsSheet, linesOf(l.reservations(), reservationLine)},
		{&linksSheet, linesOf(l.links(), linkLine)},
		{&locationsSheet, linesOf(l.locations(), locationLine)},
		{&placesSheet, l.sites.between(l.from, l.to)},
		{&movementsSheet, l.movementLines},
		{&commandsSheet, l.commandLines},
	} {
		from := l.from
		if from == 1 {
			from = 0 // what says that it was made before the first event
		}
		rows, err := l.layouts[of.sheet].compare(l.seeds, of.want, s.Rows(ctx, of.model, of.table, from, l.to), nil, l.differs)
		l.rows += rows
		if err != nil {
			return err
		}
	}
	for _, e := range l.entries {
		if f, created := e.fact.(events.LevelCreated); created {
			if err := l.late(ctx, s, l.kept.now.levels[l.kept.now.key(f.LevelID)]); err != nil {
				return err
			}
		}
	}
	for _, r := range l.locations() {
		if err := l.linksOf(ctx, s, r); err != nil {
			return err
		}
	}
	return nil
}

func (l *look) differs(d difference) {
	l.differ[suspect{rowKey: d.rowKey, home: d.event()}] = d
}

// made collects the rows of the books that the events of this part made.
func made[R any](l *look, find func(b *books, e *entry) *R, position func(*R) uint64) (all []*R) {
	for _, e := range l.entries {
		if r := find(l.kept.now, e); r != nil && position(r) == e.Position {
			all = append(all, r)
		}
	}
	return all
}

func (l *look) items() []*itemRow {
	return made(l, func(b *books, e *entry) *itemRow {
		if f, ok := e.fact.(events.ItemCreated); ok {
			return b.items[b.key(f.ItemID)]
		}
		return nil
	}, func(r *itemRow) uint64 { return r.position })
}

func (l *look) levels() []*levelRow {
	return made(l, func(b *books, e *entry) *levelRow {
		if f, ok := e.fact.(events.LevelCreated); ok {
			return b.levels[b.key(f.LevelID)]
		}
		return nil
	}, func(r *levelRow) uint64 { return r.position })
}

func (l *look) reservations() []*reservationRow {
	return made(l, func(b *books, e *entry) *reservationRow {
		if f, ok := e.fact.(events.ReservationCreated); ok {
			return b.reservations[b.key(f.ReservationID)]
		}
		return nil
	}, func(r *reservationRow) uint64 { return r.position })
}

func (l *look) links() []*linkRow {
	return made(l, func(b *books, e *entry) *linkRow {
		if f, ok := e.fact.(events.ItemLinked); ok {
			return b.links[b.linkKey(f.VariantID, f.ItemID)]
		}
		return nil
	}, func(r *linkRow) uint64 { return r.position })
}

func (l *look) locations() []*locationRow {
	return made(l, func(b *books, e *entry) *locationRow {
		if f, ok := e.fact.(events.LocationOpened); ok {
			return b.locations[b.key(f.LocationID)]
		}
		return nil
	}, func(r *locationRow) uint64 { return r.position })
}

func (l *look) movementLines(yield func(*line) bool) {
	for _, e := range l.entries {
		for nth := range 2 {
			id := 2*e.Position + uint64(nth)
			m, made := l.movements[id]
			if made && !yield(movementLine(&m, l.places[id])) {
				return
			}
		}
	}
}

func (l *look) commandLines(yield func(*line) bool) {
	for _, e := range l.entries {
		if e.meta.Last() && !yield(commandLine(e)) {
			return
		}
	}
}

// mostLate is how many backdated movements of a level are looked at.
const mostLate = 10_000

// late compares the backdated movements of a level.
func (l *look) late(ctx context.Context, s *projections.Snapshot, r *levelRow) error {
	if r == nil || r.late == nil || r.late.count > mostLate {
		return nil
	}
	of := l.layouts[&backdatedSheet]
	differs := func(d difference) { l.differ[suspect{rowKey: d.rowKey, home: r.position}] = d }
	count := uint64(0)
	for row, err := range s.RowsWhere(ctx, of.model, of.table, "level", strconv.FormatUint(r.position, 10)) {
		if err != nil {
			return err
		}
		l.rows++
		id := of.rowNumber(&row)
		digest, expected := l.kept.now.backdated[id]
		w := &line{number: id, plain: []text{number(id)}, words: []uint64{digest}}
		switch {
		case !expected:
			differs(difference{rowKey: rowKey{of.sheet, id}, served: clone(&row)})
		case !of.same(l.seeds, w, &row, nil):
			differs(difference{rowKey{of.sheet, id}, w, clone(&row)})
		default:
			count++
		}
	}
	if count < r.late.count {
		id := 2 * r.position
		differs(difference{rowKey: rowKey{of.sheet, id}, wanted: &line{number: id, plain: []text{number(id)}}})
	}
	return nil
}

// linksOf compares what a location is linked to.
func (l *look) linksOf(ctx context.Context, s *projections.Snapshot, r *locationRow) error {
	want := linkLines(func(yield func(*locationRow) bool) { yield(r) })
	of := l.layouts[&locationLinksSheet]
	differs := func(link [3]string) {
		key := rowKey{of.sheet, r.position}
		l.differ[suspect{rowKey: key, link: link, home: r.position}] = difference{rowKey: key}
	}
	for row, err := range s.RowsWhere(ctx, of.model, of.table, "location_id", r.id) {
		if err != nil {
			return err
		}
		l.rows++
		link := [3]string{row.Values[of.plain[0]].String, row.Values[of.plain[1]].String, row.Values[of.plain[2]].String}
		if _, found := want[link]; !found {
			differs(link)
		}
		delete(want, link)
	}
	for link := range want {
		differs(link)
	}
	return nil
}

package audit

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
)

// microsOf reads a time as rows have it; the beginning of all time comes first.
func microsOf(moment string) int64 {
	t, err := time.Parse(time.RFC3339Nano, moment)
	if err != nil {
		return math.MinInt64
	}
	return t.UnixMicro()
}

// describe turns the rows that differ into findings. What the books only know by
// digests is read again from the streams, and with it the first event after which
// a row is wrong.
func (v *verification) describe(ctx context.Context) error {
	d := describer{store: v.cfg.Store, seeds: v.seeds, layouts: v.layouts, sites: v.sites, through: v.reader.at}
	found, err := d.describe(ctx, v.different)
	for _, f := range found {
		v.checks.add(f)
	}
	v.different = nil
	return err
}

// A describer says of rows that differ how, and since which event.
type describer struct {
	store   events.Store
	seeds   seeds
	layouts map[*sheet]*layout
	sites   *sites
	through uint64 // the position of the rows
}

func (d *describer) describe(ctx context.Context, all []difference) (found []Finding, err error) {
	streams := make(map[string][]difference)
	var order []string
	for _, one := range all {
		made, err := eventAt(ctx, d.store, one.event())
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil { // it is beyond the log, or cannot be read
			found = append(found, d.finding(nil, one, Finding{Position: one.event()}))
			continue
		}
		if streams[made.Stream] == nil {
			order = append(order, made.Stream)
		}
		streams[made.Stream] = append(streams[made.Stream], one)
	}
	for _, stream := range order {
		more, err := d.stream(ctx, stream, streams[stream])
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// eventAt reads one event of the log.
func eventAt(ctx context.Context, store events.Store, position uint64) (events.Recorded, error) {
	head, err := store.Head(ctx)
	if err != nil {
		return events.Recorded{}, err
	}
	if position == 0 || position > head {
		return events.Recorded{}, fmt.Errorf("there is no event %d", position)
	}
	for batch, err := range store.Subscribe(ctx, position-1) {
		if err != nil {
			return events.Recorded{}, err
		}
		return batch[0], nil
	}
	return events.Recorded{}, ctx.Err()
}

// stream describes the rows that differ of one stream.
func (d *describer) stream(ctx context.Context, stream string, all []difference) ([]Finding, error) {
	b := newBooks(d.seeds, true)
	traces := make([]trace, len(all))
	for i, one := range all {
		traces[i] = trace{difference: one, at: Finding{Stream: stream, Position: one.event()}}
	}
	for recorded, err := range d.store.Read(ctx, stream, 0) {
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			break // the log is damaged here, and the check of the chain says so
		}
		if recorded.Position > d.through {
			break
		}
		e := readEntry(recorded)
		b.apply(e)
		for i := range traces {
			d.follow(&traces[i], b, e)
		}
	}
	found := make([]Finding, len(all))
	for i := range traces {
		found[i] = d.finding(b, traces[i].difference, traces[i].since())
	}
	return found, nil
}

// A trace follows what a row should have been from event to event.
type trace struct {
	difference
	line   func(*line) // writes what the row should be now; nil before it was made
	now    line
	values []tracedValue // those that differ in the end
	at     Finding       // the last event that changed one of them
}

// A tracedValue is a value of a served row, and since when it is wrong.
type tracedValue struct {
	served  func(*line) bool // is what the row should be
	matched bool             // it once was
	since   *Finding         // the first event after it was right for the last time
}

// values are those of a row that differ.
func (l *layout) values(s seeds, d difference) (all []tracedValue) {
	if d.served == nil || d.wanted == nil {
		return nil
	}
	for i, at := range l.plain {
		is := func(now *line) bool { return now.plain[i] == d.served.Values[at] }
		if !is(d.wanted) {
			all = append(all, tracedValue{served: is})
		}
	}
	for i, group := range l.words {
		values := make([]text, len(group))
		for n, at := range group {
			values[n] = d.served.Values[at]
		}
		digest := s.digest(values...)
		if digest != d.wanted.words[i] {
			all = append(all, tracedValue{served: func(now *line) bool { return now.words[i] == digest }})
		}
	}
	return all
}

// follow looks at what a row should be after an event.
func (d *describer) follow(t *trace, b *books, e *entry) {
	if e.Position == t.event() {
		t.at = e.place()
		t.line = b.writer(t.sheet, t.number, d.sites)
		t.values = d.layouts[t.sheet].values(d.seeds, t.difference)
	}
	if t.line == nil || len(t.values) == 0 {
		return
	}
	var now line
	t.line(&now)
	if slices.Equal(now.plain, t.now.plain) && slices.Equal(now.words, t.now.words) {
		return
	}
	t.now, t.at = now, e.place()
	for i := range t.values {
		v := &t.values[i]
		switch is := v.served(&now); {
		case is:
			v.matched, v.since = true, nil
		case v.matched:
			since := t.at
			v.matched, v.since = false, &since
		}
	}
}

// since is the first event after which the row is wrong, as far as its values tell:
// the first one after one of them was right for the last time. When none ever was,
// it is the last event that changed the row.
func (t *trace) since() Finding {
	first := t.at
	known := false
	for _, v := range t.values {
		if v.since != nil && (!known || v.since.Position < first.Position) {
			first, known = *v.since, true
		}
	}
	return first
}

// writer is what writes the line of a row that was just made; nil when the row
// never changes.
func (b *books) writer(s *sheet, position uint64, at *sites) func(*line) {
	switch s {
	case &itemsSheet:
		return writes(b.items, func(r *itemRow) uint64 { return r.position }, position, itemLine)
	case &totalsSheet:
		return writes(b.items, func(r *itemRow) uint64 { return r.position }, position, totalsLine)
	case &levelsSheet:
		return writes(b.levels, func(r *levelRow) uint64 { return r.position }, position, levelLine)
	case &shelvesSheet:
		return writes(b.levels, func(r *levelRow) uint64 { return r.position }, position, at.shelfLine)
	case &reservationsSheet:
		return writes(b.reservations, func(r *reservationRow) uint64 { return r.position }, position, reservationLine)
	case &linksSheet:
		return writes(b.links, func(r *linkRow) uint64 { return r.position }, position, linkLine)
	case &locationsSheet:
		return writes(b.locations, func(r *locationRow) uint64 { return r.position }, position, locationLine)
	}
	return nil
}

func writes[R any](rows map[key]*R, at func(*R) uint64, position uint64, render func(*R, *line)) func(*line) {
	for r := range maps.Values(rows) {
		if at(r) == position {
			return func(l *line) { render(r, l) }
		}
	}
	return nil
}

// finding says what is wrong with a row. Books may be nil.
func (d *describer) finding(b *books, one difference, at Finding) Finding {
	if b == nil {
		b = newBooks(d.seeds, true)
	}
	l := d.layouts[one.sheet]
	f := at
	f.Check, f.Model, f.Table, f.Row = one.sheet.name(), one.sheet.model, one.sheet.table, one.event()
	if one.served != nil {
		f.Key = one.served.Key
	} else {
		f.Key = l.key(b, one.wanted)
	}
	row := fmt.Sprintf("%s %s", f.Check, f.Key)
	after := fmt.Sprintf(" after event %d", at.Position)
	if at.Stream != "" {
		after = fmt.Sprintf(" after event %d, %s@%d", at.Position, at.Stream, at.Version)
	}
	switch {
	case one.served == nil:
		f.Message = row + " is missing, and should be there" + after
		return f
	case one.wanted == nil:
		f.Message = row + " should not be there: no event made it"
		return f
	}
	differ := l.columns(b, one)
	if len(differ) == 0 {
		return f
	}
	f.Column, f.Expected, f.Served = differ[0].name, pointer(differ[0].wanted), pointer(differ[0].have)
	var parts []string
	for _, c := range differ {
		parts = append(parts, fmt.Sprintf("%s is %s and should be %s", c.name, shown(c.have), shown(c.wanted)))
	}
	f.Message = row + ": " + strings.Join(parts, "; ") + after
	return f
}

func pointer(t text) *string {
	if !t.Valid {
		return nil
	}
	return &t.String
}

// shown is a value for people.
func shown(t text) string {
	if !t.Valid {
		return "nothing"
	}
	const most = 200
	if len(t.String) > most {
		return t.String[:most] + "…"
	}
	return t.String
}

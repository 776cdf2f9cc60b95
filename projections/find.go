package projections

import (
	"context"
	"database/sql"
	"strings"

	"github.com/stockledger/stockledger/internal/fault"
)

// How rows are found. Every term of what is asked for may have routes, which
// are ways to its rows through an index. The finder counts what each leads to,
// up to few.
//
//   - A route to few rows is taken: they are looked at one by one, and sorted.
//   - Failing that, a way is gone that yields rows in the order asked for, until
//     the page is full: a route that does, or the index of that order. With a
//     better route to fall back on, that is given up after few rows, as those
//     that fit may all come late; then all that the route leads to is sorted.

// defaultFew is how many rows are few: some 10 ms.
const defaultFew = 10_000

// A finder finds the positions of the rows that were asked for.
type finder struct {
	table       *table
	withDeleted bool
	terms       []term
	besides     bool // the terms need what is beside the table
	orderBeside bool // the order does
	order       []ordering
	cursorOf    string // what a cursor must be of
	after       []any  // the key that the page comes after, nil for none
	tx          querier
	few         int

	probed bool
	best   *route // the one to the fewest rows
	most   int    // how many, at most one more than few
	of     int    // the index of its term
}

// A querier runs queries, all of one moment.
type querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row
}

// An ordering is a column that rows are ordered by.
type ordering struct {
	column
	descending bool
}

func (o ordering) text(expression string) string {
	if o.descending {
		return expression + ` DESC NULLS FIRST` // as PostgreSQL does
	}
	return expression + ` ASC NULLS LAST`
}

// found is where a row is, and what it is ordered by.
type found struct {
	position int64
	keys     []any
}

func newFinder(t *table, asked List) (*finder, error) {
	f := &finder{table: t, withDeleted: asked.WithDeleted}
	c := compiler{table: t, withDeleted: asked.WithDeleted, asked: new(complexity)}
	var err error
	if f.terms, err = c.all(asked.Filter); err != nil {
		return nil, err
	}
	words, err := c.words(asked.Q)
	if err != nil {
		return nil, err
	}
	f.terms = append(f.terms, words...)
	f.besides = c.asked.besides
	if f.order, err = t.ordering(asked.Order); err != nil {
		return nil, err
	}
	for _, o := range f.order {
		f.orderBeside = f.orderBeside || t.isBeside(o.name)
	}
	if err := f.resume(asked); err != nil {
		return nil, err
	}
	return f, nil
}

// ordering reads the columns to order by.
func (t *table) ordering(fields []string) (order []ordering, err error) {
	seen := make(map[string]bool)
	for _, field := range fields {
		name, descending := strings.CutPrefix(field, "-")
		col, known := t.column(name)
		if !known || seen[name] {
			return nil, fault.New(fault.Invalid, "invalid_order", "rows cannot be ordered by '%s', or not by it again", name).
				With("field", "order").With("column", name)
		}
		seen[name] = true
		order = append(order, ordering{col, descending})
	}
	return order, nil
}

// descending is the direction that positions are in among equals.
func (f *finder) descending() bool {
	return len(f.order) > 0 && f.order[len(f.order)-1].descending
}

// find finds the rows of a page.
func (f *finder) find(ctx context.Context, limit, skip int) (all []found, err error) {
	for _, s := range f.segments() {
		more, err := f.findIn(ctx, s, limit-len(all), skip)
		if err != nil {
			return nil, err
		}
		if all = append(all, more...); len(all) >= limit {
			break
		}
	}
	return all, nil
}

// findIn finds rows in one segment of the order.
func (f *finder) findIn(ctx context.Context, s segment, limit, skip int) ([]found, error) {
	if err := f.probe(ctx); err != nil {
		return nil, err
	}
	if f.best != nil && f.most <= f.few {
		return f.gather(ctx, s, limit, skip)
	}
	w, ok := f.way(s)
	switch {
	case !ok && f.best == nil:
		return f.sortAll(ctx, s, limit, skip)
	case !ok:
		return f.gather(ctx, s, limit, skip)
	case f.best == nil || w.route == f.best || f.bare(w.done, w.live):
		return f.follow(ctx, w, s, limit, skip)
	}
	found, enough, err := f.look(ctx, w, s, limit, skip)
	if err != nil || enough {
		return found, err
	}
	return f.gather(ctx, s, limit, skip)
}

// probe counts what the routes lead to, and keeps the best. The costly ones come
// last: they do without when there are few rows already, or are followed uncounted.
func (f *finder) probe(ctx context.Context) error {
	if f.probed {
		return nil
	}
	f.probed, f.most = true, f.few+2
	for _, costly := range []bool{false, true} {
		for i := range f.terms {
			for j := range f.terms[i].routes {
				r := &f.terms[i].routes[j]
				if r.costly != costly || costly && f.most <= f.few {
					continue
				}
				n, err := f.measure(ctx, r)
				if err != nil {
					return err
				}
				if n < f.most || costly && n == f.most {
					f.best, f.most, f.of = r, n, i
				}
			}
		}
	}
	return nil
}

// measure is how many rows a route leads to, at most one more than few.
func (f *finder) measure(ctx context.Context, r *route) (n int, err error) {
	if r.costly && len(f.order) == 0 {
		return f.few + 1, nil
	}
	text, args := r.probe()
	err = f.tx.QueryRowContext(ctx, text, append(args, min(f.most, f.few+1))...).Scan(&n)
	return n, err
}

// A way goes along an index in the order asked for.
type way struct {
	leg   leg
	key   string // the column of the index, "" for the position
	index string // by name, "" for the position
	live  bool   // it passes no rows that are deleted, unless they are asked for
	route *route // that it is, nil for none
	done  int    // the term that is true of all it passes, -1 for none
}

// way is the way in the order asked for: along a route, the best one if
// possible, or along the index of that order.
func (f *finder) way(s segment) (w way, ok bool) {
	if len(f.order) == 0 {
		w = f.byPosition()
	} else if w, ok = f.byIndex(); !ok {
		return w, false
	}
	for i := range f.terms {
		for j := range f.terms[i].routes {
			r := &f.terms[i].routes[j]
			leads := len(r.legs) == 1 && (w.key == "" && r.ordered || w.key != "" && r.index == w.index && r.exact)
			if leads && (w.route == nil || r == f.best) {
				w.leg, w.live, w.route, w.done = r.legs[0], r.live, r, -1
				if r.exact {
					w.done = i
				}
			}
		}
	}
	w.leg = s.narrow(w.leg, w.key)
	return w, true
}

// byPosition is the way along all rows in the order they were created.
func (f *finder) byPosition() way {
	all := way{leg: leg{at: `position`, from: f.table.name + ` NOT INDEXED`}, live: f.withDeleted || !f.table.deletes, done: -1}
	if f.table.alive != "" && !all.live {
		all.leg, all.live = leg{at: `position`, from: f.table.name + ` INDEXED BY ` + f.table.alive, where: []string{`deleted_at IS NULL`}}, true
	}
	return all
}

// byIndex is the way along the index of the first column of the order.
func (f *finder) byIndex() (way, bool) {
	for _, ix := range f.table.indexes {
		if ix.column == f.order[0].name && ix.then == `position` && !ix.given && (!ix.live || !f.withDeleted) {
			return way{leg: ix.leg(f.withDeleted), key: ix.column, index: ix.name, live: f.withDeleted || ix.deleted != "", done: -1}, true
		}
	}
	return way{}, false
}

// A statement selects positions and what rows are ordered by.
type statement struct {
	from, position string
	where          []string
	args           []any
}

// base is a statement on the table.
func (f *finder) base(besides bool) statement {
	from, position := f.table.from(``, besides)
	return statement{from: from, position: position}
}

func (q *statement) and(text string, args ...any) {
	q.where, q.args = append(q.where, text), append(q.args, args...)
}

// filter adds all terms but one.
func (f *finder) filter(q *statement, but int, live bool) {
	for i, t := range f.terms {
		if i != but {
			q.and(t.text, t.args...)
		}
	}
	if !live && !f.withDeleted && f.table.deletes {
		q.and(f.table.name + `.deleted_at IS NULL`)
	}
}

// ordered is the order in SQL; key stands for the first column where that is
// what a way goes along.
func (f *finder) ordered(q statement, key string) (columns, order string) {
	var keys, orders []string
	for i, o := range f.order {
		expression := o.name
		if i == 0 && key != "" {
			expression = key
		}
		keys = append(keys, expression)
		orders = append(orders, o.text(expression))
	}
	last := q.position
	if f.descending() {
		last += ` DESC`
	}
	return strings.Join(append([]string{q.position}, keys...), `, `), strings.Join(append(orders, last), `, `)
}

// gather looks at all that the best route leads to, and sorts it.
func (f *finder) gather(ctx context.Context, s segment, limit, skip int) ([]found, error) {
	text, args := f.best.text()
	if f.bare(f.exactly(), f.best.live) && len(f.order) == 0 {
		q := statement{from: `(` + text + `)`, position: `at`, args: args}
		s.addTo(&q)
		return f.run(ctx, q, ``, limit, skip)
	}
	q := f.base(f.besides || f.orderBeside)
	q.and(q.position+` IN (`+text+`)`, args...)
	f.filter(&q, f.exactly(), f.best.live)
	s.addTo(&q)
	return f.run(ctx, q, ``, limit, skip)
}

// exactly is the term that the best route leads to and nothing else, -1 for none.
func (f *finder) exactly() int {
	if f.best.exact {
		return f.of
	}
	return -1
}

// bare reports whether nothing is left to ask of a row once it is known that one
// term is true of it, and that it is not deleted.
func (f *finder) bare(done int, live bool) bool {
	return live && (len(f.terms) == 0 || len(f.terms) == 1 && done == 0)
}

// sortAll looks at all there is.
func (f *finder) sortAll(ctx context.Context, s segment, limit, skip int) ([]found, error) {
	q := f.base(f.besides || f.orderBeside)
	f.filter(&q, -1, false)
	s.addTo(&q)
	return f.run(ctx, q, ``, limit, skip)
}

// along is the statement that goes a way, without the terms, and the name that
// the first column of the order has in it.
func (f *finder) along(w way, bare bool, s segment) (q statement, key string) {
	if w.key != "" {
		key = `key`
	}
	hit := w.leg.text(w.key)
	if bare {
		q = statement{from: `(` + hit + `)`, position: `at`}
	} else {
		q.from, q.position = f.table.from(hit, f.besides || len(f.order) > 1 && f.orderBeside)
	}
	q.args = w.leg.args
	s.beyond(w.key).addTo(&q)
	return q, key
}

// follow goes a way until the page is full.
func (f *finder) follow(ctx context.Context, w way, s segment, limit, skip int) ([]found, error) {
	bare := len(f.order) <= 1 && f.bare(w.done, w.live)
	q, key := f.along(w, bare, s)
	if !bare {
		f.filter(&q, w.done, w.live)
	}
	return f.run(ctx, q, key, limit, skip)
}

func (f *finder) run(ctx context.Context, q statement, key string, limit, skip int) ([]found, error) {
	columns, order := f.ordered(q, key)
	rows, err := f.tx.QueryContext(ctx,
		atOnce(`SELECT `+columns+` FROM `+q.from+whereAll(q.where)+` ORDER BY `+order+` LIMIT ? OFFSET ?`), append(q.args, limit, skip)...)
	return gather(rows, err, func(s scanner) (found, error) { return f.scan(s) })
}

// scan reads what run selects, and what follows it.
func (f *finder) scan(s scanner, more ...any) (hit found, err error) {
	hit.keys = make([]any, len(f.order))
	into := []any{&hit.position}
	for i := range hit.keys {
		into = append(into, &hit.keys[i])
	}
	err = s.Scan(append(into, more...)...)
	return hit, err
}

// look goes a way until the page is full, or says that it was not enough when
// it has looked at so many rows.
func (f *finder) look(ctx context.Context, w way, s segment, limit, skip int) (hits []found, enough bool, err error) {
	q, key := f.along(w, false, s)
	columns, order := f.ordered(q, key)
	var fits statement
	f.filter(&fits, w.done, w.live)
	args := append(append(fits.args, q.args...), f.few)
	rows, err := f.tx.QueryContext(ctx, `SELECT `+columns+`, (`+strings.Join(fits.where, ` AND `)+`) IS TRUE FROM `+q.from+
		whereAll(q.where)+` ORDER BY `+order+` LIMIT ?`, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	looked := 0
	for ; rows.Next() && len(hits) < limit; looked++ {
		var fit bool
		hit, err := f.scan(rows, &fit)
		switch {
		case err != nil:
			return nil, false, err
		case fit && skip > 0:
			skip--
		case fit:
			hits = append(hits, hit)
		}
	}
	return hits, len(hits) == limit || looked < f.few, rows.Err()
}

// count counts all that is asked for.
func (f *finder) count(ctx context.Context) (n uint64, err error) {
	if err := f.probe(ctx); err != nil {
		return 0, err
	}
	q := statement{from: f.table.name}
	if f.best == nil {
		if f.besides {
			q = f.base(true)
		}
		f.filter(&q, -1, false)
	} else if text, args := f.best.text(); f.bare(f.exactly(), f.best.live) {
		q = statement{from: `(` + text + `)`, args: args}
	} else {
		q = f.base(f.besides)
		q.and(q.position+` IN (`+text+`)`, args...)
		f.filter(&q, f.exactly(), f.best.live)
	}
	err = f.tx.QueryRowContext(ctx, `SELECT count(*) FROM `+q.from+whereAll(q.where), q.args...).Scan(&n)
	return n, err
}

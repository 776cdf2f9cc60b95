package projections

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

const (
	// defaultRows is how many of the worst rows of a table a difference names.
	defaultRows = 20
	// mostRows is how many it names when it is asked for all of them.
	mostRows = 10_000
	// told is after how many rows progress is told.
	told = 4096
)

// DiffOptions say what to compare, and how much to tell of it.
type DiffOptions struct {
	Models   []string                               // by name; none is all that have another generation
	Rows     int                                    // the worst rows to name of each table; 0 is 20, less is all, up to 10,000
	Progress func(stage string, done, total uint64) // may be nil; is called often
}

// A Difference is what the served generations of models and their other ones
// do not have in common at one position of the log.
type Difference struct {
	Position  uint64            `json:"position"`       // at which all of them were compared
	Differing uint64            `json:"differing_rows"` // of all models: different, missing or extra; 0 says they agree
	Models    []ModelDifference `json:"models"`
}

// A ModelDifference compares two generations of one model.
type ModelDifference struct {
	Model  string            `json:"model"`
	Served Compared          `json:"served"` // the one that answers come from
	Other  Compared          `json:"other"`  // the one that is ready to be switched to, or else was served last before
	Tables []TableDifference `json:"tables"` // all of them, by name
	Rows   []RowDifference   `json:"rows"`   // that differ: the worst of each table, the worst first
}

// A Compared is a generation that was compared.
type Compared struct {
	Generation int    `json:"generation"`
	Version    int    `json:"version"` // of the folds that made it
	State      string `json:"state"`   // "serving", "ready" or "kept"
}

// A TableDifference counts the rows of one table.
type TableDifference struct {
	Table     string `json:"table"`
	Equal     uint64 `json:"equal"`     // rows that are the same in both
	Different uint64 `json:"different"` // rows of one key with other values
	Missing   uint64 `json:"missing"`   // rows that the served generation does not have
	Extra     uint64 `json:"extra"`     // rows that only the served generation has
	Named     uint64 `json:"named"`     // how many of those that are not equal are among the rows
}

// The kinds of rows that differ.
const (
	RowDifferent = "different"
	RowMissing   = "missing"
	RowExtra     = "extra"
)

// A RowDifference is one row that the two generations do not have in common.
type RowDifference struct {
	Table string `json:"table"`
	Key   string `json:"key"`  // what people know the row by: its id, or the values of its primary key joined by "/"
	Kind  string `json:"kind"` // "different", "missing" (not in the served generation) or "extra" (only there)
	// Columns are those that differ, by name. Of a row that is missing or extra
	// they are all that have a value.
	Columns map[string]Change `json:"columns"`
	// By is the largest difference of a quantity in the row, in plain notation; an
	// absent row counts as zeros. Rows are worse the larger it is.
	By string `json:"by"`
	// Since is the first event after which the two rows part, as far as How says;
	// null when there is none to name.
	Since *EventRef `json:"since"`
	// How says how Since is known:
	//
	// "own event": the row is made by that event and never changes afterwards.
	//
	// "replayed": the events of the row's stream, replayed through the folds of both
	// versions, make both rows; up to that event they make the same one, and ever
	// since another. (They are compared every 1,000 events, and more closely where
	// they part.)
	//
	// "stale": one of the two rows is what it was before that event, as if that
	// event and those after it had never been folded.
	//
	// "unknown": no events lead to one of the two rows; it was changed by something
	// else. Since is then the last event that ought to have changed the row, or, of a
	// row that none makes, the one at the position it claims.
	How string `json:"how"`
}

// How it is known since when two rows are apart; see [RowDifference].
const (
	HowOwnEvent = "own event"
	HowReplayed = "replayed"
	HowStale    = "stale"
	HowUnknown  = "unknown"
)

// A Change is the values of one column, as [Row] has them; null is no value, or
// no row.
type Change struct {
	Served *string `json:"served"`
	Other  *string `json:"other"`
}

// An EventRef names an event, and who wanted it.
type EventRef struct {
	Position  uint64    `json:"position"`
	Stream    string    `json:"stream"`
	Version   uint64    `json:"version"` // in the stream
	Type      string    `json:"type"`    // such as inventory.reservation-released.v1
	Recorded  time.Time `json:"recorded_at"`
	CommandID string    `json:"command_id"`
	Command   string    `json:"command"` // such as delete-reservation-items
	Actor     string    `json:"actor"`
	Reason    string    `json:"reason"`
	Reference string    `json:"reference"`
}

// Diff compares the generations of models that are served with those that are
// ready to be switched to, or else with those that were served last before, which
// catch up first: all of them as they are at one position, while folding goes on.
//
// It fails with nothing_to_compare, which is [fault.Conflict], when a model has no
// other generation, and with nothing_ready when that is still being built.
func (m *Models) Diff(ctx context.Context, o DiffOptions) (d Difference, err error) {
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	switch {
	case o.Rows == 0:
		o.Rows = defaultRows
	case o.Rows < 0:
		o.Rows = mostRows
	}
	lines, err := m.named(o.Models)
	if err != nil {
		return d, err
	}
	contrasts, err := m.contrasts(ctx, lines, o)
	defer func() {
		for _, c := range contrasts {
			err = errors.Join(err, c.close())
		}
	}()
	if err != nil {
		return d, err
	}
	d = Difference{Position: contrasts[0].position}
	for _, c := range contrasts {
		one, err := c.run(ctx)
		if err != nil {
			return d, fmt.Errorf("compare generations %d and %d of the read model %s: %w",
				c.served.compared.Generation, c.other.compared.Generation, c.model, err)
		}
		for _, t := range one.Tables {
			d.Differing += t.Different + t.Missing + t.Extra
		}
		d.Models = append(d.Models, one)
	}
	return d, nil
}

// contrasts takes the two generations of each model, all at one position. Those it
// returns are to be closed, whatever the error.
func (m *Models) contrasts(ctx context.Context, lines []*line, o DiffOptions) (all []*contrast, err error) {
	done, err := m.administer(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var pairs []opposed
	defer func() {
		for _, p := range pairs {
			m.close(p)
		}
	}()
	for _, l := range lines {
		p, err := m.oppose(ctx, l)
		if len(o.Models) == 0 && fault.Code(err) == nothingToCompare {
			continue
		}
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	if len(pairs) == 0 {
		return nil, fault.New(fault.Conflict, nothingToCompare, "no read model has another generation to compare the served one with; rebuild one first")
	}
	var models []*model
	var views []*view
	for _, p := range pairs {
		c := &contrast{model: p.name(), store: m.store, rows: o.Rows, tell: o.Progress}
		all = append(all, c)
		if c.served, err = m.side(ctx, p.served, Serving); err != nil {
			return all, err
		}
		if c.other, err = m.side(ctx, p.other, p.state); err != nil {
			return all, err
		}
		models, views = append(models, p.served, p.other), append(views, c.served.view, c.other.view)
	}
	position, err := m.pinTogether(ctx, models, views)
	for _, c := range all {
		c.position = position
	}
	return all, err
}

const nothingToCompare = "nothing_to_compare"

// An opposed is two generations of a model.
type opposed struct {
	*line
	served, other *model
	state         string // of the other one
}

// oppose finds the generation to compare the served one with, and opens it if it
// is kept.
func (c *core) oppose(ctx context.Context, l *line) (p opposed, err error) {
	c.mu.Lock()
	p = opposed{l, l.serves, l.next, Ready}
	kept := l.newestKept()
	c.mu.Unlock()
	switch {
	case p.served == nil:
		c.mu.Lock()
		defer c.mu.Unlock()
		return p, l.unserved()
	case p.other != nil:
		p.other, err = c.readyOf(ctx, l)
		return p, err
	case kept == nil:
		return p, fault.New(fault.Conflict, nothingToCompare, "the read model %s has no generation but the one that is served; rebuild it first", l.name()).
			With("model", l.name())
	}
	p.state = Kept
	p.other, err = c.reopen(ctx, l, *kept)
	return p, err
}

// newestKept is the generation that was served last before, nil if none was;
// core.mu is held.
func (l *line) newestKept() *entry {
	if before := l.entry(l.Before); before != nil {
		return before
	}
	var newest *entry
	for _, e := range l.Entries {
		if e.Number != l.Serving && e.Number != l.Building && (newest == nil || e.Position > newest.Position) {
			newest = e
		}
	}
	return newest
}

// close ends a generation that was opened only to be compared.
func (c *core) close(p opposed) {
	if p.state != Kept {
		return
	}
	c.mu.Lock()
	gone := c.retired(p.other, false)
	c.mu.Unlock()
	<-gone
}

// side opens a view of a generation.
func (c *core) side(ctx context.Context, one *model, state string) (s side, err error) {
	s.compared = Compared{one.generation, one.made.Version, state}
	if one.made.Version == one.version {
		s.definition = &one.definition
	}
	if s.view, err = openView(ctx, one.name, one.file.path); err != nil {
		return s, err
	}
	if state == Kept {
		return s, nil // its file is closed at once, but for this view of it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	one.pins++
	s.unpin = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		one.unpin()
	}
	return s, nil
}

// A contrast is of two generations of a model that are pinned at one
// position.
type contrast struct {
	model         string
	served, other side
	store         events.Store
	position      uint64
	rows          int // to name of a table
	tell          func(stage string, done, total uint64)
}

// A side is one of the two generations.
type side struct {
	*view
	compared   Compared
	definition *definition // how its rows are made, nil when this program does not know
	unpin      func()      // lets go of the generation; nil when it need not be told
}

// close lets go of both generations.
func (c *contrast) close() error {
	var errs []error
	for _, s := range []side{c.served, c.other} {
		if s.view != nil {
			errs = append(errs, s.close())
		}
		if s.unpin != nil {
			s.unpin()
		}
	}
	return errors.Join(errs...)
}

// run compares all tables.
func (c *contrast) run(ctx context.Context) (ModelDifference, error) {
	d := ModelDifference{Model: c.model, Served: c.served.compared, Other: c.other.compared, Rows: []RowDifference{}}
	total, err := c.count(ctx)
	if err != nil {
		return d, err
	}
	var worst []*apart
	var done uint64
	for _, name := range c.tables() {
		t := c.common(name)
		found := ranking{most: c.rows}
		counts := TableDifference{Table: name}
		err := c.merge(ctx, t, func(served, other []driver.Value) {
			counts.add(served, other, t, &found)
			if done++; done%told == 0 {
				c.tell("comparing "+c.model, min(done, total), total)
			}
		})
		if err != nil {
			return d, fmt.Errorf("compare %s: %w", name, err)
		}
		counts.Named = uint64(len(found.best()))
		d.Tables = append(d.Tables, counts)
		worst = append(worst, found.best()...)
	}
	c.tell("comparing "+c.model, total, total)
	if err := c.since(ctx, worst); err != nil {
		return d, fmt.Errorf("find the first events: %w", err)
	}
	slices.SortStableFunc(worst, worseFirst)
	for _, a := range worst {
		row, err := c.describe(ctx, a)
		if err != nil {
			return d, fmt.Errorf("describe a row of %s: %w", a.table.Name, err)
		}
		d.Rows = append(d.Rows, row)
	}
	return d, nil
}

// count is about how many rows there are to compare.
func (c *contrast) count(ctx context.Context) (total uint64, err error) {
	for _, t := range c.served.tables {
		err := c.served.query(ctx, `SELECT count(*) FROM `+t.Name, nil, func(row []driver.Value) bool {
			n, _ := row[0].(int64)
			total += uint64(max(0, n))
			return true
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

// tables are those of either side.
func (c *contrast) tables() []string {
	var names []string
	for _, t := range slices.Concat(c.served.tables, c.other.tables) {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// common is a table with the columns that both sides have. A table that only one
// side has, or has with another primary key, has nothing in common: then rows of
// the other side are not read, and all are missing or extra.
func (c *contrast) common(name string) *paired {
	served, other := c.served.table(name), c.other.table(name)
	switch {
	case served == nil:
		return &paired{viewed: other, other: true}
	case other == nil || !slices.Equal(served.Key, other.Key):
		return &paired{viewed: served, served: true}
	}
	return &paired{served.only(func(column string) bool { return slices.Contains(other.Columns, column) }), true, true}
}

// A paired table is one as both sides have it.
type paired struct {
	*viewed
	served, other bool // whether the rows of that side are read
}

// only is the table with some of its columns.
func (t *viewed) only(wanted func(column string) bool) *viewed {
	some := &viewed{Table: Table{Model: t.Model, Name: t.Name}, shape: t.shape}
	ranks := make(map[int64]string)
	for i, column := range t.Key {
		ranks[int64(i)+1] = column
	}
	for _, column := range t.Columns {
		if wanted(column) {
			some.Columns = append(some.Columns, column)
		}
	}
	some.complete(ranks)
	return some
}

// merge hands every row of a table to each, with the row of the same key of the
// other side; either is nil when there is none. Rows are good until each returns.
func (c *contrast) merge(ctx context.Context, t *paired, each func(served, other []driver.Value)) (err error) {
	served, err := c.served.rowsOf(ctx, t.viewed, t.served)
	if err != nil {
		return err
	}
	defer served.close()
	other, err := c.other.rowsOf(ctx, t.viewed, t.other)
	if err != nil {
		return err
	}
	defer other.close()
	a, errA := served.next(ctx)
	b, errB := other.next(ctx)
	for errA == nil && errB == nil && (a != nil || b != nil) {
		switch order := t.order(a, b); {
		case order < 0:
			each(a, nil)
			a, errA = served.next(ctx)
		case order > 0:
			each(nil, b)
			b, errB = other.next(ctx)
		default:
			each(a, b)
			a, errA = served.next(ctx)
			b, errB = other.next(ctx)
		}
	}
	return errors.Join(errA, errB)
}

// rowsOf reads a table in order, or nothing of it.
func (v *view) rowsOf(ctx context.Context, t *viewed, wanted bool) (*viewing, error) {
	if !wanted {
		return v.open(ctx, `SELECT 0 WHERE 0`, nil)
	}
	return v.open(ctx, t.rowsText(``, ``), nil)
}

// order orders two rows by their primary keys, as SQLite does; the end comes last.
func (t *viewed) order(a, b []driver.Value) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	for _, i := range t.key {
		if order := compareStored(a[i], b[i]); order != 0 {
			return order
		}
	}
	return 0
}

// compareStored orders stored values as SQLite does: NULL, numbers, texts, blobs.
func compareStored(a, b driver.Value) int {
	switch x := a.(type) {
	case int64:
		if y, ok := b.(int64); ok {
			return cmp.Compare(x, y)
		}
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	case []byte:
		if y, ok := b.([]byte); ok {
			return bytes.Compare(x, y)
		}
	case float64:
		if y, ok := b.(float64); ok {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(storageClass(a), storageClass(b))
}

func storageClass(v driver.Value) int {
	switch v.(type) {
	case nil:
		return 0
	case int64:
		return 1
	case float64:
		return 2 // a key is a whole number, so the two do not meet
	case string:
		return 3
	}
	return 4
}

// sameRow reports whether two rows are equal, or both are absent.
func sameRow(a, b []driver.Value) bool {
	return slices.EqualFunc(a, b, func(x, y driver.Value) bool { return compareStored(x, y) == 0 })
}

// add counts a row, and keeps it if it is among the worst.
func (d *TableDifference) add(served, other []driver.Value, t *paired, found *ranking) {
	switch {
	case sameRow(served, other):
		d.Equal++
		return
	case served == nil:
		d.Missing++
	case other == nil:
		d.Extra++
	default:
		d.Different++
	}
	found.add(&apart{table: t.viewed, served: slices.Clone(served), other: slices.Clone(other), how: HowUnknown})
}

// An apart is a row that differs.
type apart struct {
	table         *viewed
	served, other []driver.Value // nil when there is no such row
	by            events.Quantity
	since         *EventRef
	how           string
}

// either is the row as one of the sides has it, the other one's if it can be.
func (a *apart) either() []driver.Value {
	if a.other != nil {
		return a.other
	}
	return a.served
}

// worseFirst orders rows by how much their quantities differ.
func worseFirst(a, b *apart) int { return b.by.Cmp(a.by) }

// weigh notes by how much quantities differ at most. One that cannot be read
// counts nothing here.
func (a *apart) weigh() {
	for i, column := range a.table.Columns {
		if !a.table.shape.isAmount(column) {
			continue
		}
		by := a.amount(a.served, i).Minus(a.amount(a.other, i))
		if by.Sign() < 0 {
			by = by.Negated()
		}
		if a.by.Less(by) {
			a.by = by
		}
	}
}

func (a *apart) amount(row []driver.Value, column int) (q events.Quantity) {
	if row == nil || row[column] == nil {
		return q
	}
	text, _ := row[column].(string)
	if a.table.senses[column] == asKey {
		q, _ = parseKey(text)
	} else {
		q, _ = events.ParseSum(text)
	}
	return q
}

// A ranking keeps the worst rows.
type ranking struct {
	most int
	kept []*apart // in order up to sorted, the rest as they came
}

// add takes in a row. What is too many goes once it is as many again, so that
// sorting costs little.
func (r *ranking) add(a *apart) {
	a.weigh()
	if r.kept = append(r.kept, a); len(r.kept) >= 2*r.most {
		r.cut()
	}
}

func (r *ranking) cut() {
	slices.SortStableFunc(r.kept, worseFirst)
	if len(r.kept) > r.most {
		clear(r.kept[r.most:])
		r.kept = r.kept[:r.most]
	}
}

// best are the worst rows, of equals those that came first.
func (r *ranking) best() []*apart {
	r.cut()
	return r.kept
}

// describe says what differs in a row.
func (c *contrast) describe(ctx context.Context, a *apart) (RowDifference, error) {
	d := RowDifference{
		Table: a.table.Name, Kind: RowDifferent, Columns: make(map[string]Change), By: a.by.String(), Since: a.since, How: a.how,
	}
	v := c.other.view
	if a.other == nil {
		v = c.served.view
	}
	d.Key = a.table.row(a.either()).Key
	err := v.query(ctx, a.table.oneText(a.table.called()), a.table.keyArgs(a.either()), func(row []driver.Value) bool {
		d.Key = a.table.row(row).Key
		return false
	})
	if err != nil {
		return d, err
	}
	switch {
	case a.served == nil:
		d.Kind = RowMissing
	case a.other == nil:
		d.Kind = RowExtra
	}
	for i, column := range a.table.Columns {
		change := Change{a.plain(a.served, i), a.plain(a.other, i)}
		if change.differs() {
			d.Columns[column] = change
		}
	}
	return d, nil
}

func (c Change) differs() bool {
	if c.Served == nil || c.Other == nil {
		return c.Served != c.Other
	}
	return *c.Served != *c.Other
}

func (a *apart) plain(row []driver.Value, column int) *string {
	if row == nil {
		return nil
	}
	text := a.table.senses[column].plain(row[column])
	if !text.Valid {
		return nil
	}
	return &text.String
}

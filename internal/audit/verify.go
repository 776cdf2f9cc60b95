package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// span is how many events are read between two looks at the movements and commands
// they made. It bounds what is held of those: some 20 MiB.
const span = 20_000

// near is how few events behind the read models a verification must be before it
// takes the snapshot that it compares at; those it reads while it holds it.
const near = 20_000

// Verify reads the log once, from its first event to its head as it is now, and
// compares every served row with what the log says. It holds nothing up: commands
// and queries go on meanwhile.
//
// What is wrong is in the report; the error is for what could not be looked at.
func Verify(ctx context.Context, cfg Config) (Report, error) {
	v := newVerification(cfg)
	defer v.reader.close()
	if err := v.run(ctx); err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	return v.report, nil
}

// A verification is one run of Verify.
type verification struct {
	cfg    Config
	report Report
	seeds  seeds
	checks *checks
	pass   *logPass
	reader *logReader
	books  *books
	sites  *sites

	rows      bool // whether rows are compared
	layouts   map[*sheet]*layout
	served    *invariants
	different []difference

	// What the events since the last look have made.
	movements []movementRow
	places    map[uint64]siteRow
	commands  []*line
	looked    uint64 // position of the last look
}

func newVerification(cfg Config) *verification {
	cfg.Rows = cmp.Or(cfg.Rows, 20)
	if cfg.Progress == nil {
		cfg.Progress = func(string, uint64, uint64) {}
	}
	s := newSeeds()
	c := newChecks(cfg.Rows, cfg.Models != nil)
	return &verification{
		cfg: cfg, report: Report{Log: cfg.Store.LogID()}, seeds: s, checks: c, pass: newLogPass(s, c),
		reader: &logReader{store: cfg.Store, checks: c}, books: newBooks(s, false), sites: newSites(),
		rows: cfg.Models != nil, served: newInvariants(s, c), places: make(map[uint64]siteRow),
	}
}

func (v *verification) run(ctx context.Context) error {
	head, err := v.cfg.Store.Head(ctx)
	if err != nil {
		return err
	}
	if v.rows {
		if err := v.compareRows(ctx, head); err != nil {
			return err
		}
	}
	if err := v.readLog(ctx, max(head, v.reader.at)); err != nil {
		return err
	}
	now, err := v.cfg.Store.Head(ctx)
	if err != nil {
		return err
	}
	if v.reader.at == now {
		v.pass.end()
	}
	if err := v.readStreams(ctx); err != nil {
		return err
	}
	r := &v.report
	r.Position, r.Head, r.Checks, r.Findings = v.reader.at, v.pass.digest, v.checks.list(), v.checks.first()
	r.Commands, r.Streams = uint64(len(v.pass.commands)), uint64(len(v.pass.chain))
	return nil
}

// compareRows compares the rows, if there are any to be had.
func (v *verification) compareRows(ctx context.Context, head uint64) error {
	through, err := v.reachable(ctx, head)
	if err == nil {
		err = v.compareAt(ctx, through)
	}
	if err == nil {
		err = v.snapshot(ctx, func(s *projections.Snapshot) error { return v.files(ctx, s) })
	}
	if err == nil || ctx.Err() != nil || fault.Of(err).Kind != fault.Unavailable {
		return err
	}
	v.rows = false
	v.checks.see("models", false)
	v.checks.find("models", Finding{}, "not all rows could be compared: %v", err)
	return nil
}

// files has SQLite look at what it knows better than anybody: whether the indexes,
// through which lists are read, have the rows of their tables.
func (v *verification) files(ctx context.Context, s *projections.Snapshot) error {
	v.cfg.Progress("files", 0, 0)
	wrong, err := s.Integrity(ctx)
	damaged := make(map[string]bool)
	for _, d := range wrong {
		damaged[d.Model] = true
		v.checks.find("files", Finding{Model: d.Model}, "the file of the read model %s is damaged; rebuild it: %s", d.Model, d.Message)
	}
	for _, model := range s.Models() {
		v.checks.see("files", !damaged[model])
	}
	return err
}

// reachable is the position that all read models get to: the head, unless one has
// stopped before it.
func (v *verification) reachable(ctx context.Context, head uint64) (uint64, error) {
	all, err := v.cfg.Models.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		if !v.checks.see("models", m.Stopped == "") {
			head = min(head, m.Position)
			v.checks.find("models", Finding{Position: m.Position + 1, Model: m.Name},
				"the read model %s has stopped after position %d, and rows are compared as they were there: %s", m.Name, m.Position, m.Stopped)
		}
	}
	return head, nil
}

// readLog reads on up to a position, and counts what it meets.
func (v *verification) readLog(ctx context.Context, through uint64) error {
	return v.reader.read(ctx, through, func(recorded events.Recorded) error {
		e := readWhole(recorded)
		v.pass.check(e)
		v.report.Events++
		v.books.apply(e)
		v.count(e)
		if v.rows {
			v.note(e)
		}
		if v.report.Events%1000 == 0 {
			v.cfg.Progress("log", e.Position, through)
		}
		return nil
	})
}

// count takes the problems with an event into the checks.
func (v *verification) count(e *entry) {
	if e.fact == nil {
		return
	}
	for _, name := range []string{"quantities", "history", "limits"} {
		v.checks.see(name, true)
	}
	for _, p := range v.books.problems {
		v.checks.byName[p.Check].Wrong++
		v.checks.find(p.Check, p, "%s", p.Message)
	}
}

// note keeps what an event makes until it is looked for.
func (v *verification) note(e *entry) {
	v.sites.apply(e, v.places)
	v.movements = append(v.movements, v.books.made...)
	if e.metaErr == nil && e.meta.Last() {
		v.commands = append(v.commands, commandLine(e))
	}
}

// compareAt reads the log up to a position at least, and compares all rows at one
// a little after it.
func (v *verification) compareAt(ctx context.Context, through uint64) error {
	for {
		if err := v.readAndLook(ctx, through); err != nil {
			return err
		}
		done, err := v.atOnce(ctx)
		if done || err != nil {
			return err
		}
		through = v.cfg.Models.Position()
	}
}

// readAndLook reads up to a position, and compares the movements and commands on
// the way: they never change, so that any later snapshot has them.
func (v *verification) readAndLook(ctx context.Context, through uint64) error {
	for v.reader.at < through {
		before := v.reader.at
		if err := v.readLog(ctx, min(through, v.reader.at+span)); err != nil {
			return err
		}
		if v.reader.at == before {
			return fmt.Errorf("the log cannot be read after position %d", before)
		}
		if err := v.cfg.Models.WaitFor(ctx, v.reader.at); err != nil {
			return err
		}
		err := v.snapshot(ctx, func(s *projections.Snapshot) error { return v.look(ctx, s) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) snapshot(ctx context.Context, do func(*projections.Snapshot) error) (err error) {
	s, err := v.cfg.Models.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if v.layouts, err = layouts(s.Tables()); err != nil { // anew, as another generation may be served
		return err
	}
	return do(s)
}

// look compares the movements and the commands that the events since the last look
// have made.
func (v *verification) look(ctx context.Context, s *projections.Snapshot) error {
	from, to := v.looked+1, v.reader.at
	if to < from {
		return nil
	}
	if from == 1 {
		from = 0 // with what says that it was made before the first event
	}
	movements := func(yield func(*line) bool) {
		for i := range v.movements {
			if m := &v.movements[i]; !yield(movementLine(m, v.places[m.id])) {
				return
			}
		}
	}
	v.served.begin(s.Tables(), &movementsSheet)
	if err := v.table(ctx, s, &movementsSheet, movements, from, to, v.served.movement); err != nil {
		return err
	}
	if err := v.table(ctx, s, &commandsSheet, v.commandLines, from, to, nil); err != nil {
		return err
	}
	v.looked, v.movements, v.commands = to, v.movements[:0], v.commands[:0]
	clear(v.places)
	return nil
}

func (v *verification) commandLines(yield func(*line) bool) {
	for _, l := range v.commands {
		if !yield(l) {
			return
		}
	}
}

// table compares the rows of a table that were made from one position to another.
func (v *verification) table(
	ctx context.Context, s *projections.Snapshot, of *sheet, want iter.Seq[*line], from, to uint64, look func(*projections.Row),
) error {
	name := of.name()
	check := v.checks.byName[name]
	rows, err := v.layouts[of].compare(v.seeds, want, v.counted(s.Rows(ctx, of.model, of.table, from, to), name), look, func(d difference) {
		check.Wrong++
		if v.checks.room(name) {
			v.checks.kept[name]++
			v.different = append(v.different, d)
		}
		if d.served == nil {
			check.Checked++
		}
	})
	check.Checked += rows
	v.report.Rows += rows
	return err
}

// counted tells how far the reading of a table is.
func (v *verification) counted(rows iter.Seq2[projections.Row, error], stage string) iter.Seq2[projections.Row, error] {
	return func(yield func(projections.Row, error) bool) {
		n := uint64(0)
		for r, err := range rows {
			if n++; n%10_000 == 0 {
				v.cfg.Progress(stage, n, 0)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// atOnce compares the rows that change, all at one position, if the log was read
// far enough for that.
func (v *verification) atOnce(ctx context.Context) (done bool, err error) {
	err = v.snapshot(ctx, func(s *projections.Snapshot) error {
		at := s.Position()
		if at > v.reader.at+near {
			return nil // much was recorded meanwhile
		}
		if at < v.reader.at {
			return fmt.Errorf("the read models went back from position %d to %d", v.reader.at, at)
		}
		if err := v.readLog(ctx, at); err != nil {
			return err
		}
		if err := v.look(ctx, s); err != nil {
			return err
		}
		done = true
		return v.compareAll(ctx, s)
	})
	if err == nil && done {
		err = v.describe(ctx)
	}
	return done, err
}

// compareAll compares what is not made by one event for ever. The order is that in
// which the invariants need the rows.
func (v *verification) compareAll(ctx context.Context, s *projections.Snapshot) error {
	for _, of := range []struct {
		*sheet
		look func(*projections.Row)
	}{
		{&reservationsSheet, v.served.reservation},
		{&levelsSheet, v.served.level},
		{&itemsSheet, v.served.item},
		{&totalsSheet, v.served.total},
		{&linksSheet, v.served.link},
		{&locationsSheet, nil},
		{&shelvesSheet, nil},
	} {
		v.served.begin(s.Tables(), of.sheet)
		if err := v.table(ctx, s, of.sheet, v.books.lines(of.sheet, v.sites, 0, ^uint64(0)), 0, 0, of.look); err != nil {
			return err
		}
	}
	for _, of := range []*sheet{&movementsSheet, &commandsSheet} { // that no event can have made
		if err := v.table(ctx, s, of, func(func(*line) bool) {}, s.Position()+1, 0, nil); err != nil {
			return err
		}
	}
	if err := v.table(ctx, s, &placesSheet, v.sites.between(0, ^uint64(0)), 0, 0, nil); err != nil {
		return err
	}
	if err := v.late(ctx, s); err != nil {
		return err
	}
	v.served.end(uint64(len(v.pass.commands)), v.checks.byName[commandsSheet.name()].Checked)
	return v.locationLinks(ctx, s)
}

// late compares the backdated movements and what is made of them. Their tables are
// in another order than that of the log, so each row is looked up, and crossed out.
func (v *verification) late(ctx context.Context, s *projections.Snapshot) error {
	for _, of := range []struct {
		*sheet
		want map[uint64]uint64
	}{{&backdatedSheet, v.books.backdated}, {&endingsSheet, v.books.endings}} {
		name, l := of.name(), v.layouts[of.sheet]
		differs := func(d difference) {
			if v.checks.room(name) {
				v.checks.kept[name]++
				v.different = append(v.different, d)
			}
		}
		scratch := make([]text, 0, 8)
		for r, err := range v.counted(s.Rows(ctx, of.model, of.table, 0, 0), name) {
			if err != nil {
				return err
			}
			v.report.Rows++
			id := l.rowNumber(&r)
			digest, expected := of.want[id]
			delete(of.want, id)
			w := &line{number: id, plain: []text{number(id)}, words: []uint64{digest}}
			switch {
			case !v.checks.see(name, expected && l.same(v.seeds, w, &r, scratch)) && expected:
				differs(difference{rowKey{of.sheet, id}, w, clone(&r)})
			case !expected:
				differs(difference{rowKey: rowKey{of.sheet, id}, served: clone(&r)})
			}
		}
		for id, digest := range of.want {
			v.checks.see(name, false)
			differs(difference{rowKey: rowKey{of.sheet, id}, wanted: &line{number: id, plain: []text{number(id)}, words: []uint64{digest}}})
		}
	}
	return v.served.buckets(s.Tables(), s.Rows(ctx, "movements", "buckets", 0, 0), s.Rows(ctx, "movements", "backdated", 0, 0))
}

// locationLinks compares a table that has no positions; it has few rows.
func (v *verification) locationLinks(ctx context.Context, s *projections.Snapshot) error {
	want := linkLines(maps.Values(v.books.locations))
	at := v.layouts[&locationLinksSheet].plain
	name := locationLinksSheet.name()
	for r, err := range s.Rows(ctx, locationLinksSheet.model, locationLinksSheet.table, 0, 0) {
		if err != nil {
			return err
		}
		v.report.Rows++
		values := [3]string{r.Values[at[0]].String, r.Values[at[1]].String, r.Values[at[2]].String}
		_, found := want[values]
		delete(want, values)
		if !v.checks.see(name, found) {
			v.checks.find(name, Finding{Model: r.Model, Table: r.Table, Key: r.Key},
				"%s: the row %s should not be there: the location has no such link", name, r.Key)
		}
	}
	for values, position := range want {
		v.checks.see(name, false)
		v.checks.find(name, Finding{
			Position: position, Row: position, Model: locationLinksSheet.model, Table: locationLinksSheet.table, Key: fmt.Sprint(values),
		}, "%s: the link of location %s to %s %s is missing", name, values[2], values[0], values[1])
	}
	return nil
}

package projections

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/events"
)

const (
	// chunk is how many events of a stream are replayed at once, as long as nothing
	// is to be seen between them.
	chunk = events.MaxBatch
	// parts is into how many parts they are cut when there is, and those again: two
	// cuts come down to single events.
	parts = 32
)

// since finds the first event after which each of the rows parts.
func (c *contrast) since(ctx context.Context, rows []*apart) error {
	made, err := c.refer(ctx, rows)
	if err != nil {
		return err
	}
	var groups []*group
	streams := make(map[string]*group)
	for _, a := range rows {
		ref := made[a.origin()]
		if a.since = ref; ref != nil && a.table.shape.once {
			a.how = HowOwnEvent
			continue
		}
		stream := a.stream()
		if stream == "" {
			continue
		}
		g := streams[stream]
		if g == nil {
			g = &group{stream: stream}
			streams[stream], groups = g, append(groups, g)
		}
		g.rows = append(g.rows, a)
	}
	return c.replayAll(ctx, groups)
}

// replayAll replays the streams of all groups.
func (c *contrast) replayAll(ctx context.Context, groups []*group) (err error) {
	if len(groups) == 0 {
		return nil
	}
	replicas, closeAll, err := c.newReplicas(ctx, groups)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	const stage = "finding the first events"
	for i, g := range groups {
		c.tell(stage, uint64(i), uint64(len(groups)))
		if len(replicas) == 0 {
			break // this program has no folds to replay with
		}
		if err := c.replay(ctx, g, replicas); err != nil {
			return fmt.Errorf("replay %s: %w", g.stream, err)
		}
	}
	c.tell(stage, uint64(len(groups)), uint64(len(groups)))
	return nil
}

// A group is the rows that the events of one stream make.
type group struct {
	stream string
	rows   []*apart
}

// stream is the one whose events make the row, once the event that made it is
// known, "" when nothing says it.
func (a *apart) stream() string {
	if a.since != nil {
		return a.since.Stream
	}
	if i := slices.Index(a.table.Columns, a.table.shape.location); i >= 0 {
		id, _ := a.either()[i].(string)
		return events.LocationStream(id)
	}
	return ""
}

// origin is the position of the event that made the row, or of one in the stream
// that makes it, 0 when nothing says it.
func (a *apart) origin() uint64 {
	if i := slices.Index(a.table.Columns, a.table.shape.within); i >= 0 {
		at, _ := a.either()[i].(int64)
		return uint64(max(0, at))
	}
	return a.table.position(a.either())
}

// refer reads the events that rows originate in, by position. Those that are not in the
// log are left out.
func (c *contrast) refer(ctx context.Context, rows []*apart) (map[uint64]*EventRef, error) {
	made := make(map[uint64]*EventRef)
	var positions []uint64
	for _, a := range rows {
		if at := a.origin(); at > 0 && at <= c.position {
			positions = append(positions, at)
		}
	}
	slices.Sort(positions)
	for len(positions) > 0 {
		batch, err := c.logAfter(ctx, positions[0]-1)
		if err != nil {
			return nil, err
		}
		first, last := batch[0].Position, batch[len(batch)-1].Position
		for len(positions) > 0 && positions[0] <= last {
			if made[positions[0]], err = refTo(&batch[positions[0]-first]); err != nil {
				return nil, err
			}
			positions = positions[1:]
		}
	}
	return made, nil
}

// logAfter is a batch of the log, which goes on after the position.
func (c *contrast) logAfter(ctx context.Context, position uint64) ([]events.Recorded, error) {
	for batch, err := range c.store.Subscribe(ctx, position) {
		return batch, err
	}
	panic("projections: a subscription ended without an error")
}

func refTo(e *events.Recorded) (*EventRef, error) {
	meta, err := e.Metadata()
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Position, err)
	}
	return &EventRef{
		Position: e.Position, Stream: e.Stream, Version: e.Version, Type: e.Type, Recorded: meta.Recorded.UTC(),
		CommandID: meta.CommandID, Command: meta.Command, Actor: meta.Actor, Reason: meta.Reason, Reference: meta.Reference,
	}, nil
}

// replay folds the stream of a group again, and compares the rows that makes with
// those that are there.
func (c *contrast) replay(ctx context.Context, g *group, replicas []*replica) error {
	r := &replay{replicas: replicas}
	for _, a := range g.rows {
		r.rows = append(r.rows, &followed{apart: a})
	}
	err := r.run(c.store.Read(ctx, g.stream, 0), c.position)
	switch {
	case errors.Is(err, errUnfoldable): // then the stream explains nothing
		return r.undo()
	case err != nil:
		return err
	}
	return r.conclude()
}

var errUnfoldable = errors.New("a fold cannot apply an event")

// run folds a stream up to a position of the log.
func (r *replay) run(stream iter.Seq2[events.Recorded, error], position uint64) error {
	var gathered []events.Recorded
	for e, err := range stream {
		if err != nil {
			return err
		}
		if e.Position > position {
			break
		}
		if gathered = append(gathered, e); len(gathered) < chunk {
			continue
		}
		if err := r.take(gathered); err != nil {
			return err
		}
		gathered = nil
	}
	return r.take(gathered)
}

// A replay follows the rows of a group through the events of their stream.
type replay struct {
	replicas []*replica // of the served side and of the other one, or one for both
	rows     []*followed
}

// A followed row is what a replay knows of a row that differs. Of each two, the
// first is of the served side and the second of the other one.
type followed struct {
	*apart
	made    [2][]driver.Value   // as the folds have made it so far
	parted  *events.Recorded    // since when these are apart, nil while they are not
	left    [2]*events.Recorded // what last made it another one than that side has
	touched *events.Recorded    // what last changed it
}

// take folds some events: all at once when what happens to the rows can be told
// from how they are afterwards, and otherwise in ever smaller parts.
func (r *replay) take(recorded []events.Recorded) error {
	if len(recorded) == 0 {
		return nil
	}
	after, err := r.fold(recorded)
	if err != nil {
		return err
	}
	if len(recorded) > 1 && r.hides(after, recorded) {
		if err := r.undo(); err != nil {
			return err
		}
		for part := range slices.Chunk(recorded, (len(recorded)+parts-1)/parts) {
			if err := r.take(part); err != nil {
				return err
			}
		}
		return nil
	}
	for i, row := range r.rows {
		row.note(after[i], recorded)
	}
	return r.commit()
}

func (r *replay) hides(after [][2][]driver.Value, recorded []events.Recorded) bool {
	for i, row := range r.rows {
		if row.hides(after[i], recorded) {
			return true
		}
	}
	return false
}

// fold has all replicas fold events, and returns how the rows are then.
func (r *replay) fold(recorded []events.Recorded) (after [][2][]driver.Value, err error) {
	after = make([][2][]driver.Value, len(r.rows))
	batch := read(recorded)
	for n, one := range r.replicas {
		if err := one.fold(batch); err != nil {
			return nil, err
		}
		for i, row := range r.rows {
			made, err := one.row(row.apart)
			if err != nil {
				return nil, err
			}
			after[i][1] = made // of the last replica, and of the only one for both sides
			if n == 0 {
				after[i][0] = made
			}
		}
	}
	return after, nil
}

func (r *replay) commit() error {
	for _, one := range r.replicas {
		if err := one.commit(); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) undo() error {
	var errs []error
	for _, one := range r.replicas {
		errs = append(errs, one.undo())
	}
	return errors.Join(errs...)
}

// hides reports whether something may have happened to the row between the
// events that is not to be seen after them.
func (f *followed) hides(after [2][]driver.Value, recorded []events.Recorded) bool {
	if sameRow(f.made[0], f.made[1]) != sameRow(after[0], after[1]) || f.comesAndGoes() {
		return true
	}
	for i, there := range [2][]driver.Value{f.served, f.other} {
		if sameRow(f.made[i], after[i]) {
			continue
		}
		version, stated := f.versionOf(there)
		if !f.versioned() || f.makes(f.made[i], there) ||
			stated && recorded[0].Version <= version && version <= recorded[len(recorded)-1].Version {
			return true
		}
	}
	return false
}

// comesAndGoes reports whether a row may become what it was. Others say when they
// were changed last. The streams that make these are short.
func (a *apart) comesAndGoes() bool { return a.table.shape.location != "" }

// makes reports whether a row that was made of one stream is the one that is
// there, in all that the stream says of it.
func (a *apart) makes(made, there []driver.Value) bool {
	if i := slices.Index(a.table.Columns, a.table.shape.elsewhere); i >= 0 && made != nil && there != nil {
		made, there = slices.Clone(made), slices.Clone(there)
		made[i], there[i] = nil, nil
	}
	return sameRow(made, there)
}

// versioned reports whether rows of the table say of which version of their stream
// they are.
func (a *apart) versioned() bool { return slices.Contains(a.table.Columns, "version") }

func (a *apart) versionOf(row []driver.Value) (version uint64, stated bool) {
	i := slices.Index(a.table.Columns, "version")
	if row == nil || i < 0 {
		return 0, false
	}
	v, ok := row[i].(int64)
	return uint64(max(0, v)), ok
}

// note takes in how the row is after some events.
func (f *followed) note(after [2][]driver.Value, recorded []events.Recorded) {
	last := &recorded[len(recorded)-1]
	if sameRow(after[0], after[1]) {
		f.parted = nil
	} else if f.parted == nil {
		f.parted = last
	}
	for i, there := range [2][]driver.Value{f.served, f.other} {
		if f.makes(f.made[i], there) && !f.makes(after[i], there) {
			f.left[i] = last
		}
	}
	if !sameRow(f.made[1], after[1]) {
		f.touched = last
		if version, stated := f.versionOf(after[1]); stated && version >= recorded[0].Version && version < last.Version {
			f.touched = &recorded[version-recorded[0].Version]
		}
	}
	f.made = after
}

// conclude says of each row what the replay has shown.
func (r *replay) conclude() error {
	for _, f := range r.rows {
		served, other := f.makes(f.made[0], f.served), f.makes(f.made[1], f.other)
		e := f.touched
		switch {
		case served && other && f.parted != nil:
			e, f.how = f.parted, HowReplayed
		case !served && f.left[0] != nil:
			e, f.how = f.left[0], HowStale
		case served && !other && f.left[1] != nil:
			e, f.how = f.left[1], HowStale
		}
		if e == nil {
			continue // no event of the stream concerns it
		}
		var err error
		if f.since, err = refTo(e); err != nil {
			return err
		}
	}
	return nil
}

// making is the definition with those of its parts that make the tables of rows.
func (d definition) making(rows []*apart) definition {
	d.parts = slices.DeleteFunc(slices.Clone(d.parts), func(p part) bool {
		return !slices.ContainsFunc(rows, func(a *apart) bool {
			return strings.Contains(p.schema, "CREATE TABLE "+a.table.Name+" (")
		})
	})
	return d
}

// newReplicas makes one for each version of the folds that the two sides have and
// this program knows. All streams are replayed in them, one after the other.
func (c *contrast) newReplicas(ctx context.Context, groups []*group) (replicas []*replica, closeAll func() error, err error) {
	var rows []*apart
	for _, g := range groups {
		rows = append(rows, g.rows...)
	}
	dir, err := os.MkdirTemp("", "stockledger-diff-")
	if err != nil {
		return nil, nil, err
	}
	closeAll = func() error {
		var errs []error
		for _, one := range replicas {
			errs = append(errs, one.file.close())
		}
		return errors.Join(append(errs, os.RemoveAll(dir))...)
	}
	for _, s := range []side{c.served, c.other} {
		if s.definition == nil || len(replicas) > 0 && replicas[0].version == s.definition.version {
			continue
		}
		one, err := newReplica(ctx, c.store, dir, s.definition.making(rows))
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		replicas = append(replicas, one)
	}
	return replicas, closeAll, nil
}

// A replica is a model in a file of its own, for a few streams.
type replica struct {
	*model
	begun bool // a transaction
}

// newReplica makes an empty one. Its file has no more indexes than it needs.
func newReplica(ctx context.Context, store events.Store, dir string, d definition) (*replica, error) {
	made, err := openModel(ctx, Config{Dir: dir, Store: store, Logger: slog.New(slog.DiscardHandler)}, d,
		entry{Number: 1, Version: d.version, File: fileName(d.name, d.version, 1)}, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	return &replica{model: made}, nil
}

// fold writes what events make of the rows, for commit or undo to decide on.
func (r *replica) fold(batch []*event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic: %v\n%s", errUnfoldable, p, debug.Stack())
		}
	}()
	if !r.begun {
		if err := r.file.writer.exec(`BEGIN IMMEDIATE`); err != nil {
			return err
		}
		r.begun = true
	}
	if err = r.apply(batch); err == nil {
		err = r.flush(r.file.writer)
	}
	if blames(err) {
		return fmt.Errorf("%w: %w", errUnfoldable, err)
	}
	return err
}

func (r *replica) commit() error {
	if !r.begun {
		return nil
	}
	r.begun = false
	if err := r.file.writer.exec(`COMMIT`); err != nil {
		return err
	}
	for _, f := range r.folds {
		f.trim()
	}
	return nil
}

func (r *replica) undo() error {
	if !r.begun {
		return nil
	}
	r.begun = false
	r.forget()
	return r.file.writer.exec(`ROLLBACK`)
}

// row is a row as the replica has it, nil when it has none.
func (r *replica) row(a *apart) (found []driver.Value, err error) {
	err = r.file.writer.query(a.table.oneText(``), func(row []driver.Value) error {
		found = slices.Clone(row)
		return nil
	}, a.table.keyArgs(a.either())...)
	return found, err
}

// oneText selects the row of a primary key, and more beside it.
func (t *viewed) oneText(more string) string {
	return `SELECT ` + strings.Join(t.Columns, `, `) + more + ` FROM ` + t.Name + ` WHERE ` + strings.Join(t.Key, ` = ? AND `) + ` = ?`
}

// keyArgs is the primary key of a row.
func (t *viewed) keyArgs(row []driver.Value) []driver.Value {
	args := make([]driver.Value, len(t.key))
	for n, i := range t.key {
		args[n] = row[i]
	}
	return args
}

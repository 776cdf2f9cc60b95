package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/stockledger/stockledger/internal/fault"
)

// What a generation is.
const (
	Serving  = "serving"  // answers come from it
	Building = "building" // it is folded beside the one that is served, and has not caught up
	Ready    = "ready"    // it has caught up, is folded on, and can be switched to
	Kept     = "kept"     // it was served before; it is not folded meanwhile, and can be switched back to
)

// keptMost is how many generations of a model are kept that were served before.
// Each takes as much disk as the one that is served.
const keptMost = 2

// A Generation is one making of a model from the log, in a file of its own.
type Generation struct {
	Model     string    `json:"model"`
	Number    int       `json:"generation"`        // counts up for each model; none comes twice
	Version   int       `json:"version"`           // of the folds that made it
	State     string    `json:"state"`             // "serving", "building", "ready" or "kept"
	Position  uint64    `json:"position"`          // of the last event it has folded
	Head      uint64    `json:"head"`              // of the log
	Behind    uint64    `json:"behind"`            // how many events it has to go
	Rate      float64   `json:"events_per_second"` // while it is built
	Remaining float64   `json:"remaining_seconds"` // while it is built, an estimate; 0 before there is one
	Made      time.Time `json:"made_at"`           // when it was begun
	Bytes     int64     `json:"bytes"`             // on disk
	Waiting   string    `json:"waiting"`           // why it cannot go on yet and tries again, "" while it can
	Stopped   string    `json:"stopped"`           // why it goes no further, "" while it runs
}

// A line is the generations of one model.
type line struct {
	lineage
	*record
	serves *model // nil while there is none that could be served
	next   *model // that is built, or ready; nil when there is none
	ready  bool   // next has caught up
	pace   *pace  // of next

	seen   uint64 // where the one that is served was when it was looked at
	looked int    // how often it has been there
	stuck  string // that it is, "" while it is not
}

// building reports whether there is a generation that has yet to catch up.
func (l *line) building() bool { return l.next != nil && !l.ready && l.next.stopped() == nil }

// Generations lists the generations of all models, of each the oldest first.
func (m *Models) Generations(ctx context.Context) ([]Generation, error) {
	head, err := m.store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("generations of the read models: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Generation
	for _, l := range m.lines {
		all = append(all, m.generations(l, head)...)
	}
	return all, nil
}

// generations are those of a line; mu is held.
func (c *core) generations(l *line, head uint64) []Generation {
	var all []Generation
	for _, e := range l.Entries {
		g := Generation{Model: l.name(), Number: e.Number, Version: e.Version, State: Kept, Position: e.Position, Head: head, Made: e.Made}
		one := c.opened(l, e.Number)
		if one != nil {
			now := one.now()
			g.Position, g.Waiting, g.Stopped = now.at, said(now.wait), said(now.stop)
		}
		g.Behind = max(head, g.Position) - g.Position
		switch {
		case one != nil && one == l.serves:
			g.State = Serving
		case one != nil && one == l.next && l.ready:
			g.State = Ready
		case e.Number == l.Building:
			g.State = Building
			if one != nil && one == l.next {
				g.Rate, g.Remaining = l.pace.of(c.clock(), g.Position, g.Behind)
			}
		}
		g.Bytes = sizeOf(filepath.Join(c.dir, e.File))
		all = append(all, g)
	}
	return all
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// sizeOf is what a generation takes on disk.
func sizeOf(path string) (bytes int64) {
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// some are the generations of some models.
func (m *Models) some(ctx context.Context, lines []*line) ([]Generation, error) {
	all, err := m.Generations(ctx)
	return slices.DeleteFunc(all, func(g Generation) bool {
		return !slices.ContainsFunc(lines, func(l *line) bool { return l.name() == g.Model })
	}), err
}

// named are the lines of models by name, all of them when none is named.
func (c *core) named(models []string) ([]*line, error) {
	if len(models) == 0 {
		return c.lines[:], nil
	}
	var some []*line
	for _, name := range models {
		l, err := c.line(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(some, l) {
			some = append(some, l)
		}
	}
	return some, nil
}

func (c *core) line(name string) (*line, error) {
	var names []string
	for _, l := range c.lines {
		if l.name() == name {
			return l, nil
		}
		names = append(names, l.name())
	}
	return nil, fault.New(fault.Invalid, "unknown_model", "there is no read model %q; there are %v", name, names).With("model", name)
}

// administer has one operation on generations at a time.
func (c *core) administer(ctx context.Context) (done func(), err error) {
	select {
	case c.admin <- struct{}{}:
		return func() { <-c.admin }, nil
	case <-c.done:
		return nil, errClosing
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "models_busy", "another operation on the generations of the read models is under way; ask again when it is done")
	}
}

var errClosing = fault.New(fault.Unavailable, "closing", "the read models are being closed")

// Switch has answers come from other generations of models, all of them when none
// is named: from those that are ready or, back, from those that were served
// before, which catch up first. It happens between two queries and at one
// position of all these generations, but for those that were served and have
// stopped or cannot use their files, so no answer is of both, and no position goes
// back. The generations that were served are kept, a bounded number of them. Who
// goes back from a version stays there: nothing switches to it by itself again, not
// after a restart either.
//
// It fails with nothing_ready, which is [fault.Conflict], when there is nothing to
// switch to, and then changes nothing.
func (m *Models) Switch(ctx context.Context, back bool, models ...string) ([]Generation, error) {
	lines, err := m.named(models)
	if err != nil {
		return nil, err
	}
	done, err := m.administer(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := m.switchTo(ctx, back, lines); err != nil {
		return nil, err
	}
	return m.some(ctx, lines)
}

func (c *core) switchTo(ctx context.Context, back bool, lines []*line) (err error) {
	find := c.readyOf
	if back {
		find = c.before
	}
	var swaps []swap
	defer func() {
		if err != nil && back { // nobody needs what was opened for it
			for _, s := range swaps {
				c.retire(s.to, false)
			}
		}
	}()
	for _, l := range lines {
		to, err := find(ctx, l)
		if err != nil {
			return err
		}
		swaps = append(swaps, swap{l, l.serves, to})
	}
	var held, left []*model
	for _, s := range swaps {
		held = append(held, s.to)
		if s.from != nil && s.from.stopped() == nil {
			left = append(left, s.from)
		}
	}
	next := c.swapped(swaps, back)
	if err := c.saying(next).stage(c.dir); err != nil {
		return err
	}
	err = c.together(ctx, held, left, func(position uint64) error { return c.swap(swaps, next, position) })
	if err != nil {
		return err
	}
	if err := syncDir(c.dir); err != nil { // a crash may serve the generations of before
		c.logger.Warn("that other generations of the read models are served may not outlast a crash", "err", err)
	}
	for _, s := range swaps {
		c.logger.Info("a read model is served from another generation", "model", s.name(), "generation", s.to.generation,
			"version", s.to.made.Version, "position", s.to.position(), "back", back)
		if s.from != nil {
			c.retire(s.from, false)
		}
	}
	if err := c.bound(lines); err != nil { // the switch has happened all the same
		c.logger.Error("generations that are too many cannot be dropped", "err", err)
	}
	return nil
}

// A swap puts a generation in the place of the one that is served.
type swap struct {
	*line
	from, to *model
}

// swapped is what the catalogue says after the swaps.
func (c *core) swapped(swaps []swap, back bool) [sources]*record {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.records()
	for i, l := range c.lines {
		for _, s := range swaps {
			if s.line != l {
				continue
			}
			next[i].serve(s.to.generation, back)
			if s.from != nil {
				next[i].entry(s.from.generation).Position = s.from.position() // or a little more
			}
		}
	}
	return next
}

// swap puts the catalogue that was staged in place, then has answers come from the
// other generations. After a crash between the two, or one that loses the catalogue
// though not what it says of, the one or the other generations are served, and
// catch up with the log.
func (c *core) swap(swaps []swap, next [sources]*record, position uint64) error {
	for _, s := range swaps {
		if s.from != nil && s.from.position() > position { // it has stopped, further on
			return fault.New(fault.Unavailable, "not_caught_up", "generation %d of %s is at position %d, and the one that is served at %d; ask again",
				s.to.generation, s.name(), position, s.from.position()).With("model", s.name()).With("position", position)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := publish(c.dir); err != nil {
		return err
	}
	c.restore(next)
	for _, s := range swaps {
		s.serves = s.to
		if s.next == s.to {
			s.next, s.ready, s.pace = nil, false, nil
		}
		if s.from != nil {
			s.entry(s.from.generation).Position = s.from.position()
			s.from.shut()
			close(s.from.left)
		}
	}
	return nil
}

// readyOf is the generation that is ready to be switched to.
func (c *core) readyOf(ctx context.Context, l *line) (*model, error) {
	c.mu.Lock()
	next, ready := l.next, l.ready
	c.mu.Unlock()
	if next != nil && ready && next.stopped() == nil {
		return next, nil
	}
	e := fault.New(fault.Conflict, "nothing_ready", "no generation of %s is ready; rebuild it first", l.name()).With("model", l.name())
	if next == nil {
		return nil, e
	}
	if stop := next.stopped(); stop != nil {
		return nil, fault.New(fault.Conflict, "nothing_ready", "generation %d of %s has stopped at position %d: %v; rebuild it once its fold is fixed",
			next.generation, l.name(), next.position(), stop).With("model", l.name()).With("generation", next.generation)
	}
	head, err := c.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	at := next.position()
	return nil, fault.New(fault.Conflict, "nothing_ready", "generation %d of %s is being built and is at position %d of %d; switch when it is ready",
		next.generation, l.name(), at, head).
		With("model", l.name()).With("generation", next.generation).With("position", at).With("head", head)
}

// before is the generation that was served before, opened and caught up.
func (c *core) before(ctx context.Context, l *line) (*model, error) {
	c.mu.Lock()
	e := l.entry(l.Before)
	c.mu.Unlock()
	if e == nil {
		return nil, fault.New(fault.Conflict, "nothing_ready", "no generation of %s was served before this one; there is nothing to go back to", l.name()).
			With("model", l.name())
	}
	return c.reopen(ctx, l, *e)
}

// bound drops the generations that were served longest ago.
func (c *core) bound(lines []*line) error {
	var errs []error
	for _, l := range lines {
		c.mu.Lock()
		kept := slices.DeleteFunc(slices.Clone(l.Entries), func(e *entry) bool {
			return e.Number == l.Serving || e.Number == l.Building || e.Number == l.Before
		})
		c.mu.Unlock()
		slices.SortFunc(kept, func(a, b *entry) int { return cmp.Compare(a.Position, b.Position) })
		for len(kept) > 0 && len(kept)+1 > keptMost { // the one before counts, too
			_, err := c.remove(l, kept[0].Number)
			errs = append(errs, err)
			kept = kept[1:]
		}
	}
	return errors.Join(errs...)
}

// Drop removes a generation that is not served, once the answers that are being
// made from it are done. It fails with generation_served, which is
// [fault.Conflict], for the one that is served, and with unknown_generation for one
// that is not there, which is [fault.NotFound].
func (m *Models) Drop(ctx context.Context, model string, number int) error {
	l, err := m.line(model)
	if err != nil {
		return err
	}
	done, err := m.administer(ctx)
	if err != nil {
		return err
	}
	defer done()
	m.mu.Lock()
	e, serving := l.entry(number), l.Serving
	m.mu.Unlock()
	switch {
	case e == nil:
		return fault.New(fault.NotFound, "unknown_generation", "there is no generation %d of %s", number, model).
			With("model", model).With("generation", number)
	case number == serving:
		return fault.New(fault.Conflict, "generation_served", "generation %d of %s is served; switch to another one before it is dropped", number, model).
			With("model", model).With("generation", number)
	}
	gone, err := m.remove(l, number)
	if err != nil {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "generation_in_use", "generation %d of %s is no longer listed, and its file goes when the answers that are read from it are done", number, model).
			With("model", model).With("generation", number)
	}
}

// remove takes a generation out of the catalogue, then removes its files as soon
// as nobody reads them. A crash between the two leaves files that no entry names;
// they go when the models are opened again.
func (c *core) remove(l *line, number int) (gone <-chan struct{}, err error) {
	e := l.entry(number)
	if err := c.change(l, func(r *record) { r.forget(number) }); err != nil {
		return nil, err
	}
	c.logger.Info("a generation of a read model is dropped", "model", l.name(), "generation", number)
	if gone = c.removed(l, number); gone != nil {
		return gone, nil
	}
	done := make(chan struct{})
	close(done)
	return done, removeFiles(filepath.Join(c.dir, e.File))
}

// removed retires a generation that is no longer in the catalogue, nil if its file
// is not open.
func (c *core) removed(l *line, number int) (gone <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.opened(l, number)
	if one == nil {
		return nil
	}
	if one == l.next {
		l.next, l.ready, l.pace = nil, false, nil
	}
	return c.retired(one, true)
}

// removeFiles removes a SQLite file and what lies beside it.
func removeFiles(path string) error {
	var errs []error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

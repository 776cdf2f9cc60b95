package projections

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/stockledger/stockledger/internal/fault"
)

// Rebuild begins to build the next generation of models, of all of them when none
// is named, from the first event on, beside those that are served. It returns at
// once; Generations says how far they are. One that was ready is replaced.
//
// It fails with rebuild_running, which is [fault.Conflict], and begins nothing,
// while a generation of one of these models is being built.
func (m *Models) Rebuild(ctx context.Context, models ...string) ([]Generation, error) {
	lines, err := m.named(models)
	if err != nil {
		return nil, err
	}
	done, err := m.administer(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := m.rebuild(ctx, lines); err != nil {
		return nil, err
	}
	return m.some(ctx, lines)
}

func (c *core) rebuild(ctx context.Context, lines []*line) error {
	for _, l := range lines {
		if err := c.idle(l); err != nil {
			return err
		}
	}
	head, err := c.store.Head(ctx)
	if err != nil {
		return err
	}
	var begun []*model
	for _, l := range lines {
		one, err := c.begin(ctx, l, head, true)
		if err != nil {
			if isFull(err) {
				err = fault.New(fault.NotAllowed, "disk_full", "there is no room on the disk for another generation of %s; make some, and rebuild it again", l.name()).
					With("model", l.name())
			}
			err = fmt.Errorf("rebuild %s: %w", l.name(), err)
			for i, one := range begun {
				_, undone := c.remove(lines[i], one.generation)
				err = errors.Join(err, undone)
			}
			return err
		}
		begun = append(begun, one)
	}
	c.start(begun...)
	for i, one := range begun {
		c.build(lines[i], one, head)
	}
	return nil
}

// isFull reports whether a disk that has no room is to blame for err.
func isFull(err error) bool {
	failed, ok := errors.AsType[*sqlite.Error](err)
	return errors.Is(err, syscall.ENOSPC) || ok && failed.Code()&0xff == sqlite3.SQLITE_FULL
}

// idle fails while a generation of a model is being built.
func (c *core) idle(l *line) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !l.building() {
		return nil
	}
	return fault.New(fault.Conflict, "rebuild_running", "generation %d of %s is being built and is at position %d; wait until it is ready, or drop it",
		l.next.generation, l.name(), l.next.position()).
		With("model", l.name()).With("generation", l.next.generation).With("position", l.next.position())
}

// begin puts the next generation into the catalogue, in place of one that was
// ready, and makes its file. Somebody has asked for it, or it is built by itself.
func (c *core) begin(ctx context.Context, l *line, head uint64, asked bool) (*model, error) {
	var e *entry
	was := l.Building
	err := c.change(l, func(r *record) {
		e = r.add(l.name(), l.now.version, c.clock().UTC())
		e.Asked, r.Building = asked, e.Number
	})
	if err != nil {
		return nil, err
	}
	one, err := c.openGeneration(ctx, l, *e, head)
	if err != nil {
		_, undone := c.remove(l, e.Number)
		return nil, errors.Join(err, undone)
	}
	if was == 0 {
		return one, nil
	}
	if _, err := c.remove(l, was); err != nil {
		_, undone := c.remove(l, e.Number)
		return nil, errors.Join(err, undone)
	}
	return one, nil
}

// build makes a model the one that is being built, and watches over it until it
// has what the log has now, and what has come since.
func (c *core) build(l *line, one *model, head uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.next, l.ready, l.pace = one, false, newPace(c.clock(), one.position())
	c.logger.Info("a generation of a read model is being built", "model", l.name(), "generation", one.generation,
		"version", one.made.Version, "position", one.position())
	c.work.Go(func() {
		ctx, cancel := c.derive()
		defer cancel()
		c.watchOver(ctx, l, one, head)
	})
}

// watchOver follows a generation that is being built until it is ready, and
// switches to it if that is to happen by itself.
func (c *core) watchOver(ctx context.Context, l *line, one *model, head uint64) {
	pause := firstPause
	for told := false; ; {
		var again <-chan time.Time
		now, changed := one.watch()
		if now.stop != nil {
			return
		}
		if c.caughtUp(ctx, l, one, now.at, head) {
			if !c.byItself(l, one) {
				return
			}
			err := c.switchByItself(ctx, l, one)
			if err == nil {
				return
			}
			changed, again = nil, time.NewTimer(pause).C
			pause = min(2*pause, longestPause)
			if !told && ctx.Err() == nil {
				c.logger.Error("a generation that is ready cannot be switched to yet; it is tried again", "model", l.name(), "generation", one.generation, "err", err)
				told = true
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-one.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// caughtUp notes how far a generation is, and reports whether it is ready: at
// least at a position, and near the end of the log.
func (c *core) caughtUp(ctx context.Context, l *line, one *model, at, least uint64) bool {
	head, err := c.store.Head(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.next != one {
		return false
	}
	l.pace.note(c.clock(), at)
	if !l.ready && err == nil && at >= least && at+gathered >= head && one.file.ready.Load() {
		l.ready = true
		c.logger.Info("a generation of a read model has caught up", "model", l.name(), "generation", one.generation, "position", at)
	}
	return l.ready
}

// byItself reports whether a generation that is ready is switched to by itself: one
// of a new version that nobody asked for, unless that is to wait, and any while
// there is nothing to serve.
func (c *core) byItself(l *line, one *model) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.next == one && (l.serves == nil || !one.made.Asked && l.outdated() && !c.config.HoldRebuilt)
}

func (c *core) switchByItself(ctx context.Context, l *line, one *model) error {
	done, err := c.administer(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !c.byItself(l, one) {
		return nil // somebody was quicker
	}
	return c.switchTo(ctx, false, []*line{l})
}

// openGeneration opens or creates the file of a generation.
func (c *core) openGeneration(ctx context.Context, l *line, e entry, head uint64) (*model, error) {
	d, known := l.folds(e.Version)
	if !known {
		return nil, fault.New(fault.Conflict, "unknown_version", "generation %d of %s was made by version %d of its folds, which this program does not have",
			e.Number, l.name(), e.Version).With("model", l.name()).With("generation", e.Number).With("version", e.Version)
	}
	one, err := openModel(ctx, c.config, d, e, head)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[one] = struct{}{}
	return one, nil
}

// opened is the model of a generation, nil when its file is not open; mu is held.
func (c *core) opened(l *line, number int) *model {
	for one := range c.files {
		if one.name == l.name() && one.generation == number {
			return one
		}
	}
	return nil
}

// reopen opens a generation that is kept, and returns when it has caught up. Who
// has no use for it any more retires it.
func (c *core) reopen(ctx context.Context, l *line, e entry) (*model, error) {
	if err := c.closed(ctx, l, e.Number); err != nil {
		return nil, err
	}
	head, err := c.store.Head(ctx)
	if err != nil {
		return nil, err
	}
	one, err := c.openGeneration(ctx, l, e, head)
	if err != nil {
		return nil, fmt.Errorf("open generation %d of %s: %w", e.Number, l.name(), err)
	}
	c.start(one)
	if err := one.waitFor(ctx, c.done, head); err != nil {
		c.retire(one, false)
		return nil, err
	}
	return one, nil
}

// closed waits until a generation that is kept has been let go of by answers from
// when it was served.
func (c *core) closed(ctx context.Context, l *line, number int) error {
	c.mu.Lock()
	one := c.opened(l, number)
	c.mu.Unlock()
	if one == nil {
		return nil
	}
	select {
	case <-one.gone:
		return nil
	case <-c.done:
		return errClosing
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "generation_in_use", "generation %d of %s is still being read from; ask again", number, l.name()).
			With("model", l.name()).With("generation", number)
	}
}

// retire ends a generation that is not served and closes its file once nobody
// reads it; removed, it goes with the file.
func (c *core) retire(one *model, removed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired(one, removed)
}

// retired is retire with mu held. What it returns is closed when all is done.
func (c *core) retired(one *model, removed bool) <-chan struct{} {
	one.removed = one.removed || removed
	if one.gone != nil {
		return one.gone
	}
	one.gone = make(chan struct{})
	if one.cancel != nil {
		one.cancel()
		c.part(one)
	}
	c.work.Go(func() {
		defer close(one.gone)
		if err := c.shelve(one); err != nil {
			c.logger.Error("a generation of a read model cannot be closed", "model", one.name, "generation", one.generation, "err", err)
		}
	})
	return one.gone
}

// shelve closes the file of a generation that has been retired, unless everything
// is closed first.
func (c *core) shelve(one *model) error {
	if one.ended != nil {
		<-one.ended
	}
	if !c.unread(one) {
		return nil
	}
	err := one.file.close()
	c.mu.Lock()
	delete(c.files, one)
	removed := one.removed
	c.mu.Unlock()
	if removed {
		err = errors.Join(err, removeFiles(filepath.Join(c.dir, one.made.File)))
	}
	return err
}

// unread waits until nobody reads a generation. It reports false if everything is
// closed first.
func (c *core) unread(one *model) bool {
	c.mu.Lock()
	if one.pins == 0 {
		c.mu.Unlock()
		return true
	}
	if one.unused == nil {
		one.unused = make(chan struct{})
	}
	unused := one.unused
	c.mu.Unlock()
	select {
	case <-unused:
		return true
	case <-c.done:
		return false
	}
}

// A pace is how fast a generation is built, over the last while.
type pace struct {
	since, last mark
}

type mark struct {
	time time.Time
	at   uint64
}

// paceOver is over what time a pace is taken.
const paceOver = 5 * time.Second

func newPace(now time.Time, at uint64) *pace {
	return &pace{mark{now, at}, mark{now, at}}
}

// note takes in how far the generation is.
func (p *pace) note(now time.Time, at uint64) {
	if now.Sub(p.last.time) >= paceOver {
		p.since, p.last = p.last, mark{now, at}
	}
}

// of is the pace in events per second, and how many seconds are left at it.
func (p *pace) of(now time.Time, at, behind uint64) (rate, remaining float64) {
	seconds := now.Sub(p.since.time).Seconds()
	if seconds <= 0 || at <= p.since.at {
		return 0, 0
	}
	rate = float64(at-p.since.at) / seconds
	return rate, float64(behind) / rate
}

package projections

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/stockledger/stockledger/events"
)

const (
	// near is how far apart models may be and still be fed together; those ahead
	// skip what they have. A kill leaves none further behind than what waits for
	// it and what it was folding.
	near = 3 * queued * gathered

	// linger is how long the feed lets events gather when they come in quick
	// succession and nobody waits for them: for each that came last time so long,
	// within bounds. A transaction writes every page it touches to the -wal file, so
	// that an event takes both models 77 µs of processor time among 50, 45 among 400,
	// 40 among 2,000 and 36 among 4,000, and 5.4 KB written among 2,000 and 3.7 among
	// 4,000. An event that comes alone is folded at once.
	linger        = 250 * time.Microsecond
	leastLinger   = 25 * time.Millisecond
	longestLinger = 200 * time.Millisecond

	// gathered is how many events that have gathered are folded together at most.
	gathered = 4 * events.MaxBatch

	// firstPause and longestPause are between attempts to read a log that fails,
	// or to write the file of a model.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// A feed reads the log for models that are near each other, so that it is read
// and decoded once. What it has is guarded by core.feeding.
type feed struct {
	after   uint64 // the models have been handed everything up to it
	models  []*model
	blocked bool // its only model waits for its file
	cancel  context.CancelFunc
}

// start runs models and feeds them.
func (c *core) start(models ...*model) {
	for _, one := range models {
		ctx, cancel := c.derive()
		one.cancel, one.quit, one.ended, one.turns = cancel, ctx.Done(), make(chan struct{}), c.turns
		one.refeed = func() { c.refeed(one) }
		c.work.Go(func() {
			defer close(one.ended)
			defer cancel()
			one.run(ctx.Done())
		})
	}
	c.feeding.Lock()
	defer c.feeding.Unlock()
	models = slices.SortedStableFunc(slices.Values(models), func(a, b *model) int { return cmp.Compare(a.position(), b.position()) })
	for len(models) > 0 {
		after := models[0].position()
		n := slices.IndexFunc(models, func(o *model) bool { return o.position() > after+near })
		if n < 0 {
			n = len(models)
		}
		c.startFeed(&feed{after: after, models: slices.Clone(models[:n])})
		models = models[n:]
	}
}

// startFeed starts a feed; feeding is held.
func (c *core) startFeed(f *feed) {
	ctx, cancel := c.derive()
	f.cancel = cancel
	c.feeds = append(c.feeds, f)
	c.work.Go(func() { c.feed(ctx, f) })
}

// end ends a feed if it has no models; feeding is held.
func (c *core) end(f *feed) bool {
	if len(f.models) > 0 {
		return false
	}
	f.cancel()
	c.feeds = slices.DeleteFunc(c.feeds, func(o *feed) bool { return o == f })
	if c.main == f {
		c.main = nil
	}
	return true
}

// part takes a model from its feed, which ends with the last one.
func (c *core) part(one *model) {
	c.feeding.Lock()
	defer c.feeding.Unlock()
	c.parted(one)
}

// parted is part with feeding held.
func (c *core) parted(one *model) {
	for _, f := range slices.Clone(c.feeds) {
		f.models = slices.DeleteFunc(f.models, func(o *model) bool { return o == one })
		c.end(f)
	}
}

// alone feeds a model on its own, unless it is being closed; feeding is held.
func (c *core) alone(one *model, after uint64) {
	select {
	case <-one.quit:
	default:
		c.parted(one)
		c.startFeed(&feed{after: after, models: []*model{one}})
	}
}

// refeed feeds a model on its own from where it is.
func (c *core) refeed(one *model) {
	c.feeding.Lock()
	defer c.feeding.Unlock()
	one.requeue()
	c.alone(one, one.position())
}

// setApart feeds a model on its own from where the batch begins that it did not
// take, unless it is being fed from elsewhere since.
func (c *core) setApart(one *model, queue chan []*event, after uint64) {
	c.feeding.Lock()
	defer c.feeding.Unlock()
	if now, _, _ := one.intake(); now == queue {
		c.alone(one, after)
	}
}

// feed hands every event to the models of f, until it has none. It waits for the
// slowest of them; one that has stopped takes no time, and one that waits for its
// file gets a feed of its own, so that the others go on.
func (c *core) feed(ctx context.Context, f *feed) {
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	after := f.after
	var waiting []*event // that have gathered, and have not been handed on
	rested := false
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		for batch, err := range c.store.Subscribe(ctx, after) {
			if err != nil {
				if ctx.Err() == nil {
					c.logger.Error("the read models cannot read the log", "after", after, "err", err)
				}
				break
			}
			after = batch[len(batch)-1].Position
			full := len(batch) == events.MaxBatch
			waiting = append(waiting, read(batch)...)
			if rested && full && len(waiting) < gathered && !c.atEnd(ctx, after) {
				continue
			}
			came := len(waiting)
			if !c.hand(f, after, waiting) || c.join(f) {
				return
			}
			waiting, rested, pause = nil, false, firstPause
			select {
			case <-quiet.C: // for a while before this batch
			default:
				if !full && c.atEnd(ctx, after) {
					c.rest(ctx, min(max(leastLinger, time.Duration(came)*linger), longestLinger))
					rested = true
				}
			}
			quiet.Reset(leastLinger)
		}
		after, waiting = f.after, nil // the rest is read again
		if ctx.Err() != nil {
			return
		}
		c.rest(ctx, pause)
	}
}

// atEnd reports whether the log ends at a position, as far as can be told.
func (c *core) atEnd(ctx context.Context, position uint64) bool {
	head, err := c.store.Head(ctx)
	return err != nil || position >= head
}

// hand gives a batch, that ends at a position, to the models of a feed. It reports
// whether any of them is to be fed on. One that waits for its file is fed on its
// own from where the batch begins, for which the log is decoded once more.
func (c *core) hand(f *feed, end uint64, batch []*event) bool {
	c.feeding.Lock()
	after, queues := f.after, make(map[*model]chan []*event, len(f.models))
	for _, one := range f.models {
		queues[one], _, _ = one.intake()
	}
	f.after = end
	c.feeding.Unlock()
	for one, queue := range queues {
		if c.give(f, one, queue, batch) == waits {
			c.setApart(one, queue, after)
		}
	}
	c.feeding.Lock()
	defer c.feeding.Unlock()
	return !c.end(f)
}

// give gives a batch to one model. While a feed has no other, it stays with it.
func (c *core) give(f *feed, one *model, queue chan []*event, batch []*event) taken {
	got := one.take(queue, batch, false)
	if got == waits && c.block(f, true) {
		got = one.take(queue, batch, true)
		c.block(f, false)
	}
	return got
}

// block notes whether a feed waits for its only model. It reports whether it has
// only one.
func (c *core) block(f *feed, blocked bool) bool {
	c.feeding.Lock()
	defer c.feeding.Unlock()
	f.blocked = blocked && len(f.models) == 1
	return len(f.models) == 1
}

// join has the models of a feed fed by the main feed, once they are where that is.
// It reports whether they are. When there is no main feed, this one becomes it.
func (c *core) join(f *feed) bool {
	c.feeding.Lock()
	defer c.feeding.Unlock()
	switch main := c.main; {
	case len(f.models) == 0: // it has lost them, and ended, meanwhile
		return c.end(f)
	case main == f:
		return false
	case main == nil || main.blocked:
		c.main = f
		return false
	case main.after > f.after || main.after+2*events.MaxBatch < f.after:
		return false
	}
	for _, one := range f.models {
		if now := one.now(); now.wait != nil || now.at+queued*gathered < f.after {
			return false
		}
	}
	c.main.models = append(c.main.models, f.models...)
	f.models = nil
	return c.end(f)
}

// rest waits, but not while somebody waits for a position.
func (c *core) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-c.awaited:
	}
}

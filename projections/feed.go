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
	near = 3 * queued * events.MaxBatch

	// linger is how long the feed lets events gather when they come in quick
	// succession and nobody waits for them. Seven transactions for a handful of
	// events cost more than the events: at 64 callers this doubles the commands a
	// second. An event that comes alone is folded at once.
	linger = 25 * time.Millisecond

	// firstPause and longestPause are between attempts to read a log that fails,
	// or to write the file of a model.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// start runs the models, and feeds those that are near each other together, so
// that the log is read and decoded once.
func (m *Models) start(ctx context.Context) {
	models := m.all()
	for _, model := range models {
		m.work.Go(func() { model.run(ctx.Done()) })
	}
	slices.SortStableFunc(models, func(a, b *model) int { return cmp.Compare(a.position(), b.position()) })
	for len(models) > 0 {
		after := models[0].position()
		n := slices.IndexFunc(models, func(o *model) bool { return o.position() > after+near })
		if n < 0 {
			n = len(models)
		}
		group := models[:n]
		models = models[n:]
		m.work.Go(func() { m.feed(ctx, after, group) })
	}
}

// feed hands every event after a position to the models, until ctx is done. It
// waits for the slowest of them; one that has stopped takes no time, and one that
// waits for its file gets a feed of its own, so that the others go on.
func (m *Models) feed(ctx context.Context, after uint64, models []*model) {
	defer func() {
		for _, model := range models {
			close(model.queue)
		}
	}()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		for batch, err := range m.store.Subscribe(ctx, after) {
			if err != nil {
				if ctx.Err() == nil {
					m.logger.Error("the read models cannot read the log", "after", after, "err", err)
				}
				break
			}
			decoded := read(batch)
			if models = m.hand(ctx, models, after, decoded); len(models) == 0 {
				return
			}
			after, pause = batch[len(batch)-1].Position, firstPause
			select {
			case <-quiet.C: // for a while before this batch
			default:
				if len(batch) < events.MaxBatch {
					m.rest(ctx, linger)
				}
			}
			quiet.Reset(linger)
		}
		if ctx.Err() != nil {
			return
		}
		m.rest(ctx, pause)
	}
}

// hand gives a batch, that follows a position, to the models. It returns those
// that are still to be fed; the others wait for their files, and are fed on their
// own from that position, for which the log is decoded once more.
func (m *Models) hand(ctx context.Context, models []*model, after uint64, batch []*event) []*model {
	if len(models) == 1 {
		models[0].queue <- batch
		return models
	}
	return slices.DeleteFunc(models, func(one *model) bool {
		if one.take(batch) {
			return false
		}
		m.work.Go(func() { m.feed(ctx, after, []*model{one}) })
		return true
	})
}

// rest waits, but not while somebody waits for a position.
func (m *Models) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-m.awaited:
	}
}

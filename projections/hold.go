package projections

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/stockledger/stockledger/internal/fault"
)

// together has models be at one position while do runs, and fold nothing
// meanwhile; so do is quick. It fails, and does nothing, when one of them has
// stopped, waits for its file, or gets nowhere. Those that are to be left may stay
// behind that position while they wait for their files. Answers go on being made.
func (c *core) together(ctx context.Context, models, left []*model, do func(position uint64) error) error {
	select {
	case c.holding <- struct{}{}:
		defer func() { <-c.holding }()
	case <-c.done:
		return errClosing
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "models_busy", "the read models are held at a position for something else; ask again")
	}
	for attempt := 1; ; attempt++ {
		began := false
		err := c.held(ctx, models, left, func(position uint64) error {
			began = true
			return do(position)
		})
		if err == nil || began || attempt == holds || ctx.Err() != nil || errors.Is(err, errLeft) || stuck(models) {
			return err
		}
		c.pause(ctx, breath)
	}
}

const (
	// holdMost is how long models are held at most before something is done. A query
	// waits longer for what it names in after.
	holdMost = patience / 4
	// breath is for how long they fold again before the next attempt: a query that
	// waits is then answered. They catch up within milliseconds.
	breath = holdMost / 8
	// holds is how often it is tried.
	holds = 8
)

// pause waits for some time, unless ctx is done or everything is closed.
func (c *core) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-c.done:
	}
}

// stuck reports whether one of the models goes no further by itself.
func stuck(models []*model) bool {
	return slices.ContainsFunc(models, func(m *model) bool { return m.now().stop != nil || m.now().wait != nil })
}

// held holds the models for one attempt.
func (c *core) held(ctx context.Context, models, left []*model, do func(position uint64) error) error {
	ctx, cancel := context.WithTimeout(ctx, holdMost)
	defer cancel()
	all := slices.Concat(models, left)
	for _, one := range all {
		one.hold()
		defer one.release()
	}
	var position uint64
	for _, one := range all {
		if err := one.rested(ctx); err != nil {
			return err
		}
		position = max(position, one.position())
	}
	for _, one := range all {
		one.allow(position)
	}
	c.hurry()
	for _, one := range models {
		if err := one.arrived(ctx, c.done, position); err != nil {
			return err
		}
	}
	for _, one := range left {
		if err := one.arrived(ctx, c.done, position); err != nil && one.now().wait == nil {
			return err
		}
	}
	return do(position)
}

// A gate is up to where a model may fold.
type gate struct {
	held bool
	upTo uint64 // while it is held
	busy bool   // with events that were let through
	shut bool   // for good, where it is held
}

// hold lets the model fold nothing more than what it is at.
func (m *model) hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate.held, m.gate.upTo = true, 0
}

// allow lets a model that is held fold up to a position.
func (m *model) allow(position uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate.upTo = position
	m.wake()
}

// release lets it fold whatever comes.
func (m *model) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate.held = m.gate.shut
	m.wake()
}

// shut keeps a model that is held where it is, for good. An answer that still
// reads what was served before must not be ahead of those that read what is served
// now.
func (m *model) shut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate.shut = true
}

// rested returns when a model that is held has committed what it was at.
func (m *model) rested(ctx context.Context) error {
	for {
		now, changed := m.watch()
		m.mu.Lock()
		busy := m.gate.busy
		m.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-changed:
		case <-m.quit:
			return errLeft
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "models_busy", "the read model %s takes too long over what it folds; ask again", m.name).
				With("model", m.name).With("position", now.at)
		}
	}
}

// arrived returns when a model that is held is at a position. It does not wait for
// its file.
func (m *model) arrived(ctx context.Context, closing <-chan struct{}, position uint64) error {
	if now := m.now(); now.wait != nil && now.at < position {
		return fault.New(fault.Unavailable, "model_waiting", "the read model %s cannot use its file and tries again: %v", m.name, now.wait).
			With("model", m.name).With("position", now.at)
	}
	return m.waitFor(ctx, closing, position)
}

// enter waits until the first of the events may be folded. It returns how many of
// them may, for which leave is called; 0 when it is closing.
func (m *model) enter(closing <-chan struct{}, batch []*event) int {
	for {
		n, changed := m.admit(batch)
		if n > 0 {
			return n
		}
		select {
		case <-changed:
		case <-closing:
			return 0
		}
	}
}

func (m *model) admit(batch []*event) (n int, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n = len(batch)
	if m.gate.held {
		if beyond := slices.IndexFunc(batch, func(e *event) bool { return e.Position > m.gate.upTo }); beyond >= 0 {
			n = beyond
		}
	}
	m.gate.busy = n > 0
	return n, m.changing()
}

// leave says that what was let through is committed, or given up.
func (m *model) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gate.busy = false
	m.wake()
}

// errLeft says that a generation is no longer folded, as another one is served.
var errLeft = errors.New("the generation is no longer served")

// waitServed returns once the generation of a model that is served is at a
// position, whichever that is meanwhile.
func (c *core) waitServed(ctx context.Context, which source, position uint64) error {
	for {
		one, err := c.serves(which)
		if err != nil {
			return err
		}
		if one.position() < position {
			c.hurry()
		}
		if err := one.waitFor(ctx, c.done, position); !errors.Is(err, errLeft) {
			return err
		}
	}
}

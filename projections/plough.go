package projections

import (
	"fmt"
	"time"
)

// A model that is far behind the log folds much in one transaction: each row is
// then written once, however often it changes, and the file is in order the more
// often. More than this gains little, and what changes has to be in memory until
// then.
const (
	ploughEvents = 1 << 17
	ploughBytes  = 64 << 20 // of the events, as the log has them
)

// ploughCache has a writer keep more pages of its file, as a large transaction
// touches more of them.
const ploughCache = `PRAGMA cache_size = -65536`

// ploughPause is how long a transaction stays open for events that do not come.
const ploughPause = time.Second

// distance is where a model that is far behind is so no more, 0 if it is not.
func distance(at, head uint64, far int) uint64 {
	if head-at < uint64(far) {
		return 0
	}
	return head
}

// far reports whether the model is far behind at a batch.
func (m *model) far(batch []*event) bool {
	first := batch[0].Position
	return first <= m.ploughTo && first > m.careful
}

// plough folds the events and those that come after them in one transaction, and
// keeps none of them. When that fails, the model is fed again from where it was,
// and goes in small steps until it is past what failed.
func (m *model) plough(closing <-chan struct{}, batch []*event) {
	batch = following(batch, m.position())
	if len(batch) == 0 {
		return
	}
	if n := m.enter(closing, batch); n < len(batch) { // it is held, or closing
		m.leave()
		m.advance(closing, batch)
		return
	}
	defer m.leave()
	last := m.position()
	err := m.file.writer.transact(func(w *writer) error {
		for events, bytes := 0, 0; len(batch) > 0; batch = m.more(closing, last) {
			if next := batch[0].Position; next != last+1 {
				return fmt.Errorf("position %d comes after %d", next, last)
			}
			last = batch[len(batch)-1].Position
			if err := m.apply(batch); err != nil {
				return err
			}
			if err := spill(w, m.folds); err != nil {
				return err
			}
			events += len(batch)
			for _, e := range batch {
				bytes += len(e.Data) + len(e.Meta)
			}
			if events >= m.ploughed || bytes >= ploughBytes || last >= m.ploughTo || m.wanted() {
				break
			}
		}
		return m.seal(w, last)
	})
	if err == nil {
		m.sealed(last)
		return
	}
	m.forget()
	m.logger.Info("a read model that is far behind could not fold much at once; it goes in small steps",
		"model", m.name, "version", m.version, "position", m.position(), "until", last, "err", err)
	m.careful = last
	m.refeed()
}

// more waits for the batch that follows a position, though not for long, and not
// while the model is wanted for something else.
func (m *model) more(closing <-chan struct{}, last uint64) []*event {
	pause := time.NewTimer(ploughPause)
	defer pause.Stop()
	for {
		_, _, changed := m.intake()
		if m.wanted() {
			return nil
		}
		select {
		case batch := <-m.queue:
			if batch = following(batch, last); len(batch) > 0 {
				return batch
			}
		case <-changed:
		case <-pause.C:
			return nil
		case <-closing:
			return nil
		}
	}
}

// wanted reports whether the model is to be held.
func (m *model) wanted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gate.held
}

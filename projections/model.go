package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// queued is how many batches may wait for a model. One that is behind takes all
// that wait in one transaction, so this bounds that, too; see plough for one that
// is far behind.
const queued = 4

// A definition is a read model as its file has it.
type definition struct {
	name    string
	version int // of the folds and their tables; part of the file's name
	parts   []part
	adapts  map[int]string // what makes a file of an older version fit these folds and queries, "" when it does
}

// A part is some tables and the fold that writes them.
type part struct {
	stream  string // the sort of streams the fold reads facts from, "" when it reads no facts
	schema  string // its tables, and the indexes that must always be there
	indexes string // the other indexes, made when a new file has caught up with the log
	fold    func(*file) fold
}

// skips reports whether the event is none of the part's business, whatever it says.
func (p part) skips(e *event) bool {
	kind := e.kind()
	return p.stream != "" && kind != p.stream && known(kind)
}

// A fold turns events into rows. It gathers in memory what events change, and
// writes it when asked. Only one goroutine uses it.
type fold interface {
	// apply takes in one event. It fails when the event cannot follow what came
	// before; the fold is then good for nothing but forget.
	apply(e *event) error
	// flush writes what was applied since the last flush.
	flush(w *writer) error
	// trim lets go of memory, once everything is committed.
	trim()
	// forget lets go of everything in memory, written or not.
	forget()
}

// A model is a fold at work on one of its generations: one file, one goroutine.
type model struct {
	definition
	generation int
	made       entry // as the catalogue had it when it was opened
	file       *file
	folds      []fold // of the parts, in their order
	logger     *slog.Logger
	queue      chan []*event // another one whenever it has to be fed again; guarded by mu, but for run, which makes it

	ploughTo uint64 // the position up to which it is far behind
	ploughed int    // events in a transaction until then
	careful  uint64 // the position up to which it goes in small steps all the same

	turns  chan struct{}   // of the models that fold at once; nil before it is started
	cancel func()          // ends run; nil before it is started
	refeed func()          // has it be fed again, from where it is
	quit   <-chan struct{} // closed when run is to end
	ended  chan struct{}   // closed when run has ended
	left   chan struct{}   // closed when it was served, and another one is

	pins    int           // answers that are read from it; guarded by core.mu
	unused  chan struct{} // closed when there are none; nil while nobody waits; guarded by core.mu
	gone    chan struct{} // closed when the file is closed; nil while it need not be; guarded by core.mu
	removed bool          // the file goes when it is closed; guarded by core.mu

	mu      sync.Mutex
	state   state
	gate    gate
	changed chan struct{} // closed when the state or the gate changes; nil while nobody waits
}

// A state is how a model is doing. At most one of the errors is set.
type state struct {
	at   uint64 // the last event committed
	wait error  // why it keeps its events and tries again
	stop error  // why it goes no further
}

// openModel opens or creates a generation, which d folds.
func openModel(ctx context.Context, cfg Config, d definition, e entry, head uint64) (*model, error) {
	f, at, err := openFile(ctx, cfg, d, e, head)
	if err != nil {
		return nil, err
	}
	m := &model{
		ploughTo: distance(at, head, cmp.Or(cfg.far, defaultFar)), ploughed: cmp.Or(cfg.ploughed, ploughEvents),
		definition: d, generation: e.Number, made: e, file: f, state: state{at: at}, logger: cfg.Logger,
		queue: make(chan []*event, queued), left: make(chan struct{}),
	}
	for _, p := range d.parts {
		m.folds = append(m.folds, p.fold(f))
	}
	if m.ploughTo > 0 {
		if err := f.writer.exec(ploughCache); err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	return m, nil
}

// now is how the model is doing.
func (m *model) now() state {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// position is that of the last event whose rows can be read.
func (m *model) position() uint64 { return m.now().at }

// stopped says why the model goes no further, nil while it runs.
func (m *model) stopped() error { return m.now().stop }

// watch is how the model is doing, until the channel is closed.
func (m *model) watch() (state, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.changing()
}

// changing is closed at the next change; mu is held.
func (m *model) changing() <-chan struct{} {
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

// set changes the state, and wakes who watches.
func (m *model) set(s state) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	m.wake()
}

// wake tells who watches; mu is held.
func (m *model) wake() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// waitFor returns once the model is at position, or cannot get there.
func (m *model) waitFor(ctx context.Context, closing <-chan struct{}, position uint64) error {
	for {
		now, changed := m.watch()
		unavailable := func(code, message string) error {
			return fault.New(fault.Unavailable, code, "the read model %s %s", m.name, message).
				With("model", m.name).With("position", now.at).With("after", position)
		}
		switch {
		case now.at >= position:
			return nil
		case now.stop != nil:
			return unavailable("model_stopped", fmt.Sprintf("has stopped at position %d: %v", now.at, now.stop))
		}
		select {
		case <-changed:
		case <-m.left:
			return errLeft
		case <-closing:
			return unavailable("not_caught_up", "is being closed")
		case <-ctx.Done():
			message := fmt.Sprintf("is at position %d and has not reached %d", now.at, position)
			if now.wait != nil {
				message += fmt.Sprintf("; it cannot use its file and tries again: %v", now.wait)
			}
			return unavailable("not_caught_up", message)
		}
	}
}

// What became of a batch.
type taken int

const (
	taking taken = iota // it is queued
	waits               // it is not: the queue is full, and the model waits for its file
	gone                // it is not: the model is being closed, or fed by another feed
)

// take queues a batch; patient, it does so however long the model waits for its
// file.
func (m *model) take(queue chan []*event, batch []*event, patient bool) taken {
	for {
		current, now, changed := m.intake()
		switch {
		case current != queue:
			return gone
		case len(queue) == cap(queue) && now.wait != nil && !patient:
			return waits
		}
		select {
		case queue <- batch:
			return taking
		case <-m.quit:
			return gone
		case <-changed:
		}
	}
}

// intake is where batches go.
func (m *model) intake() (queue chan []*event, now state, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.queue, m.state, m.changing()
}

// requeue gives up what is queued.
func (m *model) requeue() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = make(chan []*event, queued)
	m.wake()
}

// run folds what is queued until it is closing, or the queue is closed. Once
// closing, it waits for nothing.
func (m *model) run(closing <-chan struct{}) {
	for {
		batch := m.next(closing)
		switch {
		case batch == nil:
			return
		case m.stopped() != nil:
		case m.far(batch):
			m.plough(closing, batch)
		case !m.advance(closing, m.gather(batch)):
			return // what comes after a batch that was given up cannot be folded
		}
	}
}

// next waits for a batch, and is nil when none comes any more.
func (m *model) next(closing <-chan struct{}) []*event {
	select {
	case batch := <-m.queue:
		return batch
	case <-closing:
		return nil
	}
}

// gather adds what waits in the queue to a batch, to fold it together.
func (m *model) gather(batch []*event) []*event {
	for len(batch) < queued*events.MaxBatch {
		select {
		case next := <-m.queue:
			next = following(next, batch[len(batch)-1].Position)
			if len(next) == 0 {
				return batch
			}
			batch = slices.Concat(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// following is what of a batch comes after a position. The rest was fed for the
// sake of a model that is behind, or by two feeds.
func following(batch []*event, at uint64) []*event {
	for len(batch) > 0 && batch[0].Position <= at {
		batch = batch[1:]
	}
	return batch
}

// advance folds the events as far as they may be folded now, and then the rest.
// When the file cannot be used it keeps them and tries again; until then it is at
// rest. It reports false if it has to give some up because of closing.
func (m *model) advance(closing <-chan struct{}, batch []*event) bool {
	batch = following(batch, m.position())
	for pause := firstPause; len(batch) > 0 && m.stopped() == nil; {
		n := m.enter(closing, batch)
		if n == 0 {
			return false
		}
		err := m.foldAll(batch[:n])
		m.leave()
		if err == nil {
			batch, pause = batch[n:], firstPause
			continue
		}
		select {
		case <-time.NewTimer(pause).C:
		case <-closing:
			return false
		}
		pause = min(2*pause, longestPause)
	}
	return true
}

// foldAll folds the events. When one of them cannot be applied, it folds those
// before it and stops. It fails when the file cannot be used.
func (m *model) foldAll(batch []*event) error {
	if at, next := m.position(), batch[0].Position; next != at+1 {
		m.halt(batch[0], fmt.Errorf("the log yielded position %d after %d", next, at))
		return nil
	}
	var bad *event
	var cause error
	for {
		err := m.commit(batch)
		if err == nil {
			break
		}
		if blames(err) {
			good, why := m.findBad(batch)
			if blames(why) {
				bad, cause, batch = batch[good], why, batch[:good]
				continue
			}
			err = cmp.Or(why, err)
		}
		m.postpone(err)
		return err
	}
	if bad != nil {
		m.halt(bad, cause)
	}
	return nil
}

// complete makes the indexes of a model that goes no further, so that what it
// has can be listed.
func (m *model) complete() {
	if err := m.file.writer.transact(m.file.index); err != nil {
		m.logger.Error("a read model that has stopped cannot make its indexes; it cannot be listed",
			"model", m.name, "version", m.version, "err", err)
		return
	}
	m.file.indexed()
}

// blames reports whether an event is to blame for err, because of what it says.
// What else SQLite reports has its cause outside, such as a full disk or a file
// that another process has locked, and may pass.
func blames(err error) bool {
	failed, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err != nil
	}
	switch failed.Code() & 0xff { // the rest is detail
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}

// postpone says why the model waits, loudly the first time.
func (m *model) postpone(cause error) {
	now := m.now()
	if now.wait == nil {
		m.logger.Error("a read model cannot use its file; it tries again until it can",
			"model", m.name, "version", m.version, "position", now.at, "err", cause)
	}
	m.set(state{at: now.at, wait: cause})
}

// halt stops the model before e, loudly.
func (m *model) halt(e *event, cause error) {
	stop := fmt.Errorf("event %d, %s %s@%d: %w", e.Position, e.Type, e.Stream, e.Version, cause)
	m.logger.Error("a read model has stopped at an event it cannot apply; it tries again after a restart",
		"model", m.name, "version", m.version, "position", e.Position, "stream", e.Stream, "type", e.Type, "err", cause)
	m.complete()
	m.set(state{at: m.position(), stop: stop})
}

// takeTurn waits until few enough others fold, so that half of the processors are
// left for commands and queries: with both models at once on two processors, one
// command in a hundred took 13 ms, and 9 ms with one after the other. A model whose
// file is in use by somebody else keeps nobody waiting for long. It returns what ends
// the turn.
func (m *model) takeTurn() (end func()) {
	if m.turns == nil {
		return func() {}
	}
	patience := time.NewTimer(longestLinger)
	defer patience.Stop()
	select {
	case m.turns <- struct{}{}:
		return func() { <-m.turns }
	case <-patience.C:
		return func() {}
	}
}

// commit folds the events, all of them or none.
func (m *model) commit(batch []*event) error {
	if len(batch) == 0 {
		return nil
	}
	last := batch[len(batch)-1].Position
	defer m.takeTurn()()
	err := m.file.writer.transact(func(w *writer) error {
		if err := m.apply(batch); err != nil {
			return err
		}
		return m.seal(w, last)
	})
	if err != nil {
		m.forget()
		return err
	}
	m.sealed(last)
	return nil
}

// seal writes what was applied, and that the last event of it is at a position.
func (m *model) seal(w *writer, last uint64) error {
	if err := m.flush(w); err != nil {
		return err
	}
	if last >= m.file.due {
		if err := m.file.index(w); err != nil {
			return err
		}
	}
	return w.exec(`UPDATE checkpoint SET position = ?`, int64(last))
}

// sealed says that it is committed.
func (m *model) sealed(last uint64) {
	if last >= m.file.due {
		m.file.indexed()
	}
	for _, f := range m.folds {
		f.trim()
	}
	if m.ploughTo > 0 && last >= m.ploughTo {
		m.ploughTo = 0
		if err := m.file.writer.exec(cache); err != nil { // then it keeps the large one
			m.logger.Warn("a read model keeps a large cache", "model", m.name, "version", m.version, "err", err)
		}
	}
	m.set(state{at: last})
}

// findBad writes the events one by one, then takes it all back. It returns how
// many are good and what is wrong with the next one.
func (m *model) findBad(batch []*event) (good int, cause error) {
	defer m.forget()
	undo := errors.New("undo")
	err := m.file.writer.transact(func(w *writer) error {
		for ; good < len(batch); good++ {
			if err := m.apply(batch[good : good+1]); err != nil {
				return err
			}
			if err := m.flush(w); err != nil {
				return err
			}
		}
		return undo
	})
	if errors.Is(err, undo) {
		return good, nil
	}
	return good, err
}

// apply takes the events into memory.
func (m *model) apply(batch []*event) error {
	for _, e := range batch {
		if e.metaErr != nil {
			return e.metaErr
		}
		for i, p := range m.parts {
			if p.skips(e) {
				continue
			}
			if e.factErr != nil && p.stream != "" {
				return e.factErr
			}
			if err := m.folds[i].apply(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *model) flush(w *writer) error {
	for _, f := range m.folds {
		if err := f.flush(w); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) forget() {
	for _, f := range m.folds {
		f.forget()
	}
}

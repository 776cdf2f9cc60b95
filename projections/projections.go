// Package projections holds the read models: folds of the whole log into rows
// that can be asked for. They know facts, not rules, and can always be thrown
// away and built again.
//
// Each model is a fold with a name and a version, made into rows once for each of
// its generations, in one SQLite file each, such as movements.v1.db. The file says
// which log it was built from and up to which position; that mark moves in the same
// transaction as the rows, so every event counts exactly once. To add a model,
// write a fold beside the others and a line in lineages; to change one, change its
// fold and raise its version, and leave the old one among those before it.
//
// One generation of each model is served, which the file generations.json says.
// The next one is built beside it, from the first event on, and switched to between
// two queries at a position that both have reached. That happens by itself when the
// version has changed, unless somebody went back from it, and not with one that was
// asked for. What was served is kept for a while, to go back to.
//
// A model that meets an event it cannot apply keeps everything before it, says
// so loudly, and stops there. The others go on. It tries again when it is next
// opened. A model whose file cannot be written, because the disk is full, say,
// says so, keeps trying, and goes on by itself. One that does not get on for any
// other reason is stuck, and says that.
//
// From events to rows: feed.go reads the log once for all models that are near each
// other, event.go and change.go read what events say, model.go runs one model,
// plough.go one that is far behind, and stuck.go sees whether they get on; rows.go,
// bulk.go and file.go are rows in memory, on their way and on disk. Of generations:
// open.go says what is served, kept and built, rebuild.go builds, generations.go
// switches and drops, hold.go has models be at one position, catalogue.go is the
// file, and planted.go a bug to try it all with. Of rows as they are: snapshot.go
// takes all of them at one position, snapshotshape.go says what their values mean,
// diff.go compares those of two generations, and parting.go finds the event after
// which they part. From rows to answers: query.go has the names,
// list.go the lists, of which selectors.go reads what is asked for and find.go finds
// it, and index.go what the command engine asks.
package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Config says what to fold, and into which directory.
type Config struct {
	Dir    string       // holds a file for each generation of each model, and the catalogue of them; made if missing
	Store  events.Store // the log; it must stay open until Close has returned
	Logger *slog.Logger // hears of models that stop or have to wait, and of generations; nil for nobody

	// HoldRebuilt leaves a generation that was built because the version of its
	// model has changed ready, to be compared and switched to by hand. Otherwise it
	// is served as soon as it has caught up.
	HoldRebuilt bool
	// Planted serves the inventory model of version 0, which has a bug made on
	// purpose, to show how one is found and got rid of.
	Planted bool

	held int // rows of a table to keep in memory; 0 is defaultHeld
	few  int // rows a list may look at and sort; 0 is defaultFew
	far  int // events behind at which a new file has no indexes yet; 0 is defaultFar

	ploughed int // events in a transaction of a model that is far behind; 0 is ploughEvents

	longest time.Duration     // that a query may take; 0 is the constant
	stuck   time.Duration     // after which a model that does not get on is stuck; 0 is the constant
	clock   func() time.Time  // nil is that of the machine
	models  *[sources]lineage // nil is those of the program
}

// Models are the read models of one log. Their methods may be called from many
// goroutines at once.
type Models struct {
	*core
	// What an answer is read from, while it is made; nil otherwise. See pin.
	inventory, movements *model
}

// A core is what is the same for all answers.
type core struct {
	config  Config
	dir     string
	store   events.Store
	logger  *slog.Logger
	clock   func() time.Time
	longest time.Duration // that an answer may take

	mu    sync.Mutex // guards what follows, the lines, and the pins of models
	lines [sources]*line
	files map[*model]struct{} // that are open

	admin   chan struct{} // holds one while generations are being changed
	holding chan struct{} // holds one while models are held together

	feeding sync.Mutex // guards what follows, and the feeds
	feeds   []*feed
	main    *feed // that feeds what has caught up

	derive  func() (context.Context, context.CancelFunc) // a context that ends with Close at the latest
	cancel  context.CancelFunc
	closing sync.Once
	done    <-chan struct{} // closed when Close begins
	awaited chan struct{}   // holds one when somebody began to wait for a position
	turns   chan struct{}   // holds one for each model that is folding what is new
	work    sync.WaitGroup  // the feeds, the models and who watches over them
}

// Open opens or creates the models in cfg.Dir and starts folding from where each
// of them was. One that was made by another version of its folds is built anew,
// beside the one that is there. It fails with an error that wraps
// [events.ErrOtherLog], and names the file, when a file was built from another log,
// or from more of this log than there is. Ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (_ *Models, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open read models: %w", err)
	}
	head, err := cfg.Store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("open read models: %w", err)
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.clock == nil {
		cfg.clock = time.Now //nolint:forbidigo // how long a rebuild takes is told by the clock of the machine
	}
	c := &core{
		config: cfg, dir: cfg.Dir, store: cfg.Store, logger: cfg.Logger, clock: cfg.clock, longest: cmp.Or(cfg.longest, longest),
		files: make(map[*model]struct{}), admin: make(chan struct{}, 1), holding: make(chan struct{}, 1), awaited: make(chan struct{}, 1),
		turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel, c.done = cancel, run.Done()
	c.derive = func() (context.Context, context.CancelFunc) { return context.WithCancel(run) }
	if err := c.open(ctx, head); err != nil {
		cancel()
		return nil, errors.Join(err, c.closeFiles())
	}
	c.work.Go(func() { c.lookOut(run) })
	return &Models{core: c}, nil
}

// A lineage is a model and what it was before.
type lineage struct {
	now    definition
	before []definition // earlier versions, whose folds are still there for the files they made
}

func (l lineage) name() string { return l.now.name }

// folds are those of a generation that a version made, if there are any.
func (l lineage) folds(version int) (definition, bool) {
	if version == l.now.version {
		return l.now, true
	}
	for _, d := range l.before {
		if d.version == version {
			return d, true
		}
	}
	_, fits := l.now.adapts[version]
	return l.now, fits
}

// lineages are all read models. The tables of inventory are in one file, so that
// an answer that joins them is of one moment.
func (cfg Config) lineages() [sources]lineage {
	if cfg.models != nil {
		return *cfg.models
	}
	sound := definition{name: "inventory", version: 1, parts: []part{
		itemsPart, levelsPart, reservationsPart, linksPart, locationsPart,
	}}
	inventory := lineage{now: sound, before: []definition{planted(sound)}}
	if cfg.Planted {
		inventory = lineage{now: planted(sound), before: []definition{sound}}
	}
	return [sources]lineage{
		ofInventory: inventory,
		ofMovements: {now: definition{name: "movements", version: 1, parts: []part{commandsPart, movementsPart}}},
	}
}

// serves is the model of a source that is served.
func (c *core) serves(of source) (*model, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.lines[of].serves; one != nil {
		return one, nil
	}
	return nil, c.lines[of].unserved()
}

// unserved says that there is nothing to serve yet; core.mu is held.
func (l *line) unserved() error {
	var at uint64
	if l.next != nil {
		at = l.next.position()
	}
	return fault.New(fault.Unavailable, "model_building",
		"the read model %s is being built and is at position %d; ask again when it has caught up", l.name(), at).
		With("model", l.name()).With("position", at)
}

// nothing is what is done with an answer that is part of another.
func nothing() {}

// pin has m answer from the generations that are served now until done is called,
// whatever is switched meanwhile. It fails with model_building when one of those
// that are needed has nothing to serve.
func (m *Models) pin(needed ...source) (pinned *Models, done func(), err error) {
	if m.inventory != nil || m.movements != nil {
		return m, nothing, nil
	}
	c := m.core
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range needed {
		if l := c.lines[of]; l.serves == nil {
			return nil, nil, l.unserved()
		}
	}
	pinned = &Models{c, c.lines[ofInventory].serves, c.lines[ofMovements].serves}
	pinned.each(func(one *model) { one.pins++ })
	return pinned, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		pinned.each((*model).unpin)
	}, nil
}

// each is for the models that are pinned.
func (m *Models) each(do func(*model)) {
	for _, one := range []*model{m.inventory, m.movements} {
		if one != nil {
			do(one)
		}
	}
}

// of is the model of a source that is pinned.
func (m *Models) of(which source) *model {
	if which == ofInventory {
		return m.inventory
	}
	return m.movements
}

// unpin lets go of a model; core.mu is held.
func (m *model) unpin() {
	if m.pins--; m.pins == 0 && m.unused != nil {
		close(m.unused)
		m.unused = nil
	}
}

// Close stops folding, waits for what is under way, and closes the files.
func (m *Models) Close() error {
	m.cancel()
	m.closing.Do(func() { m.admin <- struct{}{} }) // what is under way on generations ends, and no more begins
	m.work.Wait()
	return m.closeFiles()
}

func (c *core) closeFiles() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for one := range c.files {
		errs = append(errs, one.file.close())
	}
	clear(c.files)
	return errors.Join(errs...)
}

// Position is how far the models that serve the Index are, all of them:
// everything up to it is in the answers to calls that start later.
func (m *Models) Position() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	position := uint64(math.MaxUint64)
	for _, l := range m.lines {
		if l.serves == nil {
			return 0
		}
		position = min(position, l.serves.position())
	}
	return position
}

// WaitFor returns once every model has folded the event at position. It fails
// with model_stopped when one has stopped before it, and with not_caught_up when
// ctx ends first; both are [fault.Unavailable]. A position that is not in the log
// yet is refused at once with after_beyond_log, which is [fault.Invalid].
func (m *Models) WaitFor(ctx context.Context, position uint64) error {
	return m.waitFor(ctx, position, ofInventory, ofMovements)
}

func (c *core) waitFor(ctx context.Context, position uint64, models ...source) error {
	for _, of := range models {
		one, err := c.serves(of)
		if err != nil {
			return err
		}
		if one.position() < position {
			// An answered position is durable, so only one that was made up is beyond.
			if head, err := c.store.Head(ctx); err == nil && position > head {
				return fault.New(fault.Invalid, "after_beyond_log",
					"position %d is beyond the end of the log, which is at %d; ask for one that was answered", position, head).
					With("after", position).With("head", head)
			}
		}
		if err := c.waitServed(ctx, of, position); err != nil {
			return err
		}
	}
	return nil
}

// hurry keeps the feed from resting, as somebody waits for a position.
func (c *core) hurry() {
	select {
	case c.awaited <- struct{}{}:
	default: // the feed has been told, and will not rest next time
	}
}

// ModelStatus is how one model is doing.
type ModelStatus struct {
	Name       string `json:"name"`
	Version    int    `json:"version"`    // of the folds that made the generation that is served
	Generation int    `json:"generation"` // that is served, 0 while there is none
	Position   uint64 `json:"position"`   // of the last event it has folded
	Head       uint64 `json:"head"`       // of the log
	Behind     uint64 `json:"behind"`     // how many events it has to go
	Waiting    string `json:"waiting"`    // why it cannot go on yet and tries again, "" while it can
	Stopped    string `json:"stopped"`    // why it goes no further, "" while it runs
	Stuck      string `json:"stuck"`      // that it is behind and does not get on, "" while it does
}

// Status reports on every model, measured against the head of the log.
func (m *Models) Status(ctx context.Context) ([]ModelStatus, error) {
	head, err := m.store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("status of the read models: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []ModelStatus
	for _, l := range m.lines {
		s := ModelStatus{Name: l.name(), Version: l.now.version, Head: head, Stuck: l.stuck}
		if l.serves != nil {
			now := l.serves.now()
			s.Version, s.Generation, s.Position = l.serves.made.Version, l.serves.generation, now.at
			s.Waiting, s.Stopped = said(now.wait), said(now.stop)
		} else {
			s.Waiting = l.unserved().Error()
			if l.next != nil {
				s.Stopped = said(l.next.stopped())
			}
		}
		s.Behind = max(head, s.Position) - s.Position
		all = append(all, s)
	}
	return all, nil
}

// notFound is the refusal for a row that is not there, with the name and value
// of what was looked for, alternating.
func notFound(message string, details ...string) error {
	e := fault.New(fault.NotFound, "not_found", "%s", message)
	for pair := range slices.Chunk(details, 2) {
		e = e.With(pair[0], pair[1])
	}
	return e
}

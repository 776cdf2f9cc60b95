// Package projections holds the read models: folds of the whole log into rows
// that can be asked for. They know facts, not rules, and can always be thrown
// away and built again.
//
// Each model is a fold with a name and a version, in one SQLite file of its own
// such as movements.v1.db. The file says which log it was built from and up to
// which position; that mark moves in the same transaction as the rows, so every
// event counts exactly once. To add a model, write a fold beside the others and
// a line in definitions; to change one, change its fold and raise its version.
//
// A model that meets an event it cannot apply keeps everything before it, says
// so loudly, and stops there. The other model goes on. It tries again when it is
// next opened. A model whose file cannot be written, because the disk is full,
// say, says so, keeps trying, and goes on by itself.
//
// From events to rows: feed.go reads the log once for all models, event.go and
// change.go read what events say, model.go runs one model, rows.go and file.go
// are its rows in memory and on disk. From rows to answers: query.go has the
// names, list.go the lists, of which selectors.go reads what is asked for and
// find.go finds it, and index.go what the command engine asks.
package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Config says what to fold, and into which directory.
type Config struct {
	Dir    string       // holds one file for each model, and nothing else; made if missing
	Store  events.Store // the log; it must stay open until Close has returned
	Logger *slog.Logger // hears of models that stop or have to wait; nil for nobody

	held int // rows of a table to keep in memory; 0 is defaultHeld
	few  int // rows a list may look at and sort; 0 is defaultFew
	far  int // events behind at which a new file has no indexes yet; 0 is defaultFar

	longest time.Duration // that a query may take; 0 is the constant
}

// Models are the read models of one log. Their methods may be called from many
// goroutines at once.
type Models struct {
	store  events.Store
	logger *slog.Logger

	inventory, movements *model

	cancel  context.CancelFunc
	done    <-chan struct{} // closed when Close begins
	awaited chan struct{}   // holds one when somebody began to wait for a position
	work    sync.WaitGroup  // the feeds and the models
}

// Open opens or creates the models in cfg.Dir and starts folding from where each
// of them was. It fails with an error that wraps [events.ErrOtherLog], and names
// the file, when a file was built from another log, or from more of this log
// than there is. Ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (_ *Models, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open read models: %w", err)
	}
	head, err := cfg.Store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("open read models: %w", err)
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	m := &Models{store: cfg.Store, logger: cfg.Logger, awaited: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.closeFiles())
		}
	}()
	for _, d := range m.definitions() {
		opened, err := openModel(ctx, cfg, d.definition, head)
		if err != nil {
			return nil, fmt.Errorf("open read model %s: %w", d.name, err)
		}
		*d.model = opened
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel, m.done = cancel, run.Done()
	m.start(run)
	return m, nil
}

// A slot is where in Models the model of a definition goes.
type slot struct {
	definition
	model **model
}

// definitions are all read models. The tables of inventory are in one file, so
// that an answer that joins them is of one moment.
func (m *Models) definitions() []slot {
	return []slot{
		{definition{name: "inventory", version: 1, parts: []part{
			itemsPart, levelsPart, reservationsPart, linksPart, locationsPart,
		}}, &m.inventory},
		{definition{name: "movements", version: 1, parts: []part{commandsPart, movementsPart}}, &m.movements},
	}
}

// all are the models that are open.
func (m *Models) all() []*model {
	var open []*model
	for _, d := range m.definitions() {
		if *d.model != nil {
			open = append(open, *d.model)
		}
	}
	return open
}

// Close stops folding, waits for what is under way, and closes the files.
func (m *Models) Close() error {
	m.cancel()
	m.work.Wait()
	return m.closeFiles()
}

func (m *Models) closeFiles() error {
	var errs []error
	for _, model := range m.all() {
		errs = append(errs, model.file.close())
	}
	return errors.Join(errs...)
}

// Position is how far the models that serve the Index are, all of them:
// everything up to it is in the answers to calls that start later.
func (m *Models) Position() uint64 {
	return min(m.inventory.position(), m.movements.position())
}

// WaitFor returns once every model has folded the event at position. It fails
// with model_stopped when one has stopped before it, and with not_caught_up when
// ctx ends first; both are [fault.Unavailable]. A position that is not in the log
// yet is refused at once with after_beyond_log, which is [fault.Invalid].
func (m *Models) WaitFor(ctx context.Context, position uint64) error {
	return m.waitFor(ctx, position, m.all()...)
}

func (m *Models) waitFor(ctx context.Context, position uint64, models ...*model) error {
	for _, model := range models {
		if model.position() < position {
			// An answered position is durable, so only one that was made up is beyond.
			if head, err := m.store.Head(ctx); err == nil && position > head {
				return fault.New(fault.Invalid, "after_beyond_log",
					"position %d is beyond the end of the log, which is at %d; ask for one that was answered", position, head).
					With("after", position).With("head", head)
			}
			select {
			case m.awaited <- struct{}{}:
			default: // the feed has been told, and will not rest next time
			}
		}
		if err := model.waitFor(ctx, m.done, position); err != nil {
			return err
		}
	}
	return nil
}

// ModelStatus is how one model is doing.
type ModelStatus struct {
	Name     string `json:"name"`
	Version  int    `json:"version"`
	Position uint64 `json:"position"` // of the last event it has folded
	Head     uint64 `json:"head"`     // of the log
	Behind   uint64 `json:"behind"`   // how many events it has to go
	Waiting  string `json:"waiting"`  // why it cannot go on yet and tries again, "" while it can
	Stopped  string `json:"stopped"`  // why it goes no further, "" while it runs
}

// Status reports on every model, measured against the head of the log.
func (m *Models) Status(ctx context.Context) ([]ModelStatus, error) {
	head, err := m.store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("status of the read models: %w", err)
	}
	var all []ModelStatus
	for _, model := range m.all() {
		now := model.now()
		s := ModelStatus{Name: model.name, Version: model.version, Position: now.at, Head: head}
		s.Behind = max(head, s.Position) - s.Position
		if now.wait != nil {
			s.Waiting = now.wait.Error()
		}
		if now.stop != nil {
			s.Stopped = now.stop.Error()
		}
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

// Package stockledger embeds a whole inventory ledger in a Go program: the
// event store, the engine that carries out commands, and the read models that
// answer queries. The server in cmd/stockledger is this package behind NATS.
package stockledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/refusals"
	"github.com/stockledger/stockledger/internal/snapshots"
	"github.com/stockledger/stockledger/projections"
)

// Config says where a ledger lives and how strict it is. Dir must be set.
type Config struct {
	// Dir is the data directory. The log is Dir/log.db, the read models are in
	// Dir/models and can be deleted: they are built again from the log. Refused
	// commands are in Dir/refusals.db, and only there. Dir/snapshots.db is a
	// shortcut to long streams and can be deleted, too.
	Dir string
	// Store is the event store; nil is the SQLite file in Dir. A store that is
	// given is closed with the ledger.
	Store events.Store
	// Standby opens the ledger without carrying out commands: it follows the log,
	// answers queries, and refuses commands with the code standby until
	// [Ledger.Lead]. It is for a store that several processes have open, of which
	// one at a time is to carry out commands.
	Standby bool
	// RequireKnownLocations refuses levels at stock locations that were not created.
	RequireKnownLocations bool
	// CachedStreams bounds the aggregates kept in memory; 0 is 100,000.
	CachedStreams int
	// Refusals is how many refused commands are kept with their details, in
	// Dir/refusals.db; 0 is 100,000. All of them are counted.
	Refusals int
	// HoldRebuilt leaves a read model that is rebuilt because this program has a
	// new version of it for [projections.Models.Diff] and Switch. Without it, what
	// was rebuilt is switched to once it has caught up.
	HoldRebuilt bool
	// Walk compares the rows of the read models with the log in the background, a
	// little at a time and for as long as the ledger is open; see [Ledger.Drift].
	Walk bool
	// Planted serves an inventory model that counts wrong on purpose, to try out
	// how that is found and mended.
	Planted bool
	// Observe hears of every group of commands that was committed, see
	// [commands.Config]; nil is nobody.
	Observe func(commands, events int, took time.Duration)
	// Now is the ledger's clock; nil is time.Now.
	Now func() time.Time
	// Logger is told what a person must act on; nil is slog.Default().
	Logger *slog.Logger
}

// Ledger is an open ledger. Its methods may be called from many goroutines.
type Ledger struct {
	store  events.Store
	models *projections.Models
	engine *commands.Engine
	lock   *flock.Flock // of Dir, when there is no log in it whose lock it would be
	began  uint64       // where the log ended when the ledger was opened

	snapshots *snapshots.File
	refusals  *refusals.Log
	walker    *audit.Walker // nil: nobody walks
}

// Open opens the ledger in config.Dir, and creates it where there is none. It
// fails with an error that wraps events.ErrInUse when another process has it
// open, and with events.ErrOtherLog when the read models there were built from
// another log.
func Open(ctx context.Context, config Config) (*Ledger, error) {
	l := &Ledger{store: config.Store}
	if err := l.open(ctx, config); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Ledger) open(ctx context.Context, config Config) error {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if err := os.MkdirAll(config.Dir, 0o750); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	var err error
	if config.Dir, err = filepath.Abs(config.Dir); err != nil { // files in it are opened later, too
		return fmt.Errorf("data directory: %w", err)
	}
	if l.store == nil {
		store, err := sqlitestore.Open(filepath.Join(config.Dir, "log.db"))
		if err != nil {
			return err
		}
		l.store = store
	} else if err := l.occupy(config.Dir); err != nil {
		return err
	}
	if l.models, err = projections.Open(ctx, projections.Config{
		Dir: filepath.Join(config.Dir, "models"), Store: l.store, Logger: config.Logger,
		Planted: config.Planted, HoldRebuilt: config.HoldRebuilt,
	}); err != nil {
		return err
	}
	l.snapshots = snapshots.Open(ctx, snapshots.Config{
		Path: filepath.Join(config.Dir, "snapshots.db"), Log: l.store.LogID(), Logger: config.Logger,
	})
	if l.began, err = l.store.Head(ctx); err != nil {
		return err
	}
	l.engine, err = commands.Open(ctx, commands.Config{
		Store: l.store, Index: l.models, Snapshots: l.snapshots, Now: config.Now, Logger: config.Logger,
		RequireKnownLocations: config.RequireKnownLocations, CachedStreams: config.CachedStreams, Observe: config.Observe,
		Standby: config.Standby,
	})
	if err != nil {
		return err
	}
	l.refusals = refusals.Open(refusals.Config{
		Path: filepath.Join(config.Dir, "refusals.db"), Keep: config.Refusals, Now: config.Now, Logger: config.Logger,
	})
	if config.Walk {
		l.walker = audit.StartWalker(audit.WalkerConfig{Store: l.store, Models: l.models, Logger: config.Logger})
	}
	return nil
}

// occupy takes a data directory whose log is elsewhere. Two that fold into the same
// read models would spoil them.
func (l *Ledger) occupy(dir string) error {
	lock := flock.New(filepath.Join(dir, "ledger.lock"))
	held, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock the data directory: %w", err)
	}
	if !held {
		return fmt.Errorf("the data directory %s is %w; every ledger has one of its own", dir, events.ErrInUse)
	}
	l.lock = lock
	return nil
}

// Do carries out a command; see [commands.Engine.Do]. A refusal goes on record.
func (l *Ledger) Do(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
	answer, err := l.engine.Do(ctx, env, command)
	if err != nil {
		l.refused(env, command.Name(), err, func() string { return refusals.JSON(command) })
	}
	return answer, err
}

// DoJSON carries out the command of that name with a JSON body. That a body
// cannot be read goes on record, too.
func (l *Ledger) DoJSON(ctx context.Context, env commands.Envelope, name string, body []byte) (commands.Answer, error) {
	var answer commands.Answer
	command, err := commands.Decode(name, body)
	if err == nil {
		answer, err = l.engine.Do(ctx, env, command)
	}
	if err != nil {
		l.refused(env, name, err, func() string { return string(body[:min(len(body), refusals.MaxBody)]) })
	}
	return answer, err
}

// Lead begins to carry out commands, once everything in the log is known here. May
// is asked whether this process still may, before each append and before anything
// is refused; nil is that it always may. See [commands.Engine.Lead].
func (l *Ledger) Lead(ctx context.Context, may func() error) error { return l.engine.Lead(ctx, may) }

// Rest stops carrying out commands: those under way end, with the code standby if
// nothing was done about them, and the ledger follows the log again. It may Lead
// again. See [commands.Engine.Rest].
func (l *Ledger) Rest(ctx context.Context) error { return l.engine.Rest(ctx) }

// Leading reports whether this process carries out commands, from Lead to Rest.
func (l *Ledger) Leading() bool { return l.engine.Leading() }

// Warm reports whether the ledger knows all that the log held when it was opened,
// so that it could Lead at once.
func (l *Ledger) Warm() bool { return l.engine.Known() >= l.began }

// refused puts what err refused on record, unless it was asked on trial, or of a
// node that does not lead.
func (l *Ledger) refused(env commands.Envelope, name string, err error, body func() string) {
	if env.DryRun || fault.Code(err) == "standby" {
		return
	}
	l.refusals.Add(refusals.Attempt{
		Command: name, CommandID: env.Key, Actor: env.Actor, Reason: env.Reason, Reference: env.Reference,
		Correlation: env.Correlation, Err: err, Body: body,
		Position: l.engine.Known, // the store may be far away, and silent
	})
}

// Query answers the query of that name; see QueryNames and
// [projections.Models.Query].
func (l *Ledger) Query(ctx context.Context, name string, body []byte) (any, error) {
	if answer, known, err := l.refusals.Query(ctx, name, body); known {
		return answer, err
	}
	return l.models.Query(ctx, name, body)
}

// Recall answers a query at once, when the whole answer is in memory; see
// [projections.Models.Recall]. Query answers any other.
func (l *Ledger) Recall(name string, body []byte) (answer any, found bool) {
	return l.models.Recall(name, body)
}

// QueryNames are the names that Query knows, each with a line on what it answers.
func (l *Ledger) QueryNames() map[string]string {
	names := projections.QueryNames()
	maps.Copy(names, refusals.QueryNames())
	return names
}

// QueryShapes describes the queries that Query knows, by name.
func (l *Ledger) QueryShapes() map[string]projections.QueryShape {
	shapes := projections.QueryShapes()
	for name, about := range refusals.QueryNames() {
		asked, answer := refusals.Types(name)
		shapes[name] = projections.QueryShape{About: about, Asked: asked, Answer: answer}
	}
	return shapes
}

// An Error is why a command or a query was refused, or failed; errors.As finds it. Its
// Code is stable, and its Kind is what docs/commands.md calls the type.
type Error = fault.Error

// Code is the code of what [Ledger.Do], [Ledger.DoJSON] or [Ledger.Query] returned,
// such as insufficient_stock, "" for nil. docs/commands.md and docs/queries.md have all.
func Code(err error) string { return fault.Code(err) }

// Models are the read models, for queries with Go types.
func (l *Ledger) Models() *projections.Models { return l.models }

// What was checked, and what was found wrong.
type (
	// A Report is what a verification found.
	Report = audit.Report
	// A Check is one of the things that were checked.
	Check = audit.Check
	// A Finding is something that is wrong, and where.
	Finding = audit.Finding
	// A Drift is what the walk over the read models has found so far.
	Drift = audit.WalkState
)

// Verify reads the whole log and checks it, then every row that is served and
// the invariants, against books of its own. That something is wrong is in the
// report, its first findings in words; the error is that it could not look.
// Progress, which may be nil, hears of a stage and how many of a total are done.
func (l *Ledger) Verify(ctx context.Context, progress func(stage string, done, total uint64)) (Report, error) {
	return audit.Verify(ctx, audit.Config{Store: l.store, Models: l.models, Progress: progress})
}

// Drift is what the walk has found, walking being false when [Config.Walk] is not
// set. Rows that are wrong are counted until they are found to be right again.
func (l *Ledger) Drift() (found Drift, walking bool) {
	if l.walker == nil {
		return Drift{}, false
	}
	return l.walker.State(), true
}

// Cached is how many aggregates are in memory now.
func (l *Ledger) Cached() int { return l.engine.Cached() }

// Failed is closed when the event store has stopped for good, because it does not
// know what a failure left on the disk. Queries go on; every command is refused
// until the ledger is opened again.
func (l *Ledger) Failed() <-chan struct{} { return l.engine.Failed() }

// Events is the log.
func (l *Ledger) Events() events.Store { return l.store }

// Close ends the ledger: commands under way are committed and answered first.
func (l *Ledger) Close() error {
	var errs []error
	if l.walker != nil {
		l.walker.Close()
	}
	if l.engine != nil {
		errs = append(errs, l.engine.Close())
	}
	if l.snapshots != nil {
		errs = append(errs, l.snapshots.Close())
	}
	if l.refusals != nil {
		l.refusals.Close()
	}
	if l.models != nil {
		errs = append(errs, l.models.Close())
	}
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Unlock())
	}
	return errors.Join(errs...)
}

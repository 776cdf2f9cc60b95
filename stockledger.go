// Package stockledger embeds a whole inventory ledger in a Go program: the
// event store, the engine that carries out commands, and the read models that
// answer queries. The server in cmd/stockledger is this package behind NATS.
package stockledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/projections"
)

// Config says where a ledger lives and how strict it is. Dir must be set.
type Config struct {
	// Dir is the data directory. The log is Dir/log.db, the read models are in
	// Dir/models and can be deleted: they are built again from the log.
	Dir string
	// Store is the event store; nil is the SQLite file in Dir. A store that is
	// given is closed with the ledger.
	Store events.Store
	// RequireKnownLocations refuses levels at stock locations that were not created.
	RequireKnownLocations bool
	// CachedStreams bounds the aggregates kept in memory; 0 is 200,000.
	CachedStreams int
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
	if l.store == nil {
		store, err := sqlitestore.Open(filepath.Join(config.Dir, "log.db"))
		if err != nil {
			return err
		}
		l.store = store
	}
	var err error
	if l.models, err = projections.Open(ctx, projections.Config{
		Dir: filepath.Join(config.Dir, "models"), Store: l.store, Logger: config.Logger,
	}); err != nil {
		return err
	}
	l.engine, err = commands.Open(ctx, commands.Config{
		Store: l.store, Index: l.models, Now: config.Now, Logger: config.Logger,
		RequireKnownLocations: config.RequireKnownLocations, CachedStreams: config.CachedStreams,
	})
	return err
}

// Do carries out a command; see [commands.Engine.Do].
func (l *Ledger) Do(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
	return l.engine.Do(ctx, env, command)
}

// DoJSON carries out the command of that name with a JSON body.
func (l *Ledger) DoJSON(ctx context.Context, env commands.Envelope, name string, body []byte) (commands.Answer, error) {
	command, err := commands.Decode(name, body)
	if err != nil {
		return commands.Answer{}, err
	}
	return l.engine.Do(ctx, env, command)
}

// Query answers the query of that name; see [projections.Models.Query].
func (l *Ledger) Query(ctx context.Context, name string, body []byte) (any, error) {
	return l.models.Query(ctx, name, body)
}

// Models are the read models, for queries with Go types.
func (l *Ledger) Models() *projections.Models { return l.models }

// Failed is closed when the event store has stopped for good, because it does not
// know what a failure left on the disk. Queries go on; every command is refused
// until the ledger is opened again.
func (l *Ledger) Failed() <-chan struct{} { return l.engine.Failed() }

// Events is the log.
func (l *Ledger) Events() events.Store { return l.store }

// Close ends the ledger: commands under way are committed and answered first.
func (l *Ledger) Close() error {
	var errs []error
	if l.engine != nil {
		errs = append(errs, l.engine.Close())
	}
	if l.models != nil {
		errs = append(errs, l.models.Close())
	}
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	return errors.Join(errs...)
}

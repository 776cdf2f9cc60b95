package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/esdbstore"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// A logPlace is where a log is, or is to be.
type logPlace interface {
	// open opens the log that is there.
	open(ctx context.Context) (events.Store, error)
	// make opens the log of that identity to copy into it, and makes it if there is
	// none.
	make(ctx context.Context, logID string) (events.Store, error)
	// settle gives the log its place, once the copy is complete and closed.
	settle() error
	// same reports whether the other one is the same place, as far as can be told
	// without looking.
	same(other logPlace) bool
	// shown is its URL without secrets.
	shown() string
}

// placeOf reads a URL.
func placeOf(url string) (logPlace, error) {
	if err := checkStoreURL(url); err != nil {
		return nil, err
	}
	if storeKind(url) == kindSQLite {
		return directory{dirOf(url)}, nil
	}
	return servers{url}, nil
}

// servers are the place of a log on servers of another program.
type servers struct{ url string }

func (p servers) shown() string { return natsapi.Redacted(p.url) }

func (p servers) same(other logPlace) bool { return p == other }

// openLogWithin bounds how long servers may take to be reached and give a log.
const openLogWithin = time.Minute

func (p servers) open(ctx context.Context) (events.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, openLogWithin)
	defer cancel()
	// Not openStore, which would make a log where there is none.
	var store events.Store
	var err error
	switch storeKind(p.url) {
	case kindNATS:
		store, err = natsstore.Open(ctx, natsstore.Config{URL: p.url, Existing: true, Logger: untold})
	default:
		store, err = esdbstore.Open(ctx, esdbstore.Config{URL: p.url, Existing: true, Logger: untold})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no ledger of that name")
	}
	return store, err
}

func (p servers) make(ctx context.Context, logID string) (events.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, openLogWithin)
	defer cancel()
	return openStore(ctx, p.url, logID, untold)
}

func (p servers) settle() error { return nil }

// untold is for stores that are open for a moment: what goes wrong is told once, by
// the error that it ends with.
var untold = slog.New(slog.DiscardHandler)

// A directory is the place of a log in a file.
type directory struct{ path string }

// unfinishedCopy is the name of a log that is being copied. It gets that of a log
// when it is complete, so that no ledger is ever served from half of one.
const unfinishedCopy = "copying.db"

func (d directory) log() string        { return filepath.Join(d.path, "log.db") }
func (d directory) unfinished() string { return filepath.Join(d.path, unfinishedCopy) }
func (d directory) shown() string      { return "sqlite:" + d.path }

func (d directory) same(other logPlace) bool {
	o, ok := other.(directory)
	return ok && sameFile(d.path, o.path)
}

func (d directory) open(context.Context) (events.Store, error) {
	if err := isLog(d.log()); err != nil {
		if _, copying := os.Stat(d.unfinished()); copying == nil {
			return nil, fmt.Errorf("there is only a copy in it that is not complete, %s", unfinishedCopy)
		}
		return nil, fmt.Errorf("there is no ledger in it: %w", err)
	}
	return sqlitestore.Open(d.log())
}

func (d directory) make(_ context.Context, logID string) (events.Store, error) {
	_, err := os.Stat(d.log())
	if err == nil {
		if err := d.forget(); err != nil {
			return nil, err
		}
		return sqlitestore.Open(d.log())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(d.path, 0o750); err != nil {
		return nil, err
	}
	made, err := sqlitestore.Create(d.unfinished(), logID)
	if err == nil || errors.Is(err, events.ErrInUse) {
		return made, err
	}
	begun, again := sqlitestore.Open(d.unfinished())
	if again != nil {
		return nil, errors.Join(err, again)
	}
	if begun.LogID() != logID {
		return nil, errors.Join(fmt.Errorf("there is a copy of another log in it, %s, that was not completed: %s; remove it", begun.LogID(), d.unfinished()), begun.Close())
	}
	return begun, nil
}

func (d directory) settle() error {
	if _, err := os.Stat(d.unfinished()); errors.Is(err, fs.ErrNotExist) {
		return nil // the log had its place before
	}
	// A link, because it replaces nothing: somebody may have made a ledger meanwhile.
	if err := os.Link(d.unfinished(), d.log()); err != nil {
		return err
	}
	if err := syncDirectory(d.path); err != nil {
		return err
	}
	return d.forget()
}

// forget removes the name that the log had before it was complete.
func (d directory) forget() error {
	if !sameFile(d.unfinished(), d.log()) {
		return nil
	}
	return errors.Join(os.Remove(d.unfinished()), os.Remove(d.unfinished()+".lock"))
}

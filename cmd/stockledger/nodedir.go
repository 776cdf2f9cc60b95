package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/backup"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// sharedName is the file that says of a data directory that its log is elsewhere. It
// is locked while a node has the directory open, as log.db is where there is one.
const sharedName = "shared-store.json"

// A sharedLog is the log that the read models in a data directory are of, when it is
// in an event store that nodes share.
type sharedLog struct {
	Store string `json:"store"` // its URL, without secrets
	LogID string `json:"log_id"`
}

// occupy takes a data directory for a node of a ledger whose log is shared. It is an
// error that wraps [events.ErrInUse] when another process has it.
func occupy(dir string, config hostConfig) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	path := filepath.Join(dir, sharedName)
	lock := flock.New(path + ".lock")
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("the data directory %s is %w; every node has one of its own: name another with --data", dir, events.ErrInUse)
	}
	text, err := json.Marshal(sharedLog{natsapi.Redacted(config.storeURL), config.store.LogID()})
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), lock.Unlock())
	}
	return lock.Unlock, nil
}

// sharedIn is the shared log that a data directory belongs to; nil is none.
func sharedIn(dir string) (*sharedLog, error) {
	text, err := os.ReadFile(filepath.Join(dir, sharedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var at sharedLog
	if err := json.Unmarshal(text, &at); err != nil {
		return nil, fmt.Errorf("%s: %w", sharedName, err)
	}
	return &at, nil
}

// mayBegin is an error when there is no log in a data directory, and one is being put
// there, or was when that was interrupted. A ledger that began there would have none of
// its stock, take commands all the same, and be in its place for good.
func mayBegin(data string) error {
	if _, err := os.Stat(filepath.Join(data, "log.db")); err == nil {
		return nil
	}
	found, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--data: %w", err)
	}
	for _, entry := range found {
		name := entry.Name()
		if name == backup.Restoring || name == unfinishedCopy || strings.HasPrefix(name, unfinishedImport) {
			return fmt.Errorf("--data %s: there is no ledger in it, but %s, of one that is restored, imported or copied into it, or was when that "+
				"was interrupted; do that again, or remove what is left of it to begin an empty ledger", data, name)
		}
	}
	return nil
}

// hasLog is an error when there is no log in a data directory, and says where it is
// instead, if that is known.
func hasLog(data string) error {
	err := isLog(filepath.Join(data, "log.db"))
	if err == nil {
		return nil
	}
	if at, _ := sharedIn(data); at != nil {
		return errElsewhere{data, at.Store}
	}
	return fmt.Errorf("--data %s: there is no ledger in it: %w", data, err)
}

// isLog is an error when there is no file at path, or an empty one, which would be
// made a new log when it is opened.
func isLog(path string) error {
	file, err := os.Stat(path)
	if err == nil && file.Size() == 0 {
		return fmt.Errorf("%s is empty", path)
	}
	return err
}

// errElsewhere is that the log of a data directory is in an event store that nodes
// share.
type errElsewhere struct{ data, store string }

func (e errElsewhere) Error() string {
	return fmt.Sprintf("--data %s: the log of this ledger is not in it but at %s; leave --data out and name a node that runs with --server URL, "+
		"or copy the log into a directory first:\n  %s", e.data, e.store, shellLine("stockledger", "copy-log", "--from", e.store, "--to", "sqlite:DIR"))
}

// Is makes it one of the errors of what is not there.
func (e errElsewhere) Is(target error) bool { return target == fs.ErrNotExist }

// mayServe is an error when a data directory is of another kind of ledger than the
// store: one with a log of its own, or one whose log is shared. Served with the other
// kind its log would be left behind unnoticed.
func mayServe(dir, store string) error {
	at, err := sharedIn(dir)
	if err != nil {
		return fmt.Errorf("--data %s: %w", dir, err)
	}
	_, err = os.Stat(filepath.Join(dir, "log.db"))
	switch own := err == nil; {
	case own && isShared(store):
		return fmt.Errorf("--data %s: there is a ledger with a log of its own in it, log.db, which --store %s would leave behind; name another directory "+
			"(to move that log, stop its ledger and run stockledger copy-log)", dir, natsapi.Redacted(store))
	case !own && at != nil && !isShared(store):
		return fmt.Errorf("--data %s: it belongs to a ledger whose log is at %s; serve it with that --store, or name another directory", dir, at.Store)
	}
	return nil
}

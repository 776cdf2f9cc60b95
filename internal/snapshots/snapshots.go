// Package snapshots keeps snapshots of long streams in a SQLite file, the newest
// one of each.
//
// The file is disposable: deleted, or spoilt by a power cut, it costs a replay of
// the streams it held, and nothing else. So nothing in it is worth waiting for a
// disk, and a file that cannot be read is thrown away and begun anew. What is read
// from it is believed by nobody before it was checked against the log, and that is
// the engine's to do.
package snapshots

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"sync"

	"github.com/stockledger/stockledger/commands"
)

// Config is what a File needs. Path and Log must be set.
type Config struct {
	Path   string       // of the file
	Log    string       // the id of the log whose streams these are
	Logger *slog.Logger // nil is slog.Default()
}

// File keeps snapshots; it implements [commands.Snapshots]. Its methods may be
// called from many goroutines at once. Once closed it keeps nothing and finds
// nothing.
type File struct {
	config Config
	seed   maphash.Seed

	mu    sync.RWMutex // held whole while db is replaced
	db    *sql.DB      // nil when closed, or when there could be none
	known sync.Map     // hashes of the streams that may have a snapshot; most have none and need not ask the file
}

// Open opens the file, and creates it where there is none. One of another log or
// another version of the program, or one that cannot be read, is replaced. Open
// does not fail: where there can be no file no snapshots are kept, and the logger
// is told.
func Open(ctx context.Context, config Config) *File {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	f := &File{config: config, seed: maphash.MakeSeed()}
	why := f.open(ctx)
	if why != nil {
		f.replace(ctx, why)
	}
	return f
}

// errReplaced is why a file that is sound is replaced.
var errReplaced = errors.New("it is not of this log and this version of the program")

// open takes the file into use, if it is of use.
func (f *File) open(ctx context.Context) (err error) {
	db, err := connect(f.config.Path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = db.Close() // there is a better error
		}
	}()
	log, streams, err := contents(ctx, db, f.config.Log)
	if err != nil {
		return err
	}
	if log != f.config.Log {
		return fmt.Errorf("%w: it is of log %s", errReplaced, log)
	}
	for _, stream := range streams {
		f.know(stream)
	}
	f.db = db
	return nil
}

// replace throws the file away and makes a new one.
func (f *File) replace(ctx context.Context, why error) {
	if f.db != nil {
		_ = f.db.Close() // it is of no use
		f.db = nil
	}
	f.config.Logger.Warn("snapshots are thrown away; they are taken again as streams are loaded", "path", f.config.Path, "err", why)
	f.known.Clear()
	err := remove(f.config.Path)
	if err == nil {
		err = f.open(ctx)
	}
	if err != nil {
		f.config.Logger.Warn("no snapshots are kept", "path", f.config.Path, "err", err)
	}
}

// Close ends the use of the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.db == nil {
		return nil
	}
	db := f.db
	f.db = nil
	return db.Close()
}

// Snapshot implements [commands.Snapshots].
func (f *File) Snapshot(ctx context.Context, stream string) (s commands.Snapshot, found bool, err error) {
	if _, may := f.known.Load(f.hash(stream)); !may {
		return s, false, nil
	}
	err = f.use(ctx, func(db *sql.DB) error {
		s, found, err = get(ctx, db, stream)
		return err
	})
	if err != nil {
		return s, false, fmt.Errorf("read snapshot of %s: %w", stream, err)
	}
	return s, found, nil
}

// Keep implements [commands.Snapshots].
func (f *File) Keep(ctx context.Context, s commands.Snapshot) error {
	if err := f.use(ctx, func(db *sql.DB) error { return put(ctx, db, s) }); err != nil {
		return fmt.Errorf("keep snapshot of %s: %w", s.Stream, err)
	}
	f.know(s.Stream)
	return nil
}

// Discard implements [commands.Snapshots].
func (f *File) Discard(ctx context.Context, stream string) error {
	if err := f.use(ctx, func(db *sql.DB) error { return drop(ctx, db, stream) }); err != nil {
		return fmt.Errorf("discard snapshot of %s: %w", stream, err)
	}
	return nil
}

// use lends the database to do, if there is one, and replaces it when it turns
// out to be spoilt.
func (f *File) use(ctx context.Context, do func(*sql.DB) error) error {
	f.mu.RLock()
	db := f.db
	var err error
	if db != nil {
		err = do(db)
	}
	f.mu.RUnlock()
	if !spoilt(err) {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.db == db { // and not replaced by another meanwhile
		f.replace(context.WithoutCancel(ctx), err)
	}
	return nil // there was nothing, and nothing was kept
}

func (f *File) know(stream string) { f.known.Store(f.hash(stream), struct{}{}) }

func (f *File) hash(stream string) uint64 { return maphash.String(f.seed, stream) }

// remove removes the file and what SQLite puts beside it.
func remove(path string) error {
	for _, name := range []string{path, path + "-wal", path + "-shm", path + "-journal"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

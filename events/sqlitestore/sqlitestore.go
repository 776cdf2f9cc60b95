// Package sqlitestore is the ledger's log in one SQLite file, for one process on
// one machine. It is the default store.
//
// One call of Append is one transaction and one fsync, however many commits it
// carries, so whoever groups commits pays for the disk once per group. The log
// is the table events, one row per event and append-only, which any SQLite tool
// can read; the table places is an index on it, see places.go.
package sqlitestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

// format is the version of the tables. A store reads its own format only.
const format = 1

// schema is format 1.
const schema = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE events (
	position INTEGER PRIMARY KEY,
	stream TEXT NOT NULL,
	version INTEGER NOT NULL,
	type TEXT NOT NULL,
	data BLOB NOT NULL,
	meta BLOB NOT NULL,
	prev BLOB NOT NULL,
	hash BLOB NOT NULL
);
CREATE TABLE places (
	stream INTEGER NOT NULL, -- first 8 bytes of the SHA-256 of the stream's name
	version INTEGER NOT NULL,
	position INTEGER NOT NULL,
	PRIMARY KEY (stream, version, position)
) WITHOUT ROWID;`

const (
	// readers is how many reads go on at once; more wait for their turn.
	readers = 4
	// moveAll is how many bytes are appended until the writer moves what the mover has
	// not moved yet, which is little, so that SQLite begins the write-ahead log anew.
	// 32 MB are read in a fraction of a second after a crash.
	moveAll = 32 << 20
	// walLimit is how many bytes the write-ahead log may have before Append waits
	// for a moment without reads to begin it anew. Without, reads that overlap
	// for ever would let it grow for ever.
	walLimit = 256 << 20
)

// Store is an [events.Store] in a SQLite file.
type Store struct {
	path  string
	vfs   string // of SQLite; "" is the operating system's files
	logID string
	lock  *flock.Flock
	tail  *events.Tail
	pool  chan *reader  // readers that are free
	done  chan struct{} // closed by Close

	places places // has a lock of its own

	mu       sync.Mutex // of the writer, which is all that follows
	writer   *writer
	mover    *mover
	heads    heads
	moveAll  int     // bytes
	unmoved  int     // bytes appended since the writer moved all there was
	walLimit int64   // bytes
	walExtra int64   // what it was when it could not be begun anew
	left     *reader // after a failure, for as long as the process lives
	failed   error   // why nothing more is appended: a commit failed, or the store is closed
}

// Open opens the log in the file at path, and makes it if there is none. It
// fails with [events.ErrInUse] while this or another process has it open.
//
// A log that was not closed, because its process or machine died, opens with
// all that was acknowledged.
func Open(path string) (*Store, error) { return open(path, "", "") }

// OpenOn is Open, with the files of the log reached through the virtual file system
// that is registered with SQLite as vfs, such as one that makes disks fail.
func OpenOn(vfs, path string) (*Store, error) { return open(path, vfs, "") }

// Create makes an empty log of that identity, a UUID, in the file at path, in
// which there must be nothing yet. It is for a log that is brought here from
// elsewhere and stays the log that it is.
func Create(path, logID string) (*Store, error) {
	if id, err := uuid.Parse(logID); err != nil || id.String() != logID {
		return nil, fmt.Errorf("create log %s: its identity %q is no UUID", path, logID)
	}
	return open(path, "", logID)
}

// open opens the log in the file at path, or makes one: of any identity if logID
// is "".
func open(path, vfs, logID string) (*Store, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // so that the lock is the file's, whatever it is called
	}
	held, err := lock(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s := &Store{
		path: path, vfs: vfs, lock: held, heads: newHeads(), places: newPlaces(),
		pool: make(chan *reader, readers), done: make(chan struct{}), moveAll: moveAll, walLimit: walLimit,
	}
	if err := s.open(context.Background(), logID); err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", path, err), s.release())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, logID string) error {
	if err := private(s.path); err != nil {
		return err
	}
	if err := checkWAL(s.path + "-wal"); err != nil {
		return err
	}
	c, err := dial(ctx, s.path, s.vfs, "busy_timeout = 1000", "journal_mode = WAL", "synchronous = FULL",
		// SQLite would not say that a checkpoint of its own had failed.
		"wal_autocheckpoint = 0",
		// 8 MiB: with 64, a COMMIT that split a page of the index took 80 microseconds
		// more, for SQLite looks through all of the cache then.
		"cache_size = -8192")
	if err != nil {
		return err
	}
	s.writer = &writer{conn: c}
	if mode, err := c.row(ctx, "PRAGMA journal_mode"); err != nil || mode[0] != "wal" {
		return errors.Join(err, fmt.Errorf("its file system has no write-ahead logs for SQLite: journal mode is %v", mode))
	}
	if err := s.identify(ctx, c, logID); err != nil {
		return err
	}
	// Moving the write-ahead log to the file and syncing it makes durable what
	// the dead process wrote but could not sync.
	if _, err := c.row(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	if err := s.writer.prepare(); err != nil {
		return err
	}
	for range readers {
		r, err := newReader(ctx, s.path, s.vfs)
		if err != nil {
			return err
		}
		s.pool <- r
	}
	if s.mover, err = startMover(ctx, s.path, s.vfs); err != nil {
		return err
	}
	return s.locate(ctx, c)
}

// private makes an empty file that only its owner may read, unless there is one.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // G304: the path is the operator's
	if err != nil {
		return err
	}
	return f.Close()
}

// identify reads what log this is, after making it one if the file is empty. A log
// that is to have the identity logID must be made.
func (s *Store) identify(ctx context.Context, c *conn, logID string) error {
	tables, err := c.row(ctx, "SELECT count(*), sum(name = 'meta') FROM sqlite_schema")
	if err != nil {
		return err
	}
	if tables[0] == int64(0) {
		return s.create(ctx, c, cmp.Or(logID, uuid.NewString()))
	}
	if logID != "" {
		return errors.New("there is something in the file already")
	}
	if tables[1] == int64(0) {
		return errors.New("this SQLite file is not a log of Stockledger")
	}
	made, err := c.row(ctx, "SELECT value FROM meta WHERE name = 'format'")
	if err != nil {
		return err
	}
	if n, _ := made[0].(int64); n != format {
		return fmt.Errorf("written in format %v; this version of Stockledger reads format %d only", made[0], format)
	}
	id, err := c.row(ctx, "SELECT value FROM meta WHERE name = 'log'")
	if err != nil {
		return err
	}
	s.logID, _ = id[0].(string)
	return nil
}

func (s *Store) create(ctx context.Context, c *conn, logID string) error {
	s.logID = logID
	return c.exec(ctx, fmt.Sprintf("BEGIN IMMEDIATE; %s INSERT INTO meta VALUES ('format', %d), ('log', '%s'), ('indexed', 0); COMMIT",
		schema, format, s.logID))
}

// locate finds the head, and the places that did not get into their table.
func (s *Store) locate(ctx context.Context, c *conn) error {
	ends, err := c.row(ctx, `SELECT coalesce((SELECT max(position) FROM events), 0), value FROM meta WHERE name = 'indexed'`)
	if err != nil {
		return err
	}
	head, indexed := uintOf(ends[0]), uintOf(ends[1])
	if indexed > head {
		return fmt.Errorf("the log ends at position %d, and its index at %d: events are missing", head, indexed)
	}
	unplaced, err := s.writer.unplaced(ctx, indexed)
	if err != nil {
		return err
	}
	s.places.through = indexed
	s.places.add(unplaced)
	s.tail = events.NewTail(head)
	return nil
}

// LogID implements [events.Store].
func (s *Store) LogID() string { return s.logID }

// Head implements [events.Store].
func (s *Store) Head(ctx context.Context) (uint64, error) {
	select {
	case <-s.done:
		return 0, fmt.Errorf("head of %s: %w", s.path, events.ErrClosed)
	default:
		return s.tail.Head(), ctx.Err()
	}
}

// Close implements [events.Store]. It leaves one file, complete, without a
// write-ahead log beside it. Closing again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	close(s.done)
	s.tail.Close()
	var err error
	closing := readers
	if s.hearMover(); s.failed == nil {
		err = s.settle(context.Background())
	} else {
		// With its last connection SQLite moves the write-ahead log to the file and
		// removes it. On a disk that has failed nobody knows what became of the file,
		// and the write-ahead log has all of it. So one connection stays, and the lock,
		// until the process ends: whoever opens the log next begins with both files.
		s.left = <-s.pool
		closing--
	}
	s.failed = events.ErrClosed
	for range closing {
		err = errors.Join(err, (<-s.pool).close())
	}
	if err = errors.Join(err, s.release()); err != nil {
		return fmt.Errorf("close log %s: %w", s.path, err)
	}
	return nil
}

// release lets go of the file. SQLite moves the write-ahead log to it when the
// last connection closes.
func (s *Store) release() error {
	var err error
	for len(s.pool) > 0 { // only after a failed open
		err = errors.Join(err, (<-s.pool).close())
	}
	if s.mover != nil {
		err = errors.Join(err, s.mover.close())
	}
	if s.writer != nil {
		err = errors.Join(err, s.writer.conn.close())
	}
	if s.left != nil {
		return err
	}
	return errors.Join(err, s.lock.Unlock())
}

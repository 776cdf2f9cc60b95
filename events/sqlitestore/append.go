package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/stockledger/stockledger/events"
)

// several is how many rows one statement inserts where there are as many. More, or
// statements of all the powers of two, were not measurably faster.
const several = 8

// writer is the one connection that writes, with its statements.
type writer struct {
	conn                    *conn
	begin, commit, rollback *stmt
	event, eventSeveral     *stmt
	place, placeSeveral     *stmt
	indexed, version        *stmt

	records []events.Recorded // of the append under way; its memory is used again
}

func (w *writer) prepare() error {
	const (
		event = "INSERT INTO events (position, stream, version, type, data, meta, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
		place = "INSERT OR IGNORE INTO places (stream, version, position) VALUES (?, ?, ?)"
	)
	return w.conn.keep(map[string]**stmt{
		"BEGIN IMMEDIATE": &w.begin,
		"COMMIT":          &w.commit,
		"ROLLBACK":        &w.rollback,
		event:             &w.event,
		place:             &w.place,
		event + strings.Repeat(", (?, ?, ?, ?, ?, ?, ?, ?)", several-1): &w.eventSeveral,
		place + strings.Repeat(", (?, ?, ?)", several-1):                &w.placeSeveral,
		"UPDATE meta SET value = ? WHERE name = 'indexed'":              &w.indexed,
		`SELECT e.version FROM places p JOIN events e ON e.position = p.position
			WHERE p.stream = ? AND e.stream = ? ORDER BY p.version DESC LIMIT 1`: &w.version,
	})
}

// unplaced lists the streams, versions and positions of the events after a
// position.
func (w *writer) unplaced(ctx context.Context, after uint64) (found []events.Recorded, err error) {
	s, err := w.conn.prepare("SELECT position, stream, version FROM events WHERE position > ? ORDER BY position")
	if err != nil {
		return nil, err
	}
	defer s.close()
	err = s.query(ctx, func(v []driver.Value) error {
		found = append(found, events.Recorded{Position: uintOf(v[0]), Stream: textOf(v[1]), Version: uintOf(v[2])})
		return nil
	}, intOf(after))
	return found, err
}

// Append implements [events.Store]. All commits of one call are one transaction.
//
// When the disk fails to write a transaction, or to make it durable, the store
// stops: that and every later Append fail until it is opened again, because what a
// failed fsync left behind is not known, and a second one may wrongly succeed. When
// the disk has no room, that Append fails, and a later one may find some.
func (s *Store) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, nil, commits)
}

// AppendAt implements [events.Store].
func (s *Store) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, &head, commits)
}

// append records commits, behind head if that is given.
func (s *Store) append(ctx context.Context, head *uint64, commits []events.Commit) ([]uint64, error) {
	spans := make([][]events.Span, len(commits))
	for i, c := range commits {
		spans[i] = c.Spans()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hearMover(); s.failed != nil {
		return nil, fmt.Errorf("append to log %s: %w: %w", s.path, events.ErrStopped, s.failed)
	}
	if err := ctx.Err(); err != nil || len(commits) == 0 {
		return nil, err
	}
	if at := s.tail.Head(); head != nil && at != *head {
		return nil, fmt.Errorf("append at %d: the log is at position %d: %w", *head, at, events.ErrConflict)
	}
	s.heads.trim()
	ctx = context.WithoutCancel(ctx) // no append is abandoned half way
	recorded, refusal, err := s.transact(ctx, commits, spans)
	if err != nil {
		s.heads.forget()
		return nil, fmt.Errorf("append to log %s: %w", s.path, err)
	}
	return recorded, refusal
}

// hearMover stops the store if the disk has failed the mover.
func (s *Store) hearMover() {
	if err := s.mover.failed.Load(); err != nil && s.failed == nil {
		s.failed = fmt.Errorf("its write-ahead log could not be moved: %w", *err)
	}
}

// transact records the commits before the first that conflicts, and returns
// their positions and the refusal of that one. After an error none is recorded,
// unless the error came of making them durable.
func (s *Store) transact(
	ctx context.Context, commits []events.Commit, spans [][]events.Span,
) (positions []uint64, refusal, err error) {
	if err := s.writer.begin.exec(ctx); err != nil {
		return nil, nil, err
	}
	n, refusal, err := s.accept(ctx, spans)
	if err != nil || n == 0 {
		return nil, refusal, errors.Join(err, s.abandon(ctx, err))
	}
	records, positions := number(s.writer.records[:0], s.tail.Head(), commits[:n])
	defer func() {
		clear(records)
		s.writer.records = records
	}()
	if err := s.writer.insert(ctx, records); err != nil {
		return nil, nil, errors.Join(err, s.abandon(ctx, err))
	}
	// Twice as many, so that a generation is written before the next is full.
	placed, err := s.writer.index(ctx, &s.places, 2*len(records))
	if err != nil {
		return nil, nil, errors.Join(err, s.abandon(ctx, err))
	}
	if err := s.writer.commit.exec(ctx); err != nil {
		if !isFull(err) {
			s.failed = fmt.Errorf("a commit failed: %w", err)
		}
		return nil, nil, errors.Join(err, s.abandon(ctx, err))
	}
	s.places.wrote(placed)
	s.places.add(records)
	s.tail.Add(records...)
	size := bytesIn(records)
	s.mover.appended(size)
	s.moveRest(ctx, size)
	s.shorten(ctx)
	return positions, refusal, nil
}

// moveRest moves what the mover has not, now and then: the mover is never quite done
// while there are appends, and only when all has moved SQLite begins the write-ahead
// log anew.
func (s *Store) moveRest(ctx context.Context, appended int) {
	if s.unmoved += appended + pagesPerAppend*pageSize; s.unmoved < s.moveAll {
		return
	}
	s.unmoved = 0
	_, _ = s.checkpoint(ctx, "PASSIVE") // what cannot be moved now stays where it is
}

// shorten begins the write-ahead log anew when it is too long. If somebody reads
// for longer than the busy timeout it stays, until it is as long again.
func (s *Store) shorten(ctx context.Context) {
	info, err := os.Stat(s.path + "-wal")
	if err != nil || info.Size() < s.walLimit+s.walExtra {
		return
	}
	s.walExtra = 0
	if busy, err := s.checkpoint(ctx, "TRUNCATE"); err != nil || busy {
		s.walExtra = info.Size()
	}
}

// checkpoint moves the write-ahead log to the file, unless the mover does, or the disk
// has failed to. A sync that fails stops the store: the next one would succeed
// without what this one lost.
func (s *Store) checkpoint(ctx context.Context, mode string) (busy bool, err error) {
	s.mover.moving.Lock() // SQLite gives up at once while another connection moves it
	defer s.mover.moving.Unlock()
	if failed := s.mover.failed.Load(); failed != nil {
		return false, *failed
	}
	row, err := s.writer.conn.row(ctx, "PRAGMA wal_checkpoint("+mode+")")
	if isFailedSync(err) {
		s.failed = fmt.Errorf("its write-ahead log could not be moved: %w", err)
	}
	return err == nil && row[0] != int64(0), err
}

// abandon rolls back a transaction that came to nothing because of cause. One that
// can not even be rolled back stops the store.
func (s *Store) abandon(ctx context.Context, cause error) error {
	err := s.writer.rollback.exec(ctx)
	if isFull(cause) && code(err) == sqlite3.SQLITE_ERROR {
		return nil // no transaction is active: SQLite has rolled it back itself
	}
	if err != nil && s.failed == nil {
		s.failed = fmt.Errorf("a rollback failed: %w", err)
	}
	return err
}

// isFull reports whether a disk that has no room is to blame for the failure of a
// transaction. SQLite says so only of writes, which come before the fsync: nothing
// is recorded, everything is rolled back, and the next commit may find room.
func isFull(err error) bool { return code(err) == sqlite3.SQLITE_FULL }

// isFailedSync reports whether what was written before may or may not be on the disk.
func isFailedSync(err error) bool {
	failed, ok := errors.AsType[*sqlite.Error](err)
	return ok && failed.Code() == sqlite3.SQLITE_IOERR_FSYNC
}

// code is the primary result code of SQLite, 0 if err is not from there.
func code(err error) int {
	if failed, ok := errors.AsType[*sqlite.Error](err); ok {
		return failed.Code() & 0xff
	}
	return 0
}

// accept counts the commits before the first whose streams are not at the
// versions it expects, and says why that one is refused.
func (s *Store) accept(ctx context.Context, spans [][]events.Span) (n int, refusal, err error) {
	for n, commit := range spans {
		for _, span := range commit {
			at, err := s.version(ctx, span.Stream)
			if err != nil {
				return 0, nil, err
			}
			if at != span.Before {
				return n, fmt.Errorf("append to %s: it is at version %d, not %d: %w",
					span.Stream, at, span.Before, events.ErrConflict), nil
			}
		}
		for _, span := range commit {
			s.heads.set(span.Stream, span.After)
		}
	}
	return len(spans), nil, nil
}

// version is the version a stream is at, counting what is being appended.
func (s *Store) version(ctx context.Context, stream string) (version uint64, err error) {
	if version, known := s.heads.version(stream); known {
		return version, nil
	}
	if version = s.places.last(stream); version == 0 {
		err = s.writer.version.query(ctx, func(v []driver.Value) error {
			version = uintOf(v[0])
			return nil
		}, s.places.key(stream), stream)
	}
	if err == nil {
		s.heads.set(stream, version)
	}
	return version, err
}

// number appends the events of the commits, which get the positions after head, to
// records, and returns them and the last position of each commit.
func number(records []events.Recorded, head uint64, commits []events.Commit) ([]events.Recorded, []uint64) {
	ends := make([]uint64, 0, len(commits))
	for _, c := range commits {
		for _, e := range c {
			head++
			e.Position = head
			records = append(records, e)
		}
		ends = append(ends, head)
	}
	return records, ends
}

func bytesIn(records []events.Recorded) (n int) {
	for i := range records {
		n += len(records[i].Data) + len(records[i].Meta)
	}
	return n
}

// insert writes events.
func (w *writer) insert(ctx context.Context, records []events.Recorded) error {
	for len(records) > 0 {
		s, n := w.event, 1
		if len(records) >= several {
			s, n = w.eventSeveral, several
		}
		for i := range records[:n] {
			e := &records[i]
			s.bind(intOf(e.Position), e.Stream, intOf(e.Version), e.Type, bytesOf(e.Data), bytesOf(e.Meta), e.Prev[:], e.Hash[:])
		}
		if err := s.exec(ctx); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// index writes up to n places that are due, and returns how many.
func (w *writer) index(ctx context.Context, p *places, n int) (int, error) {
	rows, last := p.due(n)
	n = len(rows)
	for len(rows) > 0 {
		s, k := w.place, 1
		if len(rows) >= several {
			s, k = w.placeSeveral, several
		}
		for _, r := range rows[:k] {
			s.bind(r.key, intOf(r.version), intOf(r.position))
		}
		if err := s.exec(ctx); err != nil {
			return 0, err
		}
		rows = rows[k:]
	}
	if last {
		return n, w.indexed.exec(ctx, intOf(p.upTo))
	}
	return n, nil
}

// settle writes all places that are not in the table yet.
func (s *Store) settle(ctx context.Context) error {
	for !s.places.settled() {
		s.places.all()
		if err := s.writer.begin.exec(ctx); err != nil {
			return err
		}
		n, err := s.writer.index(ctx, &s.places, math.MaxInt)
		if err != nil {
			return errors.Join(err, s.abandon(ctx, err))
		}
		if err := s.writer.commit.exec(ctx); err != nil {
			return errors.Join(err, s.abandon(ctx, err))
		}
		s.places.rows = s.places.rows[n:]
	}
	return nil
}

// intOf is v as SQLite has numbers. Positions and versions are counted from 1
// and never get near its bound.
func intOf(v uint64) int64 { return int64(v) } //nolint:gosec // G115: see above

func uintOf(v driver.Value) uint64 {
	n, _ := v.(int64)
	return uint64(n) //nolint:gosec // G115: written by intOf
}

// bytesOf is b, but never nil, which would be NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

package snapshots

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/stockledger/stockledger/commands"
)

// version is that of the tables.
const version = 1

const schema = `
CREATE TABLE log (id TEXT NOT NULL);
CREATE TABLE snapshots (
	stream  TEXT PRIMARY KEY,
	version INTEGER NOT NULL,
	hash    BLOB NOT NULL,
	format  INTEGER NOT NULL,
	sum     BLOB NOT NULL,
	state   BLOB NOT NULL
) WITHOUT ROWID; -- one tree, which cannot contradict another`

// pragmas make writing cheap. A file that a power cut spoils is noticed and made
// anew, so nothing is synced, which would hold up the log on the same disk.
var pragmas = []string{"journal_mode(WAL)", "synchronous(OFF)", "busy_timeout(1000)", "cell_size_check(1)"}

// connections is how many may use the file at once: one writes, the others read.
const connections = 4

// connect opens the file, which only its owner may read.
func connect(path string) (*sql.DB, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // G304: the path is the operator's
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute), RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	return db, nil
}

// contents says what log the file is of, and lists its streams. A file that is
// empty becomes that of a log.
func contents(ctx context.Context, db *sql.DB, newLog string) (log string, streams []string, err error) {
	var found int
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&found); err != nil {
		return "", nil, err
	}
	switch found {
	case 0:
		return newLog, nil, create(ctx, db, newLog)
	case version:
	default:
		return "", nil, fmt.Errorf("%w: its tables are of version %d, not %d", errReplaced, found, version)
	}
	if err := db.QueryRowContext(ctx, `SELECT id FROM log`).Scan(&log); err != nil {
		return "", nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT stream FROM snapshots`)
	if err != nil {
		return "", nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var stream string
		if err := rows.Scan(&stream); err != nil {
			return "", nil, err
		}
		streams = append(streams, stream)
	}
	return log, streams, rows.Err()
}

func create(ctx context.Context, db *sql.DB, log string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, statement := range []string{schema, fmt.Sprintf(`PRAGMA user_version = %d`, version)} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO log VALUES (?)`, log); err != nil {
		return err
	}
	return tx.Commit()
}

func get(ctx context.Context, db *sql.DB, stream string) (s commands.Snapshot, found bool, err error) {
	var hash, sum []byte
	err = db.QueryRowContext(ctx, `SELECT stream, version, hash, format, sum, state FROM snapshots WHERE stream = ?`, stream).
		Scan(&s.Stream, &s.Version, &hash, &s.Format, &sum, &s.State)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	copy(s.Hash[:], hash) // of whatever length: the checksum tells
	copy(s.Sum[:], sum)
	return s, err == nil, err
}

func put(ctx context.Context, db *sql.DB, s commands.Snapshot) error {
	_, err := db.ExecContext(ctx, `INSERT OR REPLACE INTO snapshots (stream, version, hash, format, sum, state) VALUES (?, ?, ?, ?, ?, ?)`,
		s.Stream, int64(s.Version), s.Hash[:], s.Format, s.Sum[:], s.State) //nolint:gosec // G115: versions stay below 2^63
	return err
}

func drop(ctx context.Context, db *sql.DB, stream string) error {
	_, err := db.ExecContext(ctx, `DELETE FROM snapshots WHERE stream = ?`, stream)
	return err
}

// spoilt reports whether an error says that the file is no sound database.
func spoilt(err error) bool {
	failed, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch failed.Code() & 0xff { // the rest is detail
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA:
		return true // an error in a statement is one of the tables: they are not those that were made
	}
	return false
}

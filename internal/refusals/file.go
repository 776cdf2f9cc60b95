package refusals

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver

	"github.com/stockledger/stockledger/events"
)

// version is that of the tables.
const version = 1

const schema = `
CREATE TABLE refusals (
	id                INTEGER PRIMARY KEY,
	day               INTEGER NOT NULL, -- day, command and code are what counts is by
	recorded_at       INTEGER NOT NULL, -- microseconds since 1970
	command           TEXT NOT NULL,
	command_id        TEXT,
	code              TEXT NOT NULL,
	type              TEXT NOT NULL,
	message           TEXT NOT NULL,
	details           TEXT,
	actor             TEXT,
	reason            TEXT,
	reference         TEXT,
	correlation_id    TEXT,
	line              INTEGER,
	inventory_item_id TEXT,
	location_id       TEXT,
	asked             TEXT,
	available         TEXT,
	position          INTEGER NOT NULL,
	body              TEXT NOT NULL
);
CREATE INDEX refusals_by_command ON refusals (command);
CREATE INDEX refusals_by_code ON refusals (code);
CREATE INDEX refusals_by_command_id ON refusals (command_id) WHERE command_id IS NOT NULL;
CREATE INDEX refusals_by_actor ON refusals (actor) WHERE actor IS NOT NULL;
CREATE INDEX refusals_by_reference ON refusals (reference) WHERE reference IS NOT NULL;
CREATE INDEX refusals_by_item ON refusals (inventory_item_id) WHERE inventory_item_id IS NOT NULL;
CREATE INDEX refusals_by_location ON refusals (location_id) WHERE location_id IS NOT NULL;
CREATE TABLE counts (
	day      INTEGER NOT NULL,
	command  TEXT NOT NULL,
	code     TEXT NOT NULL,
	count    INTEGER NOT NULL,
	detailed INTEGER NOT NULL, -- of them, rows of refusals
	PRIMARY KEY (day, command, code)
) WITHOUT ROWID;`

// file is the SQLite file of the record.
type file struct {
	writer *sql.DB // one connection
	reader *sql.DB
}

func openFile(path string) (_ *file, err error) {
	ctx := context.Background()
	f := new(file)
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if err := private(path); err != nil {
		return nil, err
	}
	if f.writer, err = connect(path, 1, "journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(1000)"); err != nil {
		return nil, err
	}
	if f.reader, err = connect(path, 2, "query_only(1)", "busy_timeout(1000)"); err != nil {
		return nil, err
	}
	var found int
	if err := f.writer.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&found); err != nil {
		return nil, err
	}
	switch found {
	case version:
		return f, nil
	case 0:
		_, err := f.writer.ExecContext(ctx, `BEGIN IMMEDIATE;`+schema+fmt.Sprintf(`PRAGMA user_version = %d; COMMIT`, version))
		return f, err
	}
	return nil, fmt.Errorf("its version is %d, not %d: another version of the program wrote it; move it away", found, version)
}

// private makes an empty file that only its owner may read, unless there is one.
// What SQLite puts beside it may be read by the same.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // G304: the path is the operator's
	if err != nil {
		return err
	}
	return f.Close()
}

func connect(path string, connections int, pragmas ...string) (*sql.DB, error) {
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

func (f *file) close() {
	if f == nil {
		return
	}
	for _, db := range []*sql.DB{f.reader, f.writer} {
		if db != nil {
			_ = db.Close() // everything is committed
		}
	}
}

// write adds refusals and counts, and lets go of what is beyond keep, in one
// transaction.
func (f *file) write(details []*Refusal, counts map[tally]int64, keep int) error {
	if len(details) == 0 && len(counts) == 0 {
		return nil
	}
	ctx := context.Background()
	tx, err := f.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	detailed := make(map[tally]int64) // by how many the rows of each tally change
	for _, r := range details {
		detailed[r.tally]++
	}
	if err := insert(ctx, tx, details); err != nil {
		return err
	}
	if err := trim(ctx, tx, keep, detailed); err != nil {
		return err
	}
	if err := add(ctx, tx, counts, detailed); err != nil {
		return err
	}
	return tx.Commit()
}

const columns = `recorded_at, command, command_id, code, type, message, details, actor, reason, reference, correlation_id,
	line, inventory_item_id, location_id, asked, available, position, body`

func insert(ctx context.Context, tx *sql.Tx, details []*Refusal) error {
	stmt, err := tx.PrepareContext(ctx, `INSERT INTO refusals (day, `+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, r := range details {
		if _, err := stmt.ExecContext(ctx, r.tally.day, r.Recorded.UnixMicro(), r.Command, orNull(r.CommandID), r.Code, r.Type,
			r.Message, orNull(string(r.Details)), orNull(r.Actor), orNull(r.Reason), orNull(r.Reference), orNull(r.Correlation),
			r.Line, orNull(r.ItemID), orNull(r.LocationID), stored(r.Asked), stored(r.Available),
			int64(r.Position), r.Body); err != nil { //nolint:gosec // positions stay below 2^63, and SQLite has no other integer
			return err
		}
	}
	return nil
}

// trim lets go of the oldest refusals, and takes them off detailed. Ids have no
// gaps, because only the oldest ever go.
func trim(ctx context.Context, tx *sql.Tx, keep int, detailed map[tally]int64) error {
	const old = `id <= (SELECT max(id) FROM refusals) - ?`
	rows, err := tx.QueryContext(ctx, `SELECT day, command, code, count(*) FROM refusals WHERE `+old+` GROUP BY day, command, code`, keep)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var t tally
		var n int64
		if err := rows.Scan(&t.day, &t.command, &t.code, &n); err != nil {
			return err
		}
		detailed[t] -= n
	}
	if err := rows.Err(); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM refusals WHERE `+old, keep)
	return err
}

func add(ctx context.Context, tx *sql.Tx, counts, detailed map[tally]int64) error {
	all := maps.Clone(counts)
	for t := range detailed {
		all[t] += 0 // also those of which there is no more to count
	}
	for t, n := range all {
		if _, err := tx.ExecContext(ctx, `INSERT INTO counts (day, command, code, count, detailed) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET count = count + excluded.count, detailed = detailed + excluded.detailed`,
			t.day, t.command, t.code, n, detailed[t]); err != nil {
			return err
		}
	}
	return nil
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func stored(q *events.Quantity) any {
	if q == nil {
		return nil
	}
	return q.String()
}

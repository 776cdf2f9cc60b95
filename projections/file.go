package projections

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/stockledger/stockledger/events"
)

// cache has a writer keep the pages one transaction touches, in 16 MiB.
const cache = `PRAGMA cache_size = -16384`

// fewPages is the cache of a connection that looks single rows up, half a MiB: SQLite
// empties it whenever the model commits.
const fewPages = "cache_size(-512)"

// readers is how many pages, and how many lookups, may be read from one file at
// the same moment; more wait.
const readers = 4

// A file is the SQLite file of one model. Readers see what was committed last,
// and never wait for the writer.
type file struct {
	path    string
	empty   bool          // no event has been folded yet, as of opening
	late    string        // makes the indexes that are not there yet
	due     uint64        // the position at which they are made
	ready   atomic.Bool   // they are there
	held    int           // how many rows of a table to keep in memory
	few     int           // how many rows a list may look at and sort without a second thought
	longest time.Duration // that a query may take
	db      *sql.DB       // for pages, which may take their time
	short   *sql.DB       // for lookups, so that neither a fold nor the engine ever waits for a page
	writer  *writer
	lookups sync.Map     // of *sql.Stmt by text; every text is a constant
	keys    chan *writer // connections that only read, for the engine; nil stands for one that is not open yet
	levels  *levelCache  // that readers of the levels share; nil when there are none
}

const checkpointSchema = `CREATE TABLE checkpoint (
	log      TEXT NOT NULL,    -- identity of the log the rows were folded from
	version  INTEGER NOT NULL, -- of the model
	position INTEGER NOT NULL, -- of the last event that is in the rows
	indexed  INTEGER NOT NULL  -- whether all indexes are there
);`

// openFile opens or creates the file of a generation, checks that it belongs to this
// log, and says which event is the last in it.
func openFile(ctx context.Context, cfg Config, d definition, e entry, head uint64) (_ *file, at uint64, err error) {
	f := &file{
		path: filepath.Join(cfg.Dir, e.File), keys: make(chan *writer, readers),
		held: cmp.Or(cfg.held, defaultHeld), few: cmp.Or(cfg.few, defaultFew), longest: cmp.Or(cfg.longest, longest),
	}
	for range readers {
		f.keys <- nil
	}
	logID := cfg.Store.LogID()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", f.path, err), f.close())
		}
	}()
	// A checkpoint every 16,000 pages moves each of them once, not many times. The
	// model tries again when it is busy for a second; Close waits no longer. Pages are
	// SQLite's 4,096 bytes: a new key comes anywhere in its index, and costs a page.
	if f.writer, err = openWriter(ctx, f.path, "journal_mode(WAL)", "synchronous(NORMAL)",
		"wal_autocheckpoint(16000)", "busy_timeout(1000)"); err != nil {
		return nil, 0, err
	}
	if err := f.writer.exec(cache); err != nil {
		return nil, 0, err
	}
	f.db, f.short = openReaders(f.path), openReaders(f.path, fewPages)

	var tables int
	if err := f.db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'checkpoint'`).Scan(&tables); err != nil {
		return nil, 0, err
	}
	if tables == 0 {
		err := f.writer.transact(func(w *writer) error {
			if err := w.exec(checkpointSchema); err != nil {
				return err
			}
			for _, p := range d.parts {
				if err := w.exec(p.schema); err != nil {
					return err
				}
			}
			return w.exec(`INSERT INTO checkpoint VALUES (?, ?, 0, 0)`, logID, int64(e.Version))
		})
		if err != nil {
			return nil, 0, fmt.Errorf("create: %w", err)
		}
	}
	var log string
	var version int
	var indexed bool
	if err := f.db.QueryRowContext(ctx, `SELECT log, version, position, indexed FROM checkpoint`).Scan(&log, &version, &at, &indexed); err != nil {
		return nil, 0, err
	}
	const advice = "open the log it was built from, or remove the file (and those beside it of the same name with -wal and -shm) to have it built anew"
	switch {
	case log != logID:
		return nil, 0, fmt.Errorf("it was built from log %s, and this is log %s; %s: %w", log, logID, advice, events.ErrOtherLog)
	case at > head:
		return nil, 0, fmt.Errorf("it is at position %d of a log that ends at %d; %s: %w", at, head, advice, events.ErrOtherLog)
	case version != e.Version:
		return nil, 0, fmt.Errorf("it holds version %d of the model, not %d; remove it to have it built anew", version, e.Version)
	}
	if err := f.adapt(ctx, d, e.Version); err != nil {
		return nil, 0, fmt.Errorf("adapt version %d to version %d: %w", e.Version, d.version, err)
	}
	f.empty = at == 0
	return f, at, f.plan(d, at, head, indexed, cmp.Or(cfg.far, defaultFar))
}

// adapt lets the folds and queries of a definition work on a file that an older
// version made. It does so once: the file remembers for which version it was done.
func (f *file) adapt(ctx context.Context, d definition, made int) error {
	if made == d.version {
		return nil
	}
	var adapted int
	if err := f.db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&adapted); err != nil || adapted == d.version {
		return err
	}
	return f.writer.transact(func(w *writer) error {
		if ddl := d.adapts[made]; ddl != "" {
			if err := w.exec(ddl); err != nil {
				return err
			}
		}
		return w.exec(fmt.Sprintf(`PRAGMA user_version = %d`, d.version))
	})
}

// defaultFar is how many events behind the log a new file does without most of
// its indexes: to make them of all rows at once takes a fraction of the time.
const defaultFar = 50_000

// plan says when the indexes are made, or makes them.
func (f *file) plan(d definition, at, head uint64, indexed bool, far int) error {
	if indexed {
		f.indexed()
		return nil
	}
	for _, p := range d.parts {
		f.late += p.indexes
	}
	if f.due = head; head-at >= uint64(far) {
		return nil
	}
	if err := f.writer.transact(f.index); err != nil {
		return fmt.Errorf("make the indexes: %w", err)
	}
	f.indexed()
	return nil
}

// index makes the indexes that are not there yet.
func (f *file) index(w *writer) error {
	if f.ready.Load() {
		return nil
	}
	if f.late != "" {
		if err := w.exec(f.late); err != nil {
			return err
		}
	}
	return w.exec(`UPDATE checkpoint SET indexed = 1`)
}

// indexed notes that all indexes are there.
func (f *file) indexed() { f.ready.Store(true) }

func openReaders(path string, pragmas ...string) *sql.DB {
	db := sql.OpenDB(connector{dsn(path, append(pragmas, "query_only(1)", "busy_timeout(5000)")...)})
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db
}

func (f *file) close() error {
	var errs []error
	f.lookups.Range(func(_, stmt any) bool {
		errs = append(errs, stmt.(*sql.Stmt).Close())
		return true
	})
	if f.db != nil {
		errs = append(errs, f.db.Close(), f.short.Close())
	}
	for range readers {
		if one := <-f.keys; one != nil {
			errs = append(errs, one.close())
		}
	}
	close(f.keys)
	if f.writer != nil {
		errs = append(errs, f.writer.close()) // last, so that SQLite folds the -wal file in
	}
	return errors.Join(errs...)
}

// lookup runs a short query by an index; text is a constant. Watching ctx while
// it runs would cost as much as the query, so it is looked at before.
func (f *file) lookup(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	stmt, found := f.lookups.Load(text)
	if !found {
		made, err := f.short.PrepareContext(ctx, text)
		if err != nil {
			return nil, err
		}
		var raced bool
		if stmt, raced = f.lookups.LoadOrStore(text, made); raced {
			_ = made.Close() //nolint:sqlclosecheck // another reader prepared it first; the one that is kept must stay open
		}
	}
	return stmt.(*sql.Stmt).QueryContext(ctx, args...)
}

// ask is lookup for what the engine asks with every command; it hands every row to
// do. It speaks to the driver directly: 19 allocations of 460 bytes and not 31 of 925.
func (f *file) ask(ctx context.Context, text string, do func([]driver.Value) error, args ...driver.Value) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	one, open := <-f.keys // each is in use for microseconds
	if !open {
		return errClosing
	}
	defer func() { f.keys <- one }()
	if one == nil {
		opened, err := openWriter(context.WithoutCancel(ctx), f.path, fewPages, "query_only(1)", "busy_timeout(5000)")
		if err != nil {
			return err
		}
		one = opened
	}
	return one.query(text, do, args...)
}

// atOnce has a query find all its rows before it yields the first. The driver
// breaks off a query with its context only until then.
func atOnce(text string) string {
	return `WITH hits AS MATERIALIZED (` + text + `) SELECT * FROM hits`
}

// A scanner is a *sql.Rows at one of its rows.
type scanner interface{ Scan(dest ...any) error }

// gather reads all rows and closes them. It never returns nil without an error.
func gather[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// first reads the first row, if there is one, and closes them.
func first[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) (row T, found bool, _ error) {
	if err != nil {
		return row, false, err
	}
	defer rows.Close()
	if !rows.Next() {
		return row, false, rows.Err()
	}
	row, err = scan(rows)
	return row, err == nil, err
}

// A writer is the one connection that writes a file, or one of those that [file.ask]
// reads it through. Only one goroutine uses it at a time.
// It speaks to the driver directly: database/sql would take a third of the time
// of a rebuild, and guards against what does not happen here.
type writer struct {
	conn       driver.Conn
	ran        uint                   // statements so far; see breathe
	statements map[string]driver.Stmt // by text; every text is a constant
	args       []driver.NamedValue
}

func openWriter(ctx context.Context, path string, pragmas ...string) (*writer, error) {
	conn, err := connector{dsn(path, pragmas...)}.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &writer{conn: conn, statements: make(map[string]driver.Stmt)}, nil
}

// transact commits what do writes, or none of it when do fails or panics.
func (w *writer) transact(do func(*writer) error) (err error) {
	if err := w.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			_ = w.exec(`ROLLBACK`) // SQLite has done it already after some errors
		}
	}()
	if err := do(w); err != nil {
		return err
	}
	return w.exec(`COMMIT`)
}

// breathe is after how many statements a writer lets others run: without it a
// goroutine of the engine may wait for the 10 ms of Go's time slice.
const breathe = 4

// exec runs a statement. Args are int64, string, []byte, bool or nil.
func (w *writer) exec(text string, args ...driver.Value) error {
	stmt, err := w.prepare(text)
	if err != nil {
		return err
	}
	_, err = stmt.(driver.StmtExecContext).ExecContext(context.Background(), w.bind(args))
	if w.ran++; w.ran%breathe == 0 {
		runtime.Gosched()
	}
	return err
}

// bind numbers the arguments; the result is good until the next call.
func (w *writer) bind(args []driver.Value) []driver.NamedValue {
	w.args = w.args[:0]
	for i, value := range args {
		w.args = append(w.args, driver.NamedValue{Ordinal: i + 1, Value: value})
	}
	return w.args
}

func (w *writer) prepare(text string) (driver.Stmt, error) {
	if stmt, found := w.statements[text]; found {
		return stmt, nil
	}
	stmt, err := w.conn.Prepare(text)
	if err != nil {
		return nil, err
	}
	w.statements[text] = stmt
	return stmt, nil
}

func (w *writer) close() error {
	var errs []error
	for _, stmt := range w.statements {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// engine is SQLite with the functions that lists need. It is a driver of our
// own, so that no other user of SQLite in the process meets them.
var engine = sync.OnceValue(func() *sqlite.Driver {
	d := new(sqlite.Driver)
	addFunctions(d)
	return d
})

// A connector opens connections of the engine to the file a DSN names.
type connector struct{ dsn string }

func (c connector) Connect(context.Context) (driver.Conn, error) { return engine().Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return engine() }

func dsn(path string, pragmas ...string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	if !filepath.IsAbs(path) {
		u.Opaque, u.Path = (&url.URL{Path: u.Path}).EscapedPath(), ""
	}
	return u.String()
}

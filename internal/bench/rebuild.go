package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // reads the files of read models, and inserts their rows elsewhere

	"github.com/stockledger/stockledger/projections"
)

// everyKind is the traffic that logs are made of.
var everyKind = Mix{Adjust: 50, Reserve: 30, Release: 15, Fulfil: 5}

// grown is a ledger whose log has grown to at least so many events, closed. It is
// made by 64 callers, each command a commit of its own.
func (b *Bench) grown(ctx context.Context, what string, items int, size uint64, mix Mix) (_ *subject, remove func(), err error) {
	dir, remove, err := b.fresh("grown")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			remove()
		}
	}()
	s, err := b.openSubject(ctx, dir, items)
	if err != nil {
		return nil, nil, err
	}
	if err := s.grow(ctx, b, what, size, mix); err != nil {
		return nil, nil, errors.Join(err, s.ledger.Close())
	}
	return s, remove, s.ledger.Close()
}

// grow carries out commands until the log has so many events.
func (s *subject) grow(ctx context.Context, b *Bench, what string, size uint64, mix Mix) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	full := func() bool { return s.seeded+uint64(s.events.Load()) >= size } //nolint:gosec // G115: not negative
	for _, w := range s.workers(b, inGo{s.ledger}, 64, mix) {
		all.Go(func() {
			for !full() && ctx.Err() == nil {
				if _, err := w(ctx); err != nil {
					stop(err)
				}
			}
		})
	}
	for !full() && ctx.Err() == nil {
		pause(ctx, 200*time.Millisecond)
		b.Progress(what, min(size, s.seeded+uint64(s.events.Load())), size) //nolint:gosec // G115: not negative
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("make a log of %d events: %w", size, err)
	}
	head, err := s.ledger.Events().Head(ctx)
	if err == nil {
		err = s.ledger.Models().WaitFor(ctx, head)
	}
	return err
}

// rebuildAll builds all read models of an open ledger anew, beside those that are
// served, deletes what was built, and says how many events a second it folded.
func (b *Bench) rebuildAll(ctx context.Context, s *subject) (perSecond float64, err error) {
	head, err := s.ledger.Events().Head(ctx)
	if err != nil {
		return 0, err
	}
	models := s.ledger.Models()
	start := b.Now()
	if _, err := models.Rebuild(ctx); err != nil {
		return 0, err
	}
	for {
		building, done, err := underway(ctx, models)
		if err != nil {
			return 0, err
		}
		if !building {
			break
		}
		b.Progress("rebuilding", done, head)
		pause(ctx, 5*time.Millisecond)
	}
	took := b.Now().Sub(start)
	return float64(head) / took.Seconds(), dropBuilt(ctx, models)
}

// underway reports whether anything is being built, and the events that all of it has.
func underway(ctx context.Context, models *projections.Models) (building bool, done uint64, err error) {
	all, err := models.Generations(ctx)
	done = ^uint64(0)
	for _, g := range all {
		if g.Stopped != "" {
			return false, 0, fmt.Errorf("rebuilding %s: %s", g.Model, g.Stopped)
		}
		if g.State == projections.Building {
			building, done = true, min(done, g.Position)
		}
	}
	return building, done, err
}

func dropBuilt(ctx context.Context, models *projections.Models) error {
	all, err := models.Generations(ctx)
	for _, g := range all {
		if err == nil && g.State == projections.Ready {
			err = models.Drop(ctx, g.Model, g.Number)
		}
	}
	return err
}

// insertAll inserts every row of the read models of a ledger that is closed into new
// files with the same tables and indexes but those of words, the files side by side,
// 1,000 rows a transaction through a prepared statement: what a program would do that
// had the rows already. It says how many rows there were, and how long inserting took,
// without reading them.
func (b *Bench) insertAll(ctx context.Context, s *subject) (rows int, took time.Duration, err error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "models", "*.db"))
	if err != nil {
		return 0, 0, err
	}
	dir, remove, err := b.fresh("inserts")
	if err != nil {
		return 0, 0, err
	}
	defer remove()
	copies := make([]*tables, len(files))
	for i, file := range files {
		copies[i], err = readTables(ctx, file, filepath.Join(dir, filepath.Base(file)))
		if err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
		defer copies[i].close()
		rows += copies[i].count
	}
	b.Progress("inserting the same rows", 0, uint64(rows)) //nolint:gosec // G115: not negative
	errs := make([]error, len(copies))
	var all sync.WaitGroup
	start := b.Now()
	for i, c := range copies {
		all.Go(func() { errs[i] = c.insert(ctx) })
	}
	all.Wait()
	return rows, b.Now().Sub(start), errors.Join(errs...)
}

// tables are the rows of a file, and an empty file to insert them into.
type tables struct {
	target *sql.DB
	names  []string
	rows   map[string][][]any
	count  int
}

func (t *tables) close() { _ = t.target.Close() }

const (
	// likeModels are the settings that the models' files have while they are built.
	likeModels = `PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-65536; PRAGMA wal_autocheckpoint=16000`
	ddl        = `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE '%\_grams%' ESCAPE '\' AND name NOT LIKE 'sqlite%' ORDER BY rowid`
	ordinary   = `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '%\_grams%' ESCAPE '\'`
)

func readTables(ctx context.Context, from, to string) (_ *tables, err error) {
	source, err := sql.Open("sqlite", from)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	t := &tables{rows: map[string][][]any{}}
	if t.target, err = sql.Open("sqlite", to); err != nil {
		return nil, err
	}
	t.target.SetMaxOpenConns(1)
	if err := t.read(ctx, source); err != nil {
		return nil, errors.Join(err, t.target.Close())
	}
	return t, nil
}

func (t *tables) read(ctx context.Context, source *sql.DB) error {
	statements, err := texts(ctx, source, ddl)
	if err != nil {
		return err
	}
	for _, statement := range append([]string{likeModels}, statements...) {
		if _, err := t.target.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	if t.names, err = texts(ctx, source, ordinary); err != nil {
		return err
	}
	for _, name := range t.names {
		if t.rows[name], err = values(ctx, source, `SELECT * FROM `+name); err != nil {
			return err
		}
		t.count += len(t.rows[name])
	}
	return nil
}

func (t *tables) insert(ctx context.Context) error {
	const chunk = 1000
	for _, name := range t.names {
		for rows := t.rows[name]; len(rows) > 0; rows = rows[min(chunk, len(rows)):] {
			if err := t.transaction(ctx, name, rows[:min(chunk, len(rows))]); err != nil {
				return fmt.Errorf("insert into %s: %w", name, err)
			}
		}
	}
	return nil
}

func (t *tables) transaction(ctx context.Context, name string, rows [][]any) error {
	tx, err := t.target.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	stmt, err := tx.PrepareContext(ctx, `INSERT INTO `+name+` VALUES (?`+strings.Repeat(`, ?`, len(rows[0])-1)+`)`) //nolint:gosec // G202: a name from the schema
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, row := range rows {
		if _, err := stmt.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func texts(ctx context.Context, db *sql.DB, query string) (all []string, err error) {
	found, err := values(ctx, db, query)
	for _, row := range found {
		text, _ := row[0].(string)
		all = append(all, text)
	}
	return all, err
}

func values(ctx context.Context, db *sql.DB, query string) (all [][]any, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// start is how long it takes from opening a ledger until a command that needs an item
// is answered over NATS.
func (b *Bench) start(ctx context.Context, s *subject) (_ time.Duration, err error) {
	if err := os.RemoveAll(filepath.Join(s.dir, "nats")); err != nil {
		return 0, err
	}
	begin := b.Now()
	if err := s.openLedger(ctx, b); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	at, end, err := s.open(ctx, NATS, false)
	if err != nil {
		return 0, err
	}
	_, err = s.workers(b, at, 1, AllAdjust)[0](ctx)
	took := b.Now().Sub(begin)
	return took, errors.Join(err, end())
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// errNoPostgres is why PostgreSQL is left out.
type errNoPostgres struct{ why string }

func (e errNoPostgres) Error() string { return e.why }

// postgres is a PostgreSQL to compare with.
type postgres struct {
	url     string
	cluster *cluster // nil: it is somebody else's
}

func (p *postgres) close() error {
	if p.cluster == nil {
		return nil
	}
	return p.cluster.close()
}

// findPostgres is the one that is named, or one of our own. The error is
// errNoPostgres when there is none.
func (b *Bench) findPostgres(ctx context.Context) (*postgres, error) {
	if b.postgres != nil {
		return b.postgres, nil
	}
	if why, known := b.leftOut["PostgreSQL"]; known {
		return nil, errNoPostgres{why}
	}
	p := &postgres{url: b.Postgres}
	if p.url == "" {
		var err error
		if p.cluster, err = startCluster(ctx, b.Dir); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			b.leftOut["PostgreSQL"] = err.Error()
			return nil, errNoPostgres{err.Error()}
		}
		p.url = p.cluster.url()
	}
	b.postgres = p
	return p, nil
}

// schema is what a careful program would have: levels with room for updates in place,
// a movement for each change, and the keys of commands. Quantities are whole numbers,
// which PostgreSQL is quicker with than with decimals.
const schema = `
	DROP SCHEMA IF EXISTS stockledger_bench CASCADE;
	CREATE SCHEMA stockledger_bench;
	CREATE TABLE stockledger_bench.levels (
		item text NOT NULL, location text NOT NULL, stocked bigint NOT NULL, reserved bigint NOT NULL DEFAULT 0,
		PRIMARY KEY (item, location)) WITH (fillfactor = 50);
	CREATE TABLE stockledger_bench.movements (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, command text NOT NULL, item text NOT NULL, location text NOT NULL,
		delta bigint NOT NULL, stocked bigint NOT NULL, actor text NOT NULL, at timestamptz NOT NULL DEFAULT now());
	CREATE TABLE stockledger_bench.commands (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());`

// A form is a way to write the careful transaction. A key that is there already has no
// second effect; the level is changed only if what is reserved stays covered; the
// movement says what that came to.
type form struct {
	name   string
	adjust func(ctx context.Context, pool *pgxpool.Pool, key, item string) error
}

var (
	// inThree is how programs write it: three statements between BEGIN and COMMIT.
	inThree = form{"PostgreSQL, careful transaction", adjustInThree}
	// inOne is the quickest way that was found, twice as quick where the processor is
	// what there is too little of: one trip to the server and back instead of five.
	inOne = form{"PostgreSQL, the same in one statement", adjustInOne}
)

const (
	insertKey = `INSERT INTO stockledger_bench.commands (key) VALUES ($1) ON CONFLICT (key) DO NOTHING`
	moveLevel = `
		UPDATE stockledger_bench.levels SET stocked = stocked + $3
		WHERE item = $1 AND location = $2 AND stocked + $3 >= reserved RETURNING stocked`
	insertMovement = `
		INSERT INTO stockledger_bench.movements (command, item, location, delta, stocked, actor) VALUES ($1, $2, $3, $4, $5, $6)`
	allInOne = `
		WITH fresh AS (
			INSERT INTO stockledger_bench.commands (key) VALUES ($1) ON CONFLICT (key) DO NOTHING RETURNING key
		), moved AS (
			UPDATE stockledger_bench.levels SET stocked = stocked + $4
			WHERE item = $2 AND location = $3 AND stocked + $4 >= reserved AND EXISTS (SELECT FROM fresh)
			RETURNING stocked
		)
		INSERT INTO stockledger_bench.movements (command, item, location, delta, stocked, actor)
		SELECT $1, $2, $3, $4, stocked, $5 FROM moved
		RETURNING stocked`
)

func adjustInThree(ctx context.Context, pool *pgxpool.Pool, key, item string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		inserted, err := tx.Exec(ctx, insertKey, key)
		if err != nil || inserted.RowsAffected() == 0 {
			return err
		}
		var level int64
		if err := tx.QueryRow(ctx, moveLevel, item, place, 1).Scan(&level); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertMovement, key, item, place, 1, level, "bench")
		return err
	})
}

func adjustInOne(ctx context.Context, pool *pgxpool.Pool, key, item string) error {
	var level int64
	return pool.QueryRow(ctx, allInOne, key, item, place, 1, "bench").Scan(&level)
}

// A postgresTable is a careful table of levels, seeded and ready for loads.
type postgresTable struct {
	pool   *pgxpool.Pool
	items  []string
	loads  int
	wanted atomic.Int64 // adjustments that were acknowledged
}

// openTable makes the tables anew, with items as a ledger has them.
func (b *Bench) openTable(ctx context.Context, items, callers int) (_ *postgresTable, err error) {
	p, err := b.findPostgres(ctx)
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(p.url)
	if err != nil {
		return nil, fmt.Errorf("connection string of PostgreSQL: %w", err)
	}
	config.MaxConns = int32(callers) //nolint:gosec // G115: a few hundred
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	t := &postgresTable{items: make([]string, items)}
	if t.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() {
		if err != nil {
			t.pool.Close()
		}
	}()
	var syncs bool
	if err = t.pool.QueryRow(ctx, `SELECT current_setting('fsync')::bool`).Scan(&syncs); err == nil && !syncs {
		err = errors.New("fsync is off: what it answers is not on the disk")
	}
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	if _, err = t.pool.Exec(ctx, schema); err != nil {
		return nil, fmt.Errorf("make tables in PostgreSQL: %w", err)
	}
	for i := range t.items {
		t.items[i] = fmt.Sprint("item_", i)
	}
	_, err = t.pool.CopyFrom(ctx, pgx.Identifier{"stockledger_bench", "levels"}, []string{"item", "location", "stocked"},
		pgx.CopyFromSlice(items, func(i int) ([]any, error) { return []any{t.items[i], place, stocked}, nil }))
	if err == nil {
		_, err = t.pool.Exec(ctx, `VACUUM ANALYZE stockledger_bench.levels`)
	}
	return t, err
}

// load adjusts levels from so many callers, each with a connection.
func (t *postgresTable) load(ctx context.Context, b *Bench, load Load, in form) (Figures, error) {
	t.loads++
	workers := make([]worker, load.Callers)
	for i := range workers {
		random, n := b.random(uint64(i)), 0
		workers[i] = func(ctx context.Context) (Kind, error) {
			n++
			err := in.adjust(ctx, t.pool, fmt.Sprintf("bench-%d-%d-%d", t.loads, i, n), t.items[random.IntN(len(t.items))])
			if err == nil {
				t.wanted.Add(1)
			}
			return Adjust, err
		}
	}
	figures, err := b.drive(ctx, Figures{What: in.name, Durable: true}, load, workers)
	figures.CPU = 0 // the server's is not known
	return figures, err
}

// check compares the tables with what was acknowledged.
func (t *postgresTable) check(ctx context.Context) error {
	var movements, keys, units int64
	err := t.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM stockledger_bench.movements), (SELECT count(*) FROM stockledger_bench.commands),
		(SELECT sum(stocked - $1) FROM stockledger_bench.levels)::bigint`, stocked).Scan(&movements, &keys, &units)
	if want := t.wanted.Load(); err == nil && (movements != want || keys != want || units != want) {
		err = fmt.Errorf("PostgreSQL has %d movements, %d keys and %d units after %d adjustments were acknowledged", movements, keys, units, want)
	}
	return err
}

// drop removes the tables. A cluster of our own writes now what it has put off, and not
// while something else is measured.
func (t *postgresTable) drop(ctx context.Context, cluster *cluster) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	defer t.pool.Close()
	_, err := t.pool.Exec(ctx, `DROP SCHEMA IF EXISTS stockledger_bench CASCADE`)
	if err == nil && cluster != nil {
		_, err = t.pool.Exec(ctx, `CHECKPOINT`)
	}
	return err
}

// PostgreSQL adjusts levels in a PostgreSQL: with a transaction as programs write it,
// or with all of that in one statement. The error is errNoPostgres when there is none.
func (b *Bench) PostgreSQL(ctx context.Context, load Load, items int, oneStatement bool) (figures Figures, err error) {
	table, err := b.openTable(ctx, items, load.Callers)
	if err != nil {
		return figures, err
	}
	defer func() { err = errors.Join(err, table.drop(ctx, b.postgres.cluster)) }()
	in := inThree
	if oneStatement {
		in = inOne
	}
	figures, err = table.load(ctx, b, load, in)
	if err == nil && figures.Errors == 0 {
		err = table.check(ctx)
	}
	return figures, err
}

// answerWithin bounds how long a single request may take before it counts as failed.
const answerWithin = 30 * time.Second

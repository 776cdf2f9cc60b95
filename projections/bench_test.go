package projections_test

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/projections"
)

const (
	benchItems  = 10_000
	benchEvents = 100_000 // adjustments, on top of two events for each item
)

// adjustments is a log of stock adjustments, made once.
var adjustments = sync.OnceValue(func() *memstore.Store {
	b := newBook()
	b.meta.Actor = "ann"
	for i := range benchItems {
		id := fmt.Sprintf("iitem_0198c0de-0000-7000-8000-%012d", i)
		b.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "ilev" + id[5:], LocationID: "sloc_1"})
	}
	stocked := make([]int64, benchItems)
	for i := range benchEvents {
		n := i * 7919 % benchItems
		stocked[n]++
		id := fmt.Sprintf("iitem_0198c0de-0000-7000-8000-%012d", n)
		b.meta.CommandID = fmt.Sprintf("0198c0df-%04d-7000-8000-%012d", i%10_000, i)
		b.meta.Digest = fmt.Sprintf("%064x", i)
		b.record(events.StockAdjusted{ItemID: id, LevelID: "ilev" + id[5:], LocationID: "sloc_1", Delta: units(1), Stocked: units(stocked[n])})
	}
	return b.store
})

// bytesOnly yields the events of a log as a store that keeps only bytes does.
type bytesOnly struct{ events.Store }

func (s bytesOnly) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range s.Store.Subscribe(ctx, after) {
			plain := make([]events.Recorded, len(batch))
			for i, e := range batch {
				plain[i] = stripped(e)
			}
			if !yield(plain, err) {
				return
			}
		}
	}
}

// onDisk is the same log in a file, as a server has it.
func onDisk(b *testing.B, log events.Store, head uint64) events.Store {
	store, err := sqlitestore.Open(filepath.Join(b.TempDir(), "log.db"))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	var commit events.Commit
	for batch, err := range log.Subscribe(b.Context(), 0) {
		require.NoError(b, err)
		var commits []events.Commit
		for _, e := range batch {
			meta, err := e.Metadata()
			require.NoError(b, err)
			if commit = append(commit, e); meta.Last() {
				commits, commit = append(commits, commit), nil
			}
		}
		_, err = store.Append(b.Context(), commits...)
		require.NoError(b, err)
		if batch[len(batch)-1].Position == head {
			break
		}
	}
	return store
}

// BenchmarkRebuild builds all models from the start: from a log in memory whose
// facts are decoded already, from one that is bytes, and from one in a file. The
// baseline inserts rows as wide and as many, table after table, through prepared
// statements.
func BenchmarkRebuild(b *testing.B) {
	store := adjustments()
	head, err := store.Head(b.Context())
	require.NoError(b, err)
	for _, bc := range []struct {
		name  string
		store events.Store
	}{{"decoded", store}, {"bytes", bytesOnly{store}}, {"log-file", onDisk(b, store, head)}} {
		b.Run(bc.name, func(b *testing.B) {
			was := processor()
			for range b.N {
				m := open(b, bc.store, filepath.Join(b.TempDir(), "models"))
				require.NoError(b, m.WaitFor(b.Context(), head))
				require.NoError(b, m.Close())
			}
			b.ReportMetric((processor()-was).Seconds()*1e6/float64(head)/float64(b.N), "cpu-µs/event")
			b.ReportMetric(float64(head)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run("plain-inserts", func(b *testing.B) {
		dir := filepath.Join(b.TempDir(), "models")
		m := open(b, store, dir)
		require.NoError(b, m.WaitFor(b.Context(), head))
		require.NoError(b, m.Close())
		b.ResetTimer()
		rows := 0
		for range b.N {
			rows += copyAll(b, dir, b.TempDir())
		}
		b.ReportMetric(float64(head)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	})
}

// copyAll inserts every row of the files of one directory into new files with
// the same tables and indexes but those of words, the files side by side, 1,000 rows a transaction,
// and returns how many there were. The time to read them does not count.
func copyAll(b *testing.B, from, to string) int {
	b.StopTimer()
	files, err := filepath.Glob(filepath.Join(from, "*.db"))
	require.NoError(b, err)
	var jobs []func()
	var total int
	for _, file := range files {
		source := sql.OpenDB(projections.Connect(file))
		target := sql.OpenDB(projections.Connect(filepath.Join(to, filepath.Base(file))))
		target.SetMaxOpenConns(1)
		_, err := target.Exec(`PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=16000`)
		require.NoError(b, err)
		for _, ddl := range texts(b, source, `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE '%\_grams%' ESCAPE '\' ORDER BY rowid`) {
			_, err := target.Exec(ddl)
			require.NoError(b, err)
		}
		tables := make(map[string][][]any)
		for _, table := range texts(b, source, ordinaryTables) {
			tables[table] = values(b, source, `SELECT * FROM `+table)
			total += len(tables[table])
		}
		require.NoError(b, source.Close())
		jobs = append(jobs, func() {
			for table, rows := range tables {
				insert(b, target, table, rows)
			}
		})
		defer target.Close()
	}
	b.StartTimer()
	var work sync.WaitGroup
	for _, job := range jobs {
		work.Go(job)
	}
	work.Wait()
	return total
}

func values(b *testing.B, db *sql.DB, query string) (all [][]any) {
	rows, err := db.Query(query)
	require.NoError(b, err)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(b, err)
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		require.NoError(b, rows.Scan(into...))
		all = append(all, row)
	}
	require.NoError(b, rows.Err())
	return all
}

func insert(b *testing.B, db *sql.DB, table string, rows [][]any) {
	for chunk := range slices.Chunk(rows, 1000) {
		tx, err := db.Begin()
		require.NoError(b, err)
		stmt, err := tx.Prepare(`INSERT INTO ` + table + ` VALUES (?` + strings.Repeat(`, ?`, len(chunk[0])-1) + `)`)
		require.NoError(b, err)
		for _, row := range chunk {
			_, err := stmt.Exec(row...)
			require.NoError(b, err)
		}
		require.NoError(b, stmt.Close())
		require.NoError(b, tx.Commit())
	}
}

// BenchmarkCommand looks up command keys, one in two of which is known.
func BenchmarkCommand(b *testing.B) {
	store := adjustments()
	head, err := store.Head(b.Context())
	require.NoError(b, err)
	m := open(b, store, filepath.Join(b.TempDir(), "models"))
	defer m.Close()
	require.NoError(b, m.WaitFor(b.Context(), head))
	look := func(b *testing.B, i int) {
		i = i * 7919 % (2 * benchEvents)
		_, _, found, err := m.Command(b.Context(), fmt.Sprintf("0198c0df-%04d-7000-8000-%012d", i%10_000, i))
		if err != nil || found != (i < benchEvents) {
			b.Errorf("command %d: found %v, %v", i, found, err)
		}
	}
	b.Run("one-caller", func(b *testing.B) {
		for i := range b.N {
			look(b, i)
		}
	})
	b.Run("callers", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				look(b, i)
			}
		})
	})
}

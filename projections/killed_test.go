package projections_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

// What a process that folds until it is killed is told.
const (
	childDir   = "STOCKLEDGER_TEST_FOLD"  // holds the log and the models
	childBegan = "STOCKLEDGER_TEST_BEGAN" // when the log began to grow, in microseconds
	childSeed  = "STOCKLEDGER_TEST_SEED"
)

const (
	killedItems  = 150
	killedEvents = 12_000
	killedTimes  = 100
	grows        = 1500 * time.Microsecond // between two events
)

// A growing log is one that has, at any time, as much of a log as was recorded
// since it began.
type growing struct {
	events.Store
	began time.Time
}

// Head implements [events.Store].
func (s growing) Head(context.Context) (uint64, error) {
	return min(1000+uint64(time.Since(s.began)/grows), killedEvents), nil
}

// Subscribe implements [events.Store].
func (s growing) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range s.Store.Subscribe(ctx, after) {
			if err != nil {
				yield(nil, err)
				return
			}
			for len(batch) > 0 {
				head, _ := s.Head(ctx)
				n := min(len(batch), int(max(head, after)-after))
				if n == 0 {
					time.Sleep(grows)
					if ctx.Err() != nil {
						yield(nil, ctx.Err())
						return
					}
					continue
				}
				if !yield(batch[:n], nil) {
					return
				}
				after, batch = batch[n-1].Position, batch[n:]
			}
		}
	}
}

// foldUntilKilled folds the log in dir, builds one generation after another and
// switches to it, for ever.
func foldUntilKilled(dir string) error {
	micros, err := strconv.ParseInt(os.Getenv(childBegan), 10, 64)
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 1))
	store, err := sqlitestore.Open(filepath.Join(dir, "log.db"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	m, err := projections.Open(ctx, projections.Config{
		Dir: filepath.Join(dir, "models"), Store: growing{store, time.UnixMicro(micros)},
	}.Far(1).Ploughing([]int{300, 2000, 100_000}[random.IntN(3)]))
	if err != nil {
		return err
	}
	fmt.Println("open")
	for {
		if _, err := m.Rebuild(ctx); err != nil && fault.Code(err) != "rebuild_running" {
			return err
		}
		for {
			_, err := m.Switch(ctx, false)
			if err == nil {
				break
			}
			if code := fault.Code(err); code != "nothing_ready" && code != "not_caught_up" {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := m.Switch(ctx, true); err != nil {
			return err
		}
	}
}

// A projector that is killed at any moment has, in every file, exactly the rows of
// the events up to the position that the file says; it goes on from there, and ends
// with what one fold from the start makes.
func TestKilledProjectorsRowsAndPositionAgree(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it kills a process a hundred times")
	}
	began := time.Now()
	seed := uint64(began.UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	store, prefixes := killedLog(t, random, filepath.Join(dir, "log.db"))
	require.NoError(t, store.Close())
	models, between := filepath.Join(dir, "models"), 0
	kills := killedTimes
	if race.On {
		kills = 25
	}
	for kill := range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s=%d", childBegan, began.UnixMicro()), fmt.Sprintf("%s=%d", childSeed, random.Uint64()))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		if random.IntN(10) > 0 { // else while it opens
			require.True(t, lines.Scan(), "kill %d", kill)
		}
		<-time.NewTimer(time.Duration(random.IntN(200)) * time.Millisecond).C
		require.NoError(t, cmd.Process.Kill())
		require.ErrorContains(t, cmd.Wait(), "killed")
		between += agree(t, models, prefixes)
	}
	t.Logf("%d files looked at between the first and the last event; %s", between, time.Since(began))

	store, err := sqlitestore.Open(filepath.Join(dir, "log.db"))
	require.NoError(t, err)
	defer store.Close()
	m := open(t, store, models)
	require.NoError(t, m.WaitFor(t.Context(), killedEvents))
	for _, model := range []string{"inventory", "movements"} { // it may have been killed when it had begun one of them
		if _, err := m.Rebuild(t.Context(), model); err != nil {
			require.Equal(t, "rebuild_running", fault.Code(err))
		}
	}
	untilReady(t, m, "inventory", "movements")
	_, err = m.Switch(t.Context(), false)
	require.NoError(t, err)
	_, err = m.Switch(t.Context(), true) // what was served has caught up
	require.NoError(t, err)
	all, err := m.Generations(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.Close())

	fresh := filepath.Join(dir, "fresh")
	m = open(t, store, fresh)
	require.NoError(t, m.WaitFor(t.Context(), killedEvents))
	require.NoError(t, m.Close())
	compared := 0
	for _, g := range all {
		if g.Position == killedEvents {
			require.Equal(t, dumpFile(t, filepath.Join(fresh, g.Model+".v1.db")), dumpFile(t, fileOf(models, g)), "%s %d", g.Model, g.Number)
			compared++
		}
	}
	require.GreaterOrEqual(t, compared, 4)
}

func fileOf(dir string, g projections.Generation) string {
	if g.Number == 1 {
		return filepath.Join(dir, g.Model+".v1.db")
	}
	return filepath.Join(dir, fmt.Sprintf("%s.v1.g%d.db", g.Model, g.Number))
}

// A prefix is what a log comes to up to a position.
type prefix struct {
	items, levels, commands, movements int
	versions, stocked                  int64
}

// killedLog makes a log of items, each with one level, and changes of them.
func killedLog(t *testing.T, random *rand.Rand, path string) (*sqlitestore.Store, []prefix) {
	b := newBook()
	prefixes := []prefix{{}}
	now := prefix{}
	recorded := func(change func()) {
		change()
		prefixes = append(prefixes, now)
	}
	stocked := make([]int64, killedItems)
	b.record(opened)
	recorded(func() { now.commands++ })
	for i := range killedItems {
		b.record(events.ItemCreated{ItemID: fmt.Sprint("i", i), Attributes: events.ItemAttributes{Title: new(fmt.Sprint("item no. ", i))}})
		recorded(func() { now.commands, now.items, now.versions = now.commands+1, now.items+1, now.versions+1 })
		b.record(events.LevelCreated{ItemID: fmt.Sprint("i", i), LevelID: fmt.Sprint("l", i), LocationID: "berlin", Stocked: units(1)})
		stocked[i] = 1
		recorded(func() {
			now.commands, now.levels, now.movements = now.commands+1, now.levels+1, now.movements+1
			now.versions, now.stocked = now.versions+1, now.stocked+1
		})
	}
	for len(prefixes) <= killedEvents {
		i, delta := random.IntN(killedItems), int64(1+random.IntN(1000))
		stocked[i] += delta
		b.record(events.StockAdjusted{ItemID: fmt.Sprint("i", i), LevelID: fmt.Sprint("l", i), LocationID: "berlin", Delta: units(delta), Stocked: units(stocked[i])})
		recorded(func() {
			now.commands, now.movements = now.commands+1, now.movements+1
			now.versions, now.stocked = now.versions+1, now.stocked+delta
		})
	}
	store, err := sqlitestore.Open(path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for batch, err := range b.store.Subscribe(ctx, 0) {
		require.NoError(t, err)
		var commits []events.Commit
		for _, e := range batch {
			commits = append(commits, events.Commit{e})
		}
		positions, err := store.Append(ctx, commits...)
		require.NoError(t, err)
		if positions[len(positions)-1] == killedEvents {
			break
		}
	}
	return store, prefixes
}

// agree checks that each file has the rows of the prefix of the log that it says,
// and counts those that are between the ends of the log.
func agree(t *testing.T, dir string, prefixes []prefix) (between int) {
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	require.NoError(t, err)
	for _, file := range files {
		db := sql.OpenDB(projections.Connect(file))
		var tables, at int
		require.NoError(t, db.QueryRow(`SELECT count(*) FROM sqlite_schema WHERE name = 'checkpoint'`).Scan(&tables))
		if tables > 0 {
			require.NoError(t, db.QueryRow(`SELECT position FROM checkpoint`).Scan(&at))
			want := prefixes[at]
			if strings.HasPrefix(filepath.Base(file), "inventory") {
				want.commands, want.movements = 0, 0
				require.Equal(t, want, inventoryOf(t, db), "%s at %d", file, at)
			} else {
				want.items, want.versions = 0, 0
				require.Equal(t, want, movementsOf(t, db), "%s at %d", file, at)
			}
			if at > 0 && at < killedEvents {
				between++
			}
		}
		require.NoError(t, db.Close())
	}
	return between
}

func inventoryOf(t *testing.T, db *sql.DB) (p prefix) {
	require.NoError(t, db.QueryRow(`SELECT (SELECT count(*) FROM items), (SELECT count(*) FROM levels), (SELECT coalesce(sum(version), 0) FROM totals)`).
		Scan(&p.items, &p.levels, &p.versions))
	p.stocked = summed(t, db, `SELECT stocked_quantity FROM totals`)
	require.Equal(t, p.stocked, summed(t, db, `SELECT stocked_quantity FROM levels`))
	return p
}

func movementsOf(t *testing.T, db *sql.DB) (p prefix) {
	require.NoError(t, db.QueryRow(`SELECT (SELECT count(*) FROM commands), (SELECT count(*) FROM movements), (SELECT count(*) FROM levels)`).
		Scan(&p.commands, &p.movements, &p.levels))
	p.stocked = summed(t, db, `SELECT delta_stocked FROM movements`)
	return p
}

// summed adds up quantities, as columns have them that are looked for or not.
func summed(t *testing.T, db *sql.DB, query string) (sum int64) {
	for _, text := range texts(t, db, query) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			q, err := projections.ParseKey(text)
			require.NoError(t, err)
			n, err = strconv.ParseInt(q.String(), 10, 64)
			require.NoError(t, err)
		}
		sum += n
	}
	return sum
}

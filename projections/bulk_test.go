package projections_test

import (
	"database/sql"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// However many events are folded in one transaction, the rows are the same:
// each commit alone, whatever waits, or all of the log.
func TestRowsDoNotDependOnHowManyEventsAreFoldedTogether(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "") //nolint:usetesting // one for each of rapid's draws
		require.NoError(t, err)
		s := newShop()
		folded := func(name string, far, held int) *projections.Models {
			m, err := projections.Open(t.Context(),
				projections.Config{Dir: filepath.Join(dir, name), Store: s.store}.Far(far).Holding(held))
			require.NoError(t, err)
			return m
		}
		slowly := folded("slowly", math.MaxInt, rapid.SampledFrom([]int{1, 3, 1000}).Draw(rt, "rows in memory"))
		for range rapid.IntRange(1, 80).Draw(rt, "commits") {
			s.meta.Effective = time.Time{}
			if rapid.IntRange(0, 2).Draw(rt, "backdated") == 0 {
				s.meta.Effective = s.now.Add(-time.Duration(rapid.IntRange(1, 100).Draw(rt, "minutes")) * time.Minute)
			}
			s.happen(rt)
			if rapid.IntRange(0, 3).Draw(rt, "wait") > 0 {
				s.caughtUp(t, slowly)
			}
		}
		s.caughtUp(t, slowly)
		require.NoError(t, slowly.Close())
		for name, far := range map[string]int{"queued": math.MaxInt, "at once": 1} {
			m := folded(name, far, rapid.SampledFrom([]int{1, 1000}).Draw(rt, "rows in memory"))
			s.caughtUp(t, m)
			require.NoError(t, m.Close())
			require.Equal(t, dump(t, filepath.Join(dir, "slowly")), dump(t, filepath.Join(dir, name)), name)
		}
	})
}

// A level with so many backdated movements that they are added up in buckets has
// the same buckets, however many are written together.
func TestBucketsDoNotDependOnHowManyEventsAreFoldedTogether(t *testing.T) {
	t.Parallel()
	b, dir := newBook(), t.TempDir()
	b.record(bolts, atBerlin, atParis)
	slowly := open(t, b.store, filepath.Join(dir, "slowly"))
	stocked := units(10)
	for n := range 4000 {
		b.meta.Effective = start.Add(-time.Duration(n*7919%5000) * time.Minute)
		stocked = stocked.Plus(qty("0.5"))
		b.record(events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: qty("0.5"), Stocked: stocked})
		if n%97 == 0 {
			b.caughtUp(t, slowly)
		}
	}
	b.caughtUp(t, slowly)
	require.NoError(t, slowly.Close())

	atOnce, err := projections.Open(t.Context(), projections.Config{Dir: filepath.Join(dir, "at once"), Store: b.store}.Far(1))
	require.NoError(t, err)
	b.caughtUp(t, atOnce)
	require.NoError(t, atOnce.Close())
	want := dump(t, filepath.Join(dir, "slowly"))
	require.Equal(t, want, dump(t, filepath.Join(dir, "at once")))

	file, err := filepath.Glob(filepath.Join(dir, "slowly", "movements*.db"))
	require.NoError(t, err)
	db := sql.OpenDB(projections.Connect(file[0]))
	defer db.Close()
	require.Equal(t, []string{"4000"}, texts(t, db, `SELECT sum(movements) FROM buckets`))
	require.Greater(t, len(want["movements.v1.db buckets"]), 3, "there are several")
	require.Equal(t, []string{"text"}, texts(t, db, `SELECT DISTINCT typeof(stocked) FROM movements`), "also whole numbers")
}

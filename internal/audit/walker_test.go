package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/audit"
)

// walk starts a walker that never rests.
func walk(t *testing.T, ledger *stockledger.Ledger) *audit.Walker {
	return walkAs(t, ledger, audit.WalkerConfig{})
}

func walkAs(t *testing.T, ledger *stockledger.Ledger, config audit.WalkerConfig) *audit.Walker {
	config.Store, config.Models, config.Logger = ledger.Events(), ledger.Models(), slog.New(slog.DiscardHandler)
	config.Wait = func(context.Context, time.Duration) {}
	w := audit.StartWalker(config)
	t.Cleanup(w.Close)
	return w
}

// roundsOf waits until the walker has walked whole rounds from now on.
func roundsOf(t *testing.T, w *audit.Walker, rounds uint64) audit.WalkState {
	t.Helper()
	from := w.State().Round
	require.Eventually(t, func() bool { return w.State().Round > from+rounds }, time.Minute, time.Millisecond)
	require.Empty(t, w.State().Trouble)
	return w.State()
}

// modelFile opens the file of a read model behind its back.
func modelFile(t testing.TB, dir, model string) *sql.DB {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "models", model+".*.db"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	db, err := sql.Open("sqlite", "file:"+files[0]+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	return db
}

// spoil changes rows of a read model.
func spoil(t testing.TB, dir, model, text string, args ...any) {
	t.Helper()
	db := modelFile(t, dir, model)
	defer db.Close()
	done, err := db.ExecContext(t.Context(), text, args...)
	require.NoError(t, err, text)
	rows, err := done.RowsAffected()
	require.NoError(t, err)
	require.NotZero(t, rows, text)
}

func TestWalkerFindsARowThatIsOneTooManyAndForgetsItOnceItIsRight(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 30, newSeed(t))
	s.do("create-inventory-items", object{"id": "mug", "location_levels": []object{{"location_id": "paris", "stocked_quantity": 41}}})
	s.trade(fewer(600, 100))
	s.settle()
	var told bytes.Buffer
	w := audit.StartWalker(audit.WalkerConfig{
		Store: ledger.Events(), Models: ledger.Models(), Logger: slog.New(slog.NewTextHandler(&told, nil)),
		Wait: func(context.Context, time.Duration) {},
	})
	state := roundsOf(t, w, 1)
	require.True(t, state.OK(), "%+v", state.First)
	require.NotZero(t, state.Rows)

	spoil(t, dir, "inventory", `UPDATE levels SET stocked_quantity = 'R42' WHERE inventory_item_id = 'mug' AND location_id = 'paris'`)

	state = roundsOf(t, w, 1)
	require.EqualValues(t, 1, state.Wrong)
	require.False(t, state.Since.IsZero())
	require.Equal(t, "inventory.levels", state.First.Check)
	require.Equal(t, "stocked_quantity", state.First.Column)
	require.Equal(t, "41", *state.First.Expected)
	require.Equal(t, "42", *state.First.Served)
	require.Equal(t, "item-mug", state.First.Stream)

	spoil(t, dir, "inventory", `UPDATE levels SET stocked_quantity = 'R41' WHERE inventory_item_id = 'mug' AND location_id = 'paris'`)

	state = roundsOf(t, w, 1)
	require.True(t, state.OK())
	require.Nil(t, state.First)
	w.Close()
	require.Contains(t, told.String(), "a served row is not what the log says; run stockledger verify")
	require.Contains(t, told.String(), "right again")
}

// A row whose number no event can have is right again, too, once it is gone.
func TestWalkerForgetsARowFromBeforeTheFirstEvent(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 5, newSeed(t))
	s.furnish()
	s.settle()
	w := walk(t, ledger)
	spoil(t, dir, "inventory", `INSERT INTO totals (position, stocked_quantity, reserved_quantity, incoming_quantity, available_quantity, version)
		VALUES (0, 'Q1', 'Q1', 'Q1', 'Q1', 1)`)
	require.EqualValues(t, 1, roundsOf(t, w, 1).Wrong)
	spoil(t, dir, "inventory", `DELETE FROM totals WHERE position = 0`)
	require.True(t, roundsOf(t, w, 1).OK())
}

func TestWalkerFindsRowsThatAreMissingAndTooManyInEveryTable(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 30, newSeed(t))
	s.furnish()
	s.trade(fewer(900, 60))
	s.settle()
	w := walk(t, ledger)
	require.True(t, roundsOf(t, w, 1).OK())
	for _, of := range allTables {
		if of.table == "endings" || of.table == "buckets" {
			continue // which are left to Verify
		}
		t.Run(of.String()+" missing", func(t *testing.T) {
			back := of.takeOut(t, dir)
			state := roundsOf(t, w, 1)
			require.False(t, state.OK())
			require.Equal(t, of.table, state.First.Table)
			back()
			require.True(t, roundsOf(t, w, 1).OK())
		})
		if of.table == "location_links" || of.table == "backdated" {
			continue
		}
		t.Run(of.String()+" too many", func(t *testing.T) {
			back := of.putIn(t, dir)
			state := roundsOf(t, w, 1)
			require.False(t, state.OK())
			require.Equal(t, of.table, state.First.Table)
			require.Contains(t, state.First.Message, "should not be there")
			back()
			require.True(t, roundsOf(t, w, 1).OK())
		})
	}
}

func TestWalkerNeverAccusesUnderTraffic(t *testing.T) {
	for name, config := range map[string]audit.WalkerConfig{
		"as it is":                       {},
		"when its books are often empty": audit.WalkerConfig{}.Keeping(100, 30),
	} {
		t.Run(name, func(t *testing.T) {
			ledger := open(t, t.TempDir())
			defer func() { require.NoError(t, ledger.Close()) }()
			seed := newSeed(t)
			w := walkAs(t, ledger, config)
			finished := make(chan struct{})
			var work sync.WaitGroup
			for n := range uint64(4) {
				work.Go(func() { newShop(t, ledger, 12, seed+n).trade(fewer(250, 60)) })
			}
			go func() { work.Wait(); close(finished) }()
			rounds := uint64(0)
			for busy := true; busy; {
				select {
				case <-finished:
					busy = false
				default:
				}
				state := w.State()
				rounds = state.Round
				require.True(t, state.OK(), "%+v", state.First)
				require.Empty(t, state.Trouble)
			}
			state := roundsOf(t, w, 1)
			require.True(t, state.OK(), "%+v", state.First)
			require.Greater(t, rounds, uint64(2))
			t.Logf("%d rounds under traffic, %d rows compared, %d events", rounds, state.Rows, state.Head)
		})
	}
}

// A stream that is much longer than what is looked at in one go is looked at all the same.
func TestWalkerFindsAWrongRowOfALongStream(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 5, newSeed(t))
	s.do("create-inventory-items", object{"id": "mug", "location_levels": []object{{"location_id": "paris", "stocked_quantity": 100_000}}})
	parts, size := fewer(6, 3), fewer(500, 150)
	for n := range parts {
		var reserve, adjust []object
		for i := range size {
			reserve = append(reserve, object{
				"id": fmt.Sprint("r", n, ".", i), "inventory_item_id": "mug", "location_id": "paris", "quantity": 1 + i%7,
			})
			adjust = append(adjust, object{"inventory_item_id": "mug", "location_id": "paris", "adjustment": 1})
		}
		s.do("create-reservations", reserve)
		s.do("adjust-inventory-levels", adjust)
		s.trade(fewer(50, 10))
	}
	s.settle()
	w := walk(t, ledger)
	state := roundsOf(t, w, 1)
	require.True(t, state.OK(), "%+v", state.First)
	requireOK(t, verify(t, ledger))

	spoilt := fmt.Sprint("r", parts/2, ".", size/2)
	spoil(t, dir, "inventory", `UPDATE reservations SET quantity = 'Q9' WHERE id = ?`, spoilt)
	spoil(t, dir, "movements", `UPDATE movements SET place_stocked = '-99.5' WHERE id = (SELECT max(id) FROM movements)`)

	state = roundsOf(t, w, 1)
	require.EqualValues(t, 2, state.Wrong)
	require.Equal(t, spoilt, state.First.Key)
	report := verify(t, ledger)
	require.EqualValues(t, 1, wrong(report, "inventory.reservations"))
	require.EqualValues(t, 1, wrong(report, "reserved"))
	require.EqualValues(t, 1, wrong(report, "movements.movements"))
}

// What a walker rests is in proportion to what it works, on a clock that only work moves.
func TestWalkerTakesNoMoreThanItsShare(t *testing.T) {
	ledger := open(t, t.TempDir())
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 10, newSeed(t))
	s.trade(300)
	s.settle()
	clock := new(workClock)
	w := audit.StartWalker(audit.WalkerConfig{
		Store: slowStore{ledger.Events(), clock}, Models: ledger.Models(), Share: 0.1, Every: time.Nanosecond, Now: clock.now, Wait: clock.wait,
	})
	roundsOf(t, w, 20)
	w.Close()
	require.InDelta(t, 0.1, clock.worked.Seconds()/(clock.worked+clock.rested).Seconds(), 0.02)
}

// A workClock goes on when somebody works or waits.
type workClock struct {
	mu             sync.Mutex
	worked, rested time.Duration
}

func (c *workClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Unix(1_800_000_000, 0).Add(c.worked + c.rested)
}

func (c *workClock) work() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.worked += 10 * time.Millisecond
}

func (c *workClock) wait(_ context.Context, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rested += d
}

// A slowStore takes time to read.
type slowStore struct {
	events.Store
	clock *workClock
}

func (s slowStore) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	s.clock.work()
	return s.Store.Subscribe(ctx, after)
}

// Another generation is served, and back, while the walker walks and commands go on.
func TestWalkerNeverAccusesWhenGenerationsAreSwitched(t *testing.T) {
	ledger := open(t, t.TempDir())
	defer func() { require.NoError(t, ledger.Close()) }()
	seed := newSeed(t)
	newShop(t, ledger, 12, seed).trade(fewer(400, 150))
	w := walk(t, ledger)
	var work sync.WaitGroup
	work.Go(func() { newShop(t, ledger, 12, seed+1).trade(fewer(400, 150)) })
	_, err := ledger.Models().Rebuild(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := ledger.Models().Switch(t.Context(), false)
		return err == nil
	}, time.Minute, time.Millisecond)
	require.True(t, roundsOf(t, w, 1).OK())
	_, err = ledger.Models().Switch(t.Context(), true)
	require.NoError(t, err)
	work.Wait()
	state := roundsOf(t, w, 1)
	require.True(t, state.OK(), "%+v", state.First)
	requireOK(t, verify(t, ledger))
}

// The alarm ends soon after a switch, though the walk has not come by again: here it
// rests for ever after each round.
func TestWalkerLooksAtWrongRowsAgainOnceAnotherGenerationIsServed(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 10, newSeed(t))
	s.furnish()
	s.trade(100)
	s.settle()
	spoil(t, dir, "inventory", `UPDATE levels SET stocked_quantity = 'Q99' WHERE location_id LIKE 'hall%'`)
	spoil(t, dir, "movements", `UPDATE movements SET delta_stocked = 'Q99' WHERE id = (SELECT min(id) FROM movements)`)
	w := audit.StartWalker(audit.WalkerConfig{
		Store: ledger.Events(), Models: ledger.Models(), Every: 1000 * time.Hour,
		Wait: func(ctx context.Context, d time.Duration) {
			select {
			case <-time.After(min(d, 10*time.Millisecond)):
			case <-ctx.Done():
			}
		},
	})
	defer w.Close()
	require.Eventually(t, func() bool { return w.State().LastRound > 0 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 4, w.State().Wrong)

	_, err := ledger.Models().Rebuild(t.Context(), "inventory")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := ledger.Models().Switch(t.Context(), false, "inventory")
		return err == nil
	}, time.Minute, time.Millisecond)

	require.Eventually(t, func() bool { return w.State().Wrong == 1 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 1, w.State().Round)
	require.Equal(t, "movements", w.State().First.Model)
}

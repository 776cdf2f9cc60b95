package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/race"
)

// olderLog is a ledger that was closed and opened again, so that its store has
// nothing of the log in memory, and the position of an adjustment of a mug that
// other items share their places with.
func olderLog(t *testing.T) (ledger *stockledger.Ledger, dir string, at uint64) {
	dir = t.TempDir()
	ledger = open(t, dir)
	s := newShop(t, ledger, 10, newSeed(t))
	s.do("create-inventory-items", object{"id": "mug", "sku": "MUG", "location_levels": []object{{"location_id": "paris", "stocked_quantity": 41}}})
	s.trade(fewer(60, 20))
	s.do("adjust-inventory-levels", object{"inventory_item_id": "mug", "location_id": "paris", "adjustment": 3})
	s.trade(fewer(200, 40))
	s.do("adjust-inventory-levels", object{"inventory_item_id": "mug", "location_id": "paris", "adjustment": 5})
	s.furnish()
	s.settle()
	n := 0
	for e, err := range ledger.Events().Read(t.Context(), "item-mug", 0) {
		require.NoError(t, err)
		if e.Type == "inventory.stock-adjusted.v1" && n == 0 {
			at = e.Position
			n++
		}
	}
	require.NotZero(t, at)
	require.NoError(t, ledger.Close())
	ledger = open(t, dir)
	t.Cleanup(func() { require.NoError(t, ledger.Close()) })
	s = &shop{t: t, ledger: ledger}
	s.settle()
	return ledger, dir, at
}

// tamper changes the log behind the store's back.
func tamper(t *testing.T, dir, text string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "log.db")+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer db.Close()
	done, err := db.ExecContext(t.Context(), text, args...)
	require.NoError(t, err, text)
	rows, err := done.RowsAffected()
	require.NoError(t, err)
	require.NotZero(t, rows, text)
}

// eventOf is an event of a stream.
func eventOf(t *testing.T, ledger *stockledger.Ledger, stream string, position uint64) events.Recorded {
	for e, err := range ledger.Events().Read(t.Context(), stream, 0) {
		require.NoError(t, err)
		if e.Position == position {
			return e
		}
	}
	require.Fail(t, "there is no such event")
	return events.Recorded{}
}

// A damaged event is to blame, and no row that depends on it; the advice is another.
// Once it is what it was, the alarm ends.
func TestWalkerFindsAnEventThatIsNotWhatWasRecorded(t *testing.T) {
	for name, config := range map[string]audit.WalkerConfig{
		"as it is": {},
		"when it reads the streams again and again": audit.WalkerConfig{}.Keeping(1, 1),
	} {
		t.Run(name, func(t *testing.T) {
			ledger, dir, at := olderLog(t)
			was := eventOf(t, ledger, "item-mug", at)
			var told bytes.Buffer
			config.Store, config.Models, config.Logger = ledger.Events(), ledger.Models(), slog.New(slog.NewTextHandler(&told, nil))
			config.Wait = func(context.Context, time.Duration) {}
			w := audit.StartWalker(config)
			defer w.Close()
			require.True(t, roundsOf(t, w, 1).OK())
			for what, change := range map[string]string{
				"its hash":     `hash = zeroblob(32)`,
				"a quantity":   `data = replace(data, '"stocked_quantity":', '"stocked_quantity":7')`,
				"its metadata": `meta = replace(meta, 'adjust', 'update')`,
				"its link":     `prev = zeroblob(32)`,
				"its type":     `type = 'inventory.from-the-future.v1'`,
				"its body":     `data = x'00'`,
			} {
				if race.On && (what == "its link" || what == "its metadata" || what == "its body") {
					continue
				}
				t.Run(what, func(t *testing.T) {
					tamper(t, dir, `UPDATE events SET `+change+` WHERE position = ?`, at)

					state := roundsOf(t, w, 2)
					require.False(t, state.OK())
					require.Equal(t, state.Damaged, state.Wrong, "no row is to blame: %+v", state.First)
					require.LessOrEqual(t, state.Damaged, uint64(2), "the event, and the one that should follow it")
					require.Equal(t, "chain", state.First.Check)
					require.Equal(t, at, state.First.Position, state.First.Message)
					require.Equal(t, "item-mug", state.First.Stream)
					require.Equal(t, was.Version, state.First.Version)
					require.Empty(t, state.First.Table)

					tamper(t, dir, set(at, was))

					state = roundsOf(t, w, 2)
					require.True(t, state.OK(), "%+v", state.First)
					require.Zero(t, state.Damaged)
				})
			}
			w.Close()
			require.Contains(t, told.String(), "stop, keep the directory as it is, and restore")
			require.Contains(t, told.String(), "damaged is right again")
			require.NotContains(t, told.String(), "a served row is not what the log says")
		})
	}
}

// An event of a stream without rows is in a chain as well.
func TestWalkerChecksTheChainOfStreamsWithoutRows(t *testing.T) {
	ledger, dir, _ := olderLog(t)
	w := walk(t, ledger)
	require.True(t, roundsOf(t, w, 1).OK())
	tamper(t, dir, `UPDATE events SET prev = randomblob(32) WHERE stream = 'sku-MUG'`)
	state := roundsOf(t, w, 1)
	require.Equal(t, "chain", state.First.Check)
	require.Equal(t, "sku-MUG", state.First.Stream)
}

// Rows of other streams are still looked at while an event is damaged.
func TestWalkerStillBlamesRowsOfOtherStreams(t *testing.T) {
	ledger, dir, at := olderLog(t)
	tamper(t, dir, `UPDATE events SET data = replace(data, '"stocked_quantity":', '"stocked_quantity":7') WHERE position = ?`, at)
	spoil(t, dir, "inventory", `UPDATE levels SET stocked_quantity = 'Q99' WHERE inventory_item_id IN ('vase 0', 'mug')`)
	state := roundsOf(t, walk(t, ledger), 1)
	require.EqualValues(t, 1, state.Damaged)
	require.EqualValues(t, 3, state.Wrong, "two levels of the vase, and none of the mug")
	require.Equal(t, at, state.First.Position)
}

// What follows an event that no program can read is looked at.
func TestWalkerGoesOnBehindAnEventThatCannotBeRead(t *testing.T) {
	ledger := open(t, t.TempDir())
	defer func() { require.NoError(t, ledger.Close()) }()
	newShop(t, ledger, 10, newSeed(t)).trade(fewer(100, 40))
	head := (&shop{t: t, ledger: ledger}).settle()
	strange := new(strangeStore)
	strange.Store, strange.at = ledger.Events(), head/2
	w := audit.StartWalker(audit.WalkerConfig{Store: strange, Models: ledger.Models(), Wait: func(context.Context, time.Duration) {}})
	defer w.Close()

	state := roundsOf(t, w, 2)

	require.False(t, state.OK())
	require.EqualValues(t, 1, state.Wrong, "%+v", state.First)
	require.Equal(t, "facts", state.First.Check)
	require.Equal(t, head/2, state.First.Position)
	require.Equal(t, head, state.Head)
	require.Greater(t, state.Rows, head, "rows of later events were compared, in two rounds")
}

// A strangeStore has an event of a type that this program does not know, in a chain
// that holds.
type strangeStore struct {
	events.Store
	at uint64

	hash sync.Map // of the events of its stream, as they are and as they should be
}

func (s *strangeStore) strange(e events.Recorded) events.Recorded {
	if prev, changed := s.hash.Load(e.Prev); changed {
		e.Prev, _ = prev.(events.Hash)
	} else if e.Position != s.at {
		return e
	}
	was := e.Hash
	e = events.Recorded{
		Position: e.Position, Stream: e.Stream, Version: e.Version, Type: e.Type, Data: e.Data, Meta: e.Meta, Prev: e.Prev,
	}
	if e.Position == s.at {
		e.Type = "inventory.from-the-future.v1"
	}
	e.Hash = e.Link()
	s.hash.Store(was, e.Hash)
	return e
}

func (s *strangeStore) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		for e, err := range s.Store.Read(ctx, stream, 0) {
			e = s.strange(e)
			if e.Version > after && !yield(e, err) {
				return
			}
		}
	}
}

func (s *strangeStore) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range s.Store.Subscribe(ctx, after) {
			changed := make([]events.Recorded, len(batch))
			for i, e := range batch {
				changed[i] = s.strange(e)
			}
			if !yield(changed, err) {
				return
			}
		}
	}
}

// A walk that cannot look is no good news, once that is so for long.
func TestWalkerThatCannotLookForLongSaysSo(t *testing.T) {
	ledger := open(t, t.TempDir())
	defer func() { require.NoError(t, ledger.Close()) }()
	newShop(t, ledger, 10, newSeed(t)).trade(fewer(200, 40))
	head := (&shop{t: t, ledger: ledger}).settle()
	var late atomic.Int64
	broken := &brokenStore{Store: ledger.Events(), at: head}
	broken.broken.Store(true)
	w := audit.StartWalker(audit.WalkerConfig{
		Store: broken, Models: ledger.Models(), Wait: func(context.Context, time.Duration) {},
		Now: func() time.Time { return time.Unix(1_800_000_000+late.Load(), 0) },
	})
	defer w.Close()
	rounds := func() audit.WalkState {
		from := w.State().Round
		require.Eventually(t, func() bool { return w.State().Round > from+2 }, time.Minute, time.Millisecond)
		return w.State()
	}

	state := rounds()
	require.Contains(t, state.Trouble, "the disk is gone")
	require.False(t, state.Blind, "it may be back soon")
	require.True(t, state.OK())

	late.Store(59)
	require.False(t, rounds().Blind)
	late.Store(60)
	state = rounds()
	require.True(t, state.Blind)
	require.False(t, state.OK())
	require.Zero(t, state.Wrong)
	require.Zero(t, state.Rounds, "none went over all rows")

	broken.broken.Store(false)
	state = rounds()
	require.True(t, state.OK())
	require.Empty(t, state.Trouble)
	require.NotZero(t, state.Rounds)
}

// A brokenStore cannot read its log from some position on.
type brokenStore struct {
	events.Store
	at     uint64
	broken atomic.Bool
}

func (s *brokenStore) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range s.Store.Subscribe(ctx, after) {
			if s.broken.Load() && err == nil && batch[len(batch)-1].Position >= s.at {
				batch, err = nil, errors.New("the disk is gone")
			}
			if !yield(batch, err) || err != nil {
				return
			}
		}
	}
}

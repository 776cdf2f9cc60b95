package commands_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
)

func TestMain(m *testing.M) {
	if race.On { // it sees no more in all hundred that are usual
		if err := flag.Set("rapid.checks", "25"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// noIndex is an index that has not come anywhere yet, so that the engine answers
// from what it remembers.
type noIndex struct{}

func (noIndex) Position() uint64 { return 0 }

func (noIndex) Command(context.Context, string) (uint64, string, bool, error) {
	return 0, "", false, nil
}

func (noIndex) Find(context.Context, string, string) ([]commands.Ref, error) { return nil, nil }

// shop is an engine with what a test needs around it.
type shop struct {
	*commands.Engine
	t     testing.TB
	store events.Store
}

func openShop(t testing.TB, store events.Store, change ...func(*commands.Config)) *shop {
	t.Helper()
	config := commands.Config{Store: store, Index: noIndex{}, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&config)
	}
	engine, err := commands.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	return &shop{engine, t, store}
}

func newShop(t testing.TB, change ...func(*commands.Config)) *shop {
	t.Helper()
	return openShop(t, memstore.New(), change...)
}

// try sends a command as JSON.
func (s *shop) try(name, body string, env ...commands.Envelope) (commands.Answer, error) {
	command, err := commands.Decode(name, []byte(body))
	if err != nil {
		return commands.Answer{}, err
	}
	var e commands.Envelope
	if len(env) > 0 {
		e = env[0]
	}
	return s.Do(s.t.Context(), e, command)
}

// do sends a command that must be accepted, and reads its result.
func (s *shop) do(name, body string, env ...commands.Envelope) commands.Answer {
	s.t.Helper()
	answer, err := s.try(name, body, env...)
	require.NoError(s.t, err, "%s %s", name, body)
	return answer
}

// refuse sends a command that must be refused with a code, and returns the refusal.
func (s *shop) refuse(code, name, body string, env ...commands.Envelope) *fault.Error {
	s.t.Helper()
	before := s.head()
	refusal := s.refuseNow(code, name, body, env...)
	require.Equal(s.t, before, s.head(), "a refusal changes nothing")
	return refusal
}

// refuseNow is refuse while others write to the log.
func (s *shop) refuseNow(code, name, body string, env ...commands.Envelope) *fault.Error {
	s.t.Helper()
	_, err := s.try(name, body, env...)
	require.Error(s.t, err, "%s %s", name, body)
	require.Equal(s.t, code, fault.Code(err), "%s %s: %v", name, body, err)
	return fault.Of(err)
}

func (s *shop) head() uint64 {
	s.t.Helper()
	head, err := s.store.Head(s.t.Context())
	require.NoError(s.t, err)
	return head
}

// stocked creates an item with stock at a location.
func (s *shop) stocked(item, location string, quantity int) {
	s.t.Helper()
	s.do("create-inventory-items", fmt.Sprintf(
		`{"items":[{"id":%q,"location_levels":[{"location_id":%q,"stocked_quantity":%d}]}]}`, item, location, quantity))
}

// level reads a level the way a publisher can: by adjusting it by nothing.
func (s *shop) level(item, location string) commands.LevelRow {
	s.t.Helper()
	answer := s.do("adjust-inventory-levels", fmt.Sprintf(
		`[{"inventory_item_id":%q,"location_id":%q,"adjustment":0}]`, item, location))
	return result[[]commands.LevelRow](s.t, answer)[0]
}

func result[R any](t testing.TB, answer commands.Answer) R {
	t.Helper()
	var r R
	require.NoError(t, json.Unmarshal(answer.Result, &r))
	return r
}

// together runs do n times at once and waits.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// Medusa #16569: two callers reserve the last unit.
func TestOneOf64CallersGetsTheLastUnit(t *testing.T) {
	rounds := 1000
	if testing.Short() || race.On {
		rounds = 50
	}
	s := newShop(t)
	for round := range rounds {
		item := fmt.Sprintf("item_%d", round)
		s.stocked(item, "paris", 1)
		var won, refused atomicCounter
		together(64, func(int) {
			_, err := s.try("create-reservations", fmt.Sprintf(
				`{"inventory_item_id":%q,"location_id":"paris","quantity":1}`, item))
			switch fault.Code(err) {
			case "":
				won.add()
			case "insufficient_stock":
				refused.add()
			}
		})
		require.EqualValues(t, 1, won.n.Load(), "winners of round %d", round)
		require.EqualValues(t, 63, refused.n.Load(), "losers of round %d", round)
	}
}

// Medusa #16502: two lines of one call, each of which fits alone.
func TestLinesOfOneCommandSeeEachOther(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 1)
	refusal := s.refuse("insufficient_stock", "create-reservations", `[
		{"inventory_item_id":"cup","location_id":"paris","quantity":1},
		{"inventory_item_id":"cup","location_id":"paris","quantity":1}]`)
	require.Equal(t, 2, refusal.Details["line"])
	require.Equal(t, "0", s.level("cup", "paris").ReservedQuantity.String(), "the first line left no trace")
}

// Medusa #16576: concurrent increments get lost.
func TestThousandConcurrentIncrementsAddUp(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 0)
	together(1000, func(int) {
		s.do("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
	})
	require.Equal(t, "1000", s.level("cup", "paris").StockedQuantity.String())
}

func TestStockDoesNotFallBelowReserved(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	s.do("create-reservations", `{"inventory_item_id":"cup","location_id":"paris","quantity":5}`)
	refusal := s.refuse("below_reserved", "adjust-inventory-levels",
		`[{"inventory_item_id":"cup","location_id":"paris","adjustment":-9}]`)
	require.Equal(t, events.Units(-9), refusal.Details["asked"])
}

func TestSameKeySameAnswer(t *testing.T) {
	store := memstore.New()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	env := commands.Envelope{Key: "sale-1", Actor: "till 3"}
	const sale = `[{"inventory_item_id":"cup","location_id":"paris","adjustment":-1}]`
	first := s.do("adjust-inventory-levels", sale, env)
	require.False(t, first.Replayed)

	again := s.do("adjust-inventory-levels", ` [ {"location_id":"paris", "adjustment":-1.0, "inventory_item_id":"cup"} ]`, env)
	require.True(t, again.Replayed)
	require.Equal(t, first.Result, again.Result)
	require.Equal(t, first.Position, again.Position)
	s.refuse("idempotency_key_reused", "adjust-inventory-levels",
		`[{"inventory_item_id":"cup","location_id":"paris","adjustment":-2}]`, env)

	reopened := openShop(t, store)
	again = reopened.do("adjust-inventory-levels", sale, env)
	require.True(t, again.Replayed, "after a restart")
	require.Equal(t, first.Result, again.Result)
	require.Equal(t, "4", reopened.level("cup", "paris").StockedQuantity.String())
}

func TestRecordedTimesGrowWhateverTheClockSays(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store := memstore.New()
	s := openShop(t, store, func(c *commands.Config) { c.Now = func() time.Time { at = at.Add(-time.Hour); return at } })
	s.stocked("cup", "paris", 5)
	for range 3 {
		s.do("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
	}
	var last events.Meta
	for batch, err := range store.Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		for _, r := range batch {
			meta, err := r.Metadata()
			require.NoError(t, err)
			if meta.CommandID == last.CommandID {
				require.Equal(t, last.Recorded, meta.Recorded, "one commit, one instant")
			} else {
				require.True(t, meta.Recorded.After(last.Recorded))
			}
			last = meta
		}
		break
	}
}

type atomicCounter struct{ n atomic.Int64 }

func (c *atomicCounter) add() { c.n.Add(1) }

// What is available of 18 digits and a half has one digit more, and so has the sum
// of an item's levels.
func TestAnswersOfManyDigitsCanBeRead(t *testing.T) {
	s := newShop(t)
	made := result[[]commands.ItemRow](t, s.do("create-inventory-items", `{"id":"cup","location_levels":[
		{"location_id":"paris","stocked_quantity":999999999999999999},{"location_id":"oslo","stocked_quantity":0.5}]}`))
	require.Equal(t, "999999999999999999.5", made[0].StockedQuantity.String())
	s.do("create-reservations", cupHas+`"quantity":0.5}]`)
	levels := result[[]commands.LevelRow](t, s.do("adjust-inventory-levels", cupHas+`"adjustment":-1}]`))
	require.Equal(t, "999999999999999997.5", levels[0].AvailableQuantity.String())
}

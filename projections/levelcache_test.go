package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

// quantities asks for quantities of an item in all ways there are, and fails
// unless they are those that the file has.
func quantities(t require.TestingT, m *projections.Models, item string, locations []string) {
	ctx := context.Background()
	stocked, reserved, lives, err := m.Plainly(ctx, item, locations)
	require.NoError(t, err)
	body := jsonOf(t, map[string]any{"inventory_item_id": item, "location_ids": locations})
	for name, want := range map[string]events.Quantity{
		"stocked-quantity": stocked, "reserved-quantity": reserved, "available-quantity": stocked.Minus(reserved),
	} {
		answer, err := m.Query(ctx, name, []byte(body))
		if !lives {
			if len(locations) > 0 {
				require.Equal(t, "not_found", fault.Code(err), "%s of %s", name, item)
			}
			_, found := m.Recall(name, []byte(body))
			require.False(t, found, "what is refused is not remembered")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, projections.Sum{Quantity: want}, answer, "%s of %s at %v", name, item, locations)
		if recalled, found := m.Recall(name, []byte(body)); found {
			require.Equal(t, answer, recalled, "%s of %s at %v", name, item, locations)
		}
	}
	if !lives || len(locations) == 0 || !stocked.Minus(reserved).Fits() {
		return
	}
	ask := []byte(jsonOf(t, map[string]any{"inventory_item_id": item, "location_ids": locations, "quantity": stocked.Minus(reserved)}))
	answer, err := m.Query(ctx, "confirm-inventory", ask)
	require.NoError(t, err)
	require.Equal(t, projections.Confirmation{Confirmed: true, Available: stocked.Minus(reserved)}, answer)
	if recalled, found := m.Recall("confirm-inventory", ask); found {
		require.Equal(t, answer, recalled)
	}
}

// Whatever happens to items, quantities are those of the file, whether they were
// asked for before or not, and however small the cache is.
func TestQuantitiesAreThoseOfTheFile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newShop()
		m := open(t, s.store, filepath.Join(t.TempDir(), "models"))
		defer m.Close()
		most := rapid.SampledFrom([]int{1, 3, 8, 1 << 16}).Draw(rt, "most")
		m.CacheAtMost(most)
		for range rapid.IntRange(1, 8).Draw(rt, "commits") {
			s.happen(rt)
			if len(s.items) > 0 && rapid.IntRange(0, 9).Draw(rt, "the item goes") == 0 {
				s.dropItem(rapid.SampledFrom(s.items).Draw(rt, "item"))
			}
			s.caughtUp(t, m)
			for _, item := range append(s.items, "ghost") {
				places := []string{"nowhere"}
				for _, l := range s.levels {
					places = append(places, l.location)
				}
				for range 2 { // read from the file, and from memory
					quantities(rt, m, item, places)
					quantities(rt, m, item, places[:1+len(places)/2])
					quantities(rt, m, item, nil)
				}
			}
			_, size, told := m.Cached()
			require.LessOrEqual(rt, size, max(most, 1+len(s.levels)))
			require.Equal(rt, size, told)
		}
	})
}

func jsonOf(t require.TestingT, v any) string {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// dropItem deletes an item that has nothing, and leaves others alone.
func (s *shop) dropItem(item string) {
	for _, l := range s.levels {
		if l.item == item && live(l) {
			return
		}
	}
	s.record(events.ItemDeleted{ItemID: item})
	s.record(events.ItemRestored{ItemID: item})
	s.record(events.ItemDeleted{ItemID: item})
	for i, other := range s.items {
		if other == item {
			s.items = append(s.items[:i:i], s.items[i+1:]...)
		}
	}
}

// While levels only grow, nobody is told less than the file had before he asked, or
// more than it has afterwards: the cache is neither behind the file nor ahead of it.
func TestTheCacheIsNeverBehindTheFile(t *testing.T) {
	t.Parallel()
	const items = 3
	b := newBook()
	for i := range items {
		id := fmt.Sprint("item-", i)
		b.record(events.ItemCreated{ItemID: id}, events.LevelCreated{ItemID: id, LevelID: "level-" + id, LocationID: "paris"})
	}
	m := b.models(t)
	commits := 600
	if race.On {
		commits = 200
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	var recalled [2]int
	for r := range recalled {
		readers.Go(func() {
			for n := r; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				item := fmt.Sprint("item-", n%items)
				before, _, _, err := m.Plainly(t.Context(), item, []string{"paris"})
				if err != nil {
					t.Error(err)
					return
				}
				told, found := m.Recall("stocked-quantity", fmt.Appendf(nil, `{"inventory_item_id":%q,"location_ids":["paris"]}`, item))
				if !found {
					told, err = m.Query(t.Context(), "stocked-quantity", fmt.Appendf(nil, `{"inventory_item_id":%q,"location_ids":["paris"]}`, item))
				} else {
					recalled[r]++
				}
				after, _, _, afterErr := m.Plainly(t.Context(), item, []string{"paris"})
				if err != nil || afterErr != nil {
					t.Error(err, afterErr)
					return
				}
				if q := told.(projections.Sum).Quantity; q.Less(before) || after.Less(q) {
					t.Errorf("%s is at %s, was at %s before and is at %s after, found in memory: %v", item, q, before, after, found)
					return
				}
			}
		})
	}
	var stocked [items]int64
	for n := range commits {
		i := n * n % items
		stocked[i]++
		id := fmt.Sprint("item-", i)
		at := b.record(events.StockAdjusted{ItemID: id, LevelID: "level-" + id, LocationID: "paris", Delta: units(1), Stocked: units(stocked[i])})
		if n%3 == 0 { // the same caller reads what it wrote
			require.NoError(t, m.WaitFor(soon(t), at))
			answer, err := m.Query(t.Context(), "stocked-quantity", fmt.Appendf(nil, `{"inventory_item_id":%q,"location_ids":["paris"]}`, id))
			require.NoError(t, err)
			require.Equal(t, projections.Sum{Quantity: units(stocked[i])}, answer)
		}
	}
	close(done)
	readers.Wait()
	t.Logf("found in memory: %v times", recalled)
}

// What was read before an event, and comes after it, is not kept; nor is anything
// that is read while the event is being committed.
func TestNothingOldEntersTheCache(t *testing.T) {
	c := projections.NewCache()
	lease := c.Find("item-mug")
	require.NotZero(t, lease)
	require.Zero(t, c.Find("item-mug"), "one reads for all")
	c.Touch("item-mug")
	require.Zero(t, c.Find("item-mug"), "the event is not committed")
	c.Keep("item-mug", lease)
	require.False(t, c.Has("item-mug"))
	c.Settle()
	c.Keep("item-mug", lease)
	require.False(t, c.Has("item-mug"))

	again := c.Find("item-mug")
	require.NotZero(t, again)
	c.Keep("item-mug", lease)
	require.False(t, c.Has("item-mug"), "the lease of before is no good")
	c.Keep("item-mug", again)
	require.True(t, c.Has("item-mug"))
	c.Touch("item-cup")
	require.True(t, c.Has("item-mug"), "that was another one")
	c.Touch("item-mug")
	require.False(t, c.Has("item-mug"))
}

// A transaction of many items does not make the cache large.
func TestACacheRestsWhileMuchIsFolded(t *testing.T) {
	c := projections.NewCache()
	c.Keep("item-mug", c.Find("item-mug"))
	for n := range 10_000 {
		c.Touch(fmt.Sprint("item-", n))
		require.LessOrEqual(t, c.Streams(), 1<<12+2)
	}
	require.False(t, c.Has("item-mug"), "it may be among those that nobody has counted")
	require.Zero(t, c.Find("item-mug"))
	c.Settle()
	require.Zero(t, c.Streams())
	c.Keep("item-mug", c.Find("item-mug"))
	require.True(t, c.Has("item-mug"))
}

// An item with more levels than the cache takes is answered from the file.
func TestAnItemWithManyLevels(t *testing.T) {
	b := newBook()
	b.record(events.ItemCreated{ItemID: "mug"})
	var places []string
	for n := range 70 {
		place := fmt.Sprint("place-", n)
		places = append(places, place)
		b.record(events.LevelCreated{ItemID: "mug", LevelID: "level-" + place, LocationID: place, Stocked: units(int64(n))})
	}
	m := b.models(t)
	for range 2 {
		quantities(t, m, "mug", places)
		quantities(t, m, "mug", places[10:20])
	}
	_, size, _ := m.Cached()
	require.Equal(t, 1, size)
}

// What a generation had in memory is not told by the one that is served after it.
func TestTheCacheBelongsToOneGeneration(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	vandalise(t, filepath.Join(dir, "inventory.v1.db"), `UPDATE levels SET stocked_quantity = 'R99'`)
	m = open(t, b.store, dir)
	defer m.Close()
	body := `{"inventory_item_id":"bolts","location_ids":["berlin"]}`
	wrong := ask(t, m, "stocked-quantity", body)
	require.Equal(t, projections.Sum{Quantity: units(99)}, wrong)
	recalled, found := m.Recall("stocked-quantity", []byte(body))
	require.True(t, found)
	require.Equal(t, wrong, recalled)

	rebuilt(t, m, "inventory")
	_, err := m.Switch(t.Context(), false, "inventory")
	require.NoError(t, err)
	_, found = m.Recall("stocked-quantity", []byte(body))
	require.False(t, found)
	require.Equal(t, projections.Sum{Quantity: units(10)}, ask(t, m, "stocked-quantity", body))
	_, err = m.Switch(t.Context(), true, "inventory")
	require.NoError(t, err)
	require.Equal(t, wrong, ask(t, m, "stocked-quantity", body))
}

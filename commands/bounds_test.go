package commands_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

func TestAShortCommandHasNoEndlessAnswer(t *testing.T) {
	s := newShop(t)
	s.do("create-inventory-items", `{"id":"cup"}`)
	levels := make([]string, 2000)
	for i := range levels {
		levels[i] = fmt.Sprintf(`{"inventory_item_id":"cup","location_id":"at%d"}`, i)
	}
	s.do("create-inventory-levels", "["+strings.Join(levels, ",")+"]")

	named := func(n int) string { return `["cup"` + strings.Repeat(`,"cup"`, n-1) + `]` }
	s.do("restore-inventory-items", named(50))
	refusal := s.refuse("too_many_lines", "restore-inventory-items", named(51))
	require.Equal(t, 51, refusal.Details["line"])
	s.refuse("too_many_lines", "restore-inventory-items", named(51), commands.Envelope{DryRun: true})
}

func TestNothingIsAnEmptyList(t *testing.T) {
	s := newShop(t)
	for _, name := range []string{
		"delete-reservations-by-line-item", "delete-reservations-by-location", "delete-levels-by-location",
	} {
		field := "location_id"
		if strings.HasSuffix(name, "line-item") {
			field = "line_item_id"
		}
		answer := s.do(name, fmt.Sprintf(`{%q:"nowhere"}`, field))
		require.JSONEq(t, `{"ids":[]}`, string(answer.Result), name)
	}
	for _, name := range []string{"delete-inventory-items", "delete-reservations", "delete-stock-locations"} {
		require.JSONEq(t, `{"ids":[]}`, string(s.do(name, `[]`).Result), name)
	}
}

// Who asks for the levels of no item, or at no location, does not ask for all.
func TestAnEmptyListOfLevelsToDeleteNamesNone(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	s.stocked("pot", "paris", 5)
	for _, body := range []string{
		`{"inventory_item_id":[],"location_id":"paris","force":true}`,
		`{"inventory_item_id":"cup","location_id":[],"force":true}`,
	} {
		answer := s.do("delete-inventory-levels", body)
		require.JSONEq(t, `{"ids":[]}`, string(answer.Result), body)
	}
	answer := s.do("delete-inventory-levels", `{"inventory_item_id":null,"location_id":"paris","force":true}`)
	require.Len(t, result[commands.IDsRow](t, answer).IDs, 2, "null is left out")
}

// The bound is on what is kept, not only on what is sent.
func TestMetadataDoNotGrowWithoutEnd(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	s.do("create-stock-locations", `{"id":"paris","name":"Paris"}`)
	s.do("create-reservations", `{"id":"r","inventory_item_id":"cup","location_id":"paris","quantity":1}`)
	text := strings.Repeat("<", 40<<10) // each is stored as six bytes, and counts as one
	for name, update := range map[string]string{
		"update-inventory-items":  `{"id":"cup","metadata":{%q:%q}}`,
		"update-inventory-levels": `{"inventory_item_id":"cup","location_id":"paris","metadata":{%q:%q}}`,
		"update-reservations":     `{"id":"r","metadata":{%q:%q}}`,
		"update-stock-locations":  `{"id":"paris","metadata":{%q:%q}}`,
	} {
		s.do(name, fmt.Sprintf(update, "a", text))
		s.do(name, fmt.Sprintf(update, "b", text[:20<<10]))
		refusal := s.refuse("too_long", name, fmt.Sprintf(update, "c", text[:20<<10]))
		require.Equal(t, "metadata", refusal.Details["field"])
		s.do(name, fmt.Sprintf(update, "a", "short"))
		s.do(name, fmt.Sprintf(update, "c", text[:20<<10]))
	}
}

// A transport that trims headers would make another key of it.
func TestKeysThatATransportWouldChangeAreRefused(t *testing.T) {
	s := newShop(t)
	for _, key := range []string{" lead", "trail ", "two\nlines", "\x7f"} {
		refusal := s.refuse("invalid_key", "create-inventory-items", `{"id":"cup"}`, commands.Envelope{Key: key})
		require.Equal(t, "Idempotency-Key", refusal.Details["field"])
	}
	s.do("create-inventory-items", `{"id":"cup"}`, commands.Envelope{Key: "inner space, ünïcode *.> ="})
}

func TestAnIndexThatStandsStillStopsTheCommandsAndNotTheMemory(t *testing.T) {
	store := memstore.New()
	index := newLagging(t, store)
	s := openShop(t, store, func(c *commands.Config) { c.Index = index })
	s.stocked("cup", "paris", 5)
	s.RememberAtMost(10)
	for range 9 {
		s.do("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
	}
	s.refuse("index_behind", "adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
	require.Equal(t, 10, s.Remembered())

	index.catchUp(-1)
	require.Eventually(t, func() bool {
		_, err := s.try("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
		return err == nil
	}, time.Minute, time.Millisecond, "it goes on when the index does")
	require.Equal(t, "15", s.level("cup", "paris").StockedQuantity.String())
}

func TestAStoppedStoreIsNoUnknownOutcome(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	store.onAppend(func([]events.Commit) ([]uint64, error) {
		return nil, fmt.Errorf("append to /secret/path: %w", events.ErrStopped)
	})
	_, err := s.try("adjust-inventory-levels", `[{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]`)
	require.Equal(t, "unavailable", fault.Code(err), "known to have changed nothing: %v", err)
	require.NotContains(t, err.Error(), "secret")
	require.Contains(t, err.Error(), "must be started again")
	<-s.Failed()
}

package commands_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// What only programs can ask for beside the body of a command.
func TestOptionsThatAreNotInABody(t *testing.T) {
	s := newShop(t)
	s.do("create-stock-locations", `[{"id":"paris","name":"Paris"},{"id":"rome","name":"Rome"}]`)
	s.do("delete-stock-locations", `"rome"`)
	s.do("create-inventory-items", `{"id":"cup"}`)
	level := commands.NewLevel{InventoryItemID: "cup", LocationID: "mars"}
	item := func(locations ...string) commands.NewItem {
		var n commands.NewItem
		for _, l := range locations {
			n.LocationLevels = append(n.LocationLevels, commands.ItemLevel{LocationID: l})
		}
		return n
	}
	gone := []string{"nope"}
	for _, tc := range []struct {
		without, with commands.Command
		refused       string // of which one of them, "with" or "without"
		message       string
	}{
		{
			commands.CreateInventoryItems{Items: []commands.NewItem{item("mars", "paris", "rome")}},
			commands.CreateInventoryItems{Items: []commands.NewItem{item("mars", "paris", "rome")}, KnownLocations: true},
			"with", "Stock locations with ids: mars, rome was not found",
		},
		{
			commands.CreateInventoryLevels{Levels: []commands.NewLevel{level}},
			commands.CreateInventoryLevels{Levels: []commands.NewLevel{level}, KnownLocations: true},
			"with", "Stock locations with ids: mars was not found",
		},
		{
			commands.BatchInventoryItemLevels{Delete: gone},
			commands.BatchInventoryItemLevels{Delete: gone, IgnoreUnknown: true},
			"without", "InventoryLevel with id: nope was not found",
		},
		{
			commands.DeleteInventoryItems{IDs: gone},
			commands.DeleteInventoryItems{IDs: gone, IgnoreUnknown: true},
			"without", "InventoryItem with id: nope was not found",
		},
		{
			commands.DeleteReservations{IDs: gone},
			commands.DeleteReservations{IDs: gone, IgnoreUnknown: true},
			"without", "ReservationItem with id: nope was not found",
		},
		{
			commands.DeleteStockLocations{IDs: gone},
			commands.DeleteStockLocations{IDs: gone, IgnoreUnknown: true},
			"without", "Stock location with id: nope was not found",
		},
	} {
		t.Run(tc.with.Name(), func(t *testing.T) {
			accepted, refused := tc.without, tc.with
			if tc.refused == "without" {
				accepted, refused = tc.with, tc.without
			}
			env := commands.Envelope{Key: tc.with.Name()}
			_, err := s.Do(t.Context(), env, refused)
			require.EqualError(t, err, tc.message)
			first, err := s.Do(t.Context(), env, accepted)
			require.NoError(t, err)
			again, err := s.Do(t.Context(), env, refused)
			require.NoError(t, err, "a key belongs to the body alone")
			require.True(t, again.Replayed)
			require.Equal(t, fmt.Sprint(first.Position, string(first.Result)), fmt.Sprint(again.Position, string(again.Result)))
		})
	}
	s.agreesWithTheLog()
}

// A Go program can send what no JSON body has in it.
func TestMetadataThatIsNoJSONIsRefused(t *testing.T) {
	s := newShop(t)
	s.do("create-inventory-items", `{"id":"cup"}`)
	before := s.head()
	for _, metadata := range []string{``, `{bad`, `{"a":1} b`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}"} {
		_, err := s.Do(t.Context(), commands.Envelope{}, commands.CreateInventoryLevels{Levels: []commands.NewLevel{
			{InventoryItemID: "cup", LocationID: "paris", Metadata: json.RawMessage(metadata)},
		}})
		require.Equal(t, "invalid_metadata", fault.Code(err), "%q: %v", metadata, err)
	}
	require.Equal(t, before, s.head())
}

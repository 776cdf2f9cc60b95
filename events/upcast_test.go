package events

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// No fact has an old shape yet. This one is invented: adjustments that counted
// whole units, before levels had ids.
type stockAdjustedV0 struct {
	ItemID     string `json:"item"`
	LocationID string `json:"location"`
	Count      int64  `json:"count"`
	After      int64  `json:"after"`
}

func upcastStockAdjustedV0(v0 stockAdjustedV0) StockAdjusted {
	return StockAdjusted{
		ItemID: v0.ItemID, LevelID: "unknown", LocationID: v0.LocationID, Delta: Units(v0.Count), Stocked: Units(v0.After),
	}
}

func TestAnOldShapeReadsAsTheNewestOne(t *testing.T) {
	decode := from(upcastStockAdjustedV0)

	fact, err := decode([]byte(`{"item":"iitem_1","location":"berlin","count":-3,"after":4}`))
	require.NoError(t, err)
	require.Equal(t, StockAdjusted{
		ItemID: "iitem_1", LevelID: "unknown", LocationID: "berlin", Delta: Units(-3), Stocked: Units(4),
	}, fact)
	require.Equal(t, "inventory.stock-adjusted.v1", fact.EventType(), "it is the newest version now")
	data, err := json.Marshal(fact)
	require.NoError(t, err)
	require.JSONEq(t, `{"inventory_item_id":"iitem_1","level_id":"unknown","location_id":"berlin","delta":-3,"stocked_quantity":4,"reserved_quantity":0}`, string(data))

	for _, broken := range []string{"", "{", `{"count":"-3"}`, `{"count":1.5}`} {
		fact, err := decode([]byte(broken))
		require.Error(t, err, "%s", broken)
		require.Nil(t, fact)
	}
}

// The table and the names agree, and a decoder makes the fact its name says.
func TestTheTableAndTheNamesAgree(t *testing.T) {
	for name, decode := range schemas {
		fact, err := decode([]byte("{}"))
		require.NoError(t, err, name)
		require.Contains(t, schemas, fact.EventType())
		require.Regexp(t, `^inventory\.[a-z]+(-[a-z]+)*\.v[1-9][0-9]*$`, name)
		fact.fact()
	}
	newest := make(map[string]bool)
	for _, decode := range schemas {
		fact, _ := decode([]byte("{}"))
		newest[fact.EventType()] = true
	}
	for name, decode := range schemas {
		if fact, _ := decode([]byte("{}")); newest[name] {
			require.Equal(t, name, fact.EventType(), "the newest version reads as itself")
		}
	}
}

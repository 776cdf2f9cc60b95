package projections

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/stockledger/stockledger/events"
)

// The three sums below differ, as they do in Medusa, in what they say of no
// locations at all: what is available and stocked there is 0 whatever the item;
// what is reserved there is 0 for an item that exists.

// AvailableQuantity is what may be promised of an item at locations: stocked −
// reserved, over its live levels there. A location named twice counts once, and
// one without a level counts nothing.
func (m *Models) AvailableQuantity(ctx context.Context, itemID string, locationIDs []string) (events.Quantity, error) {
	if len(locationIDs) == 0 {
		return events.Quantity{}, nil
	}
	stocked, reserved, err := m.sums(ctx, itemID, locationIDs)
	return stocked.Minus(reserved), err
}

// StockedQuantity is what is in stock of an item at locations.
func (m *Models) StockedQuantity(ctx context.Context, itemID string, locationIDs []string) (events.Quantity, error) {
	if len(locationIDs) == 0 {
		return events.Quantity{}, nil
	}
	stocked, _, err := m.sums(ctx, itemID, locationIDs)
	return stocked, err
}

// ReservedQuantity is what is reserved of an item at locations.
func (m *Models) ReservedQuantity(ctx context.Context, itemID string, locationIDs []string) (events.Quantity, error) {
	_, reserved, err := m.sums(ctx, itemID, locationIDs)
	return reserved, err
}

// Confirmation says whether so much is available.
type Confirmation struct {
	Confirmed bool            `json:"confirmed"`
	Available events.Quantity `json:"available_quantity"`
}

// ConfirmInventory says whether quantity is available of an item at locations.
func (m *Models) ConfirmInventory(ctx context.Context, itemID string, locationIDs []string, quantity events.Quantity) (Confirmation, error) {
	available, err := m.AvailableQuantity(ctx, itemID, locationIDs)
	if err != nil {
		return Confirmation{}, err
	}
	return Confirmation{!available.Less(quantity), available}, nil
}

// sums refuses an item that does not live, then adds up its levels.
func (m *Models) sums(ctx context.Context, itemID string, locationIDs []string) (stocked, reserved events.Quantity, err error) {
	found, err := m.hasItem(ctx, itemID)
	if err == nil && !found {
		return stocked, reserved, itemNotFound(itemID)
	}
	if err == nil && len(locationIDs) > 0 {
		stocked, reserved, err = m.sumLevels(ctx, itemID, locationIDs)
	}
	if err != nil {
		return stocked, reserved, fmt.Errorf("sum levels of item %s: %w", itemID, err)
	}
	return stocked, reserved, nil
}

func (m *Models) sumLevels(ctx context.Context, itemID string, locationIDs []string) (stocked, reserved events.Quantity, err error) {
	set, err := json.Marshal(locationIDs)
	if err != nil {
		return stocked, reserved, err
	}
	rows, err := m.levels.file.lookup(ctx, `SELECT stocked_quantity, reserved_quantity FROM levels
		WHERE inventory_item_id = ? AND location_id IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL`, itemID, string(set))
	_, err = gather(rows, err, func(s scanner) (none struct{}, err error) {
		var moreStocked, moreReserved events.Quantity
		err = s.Scan(quantity{&moreStocked}, quantity{&moreReserved})
		stocked, reserved = stocked.Plus(moreStocked), reserved.Plus(moreReserved)
		return none, err
	})
	return stocked, reserved, err
}

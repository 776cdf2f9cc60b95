package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
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
	stocked, reserved, err := m.sumsOf(ctx, itemID, locationIDs)
	return stocked.Minus(reserved), err
}

// StockedQuantity is what is in stock of an item at locations.
func (m *Models) StockedQuantity(ctx context.Context, itemID string, locationIDs []string) (events.Quantity, error) {
	if len(locationIDs) == 0 {
		return events.Quantity{}, nil
	}
	stocked, _, err := m.sumsOf(ctx, itemID, locationIDs)
	return stocked, err
}

// ReservedQuantity is what is reserved of an item at locations.
func (m *Models) ReservedQuantity(ctx context.Context, itemID string, locationIDs []string) (events.Quantity, error) {
	_, reserved, err := m.sumsOf(ctx, itemID, locationIDs)
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

// confirming is what confirm-inventory takes: one demand, or a basket of them.
type confirming struct {
	Demand
	Lines []Demand `json:"lines"`
}

func (c confirming) check() error {
	if c.Lines == nil {
		return c.Demand.check()
	}
	if c.ItemID != "" || c.LocationIDs != nil || c.Quantity != nil {
		return fault.New(fault.Invalid, "invalid_value", "ask for one quantity or for lines, not for both").With("field", "lines")
	}
	return checkBasket(c.Lines)
}

func checkBasket(lines []Demand) error {
	places := 0
	for i, line := range lines {
		err := line.check()
		if err == nil && line.Quantity.Sign() < 0 {
			err = fault.New(fault.Invalid, "invalid_quantity", "quantity must not be negative, not %s", line.Quantity).With("field", "quantity")
		}
		if err != nil {
			return fault.Of(err).With("line", i+1)
		}
		places += len(line.LocationIDs)
	}
	if len(lines) > maxBasket || places > maxBasketPlaces {
		limit := maxBasketPlaces
		if len(lines) > maxBasket {
			limit = maxBasket
		}
		return fault.New(fault.Invalid, "too_many_lines", "a basket may have %d lines and %d locations, over all lines; this has %d and %d",
			maxBasket, maxBasketPlaces, len(lines), places).With("limit", limit)
	}
	return nil
}

func (d Demand) check() error {
	if err := required("inventory_item_id", d.ItemID); err != nil {
		return err
	}
	if d.Quantity == nil {
		return required("quantity", "")
	}
	return nil
}

func confirmed(ctx context.Context, m *Models, c confirming) (any, error) {
	if c.Lines != nil {
		return m.ConfirmBasket(ctx, c.Lines)
	}
	return m.ConfirmInventory(ctx, c.ItemID, c.LocationIDs, *c.Quantity)
}

// recallConfirmed is confirmed for one demand. A basket is no item's, and the item
// "" has no levels.
func recallConfirmed(c confirming) (item string, answer func(*itemLevels) any) {
	return c.ItemID, func(found *itemLevels) any {
		stocked, reserved := found.sum(c.LocationIDs)
		available := stocked.Minus(reserved)
		return Confirmation{!available.Less(*c.Quantity), available}
	}
}

// sumsOf refuses an item that does not live, then adds up its levels.
func (m *Models) sumsOf(ctx context.Context, itemID string, locationIDs []string) (stocked, reserved events.Quantity, err error) {
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return stocked, reserved, err
	}
	defer done()
	item, err := m.levelsIn(ctx, itemID)
	switch {
	case err == nil && item == nil:
		return stocked, reserved, itemNotFound(itemID)
	case err == nil && !item.wide:
		stocked, reserved = item.sum(locationIDs)
	case err == nil && len(locationIDs) > 0:
		stocked, reserved, err = m.sumLevels(ctx, itemID, locationIDs)
	}
	if err != nil {
		return stocked, reserved, fmt.Errorf("sum levels of item %s: %w", itemID, err)
	}
	return stocked, reserved, nil
}

// levelsIn are the levels of an item, from memory if they are there, nil when it
// does not live.
func (m *Models) levelsIn(ctx context.Context, itemID string) (item *itemLevels, err error) {
	cache, stream := m.inventory.file.levels, events.ItemStream(itemID)
	item, lease := cache.find(stream)
	if item != nil {
		return item, nil
	}
	defer func() { cache.keep(stream, lease, item) }()
	return m.readLevels(ctx, itemID)
}

// recallLevels are the levels of an item when all of them are in memory, as of a
// position at least; nil otherwise.
func (m *Models) recallLevels(itemID string, after uint64) *itemLevels {
	one := m.inventory
	if one == nil {
		one, _ = m.serves(ofInventory)
	}
	if one == nil || after > 0 && one.position() < after {
		return nil
	}
	if found := one.file.levels.peek(events.ItemStream(itemID)); found != nil && !found.wide {
		return found
	}
	return nil
}

// readLevels reads the levels of an item from the file.
func (m *Models) readLevels(ctx context.Context, itemID string) (item *itemLevels, err error) {
	rows, err := m.inventory.file.lookup(ctx, `SELECT l.location_id, l.stocked_quantity, l.reserved_quantity
		FROM items AS i LEFT JOIN levels AS l ON l.inventory_item_id = i.id AND l.deleted_at IS NULL
		WHERE i.id = ? AND i.deleted_at IS NULL LIMIT ?`, itemID, cacheWide+1)
	levels, err := gather(rows, err, func(s scanner) (l levelStock, err error) {
		return l, s.Scan(blank{&l.location}, amountOrNone{&l.stocked}, amountOrNone{&l.reserved})
	})
	switch {
	case err != nil || len(levels) == 0:
		return nil, err
	case len(levels) > cacheWide:
		return &itemLevels{wide: true}, nil
	case levels[0].location == "": // the item has none
		return &itemLevels{}, nil
	}
	return &itemLevels{levels: slices.Clip(levels)}, nil
}

func (m *Models) sumLevels(ctx context.Context, itemID string, locationIDs []string) (stocked, reserved events.Quantity, err error) {
	set, err := json.Marshal(locationIDs)
	if err != nil {
		return stocked, reserved, err
	}
	rows, err := m.inventory.file.lookup(ctx, `SELECT stocked_quantity, reserved_quantity FROM levels
		WHERE inventory_item_id = ? AND location_id IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL`, itemID, string(set))
	_, err = gather(rows, err, func(s scanner) (none struct{}, err error) {
		var moreStocked, moreReserved events.Quantity
		err = s.Scan(amount{&moreStocked}, amount{&moreReserved})
		stocked, reserved = stocked.Plus(moreStocked), reserved.Plus(moreReserved)
		return none, err
	})
	return stocked, reserved, err
}

package projections

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// Ref points at a thing in an item's stream: the item, and the thing's own id.
type Ref = struct{ Item, ID string }

// Command finds the last event of the commit of a command key, and the digest of
// the command that had it.
func (m *Models) Command(ctx context.Context, key string) (position uint64, digest string, found bool, err error) {
	m, done, err := m.pin(ofMovements)
	if err != nil {
		return 0, "", false, err
	}
	defer done()
	err = m.movements.file.ask(ctx, `SELECT position, digest FROM commands WHERE command_id = ?`, func(row []driver.Value) error {
		at, _ := row[0].(int64)
		position, found = uint64(at), true
		digest, _ = row[1].(string)
		return nil
	}, key)
	if err != nil {
		return 0, "", false, fmt.Errorf("find command %s: %w", key, err)
	}
	return position, digest, found, nil
}

// Find lists what a key points at, oldest first:
//
//	reservation            id of a reservation, in any state    the reservation
//	level                  id of a level, also a deleted one    the level
//	line                   id of a line item                    every reservation it ever had
//	location-levels        id of a location                     the levels there that are not deleted
//	location-reservations  id of a location                     the live reservations there
//	item-variants          id of an item                        the variants linked to it
func (m *Models) Find(ctx context.Context, kind, key string) ([]Ref, error) {
	var query string
	switch kind {
	case "reservation":
		query = `SELECT inventory_item_id, id FROM reservations WHERE id = ?`
	case "level":
		query = `SELECT inventory_item_id, id FROM levels WHERE id = ?`
	case "line":
		query = `SELECT inventory_item_id, id FROM reservations WHERE line_item_id = ? ORDER BY position`
	case "location-levels":
		query = `SELECT inventory_item_id, id FROM levels
			WHERE location_id = ? AND deleted_at IS NULL ORDER BY position`
	case "location-reservations":
		query = `SELECT inventory_item_id, id FROM reservations
			WHERE location_id = ? AND deleted_at IS NULL ORDER BY position`
	case "item-variants":
		query = `SELECT inventory_item_id, variant_id FROM links
			WHERE inventory_item_id = ? AND deleted_at IS NULL ORDER BY position`
	default:
		panic("projections: nothing is found by " + kind)
	}
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return nil, err
	}
	defer done()
	rows, err := m.inventory.file.lookup(ctx, query, key)
	refs, err := gather(rows, err, func(s scanner) (r Ref, err error) { return r, s.Scan(&r.Item, &r.ID) })
	if err != nil {
		return nil, fmt.Errorf("find %s %s: %w", kind, key, err)
	}
	return refs, nil
}

package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/events"
)

// Level is how much of an item is at a location. A deleted one keeps what it
// held, and counts no more.
type Level struct {
	ID         string          `json:"id"`
	ItemID     string          `json:"inventory_item_id"`
	LocationID string          `json:"location_id"`
	Stocked    events.Quantity `json:"stocked_quantity"`
	Reserved   events.Quantity `json:"reserved_quantity"`
	Incoming   events.Quantity `json:"incoming_quantity"`
	Available  events.Quantity `json:"available_quantity"`
	Metadata   json.RawMessage `json:"metadata"`
	Version    uint64          `json:"version"` // of the item's stream when the level last changed
	Created    time.Time       `json:"created_at"`
	Updated    time.Time       `json:"updated_at"`
	Deleted    *time.Time      `json:"deleted_at"`
}

var levelsModel = definition{
	name: "levels", version: 1, stream: "item",
	schema: `
CREATE TABLE levels (
	position           INTEGER PRIMARY KEY, -- of the event that created it
	id                 TEXT NOT NULL UNIQUE,
	inventory_item_id  TEXT NOT NULL,
	location_id        TEXT NOT NULL,
	stocked_quantity   TEXT NOT NULL COLLATE decimal,
	reserved_quantity  TEXT NOT NULL COLLATE decimal,
	incoming_quantity  TEXT NOT NULL COLLATE decimal,
	available_quantity TEXT NOT NULL COLLATE decimal,
	metadata           TEXT,
	version            INTEGER NOT NULL,
	created_at         INTEGER NOT NULL,
	updated_at         INTEGER NOT NULL,
	deleted_at         INTEGER
);
CREATE INDEX levels_by_item     ON levels (inventory_item_id, location_id);
CREATE INDEX levels_by_location ON levels (location_id);`,
	fold: newLevelsFold,
}

type levelsFold struct{ *rows[string, Level] }

func newLevelsFold(f *file) fold {
	return levelsFold{newRows(f, "level", func(id string) (row[Level], bool, error) {
		rows, err := f.lookup(context.Background(), `SELECT `+levelColumns+`, position FROM levels WHERE id = ?`, id)
		return first(rows, err, func(s scanner) (r row[Level], err error) {
			r.value, err = scanLevel(s, &r.position)
			return r, err
		})
	})}
}

func (f levelsFold) apply(e *event) error {
	switch fact := e.fact.(type) {
	case events.LevelCreated:
		return f.add(e, fact.LevelID, Level{
			ID: fact.LevelID, ItemID: fact.ItemID, LocationID: fact.LocationID, Stocked: fact.Stocked, Incoming: fact.Incoming,
			Metadata: fact.Metadata, Version: e.Version, Created: e.at, Updated: e.at,
		})
	case events.LevelUpdated:
		return f.touch(e, fact.LevelID, func(l *Level) error {
			l.Metadata = fact.Metadata
			return nil
		})
	case events.LevelDeleted:
		return f.touch(e, fact.LevelID, func(l *Level) error {
			l.Deleted = &e.at
			return l.holds(fact.Stocked, fact.Incoming)
		})
	case events.LevelRestored:
		return f.change(fact.LevelID, func(l *Level) error {
			if l.Deleted == nil {
				return fmt.Errorf("is not deleted")
			}
			l.Deleted, l.Updated, l.Version = nil, e.at, e.Version
			return l.holds(fact.Stocked, fact.Incoming)
		})
	case events.StockAdjusted, events.StockSet, events.IncomingSet,
		events.ReservationCreated, events.ReservationUpdated, events.ReservationMoved, events.ReservationReleased,
		events.ReservationRestored, events.ReservationFulfilled:
		for _, c := range e.changes {
			if err := f.touch(e, c.level, func(l *Level) error { return l.move(c) }); err != nil {
				return err
			}
		}
	case events.ItemCreated, events.ItemUpdated, events.ItemDeleted, events.ItemRestored,
		events.ItemLinked, events.LinkUpdated, events.ItemUnlinked, events.SKUClaimed, events.SKUReleased,
		events.LocationOpened, events.LocationUpdated, events.LocationClosed, events.CommandAccepted:
	}
	return nil
}

// touch changes a live level.
func (f levelsFold) touch(e *event, id string, do func(*Level) error) error {
	return f.change(id, func(l *Level) error {
		if l.Deleted != nil {
			return fmt.Errorf("is deleted")
		}
		l.Updated, l.Version = e.at, e.Version
		return do(l)
	})
}

func (l *Level) move(c change) (err error) {
	if l.Stocked, err = c.stocked.from(l.Stocked, "stocked_quantity"); err != nil {
		return err
	}
	if l.Reserved, err = c.reserved.from(l.Reserved, "reserved_quantity"); err != nil {
		return err
	}
	l.Incoming, err = c.incoming.from(l.Incoming, "incoming_quantity")
	return err
}

// holds refuses unless the level holds these quantities, and no reservations.
func (l *Level) holds(stocked, incoming events.Quantity) error {
	if !l.Stocked.Equal(stocked) || !l.Incoming.Equal(incoming) || !l.Reserved.IsZero() {
		return fmt.Errorf("holds %s stocked, %s incoming and %s reserved, not %s, %s and 0",
			l.Stocked, l.Incoming, l.Reserved, stocked, incoming)
	}
	return nil
}

func (f levelsFold) flush(w *writer) error {
	insert := func(r *row[Level]) error {
		l := &r.value
		return w.exec(`INSERT INTO levels (stocked_quantity, reserved_quantity, incoming_quantity, available_quantity, metadata,
			version, updated_at, deleted_at, position, id, inventory_item_id, location_id, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			l.Stocked.String(), l.Reserved.String(), l.Incoming.String(), l.Stocked.Minus(l.Reserved).String(), storeDocument(l.Metadata),
			int64(l.Version), storeMoment(l.Updated), storeOptionalMoment(l.Deleted), r.position,
			l.ID, l.ItemID, l.LocationID, storeMoment(l.Created))
	}
	update := func(r *row[Level]) error {
		l := &r.value
		return w.exec(`UPDATE levels SET stocked_quantity = ?, reserved_quantity = ?, incoming_quantity = ?, available_quantity = ?,
			metadata = ?, version = ?, updated_at = ?, deleted_at = ? WHERE position = ?`,
			l.Stocked.String(), l.Reserved.String(), l.Incoming.String(), l.Stocked.Minus(l.Reserved).String(), storeDocument(l.Metadata),
			int64(l.Version), storeMoment(l.Updated), storeOptionalMoment(l.Deleted), r.position)
	}
	return f.rows.flush(insert, update)
}

const levelColumns = `id, inventory_item_id, location_id, stocked_quantity, reserved_quantity, incoming_quantity,
	metadata, version, created_at, updated_at, deleted_at`

// scanLevel reads levelColumns, and what follows them.
func scanLevel(s scanner, more ...any) (l Level, err error) {
	err = s.Scan(append([]any{
		&l.ID, &l.ItemID, &l.LocationID,
		quantity{&l.Stocked},
		quantity{&l.Reserved},
		quantity{&l.Incoming},
		document(&l.Metadata), &l.Version,
		moment{&l.Created},
		moment{&l.Updated},
		optionalMoment(&l.Deleted),
	}, more...)...)
	l.Available = l.Stocked.Minus(l.Reserved)
	return l, err
}

func scanOnlyLevel(s scanner) (Level, error) { return scanLevel(s) }

// RetrieveLevel finds a live level by its id.
func (m *Models) RetrieveLevel(ctx context.Context, id string) (Level, error) {
	rows, err := m.levels.file.lookup(ctx, `SELECT `+levelColumns+` FROM levels WHERE id = ? AND deleted_at IS NULL`, id)
	l, found, err := first(rows, err, scanOnlyLevel)
	if err != nil {
		return l, fmt.Errorf("retrieve level %s: %w", id, err)
	}
	if !found {
		return l, notFound("InventoryLevel with id: "+id+" was not found", "level_id", id)
	}
	return l, nil
}

// RetrieveLevelAt finds the live level of an item at a location.
func (m *Models) RetrieveLevelAt(ctx context.Context, itemID, locationID string) (Level, error) {
	rows, err := m.levels.file.lookup(ctx, `SELECT `+levelColumns+`
		FROM levels WHERE inventory_item_id = ? AND location_id = ? AND deleted_at IS NULL`, itemID, locationID)
	l, found, err := first(rows, err, scanOnlyLevel)
	if err != nil {
		return l, fmt.Errorf("retrieve level of item %s at %s: %w", itemID, locationID, err)
	}
	if !found {
		return l, notFound("Inventory level for item "+itemID+" and location "+locationID+" not found",
			"inventory_item_id", itemID, "location_id", locationID)
	}
	return l, nil
}

// levelsOf are the live levels of an item, oldest first.
func (m *Models) levelsOf(ctx context.Context, itemID string) ([]Level, error) {
	rows, err := m.levels.file.lookup(ctx, `SELECT `+levelColumns+`
		FROM levels WHERE inventory_item_id = ? AND deleted_at IS NULL ORDER BY position`, itemID)
	return gather(rows, err, scanOnlyLevel)
}

var levelsList = list[Level]{
	from:    `levels`,
	columns: levelColumns,
	deletes: true,
	filters: []column{
		{"id", asText},
		{"inventory_item_id", asText},
		{"location_id", asText},
		{"stocked_quantity", asNumber},
		{"reserved_quantity", asNumber},
		{"incoming_quantity", asNumber},
		{"available_quantity", asNumber},
	},
	scan: scanOnlyLevel,
}

// ListLevels lists levels.
func (m *Models) ListLevels(ctx context.Context, l List) (Page[Level], error) {
	return levelsList.run(ctx, m.levels, l)
}

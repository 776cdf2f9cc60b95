package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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

var levelsPart = part{
	stream: "item",
	schema: `
CREATE TABLE levels (
	position           INTEGER PRIMARY KEY, -- of the event that created it
	id                 TEXT NOT NULL,
	inventory_item_id  TEXT NOT NULL,
	location_id        TEXT NOT NULL,
	stocked_quantity   TEXT NOT NULL,
	reserved_quantity  TEXT NOT NULL,
	incoming_quantity  TEXT NOT NULL,
	available_quantity TEXT NOT NULL,
	metadata           TEXT,
	version            INTEGER NOT NULL,
	created_at         INTEGER NOT NULL,
	updated_at         INTEGER NOT NULL,
	deleted_at         INTEGER
);` + levelsTable.schema(),
	indexes: levelsTable.late(),
	fold:    newLevelsFold,
}

type levelsFold struct {
	*rows[string, Level]
	cache *levelCache // what readers have of it
}

func newLevelsFold(f *file) fold {
	f.levels = newLevelCache()
	return levelsFold{cache: f.levels, rows: newRows(f, "level", func(id string) (row[Level], bool, error) {
		rows, err := f.lookup(context.Background(), `SELECT `+levelColumns+`, position FROM levels WHERE id = ?`, id)
		return first(rows, err, func(s scanner) (r row[Level], err error) {
			r.value, err = scanLevel(s, &r.position)
			return r, err
		})
	})}
}

// trim implements fold.
func (f levelsFold) trim() {
	f.rows.trim()
	f.cache.settle()
}

// forget implements fold.
func (f levelsFold) forget() {
	f.rows.forget()
	f.cache.settle()
}

func (f levelsFold) apply(e *event) error {
	f.cache.touch(e.Stream)
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
			l.Deleted = e.moment()
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
		events.LocationOpened, events.LocationUpdated, events.LocationClosed,
		events.LocationLinked, events.LocationUnlinked, events.CommandAccepted:
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
		return w.exec(`INSERT INTO levels (`+levelColumns+`, available_quantity, position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			l.ID, l.ItemID, l.LocationID, quantityKey(l.Stocked), quantityKey(l.Reserved), quantityKey(l.Incoming),
			storeDocument(l.Metadata), int64(l.Version), storeMoment(l.Created), storeMoment(l.Updated), storeOptionalMoment(l.Deleted),
			quantityKey(l.Stocked.Minus(l.Reserved)), r.position)
	}
	update := func(r *row[Level]) error {
		l, was := &r.value, r.was
		if l.Deleted != was.Deleted {
			if err := w.exec(`UPDATE levels SET deleted_at = ? WHERE position = ?`, storeOptionalMoment(l.Deleted), r.position); err != nil {
				return err
			}
		}
		return levelsUpdate.write(w, l.holding(), was.holding(),
			storeDocument(l.Metadata), int64(l.Version), storeMoment(l.Updated), r.position)
	}
	f.order()
	return f.rows.flush(insert, update)
}

var levelsUpdate = updatesHolding(`levels`, `metadata = ?, version = ?, updated_at = ?`)

func (l *Level) holding() holding { return holding{l.Stocked, l.Reserved, l.Incoming} }

const levelColumns = `id, inventory_item_id, location_id, stocked_quantity, reserved_quantity, incoming_quantity,
	metadata, version, created_at, updated_at, deleted_at`

// scanLevel reads levelColumns, and what follows them.
func scanLevel(s scanner, more ...any) (l Level, err error) {
	err = s.Scan(append([]any{
		&l.ID, &l.ItemID, &l.LocationID,
		amount{&l.Stocked},
		amount{&l.Reserved},
		amount{&l.Incoming},
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
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return Level{}, err
	}
	defer done()
	rows, err := m.inventory.file.lookup(ctx, `SELECT `+levelColumns+` FROM levels WHERE id = ? AND deleted_at IS NULL`, id)
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
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return Level{}, err
	}
	defer done()
	rows, err := m.inventory.file.lookup(ctx, `SELECT `+levelColumns+`
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
	rows, err := m.inventory.file.lookup(ctx, `SELECT `+levelColumns+`
		FROM levels WHERE inventory_item_id = ? AND +deleted_at IS NULL ORDER BY position`, itemID)
	return gather(rows, err, scanOnlyLevel)
}

// LevelRow is a level in a list, with what was asked for beside it.
type LevelRow struct {
	Level
	Item      *Item      `json:"inventory_item,omitzero"`
	Locations []Location `json:"stock_locations,omitzero"`
}

var levelsTable = table{
	name: `levels`,
	filters: []column{
		{"id", asText},
		{"inventory_item_id", asText},
		{"location_id", asText},
		{"stocked_quantity", asNumber},
		{"reserved_quantity", asNumber},
		{"incoming_quantity", asNumber},
		{"available_quantity", asNumber},
		{"version", asWhole},
		{"created_at", asTime},
		{"updated_at", asTime},
		{"deleted_at", asTime},
	},
	indexes: slices.Concat(
		[]index{
			uniqueIndex(`levels`, `id`),
			{name: `levels_by_item`, table: `levels`, column: `inventory_item_id`, then: `location_id`, deleted: `deleted_at`},
			{name: `levels_by_deleted_at`, table: `levels`, column: `deleted_at`, then: `position`},
		},
		indexes(`levels`, `deleted_at`, `location_id`, `stocked_quantity`, `reserved_quantity`, `incoming_quantity`, `available_quantity`,
			`created_at`, `updated_at`),
	),
	early:   []string{"inventory_item_id", "location_id"},
	deletes: true,
}

var levelsList = list[LevelRow]{
	table:   &levelsTable,
	columns: levelColumns,
	scan: func(s scanner) (r LevelRow, err error) {
		r.Level, err = scanLevel(s)
		return r, err
	},
	relations: map[string]relation[LevelRow]{
		"inventory_item": bring(func(r *LevelRow) string { return r.ItemID }, itemsByID,
			func(r *LevelRow, all []Item) { r.Item = only(all) }),
		"stock_locations": bring(func(r *LevelRow) string { return r.LocationID }, locationsByID,
			func(r *LevelRow, all []Location) { r.Locations = all }),
	},
}

// ListLevels lists levels.
func (m *Models) ListLevels(ctx context.Context, l List) (Page[LevelRow], error) {
	return levelsList.run(ctx, m, ofInventory, l)
}

package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/stockledger/stockledger/events"
)

// Item is an inventory item. Its quantities are the sums over its live levels.
type Item struct {
	ID               string           `json:"id"`
	SKU              *string          `json:"sku"`
	Title            *string          `json:"title"`
	Description      *string          `json:"description"`
	Thumbnail        *string          `json:"thumbnail"`
	OriginCountry    *string          `json:"origin_country"`
	HSCode           *string          `json:"hs_code"`
	MIDCode          *string          `json:"mid_code"`
	Material         *string          `json:"material"`
	UnitOfMeasure    *string          `json:"unit_of_measure"`
	Weight           *events.Quantity `json:"weight"`
	Length           *events.Quantity `json:"length"`
	Height           *events.Quantity `json:"height"`
	Width            *events.Quantity `json:"width"`
	RequiresShipping bool             `json:"requires_shipping"`
	Metadata         json.RawMessage  `json:"metadata"`

	Stocked   events.Quantity `json:"stocked_quantity"`
	Reserved  events.Quantity `json:"reserved_quantity"`
	Incoming  events.Quantity `json:"incoming_quantity"`
	Available events.Quantity `json:"available_quantity"`

	Version uint64     `json:"version"` // of the item's stream
	Created time.Time  `json:"created_at"`
	Updated time.Time  `json:"updated_at"` // of the item itself, not of its quantities
	Deleted *time.Time `json:"deleted_at"`
}

// The quantities have a narrow table of their own, as they change with nearly
// every event and the rest of an item hardly ever does.
var itemsPart = part{
	stream: "item",
	schema: `
CREATE TABLE items (
	position          INTEGER PRIMARY KEY, -- of the event that created it
	id                TEXT NOT NULL,
	sku               TEXT,
	title             TEXT,
	description       TEXT,
	thumbnail         TEXT,
	origin_country    TEXT,
	hs_code           TEXT,
	mid_code          TEXT,
	material          TEXT,
	unit_of_measure   TEXT,
	weight            TEXT,
	length            TEXT,
	height            TEXT,
	width             TEXT,
	requires_shipping INTEGER NOT NULL,
	metadata          TEXT,
	created_at        INTEGER NOT NULL,
	updated_at        INTEGER NOT NULL,
	deleted_at        INTEGER
);
CREATE TABLE totals (
	position           INTEGER PRIMARY KEY, -- of the item
	stocked_quantity   TEXT NOT NULL,
	reserved_quantity  TEXT NOT NULL,
	incoming_quantity  TEXT NOT NULL,
	available_quantity TEXT NOT NULL,
	version            INTEGER NOT NULL,
	item_deleted_at    INTEGER
);` + itemsTable.schema(),
	indexes: itemsTable.late(),
	fold:    newItemsFold,
}

// itemsFold folds attributes into items and everything else into totals.
type itemsFold struct {
	items  *rows[string, Item] // without the quantities
	totals *rows[string, totals]
}

type totals struct {
	holding
	version uint64
	deleted *time.Time // the item
}

func newItemsFold(f *file) fold {
	return &itemsFold{
		items: newRows(f, "item", func(id string) (row[Item], bool, error) {
			rows, err := f.lookup(context.Background(), `SELECT `+itemColumns+`, position
				FROM items JOIN totals USING (position) WHERE id = ?`, id)
			return first(rows, err, func(s scanner) (r row[Item], err error) {
				r.value, err = scanItem(s, &r.position)
				return r, err
			})
		}),
		totals: newRows(f, "item", func(id string) (row[totals], bool, error) {
			rows, err := f.lookup(context.Background(), `SELECT stocked_quantity, reserved_quantity, incoming_quantity, version, item_deleted_at, position
				FROM items JOIN totals USING (position) WHERE id = ?`, id)
			return first(rows, err, func(s scanner) (r row[totals], err error) {
				t := &r.value
				err = s.Scan(amount{&t.stocked}, amount{&t.reserved}, amount{&t.incoming}, &t.version, optionalMoment(&t.deleted), &r.position)
				return r, err
			})
		}),
	}
}

func (f *itemsFold) apply(e *event) error {
	switch fact := e.fact.(type) {
	case events.ItemCreated:
		it := Item{ID: fact.ItemID, Created: e.at, Updated: e.at}
		it.describe(fact.Attributes)
		if err := f.items.add(e, fact.ItemID, it); err != nil {
			return err
		}
		return f.totals.add(e, fact.ItemID, totals{version: e.Version})
	case events.ItemUpdated:
		return f.change(e, fact.ItemID, func(it *Item) error {
			it.describe(fact.Attributes)
			return nil
		})
	case events.ItemDeleted:
		err := f.change(e, fact.ItemID, func(it *Item) error {
			if it.Deleted != nil {
				return fmt.Errorf("is deleted already")
			}
			it.Deleted = e.moment()
			return nil
		})
		if err != nil {
			return err
		}
		return f.totals.change(fact.ItemID, func(t *totals) error {
			t.deleted = e.moment()
			return t.none()
		})
	case events.ItemRestored:
		err := f.change(e, fact.ItemID, func(it *Item) error {
			if it.Deleted == nil {
				return fmt.Errorf("is not deleted")
			}
			it.Deleted, it.SKU = nil, fact.SKU
			return nil
		})
		if err != nil {
			return err
		}
		return f.totals.change(fact.ItemID, func(t *totals) error {
			t.deleted = nil
			return nil
		})
	case events.LevelUpdated:
		return f.total(e, fact.ItemID)
	case events.LevelCreated, events.LevelDeleted, events.LevelRestored, events.StockAdjusted, events.StockSet, events.IncomingSet,
		events.ReservationCreated, events.ReservationUpdated, events.ReservationMoved, events.ReservationReleased,
		events.ReservationRestored, events.ReservationFulfilled:
		return f.total(e, e.changes[0].item)
	case events.ItemLinked, events.LinkUpdated, events.ItemUnlinked, events.SKUClaimed, events.SKUReleased,
		events.LocationOpened, events.LocationUpdated, events.LocationClosed,
		events.LocationLinked, events.LocationUnlinked, events.CommandAccepted:
	}
	return nil
}

// change changes the attributes of an item.
func (f *itemsFold) change(e *event, id string, do func(*Item) error) error {
	err := f.items.change(id, func(it *Item) error {
		it.Updated = e.at
		return do(it)
	})
	if err != nil {
		return err
	}
	return f.total(e, id)
}

// total adds what the event moves.
func (f *itemsFold) total(e *event, id string) error {
	return f.totals.change(id, func(t *totals) error {
		for _, c := range e.changes {
			t.stocked = t.stocked.Plus(c.stocked.by)
			t.reserved = t.reserved.Plus(c.reserved.by)
			t.incoming = t.incoming.Plus(c.incoming.by)
		}
		t.version = e.Version
		return nil
	})
}

// none refuses unless nothing is left.
func (t *totals) none() error {
	if !t.stocked.IsZero() || !t.reserved.IsZero() || !t.incoming.IsZero() {
		return fmt.Errorf("is deleted with %s stocked, %s reserved and %s incoming left", t.stocked, t.reserved, t.incoming)
	}
	return nil
}

func (it *Item) describe(a events.ItemAttributes) {
	it.SKU, it.Title, it.Description, it.Thumbnail = a.SKU, a.Title, a.Description, a.Thumbnail
	it.OriginCountry, it.HSCode, it.MIDCode, it.Material = a.OriginCountry, a.HSCode, a.MIDCode, a.Material
	it.UnitOfMeasure, it.Weight, it.Length, it.Height, it.Width = a.UnitOfMeasure, a.Weight, a.Length, a.Height, a.Width
	it.RequiresShipping, it.Metadata = a.RequiresShipping, a.Metadata
}

func (f *itemsFold) flush(w *writer) error {
	const insert = `INSERT INTO items (id, sku, title, description, thumbnail, origin_country, hs_code, mid_code, material,
		unit_of_measure, weight, length, height, width, requires_shipping, metadata, created_at, updated_at, deleted_at, position)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	const update = `UPDATE items SET (id, sku, title, description, thumbnail, origin_country, hs_code, mid_code, material,
		unit_of_measure, weight, length, height, width, requires_shipping, metadata, created_at, updated_at, deleted_at)
		= (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE position = ?`
	write := func(text string) func(*row[Item]) error {
		return func(r *row[Item]) error {
			it := &r.value
			err := w.exec(text, it.ID, storeText(it.SKU), storeText(it.Title), storeText(it.Description), storeText(it.Thumbnail),
				storeText(it.OriginCountry), storeText(it.HSCode), storeText(it.MIDCode), storeText(it.Material),
				storeText(it.UnitOfMeasure), storeAmount(it.Weight), storeAmount(it.Length), storeAmount(it.Height),
				storeAmount(it.Width), it.RequiresShipping, storeDocument(it.Metadata),
				storeMoment(it.Created), storeMoment(it.Updated), storeOptionalMoment(it.Deleted), r.position)
			if err != nil {
				return err
			}
			return itemsTable.search.index(w, r.position, r.had((*Item).searched), it.searched())
		}
	}
	if err := f.items.flush(write(insert), write(update)); err != nil {
		return err
	}
	f.totals.order()
	return f.totals.flush(
		func(r *row[totals]) error {
			t := &r.value
			return w.exec(`INSERT INTO totals (stocked_quantity, reserved_quantity, incoming_quantity, available_quantity,
				version, item_deleted_at, position) VALUES (?, ?, ?, ?, ?, ?, ?)`,
				quantityKey(t.stocked), quantityKey(t.reserved), quantityKey(t.incoming), quantityKey(t.available()),
				int64(t.version), storeOptionalMoment(t.deleted), r.position)
		},
		func(r *row[totals]) error {
			t, was := &r.value, r.was
			if t.deleted != was.deleted {
				err := w.exec(`UPDATE totals SET item_deleted_at = ? WHERE position = ?`, storeOptionalMoment(t.deleted), r.position)
				if err != nil {
					return err
				}
			}
			return totalsUpdate.write(w, t.holding, was.holding, int64(t.version), r.position)
		})
}

var totalsUpdate = updatesHolding(`totals`, `version = ?`)

// searched is what of an item is found by words.
func (it *Item) searched() string {
	return folded(it.SKU, it.HSCode, it.MIDCode, it.Title, it.Description)
}

func (f *itemsFold) trim() {
	f.items.trim()
	f.totals.trim()
}

func (f *itemsFold) forget() {
	f.items.forget()
	f.totals.forget()
}

const itemColumns = `id, sku, title, description, thumbnail, origin_country, hs_code, mid_code, material, unit_of_measure,
	weight, length, height, width, requires_shipping, metadata,
	stocked_quantity, reserved_quantity, incoming_quantity, version, created_at, updated_at, deleted_at`

// scanItem reads itemColumns, and what follows them.
func scanItem(s scanner, more ...any) (it Item, err error) {
	err = s.Scan(append([]any{
		&it.ID, &it.SKU, &it.Title, &it.Description, &it.Thumbnail, &it.OriginCountry, &it.HSCode, &it.MIDCode, &it.Material,
		&it.UnitOfMeasure, optionalAmount(&it.Weight), optionalAmount(&it.Length), optionalAmount(&it.Height),
		optionalAmount(&it.Width), &it.RequiresShipping, document(&it.Metadata),
		amount{&it.Stocked},
		amount{&it.Reserved},
		amount{&it.Incoming},
		&it.Version,
		moment{&it.Created},
		moment{&it.Updated},
		optionalMoment(&it.Deleted),
	}, more...)...)
	it.Available = it.Stocked.Minus(it.Reserved)
	return it, err
}

// RetrievedItem is an item with its live levels, oldest first. Its quantities
// are their sums.
type RetrievedItem struct {
	Item
	Levels []Level `json:"location_levels"`
}

// RetrieveItem finds a live item.
func (m *Models) RetrieveItem(ctx context.Context, id string) (RetrievedItem, error) {
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return RetrievedItem{}, err
	}
	defer done()
	rows, err := m.inventory.file.lookup(ctx, `SELECT `+itemColumns+`
		FROM items JOIN totals USING (position) WHERE id = ? AND deleted_at IS NULL`, id)
	it, found, err := first(rows, err, func(s scanner) (Item, error) { return scanItem(s) })
	if err != nil {
		return RetrievedItem{}, fmt.Errorf("retrieve item %s: %w", id, err)
	}
	if !found {
		return RetrievedItem{}, itemNotFound(id)
	}
	levels, err := m.levelsOf(ctx, id)
	if err != nil {
		return RetrievedItem{}, fmt.Errorf("retrieve item %s: %w", id, err)
	}
	// Events may have been folded between the two reads; an answer is in
	// agreement with itself.
	it.Stocked, it.Reserved, it.Incoming = events.Quantity{}, events.Quantity{}, events.Quantity{}
	for _, l := range levels {
		it.Stocked, it.Reserved, it.Incoming = it.Stocked.Plus(l.Stocked), it.Reserved.Plus(l.Reserved), it.Incoming.Plus(l.Incoming)
	}
	it.Available = it.Stocked.Minus(it.Reserved)
	return RetrievedItem{it, levels}, nil
}

func itemNotFound(id string) error {
	return notFound("InventoryItem with id: "+id+" was not found", "inventory_item_id", id)
}

// ItemRow is an item in a list, with what was asked for beside it. All of that
// is oldest first.
type ItemRow struct {
	Item
	Levels       []Level       `json:"location_levels,omitzero"`
	Reservations []Reservation `json:"reservation_items,omitzero"`
	Variants     []Link        `json:"variants,omitzero"`
}

var itemsTable = table{
	name: `items`,
	beside: beside{`totals`, []string{
		"stocked_quantity", "reserved_quantity", "incoming_quantity", "available_quantity", "version",
	}},
	filters: []column{
		{"id", asText},
		{"sku", asText},
		{"title", asText},
		{"description", asText},
		{"thumbnail", asText},
		{"origin_country", asText},
		{"hs_code", asText},
		{"mid_code", asText},
		{"material", asText},
		{"unit_of_measure", asText},
		{"weight", asNumber},
		{"length", asNumber},
		{"height", asNumber},
		{"width", asNumber},
		{"requires_shipping", asBoolean},
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
			uniqueIndex(`items`, `id`),
			{name: `items_by_deleted_at`, table: `items`, column: `deleted_at`, then: `position`},
		},
		indexes(`items`, `deleted_at`, `sku`, `title`, `thumbnail`, `origin_country`, `hs_code`, `mid_code`, `material`,
			`unit_of_measure`, `weight`, `length`, `height`, `width`, `requires_shipping`, `created_at`, `updated_at`),
		indexes(`totals`, `item_deleted_at`, `stocked_quantity`, `reserved_quantity`, `incoming_quantity`, `available_quantity`),
	),
	search:  search{columns: []string{"sku", "hs_code", "mid_code", "title", "description"}, grams: `item_grams`},
	nested:  map[string]nested{"location_levels": levelsOfItem, "location_id": atLocation},
	deletes: true,
}

var itemsList = list[ItemRow]{
	table:   &itemsTable,
	columns: itemColumns,
	scan: func(s scanner) (r ItemRow, err error) {
		r.Item, err = scanItem(s)
		return r, err
	},
	relations: map[string]relation[ItemRow]{
		"location_levels": bring(func(r *ItemRow) string { return r.ID }, levelsOfItems,
			func(r *ItemRow, l []Level) { r.Levels = l }),
		"reservation_items": bring(func(r *ItemRow) string { return r.ID }, reservationsOfItems,
			func(r *ItemRow, all []Reservation) { r.Reservations = all }),
		"variants": bring(func(r *ItemRow) string { return r.ID }, linksOfItems,
			func(r *ItemRow, all []Link) { r.Variants = all }),
	},
}

// ListItems lists items.
func (m *Models) ListItems(ctx context.Context, l List) (Page[ItemRow], error) {
	return itemsList.run(ctx, m, ofInventory, l)
}

package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/stockledger/stockledger/events"
)

// The states of a reservation.
const (
	StatusLive      = "live"      // it holds units
	StatusReleased  = "released"  // it was let go of, and may be restored
	StatusFulfilled = "fulfilled" // all it held was taken out of stock
)

// Reservation is a promise of units of an item at a location. One that holds no
// more is deleted.
type Reservation struct {
	ID             string          `json:"id"`
	ItemID         string          `json:"inventory_item_id"`
	LevelID        string          `json:"level_id"`
	LocationID     string          `json:"location_id"`
	Quantity       events.Quantity `json:"quantity"`           // it holds, or held when it was released
	Fulfilled      events.Quantity `json:"fulfilled_quantity"` // taken out of stock through it, so far
	Status         string          `json:"status"`
	LineItemID     *string         `json:"line_item_id"`
	Description    *string         `json:"description"`
	ExternalID     *string         `json:"external_id"`
	CreatedBy      *string         `json:"created_by"`
	AllowBackorder bool            `json:"allow_backorder"`
	Metadata       json.RawMessage `json:"metadata"`
	Version        uint64          `json:"version"` // of the item's stream when it last changed
	Created        time.Time       `json:"created_at"`
	Updated        time.Time       `json:"updated_at"`
	Deleted        *time.Time      `json:"deleted_at"`
}

var reservationsPart = part{
	stream: "item",
	schema: `
CREATE TABLE reservations (
	position           INTEGER PRIMARY KEY, -- of the event that created it
	id                 TEXT NOT NULL,
	inventory_item_id  TEXT NOT NULL,
	level_id           TEXT NOT NULL,
	location_id        TEXT NOT NULL,
	quantity           TEXT NOT NULL,
	fulfilled_quantity TEXT NOT NULL,
	status             TEXT NOT NULL,
	line_item_id       TEXT,
	description        TEXT,
	external_id        TEXT,
	created_by         TEXT,
	allow_backorder    INTEGER NOT NULL,
	metadata           TEXT,
	version            INTEGER NOT NULL,
	created_at         INTEGER NOT NULL,
	updated_at         INTEGER NOT NULL,
	deleted_at         INTEGER
);` + reservationsTable.schema(),
	indexes: reservationsTable.late(),
	fold:    newReservationsFold,
}

type reservationsFold struct{ *rows[string, Reservation] }

func newReservationsFold(f *file) fold {
	return reservationsFold{newRows(f, "reservation", func(id string) (row[Reservation], bool, error) {
		rows, err := f.lookup(context.Background(), `SELECT `+reservationColumns+`, position FROM reservations WHERE id = ?`, id)
		return first(rows, err, func(s scanner) (r row[Reservation], err error) {
			r.value, err = scanReservation(s, &r.position)
			return r, err
		})
	})}
}

func (f reservationsFold) apply(e *event) error {
	switch fact := e.fact.(type) {
	case events.ReservationCreated:
		r := Reservation{
			ID: fact.ReservationID, ItemID: fact.ItemID, LevelID: fact.LevelID, LocationID: fact.LocationID,
			Quantity: fact.Quantity, Status: StatusLive, Version: e.Version, Created: e.at, Updated: e.at,
		}
		r.describe(fact.Details)
		return f.add(e, fact.ReservationID, r)
	case events.ReservationUpdated:
		return f.touch(e, fact.ReservationID, fact.LevelID, fact.From, func(r *Reservation) {
			r.Quantity = fact.Quantity
			r.describe(fact.Details)
		})
	case events.ReservationMoved:
		return f.touch(e, fact.ReservationID, fact.FromLevelID, fact.Quantity, func(r *Reservation) {
			r.LevelID, r.LocationID = fact.LevelID, fact.LocationID
		})
	case events.ReservationReleased:
		return f.touch(e, fact.ReservationID, fact.LevelID, fact.Quantity, func(r *Reservation) {
			r.Status, r.Deleted = StatusReleased, e.moment()
		})
	case events.ReservationFulfilled:
		return f.touch(e, fact.ReservationID, fact.LevelID, fact.Quantity.Plus(fact.Remaining), func(r *Reservation) {
			r.Quantity, r.Fulfilled = fact.Remaining, r.Fulfilled.Plus(fact.Quantity)
			if r.Quantity.IsZero() {
				r.Status, r.Deleted = StatusFulfilled, e.moment()
			}
		})
	case events.ReservationRestored:
		return f.change(fact.ReservationID, func(r *Reservation) error {
			if r.Status != StatusReleased {
				return fmt.Errorf("is %s, not released", r.Status)
			}
			r.Status, r.Deleted, r.Updated, r.Version = StatusLive, nil, e.at, e.Version
			r.Quantity, r.LevelID, r.LocationID = fact.Quantity, fact.LevelID, fact.LocationID
			r.describe(fact.Details)
			return nil
		})
	case events.ItemCreated, events.ItemUpdated, events.ItemDeleted, events.ItemRestored,
		events.LevelCreated, events.LevelUpdated, events.LevelDeleted, events.LevelRestored,
		events.StockAdjusted, events.StockSet, events.IncomingSet,
		events.ItemLinked, events.LinkUpdated, events.ItemUnlinked, events.SKUClaimed, events.SKUReleased,
		events.LocationOpened, events.LocationUpdated, events.LocationClosed,
		events.LocationLinked, events.LocationUnlinked, events.CommandAccepted:
	}
	return nil
}

// touch changes a reservation that must hold so much, there.
func (f reservationsFold) touch(e *event, id, level string, quantity events.Quantity, do func(*Reservation)) error {
	return f.change(id, func(r *Reservation) error {
		if r.Status != StatusLive || r.LevelID != level || !r.Quantity.Equal(quantity) {
			return fmt.Errorf("is %s and holds %s at level %s, not %s at level %s", r.Status, r.Quantity, r.LevelID, quantity, level)
		}
		r.Updated, r.Version = e.at, e.Version
		do(r)
		return nil
	})
}

func (r *Reservation) describe(d events.ReservationDetails) {
	r.LineItemID, r.Description, r.ExternalID, r.CreatedBy = d.LineItemID, d.Description, d.ExternalID, d.CreatedBy
	r.AllowBackorder, r.Metadata = d.AllowBackorder, d.Metadata
}

func (f reservationsFold) flush(w *writer) error {
	write := func(text string) func(*row[Reservation]) error {
		return func(row *row[Reservation]) error {
			r := &row.value
			err := w.exec(text, r.ID, r.ItemID, r.LevelID, r.LocationID, quantityKey(r.Quantity), quantityKey(r.Fulfilled), r.Status,
				storeText(r.LineItemID), storeText(r.Description), storeText(r.ExternalID), storeText(r.CreatedBy), r.AllowBackorder,
				storeDocument(r.Metadata), int64(r.Version), storeMoment(r.Created), storeMoment(r.Updated),
				storeOptionalMoment(r.Deleted), row.position)
			if err != nil {
				return err
			}
			return reservationsTable.search.index(w, row.position, row.had((*Reservation).searched), r.searched())
		}
	}
	return f.rows.flush(
		write(`INSERT INTO reservations (`+reservationColumns+`, position)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
		write(`UPDATE reservations SET (`+reservationColumns+`)
			= (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE position = ?`))
}

// searched is what of a reservation is found by words.
func (r *Reservation) searched() string { return folded(r.Description) }

const reservationColumns = `id, inventory_item_id, level_id, location_id, quantity, fulfilled_quantity, status,
	line_item_id, description, external_id, created_by, allow_backorder, metadata, version, created_at, updated_at, deleted_at`

// scanReservation reads reservationColumns, and what follows them.
func scanReservation(s scanner, more ...any) (r Reservation, err error) {
	err = s.Scan(append([]any{
		&r.ID, &r.ItemID, &r.LevelID, &r.LocationID,
		amount{&r.Quantity},
		amount{&r.Fulfilled},
		&r.Status,
		&r.LineItemID, &r.Description, &r.ExternalID, &r.CreatedBy, &r.AllowBackorder, document(&r.Metadata),
		&r.Version,
		moment{&r.Created},
		moment{&r.Updated},
		optionalMoment(&r.Deleted),
	}, more...)...)
	return r, err
}

func scanOnlyReservation(s scanner) (Reservation, error) { return scanReservation(s) }

// RetrieveReservation finds a live reservation.
func (m *Models) RetrieveReservation(ctx context.Context, id string) (Reservation, error) {
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return Reservation{}, err
	}
	defer done()
	rows, err := m.inventory.file.lookup(ctx, `SELECT `+reservationColumns+`
		FROM reservations WHERE id = ? AND deleted_at IS NULL`, id)
	r, found, err := first(rows, err, scanOnlyReservation)
	if err != nil {
		return r, fmt.Errorf("retrieve reservation %s: %w", id, err)
	}
	if !found {
		return r, notFound("ReservationItem with id: "+id+" was not found", "reservation_id", id)
	}
	return r, nil
}

// ReservationRow is a reservation in a list, with what was asked for beside it.
type ReservationRow struct {
	Reservation
	Item *Item `json:"inventory_item,omitzero"`
}

var reservationsTable = table{
	name: `reservations`,
	filters: []column{
		{"id", asText},
		{"inventory_item_id", asText},
		{"level_id", asText},
		{"location_id", asText},
		{"quantity", asNumber},
		{"fulfilled_quantity", asNumber},
		{"status", asText},
		{"line_item_id", asText},
		{"description", asText},
		{"external_id", asText},
		{"created_by", asText},
		{"allow_backorder", asBoolean},
		{"version", asWhole},
		{"created_at", asTime},
		{"updated_at", asTime},
		{"deleted_at", asTime},
	},
	// Most reservations there ever were are deleted, and asked for by what they
	// were made for. By the rest, those that hold something are.
	indexes: slices.Concat(
		[]index{uniqueIndex(`reservations`, `id`)},
		indexes(`reservations`, ``, `inventory_item_id`, `line_item_id`, `external_id`, `deleted_at`),
		liveIndexes(`reservations`, `level_id`, `location_id`, `quantity`, `fulfilled_quantity`, `status`, `created_by`, `allow_backorder`,
			`created_at`, `updated_at`),
	),
	alive:   `live_reservations`,
	search:  search{columns: []string{"description"}, grams: `reservation_grams`, also: itemOfReservation},
	early:   []string{"inventory_item_id", "line_item_id", "location_id"},
	deletes: true,
}

var reservationsList = list[ReservationRow]{
	table:   &reservationsTable,
	columns: reservationColumns,
	scan: func(s scanner) (r ReservationRow, err error) {
		r.Reservation, err = scanReservation(s)
		return r, err
	},
	relations: map[string]relation[ReservationRow]{
		"inventory_item": bring(func(r *ReservationRow) string { return r.ItemID }, itemsByID,
			func(r *ReservationRow, all []Item) { r.Item = only(all) }),
	},
}

// ListReservations lists reservations.
func (m *Models) ListReservations(ctx context.Context, l List) (Page[ReservationRow], error) {
	return reservationsList.run(ctx, m, ofInventory, l)
}

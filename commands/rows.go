package commands

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// What commands answer: the rows they changed, as they are after the line that
// changed them. The names are Medusa's, with available_quantity and version
// added; version is the one Expect compares.

// ItemRow is an inventory item.
type ItemRow struct {
	ID string `json:"id"`
	events.ItemAttributes
	StockedQuantity  events.Quantity `json:"stocked_quantity"`
	ReservedQuantity events.Quantity `json:"reserved_quantity"`
	LocationLevels   []LevelRow      `json:"location_levels"`
	Version          uint64          `json:"version"`
	CreatedAt        time.Time       `json:"created_at"`
	UpdatedAt        time.Time       `json:"updated_at"`
	DeletedAt        *time.Time      `json:"deleted_at"`
}

// LevelRow is the stock of an item at a location.
type LevelRow struct {
	ID                string          `json:"id"`
	InventoryItemID   string          `json:"inventory_item_id"`
	LocationID        string          `json:"location_id"`
	StockedQuantity   events.Quantity `json:"stocked_quantity"`
	ReservedQuantity  events.Quantity `json:"reserved_quantity"`
	IncomingQuantity  events.Quantity `json:"incoming_quantity"`
	AvailableQuantity events.Quantity `json:"available_quantity"`
	Metadata          json.RawMessage `json:"metadata"`
	Version           uint64          `json:"version"`
	CreatedAt         time.Time       `json:"created_at"`
	UpdatedAt         time.Time       `json:"updated_at"`
	DeletedAt         *time.Time      `json:"deleted_at"`
}

// ReservationRow is a reservation.
type ReservationRow struct {
	ID              string          `json:"id"`
	InventoryItemID string          `json:"inventory_item_id"`
	LocationID      string          `json:"location_id"`
	Quantity        events.Quantity `json:"quantity"` // still held
	events.ReservationDetails
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
	DeletedAt *time.Time `json:"deleted_at"` // when it was released or used up
}

// LinkRow says that a variant is made of an item.
type LinkRow struct {
	VariantID        string          `json:"variant_id"`
	InventoryItemID  string          `json:"inventory_item_id"`
	RequiredQuantity events.Quantity `json:"required_quantity"`
}

// LocationRow is a stock location.
type LocationRow struct {
	ID string `json:"id"`
	events.LocationAttributes
	events.LocationLinks
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
	DeletedAt *time.Time `json:"deleted_at"`
}

// IDsRow names what a command deleted or restored.
type IDsRow struct {
	IDs []string `json:"ids"`
}

// ids is an IDsRow of all the lists; it says [] and not null where there is none.
func ids(lists ...[]string) IDsRow {
	return IDsRow{append([]string{}, slices.Concat(lists...)...)}
}

// maxAnswered is how many levels the items of one answer may have together. It
// keeps a short command that names a large item often from filling the memory.
const maxAnswered = 5 * MaxLines

// itemRow is a line of the answer.
func (d *decision) itemRow(it *domain.Item) (ItemRow, error) {
	levels := it.Levels()
	if d.answered += len(levels); d.answered > maxAnswered {
		return ItemRow{}, fault.New(fault.Invalid, "too_many_lines",
			"the items of the answer have more than %d levels; send several commands", maxAnswered).With("inventory_item_id", it.ID)
	}
	row := ItemRow{
		ID: it.ID, ItemAttributes: it.Attributes, LocationLevels: []LevelRow{}, Version: it.Version,
		CreatedAt: it.Created, UpdatedAt: it.Updated, DeletedAt: timeOrNull(it.Deleted),
	}
	row.StockedQuantity, row.ReservedQuantity = it.Totals()
	for _, l := range levels {
		row.LocationLevels = append(row.LocationLevels, levelRow(it.ID, l))
	}
	return row, nil
}

func levelRow(item string, l domain.Level) LevelRow {
	return LevelRow{
		ID: l.ID, InventoryItemID: item, LocationID: l.LocationID,
		StockedQuantity: l.Stocked, ReservedQuantity: l.Reserved, IncomingQuantity: l.Incoming,
		AvailableQuantity: l.Available(), Metadata: l.Metadata, Version: l.Version,
		CreatedAt: l.Created, UpdatedAt: l.Updated,
	}
}

func reservationRow(item string, r domain.Reservation) ReservationRow {
	return ReservationRow{
		ID: r.ID, InventoryItemID: item, LocationID: r.LocationID, Quantity: r.Quantity, ReservationDetails: r.Details,
		CreatedAt: r.Created, UpdatedAt: r.Updated, DeletedAt: timeOrNull(r.Released),
	}
}

func locationRow(l *domain.Location) LocationRow {
	return LocationRow{
		ID: l.ID, LocationAttributes: l.Attributes, LocationLinks: l.Links,
		CreatedAt: l.Created, UpdatedAt: l.Updated, DeletedAt: timeOrNull(l.Closed),
	}
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

package events

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// A Fact is something that happened, in the past tense. Facts carry the
// quantities that resulted, so that whoever replays them can check what he
// computes.
//
//sumtype:decl
type Fact interface {
	// EventType is the fact's name on disk, with the version of its shape.
	EventType() string
	fact()
}

// ItemAttributes describe an inventory item. A null in JSON and a nil here mean
// that it is not known. The names are Medusa's.
type ItemAttributes struct {
	SKU              *string         `json:"sku"`
	Title            *string         `json:"title"`
	Description      *string         `json:"description"`
	Thumbnail        *string         `json:"thumbnail"`
	OriginCountry    *string         `json:"origin_country"`
	HSCode           *string         `json:"hs_code"`
	MIDCode          *string         `json:"mid_code"`
	Material         *string         `json:"material"`
	UnitOfMeasure    *string         `json:"unit_of_measure"`
	Weight           *Quantity       `json:"weight"`
	Length           *Quantity       `json:"length"`
	Height           *Quantity       `json:"height"`
	Width            *Quantity       `json:"width"`
	RequiresShipping bool            `json:"requires_shipping"`
	Metadata         json.RawMessage `json:"metadata"` // a JSON object or null
}

// ItemCreated is the first fact of every item stream.
type ItemCreated struct {
	ItemID     string         `json:"inventory_item_id"`
	Attributes ItemAttributes `json:"attributes"`
}

// ItemUpdated gives the item new attributes: all of them, as they are now.
type ItemUpdated struct {
	ItemID     string         `json:"inventory_item_id"`
	Changed    []string       `json:"changed"` // JSON names of the attributes that differ from before
	Attributes ItemAttributes `json:"attributes"`
}

// ItemDeleted ends an item's life until it is restored. The LevelDeleted facts
// of its levels precede it in the same commit.
type ItemDeleted struct {
	ItemID string   `json:"inventory_item_id"`
	SKU    *string  `json:"sku"`
	Levels []string `json:"levels"` // ids of the levels this deletion removed
	Links  []Link   `json:"links"`  // the variant links this deletion removed
}

// A Link says how many units of an item a product variant is made of.
type Link struct {
	VariantID string   `json:"variant_id"`
	Required  Quantity `json:"required_quantity"`
}

// ItemRestored undoes ItemDeleted. The LevelRestored facts of the levels that
// deletion removed follow it in the same commit.
type ItemRestored struct {
	ItemID string  `json:"inventory_item_id"`
	SKU    *string `json:"sku"`
}

// LevelCreated says that an item is stocked at a location.
type LevelCreated struct {
	ItemID     string          `json:"inventory_item_id"`
	LevelID    string          `json:"level_id"`
	LocationID string          `json:"location_id"`
	Stocked    Quantity        `json:"stocked_quantity"`
	Incoming   Quantity        `json:"incoming_quantity"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
}

// LevelUpdated gives a level other metadata.
type LevelUpdated struct {
	ItemID     string          `json:"inventory_item_id"`
	LevelID    string          `json:"level_id"`
	LocationID string          `json:"location_id"`
	Metadata   json.RawMessage `json:"metadata"`
}

// LevelDeleted says that an item is no longer stocked at a location. What was
// in stock there no longer counts.
type LevelDeleted struct {
	ItemID     string   `json:"inventory_item_id"`
	LevelID    string   `json:"level_id"`
	LocationID string   `json:"location_id"`
	Stocked    Quantity `json:"stocked_quantity"` // at the moment of deletion
	Incoming   Quantity `json:"incoming_quantity"`
}

// LevelRestored brings a level back as it was when its item was deleted.
type LevelRestored struct {
	ItemID     string   `json:"inventory_item_id"`
	LevelID    string   `json:"level_id"`
	LocationID string   `json:"location_id"`
	Stocked    Quantity `json:"stocked_quantity"`
	Incoming   Quantity `json:"incoming_quantity"`
}

// StockAdjusted moves the stocked quantity of a level by Delta.
type StockAdjusted struct {
	ItemID     string   `json:"inventory_item_id"`
	LevelID    string   `json:"level_id"`
	LocationID string   `json:"location_id"`
	Delta      Quantity `json:"delta"`
	Stocked    Quantity `json:"stocked_quantity"`  // after
	Reserved   Quantity `json:"reserved_quantity"` // unchanged
}

// StockSet sets the stocked quantity of a level.
type StockSet struct {
	ItemID     string   `json:"inventory_item_id"`
	LevelID    string   `json:"level_id"`
	LocationID string   `json:"location_id"`
	From       Quantity `json:"from"`
	Stocked    Quantity `json:"stocked_quantity"`  // after
	Reserved   Quantity `json:"reserved_quantity"` // unchanged
}

// IncomingSet sets what is expected to arrive at a level. It decides nothing.
type IncomingSet struct {
	ItemID     string   `json:"inventory_item_id"`
	LevelID    string   `json:"level_id"`
	LocationID string   `json:"location_id"`
	From       Quantity `json:"from"`
	Incoming   Quantity `json:"incoming_quantity"` // after
}

// ReservationDetails describe a reservation beyond what it holds.
type ReservationDetails struct {
	LineItemID     *string         `json:"line_item_id"`
	Description    *string         `json:"description"`
	ExternalID     *string         `json:"external_id"`
	CreatedBy      *string         `json:"created_by"`
	AllowBackorder bool            `json:"allow_backorder"`
	Metadata       json.RawMessage `json:"metadata"` // a JSON object or null
}

// ReservationCreated sets units of a level aside.
type ReservationCreated struct {
	ItemID        string             `json:"inventory_item_id"`
	LevelID       string             `json:"level_id"`
	LocationID    string             `json:"location_id"`
	ReservationID string             `json:"reservation_id"`
	Quantity      Quantity           `json:"quantity"`
	Details       ReservationDetails `json:"details"`
	Stocked       Quantity           `json:"stocked_quantity"`  // of the level, unchanged
	Reserved      Quantity           `json:"reserved_quantity"` // of the level, after
}

// ReservationUpdated changes how much a reservation holds, or what describes it.
type ReservationUpdated struct {
	ItemID        string             `json:"inventory_item_id"`
	LevelID       string             `json:"level_id"`
	LocationID    string             `json:"location_id"`
	ReservationID string             `json:"reservation_id"`
	From          Quantity           `json:"from"`
	Quantity      Quantity           `json:"quantity"` // after
	Details       ReservationDetails `json:"details"`  // after
	Stocked       Quantity           `json:"stocked_quantity"`
	Reserved      Quantity           `json:"reserved_quantity"` // of the level, after
}

// ReservationMoved lets go of the units at one level and holds as many at
// another, of the same item.
type ReservationMoved struct {
	ItemID         string   `json:"inventory_item_id"`
	ReservationID  string   `json:"reservation_id"`
	Quantity       Quantity `json:"quantity"`
	FromLevelID    string   `json:"from_level_id"`
	FromLocationID string   `json:"from_location_id"`
	FromStocked    Quantity `json:"from_stocked_quantity"`
	FromReserved   Quantity `json:"from_reserved_quantity"` // after
	LevelID        string   `json:"level_id"`
	LocationID     string   `json:"location_id"`
	Stocked        Quantity `json:"stocked_quantity"`
	Reserved       Quantity `json:"reserved_quantity"` // after
}

// ReservationReleased lets go of what a reservation holds.
type ReservationReleased struct {
	ItemID        string   `json:"inventory_item_id"`
	LevelID       string   `json:"level_id"`
	LocationID    string   `json:"location_id"`
	ReservationID string   `json:"reservation_id"`
	Quantity      Quantity `json:"quantity"` // let go of
	Stocked       Quantity `json:"stocked_quantity"`
	Reserved      Quantity `json:"reserved_quantity"` // of the level, after
}

// ReservationRestored undoes ReservationReleased: the reservation holds again
// what it held, where it held it.
type ReservationRestored struct {
	ItemID        string             `json:"inventory_item_id"`
	LevelID       string             `json:"level_id"`
	LocationID    string             `json:"location_id"`
	ReservationID string             `json:"reservation_id"`
	Quantity      Quantity           `json:"quantity"`
	Details       ReservationDetails `json:"details"`
	Stocked       Quantity           `json:"stocked_quantity"`
	Reserved      Quantity           `json:"reserved_quantity"` // of the level, after
}

// ReservationFulfilled takes reserved units out of stock: stocked and reserved
// fall together by Quantity. A reservation with nothing remaining is used up.
type ReservationFulfilled struct {
	ItemID        string   `json:"inventory_item_id"`
	LevelID       string   `json:"level_id"`
	LocationID    string   `json:"location_id"`
	ReservationID string   `json:"reservation_id"`
	Quantity      Quantity `json:"quantity"`          // taken out
	Remaining     Quantity `json:"remaining"`         // still held by the reservation
	Stocked       Quantity `json:"stocked_quantity"`  // of the level, after
	Reserved      Quantity `json:"reserved_quantity"` // of the level, after
}

// ItemLinked says that a product variant is made of Required units of an item.
type ItemLinked struct {
	VariantID string   `json:"variant_id"`
	ItemID    string   `json:"inventory_item_id"`
	Required  Quantity `json:"required_quantity"`
}

// LinkUpdated changes how many units of an item a variant is made of.
type LinkUpdated struct {
	VariantID string   `json:"variant_id"`
	ItemID    string   `json:"inventory_item_id"`
	From      Quantity `json:"from"`
	Required  Quantity `json:"required_quantity"`
}

// ItemUnlinked says that a variant is no longer made of an item.
type ItemUnlinked struct {
	VariantID string   `json:"variant_id"`
	ItemID    string   `json:"inventory_item_id"`
	Required  Quantity `json:"required_quantity"` // until now
}

// SKUClaimed gives a SKU to an item.
type SKUClaimed struct {
	SKU    string `json:"sku"`
	ItemID string `json:"inventory_item_id"`
}

// SKUReleased frees a SKU for other items.
type SKUReleased struct {
	SKU    string `json:"sku"`
	ItemID string `json:"inventory_item_id"` // that owned it
}

// Address is where a stock location is.
type Address struct {
	Address1    string          `json:"address_1"`
	Address2    *string         `json:"address_2"`
	Company     *string         `json:"company"`
	City        *string         `json:"city"`
	CountryCode string          `json:"country_code"`
	Phone       *string         `json:"phone"`
	PostalCode  *string         `json:"postal_code"`
	Province    *string         `json:"province"`
	Metadata    json.RawMessage `json:"metadata"` // a JSON object or null
}

// LocationAttributes describe a stock location.
type LocationAttributes struct {
	Name     string          `json:"name"`
	Address  *Address        `json:"address"`
	Metadata json.RawMessage `json:"metadata"` // a JSON object or null
}

// LocationOpened is the first fact of every location stream.
type LocationOpened struct {
	LocationID string             `json:"location_id"`
	Attributes LocationAttributes `json:"attributes"`
}

// LocationUpdated gives a location new attributes: all of them, as they are now.
type LocationUpdated struct {
	LocationID string             `json:"location_id"`
	Changed    []string           `json:"changed"`
	Attributes LocationAttributes `json:"attributes"`
}

// LocationClosed ends a location's life, and its links. Levels there stay as
// they are.
type LocationClosed struct {
	LocationID string `json:"location_id"`
}

// A LinkKind says what a stock location is linked to.
type LinkKind string

// The kinds of what a location is linked to. All of it lives elsewhere.
const (
	SalesChannel        LinkKind = "sales_channel"
	FulfillmentProvider LinkKind = "fulfillment_provider"
	FulfillmentSet      LinkKind = "fulfillment_set"
)

// LocationLinked says that a stock location serves a sales channel, or ships by
// a fulfillment provider or a fulfillment set. Name and Type describe a set; the
// others have none.
type LocationLinked struct {
	LocationID string   `json:"location_id"`
	Kind       LinkKind `json:"kind"`
	ID         string   `json:"id"`
	Name       string   `json:"name,omitempty"`
	Type       string   `json:"type,omitempty"`
}

// LocationUnlinked says that it no longer does.
type LocationUnlinked struct {
	LocationID string   `json:"location_id"`
	Kind       LinkKind `json:"kind"`
	ID         string   `json:"id"`
	Name       string   `json:"name,omitempty"` // until now
	Type       string   `json:"type,omitempty"`
}

// CommandAccepted records a command whose wish was already so: it changed
// nothing, and must still change nothing when it is sent again later. It is the
// only fact of its stream.
type CommandAccepted struct {
	CommandID string `json:"command_id"`
}

// schemas holds every event type ever stored. A line is never removed: a log
// written on the first day must read today.
var schemas = map[string]func([]byte) (Fact, error){
	"inventory.item-created.v1":          as[ItemCreated],
	"inventory.item-updated.v1":          as[ItemUpdated],
	"inventory.item-deleted.v1":          as[ItemDeleted],
	"inventory.item-restored.v1":         as[ItemRestored],
	"inventory.level-created.v1":         as[LevelCreated],
	"inventory.level-updated.v1":         as[LevelUpdated],
	"inventory.level-deleted.v1":         as[LevelDeleted],
	"inventory.level-restored.v1":        as[LevelRestored],
	"inventory.stock-adjusted.v1":        as[StockAdjusted],
	"inventory.stock-set.v1":             as[StockSet],
	"inventory.incoming-set.v1":          as[IncomingSet],
	"inventory.reservation-created.v1":   as[ReservationCreated],
	"inventory.reservation-updated.v1":   as[ReservationUpdated],
	"inventory.reservation-moved.v1":     as[ReservationMoved],
	"inventory.reservation-released.v1":  as[ReservationReleased],
	"inventory.reservation-restored.v1":  as[ReservationRestored],
	"inventory.reservation-fulfilled.v1": as[ReservationFulfilled],
	"inventory.item-linked.v1":           as[ItemLinked],
	"inventory.link-updated.v1":          as[LinkUpdated],
	"inventory.item-unlinked.v1":         as[ItemUnlinked],
	"inventory.sku-claimed.v1":           as[SKUClaimed],
	"inventory.sku-released.v1":          as[SKUReleased],
	"inventory.location-opened.v1":       as[LocationOpened],
	"inventory.location-updated.v1":      as[LocationUpdated],
	"inventory.location-closed.v1":       as[LocationClosed],
	"inventory.location-linked.v1":       as[LocationLinked],
	"inventory.location-unlinked.v1":     as[LocationUnlinked],
	"inventory.command-accepted.v1":      as[CommandAccepted],
}

// Types are the names of all event types ever stored, sorted.
func Types() []string { return slices.Sorted(maps.Keys(schemas)) }

// Decode reads a stored fact in its newest version.
func Decode(eventType string, data []byte) (Fact, error) {
	decode, known := schemas[eventType]
	if !known {
		return nil, fmt.Errorf("event type %q is not known to this version of the ledger", eventType)
	}
	fact, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", eventType, err)
	}
	return fact, nil
}

func as[F Fact](data []byte) (Fact, error) {
	var f F
	if known, ok := any(&f).(scanned); ok && scan(data, known) {
		return f, nil
	}
	f = *new(F) // without what was read of it
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f, ok := any(&f).(interface{ tidy() }); ok {
		f.tidy()
	}
	return f, nil
}

// encoding/json reads a null into the four bytes of a RawMessage. Facts are
// recorded with nil there, and tidy makes them read back as they were recorded.

func (f *ItemCreated) tidy()         { tidy(&f.Attributes.Metadata) }
func (f *ItemUpdated) tidy()         { tidy(&f.Attributes.Metadata) }
func (f *LevelCreated) tidy()        { tidy(&f.Metadata) }
func (f *LevelUpdated) tidy()        { tidy(&f.Metadata) }
func (f *ReservationCreated) tidy()  { tidy(&f.Details.Metadata) }
func (f *ReservationUpdated) tidy()  { tidy(&f.Details.Metadata) }
func (f *ReservationRestored) tidy() { tidy(&f.Details.Metadata) }
func (f *LocationOpened) tidy()      { f.Attributes.tidy() }
func (f *LocationUpdated) tidy()     { f.Attributes.tidy() }

func (a *LocationAttributes) tidy() {
	tidy(&a.Metadata)
	if a.Address != nil {
		tidy(&a.Address.Metadata)
	}
}

func tidy(metadata *json.RawMessage) {
	if string(*metadata) == "null" {
		*metadata = nil
	}
}

// from reads an old shape and turns it into the newest one.
func from[Old any, F Fact](upcast func(Old) F) func([]byte) (Fact, error) {
	return func(data []byte) (Fact, error) {
		var old Old
		if err := json.Unmarshal(data, &old); err != nil {
			return nil, err
		}
		return upcast(old), nil
	}
}

package medusaapi

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// What answers are made of, in the order of Medusa's default fields. Those of an
// answer are chosen from these; see entity.

// Item is an inventory item. Available and incoming quantities are ours, and so
// is the unit of measure before Medusa 2.19.
type Item struct {
	ID               string           `json:"id"`
	SKU              *string          `json:"sku"`
	Title            *string          `json:"title"`
	Description      *string          `json:"description"`
	Thumbnail        *string          `json:"thumbnail"`
	OriginCountry    *string          `json:"origin_country"`
	HSCode           *string          `json:"hs_code"`
	RequiresShipping bool             `json:"requires_shipping"`
	MIDCode          *string          `json:"mid_code"`
	Material         *string          `json:"material"`
	Weight           *events.Quantity `json:"weight"`
	Length           *events.Quantity `json:"length"`
	Height           *events.Quantity `json:"height"`
	Width            *events.Quantity `json:"width"`
	Metadata         json.RawMessage  `json:"metadata"`
	Reserved         events.Quantity  `json:"reserved_quantity"`
	Stocked          events.Quantity  `json:"stocked_quantity"`
	Created          time.Time        `json:"created_at"`
	Updated          time.Time        `json:"updated_at"`
	Levels           []Level          `json:"location_levels"`

	UnitOfMeasure *string         `json:"unit_of_measure"`
	Incoming      events.Quantity `json:"incoming_quantity"`
	Available     events.Quantity `json:"available_quantity"`
	Deleted       *time.Time      `json:"deleted_at"`
	Reservations  []Reservation   `json:"reservation_items"`
	Variants      []Variant       `json:"variants"`
}

// Level is the stock of an item at a location.
type Level struct {
	ID         string          `json:"id"`
	ItemID     string          `json:"inventory_item_id"`
	LocationID string          `json:"location_id"`
	Stocked    events.Quantity `json:"stocked_quantity"`
	Reserved   events.Quantity `json:"reserved_quantity"`
	Incoming   events.Quantity `json:"incoming_quantity"`
	Available  events.Quantity `json:"available_quantity"`
	Metadata   json.RawMessage `json:"metadata"`
	Created    time.Time       `json:"created_at"`
	Updated    time.Time       `json:"updated_at"`

	Deleted   *time.Time `json:"deleted_at"`
	Item      *Item      `json:"inventory_item"`
	Locations []Location `json:"stock_locations"`
}

// Reservation is a promise of units of an item at a location.
type Reservation struct {
	ID          string          `json:"id"`
	LocationID  string          `json:"location_id"`
	ItemID      string          `json:"inventory_item_id"`
	Quantity    events.Quantity `json:"quantity"`
	LineItemID  *string         `json:"line_item_id"`
	Description *string         `json:"description"`
	Metadata    json.RawMessage `json:"metadata"`
	Created     time.Time       `json:"created_at"`
	Updated     time.Time       `json:"updated_at"`
	Item        *Item           `json:"inventory_item"`

	AllowBackorder bool       `json:"allow_backorder"`
	ExternalID     *string    `json:"external_id"`
	CreatedBy      *string    `json:"created_by"`
	Deleted        *time.Time `json:"deleted_at"`
}

// Location is a stock location.
type Location struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Metadata json.RawMessage `json:"metadata"`
	Created  time.Time       `json:"created_at"`
	Updated  time.Time       `json:"updated_at"`
	Address  *Address        `json:"address"`

	AddressID            *string            `json:"address_id"`
	Deleted              *time.Time         `json:"deleted_at"`
	SalesChannels        []Named            `json:"sales_channels"`
	FulfillmentProviders []Named            `json:"fulfillment_providers"`
	FulfillmentSets      []events.LinkedSet `json:"fulfillment_sets"`
}

// Address is that of a stock location. It belongs to the location, and its id
// says so.
type Address struct {
	ID          string          `json:"id"`
	Address1    string          `json:"address_1"`
	Address2    *string         `json:"address_2"`
	City        *string         `json:"city"`
	CountryCode string          `json:"country_code"`
	Phone       *string         `json:"phone"`
	Province    *string         `json:"province"`
	PostalCode  *string         `json:"postal_code"`
	Metadata    json.RawMessage `json:"metadata"`

	Company *string `json:"company"`
}

// Named is something of which the ledger knows the id alone.
type Named struct {
	ID string `json:"id"`
}

// Variant is a product variant: what it is made of is all the ledger knows.
type Variant struct {
	ID        string `json:"id"`
	ProductID string `json:"product_id,omitzero"`
	Links     []Link `json:"inventory_items"`
}

// Link says how many units of an item a variant is made of.
type Link struct {
	VariantID string          `json:"variant_id"`
	ItemID    string          `json:"inventory_item_id"`
	Required  events.Quantity `json:"required_quantity"`
	Item      *Item           `json:"inventory"`
}

// The entities, and the fields an answer has by default.
var (
	addressEntity = &entity{plain: []string{
		"id", "address_1", "address_2", "company", "city", "country_code", "phone", "province", "postal_code", "metadata",
	}}
	namedEntity = &entity{plain: []string{"id"}, open: true}
	setEntity   = &entity{plain: []string{"id", "name", "type"}, open: true}

	locationEntity = &entity{
		plain: []string{"id", "name", "metadata", "created_at", "updated_at", "deleted_at", "address_id"},
		relations: map[string]*entity{
			"address": addressEntity, "sales_channels": namedEntity, "fulfillment_providers": namedEntity, "fulfillment_sets": setEntity,
		},
	}
	levelFields = []string{
		"id", "inventory_item_id", "location_id", "stocked_quantity", "reserved_quantity", "incoming_quantity",
		"available_quantity", "metadata", "created_at", "updated_at",
	}
	bareLevel   = &entity{plain: append([]string{"deleted_at"}, levelFields...)}
	levelEntity = &entity{
		plain:     bareLevel.plain,
		relations: map[string]*entity{"inventory_item": {plain: itemColumns}, "stock_locations": locationEntity},
	}
	itemFields = []string{
		"id", "sku", "title", "description", "thumbnail", "origin_country", "hs_code", "requires_shipping", "mid_code",
		"material", "weight", "length", "height", "width", "metadata", "reserved_quantity", "stocked_quantity",
		"created_at", "updated_at",
	}
	itemColumns = append([]string{"deleted_at", "unit_of_measure", "incoming_quantity", "available_quantity"}, itemFields...)
	itemEntity  = &entity{
		plain: itemColumns,
		relations: map[string]*entity{
			"location_levels":   bareLevel,
			"reservation_items": {plain: reservationColumns},
			"variants":          {plain: []string{"id"}, relations: map[string]*entity{"inventory_items": bareLink}, open: true},
		},
	}
	bareLink   = &entity{plain: []string{"variant_id", "inventory_item_id", "required_quantity"}, open: true}
	linkEntity = &entity{
		plain: bareLink.plain, open: true,
		relations: map[string]*entity{"inventory": {plain: itemColumns, relations: map[string]*entity{"location_levels": bareLevel}}},
	}
	variantEntity     = &entity{plain: []string{"id", "product_id"}, relations: map[string]*entity{"inventory_items": linkEntity}, open: true}
	reservationFields = []string{
		"id", "location_id", "inventory_item_id", "quantity", "line_item_id", "description", "metadata", "created_at", "updated_at",
	}
	reservationColumns = append([]string{"allow_backorder", "external_id", "created_by", "deleted_at"}, reservationFields...)
	reservationEntity  = &entity{
		plain:     reservationColumns,
		relations: map[string]*entity{"inventory_item": {plain: itemColumns, relations: map[string]*entity{"location_levels": bareLevel}}},
	}

	itemDefaults        = append([]string{"*location_levels"}, itemFields...)
	reservationDefaults = append(prefixed("inventory_item.", itemFields), reservationFields...)
	locationDefaults    = append(prefixed("address.", []string{
		"id", "address_1", "address_2", "city", "country_code", "phone", "province", "postal_code", "metadata",
	}), "id", "name", "metadata", "created_at", "updated_at")
	variantDefaults = []string{"id", "product_id", "*inventory_items", "*inventory_items.inventory"}
)

func prefixed(prefix string, names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = prefix + name
	}
	return all
}

func itemOf(it projections.Item) Item {
	return Item{
		ID: it.ID, SKU: it.SKU, Title: it.Title, Description: it.Description, Thumbnail: it.Thumbnail,
		OriginCountry: it.OriginCountry, HSCode: it.HSCode, RequiresShipping: it.RequiresShipping, MIDCode: it.MIDCode,
		Material: it.Material, Weight: it.Weight, Length: it.Length, Height: it.Height, Width: it.Width, Metadata: it.Metadata,
		Reserved: it.Reserved, Stocked: it.Stocked, Created: it.Created, Updated: it.Updated,
		UnitOfMeasure: it.UnitOfMeasure, Incoming: it.Incoming, Available: it.Available, Deleted: it.Deleted,
	}
}

func itemWithAll(row projections.ItemRow) Item {
	it := itemOf(row.Item)
	it.Levels = mapped(row.Levels, levelOf)
	it.Reservations = mapped(row.Reservations, reservationOf)
	it.Variants = mapped(row.Variants, func(l projections.Link) Variant {
		return Variant{ID: l.VariantID, Links: []Link{linkOf(l)}}
	})
	return it
}

func levelOf(l projections.Level) Level {
	return Level{
		ID: l.ID, ItemID: l.ItemID, LocationID: l.LocationID, Stocked: l.Stocked, Reserved: l.Reserved, Incoming: l.Incoming,
		Available: l.Available, Metadata: l.Metadata, Created: l.Created, Updated: l.Updated, Deleted: l.Deleted,
	}
}

func levelWithAll(row projections.LevelRow) Level {
	l := levelOf(row.Level)
	if row.Item != nil {
		it := itemOf(*row.Item)
		l.Item = &it
	}
	l.Locations = mapped(row.Locations, locationOf)
	return l
}

// decidedLevel is a level as a command answered with it.
func decidedLevel(r commands.LevelRow) Level {
	return Level{
		ID: r.ID, ItemID: r.InventoryItemID, LocationID: r.LocationID, Stocked: r.StockedQuantity, Reserved: r.ReservedQuantity,
		Incoming: r.IncomingQuantity, Available: r.AvailableQuantity, Metadata: r.Metadata,
		Created: r.CreatedAt, Updated: r.UpdatedAt, Deleted: r.DeletedAt,
	}
}

func reservationOf(r projections.Reservation) Reservation {
	return Reservation{
		ID: r.ID, LocationID: r.LocationID, ItemID: r.ItemID, Quantity: r.Quantity, LineItemID: r.LineItemID,
		Description: r.Description, Metadata: r.Metadata, Created: r.Created, Updated: r.Updated,
		AllowBackorder: r.AllowBackorder, ExternalID: r.ExternalID, CreatedBy: r.CreatedBy, Deleted: r.Deleted,
	}
}

func reservationWithAll(row projections.ReservationRow) Reservation {
	r := reservationOf(row.Reservation)
	if row.Item != nil {
		it := itemOf(*row.Item)
		r.Item = &it
	}
	return r
}

func locationOf(l projections.Location) Location {
	return Location{
		ID: l.ID, Name: l.Name, Metadata: l.Metadata, Created: l.Created, Updated: l.Updated, Deleted: l.Deleted,
		Address: addressOf(l), AddressID: addressID(l),
		SalesChannels:        mapped(l.SalesChannels, func(id string) Named { return Named{id} }),
		FulfillmentProviders: mapped(l.FulfillmentProviders, func(id string) Named { return Named{id} }),
		FulfillmentSets:      mapped(l.FulfillmentSets, func(s events.LinkedSet) events.LinkedSet { return s }),
	}
}

func addressOf(l projections.Location) *Address {
	a := l.Address
	if a == nil {
		return nil
	}
	return &Address{
		ID: *addressID(l), Address1: a.Address1, Address2: a.Address2, Company: a.Company, City: a.City,
		CountryCode: a.CountryCode, Phone: a.Phone, Province: a.Province, PostalCode: a.PostalCode, Metadata: a.Metadata,
	}
}

// The ids of locations and addresses begin with these in Medusa.
const (
	locationPrefix = "sloc_"
	addressPrefix  = "laddr_"
)

// addressID is the id of a location's address; an address has none of its own.
func addressID(l projections.Location) *string {
	if l.Address == nil {
		return nil
	}
	id := addressPrefix + strings.TrimPrefix(l.ID, locationPrefix)
	return &id
}

func linkOf(l projections.Link) Link {
	return Link{VariantID: l.VariantID, ItemID: l.ItemID, Required: l.Required}
}

// mapped is a list of what f makes of each; it is [] and not null where there is none.
func mapped[A, B any](all []A, f func(A) B) []B {
	made := make([]B, len(all))
	for i, one := range all {
		made[i] = f(one)
	}
	return made
}

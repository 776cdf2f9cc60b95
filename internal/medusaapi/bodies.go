package medusaapi

import "github.com/stockledger/stockledger/events"

// The bodies as the OpenAPI document describes them. What is checked are the
// shapes, and a test holds the two together.

type attributesBody struct {
	SKU              *string          `json:"sku,omitzero"`
	HSCode           *string          `json:"hs_code,omitzero"`
	Weight           *events.Quantity `json:"weight,omitzero"`
	Length           *events.Quantity `json:"length,omitzero"`
	Height           *events.Quantity `json:"height,omitzero"`
	Width            *events.Quantity `json:"width,omitzero"`
	OriginCountry    *string          `json:"origin_country,omitzero"`
	MIDCode          *string          `json:"mid_code,omitzero"`
	Material         *string          `json:"material,omitzero"`
	Title            *string          `json:"title,omitzero"`
	Description      *string          `json:"description,omitzero"`
	RequiresShipping bool             `json:"requires_shipping,omitzero"`
	Thumbnail        *string          `json:"thumbnail,omitzero"`
	Metadata         map[string]any   `json:"metadata,omitzero"`
}

type itemBody struct {
	attributesBody
	Levels []newLevelBody `json:"location_levels,omitzero"`
}

type newLevelBody struct {
	LocationID string          `json:"location_id"`
	Stocked    events.Quantity `json:"stocked_quantity,omitzero"`
	Incoming   events.Quantity `json:"incoming_quantity,omitzero"`
}

type levelBody struct {
	Stocked  events.Quantity `json:"stocked_quantity,omitzero"`
	Incoming events.Quantity `json:"incoming_quantity,omitzero"`
}

type levelUpdateBody struct {
	ID string `json:"id,omitzero"`
	newLevelBody
}

type itemLevelsBody struct {
	Create []newLevelBody    `json:"create,omitzero"`
	Update []levelUpdateBody `json:"update,omitzero"`
	Delete []string          `json:"delete,omitzero"`
	Force  bool              `json:"force,omitzero"`
}

type anyLevelBody struct {
	ItemID string `json:"inventory_item_id"`
	newLevelBody
}

type anyLevelsBody struct {
	Create []anyLevelBody `json:"create,omitzero"`
	Update []anyLevelBody `json:"update,omitzero"`
	Delete []string       `json:"delete,omitzero"`
	Force  bool           `json:"force,omitzero"`
}

type newReservationBody struct {
	LineItemID  *string         `json:"line_item_id,omitzero"`
	LocationID  string          `json:"location_id"`
	ItemID      string          `json:"inventory_item_id"`
	Quantity    events.Quantity `json:"quantity"`
	Description *string         `json:"description,omitzero"`
	Metadata    map[string]any  `json:"metadata,omitzero"`
}

type reservationBody struct {
	LocationID  string          `json:"location_id,omitzero"`
	Quantity    events.Quantity `json:"quantity,omitzero"`
	Description *string         `json:"description,omitzero"`
	Metadata    map[string]any  `json:"metadata,omitzero"`
}

type addressBody struct {
	Address1    string         `json:"address_1"`
	Address2    *string        `json:"address_2,omitzero"`
	Company     *string        `json:"company,omitzero"`
	City        *string        `json:"city,omitzero"`
	CountryCode string         `json:"country_code"`
	Phone       *string        `json:"phone,omitzero"`
	PostalCode  *string        `json:"postal_code,omitzero"`
	Province    *string        `json:"province,omitzero"`
	Metadata    map[string]any `json:"metadata,omitzero"`
}

type newLocationBody struct {
	Name string `json:"name"`
	locationRestBody
}

type locationBody struct {
	Name string `json:"name,omitzero"`
	locationRestBody
}

type locationRestBody struct {
	Address   addressBody    `json:"address,omitzero"`
	AddressID *string        `json:"address_id,omitzero"`
	Metadata  map[string]any `json:"metadata,omitzero"`
}

type linksBody struct {
	Add    []string `json:"add,omitzero"`
	Remove []string `json:"remove,omitzero"`
}

type setBody struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type newLinkBody struct {
	Required events.Quantity `json:"required_quantity"`
	ItemID   string          `json:"inventory_item_id"`
}

type linkBody struct {
	Required events.Quantity `json:"required_quantity"`
}

type variantLinkBody struct {
	newLinkBody
	VariantID string `json:"variant_id"`
}

type linkNameBody struct {
	ItemID    string `json:"inventory_item_id"`
	VariantID string `json:"variant_id"`
}

type variantLinksBody struct {
	Create []variantLinkBody `json:"create,omitzero"`
	Update []variantLinkBody `json:"update,omitzero"`
	Delete []linkNameBody    `json:"delete,omitzero"`
}

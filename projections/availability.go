package projections

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// maxVariants is how many variants one question may be about.
const maxVariants = 1000

// VariantQuestion names variants and where they are to be available: at some
// locations, at those of a sales channel, or, with neither, anywhere.
type VariantQuestion struct {
	VariantID      string   `json:"variant_id"`
	VariantIDs     []string `json:"variant_ids"`
	LocationIDs    []string `json:"location_ids"` // nil is all of them; an empty list is none
	SalesChannelID string   `json:"sales_channel_id"`
}

// VariantAvailability is how many of a variant can be made of what is available.
type VariantAvailability struct {
	VariantID string `json:"variant_id"`
	// Availability is the least of available_quantity/required_quantity over the
	// items, rounded down, so that it is below zero where more is promised than
	// there is. It is nil for a variant that is made of nothing.
	Availability *events.Quantity `json:"availability"`
	Items        []VariantItem    `json:"items"`
}

// VariantItem is an item that a variant is made of.
type VariantItem struct {
	ItemID    string          `json:"inventory_item_id"`
	Required  events.Quantity `json:"required_quantity"`
	Available events.Quantity `json:"available_quantity"`
}

// Variants are the answer to a question for variants, each once, in the order asked.
type Variants struct {
	Variants []VariantAvailability `json:"variants"`
}

func (q VariantQuestion) ids() []string {
	if q.VariantID != "" {
		return []string{q.VariantID}
	}
	return q.VariantIDs
}

func (q VariantQuestion) check() error {
	switch {
	case q.VariantID == "" && q.VariantIDs == nil:
		return required("variant_id", "")
	case q.VariantID != "" && q.VariantIDs != nil:
		return fault.New(fault.Invalid, "invalid_value", "name variants by variant_id or by variant_ids, not by both").With("field", "variant_ids")
	case q.LocationIDs != nil && q.SalesChannelID != "":
		return fault.New(fault.Invalid, "invalid_value", "name locations by location_ids or by sales_channel_id, not by both").
			With("field", "sales_channel_id")
	case len(q.VariantIDs) > maxVariants:
		return fault.New(fault.Invalid, "invalid_value", "at most %d variants can be asked for at once, not %d", maxVariants, len(q.VariantIDs)).
			With("field", "variant_ids")
	}
	return nil
}

// The links of variants with the levels of their items, or with all levels of an
// item together.
const (
	variantLevels = `SELECT k.variant_id, k.inventory_item_id, k.required_quantity,
			l.stocked_quantity, l.reserved_quantity
		FROM links AS k LEFT JOIN levels AS l ON l.inventory_item_id = k.inventory_item_id AND l.deleted_at IS NULL AND l.location_id IN `
	variantTotals = `SELECT k.variant_id, k.inventory_item_id, k.required_quantity,
			t.stocked_quantity, t.reserved_quantity
		FROM links AS k LEFT JOIN items AS i ON i.id = k.inventory_item_id AND i.deleted_at IS NULL LEFT JOIN totals AS t ON t.position = i.position`
	ofVariants = ` WHERE k.variant_id IN (SELECT value FROM json_each(?)) AND k.deleted_at IS NULL ORDER BY k.position`

	anywhere    = variantTotals + ofVariants
	atLocations = variantLevels + `(SELECT value FROM json_each(?))` + ofVariants
	inChannel   = variantLevels + `(SELECT location_id FROM location_links WHERE kind = 'sales_channel' AND id = ?)` + ofVariants
)

// VariantAvailability says how many of each variant can be made of what is
// available, all of one moment.
func (m *Models) VariantAvailability(ctx context.Context, q VariantQuestion) (Variants, error) {
	if err := q.check(); err != nil {
		return Variants{}, err
	}
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return Variants{}, err
	}
	defer done()
	rows, err := m.variantRows(ctx, q)
	items := make(map[string][]VariantItem)
	_, err = gather(rows, err, func(s scanner) (none struct{}, err error) {
		var variant string
		var it VariantItem
		var stocked, reserved events.Quantity
		err = s.Scan(&variant, &it.ItemID, amount{&it.Required}, amountOrNone{&stocked}, amountOrNone{&reserved})
		it.Available = stocked.Minus(reserved)
		items[variant] = addItem(items[variant], it)
		return none, err
	})
	if err != nil {
		return Variants{}, fmt.Errorf("availability of variants: %w", err)
	}
	answer := Variants{Variants: []VariantAvailability{}}
	seen := make(map[string]bool)
	for _, id := range q.ids() {
		if !seen[id] {
			seen[id] = true
			answer.Variants = append(answer.Variants, availabilityOf(id, items[id]))
		}
	}
	return answer, nil
}

func (m *Models) variantRows(ctx context.Context, q VariantQuestion) (*sql.Rows, error) {
	variants, err := json.Marshal(q.ids())
	if err != nil {
		return nil, err
	}
	db := m.inventory.file.db
	switch {
	case q.SalesChannelID != "":
		return db.QueryContext(ctx, inChannel, q.SalesChannelID, string(variants))
	case q.LocationIDs == nil:
		return db.QueryContext(ctx, anywhere, string(variants))
	}
	locations, err := json.Marshal(q.LocationIDs)
	if err != nil {
		return nil, err
	}
	return db.QueryContext(ctx, atLocations, string(locations), string(variants))
}

// addItem adds a level to its item; those of one item come one after the other.
func addItem(items []VariantItem, it VariantItem) []VariantItem {
	if last := len(items) - 1; last >= 0 && items[last].ItemID == it.ItemID {
		items[last].Available = items[last].Available.Plus(it.Available)
		return items
	}
	return append(items, it)
}

func availabilityOf(variant string, items []VariantItem) VariantAvailability {
	v := VariantAvailability{VariantID: variant, Items: append([]VariantItem{}, items...)}
	for _, it := range items {
		if n := it.Available.Over(it.Required); v.Availability == nil || n.Less(*v.Availability) {
			v.Availability = &n
		}
	}
	return v
}

package projections

import (
	"context"

	"github.com/stockledger/stockledger/events"
)

// inventoryQueries ask what there is now.
var inventoryQueries = map[string]query{
	"retrieve-inventory-item": ask("an item and its levels, by id",
		ofInventory,
		func(ctx context.Context, m *Models, p byID) (RetrievedItem, error) { return m.RetrieveItem(ctx, p.ID) }),
	"retrieve-inventory-level": ask("a level, by id, or by inventory_item_id and location_id", ofInventory, retrieveLevel),
	"retrieve-reservation-item": ask("a reservation, by id", ofInventory,
		func(ctx context.Context, m *Models, p byID) (Reservation, error) {
			return m.RetrieveReservation(ctx, p.ID)
		}),
	"retrieve-stock-location": ask("a stock location, by id", ofInventory,
		func(ctx context.Context, m *Models, p byID) (Location, error) { return m.RetrieveLocation(ctx, p.ID) }),
	"available-quantity": sums("stocked less reserved of an item over location_ids", (*Models).AvailableQuantity, events.Quantity.Minus),
	"stocked-quantity": sums("what is in stock of an item over location_ids", (*Models).StockedQuantity,
		func(stocked, _ events.Quantity) events.Quantity { return stocked }),
	"reserved-quantity": sums("what is reserved of an item over location_ids", (*Models).ReservedQuantity,
		func(_, reserved events.Quantity) events.Quantity { return reserved }),
	"confirm-inventory": remembering(
		ask("whether a quantity of an item, or a basket of lines, is available over location_ids", ofInventory, confirmed), recallConfirmed),
	"variant-availability": ask("how many of variants can be made, over location_ids, a sales channel or all locations", ofInventory,
		func(ctx context.Context, m *Models, q VariantQuestion) (Variants, error) {
			return m.VariantAvailability(ctx, q)
		}),
	"list-inventory-items":   lists("items, by their attributes and quantities", &itemsList, ofInventory),
	"list-inventory-levels":  lists("levels, by item, location and quantities", &levelsList, ofInventory),
	"list-reservation-items": lists("reservations, by item, location, line item and more", &reservationsList, ofInventory),
	"list-inventory-links":   lists("which items variants are made of, by variant and item", &linksList, ofInventory),
	"list-stock-locations":   lists("stock locations, by id and name", &locationsList, ofInventory),
}

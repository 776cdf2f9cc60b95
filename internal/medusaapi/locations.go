package medusaapi

import (
	"net/http"
	"strings"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

var (
	addressShape = shape{lax: true, fields: []field{
		{name: "address_1", want: aText, required: true},
		{name: "address_2", want: aText, nullable: true},
		{name: "company", want: aText, nullable: true},
		{name: "city", want: aText, nullable: true},
		{name: "country_code", want: aText, required: true},
		{name: "phone", want: aText, nullable: true},
		{name: "postal_code", want: aText, nullable: true},
		{name: "province", want: aText, nullable: true},
		{name: "metadata", want: aRecord, nullable: true},
	}}
	newLocationShape = locationShape(true)
	anyLocationShape = locationShape(false)
	linksShape       = shape{fields: []field{{name: "add", want: anArray}, {name: "remove", want: anArray}}}
	setShape         = shape{fields: []field{{name: "name", want: aText, required: true}, {name: "type", want: aText, required: true}}}

	locationFilters = params{
		searchText,
		texts("id", "of the location"),
		texts("name", "of the location"),
		{"address_id", "of the address of the location", "array", takeAddressID},
		moments("created_at", "when it was opened"),
		moments("updated_at", "when it last changed"),
		moments("deleted_at", "when it was closed; with_deleted shows those"),
	}
	locationListParams = append(listParams(withGroups(locationFilters)), texts("sales_channel_id", "what it serves"))
)

func locationShape(named bool) shape {
	return shape{fields: []field{
		{name: "name", want: aText, required: named},
		{name: "address", want: anObject, of: &addressShape},
		{name: "address_id", want: aText, nullable: true},
		{name: "metadata", want: aRecord, nullable: true},
	}}
}

// takeAddressID filters by the id that an address has from its location.
func takeAddressID(path string, v given, to *asked, wrong *issues) {
	var of asked
	of.Filter = map[string]any{}
	texts("address_id", "").take(path, v, &of, wrong)
	ids, many := of.Filter["address_id"].([]any)
	if !many {
		ids = []any{of.Filter["address_id"]}
	}
	locations := []any{}
	for _, id := range ids {
		text, _ := id.(string)
		bare, isAddress := strings.CutPrefix(text, addressPrefix)
		if !isAddress {
			continue
		}
		locations = append(locations, locationPrefix+bare)
		if !strings.HasPrefix(bare, locationPrefix) {
			locations = append(locations, bare)
		}
	}
	to.and(map[string]any{"id": locations, "address": map[string]any{"$exists": true}})
}

type (
	locationAnswer struct {
		Location Location `json:"stock_location"`
	}
	locationsAnswer struct {
		Locations []Location `json:"stock_locations"`
		Count     int        `json:"count"`
		Offset    int        `json:"offset"`
		Limit     int        `json:"limit"`
	}
)

func (a *api) locationRoutes() []httpapi.Route {
	const path, one = "/admin/stock-locations", "/admin/stock-locations/{id}"
	return []httpapi.Route{
		a.ask(path, "admin-list-stock-locations", "stock locations, by filters", locationListParams, locationsAnswer{}, listLocations),
		a.write(http.MethodPost, path, "admin-create-stock-location", "open a stock location", selectParams, newLocationBody{}, locationAnswer{}, createLocation),
		a.ask(one, "admin-retrieve-stock-location", "a stock location", selectParams, locationAnswer{}, retrieveLocation),
		a.write(http.MethodPost, one, "admin-update-stock-location", "change a stock location", selectParams, locationBody{}, locationAnswer{}, updateLocation),
		a.write(http.MethodDelete, one, "admin-delete-stock-location", "close a stock location; what is stocked there stays", nil,
			nil, deletedAnswer{}, deleteLocation),
		a.write(http.MethodPost, one+"/sales-channels", "admin-update-stock-location-sales-channels", "say what sales channels a location serves", selectParams,
			linksBody{}, locationAnswer{}, linkLocation(linksShape, salesChannels)),
		a.write(http.MethodPost, one+"/fulfillment-sets", "admin-create-stock-location-fulfillment-set", "give a location a fulfillment set", selectParams,
			setBody{}, locationAnswer{}, linkLocation(setShape, fulfillmentSet)),
		a.write(http.MethodPost, one+"/fulfillment-providers", "admin-update-stock-location-fulfillment-providers", "say who ships from a location", selectParams,
			linksBody{}, locationAnswer{}, linkLocation(linksShape, fulfillmentProviders)),
	}
}

func listLocations(c *call) (any, error) {
	to, err := c.query(locationListParams, 20)
	if err != nil {
		return nil, err
	}
	s, err := locationEntity.chosen(to.fields, locationDefaults)
	if err != nil {
		return nil, err
	}
	page, err := list(c, to, c.models.ListLocations)
	if err != nil {
		return nil, err
	}
	return answerPage("stock_locations", s, page, locationOf)
}

func (c *call) chosenLocation() (*selection, error) {
	to, err := c.query(selectParams, 0)
	if err != nil {
		return nil, err
	}
	return locationEntity.chosen(to.fields, locationDefaults)
}

func retrieveLocation(c *call) (any, error) {
	s, err := c.chosenLocation()
	if err != nil {
		return nil, err
	}
	return c.readLocation(c.id("id"), s, false)
}

// answerLocation is the answer of a route that changed a location, which may have
// been closed when it is read back.
func (c *call) answerLocation(id string, s *selection) (any, error) {
	return c.readLocation(id, s, true)
}

func (c *call) readLocation(id string, s *selection, closed bool) (any, error) {
	page, err := c.models.ListLocations(c.ctx(), projections.List{
		Filter: map[string]any{"id": id}, Take: new(1), NoCount: true, WithDeleted: closed,
	})
	if err != nil {
		return nil, err
	}
	if len(page.Rows) == 0 {
		return nil, notFound("Stock location with id: %s was not found", id)
	}
	location, err := s.of(locationOf(page.Rows[0]))
	return keyed{"stock_location": location}, err
}

func createLocation(c *call) (any, error) {
	s, err := c.chosenLocation()
	if err != nil {
		return nil, err
	}
	var asked struct {
		commands.NewLocation
		AddressID *string `json:"address_id"`
	}
	if err := c.body(newLocationShape, &asked); err != nil {
		return nil, err
	}
	if asked.AddressID != nil {
		return nil, invalid("Invalid request: an address belongs to its location here; send address instead of address_id")
	}
	return c.do(commands.CreateStockLocations{Locations: []commands.NewLocation{asked.NewLocation}}, func(result []byte) (any, error) {
		made, err := rows[commands.LocationRow](result)
		if err != nil {
			return nil, err
		}
		return c.answerLocation(made[0].ID, s)
	})
}

func updateLocation(c *call) (any, error) {
	s, err := c.chosenLocation()
	if err != nil {
		return nil, err
	}
	id := c.id("id")
	var update commands.LocationUpdate // an address_id is dropped, as in Medusa
	if err := c.body(anyLocationShape, &update); err != nil {
		return nil, err
	}
	update.ID = id
	return c.do(commands.UpdateStockLocations{Updates: []commands.LocationUpdate{update}}, func([]byte) (any, error) {
		return c.answerLocation(id, s)
	})
}

func deleteLocation(c *call) (any, error) {
	if _, err := c.query(nil, 0); err != nil {
		return nil, err
	}
	id := c.id("id")
	return c.delete(deletedAnswer{id, "stock_location", true}, commands.DeleteStockLocations{IDs: []string{id}, IgnoreUnknown: true})
}

// linkLocation changes what a location is linked to, as the body says.
func linkLocation[B any](s shape, update func(B, *commands.LocationLinksUpdate)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		chosen, err := c.chosenLocation()
		if err != nil {
			return nil, err
		}
		var body B
		if err := c.body(s, &body); err != nil {
			return nil, err
		}
		change := commands.LocationLinksUpdate{ID: c.id("id")}
		update(body, &change)
		return c.do(commands.UpdateStockLocationLinks{Updates: []commands.LocationLinksUpdate{change}}, func([]byte) (any, error) {
			return c.answerLocation(change.ID, chosen)
		})
	}
}

func salesChannels(b linksBody, to *commands.LocationLinksUpdate) {
	to.SalesChannels.Add, to.SalesChannels.Remove = b.Add, b.Remove
}

func fulfillmentProviders(b linksBody, to *commands.LocationLinksUpdate) {
	to.FulfillmentProviders.Add, to.FulfillmentProviders.Remove = b.Add, b.Remove
}

func fulfillmentSet(b setBody, to *commands.LocationLinksUpdate) {
	to.FulfillmentSets.Add = []commands.NewFulfillmentSet{{Name: b.Name, Type: b.Type}}
}

package medusaapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

var (
	attributeFields = []field{
		{name: "sku", want: aText, nullable: true},
		{name: "hs_code", want: aText, nullable: true},
		{name: "weight", want: aNumber, nullable: true},
		{name: "length", want: aNumber, nullable: true},
		{name: "height", want: aNumber, nullable: true},
		{name: "width", want: aNumber, nullable: true},
		{name: "origin_country", want: aText, nullable: true},
		{name: "mid_code", want: aText, nullable: true},
		{name: "material", want: aText, nullable: true},
		{name: "title", want: aText, nullable: true},
		{name: "description", want: aText, nullable: true},
		{name: "requires_shipping", want: aBoolean},
		{name: "thumbnail", want: aText, nullable: true},
		{name: "metadata", want: aRecord, nullable: true},
	}
	updateItemShape = shape{fields: attributeFields}
	createItemShape = shape{fields: append(slices.Clone(attributeFields), field{name: "location_levels", want: anArray, of: &newLevelShape})}

	itemFilters = params{
		searchText,
		texts("id", "of the item"),
		texts("sku", "of the item"),
		texts("origin_country", "where it was made"),
		texts("mid_code", "manufacturer identification code"),
		texts("hs_code", "harmonized system code"),
		texts("material", "what it is made of"),
		yesOrNo("requires_shipping", "whether it is shipped"),
		numbers("weight", "of the item"),
		numbers("length", "of the item"),
		numbers("height", "of the item"),
		numbers("width", "of the item"),
		within("location_levels", "a level the item must have: location_levels[location_id]", params{texts("location_id", "where")}),
		numbers("stocked_quantity", "the sum of what is in stock; not in Medusa"),
		numbers("reserved_quantity", "the sum of what is reserved; not in Medusa"),
		numbers("available_quantity", "stocked less reserved; not in Medusa"),
	}
	itemListParams = listParams(withGroups(itemFilters))
)

type (
	itemAnswer struct {
		Item Item `json:"inventory_item"`
	}
	itemsAnswer struct {
		Items  []Item `json:"inventory_items"`
		Count  int    `json:"count"`
		Offset int    `json:"offset"`
		Limit  int    `json:"limit"`
	}
	deletedAnswer struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Deleted bool   `json:"deleted"`
	}
)

func (a *api) itemRoutes() []httpapi.Route {
	const path, one = "/admin/inventory-items", "/admin/inventory-items/{id}"
	return []httpapi.Route{
		a.ask(path, "admin-list-inventory-items", "items with their levels, by filters", itemListParams, itemsAnswer{}, listItems),
		a.write(http.MethodPost, path, "admin-create-inventory-item", "create an item, and levels with it", selectParams,
			itemBody{}, itemAnswer{}, createItem),
		a.ask(one, "admin-retrieve-inventory-item", "an item", selectParams, itemAnswer{}, retrieveItem),
		a.write(http.MethodPost, one, "admin-update-inventory-item", "change an item", selectParams, attributesBody{}, itemAnswer{}, updateItem),
		a.write(http.MethodDelete, one, "admin-delete-inventory-item", "delete an item without reservations, and its levels", nil,
			nil, deletedAnswer{}, deleteItem),
	}
}

func listItems(c *call) (any, error) {
	to, err := c.query(itemListParams, 20)
	if err != nil {
		return nil, err
	}
	s, err := itemEntity.chosen(to.fields, itemDefaults)
	if err != nil {
		return nil, err
	}
	to.Relations = s.names()
	page, err := list(c, to, c.models.ListItems)
	if err != nil {
		return nil, err
	}
	return answerPage("inventory_items", s, page, itemWithAll)
}

func retrieveItem(c *call) (any, error) {
	s, err := c.chosenItem()
	if err != nil {
		return nil, err
	}
	item, found, err := c.readItem(c.id("id"), s, false)
	if err == nil && !found {
		err = notFound("Inventory item with id: %s was not found", c.id("id"))
	}
	return keyed{"inventory_item": item}, err
}

func createItem(c *call) (any, error) {
	s, err := c.chosenItem()
	if err != nil {
		return nil, err
	}
	var item commands.NewItem
	if err := c.body(createItemShape, &item); err != nil {
		return nil, err
	}
	create := commands.CreateInventoryItems{Items: []commands.NewItem{item}, KnownLocations: true}
	return c.do(create, func(result []byte) (any, error) {
		made, err := rows[commands.ItemRow](result)
		if err != nil {
			return nil, err
		}
		return c.answerItem(made[0].ID, s)
	})
}

func updateItem(c *call) (any, error) {
	s, err := c.chosenItem()
	if err != nil {
		return nil, err
	}
	id := c.id("id")
	update := commands.ItemUpdate{}
	if err := c.body(updateItemShape, &update); err != nil {
		return nil, err
	}
	update.ID = id
	answer, err := c.do(commands.UpdateInventoryItems{Updates: []commands.ItemUpdate{update}}, func([]byte) (any, error) {
		return c.answerItem(id, s)
	})
	return answer, retold(err, "not_found", fault.NotFound, "InventoryItem with id \"%s\" not found", id)
}

func deleteItem(c *call) (any, error) {
	if _, err := c.query(nil, 0); err != nil {
		return nil, err
	}
	id := c.id("id")
	return c.delete(deletedAnswer{id, "inventory_item", true}, commands.DeleteInventoryItems{IDs: []string{id}, IgnoreUnknown: true})
}

// delete carries out a command that deletes. That there is nothing to delete is
// success, as in Medusa; the command says so.
func (c *call) delete(answer deletedAnswer, command commands.Command) (any, error) {
	return c.do(command, func([]byte) (any, error) { return answer, nil })
}

// chosenItem reads the query of a route that answers with one item.
func (c *call) chosenItem() (*selection, error) {
	to, err := c.query(selectParams, 0)
	if err != nil {
		return nil, err
	}
	return itemEntity.chosen(to.fields, itemDefaults)
}

// answerItem is the answer of a route that changed an item.
func (c *call) answerItem(id string, s *selection) (any, error) {
	item, err := c.changedItem(id, s)
	return keyed{"inventory_item": item}, err
}

// changedItem is an item that a command changed. When the answer is read back it may
// have been deleted, most of all when the call is sent again later.
func (c *call) changedItem(id string, s *selection) (jsontext.Value, error) {
	item, found, err := c.readItem(id, s, false)
	if err == nil && !found {
		item, found, err = c.readItem(id, s, true)
	}
	if err == nil && !found {
		err = fmt.Errorf("item %s was changed and cannot be read", id)
	}
	return item, err
}

func (c *call) readItem(id string, s *selection, deleted bool) (item jsontext.Value, found bool, err error) {
	page, err := c.models.ListItems(c.ctx(), projections.List{
		Filter: map[string]any{"id": id}, Relations: s.names(), Take: new(1), NoCount: true, WithDeleted: deleted,
	})
	if err != nil || len(page.Rows) == 0 {
		return nil, false, err
	}
	item, err = s.of(itemWithAll(page.Rows[0]))
	return item, true, err
}

// itemsWithLevels are live items by their ids, with their levels.
func (c *call) itemsWithLevels(ids []string) (map[string]Item, error) {
	items := make(map[string]Item, len(ids))
	slices.Sort(ids)
	for chunk := range slices.Chunk(slices.Compact(ids), maxPage) {
		page, err := c.models.ListItems(c.ctx(), projections.List{
			Filter: map[string]any{"id": chunk}, Relations: []string{"location_levels"}, Take: new(maxPage), NoCount: true,
		})
		if err != nil {
			return nil, err
		}
		for _, row := range page.Rows {
			items[row.ID] = itemWithAll(row)
		}
	}
	return items, nil
}

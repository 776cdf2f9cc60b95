package medusaapi

import (
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

var (
	quantityFields = []field{
		{name: "stocked_quantity", want: aNumber, positive: true},
		{name: "incoming_quantity", want: aNumber, positive: true},
	}
	newLevelShape    = shape{fields: append([]field{{name: "location_id", want: aText, required: true}}, quantityFields...)}
	updateLevelShape = shape{fields: quantityFields}
	batchUpdateShape = shape{fields: append([]field{{name: "id", want: aText}}, newLevelShape.fields...)}
	itemLevelsShape  = batchShape(&newLevelShape, &batchUpdateShape)
	// Entries of the batch over all items may have members that are not known, such
	// as the id of a level: Medusa drops them.
	anyLevelShape  = shape{fields: append([]field{{name: "inventory_item_id", want: aText, required: true}}, newLevelShape.fields...), lax: true}
	anyLevelsShape = batchShape(&anyLevelShape, &anyLevelShape)

	levelFilters = params{
		texts("location_id", "where"),
		numbers("stocked_quantity", "what is in stock; not in Medusa"),
		numbers("reserved_quantity", "what is reserved; not in Medusa"),
		numbers("incoming_quantity", "what is on its way; not in Medusa"),
		numbers("available_quantity", "stocked less reserved; not in Medusa"),
	}
	levelListParams   = listParams(withGroups(levelFilters))
	deleteLevelParams = append(slices.Clone(selectParams), forceParam)
)

func batchShape(create, update *shape) shape {
	return shape{fields: []field{
		{name: "create", want: anArray, of: create},
		{name: "update", want: anArray, of: update},
		{name: "delete", want: anArray},
		{name: "force", want: aBoolean},
	}}
}

type (
	levelsAnswer struct {
		Levels []Level `json:"inventory_levels"`
		Count  int     `json:"count"`
		Offset int     `json:"offset"`
		Limit  int     `json:"limit"`
	}
	deletedLevelAnswer struct {
		deletedAnswer
		Parent Item `json:"parent"`
	}
	batchAnswer struct {
		Created []Level  `json:"created"`
		Updated []Level  `json:"updated"`
		Deleted []string `json:"deleted,omitzero"`
	}
)

func (a *api) levelRoutes() []httpapi.Route {
	const path = "/admin/inventory-items/{id}/location-levels"
	return []httpapi.Route{
		a.ask(path, "admin-list-location-levels", "the levels of an item", levelListParams, levelsAnswer{}, listLevels),
		a.write(http.MethodPost, path, "admin-create-location-level", "stock an item at a location", selectParams,
			newLevelBody{}, itemAnswer{}, createLevel),
		a.write(http.MethodPost, path+"/{location_id}", "admin-update-location-level", "set the quantities of a level", selectParams,
			levelBody{}, itemAnswer{}, updateLevel),
		a.write(http.MethodDelete, path+"/{location_id}", "admin-delete-location-level", "delete a level without reservations", deleteLevelParams,
			nil, deletedLevelAnswer{}, deleteLevel),
		a.write(http.MethodPost, path+"/batch", "admin-batch-location-levels", "delete, create and update levels of an item, in one commit",
			selectParams, itemLevelsBody{}, batchAnswer{}, batchItemLevels),
		a.write(http.MethodPost, "/admin/inventory-items/location-levels/batch", "admin-batch-inventory-levels",
			"delete, create and update levels of any items, in one commit", nil, anyLevelsBody{}, batchAnswer{}, batchAnyLevels),
	}
}

func listLevels(c *call) (any, error) {
	to, err := c.query(levelListParams, 50)
	if err != nil {
		return nil, err
	}
	s, err := levelEntity.chosen(to.fields, levelFields)
	if err != nil {
		return nil, err
	}
	to.Filter["inventory_item_id"], to.Relations = c.id("id"), s.names()
	page, err := list(c, to, c.models.ListLevels)
	if err != nil {
		return nil, err
	}
	return answerPage("inventory_levels", s, page, levelWithAll)
}

func createLevel(c *call) (any, error) {
	s, err := c.chosenItem()
	if err != nil {
		return nil, err
	}
	var level commands.NewLevel
	if err := c.body(newLevelShape, &level); err != nil {
		return nil, err
	}
	item := c.id("id")
	level.InventoryItemID = item
	create := commands.CreateInventoryLevels{Levels: []commands.NewLevel{level}, KnownLocations: true}
	answer, err := c.do(create, func([]byte) (any, error) {
		return c.answerItem(item, s)
	})
	return answer, noSuchItem(err)
}

// noSuchItem says of levels for an item that does not exist what a foreign key
// says in Medusa. Only a refusal about an item alone is about such a one.
func noSuchItem(err error) error {
	if fault.Code(err) != "not_found" {
		return err
	}
	details := fault.Of(err).Details
	if _, located := details["location_id"]; located {
		return err
	}
	item, named := details["inventory_item_id"]
	if !named {
		return err
	}
	return notFound("You tried to set relationship inventory_item_id: %s, but such entity does not exist", item)
}

func updateLevel(c *call) (any, error) {
	s, err := c.chosenItem()
	if err != nil {
		return nil, err
	}
	var update commands.LevelUpdate
	if err := c.body(updateLevelShape, &update); err != nil {
		return nil, err
	}
	item, location := c.id("id"), c.id("location_id")
	update.InventoryItemID, update.LocationID = item, location
	answer, err := c.do(commands.UpdateInventoryLevels{Updates: []commands.LevelUpdate{update}}, func([]byte) (any, error) {
		return c.answerItem(item, s)
	})
	return answer, notStocked(err, item, location)
}

// notStocked is what Medusa says when there is no such level, and it does not
// matter whether there is such an item.
func notStocked(err error, item, location string) error {
	return retold(err, "not_found", fault.NotFound, "Item %s is not stocked at location %s", item, location)
}

func deleteLevel(c *call) (any, error) {
	to, err := c.query(deleteLevelParams, 0)
	if err != nil {
		return nil, err
	}
	s, err := itemEntity.chosen(to.fields, itemDefaults)
	if err != nil {
		return nil, err
	}
	item, location := c.id("id"), c.id("location_id")
	missing := notFound("Inventory Level for Item %s at Location %s not found", item, location)
	command := commands.DeleteInventoryLevels{InventoryItemID: commands.IDs{item}, LocationID: commands.IDs{location}, Force: to.force}
	answer, err := c.do(command, func(result []byte) (any, error) {
		deleted, err := named(result)
		if err != nil {
			return nil, err
		}
		if len(deleted) == 0 {
			return nil, missing
		}
		parent, err := c.changedItem(item, s)
		return levelDeleted{deletedAnswer{deleted[0], "inventory-level", true}, parent}, err
	})
	switch fault.Code(err) {
	case "not_found":
		return nil, missing
	case "level_has_reservations":
		return nil, fault.New(fault.NotAllowed, "level_has_reservations",
			"Cannot remove Inventory Level %s at Location %s because there are reservations at location", item, location)
	}
	return answer, err
}

type levelDeleted struct {
	deletedAnswer
	Parent jsontext.Value `json:"parent"`
}

// batchItemLevels takes fields for the sake of clients that send them; as in
// Medusa, they change nothing.
func batchItemLevels(c *call) (any, error) {
	if _, err := c.query(selectParams, 0); err != nil {
		return nil, err
	}
	var batch commands.BatchInventoryItemLevels
	if err := c.body(itemLevelsShape, &batch); err != nil {
		return nil, err
	}
	for i := range batch.Create {
		batch.Create[i].InventoryItemID = c.id("id")
	}
	for i := range batch.Update {
		batch.Update[i].InventoryItemID = c.id("id")
	}
	if batch.Delete == nil {
		batch.Delete = []string{}
	}
	return c.batchLevels(batch)
}

func batchAnyLevels(c *call) (any, error) {
	if _, err := c.query(nil, 0); err != nil {
		return nil, err
	}
	var batch commands.BatchInventoryItemLevels
	if err := c.body(anyLevelsShape, &batch); err != nil {
		return nil, err
	}
	return c.batchLevels(batch)
}

// batchLevels carries out a batch. What it answers as deleted is what was asked
// for, also levels that never were, as in Medusa.
func (c *call) batchLevels(batch commands.BatchInventoryItemLevels) (any, error) {
	batch.IgnoreUnknown = true
	answer, err := c.do(batch, func(result []byte) (any, error) {
		var done commands.BatchResult
		if err := json.Unmarshal(result, &done); err != nil {
			return nil, err
		}
		return c.levelsDone(done, batch.Delete)
	})
	return answer, c.batchRefused(err, batch)
}

// batchRefused tells of a refused batch what Medusa would.
func (c *call) batchRefused(err error, batch commands.BatchInventoryItemLevels) error {
	if fault.Code(err) != "not_found" {
		return err
	}
	details := fault.Of(err).Details
	line, _ := details["line"].(int)
	if details["part"] == "update" && 0 < line && line <= len(batch.Update) {
		u := batch.Update[line-1]
		return notStocked(err, u.InventoryItemID, u.LocationID)
	}
	return noSuchItem(err)
}

func (c *call) levelsDone(done commands.BatchResult, deleted []string) (any, error) {
	s := newSelection()
	bareLevel.chooseAll(s)
	created, err := each(s, mapped(done.Created, decidedLevel))
	if err != nil {
		return nil, err
	}
	updated, err := each(s, mapped(done.Updated, decidedLevel))
	return levelsDone{created, updated, deleted}, err
}

type levelsDone struct {
	Created []jsontext.Value `json:"created"`
	Updated []jsontext.Value `json:"updated"`
	Deleted []string         `json:"deleted,omitzero"`
}

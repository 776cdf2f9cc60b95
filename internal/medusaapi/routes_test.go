package medusaapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What answers have by default, as stock makes it.
const (
	parisLevel = `{"id": "ilev_paris", "inventory_item_id": "mug", "location_id": "paris", "stocked_quantity": 10.5, "reserved_quantity": 3,
		"incoming_quantity": 0, "available_quantity": 7.5, "metadata": null, "created_at": "<time>", "updated_at": "<time>"}`
	osloLevel = `{"id": "ilev_oslo", "inventory_item_id": "mug", "location_id": "oslo", "stocked_quantity": 5, "reserved_quantity": 0,
		"incoming_quantity": 2, "available_quantity": 5, "metadata": null, "created_at": "<time>", "updated_at": "<time>"}`

	// In an item, levels have all their columns.
	parisIn = `{"id": "ilev_paris", "inventory_item_id": "mug", "location_id": "paris", "stocked_quantity": 10.5, "reserved_quantity": 3,
		"incoming_quantity": 0, "available_quantity": 7.5, "metadata": null, "created_at": "<time>", "updated_at": "<time>", "deleted_at": null}`
	osloIn = `{"id": "ilev_oslo", "inventory_item_id": "mug", "location_id": "oslo", "stocked_quantity": 5, "reserved_quantity": 0,
		"incoming_quantity": 2, "available_quantity": 5, "metadata": null, "created_at": "<time>", "updated_at": "<time>", "deleted_at": null}`

	mugAttributes = `"id": "mug", "sku": "MUG-1", "title": "Mug", "description": null, "thumbnail": null, "origin_country": "UK", "hs_code": "hs1",
		"requires_shipping": true, "mid_code": null, "material": "clay", "weight": 0.25, "length": null, "height": null, "width": null,
		"metadata": {"colour": "blue"}, "created_at": "<time>", "updated_at": "<time>"`
	mugScalars = mugAttributes + `, "reserved_quantity": 3, "stocked_quantity": 15.5`
	mug        = `{` + mugScalars + `, "location_levels": [` + parisIn + `, ` + osloIn + `]}`

	bowlScalars = `"id": "bowl", "sku": "BOWL-1", "title": null, "description": "for soup", "thumbnail": null, "origin_country": null, "hs_code": null,
		"requires_shipping": false, "mid_code": null, "material": null, "weight": null, "length": null, "height": null, "width": null,
		"metadata": null, "created_at": "<time>", "updated_at": "<time>", "reserved_quantity": 0, "stocked_quantity": 0`
	bowl = `{` + bowlScalars + `, "location_levels": []}`

	gift = `{"id": "res_1", "location_id": "paris", "inventory_item_id": "mug", "quantity": 3, "line_item_id": "line_1", "description": "gift",
		"metadata": null, "created_at": "<time>", "updated_at": "<time>", "inventory_item": {` + mugScalars + `}}`

	paris = `{"id": "paris", "name": "Paris", "metadata": null, "created_at": "<time>", "updated_at": "<time>", "address": {
		"id": "laddr_paris", "address_1": "1 rue du Four", "address_2": null, "city": null, "country_code": "fr", "phone": null,
		"province": null, "postal_code": null, "metadata": null}}`
	oslo = `{"id": "oslo", "name": "Oslo", "metadata": {"docks": 2}, "created_at": "<time>", "updated_at": "<time>", "address": null}`

	set = `{"id": "set", "product_id": "prod", "inventory_items": [{"variant_id": "set", "inventory_item_id": "mug", "required_quantity": 2,
		"inventory": {` + mugScalars + `, "deleted_at": null, "unit_of_measure": null, "incoming_quantity": 2, "available_quantity": 12.5}}]}`
)

// A row is a request on the ledger that stock makes, and its answer.
type row struct {
	name   string
	send   string // method and path
	body   string
	status int
	want   string
	// then is another request, and its answer, which shows what the first one did.
	then, shows string
}

func refusal(kind, message string) string {
	return `{"type": "` + kind + `", "message": "` + strings.ReplaceAll(message, `"`, `\"`) + `"}`
}

func invalid(message string) string { return refusal("invalid_data", "Invalid request: "+message) }

func notFound(message string) string { return refusal("not_found", message) }

func run(t *testing.T, all []row) {
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			s := stocked(t)
			got := s.ask(t, r.send, r.body)
			require.Equal(t, r.status, got.status, got.body)
			require.Equal(t, "application/json; charset=utf-8", got.header.Get("Content-Type"))
			same(t, r.want, got.body)
			if r.then != "" {
				same(t, r.shows, s.ask(t, r.then, "").body)
			}
		})
	}
}

func page(name, offset, limit string, rows ...string) string {
	return `{"` + name + `": [` + strings.Join(rows, ", ") + `], "count": ` + count(rows) + `, "offset": ` + offset + `, "limit": ` + limit + `}`
}

func count(rows []string) string { return string('0' + rune(len(rows))) }

func items(rows ...string) string { return page("inventory_items", "0", "20", rows...) }

func item(it string) string { return `{"inventory_item": ` + it + `}` }

// mugWith is the mug with other levels and totals.
func mugWith(reserved, stocked string, levels ...string) string {
	return item(`{` + mugAttributes + `, "reserved_quantity": ` + reserved + `, "stocked_quantity": ` + stocked +
		`, "location_levels": [` + strings.Join(levels, ", ") + `]}`)
}

// level is a level as it is in an item.
func level(id, location, stocked, reserved, incoming, available string) string {
	return levelOf("mug", id, location, stocked, reserved, incoming, available)
}

func levelOf(item, id, location, stocked, reserved, incoming, available string) string {
	return `{"id": "` + id + `", "inventory_item_id": "` + item + `", "location_id": "` + location + `", "stocked_quantity": ` + stocked +
		`, "reserved_quantity": ` + reserved + `, "incoming_quantity": ` + incoming + `, "available_quantity": ` + available +
		`, "metadata": null, "created_at": "<time>", "updated_at": "<time>", "deleted_at": null}`
}

func TestInventoryItems(t *testing.T) {
	made := strings.NewReplacer(`"bowl"`, `"<id:iitem_>"`, `"BOWL-1"`, `"NEW"`, `"for soup"`, `null`, `"requires_shipping": false`, `"requires_shipping": true`)
	run(t, []row{
		{name: "are listed with their levels, oldest first", send: "GET /admin/inventory-items", status: 200, want: items(mug, bowl)},
		{
			name: "one is created from nothing", send: "POST /admin/inventory-items", body: `{"sku": "NEW"}`, status: 200,
			want: item(made.Replace(bowl)), then: "GET /admin/inventory-items?sku=NEW", shows: items(made.Replace(bowl)),
		},
		{
			name: "or with all there is", send: "POST /admin/inventory-items", status: 200,
			body: `{"sku": "NEW", "hs_code": "h", "weight": 1, "length": 2.5, "height": 0, "width": 1e1, "origin_country": "no", "mid_code": "m",
				"material": "wood", "title": "T", "description": "D", "requires_shipping": false, "thumbnail": "t.png", "metadata": {"a": 1.10},
				"location_levels": [{"location_id": "oslo", "stocked_quantity": 20, "incoming_quantity": 40}, {"location_id": "paris"}]}`,
			want: item(`{"id": "<id:iitem_>", "sku": "NEW", "hs_code": "h", "weight": 1, "length": 2.5, "height": 0, "width": 10, "origin_country": "no",
				"mid_code": "m", "material": "wood", "title": "T", "description": "D", "requires_shipping": false, "thumbnail": "t.png",
				"metadata": {"a": 1.10}, "created_at": "<time>", "updated_at": "<time>", "reserved_quantity": 0, "stocked_quantity": 20,
				"location_levels": [` + levelOf("<id:iitem_>", "<id:ilev_>", "oslo", "20", "0", "40", "20") + `, ` +
				levelOf("<id:iitem_>", "<id:ilev_>", "paris", "0", "0", "0", "0") + `]}`),
		},
		{
			name: "or with nulls", send: "POST /admin/inventory-items?fields=sku,metadata", status: 200,
			body: `{"sku": null, "hs_code": null, "weight": null, "title": null, "metadata": null, "location_levels": []}`,
			want: item(`{"id": "<id:iitem_>", "sku": null, "metadata": null}`),
		},
		{
			name: "but not with a SKU that is taken", send: "POST /admin/inventory-items", body: `{"sku": "MUG-1"}`,
			status: 400, want: refusal("invalid_data", "Inventory item with sku: MUG-1, already exists."),
		},
		{
			name: "nor at locations that are not there", send: "POST /admin/inventory-items",
			body:   `{"sku": "NEW", "location_levels": [{"location_id": "mars"}, {"location_id": "paris"}, {"location_id": "rome"}]}`,
			status: 404, want: notFound("Stock locations with ids: mars, rome was not found"),
			then: "GET /admin/inventory-items?sku=NEW", shows: items(),
		},
		{name: "one is retrieved", send: "GET /admin/inventory-items/mug", status: 200, want: item(mug)},
		{
			name: "one that is not there is not", send: "GET /admin/inventory-items/cup", status: 404,
			want: notFound("Inventory item with id: cup was not found"),
		},
		{
			name: "one is changed", send: "POST /admin/inventory-items/bowl", status: 200,
			body: `{"sku": "B", "mid_code": "m", "weight": 120, "requires_shipping": true, "description": null, "metadata": {"k": [1]}}`,
			want: item(strings.NewReplacer(`"BOWL-1"`, `"B"`, `"mid_code": null`, `"mid_code": "m"`, `"weight": null`, `"weight": 120`,
				`"requires_shipping": false`, `"requires_shipping": true`, `"for soup"`, `null`, `"metadata": null`, `"metadata": {"k": [1]}`).Replace(bowl)),
		},
		{
			name: "metadata is merged", send: "POST /admin/inventory-items/mug?fields=metadata", body: `{"metadata": {"size": "L"}}`, status: 200,
			want: item(`{"id": "mug", "metadata": {"colour": "blue", "size": "L"}}`),
		},
		{name: "an empty change changes nothing", send: "POST /admin/inventory-items/mug", body: `{}`, status: 200, want: item(mug)},
		{name: "nor does no body at all", send: "POST /admin/inventory-items/mug", status: 200, want: item(mug)},
		{
			name: "one that is not there is not changed", send: "POST /admin/inventory-items/cup", body: `{"title": "x"}`, status: 404,
			want: notFound(`InventoryItem with id "cup" not found`),
		},
		{
			name: "its id is told as it is", send: "POST /admin/inventory-items/a%5Cb", body: `{"title": "x"}`, status: 404,
			want: `{"type": "not_found", "message": "InventoryItem with id \"a\\b\" not found"}`,
		},
		{
			name: "the path of Medusa's missing batch route is that of an item", send: "POST /admin/inventory-items/batch", body: `{}`, status: 404,
			want: notFound(`InventoryItem with id "batch" not found`),
		},
		{
			name: "nor is a SKU changed to one that is taken", send: "POST /admin/inventory-items/bowl", body: `{"sku": "MUG-1"}`, status: 400,
			want: refusal("invalid_data", "Inventory item with sku: MUG-1, already exists."),
		},
		{
			name: "a change has no levels", send: "POST /admin/inventory-items/bowl", body: `{"location_levels": []}`, status: 400,
			want: invalid("Unrecognized fields: 'location_levels'"),
		},
		{
			name: "one is deleted", send: "DELETE /admin/inventory-items/bowl", status: 200,
			want: `{"id": "bowl", "object": "inventory_item", "deleted": true}`, then: "GET /admin/inventory-items", shows: items(mug),
		},
		{
			name: "but not with reservations", send: "DELETE /admin/inventory-items/mug", status: 400,
			want: refusal("invalid_data", "Cannot remove following inventory item(s) since they have reservations: [mug]."),
		},
		{
			name: "one that never was is deleted, too", send: "DELETE /admin/inventory-items/cup", status: 200,
			want: `{"id": "cup", "object": "inventory_item", "deleted": true}`,
		},
	})
}

func TestLocationLevels(t *testing.T) {
	levels := func(rows ...string) string { return page("inventory_levels", "0", "50", rows...) }
	const path = "/admin/inventory-items/mug/location-levels"
	run(t, []row{
		{name: "are listed, oldest first", send: "GET " + path, status: 200, want: levels(parisLevel, osloLevel)},
		{name: "at a location", send: "GET " + path + "?location_id[]=oslo", status: 200, want: levels(osloLevel)},
		{name: "of an item that is not there: none", send: "GET /admin/inventory-items/cup/location-levels", status: 200, want: levels()},

		{
			name: "one is created", send: "POST /admin/inventory-items/bowl/location-levels",
			body: `{"location_id": "oslo", "stocked_quantity": 2, "incoming_quantity": 1}`, status: 200,
			want: item(strings.NewReplacer(`"stocked_quantity": 0`, `"stocked_quantity": 2`, `[]`,
				`[`+levelOf("bowl", "<id:ilev_>", "oslo", "2", "0", "1", "2")+`]`).Replace(bowl)),
		},
		{
			name: "with nothing in stock", send: "POST /admin/inventory-items/bowl/location-levels", body: `{"location_id": "oslo"}`, status: 200,
			want: item(strings.Replace(bowl, `[]`, `[`+levelOf("bowl", "<id:ilev_>", "oslo", "0", "0", "0", "0")+`]`, 1)),
		},
		{
			name: "not at a location that is not there", send: "POST " + path, body: `{"location_id": "mars"}`, status: 404,
			want: notFound("Stock locations with ids: mars was not found"),
		},
		{
			name: "nor at one that was closed", send: "POST " + path, body: `{"location_id": "rome"}`, status: 404,
			want: notFound("Stock locations with ids: rome was not found"),
		},
		{
			name: "nor twice", send: "POST " + path, body: `{"location_id": "oslo"}`, status: 400,
			want: refusal("invalid_data", "Inventory level with inventory_item_id: mug, location_id: oslo, already exists."),
		},
		{
			name: "nor of an item that is not there", send: "POST /admin/inventory-items/cup/location-levels", body: `{"location_id": "oslo"}`, status: 404,
			want: notFound("You tried to set relationship inventory_item_id: cup, but such entity does not exist"),
		},
		{name: "nor without a location", send: "POST " + path, body: `{}`, status: 400, want: invalid("Field 'location_id' is required")},
		{
			name: "nor with less than nothing", send: "POST " + path, body: `{"location_id": "oslo", "stocked_quantity": -1, "incoming_quantity": -0.5}`, status: 400,
			want: invalid("Value for field 'stocked_quantity' too small, expected at least: '0'; Value for field 'incoming_quantity' too small, expected at least: '0'"),
		},

		{
			name: "quantities are set", send: "POST " + path + "/paris", body: `{"stocked_quantity": 15, "incoming_quantity": 5}`, status: 200,
			want: mugWith("3", "20", level("ilev_paris", "paris", "15", "3", "5", "12"), osloIn),
		},
		{
			name: "one at a time", send: "POST " + path + "/oslo", body: `{"incoming_quantity": 0}`, status: 200,
			want: mugWith("3", "15.5", parisIn, level("ilev_oslo", "oslo", "5", "0", "0", "5")),
		},
		{name: "or none", send: "POST " + path + "/oslo", body: `{}`, status: 200, want: item(mug)},
		{
			name: "not where the item is not stocked", send: "POST " + path + "/mars", body: `{"stocked_quantity": 1}`, status: 404,
			want: notFound("Item mug is not stocked at location mars"),
		},
		{
			name: "nor of an item that is not there", send: "POST /admin/inventory-items/cup/location-levels/paris", body: `{"stocked_quantity": 1}`, status: 404,
			want: notFound("Item cup is not stocked at location paris"),
		},
		{
			name: "nor to less than nothing", send: "POST " + path + "/paris", body: `{"incoming_quantity": -1, "stocked_quantity": -1}`, status: 400,
			want: invalid("Value for field 'stocked_quantity' too small, expected at least: '0'; Value for field 'incoming_quantity' too small, expected at least: '0'"),
		},
		{
			name: "nor to less than is reserved, which Medusa would do", send: "POST " + path + "/paris", body: `{"stocked_quantity": 1}`, status: 400,
			want: refusal("not_allowed", "Item mug at location paris has 10.5 in stock, 3 of them reserved: 1 would be left"),
		},

		{
			name: "an empty one is deleted", send: "DELETE " + path + "/oslo?force=true", status: 400,
			want: refusal("not_allowed", "Cannot remove Inventory Levels for oslo because there are reserved or incoming items at the locations"),
		},
		{
			name: "not one that is not there", send: "DELETE " + path + "/mars", status: 404,
			want: notFound("Inventory Level for Item mug at Location mars not found"),
		},
		{
			name: "nor one of an item that is not there", send: "DELETE /admin/inventory-items/cup/location-levels/paris", status: 404,
			want: notFound("Inventory Level for Item cup at Location paris not found"),
		},
		{
			name: "nor one with reservations", send: "DELETE " + path + "/paris", status: 400,
			want: refusal("not_allowed", "Cannot remove Inventory Level mug at Location paris because there are reservations at location"),
		},
	})
}

func TestALevelIsDeletedWhenItIsEmptyOrByForce(t *testing.T) {
	s := stocked(t)
	const path = "/admin/inventory-items/mug/location-levels/oslo"
	require.Equal(t, 200, s.ask(t, "POST "+path, `{"incoming_quantity": 0}`).status)
	got := s.ask(t, "DELETE "+path, "")
	require.Equal(t, 400, got.status)
	same(t, refusal("not_allowed",
		"Cannot remove Inventory Levels for oslo because there are stocked items at the locations. Use force flag to delete anyway."), got.body)

	same(t, invalid("Expected type: 'boolean' for field 'force', got: 'yes'"), s.ask(t, "DELETE "+path+"?force=yes", "").body)

	got = s.ask(t, "DELETE "+path+"?force=true", "", "Idempotency-Key", "once")
	require.Equal(t, 200, got.status)
	parent := `{` + mugAttributes + `, "reserved_quantity": 3, "stocked_quantity": 10.5, "location_levels": [` + parisIn + `]}`
	same(t, `{"id": "ilev_oslo", "object": "inventory-level", "deleted": true, "parent": `+parent+`}`, got.body)

	require.Equal(t, got.body, s.ask(t, "DELETE "+path+"?force=true", "", "Idempotency-Key", "once").body, "a retry has the same answer")
	same(t, notFound("Inventory Level for Item mug at Location oslo not found"), s.ask(t, "DELETE "+path+"?force=true", "").body)

	require.Equal(t, 200, s.ask(t, "POST /admin/inventory-items/mug/location-levels", `{"location_id": "oslo"}`).status)
	got = s.ask(t, "DELETE "+path+"?fields=sku", "")
	require.Equal(t, 200, got.status)
	same(t, `{"id": "<id:ilev_>", "object": "inventory-level", "deleted": true, "parent": {"id": "mug", "sku": "MUG-1"}}`, got.body)
}

func TestBatchesOfLevels(t *testing.T) {
	const one, all = "POST /admin/inventory-items/mug/location-levels/batch", "POST /admin/inventory-items/location-levels/batch"
	const levels = "GET /admin/inventory-items/mug/location-levels?fields=location_id,stocked_quantity"
	const unchanged = `{"inventory_levels": [{"id": "ilev_paris", "location_id": "paris", "stocked_quantity": 10.5},
		{"id": "ilev_oslo", "location_id": "oslo", "stocked_quantity": 5}], "count": 2, "offset": 0, "limit": 50}`
	const force = "Cannot remove Inventory Levels for cellar because there are stocked items at the locations. Use force flag to delete anyway."
	run(t, []row{
		{
			name: "create, update and delete levels of an item", send: one, status: 200,
			body: `{"create": [{"location_id": "nowhere"}, {"location_id": "attic", "stocked_quantity": 1, "incoming_quantity": 2}],
				"update": [{"id": "ilev_paris", "location_id": "paris", "stocked_quantity": 11}, {"location_id": "oslo", "incoming_quantity": 0}], "delete": []}`,
			want: `{"created": [` + level("<id:ilev_>", "nowhere", "0", "0", "0", "0") + `, ` + level("<id:ilev_>", "attic", "1", "0", "2", "1") + `],
				"updated": [` + level("ilev_paris", "paris", "11", "3", "0", "8") + `, ` + level("ilev_oslo", "oslo", "5", "0", "0", "5") + `], "deleted": []}`,
		},
		{name: "missing lists are empty", send: one, body: `{}`, status: 200, want: `{"created": [], "updated": [], "deleted": []}`},
		{name: "over all items the list of those deleted is left out", send: all, body: `{}`, status: 200, want: `{"created": [], "updated": []}`},
		{name: "unless it is sent", send: all, body: `{"create": [], "update": [], "delete": []}`, status: 200, want: `{"created": [], "updated": [], "deleted": []}`},
		{
			name: "over all items", send: all, status: 200,
			body: `{"create": [{"inventory_item_id": "bowl", "location_id": "paris", "stocked_quantity": 1}],
				"update": [{"inventory_item_id": "mug", "location_id": "oslo", "stocked_quantity": 6, "id": "dropped", "metadata": 1}]}`,
			want: `{"created": [` + levelOf("bowl", "<id:ilev_>", "paris", "1", "0", "0", "1") + `], "updated": [` +
				level("ilev_oslo", "oslo", "6", "0", "2", "6") + `]}`,
		},
		{
			name: "a level that never was is deleted silently", send: all, body: `{"delete": ["ilev_never"]}`, status: 200,
			want: `{"created": [], "updated": [], "deleted": ["ilev_never"]}`,
		},
		{
			name: "not a level with reservations, also by force, and nothing else is done", send: one, status: 400,
			body: `{"create": [{"location_id": "attic"}], "delete": ["ilev_paris"], "force": true}`,
			want: refusal("not_allowed", "Cannot remove Inventory Levels for paris because there are reserved or incoming items at the locations"),
			then: levels, shows: unchanged,
		},
		{
			name: "nor one with incoming stock", send: all, body: `{"delete": ["ilev_oslo"], "force": true}`, status: 400,
			want: refusal("not_allowed", "Cannot remove Inventory Levels for oslo because there are reserved or incoming items at the locations"),
		},
		{
			name: "not one that is there already", send: one, body: `{"create": [{"location_id": "attic"}, {"location_id": "oslo"}]}`, status: 400,
			want: refusal("invalid_data", "Inventory level with inventory_item_id: mug, location_id: oslo, already exists."),
			then: levels, shows: unchanged,
		},
		{
			name: "nor one of an item that is not there", send: all, body: `{"create": [{"inventory_item_id": "cup", "location_id": "oslo"}]}`, status: 404,
			want: notFound("You tried to set relationship inventory_item_id: cup, but such entity does not exist"),
		},
		{
			name: "no change where the item is not stocked", send: one, body: `{"update": [{"location_id": "oslo"}, {"location_id": "mars", "stocked_quantity": 1}]}`,
			status: 404, want: notFound("Item mug is not stocked at location mars"),
		},
		{
			name: "nor of an item that is not there", send: all, body: `{"update": [{"inventory_item_id": "cup", "location_id": "oslo"}]}`,
			status: 404, want: notFound("Item cup is not stocked at location oslo"),
		},
		{
			name: "bodies are checked in the order of the schema", send: one, status: 400,
			body: `{"force": 1, "x": 1, "create": [{"stocked_quantity": -1}]}`,
			want: invalid("Field 'create, 0, location_id' is required; " +
				"Value for field 'create, 0, stocked_quantity' too small, expected at least: '0'; Expected type: 'boolean' for field 'force', got: '1'"),
		},
		{
			name: "entries for an item have no item", send: one, body: `{"create": [{"location_id": "attic", "inventory_item_id": "mug"}]}`, status: 400,
			want: invalid("Unrecognized fields: 'inventory_item_id'"),
		},
		{
			name: "entries over all items have one", send: all, body: `{"update": [{"location_id": "attic"}]}`, status: 400,
			want: invalid("Field 'update, 0, inventory_item_id' is required"),
		},
		{
			name: "ids are texts", send: all, body: `{"delete": [1, null]}`, status: 400,
			want: invalid("Expected type: 'string' for field 'delete, 0', got: '1'; Expected type: 'string' for field 'delete, 1', got: 'null'"),
		},
		{name: "the batch over all items has no fields", send: all + "?fields=id", body: `{}`, status: 400, want: invalid("Unrecognized fields: 'fields'")},
		{name: "that of an item has, and they change nothing", send: one + "?fields=id", body: `{}`, status: 200, want: `{"created": [], "updated": [], "deleted": []}`},
	})

	for _, send := range []string{one, all} {
		s := stocked(t)
		s.do(t, "create-inventory-levels", `{"id": "ilev_cellar", "inventory_item_id": "mug", "location_id": "cellar", "stocked_quantity": 1}`)
		got := s.ask(t, send, `{"delete": ["ilev_cellar"]}`)
		require.Equal(t, 400, got.status)
		same(t, refusal("not_allowed", force), got.body)
		same(t, `{"created": [], "updated": [], "deleted": ["ilev_cellar"]}`, s.ask(t, send, `{"delete": ["ilev_cellar"], "force": true}`).body)
		same(t, unchanged, s.ask(t, levels, "").body)
	}
}

func TestReservations(t *testing.T) {
	reservations := func(rows ...string) string { return page("reservations", "0", "20", rows...) }
	reservation := func(r string) string { return `{"reservation": ` + r + `}` }
	const short = "Not enough stock available for item mug at location "
	more := strings.NewReplacer(`"reserved_quantity": 3`, `"reserved_quantity": 4`)
	run(t, []row{
		{name: "are listed with their items", send: "GET /admin/reservations", status: 200, want: reservations(gift)},
		{
			name: "one is made", send: "POST /admin/reservations", status: 200,
			body: `{"line_item_id": "line_2", "inventory_item_id": "mug", "location_id": "oslo", "description": "d", "quantity": 1, "metadata": {"a": 1}}`,
			want: reservation(`{"id": "<id:resitem_>", "location_id": "oslo", "inventory_item_id": "mug", "quantity": 1, "line_item_id": "line_2",
				"description": "d", "metadata": {"a": 1}, "created_at": "<time>", "updated_at": "<time>", "inventory_item": {` + more.Replace(mugScalars) + `}}`),
		},
		{
			name: "of all there is", send: "POST /admin/reservations?fields=quantity,allow_backorder", status: 200,
			body: `{"inventory_item_id": "mug", "location_id": "paris", "quantity": 7.5, "line_item_id": null, "description": null, "metadata": null}`,
			want: reservation(`{"id": "<id:resitem_>", "quantity": 7.5, "allow_backorder": false}`),
		},
		{
			name: "not of more", send: "POST /admin/reservations?fields=*inventory_item.location_levels", status: 400,
			body: `{"inventory_item_id": "mug", "location_id": "paris", "quantity": 7.51}`, want: refusal("not_allowed", short+"paris"),
		},
		{
			name: "nor where the item is not stocked", send: "POST /admin/reservations", status: 404,
			body: `{"inventory_item_id": "mug", "location_id": "mars", "quantity": 1}`, want: notFound("Item mug is not stocked at location mars"),
		},
		{
			name: "nor of an item that is not there", send: "POST /admin/reservations", status: 404,
			body: `{"inventory_item_id": "cup", "location_id": "oslo", "quantity": 1}`, want: notFound("Item cup is not stocked at location oslo"),
		},
		{
			name: "nor of nothing, which Medusa would take", send: "POST /admin/reservations", status: 400,
			body: `{"inventory_item_id": "mug", "location_id": "oslo", "quantity": 0}`, want: refusal("invalid_data", "quantity must be greater than 0, not 0"),
		},
		{
			name: "nor of less than nothing", send: "POST /admin/reservations", status: 400,
			body: `{"inventory_item_id": "mug", "location_id": "oslo", "quantity": -1}`, want: refusal("invalid_data", "quantity must be greater than 0, not -1"),
		},
		{
			name: "what is needed is asked for", send: "POST /admin/reservations", body: `{}`, status: 400,
			want: invalid("Field 'location_id' is required; Field 'inventory_item_id' is required; Field 'quantity' is required"),
		},
		{
			name: "what Medusa does not take is refused", send: "POST /admin/reservations", status: 400,
			body: `{"inventory_item_id": "mug", "location_id": "oslo", "quantity": 1, "allow_backorder": true, "external_id": "e", "created_by": "c"}`,
			want: invalid("Unrecognized fields: 'allow_backorder, external_id, created_by'"),
		},
		{
			name: "a quantity is no text", send: "POST /admin/reservations", body: `{"inventory_item_id": "mug", "location_id": "oslo", "quantity": "1"}`,
			status: 400, want: invalid("Expected type: 'number' for field 'quantity', got: '1'"),
		},
		{name: "one is retrieved", send: "GET /admin/reservations/res_1", status: 200, want: reservation(gift)},
		{name: "not one that is not there", send: "GET /admin/reservations/res_9", status: 404, want: notFound("Reservation with id: res_9 was not found")},
		{
			name: "one is changed", send: "POST /admin/reservations/res_1", body: `{"quantity": 4, "description": "box", "metadata": {"k": null}}`, status: 200,
			want: reservation(more.Replace(strings.NewReplacer(`"quantity": 3`, `"quantity": 4`, `"gift"`, `"box"`,
				`"description": "gift",
		"metadata": null`, `"description": "box", "metadata": {}`).Replace(gift))),
		},
		{
			name: "one is moved, and lets go where it was", send: "POST /admin/reservations/res_1?fields=location_id,*inventory_item.location_levels",
			body: `{"location_id": "oslo"}`, status: 200,
			want: reservation(`{"id": "res_1", "location_id": "oslo", "inventory_item": {"id": "mug", "location_levels": [` +
				level("ilev_paris", "paris", "10.5", "0", "0", "10.5") + `, ` + level("ilev_oslo", "oslo", "5", "3", "2", "2") + `]}}`),
		},
		{
			name: "not to where the item is not stocked", send: "POST /admin/reservations/res_1", body: `{"location_id": "mars"}`, status: 404,
			want: notFound("Item mug is not stocked at location mars"),
		},
		{
			name: "nor to more than there is", send: "POST /admin/reservations/res_1", body: `{"quantity": 100000}`, status: 400,
			want: refusal("not_allowed", short+"paris"),
		},
		{
			name: "nor to more than there is elsewhere, which Medusa would do", send: "POST /admin/reservations/res_1", status: 400,
			body: `{"location_id": "oslo", "quantity": 6}`, want: refusal("not_allowed", short+"oslo"),
		},
		{
			name: "one that is not there is an invalid request, as in Medusa", send: "POST /admin/reservations/res_9", body: `{"quantity": 1}`, status: 400,
			want: refusal("invalid_data", "Reservation item with id res_9 not found"),
		},
		{
			name: "its item is not changed", send: "POST /admin/reservations/res_1", body: `{"inventory_item_id": "bowl", "line_item_id": "x"}`, status: 400,
			want: invalid("Unrecognized fields: 'inventory_item_id, line_item_id'"),
		},
		{
			name: "one is let go of", send: "DELETE /admin/reservations/res_1", status: 200, want: `{"id": "res_1", "object": "reservation", "deleted": true}`,
			then: "GET /admin/reservations", shows: reservations(),
		},
		{
			name: "one that never was is let go of, too", send: "DELETE /admin/reservations/res_9", status: 200,
			want: `{"id": "res_9", "object": "reservation", "deleted": true}`,
		},
	})
}

func TestAReservationThatWasLetGoOfIsGone(t *testing.T) {
	s := stocked(t)
	require.Equal(t, 200, s.ask(t, "DELETE /admin/reservations/res_1", "").status)
	require.Equal(t, 200, s.ask(t, "DELETE /admin/reservations/res_1", "").status)
	same(t, notFound("Reservation with id: res_1 was not found"), s.ask(t, "GET /admin/reservations/res_1", "").body)
	same(t, refusal("invalid_data", "Reservation item with id res_1 not found"), s.ask(t, "POST /admin/reservations/res_1", `{"quantity": 1}`).body)
	same(t, `0`, mustJSON(s.ask(t, "GET /admin/inventory-items/mug?fields=reserved_quantity", "").value(t, "inventory_item", "reserved_quantity")))
}

func TestStockLocations(t *testing.T) {
	locations := func(rows ...string) string { return page("stock_locations", "0", "20", rows...) }
	location := func(l string) string { return `{"stock_location": ` + l + `}` }
	const address = `{"address_1": "a1", "country_code": "no", "address_2": "a2", "company": "c", "city": "ci", "phone": "p", "postal_code": "po",
		"province": "pr", "metadata": {"gate": "9"}, "first_name": "dropped"}`
	run(t, []row{
		{name: "are listed", send: "GET /admin/stock-locations", status: 200, want: locations(paris, oslo)},
		{
			name: "one is opened", send: "POST /admin/stock-locations", body: `{"name": " Lima "}`, status: 200,
			want: location(`{"id": "<id:sloc_>", "name": "Lima", "metadata": null, "created_at": "<time>", "updated_at": "<time>", "address": null}`),
		},
		{
			name: "with an address", send: "POST /admin/stock-locations", status: 200,
			body: `{"name": "Lima", "address": ` + address + `, "address_id": null, "metadata": {"a": 1}}`,
			want: location(`{"id": "<id:sloc_>", "name": "Lima", "metadata": {"a": 1}, "created_at": "<time>", "updated_at": "<time>", "address": {
				"id": "<id:laddr_>", "address_1": "a1", "country_code": "no", "address_2": "a2", "city": "ci", "phone": "p", "postal_code": "po",
				"province": "pr", "metadata": {"gate": "9"}}}`),
		},
		{
			name: "all of which can be asked for", send: "POST /admin/stock-locations?fields=*address", status: 200, body: `{"name": "Lima", "address": ` + address + `}`,
			want: location(`{"id": "<id:sloc_>", "name": "Lima", "metadata": null, "created_at": "<time>", "updated_at": "<time>", "address": {
				"id": "<id:laddr_>", "address_1": "a1", "country_code": "no", "address_2": "a2", "company": "c", "city": "ci", "phone": "p",
				"postal_code": "po", "province": "pr", "metadata": {"gate": "9"}}}`),
		},
		{
			name: "not with the address of another, which Medusa would take", send: "POST /admin/stock-locations", body: `{"name": "Lima", "address_id": "laddr_1"}`, status: 400,
			want: invalid("an address belongs to its location here; send address instead of address_id"),
		},
		{name: "nor without a name", send: "POST /admin/stock-locations", body: `{}`, status: 400, want: invalid("Field 'name' is required")},
		{name: "nor with an empty one", send: "POST /admin/stock-locations", body: `{"name": " "}`, status: 400, want: refusal("invalid_data", "Field 'name' is required")},
		{
			name: "nor half an address", send: "POST /admin/stock-locations", body: `{"name": "Lima", "address": {"city": 1}, "x": 1}`, status: 400,
			want: invalid("Field 'address, address_1' is required; Expected type: 'string' for field 'address, city', got: '1'; Field 'address, country_code' is required"),
		},
		{name: "one is retrieved", send: "GET /admin/stock-locations/paris", status: 200, want: location(paris)},
		{name: "not one that is not there", send: "GET /admin/stock-locations/mars", status: 404, want: notFound("Stock location with id: mars was not found")},
		{name: "nor one that was closed", send: "GET /admin/stock-locations/rome", status: 404, want: notFound("Stock location with id: rome was not found")},
		{
			name: "one is changed", send: "POST /admin/stock-locations/oslo", status: 200,
			body: `{"name": "Oslo harbour", "address": {"address_1": "Kaia 1", "country_code": "no"}, "address_id": "dropped", "metadata": {"cranes": 1}}`,
			want: location(`{"id": "oslo", "name": "Oslo harbour", "metadata": {"docks": 2, "cranes": 1}, "created_at": "<time>", "updated_at": "<time>",
				"address": {"id": "laddr_oslo", "address_1": "Kaia 1", "address_2": null, "city": null, "country_code": "no", "phone": null,
				"province": null, "postal_code": null, "metadata": null}}`),
		},
		{name: "or not", send: "POST /admin/stock-locations/oslo", body: `{}`, status: 200, want: location(oslo)},
		{
			name: "one that is not there is not, where Medusa would answer with nothing", send: "POST /admin/stock-locations/mars", body: `{"name": "x"}`, status: 404,
			want: notFound("Stock location with id: mars was not found"),
		},
		{
			name: "one is closed, and what is stocked there stays", send: "DELETE /admin/stock-locations/oslo", status: 200,
			want: `{"id": "oslo", "object": "stock_location", "deleted": true}`,
			then: "GET /admin/inventory-items/mug/location-levels", shows: page("inventory_levels", "0", "50", parisLevel, osloLevel),
		},
		{
			name: "one that never was is closed, too", send: "DELETE /admin/stock-locations/mars", status: 200,
			want: `{"id": "mars", "object": "stock_location", "deleted": true}`,
		},
		{
			name: "sales channels", send: "POST /admin/stock-locations/oslo/sales-channels", body: `{"add": ["sc_1", "sc_2"]}`, status: 200, want: location(oslo),
			then:  "GET /admin/stock-locations/oslo?fields=*sales_channels,-address",
			shows: location(`{"id": "oslo", "name": "Oslo", "metadata": {"docks": 2}, "created_at": "<time>", "updated_at": "<time>", "sales_channels": [{"id": "sc_1"}, {"id": "sc_2"}]}`),
		},
		{
			name: "fulfillment providers", send: "POST /admin/stock-locations/oslo/fulfillment-providers?fields=*fulfillment_providers", status: 200,
			body: `{"add": ["manual_manual"], "remove": ["other"]}`,
			want: location(strings.Replace(oslo, `"address": null`, `"address": null, "fulfillment_providers": [{"id": "manual_manual"}]`, 1)),
		},
		{
			name: "a fulfillment set", send: "POST /admin/stock-locations/oslo/fulfillment-sets?fields=*fulfillment_sets", status: 200, body: `{"name": "Oslo pickup", "type": "pickup"}`,
			want: location(strings.Replace(oslo, `"address": null`, `"address": null, "fulfillment_sets": [{"id": "<id:fuset_>", "name": "Oslo pickup", "type": "pickup"}]`, 1)),
		},
		{
			name: "a set has a name and a type", send: "POST /admin/stock-locations/oslo/fulfillment-sets", body: `{"id": "x"}`, status: 400,
			want: invalid("Field 'name' is required; Field 'type' is required; Unrecognized fields: 'id'"),
		},
		{
			name: "links are lists of ids", send: "POST /admin/stock-locations/oslo/sales-channels", body: `{"add": "sc_1", "remove": [1]}`, status: 400,
			want: invalid("Expected type: 'array' for field 'add', got: 'sc_1'; Expected type: 'string' for field 'remove, 0', got: '1'"),
		},
		{
			name: "of a location that is there", send: "POST /admin/stock-locations/mars/sales-channels", body: `{"add": ["sc_1"]}`, status: 404,
			want: notFound("Stock location with id: mars was not found"),
		},
	})
}

func TestVariantLinks(t *testing.T) {
	const product = "/admin/products/prod/variants"
	const link = product + "/set/inventory-items"
	const missing = "Could not find all existing links from data"
	variant := func(v string) string { return `{"variant": ` + v + `}` }
	made := func(required string) string {
		return strings.Replace(set, `"required_quantity": 2`, `"required_quantity": `+required, 1)
	}
	bowlLink := `{"variant_id": "set", "inventory_item_id": "bowl", "required_quantity": 4, "inventory": {` + bowlScalars +
		`, "deleted_at": null, "unit_of_measure": null, "incoming_quantity": 0, "available_quantity": 0}}`
	run(t, []row{
		{name: "are what is known of a variant", send: "GET " + product + "/set?fields=inventory_items.*,inventory_items.inventory.*", status: 200, want: variant(set)},
		{name: "also without asking", send: "GET " + product + "/set", status: 200, want: variant(set)},
		{
			name: "a variant without links is made of nothing", send: "GET " + product + "/cup?fields=title,prices.*", status: 200,
			want: variant(`{"id": "cup", "product_id": "prod", "inventory_items": []}`),
		},
		{
			name: "one is made", send: "POST " + link, body: `{"required_quantity": 4, "inventory_item_id": "bowl"}`, status: 200,
			want: variant(strings.TrimSuffix(set, `]}`) + `, ` + bowlLink + `]}`),
		},
		{name: "making it again changes it", send: "POST " + link, body: `{"required_quantity": 5.5, "inventory_item_id": "mug"}`, status: 200, want: variant(made("5.5"))},
		{
			name: "what is needed is asked for", send: "POST " + link, body: `{}`, status: 400,
			want: invalid("Field 'required_quantity' is required; Field 'inventory_item_id' is required"),
		},
		{
			name: "an item that is not there, which Medusa would link", send: "POST " + link, body: `{"required_quantity": 1, "inventory_item_id": "cup"}`, status: 404,
			want: notFound("InventoryItem with id: cup was not found"),
		},
		{
			name: "none of an item, which Medusa would take", send: "POST " + link, body: `{"required_quantity": 0, "inventory_item_id": "bowl"}`, status: 400,
			want: refusal("invalid_data", "required_quantity must be greater than 0, not 0"),
		},
		{
			name: "nothing of a product that is no text", send: "POST /admin/products/%ff/variants/set/inventory-items", status: 400,
			body: `{"required_quantity": 4, "inventory_item_id": "bowl"}`, want: refusal("invalid_data", "Field 'id' is not valid UTF-8 text"),
			then: "GET " + product + "/set", shows: variant(set),
		},
		{name: "one is changed", send: "POST " + link + "/mug", body: `{"required_quantity": 3}`, status: 200, want: variant(made("3"))},
		{name: "not one that is not there", send: "POST " + link + "/bowl", body: `{"required_quantity": 3}`, status: 404, want: notFound(missing)},
		{name: "nor without a quantity", send: "POST " + link + "/mug", body: `{}`, status: 400, want: invalid("Field 'required_quantity' is required")},
		{
			name: "one is removed", send: "DELETE " + link + "/mug", status: 200,
			want: `{"id": {"product": {"variant_id": "set"}, "inventory": {"inventory_item_id": "mug"}}, "object": "variant-inventory-item-link",
				"deleted": true, "parent": {"id": "set", "product_id": "prod", "inventory_items": []}}`,
		},
		{
			name: "also one that is not there", send: "DELETE " + link + "/bowl", status: 200,
			want: `{"id": {"product": {"variant_id": "set"}, "inventory": {"inventory_item_id": "bowl"}}, "object": "variant-inventory-item-link",
				"deleted": true, "parent": ` + set + `}`,
		},
		{
			name: "many at once", send: "POST " + product + "/inventory-items/batch", status: 200,
			body: `{"create": [{"variant_id": "one", "inventory_item_id": "mug", "required_quantity": 1}, {"variant_id": "two", "inventory_item_id": "bowl", "required_quantity": 2}],
				"update": [{"variant_id": "set", "inventory_item_id": "mug", "required_quantity": 3}],
				"delete": [{"variant_id": "set", "inventory_item_id": "bowl"}]}`,
			want: `{"created": [{"product": {"variant_id": "one"}, "inventory": {"inventory_item_id": "mug"}, "data": {"required_quantity": 1}},
					{"product": {"variant_id": "two"}, "inventory": {"inventory_item_id": "bowl"}, "data": {"required_quantity": 2}}],
				"updated": [{"product": {"variant_id": "set"}, "inventory": {"inventory_item_id": "mug"}, "data": {"required_quantity": 3}}],
				"deleted": [{"product": {"variant_id": "set"}, "inventory": {"inventory_item_id": "bowl"}}]}`,
			then: "GET " + product + "/set", shows: variant(made("3")),
		},
		{name: "or none", send: "POST " + product + "/inventory-items/batch", body: `{}`, status: 200, want: `{"created": [], "updated": [], "deleted": []}`},
		{
			name: "all of them or none", send: "POST " + product + "/inventory-items/batch", status: 404,
			body: `{"delete": [{"variant_id": "set", "inventory_item_id": "mug"}], "create": [{"variant_id": "set", "inventory_item_id": "bowl", "required_quantity": 1}],
				"update": [{"variant_id": "other", "inventory_item_id": "mug", "required_quantity": 3}]}`,
			want: notFound(missing), then: "GET " + product + "/set", shows: variant(set),
		},
		{
			name: "entries are checked", send: "POST " + product + "/inventory-items/batch", status: 400,
			body: `{"create": [{"variant_id": "one"}], "delete": [{"required_quantity": 1, "variant_id": "a", "inventory_item_id": "b"}]}`,
			want: invalid("Field 'create, 0, required_quantity' is required; Field 'create, 0, inventory_item_id' is required; Unrecognized fields: 'required_quantity'"),
		},
		{
			name: "deleting an item removes its links", send: "DELETE /admin/inventory-items/bowl", status: 200,
			want: `{"id": "bowl", "object": "inventory_item", "deleted": true}`, then: "GET " + product + "/set", shows: variant(set),
		},
	})
}

// What is available of 18 digits and a half, and a sum of them, have one digit more.
// What was carried out is answered all the same.
func TestAnswersOfManyDigits(t *testing.T) {
	s := stocked(t)
	made := s.ask(t, "POST /admin/inventory-items", `{"location_levels": [{"location_id": "paris", "stocked_quantity": 999999999999999999},
		{"location_id": "oslo", "stocked_quantity": 0.5}]}`)
	require.Equal(t, http.StatusOK, made.status, made.body)
	require.Equal(t, json.Number("999999999999999999.5"), made.value(t, "inventory_item", "stocked_quantity"))
	item := made.text(t, "inventory_item", "id")
	held := s.ask(t, "POST /admin/reservations", `{"inventory_item_id": "`+item+`", "location_id": "paris", "quantity": 0.5}`)
	require.Equal(t, http.StatusOK, held.status, held.body)
	batch := s.ask(t, "POST /admin/inventory-items/location-levels/batch",
		`{"update": [{"inventory_item_id": "`+item+`", "location_id": "paris", "incoming_quantity": 1}]}`)
	require.Equal(t, http.StatusOK, batch.status, batch.body)
	require.Equal(t, json.Number("999999999999999998.5"), batch.value(t, "updated", 0, "available_quantity"))
}

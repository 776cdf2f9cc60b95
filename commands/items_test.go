package commands_test

// The pasts that scenarios share.
var (
	cup = step{"create-inventory-items", `{"id":"cup","sku":"CUP","location_levels":[{"location_id":"paris","stocked_quantity":5}]}`}
	pot = step{"create-inventory-items", `{"id":"pot","sku":"POT"}`}
)

// The start of lines about the level of cup, and of another such line.
const (
	cupHas  = `[` + cupHas2
	cupHas2 = `{"inventory_item_id":"cup","location_id":"paris",`
)

var itemScenarios = []scenario{{
	name: "an item is created with its SKU and its first levels",
	when: step{"create-inventory-items", `{"items":[{"id":"cup","sku":"CUP","title":"Cup","weight":250.50,"metadata":{"b":1,"a":null},
		"location_levels":[{"location_id":"paris","stocked_quantity":5,"incoming_quantity":2},{"location_id":"oslo"}]}]}`},
	answer: `[{"id":"cup","sku":"CUP","title":"Cup","description":null,"weight":250.5,"requires_shipping":true,"metadata":{"b":1},
		"stocked_quantity":5,"reserved_quantity":0,"version":3,"deleted_at":null,"created_at":"2026-03-01T09:30:00Z",
		"location_levels":[
			{"id":"ilev_~","inventory_item_id":"cup","location_id":"paris","stocked_quantity":5,"incoming_quantity":2,"available_quantity":5,"reserved_quantity":0,"version":2},
			{"location_id":"oslo","stocked_quantity":0,"incoming_quantity":0,"version":3}]}]`,
	then: []string{
		`sku-CUP sku-claimed {"sku":"CUP","inventory_item_id":"cup"}`,
		`item-cup item-created {"inventory_item_id":"cup"}`,
		`item-cup level-created {"location_id":"paris","stocked_quantity":5,"incoming_quantity":2}`,
		`item-cup level-created {"location_id":"oslo","stocked_quantity":0}`,
	},
	again: "item_exists",
}, {
	name:   "an item needs nothing",
	when:   step{"create-inventory-items", `{}`},
	answer: `[{"id":"iitem_~","sku":null,"title":null,"location_levels":[]}]`,
	then:   []string{"item-iitem_~ item-created"},
	again:  "acts",
}, {
	name:   "items come as an array, and no items are no items",
	when:   step{"create-inventory-items", `[{"id":"a"},{"id":"b"}]`},
	answer: `[{"id":"a"},{"id":"b"}]`,
	then:   []string{"item-a item-created", "item-b item-created"},
	again:  "item_exists",
}, {
	name:   "no items are no items",
	when:   step{"create-inventory-items", `{"items":[]}`},
	answer: `[]`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "a SKU belongs to one item",
	given:   []step{cup},
	when:    step{"create-inventory-items", `[{"sku":"NEW"},{"sku":"CUP"}]`},
	refused: "sku_taken",
	details: `{"line":2,"field":"sku","sku":"CUP","inventory_item_id":"cup"}`,
}, {
	name:    "also within one command",
	when:    step{"create-inventory-items", `[{"id":"a","sku":"NEW"},{"id":"b","sku":"NEW"}]`},
	refused: "sku_taken",
	details: `{"line":2,"inventory_item_id":"a"}`,
}, {
	name:  "SKUs are case-sensitive, and any text",
	given: []step{cup},
	when:  step{"create-inventory-items", `[{"id":"a","sku":"cup"},{"id":"b","sku":"BANK CHARGES"}]`},
	then:  []string{"sku-cup sku-claimed", "item-a item-created", "sku-BANK=20CHARGES sku-claimed", "item-b item-created"},
	again: "item_exists",
}, {
	name:    "an id is for ever, also that of a deleted item",
	given:   []step{cup, {"delete-inventory-items", `"cup"`}},
	when:    step{"create-inventory-items", `{"id":"cup"}`},
	refused: "item_exists",
	details: `{"inventory_item_id":"cup"}`,
}, {
	name:    "an item is stocked at a location once",
	when:    step{"create-inventory-items", `{"id":"a","location_levels":[{"location_id":"paris"},{"location_id":"paris"}]}`},
	refused: "level_exists",
	details: `{"line":1,"inventory_item_id":"a","location_id":"paris"}`,
}, {
	name:    "where locations must be known, first levels are at open ones",
	strict:  true,
	when:    step{"create-inventory-items", `{"id":"a","location_levels":[{"location_id":"paris"}]}`},
	refused: "not_found",
	details: `{"location_id":"paris"}`,
}, {
	name: "absent leaves, null clears, metadata is merged key by key",
	given: []step{{"create-inventory-items", `{"id":"cup","title":"Cup","description":"blue","weight":3,"requires_shipping":false,
		"metadata":{"a":1,"b":{"x":1},"c":3}}`}},
	when: step{"update-inventory-items", `{"updates":[{"id":"cup","description":null,"weight":null,"material":"clay",
		"metadata":{"b":{"y":2},"c":null,"d":4}}]}`},
	answer: `[{"id":"cup","title":"Cup","description":null,"weight":null,"material":"clay","requires_shipping":false,
		"metadata":{"a":1,"b":{"y":2},"d":4},"version":2}]`,
	then: []string{`item-cup item-updated {"changed":["description","material","weight","metadata"],
		"attributes":{"title":"Cup","description":null,"metadata":{"a":1,"b":{"y":2},"d":4}}}`},
}, {
	name:   "null for the whole metadata clears it",
	given:  []step{{"create-inventory-items", `{"id":"cup","metadata":{"a":1}}`}},
	when:   step{"update-inventory-items", `[{"id":"cup","metadata":null}]`},
	answer: `[{"metadata":null}]`,
	then:   []string{`item-cup item-updated {"changed":["metadata"]}`},
}, {
	name:   "an update to what already is changes nothing",
	given:  []step{cup},
	when:   step{"update-inventory-items", `{"id":"cup","sku":"CUP","title":null,"metadata":null}`},
	answer: `[{"id":"cup","sku":"CUP","version":2}]`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:   "a new SKU is claimed and the old one released, in one commit",
	given:  []step{cup},
	when:   step{"update-inventory-items", `{"id":"cup","sku":"MUG"}`},
	answer: `[{"sku":"MUG"}]`,
	then:   []string{"sku-MUG sku-claimed", "sku-CUP sku-released", `item-cup item-updated {"changed":["sku"]}`},
}, {
	name:  "null takes an item's SKU away, and another may have it",
	given: []step{cup, pot},
	when:  step{"update-inventory-items", `[{"id":"cup","sku":null},{"id":"pot","sku":"CUP"}]`},
	then: []string{
		"sku-CUP sku-released", "item-cup item-updated",
		"sku-CUP sku-claimed", "sku-POT sku-released", "item-pot item-updated",
	},
}, {
	name:    "two items cannot swap SKUs in two lines: the first line asks for one that is taken",
	given:   []step{cup, pot},
	when:    step{"update-inventory-items", `[{"id":"cup","sku":"POT"},{"id":"pot","sku":"CUP"}]`},
	refused: "sku_taken",
	details: `{"line":1,"sku":"POT","inventory_item_id":"pot"}`,
}, {
	name:   "they can in three: free, take, take",
	given:  []step{cup, pot},
	when:   step{"update-inventory-items", `[{"id":"cup","sku":null},{"id":"pot","sku":"CUP"},{"id":"cup","sku":"POT"}]`},
	answer: `[{"sku":null},{"sku":"CUP"},{"sku":"POT"}]`,
	then: []string{
		"sku-CUP sku-released", "item-cup item-updated",
		"sku-CUP sku-claimed", "sku-POT sku-released", "item-pot item-updated",
		"sku-POT sku-claimed", "item-cup item-updated",
	},
	again: "acts", // it frees and takes once more
}, {
	name:    "a deleted item is not updated",
	given:   []step{cup, {"delete-inventory-items", `"cup"`}},
	when:    step{"update-inventory-items", `[{"id":"cup","title":"Cup"}]`},
	refused: "not_found",
	details: `{"line":1,"inventory_item_id":"cup"}`,
}, {
	name:    "nor one that never was, and the lines before it leave no trace",
	given:   []step{cup},
	when:    step{"update-inventory-items", `[{"id":"cup","sku":"MUG","title":"Mug"},{"id":"nope"}]`},
	refused: "not_found",
	details: `{"line":2,"inventory_item_id":"nope"}`,
}, {
	name:    "requires_shipping is true or false",
	given:   []step{cup},
	when:    step{"update-inventory-items", `{"id":"cup","requires_shipping":null}`},
	refused: "invalid_value",
	details: `{"field":"requires_shipping"}`,
}, {
	name: "deleting an item deletes its levels and links and frees its SKU",
	given: []step{
		cup,
		{"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2},{"variant_id":"v2","inventory_item_id":"cup"}]`},
		{"detach-inventory-items", `[{"variant_id":"v2","inventory_item_id":"cup"}]`},
	},
	when:   step{"delete-inventory-items", `"cup"`},
	answer: `{"ids":["cup"]}`,
	then: []string{
		`item-cup level-deleted {"location_id":"paris","stocked_quantity":5}`,
		`item-cup item-deleted {"sku":"CUP","links":[{"variant_id":"v1","required_quantity":2}]}`,
		"variant-v1 item-unlinked",
		"sku-CUP sku-released",
	},
}, {
	name:   "items to delete come as an array",
	given:  []step{cup, pot},
	when:   step{"delete-inventory-items", `["cup","pot"]`},
	answer: `{"ids":["cup","pot"]}`,
	then: []string{
		"item-cup level-deleted", "item-cup item-deleted", "sku-CUP sku-released", "item-pot item-deleted", "sku-POT sku-released",
	},
}, {
	name:   "or under id, or under ids, and twice is once",
	given:  []step{cup, pot},
	when:   step{"delete-inventory-items", `{"id":"pot","ids":["pot"]}`},
	answer: `{"ids":["pot","pot"]}`,
	then:   []string{"item-pot item-deleted", "sku-POT sku-released"},
}, {
	name:    "an item with reservations is not deleted, nor the one before it",
	given:   []step{pot, cup, {"create-reservations", cupHas + `"quantity":2}]`}},
	when:    step{"delete-inventory-items", `["pot","cup"]`},
	refused: "item_has_reservations",
	details: `{"line":2,"inventory_item_id":"cup","reserved":2}`,
}, {
	name:    "an item that never was is not deleted",
	when:    step{"delete-inventory-items", `["nope"]`},
	refused: "not_found",
	details: `{"line":1,"inventory_item_id":"nope"}`,
}, {
	name: "restoring gives back exactly what the deletion took",
	given: []step{
		cup,
		{"create-inventory-levels", `[{"inventory_item_id":"cup","location_id":"oslo","stocked_quantity":3,"metadata":{"bin":7}},
			{"id":"ilev_rome","inventory_item_id":"cup","location_id":"rome"}]`},
		{"delete-inventory-levels", `{"id":"ilev_rome"}`}, // gone before, and not by the deletion of the item
		{"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2}]`},
		{"delete-inventory-items", `"cup"`},
	},
	when: step{"restore-inventory-items", `{"id":["cup"]}`},
	answer: `[{"id":"cup","sku":"CUP","stocked_quantity":8,"deleted_at":null,"location_levels":[
		{"location_id":"paris","stocked_quantity":5,"metadata":null},{"location_id":"oslo","stocked_quantity":3,"metadata":{"bin":7}}]}]`,
	then: []string{
		"sku-CUP sku-claimed", "item-cup item-restored",
		`item-cup level-restored {"location_id":"paris","stocked_quantity":5}`,
		`item-cup level-restored {"location_id":"oslo","stocked_quantity":3}`,
		`variant-v1 item-linked {"required_quantity":2}`,
	},
}, {
	name:    "an item whose SKU was taken meanwhile is not restored",
	given:   []step{cup, {"delete-inventory-items", `"cup"`}, {"create-inventory-items", `{"id":"mug","sku":"CUP"}`}},
	when:    step{"restore-inventory-items", `["cup"]`},
	refused: "sku_taken",
	details: `{"line":1,"sku":"CUP","inventory_item_id":"mug"}`,
}, {
	name:   "restoring an item that lives changes nothing",
	given:  []step{cup},
	when:   step{"restore-inventory-items", `"cup"`},
	answer: `[{"id":"cup","version":2}]`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "an item that never was is not restored",
	when:    step{"restore-inventory-items", `["nope"]`},
	refused: "not_found",
	details: `{"line":1,"inventory_item_id":"nope"}`,
}}

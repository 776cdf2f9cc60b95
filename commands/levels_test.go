package commands_test

import "slices"

// cupAtThree is cup at paris (level L1, 5 in stock), oslo (L2, 3) and rome (L3, nothing).
var cupAtThree = []step{
	{"create-inventory-items", `{"id":"cup"}`},
	{"create-inventory-levels", `[
		{"id":"L1","inventory_item_id":"cup","location_id":"paris","stocked_quantity":5},
		{"id":"L2","inventory_item_id":"cup","location_id":"oslo","stocked_quantity":3},
		{"id":"L3","inventory_item_id":"cup","location_id":"rome"}]`},
}

func after(given []step, more ...step) []step { return append(slices.Clip(given), more...) }

var (
	potAtParis  = step{"create-inventory-items", `{"id":"pot","location_levels":[{"location_id":"paris","stocked_quantity":9}]}`}
	twoReserved = step{"create-reservations", `{"id":"R1","inventory_item_id":"cup","location_id":"paris","quantity":2}`}
)

var levelScenarios = []scenario{{
	name:  "levels are created under a name, with what is in stock and on its way",
	given: []step{pot, cup},
	when: step{"create-inventory-levels", `{"inventory_levels":[
		{"inventory_item_id":"pot","location_id":"paris","stocked_quantity":0.125,"incoming_quantity":1e2,"metadata":{"bin":"A"}},
		{"id":"mine","inventory_item_id":"cup","location_id":"oslo","reserved_quantity":0}]}`},
	answer: `[{"id":"ilev_~","inventory_item_id":"pot","location_id":"paris","stocked_quantity":0.125,"reserved_quantity":0,
		"incoming_quantity":100,"available_quantity":0.125,"metadata":{"bin":"A"},"deleted_at":null},{"id":"mine","stocked_quantity":0,"metadata":null}]`,
	then:  []string{"item-pot level-created", "item-cup level-created"},
	again: "level_exists",
}, {
	name:  "levels come as an array",
	given: []step{pot},
	when:  step{"create-inventory-levels", `[{"inventory_item_id":"pot","location_id":"paris"},{"inventory_item_id":"pot","location_id":"oslo"}]`},
	then:  []string{"item-pot level-created", "item-pot level-created"},
	again: "level_exists",
}, {
	name:  "or one by itself",
	given: []step{pot},
	when:  step{"create-inventory-levels", `{"inventory_item_id":"pot","location_id":"paris"}`},
	then:  []string{"item-pot level-created"},
	again: "level_exists",
}, {
	name:    "a level id is for ever, whatever the item",
	given:   after(cupAtThree, pot, step{"delete-inventory-levels", `{"id":"L3"}`}),
	when:    step{"create-inventory-levels", `[{"id":"L3","inventory_item_id":"pot","location_id":"paris"}]`},
	refused: "level_exists",
	details: `{"line":1,"level_id":"L3"}`,
}, {
	name:    "also within one command",
	given:   []step{cup, pot},
	when:    step{"create-inventory-levels", `[{"id":"X","inventory_item_id":"pot","location_id":"a"},{"id":"X","inventory_item_id":"cup","location_id":"b"}]`},
	refused: "level_exists",
	details: `{"line":2,"level_id":"X"}`,
}, {
	name:  "a place is free again once its level is deleted",
	given: after(cupAtThree, step{"delete-inventory-levels", `{"id":"L3"}`}),
	when:  step{"create-inventory-levels", `[{"inventory_item_id":"cup","location_id":"rome"}]`},
	then:  []string{"item-cup level-created"},
	again: "level_exists",
}, {
	name:    "an unknown item is not stocked",
	when:    step{"create-inventory-levels", `[{"inventory_item_id":"nope","location_id":"paris"}]`},
	refused: "not_found",
	details: `{"line":1,"inventory_item_id":"nope"}`,
}, {
	name:   "where locations must be known, an open one will do",
	strict: true,
	given:  []step{pot, {"create-stock-locations", `{"id":"paris","name":"Paris"}`}},
	when:   step{"create-inventory-levels", `{"inventory_item_id":"pot","location_id":"paris"}`},
	then:   []string{"item-pot level-created"},
	again:  "level_exists",
}, {
	name:    "a closed one will not",
	strict:  true,
	given:   []step{pot, {"create-stock-locations", `{"id":"paris","name":"Paris"}`}, {"delete-stock-locations", `"paris"`}},
	when:    step{"create-inventory-levels", `{"inventory_item_id":"pot","location_id":"paris"}`},
	refused: "not_found",
	details: `{"line":1,"location_id":"paris"}`,
}, {
	name:    "nor an unknown one, in a batch",
	strict:  true,
	given:   []step{pot},
	when:    step{"batch-inventory-item-levels", `{"create":[{"inventory_item_id":"pot","location_id":"paris"}]}`},
	refused: "not_found",
	details: `{"part":"create","line":1,"location_id":"paris"}`,
}, {
	name:  "an update sets quantities, by pair",
	given: cupAtThree,
	when: step{"update-inventory-levels", `{"updates":[
		{"inventory_item_id":"cup","location_id":"paris","stocked_quantity":15,"incoming_quantity":10,"metadata":{"bin":1}},
		{"inventory_item_id":"cup","location_id":"oslo","incoming_quantity":1}]}`},
	answer: `[{"id":"L1","stocked_quantity":15,"incoming_quantity":10,"metadata":{"bin":1}},{"id":"L2","stocked_quantity":3,"incoming_quantity":1}]`,
	then: []string{
		`item-cup stock-set {"from":5,"stocked_quantity":15}`, `item-cup incoming-set {"from":0,"incoming_quantity":10}`,
		`item-cup level-updated {"metadata":{"bin":1}}`, "item-cup incoming-set",
	},
}, {
	name:   "or by id",
	given:  cupAtThree,
	when:   step{"update-inventory-levels", `{"id":"L2","stocked_quantity":0.5}`},
	answer: `[{"id":"L2","inventory_item_id":"cup","location_id":"oslo","stocked_quantity":0.5}]`,
	then:   []string{`item-cup stock-set {"from":3,"stocked_quantity":0.5}`},
}, {
	name:  "or by both",
	given: cupAtThree,
	when:  step{"update-inventory-levels", `[{"id":"L2","inventory_item_id":"cup","location_id":"oslo","stocked_quantity":4}]`},
	then:  []string{"item-cup stock-set"},
}, {
	name:    "which must agree",
	given:   cupAtThree,
	when:    step{"update-inventory-levels", `[{"id":"L2","stocked_quantity":7},{"id":"L1","inventory_item_id":"cup","location_id":"oslo"}]`},
	refused: "level_mismatch",
	details: `{"line":2,"field":"id","level_id":"L2"}`,
}, {
	name:    "a deleted level is not updated",
	given:   after(cupAtThree, step{"delete-inventory-levels", `{"id":"L3"}`}),
	when:    step{"update-inventory-levels", `{"id":"L3","stocked_quantity":7}`},
	refused: "not_found",
	details: `{"level_id":"L3"}`,
}, {
	name:    "nor one that never was, by pair",
	given:   cupAtThree,
	when:    step{"update-inventory-levels", `[{"inventory_item_id":"cup","location_id":"lima","stocked_quantity":7}]`},
	refused: "not_found",
	details: `{"line":1,"inventory_item_id":"cup","location_id":"lima"}`,
}, {
	name:   "metadata of a level is merged, and null clears it",
	given:  after(cupAtThree, step{"update-inventory-levels", `{"id":"L1","metadata":{"a":1,"b":2}}`}),
	when:   step{"update-inventory-levels", `[{"id":"L1","metadata":{"a":null,"c":3}},{"id":"L2","metadata":null}]`},
	answer: `[{"metadata":{"b":2,"c":3},"stocked_quantity":5},{"metadata":null}]`,
	then:   []string{"item-cup level-updated"},
}, {
	name:    "stock is not set below what is reserved",
	given:   after(cupAtThree, twoReserved),
	when:    step{"update-inventory-levels", `{"id":"L1","stocked_quantity":1}`},
	refused: "below_reserved",
	details: `{"inventory_item_id":"cup","location_id":"paris","stocked":5,"reserved":2,"available":3,"asked":-4}`,
}, {
	name:   "but with floor zero: what was promised may be lost",
	given:  after(cupAtThree, twoReserved),
	when:   step{"update-inventory-levels", `{"id":"L1","stocked_quantity":1,"floor":"zero"}`},
	answer: `[{"stocked_quantity":1,"reserved_quantity":2,"available_quantity":-1}]`,
	then:   []string{"item-cup stock-set"},
}, {
	name:    "and not below zero",
	given:   cupAtThree,
	when:    step{"update-inventory-levels", `{"id":"L1","stocked_quantity":-1,"floor":"zero"}`},
	refused: "below_zero",
	details: `{"stocked":5,"asked":-6}`,
}, {
	name:   "but with floor none: a count of backorders",
	given:  cupAtThree,
	when:   step{"update-inventory-levels", `{"id":"L1","stocked_quantity":-1,"floor":"none"}`},
	answer: `[{"stocked_quantity":-1}]`,
	then:   []string{"item-cup stock-set"},
}, {
	name:   "compare-and-set on a level that is as expected",
	given:  after(cupAtThree, twoReserved),
	when:   step{"update-inventory-levels", `{"id":"L1","stocked_quantity":9,"expect":{"stocked_quantity":5.0,"reserved_quantity":2,"version":5}}`},
	answer: `[{"stocked_quantity":9,"version":6}]`,
	then:   []string{"item-cup stock-set"},
	again:  "expectation_failed",
}, {
	name:    "and on one that is not",
	given:   after(cupAtThree, twoReserved),
	when:    step{"update-inventory-levels", `[{"id":"L2","stocked_quantity":9},{"id":"L1","stocked_quantity":9,"expect":{"stocked_quantity":4}}]`},
	refused: "expectation_failed",
	details: `{"line":2,"field":"expect.stocked_quantity","expected":4,"actual":5,"inventory_item_id":"cup","location_id":"paris"}`,
}, {
	name:    "or another version",
	given:   cupAtThree,
	when:    step{"update-inventory-levels", `{"id":"L1","stocked_quantity":9,"expect":{"version":7}}`},
	refused: "expectation_failed",
	details: `{"field":"expect.version","expected":7,"actual":2}`,
}, {
	name:  "adjustments add up line by line",
	given: cupAtThree,
	when: step{"adjust-inventory-levels", cupHas + `"adjustment":10},{"inventory_item_id":"cup","location_id":"oslo","adjustment":-3},
		{"inventory_item_id":"cup","location_id":"paris","adjustment":-14.5}]`},
	answer: `[{"id":"L1","stocked_quantity":15},{"id":"L2","stocked_quantity":0},{"id":"L1","stocked_quantity":0.5}]`,
	then: []string{
		`item-cup stock-adjusted {"delta":10,"stocked_quantity":15}`, `item-cup stock-adjusted {"delta":-3,"stocked_quantity":0}`,
		`item-cup stock-adjusted {"delta":-14.5,"stocked_quantity":0.5}`,
	},
	again: "below_reserved",
}, {
	name:   "an adjustment comes under a name",
	given:  []step{cup},
	when:   step{"adjust-inventory-levels", `{"updates":` + cupHas + `"adjustment":-1}]}`},
	answer: `[{"stocked_quantity":4}]`,
	then:   []string{"item-cup stock-adjusted"},
	again:  "acts",
}, {
	name:  "or by itself",
	given: []step{cup},
	when:  step{"adjust-inventory-levels", `{"inventory_item_id":"cup","location_id":"paris","adjustment":-1}`},
	then:  []string{"item-cup stock-adjusted"},
	again: "acts",
}, {
	name:   "by nothing it changes nothing",
	given:  []step{cup},
	when:   step{"adjust-inventory-levels", cupHas + `"adjustment":0.00}]`},
	answer: `[{"stocked_quantity":5,"version":2}]`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "a refusal in the last line leaves no trace of the others",
	given:   after(cupAtThree, potAtParis, twoReserved),
	when:    step{"adjust-inventory-levels", `[{"inventory_item_id":"pot","location_id":"paris","adjustment":1},` + cupHas2 + `"adjustment":1},` + cupHas2 + `"adjustment":-5}]`},
	refused: "below_reserved",
	details: `{"line":3,"asked":-5,"stocked":6,"reserved":2,"available":4}`,
}, {
	name:   "with floor zero stock may fall below what is reserved",
	given:  []step{cup, twoReserved},
	when:   step{"adjust-inventory-levels", cupHas + `"adjustment":-4,"floor":"zero"}]`},
	answer: `[{"stocked_quantity":1,"reserved_quantity":2,"available_quantity":-1}]`,
	then:   []string{"item-cup stock-adjusted"},
	again:  "below_zero",
}, {
	name:    "but not below zero",
	given:   []step{cup},
	when:    step{"adjust-inventory-levels", cupHas + `"adjustment":-6,"floor":"zero"}]`},
	refused: "below_zero",
	details: `{"line":1,"stocked":5,"asked":-6}`,
}, {
	name:   "with floor none it may",
	given:  []step{cup},
	when:   step{"adjust-inventory-levels", cupHas + `"adjustment":-6,"floor":"none"}]`},
	answer: `[{"stocked_quantity":-1,"available_quantity":-1}]`,
	then:   []string{"item-cup stock-adjusted"},
	again:  "acts",
}, {
	name: "what is oversold can always be filled up, whatever the floor",
	given: []step{
		cup, twoReserved, {"adjust-inventory-levels", cupHas + `"adjustment":-9,"floor":"none"}]`},
	},
	when:   step{"adjust-inventory-levels", cupHas + `"adjustment":1}]`},
	answer: `[{"stocked_quantity":-3,"reserved_quantity":2,"available_quantity":-5}]`,
	then:   []string{"item-cup stock-adjusted"},
	again:  "acts",
}, {
	name:   "an adjustment may expect, too",
	given:  []step{cup},
	when:   step{"adjust-inventory-levels", cupHas + `"adjustment":-1,"expect":{"stocked_quantity":5}}]`},
	answer: `[{"stocked_quantity":4}]`,
	then:   []string{"item-cup stock-adjusted"},
	again:  "expectation_failed",
}, {
	name:    "and is refused when that is not so",
	given:   []step{cup, twoReserved},
	when:    step{"adjust-inventory-levels", cupHas + `"adjustment":-1,"expect":{"reserved_quantity":0}}]`},
	refused: "expectation_failed",
	details: `{"line":1,"field":"expect.reserved_quantity","expected":0,"actual":2}`,
}, {
	name:    "a sum with more than 18 digits is refused",
	given:   []step{cup},
	when:    step{"adjust-inventory-levels", cupHas + `"adjustment":999999999999999999}]`},
	refused: "quantity_out_of_range",
	details: `{"line":1,"field":"stocked_quantity"}`,
}, {
	name:   "levels are deleted by id",
	given:  cupAtThree,
	when:   step{"delete-inventory-levels", `{"id":["L3"]}`},
	answer: `{"ids":["L3"]}`,
	then:   []string{"item-cup level-deleted"},
}, {
	name:   "with force also those in stock",
	given:  cupAtThree,
	when:   step{"delete-inventory-levels", `{"id":"L3","ids":["L1","L1"],"force":true}`},
	answer: `{"ids":["L3","L1","L1"]}`,
	then:   []string{"item-cup level-deleted", `item-cup level-deleted {"level_id":"L1","stocked_quantity":5}`},
}, {
	name:    "without force not",
	given:   cupAtThree,
	when:    step{"delete-inventory-levels", `{"id":["L3","L1"]}`},
	refused: "level_has_stock",
	details: `{"line":2,"inventory_item_id":"cup","location_id":"paris","stocked":5}`,
}, {
	name:    "with reservations never",
	given:   after(cupAtThree, twoReserved),
	when:    step{"delete-inventory-levels", `{"id":["L3","L1"],"force":true}`},
	refused: "level_has_reservations",
	details: `{"line":2,"reserved":2}`,
}, {
	name:    "nor while something is on its way",
	given:   after(cupAtThree, step{"update-inventory-levels", `{"id":"L3","incoming_quantity":4}`}),
	when:    step{"delete-inventory-levels", `{"id":"L3","force":true}`},
	refused: "level_has_incoming",
	details: `{"line":1,"incoming":4}`,
}, {
	name:    "a level that never was is not deleted",
	given:   cupAtThree,
	when:    step{"delete-inventory-levels", `{"id":["L3","nope"]}`},
	refused: "not_found",
	details: `{"line":2,"level_id":"nope"}`,
}, {
	name:  "levels are deleted by item",
	given: after(cupAtThree, potAtParis),
	when:  step{"delete-inventory-levels", `{"inventory_item_id":"cup","force":true}`},
	then:  []string{"item-cup level-deleted", "item-cup level-deleted", "item-cup level-deleted"},
}, {
	name:   "by item and location",
	given:  after(cupAtThree, potAtParis),
	when:   step{"delete-inventory-levels", `{"inventory_item_id":["cup"],"location_id":["oslo","rome"],"force":true}`},
	answer: `{"ids":["L2","L3"]}`,
	then:   []string{"item-cup level-deleted", "item-cup level-deleted"},
}, {
	name:   "by location",
	given:  after(cupAtThree, potAtParis),
	when:   step{"delete-inventory-levels", `{"location_id":"paris","force":true}`},
	answer: `{"ids":["L1","ilev_~"]}`,
	then:   []string{"item-cup level-deleted", "item-pot level-deleted"},
}, {
	name:    "by an item that is not there",
	when:    step{"delete-inventory-levels", `{"inventory_item_id":"nope"}`},
	refused: "not_found",
	details: `{"inventory_item_id":"nope"}`,
}, {
	name:   "all levels at locations, with a command of its own",
	given:  after(cupAtThree, potAtParis),
	when:   step{"delete-levels-by-location", `{"location_id":["paris","rome","nowhere"],"force":true}`},
	answer: `{"ids":["L1","ilev_~","L3"]}`,
	then:   []string{"item-cup level-deleted", "item-pot level-deleted", "item-cup level-deleted"},
}, {
	name:    "all or none",
	given:   after(cupAtThree, potAtParis, twoReserved),
	when:    step{"delete-levels-by-location", `{"location_id":["rome","paris"],"force":true}`},
	refused: "level_has_reservations",
	details: `{"line":2,"location_id":"paris"}`,
}, {
	name:    "and not what is in stock, without force",
	given:   after(cupAtThree),
	when:    step{"delete-levels-by-location", `{"location_id":"paris"}`},
	refused: "level_has_stock",
	details: `{"location_id":"paris"}`,
}, {
	name:  "a batch deletes, then creates, then updates, in one commit",
	given: after(cupAtThree, pot),
	when: step{"batch-inventory-item-levels", `{"force":true,
		"update":[{"id":"NEW","stocked_quantity":8},{"inventory_item_id":"cup","location_id":"oslo","stocked_quantity":1}],
		"create":[{"id":"NEW","inventory_item_id":"cup","location_id":"paris","stocked_quantity":2},{"inventory_item_id":"pot","location_id":"paris"}],
		"delete":["L1","L3"]}`},
	answer: `{"created":[{"id":"NEW","stocked_quantity":2},{"inventory_item_id":"pot"}],
		"updated":[{"id":"NEW","stocked_quantity":8},{"id":"L2","stocked_quantity":1}],"deleted":["L1","L3"]}`,
	then: []string{
		"item-cup level-deleted", "item-cup level-deleted", "item-cup level-created", "item-pot level-created",
		`item-cup stock-set {"level_id":"NEW","from":2,"stocked_quantity":8}`, "item-cup stock-set",
	},
	again: "level_exists",
}, {
	name:   "an empty batch does nothing",
	when:   step{"batch-inventory-item-levels", `{}`},
	answer: `{"created":[],"updated":[],"deleted":[]}`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "a batch that fails in its last part leaves no trace",
	given:   cupAtThree,
	when:    step{"batch-inventory-item-levels", `{"delete":["L3"],"create":[{"inventory_item_id":"cup","location_id":"rome"}],"update":[{"id":"L2","stocked_quantity":1},{"id":"L1","stocked_quantity":-1}]}`},
	refused: "below_reserved",
	details: `{"part":"update","line":2,"location_id":"paris"}`,
}, {
	name:    "a batch does not delete what is in stock without force",
	given:   cupAtThree,
	when:    step{"batch-inventory-item-levels", `{"delete":["L3","L1"]}`},
	refused: "level_has_stock",
	details: `{"part":"delete","line":2}`,
}, {
	name:    "nor what is reserved with it",
	given:   after(cupAtThree, twoReserved),
	when:    step{"batch-inventory-item-levels", `{"delete":["L1"],"force":true}`},
	refused: "level_has_reservations",
	details: `{"part":"delete","line":1}`,
}, {
	name:   "the deprecated bulk deletes by pair and then creates",
	given:  cupAtThree,
	when:   step{"bulk-create-delete-levels", `{"creates":[{"inventory_item_id":"cup","location_id":"rome","stocked_quantity":4}],"deletes":[{"inventory_item_id":"cup","location_id":"rome"}]}`},
	answer: `[{"id":"ilev_~","location_id":"rome","stocked_quantity":4}]`,
	then:   []string{"item-cup level-deleted", "item-cup level-created"},
	again:  "level_has_stock",
}, {
	name:    "it has no force",
	given:   cupAtThree,
	when:    step{"bulk-create-delete-levels", `{"deletes":[{"inventory_item_id":"cup","location_id":"paris"}]}`},
	refused: "level_has_stock",
	details: `{"part":"deletes","line":1}`,
}, {
	name:    "and names the part of a creation that fails",
	given:   cupAtThree,
	when:    step{"bulk-create-delete-levels", `{"deletes":[{"inventory_item_id":"cup","location_id":"rome"}],"creates":[{"inventory_item_id":"cup","location_id":"paris"}]}`},
	refused: "level_exists",
	details: `{"part":"creates","line":1,"level_id":"L1"}`,
}}

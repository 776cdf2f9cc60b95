package commands_test

var linkScenarios = []scenario{{
	name:   "a variant is made of items",
	given:  []step{cup, pot},
	when:   step{"attach-inventory-items", `{"links":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2},{"variant_id":"v1","inventory_item_id":"pot"}]}`},
	answer: `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2},{"variant_id":"v1","inventory_item_id":"pot","required_quantity":1}]`,
	then:   []string{`variant-v1 item-linked {"required_quantity":2}`, `variant-v1 item-linked {"required_quantity":1}`},
}, {
	name:   "in the words of Medusa's step",
	given:  []step{cup},
	when:   step{"attach-inventory-items", `[{"inventoryItemId":"cup","tag":"v1"}]`},
	answer: `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":1}]`,
	then:   []string{"variant-v1 item-linked"},
}, {
	name:   "one link by itself, and an existing one takes the new quantity",
	given:  []step{cup, {"attach-inventory-items", `{"variant_id":"v1","inventory_item_id":"cup"}`}},
	when:   step{"attach-inventory-items", `{"variant_id":"v1","inventory_item_id":"cup","required_quantity":3}`},
	answer: `[{"required_quantity":3}]`,
	then:   []string{`variant-v1 link-updated {"from":1,"required_quantity":3}`},
}, {
	name:   "an existing one stays without a quantity",
	given:  []step{cup, {"attach-inventory-items", `{"variant_id":"v1","inventory_item_id":"cup","required_quantity":3}`}},
	when:   step{"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup"}]`},
	answer: `[{"required_quantity":3}]`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "an unknown item is not attached",
	given:   []step{cup},
	when:    step{"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup"},{"variant_id":"v1","inventory_item_id":"nope"}]`},
	refused: "not_found",
	details: `{"line":2,"inventory_item_id":"nope"}`,
}, {
	name:    "nor none of an item",
	given:   []step{cup},
	when:    step{"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":0}]`},
	refused: "invalid_quantity",
	details: `{"line":1,"field":"required_quantity"}`,
}, {
	name:    "nor a deleted item",
	given:   []step{cup, {"delete-inventory-items", `"cup"`}},
	when:    step{"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup"}]`},
	refused: "not_found",
	details: `{"line":1,"inventory_item_id":"cup"}`,
}, {
	name:   "a link is updated",
	given:  []step{cup, {"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup"}]`}},
	when:   step{"update-inventory-links", `{"links":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":0.5}]}`},
	answer: `[{"required_quantity":0.5}]`,
	then:   []string{`variant-v1 link-updated {"from":1,"required_quantity":0.5}`},
}, {
	name:    "if it is there",
	given:   []step{cup, {"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup"}]`}},
	when:    step{"update-inventory-links", `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":4},{"variant_id":"v2","inventory_item_id":"cup","required_quantity":5}]`},
	refused: "not_found",
	details: `{"line":2,"variant_id":"v2","inventory_item_id":"cup"}`,
}, {
	name:   "links are removed, and those that are not there are left alone",
	given:  []step{cup, {"attach-inventory-items", `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2}]`}},
	when:   step{"detach-inventory-items", `{"links":[{"variant_id":"v1","inventory_item_id":"cup"},{"tag":"v2","inventoryItemId":"nope"}]}`},
	answer: `[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2},{"variant_id":"v2","inventory_item_id":"nope","required_quantity":0}]`,
	then:   []string{`variant-v1 item-unlinked {"required_quantity":2}`},
}, {
	name:  "a batch removes, then makes, then changes links, in one commit",
	given: []step{cup, pot, {"attach-inventory-items", `{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2}`}},
	when: step{"batch-inventory-links", `{"update":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":7}],
		"create":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":5},{"variant_id":"v2","inventory_item_id":"pot"}],
		"delete":[{"variant_id":"v1","inventory_item_id":"cup"}]}`},
	answer: `{"created":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":5},{"variant_id":"v2","inventory_item_id":"pot","required_quantity":1}],
		"updated":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":7}],
		"deleted":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":2}]}`,
	then: []string{
		`variant-v1 item-unlinked {"required_quantity":2}`, `variant-v1 item-linked {"required_quantity":5}`,
		`variant-v2 item-linked {"required_quantity":1}`, `variant-v1 link-updated {"from":5,"required_quantity":7}`,
	},
	again: "acts",
}, {
	name:   "an empty batch does nothing",
	when:   step{"batch-inventory-links", `{}`},
	answer: `{"created":[],"updated":[],"deleted":[]}`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "a batch is done whole or not at all",
	given:   []step{cup, {"attach-inventory-items", `{"variant_id":"v1","inventory_item_id":"cup"}`}},
	when:    step{"batch-inventory-links", `{"delete":[{"variant_id":"v1","inventory_item_id":"cup"}],"update":[{"variant_id":"v1","inventory_item_id":"cup","required_quantity":1}]}`},
	refused: "not_found",
	details: `{"part":"update","line":1,"variant_id":"v1","inventory_item_id":"cup"}`,
}, {
	name:    "in a batch, too, an unknown item is not attached",
	given:   []step{cup},
	when:    step{"batch-inventory-links", `{"create":[{"variant_id":"v1","inventory_item_id":"cup"},{"variant_id":"v1","inventory_item_id":"nope"}]}`},
	refused: "not_found",
	details: `{"part":"create","line":2,"inventory_item_id":"nope"}`,
}, {
	name:    "and a link that is removed is named",
	when:    step{"batch-inventory-links", `{"delete":[{"variant_id":"v1"}]}`},
	refused: "required",
	details: `{"part":"delete","line":1,"field":"inventory_item_id"}`,
}}

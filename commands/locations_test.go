package commands_test

var paris = step{"create-stock-locations", `{"id":"paris","name":"Paris","metadata":{"a":1},
	"address":{"address_1":"1 rue X","country_code":"fr","city":"Paris"}}`}

var locationScenarios = []scenario{{
	name: "locations are opened",
	when: step{"create-stock-locations", `{"locations":[{"id":"paris","name":" Paris ","address":{"address_1":"1 rue X","country_code":"fr"}},{"name":"Oslo"}]}`},
	answer: `[{"id":"paris","name":"Paris","address":{"address_1":"1 rue X","country_code":"fr","city":null},"metadata":null,"deleted_at":null},
		{"id":"sloc_~","name":"Oslo","address":null}]`,
	then:  []string{"location-paris location-opened", "location-sloc_~ location-opened"},
	again: "location_exists",
}, {
	name:    "an id is for ever",
	given:   []step{paris, {"delete-stock-locations", `"paris"`}},
	when:    step{"create-stock-locations", `[{"name":"Oslo"},{"id":"paris","name":"Paris"}]`},
	refused: "location_exists",
	details: `{"line":2,"location_id":"paris"}`,
}, {
	name:    "a location has a name",
	when:    step{"create-stock-locations", `[{"name":"Oslo"},{"name":"  "}]`},
	refused: "required",
	details: `{"line":2,"field":"name"}`,
}, {
	name:    "an address has a street and a country",
	when:    step{"create-stock-locations", `[{"name":"Oslo","address":{"address_1":"x"}}]`},
	refused: "required",
	details: `{"line":1,"field":"address.country_code"}`,
}, {
	name:   "absent leaves, null clears, metadata is merged, an address is replaced",
	given:  []step{paris},
	when:   step{"update-stock-locations", `{"updates":[{"id":"paris","address":{"address_1":"2 rue Y","country_code":"fr"},"metadata":{"b":2}}]}`},
	answer: `[{"id":"paris","name":"Paris","address":{"address_1":"2 rue Y","city":null},"metadata":{"a":1,"b":2}}]`,
	then:   []string{`location-paris location-updated {"changed":["address","metadata"]}`},
}, {
	name:   "an address is cleared",
	given:  []step{paris},
	when:   step{"update-stock-locations", `{"id":"paris","name":"Lutetia ","address":null}`},
	answer: `[{"name":"Lutetia","address":null,"metadata":{"a":1}}]`,
	then:   []string{`location-paris location-updated {"changed":["name","address"]}`},
}, {
	name:    "a name of blanks is none",
	given:   []step{paris},
	when:    step{"update-stock-locations", `[{"id":"paris","name":" "}]`},
	refused: "required",
	details: `{"line":1,"field":"name"}`,
}, {
	name:   "an update to what is so changes nothing",
	given:  []step{paris},
	when:   step{"update-stock-locations", `[{"id":"paris","name":"Paris"}]`},
	answer: `[{"id":"paris"}]`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "an unknown location is not updated",
	given:   []step{paris},
	when:    step{"update-stock-locations", `[{"id":"paris","name":"Lutetia"},{"id":"nope","name":"x"}]`},
	refused: "not_found",
	details: `{"line":2,"location_id":"nope"}`,
}, {
	name:   "locations are closed, and what is stocked there stays",
	given:  []step{paris, cup},
	when:   step{"delete-stock-locations", `{"id":"paris"}`},
	answer: `{"ids":["paris"]}`,
	then:   []string{"location-paris location-closed"},
}, {
	name:    "all or none",
	given:   []step{paris},
	when:    step{"delete-stock-locations", `["paris","nope"]`},
	refused: "not_found",
	details: `{"line":2,"location_id":"nope"}`,
}, {
	name:  "locations are linked to what they serve and ship by",
	given: []step{paris},
	when: step{"update-stock-location-links", `{"id":"paris","sales_channels":{"add":["web","shop","web"]},
		"fulfillment_providers":{"add":["manual"]},"fulfillment_sets":{"add":[{"id":"set","name":"Paris pickup","type":"pickup"},{"name":"Paris","type":"shipping"}]}}`},
	answer: `[{"id":"paris","name":"Paris","sales_channels":["web","shop"],"fulfillment_providers":["manual"],
		"fulfillment_sets":[{"id":"set","name":"Paris pickup","type":"pickup"},{"id":"fuset_~","name":"Paris","type":"shipping"}]}]`,
	then: []string{
		`location-paris location-linked {"kind":"sales_channel","id":"web"}`, `location-paris location-linked {"kind":"sales_channel","id":"shop"}`,
		`location-paris location-linked {"kind":"fulfillment_provider","id":"manual"}`,
		`location-paris location-linked {"kind":"fulfillment_set","id":"set","name":"Paris pickup","type":"pickup"}`,
		`location-paris location-linked {"kind":"fulfillment_set","name":"Paris","type":"shipping"}`,
	},
}, {
	name:  "links are removed before others are made, and each line sees the lines before it",
	given: []step{paris, linked},
	when: step{"update-stock-location-links", `{"updates":[
		{"id":"paris","sales_channels":{"add":["fair"],"remove":["web","nope"]},"fulfillment_sets":{"add":[{"id":"new","name":"Pickup","type":"pickup"}],"remove":["set"]}},
		{"id":"paris","sales_channels":{"add":["web","fair"]},"fulfillment_providers":{"remove":["manual"]}}]}`},
	answer: `[{"sales_channels":["fair"],"fulfillment_providers":["manual"],"fulfillment_sets":[{"id":"new","name":"Pickup","type":"pickup"}]},
		{"sales_channels":["fair","web"],"fulfillment_providers":[]}]`,
	then: []string{
		`location-paris location-unlinked {"kind":"sales_channel","id":"web"}`,
		`location-paris location-unlinked {"kind":"fulfillment_set","id":"set","name":"Pickup","type":"pickup"}`,
		`location-paris location-linked {"kind":"sales_channel","id":"fair"}`,
		`location-paris location-linked {"kind":"fulfillment_set","id":"new","name":"Pickup","type":"pickup"}`,
		`location-paris location-unlinked {"kind":"fulfillment_provider","id":"manual"}`,
		`location-paris location-linked {"kind":"sales_channel","id":"web"}`,
	},
	again: "acts", // the first line takes the second one back
}, {
	name:   "links that are there, and ends of links that are not, change nothing",
	given:  []step{paris, linked},
	when:   step{"update-stock-location-links", `[{"id":"paris","sales_channels":{"add":["web"],"remove":["fair"]},"fulfillment_providers":null,"fulfillment_sets":{"add":[{"name":"Pickup","type":"pickup"}],"remove":null}}]`},
	answer: `[{"sales_channels":["web"],"fulfillment_providers":["manual"],"fulfillment_sets":[{"id":"set","name":"Pickup","type":"pickup"}]}]`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:    "a fulfillment set is not described otherwise by linking it again",
	given:   []step{paris, linked},
	when:    step{"update-stock-location-links", `[{"id":"paris"},{"id":"paris","sales_channels":{"add":["fair"]},"fulfillment_sets":{"add":[{"id":"set","name":"Pickup","type":"shipping"}]}}]`},
	refused: "fulfillment_set_exists",
	details: `{"line":2,"location_id":"paris","fulfillment_set_id":"set"}`,
}, {
	name:    "a link cannot be made and removed at once",
	given:   []step{paris},
	when:    step{"update-stock-location-links", `[{"id":"paris","fulfillment_providers":{"add":["a","b"],"remove":["c","b"]}}]`},
	refused: "added_and_removed",
	details: `{"line":1,"field":"fulfillment_providers"}`,
}, {
	name:    "an unknown location has no links",
	given:   []step{paris},
	when:    step{"update-stock-location-links", `[{"id":"paris","sales_channels":{"add":["web"]}},{"id":"nope"}]`},
	refused: "not_found",
	details: `{"line":2,"location_id":"nope"}`,
}, {
	name:    "nor has a closed one",
	given:   []step{paris, linked, {"delete-stock-locations", `"paris"`}},
	when:    step{"update-stock-location-links", `{"id":"paris","sales_channels":{"remove":["web"]}}`},
	refused: "not_found",
	details: `{"line":1,"location_id":"paris"}`,
}}

var linked = step{"update-stock-location-links", `{"id":"paris","sales_channels":{"add":["web"]},"fulfillment_providers":{"add":["manual"]},
	"fulfillment_sets":{"add":[{"id":"set","name":"Pickup","type":"pickup"}]}}`}

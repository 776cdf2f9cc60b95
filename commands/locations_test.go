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
}}

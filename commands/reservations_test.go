package commands_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/domain"
)

// held is cup at three places with reservations: R1 holds 2 at paris for line-1,
// R2 holds 1 at oslo for line-1, R3 holds 1 at paris for line-2.
var held = after(cupAtThree, twoReservedForLine, step{"create-reservations", `[
	{"id":"R2","inventory_item_id":"cup","location_id":"oslo","quantity":1,"line_item_id":"line-1"},
	{"id":"R3","inventory_item_id":"cup","location_id":"paris","quantity":1,"line_item_id":"line-2"}]`})

var twoReservedForLine = step{
	"create-reservations",
	`{"id":"R1","inventory_item_id":"cup","location_id":"paris","quantity":2,"line_item_id":"line-1","description":"gift","metadata":{"a":1}}`,
}

var reservationScenarios = []scenario{{
	name:  "stock is set aside",
	given: cupAtThree,
	when: step{"create-reservations", `{"reservations":[{"id":"R1","inventory_item_id":"cup","location_id":"paris","quantity":2.5,
		"line_item_id":"line-1","description":"gift","external_id":"x","created_by":"ann","metadata":{"a":1}}]}`},
	answer: `[{"id":"R1","inventory_item_id":"cup","location_id":"paris","quantity":2.5,"line_item_id":"line-1","description":"gift",
		"external_id":"x","created_by":"ann","allow_backorder":false,"metadata":{"a":1},"deleted_at":null}]`,
	then:  []string{`item-cup reservation-created {"reservation_id":"R1","quantity":2.5,"stocked_quantity":5,"reserved_quantity":2.5}`},
	again: "reservation_exists",
}, {
	name:   "as much as there is, in two lines",
	given:  cupAtThree,
	when:   step{"create-reservations", cupHas + `"quantity":4},` + cupHas2 + `"quantity":1}]`},
	answer: `[{"id":"resitem_~","quantity":4},{"quantity":1}]`,
	then:   []string{`item-cup reservation-created {"reserved_quantity":4}`, `item-cup reservation-created {"reserved_quantity":5}`},
	again:  "insufficient_stock",
}, {
	name:    "not more",
	given:   cupAtThree,
	when:    step{"create-reservations", cupHas + `"quantity":4},` + cupHas2 + `"quantity":2}]`},
	refused: "insufficient_stock",
	details: `{"line":2,"inventory_item_id":"cup","location_id":"paris","asked":2,"available":1,"reserved":4,"stocked":5}`,
}, {
	name:   "unless backorders are allowed",
	given:  cupAtThree,
	when:   step{"create-reservations", `{"inventory_item_id":"cup","location_id":"rome","quantity":2,"allow_backorder":true}`},
	answer: `[{"quantity":2,"allow_backorder":true}]`,
	then:   []string{`item-cup reservation-created {"stocked_quantity":0,"reserved_quantity":2}`},
	again:  "acts",
}, {
	name:  "a reservation may expect",
	given: cupAtThree,
	when:  step{"create-reservations", cupHas + `"quantity":1,"expect":{"reserved_quantity":0,"stocked_quantity":5}}]`},
	then:  []string{"item-cup reservation-created"},
	again: "expectation_failed",
}, {
	name:    "and is refused when that is not so",
	given:   held,
	when:    step{"create-reservations", cupHas + `"quantity":1,"expect":{"reserved_quantity":2}}]`},
	refused: "expectation_failed",
	details: `{"line":1,"field":"expect.reserved_quantity","expected":2,"actual":3}`,
}, {
	name:    "a reservation id is for ever, whatever the item",
	given:   after(held, potAtParis, step{"delete-reservations", `"R3"`}),
	when:    step{"create-reservations", `[{"id":"R3","inventory_item_id":"pot","location_id":"paris","quantity":1}]`},
	refused: "reservation_exists",
	details: `{"line":1,"reservation_id":"R3"}`,
}, {
	name:    "also within one command",
	given:   after(cupAtThree, potAtParis),
	when:    step{"create-reservations", `[{"id":"X","inventory_item_id":"pot","location_id":"paris","quantity":1},{"id":"X","inventory_item_id":"cup","location_id":"paris","quantity":1}]`},
	refused: "reservation_exists",
	details: `{"line":2}`,
}, {
	name:    "what is not stocked there is not reserved",
	given:   cupAtThree,
	when:    step{"create-reservations", `[{"inventory_item_id":"cup","location_id":"lima","quantity":1}]`},
	refused: "not_found",
	details: `{"line":1,"inventory_item_id":"cup","location_id":"lima"}`,
}, {
	name:  "absent leaves, null clears, metadata is merged",
	given: held,
	when:  step{"update-reservations", `{"updates":[{"id":"R1","description":null,"external_id":"x","metadata":{"b":2}}]}`},
	answer: `[{"id":"R1","quantity":2,"location_id":"paris","line_item_id":"line-1","description":null,"external_id":"x",
		"metadata":{"a":1,"b":2}}]`,
	then: []string{`item-cup reservation-updated {"from":2,"quantity":2,"reserved_quantity":3}`},
}, {
	name:   "it grows as far as there is stock",
	given:  held,
	when:   step{"update-reservations", `[{"id":"R1","quantity":4}]`},
	answer: `[{"quantity":4}]`,
	then:   []string{`item-cup reservation-updated {"from":2,"quantity":4,"reserved_quantity":5}`},
}, {
	name:    "not farther",
	given:   held,
	when:    step{"update-reservations", `[{"id":"R2","quantity":2},{"id":"R1","quantity":5}]`},
	refused: "insufficient_stock",
	details: `{"line":2,"asked":3,"available":2}`,
}, {
	name:  "it shrinks also where more is promised than there is",
	given: after(held, step{"adjust-inventory-levels", cupHas + `"adjustment":-5,"floor":"zero"}]`}),
	when:  step{"update-reservations", `{"id":"R1","quantity":1,"description":"smaller"}`},
	then:  []string{`item-cup reservation-updated {"quantity":1,"stocked_quantity":0,"reserved_quantity":2}`},
}, {
	name:   "moving lets go at the old place and holds at the new one",
	given:  held,
	when:   step{"update-reservations", `[{"id":"R1","location_id":"oslo"}]`},
	answer: `[{"id":"R1","location_id":"oslo","quantity":2}]`,
	then:   []string{`item-cup reservation-moved {"from_location_id":"paris","from_reserved_quantity":1,"location_id":"oslo","reserved_quantity":3}`},
}, {
	name:    "where there is enough for all of it",
	given:   held,
	when:    step{"update-reservations", `[{"id":"R1","location_id":"oslo","quantity":3}]`},
	refused: "insufficient_stock",
	details: `{"line":1,"location_id":"oslo","asked":3,"available":2}`,
}, {
	name:    "what was let go of is not updated",
	given:   after(held, step{"delete-reservations", `"R1"`}),
	when:    step{"update-reservations", `[{"id":"R1","quantity":1}]`},
	refused: "not_found",
	details: `{"line":1,"reservation_id":"R1"}`,
}, {
	name:   "reservations are let go of",
	given:  held,
	when:   step{"delete-reservations", `{"ids":["R1","R2","R1"]}`},
	answer: `{"ids":["R1","R2","R1"]}`,
	then:   []string{`item-cup reservation-released {"reservation_id":"R1","quantity":2,"reserved_quantity":1}`, "item-cup reservation-released"},
}, {
	name:    "all or none",
	given:   held,
	when:    step{"delete-reservations", `["R1","nope"]`},
	refused: "not_found",
	details: `{"line":2,"reservation_id":"nope"}`,
}, {
	name:   "letting go of what is used up changes nothing",
	given:  after(held, step{"fulfill-reservations", `[{"id":"R1"}]`}),
	when:   step{"delete-reservations", `"R1"`},
	answer: `{"ids":["R1"]}`,
	then:   []string{"command-key-1 command-accepted"},
}, {
	name:   "what a line item holds is let go of",
	given:  held,
	when:   step{"delete-reservations-by-line-item", `"line-1"`},
	answer: `{"ids":["R1","R2"]}`,
	then:   []string{`item-cup reservation-released {"reservation_id":"R1"}`, `item-cup reservation-released {"reservation_id":"R2"}`},
}, {
	name:   "what several hold, and one that holds nothing",
	given:  held,
	when:   step{"delete-reservations-by-line-item", `{"line_item_id":["line-2","line-9","line-1"]}`},
	answer: `{"ids":["R3","R1","R2"]}`,
	then:   []string{"item-cup reservation-released", "item-cup reservation-released", "item-cup reservation-released"},
}, {
	name:   "a reservation goes with the line item it has now",
	given:  after(held, step{"update-reservations", `[{"id":"R1","line_item_id":"line-2"},{"id":"R2","line_item_id":null}]`}),
	when:   step{"delete-reservations-by-line-item", `["line-1","line-2"]`},
	answer: `{"ids":["R3","R1"]}`,
	then:   []string{"item-cup reservation-released", "item-cup reservation-released"},
}, {
	name:   "what is held at a location is let go of",
	given:  after(held, potAtParis, step{"create-reservations", `{"id":"P","inventory_item_id":"pot","location_id":"paris","quantity":1}`}),
	when:   step{"delete-reservations-by-location", `{"location_id":"paris"}`},
	answer: `{"ids":["R1","R3","P"]}`,
	then:   []string{"item-cup reservation-released", "item-cup reservation-released", "item-pot reservation-released"},
}, {
	name:   "and what was moved there, not what was moved away",
	given:  after(held, step{"update-reservations", `[{"id":"R1","location_id":"oslo"}]`}),
	when:   step{"delete-reservations-by-location", `["oslo"]`},
	answer: `{"ids":["R2","R1"]}`,
	then:   []string{"item-cup reservation-released", "item-cup reservation-released"},
}, {
	name:   "what was let go of holds again",
	given:  after(held, step{"delete-reservations", `["R1"]`}),
	when:   step{"restore-reservations", `{"id":["R1","R3"]}`},
	answer: `[{"id":"R1","quantity":2,"description":"gift","metadata":{"a":1},"deleted_at":null},{"id":"R3","quantity":1}]`,
	then:   []string{`item-cup reservation-restored {"reservation_id":"R1","quantity":2,"reserved_quantity":3}`},
}, {
	name:    "if there is enough",
	given:   after(held, step{"delete-reservations", `["R1"]`}, step{"adjust-inventory-levels", cupHas + `"adjustment":-3}]`}),
	when:    step{"restore-reservations", `["R1"]`},
	refused: "insufficient_stock",
	details: `{"line":1,"asked":2,"available":1}`,
}, {
	name:    "what is used up stays used up",
	given:   after(held, step{"fulfill-reservations", `[{"id":"R1"}]`}),
	when:    step{"restore-reservations", `["R3","R1"]`},
	refused: "reservation_used_up",
	details: `{"line":2,"reservation_id":"R1"}`,
}, {
	name: "also when it had been let go of and restored before",
	given: after(held, step{"delete-reservations", `"R1"`}, step{"restore-reservations", `"R1"`},
		step{"fulfill-reservations", `[{"id":"R1"}]`}),
	when:    step{"restore-reservations", `["R1"]`},
	refused: "reservation_used_up",
	details: `{"line":1,"reservation_id":"R1"}`,
}, {
	name:    "what never was is not restored",
	when:    step{"restore-reservations", `["nope"]`},
	refused: "not_found",
	details: `{"line":1,"reservation_id":"nope"}`,
}, {
	name:   "fulfilling takes stock and reservation down together",
	given:  held,
	when:   step{"fulfill-reservations", `{"id":"R1"}`},
	answer: `[{"id":"R1","quantity":0,"deleted_at":"2026-03-01T09:30:00.000004Z"}]`,
	then:   []string{`item-cup reservation-fulfilled {"quantity":2,"remaining":0,"stocked_quantity":3,"reserved_quantity":1}`},
	again:  "not_found",
}, {
	name:   "in part",
	given:  held,
	when:   step{"fulfill-reservations", `{"reservations":[{"id":"R1","quantity":0.5},{"id":"R1","quantity":0.5}]}`},
	answer: `[{"id":"R1","quantity":1.5,"deleted_at":null},{"id":"R1","quantity":1,"deleted_at":null}]`,
	then:   []string{"item-cup reservation-fulfilled", `item-cup reservation-fulfilled {"remaining":1,"stocked_quantity":4,"reserved_quantity":2}`},
	again:  "acts",
}, {
	name:  "in part, of what is wholly reserved",
	given: after(held, step{"update-reservations", `[{"id":"R1","quantity":4}]`}),
	when:  step{"fulfill-reservations", `[{"id":"R1","quantity":3,"expect":{"stocked_quantity":5,"reserved_quantity":5}}]`},
	then:  []string{`item-cup reservation-fulfilled {"remaining":1,"stocked_quantity":2,"reserved_quantity":2}`},
	again: "expectation_failed",
}, {
	name:    "not more than it holds",
	given:   held,
	when:    step{"fulfill-reservations", `[{"id":"R3"},{"id":"R1","quantity":3}]`},
	refused: "exceeds_reservation",
	details: `{"line":2,"reservation_id":"R1","asked":3,"reserved":2}`,
}, {
	name:   "from another place, the reservation moves there first",
	given:  held,
	when:   step{"fulfill-reservations", `[{"id":"R1","quantity":1,"location_id":"oslo"}]`},
	answer: `[{"id":"R1","location_id":"oslo","quantity":1}]`,
	then: []string{
		`item-cup reservation-moved {"from_location_id":"paris","location_id":"oslo","quantity":2,"reserved_quantity":3}`,
		`item-cup reservation-fulfilled {"location_id":"oslo","quantity":1,"stocked_quantity":2,"reserved_quantity":2}`,
	},
	again: "acts",
}, {
	name:    "where there must be enough for all of it",
	given:   held,
	when:    step{"fulfill-reservations", `[{"id":"R1","location_id":"rome"}]`},
	refused: "insufficient_stock",
	details: `{"line":1,"location_id":"rome","asked":2,"available":0}`,
}, {
	name:    "what is not in stock is not taken out",
	given:   after(held, step{"adjust-inventory-levels", cupHas + `"adjustment":-4,"floor":"zero"}]`}),
	when:    step{"fulfill-reservations", `[{"id":"R1"}]`},
	refused: "insufficient_stock",
	details: `{"line":1,"asked":2,"stocked":1,"reservation_id":"R1"}`,
}, {
	name:  "but with floor none",
	given: after(held, step{"adjust-inventory-levels", cupHas + `"adjustment":-4,"floor":"zero"}]`}),
	when:  step{"fulfill-reservations", `[{"id":"R1","floor":"none"}]`},
	then:  []string{`item-cup reservation-fulfilled {"stocked_quantity":-1,"reserved_quantity":1}`},
	again: "not_found",
}, {
	name:    "what was let go of is not fulfilled",
	given:   after(held, step{"delete-reservations", `"R1"`}),
	when:    step{"fulfill-reservations", `[{"id":"R1"}]`},
	refused: "not_found",
	details: `{"line":1,"reservation_id":"R1"}`,
}}

// Also more of them at once than an item remembers: restoring pushes nothing out of
// its memory.
func TestManyReservationsReleasedLongAgoCanBeRestoredAtOnce(t *testing.T) {
	const many, old = 2*domain.MaxReleased + 50, domain.MaxReleased + 20
	s := newShop(t)
	s.stocked("cup", "paris", many)
	var lines, ids []string
	for i := range many {
		lines = append(lines, fmt.Sprintf(`{"id":"r%d","inventory_item_id":"cup","location_id":"paris","quantity":1}`, i))
		ids = append(ids, fmt.Sprintf(`"r%d"`, i))
	}
	s.do("create-reservations", "["+strings.Join(lines, ",")+"]")
	s.do("delete-reservations", "["+strings.Join(ids, ",")+"]")
	s.do("restore-reservations", "["+strings.Join(ids[:old], ",")+"]")
	require.Equal(t, fmt.Sprint(old), s.level("cup", "paris").ReservedQuantity.String())
	s.agreesWithTheLog()
}

// Reservations that the item no longer remembers are read from its stream.
func TestReservationsReleasedLongAgoCanBeRestored(t *testing.T) {
	const old = domain.MaxReleased + 50
	s := newShop(t)
	s.stocked("cup", "paris", old)
	var lines, ids []string
	for i := range old {
		lines = append(lines, fmt.Sprintf(`{"id":"r%d","inventory_item_id":"cup","location_id":"paris","quantity":1,"description":"no. %d"}`, i, i))
		ids = append(ids, fmt.Sprintf(`"r%d"`, i))
	}
	s.do("create-reservations", "["+strings.Join(lines, ",")+"]")
	s.do("fulfill-reservations", `[{"id":"r0"}]`)
	s.do("delete-reservations", `["r1"]`)
	s.do("restore-reservations", `["r1"]`)
	s.do("fulfill-reservations", `[{"id":"r1"}]`)
	s.do("delete-reservations", "["+strings.Join(ids[2:], ",")+"]")

	s.refuse("reservation_used_up", "restore-reservations", `["r0"]`)
	s.refuse("reservation_used_up", "restore-reservations", `["r1"]`)
	rows := result[[]commands.ReservationRow](t, s.do("restore-reservations", "["+strings.Join(ids[2:45], ",")+"]"))
	require.Len(t, rows, 43)
	require.Equal(t, "no. 2", *rows[0].Description)
	require.Equal(t, "43", s.level("cup", "paris").ReservedQuantity.String())
	s.agreesWithTheLog()
}

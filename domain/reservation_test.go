package domain_test

import (
	"encoding/json"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

func reserve(id, location, quantity string) itemAsk {
	return reserveAs(id, location, quantity, events.ReservationDetails{})
}

func reserveAs(id, location, quantity string, d events.ReservationDetails) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) {
		return it.Reserve(bolts, domain.NewReservation{ID: id, LocationID: location, Quantity: q(quantity), Details: d}, nil)
	}
}

func updateReservation(id string, c domain.ReservationChanges) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.UpdateReservation(bolts, id, c) }
}

func release(id string) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.Release(bolts, id) }
}

func restoreReservation(r domain.Reservation) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.RestoreReservation(bolts, r) }
}

// restoreReleased restores what the item remembers.
func restoreReleased(id string) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) {
		r, _ := it.Released(id)
		return it.RestoreReservation(bolts, r)
	}
}

func fulfil(id, quantity string, floor domain.Floor) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) {
		return it.Fulfil(bolts, id, new(q(quantity)), floor, nil)
	}
}

func fulfilAll(id string, floor domain.Floor) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.Fulfil(bolts, id, nil, floor, nil) }
}

// short is what a refusal for want of stock says.
func short(location, asked, stocked, reserved, available string) details {
	return details{
		"inventory_item_id": bolts, "location_id": location,
		"asked": asked, "stocked": stocked, "reserved": reserved, "available": available,
	}
}

var backorder = events.ReservationDetails{AllowBackorder: true}

func TestReserving(t *testing.T) {
	reserved := func(quantity, stocked, after string, d events.ReservationDetails) []events.Fact {
		return []events.Fact{events.ReservationCreated{
			ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, ReservationID: order2,
			Quantity: q(quantity), Details: d, Stocked: q(stocked), Reserved: q(after),
		}}
	}
	full := events.ReservationDetails{
		LineItemID: new("ordli_1"), Description: new("gift"), ExternalID: new("E-1"), CreatedBy: new("anna"), AllowBackorder: true, Metadata: raw(`{"a":1}`),
	}
	fiveThree := past(created, stocked(berlin, "5"), stocked(hamburg, "9"), held(order1, berlin, "3"))
	runItem(t, scenario[*domain.Item]{
		name:  "sets units aside",
		given: fiveThree,
		when:  reserve(order2, berlin, "0.5"),
		then:  reserved("0.5", "5", "3.5", events.ReservationDetails{}),
	}, scenario[*domain.Item]{
		name:  "down to the last one",
		given: fiveThree,
		when:  reserve(order2, berlin, "2"),
		then:  reserved("2", "5", "5", events.ReservationDetails{}),
	}, scenario[*domain.Item]{
		name:  "and keeps what is said of it",
		given: fiveThree,
		when: reserveAs(order2, berlin, "1", events.ReservationDetails{
			LineItemID: new("ordli_1"), Description: new("gift"), ExternalID: new("E-1"), CreatedBy: new("anna"), AllowBackorder: true, Metadata: raw(`{"b":null, "a" : 1}`),
		}),
		then: reserved("1", "5", "4", full),
	}, scenario[*domain.Item]{
		name:    "not what is promised to another",
		given:   fiveThree,
		when:    reserve(order2, berlin, "2.00000000000000001"),
		refused: "insufficient_stock", details: short(berlin, "2.00000000000000001", "5", "3", "2"),
	}, scenario[*domain.Item]{
		name:    "nor what is elsewhere",
		given:   fiveThree,
		when:    reserve(order2, berlin, "9"),
		refused: "insufficient_stock", details: short(berlin, "9", "5", "3", "2"),
	}, scenario[*domain.Item]{
		name:    "nor what is only on its way",
		given:   past(created, stocked(berlin, "0"), announced(berlin, "10")),
		when:    reserve(order2, berlin, "1"),
		refused: "insufficient_stock", details: short(berlin, "1", "0", "0", "0"),
	}, scenario[*domain.Item]{
		name:    "nor anything of an oversold level",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), lost(berlin, "4")),
		when:    reserve(order2, berlin, "1"),
		refused: "insufficient_stock", details: short(berlin, "1", "1", "3", "-2"),
	}, scenario[*domain.Item]{
		name:  "unless backorder is allowed",
		given: fiveThree,
		when:  reserveAs(order2, berlin, "7", backorder),
		then:  reserved("7", "5", "10", backorder),
	}, scenario[*domain.Item]{
		name:    "never nothing",
		given:   fiveThree,
		when:    reserve(order2, berlin, "0"),
		refused: "invalid_quantity", details: details{"field": "quantity", "asked": "0"},
	}, scenario[*domain.Item]{
		name:    "nor less",
		given:   fiveThree,
		when:    reserveAs(order2, berlin, "-1", backorder),
		refused: "invalid_quantity", details: details{"field": "quantity", "asked": "-1"},
	}, scenario[*domain.Item]{
		name:    "once under an id",
		given:   fiveThree,
		when:    reserve(order1, berlin, "3"),
		refused: "reservation_exists", details: details{"reservation_id": order1},
	}, scenario[*domain.Item]{
		name:    "also after it was let go",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), letGo(order1)),
		when:    reserve(order1, berlin, "3"),
		refused: "reservation_exists", details: details{"reservation_id": order1},
	}, scenario[*domain.Item]{
		name:    "where the item is not stocked, backorder or not",
		given:   fiveThree,
		when:    reserveAs(order2, munich, "1", backorder),
		refused: "not_found", details: details{"inventory_item_id": bolts, "location_id": munich},
	}, scenario[*domain.Item]{
		name:    "metadata is an object",
		given:   fiveThree,
		when:    reserveAs(order2, berlin, "1", events.ReservationDetails{Metadata: raw("true")}),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	}, scenario[*domain.Item]{
		name:    "backorders stay within eighteen digits, together",
		given:   past(created, stocked(berlin, "0"), heldAs(order1, berlin, "999999999999999999", backorder)),
		when:    reserveAs(order2, berlin, "1", backorder),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	}, scenario[*domain.Item]{
		name:  "and alone",
		given: past(created, stocked(berlin, "0")),
		when: func(it *domain.Item) ([]events.Fact, error) {
			return it.Reserve(bolts, domain.NewReservation{ID: order1, LocationID: berlin, Quantity: events.Units(1e18), Details: backorder}, nil)
		},
		refused: "quantity_out_of_range", details: details{"field": "quantity"},
	})
}

func TestUpdatingAReservation(t *testing.T) {
	updated := func(location, from, to string, d events.ReservationDetails, stocked, reserved string) events.Fact {
		return events.ReservationUpdated{
			ItemID: bolts, LevelID: levelAt(location), LocationID: location, ReservationID: order1,
			From: q(from), Quantity: q(to), Details: d, Stocked: q(stocked), Reserved: q(reserved),
		}
	}
	none := events.ReservationDetails{}
	to := func(quantity string) domain.ReservationChanges {
		return domain.ReservationChanges{Quantity: new(q(quantity))}
	}
	full := events.ReservationDetails{
		LineItemID: new("ordli_1"), Description: new("gift"), ExternalID: new("E-1"), CreatedBy: new("anna"), Metadata: raw(`{"a":1}`),
	}
	plain := past(created, stocked(berlin, "5"), held(order1, berlin, "3"), held(order2, berlin, "1"))
	described := past(created, stocked(berlin, "5"), heldAs(order1, berlin, "3", full))
	oversold := past(created, stocked(berlin, "5"), held(order1, berlin, "3"), held(order2, berlin, "2"), lost(berlin, "4"))

	runItem(t, scenario[*domain.Item]{
		name:  "grows into what is available",
		given: plain,
		when:  updateReservation(order1, to("4")),
		then:  []events.Fact{updated(berlin, "3", "4", none, "5", "5")},
	}, scenario[*domain.Item]{
		name:    "and not beyond; only the growth is asked for",
		given:   plain,
		when:    updateReservation(order1, to("4.5")),
		refused: "insufficient_stock", details: short(berlin, "1.5", "5", "4", "1"),
	}, scenario[*domain.Item]{
		name:  "unless backorder is allowed with the same breath",
		given: plain,
		when:  updateReservation(order1, domain.ReservationChanges{Quantity: new(q("9")), AllowBackorder: new(true)}),
		then:  []events.Fact{updated(berlin, "3", "9", backorder, "5", "10")},
	}, scenario[*domain.Item]{
		name:    "or forbidden with it",
		given:   past(created, stocked(berlin, "5"), heldAs(order1, berlin, "3", backorder)),
		when:    updateReservation(order1, domain.ReservationChanges{Quantity: new(q("9")), AllowBackorder: new(false)}),
		refused: "insufficient_stock", details: short(berlin, "6", "5", "3", "2"),
	}, scenario[*domain.Item]{
		name:  "shrinks",
		given: plain,
		when:  updateReservation(order1, to("0.5")),
		then:  []events.Fact{updated(berlin, "3", "0.5", none, "5", "1.5")},
	}, scenario[*domain.Item]{
		name:  "shrinks also when the level is oversold",
		given: oversold,
		when:  updateReservation(order1, to("2")),
		then:  []events.Fact{updated(berlin, "3", "2", none, "1", "4")},
	}, scenario[*domain.Item]{
		name:  "and is described also then",
		given: oversold,
		when:  updateReservation(order1, domain.ReservationChanges{Description: domain.Value("late")}),
		then:  []events.Fact{updated(berlin, "3", "3", events.ReservationDetails{Description: new("late")}, "1", "5")},
	}, scenario[*domain.Item]{
		name:    "but does not grow",
		given:   oversold,
		when:    updateReservation(order1, to("3.1")),
		refused: "insufficient_stock", details: short(berlin, "0.1", "1", "5", "-4"),
	}, scenario[*domain.Item]{
		name:  "everything said of it can change",
		given: described,
		when: updateReservation(order1, domain.ReservationChanges{
			LineItemID: domain.Value("ordli_2"), Description: domain.Value("x"), ExternalID: domain.Value("E-2"),
			AllowBackorder: new(true), Metadata: domain.Value(raw(`{"b":2}`)),
		}),
		then: []events.Fact{updated(berlin, "3", "3", events.ReservationDetails{
			LineItemID: new("ordli_2"), Description: new("x"), ExternalID: new("E-2"), CreatedBy: new("anna"), AllowBackorder: true, Metadata: raw(`{"a":1,"b":2}`),
		}, "5", "3")},
	}, scenario[*domain.Item]{
		name:  "null clears, absent leaves",
		given: described,
		when: updateReservation(order1, domain.ReservationChanges{
			LineItemID: domain.Null[string](), ExternalID: domain.Null[string](), Metadata: domain.Null[json.RawMessage](),
		}),
		then: []events.Fact{updated(berlin, "3", "3", events.ReservationDetails{Description: new("gift"), CreatedBy: new("anna")}, "5", "3")},
	}, scenario[*domain.Item]{
		name:  "what is so already changes nothing",
		given: described,
		when: updateReservation(order1, domain.ReservationChanges{
			LocationID: new(berlin), Quantity: new(q("3.0")), LineItemID: domain.Value("ordli_1"), Description: domain.Value("gift"),
			ExternalID: domain.Value("E-1"), AllowBackorder: new(false), Metadata: domain.Value(raw(`{ "a": 1 }`)),
		}),
	}, scenario[*domain.Item]{
		name:  "nothing named changes nothing",
		given: oversold,
		when:  updateReservation(order1, domain.ReservationChanges{}),
	}, scenario[*domain.Item]{
		name:    "it never holds nothing",
		given:   plain,
		when:    updateReservation(order1, to("0")),
		refused: "invalid_quantity", details: details{"field": "quantity", "asked": "0"},
	}, scenario[*domain.Item]{
		name:    "nor less",
		given:   plain,
		when:    updateReservation(order1, to("-2")),
		refused: "invalid_quantity", details: details{"field": "quantity", "asked": "-2"},
	}, scenario[*domain.Item]{
		name:    "metadata is an object",
		given:   plain,
		when:    updateReservation(order1, domain.ReservationChanges{Metadata: domain.Value(raw("1"))}),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	}, scenario[*domain.Item]{
		name:    "one that never was",
		given:   plain,
		when:    updateReservation(order3, to("1")),
		refused: "not_found", details: details{"reservation_id": order3},
	}, scenario[*domain.Item]{
		name:    "one that was let go",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), letGo(order1)),
		when:    updateReservation(order1, to("1")),
		refused: "not_found", details: details{"reservation_id": order1},
	}, scenario[*domain.Item]{
		name:  "one that was used up",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), shipped(order1, "3")),
		when:  updateReservation(order1, to("1")), refused: "not_found",
	}, scenario[*domain.Item]{
		name:    "does not leave behind what cannot be written down",
		given:   past(created, stocked(berlin, "0"), heldAs(order1, berlin, "0.5", backorder), heldAs(order2, berlin, "10000000000000000.5", backorder)),
		when:    updateReservation(order1, to("0.25")),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	}, scenario[*domain.Item]{
		name:    "backorders stay within eighteen digits",
		given:   past(created, stocked(berlin, "0"), heldAs(order1, berlin, "999999999999999998", backorder), heldAs(order2, berlin, "1", backorder)),
		when:    updateReservation(order1, to("999999999999999999")),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	})
}

func TestMovingAReservation(t *testing.T) {
	moved := func(quantity, fromStocked, fromReserved, stocked, reserved string) events.Fact {
		return events.ReservationMoved{
			ItemID: bolts, ReservationID: order1, Quantity: q(quantity),
			FromLevelID: levelAt(berlin), FromLocationID: berlin, FromStocked: q(fromStocked), FromReserved: q(fromReserved),
			LevelID: levelAt(hamburg), LocationID: hamburg, Stocked: q(stocked), Reserved: q(reserved),
		}
	}
	updated := func(location, from, to string, d events.ReservationDetails, stocked, reserved string) events.Fact {
		return events.ReservationUpdated{
			ItemID: bolts, LevelID: levelAt(location), LocationID: location, ReservationID: order1,
			From: q(from), Quantity: q(to), Details: d, Stocked: q(stocked), Reserved: q(reserved),
		}
	}
	none := events.ReservationDetails{}
	move := domain.ReservationChanges{LocationID: new(hamburg)}
	given := past(created, stocked(berlin, "5"), stocked(hamburg, "4"), held(order1, berlin, "3"), held(order2, berlin, "1"), held(order3, hamburg, "0.5"))

	runItem(t, scenario[*domain.Item]{
		name:  "lets go here and holds there",
		given: given,
		when:  updateReservation(order1, move),
		then:  []events.Fact{moved("3", "5", "1", "4", "3.5")},
	}, scenario[*domain.Item]{
		name:  "shrinks before it moves",
		given: given,
		when:  updateReservation(order1, domain.ReservationChanges{LocationID: new(hamburg), Quantity: new(q("2"))}),
		then:  []events.Fact{updated(berlin, "3", "2", none, "5", "3"), moved("2", "5", "1", "4", "2.5")},
	}, scenario[*domain.Item]{
		name:  "grows after it moved",
		given: given,
		when:  updateReservation(order1, domain.ReservationChanges{LocationID: new(hamburg), Quantity: new(q("3.5"))}),
		then:  []events.Fact{moved("3", "5", "1", "4", "3.5"), updated(hamburg, "3", "3.5", none, "4", "4")},
	}, scenario[*domain.Item]{
		name:  "is described on the way",
		given: given,
		when:  updateReservation(order1, domain.ReservationChanges{LocationID: new(hamburg), Description: domain.Value("gift")}),
		then: []events.Fact{
			updated(berlin, "3", "3", events.ReservationDetails{Description: new("gift")}, "5", "4"), moved("3", "5", "1", "4", "3.5"),
		},
	}, scenario[*domain.Item]{
		name:  "leaves an oversold level",
		given: past(created, stocked(berlin, "5"), stocked(hamburg, "3"), held(order1, berlin, "3"), lost(berlin, "5")),
		when:  updateReservation(order1, move),
		then:  []events.Fact{moved("3", "0", "0", "3", "3")},
	}, scenario[*domain.Item]{
		name:    "is checked where it goes, for all it holds",
		given:   past(created, stocked(berlin, "5"), stocked(hamburg, "2.5"), held(order1, berlin, "3")),
		when:    updateReservation(order1, move),
		refused: "insufficient_stock", details: short(hamburg, "3", "2.5", "0", "2.5"),
	}, scenario[*domain.Item]{
		name:    "and for all it will hold",
		given:   given,
		when:    updateReservation(order1, domain.ReservationChanges{LocationID: new(hamburg), Quantity: new(q("4"))}),
		refused: "insufficient_stock", details: short(hamburg, "4", "4", "0.5", "3.5"),
	}, scenario[*domain.Item]{
		name:  "goes anywhere on backorder",
		given: past(created, stocked(berlin, "5"), stocked(hamburg, "0"), held(order1, berlin, "3")),
		when:  updateReservation(order1, domain.ReservationChanges{LocationID: new(hamburg), AllowBackorder: new(true)}),
		then:  []events.Fact{updated(berlin, "3", "3", backorder, "5", "3"), moved("3", "5", "0", "0", "3")},
	}, scenario[*domain.Item]{
		name:    "but only where the item is stocked",
		given:   given,
		when:    updateReservation(order1, domain.ReservationChanges{LocationID: new(munich)}),
		refused: "not_found", details: details{"inventory_item_id": bolts, "location_id": munich},
	}, scenario[*domain.Item]{
		name:  "to where it is changes nothing",
		given: given,
		when:  updateReservation(order1, domain.ReservationChanges{LocationID: new(berlin)}),
	}, scenario[*domain.Item]{
		name: "does not leave behind what cannot be written down",
		given: past(created, stocked(berlin, "0"), stocked(hamburg, "9"),
			heldAs(order2, berlin, "0.25", backorder), heldAs(order1, berlin, "0.25", backorder), heldAs(order3, berlin, "10000000000000000.5", backorder)),
		when:    updateReservation(order1, move),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	}, scenario[*domain.Item]{
		name: "nor makes it so on the way, when it grows afterwards",
		given: past(created, stocked(berlin, "5"), stocked(hamburg, "0"),
			heldAs(order1, berlin, "0.25", backorder), heldAs(order3, hamburg, "10000000000000000.5", backorder)),
		when:    updateReservation(order1, domain.ReservationChanges{LocationID: new(hamburg), Quantity: new(q("0.5"))}),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	})
}

func TestReleasing(t *testing.T) {
	gone := func(quantity, stocked, after string) []events.Fact {
		return []events.Fact{events.ReservationReleased{
			ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, ReservationID: order1,
			Quantity: q(quantity), Stocked: q(stocked), Reserved: q(after),
		}}
	}
	runItem(t, scenario[*domain.Item]{
		name:  "lets go of all it holds",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), held(order2, berlin, "1.5")),
		when:  release(order1),
		then:  gone("3", "5", "1.5"),
	}, scenario[*domain.Item]{
		name:  "of what is left of it",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), shipped(order1, "1")),
		when:  release(order1),
		then:  gone("2", "4", "0"),
	}, scenario[*domain.Item]{
		name:  "also when the level is oversold",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), held(order2, berlin, "2"), lost(berlin, "5")),
		when:  release(order1),
		then:  gone("3", "0", "2"),
	}, scenario[*domain.Item]{
		name:    "twice finds nothing to let go of",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), letGo(order1)),
		when:    release(order1),
		refused: "not_found", details: details{"reservation_id": order1},
	}, scenario[*domain.Item]{
		name:    "one that never was",
		given:   past(created, stocked(berlin, "5")),
		when:    release(order1),
		refused: "not_found", details: details{"reservation_id": order1},
	}, scenario[*domain.Item]{
		name: "does not leave behind what cannot be written down",
		given: past(created, stocked(berlin, "0"),
			heldAs(order2, berlin, "0.25", backorder), heldAs(order1, berlin, "0.25", backorder), heldAs(order3, berlin, "10000000000000000.5", backorder)),
		when:    release(order1),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	})
}

func TestRestoringAReservation(t *testing.T) {
	back := func(location, quantity string, d events.ReservationDetails, stocked, after string) []events.Fact {
		return []events.Fact{events.ReservationRestored{
			ItemID: bolts, LevelID: levelAt(location), LocationID: location, ReservationID: order1,
			Quantity: q(quantity), Details: d, Stocked: q(stocked), Reserved: q(after),
		}}
	}
	gift := events.ReservationDetails{Description: new("gift"), Metadata: raw(`{"a":1}`)}
	runItem(t, scenario[*domain.Item]{
		name:  "holds again what it held, as it was described",
		given: past(created, stocked(berlin, "5"), heldAs(order1, berlin, "3", gift), held(order2, berlin, "1"), letGo(order1)),
		when:  restoreReleased(order1),
		then:  back(berlin, "3", gift, "5", "4"),
	}, scenario[*domain.Item]{
		name:  "and what was left of it",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), shipped(order1, "2"), letGo(order1)),
		when:  restoreReleased(order1),
		then:  back(berlin, "1", events.ReservationDetails{}, "3", "1"),
	}, scenario[*domain.Item]{
		name:    "not what was promised to another meanwhile",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), letGo(order1), held(order2, berlin, "2.5")),
		when:    restoreReleased(order1),
		refused: "insufficient_stock", details: short(berlin, "3", "5", "2.5", "2.5"),
	}, scenario[*domain.Item]{
		name:  "unless it allows backorder",
		given: past(created, stocked(berlin, "5"), heldAs(order1, berlin, "3", backorder), letGo(order1), held(order2, berlin, "5")),
		when:  restoreReleased(order1),
		then:  back(berlin, "3", backorder, "5", "8"),
	}, scenario[*domain.Item]{
		name:  "twice is once",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "2")),
		when:  restoreReservation(domain.Reservation{ID: order1, LocationID: berlin, Quantity: q("2")}),
	}, scenario[*domain.Item]{
		name:    "not where the item is no longer stocked",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), letGo(order1), unstocked(berlin)),
		when:    restoreReleased(order1),
		refused: "not_found", details: details{"inventory_item_id": bolts, "location_id": berlin},
	}, scenario[*domain.Item]{
		name:  "one the item forgot, as the stream remembers it",
		given: past(created, stocked(berlin, "5")),
		when:  restoreReservation(domain.Reservation{ID: order1, LocationID: berlin, Quantity: q("2"), Details: gift, Created: day, Released: day}),
		then:  back(berlin, "2", gift, "5", "2"),
	}, scenario[*domain.Item]{
		name:    "backorders stay within eighteen digits",
		given:   past(created, stocked(berlin, "0"), heldAs(order1, berlin, "1", backorder), letGo(order1), heldAs(order2, berlin, "999999999999999999", backorder)),
		when:    restoreReleased(order1),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	})
}

func TestARestoredReservationIsTheOldOne(t *testing.T) {
	gift := events.ReservationDetails{Description: new("gift")}
	it := fold(created, stocked(berlin, "5"), heldAs(order1, berlin, "3", gift), letGo(order1))
	released, found := it.Released(order1)
	require.True(t, found)

	take(it, must(it.RestoreReservation(bolts, released)))
	_, found = it.Released(order1)
	require.False(t, found)
	r, found := it.Reservation(order1)
	require.True(t, found)
	require.Empty(t, cmp.Diff(domain.Reservation{
		ID: order1, LocationID: berlin, Quantity: q("3"), Details: gift, Created: stamp(3).At, Updated: stamp(5).At,
	}, r))
}

func TestFulfilling(t *testing.T) {
	out := func(quantity, remaining, stocked, reserved string) []events.Fact {
		return []events.Fact{events.ReservationFulfilled{
			ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, ReservationID: order1,
			Quantity: q(quantity), Remaining: q(remaining), Stocked: q(stocked), Reserved: q(reserved),
		}}
	}
	given := past(created, stocked(berlin, "5"), stocked(hamburg, "9"), held(order1, berlin, "3"), held(order2, berlin, "2"))
	runItem(t, scenario[*domain.Item]{
		name:  "the whole, of stock that is all reserved",
		given: given,
		when:  fulfilAll(order1, ""),
		then:  out("3", "0", "2", "2"),
	}, scenario[*domain.Item]{
		name:  "the whole, said outright",
		given: given,
		when:  fulfil(order1, "3", ""),
		then:  out("3", "0", "2", "2"),
	}, scenario[*domain.Item]{
		name:  "a part",
		given: given,
		when:  fulfil(order1, "0.5", ""),
		then:  out("0.5", "2.5", "4.5", "4.5"),
	}, scenario[*domain.Item]{
		name:  "the rest",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), shipped(order1, "2")),
		when:  fulfilAll(order1, ""),
		then:  out("1", "0", "2", "0"),
	}, scenario[*domain.Item]{
		name:    "not more than it holds",
		given:   given,
		when:    fulfil(order1, "3.1", domain.FloorNone),
		refused: "exceeds_reservation", details: details{"inventory_item_id": bolts, "reservation_id": order1, "asked": "3.1", "reserved": "3"},
	}, scenario[*domain.Item]{
		name:    "nor than is left of it",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), shipped(order1, "2")),
		when:    fulfil(order1, "2", ""),
		refused: "exceeds_reservation", details: details{"asked": "2", "reserved": "1"},
	}, scenario[*domain.Item]{
		name:  "what is there of an oversold level",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), held(order2, berlin, "2"), lost(berlin, "2")),
		when:  fulfilAll(order1, ""),
		then:  out("3", "0", "0", "2"),
	}, scenario[*domain.Item]{
		name:    "not what is not there",
		given:   past(created, stocked(berlin, "2"), heldAs(order1, berlin, "3", backorder)),
		when:    fulfilAll(order1, ""),
		refused: "insufficient_stock", details: details{"location_id": berlin, "reservation_id": order1, "asked": "3", "stocked": "2", "reserved": "3", "available": "-1"},
	}, scenario[*domain.Item]{
		name:    "nor under the floor of zero",
		given:   past(created, stocked(berlin, "2"), heldAs(order1, berlin, "3", backorder)),
		when:    fulfil(order1, "2.1", domain.FloorZero),
		refused: "insufficient_stock", details: details{"asked": "2.1", "stocked": "2"},
	}, scenario[*domain.Item]{
		name:  "unless backorders are shipped",
		given: past(created, stocked(berlin, "2"), heldAs(order1, berlin, "3", backorder)),
		when:  fulfilAll(order1, domain.FloorNone),
		then:  out("3", "0", "-1", "0"),
	}, scenario[*domain.Item]{
		name:  "nothing",
		given: given,
		when:  fulfil(order1, "0", ""), refused: "invalid_quantity", details: details{"field": "quantity", "asked": "0"},
	}, scenario[*domain.Item]{
		name:  "less than nothing",
		given: given,
		when:  fulfil(order1, "-1", ""), refused: "invalid_quantity", details: details{"field": "quantity", "asked": "-1"},
	}, scenario[*domain.Item]{
		name:    "one that never was",
		given:   given,
		when:    fulfilAll(order3, ""),
		refused: "not_found", details: details{"reservation_id": order3},
	}, scenario[*domain.Item]{
		name:    "one that is used up",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), shipped(order1, "3")),
		when:    fulfilAll(order1, ""),
		refused: "not_found", details: details{"reservation_id": order1},
	}, scenario[*domain.Item]{
		name:    "one that was let go",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), letGo(order1)),
		when:    fulfilAll(order1, ""),
		refused: "not_found", details: details{"reservation_id": order1},
	}, scenario[*domain.Item]{
		name:    "does not leave behind what cannot be written down",
		given:   past(created, stocked(berlin, "0.000000000000000002"), heldAs(order1, berlin, "1e17", backorder)),
		when:    fulfil(order1, "1e-18", ""),
		refused: "quantity_out_of_range", details: details{"field": "quantity"},
	}, scenario[*domain.Item]{
		name:    "nor is it reserved",
		given:   past(created, stocked(berlin, "5"), heldAs(order1, berlin, "0.5", backorder), heldAs(order2, berlin, "10000000000000000.5", backorder)),
		when:    fulfil(order1, "0.25", ""),
		refused: "quantity_out_of_range", details: details{"field": "reserved_quantity"},
	}, scenario[*domain.Item]{
		name:    "nor in stock",
		given:   past(created, stocked(berlin, "1e17"), held(order1, berlin, "0.5")),
		when:    fulfil(order1, "0.25", ""),
		refused: "quantity_out_of_range", details: details{"field": "stocked_quantity"},
	})
}

// A used-up reservation is over: its id is remembered with nothing, and it cannot
// be restored.
func TestAUsedUpReservationIsOver(t *testing.T) {
	it := fold(created, stocked(berlin, "5"), held(order1, berlin, "3"), shipped(order1, "1"), shipped(order1, "2"))
	_, live := it.Reservation(order1)
	require.False(t, live)
	over, remembered := it.Released(order1)
	require.True(t, remembered)
	require.Equal(t, "0", over.Quantity.String())
	_, err := it.RestoreReservation(bolts, over)
	require.Equal(t, "reservation_used_up", fault.Code(err))
	level, _ := it.Level(berlin)
	require.Equal(t, "2", level.Stocked.String())
	require.Equal(t, "0", level.Reserved.String())
}

func TestRefusalsAreOfTheirKind(t *testing.T) {
	it := fold(created, stocked(berlin, "5"), held(order1, berlin, "5"))
	for kind, ask := range map[fault.Kind]itemAsk{
		fault.NotAllowed: reserve(order2, berlin, "1"),
		fault.Invalid:    reserve(order2, berlin, "-1"),
		fault.NotFound:   reserve(order2, munich, "1"),
		fault.Conflict:   reserve(order1, berlin, "1"),
	} {
		_, err := ask(it)
		require.Equal(t, kind, fault.Of(err).Kind)
		numbered := domain.Line(err, 7)
		require.Equal(t, 7, fault.Of(numbered).Details["line"])
		require.NotContains(t, fault.Of(err).Details, "line", "the refusal itself stays as it is")
	}
	require.NoError(t, domain.Line(nil, 7))
	require.Equal(t, io.EOF, domain.Line(io.EOF, 7), "what is no refusal is nobody's line")

	_, err := reserve(order2, berlin, "1")(it)
	require.EqualError(t, err, "Not enough stock available for item iitem_bolts at location sloc_berlin", "in Medusa's words")
	_, err = reserve(order2, munich, "1")(it)
	require.EqualError(t, err, "Item iitem_bolts is not stocked at location sloc_munich")
}

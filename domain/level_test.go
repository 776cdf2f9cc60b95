package domain_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

func createLevel(n domain.NewLevel) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.CreateLevel(bolts, n) }
}

func adjust(location, delta string, floor domain.Floor) itemAsk {
	return adjustExpecting(location, delta, floor, nil)
}

func adjustExpecting(location, delta string, floor domain.Floor, expect *domain.Expect) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) {
		return it.Adjust(bolts, location, q(delta), floor, expect)
	}
}

func updateLevel(location string, c domain.LevelChanges, floor domain.Floor) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.UpdateLevel(bolts, location, c, floor, nil) }
}

func setStock(location, quantity string, floor domain.Floor) itemAsk {
	return updateLevel(location, domain.LevelChanges{Stocked: new(q(quantity))}, floor)
}

func deleteLevel(location string, force bool) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.DeleteLevel(bolts, location, force, nil) }
}

func adjusted(delta, after, reserved string) []events.Fact {
	return []events.Fact{events.StockAdjusted{
		ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, Delta: q(delta), Stocked: q(after), Reserved: q(reserved),
	}}
}

func set(from, to, reserved string) events.Fact {
	return events.StockSet{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, From: q(from), Stocked: q(to), Reserved: q(reserved)}
}

func TestCreatingALevel(t *testing.T) {
	runItem(t, scenario[*domain.Item]{
		name:  "stocks the item at a location",
		given: past(created),
		when:  createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin, Stocked: q("2.5"), Incoming: q("1"), Metadata: raw(`{ "a": 1 }`)}),
		then: []events.Fact{events.LevelCreated{
			ItemID: bolts, LevelID: "ilev_1", LocationID: berlin, Stocked: q("2.5"), Incoming: q("1"), Metadata: raw(`{"a":1}`),
		}},
	}, scenario[*domain.Item]{
		name:  "with nothing in stock",
		given: past(created, stocked(hamburg, "4")),
		when:  createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin}),
		then:  []events.Fact{events.LevelCreated{ItemID: bolts, LevelID: "ilev_1", LocationID: berlin}},
	}, scenario[*domain.Item]{
		name:    "once at each location",
		given:   past(created, stocked(berlin, "4")),
		when:    createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin}),
		refused: "level_exists", details: details{"inventory_item_id": bolts, "location_id": berlin, "level_id": levelAt(berlin)},
	}, scenario[*domain.Item]{
		name:    "under an id of its own",
		given:   past(created, stocked(berlin, "4")),
		when:    createLevel(domain.NewLevel{ID: levelAt(berlin), LocationID: hamburg}),
		refused: "level_exists", details: details{"location_id": berlin, "level_id": levelAt(berlin)},
	}, scenario[*domain.Item]{
		name:  "again after the level was deleted",
		given: past(created, stocked(berlin, "4"), unstocked(berlin)),
		when:  createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin, Stocked: q("1")}),
		then:  []events.Fact{events.LevelCreated{ItemID: bolts, LevelID: "ilev_1", LocationID: berlin, Stocked: q("1")}},
	}, scenario[*domain.Item]{
		name:    "never with less than nothing",
		given:   past(created),
		when:    createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin, Stocked: q("-1")}),
		refused: "invalid_quantity", details: details{"field": "stocked_quantity", "asked": "-1"},
	}, scenario[*domain.Item]{
		name:    "nor with less than nothing on its way",
		given:   past(created),
		when:    createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin, Incoming: q("-0.5")}),
		refused: "invalid_quantity", details: details{"field": "incoming_quantity", "asked": "-0.5"},
	}, scenario[*domain.Item]{
		name:    "nor with more than can be written down",
		given:   past(created),
		when:    createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin, Stocked: events.Units(1e18)}),
		refused: "quantity_out_of_range", details: details{"field": "stocked_quantity"},
	}, scenario[*domain.Item]{
		name:    "metadata is an object",
		given:   past(created),
		when:    createLevel(domain.NewLevel{ID: "ilev_1", LocationID: berlin, Metadata: raw(`7`)}),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	})
}

func TestAdjustingStock(t *testing.T) {
	five := past(created, stocked(berlin, "5"), held(order1, berlin, "3"))
	refused := func(asked string) details {
		return details{"asked": asked, "stocked": "5", "reserved": "3", "available": "2", "inventory_item_id": bolts, "location_id": berlin}
	}
	runItem(t, scenario[*domain.Item]{
		name:  "goods come in",
		given: five,
		when:  adjust(berlin, "2.5", ""),
		then:  adjusted("2.5", "7.5", "3"),
	}, scenario[*domain.Item]{
		name:  "goods go out, down to what is reserved",
		given: five,
		when:  adjust(berlin, "-2", domain.FloorReserved),
		then:  adjusted("-2", "3", "3"),
	}, scenario[*domain.Item]{
		name:  "but not a crumb below it",
		given: five,
		when:  adjust(berlin, "-2.000000000000001", domain.FloorReserved), refused: "below_reserved", details: refused("-2.000000000000001"),
	}, scenario[*domain.Item]{
		name:  "no floor named is the reserved one",
		given: five,
		when:  adjust(berlin, "-3", ""), refused: "below_reserved", details: refused("-3"),
	}, scenario[*domain.Item]{
		name:  "promised goods may be lost, down to nothing",
		given: five,
		when:  adjust(berlin, "-5", domain.FloorZero),
		then:  adjusted("-5", "0", "3"),
	}, scenario[*domain.Item]{
		name:  "but not goods that are not there",
		given: five,
		when:  adjust(berlin, "-5.1", domain.FloorZero), refused: "below_zero", details: refused("-5.1"),
	}, scenario[*domain.Item]{
		name:  "backorders are shipped without a floor",
		given: five,
		when:  adjust(berlin, "-9", domain.FloorNone),
		then:  adjusted("-9", "-4", "3"),
	}, scenario[*domain.Item]{
		name:  "goods come in to an oversold level, under any floor",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), lost(berlin, "4")),
		when:  adjust(berlin, "1", domain.FloorReserved),
		then:  adjusted("1", "2", "3"),
	}, scenario[*domain.Item]{
		name:  "and to one below zero",
		given: past(created, stocked(berlin, "5"), lost(berlin, "9")),
		when:  adjust(berlin, "1", domain.FloorZero),
		then:  adjusted("1", "-3", "0"),
	}, scenario[*domain.Item]{
		name:    "an oversold level gives nothing more away",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "3"), lost(berlin, "4")),
		when:    adjust(berlin, "-1", ""),
		refused: "below_reserved", details: details{"asked": "-1", "stocked": "1", "reserved": "3", "available": "-2"},
	}, scenario[*domain.Item]{
		name:    "a level below zero loses nothing more",
		given:   past(created, stocked(berlin, "5"), lost(berlin, "9")),
		when:    adjust(berlin, "-1", domain.FloorZero),
		refused: "below_zero", details: details{"asked": "-1", "stocked": "-4"},
	}, scenario[*domain.Item]{
		name:  "by nothing changes nothing",
		given: five,
		when:  adjust(berlin, "0", ""),
	}, scenario[*domain.Item]{
		name:  "up to eighteen digits",
		given: past(created, stocked(berlin, "999999999999999998")),
		when:  adjust(berlin, "1", ""),
		then:  adjusted("1", "999999999999999999", "0"),
	}, scenario[*domain.Item]{
		name:    "and no more",
		given:   past(created, stocked(berlin, "999999999999999999")),
		when:    adjust(berlin, "1", ""),
		refused: "quantity_out_of_range", details: details{"field": "stocked_quantity"},
	}, scenario[*domain.Item]{
		name:    "great and small at once are more",
		given:   past(created, stocked(berlin, "1e17")),
		when:    adjust(berlin, "1e-18", ""),
		refused: "quantity_out_of_range", details: details{"field": "stocked_quantity"},
	}, scenario[*domain.Item]{
		name:  "a difference that cannot be written down",
		given: past(created, stocked(berlin, "5")),
		when: func(it *domain.Item) ([]events.Fact, error) {
			return it.Adjust(bolts, berlin, events.Units(1e18), "", nil)
		},
		refused: "quantity_out_of_range", details: details{"field": "adjustment"},
	}, scenario[*domain.Item]{
		name:    "where the item is not stocked",
		given:   five,
		when:    adjust(hamburg, "1", ""),
		refused: "not_found", details: details{"inventory_item_id": bolts, "location_id": hamburg},
	})
}

func TestAFloorIsOneOfThree(t *testing.T) {
	for _, floor := range []domain.Floor{"", domain.FloorReserved, domain.FloorZero, domain.FloorNone} {
		require.NoError(t, floor.Check())
	}
	err := domain.Floor("ground").Check()
	require.Equal(t, "invalid_value", fault.Code(err))
	require.Equal(t, "floor", fault.Of(err).Details["field"])
	require.ErrorContains(t, err, `"ground"`)
}

func TestExpectations(t *testing.T) {
	// The level's last change is the third fact.
	given := past(created, stocked(berlin, "5"), held(order1, berlin, "3"), stocked(hamburg, "1"))
	asks := map[string]func(it *domain.Item, e *domain.Expect) ([]events.Fact, error){
		"adjust": func(it *domain.Item, e *domain.Expect) ([]events.Fact, error) {
			return it.Adjust(bolts, berlin, q("1"), "", e)
		},
		"update level": func(it *domain.Item, e *domain.Expect) ([]events.Fact, error) {
			return it.UpdateLevel(bolts, berlin, domain.LevelChanges{Stocked: new(q("6"))}, "", e)
		},
		"reserve": func(it *domain.Item, e *domain.Expect) ([]events.Fact, error) {
			return it.Reserve(bolts, domain.NewReservation{ID: order2, LocationID: berlin, Quantity: q("1")}, e)
		},
		"fulfil": func(it *domain.Item, e *domain.Expect) ([]events.Fact, error) {
			return it.Fulfil(bolts, order1, nil, "", e)
		},
		"delete level": func(it *domain.Item, e *domain.Expect) ([]events.Fact, error) {
			take(it, must(it.Release(bolts, order1)))
			take(it, must(it.Reserve(bolts, domain.NewReservation{ID: order2, LocationID: berlin, Quantity: q("3")}, nil)))
			facts, err := it.DeleteLevel(bolts, berlin, true, e)
			if fault.Code(err) == "level_has_reservations" { // so the expectation was met
				err, facts = nil, []events.Fact{events.LevelDeleted{}}
			}
			return facts, err
		},
	}
	for name, ask := range asks {
		version := uint64(3)
		if name == "delete level" {
			version = 6
		}
		t.Run(name, func(t *testing.T) {
			for _, met := range []*domain.Expect{
				nil,
				{},
				{Stocked: new(q("5.0"))},
				{Reserved: new(q("3"))},
				{Version: &version},
				{Stocked: new(q("5")), Reserved: new(q("3")), Version: &version},
			} {
				facts, err := ask(fold(given...), met)
				require.NoError(t, err)
				require.Len(t, facts, 1)
			}
			for _, failed := range []struct {
				expect *domain.Expect
				details
			}{
				{&domain.Expect{Stocked: new(q("4"))}, details{"field": "expect.stocked_quantity", "expected": "4", "actual": "5"}},
				{&domain.Expect{Stocked: new(q("0"))}, details{"field": "expect.stocked_quantity", "expected": "0", "actual": "5"}},
				{&domain.Expect{Stocked: new(q("5")), Reserved: new(q("2.5"))}, details{"field": "expect.reserved_quantity", "expected": "2.5", "actual": "3"}},
				{&domain.Expect{Version: new(uint64(2))}, details{"field": "expect.version", "expected": "2"}},
			} {
				run(t, newItem, []scenario[*domain.Item]{{
					name:    failed.details["field"],
					given:   given,
					when:    func(it *domain.Item) ([]events.Fact, error) { return ask(it, failed.expect) },
					refused: "expectation_failed", details: failed.details,
				}})
				_, err := ask(fold(given...), failed.expect)
				require.Equal(t, fault.Conflict, fault.Of(err).Kind)
				require.ErrorContains(t, err, failed.details["expected"], "the sentence names both values")
				require.ErrorContains(t, err, failed.details["actual"])
				require.Equal(t, berlin, fault.Of(err).Details["location_id"])
			}
		})
	}
}

func TestUpdatingALevel(t *testing.T) {
	five := past(created, stocked(berlin, "5"), held(order1, berlin, "3"))
	refused := func(asked string) details {
		return details{"asked": asked, "stocked": "5", "reserved": "3", "available": "2", "location_id": berlin}
	}
	incoming := func(from, to string) events.Fact {
		return events.IncomingSet{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, From: q(from), Incoming: q(to)}
	}
	metadata := func(text string) events.Fact {
		f := events.LevelUpdated{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin}
		if text != "" {
			f.Metadata = raw(text)
		}
		return f
	}
	runItem(t, scenario[*domain.Item]{
		name:  "stock was counted",
		given: five,
		when:  setStock(berlin, "7", ""),
		then:  []events.Fact{set("5", "7", "3")},
	}, scenario[*domain.Item]{
		name:  "everything at once",
		given: five,
		when:  updateLevel(berlin, domain.LevelChanges{Stocked: new(q("7")), Incoming: new(q("1.5")), Metadata: domain.Value(raw(`{"shelf":"3"}`))}, ""),
		then:  []events.Fact{set("5", "7", "3"), incoming("0", "1.5"), metadata(`{"shelf":"3"}`)},
	}, scenario[*domain.Item]{
		name:  "only what differs",
		given: past(created, stocked(berlin, "5"), announced(berlin, "2")),
		when:  updateLevel(berlin, domain.LevelChanges{Stocked: new(q("5.0")), Incoming: new(q("3"))}, ""),
		then:  []events.Fact{incoming("2", "3")},
	}, scenario[*domain.Item]{
		name:  "what is so already changes nothing",
		given: past(created, stocked(berlin, "5"), announced(berlin, "2")),
		when:  updateLevel(berlin, domain.LevelChanges{Stocked: new(q("5")), Incoming: new(q("2")), Metadata: domain.Null[json.RawMessage]()}, ""),
	}, scenario[*domain.Item]{
		name:  "nothing named changes nothing",
		given: five,
		when:  updateLevel(berlin, domain.LevelChanges{}, ""),
	}, scenario[*domain.Item]{
		name: "metadata is merged, and null clears it",
		given: past(created, one(events.LevelCreated{
			ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, Metadata: raw(`{"a":1,"b":2}`),
		})),
		when: updateLevel(berlin, domain.LevelChanges{Metadata: domain.Value(raw(`{"b":null,"c":3}`))}, ""),
		then: []events.Fact{metadata(`{"a":1,"c":3}`)},
	}, scenario[*domain.Item]{
		name: "null clears all metadata",
		given: past(created, one(events.LevelCreated{
			ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, Metadata: raw(`{"a":1,"b":2}`),
		})),
		when: updateLevel(berlin, domain.LevelChanges{Metadata: domain.Null[json.RawMessage]()}, ""),
		then: []events.Fact{metadata("")},
	}, scenario[*domain.Item]{
		name:    "metadata is an object",
		given:   five,
		when:    updateLevel(berlin, domain.LevelChanges{Stocked: new(q("7")), Metadata: domain.Value(raw(`[]`))}, ""),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	}, scenario[*domain.Item]{
		name:  "down to what is reserved",
		given: five,
		when:  setStock(berlin, "3", domain.FloorReserved),
		then:  []events.Fact{set("5", "3", "3")},
	}, scenario[*domain.Item]{
		name:  "but not below",
		given: five,
		when:  setStock(berlin, "2.9", ""), refused: "below_reserved", details: refused("-2.1"),
	}, scenario[*domain.Item]{
		name:  "promised goods may be found missing",
		given: five,
		when:  setStock(berlin, "0", domain.FloorZero),
		then:  []events.Fact{set("5", "0", "3")},
	}, scenario[*domain.Item]{
		name:  "there is no count below nothing",
		given: five,
		when:  setStock(berlin, "-1", domain.FloorZero), refused: "below_zero", details: refused("-6"),
	}, scenario[*domain.Item]{
		name:  "unless backorders are shipped",
		given: five,
		when:  setStock(berlin, "-1", domain.FloorNone),
		then:  []events.Fact{set("5", "-1", "3")},
	}, scenario[*domain.Item]{
		name:  "an oversold level may be counted up, though not to what is reserved",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "3"), lost(berlin, "4")),
		when:  setStock(berlin, "2", ""),
		then:  []events.Fact{set("1", "2", "3")},
	}, scenario[*domain.Item]{
		name:    "less than nothing is never on its way",
		given:   five,
		when:    updateLevel(berlin, domain.LevelChanges{Stocked: new(q("7")), Incoming: new(q("-1"))}, domain.FloorNone),
		refused: "invalid_quantity", details: details{"field": "incoming_quantity", "asked": "-1"},
	}, scenario[*domain.Item]{
		name:  "more than can be written down",
		given: five,
		when: func(it *domain.Item) ([]events.Fact, error) {
			return it.UpdateLevel(bolts, berlin, domain.LevelChanges{Stocked: new(events.Units(1e18))}, domain.FloorNone, nil)
		},
		refused: "quantity_out_of_range", details: details{"field": "stocked_quantity"},
	}, scenario[*domain.Item]{
		name:  "or announced",
		given: five,
		when: func(it *domain.Item) ([]events.Fact, error) {
			return it.UpdateLevel(bolts, berlin, domain.LevelChanges{Incoming: new(events.Units(1e18))}, "", nil)
		},
		refused: "quantity_out_of_range", details: details{"field": "incoming_quantity"},
	}, scenario[*domain.Item]{
		name:    "where the item is not stocked",
		given:   five,
		when:    setStock(hamburg, "1", ""),
		refused: "not_found", details: details{"inventory_item_id": bolts, "location_id": hamburg},
	})
}

func TestDeletingALevel(t *testing.T) {
	gone := func(stocked string) []events.Fact {
		return []events.Fact{events.LevelDeleted{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, Stocked: q(stocked)}}
	}
	runItem(t, scenario[*domain.Item]{
		name:  "when it is empty",
		given: past(created, stocked(berlin, "0"), stocked(hamburg, "3")),
		when:  deleteLevel(berlin, false),
		then:  gone("0"),
	}, scenario[*domain.Item]{
		name:    "not while anything is in stock",
		given:   past(created, stocked(berlin, "5")),
		when:    deleteLevel(berlin, false),
		refused: "level_has_stock", details: details{"inventory_item_id": bolts, "location_id": berlin, "stocked": "5"},
	}, scenario[*domain.Item]{
		name:  "unless it is forced",
		given: past(created, stocked(berlin, "5")),
		when:  deleteLevel(berlin, true),
		then:  gone("5"),
	}, scenario[*domain.Item]{
		name:    "nor below zero, unless it is forced",
		given:   past(created, stocked(berlin, "0"), lost(berlin, "1")),
		when:    deleteLevel(berlin, false),
		refused: "level_has_stock", details: details{"stocked": "-1"},
	}, scenario[*domain.Item]{
		name:    "never while anything is reserved",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "2")),
		when:    deleteLevel(berlin, false),
		refused: "level_has_reservations", details: details{"location_id": berlin, "reserved": "2", "stocked": "5", "available": "3"},
	}, scenario[*domain.Item]{
		name:    "not even by force",
		given:   past(created, stocked(berlin, "5"), held(order1, berlin, "2")),
		when:    deleteLevel(berlin, true),
		refused: "level_has_reservations", details: details{"reserved": "2"},
	}, scenario[*domain.Item]{
		name:    "never while anything is on its way",
		given:   past(created, stocked(berlin, "0"), announced(berlin, "4")),
		when:    deleteLevel(berlin, false),
		refused: "level_has_incoming", details: details{"location_id": berlin, "incoming": "4"},
	}, scenario[*domain.Item]{
		name:    "not even that by force",
		given:   past(created, stocked(berlin, "5"), announced(berlin, "4")),
		when:    deleteLevel(berlin, true),
		refused: "level_has_incoming", details: details{"incoming": "4"},
	}, scenario[*domain.Item]{
		name:    "where the item is not stocked",
		given:   past(created, stocked(berlin, "0"), unstocked(berlin)),
		when:    deleteLevel(berlin, true),
		refused: "not_found", details: details{"inventory_item_id": bolts, "location_id": berlin},
	})
}

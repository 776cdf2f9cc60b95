package domain_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

type itemAsk = func(*domain.Item) ([]events.Fact, error)

func createItem(a events.ItemAttributes) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.Create(bolts, a) }
}

func updateItem(c domain.ItemChanges) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.Update(bolts, c) }
}

func deleteItem(links ...events.Link) itemAsk {
	return func(it *domain.Item) ([]events.Fact, error) { return it.Delete(bolts, links) }
}

func restoreItem(it *domain.Item) ([]events.Fact, error) { return it.Restore(bolts) }

func TestCreatingAnItem(t *testing.T) {
	full := events.ItemAttributes{
		SKU: new("M8"), Title: new("Bolt"), Weight: new(q("0.5")), Width: new(q("0")), RequiresShipping: true, Metadata: raw(`{"a":1}`),
	}
	runItem(t, scenario[*domain.Item]{
		name: "an item comes into being",
		when: createItem(full),
		then: []events.Fact{events.ItemCreated{ItemID: bolts, Attributes: full}},
	}, scenario[*domain.Item]{
		name: "nothing need be known of it",
		when: createItem(events.ItemAttributes{}),
		then: []events.Fact{events.ItemCreated{ItemID: bolts}},
	}, scenario[*domain.Item]{
		name: "its metadata is written one way: sorted, without blanks and nulls",
		when: createItem(events.ItemAttributes{Metadata: raw("{ \"b\": [ 1 ],\n\"a\": 2, \"c\": null }")}),
		then: []events.Fact{events.ItemCreated{ItemID: bolts, Attributes: events.ItemAttributes{Metadata: raw(`{"a":2,"b":[1]}`)}}},
	}, scenario[*domain.Item]{
		name: "null metadata is none",
		when: createItem(events.ItemAttributes{Metadata: raw(" null ")}),
		then: []events.Fact{events.ItemCreated{ItemID: bolts}},
	}, scenario[*domain.Item]{
		name:    "metadata is an object",
		when:    createItem(events.ItemAttributes{Metadata: raw(`[1]`)}),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	}, scenario[*domain.Item]{
		name:    "an id is used once",
		given:   past(created),
		when:    createItem(full),
		refused: "item_exists", details: details{"inventory_item_id": bolts},
	}, scenario[*domain.Item]{
		name:    "also after the item was deleted",
		given:   past(created, deleted),
		when:    createItem(full),
		refused: "item_exists", details: details{"inventory_item_id": bolts},
	}, scenario[*domain.Item]{
		name:    "an empty SKU is none, and says so with null",
		when:    createItem(events.ItemAttributes{SKU: new("")}),
		refused: "invalid_value", details: details{"field": "sku"},
	}, scenario[*domain.Item]{
		name:    "nothing weighs less than nothing",
		when:    createItem(events.ItemAttributes{Weight: new(q("-0.1")), Height: new(q("-2"))}),
		refused: "invalid_quantity", details: details{"field": "weight", "asked": "-0.1"},
	}, scenario[*domain.Item]{
		name:    "or measures more than can be written down",
		when:    createItem(events.ItemAttributes{Height: new(events.Units(1e18))}),
		refused: "quantity_out_of_range", details: details{"field": "height"},
	})
}

func TestUpdatingAnItem(t *testing.T) {
	before := events.ItemAttributes{SKU: new("M8"), Title: new("Bolt"), Weight: new(q("0.5")), Metadata: raw(`{"a":1,"b":{"c":2}}`)}
	with := func(change func(*events.ItemAttributes)) events.ItemAttributes {
		after := before
		change(&after)
		return after
	}
	updated := func(after events.ItemAttributes, changed ...string) []events.Fact {
		return []events.Fact{events.ItemUpdated{ItemID: bolts, Changed: changed, Attributes: after}}
	}
	runItem(t, scenario[*domain.Item]{
		name:  "a value replaces what was there",
		given: past(describedAs(before)),
		when:  updateItem(domain.ItemChanges{Title: domain.Value("Long bolt"), Weight: domain.Value(q("0.75")), RequiresShipping: domain.Value(true)}),
		then: updated(with(func(a *events.ItemAttributes) {
			a.Title, a.Weight, a.RequiresShipping = new("Long bolt"), new(q("0.75")), true
		}), "title", "weight", "requires_shipping"),
	}, scenario[*domain.Item]{
		name:  "null clears, absent leaves",
		given: past(describedAs(before)),
		when:  updateItem(domain.ItemChanges{Title: domain.Null[string](), Weight: domain.Null[events.Quantity](), Metadata: domain.Null[json.RawMessage]()}),
		then: updated(with(func(a *events.ItemAttributes) { a.Title, a.Weight, a.Metadata = nil, nil, nil }),
			"title", "weight", "metadata"),
	}, scenario[*domain.Item]{
		name:  "every attribute can be set",
		given: past(created),
		when: updateItem(domain.ItemChanges{
			SKU: domain.Value("1"), Title: domain.Value("2"), Description: domain.Value("3"), Thumbnail: domain.Value("4"),
			OriginCountry: domain.Value("5"), HSCode: domain.Value("6"), MIDCode: domain.Value("7"), Material: domain.Value("8"),
			UnitOfMeasure: domain.Value("9"), Weight: domain.Value(q("10")), Length: domain.Value(q("11")), Height: domain.Value(q("12")),
			Width: domain.Value(q("13")), RequiresShipping: domain.Value(true), Metadata: domain.Value(raw(`{"n":14}`)),
		}),
		then: updated(events.ItemAttributes{
			SKU: new("1"), Title: new("2"), Description: new("3"), Thumbnail: new("4"), OriginCountry: new("5"), HSCode: new("6"),
			MIDCode: new("7"), Material: new("8"), UnitOfMeasure: new("9"), Weight: new(q("10")), Length: new(q("11")), Height: new(q("12")),
			Width: new(q("13")), RequiresShipping: true, Metadata: raw(`{"n":14}`),
		}, "sku", "title", "description", "thumbnail", "origin_country", "hs_code", "mid_code", "material", "unit_of_measure",
			"weight", "length", "height", "width", "requires_shipping", "metadata"),
	}, scenario[*domain.Item]{
		name:  "metadata is merged key by key; a null key goes",
		given: past(describedAs(before)),
		when:  updateItem(domain.ItemChanges{Metadata: domain.Value(raw(`{"d":4,"b":{"e":5},"a":null,"z":null}`))}),
		then:  updated(with(func(a *events.ItemAttributes) { a.Metadata = raw(`{"b":{"e":5},"d":4}`) }), "metadata"),
	}, scenario[*domain.Item]{
		name:  "what is so already changes nothing",
		given: past(describedAs(before)),
		when: updateItem(domain.ItemChanges{
			SKU: domain.Value("M8"), Description: domain.Null[string](), Weight: domain.Value(q("0.50")),
			RequiresShipping: domain.Value(false), Metadata: domain.Value(raw(`{ "a" : 1 }`)),
		}),
	}, scenario[*domain.Item]{
		name:  "nothing named changes nothing",
		given: past(describedAs(before)),
		when:  updateItem(domain.ItemChanges{}),
	}, scenario[*domain.Item]{
		name:  "clearing metadata that is not there changes nothing",
		given: past(created),
		when:  updateItem(domain.ItemChanges{Metadata: domain.Value(raw("null"))}),
	}, scenario[*domain.Item]{
		name:    "metadata is an object",
		given:   past(describedAs(before)),
		when:    updateItem(domain.ItemChanges{Title: domain.Value("x"), Metadata: domain.Value(raw(`"text"`))}),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	}, scenario[*domain.Item]{
		name:    "an item is shipped or it is not",
		given:   past(created),
		when:    updateItem(domain.ItemChanges{RequiresShipping: domain.Null[bool]()}),
		refused: "invalid_value", details: details{"field": "requires_shipping"},
	}, scenario[*domain.Item]{
		name:    "a SKU is not empty",
		given:   past(created),
		when:    updateItem(domain.ItemChanges{SKU: domain.Value("")}),
		refused: "invalid_value", details: details{"field": "sku"},
	}, scenario[*domain.Item]{
		name:    "sizes are not negative",
		given:   past(created),
		when:    updateItem(domain.ItemChanges{Length: domain.Value(q("-1"))}),
		refused: "invalid_quantity", details: details{"field": "length", "asked": "-1"},
	}, scenario[*domain.Item]{
		name:    "an item that never was",
		when:    updateItem(domain.ItemChanges{Title: domain.Value("x")}),
		refused: "not_found", details: details{"inventory_item_id": bolts},
	}, scenario[*domain.Item]{
		name:    "an item that is no more",
		given:   past(created, deleted),
		when:    updateItem(domain.ItemChanges{Title: domain.Value("x")}),
		refused: "not_found", details: details{"inventory_item_id": bolts},
	})
}

func TestDeletingAnItem(t *testing.T) {
	link := events.Link{VariantID: "variant_1", Required: q("4")}
	runItem(t, scenario[*domain.Item]{
		name:  "takes its levels with it, whatever they stock, oldest first",
		given: past(describedAs(events.ItemAttributes{SKU: new("M8")}), stocked(hamburg, "5"), stocked(berlin, "0"), announced(berlin, "7")),
		when:  deleteItem(link),
		then: []events.Fact{
			events.LevelDeleted{ItemID: bolts, LevelID: levelAt(hamburg), LocationID: hamburg, Stocked: q("5")},
			events.LevelDeleted{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, Incoming: q("7")},
			events.ItemDeleted{ItemID: bolts, SKU: new("M8"), Levels: []string{levelAt(hamburg), levelAt(berlin)}, Links: []events.Link{link}},
		},
	}, scenario[*domain.Item]{
		name:  "without levels",
		given: past(created),
		when:  deleteItem(),
		then:  []events.Fact{events.ItemDeleted{ItemID: bolts, Levels: []string{}}},
	}, scenario[*domain.Item]{
		name:    "not while anything is reserved",
		given:   past(created, stocked(berlin, "5"), stocked(hamburg, "5"), held(order1, berlin, "2"), held(order2, hamburg, "0.5")),
		when:    deleteItem(),
		refused: "item_has_reservations", details: details{"inventory_item_id": bolts, "reserved": "2.5"},
	}, scenario[*domain.Item]{
		name:  "once everything is let go or shipped it works",
		given: past(created, stocked(berlin, "5"), held(order1, berlin, "2"), held(order2, berlin, "1"), letGo(order1), shipped(order2, "1")),
		when:  deleteItem(),
		then: []events.Fact{
			events.LevelDeleted{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, Stocked: q("4")},
			events.ItemDeleted{ItemID: bolts, Levels: []string{levelAt(berlin)}},
		},
	}, scenario[*domain.Item]{
		name:  "twice is once",
		given: past(created, stocked(berlin, "5"), deleted),
		when:  deleteItem(link),
	}, scenario[*domain.Item]{
		name:    "an item that never was",
		when:    deleteItem(),
		refused: "not_found", details: details{"inventory_item_id": bolts},
	})
}

func TestRestoringAnItem(t *testing.T) {
	back := func(location, quantity, incoming string) events.Fact {
		return events.LevelRestored{ItemID: bolts, LevelID: levelAt(location), LocationID: location, Stocked: q(quantity), Incoming: q(incoming)}
	}
	runItem(t, scenario[*domain.Item]{
		name:  "brings back the levels that went with it",
		given: past(describedAs(events.ItemAttributes{SKU: new("M8")}), stocked(berlin, "5"), announced(berlin, "2"), stocked(hamburg, "0"), deleted),
		when:  restoreItem,
		then:  []events.Fact{events.ItemRestored{ItemID: bolts, SKU: new("M8")}, back(berlin, "5", "2"), back(hamburg, "0", "0")},
	}, scenario[*domain.Item]{
		name:  "and no level that was deleted before it",
		given: past(created, stocked(berlin, "5"), stocked(hamburg, "3"), unstocked(berlin), deleted),
		when:  restoreItem,
		then:  []events.Fact{events.ItemRestored{ItemID: bolts}, back(hamburg, "3", "0")},
	}, scenario[*domain.Item]{
		name:  "nor one that an earlier deletion removed",
		given: past(created, stocked(berlin, "5"), deleted, restored, unstocked(berlin), deleted),
		when:  restoreItem,
		then:  []events.Fact{events.ItemRestored{ItemID: bolts}},
	}, scenario[*domain.Item]{
		name: "nor an earlier level of the same id",
		given: past(created, stocked(berlin, "5"), unstocked(berlin),
			one(events.LevelCreated{ItemID: bolts, LevelID: levelAt(berlin), LocationID: hamburg, Stocked: q("3")}), deleted),
		when: restoreItem,
		then: []events.Fact{
			events.ItemRestored{ItemID: bolts},
			events.LevelRestored{ItemID: bolts, LevelID: levelAt(berlin), LocationID: hamburg, Stocked: q("3")},
		},
	}, scenario[*domain.Item]{
		name:  "twice is once",
		given: past(created, stocked(berlin, "5"), deleted, restored),
		when:  restoreItem,
	}, scenario[*domain.Item]{
		name:  "an item that was never deleted",
		given: past(created, stocked(berlin, "5"), unstocked(berlin)),
		when:  restoreItem,
	}, scenario[*domain.Item]{
		name:    "an item that never was",
		when:    restoreItem,
		refused: "not_found", details: details{"inventory_item_id": bolts},
	})
}

// A deleted item answers to nothing but its restoration.
func TestADeletedItemIsNotThere(t *testing.T) {
	for name, ask := range everythingAskedOfALevel() {
		for past, it := range map[string]*domain.Item{
			"never was": newItem(), "deleted": fold(created, stocked(berlin, "5"), deleted),
		} {
			t.Run(name+"/"+past, func(t *testing.T) {
				facts, err := ask(it)
				require.Nil(t, facts)
				require.Equal(t, "not_found", fault.Code(err))
				require.Equal(t, fault.NotFound, fault.Of(err).Kind)
				require.Equal(t, bolts, fault.Of(err).Details["inventory_item_id"])
			})
		}
	}
}

func everythingAskedOfALevel() map[string]itemAsk {
	return map[string]itemAsk{
		"create level":  createLevel(domain.NewLevel{ID: "x", LocationID: berlin}),
		"adjust":        adjust(berlin, "1", ""),
		"update level":  updateLevel(berlin, domain.LevelChanges{Stocked: new(q("1"))}, ""),
		"delete level":  deleteLevel(berlin, true),
		"reserve":       reserve(order1, berlin, "1"),
		"restore order": restoreReservation(domain.Reservation{ID: order1, LocationID: berlin, Quantity: q("1")}),
	}
}

func TestWhatAnItemRemembersOfItsDeletion(t *testing.T) {
	links := []events.Link{{VariantID: "variant_1", Required: q("2")}}
	it := fold(created, stocked(berlin, "5"), func(it *domain.Item) []events.Fact { return must(it.Delete(bolts, links)) })
	require.False(t, it.Exists())
	require.Equal(t, stamp(4).At, it.Deleted)
	require.Empty(t, cmp.Diff(links, it.RemovedLinks()))
	require.Empty(t, it.Levels())

	take(it, must(it.Restore(bolts)))
	require.True(t, it.Exists())
	require.Nil(t, it.RemovedLinks())
	level, found := it.Level(berlin)
	require.True(t, found)
	require.Equal(t, stamp(2).At, level.Created, "a level that comes back is as old as it was")
	require.Equal(t, stamp(6).At, level.Updated)
	require.EqualValues(t, 6, level.Version)
}

func TestWhatAnItemShows(t *testing.T) {
	it := fold(created, stocked(hamburg, "5"), stocked(berlin, "2.5"), held(order1, hamburg, "1"), held(order2, berlin, "0.5"), held(order3, berlin, "1"), letGo(order3))
	require.EqualValues(t, 7, it.Version)
	require.Equal(t, stamp(1).At, it.Created)
	require.Equal(t, stamp(7).At, it.Updated)
	stocked, reserved := it.Totals()
	require.Equal(t, "7.5 1.5", fmt.Sprint(stocked, reserved))

	levels := it.Levels()
	require.Len(t, levels, 2)
	require.Equal(t, hamburg, levels[0].LocationID, "oldest first")
	require.Equal(t, "4", levels[0].Available().String())
	require.EqualValues(t, 4, levels[0].Version, "when it last changed")
	require.EqualValues(t, 7, levels[1].Version)
	byID, found := it.LevelByID(levelAt(berlin))
	require.True(t, found)
	require.Empty(t, cmp.Diff(levels[1], byID))
	_, found = it.LevelByID("ilev_other")
	require.False(t, found)

	require.Len(t, it.Reservations(), 2)
	held, found := it.Reservation(order1)
	require.True(t, found)
	require.Equal(t, "1", held.Quantity.String())
	released, found := it.Released(order3)
	require.True(t, found)
	require.Equal(t, stamp(7).At, released.Released)
	require.Equal(t, stamp(6).At, released.Created)
	_, found = it.Reservation(order3)
	require.False(t, found)
}

// An item forgets the oldest of what was released, never what is live.
func TestAnItemRemembersTheNewestReleased(t *testing.T) {
	id := func(i int) string { return fmt.Sprintf("resitem_%d", i) }
	it := fold(created, stocked(berlin, "1"))
	for i := range domain.MaxReleased {
		take(it, must(it.Reserve(bolts, domain.NewReservation{ID: id(i), LocationID: berlin, Quantity: q("1")}, nil)))
		take(it, must(it.Release(bolts, id(i))))
	}
	remembers := func(i int) bool { _, found := it.Released(id(i)); return found }
	releaseAnother := func(i int) {
		take(it, must(it.Reserve(bolts, domain.NewReservation{ID: id(i), LocationID: berlin, Quantity: q("1")}, nil)))
		take(it, must(it.Release(bolts, id(i))))
	}
	require.True(t, remembers(0))

	it.Begin()
	releaseAnother(domain.MaxReleased)
	require.False(t, remembers(0))
	require.True(t, remembers(1))
	it.Rollback()
	require.True(t, remembers(0), "as if it had not happened")
	require.False(t, remembers(domain.MaxReleased))

	// Restoring makes room, so the next release forgets nobody.
	third, _ := it.Released(id(3))
	take(it, must(it.RestoreReservation(bolts, third)))
	require.False(t, remembers(3))
	take(it, must(it.Release(bolts, id(3))))
	require.True(t, remembers(0))
	require.True(t, remembers(3))

	for i, oldest := range []int{0, 1, 2, 4} { // 3 is the newest now
		it.Begin()
		releaseAnother(2*domain.MaxReleased + i)
		it.Keep()
		require.False(t, remembers(oldest), "%d", oldest)
		require.True(t, remembers(3))
	}
}

// Facts that contradict the past do not pass in silence.
func TestAnItemRefusesAFalsePast(t *testing.T) {
	level := func(f events.StockAdjusted) events.Fact {
		f.ItemID, f.LevelID, f.LocationID = bolts, levelAt(berlin), berlin
		return f
	}
	for name, fact := range map[string]events.Fact{
		"created twice":                events.ItemCreated{ItemID: bolts},
		"level created twice":          events.LevelCreated{ItemID: bolts, LevelID: "other", LocationID: berlin},
		"no such level":                events.StockAdjusted{ItemID: bolts, LocationID: munich, Delta: q("1"), Stocked: q("1")},
		"a sum that is wrong":          level(events.StockAdjusted{Delta: q("1"), Stocked: q("7")}),
		"set from another quantity":    events.StockSet{ItemID: bolts, LocationID: berlin, From: q("4"), Stocked: q("7")},
		"deleted with a reservation":   events.LevelDeleted{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin, Stocked: q("5")},
		"deleted with other stock":     events.LevelDeleted{ItemID: bolts, LevelID: levelAt(hamburg), LocationID: hamburg, Stocked: q("5")},
		"item deleted with levels":     events.ItemDeleted{ItemID: bolts},
		"restored what was there":      events.LevelRestored{ItemID: bolts, LevelID: levelAt(berlin), LocationID: berlin},
		"reserved twice":               events.ReservationCreated{ItemID: bolts, LocationID: berlin, ReservationID: order1, Quantity: q("1"), Reserved: q("3")},
		"reserved sum that is wrong":   events.ReservationCreated{ItemID: bolts, LocationID: berlin, ReservationID: order2, Quantity: q("1"), Reserved: q("4")},
		"no such reservation":          events.ReservationReleased{ItemID: bolts, LocationID: berlin, ReservationID: order2, Quantity: q("2")},
		"released another quantity":    events.ReservationReleased{ItemID: bolts, LocationID: berlin, ReservationID: order1, Quantity: q("1"), Reserved: q("1")},
		"restored while it held":       events.ReservationRestored{ItemID: bolts, LocationID: berlin, ReservationID: order1, Quantity: q("2"), Reserved: q("4")},
		"fulfilled another quantity":   events.ReservationFulfilled{ItemID: bolts, LocationID: berlin, ReservationID: order1, Quantity: q("1"), Stocked: q("4"), Reserved: q("1")},
		"fulfilled sum that is wrong":  events.ReservationFulfilled{ItemID: bolts, LocationID: berlin, ReservationID: order1, Quantity: q("2"), Stocked: q("4")},
		"moved from where it was not":  events.ReservationMoved{ItemID: bolts, ReservationID: order1, Quantity: q("2"), FromLocationID: hamburg, LocationID: berlin, Reserved: q("4")},
		"moved sum that is wrong":      events.ReservationMoved{ItemID: bolts, ReservationID: order1, Quantity: q("2"), FromLocationID: berlin, LocationID: hamburg},
		"a fact of another aggregate":  events.SKUClaimed{SKU: "M8", ItemID: bolts},
		"updated from another holding": events.ReservationUpdated{ItemID: bolts, LocationID: berlin, ReservationID: order1, From: q("1"), Quantity: q("2"), Reserved: q("3")},
	} {
		t.Run(name, func(t *testing.T) {
			it := fold(created, stocked(berlin, "5"), stocked(hamburg, "0"), held(order1, berlin, "2"))
			require.Panics(t, func() { it.Apply(fact, stamp(5)) })
		})
	}
}

package domain_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

type locationAsk = func(*domain.Location) ([]events.Fact, error)

var (
	street  = &events.Address{Address1: "Kantstr. 1", CountryCode: "de", City: new("Berlin")}
	atHome  = events.LocationAttributes{Name: "Berlin", Address: street, Metadata: raw(`{"a":1}`)}
	openedA = step[*domain.Location](func(*domain.Location) []events.Fact {
		return []events.Fact{events.LocationOpened{LocationID: berlin, Attributes: atHome}}
	})
	closed = step[*domain.Location](func(*domain.Location) []events.Fact {
		return []events.Fact{events.LocationClosed{LocationID: berlin}}
	})
)

func open(a events.LocationAttributes) locationAsk {
	return func(l *domain.Location) ([]events.Fact, error) { return l.Open(berlin, a) }
}

func updateLocation(c domain.LocationChanges) locationAsk {
	return func(l *domain.Location) ([]events.Fact, error) { return l.Update(berlin, c) }
}

func closeLocation(l *domain.Location) ([]events.Fact, error) { return l.Close(berlin) }

func TestALocation(t *testing.T) {
	type s = scenario[*domain.Location]
	opened := func(a events.LocationAttributes) []events.Fact {
		return []events.Fact{events.LocationOpened{LocationID: berlin, Attributes: a}}
	}
	updated := func(a events.LocationAttributes, changed ...string) []events.Fact {
		return []events.Fact{events.LocationUpdated{LocationID: berlin, Changed: changed, Attributes: a}}
	}
	required := func(field string) details { return details{"field": field} }
	run(t, func() *domain.Location { return new(domain.Location) }, []s{{
		name: "opens",
		when: open(atHome),
		then: opened(atHome),
	}, {
		name: "with no more than a name",
		when: open(events.LocationAttributes{Name: "Berlin", Metadata: raw("null")}),
		then: opened(events.LocationAttributes{Name: "Berlin"}),
	}, {
		name: "writes its metadata one way",
		when: open(events.LocationAttributes{Name: "Berlin", Metadata: raw(`{"b": 1, "a": null}`)}),
		then: opened(events.LocationAttributes{Name: "Berlin", Metadata: raw(`{"b":1}`)}),
	}, {
		name:    "opens once",
		given:   past(openedA),
		when:    open(atHome),
		refused: "location_exists", details: details{"location_id": berlin},
	}, {
		name:    "also after it closed",
		given:   past(openedA, closed),
		when:    open(atHome),
		refused: "location_exists", details: details{"location_id": berlin},
	}, {
		name:    "has a name",
		when:    open(events.LocationAttributes{Address: street}),
		refused: "required", details: required("name"),
	}, {
		name:    "is in a street",
		when:    open(events.LocationAttributes{Name: "Berlin", Address: &events.Address{CountryCode: "de"}}),
		refused: "required", details: required("address.address_1"),
	}, {
		name:    "and in a country",
		when:    open(events.LocationAttributes{Name: "Berlin", Address: &events.Address{Address1: "Kantstr. 1"}}),
		refused: "required", details: required("address.country_code"),
	}, {
		name:    "metadata is an object",
		when:    open(events.LocationAttributes{Name: "Berlin", Metadata: raw("[]")}),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	}, {
		name:    "also that of the address",
		when:    open(events.LocationAttributes{Name: "Berlin", Address: &events.Address{Address1: "Kantstr. 1", CountryCode: "de", Metadata: raw("[]")}}),
		refused: "invalid_metadata", details: details{"field": "address.metadata"},
	}, {
		name:  "is renamed",
		given: past(openedA),
		when:  updateLocation(domain.LocationChanges{Name: new("Mitte")}),
		then:  updated(events.LocationAttributes{Name: "Mitte", Address: street, Metadata: raw(`{"a":1}`)}, "name"),
	}, {
		name:  "moves, all of it, and learns",
		given: past(openedA),
		when: updateLocation(domain.LocationChanges{
			Address: domain.Value(events.Address{Address1: "Torstr. 2", CountryCode: "de"}), Metadata: domain.Value(raw(`{"b":2}`)),
		}),
		then: updated(events.LocationAttributes{
			Name: "Berlin", Address: &events.Address{Address1: "Torstr. 2", CountryCode: "de"}, Metadata: raw(`{"a":1,"b":2}`),
		}, "address", "metadata"),
	}, {
		name:  "null clears, absent leaves",
		given: past(openedA),
		when:  updateLocation(domain.LocationChanges{Address: domain.Null[events.Address](), Metadata: domain.Null[json.RawMessage]()}),
		then:  updated(events.LocationAttributes{Name: "Berlin"}, "address", "metadata"),
	}, {
		name:  "what is so already changes nothing",
		given: past(openedA),
		when: updateLocation(domain.LocationChanges{
			Name: new("Berlin"), Address: domain.Value(events.Address{Address1: "Kantstr. 1", CountryCode: "de", City: new("Berlin")}),
			Metadata: domain.Value(raw(`{ "a": 1 }`)),
		}),
	}, {
		name:  "nothing named changes nothing",
		given: past(openedA),
		when:  updateLocation(domain.LocationChanges{}),
	}, {
		name:    "keeps a name",
		given:   past(openedA),
		when:    updateLocation(domain.LocationChanges{Name: new("")}),
		refused: "required", details: required("name"),
	}, {
		name:    "does not move to nowhere",
		given:   past(openedA),
		when:    updateLocation(domain.LocationChanges{Address: domain.Value(events.Address{Address1: "x"})}),
		refused: "required", details: required("address.country_code"),
	}, {
		name:    "keeps metadata an object",
		given:   past(openedA),
		when:    updateLocation(domain.LocationChanges{Metadata: domain.Value(raw("1"))}),
		refused: "invalid_metadata", details: details{"field": "metadata"},
	}, {
		name:    "does not change before it opens",
		when:    updateLocation(domain.LocationChanges{Name: new("x")}),
		refused: "not_found", details: details{"location_id": berlin},
	}, {
		name:    "nor after it closed",
		given:   past(openedA, closed),
		when:    updateLocation(domain.LocationChanges{Name: new("x")}),
		refused: "not_found", details: details{"location_id": berlin},
	}, {
		name:  "closes",
		given: past(openedA),
		when:  closeLocation,
		then:  []events.Fact{events.LocationClosed{LocationID: berlin}},
	}, {
		name:  "closing twice is once",
		given: past(openedA, closed),
		when:  closeLocation,
	}, {
		name:    "one that never was",
		when:    closeLocation,
		refused: "not_found", details: details{"location_id": berlin},
	}})
}

func TestALocationRefusesAFalsePast(t *testing.T) {
	for name, fact := range map[string]events.Fact{
		"opened twice": events.LocationOpened{LocationID: berlin}, "closed twice": events.LocationClosed{LocationID: berlin},
		"of another aggregate": events.ItemCreated{},
	} {
		t.Run(name, func(t *testing.T) {
			l := new(domain.Location)
			l.Apply(events.LocationOpened{LocationID: berlin}, stamp(1))
			l.Apply(events.LocationClosed{LocationID: berlin}, stamp(2))
			require.False(t, l.Exists())
			require.Panics(t, func() { l.Apply(fact, stamp(3)) })
		})
	}
}

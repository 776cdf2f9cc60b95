package domain_test

import (
	"encoding/json"
	"fmt"
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

func TestTheLinksOfALocation(t *testing.T) {
	type s = scenario[*domain.Location]
	to := func(kind events.LinkKind, id, name, sort string) events.LocationLinked {
		return events.LocationLinked{LocationID: berlin, Kind: kind, ID: id, Name: name, Type: sort}
	}
	web, manual := to(events.SalesChannel, "web", "", ""), to(events.FulfillmentProvider, "manual", "", "")
	pickup := to(events.FulfillmentSet, "set", "Pickup", "pickup")
	linked := func(links ...events.LocationLinked) step[*domain.Location] {
		return func(*domain.Location) (facts []events.Fact) {
			for _, l := range links {
				facts = append(facts, l)
			}
			return facts
		}
	}
	link := func(l events.LocationLinked) locationAsk {
		return func(to *domain.Location) ([]events.Fact, error) { return to.Link(l, false) }
	}
	linkMade := func(l events.LocationLinked) locationAsk {
		return func(to *domain.Location) ([]events.Fact, error) { return to.Link(l, true) }
	}
	unlink := func(kind events.LinkKind, id string) locationAsk {
		return func(l *domain.Location) ([]events.Fact, error) { return l.Unlink(berlin, kind, id) }
	}
	full := func(n int) step[*domain.Location] {
		all := make([]events.LocationLinked, n)
		for i := range all {
			all[i] = to(events.SalesChannel, fmt.Sprintf("channel-%d", i), "", "")
		}
		return linked(all...)
	}
	there := details{"location_id": berlin, "fulfillment_set_id": "set"}
	run(t, func() *domain.Location { return new(domain.Location) }, []s{{
		name: "it serves a sales channel", given: past(openedA), when: link(web), then: []events.Fact{web},
	}, {
		name: "it ships by a provider", given: past(openedA, linked(web)), when: link(manual), then: []events.Fact{manual},
	}, {
		name: "it has a fulfillment set", given: past(openedA), when: link(pickup), then: []events.Fact{pickup},
	}, {
		name: "twice is once", given: past(openedA, linked(web, manual, pickup)), when: link(web),
	}, {
		name: "also of a provider", given: past(openedA, linked(web, manual, pickup)), when: link(manual),
	}, {
		name: "also of a set", given: past(openedA, linked(web, manual, pickup)), when: link(pickup),
	}, {
		name: "one id may be of several kinds", given: past(openedA, linked(web)),
		when: link(to(events.FulfillmentProvider, "web", "", "")), then: []events.Fact{to(events.FulfillmentProvider, "web", "", "")},
	}, {
		name: "a set without an id of its own is the one of that name and type", given: past(openedA, linked(pickup)),
		when: linkMade(to(events.FulfillmentSet, "made", "Pickup", "pickup")),
	}, {
		name: "or a new one", given: past(openedA, linked(pickup)),
		when: linkMade(to(events.FulfillmentSet, "made", "Shipping", "shipping")),
		then: []events.Fact{to(events.FulfillmentSet, "made", "Shipping", "shipping")},
	}, {
		name: "but not one of that name and another type", given: past(openedA, linked(pickup)),
		when: linkMade(to(events.FulfillmentSet, "made", "Pickup", "shipping")), refused: "fulfillment_set_exists", details: there,
	}, {
		name: "nor one of that name with another id", given: past(openedA, linked(pickup)),
		when: link(to(events.FulfillmentSet, "other", "Pickup", "pickup")), refused: "fulfillment_set_exists", details: there,
	}, {
		name: "nor one of that id with another name", given: past(openedA, linked(pickup)),
		when: link(to(events.FulfillmentSet, "set", "Other", "pickup")), refused: "fulfillment_set_exists", details: there,
	}, {
		name: "a link ends", given: past(openedA, linked(web, manual)), when: unlink(events.SalesChannel, "web"),
		then: []events.Fact{events.LocationUnlinked{LocationID: berlin, Kind: events.SalesChannel, ID: "web"}},
	}, {
		name: "the end of a set says what it was", given: past(openedA, linked(pickup)), when: unlink(events.FulfillmentSet, "set"),
		then: []events.Fact{events.LocationUnlinked{LocationID: berlin, Kind: events.FulfillmentSet, ID: "set", Name: "Pickup", Type: "pickup"}},
	}, {
		name: "what is not linked ends nothing", given: past(openedA, linked(web)), when: unlink(events.FulfillmentProvider, "web"),
	}, {
		name: "it has 1,000 links", given: past(openedA, full(999)), when: link(web), then: []events.Fact{web},
	}, {
		name: "and no more", given: past(openedA, full(1000)), when: link(web), refused: "too_many_links", details: details{"location_id": berlin},
	}, {
		name: "but those it has can be named", given: past(openedA, full(1000)), when: link(to(events.SalesChannel, "channel-999", "", "")),
	}, {
		name: "before it opens it links to nothing", when: link(web), refused: "not_found", details: details{"location_id": berlin},
	}, {
		name: "nor does it once it closed", given: past(openedA, linked(web), closed), when: link(web), refused: "not_found",
	}, {
		name: "and then there is no end to a link", given: past(openedA, linked(web), closed), when: unlink(events.SalesChannel, "web"), refused: "not_found",
	}})
}

// What a refused command did to the links is taken back.
func TestLinksRollBack(t *testing.T) {
	l := new(domain.Location)
	version := uint64(0)
	apply := func(facts ...events.Fact) {
		for _, f := range facts {
			version++
			l.Apply(f, stamp(version))
		}
	}
	link := func(id string) events.Fact {
		return events.LocationLinked{LocationID: berlin, Kind: events.SalesChannel, ID: id}
	}
	unlink := func(id string) events.Fact {
		return events.LocationUnlinked{LocationID: berlin, Kind: events.SalesChannel, ID: id}
	}
	apply(events.LocationOpened{LocationID: berlin, Attributes: atHome}, link("a"), link("b"), link("c"), unlink("c"))
	for _, facts := range [][]events.Fact{{unlink("a"), link("d")}, {link("e"), link("f")}, {events.LocationClosed{LocationID: berlin}}} {
		l.Begin()
		apply(facts...)
		l.Rollback()
		require.Equal(t, []string{"a", "b"}, l.Links.SalesChannels)
	}
	l.Begin()
	apply(link("c"), unlink("a"))
	l.Keep()
	require.Equal(t, []string{"b", "c"}, l.Links.SalesChannels)

	l.Begin()
	apply(link("dry"))
	answer := l.Links // of a dry run, written after the next command was decided
	l.Rollback()
	apply(link("wet"))
	require.Equal(t, []string{"b", "c", "dry"}, answer.SalesChannels)
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
	l := new(domain.Location)
	l.Apply(events.LocationOpened{LocationID: berlin}, stamp(1))
	l.Apply(events.LocationLinked{LocationID: berlin, Kind: events.SalesChannel, ID: "web"}, stamp(2))
	require.Panics(t, func() {
		l.Apply(events.LocationLinked{LocationID: berlin, Kind: events.SalesChannel, ID: "web"}, stamp(3))
	}, "linked twice")
	require.Panics(t, func() {
		l.Apply(events.LocationUnlinked{LocationID: berlin, Kind: events.FulfillmentSet, ID: "web"}, stamp(3))
	}, "of another kind")
}

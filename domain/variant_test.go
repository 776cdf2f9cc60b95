package domain_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

const kit = "variant_kit"

type variantAsk = func(*domain.Variant) ([]events.Fact, error)

func linked(required string) step[*domain.Variant] {
	return func(*domain.Variant) []events.Fact {
		return []events.Fact{events.ItemLinked{VariantID: kit, ItemID: bolts, Required: q(required)}}
	}
}

func unlinked(v *domain.Variant) []events.Fact { return v.Detach(kit, bolts) }

func attach(item string, required *events.Quantity) variantAsk {
	return func(v *domain.Variant) ([]events.Fact, error) { return v.Attach(kit, item, required) }
}

func updateLink(required string) variantAsk {
	return func(v *domain.Variant) ([]events.Fact, error) { return v.UpdateLink(kit, bolts, q(required)) }
}

func detach(v *domain.Variant) ([]events.Fact, error) { return v.Detach(kit, bolts), nil }

func TestWhatAVariantIsMadeOf(t *testing.T) {
	type s = scenario[*domain.Variant]
	link := func(item, required string) []events.Fact {
		return []events.Fact{events.ItemLinked{VariantID: kit, ItemID: item, Required: q(required)}}
	}
	changed := func(from, to string) []events.Fact {
		return []events.Fact{events.LinkUpdated{VariantID: kit, ItemID: bolts, From: q(from), Required: q(to)}}
	}
	run(t, func() *domain.Variant { return new(domain.Variant) }, []s{{
		name: "of some units of an item",
		when: attach(bolts, new(q("4"))),
		then: link(bolts, "4"),
	}, {
		name: "of one unless said otherwise",
		when: attach(bolts, nil),
		then: link(bolts, "1"),
	}, {
		name: "of a fraction",
		when: attach(bolts, new(q("0.25"))),
		then: link(bolts, "0.25"),
	}, {
		name:  "of several items",
		given: past(linked("4")),
		when:  attach(nuts, new(q("8"))),
		then:  link(nuts, "8"),
	}, {
		name:  "attaching twice is once",
		given: past(linked("4")),
		when:  attach(bolts, new(q("4.0"))),
	}, {
		name:  "attaching again without a number leaves it",
		given: past(linked("4")),
		when:  attach(bolts, nil),
	}, {
		name:  "attaching again with another number changes it",
		given: past(linked("4")),
		when:  attach(bolts, new(q("6"))),
		then:  changed("4", "6"),
	}, {
		name:  "attaching after detaching",
		given: past(linked("4"), unlinked),
		when:  attach(bolts, nil),
		then:  link(bolts, "1"),
	}, {
		name:    "never of nothing",
		when:    attach(bolts, new(q("0"))),
		refused: "invalid_quantity", details: details{"field": "required_quantity", "asked": "0"},
	}, {
		name:    "nor of less",
		given:   past(linked("4")),
		when:    attach(bolts, new(q("-1"))),
		refused: "invalid_quantity", details: details{"field": "required_quantity", "asked": "-1"},
	}, {
		name:    "nor of more than can be written down",
		when:    attach(bolts, new(events.Units(1e18))),
		refused: "quantity_out_of_range", details: details{"field": "required_quantity"},
	}, {
		name:  "a link is changed",
		given: past(linked("4")),
		when:  updateLink("6"),
		then:  changed("4", "6"),
	}, {
		name:  "to what it is, which changes nothing",
		given: past(linked("4")),
		when:  updateLink("4"),
	}, {
		name:    "not to nothing",
		given:   past(linked("4")),
		when:    updateLink("0"),
		refused: "invalid_quantity", details: details{"field": "required_quantity"},
	}, {
		name:    "one that is not there",
		given:   past(linked("4"), unlinked),
		when:    updateLink("6"),
		refused: "not_found", details: details{"variant_id": kit, "inventory_item_id": bolts},
	}, {
		name:  "detaching",
		given: past(linked("4")),
		when:  detach,
		then:  []events.Fact{events.ItemUnlinked{VariantID: kit, ItemID: bolts, Required: q("4")}},
	}, {
		name:  "detaching twice is once",
		given: past(linked("4"), unlinked),
		when:  detach,
	}})
}

func TestAVariantRefusesAFalsePast(t *testing.T) {
	for name, fact := range map[string]events.Fact{
		"linked twice":         events.ItemLinked{VariantID: kit, ItemID: bolts, Required: q("1")},
		"updated from another": events.LinkUpdated{VariantID: kit, ItemID: bolts, From: q("3"), Required: q("5")},
		"no such link":         events.ItemUnlinked{VariantID: kit, ItemID: nuts},
		"nor to update":        events.LinkUpdated{VariantID: kit, ItemID: nuts, From: q("4"), Required: q("5")},
		"of another aggregate": events.ItemCreated{},
	} {
		t.Run(name, func(t *testing.T) {
			v := new(domain.Variant)
			v.Apply(events.ItemLinked{VariantID: kit, ItemID: bolts, Required: q("4")}, stamp(1))
			require.Panics(t, func() { v.Apply(fact, stamp(2)) })
		})
	}
}

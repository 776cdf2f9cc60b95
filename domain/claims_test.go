package domain_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

const nuts = "iitem_nuts"

var (
	claimed  = step[*domain.SKU](func(*domain.SKU) []events.Fact { return []events.Fact{events.SKUClaimed{SKU: "M8", ItemID: bolts}} })
	released = step[*domain.SKU](func(*domain.SKU) []events.Fact { return []events.Fact{events.SKUReleased{SKU: "M8", ItemID: bolts}} })
)

func claim(item string) func(*domain.SKU) ([]events.Fact, error) {
	return func(s *domain.SKU) ([]events.Fact, error) { return s.Claim("M8", item) }
}

func releaseSKU(item string) func(*domain.SKU) ([]events.Fact, error) {
	return func(s *domain.SKU) ([]events.Fact, error) { return s.Release("M8", item), nil }
}

func TestASKUHasOneOwner(t *testing.T) {
	type s = scenario[*domain.SKU]
	run(t, func() *domain.SKU { return new(domain.SKU) }, []s{{
		name: "a free SKU is claimed",
		when: claim(bolts),
		then: []events.Fact{events.SKUClaimed{SKU: "M8", ItemID: bolts}},
	}, {
		name:  "twice is once",
		given: past(claimed),
		when:  claim(bolts),
	}, {
		name:    "not by another item",
		given:   past(claimed),
		when:    claim(nuts),
		refused: "sku_taken", details: details{"sku": "M8", "field": "sku", "inventory_item_id": bolts},
	}, {
		name:  "until it is free again",
		given: past(claimed, released),
		when:  claim(nuts),
		then:  []events.Fact{events.SKUClaimed{SKU: "M8", ItemID: nuts}},
	}, {
		name:  "its owner frees it",
		given: past(claimed),
		when:  releaseSKU(bolts),
		then:  []events.Fact{events.SKUReleased{SKU: "M8", ItemID: bolts}},
	}, {
		name:  "once",
		given: past(claimed, released),
		when:  releaseSKU(bolts),
	}, {
		name:  "and nobody else does",
		given: past(claimed),
		when:  releaseSKU(nuts),
	}})
}

func TestASKURefusesAFalsePast(t *testing.T) {
	for name, fact := range map[string]events.Fact{
		"claimed twice":         events.SKUClaimed{SKU: "M8", ItemID: nuts},
		"released by another":   events.SKUReleased{SKU: "M8", ItemID: nuts},
		"of another aggregate":  events.ItemCreated{},
		"a fact of its variant": events.ItemLinked{},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(domain.SKU)
			s.Apply(events.SKUClaimed{SKU: "M8", ItemID: bolts}, stamp(1))
			require.Panics(t, func() { s.Apply(fact, stamp(2)) })
		})
	}
}

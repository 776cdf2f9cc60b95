package domain

import (
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// SKU says which live item owns a SKU. SKUs are case-sensitive.
type SKU struct {
	skuHead
	saved skuHead
}

type skuHead struct {
	Version uint64
	Owner   string // item id, "" when free
}

// Begin marks a point to which Rollback returns.
func (s *SKU) Begin() { s.saved = s.skuHead }

// Keep makes everything applied since Begin stay.
func (s *SKU) Keep() {}

// Rollback undoes everything applied since Begin.
func (s *SKU) Rollback() { s.skuHead = s.saved }

// Claim gives the SKU to an item. It refuses when another item has it.
func (s *SKU) Claim(sku, item string) ([]events.Fact, error) {
	switch s.Owner {
	case "":
		return []events.Fact{events.SKUClaimed{SKU: sku, ItemID: item}}, nil
	case item:
		return nil, nil
	}
	return nil, fault.New(fault.Invalid, "sku_taken", "Inventory item with sku: %s, already exists.", sku).
		With("field", "sku").With("sku", sku).With("inventory_item_id", s.Owner)
}

// Release frees the SKU if the item has it.
func (s *SKU) Release(sku, item string) []events.Fact {
	if s.Owner != item {
		return nil
	}
	return []events.Fact{events.SKUReleased{SKU: sku, ItemID: item}}
}

// Apply takes a fact of the SKU's stream in.
func (s *SKU) Apply(fact events.Fact, at Stamp) {
	s.Version = at.Version
	switch f := fact.(type) {
	case events.SKUClaimed:
		must(s.Owner == "", "claimed twice", fact)
		s.Owner = f.ItemID
	case events.SKUReleased:
		must(s.Owner == f.ItemID, "released by another item", fact)
		s.Owner = ""
	default:
		foreign(fact, "a SKU")
	}
}

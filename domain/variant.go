package domain

import (
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Variant is the list of inventory items a product variant is made of. The
// variant itself lives elsewhere; any id may have links.
type Variant struct {
	Version uint64
	links   table[events.Quantity] // required quantity by item id
	saved   uint64
}

// Begin marks a point to which Rollback returns.
func (v *Variant) Begin() { v.saved = v.Version; v.links.begin() }

// Keep makes everything applied since Begin stay.
func (v *Variant) Keep() { v.links.keep() }

// Rollback undoes everything applied since Begin.
func (v *Variant) Rollback() { v.Version = v.saved; v.links.rollback() }

// Link is the required quantity of an item, if it is linked.
func (v *Variant) Link(item string) (events.Quantity, bool) { return v.links.get(item) }

// Attach makes the variant need required units of an item. An existing link
// takes the new quantity, as in Medusa; with required nil it stays, and a new
// one needs 1.
func (v *Variant) Attach(variant, item string, required *events.Quantity) ([]events.Fact, error) {
	if required != nil {
		if err := positive("required_quantity", *required); err != nil {
			return nil, err
		}
	}
	old, linked := v.links.get(item)
	switch {
	case linked && (required == nil || required.Equal(old)):
		return nil, nil
	case linked:
		return []events.Fact{events.LinkUpdated{VariantID: variant, ItemID: item, From: old, Required: *required}}, nil
	case required == nil:
		return []events.Fact{events.ItemLinked{VariantID: variant, ItemID: item, Required: events.Units(1)}}, nil
	}
	return []events.Fact{events.ItemLinked{VariantID: variant, ItemID: item, Required: *required}}, nil
}

// UpdateLink changes the required quantity of an existing link.
func (v *Variant) UpdateLink(variant, item string, required events.Quantity) ([]events.Fact, error) {
	if _, linked := v.links.get(item); !linked {
		return nil, fault.New(fault.NotFound, "not_found", "Could not find all existing links from data").
			With("variant_id", variant).With("inventory_item_id", item)
	}
	return v.Attach(variant, item, &required)
}

// Detach removes a link. Removing one that is not there changes nothing.
func (v *Variant) Detach(variant, item string) []events.Fact {
	required, linked := v.links.get(item)
	if !linked {
		return nil
	}
	return []events.Fact{events.ItemUnlinked{VariantID: variant, ItemID: item, Required: required}}
}

// Apply takes a fact of the variant's stream in.
func (v *Variant) Apply(fact events.Fact, at Stamp) {
	v.Version = at.Version
	switch f := fact.(type) {
	case events.ItemLinked:
		_, linked := v.links.get(f.ItemID)
		must(!linked, "linked twice", fact)
		v.links.set(f.ItemID, f.Required)
	case events.LinkUpdated:
		old, linked := v.links.get(f.ItemID)
		must(linked && old.Equal(f.From), "no such link", fact)
		v.links.set(f.ItemID, f.Required)
	case events.ItemUnlinked:
		_, linked := v.links.get(f.ItemID)
		must(linked, "no such link", fact)
		v.links.remove(f.ItemID)
	default:
		foreign(fact, "a variant")
	}
}

package commands

import (
	"cmp"
	"context"
	"slices"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// NewItem is an item to be created, with the levels it starts with.
type NewItem struct {
	ID string `json:"id,omitzero"` // made when left out
	domain.ItemChanges
	LocationLevels []ItemLevel `json:"location_levels,omitzero"`
}

// ItemLevel is a level of an item to be created.
type ItemLevel struct {
	LocationID string          `json:"location_id"`
	Stocked    events.Quantity `json:"stocked_quantity,omitzero"`
	Incoming   events.Quantity `json:"incoming_quantity,omitzero"`
}

// CreateInventoryItems creates items and their first levels, all or none. It
// answers with the items.
type CreateInventoryItems struct {
	Items []NewItem `json:"items"`
	// KnownLocations refuses levels at locations that are not open, also where the
	// ledger does not.
	KnownLocations bool `json:"-"`
}

// Name implements Command.
func (CreateInventoryItems) Name() string { return "create-inventory-items" }

func (c CreateInventoryItems) check() error {
	lines := len(c.Items)
	for _, n := range c.Items {
		lines += len(n.LocationLevels)
	}
	if err := within(lines); err != nil {
		return err
	}
	return eachLine(c.Items, func(n NewItem) error {
		if err := first(textWithin("id", n.ID, maxID), checkChanges(n.ItemChanges)); err != nil {
			return err
		}
		return eachInner("location_levels", n.LocationLevels, func(l ItemLevel) error { return required("location_id", l.LocationID) })
	})
}

// identify names the items that have no id yet.
func (c CreateInventoryItems) identify() Command {
	c.Items = slices.Clone(c.Items)
	for i := range c.Items {
		c.Items[i].ID = cmp.Or(c.Items[i].ID, "iitem_"+newUUID())
	}
	return c
}

func (c CreateInventoryItems) prefetch(_ context.Context, p *prefetch) error {
	for _, n := range c.Items {
		p.item(n.ID)
		if n.SKU.Value != nil {
			p.sku(*n.SKU.Value)
		}
		for _, l := range n.LocationLevels {
			if c.KnownLocations {
				p.location(l.LocationID)
			}
			p.openLocation(l.LocationID)
		}
	}
	return nil
}

func (c CreateInventoryItems) decide(d *decision) (any, error) {
	return each(d, c.Items, func(n NewItem) (ItemRow, error) {
		if c.KnownLocations {
			if err := d.openLocations(n.locations()...); err != nil {
				return ItemRow{}, err
			}
		}
		return d.createItem(n)
	})
}

func (n NewItem) locations() []string {
	all := make([]string, len(n.LocationLevels))
	for i, l := range n.LocationLevels {
		all[i] = l.LocationID
	}
	return all
}

func (d *decision) createItem(n NewItem) (ItemRow, error) {
	item, err := d.item(n.ID)
	if err != nil {
		return ItemRow{}, err
	}
	attributes, _, err := n.Over(events.ItemAttributes{RequiresShipping: true})
	if err != nil {
		return ItemRow{}, err
	}
	facts, err := item.Create(n.ID, attributes)
	if err != nil {
		return ItemRow{}, err
	}
	if err := d.claim(attributes.SKU, n.ID); err != nil {
		return ItemRow{}, err
	}
	d.record(events.ItemStream(n.ID), facts...)
	for _, l := range n.LocationLevels {
		level := domain.NewLevel{LocationID: l.LocationID, Stocked: l.Stocked, Incoming: l.Incoming}
		if _, err := d.createLevel(n.ID, level); err != nil {
			return ItemRow{}, err
		}
	}
	return d.itemRow(item)
}

// claim gives a SKU to an item; nil is none.
func (d *decision) claim(sku *string, item string) error {
	if sku == nil {
		return nil
	}
	claim, err := d.sku(*sku)
	if err != nil {
		return err
	}
	facts, err := claim.Claim(*sku, item)
	if err != nil {
		return err
	}
	d.record(events.SKUStream(*sku), facts...)
	return nil
}

// release takes a SKU from an item; nil is none.
func (d *decision) release(sku *string, item string) error {
	if sku == nil {
		return nil
	}
	claim, err := d.sku(*sku)
	if err != nil {
		return err
	}
	d.record(events.SKUStream(*sku), claim.Release(*sku, item)...)
	return nil
}

// ItemUpdate is the change of one item.
type ItemUpdate struct {
	ID string `json:"id"`
	domain.ItemChanges
}

// UpdateInventoryItems changes attributes of items. It answers with the items.
type UpdateInventoryItems struct {
	Updates []ItemUpdate `json:"updates"`
}

// Name implements Command.
func (UpdateInventoryItems) Name() string { return "update-inventory-items" }

func (c UpdateInventoryItems) check() error {
	return eachLine(c.Updates, func(u ItemUpdate) error {
		return first(required("id", u.ID), checkChanges(u.ItemChanges))
	})
}

func (c UpdateInventoryItems) prefetch(_ context.Context, p *prefetch) error {
	for _, u := range c.Updates {
		p.item(u.ID)
		if u.SKU.Value != nil {
			p.sku(*u.SKU.Value)
		}
	}
	return nil
}

func (c UpdateInventoryItems) decide(d *decision) (any, error) {
	return each(d, c.Updates, d.updateItem)
}

func (d *decision) updateItem(u ItemUpdate) (ItemRow, error) {
	item, err := d.item(u.ID)
	if err != nil {
		return ItemRow{}, err
	}
	facts, err := item.Update(u.ID, u.ItemChanges)
	if err != nil {
		return ItemRow{}, err
	}
	before := item.Attributes.SKU
	if u.SKU.Set && !same(before, u.SKU.Value) {
		if err := first(d.claim(u.SKU.Value, u.ID), d.release(before, u.ID)); err != nil {
			return ItemRow{}, err
		}
	}
	d.record(events.ItemStream(u.ID), facts...)
	return d.itemRow(item)
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

func checkChanges(c domain.ItemChanges) error {
	return first(
		optionalField("sku", c.SKU, maxID),
		optionalField("title", c.Title, maxText),
		optionalField("description", c.Description, maxText),
		optionalField("thumbnail", c.Thumbnail, maxText),
		optionalField("origin_country", c.OriginCountry, maxText),
		optionalField("hs_code", c.HSCode, maxText),
		optionalField("mid_code", c.MIDCode, maxText),
		optionalField("material", c.Material, maxText),
		optionalField("unit_of_measure", c.UnitOfMeasure, maxText),
		metadataField(c.Metadata),
	)
}

// DeleteInventoryItems deletes items with their levels and variant links. It
// refuses while any of them has reservations. It answers with the ids.
type DeleteInventoryItems struct {
	IDs           []string `json:"ids"`
	IgnoreUnknown bool     `json:"-"` // pass over those that never were
}

// Name implements Command.
func (DeleteInventoryItems) Name() string { return "delete-inventory-items" }

func (c DeleteInventoryItems) check() error { return eachID("id", c.IDs) }

func (c DeleteInventoryItems) prefetch(ctx context.Context, p *prefetch) error {
	for _, id := range c.IDs {
		p.item(id)
		links, err := p.find(ctx, FindItemVariants, id)
		if err != nil {
			return err
		}
		for _, link := range links {
			p.variant(link.ID)
		}
	}
	return nil
}

func (c DeleteInventoryItems) decide(d *decision) (any, error) {
	_, err := each(d, c.IDs, func(id string) (struct{}, error) {
		return struct{}{}, unlessIgnored(c.IgnoreUnknown, d.deleteItem(id))
	})
	return ids(c.IDs), err
}

func (d *decision) deleteItem(id string) error {
	item, err := d.item(id)
	if err != nil {
		return err
	}
	refs, err := d.find(FindItemVariants, id)
	if err != nil {
		return err
	}
	streams := skuStreams(item.Attributes.SKU)
	for _, ref := range refs {
		streams = append(streams, events.VariantStream(ref.ID))
	}
	if err := d.need(streams...); err != nil {
		return err
	}
	links := []events.Link{}
	for _, ref := range refs {
		variant, err := d.variant(ref.ID)
		if err != nil {
			return err
		}
		if required, linked := variant.Link(id); linked {
			links = append(links, events.Link{VariantID: ref.ID, Required: required})
		}
	}
	facts, err := item.Delete(id, links)
	if err != nil || len(facts) == 0 {
		return err
	}
	d.record(events.ItemStream(id), facts...)
	for _, link := range links {
		variant, err := d.variant(link.VariantID)
		if err != nil {
			return err
		}
		d.record(events.VariantStream(link.VariantID), variant.Detach(link.VariantID, id)...)
	}
	return d.release(item.Attributes.SKU, id)
}

// RestoreInventoryItems undoes the deletion of items: the items, the levels and
// the variant links it removed, and the SKUs, if nobody took them meanwhile. It
// answers with the items.
type RestoreInventoryItems struct {
	IDs []string `json:"ids"`
}

// Name implements Command.
func (RestoreInventoryItems) Name() string { return "restore-inventory-items" }

func (c RestoreInventoryItems) check() error { return eachID("id", c.IDs) }

func (c RestoreInventoryItems) prefetch(_ context.Context, p *prefetch) error {
	for _, id := range c.IDs {
		p.item(id)
	}
	return nil
}

func (c RestoreInventoryItems) decide(d *decision) (any, error) {
	return each(d, c.IDs, d.restoreItem)
}

func (d *decision) restoreItem(id string) (ItemRow, error) {
	item, err := d.item(id)
	if err != nil {
		return ItemRow{}, err
	}
	facts, err := item.Restore(id)
	if err != nil {
		return ItemRow{}, err
	}
	if len(facts) == 0 {
		return d.itemRow(item)
	}
	links := item.RemovedLinks()
	streams := skuStreams(item.Attributes.SKU)
	for _, link := range links {
		streams = append(streams, events.VariantStream(link.VariantID))
	}
	if err := d.need(streams...); err != nil {
		return ItemRow{}, err
	}
	if err := d.claim(item.Attributes.SKU, id); err != nil {
		return ItemRow{}, err
	}
	d.record(events.ItemStream(id), facts...)
	for _, link := range links {
		variant, err := d.variant(link.VariantID)
		if err != nil {
			return ItemRow{}, err
		}
		if _, linked := variant.Link(id); linked {
			continue
		}
		attached, err := variant.Attach(link.VariantID, id, &link.Required)
		if err != nil {
			return ItemRow{}, err
		}
		d.record(events.VariantStream(link.VariantID), attached...)
	}
	return d.itemRow(item)
}

func skuStreams(sku *string) []string {
	if sku == nil {
		return nil
	}
	return []string{events.SKUStream(*sku)}
}

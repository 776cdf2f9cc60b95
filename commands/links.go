package commands

import (
	"context"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// LinkName names the link of a variant to an item. inventoryItemId and tag are
// the names Medusa's step has for the same.
type LinkName struct {
	VariantID       string `json:"variant_id,omitzero"`
	InventoryItemID string `json:"inventory_item_id,omitzero"`
	Tag             string `json:"tag,omitzero"`
	ItemID          string `json:"inventoryItemId,omitzero"`
}

func (l LinkName) variant() string { return l.VariantID + l.Tag }

func (l LinkName) item() string { return l.InventoryItemID + l.ItemID }

func (l LinkName) check() error {
	if l.VariantID != "" && l.Tag != "" {
		return unknownField("tag")
	}
	if l.InventoryItemID != "" && l.ItemID != "" {
		return unknownField("inventoryItemId")
	}
	return first(required("variant_id", l.variant()), required("inventory_item_id", l.item()))
}

// NewLink is a link to be made. Without a required quantity it needs 1, and an
// existing link stays as it is.
type NewLink struct {
	LinkName
	Required *events.Quantity `json:"required_quantity,omitempty"`
}

// AttachInventoryItems says what variants are made of. It answers with the links.
type AttachInventoryItems struct {
	Links []NewLink `json:"links"`
}

// Name implements Command.
func (AttachInventoryItems) Name() string { return "attach-inventory-items" }

func (c AttachInventoryItems) check() error {
	return eachLine(c.Links, func(l NewLink) error { return l.check() })
}

func (c AttachInventoryItems) prefetch(_ context.Context, p *prefetch) error {
	for _, l := range c.Links {
		p.item(l.item())
		p.variant(l.variant())
	}
	return nil
}

func (c AttachInventoryItems) decide(d *decision) (any, error) {
	return each(d, c.Links, d.attach)
}

func (d *decision) attach(l NewLink) (LinkRow, error) {
	item, err := d.item(l.item())
	if err != nil {
		return LinkRow{}, err
	}
	if !item.Exists() {
		return LinkRow{}, domain.ItemNotFound(l.item())
	}
	return d.link(l.LinkName, func(v *domain.Variant) ([]events.Fact, error) {
		return v.Attach(l.variant(), l.item(), l.Required)
	})
}

// LinkUpdate is the change of a link.
type LinkUpdate struct {
	LinkName
	Required *events.Quantity `json:"required_quantity"`
}

// UpdateInventoryLinks changes how much of an item variants are made of. It
// answers with the links.
type UpdateInventoryLinks struct {
	Links []LinkUpdate `json:"links"`
}

// Name implements Command.
func (UpdateInventoryLinks) Name() string { return "update-inventory-links" }

func (c UpdateInventoryLinks) check() error {
	return eachLine(c.Links, func(l LinkUpdate) error {
		return first(l.check(), requiredQuantity("required_quantity", l.Required))
	})
}

func (c UpdateInventoryLinks) prefetch(_ context.Context, p *prefetch) error {
	for _, l := range c.Links {
		p.variant(l.variant())
	}
	return nil
}

func (c UpdateInventoryLinks) decide(d *decision) (any, error) {
	return each(d, c.Links, d.updateLink)
}

func (d *decision) updateLink(l LinkUpdate) (LinkRow, error) {
	return d.link(l.LinkName, func(v *domain.Variant) ([]events.Fact, error) {
		return v.UpdateLink(l.variant(), l.item(), *l.Required)
	})
}

// DetachInventoryItems removes links. One that is not there is left alone. It
// answers with the links named.
type DetachInventoryItems struct {
	Links []LinkName `json:"links"`
}

// Name implements Command.
func (DetachInventoryItems) Name() string { return "detach-inventory-items" }

func (c DetachInventoryItems) check() error { return eachLine(c.Links, LinkName.check) }

func (c DetachInventoryItems) prefetch(_ context.Context, p *prefetch) error {
	for _, l := range c.Links {
		p.variant(l.variant())
	}
	return nil
}

func (c DetachInventoryItems) decide(d *decision) (any, error) {
	return each(d, c.Links, d.detach)
}

func (d *decision) detach(l LinkName) (LinkRow, error) {
	variant, err := d.variant(l.variant())
	if err != nil {
		return LinkRow{}, err
	}
	required, _ := variant.Link(l.item())
	d.record(events.VariantStream(l.variant()), variant.Detach(l.variant(), l.item())...)
	return LinkRow{l.variant(), l.item(), required}, nil
}

// BatchInventoryLinks makes, changes and removes links in one commit, in this
// order: delete, create, update.
type BatchInventoryLinks struct {
	Create []NewLink    `json:"create,omitzero"`
	Update []LinkUpdate `json:"update,omitzero"`
	Delete []LinkName   `json:"delete,omitzero"`
}

// LinksBatchResult is what a batch of links did. Deleted links have what they
// required.
type LinksBatchResult struct {
	Created []LinkRow `json:"created"`
	Updated []LinkRow `json:"updated"`
	Deleted []LinkRow `json:"deleted"`
}

// Name implements Command.
func (BatchInventoryLinks) Name() string { return "batch-inventory-links" }

func (c BatchInventoryLinks) check() error {
	return first(
		part("create", AttachInventoryItems{c.Create}.check()),
		part("update", UpdateInventoryLinks{c.Update}.check()),
		part("delete", DetachInventoryItems{c.Delete}.check()),
		within(len(c.Create)+len(c.Update)+len(c.Delete)),
	)
}

func (c BatchInventoryLinks) prefetch(ctx context.Context, p *prefetch) error {
	return first(
		AttachInventoryItems{c.Create}.prefetch(ctx, p),
		UpdateInventoryLinks{c.Update}.prefetch(ctx, p),
		DetachInventoryItems{c.Delete}.prefetch(ctx, p),
	)
}

func (c BatchInventoryLinks) decide(d *decision) (any, error) {
	deleted, err := each(d, c.Delete, d.detach)
	if err != nil {
		return nil, part("delete", err)
	}
	created, err := each(d, c.Create, d.attach)
	if err != nil {
		return nil, part("create", err)
	}
	updated, err := each(d, c.Update, d.updateLink)
	if err != nil {
		return nil, part("update", err)
	}
	return LinksBatchResult{Created: created, Updated: updated, Deleted: deleted}, nil
}

// link makes a decision about a link and answers how it is then.
func (d *decision) link(l LinkName, decide func(*domain.Variant) ([]events.Fact, error)) (LinkRow, error) {
	variant, err := d.variant(l.variant())
	if err != nil {
		return LinkRow{}, err
	}
	facts, err := decide(variant)
	if err != nil {
		return LinkRow{}, err
	}
	d.record(events.VariantStream(l.variant()), facts...)
	required, _ := variant.Link(l.item())
	return LinkRow{l.variant(), l.item(), required}, nil
}

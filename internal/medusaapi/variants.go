package medusaapi

import (
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

var (
	linkShape    = shape{fields: []field{{name: "required_quantity", want: aNumber, required: true}}}
	newLinkShape = shape{fields: append(slices.Clone(linkShape.fields), field{name: "inventory_item_id", want: aText, required: true})}

	variantLinkShape = shape{fields: append(slices.Clone(newLinkShape.fields), field{name: "variant_id", want: aText, required: true})}
	linkNameShape    = shape{fields: variantLinkShape.fields[1:]}
	variantsShape    = shape{fields: []field{
		{name: "create", want: anArray, of: &variantLinkShape},
		{name: "update", want: anArray, of: &variantLinkShape},
		{name: "delete", want: anArray, of: &linkNameShape},
	}}
)

type (
	variantAnswer struct {
		Variant Variant `json:"variant"`
	}
	// linkDefinition is how Medusa writes a link of a variant and an item.
	linkDefinition struct {
		Product struct {
			VariantID string `json:"variant_id"`
		} `json:"product"`
		Inventory struct {
			ItemID string `json:"inventory_item_id"`
		} `json:"inventory"`
		Data *linkData `json:"data,omitzero"`
	}
	linkData struct {
		Required events.Quantity `json:"required_quantity"`
	}
	deletedLinkAnswer struct {
		ID      linkDefinition `json:"id"`
		Object  string         `json:"object"`
		Deleted bool           `json:"deleted"`
		Parent  Variant        `json:"parent"`
	}
	// linkDeleted is a deletedLinkAnswer with what was chosen of the variant.
	linkDeleted struct {
		ID      linkDefinition `json:"id"`
		Object  string         `json:"object"`
		Deleted bool           `json:"deleted"`
		Parent  jsontext.Value `json:"parent"`
	}
	linksAnswer struct {
		Created []linkDefinition `json:"created"`
		Updated []linkDefinition `json:"updated"`
		Deleted []linkDefinition `json:"deleted"`
	}
)

func definitionOf(variant, item string, required *events.Quantity) linkDefinition {
	var d linkDefinition
	d.Product.VariantID, d.Inventory.ItemID = variant, item
	if required != nil {
		d.Data = &linkData{*required}
	}
	return d
}

func (a *api) variantRoutes() []httpapi.Route {
	const one = "/admin/products/{id}/variants/{variant_id}"
	return []httpapi.Route{
		a.ask(one, "admin-retrieve-variant", "what a variant is made of", selectParams, variantAnswer{}, retrieveVariant),
		a.write(http.MethodPost, one+"/inventory-items", "admin-link-variant", "make a variant of an item, too", selectParams,
			newLinkBody{}, variantAnswer{}, createLink),
		a.write(http.MethodPost, one+"/inventory-items/{inventory_item_id}", "admin-update-variant-link", "change how much of an item a variant is made of",
			selectParams, linkBody{}, variantAnswer{}, updateLink),
		a.write(http.MethodDelete, one+"/inventory-items/{inventory_item_id}", "admin-unlink-variant", "make a variant of an item no more", selectParams,
			nil, deletedLinkAnswer{}, deleteLink),
		a.write(http.MethodPost, "/admin/products/{id}/variants/inventory-items/batch", "admin-batch-variant-links",
			"remove, make and change links of variants, in one commit", selectParams, variantLinksBody{}, linksAnswer{}, batchLinks),
	}
}

// chosenVariant reads the query of a route that answers with a variant. The answer has
// the product of the path, which nothing else reads.
func (c *call) chosenVariant() (*selection, error) {
	if !utf8.ValidString(c.id("id")) {
		return nil, invalid("Field 'id' is not valid UTF-8 text")
	}
	to, err := c.query(selectParams, 0)
	if err != nil {
		return nil, err
	}
	s, err := variantEntity.chosen(to.fields, variantDefaults)
	if err != nil {
		return nil, err
	}
	// What a variant is made of is all there is to say about it.
	for _, name := range variantDefaults {
		variantEntity.choose(s, name)
	}
	return s, nil
}

func retrieveVariant(c *call) (any, error) {
	s, err := c.chosenVariant()
	if err != nil {
		return nil, err
	}
	return c.answerVariant(s)
}

func (c *call) answerVariant(s *selection) (any, error) {
	variant, err := c.variant()
	if err != nil {
		return nil, err
	}
	picked, err := s.of(variant)
	return keyed{"variant": picked}, err
}

// variant is the variant of the path. The ledger knows no products: the one of
// the path is taken at its word, as in Medusa.
func (c *call) variant() (Variant, error) {
	v := Variant{ID: c.id("variant_id"), ProductID: c.id("id"), Links: []Link{}}
	page, err := list(c, asked{limit: maxLimit, List: projections.List{Filter: map[string]any{"variant_id": v.ID}, NoCount: true}}, c.models.ListLinks)
	if err != nil {
		return v, err
	}
	var ids []string
	for _, l := range page.rows {
		v.Links = append(v.Links, linkOf(l))
		ids = append(ids, l.ItemID)
	}
	items, err := c.itemsWithLevels(ids)
	if err != nil {
		return v, err
	}
	for i, l := range v.Links {
		if it, live := items[l.ItemID]; live {
			v.Links[i].Item = &it
		}
	}
	return v, nil
}

func createLink(c *call) (any, error) {
	s, err := c.chosenVariant()
	if err != nil {
		return nil, err
	}
	var body newLinkBody
	if err := c.body(newLinkShape, &body); err != nil {
		return nil, err
	}
	link := commands.NewLink{LinkName: commands.LinkName{VariantID: c.id("variant_id"), InventoryItemID: body.ItemID}, Required: &body.Required}
	return c.do(commands.AttachInventoryItems{Links: []commands.NewLink{link}}, func([]byte) (any, error) { return c.answerVariant(s) })
}

// link is the link that the path names.
func (c *call) link() commands.LinkName {
	return commands.LinkName{VariantID: c.id("variant_id"), InventoryItemID: c.id("inventory_item_id")}
}

func updateLink(c *call) (any, error) {
	s, err := c.chosenVariant()
	if err != nil {
		return nil, err
	}
	var body linkBody
	if err := c.body(linkShape, &body); err != nil {
		return nil, err
	}
	update := commands.LinkUpdate{LinkName: c.link(), Required: &body.Required}
	return c.do(commands.UpdateInventoryLinks{Links: []commands.LinkUpdate{update}}, func([]byte) (any, error) { return c.answerVariant(s) })
}

func deleteLink(c *call) (any, error) {
	s, err := c.chosenVariant()
	if err != nil {
		return nil, err
	}
	link := c.link()
	return c.do(commands.DetachInventoryItems{Links: []commands.LinkName{link}}, func([]byte) (any, error) {
		variant, err := c.variant()
		if err != nil {
			return nil, err
		}
		parent, err := s.of(variant)
		return linkDeleted{definitionOf(link.VariantID, link.InventoryItemID, nil), "variant-inventory-item-link", true, parent}, err
	})
}

// batchLinks takes fields for the sake of clients that send them; as in Medusa, they
// change nothing.
func batchLinks(c *call) (any, error) {
	if _, err := c.query(selectParams, 0); err != nil {
		return nil, err
	}
	var body variantLinksBody
	if err := c.body(variantsShape, &body); err != nil {
		return nil, err
	}
	return c.do(body.command(), func([]byte) (any, error) {
		return linksAnswer{
			mapped(body.Create, variantLinkBody.definition),
			mapped(body.Update, variantLinkBody.definition),
			mapped(body.Delete, func(l linkNameBody) linkDefinition { return definitionOf(l.VariantID, l.ItemID, nil) }),
		}, nil
	})
}

func (b variantLinksBody) command() commands.BatchInventoryLinks {
	return commands.BatchInventoryLinks{
		Create: mapped(b.Create, func(l variantLinkBody) commands.NewLink {
			return commands.NewLink{LinkName: l.name(), Required: &l.Required}
		}),
		Update: mapped(b.Update, func(l variantLinkBody) commands.LinkUpdate {
			return commands.LinkUpdate{LinkName: l.name(), Required: &l.Required}
		}),
		Delete: mapped(b.Delete, func(l linkNameBody) commands.LinkName {
			return commands.LinkName{VariantID: l.VariantID, InventoryItemID: l.ItemID}
		}),
	}
}

func (l variantLinkBody) name() commands.LinkName {
	return commands.LinkName{VariantID: l.VariantID, InventoryItemID: l.ItemID}
}

func (l variantLinkBody) definition() linkDefinition {
	return definitionOf(l.VariantID, l.ItemID, &l.Required)
}

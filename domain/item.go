package domain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Item is an inventory item with its levels and its live reservations. The zero
// Item has not been created.
type Item struct {
	itemHead
	levels   table[Level]       // by location id
	places   table[string]      // location ids of the levels, by level id
	live     table[Reservation] // by reservation id
	released table[Reservation] // by reservation id; the newest MaxReleased
	saved    *itemHead          // as of Begin; nil when nothing is begun, as it is in most of those in memory
}

// itemHead is what of an Item is copied to put it back as it was.
type itemHead struct {
	ID         string
	Version    uint64 // of the stream
	Attributes events.ItemAttributes
	Created    time.Time
	Updated    time.Time
	Deleted    time.Time // zero while the item lives

	removed       []Level       // with the item, when it was deleted
	removedLinks  []events.Link // likewise
	releasedOrder []string      // ids in released, oldest first
}

// Level is the stock of an item at a location.
type Level struct {
	ID         string
	LocationID string
	Stocked    events.Quantity
	Reserved   events.Quantity // sum of the live reservations here
	Incoming   events.Quantity // announced; decides nothing
	Metadata   json.RawMessage
	Created    time.Time
	Updated    time.Time
	Version    uint64 // of the item's stream when the level last changed
}

// Available is what may be promised: stocked − reserved.
func (l Level) Available() events.Quantity { return l.Stocked.Minus(l.Reserved) }

// Reservation is a promise of units of an item at a location.
type Reservation struct {
	ID         string
	LocationID string
	Quantity   events.Quantity
	Details    events.ReservationDetails
	Created    time.Time
	Updated    time.Time
	Released   time.Time // zero while it holds
}

// MaxReleased is how many released or used-up reservations an item remembers;
// older ones are found by reading the stream.
const MaxReleased = 1000

// Begin marks a point to which Rollback returns.
func (it *Item) Begin() {
	head := it.itemHead
	it.saved = &head
	it.levels.begin()
	it.places.begin()
	it.live.begin()
	it.released.begin()
}

// Keep makes everything applied since Begin stay.
func (it *Item) Keep() {
	it.saved = nil
	it.levels.keep()
	it.places.keep()
	it.live.keep()
	it.released.keep()
}

// Rollback undoes everything applied since Begin.
func (it *Item) Rollback() {
	it.itemHead, it.saved = *it.saved, nil
	it.levels.rollback()
	it.places.rollback()
	it.live.rollback()
	it.released.rollback()
}

// Exists reports whether the item was created and not deleted since.
func (it *Item) Exists() bool { return it.ID != "" && it.Deleted.IsZero() }

// Level is the level at a location.
func (it *Item) Level(location string) (Level, bool) { return it.levels.get(location) }

// Levels are the live levels, oldest first.
func (it *Item) Levels() []Level {
	return slices.SortedFunc(maps.Values(it.levels.rows), func(a, b Level) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
}

// LevelByID finds a live level by its id.
func (it *Item) LevelByID(id string) (Level, bool) {
	location, found := it.places.get(id)
	if !found {
		return Level{}, false
	}
	return it.levels.get(location)
}

// Reservation is a live reservation.
func (it *Item) Reservation(id string) (Reservation, bool) { return it.live.get(id) }

// Reservations are the live reservations, in no order.
func (it *Item) Reservations() []Reservation { return slices.Collect(maps.Values(it.live.rows)) }

// Released is a reservation that was released and not restored since, or used up
// and so of quantity 0, if it is among the newest MaxReleased.
func (it *Item) Released(id string) (Reservation, bool) { return it.released.get(id) }

// RemovedLinks are the variant links that the item's deletion removed.
func (it *Item) RemovedLinks() []events.Link { return it.removedLinks }

// Totals sum the live levels.
func (it *Item) Totals() (stocked, reserved events.Quantity) {
	for _, l := range it.levels.rows {
		stocked, reserved = stocked.Plus(l.Stocked), reserved.Plus(l.Reserved)
	}
	return stocked, reserved
}

// Create brings the item into being under id.
func (it *Item) Create(id string, attributes events.ItemAttributes) ([]events.Fact, error) {
	if it.ID != "" {
		return nil, fault.New(fault.Conflict, "item_exists", "Inventory item with id: %s, already exists.", id).
			With("inventory_item_id", id)
	}
	if err := checkAttributes(attributes); err != nil {
		return nil, err
	}
	var err error
	if attributes.Metadata, err = mergeMetadata(nil, attributes.Metadata); err != nil {
		return nil, err
	}
	return []events.Fact{events.ItemCreated{ItemID: id, Attributes: attributes}}, nil
}

// ItemChanges are the attributes an update names; see [Field]. The names are
// Medusa's.
type ItemChanges struct {
	SKU              Field[string]          `json:"sku,omitzero"`
	Title            Field[string]          `json:"title,omitzero"`
	Description      Field[string]          `json:"description,omitzero"`
	Thumbnail        Field[string]          `json:"thumbnail,omitzero"`
	OriginCountry    Field[string]          `json:"origin_country,omitzero"`
	HSCode           Field[string]          `json:"hs_code,omitzero"`
	MIDCode          Field[string]          `json:"mid_code,omitzero"`
	Material         Field[string]          `json:"material,omitzero"`
	UnitOfMeasure    Field[string]          `json:"unit_of_measure,omitzero"`
	Weight           Field[events.Quantity] `json:"weight,omitzero"`
	Length           Field[events.Quantity] `json:"length,omitzero"`
	Height           Field[events.Quantity] `json:"height,omitzero"`
	Width            Field[events.Quantity] `json:"width,omitzero"`
	RequiresShipping Field[bool]            `json:"requires_shipping,omitzero"`
	Metadata         Field[json.RawMessage] `json:"metadata,omitzero"`
}

// Over lays the changes over attributes, and names those that differ.
func (c ItemChanges) Over(attributes events.ItemAttributes) (after events.ItemAttributes, changed []string, err error) {
	after = attributes
	note := func(name string, differs bool) {
		if differs {
			changed = append(changed, name)
		}
	}
	note("sku", lay(c.SKU, &after.SKU))
	note("title", lay(c.Title, &after.Title))
	note("description", lay(c.Description, &after.Description))
	note("thumbnail", lay(c.Thumbnail, &after.Thumbnail))
	note("origin_country", lay(c.OriginCountry, &after.OriginCountry))
	note("hs_code", lay(c.HSCode, &after.HSCode))
	note("mid_code", lay(c.MIDCode, &after.MIDCode))
	note("material", lay(c.Material, &after.Material))
	note("unit_of_measure", lay(c.UnitOfMeasure, &after.UnitOfMeasure))
	note("weight", layQuantity(c.Weight, &after.Weight))
	note("length", layQuantity(c.Length, &after.Length))
	note("height", layQuantity(c.Height, &after.Height))
	note("width", layQuantity(c.Width, &after.Width))
	if c.RequiresShipping.Set {
		if c.RequiresShipping.Value == nil {
			return after, nil, invalid("requires_shipping", "invalid_value", "requires_shipping must be true or false, not null")
		}
		note("requires_shipping", *c.RequiresShipping.Value != after.RequiresShipping)
		after.RequiresShipping = *c.RequiresShipping.Value
	}
	differs, err := layMetadata(c.Metadata, &after.Metadata)
	note("metadata", differs)
	return after, changed, err
}

// lay sets the target if the field is set, and reports whether that made a
// difference.
func lay[T comparable](f Field[T], target **T) bool {
	old := *target
	if !f.Set {
		return false
	}
	*target = copied(f.Value)
	return (old == nil) != (f.Value == nil) || old != nil && *old != *f.Value
}

func layQuantity(f Field[events.Quantity], target **events.Quantity) bool {
	old := *target
	if !f.Set {
		return false
	}
	*target = copied(f.Value)
	return (old == nil) != (f.Value == nil) || old != nil && !old.Equal(*f.Value)
}

func layMetadata(f Field[json.RawMessage], target *json.RawMessage) (bool, error) {
	if !f.Set {
		return false, nil
	}
	var change json.RawMessage
	if f.Value != nil {
		change = *f.Value
	}
	merged, err := mergeMetadata(*target, change)
	if err == nil {
		err = metadataWithin(*target, merged)
	}
	if err != nil {
		return false, err
	}
	differs := string(merged) != string(*target)
	*target = merged
	return differs, nil
}

func checkAttributes(a events.ItemAttributes) error {
	if a.SKU != nil && *a.SKU == "" {
		return invalid("sku", "invalid_value", "sku must not be empty; leave it out or send null for an item without one")
	}
	for _, size := range []struct {
		field string
		is    *events.Quantity
	}{{"weight", a.Weight}, {"length", a.Length}, {"height", a.Height}, {"width", a.Width}} {
		if size.is == nil {
			continue
		}
		if err := notNegative(size.field, *size.is); err != nil {
			return err
		}
	}
	return nil
}

// Update changes attributes. Metadata is merged, key by key.
func (it *Item) Update(id string, changes ItemChanges) ([]events.Fact, error) {
	if !it.Exists() {
		return nil, ItemNotFound(id)
	}
	after, changed, err := changes.Over(it.Attributes)
	if err != nil {
		return nil, err
	}
	if err := checkAttributes(after); err != nil {
		return nil, err
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return []events.Fact{events.ItemUpdated{ItemID: id, Changed: changed, Attributes: after}}, nil
}

// Delete ends the item and its levels, whatever they stock. It refuses while
// anything is reserved. links are the variant links that go with it.
func (it *Item) Delete(id string, links []events.Link) ([]events.Fact, error) {
	if it.ID == "" {
		return nil, ItemNotFound(id)
	}
	if !it.Deleted.IsZero() {
		return nil, nil
	}
	if len(it.live.rows) > 0 {
		_, reserved := it.Totals()
		return nil, fault.New(fault.Invalid, "item_has_reservations",
			"Cannot remove following inventory item(s) since they have reservations: [%s].", id).
			With("inventory_item_id", id).With("reserved", reserved)
	}
	var facts []events.Fact
	deleted := events.ItemDeleted{ItemID: id, SKU: it.Attributes.SKU, Levels: []string{}, Links: links}
	for _, l := range it.Levels() {
		facts = append(facts, events.LevelDeleted{
			ItemID: id, LevelID: l.ID, LocationID: l.LocationID, Stocked: l.Stocked, Incoming: l.Incoming,
		})
		deleted.Levels = append(deleted.Levels, l.ID)
	}
	return append(facts, deleted), nil
}

// Restore undoes Delete, down to the levels that deletion removed.
func (it *Item) Restore(id string) ([]events.Fact, error) {
	if it.ID == "" {
		return nil, ItemNotFound(id)
	}
	if it.Deleted.IsZero() {
		return nil, nil
	}
	facts := []events.Fact{events.ItemRestored{ItemID: id, SKU: it.Attributes.SKU}}
	for _, l := range it.removed {
		facts = append(facts, events.LevelRestored{
			ItemID: id, LevelID: l.ID, LocationID: l.LocationID, Stocked: l.Stocked, Incoming: l.Incoming,
		})
	}
	return facts, nil
}

// ItemNotFound names an item that does not exist, in Medusa's words.
func ItemNotFound(id string) error {
	return fault.New(fault.NotFound, "not_found", "InventoryItem with id: %s was not found", id).With("inventory_item_id", id)
}

// Apply takes a fact of the item's stream in. It panics when the fact cannot
// have followed what came before: the stream is corrupt, or a rule is.
func (it *Item) Apply(fact events.Fact, at Stamp) {
	it.Version, it.Updated = at.Version, at.At
	switch f := fact.(type) {
	case events.ItemCreated:
		must(it.ID == "", "created twice", fact)
		it.ID, it.Attributes, it.Created = strings.Clone(f.ItemID), own(f.Attributes), at.At
	case events.ItemUpdated:
		it.Attributes = own(f.Attributes)
	case events.ItemDeleted:
		it.Deleted, it.removedLinks = at.At, f.Links
		must(len(it.levels.rows) == 0, "deleted with levels", fact)
		it.removed = slices.DeleteFunc(slices.Clone(it.removed), func(l Level) bool { return !slices.Contains(f.Levels, l.ID) })
	case events.ItemRestored:
		it.Deleted, it.removedLinks = time.Time{}, nil
	default:
		if !it.applyLevel(fact, at) && !it.applyReservation(fact, at) {
			foreign(fact, "an item")
		}
	}
}

// own copies texts: those of a fact that was read are parts of one text, the whole
// event, which they would keep in memory: 2.5 KB and not 1.8 for an item with three
// levels.
func own(a events.ItemAttributes) events.ItemAttributes {
	for _, text := range []**string{
		&a.SKU, &a.Title, &a.Description, &a.Thumbnail, &a.OriginCountry, &a.HSCode, &a.MIDCode, &a.Material, &a.UnitOfMeasure,
	} {
		if *text != nil {
			*text = new(strings.Clone(**text))
		}
	}
	return a
}

// must panics when a fact contradicts the past.
func must(holds bool, what string, fact events.Fact) {
	if !holds {
		panic(fmt.Sprintf("domain: %s: %s: %+v", fact.EventType(), what, fact))
	}
}

// foreign panics about a fact in the wrong stream.
func foreign(fact events.Fact, aggregate string) {
	panic(fmt.Sprintf("domain: %s is no fact of %s", fact.EventType(), aggregate))
}

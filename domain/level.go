package domain

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Floor is how low the stocked quantity of a level may be brought. It never
// keeps stock from being raised.
type Floor string

// The floors.
const (
	FloorReserved Floor = "reserved" // not below what is reserved: no promise is broken
	FloorZero     Floor = "zero"     // not below zero: promised goods may be lost
	FloorNone     Floor = "none"     // anything: backorders are shipped
)

// Check refuses a floor that is none of them. "" is FloorReserved.
func (f Floor) Check() error {
	switch f {
	case "", FloorReserved, FloorZero, FloorNone:
		return nil
	}
	return invalid("floor", "invalid_value", `floor must be "reserved", "zero" or "none", not %q`, string(f))
}

// Expect is what a level must hold for a change to be made: compare-and-set.
// What is left out is not compared.
type Expect struct {
	Stocked  *events.Quantity `json:"stocked_quantity,omitempty"`
	Reserved *events.Quantity `json:"reserved_quantity,omitempty"`
	Version  *uint64          `json:"version,omitzero"`
}

// met refuses with expectation_failed, naming both values, when l differs.
func (e *Expect) met(item string, l Level) error {
	if e == nil {
		return nil
	}
	failed := func(what string, expected, actual any) error {
		return levelFault(fault.Conflict, "expectation_failed", item, l,
			"%s of item %s at location %s is %v, not %v as expected", what, item, l.LocationID, actual, expected).
			With("field", "expect."+what).With("expected", expected).With("actual", actual)
	}
	if e.Stocked != nil && !e.Stocked.Equal(l.Stocked) {
		return failed("stocked_quantity", *e.Stocked, l.Stocked)
	}
	if e.Reserved != nil && !e.Reserved.Equal(l.Reserved) {
		return failed("reserved_quantity", *e.Reserved, l.Reserved)
	}
	if e.Version != nil && *e.Version != l.Version {
		return failed("version", *e.Version, l.Version)
	}
	return nil
}

// NewLevel is a level to be created.
type NewLevel struct {
	ID         string
	LocationID string
	Stocked    events.Quantity
	Incoming   events.Quantity
	Metadata   json.RawMessage
}

// CreateLevel stocks the item at a location where it is not stocked.
func (it *Item) CreateLevel(item string, n NewLevel) ([]events.Fact, error) {
	if !it.Exists() {
		return nil, ItemNotFound(item)
	}
	if l, found := it.levels.get(n.LocationID); found {
		return nil, fault.New(fault.Invalid, "level_exists",
			"Inventory level with inventory_item_id: %s, location_id: %s, already exists.", item, n.LocationID).
			With("inventory_item_id", item).With("location_id", n.LocationID).With("level_id", l.ID)
	}
	if l, found := it.LevelByID(n.ID); found {
		return nil, fault.New(fault.Conflict, "level_exists", "Inventory level with id: %s, already exists.", n.ID).
			With("inventory_item_id", item).With("location_id", l.LocationID).With("level_id", l.ID)
	}
	if err := notNegative("stocked_quantity", n.Stocked); err != nil {
		return nil, err
	}
	if err := notNegative("incoming_quantity", n.Incoming); err != nil {
		return nil, err
	}
	metadata, err := mergeMetadata(nil, n.Metadata)
	if err != nil {
		return nil, err
	}
	return []events.Fact{events.LevelCreated{
		ItemID: item, LevelID: n.ID, LocationID: n.LocationID,
		Stocked: n.Stocked, Incoming: n.Incoming, Metadata: metadata,
	}}, nil
}

// Adjust moves the stocked quantity by delta, which may be negative.
func (it *Item) Adjust(item, location string, delta events.Quantity, floor Floor, expect *Expect) ([]events.Fact, error) {
	l, err := it.stockedAt(item, location)
	if err != nil {
		return nil, err
	}
	if err := expect.met(item, l); err != nil {
		return nil, err
	}
	if delta.IsZero() {
		return nil, nil
	}
	if err := withinRange("adjustment", delta); err != nil {
		return nil, err
	}
	after := l.Stocked.Plus(delta)
	if err := it.mayStock(item, l, after, floor); err != nil {
		return nil, err
	}
	return []events.Fact{events.StockAdjusted{
		ItemID: item, LevelID: l.ID, LocationID: location, Delta: delta, Stocked: after, Reserved: l.Reserved,
	}}, nil
}

// LevelChanges are what an update of a level sets. Nil leaves what is there.
type LevelChanges struct {
	Stocked  *events.Quantity
	Incoming *events.Quantity
	Metadata Field[json.RawMessage]
}

// UpdateLevel sets the quantities of a level.
func (it *Item) UpdateLevel(item, location string, c LevelChanges, floor Floor, expect *Expect) ([]events.Fact, error) {
	l, err := it.stockedAt(item, location)
	if err != nil {
		return nil, err
	}
	if err := expect.met(item, l); err != nil {
		return nil, err
	}
	var facts []events.Fact
	if c.Stocked != nil && !c.Stocked.Equal(l.Stocked) {
		if err := it.mayStock(item, l, *c.Stocked, floor); err != nil {
			return nil, err
		}
		facts = append(facts, events.StockSet{
			ItemID: item, LevelID: l.ID, LocationID: location, From: l.Stocked, Stocked: *c.Stocked, Reserved: l.Reserved,
		})
	}
	if c.Incoming != nil && !c.Incoming.Equal(l.Incoming) {
		if err := notNegative("incoming_quantity", *c.Incoming); err != nil {
			return nil, err
		}
		facts = append(facts, events.IncomingSet{
			ItemID: item, LevelID: l.ID, LocationID: location, From: l.Incoming, Incoming: *c.Incoming,
		})
	}
	metadata := l.Metadata
	differs, err := layMetadata(c.Metadata, &metadata)
	if err != nil {
		return nil, err
	}
	if differs {
		facts = append(facts, events.LevelUpdated{ItemID: item, LevelID: l.ID, LocationID: location, Metadata: metadata})
	}
	return facts, nil
}

// mayStock refuses to bring a level's stock from where it is down below its floor.
func (it *Item) mayStock(item string, l Level, after events.Quantity, floor Floor) error {
	if err := withinRange("stocked_quantity", after); err != nil {
		return err
	}
	if !after.Less(l.Stocked) {
		return nil
	}
	switch floor {
	case FloorNone:
	case FloorZero:
		if after.Sign() < 0 {
			return levelFault(fault.NotAllowed, "below_zero", item, l,
				"Item %s at location %s has %s in stock: %s would be left", item, l.LocationID, l.Stocked, after).
				With("asked", after.Minus(l.Stocked))
		}
	default:
		if after.Less(l.Reserved) {
			return levelFault(fault.NotAllowed, "below_reserved", item, l,
				"Item %s at location %s has %s in stock, %s of them reserved: %s would be left",
				item, l.LocationID, l.Stocked, l.Reserved, after).
				With("asked", after.Minus(l.Stocked))
		}
	}
	return nil
}

// DeleteLevel ends the stocking of the item at a location. It refuses while
// anything is reserved or incoming there, and, unless force is set, while
// anything is in stock.
func (it *Item) DeleteLevel(item, location string, force bool, expect *Expect) ([]events.Fact, error) {
	l, err := it.stockedAt(item, location)
	if err != nil {
		return nil, err
	}
	if err := expect.met(item, l); err != nil {
		return nil, err
	}
	switch {
	case !l.Reserved.IsZero():
		return nil, levelFault(fault.NotAllowed, "level_has_reservations", item, l,
			"Cannot remove Inventory Levels for %s because there are reserved or incoming items at the locations", location)
	case !l.Incoming.IsZero():
		return nil, levelFault(fault.NotAllowed, "level_has_incoming", item, l,
			"Cannot remove Inventory Levels for %s because there are reserved or incoming items at the locations", location).
			With("incoming", l.Incoming)
	case !l.Stocked.IsZero() && !force:
		return nil, levelFault(fault.NotAllowed, "level_has_stock", item, l,
			"Cannot remove Inventory Levels for %s because there are stocked items at the locations. Use force flag to delete anyway.", location)
	}
	return []events.Fact{events.LevelDeleted{
		ItemID: item, LevelID: l.ID, LocationID: location, Stocked: l.Stocked, Incoming: l.Incoming,
	}}, nil
}

// stockedAt is the live level of a live item at a location.
func (it *Item) stockedAt(item, location string) (Level, error) {
	if !it.Exists() {
		return Level{}, ItemNotFound(item)
	}
	l, found := it.levels.get(location)
	if !found {
		return Level{}, fault.New(fault.NotFound, "not_found", "Item %s is not stocked at location %s", item, location).
			With("inventory_item_id", item).With("location_id", location)
	}
	return l, nil
}

// levelFault is a refusal with the state of the level that made it.
func levelFault(kind fault.Kind, code, item string, l Level, message string, args ...any) *fault.Error {
	e := fault.New(kind, code, message, args...)
	e.Details = map[string]any{
		"inventory_item_id": item, "location_id": l.LocationID,
		"stocked": l.Stocked, "reserved": l.Reserved, "available": l.Available(),
	}
	return e
}

// applyLevel takes in a fact of a level, and reports whether it is one.
func (it *Item) applyLevel(fact events.Fact, at Stamp) bool {
	switch f := fact.(type) {
	case events.LevelCreated:
		_, exists := it.levels.get(f.LocationID)
		must(!exists, "created twice", fact)
		it.forgetRemoved(func(l Level) bool { return l.LocationID == f.LocationID || l.ID == f.LevelID })
		it.stock(Level{
			ID: strings.Clone(f.LevelID), LocationID: strings.Clone(f.LocationID), // see own
			Stocked: f.Stocked, Incoming: f.Incoming, Metadata: f.Metadata,
			Created: at.At, Updated: at.At, Version: at.Version,
		})
	case events.LevelUpdated:
		it.change(f.LocationID, fact, at, func(l *Level) { l.Metadata = f.Metadata })
	case events.LevelDeleted:
		l, exists := it.levels.get(f.LocationID)
		must(exists && l.Reserved.IsZero() && l.Stocked.Equal(f.Stocked), "deleted another level", fact)
		it.levels.remove(f.LocationID)
		it.places.remove(f.LevelID)
		it.removed = append(slices.Clone(it.removed), l)
	case events.LevelRestored:
		i := slices.IndexFunc(it.removed, func(l Level) bool { return l.ID == f.LevelID })
		must(i >= 0, "restored what was not removed", fact)
		l := it.removed[i]
		l.Updated, l.Version = at.At, at.Version
		it.forgetRemoved(func(l Level) bool { return l.ID == f.LevelID })
		it.stock(l)
	case events.StockAdjusted:
		it.change(f.LocationID, fact, at, func(l *Level) {
			must(l.Stocked.Plus(f.Delta).Equal(f.Stocked), "does not add up", fact)
			l.Stocked = f.Stocked
		})
	case events.StockSet:
		it.change(f.LocationID, fact, at, func(l *Level) {
			must(l.Stocked.Equal(f.From), "set from another quantity", fact)
			l.Stocked = f.Stocked
		})
	case events.IncomingSet:
		it.change(f.LocationID, fact, at, func(l *Level) { l.Incoming = f.Incoming })
	default:
		return false
	}
	return true
}

// stock adds a level.
func (it *Item) stock(l Level) {
	it.levels.set(l.LocationID, l)
	it.places.set(l.ID, l.LocationID)
}

// change applies do to the level at a location.
func (it *Item) change(location string, fact events.Fact, at Stamp, do func(*Level)) {
	l, exists := it.levels.get(location)
	must(exists, "no such level", fact)
	do(&l)
	l.Updated, l.Version = at.At, at.Version
	it.levels.set(l.LocationID, l)
}

func (it *Item) forgetRemoved(which func(Level) bool) {
	if slices.ContainsFunc(it.removed, which) {
		it.removed = slices.DeleteFunc(slices.Clone(it.removed), which)
	}
}

package projections

import (
	"fmt"

	"github.com/stockledger/stockledger/events"
)

// A change is what a fact does to the quantities of one level.
type change struct {
	item, level, location string
	reservation           string // that made it, "" when none did
	stocked               moved
	reserved              moved
	incoming              moved
}

// moved says by how much a quantity moved and what it came to. The zero moved is
// a quantity that the fact does not speak of.
type moved struct {
	by, to events.Quantity
	stated bool
}

func by(delta, after events.Quantity) moved { return moved{by: delta, to: after, stated: true} }
func still(at events.Quantity) moved        { return moved{to: at, stated: true} }

// from moves a quantity, and refuses when what the fact says it came to is not
// what it was and the difference.
func (m moved) from(before events.Quantity, what string) (events.Quantity, error) {
	if !m.stated {
		return before, nil
	}
	if after := before.Plus(m.by); !after.Equal(m.to) {
		return before, fmt.Errorf("%s was %s and moved by %s, which makes %s and not %s", what, before, m.by, after, m.to)
	}
	return m.to, nil
}

// moves reports whether any quantity moves.
func (c change) moves() bool {
	return !c.stocked.by.IsZero() || !c.reserved.by.IsZero() || !c.incoming.by.IsZero()
}

// changesOf reads the changes out of a fact. A level that comes into being
// brings its quantities, and one that ends takes them along.
func changesOf(fact events.Fact) []change {
	switch f := fact.(type) {
	case events.LevelCreated:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID,
			stocked: by(f.Stocked, f.Stocked), incoming: by(f.Incoming, f.Incoming),
		}}
	case events.LevelRestored:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID,
			stocked: by(f.Stocked, f.Stocked), incoming: by(f.Incoming, f.Incoming),
		}}
	case events.LevelDeleted:
		var none events.Quantity
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID,
			stocked: by(f.Stocked.Negated(), none), incoming: by(f.Incoming.Negated(), none), reserved: still(none),
		}}
	case events.StockAdjusted:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID,
			stocked: by(f.Delta, f.Stocked), reserved: still(f.Reserved),
		}}
	case events.StockSet:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID,
			stocked: by(f.Stocked.Minus(f.From), f.Stocked), reserved: still(f.Reserved),
		}}
	case events.IncomingSet:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID,
			incoming: by(f.Incoming.Minus(f.From), f.Incoming),
		}}
	case events.ReservationCreated:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID, reservation: f.ReservationID,
			stocked: still(f.Stocked), reserved: by(f.Quantity, f.Reserved),
		}}
	case events.ReservationUpdated:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID, reservation: f.ReservationID,
			stocked: still(f.Stocked), reserved: by(f.Quantity.Minus(f.From), f.Reserved),
		}}
	case events.ReservationMoved:
		return []change{{
			item: f.ItemID, level: f.FromLevelID, location: f.FromLocationID, reservation: f.ReservationID,
			stocked: still(f.FromStocked), reserved: by(f.Quantity.Negated(), f.FromReserved),
		}, {
			item: f.ItemID, level: f.LevelID, location: f.LocationID, reservation: f.ReservationID,
			stocked: still(f.Stocked), reserved: by(f.Quantity, f.Reserved),
		}}
	case events.ReservationReleased:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID, reservation: f.ReservationID,
			stocked: still(f.Stocked), reserved: by(f.Quantity.Negated(), f.Reserved),
		}}
	case events.ReservationRestored:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID, reservation: f.ReservationID,
			stocked: still(f.Stocked), reserved: by(f.Quantity, f.Reserved),
		}}
	case events.ReservationFulfilled:
		return []change{{
			item: f.ItemID, level: f.LevelID, location: f.LocationID, reservation: f.ReservationID,
			stocked: by(f.Quantity.Negated(), f.Stocked), reserved: by(f.Quantity.Negated(), f.Reserved),
		}}
	case events.ItemCreated, events.ItemUpdated, events.ItemDeleted, events.ItemRestored, events.LevelUpdated,
		events.ItemLinked, events.LinkUpdated, events.ItemUnlinked, events.SKUClaimed, events.SKUReleased,
		events.LocationOpened, events.LocationUpdated, events.LocationClosed,
		events.LocationLinked, events.LocationUnlinked, events.CommandAccepted:
	}
	return nil // it moves nothing
}

package transport

import "github.com/stockledger/stockledger/events"

// Level is what a fact knows of the quantities of a level. A quantity the fact
// does not carry, and did not change, is left out.
type Level struct {
	ItemID     string           `json:"inventory_item_id"`
	LevelID    string           `json:"level_id"`
	LocationID string           `json:"location_id"`
	Stocked    *events.Quantity `json:"stocked_quantity,omitempty"`
	Reserved   *events.Quantity `json:"reserved_quantity,omitempty"`
	Incoming   *events.Quantity `json:"incoming_quantity,omitempty"`
}

func levelOf(item, level, location string) Level {
	return Level{ItemID: item, LevelID: level, LocationID: location}
}

func (l Level) stock(stocked, reserved events.Quantity) Level {
	l.Stocked, l.Reserved = &stocked, &reserved
	return l
}

func (l Level) incoming(incoming events.Quantity) Level {
	l.Incoming = &incoming
	return l
}

func move(before, after Level) ([]Level, []Level) { return []Level{before}, []Level{after} }

// none is the list of no levels; in JSON it is [] and not null.
var none = []Level{}

// quantities are those a fact moved, before and after. Facts carry what
// resulted and by how much it moved, so no state is needed.
func quantities(fact events.Fact) (before, after []Level) {
	var zero events.Quantity
	switch f := fact.(type) {
	case events.LevelCreated:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return none, []Level{at.stock(f.Stocked, zero).incoming(f.Incoming)}
	case events.LevelDeleted:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return []Level{at.stock(f.Stocked, zero).incoming(f.Incoming)}, none
	case events.LevelRestored:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return none, []Level{at.stock(f.Stocked, zero).incoming(f.Incoming)}
	case events.StockAdjusted:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.stock(f.Stocked.Minus(f.Delta), f.Reserved), at.stock(f.Stocked, f.Reserved))
	case events.StockSet:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.stock(f.From, f.Reserved), at.stock(f.Stocked, f.Reserved))
	case events.IncomingSet:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.incoming(f.From), at.incoming(f.Incoming))
	case events.ReservationCreated:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.stock(f.Stocked, f.Reserved.Minus(f.Quantity)), at.stock(f.Stocked, f.Reserved))
	case events.ReservationUpdated:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.stock(f.Stocked, f.Reserved.Minus(f.Quantity).Plus(f.From)), at.stock(f.Stocked, f.Reserved))
	case events.ReservationMoved:
		from := levelOf(f.ItemID, f.FromLevelID, f.FromLocationID)
		to := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return []Level{from.stock(f.FromStocked, f.FromReserved.Plus(f.Quantity)), to.stock(f.Stocked, f.Reserved.Minus(f.Quantity))},
			[]Level{from.stock(f.FromStocked, f.FromReserved), to.stock(f.Stocked, f.Reserved)}
	case events.ReservationReleased:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.stock(f.Stocked, f.Reserved.Plus(f.Quantity)), at.stock(f.Stocked, f.Reserved))
	case events.ReservationRestored:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.stock(f.Stocked, f.Reserved.Minus(f.Quantity)), at.stock(f.Stocked, f.Reserved))
	case events.ReservationFulfilled:
		at := levelOf(f.ItemID, f.LevelID, f.LocationID)
		return move(at.stock(f.Stocked.Plus(f.Quantity), f.Reserved.Plus(f.Quantity)), at.stock(f.Stocked, f.Reserved))
	case events.ItemCreated, events.ItemUpdated, events.ItemDeleted, events.ItemRestored, events.LevelUpdated,
		events.ItemLinked, events.LinkUpdated, events.ItemUnlinked, events.SKUClaimed, events.SKUReleased,
		events.LocationOpened, events.LocationUpdated, events.LocationClosed,
		events.LocationLinked, events.LocationUnlinked, events.CommandAccepted:
	}
	return none, none
}

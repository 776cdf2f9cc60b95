package audit

import (
	"strings"

	"github.com/stockledger/stockledger/events"
)

// A statement is what a fact says of the quantities of one level: by how much each
// moved, and what it came to.
type statement struct {
	item, level, location string
	reservation           string // that moved them; "" for none
	by                    holding
	to                    holding
	stated                [3]bool // whether the fact says what the quantity came to
	// ended, begun say that the level ceases or begins to count.
	ended, begun bool
}

// moves reports whether any quantity moves.
func (s *statement) moves() bool { return s.by != holding{} }

// recorded reports whether it makes a movement. One that only describes a
// reservation makes none.
func (s *statement) recorded() bool { return s.reservation == "" || s.moves() }

func (s *statement) moved(which int, by, to amount) {
	s.by[which], s.to[which], s.stated[which] = by, to, true
}

// statementsOf are those of a fact; most facts make one, and many none.
func statementsOf(fact events.Fact) []statement {
	of := func(item, level, location, reservation string) statement {
		return statement{item: item, level: level, location: location, reservation: reservation}
	}
	switch f := fact.(type) {
	case events.LevelCreated:
		s := of(f.ItemID, f.LevelID, f.LocationID, "")
		s.moved(stocked, amountOf(f.Stocked), amountOf(f.Stocked))
		s.moved(incoming, amountOf(f.Incoming), amountOf(f.Incoming))
		s.begun = true
		return []statement{s}
	case events.LevelRestored:
		s := of(f.ItemID, f.LevelID, f.LocationID, "")
		s.moved(stocked, amountOf(f.Stocked), amountOf(f.Stocked))
		s.moved(incoming, amountOf(f.Incoming), amountOf(f.Incoming))
		s.begun = true
		return []statement{s}
	case events.LevelDeleted:
		s := of(f.ItemID, f.LevelID, f.LocationID, "")
		s.moved(stocked, amountOf(f.Stocked).negated(), amount{})
		s.moved(reserved, amount{}, amount{})
		s.moved(incoming, amountOf(f.Incoming).negated(), amount{})
		s.ended = true
		return []statement{s}
	case events.StockAdjusted:
		s := of(f.ItemID, f.LevelID, f.LocationID, "")
		s.moved(stocked, amountOf(f.Delta), amountOf(f.Stocked))
		s.moved(reserved, amount{}, amountOf(f.Reserved))
		return []statement{s}
	case events.StockSet:
		s := of(f.ItemID, f.LevelID, f.LocationID, "")
		s.moved(stocked, amountOf(f.Stocked).minus(amountOf(f.From)), amountOf(f.Stocked))
		s.moved(reserved, amount{}, amountOf(f.Reserved))
		return []statement{s}
	case events.IncomingSet:
		s := of(f.ItemID, f.LevelID, f.LocationID, "")
		s.moved(incoming, amountOf(f.Incoming).minus(amountOf(f.From)), amountOf(f.Incoming))
		return []statement{s}
	case events.ReservationMoved:
		from := of(f.ItemID, f.FromLevelID, f.FromLocationID, f.ReservationID)
		from.moved(stocked, amount{}, amountOf(f.FromStocked))
		from.moved(reserved, amountOf(f.Quantity).negated(), amountOf(f.FromReserved))
		to := of(f.ItemID, f.LevelID, f.LocationID, f.ReservationID)
		to.moved(stocked, amount{}, amountOf(f.Stocked))
		to.moved(reserved, amountOf(f.Quantity), amountOf(f.Reserved))
		return []statement{from, to}
	case events.ReservationCreated:
		return promised(f.ItemID, f.LevelID, f.LocationID, f.ReservationID, amountOf(f.Quantity), f.Stocked, f.Reserved)
	case events.ReservationRestored:
		return promised(f.ItemID, f.LevelID, f.LocationID, f.ReservationID, amountOf(f.Quantity), f.Stocked, f.Reserved)
	case events.ReservationReleased:
		return promised(f.ItemID, f.LevelID, f.LocationID, f.ReservationID, amountOf(f.Quantity).negated(), f.Stocked, f.Reserved)
	case events.ReservationUpdated:
		by := amountOf(f.Quantity).minus(amountOf(f.From))
		return promised(f.ItemID, f.LevelID, f.LocationID, f.ReservationID, by, f.Stocked, f.Reserved)
	case events.ReservationFulfilled:
		all := promised(f.ItemID, f.LevelID, f.LocationID, f.ReservationID, amountOf(f.Quantity).negated(), f.Stocked, f.Reserved)
		all[0].by[stocked] = amountOf(f.Quantity).negated()
		return all
	default: // the others move nothing
		return nil
	}
}

// promised is the statement of a fact that moves what is reserved.
func promised(item, level, location, reservation string, by amount, stockedAfter, reservedAfter events.Quantity) []statement {
	s := statement{item: item, level: level, location: location, reservation: reservation}
	s.moved(stocked, amount{}, amountOf(stockedAfter))
	s.moved(reserved, by, amountOf(reservedAfter))
	return []statement{s}
}

// kindOf is the word for a fact, stock-adjusted for inventory.stock-adjusted.v1.
func kindOf(eventType string) string {
	_, name, _ := strings.Cut(eventType, ".")
	name, _, _ = strings.Cut(name, ".")
	return name
}

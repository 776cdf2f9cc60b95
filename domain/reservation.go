package domain

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// NewReservation is a reservation to be made.
type NewReservation struct {
	ID         string
	LocationID string
	Quantity   events.Quantity
	Details    events.ReservationDetails
}

// Reserve sets units aside at a location. It refuses more than is available
// there, unless the reservation allows backorder.
func (it *Item) Reserve(item string, n NewReservation, expect *Expect) ([]events.Fact, error) {
	l, err := it.stockedAt(item, n.LocationID)
	if err != nil {
		return nil, err
	}
	_, live := it.live.get(n.ID)
	_, released := it.released.get(n.ID)
	if live || released {
		return nil, ReservationExists(n.ID)
	}
	if err := expect.met(item, l); err != nil {
		return nil, err
	}
	if err := positive("quantity", n.Quantity); err != nil {
		return nil, err
	}
	if n.Details.Metadata, err = mergeMetadata(nil, n.Details.Metadata); err != nil {
		return nil, err
	}
	for _, text := range []**string{&n.Details.LineItemID, &n.Details.Description, &n.Details.ExternalID, &n.Details.CreatedBy} {
		*text = copied(*text)
	}
	after, err := it.mayReserve(item, l, n.Quantity, n.Details.AllowBackorder)
	if err != nil {
		return nil, err
	}
	return []events.Fact{events.ReservationCreated{
		ItemID: item, LevelID: l.ID, LocationID: l.LocationID, ReservationID: n.ID,
		Quantity: n.Quantity, Details: n.Details, Stocked: l.Stocked, Reserved: after,
	}}, nil
}

// mayReserve is what would be reserved after q more, or a refusal.
func (it *Item) mayReserve(item string, l Level, q events.Quantity, backorder bool) (events.Quantity, error) {
	if l.Available().Less(q) && !backorder {
		return events.Quantity{}, levelFault(fault.NotAllowed, "insufficient_stock", item, l,
			"Not enough stock available for item %s at location %s", item, l.LocationID).With("asked", q)
	}
	after := l.Reserved.Plus(q)
	return after, withinRange("reserved_quantity", after)
}

// ReservationChanges are what an update of a reservation names; see [Field].
type ReservationChanges struct {
	LocationID     *string
	Quantity       *events.Quantity
	LineItemID     Field[string]
	Description    Field[string]
	ExternalID     Field[string]
	AllowBackorder *bool
	Metadata       Field[json.RawMessage]
}

// UpdateReservation changes a live reservation. Growing and moving are checked
// like reserving; shrinking and describing always work.
//
// A move that also shrinks shrinks first, and one that also grows grows last, so
// that no fact between promises more than the last one.
func (it *Item) UpdateReservation(item, id string, c ReservationChanges) ([]events.Fact, error) {
	r, err := it.holds(id)
	if err != nil {
		return nil, err
	}
	quantity, details := r.Quantity, r.Details
	if c.Quantity != nil {
		if err := positive("quantity", *c.Quantity); err != nil {
			return nil, err
		}
		quantity = *c.Quantity
	}
	differs := lay(c.LineItemID, &details.LineItemID)
	differs = lay(c.Description, &details.Description) || differs
	differs = lay(c.ExternalID, &details.ExternalID) || differs
	if c.AllowBackorder != nil {
		differs = differs || *c.AllowBackorder != details.AllowBackorder
		details.AllowBackorder = *c.AllowBackorder
	}
	changed, err := layMetadata(c.Metadata, &details.Metadata)
	if err != nil {
		return nil, err
	}
	differs = differs || changed || !quantity.Equal(r.Quantity)

	here, err := it.stockedAt(item, r.LocationID)
	if err != nil {
		return nil, err
	}
	if c.LocationID == nil || *c.LocationID == r.LocationID {
		if !differs {
			return nil, nil
		}
		fact, err := it.resize(item, here, r, quantity, details)
		if err != nil {
			return nil, err
		}
		return []events.Fact{fact}, nil
	}

	there, err := it.stockedAt(item, *c.LocationID)
	if err != nil {
		return nil, err
	}
	after, err := it.mayReserve(item, there, quantity, details.AllowBackorder)
	if err != nil {
		return nil, err
	}
	var facts []events.Fact
	if quantity.Less(r.Quantity) || differs && quantity.Equal(r.Quantity) {
		fact, err := it.resize(item, here, r, quantity, details)
		if err != nil {
			return nil, err
		}
		facts = append(facts, fact)
		here.Reserved, r.Quantity, differs = fact.Reserved, quantity, false
	}
	moved := events.ReservationMoved{
		ItemID: item, ReservationID: id, Quantity: r.Quantity,
		FromLevelID: here.ID, FromLocationID: here.LocationID,
		FromStocked: here.Stocked, FromReserved: here.Reserved.Minus(r.Quantity),
		LevelID: there.ID, LocationID: there.LocationID,
		Stocked: there.Stocked, Reserved: there.Reserved.Plus(r.Quantity),
	}
	if err := cmp.Or(
		withinRange("reserved_quantity", moved.FromReserved),
		withinRange("reserved_quantity", moved.Reserved),
	); err != nil {
		return nil, err
	}
	facts = append(facts, moved)
	if differs {
		facts = append(facts, events.ReservationUpdated{
			ItemID: item, LevelID: there.ID, LocationID: there.LocationID, ReservationID: id,
			From: r.Quantity, Quantity: quantity, Details: details, Stocked: there.Stocked, Reserved: after,
		})
	}
	return facts, nil
}

// resize makes a reservation hold quantity where it is.
func (it *Item) resize(item string, l Level, r Reservation, quantity events.Quantity, details events.ReservationDetails) (events.ReservationUpdated, error) {
	after := l.Reserved.Minus(r.Quantity).Plus(quantity)
	if r.Quantity.Less(quantity) {
		var err error
		if after, err = it.mayReserve(item, l, quantity.Minus(r.Quantity), details.AllowBackorder); err != nil {
			return events.ReservationUpdated{}, err
		}
	}
	if err := withinRange("reserved_quantity", after); err != nil {
		return events.ReservationUpdated{}, err
	}
	return events.ReservationUpdated{
		ItemID: item, LevelID: l.ID, LocationID: l.LocationID, ReservationID: r.ID,
		From: r.Quantity, Quantity: quantity, Details: details, Stocked: l.Stocked, Reserved: after,
	}, nil
}

// Release lets go of a reservation. It always works; letting go again changes
// nothing, which the caller knows from the reservation's past.
func (it *Item) Release(item, id string) ([]events.Fact, error) {
	r, err := it.holds(id)
	if err != nil {
		return nil, err
	}
	l, err := it.stockedAt(item, r.LocationID)
	if err != nil {
		return nil, err
	}
	after := l.Reserved.Minus(r.Quantity)
	if err := withinRange("reserved_quantity", after); err != nil {
		return nil, err
	}
	return []events.Fact{events.ReservationReleased{
		ItemID: item, LevelID: l.ID, LocationID: l.LocationID, ReservationID: id,
		Quantity: r.Quantity, Stocked: l.Stocked, Reserved: after,
	}}, nil
}

// RestoreReservation makes a released reservation hold again, if what it held is
// available or it allows backorder. One that holds already is left alone.
func (it *Item) RestoreReservation(item string, r Reservation) ([]events.Fact, error) {
	if _, live := it.live.get(r.ID); live {
		return nil, nil
	}
	if r.Quantity.IsZero() {
		return nil, fault.New(fault.NotAllowed, "reservation_used_up",
			"Reservation %s was fulfilled and cannot be restored", r.ID).With("reservation_id", r.ID)
	}
	l, err := it.stockedAt(item, r.LocationID)
	if err != nil {
		return nil, err
	}
	after, err := it.mayReserve(item, l, r.Quantity, r.Details.AllowBackorder)
	if err != nil {
		return nil, err
	}
	return []events.Fact{events.ReservationRestored{
		ItemID: item, LevelID: l.ID, LocationID: l.LocationID, ReservationID: r.ID,
		Quantity: r.Quantity, Details: r.Details, Stocked: l.Stocked, Reserved: after,
	}}, nil
}

// Fulfil takes reserved units out of stock, all the reservation holds when
// quantity is nil. Stocked and reserved fall together. It refuses to take out
// what is not in stock, unless floor is FloorNone.
func (it *Item) Fulfil(item, id string, quantity *events.Quantity, floor Floor, expect *Expect) ([]events.Fact, error) {
	r, err := it.holds(id)
	if err != nil {
		return nil, err
	}
	l, err := it.stockedAt(item, r.LocationID)
	if err != nil {
		return nil, err
	}
	if err := expect.met(item, l); err != nil {
		return nil, err
	}
	q := r.Quantity
	if quantity != nil {
		q = *quantity
	}
	if err := positive("quantity", q); err != nil {
		return nil, err
	}
	if r.Quantity.Less(q) {
		return nil, fault.New(fault.Invalid, "exceeds_reservation",
			"Quantity to fulfill exceeds the reserved quantity for the item: %s", item).
			With("inventory_item_id", item).With("reservation_id", id).With("asked", q).With("reserved", r.Quantity)
	}
	after := l.Stocked.Minus(q)
	if after.Sign() < 0 && floor != FloorNone {
		return nil, levelFault(fault.NotAllowed, "insufficient_stock", item, l,
			"Not enough stock available for item %s at location %s", item, l.LocationID).With("asked", q).With("reservation_id", id)
	}
	fulfilled := events.ReservationFulfilled{
		ItemID: item, LevelID: l.ID, LocationID: l.LocationID, ReservationID: id,
		Quantity: q, Remaining: r.Quantity.Minus(q), Stocked: after, Reserved: l.Reserved.Minus(q),
	}
	if err := cmp.Or(
		withinRange("quantity", fulfilled.Remaining),
		withinRange("stocked_quantity", fulfilled.Stocked),
		withinRange("reserved_quantity", fulfilled.Reserved),
	); err != nil {
		return nil, err
	}
	return []events.Fact{fulfilled}, nil
}

// holds is a live reservation.
func (it *Item) holds(id string) (Reservation, error) {
	r, live := it.live.get(id)
	if !live {
		return Reservation{}, ReservationNotFound(id)
	}
	return r, nil
}

// ReservationNotFound names a reservation that is not there, in Medusa's words.
func ReservationNotFound(id string) error {
	return fault.New(fault.NotFound, "not_found", "ReservationItem with id: %s was not found", id).With("reservation_id", id)
}

// ReservationExists names a reservation id that was used before.
func ReservationExists(id string) error {
	return fault.New(fault.Conflict, "reservation_exists", "Reservation with id: %s, already exists.", id).With("reservation_id", id)
}

// applyReservation takes in a fact of a reservation, and reports whether it is one.
func (it *Item) applyReservation(fact events.Fact, at Stamp) bool {
	switch f := fact.(type) {
	case events.ReservationCreated:
		_, live := it.live.get(f.ReservationID)
		must(!live, "created twice", fact)
		it.live.set(f.ReservationID, Reservation{
			ID: f.ReservationID, LocationID: f.LocationID, Quantity: f.Quantity, Details: f.Details,
			Created: at.At, Updated: at.At,
		})
		it.reserve(f.LocationID, f.Quantity, f.Reserved, fact, at)
	case events.ReservationUpdated:
		r := it.mustHold(f.ReservationID, f.From, fact)
		r.Quantity, r.Details, r.Updated = f.Quantity, f.Details, at.At
		it.live.set(r.ID, r)
		it.reserve(f.LocationID, f.Quantity.Minus(f.From), f.Reserved, fact, at)
	case events.ReservationMoved:
		r := it.mustHold(f.ReservationID, f.Quantity, fact)
		r.LocationID, r.Updated = f.LocationID, at.At
		it.live.set(r.ID, r)
		it.reserve(f.FromLocationID, f.Quantity.Negated(), f.FromReserved, fact, at)
		it.reserve(f.LocationID, f.Quantity, f.Reserved, fact, at)
	case events.ReservationReleased:
		r := it.mustHold(f.ReservationID, f.Quantity, fact)
		r.Released, r.Updated = at.At, at.At
		it.live.remove(r.ID)
		it.remember(r)
		it.reserve(f.LocationID, f.Quantity.Negated(), f.Reserved, fact, at)
	case events.ReservationRestored:
		_, live := it.live.get(f.ReservationID)
		must(!live, "restored while it held", fact)
		r, _ := it.released.get(f.ReservationID)
		if r.Created.IsZero() {
			r.Created = at.At
		}
		it.forgetReleased(f.ReservationID)
		it.live.set(f.ReservationID, Reservation{
			ID: f.ReservationID, LocationID: f.LocationID, Quantity: f.Quantity, Details: f.Details,
			Created: r.Created, Updated: at.At,
		})
		it.reserve(f.LocationID, f.Quantity, f.Reserved, fact, at)
	case events.ReservationFulfilled:
		r := it.mustHold(f.ReservationID, f.Quantity.Plus(f.Remaining), fact)
		r.Quantity, r.Updated = f.Remaining, at.At
		if r.Quantity.IsZero() {
			r.Released = at.At
			it.live.remove(r.ID)
			it.remember(r)
		} else {
			it.live.set(r.ID, r)
		}
		it.reserve(f.LocationID, f.Quantity.Negated(), f.Reserved, fact, at)
		it.change(f.LocationID, fact, at, func(l *Level) {
			must(l.Stocked.Minus(f.Quantity).Equal(f.Stocked), "does not add up", fact)
			l.Stocked = f.Stocked
		})
	default:
		return false
	}
	return true
}

// reserve moves what is reserved at a location, which must come to after.
func (it *Item) reserve(location string, delta, after events.Quantity, fact events.Fact, at Stamp) {
	it.change(location, fact, at, func(l *Level) {
		must(l.Reserved.Plus(delta).Equal(after), "does not add up", fact)
		l.Reserved = after
	})
}

func (it *Item) mustHold(id string, quantity events.Quantity, fact events.Fact) Reservation {
	r, live := it.live.get(id)
	must(live && r.Quantity.Equal(quantity), "no such reservation", fact)
	return r
}

// remember keeps a released or used-up reservation, and forgets the oldest over the bound.
func (it *Item) remember(r Reservation) {
	it.released.set(r.ID, r)
	it.releasedOrder = append(it.releasedOrder, r.ID)
	if len(it.releasedOrder) > MaxReleased {
		it.forgetReleased(it.releasedOrder[0])
	}
}

func (it *Item) forgetReleased(id string) {
	it.released.remove(id)
	it.releasedOrder = slices.DeleteFunc(slices.Clone(it.releasedOrder), func(other string) bool { return other == id })
}

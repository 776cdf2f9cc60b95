package commands

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// NewReservation is a reservation to be made.
type NewReservation struct {
	ID string `json:"id,omitzero"` // made when left out
	LevelName
	Quantity       *events.Quantity `json:"quantity"`
	LineItemID     *string          `json:"line_item_id,omitzero"`
	Description    *string          `json:"description,omitzero"`
	ExternalID     *string          `json:"external_id,omitzero"`
	CreatedBy      *string          `json:"created_by,omitzero"`
	AllowBackorder bool             `json:"allow_backorder,omitzero"`
	Metadata       json.RawMessage  `json:"metadata,omitzero"`
	Expect         *domain.Expect   `json:"expect,omitzero"`
}

// CreateReservations sets stock aside, all or none; each line sees the lines
// before it. It answers with the reservations.
type CreateReservations struct {
	Reservations []NewReservation `json:"reservations"`
}

// Name implements Command.
func (CreateReservations) Name() string { return "create-reservations" }

func (c CreateReservations) check() error {
	return eachLine(c.Reservations, func(n NewReservation) error {
		return first(textWithin("id", n.ID, maxID), n.check(), requiredQuantity("quantity", n.Quantity),
			optional("line_item_id", n.LineItemID, maxID), optional("description", n.Description, maxText),
			optional("external_id", n.ExternalID, maxID), optional("created_by", n.CreatedBy, maxID), metadataWithin(n.Metadata))
	})
}

func (c CreateReservations) prefetch(ctx context.Context, p *prefetch) error {
	for _, n := range c.Reservations {
		p.item(n.InventoryItemID)
		if n.ID != "" {
			if _, err := p.find(ctx, FindReservation, n.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c CreateReservations) decide(d *decision) (any, error) {
	return each(d, c.Reservations, d.reserve)
}

func (d *decision) reserve(n NewReservation) (ReservationRow, error) {
	if n.ID != "" {
		if _, taken, err := d.owner(FindReservation, n.ID); err != nil {
			return ReservationRow{}, err
		} else if taken {
			return ReservationRow{}, domain.ReservationExists(n.ID)
		}
	}
	n.ID = cmp.Or(n.ID, "resitem_"+newUUID())
	return d.reservation(n.InventoryItemID, n.ID, func(it *domain.Item) ([]events.Fact, error) {
		return it.Reserve(n.InventoryItemID, domain.NewReservation{
			ID: n.ID, LocationID: n.LocationID, Quantity: *n.Quantity,
			Details: events.ReservationDetails{
				LineItemID: n.LineItemID, Description: n.Description, ExternalID: n.ExternalID, CreatedBy: n.CreatedBy,
				AllowBackorder: n.AllowBackorder, Metadata: n.Metadata,
			},
		}, n.Expect)
	})
}

// reservation makes a decision about a reservation and answers how it is then.
func (d *decision) reservation(item, id string, decide func(*domain.Item) ([]events.Fact, error)) (ReservationRow, error) {
	it, err := d.item(item)
	if err != nil {
		return ReservationRow{}, err
	}
	facts, err := decide(it)
	if err != nil {
		return ReservationRow{}, err
	}
	d.record(events.ItemStream(item), facts...)
	if r, live := it.Reservation(id); live {
		return reservationRow(item, r), nil
	}
	r, _ := it.Released(id)
	return reservationRow(item, r), nil
}

// holder is the item that has, or had, a reservation.
func (d *decision) holder(id string) (string, *domain.Item, error) {
	item, found, err := d.owner(FindReservation, id)
	if err != nil {
		return "", nil, err
	}
	if !found {
		return "", nil, domain.ReservationNotFound(id)
	}
	it, err := d.item(item)
	return item, it, err
}

func (p *prefetch) reservations(ctx context.Context, kind string, keys []string) error {
	for _, key := range keys {
		if _, err := p.find(ctx, kind, key); err != nil {
			return err
		}
	}
	return nil
}

// ReservationUpdate is the change of a reservation.
type ReservationUpdate struct {
	ID             string                        `json:"id"`
	LocationID     *string                       `json:"location_id,omitzero"`
	Quantity       *events.Quantity              `json:"quantity,omitempty"`
	LineItemID     domain.Field[string]          `json:"line_item_id,omitzero"`
	Description    domain.Field[string]          `json:"description,omitzero"`
	ExternalID     domain.Field[string]          `json:"external_id,omitzero"`
	AllowBackorder *bool                         `json:"allow_backorder,omitzero"`
	Metadata       domain.Field[json.RawMessage] `json:"metadata,omitzero"`
}

// UpdateReservations changes reservations, all or none. It answers with them.
type UpdateReservations struct {
	Updates []ReservationUpdate `json:"updates"`
}

// Name implements Command.
func (UpdateReservations) Name() string { return "update-reservations" }

func (c UpdateReservations) check() error {
	return eachLine(c.Updates, func(u ReservationUpdate) error {
		return first(required("id", u.ID), optional("location_id", u.LocationID, maxID),
			optionalField("line_item_id", u.LineItemID, maxID), optionalField("description", u.Description, maxText),
			optionalField("external_id", u.ExternalID, maxID), metadataField(u.Metadata))
	})
}

func (c UpdateReservations) prefetch(ctx context.Context, p *prefetch) error {
	for _, u := range c.Updates {
		if _, err := p.find(ctx, FindReservation, u.ID); err != nil {
			return err
		}
	}
	return nil
}

func (c UpdateReservations) decide(d *decision) (any, error) {
	return each(d, c.Updates, func(u ReservationUpdate) (ReservationRow, error) {
		item, _, err := d.holder(u.ID)
		if err != nil {
			return ReservationRow{}, err
		}
		return d.reservation(item, u.ID, func(it *domain.Item) ([]events.Fact, error) {
			return it.UpdateReservation(item, u.ID, domain.ReservationChanges{
				LocationID: u.LocationID, Quantity: u.Quantity, LineItemID: u.LineItemID, Description: u.Description,
				ExternalID: u.ExternalID, AllowBackorder: u.AllowBackorder, Metadata: u.Metadata,
			})
		})
	})
}

// DeleteReservations lets go of reservations, all or none. Those that hold
// nothing any more are left alone. It answers with the ids.
type DeleteReservations struct {
	IDs           []string `json:"ids"`
	IgnoreUnknown bool     `json:"-"` // pass over those that never were
}

// Name implements Command.
func (DeleteReservations) Name() string { return "delete-reservations" }

func (c DeleteReservations) check() error { return eachID("id", c.IDs) }

func (c DeleteReservations) prefetch(ctx context.Context, p *prefetch) error {
	return p.reservations(ctx, FindReservation, c.IDs)
}

func (c DeleteReservations) decide(d *decision) (any, error) {
	_, err := each(d, c.IDs, func(id string) (struct{}, error) {
		item, it, err := d.holder(id)
		if err != nil {
			return struct{}{}, unlessIgnored(c.IgnoreUnknown, err)
		}
		return struct{}{}, d.letGo(item, it, id)
	})
	return ids(c.IDs), err
}

// letGo releases a reservation if it holds.
func (d *decision) letGo(item string, it *domain.Item, id string) error {
	if _, live := it.Reservation(id); !live {
		return nil
	}
	facts, err := it.Release(item, id)
	if err != nil {
		return err
	}
	d.record(events.ItemStream(item), facts...)
	return nil
}

// DeleteReservationsByLineItem lets go of what line items hold, all or none. It
// answers with the ids of the reservations it let go of.
type DeleteReservationsByLineItem struct {
	LineItemIDs []string `json:"line_item_id"`
}

// Name implements Command.
func (DeleteReservationsByLineItem) Name() string { return "delete-reservations-by-line-item" }

func (c DeleteReservationsByLineItem) check() error { return eachID("line_item_id", c.LineItemIDs) }

func (c DeleteReservationsByLineItem) prefetch(ctx context.Context, p *prefetch) error {
	return p.reservations(ctx, FindLine, c.LineItemIDs)
}

func (c DeleteReservationsByLineItem) decide(d *decision) (any, error) {
	return d.letGoAll(FindLine, c.LineItemIDs, func(r domain.Reservation, line string) bool {
		return r.Details.LineItemID != nil && *r.Details.LineItemID == line
	})
}

// letGoAll releases the live reservations that keys point at and that match.
func (d *decision) letGoAll(kind string, keys []string, match func(r domain.Reservation, key string) bool) (any, error) {
	total := 0
	released, err := each(d, keys, func(key string) ([]string, error) {
		refs, err := d.find(kind, key)
		if err != nil {
			return nil, err
		}
		if err := d.needItems(refs); err != nil {
			return nil, err
		}
		var released []string
		for _, ref := range refs {
			it, err := d.item(ref.Item)
			if err != nil {
				return nil, err
			}
			if r, live := it.Reservation(ref.ID); !live || !match(r, key) {
				continue
			}
			if err := d.letGo(ref.Item, it, ref.ID); err != nil {
				return nil, err
			}
			released = append(released, ref.ID)
		}
		if total += len(released); total > MaxLines {
			return nil, tooMany("reservations", key, len(released))
		}
		return released, nil
	})
	return ids(released...), err
}

// DeleteReservationsByLocation lets go of everything reserved at locations, all
// or none. It answers with the ids of the reservations it let go of.
type DeleteReservationsByLocation struct {
	LocationIDs []string `json:"location_id"`
}

// Name implements Command.
func (DeleteReservationsByLocation) Name() string { return "delete-reservations-by-location" }

func (c DeleteReservationsByLocation) check() error { return eachID("location_id", c.LocationIDs) }

func (c DeleteReservationsByLocation) prefetch(ctx context.Context, p *prefetch) error {
	return p.reservations(ctx, FindLocationReservations, c.LocationIDs)
}

func (c DeleteReservationsByLocation) decide(d *decision) (any, error) {
	return d.letGoAll(FindLocationReservations, c.LocationIDs, func(r domain.Reservation, location string) bool {
		return r.LocationID == location
	})
}

// RestoreReservations makes released reservations hold again, all or none, if
// what they held is available. Those that hold are left alone; those used up by
// a fulfilment are refused. It answers with the reservations.
type RestoreReservations struct {
	IDs []string `json:"ids"`
}

// Name implements Command.
func (RestoreReservations) Name() string { return "restore-reservations" }

func (c RestoreReservations) check() error { return eachID("id", c.IDs) }

func (c RestoreReservations) prefetch(ctx context.Context, p *prefetch) error {
	return p.reservations(ctx, FindReservation, c.IDs)
}

func (c RestoreReservations) decide(d *decision) (any, error) {
	return each(d, c.IDs, func(id string) (ReservationRow, error) {
		item, it, err := d.holder(id)
		if err != nil {
			return ReservationRow{}, err
		}
		released := domain.Reservation{ID: id}
		if _, live := it.Reservation(id); !live {
			if released, err = d.released(item, it, id); err != nil {
				return ReservationRow{}, err
			}
		}
		return d.reservation(item, id, func(it *domain.Item) ([]events.Fact, error) {
			return it.RestoreReservation(item, released)
		})
	})
}

// released is a released reservation, from the item's memory or its stream.
func (d *decision) released(item string, it *domain.Item, id string) (domain.Reservation, error) {
	if r, found := it.Released(id); found {
		return r, nil
	}
	a := d.job.archives[item]
	// What this command restored itself pushed nothing out of the item's memory.
	before := d.job.pinned.of(events.ItemStream(item)).version
	if a == nil || !a.has([]string{id}) || before-a.last.Version >= domain.MaxReleased {
		return domain.Reservation{}, missing{archive: []Ref{{item, id}}}
	}
	return a.ended[id], nil
}

// Fulfilment takes what a reservation holds, or a part of it, out of stock.
type Fulfilment struct {
	ID string `json:"id"`
	// Quantity is all that the reservation holds when left out.
	Quantity *events.Quantity `json:"quantity,omitempty"`
	// LocationID is where the goods leave from. When it is not where they are
	// reserved, the reservation is moved there first.
	LocationID *string        `json:"location_id,omitzero"`
	Floor      domain.Floor   `json:"floor,omitzero"`
	Expect     *domain.Expect `json:"expect,omitzero"`
}

// FulfillReservations takes reserved goods out of stock, all or none. It answers
// with the reservations; one that is used up has deleted_at.
type FulfillReservations struct {
	Reservations []Fulfilment `json:"reservations"`
}

// Name implements Command.
func (FulfillReservations) Name() string { return "fulfill-reservations" }

func (c FulfillReservations) check() error {
	return eachLine(c.Reservations, func(f Fulfilment) error {
		return first(required("id", f.ID), optional("location_id", f.LocationID, maxID), f.Floor.Check())
	})
}

func (c FulfillReservations) prefetch(ctx context.Context, p *prefetch) error {
	for _, f := range c.Reservations {
		if _, err := p.find(ctx, FindReservation, f.ID); err != nil {
			return err
		}
	}
	return nil
}

func (c FulfillReservations) decide(d *decision) (any, error) {
	return each(d, c.Reservations, func(f Fulfilment) (ReservationRow, error) {
		item, _, err := d.holder(f.ID)
		if err != nil {
			return ReservationRow{}, err
		}
		if f.LocationID != nil {
			if _, err := d.reservation(item, f.ID, func(it *domain.Item) ([]events.Fact, error) {
				return it.UpdateReservation(item, f.ID, domain.ReservationChanges{LocationID: f.LocationID})
			}); err != nil {
				return ReservationRow{}, err
			}
		}
		return d.reservation(item, f.ID, func(it *domain.Item) ([]events.Fact, error) {
			return it.Fulfil(item, f.ID, f.Quantity, f.Floor, f.Expect)
		})
	})
}

package commands

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// NewLocation is a stock location to be opened.
type NewLocation struct {
	ID string `json:"id,omitzero"` // made when left out
	events.LocationAttributes
}

// CreateStockLocations opens stock locations. It answers with them.
type CreateStockLocations struct {
	Locations []NewLocation `json:"locations"`
}

// Name implements Command.
func (CreateStockLocations) Name() string { return "create-stock-locations" }

func (c CreateStockLocations) check() error {
	return eachLine(c.Locations, func(n NewLocation) error {
		return first(textWithin("id", n.ID, maxID), required("name", strings.TrimSpace(n.Name)),
			checkAddress(n.Address), metadataWithin(n.Metadata))
	})
}

// identify names the locations that have no id yet.
func (c CreateStockLocations) identify() Command {
	c.Locations = slices.Clone(c.Locations)
	for i := range c.Locations {
		c.Locations[i].ID = cmp.Or(c.Locations[i].ID, "sloc_"+newUUID())
	}
	return c
}

func (c CreateStockLocations) prefetch(_ context.Context, p *prefetch) error {
	for _, n := range c.Locations {
		p.location(n.ID)
	}
	return nil
}

func (c CreateStockLocations) decide(d *decision) (any, error) {
	return eachLocation(d, c.Locations, func(n NewLocation) string { return n.ID },
		func(l *domain.Location, n NewLocation) ([]events.Fact, error) {
			n.Name = strings.TrimSpace(n.Name)
			return l.Open(n.ID, n.LocationAttributes)
		})
}

// LocationUpdate is the change of a stock location.
type LocationUpdate struct {
	ID string `json:"id"`
	domain.LocationChanges
}

// UpdateStockLocations changes stock locations. It answers with them.
type UpdateStockLocations struct {
	Updates []LocationUpdate `json:"updates"`
}

// Name implements Command.
func (UpdateStockLocations) Name() string { return "update-stock-locations" }

func (c UpdateStockLocations) check() error {
	return eachLine(c.Updates, func(u LocationUpdate) error {
		return first(required("id", u.ID), optional("name", u.Name, maxID),
			checkAddress(u.Address.Value), metadataField(u.Metadata))
	})
}

func (c UpdateStockLocations) prefetch(_ context.Context, p *prefetch) error {
	for _, u := range c.Updates {
		p.location(u.ID)
	}
	return nil
}

func (c UpdateStockLocations) decide(d *decision) (any, error) {
	return eachLocation(d, c.Updates, func(u LocationUpdate) string { return u.ID },
		func(l *domain.Location, u LocationUpdate) ([]events.Fact, error) {
			if u.Name != nil {
				name := strings.TrimSpace(*u.Name)
				u.Name = &name
			}
			return l.Update(u.ID, u.LocationChanges)
		})
}

// DeleteStockLocations closes stock locations. Levels and reservations there
// stay; commands of their own remove them. It answers with the ids.
type DeleteStockLocations struct {
	IDs           []string `json:"ids"`
	IgnoreUnknown bool     `json:"-"` // pass over those that never were
}

// Name implements Command.
func (DeleteStockLocations) Name() string { return "delete-stock-locations" }

func (c DeleteStockLocations) check() error { return eachID("id", c.IDs) }

func (c DeleteStockLocations) prefetch(_ context.Context, p *prefetch) error {
	for _, id := range c.IDs {
		p.location(id)
	}
	return nil
}

func (c DeleteStockLocations) decide(d *decision) (any, error) {
	if _, err := eachLocation(d, c.IDs, func(id string) string { return id },
		func(l *domain.Location, id string) ([]events.Fact, error) {
			facts, err := l.Close(id)
			return facts, unlessIgnored(c.IgnoreUnknown, err)
		}); err != nil {
		return nil, err
	}
	return ids(c.IDs), nil
}

// eachLocation makes one decision for each line and answers with the locations.
func eachLocation[L any](d *decision, lines []L, id func(L) string, decide func(*domain.Location, L) ([]events.Fact, error)) ([]LocationRow, error) {
	return each(d, lines, func(line L) (LocationRow, error) {
		location, err := d.location(id(line))
		if err != nil {
			return LocationRow{}, err
		}
		facts, err := decide(location, line)
		if err != nil {
			return LocationRow{}, err
		}
		d.record(events.LocationStream(id(line)), facts...)
		return locationRow(location), nil
	})
}

func checkAddress(a *events.Address) error {
	if a == nil {
		return nil
	}
	return first(
		textWithin("address.address_1", a.Address1, maxText),
		textWithin("address.country_code", a.CountryCode, maxID),
		optional("address.address_2", a.Address2, maxText),
		optional("address.company", a.Company, maxText),
		optional("address.city", a.City, maxText),
		optional("address.phone", a.Phone, maxText),
		optional("address.postal_code", a.PostalCode, maxText),
		optional("address.province", a.Province, maxText),
		metadataWithin(a.Metadata),
	)
}

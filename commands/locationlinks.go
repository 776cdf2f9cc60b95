package commands

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// LinkChanges are links of one kind that are to be made, and ids of those to be
// removed.
type LinkChanges[L any] struct {
	Add    []L      `json:"add,omitzero"`
	Remove []string `json:"remove,omitzero"`
}

// NewFulfillmentSet is a fulfillment set to be linked.
type NewFulfillmentSet struct {
	ID   string `json:"id,omitzero"` // made when left out
	Name string `json:"name"`
	Type string `json:"type"`

	made string // an id, should one be needed
}

// LocationLinksUpdate is the change of a location's links.
type LocationLinksUpdate struct {
	ID                   string                         `json:"id"`
	SalesChannels        LinkChanges[string]            `json:"sales_channels,omitzero"`
	FulfillmentProviders LinkChanges[string]            `json:"fulfillment_providers,omitzero"`
	FulfillmentSets      LinkChanges[NewFulfillmentSet] `json:"fulfillment_sets,omitzero"`
}

// UpdateStockLocationLinks links stock locations to what they serve and ship by,
// and ends such links. It answers with the locations.
type UpdateStockLocationLinks struct {
	Updates []LocationLinksUpdate `json:"updates"`
}

// Name implements Command.
func (UpdateStockLocationLinks) Name() string { return "update-stock-location-links" }

func (c UpdateStockLocationLinks) check() error {
	count := 0
	for _, u := range c.Updates {
		count += 1 + len(u.SalesChannels.Add) + len(u.SalesChannels.Remove) +
			len(u.FulfillmentProviders.Add) + len(u.FulfillmentProviders.Remove) +
			len(u.FulfillmentSets.Add) + len(u.FulfillmentSets.Remove)
	}
	if err := within(count); err != nil {
		return err
	}
	return eachLine(c.Updates, func(u LocationLinksUpdate) error {
		return first(required("id", u.ID),
			checkIDs("sales_channels.add", u.SalesChannels.Add),
			checkIDs("fulfillment_providers.add", u.FulfillmentProviders.Add),
			eachInner("fulfillment_sets.add", u.FulfillmentSets.Add, NewFulfillmentSet.check),
			checkLinks("sales_channels", u.SalesChannels, itself),
			checkLinks("fulfillment_providers", u.FulfillmentProviders, itself),
			checkLinks("fulfillment_sets", u.FulfillmentSets, func(s NewFulfillmentSet) string { return s.ID }))
	})
}

func itself(id string) string { return id }

func checkIDs(field string, ids []string) error {
	for i, id := range ids {
		if err := required(fmt.Sprintf("%s.%d", field, i), id); err != nil {
			return err
		}
	}
	return nil
}

func (s NewFulfillmentSet) check() error {
	return first(textWithin("id", s.ID, maxID), required("name", s.Name), required("type", s.Type))
}

func checkLinks[L any](field string, c LinkChanges[L], id func(L) string) error {
	if err := checkIDs(field+".remove", c.Remove); err != nil {
		return err
	}
	removed := make(map[string]bool, len(c.Remove))
	for _, id := range c.Remove {
		removed[id] = true
	}
	for _, l := range c.Add {
		if removed[id(l)] {
			return fault.New(fault.Invalid, "added_and_removed", "Field '%s' has %s to be added and to be removed", field, id(l)).
				With("field", field)
		}
	}
	return nil
}

// identify makes ids for the fulfillment sets that have none.
func (c UpdateStockLocationLinks) identify() Command {
	c.Updates = slices.Clone(c.Updates)
	for i := range c.Updates {
		sets := slices.Clone(c.Updates[i].FulfillmentSets.Add)
		for j := range sets {
			if sets[j].ID == "" {
				sets[j].made = "fuset_" + newUUID()
			}
		}
		c.Updates[i].FulfillmentSets.Add = sets
	}
	return c
}

func (c UpdateStockLocationLinks) prefetch(_ context.Context, p *prefetch) error {
	for _, u := range c.Updates {
		p.location(u.ID)
	}
	return nil
}

func (c UpdateStockLocationLinks) decide(d *decision) (any, error) {
	return each(d, c.Updates, func(u LocationLinksUpdate) (LocationRow, error) {
		location, err := d.location(u.ID)
		if err != nil {
			return LocationRow{}, err
		}
		if !location.Exists() {
			return LocationRow{}, domain.LocationNotFound(u.ID)
		}
		for _, change := range u.changes() {
			facts, err := change(location)
			if err != nil {
				return LocationRow{}, err
			}
			d.record(events.LocationStream(u.ID), facts...)
		}
		return locationRow(location), nil
	})
}

// changes are what the update asks for, what is to be removed first.
func (u LocationLinksUpdate) changes() (all []func(*domain.Location) ([]events.Fact, error)) {
	unlink := func(kind events.LinkKind, ids []string) {
		for _, id := range ids {
			all = append(all, func(l *domain.Location) ([]events.Fact, error) { return l.Unlink(u.ID, kind, id) })
		}
	}
	link := func(link events.LocationLinked, made bool) {
		link.LocationID = u.ID
		all = append(all, func(l *domain.Location) ([]events.Fact, error) { return l.Link(link, made) })
	}
	unlink(events.SalesChannel, u.SalesChannels.Remove)
	unlink(events.FulfillmentProvider, u.FulfillmentProviders.Remove)
	unlink(events.FulfillmentSet, u.FulfillmentSets.Remove)
	for _, id := range u.SalesChannels.Add {
		link(events.LocationLinked{Kind: events.SalesChannel, ID: id}, false)
	}
	for _, id := range u.FulfillmentProviders.Add {
		link(events.LocationLinked{Kind: events.FulfillmentProvider, ID: id}, false)
	}
	for _, s := range u.FulfillmentSets.Add {
		link(events.LocationLinked{Kind: events.FulfillmentSet, ID: cmp.Or(s.ID, s.made), Name: s.Name, Type: s.Type}, s.made != "")
	}
	return all
}

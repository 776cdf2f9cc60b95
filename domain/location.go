package domain

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Location is a stock location.
type Location struct {
	locationHead
	saved locationHead
}

type locationHead struct {
	ID         string
	Version    uint64
	Attributes events.LocationAttributes
	Links      events.LocationLinks
	Created    time.Time
	Updated    time.Time
	Closed     time.Time // zero while it is open
}

// Begin marks a point to which Rollback returns.
func (l *Location) Begin() { l.saved = l.locationHead }

// Keep makes everything applied since Begin stay.
func (l *Location) Keep() { l.saved = locationHead{} }

// Rollback undoes everything applied since Begin.
func (l *Location) Rollback() { l.locationHead = l.saved }

// Exists reports whether the location was opened and not closed since.
func (l *Location) Exists() bool { return l.ID != "" && l.Closed.IsZero() }

// Open brings the location into being under id.
func (l *Location) Open(id string, attributes events.LocationAttributes) ([]events.Fact, error) {
	if l.ID != "" {
		return nil, fault.New(fault.Conflict, "location_exists", "Stock location with id: %s, already exists.", id).
			With("location_id", id)
	}
	if err := checkLocation(attributes); err != nil {
		return nil, err
	}
	var err error
	if attributes.Metadata, err = mergeMetadata(nil, attributes.Metadata); err != nil {
		return nil, err
	}
	if attributes.Address, err = tidyAddress(attributes.Address); err != nil {
		return nil, err
	}
	return []events.Fact{events.LocationOpened{LocationID: id, Attributes: attributes}}, nil
}

// LocationChanges are the attributes an update names; see [Field].
type LocationChanges struct {
	Name     *string                `json:"name,omitzero"`
	Address  Field[events.Address]  `json:"address,omitzero"`
	Metadata Field[json.RawMessage] `json:"metadata,omitzero"`
}

// Update changes attributes. Metadata is merged, key by key; an address is
// replaced as a whole.
func (l *Location) Update(id string, c LocationChanges) ([]events.Fact, error) {
	if !l.Exists() {
		return nil, LocationNotFound(id)
	}
	after := l.Attributes
	var changed []string
	if c.Name != nil && *c.Name != after.Name {
		after.Name, changed = *c.Name, append(changed, "name")
	}
	address, err := tidyAddress(c.Address.Value)
	if err != nil {
		return nil, err
	}
	if c.Address.Set && !sameAddress(address, after.Address) {
		after.Address, changed = address, append(changed, "address")
	}
	differs, err := layMetadata(c.Metadata, &after.Metadata)
	if err != nil {
		return nil, err
	}
	if differs {
		changed = append(changed, "metadata")
	}
	if err := checkLocation(after); err != nil {
		return nil, err
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return []events.Fact{events.LocationUpdated{LocationID: id, Changed: changed, Attributes: after}}, nil
}

// MaxLocationLinks is how many links a location may have: several times what a
// shop has, and few enough to be written whole when one of them changes.
const MaxLocationLinks = 1000

// Link links the location. What is linked already changes nothing. A fulfillment
// set whose id was made for it is the one of that name and type, if there is one.
func (l *Location) Link(link events.LocationLinked, made bool) ([]events.Fact, error) {
	if !l.Exists() {
		return nil, LocationNotFound(link.LocationID)
	}
	if link.Kind == events.FulfillmentSet {
		there, err := l.linkedSet(link, made)
		if there || err != nil {
			return nil, err
		}
	} else if slices.Contains(l.Links.IDs(link.Kind), link.ID) {
		return nil, nil
	}
	if l.Links.Len() >= MaxLocationLinks {
		return nil, fault.New(fault.NotAllowed, "too_many_links", "Stock location with id: %s has %d links, no more are allowed",
			link.LocationID, l.Links.Len()).With("location_id", link.LocationID)
	}
	return []events.Fact{link}, nil
}

// linkedSet reports whether the set is linked as it is. Another one may have
// neither its id nor its name.
func (l *Location) linkedSet(link events.LocationLinked, made bool) (bool, error) {
	for _, set := range l.Links.FulfillmentSets {
		if set.ID != link.ID && set.Name != link.Name {
			continue
		}
		if same := set.Name == link.Name && set.Type == link.Type; same && (made || set.ID == link.ID) {
			return true, nil
		}
		return false, fault.New(fault.Conflict, "fulfillment_set_exists", "Fulfillment set with id: %s, name: %s and type: %s, already exists.",
			set.ID, set.Name, set.Type).With("location_id", link.LocationID).With("fulfillment_set_id", set.ID)
	}
	return false, nil
}

// Unlink ends a link. One that is not there changes nothing.
func (l *Location) Unlink(location string, kind events.LinkKind, id string) ([]events.Fact, error) {
	if !l.Exists() {
		return nil, LocationNotFound(location)
	}
	if !slices.Contains(l.Links.IDs(kind), id) {
		return nil, nil
	}
	fact := events.LocationUnlinked{LocationID: location, Kind: kind, ID: id}
	if kind == events.FulfillmentSet {
		set, _ := l.Links.Set(id)
		fact.Name, fact.Type = set.Name, set.Type
	}
	return []events.Fact{fact}, nil
}

// Close ends the location's life, and its links. The levels there stay as they are; commands of
// their own remove them.
func (l *Location) Close(id string) ([]events.Fact, error) {
	if l.ID == "" {
		return nil, LocationNotFound(id)
	}
	if !l.Closed.IsZero() {
		return nil, nil
	}
	return []events.Fact{events.LocationClosed{LocationID: id}}, nil
}

func checkLocation(a events.LocationAttributes) error {
	if a.Name == "" {
		return invalid("name", "required", "Field 'name' is required")
	}
	if a.Address == nil {
		return nil
	}
	if a.Address.Address1 == "" {
		return invalid("address.address_1", "required", "Field 'address.address_1' is required")
	}
	if a.Address.CountryCode == "" {
		return invalid("address.country_code", "required", "Field 'address.country_code' is required")
	}
	return nil
}

// tidyAddress is the address with its metadata as it is stored.
func tidyAddress(a *events.Address) (*events.Address, error) {
	if a == nil {
		return nil, nil
	}
	tidy := *a
	for _, text := range []**string{&tidy.Address2, &tidy.Company, &tidy.City, &tidy.Phone, &tidy.PostalCode, &tidy.Province} {
		*text = copied(*text)
	}
	var err error
	if tidy.Metadata, err = mergeMetadata(nil, a.Metadata); err != nil {
		return nil, invalid("address.metadata", "invalid_metadata", "address.metadata must be a JSON object or null")
	}
	return &tidy, nil
}

func sameAddress(a, b *events.Address) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return slices.Equal(x, y)
}

// LocationNotFound names a location that is not there, in Medusa's words.
func LocationNotFound(id string) error {
	return fault.New(fault.NotFound, "not_found", "Stock location with id: %s was not found", id).With("location_id", id)
}

// Apply takes a fact of the location's stream in.
func (l *Location) Apply(fact events.Fact, at Stamp) {
	l.Version, l.Updated = at.Version, at.At
	switch f := fact.(type) {
	case events.LocationOpened:
		must(l.ID == "", "opened twice", fact)
		l.ID, l.Attributes, l.Links, l.Created = f.LocationID, f.Attributes, events.NoLinks(), at.At
	case events.LocationUpdated:
		l.Attributes = f.Attributes
	case events.LocationClosed:
		must(l.Closed.IsZero(), "closed twice", fact)
		l.Links, l.Closed = events.NoLinks(), at.At
	case events.LocationLinked:
		must(l.Exists() && !slices.Contains(l.Links.IDs(f.Kind), f.ID), "linked twice", fact)
		l.Links = l.Links.With(f)
	case events.LocationUnlinked:
		must(slices.Contains(l.Links.IDs(f.Kind), f.ID), "no such link", fact)
		l.Links = l.Links.Without(f)
	default:
		foreign(fact, "a location")
	}
}

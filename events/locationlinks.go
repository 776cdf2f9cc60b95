package events

import "slices"

// LocationLinks are what a stock location is linked to, in the order it was
// linked. The zero LocationLinks are none, but null in JSON; see NoLinks. The
// lists are never changed in place, so that a copy stays as it was.
type LocationLinks struct {
	SalesChannels        []string    `json:"sales_channels"`
	FulfillmentProviders []string    `json:"fulfillment_providers"`
	FulfillmentSets      []LinkedSet `json:"fulfillment_sets"`
}

// LinkedSet is a fulfillment set of a location: a name for ways to ship
// from there or to pick up there.
type LinkedSet struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
}

// NoLinks are those of a new location: empty lists in JSON.
func NoLinks() LocationLinks { return LocationLinks{[]string{}, []string{}, []LinkedSet{}} }

// Len counts the links.
func (l LocationLinks) Len() int {
	return len(l.SalesChannels) + len(l.FulfillmentProviders) + len(l.FulfillmentSets)
}

// IDs are the ids of one kind.
func (l LocationLinks) IDs(kind LinkKind) []string {
	switch kind {
	case SalesChannel:
		return l.SalesChannels
	case FulfillmentProvider:
		return l.FulfillmentProviders
	case FulfillmentSet:
		ids := make([]string, len(l.FulfillmentSets))
		for i, set := range l.FulfillmentSets {
			ids[i] = set.ID
		}
		return ids
	}
	return nil
}

// Set finds a fulfillment set by its id.
func (l LocationLinks) Set(id string) (LinkedSet, bool) {
	at := slices.IndexFunc(l.FulfillmentSets, func(s LinkedSet) bool { return s.ID == id })
	if at < 0 {
		return LinkedSet{}, false
	}
	return l.FulfillmentSets[at], true
}

// With are the links once f happened.
func (l LocationLinks) With(f LocationLinked) LocationLinks {
	switch f.Kind {
	case SalesChannel:
		l.SalesChannels = append(slices.Clip(l.SalesChannels), f.ID)
	case FulfillmentProvider:
		l.FulfillmentProviders = append(slices.Clip(l.FulfillmentProviders), f.ID)
	case FulfillmentSet:
		l.FulfillmentSets = append(slices.Clip(l.FulfillmentSets), LinkedSet{f.ID, f.Name, f.Type})
	}
	return l
}

// Without are the links once f happened.
func (l LocationLinks) Without(f LocationUnlinked) LocationLinks {
	isIt := func(id string) bool { return id == f.ID }
	switch f.Kind {
	case SalesChannel:
		l.SalesChannels = slices.DeleteFunc(slices.Clone(l.SalesChannels), isIt)
	case FulfillmentProvider:
		l.FulfillmentProviders = slices.DeleteFunc(slices.Clone(l.FulfillmentProviders), isIt)
	case FulfillmentSet:
		l.FulfillmentSets = slices.DeleteFunc(slices.Clone(l.FulfillmentSets), func(s LinkedSet) bool { return isIt(s.ID) })
	}
	return l
}

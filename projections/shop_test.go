package projections_test

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
)

// A shop makes random histories of well-formed facts, and keeps what they come
// to in plain maps.
type shop struct {
	*book
	items        []string
	levels       map[string]*shelf   // by level id
	reservations map[string]*promise // by id
	links        map[string]events.Quantity
	n            int
}

type shelf struct {
	item, location              string
	stocked, reserved, incoming events.Quantity
	deleted                     bool
}

type promise struct {
	level    string
	quantity events.Quantity
	status   string
}

func newShop() *shop {
	return &shop{book: newBook(), levels: make(map[string]*shelf), reservations: make(map[string]*promise), links: make(map[string]events.Quantity)}
}

func (s *shop) id(prefix string) string {
	s.n++
	return fmt.Sprintf("%s-%d", prefix, s.n)
}

// pick draws a key of m whose value fits.
func pick[V any](t *rapid.T, m map[string]V, fits func(V) bool) (string, V, bool) {
	var keys []string
	for k, v := range m {
		if fits(v) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		var none V
		return "", none, false
	}
	slices.Sort(keys)
	k := rapid.SampledFrom(keys).Draw(t, "of")
	return k, m[k], true
}

func some(t *rapid.T) events.Quantity {
	return qty(rapid.SampledFrom([]string{"1", "2.5", "0.001", "300", "100000000000000000", "0.000001"}).Draw(t, "quantity"))
}

// steps are what may happen; each returns the facts of it, none when it cannot.
var steps = []func(*shop, *rapid.T) []events.Fact{
	(*shop).newItem, (*shop).newLevel, (*shop).newLevel, (*shop).adjust, (*shop).adjust, (*shop).set, (*shop).expect, (*shop).reserve,
	(*shop).reserve, (*shop).resize, (*shop).move, (*shop).release, (*shop).restore, (*shop).fulfil, (*shop).dropLevel, (*shop).link,
	(*shop).unlink, (*shop).open,
}

// happen records one random commit.
func (s *shop) happen(t *rapid.T) {
	var facts []events.Fact
	for range rapid.IntRange(1, 3).Draw(t, "facts") {
		facts = append(facts, rapid.SampledFrom(steps).Draw(t, "step")(s, t)...)
	}
	if len(facts) == 0 {
		facts = append(facts, events.CommandAccepted{CommandID: s.id("command")})
	}
	s.record(facts...)
}

func (s *shop) newItem(t *rapid.T) []events.Fact {
	id := s.id("item")
	s.items = append(s.items, id)
	return []events.Fact{events.ItemCreated{ItemID: id, Attributes: events.ItemAttributes{SKU: new(s.id("sku"))}}}
}

func (s *shop) newLevel(t *rapid.T) []events.Fact {
	if len(s.items) == 0 {
		return nil
	}
	id, q := s.id("level"), some(t)
	l := &shelf{item: rapid.SampledFrom(s.items).Draw(t, "item"), location: s.id("place"), stocked: q, incoming: units(1)}
	s.levels[id] = l
	return []events.Fact{events.LevelCreated{ItemID: l.item, LevelID: id, LocationID: l.location, Stocked: q, Incoming: l.incoming}}
}

func live(l *shelf) bool { return !l.deleted }

func (s *shop) adjust(t *rapid.T) []events.Fact {
	id, l, found := pick(t, s.levels, live)
	if !found {
		return nil
	}
	delta := some(t)
	if rapid.Bool().Draw(t, "out") {
		delta = delta.Negated()
	}
	l.stocked = l.stocked.Plus(delta)
	if !l.stocked.Fits() {
		l.stocked = l.stocked.Minus(delta)
		return nil
	}
	return []events.Fact{events.StockAdjusted{ItemID: l.item, LevelID: id, LocationID: l.location, Delta: delta, Stocked: l.stocked, Reserved: l.reserved}}
}

func (s *shop) set(t *rapid.T) []events.Fact {
	id, l, found := pick(t, s.levels, live)
	if !found {
		return nil
	}
	from := l.stocked
	l.stocked = some(t)
	return []events.Fact{events.StockSet{ItemID: l.item, LevelID: id, LocationID: l.location, From: from, Stocked: l.stocked, Reserved: l.reserved}}
}

func (s *shop) expect(t *rapid.T) []events.Fact {
	id, l, found := pick(t, s.levels, live)
	if !found {
		return nil
	}
	from := l.incoming
	l.incoming = some(t)
	return []events.Fact{events.IncomingSet{ItemID: l.item, LevelID: id, LocationID: l.location, From: from, Incoming: l.incoming}}
}

func (s *shop) reserve(t *rapid.T) []events.Fact {
	level, l, found := pick(t, s.levels, live)
	if !found {
		return nil
	}
	id, q := s.id("reservation"), units(rapid.Int64Range(1, 5).Draw(t, "units"))
	l.reserved = l.reserved.Plus(q)
	s.reservations[id] = &promise{level, q, "live"}
	return []events.Fact{events.ReservationCreated{
		ItemID: l.item, LevelID: level, LocationID: l.location, ReservationID: id, Quantity: q,
		Details: events.ReservationDetails{LineItemID: new("line")}, Stocked: l.stocked, Reserved: l.reserved,
	}}
}

func holding(p *promise) bool { return p.status == "live" }

func (s *shop) resize(t *rapid.T) []events.Fact {
	id, p, found := pick(t, s.reservations, holding)
	if !found {
		return nil
	}
	l, from := s.levels[p.level], p.quantity
	p.quantity = units(rapid.Int64Range(1, 5).Draw(t, "units"))
	l.reserved = l.reserved.Minus(from).Plus(p.quantity)
	return []events.Fact{events.ReservationUpdated{
		ItemID: l.item, LevelID: p.level, LocationID: l.location, ReservationID: id,
		From: from, Quantity: p.quantity, Stocked: l.stocked, Reserved: l.reserved,
	}}
}

func (s *shop) move(t *rapid.T) []events.Fact {
	id, p, found := pick(t, s.reservations, holding)
	if !found {
		return nil
	}
	from := s.levels[p.level]
	level, to, found := pick(t, s.levels, func(l *shelf) bool { return live(l) && l != from && l.item == from.item })
	if !found {
		return nil
	}
	old := p.level
	p.level = level
	from.reserved, to.reserved = from.reserved.Minus(p.quantity), to.reserved.Plus(p.quantity)
	return []events.Fact{events.ReservationMoved{
		ItemID: to.item, ReservationID: id, Quantity: p.quantity,
		FromLevelID: old, FromLocationID: from.location, FromStocked: from.stocked, FromReserved: from.reserved,
		LevelID: level, LocationID: to.location, Stocked: to.stocked, Reserved: to.reserved,
	}}
}

func (s *shop) release(t *rapid.T) []events.Fact {
	id, p, found := pick(t, s.reservations, holding)
	if !found {
		return nil
	}
	l := s.levels[p.level]
	p.status, l.reserved = "released", l.reserved.Minus(p.quantity)
	return []events.Fact{events.ReservationReleased{
		ItemID: l.item, LevelID: p.level, LocationID: l.location, ReservationID: id,
		Quantity: p.quantity, Stocked: l.stocked, Reserved: l.reserved,
	}}
}

func (s *shop) restore(t *rapid.T) []events.Fact {
	id, p, found := pick(t, s.reservations, func(p *promise) bool { return p.status == "released" && live(s.levels[p.level]) })
	if !found {
		return nil
	}
	l := s.levels[p.level]
	p.status, l.reserved = "live", l.reserved.Plus(p.quantity)
	return []events.Fact{events.ReservationRestored{
		ItemID: l.item, LevelID: p.level, LocationID: l.location, ReservationID: id,
		Quantity: p.quantity, Stocked: l.stocked, Reserved: l.reserved,
	}}
}

func (s *shop) fulfil(t *rapid.T) []events.Fact {
	id, p, found := pick(t, s.reservations, holding)
	if !found {
		return nil
	}
	l, out := s.levels[p.level], p.quantity
	if rapid.Bool().Draw(t, "half") {
		out = qty("0.5")
	}
	p.quantity, l.stocked, l.reserved = p.quantity.Minus(out), l.stocked.Minus(out), l.reserved.Minus(out)
	if p.quantity.IsZero() {
		p.status = "fulfilled"
	}
	return []events.Fact{events.ReservationFulfilled{
		ItemID: l.item, LevelID: p.level, LocationID: l.location, ReservationID: id,
		Quantity: out, Remaining: p.quantity, Stocked: l.stocked, Reserved: l.reserved,
	}}
}

// dropLevel deletes a level, or brings one back.
func (s *shop) dropLevel(t *rapid.T) []events.Fact {
	id, l, found := pick(t, s.levels, func(l *shelf) bool { return l.reserved.IsZero() })
	if !found {
		return nil
	}
	l.deleted = !l.deleted
	if l.deleted {
		return []events.Fact{events.LevelDeleted{ItemID: l.item, LevelID: id, LocationID: l.location, Stocked: l.stocked, Incoming: l.incoming}}
	}
	return []events.Fact{events.LevelRestored{ItemID: l.item, LevelID: id, LocationID: l.location, Stocked: l.stocked, Incoming: l.incoming}}
}

func (s *shop) link(t *rapid.T) []events.Fact {
	if len(s.items) == 0 {
		return nil
	}
	item := rapid.SampledFrom(s.items).Draw(t, "item")
	old, linked := s.links[item]
	s.links[item] = some(t)
	if linked {
		return []events.Fact{events.LinkUpdated{VariantID: "v", ItemID: item, From: old, Required: s.links[item]}}
	}
	return []events.Fact{events.ItemLinked{VariantID: "v", ItemID: item, Required: s.links[item]}}
}

func (s *shop) unlink(t *rapid.T) []events.Fact {
	item, required, found := pick(t, s.links, func(events.Quantity) bool { return true })
	if !found {
		return nil
	}
	delete(s.links, item)
	return []events.Fact{events.ItemUnlinked{VariantID: "v", ItemID: item, Required: required}}
}

func (s *shop) open(t *rapid.T) []events.Fact {
	id := s.id("place")
	a := events.LocationAttributes{Name: "old"}
	return []events.Fact{
		events.LocationOpened{LocationID: id, Attributes: a},
		events.LocationUpdated{LocationID: id, Attributes: events.LocationAttributes{Name: "new"}},
		events.LocationLinked{LocationID: id, Kind: events.SalesChannel, ID: "web"},
		events.LocationLinked{LocationID: id, Kind: events.FulfillmentSet, ID: "set", Name: "Pickup", Type: "pickup"},
		events.LocationUnlinked{LocationID: id, Kind: events.SalesChannel, ID: "web"},
	}
}

// add is q and o, for totals kept by name.
func add(totals map[string]events.Quantity, name string, q events.Quantity) {
	totals[name] = totals[name].Plus(q)
}

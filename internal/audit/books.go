package audit

import (
	"encoding/json"
	"fmt"
	"unique"

	"github.com/stockledger/stockledger/events"
)

// books are what the rows of the read models should be, after the events they
// were given. They hold any number of streams, each from its first event on.
//
// They are made for a ledger of millions of rows. What can only be changed together
// is kept as one digest, and ids as keys: an item with its totals takes some 130
// bytes, a level, which is a row in each model, 160, and a reservation 140; a million
// items of three levels each fit in 620 MB. BenchmarkBooksMemory measures it.
// Movements and commands are compared when their event is read, and not kept.
type books struct {
	seeds
	// lean books know what levels hold, and nothing of reservations.
	lean bool
	// dictionary has the texts behind the digests, of books that are to name what
	// differs; nil in those that only find it.
	dictionary map[uint64][]text

	items        map[key]*itemRow
	levels       map[key]*levelRow
	reservations map[key]*reservationRow
	links        map[key]*linkRow
	locations    map[key]*locationRow
	skus         map[key]key // the owners

	backdated map[uint64]uint64 // digests, by the movement's id
	endings   map[uint64]uint64

	made     []movementRow // by the event applied last
	problems []Finding     // with it
}

// A trail is when a row was made and when it last changed.
type trail struct {
	position uint64 // of the event that made it
	version  uint64 // of its stream, when it last changed
	created  int64  // microseconds, here and below
	updated  int64
	deleted  int64 // 0 while it lives
}

func (t *trail) touch(e *entry) { t.version, t.updated = e.Version, e.at }

type itemRow struct {
	trail             // its version is that of the stream
	about, sku uint64 // digests
	total      holding
	levels     int32 // that live
}

type levelRow struct {
	trail
	about, metadata uint64
	item            *itemRow
	location        unique.Handle[string]
	held            holding
	prompt          uint64 // position of its first movement that is not backdated
	late            *late  // nil while none was backdated
}

// late sums up the backdated movements of a level.
type late struct {
	count uint64
	moved holding
}

// counts is what of a level counts: nothing once it is deleted.
func (l *levelRow) counts() holding {
	if l.deleted != 0 {
		return holding{}
	}
	return l.held
}

// What a reservation is.
const (
	live = iota
	released
	fulfilled
)

var statusNames = [...]string{live: "live", released: "released", fulfilled: "fulfilled"}

type reservationRow struct {
	trail
	about, where, details uint64
	level                 *levelRow
	quantity, taken       amount
	status                uint8
}

type linkRow struct {
	trail
	about    uint64
	required amount
}

type locationRow struct {
	trail
	id      string
	details uint64
	links   events.LocationLinks
}

// A movementRow is a movement, but for what it led to at its place.
type movementRow struct {
	id          uint64 // twice the position, and 1 for the second of a pair
	level       uint64
	location    string
	kind        string
	reservation string
	by, after   holding
	effective   text  // absent unless it is backdated
	late        *late // of its level, so far
}

// newBooks makes empty books. Those that name keep the texts behind digests.
func newBooks(s seeds, name bool) *books {
	b := &books{
		seeds: s, items: make(map[key]*itemRow), levels: make(map[key]*levelRow), reservations: make(map[key]*reservationRow),
		links: make(map[key]*linkRow), locations: make(map[key]*locationRow), skus: make(map[key]key),
		backdated: make(map[uint64]uint64), endings: make(map[uint64]uint64),
	}
	if name {
		b.dictionary = make(map[uint64][]text)
	}
	return b
}

// rows counts what the books hold, for bounds.
func (b *books) rows() int {
	return len(b.items) + len(b.levels) + len(b.reservations) + len(b.links) + len(b.locations) + len(b.skus) + len(b.backdated)
}

// words are the digest of values, and remembers them if it is to name.
func (b *books) words(values ...text) uint64 {
	d := b.digest(values...)
	if b.dictionary != nil {
		b.dictionary[d] = values
	}
	return d
}

// apply takes in an event. What it leads to is in made and problems until the
// next call. A fact that cannot follow what came before is a problem; the books
// then hold what it states.
func (b *books) apply(e *entry) {
	b.made, b.problems = b.made[:0], b.problems[:0]
	if e.fact == nil {
		return
	}
	if want := streamOf(e.fact); want != e.Stream {
		b.problem(e, "facts", "it is a fact of "+want+", and recorded in another stream", "", "")
		return
	}
	switch f := e.fact.(type) {
	case events.ItemCreated, events.ItemUpdated, events.ItemDeleted, events.ItemRestored:
		b.applyItem(e)
	case events.LevelCreated, events.LevelUpdated, events.LevelDeleted, events.LevelRestored,
		events.StockAdjusted, events.StockSet, events.IncomingSet:
		b.applyLevel(e)
	case events.ReservationCreated, events.ReservationUpdated, events.ReservationMoved, events.ReservationReleased,
		events.ReservationRestored, events.ReservationFulfilled:
		b.applyLevel(e)
		if !b.lean {
			b.applyReservation(e)
		}
	case events.ItemLinked, events.LinkUpdated, events.ItemUnlinked:
		b.applyLink(e)
	case events.SKUClaimed:
		sku := b.key(f.SKU)
		_, taken := b.skus[sku]
		b.must(e, !taken, "the SKU has an owner already")
		b.skus[sku] = b.key(f.ItemID)
	case events.SKUReleased:
		sku := b.key(f.SKU)
		b.must(e, b.skus[sku] == b.key(f.ItemID), "the SKU is not the item's")
		delete(b.skus, sku)
	case events.LocationOpened, events.LocationUpdated, events.LocationClosed, events.LocationLinked, events.LocationUnlinked:
		b.applyLocation(e)
	case events.CommandAccepted:
		b.must(e, e.Version == 1 && f.CommandID == e.meta.CommandID, "it accepts another command")
	}
}

// streamOf is the stream a fact belongs in.
func streamOf(fact events.Fact) string {
	switch f := fact.(type) {
	case events.ItemCreated:
		return events.ItemStream(f.ItemID)
	case events.ItemUpdated:
		return events.ItemStream(f.ItemID)
	case events.ItemDeleted:
		return events.ItemStream(f.ItemID)
	case events.ItemRestored:
		return events.ItemStream(f.ItemID)
	case events.LevelCreated:
		return events.ItemStream(f.ItemID)
	case events.LevelUpdated:
		return events.ItemStream(f.ItemID)
	case events.LevelDeleted:
		return events.ItemStream(f.ItemID)
	case events.LevelRestored:
		return events.ItemStream(f.ItemID)
	case events.StockAdjusted:
		return events.ItemStream(f.ItemID)
	case events.StockSet:
		return events.ItemStream(f.ItemID)
	case events.IncomingSet:
		return events.ItemStream(f.ItemID)
	case events.ReservationCreated:
		return events.ItemStream(f.ItemID)
	case events.ReservationUpdated:
		return events.ItemStream(f.ItemID)
	case events.ReservationMoved:
		return events.ItemStream(f.ItemID)
	case events.ReservationReleased:
		return events.ItemStream(f.ItemID)
	case events.ReservationRestored:
		return events.ItemStream(f.ItemID)
	case events.ReservationFulfilled:
		return events.ItemStream(f.ItemID)
	case events.ItemLinked:
		return events.VariantStream(f.VariantID)
	case events.LinkUpdated:
		return events.VariantStream(f.VariantID)
	case events.ItemUnlinked:
		return events.VariantStream(f.VariantID)
	case events.SKUClaimed:
		return events.SKUStream(f.SKU)
	case events.SKUReleased:
		return events.SKUStream(f.SKU)
	case events.LocationOpened:
		return events.LocationStream(f.LocationID)
	case events.LocationUpdated:
		return events.LocationStream(f.LocationID)
	case events.LocationClosed:
		return events.LocationStream(f.LocationID)
	case events.LocationLinked:
		return events.LocationStream(f.LocationID)
	case events.LocationUnlinked:
		return events.LocationStream(f.LocationID)
	case events.CommandAccepted:
		return events.CommandStream(f.CommandID)
	}
	return ""
}

// problem notes what is wrong with an event. Expected and stated are left out
// when both are empty.
func (b *books) problem(e *entry, check, message, expected, stated string) {
	f := e.place()
	f.Check, f.Message = check, fmt.Sprintf("event %d, %s %s@%d: %s", e.Position, kindOf(e.Type), e.Stream, e.Version, message)
	if expected != stated {
		f.Expected, f.Served = &expected, &stated
	}
	b.problems = append(b.problems, f)
}

// must notes a problem with the history unless it holds.
func (b *books) must(e *entry, holds bool, message string) {
	if !holds {
		b.problem(e, "history", message, "", "")
	}
}

// states notes a problem when an event states another quantity than follows from
// what was before.
func (b *books) states(e *entry, what string, follows, stated amount) {
	if follows != stated {
		b.problem(e, "quantities", fmt.Sprintf("it states %s %s, and %s follows from what was before", what, stated, follows),
			follows.String(), stated.String())
	}
}

func (b *books) applyItem(e *entry) {
	var id string
	switch f := e.fact.(type) {
	case events.ItemCreated:
		k := b.key(f.ItemID)
		b.must(e, b.items[k] == nil, "the item exists already")
		b.items[k] = &itemRow{
			trail: trail{position: e.Position, version: e.Version, created: e.at, updated: e.at},
			about: b.aboutItem(f.ItemID, &f.Attributes), sku: b.words(optional(f.Attributes.SKU)),
		}
		return
	case events.ItemUpdated:
		id = f.ItemID
	case events.ItemDeleted:
		id = f.ItemID
	case events.ItemRestored:
		id = f.ItemID
	default:
		return
	}
	it := b.items[b.key(id)]
	if it == nil {
		b.must(e, false, "there is no such item")
		return
	}
	it.touch(e)
	switch f := e.fact.(type) {
	case events.ItemUpdated:
		b.must(e, it.deleted == 0, "the item is deleted")
		it.about, it.sku = b.aboutItem(id, &f.Attributes), b.words(optional(f.Attributes.SKU))
	case events.ItemDeleted:
		b.must(e, it.deleted == 0, "the item is deleted already")
		b.must(e, it.levels == 0, "the item has levels that live")
		it.deleted = e.at
	case events.ItemRestored:
		b.must(e, it.deleted != 0, "the item is not deleted")
		it.deleted, it.sku = 0, b.words(optional(f.SKU))
	default:
	}
}

func (b *books) aboutItem(id string, a *events.ItemAttributes) uint64 {
	return b.words(known(id), optional(a.Title), optional(a.Description), optional(a.Thumbnail), optional(a.OriginCountry),
		optional(a.HSCode), optional(a.MIDCode), optional(a.Material), optional(a.UnitOfMeasure), optionalAmount(a.Weight),
		optionalAmount(a.Length), optionalAmount(a.Height), optionalAmount(a.Width), flag(a.RequiresShipping), document(a.Metadata))
}

// applyLevel takes in what a fact does to levels.
func (b *books) applyLevel(e *entry) {
	if f, ok := e.fact.(events.LevelUpdated); ok {
		b.describeLevel(e, f)
		return
	}
	for i, s := range statementsOf(e.fact) {
		id := b.key(s.level)
		l := b.levels[id]
		if _, created := e.fact.(events.LevelCreated); created {
			b.must(e, l == nil, "the level exists already")
			l = b.newLevel(e, s)
			b.levels[id] = l
		}
		if l == nil {
			b.must(e, false, "there is no level "+s.level)
			continue
		}
		b.must(e, l.about == b.digest(known(s.level), known(s.item)) && l.location == unique.Make(s.location),
			"the level is of another item or at another location")
		b.move(e, l, i, &s)
	}
}

func (b *books) newLevel(e *entry, s statement) *levelRow {
	it := b.items[b.key(s.item)]
	if it == nil {
		b.must(e, false, "there is no such item")
		it = new(itemRow)
	}
	created, _ := e.fact.(events.LevelCreated)
	return &levelRow{
		trail: trail{position: e.Position, created: e.at, deleted: e.at}, item: it, location: unique.Make(s.location),
		about: b.words(known(s.level), known(s.item)), metadata: b.words(document(created.Metadata)),
	}
}

func (b *books) describeLevel(e *entry, f events.LevelUpdated) {
	l := b.levels[b.key(f.LevelID)]
	if l == nil {
		b.must(e, false, "there is no such level")
		return
	}
	b.must(e, l.deleted == 0, "the level is deleted")
	l.touch(e)
	l.item.version = e.Version
	l.metadata = b.words(document(f.Metadata))
}

// move moves what a level holds, and its item with it.
func (b *books) move(e *entry, l *levelRow, nth int, s *statement) {
	before := l.counts()
	switch {
	case s.begun:
		b.must(e, l.deleted != 0, "the level is not deleted")
		b.must(e, l.item.deleted == 0, "the item is deleted")
		if l.version > 0 { // it comes back with what it had
			b.states(e, "stocked_quantity", l.held[stocked], s.to[stocked])
			b.states(e, "incoming_quantity", l.held[incoming], s.to[incoming])
		}
		l.deleted = 0
		l.item.levels++
		l.held = s.to
	case s.ended:
		b.must(e, l.deleted == 0, "the level is deleted already")
		b.states(e, "stocked_quantity", l.held[stocked], s.by[stocked].negated())
		b.states(e, "incoming_quantity", l.held[incoming], s.by[incoming].negated())
		b.states(e, "reserved_quantity", l.held[reserved], amount{})
		l.deleted = e.at
		l.item.levels--
	default:
		b.must(e, l.deleted == 0, "the level is deleted")
		for i, stated := range s.stated {
			if stated {
				b.states(e, quantityNames[i], l.held[i].plus(s.by[i]), s.to[i])
				l.held[i] = s.to[i]
			}
		}
	}
	if l.held[reserved].negative() || l.held[incoming].negative() {
		b.problem(e, "limits", "what is reserved or incoming falls below zero", "0 or more",
			l.held[reserved].String()+" reserved, "+l.held[incoming].String()+" incoming")
	}
	l.touch(e)
	l.item.version = e.Version
	l.item.total = l.item.total.plus(l.counts()).minus(before)
	if s.recorded() {
		b.record(e, l, nth, s)
	}
}

// record makes a movement.
func (b *books) record(e *entry, l *levelRow, nth int, s *statement) {
	m := movementRow{
		id: movementID(e.Position, nth), level: l.position, location: s.location, kind: kindOf(e.fact.EventType()),
		reservation: s.reservation, by: s.by, after: l.counts(),
	}
	at, backdated := e.effective()
	switch {
	case backdated:
		sum := late{count: 1, moved: s.by}
		if l.late != nil {
			sum = late{l.late.count + 1, l.late.moved.plus(s.by)}
		}
		l.late, m.effective = &sum, moment(at)
		b.backdated[m.id] = b.words(number(l.position), moment(at), amounts(s.by[stocked]), amounts(s.by[reserved]), amounts(s.by[incoming]))
	case l.prompt == 0:
		l.prompt = e.Position
	}
	if s.ended || s.begun && l.position != e.Position {
		b.endings[m.id] = b.words(number(l.position), moment(at), flag(s.ended))
	}
	m.late = l.late
	b.made = append(b.made, m)
}

func movementID(position uint64, nth int) uint64 {
	if nth > 0 {
		return 2*position + 1
	}
	return 2 * position
}

func amounts(a amount) text { return known(a.String()) }

func (b *books) applyReservation(e *entry) {
	if f, ok := e.fact.(events.ReservationCreated); ok {
		k := b.key(f.ReservationID)
		b.must(e, b.reservations[k] == nil, "the reservation exists already")
		b.must(e, amountOf(f.Quantity).positive(), "a reservation must hold more than nothing")
		b.reservations[k] = &reservationRow{
			trail: trail{position: e.Position, version: e.Version, created: e.at, updated: e.at},
			about: b.words(known(f.ReservationID), known(f.ItemID)), where: b.words(known(f.LevelID), known(f.LocationID)),
			details: b.aboutReservation(&f.Details), level: b.levels[b.key(f.LevelID)], quantity: amountOf(f.Quantity),
		}
		return
	}
	id, level := reservationOf(e.fact)
	r := b.reservations[b.key(id)]
	if r == nil {
		b.must(e, false, "there is no such reservation")
		return
	}
	if f, ok := e.fact.(events.ReservationRestored); ok {
		b.must(e, r.status == released, "the reservation is "+statusNames[r.status]+", not released")
		b.states(e, "quantity", r.quantity, amountOf(f.Quantity))
		r.status, r.deleted, r.quantity = live, 0, amountOf(f.Quantity)
		r.level, r.where = b.levels[b.key(f.LevelID)], b.words(known(f.LevelID), known(f.LocationID))
		r.details = b.aboutReservation(&f.Details)
		r.touch(e)
		return
	}
	b.must(e, r.status == live, "the reservation is "+statusNames[r.status]+", not live")
	b.must(e, r.level != nil && r.level == b.levels[b.key(level)], "the reservation holds at another level")
	r.touch(e)
	switch f := e.fact.(type) {
	case events.ReservationUpdated:
		b.states(e, "from", r.quantity, amountOf(f.From))
		b.must(e, amountOf(f.Quantity).positive(), "a reservation must hold more than nothing")
		r.quantity, r.details = amountOf(f.Quantity), b.aboutReservation(&f.Details)
	case events.ReservationMoved:
		b.states(e, "quantity", r.quantity, amountOf(f.Quantity))
		r.level, r.where = b.levels[b.key(f.LevelID)], b.words(known(f.LevelID), known(f.LocationID))
	case events.ReservationReleased:
		b.states(e, "quantity", r.quantity, amountOf(f.Quantity))
		r.status, r.deleted = released, e.at
	case events.ReservationFulfilled:
		b.states(e, "remaining", r.quantity.minus(amountOf(f.Quantity)), amountOf(f.Remaining))
		r.quantity, r.taken = amountOf(f.Remaining), r.taken.plus(amountOf(f.Quantity))
		if !r.quantity.positive() {
			r.status, r.deleted = fulfilled, e.at
		}
	default:
	}
}

// reservationOf is the reservation a fact is about, and the level it held at.
func reservationOf(fact events.Fact) (id, level string) {
	switch f := fact.(type) {
	case events.ReservationUpdated:
		return f.ReservationID, f.LevelID
	case events.ReservationMoved:
		return f.ReservationID, f.FromLevelID
	case events.ReservationReleased:
		return f.ReservationID, f.LevelID
	case events.ReservationFulfilled:
		return f.ReservationID, f.LevelID
	case events.ReservationRestored:
		return f.ReservationID, f.LevelID
	default:
		return "", ""
	}
}

func (b *books) aboutReservation(d *events.ReservationDetails) uint64 {
	return b.words(optional(d.LineItemID), optional(d.Description), optional(d.ExternalID), optional(d.CreatedBy),
		flag(d.AllowBackorder), document(d.Metadata))
}

func (b *books) linkKey(variant, item string) key {
	return b.key(events.Escape(variant) + " " + events.Escape(item))
}

func (b *books) applyLink(e *entry) {
	var variant, item string
	switch f := e.fact.(type) {
	case events.ItemLinked:
		variant, item = f.VariantID, f.ItemID
	case events.LinkUpdated:
		variant, item = f.VariantID, f.ItemID
	case events.ItemUnlinked:
		variant, item = f.VariantID, f.ItemID
	default:
	}
	k := b.linkKey(variant, item)
	l := b.links[k]
	f, linked := e.fact.(events.ItemLinked)
	switch {
	case linked && l == nil:
		l = &linkRow{
			trail: trail{position: e.Position, created: e.at, deleted: e.at}, about: b.words(known(variant), known(item)),
		}
		b.links[k] = l
	case l == nil:
		b.must(e, false, "the two are not linked")
		return
	}
	b.must(e, linked == (l.deleted != 0), "the two are linked already, or are not")
	l.touch(e)
	switch f := e.fact.(type) {
	case events.LinkUpdated:
		b.states(e, "from", l.required, amountOf(f.From))
		l.required = amountOf(f.Required)
	case events.ItemUnlinked:
		b.states(e, "required_quantity", l.required, amountOf(f.Required))
		l.deleted = e.at
	default:
	}
	if linked {
		l.required, l.deleted = amountOf(f.Required), 0
	}
	b.must(e, l.required.positive(), "a link must require more than nothing")
}

func (b *books) applyLocation(e *entry) {
	if f, ok := e.fact.(events.LocationOpened); ok {
		k := b.key(f.LocationID)
		b.must(e, b.locations[k] == nil, "the location exists already")
		b.locations[k] = &locationRow{
			trail: trail{position: e.Position, version: e.Version, created: e.at, updated: e.at},
			id:    f.LocationID, details: b.aboutLocation(&f.Attributes), links: events.NoLinks(),
		}
		return
	}
	var id string
	switch f := e.fact.(type) {
	case events.LocationUpdated:
		id = f.LocationID
	case events.LocationClosed:
		id = f.LocationID
	case events.LocationLinked:
		id = f.LocationID
	case events.LocationUnlinked:
		id = f.LocationID
	default:
	}
	l := b.locations[b.key(id)]
	if l == nil {
		b.must(e, false, "there is no such location")
		return
	}
	b.must(e, l.deleted == 0, "the location is closed")
	l.touch(e)
	switch f := e.fact.(type) {
	case events.LocationUpdated:
		l.details = b.aboutLocation(&f.Attributes)
	case events.LocationClosed:
		l.deleted, l.links = e.at, events.NoLinks()
	case events.LocationLinked:
		before := l.links.Len()
		l.links = l.links.With(f)
		b.must(e, l.links.Len() == before+1, "the kind of link is unknown")
	case events.LocationUnlinked:
		before := l.links.Len()
		l.links = l.links.Without(f)
		b.must(e, l.links.Len() == before-1, "the location is not linked so")
	default:
	}
}

func (b *books) aboutLocation(a *events.LocationAttributes) uint64 {
	var address text
	if a.Address != nil {
		address = known(asJSON(a.Address))
	}
	return b.words(known(a.Name), address, document(a.Metadata))
}

// asJSON writes what cannot fail to be written.
func asJSON(v any) string {
	written, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(written)
}

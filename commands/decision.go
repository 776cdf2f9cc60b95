package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Ref points from an id or a place at the item that holds what is there, and at
// what is there. It is an alias so that a package that cannot import this one
// can implement Index.
type Ref = struct{ Item, ID string }

// Index finds what a command names only indirectly, and what was done before.
// It may lag behind the log; the engine remembers whatever is newer than
// Position. Its methods may be called from many goroutines at once.
type Index interface {
	// Position is how far the index has come. Everything up to it is in the
	// answers to calls that start later.
	Position() uint64
	// Command finds the commit of a command key: the position of its last event
	// and the digest of the command.
	Command(ctx context.Context, key string) (position uint64, digest string, found bool, err error)
	// Find lists what key points at; see the Find constants.
	Find(ctx context.Context, kind, key string) ([]Ref, error)
}

// What an Index finds.
const (
	FindReservation          = "reservation"           // a reservation by id, whatever became of it
	FindLevel                = "level"                 // a level by id, whatever became of it
	FindLine                 = "line"                  // the reservations of a line item, whatever became of them
	FindLocationLevels       = "location-levels"       // the levels at a location
	FindLocationReservations = "location-reservations" // the live reservations at a location
	FindItemVariants         = "item-variants"         // the variants linked to an item, as ID
)

type lookup struct{ kind, key string }

// refs are the lookups that find what fact made, newest state or not: whoever
// follows one looks at the aggregate for the truth.
func refs(fact events.Fact) map[lookup]Ref {
	switch f := fact.(type) {
	case events.LevelCreated:
		ref := Ref{f.ItemID, f.LevelID}
		return map[lookup]Ref{{FindLevel, f.LevelID}: ref, {FindLocationLevels, f.LocationID}: ref}
	case events.LevelRestored:
		return map[lookup]Ref{{FindLocationLevels, f.LocationID}: {f.ItemID, f.LevelID}}
	case events.ReservationCreated:
		return reservationRefs(f.ItemID, f.ReservationID, f.LocationID, f.Details.LineItemID)
	case events.ReservationRestored:
		return reservationRefs(f.ItemID, f.ReservationID, f.LocationID, f.Details.LineItemID)
	case events.ReservationMoved:
		return reservationRefs(f.ItemID, f.ReservationID, f.LocationID, nil)
	case events.ReservationUpdated:
		return reservationRefs(f.ItemID, f.ReservationID, f.LocationID, f.Details.LineItemID)
	case events.ItemLinked:
		return map[lookup]Ref{{FindItemVariants, f.ItemID}: {f.ItemID, f.VariantID}}
	default:
		return nil
	}
}

func reservationRefs(item, reservation, location string, line *string) map[lookup]Ref {
	ref := Ref{item, reservation}
	found := map[lookup]Ref{{FindReservation, reservation}: ref, {FindLocationReservations, location}: ref}
	if line != nil {
		found[lookup{FindLine, *line}] = ref
	}
	return found
}

// decision is one command being decided. Its methods see the effects of what
// the command has recorded so far.
type decision struct {
	engine   *Engine
	job      *job
	stamp    domain.Stamp
	touched  []*entry // begun, to be kept or rolled back
	recorded []event
	answered int              // levels of the items in the answer
	made     map[lookup][]Ref // by recorded[:indexed]
	indexed  int
	missing  missing // what the lines decided so far turned out to need
}

type event struct {
	entry   *entry
	version uint64
	fact    events.Fact
}

// missing says that the decision needs what was not fetched. The command is
// fetched for again and decided again.
type missing struct {
	streams []string
	lookups []lookup
	archive []Ref
}

func (m missing) Error() string {
	return fmt.Sprintf("not fetched: %v %v %v", m.streams, m.lookups, m.archive)
}

func (m *missing) add(more missing) {
	m.streams = append(m.streams, more.streams...)
	m.lookups = append(m.lookups, more.lookups...)
	m.archive = append(m.archive, more.archive...)
}

func (m missing) any() bool { return len(m.streams)+len(m.lookups)+len(m.archive) > 0 }

// each decides one line after the other, and answers with a row for each. A line
// that misses something does not end it: the command will be decided again, and
// what the lines after it miss is fetched with it, at once.
func each[L, R any](d *decision, lines []L, decide func(L) (R, error)) ([]R, error) {
	rows := make([]R, len(lines))
	for i, line := range lines {
		row, err := decide(line)
		if again, ok := errors.AsType[missing](err); ok {
			d.missing.add(again)
			continue
		}
		if err != nil && !d.missing.any() {
			return nil, domain.Line(err, i+1)
		}
		rows[i] = row
	}
	return rows, nil
}

// unlessIgnored is err, unless it says that something is not there and that is not
// to matter.
func unlessIgnored(ignore bool, err error) error {
	if ignore && fault.Code(err) == "not_found" {
		return nil
	}
	return err
}

// need says which of some streams were not fetched.
func (d *decision) need(streams ...string) error {
	var m missing
	for _, stream := range streams {
		if d.job.pinned.of(stream) == nil {
			m.streams = append(m.streams, stream)
		}
	}
	if !m.any() {
		return nil
	}
	return m
}

// needItems says which of the items that refs point at were not fetched.
func (d *decision) needItems(refs []Ref) error {
	streams := make([]string, len(refs))
	for i, ref := range refs {
		streams[i] = events.ItemStream(ref.Item)
	}
	return d.need(streams...)
}

func (d *decision) item(id string) (*domain.Item, error) {
	return aggregateOf[*domain.Item](d, events.ItemStream(id))
}

func (d *decision) sku(sku string) (*domain.SKU, error) {
	return aggregateOf[*domain.SKU](d, events.SKUStream(sku))
}

func (d *decision) variant(id string) (*domain.Variant, error) {
	return aggregateOf[*domain.Variant](d, events.VariantStream(id))
}

func (d *decision) location(id string) (*domain.Location, error) {
	return aggregateOf[*domain.Location](d, events.LocationStream(id))
}

func aggregateOf[A aggregate](d *decision, stream string) (A, error) {
	var none A
	pinned := d.job.pinned.of(stream)
	if pinned == nil {
		return none, missing{streams: []string{stream}}
	}
	d.begin(pinned)
	return pinned.state.(A), nil
}

func (d *decision) begin(e *entry) {
	if !e.begun {
		e.begun = true
		e.state.Begin()
		d.touched = append(d.touched, e)
	}
}

// record takes facts of a stream in, so that the next line sees them.
func (d *decision) record(stream string, facts ...events.Fact) {
	if len(facts) == 0 {
		return
	}
	e := d.job.pinned.of(stream)
	d.begin(e)
	for _, fact := range facts {
		version := e.version + e.ahead + 1
		e.state.Apply(fact, domain.Stamp{Version: version, At: d.stamp.At})
		e.ahead++
		d.recorded = append(d.recorded, event{e, version, fact})
	}
}

func (d *decision) keep() {
	for _, e := range d.touched {
		e.state.Keep()
		e.version += e.ahead
		e.begun, e.ahead = false, 0
	}
}

func (d *decision) rollback() {
	for _, e := range d.touched {
		e.state.Rollback()
		e.begun, e.ahead = false, 0
	}
}

// find is what the index and the engine's memory know together.
func (d *decision) find(kind, key string) ([]Ref, error) {
	at := lookup{kind, key}
	fetched, ok := d.job.found[at]
	if !ok {
		return nil, missing{lookups: []lookup{at}}
	}
	for ; d.indexed < len(d.recorded); d.indexed++ { // by earlier lines of this command
		for at, ref := range refs(d.recorded[d.indexed].fact) {
			if d.made == nil {
				d.made = make(map[lookup][]Ref)
			}
			d.made[at] = append(d.made[at], ref)
		}
	}
	all := slices.Concat(fetched, d.engine.recent.refs[at], d.made[at])
	if len(all) < 2 {
		return all, nil
	}
	seen := make(map[Ref]bool, len(all))
	return slices.DeleteFunc(all, func(ref Ref) bool {
		again := seen[ref]
		seen[ref] = true
		return again
	}), nil
}

// owner is the item that holds a reservation or a level, by its id.
func (d *decision) owner(kind, id string) (item string, found bool, err error) {
	all, err := d.find(kind, id)
	if err != nil || len(all) == 0 {
		return "", false, err
	}
	return all[0].Item, true, nil
}

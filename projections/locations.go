package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/events"
)

// Location is a place where items can be stocked. A closed one is deleted.
type Location struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Address  *events.Address `json:"address"`
	Metadata json.RawMessage `json:"metadata"`
	events.LocationLinks
	Version uint64     `json:"version"` // of the location's stream
	Created time.Time  `json:"created_at"`
	Updated time.Time  `json:"updated_at"`
	Deleted *time.Time `json:"deleted_at"`
}

var locationsPart = part{
	stream: "location",
	schema: `
CREATE TABLE locations (
	position   INTEGER PRIMARY KEY, -- of the event that opened it
	id         TEXT NOT NULL UNIQUE,
	name       TEXT NOT NULL,
	address    TEXT,
	metadata   TEXT,
	links      TEXT NOT NULL,
	version    INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	deleted_at INTEGER
);
-- The links of the open locations again, for whoever looks from the other end.
CREATE TABLE location_links (
	kind        TEXT NOT NULL,
	id          TEXT NOT NULL, -- of the sales channel, provider or set
	location_id TEXT NOT NULL,
	PRIMARY KEY (kind, id, location_id)
) WITHOUT ROWID;
CREATE INDEX location_links_by_location ON location_links (location_id);`,
	fold: newLocationsFold,
}

type locationsFold struct{ *rows[string, Location] }

func newLocationsFold(f *file) fold {
	return locationsFold{newRows(f, "location", func(id string) (row[Location], bool, error) {
		rows, err := f.lookup(context.Background(), `SELECT `+locationColumns+`, position FROM locations WHERE id = ?`, id)
		return first(rows, err, func(s scanner) (r row[Location], err error) {
			r.value, err = scanLocation(s, &r.position)
			return r, err
		})
	})}
}

func (f locationsFold) apply(e *event) error {
	switch fact := e.fact.(type) {
	case events.LocationOpened:
		a := fact.Attributes
		return f.add(e, fact.LocationID, Location{
			ID: fact.LocationID, Name: a.Name, Address: a.Address, Metadata: a.Metadata, LocationLinks: events.NoLinks(),
			Version: e.Version, Created: e.at, Updated: e.at,
		})
	case events.LocationUpdated:
		return f.touch(e, fact.LocationID, func(l *Location) {
			l.Name, l.Address, l.Metadata = fact.Attributes.Name, fact.Attributes.Address, fact.Attributes.Metadata
		})
	case events.LocationClosed:
		return f.touch(e, fact.LocationID, func(l *Location) { l.Deleted, l.LocationLinks = e.moment(), events.NoLinks() })
	case events.LocationLinked:
		return f.touch(e, fact.LocationID, func(l *Location) { l.LocationLinks = l.With(fact) })
	case events.LocationUnlinked:
		return f.touch(e, fact.LocationID, func(l *Location) { l.LocationLinks = l.Without(fact) })
	case events.ItemCreated, events.ItemUpdated, events.ItemDeleted, events.ItemRestored,
		events.LevelCreated, events.LevelUpdated, events.LevelDeleted, events.LevelRestored,
		events.StockAdjusted, events.StockSet, events.IncomingSet,
		events.ReservationCreated, events.ReservationUpdated, events.ReservationMoved, events.ReservationReleased,
		events.ReservationRestored, events.ReservationFulfilled,
		events.ItemLinked, events.LinkUpdated, events.ItemUnlinked, events.SKUClaimed, events.SKUReleased, events.CommandAccepted:
	}
	return nil
}

// touch changes a location that is open.
func (f locationsFold) touch(e *event, id string, do func(*Location)) error {
	return f.change(id, func(l *Location) error {
		if l.Deleted != nil {
			return fmt.Errorf("is closed")
		}
		l.Updated, l.Version = e.at, e.Version
		do(l)
		return nil
	})
}

func (f locationsFold) flush(w *writer) error {
	write := func(text string) func(*row[Location]) error {
		return func(r *row[Location]) error {
			l := &r.value
			var address json.RawMessage
			if l.Address != nil {
				var err error
				if address, err = json.Marshal(l.Address); err != nil {
					return err
				}
			}
			links, err := json.Marshal(l.LocationLinks)
			if err != nil {
				return err
			}
			if err := w.exec(text, l.ID, l.Name, storeDocument(address), storeDocument(l.Metadata), string(links), int64(l.Version),
				storeMoment(l.Created), storeMoment(l.Updated), storeOptionalMoment(l.Deleted), r.position); err != nil {
				return err
			}
			return writeLinks(w, l)
		}
	}
	return f.rows.flush(
		write(`INSERT INTO locations (`+locationColumns+`, position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
		write(`UPDATE locations SET (`+locationColumns+`) = (?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE position = ?`))
}

// writeLinks writes all links of a location. They are few, and change rarely.
func writeLinks(w *writer, l *Location) error {
	if err := w.exec(`DELETE FROM location_links WHERE location_id = ?`, l.ID); err != nil {
		return err
	}
	for _, kind := range []events.LinkKind{events.SalesChannel, events.FulfillmentProvider, events.FulfillmentSet} {
		for _, id := range l.IDs(kind) {
			if err := w.exec(`INSERT INTO location_links (kind, id, location_id) VALUES (?, ?, ?)`, string(kind), id, l.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

const locationColumns = `id, name, address, metadata, links, version, created_at, updated_at, deleted_at`

// scanLocation reads locationColumns, and what follows them.
func scanLocation(s scanner, more ...any) (l Location, err error) {
	var address, links json.RawMessage
	err = s.Scan(append([]any{
		&l.ID, &l.Name, document(&address), document(&l.Metadata), document(&links), &l.Version,
		moment{&l.Created},
		moment{&l.Updated},
		optionalMoment(&l.Deleted),
	}, more...)...)
	if err != nil {
		return l, err
	}
	if address != nil {
		if err := json.Unmarshal(address, &l.Address); err != nil {
			return l, err
		}
	}
	return l, json.Unmarshal(links, &l.LocationLinks)
}

func scanOnlyLocation(s scanner) (Location, error) { return scanLocation(s) }

// RetrieveLocation finds an open stock location.
func (m *Models) RetrieveLocation(ctx context.Context, id string) (Location, error) {
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return Location{}, err
	}
	defer done()
	rows, err := m.inventory.file.lookup(ctx, `SELECT `+locationColumns+` FROM locations WHERE id = ? AND deleted_at IS NULL`, id)
	l, found, err := first(rows, err, scanOnlyLocation)
	if err != nil {
		return l, fmt.Errorf("retrieve location %s: %w", id, err)
	}
	if !found {
		return l, notFound("StockLocation with id: "+id+" was not found", "location_id", id)
	}
	return l, nil
}

// Locations are few; lists of them look at all.
var locationsTable = table{
	name: `locations`,
	filters: []column{
		{"id", asText},
		{"name", asText},
		{"version", asWhole},
		{"created_at", asTime},
		{"updated_at", asTime},
		{"deleted_at", asTime},
	},
	search:  search{columns: []string{"name"}},
	nested:  map[string]nested{"sales_channel_id": servesChannel, "address": hasAddress},
	deletes: true,
}

var locationsList = list[Location]{
	table:   &locationsTable,
	columns: locationColumns,
	scan:    scanOnlyLocation,
}

// ListLocations lists stock locations.
func (m *Models) ListLocations(ctx context.Context, l List) (Page[Location], error) {
	return locationsList.run(ctx, m, ofInventory, l)
}

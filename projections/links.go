package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/events"
)

// Link says how many units of an item a product variant is made of. A pair that
// is linked again after it was removed is the same link.
type Link struct {
	VariantID string          `json:"variant_id"`
	ItemID    string          `json:"inventory_item_id"`
	Required  events.Quantity `json:"required_quantity"`
	Version   uint64          `json:"version"` // of the variant's stream when the link last changed
	Created   time.Time       `json:"created_at"`
	Updated   time.Time       `json:"updated_at"`
	Deleted   *time.Time      `json:"deleted_at"`
}

var linksPart = part{
	stream: "variant",
	schema: `
CREATE TABLE links (
	position          INTEGER PRIMARY KEY, -- of the event that first linked the two
	variant_id        TEXT NOT NULL,
	inventory_item_id TEXT NOT NULL,
	required_quantity TEXT NOT NULL,
	version           INTEGER NOT NULL,
	created_at        INTEGER NOT NULL,
	updated_at        INTEGER NOT NULL,
	deleted_at        INTEGER,
	UNIQUE (variant_id, inventory_item_id)
);` + linksTable.schema(),
	indexes: linksTable.late(),
	fold:    newLinksFold,
}

type linksFold struct{ *rows[pair, Link] }

// A pair is what a link links.
type pair struct{ variant, item string }

func newLinksFold(f *file) fold {
	return linksFold{newRows(f, "link", func(key pair) (row[Link], bool, error) {
		rows, err := f.lookup(context.Background(), `SELECT `+linkColumns+`, position
			FROM links WHERE variant_id = ? AND inventory_item_id = ?`, key.variant, key.item)
		return first(rows, err, func(s scanner) (r row[Link], err error) {
			r.value, err = scanLink(s, &r.position)
			return r, err
		})
	})}
}

func (f linksFold) apply(e *event) error {
	switch fact := e.fact.(type) {
	case events.ItemLinked:
		key := pair{fact.VariantID, fact.ItemID}
		if r, err := f.find(key); err != nil {
			return err
		} else if r == nil {
			return f.add(e, key, Link{
				VariantID: fact.VariantID, ItemID: fact.ItemID, Required: fact.Required,
				Version: e.Version, Created: e.at, Updated: e.at,
			})
		}
		return f.change(key, func(l *Link) error {
			if l.Deleted == nil {
				return fmt.Errorf("exists already")
			}
			l.Required, l.Deleted, l.Updated, l.Version = fact.Required, nil, e.at, e.Version
			return nil
		})
	case events.LinkUpdated:
		return f.touch(e, fact.VariantID, fact.ItemID, fact.From, func(l *Link) { l.Required = fact.Required })
	case events.ItemUnlinked:
		return f.touch(e, fact.VariantID, fact.ItemID, fact.Required, func(l *Link) { l.Deleted = e.moment() })
	case events.ItemCreated, events.ItemUpdated, events.ItemDeleted, events.ItemRestored,
		events.LevelCreated, events.LevelUpdated, events.LevelDeleted, events.LevelRestored,
		events.StockAdjusted, events.StockSet, events.IncomingSet,
		events.ReservationCreated, events.ReservationUpdated, events.ReservationMoved, events.ReservationReleased,
		events.ReservationRestored, events.ReservationFulfilled, events.SKUClaimed, events.SKUReleased,
		events.LocationOpened, events.LocationUpdated, events.LocationClosed,
		events.LocationLinked, events.LocationUnlinked, events.CommandAccepted:
	}
	return nil
}

// touch changes a live link, which must require so many.
func (f linksFold) touch(e *event, variant, item string, required events.Quantity, do func(*Link)) error {
	return f.change(pair{variant, item}, func(l *Link) error {
		if l.Deleted != nil || !l.Required.Equal(required) {
			return fmt.Errorf("requires %s, not %s, or is removed", l.Required, required)
		}
		l.Updated, l.Version = e.at, e.Version
		do(l)
		return nil
	})
}

func (f linksFold) flush(w *writer) error {
	insert := func(r *row[Link]) error {
		l := &r.value
		return w.exec(`INSERT INTO links (`+linkColumns+`, position) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			l.VariantID, l.ItemID, quantityKey(l.Required), int64(l.Version),
			storeMoment(l.Created), storeMoment(l.Updated), storeOptionalMoment(l.Deleted), r.position)
	}
	update := func(r *row[Link]) error {
		l := &r.value
		return w.exec(`UPDATE links SET required_quantity = ?, version = ?, updated_at = ?, deleted_at = ? WHERE position = ?`,
			quantityKey(l.Required), int64(l.Version), storeMoment(l.Updated), storeOptionalMoment(l.Deleted), r.position)
	}
	return f.rows.flush(insert, update)
}

const linkColumns = `variant_id, inventory_item_id, required_quantity, version, created_at, updated_at, deleted_at`

// scanLink reads linkColumns, and what follows them.
func scanLink(s scanner, more ...any) (l Link, err error) {
	err = s.Scan(append([]any{
		&l.VariantID, &l.ItemID,
		amount{&l.Required},
		&l.Version,
		moment{&l.Created},
		moment{&l.Updated},
		optionalMoment(&l.Deleted),
	}, more...)...)
	return l, err
}

var linksTable = table{
	name: `links`,
	filters: []column{
		{"variant_id", asText},
		{"inventory_item_id", asText},
		{"required_quantity", asNumber},
		{"version", asWhole},
		{"created_at", asTime},
		{"updated_at", asTime},
		{"deleted_at", asTime},
	},
	indexes: indexes(`links`, `deleted_at`, `variant_id`, `inventory_item_id`, `required_quantity`, `created_at`, `updated_at`),
	early:   []string{"variant_id", "inventory_item_id"},
	deletes: true,
}

var linksList = list[Link]{
	table:   &linksTable,
	columns: linkColumns,
	scan:    func(s scanner) (Link, error) { return scanLink(s) },
}

// ListLinks lists the items that product variants are made of.
func (m *Models) ListLinks(ctx context.Context, l List) (Page[Link], error) {
	return linksList.run(ctx, m, ofInventory, l)
}

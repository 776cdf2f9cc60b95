package projections

import (
	"context"
	"database/sql"
	"encoding/json"
)

// A relation brings along what belongs to the rows of a page. It reads in the
// transaction that the page was read in.
type relation[T any] struct {
	bring  func(ctx context.Context, tx *sql.Tx, rows []T, withDeleted bool) error
	fields func() []string // that each of them has
}

// related says how rows of type R are found by what points at them. All SQL is
// made of its texts.
type related[R any] struct {
	text string // up to the condition; the keys are its one argument, as JSON
	live string // the condition that they are not deleted; the + keeps SQLite from walking all that are not, in order
	key  func(*R) string
	scan func(scanner) (R, error)
}

// bring is the relation that puts into each row what is found by its key.
func bring[T, R any](key func(*T) string, of related[R], put func(*T, []R)) relation[T] {
	found := func(ctx context.Context, tx *sql.Tx, page []T, withDeleted bool) error {
		keys := make([]string, len(page))
		for i := range page {
			keys[i] = key(&page[i])
		}
		set, err := json.Marshal(keys)
		if err != nil {
			return err
		}
		text := of.text
		if !withDeleted {
			text += ` AND ` + of.live
		}
		rows, err := tx.QueryContext(ctx, text+` ORDER BY position`, string(set))
		all, err := gather(rows, err, of.scan)
		if err != nil {
			return err
		}
		byKey := make(map[string][]R)
		for _, r := range all {
			byKey[of.key(&r)] = append(byKey[of.key(&r)], r)
		}
		for i := range page {
			found := byKey[keys[i]]
			if found == nil {
				found = []R{}
			}
			put(&page[i], found)
		}
		return nil
	}
	return relation[T]{found, fieldsOf[R]}
}

// only is the one row that was found, nil when it was not.
func only[R any](found []R) *R {
	if len(found) == 0 {
		return nil
	}
	return &found[0]
}

var (
	itemsByID = related[Item]{
		`SELECT ` + itemColumns + ` FROM items JOIN totals USING (position) WHERE id IN (SELECT value FROM json_each(?))`,
		`+deleted_at IS NULL`,
		func(it *Item) string { return it.ID },
		func(s scanner) (Item, error) { return scanItem(s) },
	}
	locationsByID = related[Location]{
		`SELECT ` + locationColumns + ` FROM locations WHERE id IN (SELECT value FROM json_each(?))`,
		`+deleted_at IS NULL`,
		func(l *Location) string { return l.ID },
		scanOnlyLocation,
	}
	levelsOfItems = related[Level]{
		`SELECT ` + levelColumns + ` FROM levels WHERE inventory_item_id IN (SELECT value FROM json_each(?))`,
		`+deleted_at IS NULL`,
		func(l *Level) string { return l.ItemID },
		scanOnlyLevel,
	}
	reservationsOfItems = related[Reservation]{
		`SELECT ` + reservationColumns + ` FROM reservations WHERE inventory_item_id IN (SELECT value FROM json_each(?))`,
		`+deleted_at IS NULL`,
		func(r *Reservation) string { return r.ItemID },
		scanOnlyReservation,
	}
	linksOfItems = related[Link]{
		`SELECT ` + linkColumns + ` FROM links WHERE inventory_item_id IN (SELECT value FROM json_each(?))`,
		`+deleted_at IS NULL`,
		func(l *Link) string { return l.ItemID },
		func(s scanner) (Link, error) { return scanLink(s) },
	}
)

package main

import (
	"context"
	"fmt"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/projections"
)

// A spoiltItem is an item whose totals the planted bug spoils: by how much too
// much is reserved, and by which event first.
type spoiltItem struct {
	by    events.Quantity
	first events.Recorded
}

// spoiltItems are those items by id, as the log has them. This is written down
// apart from the folds and from the books of verify, and both are held against it.
type spoiltItems map[string]spoiltItem

// releasedIn reads from the log what the bug spoils up to a position: whatever is
// released is not given back.
func releasedIn(ctx context.Context, log events.Store, through uint64) (spoiltItems, error) {
	items := make(spoiltItems)
	for batch, err := range log.Subscribe(ctx, 0) {
		if err != nil {
			return nil, err
		}
		for _, e := range batch {
			if e.Position > through {
				return items, nil
			}
			if err := items.add(e); err != nil {
				return nil, err
			}
			if e.Position == through {
				return items, nil
			}
		}
	}
	return items, nil
}

func (s spoiltItems) add(e events.Recorded) error {
	fact, err := e.Fact()
	if err != nil {
		return err
	}
	released, ok := fact.(events.ReservationReleased)
	if !ok || released.Quantity.IsZero() {
		return nil
	}
	item, seen := s[released.ItemID]
	if !seen {
		item.first = e
	}
	item.by = item.by.Plus(released.Quantity)
	s[released.ItemID] = item
	return nil
}

// has holds one finding against the log.
func (s spoiltItems) has(f audit.Finding) error {
	if _, spoilt := s[f.Key]; !spoilt || f.Model != inventoryModel || f.Table != "totals" {
		return fmt.Errorf("%s of %s is said to be wrong, and the log says nothing of that: %s", f.Table, f.Key, f.Message)
	}
	return nil
}

// are holds all findings against the log: exactly these items are found.
func (s spoiltItems) are(found []audit.Finding) error {
	seen := make(map[string]bool)
	for _, f := range found {
		if err := s.has(f); err != nil {
			return err
		}
		seen[f.Key] = true
	}
	if len(seen) != len(s) {
		return fmt.Errorf("%d items are said to be wrong, and the log says %d", len(seen), len(s))
	}
	return nil
}

// differ holds a difference against the log: exactly these rows, by how much, and
// since when.
func (s spoiltItems) differ(d projections.Difference) error {
	if len(d.Models) != 1 || len(d.Models[0].Rows) != len(s) || d.Differing != uint64(len(s)) {
		return fmt.Errorf("%d rows differ, and the log says %d", d.Differing, len(s))
	}
	for _, r := range d.Models[0].Rows {
		item, spoilt := s[r.Key]
		switch {
		case !spoilt || r.Table != "totals" || r.Kind != projections.RowDifferent:
			return fmt.Errorf("%s %s differs, and the log says nothing of that", r.Table, r.Key)
		case r.Since == nil || r.Since.Position != item.first.Position:
			return fmt.Errorf("%s %s is said to part since %v, and the log says at position %d", r.Table, r.Key, r.Since, item.first.Position)
		case !tooMuch(r.Columns["reserved_quantity"], item.by):
			return fmt.Errorf("%s %s: %v is not %s too much", r.Table, r.Key, r.Columns["reserved_quantity"], item.by)
		}
	}
	return nil
}

// tooMuch reports whether the served value is that much more than the other.
func tooMuch(c projections.Change, by events.Quantity) bool {
	if c.Served == nil || c.Other == nil {
		return false
	}
	served, err := events.ParseQuantity(*c.Served)
	if err != nil {
		return false
	}
	other, err := events.ParseQuantity(*c.Other)
	return err == nil && served.Minus(other).Equal(by)
}

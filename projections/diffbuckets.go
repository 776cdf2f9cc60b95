package projections

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
)

// Where a bucket ends depends on how many events were folded at once, so honest
// builds of one log differ there. What has to be so is that each bucket of the
// served side holds what the backdated movements of the other side come to between
// where it begins and where the next one does.

var (
	bucketColumns    = []string{"level", "effective_at", "id", "movements", "stocked", "reserved", "incoming"}
	backdatedColumns = []string{"level", "effective_at", "id", "stocked", "reserved", "incoming"}
)

// hasBuckets reports whether the table is one of buckets, as they are here.
func (c *contrast) hasBuckets(t *paired) bool {
	backdated := c.other.table("backdated")
	return t.Model == "movements" && t.Name == "buckets" && t.served && t.other && slices.Equal(t.Columns, bucketColumns) &&
		backdated != nil && slices.Equal(backdated.Columns, backdatedColumns)
}

// A summing adds up the backdated movements of one side between buckets of the
// other one.
type summing struct {
	ctx     context.Context //nolint:containedctx // of one merge, in which it lives
	late    *viewing        // backdated movements, in order
	now     []driver.Value  // the next one of them, nil after the last
	each    func(served, other []driver.Value)
	lastErr error
}

// mergeBuckets hands every bucket of the served side to each, with what it ought
// to be, and those that are missing.
func (c *contrast) mergeBuckets(ctx context.Context, t *paired, each func(served, other []driver.Value)) (err error) {
	s := &summing{ctx: ctx, each: each}
	if s.late, err = c.other.rowsOf(ctx, c.other.table("backdated"), true); err != nil {
		return err
	}
	defer s.late.close()
	s.step()
	var level int64
	var pending []driver.Value
	err = c.served.query(ctx, t.rowsText(``, ``), nil, func(row []driver.Value) bool {
		from := whenOf(row)
		if at, _ := row[0].(int64); pending == nil || at != level {
			s.end(pending)
			s.skip(at)
			level, pending = at, nil
			if from != beginning { // it is missing
				s.bucket(nil, bucketRow(level, beginning), from)
			}
		} else {
			s.bucket(pending, pending, from)
		}
		pending = slices.Clone(row)
		return s.lastErr == nil
	})
	s.end(pending)
	s.skip(maxLevel)
	return errors.Join(err, s.lastErr)
}

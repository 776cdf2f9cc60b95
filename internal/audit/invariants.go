package audit

import (
	"iter"
	"slices"
	"strconv"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// invariants are checked on the rows that are served, against each other only:
// should the books and a fold have the same bug, this finds it.
type invariants struct {
	seeds
	checks  *checks
	columns map[string]int // of the table at hand
	table   *sheet

	promised map[uint64]amount  // by live reservations, by digest of the level's id
	moved    map[uint64]holding // by all movements of a level, by its number
	stocked  map[uint64]holding // by the live levels of an item, by digest of its id
	at       map[key]struct{}   // where items have live levels
	ids      map[uint64]uint64  // digests of the ids of items, by position
}

func newInvariants(s seeds, c *checks) *invariants {
	return &invariants{
		seeds: s, checks: c, promised: make(map[uint64]amount), moved: make(map[uint64]holding),
		stocked: make(map[uint64]holding), at: make(map[key]struct{}), ids: make(map[uint64]uint64),
	}
}

// begin is called before the rows of a table are shown.
func (v *invariants) begin(tables []projections.Table, s *sheet) {
	i := slices.IndexFunc(tables, func(t projections.Table) bool { return t.Model == s.model && t.Name == s.table })
	v.table, v.columns = s, make(map[string]int)
	for n, name := range tables[i].Columns {
		v.columns[name] = n
	}
}

func (v *invariants) value(r *projections.Row, column string) string {
	return r.Values[v.columns[column]].String
}

// amount reads a quantity. One that cannot be read counts 0; its row is found to
// be different by itself.
func (v *invariants) amount(r *projections.Row, column string) amount {
	plain := v.value(r, column)
	if _, err := strconv.ParseInt(plain, 10, 64); err != nil {
		if q, err := events.ParseSum(plain); err != nil || q.String() != plain {
			return amount{}
		}
	}
	return amountText(plain)
}

func (v *invariants) holding(r *projections.Row) holding {
	return holding{v.amount(r, "stocked_quantity"), v.amount(r, "reserved_quantity"), v.amount(r, "incoming_quantity")}
}

func (v *invariants) lives(r *projections.Row) bool { return !r.Values[v.columns["deleted_at"]].Valid }

// check counts that a column of a row was looked at, and finds it wrong unless it
// is as expected.
func (v *invariants) check(name string, r *projections.Row, column string, expected, served amount, why string) {
	if v.checks.see(name, expected == served) {
		return
	}
	v.wrong(name, r, column, expected.String(), served.String(), why)
}

func (v *invariants) wrong(name string, r *projections.Row, column, expected, served, why string) {
	f := Finding{Position: r.Position, Row: r.Position, Model: r.Model, Table: r.Table, Key: r.Key, Column: column}
	f.Expected, f.Served = &expected, &served
	v.checks.find(name, f, "%s.%s %s: %s is %s, and %s %s", r.Model, r.Table, r.Key, column, served, why, expected)
}

func (v *invariants) notNegative(r *projections.Row, columns ...string) {
	for _, column := range columns {
		if is := v.amount(r, column); !v.checks.see("not negative", !is.negative()) {
			v.wrong("not negative", r, column, "0 or more", is.String(), "must be")
		}
	}
}

func (v *invariants) movement(r *projections.Row) {
	level, _ := strconv.ParseUint(v.value(r, "level"), 10, 64)
	v.moved[level] = v.moved[level].plus(holding{
		v.amount(r, "delta_stocked"), v.amount(r, "delta_reserved"), v.amount(r, "delta_incoming"),
	})
}

func (v *invariants) reservation(r *projections.Row) {
	v.notNegative(r, "quantity", "fulfilled_quantity")
	if v.value(r, "status") == statusNames[live] {
		level := v.digest(known(v.value(r, "level_id")))
		v.promised[level] = v.promised[level].plus(v.amount(r, "quantity"))
	}
}

func (v *invariants) level(r *projections.Row) {
	held := v.holding(r)
	v.check("available", r, "available_quantity", held.available(), v.amount(r, "available_quantity"), "stocked less reserved is")
	v.check("reserved", r, "reserved_quantity", v.promised[v.digest(known(v.value(r, "id")))], held[reserved],
		"its live reservations hold")
	v.notNegative(r, "reserved_quantity", "incoming_quantity")
	counts := holding{}
	item := v.value(r, "inventory_item_id")
	if v.lives(r) {
		counts = held
		id := v.digest(known(item))
		v.stocked[id] = v.stocked[id].plus(held)
		where := v.key(events.Escape(item) + " " + events.Escape(v.value(r, "location_id")))
		_, twice := v.at[where]
		if !v.checks.see("one level", !twice) {
			v.wrong("one level", r, "location_id", "1", "2", "the live levels of the item there should be")
		}
		v.at[where] = struct{}{}
	}
	for i, moved := range v.moved[r.Position] {
		v.check("movements", r, quantityNames[i], moved, counts[i], "its movements add up to")
	}
}

func (v *invariants) item(r *projections.Row) {
	v.ids[r.Position] = v.digest(known(v.value(r, "id")))
}

func (v *invariants) total(r *projections.Row) {
	held := v.holding(r)
	v.check("available", r, "available_quantity", held.available(), v.amount(r, "available_quantity"), "stocked less reserved is")
	v.notNegative(r, "reserved_quantity", "incoming_quantity")
	for i, sum := range v.stocked[v.ids[r.Position]] {
		v.check("totals", r, quantityNames[i], sum, held[i], "its live levels add up to")
	}
}

func (v *invariants) link(r *projections.Row) { v.notNegative(r, "required_quantity") }

// end compares how many commits and rows of commands there are.
func (v *invariants) end(commits, rows uint64) {
	v.checks.byName["commands"].Checked += rows
	if commits != rows {
		v.checks.byName["commands"].Wrong += max(commits, rows) - min(commits, rows)
		expected, served := strconv.FormatUint(commits, 10), strconv.FormatUint(rows, 10)
		v.checks.find("commands", Finding{
			Model: commandsSheet.model, Table: commandsSheet.table, Expected: &expected, Served: &served,
		}, "%s: there are %s rows for %s commits", commandsSheet.name(), served, expected)
	}
}

// bucketFull is how many backdated movements a level may have before their sums
// are kept.
const bucketFull = 1024

// buckets checks that each sum of backdated movements is that of the movements it
// stands for. Both tables are in the same order.
func (v *invariants) buckets(tables []projections.Table, sums, moved iter.Seq2[projections.Row, error]) error {
	nextMoved, stopMoved := iter.Pull2(moved)
	defer stopMoved()
	nextSum, stopSums := iter.Pull2(sums)
	defer stopSums()
	v.begin(tables, &backdatedSheet)
	backdated := v.columns
	v.begin(tables, &bucketsSheet)
	sum, err, more := nextSum()
	row, rowErr, rows := nextMoved()
	for rows || more {
		if err != nil {
			return err
		}
		if rowErr != nil {
			return rowErr
		}
		level := ^uint64(0)
		if rows {
			level, _ = strconv.ParseUint(row.Values[backdated["level"]].String, 10, 64)
		}
		if more {
			n, _ := strconv.ParseUint(v.value(&sum, "level"), 10, 64)
			level = min(level, n)
		}
		// The buckets of one level, and then what is in each.
		var all []projections.Row
		for of := strconv.FormatUint(level, 10); more && v.value(&sum, "level") == of; sum, err, more = nextSum() {
			if err != nil {
				return err
			}
			all = append(all, sum)
		}
		counts, totals := make([]uint64, len(all)), make([]holding, len(all))
		at, loose := 0, uint64(0)
		for of := strconv.FormatUint(level, 10); rows && row.Values[backdated["level"]].String == of; row, rowErr, rows = nextMoved() {
			if rowErr != nil {
				return rowErr
			}
			if len(all) == 0 {
				loose++
				continue
			}
			for at+1 < len(all) && !v.before(&row, backdated, &all[at+1]) {
				at++
			}
			counts[at]++
			columns := v.columns
			v.columns = backdated
			totals[at] = totals[at].plus(holding{v.amount(&row, "stocked"), v.amount(&row, "reserved"), v.amount(&row, "incoming")})
			v.columns = columns
		}
		for i := range all {
			v.bucket(&all[i], counts[i], totals[i])
		}
		if loose > bucketFull {
			v.checks.see("backdated sums", false)
			v.checks.find("backdated sums", Finding{Position: level, Row: level, Model: bucketsSheet.model, Table: bucketsSheet.table},
				"%s: level number %d has %d backdated movements and no sums of them", bucketsSheet.name(), level, loose)
		}
	}
	return nil
}

// before reports whether a backdated movement comes before a bucket begins.
func (v *invariants) before(row *projections.Row, columns map[string]int, bucket *projections.Row) bool {
	at, begins := microsOf(row.Values[columns["effective_at"]].String), microsOf(v.value(bucket, "effective_at"))
	if at != begins {
		return at < begins
	}
	id, _ := strconv.ParseUint(row.Values[columns["id"]].String, 10, 64)
	first, _ := strconv.ParseUint(v.value(bucket, "id"), 10, 64)
	return id < first
}

func (v *invariants) bucket(r *projections.Row, count uint64, sum holding) {
	served := v.value(r, "movements")
	if n := strconv.FormatUint(count, 10); !v.checks.see("backdated sums", served == n) {
		v.wrong("backdated sums", r, "movements", n, served, "there are")
	}
	for i, column := range []string{"stocked", "reserved", "incoming"} {
		v.check("backdated sums", r, column, sum[i], v.amount(r, column), "its movements add up to")
	}
}

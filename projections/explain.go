package projections

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Explain asks why a quantity of a level or an item is what it is: now, or at a
// position or an instant on the recorded clock. Item and location together name
// a level.
type Explain struct {
	LevelID    string `json:"level_id"`
	ItemID     string `json:"inventory_item_id"`
	LocationID string `json:"location_id"`
	Quantity   string `json:"quantity"` // stocked, reserved, incoming, or available, also when it is ""

	Position *uint64    `json:"position"`
	At       *time.Time `json:"at"`

	// After is the position after which the page of movements begins; without it
	// the page is the last one, which ends in the sum.
	After *uint64 `json:"after_position"`
	Take  *int    `json:"take"` // nil is 50; a page may be one longer, as it never cuts an event
}

// An Explanation is a quantity with the movements that make it, read from the
// log itself.
type Explanation struct {
	Quantity string          `json:"quantity"`
	Value    events.Quantity `json:"value"`  // what the read model answers; 0 when it cannot, as Parts says
	Events   int             `json:"events"` // how many movements changed the quantity
	Sum      events.Quantity `json:"sum"`    // what they add up to, by the log
	Served   Served          `json:"served"`
	Agrees   bool            `json:"agrees"` // the log and the read model do, and the chain holds
	Parts    *Parting        `json:"parts,omitempty"`
	Chain    Chain           `json:"chain"`
	Opening  Opening         `json:"opening"` // what comes before the page
	Rows     []Explained     `json:"rows"`    // oldest first
	More     bool            `json:"more"`    // there are others after the page
}

// Served says which row of a read model the log is compared with.
type Served struct {
	Model    string          `json:"model"`
	Version  uint64          `json:"version"`  // of the item's stream, up to which the log is read
	Position uint64          `json:"position"` // of the last event that is read
	Value    events.Quantity `json:"value"`
}

// A Parting is the first place where the log and a read model part.
type Parting struct {
	Position uint64 `json:"position"` // of the event after which they do
	LevelID  string `json:"level_id"` // "" when it is the sum of an item that is wrong
	// Row is movements, levels or totals; or totals.version, of which Log and Served
	// are versions of the item's stream.
	Row    string          `json:"row"`
	Log    events.Quantity `json:"log"`
	Served events.Quantity `json:"served"`
	Stored *string         `json:"stored,omitempty"` // what stands in the row when that is no quantity
}

// Chain is what became of checking the hash chain of the item's stream.
type Chain struct {
	Stream   string      `json:"stream"`
	Events   uint64      `json:"events"` // checked
	Verified bool        `json:"verified"`
	Broken   string      `json:"broken,omitempty"` // where, and how
	Head     events.Hash `json:"head"`             // of the last one
}

// Opening is how many movements there were before a page, and their sum.
type Opening struct {
	Events int             `json:"events"`
	Sum    events.Quantity `json:"sum"`
}

// Explained is a movement with what it did to the quantity.
type Explained struct {
	Movement
	Delta   events.Quantity `json:"delta"`
	Running events.Quantity `json:"running"`
}

// quantities pick one out of a holding.
var quantities = map[string]func(holding) events.Quantity{
	"stocked":   func(h holding) events.Quantity { return h.stocked },
	"reserved":  func(h holding) events.Quantity { return h.reserved },
	"incoming":  func(h holding) events.Quantity { return h.incoming },
	"available": holding.available,
}

func (q Explain) check() error {
	if q.Quantity != "" && quantities[q.Quantity] == nil {
		return fault.New(fault.Invalid, "invalid_value", "the quantity is 'stocked', 'reserved', 'incoming' or 'available', not '%s'", q.Quantity).
			With("field", "quantity")
	}
	if q.LevelID == "" && q.ItemID == "" {
		return fault.New(fault.Invalid, "required", "Field 'level_id' or 'inventory_item_id' is required").With("field", "inventory_item_id")
	}
	then := q.asOf()
	if q.now() {
		then.Position = new(uint64) // any
	}
	return then.check()
}

// also is the model that knows what was. What it says of a position never changes.
func (q Explain) also() []source {
	if q.At == nil {
		return nil
	}
	return []source{ofMovements}
}

func (q *Explain) now() bool { return q.Position == nil && q.At == nil }

func (q *Explain) asOf() AsOf {
	return AsOf{LevelID: q.LevelID, ItemID: q.ItemID, LocationID: q.LocationID, Position: q.Position, At: q.At, Take: q.Take}
}

// Explain reads the movements that make a quantity from the log, adds them up,
// and compares the sum with what a read model answers. It takes as long as
// reading the item's stream does.
func (m *Models) Explain(ctx context.Context, q Explain) (Explanation, error) {
	if err := q.check(); err != nil {
		return Explanation{}, err
	}
	if q.Quantity == "" {
		q.Quantity = "available"
	}
	if err := m.reach(ctx, q.Position); err != nil {
		return Explanation{}, fmt.Errorf("explain: %w", err)
	}
	m, done, err := m.pin(ofInventory, ofMovements)
	if err != nil {
		return Explanation{}, err
	}
	defer done()
	read := m.servedNow
	if !q.now() {
		read = m.servedThen
	}
	s, err := read(ctx, q)
	if err != nil {
		return Explanation{}, fmt.Errorf("explain: %w", err)
	}
	x := newExplainer(q, s)
	if err := x.read(ctx, m.store); err != nil {
		return Explanation{}, fmt.Errorf("explain: %w", err)
	}
	if err := x.conclude(ctx, m); err != nil {
		return Explanation{}, fmt.Errorf("explain: %w", err)
	}
	return x.Explanation, nil
}

// served is what a read model says, and up to where the log must say the same.
type served struct {
	Served
	item  string
	until uint64      // position up to which the rows hold the log
	rows  []servedRow // the first one is what is explained
}

// A servedRow says a quantity, of one level or of all.
type servedRow struct {
	name   string // of its table
	level  string // "" for all
	value  events.Quantity
	stored *string // instead of a value
}

// A reading is what a row says of all quantities.
type reading struct {
	holding
	available events.Quantity
	garbled   map[string]*string // what is no quantity, as it is stored, by name
}

// A doubted quantity is scanned even if it is none; then it is 0.
type doubted struct {
	sql.Scanner
	stored **string
}

// Scan implements sql.Scanner.
func (d doubted) Scan(stored any) error {
	if d.Scanner.Scan(stored) != nil {
		*d.stored = new(fmt.Sprint(stored))
	}
	return nil
}

// servedNow is what the rows say that all queries are answered from.
func (m *Models) servedNow(ctx context.Context, q Explain) (s served, err error) {
	tx, err := m.inventory.file.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return s, err
	}
	defer tx.Rollback()
	s.Model, s.item = m.inventory.name, q.ItemID
	if err := tx.QueryRowContext(ctx, `SELECT position FROM checkpoint`).Scan(&s.until); err != nil {
		return s, err
	}
	const of = `SELECT ` + servedColumns + `, id, inventory_item_id, deleted_at IS NOT NULL FROM levels WHERE `
	text, args := of+`inventory_item_id = ?`, []any{q.ItemID}
	switch {
	case q.LevelID != "":
		text, args = of+`id = ?`, []any{q.LevelID}
	case q.LocationID != "":
		text, args = of+`inventory_item_id = ? AND location_id = ?`, append(args, q.LocationID)
	}
	rows, err := tx.QueryContext(ctx, text, args...)
	var sum holding
	var levels []servedRow
	_, err = gather(rows, err, func(r scanner) (none struct{}, err error) {
		var id string
		var deleted bool
		row, err := scanServed(r, &id, &s.item, &deleted)
		if deleted { // then it counts nothing
			row = reading{}
		}
		sum = sum.plus(row.holding)
		levels = append(levels, q.served("levels", id, row)...)
		return none, err
	})
	if err != nil {
		return s, err
	}
	if len(levels) == 0 && (q.LevelID != "" || q.LocationID != "") {
		return s, m.mustKnow(ctx, q.asOf())
	}
	rows, err = tx.QueryContext(ctx, `SELECT `+servedColumns+`, version FROM items JOIN totals USING (position) WHERE id = ?`, s.item)
	_, found, err := first(rows, err, func(r scanner) (none struct{}, err error) {
		row, err := scanServed(r, &s.Version)
		if q.LevelID == "" && q.LocationID == "" {
			s.rows = q.served("totals", "", row)
		}
		return none, err
	})
	if err == nil && !found {
		err = itemNotFound(s.item)
	}
	s.rows = slices.Concat(s.rows, q.served("levels", "", reading{holding: sum, available: sum.available()}), levels)
	return s, err
}

const servedColumns = `stocked_quantity, reserved_quantity, incoming_quantity, available_quantity`

// scanServed reads servedColumns, and what follows them.
func scanServed(r scanner, more ...any) (row reading, err error) {
	var stocked, reserved, incoming, available *string
	err = r.Scan(append([]any{
		doubted{amount{&row.stocked}, &stocked},
		doubted{amount{&row.reserved}, &reserved},
		doubted{amount{&row.incoming}, &incoming},
		doubted{amount{&row.available}, &available},
	}, more...)...)
	row.garbled = map[string]*string{
		"stocked": stocked, "reserved": reserved, "incoming": incoming, "available": cmp.Or(stocked, reserved, available),
	}
	return row, err
}

// served is what a row says of the quantity. What is available is answered from
// two others, and found by what is stored.
func (q *Explain) served(name, level string, row reading) []servedRow {
	rows := []servedRow{{name, level, quantities[q.Quantity](row.holding), row.garbled[q.Quantity]}}
	if q.Quantity == "available" && !row.available.Equal(row.holding.available()) {
		rows = append(rows, servedRow{name, level, row.available, row.garbled["available"]})
	}
	return rows
}

// servedThen is what as-of answers.
func (m *Models) servedThen(ctx context.Context, q Explain) (s served, err error) {
	then, err := m.AsOf(ctx, q.asOf())
	if err != nil {
		return s, err
	}
	s.Model, s.Position, s.until, s.item = m.movements.name, then.Position, then.Position, q.ItemID
	if q.LevelID != "" {
		err := m.lookBack(ctx, func(p *past) error {
			return p.tx.QueryRowContext(ctx, `SELECT inventory_item_id FROM levels WHERE id = ?`, q.LevelID).Scan(&s.item)
		})
		if err != nil {
			return s, err
		}
	}
	of := quantities[q.Quantity]
	s.rows = []servedRow{{name: "movements", value: of(holding{*then.Stocked, *then.Reserved, *then.Incoming})}}
	for _, l := range then.Levels {
		s.rows = append(s.rows, servedRow{name: "movements", level: l.LevelID, value: of(holding{l.Stocked, l.Reserved, l.Incoming})})
	}
	return s, nil
}

// An explainer reads a stream.
type explainer struct {
	Explanation
	asked  Explain
	served served
	of     func(holding) events.Quantity
	take   int
	held   map[string]holding // by level
	last   map[string]uint64  // position of the last change, by level; of all under ""
	sum    holding
	head   events.Recorded
}

func newExplainer(q Explain, s served) *explainer {
	then := q.asOf()
	x := &explainer{
		asked: q, served: s, of: quantities[q.Quantity], take: then.take(),
		held: make(map[string]holding), last: make(map[string]uint64),
	}
	x.Quantity, x.Served, x.Value, x.Rows = q.Quantity, s.Served, s.rows[0].value, []Explained{}
	x.Served.Value = x.Value
	x.Chain.Stream = events.ItemStream(s.item)
	return x
}

// read reads the stream up to where the read model has it.
func (x *explainer) read(ctx context.Context, store events.Store) error {
	for e, err := range store.Read(ctx, x.Chain.Stream, 0) {
		if err != nil {
			return err
		}
		if e.Position > x.served.until {
			break
		}
		if err := e.Verify(x.head); err != nil && x.Chain.Broken == "" {
			x.Chain.Broken = err.Error()
		}
		x.head = e
		x.Chain.Events++
		if err := x.add(e); err != nil {
			if x.Chain.Broken == "" {
				x.Chain.Broken = err.Error()
			}
			break // what follows cannot be added to what cannot be read
		}
	}
	if x.asked.now() && x.Chain.Broken == "" && x.head.Version < x.served.Version {
		x.Chain.Broken = fmt.Sprintf("%s ends at version %d, and the read model has seen %d", x.Chain.Stream, x.head.Version, x.served.Version)
	}
	x.Chain.Head, x.Chain.Verified = x.head.Hash, x.Chain.Broken == ""
	x.Served.Version, x.Served.Position = x.head.Version, x.head.Position
	if !x.asked.now() {
		x.Served.Position = x.served.Position
	}
	return nil
}

// add adds what an event changes.
func (x *explainer) add(e events.Recorded) error {
	fact, err := e.Fact()
	if err != nil {
		return err
	}
	meta, err := e.Metadata()
	if err != nil {
		return err
	}
	for _, c := range changesOf(fact) {
		if !x.asks(c) {
			continue
		}
		moved := c.deltas()
		x.held[c.level], x.sum = x.held[c.level].plus(moved), x.sum.plus(moved)
		if x.of(moved).IsZero() {
			continue
		}
		x.last[c.level], x.last[""] = e.Position, e.Position
		x.Events++
		x.row(x.movement(e, fact, meta, c))
	}
	return nil
}

// asks reports whether the question is about the level of a change.
func (x *explainer) asks(c change) bool {
	switch {
	case x.asked.LevelID != "":
		return c.level == x.asked.LevelID
	case x.asked.LocationID != "":
		return c.location == x.asked.LocationID
	}
	return true
}

func (x *explainer) movement(e events.Recorded, fact events.Fact, meta events.Meta, c change) Explained {
	held, moved := x.held[c.level], c.deltas()
	row := Explained{Delta: x.of(moved), Running: x.of(x.sum), Movement: Movement{
		Position: e.Position, Recorded: meta.Recorded.UTC(), Effective: meta.EffectiveAt().UTC(), Kind: shortName(fact),
		ItemID: c.item, LevelID: c.level, LocationID: c.location,
		Stocked: held.stocked, Reserved: held.reserved, Incoming: held.incoming, Available: held.available(),
		RunningStocked: x.sum.stocked, RunningReserved: x.sum.reserved,
		Reason: meta.Reason, Reference: meta.Reference, Actor: meta.Actor,
		Command: meta.Command, CommandID: meta.CommandID, Correlation: meta.Correlation,
	}}
	if c.reservation != "" {
		row.ReservationID = &c.reservation
	}
	for _, d := range []struct {
		by   events.Quantity
		into **events.Quantity
	}{{moved.stocked, &row.DeltaStocked}, {moved.reserved, &row.DeltaReserved}, {moved.incoming, &row.DeltaIncoming}} {
		if !d.by.IsZero() {
			*d.into = &d.by
		}
	}
	return row
}

// row puts a movement on the page, or into what opens it, or leaves it for the
// pages after it.
func (x *explainer) row(r Explained) {
	switch {
	case x.asked.After == nil:
		x.Rows = append(x.Rows, r)
		if len(x.Rows) > 2*x.take+2 {
			x.open(len(x.Rows) - x.take - 1)
		}
	case r.Position <= *x.asked.After:
		x.Opening.Events++
		x.Opening.Sum = r.Running
	case len(x.Rows) < x.take || len(x.Rows) == x.take && x.take > 0 && x.Rows[x.take-1].Position == r.Position:
		x.Rows = append(x.Rows, r)
	default:
		x.More = true
	}
}

// open takes the first rows off the page, into what opens it.
func (x *explainer) open(n int) {
	if n <= 0 {
		return
	}
	x.Opening.Events += n
	x.Opening.Sum = x.Rows[n-1].Running
	x.Rows = append(x.Rows[:0], x.Rows[n:]...)
}

// conclude compares the sums with what is served.
func (x *explainer) conclude(ctx context.Context, m *Models) error {
	if x.asked.After == nil {
		n := len(x.Rows) - x.take
		if n > 0 && x.take > 0 && x.Rows[n-1].Position == x.Rows[n].Position {
			n--
		}
		x.open(n)
	}
	x.Sum = x.of(x.sum)
	for _, row := range x.served.rows {
		sum, position := x.Sum, x.last[row.level]
		if row.level != "" {
			sum = x.of(x.held[row.level])
		}
		if (row.stored != nil || !sum.Equal(row.value)) && (x.Parts == nil || position <= x.Parts.Position) { // of two, the row of one level
			x.Parts = &Parting{Position: position, LevelID: row.level, Row: row.name, Log: sum, Served: row.value, Stored: row.stored}
		}
	}
	if x.Parts == nil && x.asked.now() && x.head.Version > x.served.Version {
		x.Parts = &Parting{
			Position: x.head.Position, Row: "totals.version",
			Log: events.Units(int64(x.head.Version)), Served: events.Units(int64(x.served.Version)),
		}
		return nil
	}
	x.Agrees = x.Parts == nil && x.Chain.Verified
	if x.Parts == nil {
		return nil
	}
	return m.lookBack(ctx, func(p *past) error { return x.find(ctx, m.store, p) })
}

// find looks for the first movement of the read model that is not as the log
// has it. When there is none, the served row alone is wrong, after the last event.
func (x *explainer) find(ctx context.Context, store events.Store, p *past) error {
	again := newExplainer(x.asked, x.served)
	for e, err := range store.Read(ctx, x.Chain.Stream, 0) {
		if err != nil {
			return err
		}
		if e.Version > x.head.Version || int64(e.Position) > p.horizon {
			return nil
		}
		fact, err := e.Fact()
		if err != nil {
			return nil // the chain has told of it
		}
		for nth, c := range changesOf(fact) {
			if !again.asks(c) || !c.moves() {
				continue
			}
			held := again.held[c.level].plus(c.deltas())
			again.held[c.level] = held
			rows, err := p.query(ctx, `SELECT stocked, reserved, incoming FROM movements WHERE id = ?`, 2*int64(e.Position)+int64(nth))
			var stored *string
			row, _, err := first(rows, err, func(s scanner) (h holding, err error) {
				return h, s.Scan(doubted{sparse{&h.stocked}, &stored}, doubted{sparse{&h.reserved}, &stored}, doubted{sparse{&h.incoming}, &stored})
			})
			if err != nil {
				return err
			}
			if log, served := x.of(held), x.of(row); !log.Equal(served) {
				x.Parts = &Parting{Position: e.Position, LevelID: c.level, Row: "movements", Log: log, Served: served, Stored: stored}
				return nil
			}
		}
	}
	return nil
}

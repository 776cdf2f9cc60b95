package projections

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The clocks that a question can be asked on.
const (
	// Recorded is when the ledger took it in: what was known then.
	Recorded = "recorded"
	// Effective is when it happened in the world: what was true then, given all
	// that is known now.
	Effective = "effective"
)

// AsOf asks what a level, an item or a whole location held at some time. Item
// and location together name a level.
type AsOf struct {
	LevelID    string `json:"level_id"`
	ItemID     string `json:"inventory_item_id"`
	LocationID string `json:"location_id"`

	// The time: a position of the log, or an instant, to the microsecond. What was
	// recorded, or happened, exactly then is included. A position beyond the log is
	// refused; an instant in the future is the present, as far as that is known.
	Position *uint64    `json:"position"`
	At       *time.Time `json:"at"`
	Clock    string     `json:"clock"` // Recorded, also when it is "", or Effective, for instants only

	// Of a whole location: how many levels at most, 50 unless it says, and the Next
	// of the page before.
	Take   *int   `json:"take"`
	Cursor string `json:"cursor"`
}

// Then is what was held at some time.
type Then struct {
	Clock    string     `json:"clock"`
	At       *time.Time `json:"at"`       // as asked, or when the event at Position was recorded; null before the first event
	Position uint64     `json:"position"` // of the last event that is in the answer, or could be

	// Over all levels; left out of a page of a whole location.
	Stocked   *events.Quantity `json:"stocked_quantity,omitempty"`
	Reserved  *events.Quantity `json:"reserved_quantity,omitempty"`
	Incoming  *events.Quantity `json:"incoming_quantity,omitempty"`
	Available *events.Quantity `json:"available_quantity,omitempty"`

	// Levels are those that had come into being and were not deleted, oldest first.
	Levels []LevelThen `json:"levels"`
	Next   *string     `json:"next"` // the cursor of the page that follows, null after the last
}

// LevelThen is what a level held at some time.
type LevelThen struct {
	LevelID      string          `json:"level_id"`
	ItemID       string          `json:"inventory_item_id"`
	LocationID   string          `json:"location_id"`
	Stocked      events.Quantity `json:"stocked_quantity"`
	Reserved     events.Quantity `json:"reserved_quantity"`
	Incoming     events.Quantity `json:"incoming_quantity"`
	Available    events.Quantity `json:"available_quantity"`
	LastPosition uint64          `json:"last_position"` // of the last movement recorded by then; 0 when all of it was recorded later
}

func (q AsOf) check() error {
	wrong := func(field, message string) error {
		return fault.New(fault.Invalid, "invalid_value", "%s", message).With("field", field)
	}
	switch {
	case q.LevelID == "" && q.ItemID == "" && q.LocationID == "":
		return fault.New(fault.Invalid, "required", "Field 'level_id', 'inventory_item_id' or 'location_id' is required").
			With("field", "inventory_item_id")
	case q.LevelID != "" && (q.ItemID != "" || q.LocationID != ""):
		return wrong("level_id", "name a level by level_id, or by inventory_item_id and location_id, not by both")
	case q.Clock != "" && q.Clock != Recorded && q.Clock != Effective:
		return wrong("clock", "the clock is 'recorded' or 'effective', not '"+q.Clock+"'")
	case q.Position == nil && q.At == nil:
		return fault.New(fault.Invalid, "required", "Field 'position' or 'at' is required").With("field", "at")
	case q.Position != nil && q.At != nil:
		return wrong("position", "name the time by position or by at, not by both")
	case q.Position != nil && q.Clock == Effective:
		return wrong("position", "on the effective clock the time is an instant, named by at")
	case !q.place() && q.Cursor != "":
		return wrong("cursor", "only a whole location has pages")
	}
	return checkTake(q.take())
}

// place reports whether it asks for a whole location.
func (q *AsOf) place() bool { return q.LevelID == "" && q.ItemID == "" }

func (q *AsOf) take() int {
	if q.Take == nil {
		return defaultTake
	}
	return *q.Take
}

// AsOf answers what was held at some time.
func (m *Models) AsOf(ctx context.Context, q AsOf) (then Then, err error) {
	if err := q.check(); err != nil {
		return then, err
	}
	if err := m.reach(ctx, q.Position); err != nil {
		return then, err
	}
	m, done, err := m.pin(ofMovements)
	if err != nil {
		return then, err
	}
	defer done()
	err = m.lookBack(ctx, func(p *past) error {
		then, err = m.asOf(ctx, p, q)
		return err
	})
	if err != nil {
		return then, fmt.Errorf("as of: %w", err)
	}
	return then, nil
}

// reach waits until movements up to a position can be read.
func (m *Models) reach(ctx context.Context, position *uint64) error {
	if position == nil {
		return nil
	}
	head, err := m.store.Head(ctx)
	if err != nil {
		return err
	}
	if *position > head {
		return fault.New(fault.Invalid, "position_beyond_log",
			"position %d is beyond the end of the log, which is at %d; ask for one that is in it", *position, head).
			With("field", "position").With("position", *position).With("head", head)
	}
	return m.catchUp(ctx, *position, ofMovements)
}

// A past is the model of movements at one moment. What it has of a commit whose
// end it does not have yet is beyond its horizon.
type past struct {
	tx       *sql.Tx
	prepared map[string]*sql.Stmt // by text; closed with tx
	horizon  int64                // position of the last event of the last whole commit
}

// query asks what may be asked many times.
func (p *past) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt, found := p.prepared[text]
	if !found {
		var err error
		if stmt, err = p.tx.PrepareContext(ctx, text); err != nil {
			return nil, err
		}
		p.prepared[text] = stmt
	}
	return stmt.QueryContext(ctx, args...)
}

// lookBack does something with the model of movements at one moment.
func (m *Models) lookBack(ctx context.Context, do func(*past) error) error {
	tx, err := m.movements.file.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	p := &past{tx: tx, prepared: make(map[string]*sql.Stmt)}
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(position), 0) FROM commands`).Scan(&p.horizon); err != nil {
		return err
	}
	return do(p)
}

// positionAt is the position of the last command that was recorded by an
// instant, in microseconds; 0 when there is none. Positions and times grow
// together, so it takes some twenty steps and no index.
func (p *past) positionAt(ctx context.Context, micros int64) (int64, error) {
	by, after := int64(0), p.horizon+1 // recorded by then, and after it
	for next := p.horizon; by+1 < after; next = by + (after-by)/2 {
		var position, recorded int64
		rows, err := p.query(ctx, `SELECT position, recorded_at FROM commands WHERE position >= ? ORDER BY position LIMIT 1`, next)
		if _, _, err = first(rows, err, func(s scanner) (none struct{}, err error) { return none, s.Scan(&position, &recorded) }); err != nil {
			return 0, err
		}
		if recorded <= micros {
			by = position
		} else {
			after = next
		}
	}
	return by, nil
}

// recordedAt is when the event at a position was recorded, nil for position 0.
func (p *past) recordedAt(ctx context.Context, m *Models, position int64) (*time.Time, error) {
	if position == 0 {
		return nil, nil //nolint:nilnil // there is no such time
	}
	var at time.Time
	err := p.tx.QueryRowContext(ctx, `SELECT recorded_at FROM commands WHERE position >= ? ORDER BY position LIMIT 1`, position).Scan(moment{&at})
	if !errors.Is(err, sql.ErrNoRows) {
		return &at, err
	}
	e, err := m.eventAt(ctx, uint64(position)) // its commit has not ended yet
	if err != nil {
		return nil, err
	}
	meta, err := e.Metadata()
	at = meta.Recorded.UTC()
	return &at, err
}

// A viewpoint is from where levels are looked at.
type viewpoint struct {
	id    int64 // of the last movement that is included, as recorded
	known int64 // of the last movement that is known
	at    int64 // microseconds on the effective clock
	world bool  // on the effective clock
}

func (m *Models) asOf(ctx context.Context, p *past, q AsOf) (then Then, err error) {
	then.Clock, then.At, then.Levels = Recorded, q.At, []LevelThen{}
	var from int64
	if q.Cursor != "" {
		if from, p.horizon, err = q.readCursor(p.horizon); err != nil {
			return then, err
		}
	}
	var position int64
	var view viewpoint
	if q.Position != nil {
		position = int64(*q.Position)
		if then.At, err = p.recordedAt(ctx, m, position); err != nil {
			return then, err
		}
	} else if position, err = p.positionAt(ctx, q.At.UnixMicro()); err != nil {
		return then, err
	}
	view.id, view.known = lastID(position), lastID(p.horizon)
	if q.Clock == Effective {
		then.Clock, view.world, view.at = Effective, true, q.At.UnixMicro()
		position = p.horizon
	}
	then.Position = uint64(position)
	if q.place() {
		return then, p.placeThen(ctx, m, q, view, from, &then)
	}
	return then, p.levelsThen(ctx, m, q, view, &then)
}

// levelsThen is about one level or one item, with sums.
func (p *past) levelsThen(ctx context.Context, m *Models, q AsOf, view viewpoint, then *Then) error {
	condition, args := `l.inventory_item_id = ?3`, []any{q.ItemID}
	switch {
	case q.LevelID != "":
		condition, args = `l.id = ?3`, []any{q.LevelID}
	case q.LocationID != "":
		condition, args = condition+` AND p.id = ?4`, append(args, q.LocationID)
	}
	levels, err := p.levels(ctx, view, condition+` ORDER BY l.position`, args...)
	if err != nil {
		return err
	}
	if len(levels) == 0 {
		if err := m.mustKnow(ctx, q); err != nil {
			return err
		}
	}
	var sum holding
	for _, l := range levels {
		if l.listed {
			sum = sum.plus(l.holding)
			then.Levels = append(then.Levels, l.row())
		}
	}
	available := sum.stocked.Minus(sum.reserved)
	then.Stocked, then.Reserved, then.Incoming, then.Available = &sum.stocked, &sum.reserved, &sum.incoming, &available
	return nil
}

// mustKnow refuses an item, a level or a location that never was.
func (m *Models) mustKnow(ctx context.Context, q AsOf) error {
	unknown := func(what, field, id string) error { return notFound(what+" with id: "+id+" was not found", field, id) }
	if q.LevelID != "" {
		return unknown("InventoryLevel", "level_id", q.LevelID)
	}
	if q.ItemID != "" {
		known, err := m.hasStream(ctx, events.ItemStream(q.ItemID))
		if err != nil {
			return err
		}
		if !known {
			return unknown("InventoryItem", "inventory_item_id", q.ItemID)
		}
		if q.LocationID != "" {
			return notFound("Inventory level for item "+q.ItemID+" and location "+q.LocationID+" not found",
				"inventory_item_id", q.ItemID, "location_id", q.LocationID)
		}
		return nil
	}
	known, err := m.hasStream(ctx, events.LocationStream(q.LocationID))
	if err == nil && !known {
		err = unknown("StockLocation", "location_id", q.LocationID)
	}
	return err
}

// hasStream reports whether anything was ever recorded in a stream.
func (m *Models) hasStream(ctx context.Context, stream string) (bool, error) {
	for _, err := range m.store.Read(ctx, stream, 0) {
		return err == nil, err
	}
	return false, nil
}

// scanned is how many levels of a location are looked at for a page at most;
// with many that are not listed, a page may be short and not the last.
const scanned = 5 * maxTake

// placeThen is a page of a whole location, after the level of that number.
func (p *past) placeThen(ctx context.Context, m *Models, q AsOf, view viewpoint, after int64, then *Then) error {
	var place int64
	err := p.tx.QueryRowContext(ctx, `SELECT position FROM places WHERE id = ?`, q.LocationID).Scan(&place)
	if errors.Is(err, sql.ErrNoRows) {
		return m.mustKnow(ctx, q)
	}
	if err != nil {
		return err
	}
	for looked, take := 0, q.take(); len(then.Levels) < take; {
		if looked >= scanned {
			then.Next = q.cursor(after, p.horizon)
			return nil
		}
		const chunk = 100
		levels, err := p.levels(ctx, view, `l.place = ?3 AND l.position > ?4 ORDER BY l.position LIMIT ?5`, place, after, chunk+1)
		if err != nil {
			return err
		}
		more := len(levels) > chunk
		for i, l := range levels[:min(chunk, len(levels))] {
			if after = l.number; l.listed {
				then.Levels = append(then.Levels, l.row())
			}
			if len(then.Levels) == take && (more || i+1 < len(levels)) {
				then.Next = q.cursor(after, p.horizon)
				return nil
			}
		}
		if !more {
			return nil
		}
		looked += chunk
	}
	return nil
}

// A past level is a level as it was.
type pastLevel struct {
	number             int64
	id, item, location string
	prompt             int64 // id of its first movement that is not backdated
	last               int64 // id of the last movement, 0 when there was none
	listed             bool
	holding
}

func (l *pastLevel) row() LevelThen {
	return LevelThen{
		LevelID: l.id, ItemID: l.item, LocationID: l.location, Stocked: l.stocked, Reserved: l.reserved, Incoming: l.incoming,
		Available: l.stocked.Minus(l.reserved), LastPosition: uint64(l.last) / 2,
	}
}

// levels are those that meet a condition, of which the arguments are ?3 and on.
func (p *past) levels(ctx context.Context, view viewpoint, condition string, args ...any) ([]pastLevel, error) {
	rows, err := p.query(ctx, `SELECT l.position, l.id, l.inventory_item_id, p.id, coalesce(2 * l.prompt, 0),
			coalesce(m.id, 0), coalesce(m.kind, 0), m.stocked, m.reserved, m.incoming, m.dated_stocked, m.dated_reserved, m.dated_incoming
		FROM levels l CROSS JOIN places p ON p.position = l.place
		LEFT JOIN movements m ON m.id = (SELECT max(id) FROM movements WHERE level = l.position AND id <= ?1)
		WHERE l.position <= ?2 AND `+condition, append([]any{view.id, max(view.id, view.known) / 2}, args...)...)
	var dated []holding
	levels, err := gather(rows, err, func(s scanner) (l pastLevel, err error) {
		var kind int64
		var late holding
		err = s.Scan(&l.number, &l.id, &l.item, &l.location, &l.prompt, &l.last, &kind,
			sparse{&l.stocked}, sparse{&l.reserved}, sparse{&l.incoming},
			sparse{&late.stocked}, sparse{&late.reserved}, sparse{&late.incoming})
		l.listed = l.last > 0 && kind != kindDeleted
		dated = append(dated, late)
		return l, err
	})
	if err != nil || !view.world {
		return levels, err
	}
	for i := range levels {
		if err := p.inTheWorld(ctx, &levels[i], dated[i], view); err != nil {
			return nil, err
		}
	}
	return levels, nil
}

// inTheWorld turns a level as it was recorded into one as it was: it takes away
// what of it was backdated, and adds what is now known to have happened by then.
func (p *past) inTheWorld(ctx context.Context, l *pastLevel, dated holding, view viewpoint) error {
	happened, n, err := p.happened(ctx, l.number, view)
	if err != nil {
		return err
	}
	l.holding = l.minus(dated).plus(happened)
	l.listed = n > 0 || 0 < l.prompt && l.prompt <= view.id
	if !l.listed {
		return nil
	}
	rows, err := p.query(ctx, `SELECT deleted FROM endings WHERE level = ? AND effective_at <= ? AND id <= ?
		ORDER BY effective_at DESC, id DESC LIMIT 1`, l.number, view.at, view.known)
	deleted, _, err := first(rows, err, func(s scanner) (deleted bool, err error) { return deleted, s.Scan(&deleted) })
	l.listed = !deleted
	return err
}

// happened adds up the backdated movements of a level that happened by then, and
// counts them: the buckets, but for the last one, which may go on beyond, and of
// that one movement after movement.
func (p *past) happened(ctx context.Context, level int64, view viewpoint) (sum holding, n int64, err error) {
	rows, err := p.query(ctx, `SELECT effective_at, id FROM buckets WHERE level = ? AND effective_at <= ?
		ORDER BY effective_at DESC, id DESC LIMIT 1`, level, view.at)
	last, found, err := first(rows, err, func(s scanner) (w when, err error) { return w, s.Scan(&w.effective, &w.id) })
	if err != nil {
		return sum, 0, err
	}
	if !found {
		last = beginning
	}
	sum, n, err = p.total(ctx, `SELECT coalesce(sum(movements), 0), `+eachAmount+` FROM buckets
		WHERE level = ? AND (effective_at, id) < (?, ?)`, level, last.effective, last.id)
	if err != nil {
		return sum, 0, err
	}
	rest, more, err := p.total(ctx, `SELECT count(*), `+eachAmount+` FROM backdated
		WHERE level = ? AND (effective_at, id) >= (?, ?) AND effective_at <= ?`, level, last.effective, last.id, view.at)
	if err != nil {
		return sum, 0, err
	}
	sum, n = sum.plus(rest), n+more
	err = p.forgetUnknown(ctx, level, view, &sum, &n)
	return sum, n, err
}

// eachAmount brings the quantities of many rows in one, in a fifth of the time.
// SQLite would add them up itself, but not exactly.
const eachAmount = `group_concat(stocked, ' '), group_concat(reserved, ' '), group_concat(incoming, ' ')`

// total reads a number and eachAmount.
func (p *past) total(ctx context.Context, text string, args ...any) (sum holding, n int64, err error) {
	var each [3]string
	rows, err := p.query(ctx, text, args...)
	if _, _, err = first(rows, err, func(s scanner) (none struct{}, err error) {
		return none, s.Scan(&n, blank{&each[0]}, blank{&each[1]}, blank{&each[2]})
	}); err != nil {
		return sum, 0, err
	}
	for i, into := range []*events.Quantity{&sum.stocked, &sum.reserved, &sum.incoming} {
		if *into, err = addUp(each[i]); err != nil {
			return sum, 0, err
		}
	}
	return sum, n, nil
}

// addUp is the sum of stored quantities with spaces between.
func addUp(stored string) (sum events.Quantity, err error) {
	var whole int64 // the sum of those of up to 12 characters; it would take nine million of them to overflow
	for text := range strings.FieldsSeq(stored) {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && len(text) <= 12 {
			whole += n
			continue
		}
		q, err := events.ParseSum(text)
		if err != nil {
			return sum, err
		}
		sum = sum.Plus(q)
	}
	return sum.Plus(events.Units(whole)), nil
}

// forgetUnknown takes away what is beyond the horizon.
func (p *past) forgetUnknown(ctx context.Context, level int64, view viewpoint, sum *holding, n *int64) error {
	rows, err := p.query(ctx, `SELECT delta_stocked, delta_reserved, delta_incoming FROM movements INDEXED BY movements_by_level
		WHERE level = ? AND id > ? AND effective_at <= ?`, level, view.known, view.at)
	all, err := gather(rows, err, func(s scanner) (a holding, err error) {
		return a, s.Scan(sparse{&a.stocked}, sparse{&a.reserved}, sparse{&a.incoming})
	})
	for _, unknown := range all {
		*sum, *n = sum.minus(unknown), *n-1
	}
	return err
}

// A cursor of a location at some time goes on after a level, and knows what was
// known when its first page was read.
type asOfCursor struct {
	Asked   string `json:"asked"`
	After   int64  `json:"after"`
	Horizon int64  `json:"horizon"`
}

// asked is what a cursor belongs to.
func (q *AsOf) asked() string {
	q2 := AsOf{LocationID: q.LocationID, Position: q.Position, At: q.At, Clock: q.Clock}
	text, err := json.Marshal(q2)
	if err != nil {
		panic(err) // it is texts, a number and a time
	}
	return string(text)
}

func (q *AsOf) cursor(after, horizon int64) *string {
	text, err := json.Marshal(asOfCursor{q.asked(), after, horizon})
	if err != nil {
		panic(err) // it is a text and numbers
	}
	encoded := base64.RawURLEncoding.EncodeToString(text)
	return &encoded
}

func (q *AsOf) readCursor(horizon int64) (after, known int64, err error) {
	var c asOfCursor
	text, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil || c.Asked != q.asked() || c.Horizon < 0 || c.Horizon > horizon {
		return 0, 0, fault.New(fault.Invalid, "invalid_cursor",
			"the cursor is not one of this question; ask again without it").With("field", "cursor")
	}
	return c.After, c.Horizon, nil
}

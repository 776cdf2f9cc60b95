package projections

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Movement is one change of the quantities of one level.
type Movement struct {
	Position      uint64    `json:"position"` // of the event that made it
	Recorded      time.Time `json:"recorded_at"`
	Effective     time.Time `json:"effective_at"`
	Kind          string    `json:"kind"` // the fact's name, such as stock-adjusted
	ItemID        string    `json:"inventory_item_id"`
	LevelID       string    `json:"level_id"`
	LocationID    string    `json:"location_id"`
	ReservationID *string   `json:"reservation_id"`

	DeltaStocked  *events.Quantity `json:"delta_stocked"` // null where nothing moved
	DeltaReserved *events.Quantity `json:"delta_reserved"`
	DeltaIncoming *events.Quantity `json:"delta_incoming"`

	// Of the level, afterwards.
	Stocked   events.Quantity `json:"stocked_quantity"`
	Reserved  events.Quantity `json:"reserved_quantity"`
	Incoming  events.Quantity `json:"incoming_quantity"`
	Available events.Quantity `json:"available_quantity"`

	// Of all that was asked for, afterwards: the sums over the levels, or what
	// the reservation has moved.
	RunningStocked  events.Quantity `json:"running_stocked"`
	RunningReserved events.Quantity `json:"running_reserved"`

	Reason      string `json:"reason"`
	Reference   string `json:"reference"`
	Actor       string `json:"actor"`
	Command     string `json:"command"`
	CommandID   string `json:"command_id"`
	Correlation string `json:"correlation_id"`

	id int64
}

// History says which movements are wanted: those of the levels and of the
// reservation that it names; at least one must be named.
type History struct {
	ItemID        string `json:"inventory_item_id"`
	LevelID       string `json:"level_id"`
	LocationID    string `json:"location_id"`
	ReservationID string `json:"reservation_id"`

	// After and Before bound the positions; neither is included. With Before
	// alone, the newest movements before it are taken, otherwise the oldest.
	After  uint64 `json:"after_position"`
	Before uint64 `json:"before_position"`
	Take   *int   `json:"take"` // nil is 50; a page may be one longer, as it never cuts an event
}

// Movements are one page of a history, oldest first.
type Movements struct {
	Rows []Movement `json:"rows"`
	More bool       `json:"more"` // there are others, further on in the direction taken
}

const movementColumns = `m.id, m.recorded_at, m.effective_at, m.kind, l.inventory_item_id, l.id, l.location_id, m.reservation_id,
	m.delta_stocked, m.delta_reserved, m.delta_incoming, m.stocked, m.reserved, m.incoming,
	m.reason, m.reference, m.actor, m.command, m.command_id, m.correlation_id`

func scanMovement(s scanner) (m Movement, err error) {
	err = s.Scan(&m.id, moment{&m.Recorded}, moment{&m.Effective}, &m.Kind, &m.ItemID, &m.LevelID, &m.LocationID, &m.ReservationID,
		optionalQuantity(&m.DeltaStocked), optionalQuantity(&m.DeltaReserved), optionalQuantity(&m.DeltaIncoming),
		quantity{&m.Stocked}, quantity{&m.Reserved}, quantity{&m.Incoming},
		blank{&m.Reason}, blank{&m.Reference}, blank{&m.Actor}, &m.Command, &m.CommandID, blank{&m.Correlation})
	m.Position = uint64(m.id) / 2
	m.Available = m.Stocked.Minus(m.Reserved)
	return m, err
}

// StockHistory lists movements, oldest first, with running sums.
func (m *Models) StockHistory(ctx context.Context, h History) (page Movements, err error) {
	take := defaultTake
	if h.Take != nil {
		take = *h.Take
	}
	if err := checkPage(0, take); err != nil {
		return page, err
	}
	of, args := h.levels()
	if of == "" && h.ReservationID == "" {
		return page, fault.New(fault.Invalid, "required",
			"Field 'inventory_item_id', 'level_id', 'location_id' or 'reservation_id' is required").With("field", "inventory_item_id")
	}
	tx, err := m.movements.file.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return page, fmt.Errorf("stock history: %w", err)
	}
	defer tx.Rollback()
	rows, err := h.query(ctx, tx, of, args, take+2) // one for a pair cut in two, one to see whether there is more
	if err != nil {
		return page, fmt.Errorf("stock history: %w", err)
	}
	page.Rows, page.More = cut(rows, take)
	if h.newestFirst() {
		slices.Reverse(page.Rows)
	}
	if len(page.Rows) == 0 {
		return page, nil
	}
	stocked, reserved, err := h.before(ctx, tx, of, args, page.Rows[0].id)
	if err != nil {
		return page, fmt.Errorf("stock history: %w", err)
	}
	for i := range page.Rows {
		r := &page.Rows[i]
		stocked, reserved = plus(stocked, r.DeltaStocked), plus(reserved, r.DeltaReserved)
		r.RunningStocked, r.RunningReserved = stocked, reserved
	}
	return page, nil
}

// levels is the condition on the levels, "" when none is named.
func (h History) levels() (condition string, args []any) {
	var all []string
	for _, c := range []struct{ column, value string }{
		{"l.inventory_item_id", h.ItemID}, {"l.id", h.LevelID}, {"l.location_id", h.LocationID},
	} {
		if c.value != "" {
			all, args = append(all, c.column+` = ?`), append(args, c.value)
		}
	}
	return strings.Join(all, ` AND `), args
}

func (h History) newestFirst() bool { return h.Before > 0 && h.After == 0 }

// query reads up to limit movements, those nearest to the bound first.
func (h History) query(ctx context.Context, tx *sql.Tx, of string, args []any, limit int) ([]Movement, error) {
	after, before, direction := int64(2*h.After+1), int64(math.MaxInt64), ``
	if h.Before > 0 {
		before = int64(2 * h.Before)
	}
	if h.newestFirst() {
		direction = ` DESC`
	}
	if h.ReservationID != "" {
		if of != "" {
			of = ` AND ` + of
		}
		rows, err := tx.QueryContext(ctx, `SELECT `+movementColumns+` FROM movements m JOIN levels l ON l.position = m.level
			WHERE m.reservation_id = ? AND m.id > ? AND m.id < ?`+of+` ORDER BY m.id`+direction+` LIMIT ?`,
			slices.Concat([]any{h.ReservationID, after, before}, args, []any{limit})...)
		return gather(rows, err, scanMovement)
	}
	// Each level gives no more than a page, so that a busy one costs no more.
	rows, err := tx.QueryContext(ctx, `SELECT `+movementColumns+` FROM levels l JOIN movements m ON m.id IN (
			SELECT id FROM movements WHERE level = l.position AND id > ? AND id < ? ORDER BY id`+direction+` LIMIT ?)
		WHERE `+of+` ORDER BY m.id`+direction+` LIMIT ?`,
		slices.Concat([]any{after, before, limit}, args, []any{limit})...)
	return gather(rows, err, scanMovement)
}

// cut makes a page of about take rows that ends between two events, and reports
// whether there are more.
func cut(rows []Movement, take int) ([]Movement, bool) {
	n := min(take, len(rows))
	if 0 < n && n < len(rows) && rows[n].Position == rows[n-1].Position {
		n++
	}
	return rows[:n], n < len(rows)
}

// before sums what was there before the movement of that id.
func (h History) before(ctx context.Context, tx *sql.Tx, of string, args []any, id int64) (stocked, reserved events.Quantity, err error) {
	text := `SELECT m.stocked, m.reserved FROM levels l
		JOIN movements m ON m.id = (SELECT max(id) FROM movements WHERE level = l.position AND id < ?) WHERE ` + of
	bound := append([]any{id}, args...)
	if h.ReservationID != "" {
		if of != "" {
			of = ` AND ` + of
		}
		text = `SELECT m.delta_stocked, m.delta_reserved FROM movements m JOIN levels l ON l.position = m.level
			WHERE m.id < ? AND m.reservation_id = ?` + of
		bound = slices.Concat([]any{id, h.ReservationID}, args)
	}
	rows, err := tx.QueryContext(ctx, text, bound...)
	_, err = gather(rows, err, func(s scanner) (none struct{}, err error) {
		var moreStocked, moreReserved *events.Quantity
		err = s.Scan(optionalQuantity(&moreStocked), optionalQuantity(&moreReserved))
		stocked, reserved = plus(stocked, moreStocked), plus(reserved, moreReserved)
		return none, err
	})
	return stocked, reserved, err
}

// plus is q and more, which may be nothing.
func plus(q events.Quantity, more *events.Quantity) events.Quantity {
	if more == nil {
		return q
	}
	return q.Plus(*more)
}

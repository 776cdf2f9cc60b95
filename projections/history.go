package projections

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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

	// Of all that was asked for, afterwards; [History] says what that is.
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

// Names are values of which one must match; none is any. In JSON one value may
// stand by itself.
type Names []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *Names) UnmarshalJSON(text []byte) error {
	if !bytes.HasPrefix(text, []byte(`"`)) {
		return json.Unmarshal(text, (*[]string)(n))
	}
	*n = make(Names, 1)
	return json.Unmarshal(text, &(*n)[0])
}

// maxNames is how many values one filter may name.
const maxNames = 1000

// History says which movements are wanted: those that match everything it names.
//
// Of items, levels, locations and variants, and nothing else but positions and
// times of recording, the running sums are true balances: what all of them
// together held after the movement. Of anything else, an actor say, there is no
// balance, and the running sums add up the movements of the page, from 0.
type History struct {
	ItemID        Names `json:"inventory_item_id"`
	LevelID       Names `json:"level_id"`
	LocationID    Names `json:"location_id"`
	VariantID     Names `json:"variant_id"` // the items that are linked to it now
	ReservationID Names `json:"reservation_id"`
	Kind          Names `json:"kind"`

	Actor       Names `json:"actor"`
	Reason      Names `json:"reason"`
	Reference   Names `json:"reference"`
	Command     Names `json:"command"` // by name
	CommandID   Names `json:"command_id"`
	Correlation Names `json:"correlation_id"`

	// From is included, Before is not; nil bounds nothing.
	RecordedFrom    *time.Time `json:"recorded_from"`
	RecordedBefore  *time.Time `json:"recorded_before"`
	EffectiveFrom   *time.Time `json:"effective_from"`
	EffectiveBefore *time.Time `json:"effective_before"`

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

// A filter is a column of movements and what it must be.
type filter struct {
	field  string
	column string // in SQL
	names  Names
}

func (h *History) filters() []filter {
	return []filter{
		{"inventory_item_id", `l.inventory_item_id`, h.ItemID},
		{"level_id", `l.id`, h.LevelID},
		{"location_id", `p.id`, h.LocationID},
		{"variant_id", ``, h.VariantID},
		{"reservation_id", `m.reservation_id`, h.ReservationID},
		{"kind", `m.kind`, h.Kind},
		{"command_id", `c.command_id`, h.CommandID},
		{"reference", `c.reference`, h.Reference},
		{"correlation_id", `c.correlation_id`, h.Correlation},
		{"actor", `c.actor`, h.Actor},
		{"reason", `c.reason`, h.Reason},
		{"command", `c.command`, h.Command},
	}
}

func (h History) check() error {
	for _, f := range h.filters() {
		if len(f.names) > maxNames {
			return fault.New(fault.Invalid, "too_many_values", "Field '%s' takes up to %d values, not %d", f.field, maxNames, len(f.names)).
				With("field", f.field)
		}
		if slices.Contains(f.names, "") || f.names != nil && len(f.names) == 0 {
			return fault.New(fault.Invalid, "invalid_value", "Field '%s' is empty; leave it out for any", f.field).With("field", f.field)
		}
	}
	for _, kind := range h.Kind {
		if kindNumber(kind) == 0 {
			return fault.New(fault.Invalid, "invalid_value", "there is no kind of movement '%s'; there are %s",
				kind, strings.Join(movementKinds, ", ")).With("field", "kind")
		}
	}
	return checkTake(h.take())
}

// also is the model that knows which items are linked to variants.
func (h History) also() []source {
	if h.VariantID == nil {
		return nil
	}
	return []source{ofInventory}
}

func (h *History) take() int {
	if h.Take == nil {
		return defaultTake
	}
	return *h.Take
}

func (h *History) newestFirst() bool { return h.Before > 0 && h.After == 0 }

// balances reports whether the running sums are those of levels.
func (h *History) balances() bool {
	named := false
	for _, f := range h.filters() {
		switch f.field {
		case "inventory_item_id", "level_id", "location_id", "variant_id":
			named = named || f.names != nil
		default:
			if f.names != nil {
				return false
			}
		}
	}
	return named && !h.timed()
}

// timed reports whether it matters when the movements happened.
func (h *History) timed() bool { return h.EffectiveFrom != nil || h.EffectiveBefore != nil }

// StockHistory lists movements, oldest first, with running sums.
func (m *Models) StockHistory(ctx context.Context, h History) (page Movements, err error) {
	if err := h.check(); err != nil {
		return page, err
	}
	m, done, err := m.pin(ofInventory, ofMovements)
	if err != nil {
		return page, err
	}
	defer done()
	items, err := m.itemsOfVariants(ctx, h.VariantID)
	if err != nil {
		return page, fmt.Errorf("stock history: %w", err)
	}
	err = m.lookBack(ctx, func(p *past) error {
		s := inquiry{past: p, History: h, items: items}
		page, err = s.page(ctx)
		return err
	})
	if err != nil {
		return page, fmt.Errorf("stock history: %w", err)
	}
	return page, nil
}

// itemsOfVariants are the items that are linked to any of the variants, nil when
// there are no variants.
func (m *Models) itemsOfVariants(ctx context.Context, variants Names) (Names, error) {
	if variants == nil {
		return nil, nil
	}
	rows, err := m.inventory.file.lookup(ctx, `SELECT DISTINCT inventory_item_id FROM links
		WHERE variant_id IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL`, set(variants))
	return gather(rows, err, func(s scanner) (id string, err error) { return id, s.Scan(&id) })
}

// set is a list of texts or numbers as json_each takes it.
func set(values any) string {
	text, err := json.Marshal(values)
	if err != nil {
		panic(err) // neither is ever refused
	}
	return string(text)
}

// An inquiry is a history being looked for.
type inquiry struct {
	*past
	History
	items         Names // of the variants
	after, before int64 // ids: the wanted ones are between
	from, to      int64 // microseconds: the wanted ones happened from from and before to
}

func (s *inquiry) page(ctx context.Context) (page Movements, err error) {
	if err := s.bound(ctx); err != nil {
		return page, err
	}
	take := s.take()
	leads, err := s.leads(ctx)
	if err != nil {
		return page, err
	}
	rows, err := s.nearest(ctx, leads, take+2) // one for a pair cut in two, one to see whether there is more
	if err != nil {
		return page, err
	}
	page.Rows, page.More = cut(rows, take)
	if s.newestFirst() {
		slices.Reverse(page.Rows)
	}
	if len(page.Rows) == 0 {
		return page, nil
	}
	var sum holding
	if s.balances() {
		if sum, err = s.opening(ctx, page.Rows[0].id); err != nil {
			return page, err
		}
	}
	for i := range page.Rows {
		r := &page.Rows[i]
		sum.stocked, sum.reserved = plus(sum.stocked, r.DeltaStocked), plus(sum.reserved, r.DeltaReserved)
		r.RunningStocked, r.RunningReserved = sum.stocked, sum.reserved
	}
	return page, nil
}

// bound turns positions and times of recording into bounds of ids.
func (s *inquiry) bound(ctx context.Context) error {
	after, last := min(s.After, uint64(s.horizon)), s.horizon
	if s.Before > 0 && s.Before <= uint64(s.horizon) {
		last = int64(s.Before) - 1
	}
	if s.RecordedFrom != nil {
		position, err := s.positionAt(ctx, events.MicrosUp(*s.RecordedFrom)-1)
		if err != nil {
			return err
		}
		after = max(after, uint64(position))
	}
	if s.RecordedBefore != nil {
		position, err := s.positionAt(ctx, events.MicrosUp(*s.RecordedBefore)-1)
		if err != nil {
			return err
		}
		last = min(last, position)
	}
	s.after, s.before = lastID(int64(after)), lastID(last)+1
	s.from, s.to = math.MinInt64+1, math.MaxInt64
	if s.EffectiveFrom != nil {
		s.from = events.MicrosUp(*s.EffectiveFrom)
	}
	if s.EffectiveBefore != nil {
		s.to = events.MicrosUp(*s.EffectiveBefore)
	}
	return nil
}

// lastID is the greatest id that a movement of the event at a position can have.
func lastID(position int64) int64 { return 2*position + 1 }

// A lead is a way to walk through movements in the order of their ids, by an
// index: once for each of its sources. What it does not look at is checked for
// each movement that it comes by, so the lead that comes by the fewest is taken.
type lead struct {
	field   string // the filter it takes care of
	from    string // the joined tables
	where   string // ?1 is the source, ?2 and ?3 are the bounds of ids
	order   []string
	entries string // what it comes by, to be counted
	sources []any

	after, before int64 // its own bounds of ids, if it has any
}

// bounds are those of the inquiry, and its own.
func (l *lead) bounds(s *inquiry) (after, before int64) {
	if l.before == 0 {
		return s.after, s.before
	}
	return max(s.after, l.after), min(s.before, l.before)
}

const (
	movementNames    = ` CROSS JOIN levels l ON l.position = m.level CROSS JOIN places p ON p.position = m.place`
	movementCommand  = ` CROSS JOIN commands c ON c.position = (SELECT min(position) FROM commands WHERE position >= m.id / 2)`
	commandMovements = ` CROSS JOIN movements m NOT INDEXED
		ON m.id >= max(2 * (c.position - c.events + 1), ?2 + 1) AND m.id <= min(2 * c.position + 1, ?3 - 1)`
	commandBounds = ` AND c.position >= ?2 / 2 AND c.position <= (SELECT min(position) FROM commands WHERE position >= (?3 - 1) / 2)`
)

// byMovements leads by an index of movements.
func byMovements(field, index, condition string, sources ...any) lead {
	of := `movements m ` + index
	where := condition + ` AND m.id > ?2 AND m.id < ?3`
	return lead{
		field: field, from: of + movementNames + movementCommand, where: where, order: []string{`m.id`},
		entries: of + ` WHERE ` + where, sources: sources,
	}
}

// byCommands leads by an index of commands.
func byCommands(field, index, condition string, sources ...any) lead {
	of, where := `commands c INDEXED BY `+index, condition+commandBounds
	return lead{
		field: field, from: of + commandMovements + movementNames, where: where, order: []string{`c.position`, `m.id`},
		entries: of + ` WHERE ` + where, sources: sources,
	}
}

// countedUp is how far the entries of a lead are counted to find the shortest.
const countedUp = 4096

// leads are those to take, which together come by everything that is wanted.
func (s *inquiry) leads(ctx context.Context) ([]lead, error) {
	candidates, err := s.candidates(ctx)
	if err != nil {
		return nil, err
	}
	best := []lead{byMovements("", `NOT INDEXED`, `?1`, true)}
	least := max(0, s.before-s.after) / 2
	if least > countedUp && len(candidates) > 0 {
		best, least = candidates[0], countedUp
		if len(candidates) == 1 {
			return best, nil
		}
	}
	for _, leads := range candidates {
		n, err := s.count(ctx, leads, least)
		if err != nil {
			return nil, err
		}
		if n < least {
			best, least = leads, n
		}
	}
	return best, nil
}

// count is how many entries leads come by, at most limit.
func (s *inquiry) count(ctx context.Context, leads []lead, limit int64) (n int64, err error) {
	for _, l := range leads {
		for _, source := range l.sources {
			after, before := l.bounds(s)
			rows, err := s.query(ctx, `SELECT count(*) FROM (SELECT 1 FROM `+l.entries+` LIMIT ?4)`, source, after, before, limit-n)
			more, _, err := first(rows, err, func(s scanner) (n int64, err error) { return n, s.Scan(&n) })
			if err != nil {
				return 0, err
			}
			if n += more; n >= limit {
				return limit, nil
			}
		}
	}
	return n, nil
}

// candidates are the leads to choose from, those that usually come by little first.
func (s *inquiry) candidates(ctx context.Context) (all [][]lead, err error) {
	one := func(l lead) { all = append(all, []lead{l}) }
	if s.CommandID != nil {
		one(byCommands("command_id", `commands_by_id`, `c.command_id = ?1`, sourcesOf(s.CommandID)...))
	}
	if s.ReservationID != nil {
		one(byMovements("reservation_id", `INDEXED BY movements_by_reservation`, `m.reservation_id = ?1`, sourcesOf(s.ReservationID)...))
	}
	if s.Reference != nil {
		one(byCommands("reference", `commands_by_reference`, `c.reference = ?1`, sourcesOf(s.Reference)...))
	}
	if s.Correlation != nil {
		one(byCommands("correlation_id", `commands_by_correlation`, `c.correlation_id = ?1`, sourcesOf(s.Correlation)...))
	}
	if s.ItemID != nil || s.LevelID != nil || s.items != nil {
		levels, err := s.levels(ctx)
		if err != nil {
			return nil, err
		}
		one(byMovements("", `INDEXED BY movements_by_level`, `m.level = ?1`, levels...))
	} else if s.LocationID != nil {
		places, err := s.places(ctx)
		if err != nil {
			return nil, err
		}
		one(byMovements("location_id", `INDEXED BY movements_by_place`, `m.place = ?1`, places...))
	}
	if s.Reason != nil {
		one(byCommands("reason", `commands_by_reason`, `c.reason = ?1`, sourcesOf(s.Reason)...))
	}
	if s.Actor != nil {
		one(byCommands("actor", `commands_by_actor`, `c.actor = ?1`, sourcesOf(s.Actor)...))
	}
	if s.Kind != nil {
		one(byMovements("kind", `INDEXED BY movements_by_kind`, `m.kind = ?1`, s.kinds()...))
	}
	if s.timed() {
		leads, err := s.effective(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, leads)
	}
	if s.Command != nil {
		one(byCommands("command", `commands_by_name`, `c.command = ?1`, sourcesOf(s.Command)...))
	}
	return all, nil
}

// sourcesOf are the names, each once, as a lead comes by the same as often as it has
// a source.
func sourcesOf(names Names) []any {
	all := make([]any, 0, len(names))
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		all = append(all, name)
	}
	return all
}

// levels are the numbers of the levels that match.
func (s *inquiry) levels(ctx context.Context) ([]any, error) {
	return s.numbers(ctx, `SELECT l.position FROM levels l JOIN places p ON p.position = l.place`,
		"inventory_item_id", "level_id", "location_id", "variant_id")
}

// places are the numbers of the places that match.
func (s *inquiry) places(ctx context.Context) ([]any, error) {
	return s.numbers(ctx, `SELECT p.position FROM places p`, "location_id")
}

func (s *inquiry) numbers(ctx context.Context, from string, fields ...string) ([]any, error) {
	where, args := s.names(``, func(field string) bool { return slices.Contains(fields, field) })
	rows, err := s.tx.QueryContext(ctx, from+` WHERE TRUE`+where, args...)
	return gather(rows, err, func(s scanner) (number any, err error) { return number, s.Scan(&number) })
}

// kinds are the numbers of the kinds that match, each once.
func (s *inquiry) kinds() []any {
	var numbers []any
	for _, kind := range slices.Compact(slices.Sorted(slices.Values(s.Kind))) {
		numbers = append(numbers, kindNumber(kind))
	}
	return numbers
}

// effective leads by when the movements happened: those that were recorded
// then, and the backdated ones.
func (s *inquiry) effective(ctx context.Context) ([]lead, error) {
	recorded := byMovements("", `NOT INDEXED`, `?1 AND m.effective_at IS NULL`, true)
	first, err := s.positionAt(ctx, s.from-1)
	if err != nil {
		return nil, err
	}
	last, err := s.positionAt(ctx, s.to-1)
	if err != nil {
		return nil, err
	}
	recorded.after, recorded.before = lastID(first), lastID(last)+1
	backdated := byCommands("", `commands_by_effective`,
		fmt.Sprintf(`c.effective_at <> c.recorded_at AND c.effective_at >= ?1 AND c.effective_at < %d`, s.to), s.from)
	return []lead{recorded, backdated}, nil
}

// nearest reads up to limit movements, those nearest to the bound first.
func (s *inquiry) nearest(ctx context.Context, leads []lead, limit int) ([]Movement, error) {
	rows := []Movement{}
	var err error
	for _, l := range leads {
		if rows, err = s.follow(ctx, l, rows, limit); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// follow merges what a lead comes by into rows, of which limit are wanted. What
// is further away than those is not read, so that many sources cost little more
// than one.
func (s *inquiry) follow(ctx context.Context, l lead, rows []Movement, limit int) ([]Movement, error) {
	direction := ``
	if s.newestFirst() {
		direction = ` DESC`
	}
	residual, args := s.names(`+`, func(field string) bool { return field != l.field })
	if s.timed() {
		residual += ` AND +c.effective_at >= ? AND +c.effective_at < ?`
		args = append(args, s.from, s.to)
	}
	text := atOnce(`SELECT ` + movementColumns + ` FROM ` + l.from + ` WHERE ` + l.where + residual +
		` ORDER BY ` + strings.Join(l.order, direction+`, `) + direction + ` LIMIT ?`)
	for _, source := range l.sources {
		after, before := l.bounds(s)
		if len(rows) == limit {
			if s.newestFirst() {
				after = max(after, rows[limit-1].id)
			} else {
				before = min(before, rows[limit-1].id)
			}
		}
		found, err := s.query(ctx, text, slices.Concat([]any{source, after, before}, args, []any{limit})...)
		more, err := gather(found, err, scanMovement)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
		slices.SortFunc(rows, func(a, b Movement) int {
			if s.newestFirst() {
				a, b = b, a
			}
			return cmp.Compare(a.id, b.id)
		})
		rows = rows[:min(limit, len(rows))]
	}
	return rows, nil
}

const movementColumns = `m.id, c.recorded_at, c.effective_at, m.kind, l.inventory_item_id, l.id, p.id, m.reservation_id,
	m.delta_stocked, m.delta_reserved, m.delta_incoming, m.stocked, m.reserved, m.incoming,
	c.reason, c.reference, c.actor, c.command, c.command_id, c.correlation_id`

func scanMovement(s scanner) (m Movement, err error) {
	var kind int
	err = s.Scan(&m.id, moment{&m.Recorded}, moment{&m.Effective}, &kind, &m.ItemID, &m.LevelID, &m.LocationID, &m.ReservationID,
		optionalQuantity(&m.DeltaStocked), optionalQuantity(&m.DeltaReserved), optionalQuantity(&m.DeltaIncoming),
		sparse{&m.Stocked}, sparse{&m.Reserved}, sparse{&m.Incoming},
		blank{&m.Reason}, blank{&m.Reference}, blank{&m.Actor}, &m.Command, &m.CommandID, blank{&m.Correlation})
	if err != nil {
		return m, err
	}
	m.Kind = movementKinds[kind-1]
	m.Position = uint64(m.id) / 2
	m.Available = m.Stocked.Minus(m.Reserved)
	return m, nil
}

// names are the conditions of the filters on those fields, each with a prefix.
func (s *inquiry) names(prefix string, of func(field string) bool) (conditions string, args []any) {
	for _, f := range s.filters() {
		if f.names == nil || !of(f.field) {
			continue
		}
		values := set(f.names)
		switch f.field {
		case "variant_id":
			f.column, values = `l.inventory_item_id`, set(s.items)
		case "kind":
			values = set(s.kinds())
		}
		conditions += ` AND ` + prefix + f.column + ` IN (SELECT value FROM json_each(?))`
		args = append(args, values)
	}
	return conditions, args
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

// opening is what the levels that were asked for held before a movement.
func (s *inquiry) opening(ctx context.Context, id int64) (sum holding, err error) {
	query, of := `SELECT stocked, reserved FROM movements INDEXED BY movements_by_level
		WHERE level = ? AND id < ? ORDER BY id DESC LIMIT 1`, s.levels
	if s.ItemID == nil && s.LevelID == nil && s.items == nil {
		query, of = `SELECT place_stocked, place_reserved FROM movements INDEXED BY movements_by_place
			WHERE place = ? AND id < ? ORDER BY id DESC LIMIT 1`, s.places
	}
	numbers, err := of(ctx)
	if err != nil {
		return sum, err
	}
	for _, number := range numbers {
		rows, err := s.query(ctx, query, number, id)
		held, _, err := first(rows, err, func(s scanner) (a holding, err error) {
			return a, s.Scan(sparse{&a.stocked}, sparse{&a.reserved})
		})
		if err != nil {
			return sum, err
		}
		sum = sum.plus(held)
	}
	return sum, nil
}

// plus is q and more, which may be nothing.
func plus(q events.Quantity, more *events.Quantity) events.Quantity {
	if more == nil {
		return q
	}
	return q.Plus(*more)
}

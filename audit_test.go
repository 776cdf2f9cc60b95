package stockledger_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

// A ledger of random commands, a third of which happened at other times than
// they were recorded, beside plain maps of what was true after each: as-of on
// either clock and explain say what the maps say, whatever is asked.
func TestAsOfAndExplainAgreeWithPlainMaps(t *testing.T) {
	orders, questions, explanations := 100_000, 10_000, 1_000
	if testing.Short() || race.On {
		orders, questions, explanations = 3_000, 600, 100
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	w := newWarehouse(t, seed)
	for range orders {
		w.order()
	}
	w.settle()
	for range questions {
		w.askRecorded()
	}
	for range questions {
		w.askEffective()
	}
	for range explanations {
		w.askWhy()
	}
}

// A warehouse gives random orders to a ledger, and remembers what they come to.
type warehouse struct {
	t      *testing.T
	random *rand.Rand
	ledger *stockledger.Ledger
	now    time.Time

	items    []*good
	shelves  []*shelf
	promises []*promise
	touched  map[*shelf]bool // by the order at hand
	commits  []*commit
	orders   int
}

type good struct {
	id      string
	deleted bool
}

// A shelf is a level: what it holds, and every change of it.
type shelf struct {
	id, place string
	item      *good
	alive     bool
	fell      bool // with its item
	held      stock
	was       stock // before the order at hand
	wasAlive  bool
	changes   []turn
}

type stock struct{ stocked, reserved, incoming events.Quantity }

func (s stock) plus(o stock) stock {
	return stock{s.stocked.Plus(o.stocked), s.reserved.Plus(o.reserved), s.incoming.Plus(o.incoming)}
}

func (s stock) minus(o stock) stock {
	return stock{s.stocked.Minus(o.stocked), s.reserved.Minus(o.reserved), s.incoming.Minus(o.incoming)}
}

func (s stock) of(quantity string) events.Quantity {
	switch quantity {
	case "stocked":
		return s.stocked
	case "reserved":
		return s.reserved
	case "incoming":
		return s.incoming
	}
	return s.stocked.Minus(s.reserved)
}

// A turn is what one command did to a level.
type turn struct {
	*commit
	after stock // what counts
	moved stock
	alive bool // afterwards
	ended bool // it was deleted, or came back
}

type commit struct {
	position            uint64
	recorded, effective time.Time
}

type promise struct {
	id       string
	shelf    *shelf
	quantity events.Quantity
	state    string // held, released, used
}

func newWarehouse(t *testing.T, seed uint64) *warehouse {
	w := &warehouse{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC),
		touched: make(map[*shelf]bool),
	}
	config := quiet(t.TempDir())
	config.Store = memstore.New()
	config.Now = func() time.Time { return w.now }
	ledger, err := stockledger.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ledger.Close()) })
	w.ledger = ledger
	return w
}

type object = map[string]any

var warehousePlaces = []string{"berlin", "paris", "oslo", "rome"}

// do carries out a command, and notes what the shelves hold that it touched.
func (w *warehouse) do(name string, body any) {
	w.now = w.now.Add(time.Duration(1 + w.random.Int64N(int64(20*time.Minute))))
	w.orders++
	env := commands.Envelope{Actor: []string{"ann", "bob", ""}[w.random.IntN(3)], Reference: fmt.Sprint("doc:", w.orders/3)}
	c := &commit{}
	if w.random.IntN(3) == 0 {
		c.effective = w.someTime()
		env.Effective = c.effective
	}
	text, err := json.Marshal(body)
	require.NoError(w.t, err)
	answer, err := w.ledger.DoJSON(w.t.Context(), env, name, text)
	require.NoError(w.t, err, "%s %s", name, text)
	if c.position = answer.Position; c.position == 0 {
		require.Empty(w.t, w.touched)
		return
	}
	w.commits = append(w.commits, c)
	for s := range w.touched {
		counts := func(held stock, alive bool) stock {
			if !alive {
				return stock{}
			}
			return held
		}
		after := counts(s.held, s.alive)
		s.changes = append(s.changes, turn{
			c, after, after.minus(counts(s.was, s.wasAlive)), s.alive, s.alive != s.wasAlive && len(s.changes) > 0,
		})
	}
	clear(w.touched)
}

// someTime is at most four minutes ahead, and often just when something else was.
func (w *warehouse) someTime() time.Time {
	if len(w.commits) > 0 && w.random.IntN(4) == 0 {
		if c := w.commits[w.random.IntN(len(w.commits))]; !c.effective.IsZero() {
			return c.effective
		}
	}
	ago := time.Duration(w.random.Int64N(int64(3000 * time.Hour)))
	return w.now.Add(4*time.Minute - ago).Truncate(time.Microsecond)
}

// touch is to be called before a shelf changes.
func (w *warehouse) touch(s *shelf) *shelf {
	if !w.touched[s] {
		w.touched[s], s.was, s.wasAlive = true, s.held, s.alive
	}
	return s
}

func one[T any](w *warehouse, all []T, fits func(T) bool) (found T, ok bool) {
	for range 20 {
		if len(all) == 0 {
			break
		}
		if found = all[w.random.IntN(len(all))]; fits(found) {
			return found, true
		}
	}
	return found, false
}

func alive(s *shelf) bool { return s.alive }

func (w *warehouse) some() events.Quantity {
	q, err := events.ParseQuantity([]string{"1", "2", "7", "0.5", "12.25", "1000"}[w.random.IntN(6)])
	require.NoError(w.t, err)
	return q
}

// order gives one command that the ledger accepts.
func (w *warehouse) order() {
	for done := false; !done; {
		switch n := w.random.IntN(100); {
		case n < 2 || len(w.shelves) < 10:
			done = w.newItem()
		case n < 5:
			done = w.newShelf()
		case n < 45:
			done = w.adjust()
		case n < 55:
			done = w.set()
		case n < 72:
			done = w.reserve()
		case n < 79:
			done = w.change()
		case n < 87:
			done = w.fulfil()
		case n < 93:
			done = w.release()
		case n < 95:
			done = w.hold()
		case n < 98:
			done = w.drop()
		default:
			done = w.dropItem()
		}
	}
}

func (w *warehouse) newItem() bool {
	if len(w.items) > 400 {
		return false
	}
	g := &good{id: fmt.Sprint("item-", len(w.items))}
	w.items = append(w.items, g)
	w.do("create-inventory-items", object{"id": g.id})
	return w.put(g, warehousePlaces[w.random.IntN(len(warehousePlaces))])
}

func (w *warehouse) newShelf() bool {
	g, ok := one(w, w.items, func(g *good) bool { return !g.deleted })
	return ok && w.put(g, warehousePlaces[w.random.IntN(len(warehousePlaces))])
}

// put stocks an item where it has no live level.
func (w *warehouse) put(g *good, place string) bool {
	if slices.ContainsFunc(w.shelves, func(s *shelf) bool { return s.item == g && s.place == place && s.alive }) {
		return false
	}
	s := &shelf{id: fmt.Sprint("level-", len(w.shelves)), place: place, item: g}
	w.shelves = append(w.shelves, s)
	w.touch(s)
	s.alive, s.held = true, stock{stocked: w.some(), incoming: w.some()}
	w.do("create-inventory-levels", object{
		"id": s.id, "inventory_item_id": g.id, "location_id": place,
		"stocked_quantity": s.held.stocked, "incoming_quantity": s.held.incoming,
	})
	return true
}

func (w *warehouse) adjust() bool {
	var lines []object
	for range 1 + w.random.IntN(3) {
		s, ok := one(w, w.shelves, alive)
		if !ok {
			break
		}
		by := w.some()
		if w.random.IntN(2) == 0 {
			by = by.Negated()
		}
		w.touch(s)
		s.held.stocked = s.held.stocked.Plus(by)
		lines = append(lines, object{"inventory_item_id": s.item.id, "location_id": s.place, "adjustment": by, "floor": "none"})
	}
	if lines != nil {
		w.do("adjust-inventory-levels", lines)
	}
	return lines != nil
}

func (w *warehouse) set() bool {
	s, ok := one(w, w.shelves, alive)
	if !ok {
		return false
	}
	now := stock{w.some(), s.held.reserved, w.some()}
	if w.random.IntN(2) == 0 {
		now.incoming = events.Units(0)
	}
	if now.stocked.Equal(s.held.stocked) || now.incoming.Equal(s.held.incoming) {
		return false
	}
	w.touch(s).held = now
	w.do("update-inventory-levels", object{
		"id": s.id, "stocked_quantity": now.stocked, "incoming_quantity": now.incoming, "floor": "none",
	})
	return true
}

func (w *warehouse) reserve() bool {
	s, ok := one(w, w.shelves, alive)
	if !ok {
		return false
	}
	p := &promise{fmt.Sprint("res-", len(w.promises)), s, w.some(), "held"}
	w.promises = append(w.promises, p)
	w.touch(s).held.reserved = s.held.reserved.Plus(p.quantity)
	w.do("create-reservations", object{
		"id": p.id, "inventory_item_id": s.item.id, "location_id": s.place, "quantity": p.quantity, "allow_backorder": true,
	})
	return true
}

func held(p *promise) bool { return p.state == "held" }

// change makes a reservation larger or smaller, or moves it, or both.
func (w *warehouse) change() bool {
	p, ok := one(w, w.promises, held)
	if !ok {
		return false
	}
	to, ok := one(w, w.shelves, func(s *shelf) bool { return s.alive && s.item == p.shelf.item })
	if !ok {
		to = p.shelf
	}
	quantity := w.some()
	if to == p.shelf && quantity.Equal(p.quantity) {
		return false
	}
	w.touch(p.shelf).held.reserved = p.shelf.held.reserved.Minus(p.quantity)
	w.touch(to).held.reserved = to.held.reserved.Plus(quantity)
	p.shelf, p.quantity = to, quantity
	w.do("update-reservations", object{"id": p.id, "quantity": quantity, "location_id": to.place})
	return true
}

func (w *warehouse) fulfil() bool {
	p, ok := one(w, w.promises, held)
	if !ok {
		return false
	}
	out := p.quantity
	if half, _ := events.ParseQuantity("0.25"); w.random.IntN(2) == 0 {
		out = half
	}
	s := w.touch(p.shelf)
	s.held = s.held.minus(stock{stocked: out, reserved: out})
	if p.quantity = p.quantity.Minus(out); p.quantity.IsZero() {
		p.state = "used"
	}
	w.do("fulfill-reservations", object{"id": p.id, "quantity": out, "floor": "none"})
	return true
}

func (w *warehouse) release() bool {
	p, ok := one(w, w.promises, held)
	if !ok {
		return false
	}
	w.touch(p.shelf).held.reserved = p.shelf.held.reserved.Minus(p.quantity)
	p.state = "released"
	w.do("delete-reservations", []string{p.id})
	return true
}

// hold makes a released reservation hold again.
func (w *warehouse) hold() bool {
	p, ok := one(w, w.promises, func(p *promise) bool { return p.state == "released" && p.shelf.alive })
	if !ok {
		return false
	}
	w.touch(p.shelf).held.reserved = p.shelf.held.reserved.Plus(p.quantity)
	p.state = "held"
	w.do("restore-reservations", []string{p.id})
	return true
}

func idle(s *shelf) bool { return s.alive && s.held.reserved.IsZero() && s.held.incoming.IsZero() }

func (w *warehouse) drop() bool {
	s, ok := one(w, w.shelves, idle)
	if !ok {
		return false
	}
	w.touch(s).alive = false
	w.do("delete-inventory-levels", object{"id": s.id, "force": true})
	return true
}

// dropItem deletes an item with its levels, or brings it and them back.
func (w *warehouse) dropItem() bool {
	g, ok := one(w, w.items, func(*good) bool { return true })
	if !ok {
		return false
	}
	var of []*shelf
	for _, s := range w.shelves {
		if s.item == g && (g.deleted && s.fell || !g.deleted && s.alive) {
			of = append(of, s)
		}
	}
	if !g.deleted && !slices.ContainsFunc(of, func(s *shelf) bool { return !idle(s) }) {
		for _, s := range of {
			w.touch(s).alive, s.fell = false, true
		}
		g.deleted = true
		w.do("delete-inventory-items", []string{g.id})
		return true
	}
	if !g.deleted {
		return false
	}
	for _, s := range of {
		w.touch(s).alive, s.fell = true, false
	}
	g.deleted = false
	w.do("restore-inventory-items", []string{g.id})
	return true
}

// settle waits for the read models, and learns from the log when commands were recorded.
func (w *warehouse) settle() {
	head, err := w.ledger.Events().Head(w.t.Context())
	require.NoError(w.t, err)
	require.NoError(w.t, w.ledger.Models().WaitFor(w.t.Context(), head))
	at := 0
	for batch, err := range w.ledger.Events().Subscribe(w.t.Context(), 0) {
		require.NoError(w.t, err)
		for _, e := range batch {
			if c := w.commits[at]; e.Position == c.position {
				meta, err := e.Metadata()
				require.NoError(w.t, err)
				c.recorded = meta.Recorded
				if c.effective.IsZero() {
					c.effective = c.recorded
				}
				at++
			}
		}
		if at == len(w.commits) {
			return
		}
	}
}

// An inquiry is about a level, an item, a place, or an item at a place.
func (w *warehouse) inquiry(place bool) (level, item, location string, of []*shelf) {
	s := w.shelves[w.random.IntN(len(w.shelves))]
	kinds := 3
	if place {
		kinds = 4
	}
	switch w.random.IntN(kinds) {
	case 0:
		level = s.id
	case 1:
		item = s.item.id
	case 2:
		item, location = s.item.id, s.place
	default:
		location = s.place
	}
	for _, o := range w.shelves {
		if (level == "" || o == s) && (item == "" || o.item == s.item) && (location == "" || o.place == s.place) {
			of = append(of, o)
		}
	}
	return level, item, location, of
}

// instant is often just when something was, or a microsecond beside it.
func (w *warehouse) instant() time.Time {
	c := w.commits[w.random.IntN(len(w.commits))]
	at := c.recorded
	if w.random.IntN(2) == 0 {
		at = c.effective
	}
	switch w.random.IntN(8) {
	case 0:
		return at.Add(time.Microsecond)
	case 1:
		return at.Add(-time.Microsecond)
	case 2:
		return at.Add(time.Duration(w.random.Int64N(int64(1000 * time.Hour))))
	case 3:
		return at.Add(-time.Duration(w.random.Int64N(int64(5000 * time.Hour))))
	}
	return at
}

// asOf asks, page by page, and writes down what is answered.
func (w *warehouse) asOf(q projections.AsOf) string {
	var all []string
	if q.LevelID == "" && q.ItemID == "" {
		q.Take = new(1 + w.random.IntN(300))
	}
	for {
		then, err := w.ledger.Models().AsOf(w.t.Context(), q)
		require.NoError(w.t, err)
		for _, l := range then.Levels {
			all = append(all, line(l.LevelID, stock{l.Stocked, l.Reserved, l.Incoming}))
			require.True(w.t, l.Available.Equal(l.Stocked.Minus(l.Reserved)))
		}
		if then.Stocked != nil {
			all = append(all, line("sum", stock{*then.Stocked, *then.Reserved, *then.Incoming}))
		}
		if then.Next == nil {
			return strings.Join(all, "\n")
		}
		q.Cursor = *then.Next
	}
}

func line(name string, s stock) string {
	return fmt.Sprint(name, " ", s.stocked, " ", s.reserved, " ", s.incoming)
}

// expected is the same from the plain maps.
func expected(of []*shelf, sums bool, then func(*shelf) (stock, bool)) string {
	var all []string
	var sum stock
	for _, s := range of {
		if held, listed := then(s); listed {
			all, sum = append(all, line(s.id, held)), sum.plus(held)
		}
	}
	if sums {
		all = append(all, line("sum", sum))
	}
	return strings.Join(all, "\n")
}

func (w *warehouse) askRecorded() {
	var q projections.AsOf
	var of []*shelf
	q.LevelID, q.ItemID, q.LocationID, of = w.inquiry(w.random.IntN(50) == 0)
	by := w.when(&q.Position, &q.At)
	require.Equal(w.t, expected(of, q.LevelID+q.ItemID != "", recordedBy(by)), w.asOf(q), "%+v", q)
}

// when draws a time on the recorded clock, and says what was recorded by then.
func (w *warehouse) when(position **uint64, at **time.Time) (by func(*commit) bool) {
	if w.random.IntN(2) == 0 {
		p := w.commits[w.random.IntN(len(w.commits))].position
		*position = &p
		return func(c *commit) bool { return c.position <= p }
	}
	instant := w.instant()
	*at = &instant
	return func(c *commit) bool { return !c.recorded.After(instant) }
}

func recordedBy(by func(*commit) bool) func(*shelf) (stock, bool) {
	return func(s *shelf) (held stock, listed bool) {
		for _, c := range s.changes {
			if by(c.commit) {
				held, listed = c.after, c.alive
			}
		}
		return held, listed
	}
}

func (w *warehouse) askEffective() {
	at := w.instant()
	q := projections.AsOf{At: &at, Clock: projections.Effective}
	var of []*shelf
	q.LevelID, q.ItemID, q.LocationID, of = w.inquiry(w.random.IntN(50) == 0)
	then := func(s *shelf) (held stock, listed bool) {
		happened := slices.DeleteFunc(slices.Clone(s.changes), func(c turn) bool { return c.effective.After(at) })
		slices.SortStableFunc(happened, func(a, b turn) int {
			return cmp.Or(a.effective.Compare(b.effective), cmp.Compare(a.position, b.position))
		})
		for _, c := range happened {
			held = held.plus(c.moved)
			listed = !c.ended && (listed || c == happened[0]) || c.ended && c.alive
		}
		return held, listed
	}
	require.Equal(w.t, expected(of, q.LevelID+q.ItemID != "", then), w.asOf(q), "%+v at %s", q, at)
}

func (w *warehouse) askWhy() {
	var of []*shelf
	q := projections.Explain{Quantity: []string{"stocked", "reserved", "incoming", "available"}[w.random.IntN(4)], Take: new(w.random.IntN(80))}
	q.LevelID, q.ItemID, q.LocationID, of = w.inquiry(false)
	by := func(*commit) bool { return true }
	if w.random.IntN(2) == 0 {
		by = w.when(&q.Position, &q.At)
	}
	if w.random.IntN(4) == 0 {
		q.After = new(w.commits[w.random.IntN(len(w.commits))].position)
	}
	var sum stock
	for _, s := range of {
		if held, listed := recordedBy(by)(s); listed {
			sum = sum.plus(held)
		}
	}
	x, err := w.ledger.Models().Explain(w.t.Context(), q)
	require.NoError(w.t, err)
	require.True(w.t, x.Agrees && x.Chain.Verified, "%+v: %+v", q, x)
	want := sum.of(q.Quantity)
	require.True(w.t, want.Equal(x.Sum) && want.Equal(x.Value), "%+v: %s, not %s and %s", q, want, x.Sum, x.Value)
	running, n := x.Opening.Sum, x.Opening.Events
	for _, r := range x.Rows {
		running, n = running.Plus(r.Delta), n+1
		require.True(w.t, running.Equal(r.Running))
	}
	if !x.More {
		require.True(w.t, running.Equal(x.Sum))
		require.Equal(w.t, x.Events, n)
	}
}

// What happened between two microseconds is told, found and listed at one instant,
// whoever tells: the fact, its history, and what explains it.
func TestWhatHappenedIsFoundAtTheInstantThatIsToldOfIt(t *testing.T) {
	ledger := open(t, t.TempDir())
	happened := time.Date(2026, 2, 1, 8, 0, 0, 123_456_789, time.UTC)
	answer, err := ledger.DoJSON(t.Context(), commands.Envelope{Effective: happened}, "create-inventory-items",
		[]byte(`{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":10}]}`))
	require.NoError(t, err)
	require.NoError(t, ledger.Models().WaitFor(t.Context(), answer.Position))
	x, err := ledger.Models().Explain(t.Context(), projections.Explain{ItemID: "mug"})
	require.NoError(t, err)
	require.Len(t, x.Rows, 1)
	told := x.Rows[0].Effective
	from, err := ledger.Models().StockHistory(t.Context(), projections.History{ItemID: projections.Names{"mug"}, EffectiveFrom: &told})
	require.NoError(t, err)
	require.Len(t, from.Rows, 1)
	require.Equal(t, told, from.Rows[0].Effective)
	before, err := ledger.Models().StockHistory(t.Context(), projections.History{ItemID: projections.Names{"mug"}, EffectiveBefore: &told})
	require.NoError(t, err)
	require.Empty(t, before.Rows)
}

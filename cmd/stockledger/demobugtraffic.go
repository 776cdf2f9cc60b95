package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
)

// callers is how many write and read at once.
const callers = 16

// traffic is callers that write and read. Each has items of its own, and so knows
// what every answer about them must be after what it wrote last.
type traffic struct {
	callers []*caller
	quiet   sync.RWMutex // held by who wants no writes; a writer holds it for reading
	sound   atomic.Int64 // odd while totals must be right; changes with every change of that
	ledger  *stockledger.Ledger

	ctx    context.Context //nolint:containedctx // of the callers under way
	cancel context.CancelFunc
	work   sync.WaitGroup

	wrote, read, checked atomic.Int64
	mu                   sync.Mutex
	wrong                error // the first thing that was not as it must be
}

// A caller knows its shelves.
type caller struct {
	*traffic
	number  int
	dice    *rand.Rand
	shelves []*shelf
	open    []order
	after   uint64 // position of its last command
	orders  int
	keys    int
}

// A shelf is one item at all its locations.
type shelf struct {
	item   string
	fickle bool // orders of it are cancelled now and then; of other items, never
	levels []*stock
}

// stock is one level as its caller has left it.
type stock struct {
	location          string
	stocked, reserved int64
}

// An order holds stock.
type order struct {
	id       string
	of       *stock
	quantity int64
	fickle   bool
}

// newTraffic shares the items of a shop out among callers.
func newTraffic(ctx context.Context, ledger *stockledger.Ledger, seed uint64) (*traffic, error) {
	head, err := ledger.Events().Head(ctx)
	if err != nil {
		return nil, err
	}
	t := &traffic{}
	for n := range callers {
		t.callers = append(t.callers, &caller{
			traffic: t, number: n, dice: rand.New(rand.NewPCG(seed, uint64(n))), after: head, //nolint:gosec // G404: a shop, not a secret
		})
	}
	answer, err := query(ctx, ledger, "list-inventory-items", object{"take": 1000, "relations": []string{"location_levels"}, "order": "id", "after": head})
	if err != nil {
		return nil, err
	}
	var items struct {
		Rows []itemRow `json:"rows"`
	}
	if err := json.Unmarshal(answer, &items); err != nil {
		return nil, err
	}
	for i, row := range items.Rows {
		s := &shelf{item: row.ID, fickle: i/callers%2 == 0}
		for _, l := range row.Levels {
			s.levels = append(s.levels, &stock{l.Location, l.Stocked, l.Reserved})
		}
		owner := t.callers[i%callers]
		owner.shelves = append(owner.shelves, s)
	}
	return t, nil
}

// A itemRow is an item with its totals and its levels, as it is answered.
type itemRow struct {
	ID string `json:"id"`
	amounts
	Levels []struct {
		Location string `json:"location_id"`
		amounts
	} `json:"location_levels"`
}

type amounts struct {
	Stocked   int64 `json:"stocked_quantity"`
	Reserved  int64 `json:"reserved_quantity"`
	Available int64 `json:"available_quantity"`
}

// query asks the ledger and returns the answer as it is sent.
func query(ctx context.Context, ledger *stockledger.Ledger, name string, question object) ([]byte, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	answer, err := ledger.Query(ctx, name, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return json.Marshal(answer)
}

// start lets the callers loose on a ledger.
func (t *traffic) start(ctx context.Context, ledger *stockledger.Ledger) {
	t.ledger = ledger
	t.ctx, t.cancel = context.WithCancel(ctx)
	for _, c := range t.callers {
		t.work.Go(func() {
			for t.ctx.Err() == nil {
				c.turn()
			}
		})
	}
}

// stop waits until everybody has got his last answer, and says what was done and
// whether something was not as it must be.
func (t *traffic) stop() (string, error) {
	if t.cancel != nil {
		t.cancel()
	}
	t.work.Wait()
	return t.counts(), t.trouble()
}

// pause waits until nobody writes, and keeps it so until resume is called.
func (t *traffic) pause() (resume func()) {
	t.quiet.Lock()
	return t.quiet.Unlock
}

// totalsAreRight tells the callers whether to expect right totals from now on.
func (t *traffic) totalsAreRight(right bool) {
	now := t.sound.Load()
	if right != (now%2 == 1) {
		t.sound.Store(now + 1)
	}
}

func (t *traffic) counts() string {
	return fmt.Sprintf("%d commands and %d answers so far", t.wrote.Load(), t.read.Load())
}

// right counts the answers whose totals were right because they must be.
func (t *traffic) right() int64 { return t.checked.Load() }

func (t *traffic) trouble() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wrong
}

// report keeps the first thing that went wrong.
func (t *traffic) report(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrong = cmp.Or(t.wrong, err)
}

// turn writes, unless writers pause, and reads.
func (c *caller) turn() {
	ctx := context.WithoutCancel(c.ctx) // whoever has asked waits for the answer
	s := c.shelves[c.dice.IntN(len(c.shelves))]
	if c.quiet.TryRLock() {
		err := c.write(ctx, s)
		c.quiet.RUnlock()
		if err != nil {
			c.report(fmt.Errorf("caller %d: a command failed: %w", c.number, err))
		}
	}
	if err := c.check(ctx, s); err != nil {
		c.report(fmt.Errorf("caller %d: %w", c.number, err))
	}
}

// write sells, receives, reserves, or settles an order.
func (c *caller) write(ctx context.Context, s *shelf) error {
	at := s.levels[c.dice.IntN(len(s.levels))]
	quantity := 1 + c.dice.Int64N(3)
	free := at.stocked-at.reserved >= quantity
	switch n := c.dice.IntN(10); {
	case len(c.open) > 20 || n < 4 && len(c.open) > 0:
		return c.settle(ctx)
	case n < 8 && free:
		return c.reserve(ctx, s, at, quantity)
	case n == 8 && free:
		return c.adjust(ctx, s.item, at, -quantity, "sale")
	}
	return c.adjust(ctx, s.item, at, quantity, "receipt")
}

func (c *caller) adjust(ctx context.Context, item string, at *stock, by int64, reason string) error {
	at.stocked += by
	return c.do(ctx, "adjust-inventory-levels", reason, object{"inventory_item_id": item, "location_id": at.location, "adjustment": by})
}

func (c *caller) reserve(ctx context.Context, s *shelf, at *stock, quantity int64) error {
	c.orders++
	o := order{fmt.Sprintf("web-%d-%d", c.number, c.orders), at, quantity, s.fickle}
	c.open = append(c.open, o)
	at.reserved += quantity
	return c.do(ctx, "create-reservations", "order", object{"id": o.id, "inventory_item_id": s.item, "location_id": at.location, "quantity": quantity})
}

// settle cancels an order or ships it.
func (c *caller) settle(ctx context.Context) error {
	i := c.dice.IntN(len(c.open))
	o := c.open[i]
	c.open = slices.Delete(c.open, i, i+1)
	o.of.reserved -= o.quantity
	if o.fickle && c.dice.IntN(4) > 0 {
		return c.do(ctx, "delete-reservations", "cancelled", object{"ids": []string{o.id}})
	}
	o.of.stocked -= o.quantity
	return c.do(ctx, "fulfill-reservations", "shipped", object{"id": o.id})
}

func (c *caller) do(ctx context.Context, name, reason string, body object) error {
	c.keys++
	env := commands.Envelope{Key: fmt.Sprintf("caller-%d-%d", c.number, c.keys), Actor: fmt.Sprintf("caller-%d", c.number), Reason: reason}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	answer, err := c.ledger.DoJSON(ctx, env, name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.after = max(c.after, answer.Position)
	c.wrote.Add(1)
	return nil
}

// check reads a shelf, and compares it with what its caller knows. Nobody else
// writes it, so an answer with anything else is stale. The totals are looked at
// when they must have been right all the while.
func (c *caller) check(ctx context.Context, s *shelf) error {
	before := c.sound.Load()
	answer, err := query(ctx, c.ledger, "list-inventory-items", object{"id": s.item, "relations": []string{"location_levels"}, "after": c.after})
	if err != nil {
		return fmt.Errorf("a read failed: %w", err)
	}
	c.read.Add(1)
	var items struct {
		Rows []itemRow `json:"rows"`
	}
	if err := json.Unmarshal(answer, &items); err != nil {
		return err
	}
	if len(items.Rows) != 1 || len(items.Rows[0].Levels) != len(s.levels) {
		return fmt.Errorf("an answer lacks rows of %s: %s", s.item, answer)
	}
	row := items.Rows[0]
	var sum amounts
	for _, l := range row.Levels {
		i := slices.IndexFunc(s.levels, func(at *stock) bool { return at.location == l.Location })
		if i < 0 || l.amounts != s.levels[i].amounts() {
			return fmt.Errorf("after position %d an answer about %s is stale: %s", c.after, s.item, answer)
		}
		sum.Stocked += l.Stocked
		sum.Reserved += l.Reserved
		sum.Available += l.Available
	}
	if before%2 == 0 || c.sound.Load() != before {
		return nil
	}
	c.checked.Add(1)
	if row.amounts != sum {
		return fmt.Errorf("after the switch the totals of %s are not the sum of its levels: %s", s.item, answer)
	}
	return nil
}

func (s *stock) amounts() amounts {
	return amounts{s.stocked, s.reserved, s.stocked - s.reserved}
}

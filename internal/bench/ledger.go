package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

const (
	place = "paris"
	// stocked is what each item begins with: more than any load reserves.
	stocked = 1_000_000_000
	// batch is how many items are made by one command.
	batch = 500
)

// subject is a ledger under load, and what it should hold by what its callers were
// told.
type subject struct {
	dir    string
	ledger *stockledger.Ledger
	items  []string
	seeded uint64 // position behind what was there before the load

	groups, commits, events atomic.Int64 // since then

	callers  []*caller
	stocked  []atomic.Int64 // change of each item that was acknowledged
	reserved []atomic.Int64
}

// openSubject opens a ledger in dir with so many items.
func (b *Bench) openSubject(ctx context.Context, dir string, items int) (_ *subject, err error) {
	s := &subject{
		dir: dir, items: make([]string, items), stocked: make([]atomic.Int64, items), reserved: make([]atomic.Int64, items),
	}
	for i := range s.items {
		s.items[i] = fmt.Sprint("item_", i)
	}
	if err := s.openLedger(ctx, b); err != nil {
		return nil, err
	}
	if err := s.seed(ctx); err != nil {
		return nil, errors.Join(err, s.ledger.Close())
	}
	return s, nil
}

// openLedger opens the ledger as a server does, which has its rows walked over.
func (s *subject) openLedger(ctx context.Context, b *Bench) (err error) {
	s.ledger, err = stockledger.Open(ctx, stockledger.Config{
		Dir: s.dir, Walk: true, Logger: quiet(), Now: b.Now, Observe: func(commands, events int, _ time.Duration) {
			s.groups.Add(1)
			s.commits.Add(int64(commands))
			s.events.Add(int64(events))
		},
	})
	return err
}

// seed makes the items, and waits for the read models.
func (s *subject) seed(ctx context.Context) error {
	for first := 0; first < len(s.items); first += batch {
		lines := make([]string, 0, batch)
		for _, item := range s.items[first:min(first+batch, len(s.items))] {
			lines = append(lines, fmt.Sprintf(`{"id":%q,"location_levels":[{"location_id":%q,"stocked_quantity":%d}]}`, item, place, stocked))
		}
		answer, err := s.ledger.DoJSON(ctx, commands.Envelope{Key: fmt.Sprint("seed-", first)}, "create-inventory-items",
			[]byte("["+strings.Join(lines, ",")+"]"))
		if err != nil {
			return fmt.Errorf("make the items: %w", err)
		}
		s.seeded = answer.Position
	}
	s.groups.Store(0)
	s.commits.Store(0)
	s.events.Store(0)
	return s.ledger.Models().WaitFor(ctx, s.seeded)
}

// An errand is one request of a caller.
type errand struct {
	kind Kind
	item int
	id   string // of a reservation
}

// A held reservation is one of a caller's own.
type held struct {
	item int
	id   string
}

// caller sends one request after the other, each command with a key of its own: the
// caller's number and a number that counts up.
type caller struct {
	number int
	of     *subject
	at     doorway
	mix    Mix
	random *rand.Rand
	sent   int          // commands
	failed map[int]bool // those that were not acknowledged
	held   []held
}

// workers are so many new callers at a doorway. Callers are numbered on over all the
// loads of a subject.
func (s *subject) workers(b *Bench, at doorway, callers int, mix Mix) []worker {
	workers := make([]worker, callers)
	for i := range workers {
		number := len(s.callers)
		c := &caller{
			number: number, of: s, at: at, mix: mix, failed: map[int]bool{},
			random: b.random(uint64(number)),
		}
		s.callers = append(s.callers, c)
		workers[i] = c.next
	}
	return workers
}

// next does one thing of the mix. Who has no reservation to release or to fulfil
// makes one.
func (c *caller) next(ctx context.Context) (Kind, error) {
	e := errand{kind: c.mix.kind(c.random.IntN(100)), item: c.random.IntN(len(c.of.items))}
	if e.kind == Read {
		return e.kind, c.at.stocked(ctx, c.of.items[e.item])
	}
	key := fmt.Sprintf("bench-%d-%d", c.number, c.sent)
	if (e.kind == Release || e.kind == Fulfil) && len(c.held) == 0 {
		e.kind = Reserve
	}
	switch e.kind {
	case Reserve:
		e.id = "resitem_" + key
	case Release, Fulfil:
		last := c.held[len(c.held)-1]
		c.held = c.held[:len(c.held)-1]
		e.item, e.id = last.item, last.id
	}
	c.sent++
	if err := c.at.carryOut(ctx, commands.Envelope{Key: key, Actor: "bench"}, c.of.items[e.item], e); err != nil {
		c.failed[c.sent-1] = true
		return e.kind, err
	}
	c.acknowledged(e)
	return e.kind, nil
}

// acknowledged notes what a command must have done.
func (c *caller) acknowledged(e errand) {
	switch e.kind {
	case Adjust:
		c.of.stocked[e.item].Add(1)
	case Reserve:
		c.of.reserved[e.item].Add(1)
		c.held = append(c.held, held{e.item, e.id})
	case Release:
		c.of.reserved[e.item].Add(-1)
	case Fulfil:
		c.of.reserved[e.item].Add(-1)
		c.of.stocked[e.item].Add(-1)
	}
}

// A doorway is how callers reach a ledger.
type doorway interface {
	carryOut(ctx context.Context, env commands.Envelope, item string, e errand) error
	stocked(ctx context.Context, item string) error
}

// inGo reaches it as a program that embeds it does.
type inGo struct{ ledger *stockledger.Ledger }

func (d inGo) carryOut(ctx context.Context, env commands.Envelope, item string, e errand) error {
	_, err := d.ledger.Do(ctx, env, typed(item, e))
	return err
}

func (d inGo) stocked(ctx context.Context, item string) error {
	_, err := d.ledger.Models().StockedQuantity(ctx, item, []string{place})
	return err
}

func typed(item string, e errand) commands.Command {
	one, at := events.Units(1), commands.LevelName{InventoryItemID: item, LocationID: place}
	switch e.kind {
	case Reserve:
		return commands.CreateReservations{Reservations: []commands.NewReservation{{ID: e.id, LevelName: at, Quantity: &one}}}
	case Release:
		return commands.DeleteReservations{IDs: []string{e.id}}
	case Fulfil:
		return commands.FulfillReservations{Reservations: []commands.Fulfilment{{ID: e.id}}}
	default:
		return commands.AdjustInventoryLevels{Updates: []commands.Adjustment{{LevelName: at, Adjustment: &one}}}
	}
}

// written is the command as it is sent.
func written(item string, e errand) (name string, body []byte) {
	switch e.kind {
	case Reserve:
		return "create-reservations", fmt.Appendf(nil, `{"id":%q,"inventory_item_id":%q,"location_id":%q,"quantity":1}`, e.id, item, place)
	case Release:
		return "delete-reservations", fmt.Appendf(nil, `[%q]`, e.id)
	case Fulfil:
		return "fulfill-reservations", fmt.Appendf(nil, `{"id":%q}`, e.id)
	default:
		return "adjust-inventory-levels", fmt.Appendf(nil, `{"inventory_item_id":%q,"location_id":%q,"adjustment":1}`, item, place)
	}
}

func question(item string) []byte {
	return fmt.Appendf(nil, `{"inventory_item_id":%q,"location_ids":[%q]}`, item, place)
}

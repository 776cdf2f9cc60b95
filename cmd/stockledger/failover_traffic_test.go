//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// A sentCommand is a command and what its publisher knows of it.
type sentCommand struct {
	Key  string
	Name string
	// Order is what the publisher wanted, once, whatever it sent for it. It travels
	// as the reference, so that the log says so, too.
	Order string
	Body  string
	// Moves is how much the command changes the stock of each place, if it is
	// carried out.
	Moves map[stockPlace]int

	Answer  *commands.Answer // nil: it was not acknowledged
	Refused error            // why it will never be carried out
}

// A stockPlace is an item at a location.
type stockPlace struct{ item, location string }

// An acknowledgment is when a command was sent first, and when it was answered.
type acknowledgment struct{ begun, answered time.Time }

// failoverTraffic is what many publishers do at once, each of them one thing after the
// other, with a little rest between.
type failoverTraffic struct {
	seed    uint64
	url     string
	dial    func() (*natsapi.Client, error)
	newKeys bool // a bug: sent again with another key

	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex
	sent  []*sentCommand
	acked []acknowledgment
	wrong []string
}

// The shop of the campaign: a few items that everybody wants, at two places.
const (
	hotItems  = 12
	firstLoad = 1000
)

var hotPlaces = [...]string{"warehouse", "paris"}

// rest is how long a publisher rests between two commands at most. 32 of them send
// some hundreds of commands a second, which leaves two processors time to be
// servers as well.
const rest = 100 * time.Millisecond

// startTraffic stocks the shop, and sends publishers into it.
func startTraffic(t *testing.T, url string, publishers int, seed uint64) *failoverTraffic {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	f := &failoverTraffic{seed: seed, url: url, stop: stop}
	f.dial = func() (*natsapi.Client, error) {
		return natsapi.Dial(url, natsapi.WithNATS(nats.ReconnectWait(100*time.Millisecond), nats.PingInterval(time.Second),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})))
	}
	t.Cleanup(f.end)
	f.openShop(ctx, t)
	for i := range publishers {
		client, err := f.dial()
		require.NoError(t, err)
		p := &failoverPublisher{failoverTraffic: f, client: client, number: i, dice: rand.New(rand.NewPCG(seed, uint64(i+1)))}
		f.done.Go(func() {
			defer client.Close()
			p.run(ctx)
		})
	}
	return f
}

// end ends the traffic: what is under way is sent again until it is answered, and
// nothing new is begun.
func (f *failoverTraffic) end() {
	f.stop()
	f.done.Wait()
}

func (f *failoverTraffic) openShop(ctx context.Context, t *testing.T) {
	t.Helper()
	client, err := f.dial()
	require.NoError(t, err)
	defer client.Close()
	var items []object
	moves := make(map[stockPlace]int)
	for i := range hotItems {
		var levels []object
		for _, place := range hotPlaces {
			levels = append(levels, object{"location_id": place, "stocked_quantity": firstLoad})
			moves[stockPlace{hotItem(i), place}] = firstLoad
		}
		items = append(items, object{"id": hotItem(i), "location_levels": levels})
	}
	p := &failoverPublisher{failoverTraffic: f, client: client, number: -1, dice: rand.New(rand.NewPCG(f.seed, 0))}
	opened := p.send(ctx, "create-inventory-items", items, moves)
	require.NotNil(t, opened.Answer, "the shop did not open: %v", opened.Refused)
}

func hotItem(i int) string { return "hot-" + strconv.Itoa(i) }

// note keeps a command before it is sent for the first time.
func (f *failoverTraffic) note(c *sentCommand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, c)
}

// settle keeps what became of it.
func (f *failoverTraffic) settle(c *sentCommand, begun time.Time, answer commands.Answer, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		c.Answer = &answer
	case mayWork(err): // it stays open
		return
	default:
		c.Refused = err
		return
	}
	f.acked = append(f.acked, acknowledgment{begun, time.Now()})
}

func (f *failoverTraffic) complain(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// acknowledged is how many commands were.
func (f *failoverTraffic) acknowledged() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.acked)
}

// firstSince is when the first command was acknowledged that was sent after a time.
func (f *failoverTraffic) firstSince(at time.Time) (answered time.Time, found bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.acked) - 1; i >= 0 && f.acked[i].answered.After(at); i-- {
		if f.acked[i].begun.After(at) {
			answered, found = f.acked[i].answered, true
		}
	}
	return answered, found
}

// A failoverPublisher sends commands, one after the other, each with a key of its
// own and again until it is answered.
type failoverPublisher struct {
	*failoverTraffic
	client *natsapi.Client
	number int
	dice   *rand.Rand
	orders int
	held   []heldReservation
}

// A heldReservation is one that a publisher has made.
type heldReservation struct {
	id       string
	place    stockPlace
	quantity int
}

func (p *failoverPublisher) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		p.act(ctx)
		pause.Reset(time.Duration(p.dice.Int64N(int64(rest))))
	}
}

// act does one of the things that publishers do.
func (p *failoverPublisher) act(ctx context.Context) {
	switch n := p.dice.IntN(100); {
	case n < 40:
		p.adjust(ctx, 1)
	case n < 50:
		p.adjust(ctx, 2+p.dice.IntN(4))
	case n < 72:
		p.reserve(ctx)
	case n < 80:
		p.settleReservation(ctx, "delete-reservations")
	case n < 90:
		p.settleReservation(ctx, "fulfill-reservations")
	case n < 94:
		p.create(ctx)
	case n < 97:
		p.sendTwice(ctx)
	default:
		p.giveUp(ctx)
	}
}

func (p *failoverPublisher) place() stockPlace {
	return stockPlace{hotItem(p.dice.IntN(hotItems)), hotPlaces[p.dice.IntN(len(hotPlaces))]}
}

// adjustment is the body of an adjustment of some lines, and what it moves. Now and
// then it takes more than there is.
func (p *failoverPublisher) adjustment(lines int) (body []object, moves map[stockPlace]int) {
	moves = make(map[stockPlace]int)
	for range lines {
		at, by := p.place(), p.dice.IntN(43)-20
		if p.dice.IntN(50) == 0 {
			by = -20 * firstLoad
		}
		if by == 0 {
			by = 1
		}
		moves[at] += by
		body = append(body, object{"inventory_item_id": at.item, "location_id": at.location, "adjustment": by})
	}
	return body, moves
}

func (p *failoverPublisher) adjust(ctx context.Context, lines int) {
	body, moves := p.adjustment(lines)
	p.send(ctx, "adjust-inventory-levels", body, moves)
}

func (p *failoverPublisher) reserve(ctx context.Context) {
	at, quantity := p.place(), 1+p.dice.IntN(60)
	c := p.send(ctx, "create-reservations",
		object{"inventory_item_id": at.item, "location_id": at.location, "quantity": quantity}, nil)
	if c.Answer == nil {
		return
	}
	var made []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(c.Answer.Result, &made); err != nil || len(made) != 1 {
		p.complain("%s: the answer to a reservation is %s", c.Key, c.Answer.Result)
		return
	}
	p.held = append(p.held, heldReservation{made[0].ID, at, quantity})
}

// settleReservation releases or fulfils one of the reservations that this publisher has.
func (p *failoverPublisher) settleReservation(ctx context.Context, name string) {
	if len(p.held) == 0 {
		p.reserve(ctx)
		return
	}
	i := p.dice.IntN(len(p.held))
	r := p.held[i]
	p.held[i] = p.held[len(p.held)-1]
	p.held = p.held[:len(p.held)-1]
	if name == "fulfill-reservations" {
		p.send(ctx, name, object{"id": r.id}, map[stockPlace]int{r.place: -r.quantity})
		return
	}
	p.send(ctx, name, []string{r.id}, nil)
}

// create creates items without ids: nothing but the key keeps them from being made
// twice.
func (p *failoverPublisher) create(ctx context.Context) {
	items := make([]object, 1+p.dice.IntN(3))
	for i := range items {
		items[i] = object{
			"title":           fmt.Sprintf("made by publisher %d", p.number),
			"location_levels": []object{{"location_id": hotPlaces[0], "stocked_quantity": p.dice.IntN(100)}},
		}
	}
	p.send(ctx, "create-inventory-items", items, nil)
}

// sendTwice sends a command from two sides at once, with one key. Both must get the
// same answer.
func (p *failoverPublisher) sendTwice(ctx context.Context) {
	body, moves := p.adjustment(1)
	c, env := p.next("adjust-inventory-levels", body, moves)
	var first, second commands.Answer
	var firstErr, secondErr error
	begun := time.Now()
	var both sync.WaitGroup
	both.Go(func() { first, firstErr = p.answered(ctx, c, env) })
	both.Go(func() { second, secondErr = p.answered(ctx, c, env) })
	both.Wait()
	switch {
	case firstErr == nil && secondErr == nil:
		if first.Position != second.Position || string(first.Result) != string(second.Result) {
			p.complain("%s was answered in two ways: %+v and %+v", c.Key, first, second)
		}
		p.settle(c, begun, first, nil)
	case firstErr == nil: // the other was refused before, when there was less in stock
		p.settle(c, begun, first, nil)
	case secondErr == nil:
		p.settle(c, begun, second, nil)
	default:
		p.settle(c, begun, first, firstErr)
	}
}

// giveUp sends a command once and does not wait for long: what becomes of it the
// publisher never knows.
func (p *failoverPublisher) giveUp(ctx context.Context) {
	body, moves := p.adjustment(2)
	c, env := p.next("adjust-inventory-levels", body, moves)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.dice.IntN(20))*time.Millisecond)
	defer cancel()
	begun := time.Now()
	answer, err := p.client.Command(ctx, c.Name, env, []byte(c.Body))
	if err == nil || !mayWork(err) {
		p.settle(c, begun, answer, err)
	}
}

// next is the next command of this publisher.
func (p *failoverPublisher) next(name string, body any, moves map[stockPlace]int) (*sentCommand, commands.Envelope) {
	p.orders++
	order := fmt.Sprintf("p%02d-%06d", p.number, p.orders)
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	c := &sentCommand{Key: order, Order: order, Name: name, Body: string(text), Moves: moves}
	p.note(c)
	return c, commands.Envelope{Key: c.Key, Reference: order}
}

// send has a command carried out, however often it must be sent.
func (p *failoverPublisher) send(ctx context.Context, name string, body any, moves map[stockPlace]int) *sentCommand {
	c, env := p.next(name, body, moves)
	begun := time.Now()
	answer, err := p.answered(ctx, c, env)
	p.settle(c, begun, answer, err)
	return c
}

// aTry is how long a publisher waits for one answer before it sends again, beyond
// what the client does by itself.
const aTry = 5 * time.Second

// answered sends a command until it is acknowledged or refused, also when the
// traffic is about to end: only then is known what became of it.
func (p *failoverPublisher) answered(ctx context.Context, c *sentCommand, env commands.Envelope) (commands.Answer, error) {
	ctx = context.WithoutCancel(ctx)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(2 * patienceInTests); ; <-again.C {
		answer, err := p.once(ctx, c, env)
		if err == nil || !mayWork(err) {
			return answer, err
		}
		if time.Now().After(deadline) {
			p.complain("%s was not answered within %s: %v", c.Key, 2*patienceInTests, err)
			return answer, err
		}
		if p.newKeys {
			env.Key += "-again"
		}
	}
}

func (p *failoverPublisher) once(ctx context.Context, c *sentCommand, env commands.Envelope) (commands.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, aTry)
	defer cancel()
	return p.client.Command(ctx, c.Name, env, []byte(c.Body))
}

// mayWork reports whether the same command may be carried out when it is sent again,
// or was.
func mayWork(err error) bool { return fault.Of(err).Kind == fault.Unavailable }

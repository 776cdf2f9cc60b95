package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// The shop that is loaded: items that are wanted by all callers, at a few locations,
// and so much in stock that it does not run out.
const (
	wanted    = 3  // items that are wanted most
	perCreate = 50 // items that one command creates
	firstLoad = 1_000_000
	tooMuch   = 1_000_000_000 // and more than there ever is
)

var locations = [...]string{"warehouse", "paris"}

const (
	// anAnswer is how long a caller waits for an answer at most. It sends the same
	// command again then, as it does after a kill.
	anAnswer = 30 * time.Second
	// impatience bounds how long a caller waits that is about to give up.
	impatience = 10 * time.Millisecond
	// share of the connections: so many callers have one together.
	share = 8
	// keptFor is for how many commands a caller sends an old one again, in the mean.
	keptFor = 500
	// gone is how long a connection may take to notice that its server is dead.
	gone = 2 * time.Second
)

// A load is many callers, each of them sending one command after the other while a
// server runs.
type load struct {
	Config
	book    *book
	callers []*caller

	stop       context.CancelFunc // ends that answers are waited for
	nothingNew bool               // only what was sent before is sent again
	conns      []*nats.Conn
	done       sync.WaitGroup

	mu    sync.Mutex
	first time.Time // when the first command was acknowledged by this server
}

func newLoad(config Config, b *book) *load {
	l := &load{Config: config, book: b}
	for i := range config.Callers {
		l.callers = append(l.callers, &caller{
			load: l, number: i,
			dice: rand.New(rand.NewPCG(config.Seed, uint64(i))), //nolint:gosec // G404, G115: commands that can be drawn again
		})
	}
	return l
}

// open stocks the shop.
func (l *load) open(ctx context.Context, url string) error {
	client, err := natsapi.Dial(url)
	if err != nil {
		return err
	}
	defer client.Close()
	opener := &caller{load: l, number: l.Callers}
	for from := 0; from < l.Items; from += perCreate {
		var body []object
		var moves []move
		for i := from; i < min(from+perCreate, l.Items); i++ {
			var levels []object
			for _, at := range locations {
				levels = append(levels, object{"location_id": at, "stocked_quantity": firstLoad})
				moves = append(moves, move{place{itemID(i), at}, level{stocked: firstLoad}})
			}
			body = append(body, object{"id": itemID(i), "location_levels": levels})
		}
		c := opener.command("create-inventory-items", len(body)*(1+len(locations)), moves)
		c.body = body
		if answer, err := opener.once(ctx, client, c); err != nil {
			return fmt.Errorf("open the shop: %w", err)
		} else {
			l.book.acknowledge(c.name, answer.Position, answer.Replayed, answer.Result)
		}
	}
	return nil
}

type object = map[string]any

func itemID(i int) string { return fmt.Sprintf("item-%d", i) }

// begin sends the callers to a server.
func (l *load) begin(ctx context.Context, url string) error {
	l.first = time.Time{}
	l.conns = nil
	for range (l.Callers + share - 1) / share {
		conn, err := natsapi.Connect(url, nats.NoReconnect(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			return fmt.Errorf("connect the callers: %w", err)
		}
		l.conns = append(l.conns, conn)
	}
	ctx, l.stop = context.WithCancel(ctx)
	for i, c := range l.callers {
		conn := l.conns[i/share]
		client, err := natsapi.NewClient(conn)
		if err != nil {
			return err
		}
		l.done.Go(func() { c.run(ctx, conn, client) })
	}
	return nil
}

// end takes the callers from a server that is dead, or is to be left alone, once they
// have heard all that it has said. It returns when the first command was acknowledged.
func (l *load) end(dead <-chan struct{}) time.Time {
	select {
	case <-dead:
		patience := l.Now().Add(gone)
		for _, conn := range l.conns {
			for !conn.IsClosed() && l.Now().Before(patience) {
				_ = pause(context.Background(), lookEvery, nil)
			}
		}
	default:
	}
	l.stop()
	l.leave()
	return l.first
}

// drain has the callers begin nothing new with a server, and waits until all they sent
// is answered: then nothing is on its way.
func (l *load) drain(ctx context.Context, url string) error {
	l.nothingNew = true
	if err := l.begin(ctx, url); err != nil {
		return err
	}
	l.leave()
	l.stop()
	return nil
}

func (l *load) leave() {
	l.done.Wait()
	for _, c := range l.conns {
		c.Close()
	}
}

func (l *load) acknowledged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first.IsZero() {
		l.first = l.Now()
	}
}

// A command is one that a caller sends, maybe more than once.
type command struct {
	name name
	kind string // of command
	body any
	then func() // once it is acknowledged

	hasty   bool // its caller does not wait for long, and gives up
	twice   bool // it is sent from two sides at once
	refused bool // it asks for more than there is, and nothing else is ever refused
}

// A caller sends commands, one after the other.
type caller struct {
	*load
	number int
	dice   *rand.Rand
	held   []held
	again  *command // to be sent once more, because nobody knows what became of it
	old    *command // acknowledged once, by this server or one before it, and asked about again
}

// A held reservation is one that a caller has made.
type held struct {
	id       string
	at       place
	quantity int64
}

// run sends commands until ctx ends. A server whose connection is closed hears nothing
// any more.
func (c *caller) run(ctx context.Context, conn *nats.Conn, client *natsapi.Client) {
	for ctx.Err() == nil {
		if conn.IsClosed() {
			<-ctx.Done()
			return
		}
		cmd := c.again
		switch {
		case cmd != nil:
			c.book.resending(cmd.name)
		case c.nothingNew:
			return
		default:
			cmd = c.draw()
		}
		c.again = nil
		c.send(ctx, client, cmd)
	}
}

// send sends a command and writes down what became of it.
func (c *caller) send(ctx context.Context, client *natsapi.Client, cmd *command) {
	if cmd.twice {
		var beside sync.WaitGroup
		beside.Go(func() { _ = c.told(ctx, client, cmd) })
		defer beside.Wait()
	}
	switch err := c.told(ctx, client, cmd); {
	case err == nil:
		c.acknowledged()
		if cmd.then != nil {
			cmd.then()
		}
		if cmd.then = nil; c.old == nil || c.dice.IntN(keptFor) == 0 {
			c.old = cmd
		}
	case fault.Of(err).Kind != fault.Unavailable:
	case !cmd.twice && (cmd.hasty || c.dice.IntN(4) == 0):
		c.book.giveUp(cmd.name)
	default:
		c.again = cmd
	}
}

// told sends a command and writes down the answer, if there is one. A ledger that has
// forgotten something refuses what rests on it.
func (c *caller) told(ctx context.Context, client *natsapi.Client, cmd *command) error {
	answer, err := c.once(ctx, client, cmd)
	switch {
	case err == nil:
		c.book.acknowledge(cmd.name, answer.Position, answer.Replayed, answer.Result)
	case fault.Of(err).Kind == fault.Unavailable:
	case cmd.refused && fault.Of(err).Kind == fault.NotAllowed:
		c.book.refuse(cmd.name, err)
	default:
		c.book.wrongly("refused", "%s was refused for no reason: %v", cmd.name, err)
	}
	return err
}

// once sends a command and waits for its answer.
func (c *caller) once(ctx context.Context, client *natsapi.Client, cmd *command) (commands.Answer, error) {
	body, err := json.Marshal(cmd.body)
	if err != nil {
		return commands.Answer{}, err
	}
	within := anAnswer
	if cmd.hasty {
		within = time.Duration(c.dice.Int64N(int64(impatience)))
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	answer, err := client.Command(ctx, cmd.kind, commands.Envelope{Key: cmd.name.String()}, body)
	if err == nil && answer.CommandID != cmd.name.String() {
		return answer, errors.New("another command was answered")
	}
	return answer, err
}

// draw is the next command of the caller.
func (c *caller) draw() *command {
	switch n := c.dice.IntN(100); {
	case n < 38:
		return c.adjust(1)
	case n < 48:
		return c.adjust(2 + c.dice.IntN(5))
	case n < 50:
		return c.refusal()
	case n < 68:
		return c.reserve(1)
	case n < 73:
		return c.reserve(2 + c.dice.IntN(3))
	case n < 82:
		return c.letGo("delete-reservations", 0)
	case n < 93:
		return c.letGo("fulfill-reservations", -1)
	case n < 97:
		cmd := c.adjust(1)
		cmd.twice = true
		return cmd
	case n < 99 || c.old == nil:
		cmd := c.adjust(3)
		cmd.hasty = true
		return cmd
	default:
		c.book.resending(c.old.name)
		return c.old
	}
}

// command writes down a command of that kind before it is sent.
func (c *caller) command(kind string, parts int, moves []move) *command {
	return &command{kind: kind, name: c.book.sending(c.number, kind, parts, moves)}
}

// place is a place that somebody wants something of. A third of all wants are for few
// items: their streams grow so long that there are snapshots of them.
func (c *caller) place() place {
	among := c.Items
	if c.dice.IntN(3) == 0 {
		among = min(wanted, c.Items)
	}
	return place{itemID(c.dice.IntN(among)), locations[c.dice.IntN(len(locations))]}
}

// adjust moves the stock of some places, each line being an event.
func (c *caller) adjust(lines int) *command {
	var body []object
	var moves []move
	for range lines {
		at, by := c.place(), 1+c.dice.Int64N(20)
		if c.dice.IntN(2) == 0 {
			by = -by
		}
		body = append(body, object{"inventory_item_id": at.item, "location_id": at.location, "adjustment": by})
		moves = append(moves, move{at, level{stocked: by}})
	}
	cmd := c.command("adjust-inventory-levels", lines, moves)
	cmd.body = body
	return cmd
}

// refusal asks for more than there is, behind a line for which there is enough.
func (c *caller) refusal() *command {
	cmd := c.adjust(2)
	body, _ := cmd.body.([]object)
	body[1]["adjustment"] = -tooMuch
	cmd.refused = true
	return cmd
}

// reserve sets goods aside under ids of the caller's own.
func (c *caller) reserve(lines int) *command {
	var body []object
	var moves []move
	var made []held
	for range lines {
		at, quantity := c.place(), 1+c.dice.Int64N(9)
		body = append(body, object{"inventory_item_id": at.item, "location_id": at.location, "quantity": quantity})
		moves = append(moves, move{at, level{reserved: quantity}})
		made = append(made, held{at: at, quantity: quantity})
	}
	cmd := c.command("create-reservations", lines, moves)
	for i := range made {
		made[i].id = fmt.Sprintf("r-%s-%d", cmd.name, i)
		body[i]["id"] = made[i].id
	}
	cmd.body = body
	cmd.then = func() { c.held = append(c.held, made...) }
	return cmd
}

// letGo releases or fulfils some of the reservations that the caller has.
func (c *caller) letGo(kind string, sold int64) *command {
	if len(c.held) == 0 {
		return c.reserve(1)
	}
	n := min(1+c.dice.IntN(3), len(c.held))
	var ids []string
	var body []object
	var moves []move
	for _, r := range c.held[:n] {
		ids = append(ids, r.id)
		body = append(body, object{"id": r.id})
		moves = append(moves, move{r.at, level{stocked: sold * r.quantity, reserved: -r.quantity}})
	}
	c.held = c.held[n:]
	cmd := c.command(kind, n, moves)
	if cmd.body = body; kind == "delete-reservations" {
		cmd.body = ids
	}
	return cmd
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
)

type demo struct {
	Tour demoTour `cmd:"" default:"withargs" help:"Run a ledger with a small shop in it, and show around."`
	Bug  demoBug  `cmd:"" help:"Watch a wrong read model being found, rebuilt, compared, switched and switched back."`
}

// Help implements kong.HelpProvider.
func (demo) Help() string {
	return `A shop with 200 items at 5 locations and 30 days behind it. Without more words it is the tour: the ledger stays up for you to try things.

Examples:

    stockledger demo
    stockledger demo bug`
}

type demoTour struct {
	Data       string `placeholder:"DIR" help:"The data directory; a temporary one when left out. It is kept either way."`
	NATSListen string `name:"nats-listen" placeholder:"HOST:PORT" help:"Where the NATS server listens; 127.0.0.1:4222 when left out, or a free port when that is taken."`
	HTTP       string `name:"http" placeholder:"HOST:PORT" help:"Where HTTP is served; 127.0.0.1:8080 when left out, or a free port when that is taken; off is not at all."`
	ReadyFile  string `placeholder:"FILE" help:"Write where the ledger is into this file, in JSON, after the tour."`
}

// Help implements kong.HelpProvider.
func (demoTour) Help() string {
	return `A shop with 200 items at 5 locations and 30 days behind it: a look at a level, an order for more than there is, an order that arrives
twice, and the history of the level. Then the ledger stays up for you to try things, until it is interrupted.

Example:

    stockledger demo`
}

// Run runs the demo until ctx is done.
func (c *demoTour) Run(ctx context.Context, s streams, config *settings) (err error) {
	if err := (natsapi.ServerConfig{Listen: c.NATSListen}).Check(); err != nil {
		return err
	}
	http := (&serve{HTTP: cmp.Or(c.HTTP, httpapi.DefaultListen)}).http()
	if err := (httpapi.Config{Listen: http}).Check(); err != nil {
		return err
	}
	if err := unannounce(c.ReadyFile); err != nil {
		return err
	}
	dir, err := c.dir()
	if err != nil {
		return err
	}
	h, err := c.open(ctx, dir, http, s)
	if err != nil {
		return whileStarting(ctx, err)
	}
	defer func() {
		err = errors.Join(whileStarting(ctx, err), h.Close())
		if err == nil {
			fmt.Fprintf(s.out, "\nEverything is on disk in %s; open it again with:\n  %s\n", h.dir, config.line("serve", "--data", h.dir))
		}
	}()
	if err := c.show(ctx, h, s.out, config); err != nil {
		if ctx.Err() != nil {
			return nil // ^C in the middle of the tour
		}
		return err
	}
	if err := h.announce(c.ReadyFile); err != nil {
		return err
	}
	<-ctx.Done()
	return unannounce(c.ReadyFile)
}

func (c *demoTour) dir() (string, error) {
	if c.Data != "" {
		return c.Data, nil
	}
	return os.MkdirTemp("", "stockledger-demo-")
}

// open opens the ledger, on a free port if the usual one is taken.
func (c *demoTour) open(ctx context.Context, dir, http string, s streams) (*host, error) {
	config := hostConfig{
		dir: dir, listen: cmp.Or(c.NATSListen, natsapi.DefaultListen),
		http: http, anyPort: c.HTTP == "", logger: newLogger(s.err, "text"),
	}
	h, err := openHost(ctx, config)
	if c.NATSListen == "" && errors.Is(err, syscall.EADDRINUSE) {
		fmt.Fprintf(s.out, "%s is taken, so this ledger listens on another port.\n", natsapi.DefaultListen)
		config.listen = "127.0.0.1:0"
		h, err = openHost(ctx, config)
	}
	return h, err
}

// show seeds the shop and walks through it.
func (c *demoTour) show(ctx context.Context, h *host, w io.Writer, config *settings) error {
	t := tour{host: h, w: w, config: config}
	if err := t.seed(ctx); err != nil {
		return fmt.Errorf("seed the shop: %w", err)
	}
	var err error
	if t.ledger, err = natsapi.NewClient(h.conn); err != nil {
		return err
	}
	for _, stop := range []func(context.Context) error{t.look, t.oversell, t.retry, t.explain} {
		if err := stop(ctx); err != nil {
			return err
		}
	}
	t.leave()
	return nil
}

// A tour shows a shop to somebody. It sends what it sends over NATS, like
// everybody else would.
type tour struct {
	host   *host
	ledger ledger
	w      io.Writer
	config *settings
	at     uint64 // position of the last command
}

// The level the tour is about.
const (
	tourItem = "mug-red"
	tourShop = "paris"
)

// seed carries out the history of the shop. In a directory that has it already,
// every command is replayed and nothing happens twice.
func (t *tour) seed(ctx context.Context) error {
	start := time.Now()
	steps := shopHistory(start)
	for _, step := range steps {
		body, err := json.Marshal(step.body)
		if err != nil {
			return err
		}
		answer, err := t.host.ledger.DoJSON(ctx, step.env, step.name, body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", step.env.Key, step.name, err)
		}
		t.at = max(t.at, answer.Position)
	}
	fmt.Fprintf(t.w, "A shop with %d items at %d locations; %d days of business took %d commands and %.1f s.\n",
		len(shopProducts)*len(shopColours), len(shopLocations), shopDays, len(steps), time.Since(start).Seconds())
	fmt.Fprintf(t.w, "  data  %s\n  nats  %s\n", t.host.dir, t.host.url)
	if url := t.host.httpURL(); url != "" {
		fmt.Fprintf(t.w, "  http  %s\n", url)
	}
	return nil
}

// try prints a command line for this ledger.
func (t *tour) try(words ...string) {
	fmt.Fprintf(t.w, "  %s\n", t.config.line(append(words, "--server", t.host.url)...))
}

func (t *tour) title(text string) { fmt.Fprintf(t.w, "\n%s\n\n", text) }

// levels are the levels of the item the tour is about.
func (t *tour) levels(ctx context.Context) ([]row, error) {
	p, err := ask[page](ctx, t.ledger, "list-inventory-levels", object{"inventory_item_id": tourItem, "after": t.at})
	return p.Rows, err
}

// look shows a first number.
func (t *tour) look(ctx context.Context) error {
	rows, err := t.levels(ctx)
	if err != nil {
		return err
	}
	t.title("1. How many red mugs are there?")
	printTable(t.w, shapes["levels"], rows)
	return nil
}

// reserve asks for red mugs in Paris.
func (t *tour) reserve(ctx context.Context, key string, quantity json.Number) (commands.Answer, error) {
	body, err := json.Marshal(object{"inventory_item_id": tourItem, "location_id": tourShop, "quantity": quantity})
	if err != nil {
		return commands.Answer{}, err
	}
	env := commands.Envelope{Key: key, Actor: "you", Reason: "order", Reference: "order:" + key}
	return t.ledger.Command(ctx, "create-reservations", env, body)
}

// oversell asks for a million, and is refused.
func (t *tour) oversell(ctx context.Context) error {
	t.title("2. An order for more than there is: reserve 1000000 in Paris.")
	_, err := t.reserve(ctx, "demo-tour-oversell", "1000000")
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok || exitCode(err) != exitRefused {
		return fmt.Errorf("the ledger should have refused to oversell: %w", cmp.Or(err, errors.New("it did not")))
	}
	tellRefusal(t.w, false, refusal)
	return nil
}

// retry sends one order twice.
func (t *tour) retry(ctx context.Context) error {
	t.title("3. An order for 2 that arrives twice, because a network lost the answer. One key, one effect:")
	for _, try := range []string{"first ", "second"} {
		answer, err := t.reserve(ctx, "demo-tour-order", "2")
		if err != nil {
			return err
		}
		var made []row
		if err := json.Unmarshal(answer.Result, &made); err != nil || len(made) != 1 {
			return fmt.Errorf("answer to the order: %s", answer.Result)
		}
		t.at = answer.Position
		fmt.Fprintf(t.w, "%s  replayed: %-5t  position: %d  reservation: %s\n", try, answer.Replayed, answer.Position, made[0].text("id"))
	}
	return nil
}

// explain shows the history of the level.
func (t *tour) explain(ctx context.Context) error {
	t.title("4. Why is it that many? Every movement of red mugs in Paris:")
	if err := t.host.ledger.Models().WaitFor(ctx, t.at); err != nil { // the order of the tour is in it
		return err
	}
	question := object{"inventory_item_id": tourItem, "location_id": tourShop}
	a, err := readAccount(ctx, t.ledger, question)
	if err != nil {
		return err
	}
	a.show(t.w, view{columns: questionColumns(question, false), newest: 12})
	return a.verdict()
}

// leave says what to try next.
func (t *tour) leave() {
	t.title("The ledger stays up until ^C. In another terminal, try:")
	sale := fmt.Sprintf(`{"inventory_item_id":"%s","location_id":"%s","adjustment":-1}`, tourItem, tourShop)
	t.try("cmd", "adjust-inventory-levels", sale, "--reason", "sale", "--actor", "you")
	t.try("get", "levels", "inventory_item_id="+tourItem)
	t.try("history", tourItem, tourShop)
	t.try("explain", tourItem, tourShop)
	t.try("as-of", tourItem, "--at", "3 days ago", "--clock", "effective")
	t.try("status")
	fmt.Fprintf(t.w, "  %s\n", shellLine("nats", "--server", t.host.url, "req", "inventory.cmd.adjust-inventory-levels", sale))
}

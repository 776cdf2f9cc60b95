// Package chaos breaks a ledger on purpose, and proves what is left of it. A server
// that runs as a process of its own is killed again and again while many callers
// send it commands from this process. The callers write down what they sent and what
// they were told; the log is then read from its file, by SQL and not by the ledger's
// own code, and compared with that: an acknowledged command is there once, where it
// was said to be and with the answer that was given; every other one is there whole
// or not at all.
//
// book.go is what the callers know, check.go the comparison, load.go the callers,
// server.go the processes, and points.go the moments at which one is killed.
package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/stockledger/stockledger/internal/figures"
)

// Config says what to break, and how often. Program, Dir and Now must be set.
type Config struct {
	// Program is the stockledger program, which is run as server.
	Program string
	// Dir is a directory that is empty or not there yet: the data directory of the
	// ledger goes into it, the journal of the callers, and what the servers write.
	Dir string
	// Rounds is how often the server is killed.
	Rounds int
	// Callers is how many send commands at once, each one after the other.
	Callers int
	// Items is how many items they are about; 0 is 5,000. With fewer of them each has
	// more events, which a server that was started again must read before it can
	// carry out the first command about it.
	Items int
	// Seed draws the commands and the moments. What the processor makes of them
	// differs from run to run all the same.
	Seed uint64
	// Least and Most bound how long a server lives once it serves. Short lives are
	// drawn as often as long ones: the logarithm is even.
	Least, Most time.Duration
	// Points has the server killed at named moments, see [PointNames], in turns,
	// and not at random.
	Points bool
	// Whole is after how many rounds everything is checked from the first event on;
	// 0 is 50. Each round is checked from where the check before it ended.
	Whole int
	// Now is the clock.
	Now func() time.Time
	// Progress hears after every round how many are over; nil is nobody.
	Progress func(done Report)
}

// Run breaks a ledger as often as config says and reports what became of it. What is
// wrong with the ledger is in the report, and ends the run at that round; the error
// is that it could not be tried. The directory is left as it is.
func Run(ctx context.Context, config Config) (report Report, err error) {
	c, err := newCampaign(config)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	began := config.Now()
	err = c.run(ctx)
	report = c.report()
	report.Took = config.Now().Sub(began)
	return report, err
}

// A campaign is one run.
type campaign struct {
	Config
	dice  *rand.Rand
	book  *book
	load  *load
	check *checker

	server   *server // nil: none runs
	round    int
	struck   map[string]int // how often at which point
	restarts []time.Duration
	early    int                                    // kills of servers that did not serve yet
	after    func(context.Context, *campaign) error // looks at what the next server serves
	feed     uint64
}

// The files of a run, in its directory.
const (
	dataDir     = "ledger"
	journalFile = "journal.txt"
	serverLog   = "server.log"
	readyFile   = "ready.json"
)

const (
	defaultWhole = 50
	defaultItems = 5000
)

func newCampaign(config Config) (*campaign, error) {
	config.Whole, config.Items = cmp.Or(config.Whole, defaultWhole), cmp.Or(config.Items, defaultItems)
	if err := os.MkdirAll(config.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("chaos: %w", err)
	}
	if left, err := os.ReadDir(config.Dir); err != nil || len(left) > 0 {
		return nil, errors.Join(err, fmt.Errorf("chaos: there is something in %s; name a directory that is empty or new", config.Dir))
	}
	book, err := newBook(filepath.Join(config.Dir, journalFile), config.Callers+1)
	if err != nil {
		return nil, err
	}
	c := &campaign{
		Config: config, book: book, struck: make(map[string]int),
		dice: rand.New(rand.NewPCG(config.Seed, 1<<32)), //nolint:gosec // G404: faults that can be drawn again
	}
	c.load = newLoad(config, book)
	c.check = newChecker(c.log(), book)
	return c, nil
}

func (c *campaign) close() error {
	var err error
	if c.server != nil {
		err = c.server.kill()
	}
	return errors.Join(err, c.book.close())
}

func (c *campaign) data() string { return filepath.Join(c.Dir, dataDir) }
func (c *campaign) log() string  { return filepath.Join(c.data(), "log.db") }

// run does all rounds, and then looks at everything once more.
func (c *campaign) run(ctx context.Context) error {
	if err := c.furnish(ctx); err != nil {
		return fmt.Errorf("furnish the shop: %w", err)
	}
	for c.round < c.Rounds {
		if err := c.strike(ctx); err != nil && !c.book.failed() {
			return fmt.Errorf("round %d: %w", c.round+1, err)
		}
		c.round++
		if c.Progress != nil {
			c.Progress(c.report())
		}
		if c.book.failed() {
			return nil
		}
	}
	if err := c.conclude(ctx); !c.book.failed() {
		return err
	}
	return nil
}

// furnish has a server that nobody breaks make what the callers need.
func (c *campaign) furnish(ctx context.Context) error {
	if err := c.start(ctx, nil); err != nil {
		return err
	}
	return errors.Join(c.load.open(ctx, c.server.url), c.server.kill())
}

// strike is one round: a server is started on what the one before it left, loaded,
// and killed. What was left is checked while the next commands come in.
func (c *campaign) strike(ctx context.Context) error {
	at := c.point()
	if at.early {
		return c.strikeEarly(ctx, at)
	}
	if err := c.dieEarly(ctx); err != nil {
		return err
	}
	began := c.Now()
	if err := c.start(ctx, at.child(c)); err != nil {
		return errors.Join(err, c.postMortem(ctx, err))
	}
	if c.after != nil {
		if err := c.after(ctx, c); err != nil {
			return err
		}
	}
	cut, err := c.check.cut(ctx)
	if err != nil {
		return err
	}
	if err := c.load.begin(ctx, c.server.url); err != nil {
		return err
	}
	err = c.look(ctx, cut)
	if err == nil {
		err = at.strike(ctx, c)
	}
	first := c.load.end(c.server.dead)
	if err != nil {
		return err
	}
	if c.round > 0 && c.after == nil && !first.IsZero() {
		c.restarts = append(c.restarts, first.Sub(began))
	}
	c.after = at.after
	return c.struckAt(at)
}

// struckAt writes down that a server died as it was to.
func (c *campaign) struckAt(at point) error {
	c.struck[at.name]++
	c.book.killed(c.round, at.name)
	return c.server.reap()
}

// strikeEarly is a round whose server dies before it serves.
func (c *campaign) strikeEarly(ctx context.Context, at point) (err error) {
	if c.server, err = c.launch(at.child(c)); err != nil {
		return err
	}
	if err := awaitDeath(ctx, c); err != nil {
		return err
	}
	return c.struckAt(at)
}

// postMortem looks at a log that no server opens, to say what is wrong with it.
func (c *campaign) postMortem(ctx context.Context, why error) error {
	if !errors.Is(why, errDied) {
		return nil
	}
	at, err := c.check.cut(ctx)
	if err != nil {
		return err
	}
	return c.check.advance(ctx, at)
}

// look checks what the servers before this one left behind.
func (c *campaign) look(ctx context.Context, at cut) error {
	if err := c.check.advance(ctx, at); err != nil {
		return err
	}
	if c.round == 0 || c.round%c.Whole != 0 {
		return nil
	}
	return c.check.whole(ctx)
}

// earlyEvery is how seldom a server is killed before it serves.
const earlyEvery = 8

// dieEarly starts a server now and then that is killed before it serves, while it
// reads what the one before it left.
func (c *campaign) dieEarly(ctx context.Context) error {
	if c.Points || c.round == 0 || c.dice.IntN(earlyEvery) > 0 {
		return nil
	}
	s, err := c.launch(nil)
	if err != nil {
		return err
	}
	lives := time.Duration(c.dice.Int64N(int64(max(figures.Median(c.restarts), 100*time.Millisecond))))
	_ = pause(ctx, lives, s.dead)
	c.early++
	return s.kill()
}

// start starts a server and waits until it serves.
func (c *campaign) start(ctx context.Context, child []string) error {
	s, err := c.launch(child)
	if err != nil {
		return err
	}
	c.server = s
	if err = s.ready(ctx); errors.Is(err, errDied) {
		c.book.wrongly("start", "the ledger does not open what the server before it left: %s", s.said())
	}
	return err
}

// life draws how long a server lives.
func (c *campaign) life() time.Duration {
	least, most := math.Log(float64(c.Least)), math.Log(float64(c.Most))
	return time.Duration(math.Exp(least + (most-least)*c.dice.Float64()))
}

// conclude has every command answered that was not given up, and then checks
// everything: the log from its first event, the read models, and the feed.
func (c *campaign) conclude(ctx context.Context) error {
	if err := c.start(ctx, nil); err != nil {
		return errors.Join(err, c.postMortem(ctx, err))
	}
	if c.after != nil {
		if err := c.after(ctx, c); err != nil {
			return err
		}
	}
	if err := c.load.drain(ctx, c.server.url); err != nil {
		return err
	}
	end, err := c.check.cut(ctx)
	if err != nil {
		return err
	}
	if err := c.check.advance(ctx, end); err != nil {
		return err
	}
	c.book.settled()
	if err := c.check.whole(ctx); err != nil {
		return err
	}
	if c.feed, err = c.checkFeed(ctx, end.through); err != nil {
		return err
	}
	if err := c.server.kill(); err != nil {
		return err
	}
	return c.verify(ctx)
}

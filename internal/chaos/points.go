package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/projections"
)

// A point is a moment at which a server dies.
type point struct {
	name string
	// early is that the server dies before it serves.
	early bool
	// child are the arguments of a server that kills itself, nil that of one that is
	// killed from outside.
	child func(c *campaign) []string
	// strike returns once the server is dead.
	strike func(ctx context.Context, c *campaign) error
	// after looks at what the next server serves; nil is not at all.
	after func(ctx context.Context, c *campaign) error
}

// atRandom is a moment that nobody chose.
var atRandom = point{
	name: "at random", child: itself,
	strike: func(ctx context.Context, c *campaign) error {
		if err := pause(ctx, c.life(), c.server.dead); err != nil {
			return err
		}
		return c.server.kill()
	},
}

func itself(*campaign) []string { return nil }

// points are the moments that have a name, in the order of a command's life, and
// then those of the files beside the log.
func points() []point {
	return []point{
		{name: "before the write", child: dies("write", "log.db-wal", 400), strike: awaitDeath},
		{name: "after the write, before fsync", child: dies("sync", "log.db-wal", 100), strike: awaitDeath},
		{name: "after fsync, before the answer", child: dies("synced", "log.db-wal", 100), strike: awaitDeath},
		{name: "after the answer, before the feed", child: holdsFeed, strike: killUnpublished, after: checkFeedAfter},
		{name: "while the write-ahead log moves to the file", early: true, child: diesEarly("write", "log.db", 20)},
		{name: "during a snapshot", child: itself, strike: killAt("snapshots.db*", nil)},
		{name: "during a rebuild", child: itself, strike: killAt(filepath.Join("models", "*.db"), rebuild), after: verifyServed},
		{name: "during a switch", child: itself, strike: killAt(filepath.Join("models", "generations.json*"), switchAround), after: verifyServed},
		{name: "during a backup", child: itself, strike: killAt(filepath.Join("..", backups, "*"), backup), after: backupAgain},
	}
}

// PointNames are the moments at which a server is killed with [Config.Points].
func PointNames() (names []string) {
	for _, p := range points() {
		names = append(names, p.name)
	}
	return names
}

// point is the moment of this round.
func (c *campaign) point() point {
	if !c.Points {
		return atRandom
	}
	all := points()
	return all[c.round%len(all)]
}

// The arguments that a server understands which is to die by itself. The program
// has them in a subcommand of its own, so that no ledger that serves obeys them.
const (
	ChildCommand = "chaos-child"
	ChildDie     = "--die"    // at which kind of operation, see package diskfault
	ChildFile    = "--file"   // on the file of that name
	ChildNumber  = "--number" // the how many-th of them
	ChildEarly   = "--early"  // counted from the beginning, and not once it serves
	ChildHold    = "--hold"   // how many more events are seen by nobody but the log
)

func childArgs(more ...string) []string {
	return append([]string{ChildCommand, "--nats-listen", "127.0.0.1:0"}, more...)
}

// dies is a server that kills itself at one of the first operations of a kind on a
// file, under load.
func dies(kind, file string, among int) func(*campaign) []string {
	return func(c *campaign) []string {
		return childArgs(ChildDie, kind, ChildFile, file, ChildNumber, strconv.Itoa(1+c.dice.IntN(among)))
	}
}

// diesEarly is one that does so while it starts.
func diesEarly(kind, file string, among int) func(*campaign) []string {
	return func(c *campaign) []string { return append(dies(kind, file, among)(c), ChildEarly) }
}

// strikeWithin is how long a server may take to come to the point.
const strikeWithin = time.Minute

// awaitDeath waits until the server has killed itself.
func awaitDeath(ctx context.Context, c *campaign) error {
	err := pause(ctx, strikeWithin, c.server.dead)
	if errors.Is(err, errDied) {
		return nil
	}
	return errors.Join(err, errors.New("the server did not come to the point at which it was to die"))
}

// unseen is after how many events a server holds back what it records from all who
// follow the log.
const unseen = 200

func holdsFeed(*campaign) []string { return childArgs(ChildHold, strconv.Itoa(unseen)) }

// killUnpublished kills the server when it has acknowledged what is not in the feed.
func killUnpublished(ctx context.Context, c *campaign) error {
	last := c.check.trail.at + unseen // it served nobody before it was looked at
	deadline := c.Now().Add(strikeWithin)
	for c.book.highest() <= last {
		if err := pause(ctx, lookEvery, c.server.dead); err != nil {
			return err
		}
		if c.Now().After(deadline) {
			return errors.New("nothing was acknowledged that is not in the feed")
		}
	}
	published, err := feedEnd(ctx, c.server.url)
	if err != nil {
		return err
	}
	if published > last {
		return fmt.Errorf("the feed has %d events, and was to be held back at %d", published, last)
	}
	return c.server.kill()
}

func checkFeedAfter(ctx context.Context, c *campaign) error {
	head, err := c.check.head(ctx)
	if err != nil {
		return err
	}
	_, err = c.checkFeed(ctx, head)
	return err
}

// killAt kills the server a moment after one of some files in the data directory has
// changed, while something is done that changes them; nil is the load.
func killAt(files string, do func(ctx context.Context, c *campaign, at *natsapi.Client) error) func(context.Context, *campaign) error {
	return func(ctx context.Context, c *campaign) error {
		ctx, cancel := context.WithTimeout(ctx, strikeWithin)
		defer cancel()
		client, err := natsapi.Dial(c.server.url)
		if err != nil {
			return err
		}
		defer client.Close()
		did := make(chan error, 1)
		before := stamps(filepath.Join(c.data(), files))
		go func() {
			if do == nil {
				did <- nil
				return
			}
			did <- do(ctx, c, client)
		}()
		for over := false; !over; {
			over = changed(before, stamps(filepath.Join(c.data(), files)))
			select {
			case err := <-did:
				if err != nil {
					return err
				}
			default:
			}
			if err := pause(ctx, lookEvery/5, c.server.dead); err != nil {
				return fmt.Errorf("%s did not change: %w", files, err)
			}
		}
		_ = pause(ctx, time.Duration(c.dice.Int64N(int64(30*time.Millisecond))), nil)
		err = c.server.kill()
		cancel() // and what was being done is not waited for
		return err
	}
}

// A stamp tells one state of a file from another.
type stamp struct {
	size    int64
	changed time.Time
}

func stamps(pattern string) map[string]stamp {
	all := make(map[string]stamp)
	names, _ := filepath.Glob(pattern) // the pattern is ours
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			all[name] = stamp{info.Size(), info.ModTime()}
		}
	}
	return all
}

// changed reports whether there is a file that was not there, or whether one was
// replaced or written in one go. A file that is written all the time says nothing.
func changed(before, after map[string]stamp) bool {
	for name, now := range after {
		if was, there := before[name]; !there || was != now && filepath.Ext(name) != ".db" {
			return true
		}
	}
	return false
}

func operate[T any](ctx context.Context, at *natsapi.Client, name string, params any) (answer T, err error) {
	body, err := json.Marshal(params)
	if err != nil {
		return answer, err
	}
	document, err := at.Operate(ctx, name, body)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(document, &answer)
}

// job carries out an operation that takes long, to its end.
func job[T any](ctx context.Context, at *natsapi.Client, name string, params any) (result T, err error) {
	now, err := operate[operations.Job[json.RawMessage]](ctx, at, name, params)
	for err == nil && !now.Done {
		now, err = operate[operations.Job[json.RawMessage]](ctx, at, "job", operations.ID{Job: now.Job, Wait: 1})
	}
	switch {
	case err != nil:
		return result, err
	case now.Error != nil:
		return result, now.Error.Error()
	}
	return result, json.Unmarshal(now.Result, &result)
}

// ended forgives that the server is dead: that is what everything here waits for.
func ended(err error) error {
	if err != nil && fault.Of(err).Kind == fault.Unavailable {
		return nil
	}
	return err
}

// rebuild builds the read models anew.
func rebuild(ctx context.Context, _ *campaign, at *natsapi.Client) error {
	if err := built(ctx, at); err != nil {
		return ended(err)
	}
	_, err := operate[operations.Generations](ctx, at, "rebuild-models", operations.Some{})
	return ended(err)
}

// built waits until no generation is being built.
func built(ctx context.Context, at *natsapi.Client) error {
	for {
		now, err := operate[operations.Generations](ctx, at, "list-generations", object{})
		if err != nil {
			return err
		}
		building := false
		for _, g := range now.Generations {
			building = building || g.State == projections.Building
		}
		if !building {
			return nil
		}
		if err := pause(ctx, 10*lookEvery, nil); err != nil {
			return err
		}
	}
}

// switchAround builds read models anew, and switches to them and back until the
// server is dead.
func switchAround(ctx context.Context, c *campaign, at *natsapi.Client) error {
	if err := rebuild(ctx, c, at); err != nil {
		return err
	}
	err := built(ctx, at)
	for back := false; err == nil; back = true {
		_, err = operate[operations.Generations](ctx, at, "switch-models", operations.Turn{Back: back})
	}
	return ended(err)
}

// verifyServed has the server compare every row that it serves with the log.
func verifyServed(ctx context.Context, c *campaign) error {
	client, err := natsapi.Dial(c.server.url)
	if err != nil {
		return err
	}
	defer client.Close()
	report, err := job[struct {
		Findings []struct{ Message string }
	}](ctx, client, "verify-ledger", operations.Verification{Rows: namedFindings})
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		c.book.wrongly("verify", "%s", f.Message)
	}
	return nil
}

// backups is where backups are taken to.
const backups = "backups"

func (c *campaign) backupTo(what string) string {
	return filepath.Join(c.Dir, backups, fmt.Sprintf("%d-%s", c.round, what))
}

func backup(ctx context.Context, c *campaign, at *natsapi.Client) error {
	if err := os.MkdirAll(filepath.Join(c.Dir, backups), 0o750); err != nil {
		return err
	}
	_, err := job[json.RawMessage](ctx, at, "backup-ledger", object{"to": c.backupTo("killed")})
	return ended(err)
}

// backupAgain takes a backup, which is proved to be one, beside what is left of one.
func backupAgain(ctx context.Context, c *campaign) error {
	client, err := natsapi.Dial(c.server.url)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := job[json.RawMessage](ctx, client, "backup-ledger", object{"to": c.backupTo("after")}); err != nil {
		return fmt.Errorf("a backup after one that was killed: %w", err)
	}
	return os.RemoveAll(filepath.Join(c.Dir, backups))
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/projections"
)

type demoBug struct {
	Data    string        `placeholder:"DIR" help:"The data directory to make; a temporary one when left out. It is kept either way."`
	Trading time.Duration `default:"3s" placeholder:"DURATION" help:"How long the callers trade before the bug is looked for, and again after the switch."`
	Seed    uint64        `default:"1" placeholder:"N" help:"What the callers do follows from it."`
}

// Help implements kong.HelpProvider.
func (demoBug) Help() string {
	return `A ledger serves a read model that counts wrong: the totals of an item do not give back what a cancelled order had reserved. While 16 callers
write and read, the bug is found, the model is built anew without it, compared row by row, switched to, and switched back. Every step
is checked against the log, and the callers check every answer.

Exit status: 0 everything held; 1 something did not, with the reason.

Example:

    stockledger demo bug`
}

// Run tells the story.
func (c *demoBug) Run(ctx context.Context, s streams, config *settings) (err error) {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	b := &bugStory{c: c, dir: dir, w: s.out, config: config}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, step := range []func(context.Context) error{
		b.trade, b.find, b.alarm, b.deploy, b.rebuild, b.compare, b.turn, b.turnBack, b.check,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.leave()
	return nil
}

// dir is a directory with nothing in it.
func (c *demoBug) dir() (string, error) {
	if c.Data == "" {
		return os.MkdirTemp("", "stockledger-demo-bug-")
	}
	entries, err := os.ReadDir(c.Data)
	if len(entries) > 0 {
		return "", fmt.Errorf("--data %s: there is something in it; the story begins in an empty directory", c.Data)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return c.Data, err
}

// A bugStory is how a wrong read model is found and mended.
type bugStory struct {
	c      *demoBug
	dir    string
	w      io.Writer
	config *settings

	ledger  *stockledger.Ledger
	traffic *traffic
}

// inventoryModel is the read model with the bug.
const inventoryModel = "inventory"

func (b *bugStory) title(text string) { fmt.Fprintf(b.w, "\n%s\n\n", text) }

func (b *bugStory) say(format string, args ...any) { fmt.Fprintf(b.w, format+"\n", args...) }

// open opens the ledger, as the program with the bug does or the one without. What
// it logs the story tells in its own words.
func (b *bugStory) open(ctx context.Context, planted bool) (err error) {
	b.ledger, err = stockledger.Open(ctx, stockledger.Config{
		Dir: b.dir, Logger: slog.New(slog.DiscardHandler), Planted: planted, HoldRebuilt: true,
	})
	return err
}

func (b *bugStory) close() error {
	var err error
	if b.traffic != nil {
		_, err = b.traffic.stop()
	}
	if b.ledger != nil {
		err = errors.Join(err, b.ledger.Close())
		b.ledger = nil
	}
	return err
}

// trade opens the ledger with the bug, and lets the callers loose.
func (b *bugStory) trade(ctx context.Context) error {
	b.title(fmt.Sprintf("1. A shop, and %d callers that sell, reserve, cancel and read. The read model has a bug that nobody knows of.", callers))
	if err := b.open(ctx, true); err != nil {
		return err
	}
	for _, step := range shopHistory(time.Now()) {
		body, err := json.Marshal(step.body)
		if err != nil {
			return err
		}
		if _, err := b.ledger.DoJSON(ctx, step.env, step.name, body); err != nil {
			return fmt.Errorf("%s %s: %w", step.env.Key, step.name, err)
		}
	}
	var err error
	if b.traffic, err = newTraffic(ctx, b.ledger, b.c.Seed); err != nil {
		return err
	}
	b.traffic.start(ctx, b.ledger)
	pauseFor(ctx, b.c.Trading)
	head, err := b.ledger.Events().Head(ctx)
	b.say("%s. The log is at position %d, in %s.", b.traffic.counts(), head, b.dir)
	return err
}

// find verifies the ledger under traffic.
func (b *bugStory) find(ctx context.Context) error {
	b.title("2. verify reads the log, and finds rows that are not what it says:")
	report, err := audit.Verify(ctx, audit.Config{Store: b.ledger.Events(), Models: b.ledger.Models(), Rows: -1})
	if err != nil {
		return err
	}
	spoilt, err := releasedIn(ctx, b.ledger.Events(), report.Position)
	if err != nil {
		return err
	}
	if err := spoilt.are(report.Findings); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for _, f := range report.Findings[:min(3, len(report.Findings))] {
		b.say("wrong: %s", cell(f.Message))
	}
	b.say("… %d values of %d rows at position %d: the totals of %d items, the very ones of which the log has cancelled orders",
		report.Wrong(), report.Rows, report.Position, len(spoilt))
	return nil
}

// alarmWithin is how long the walk over the rows may take to find one.
const alarmWithin = time.Minute

// alarm waits until the walk over the rows has found one that is wrong. A server
// has it going round all the time; here it begins now.
func (b *bugStory) alarm(ctx context.Context) error {
	b.title("3. A server needs nobody to ask: it walks over all rows, slowly, and one that is wrong makes it unhealthy.")
	began := time.Now()
	walker := audit.StartWalker(audit.WalkerConfig{Store: b.ledger.Events(), Models: b.ledger.Models()})
	defer walker.Close()
	for ctx.Err() == nil {
		if drift := walker.State(); drift.First != nil {
			b.say("alarm after %s: %s", time.Since(began).Round(100*time.Millisecond), cell(drift.First.Message))
			return b.isSpoilt(ctx, *drift.First)
		}
		if time.Since(began) > alarmWithin {
			return fmt.Errorf("the walk over the rows found nothing within %s", alarmWithin)
		}
		pauseFor(ctx, 50*time.Millisecond)
	}
	return ctx.Err()
}

// isSpoilt holds one finding against the log.
func (b *bugStory) isSpoilt(ctx context.Context, f audit.Finding) error {
	head, err := b.ledger.Events().Head(ctx)
	if err != nil {
		return err
	}
	spoilt, err := releasedIn(ctx, b.ledger.Events(), head)
	if err != nil {
		return err
	}
	return spoilt.has(f)
}

// deploy opens the ledger as the program without the bug does.
func (b *bugStory) deploy(ctx context.Context) error {
	b.title("4. The fix is deployed: the same ledger, opened by a program that counts right. The callers go on.")
	told, err := b.traffic.stop()
	if err != nil {
		return err
	}
	b.say("until now: %s", told)
	if err := b.ledger.Close(); err != nil {
		return err
	}
	if err := b.open(ctx, false); err != nil {
		return err
	}
	b.traffic.start(ctx, b.ledger)
	b.say("answers still come from what the old program made, while the new one builds another generation by itself:\n")
	return b.untilReady(ctx)
}

// rebuild does by command what happened by itself.
func (b *bugStory) rebuild(ctx context.Context) error {
	b.title("5. rebuild inventory does the same at any time: from the first event on, beside what is served, under full traffic.")
	if _, err := b.ledger.Models().Rebuild(ctx, inventoryModel); err != nil {
		return err
	}
	return b.untilReady(ctx)
}

// rebuiltWithin is how long the next generation of a small shop may take.
const rebuiltWithin = time.Minute

// untilReady shows how far the next generation is until it has caught up.
func (b *bugStory) untilReady(ctx context.Context) error {
	shown := false
	for deadline := time.Now().Add(rebuiltWithin); ; pauseFor(ctx, 20*time.Millisecond) {
		all, err := b.ledger.Models().Generations(ctx)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(g projections.Generation) bool { return g.Model != inventoryModel })
		building := slices.ContainsFunc(all, isBuilding)
		if building && !shown && all[len(all)-1].Rate > 0 {
			shown = true
			if err := b.generations(all); err != nil {
				return err
			}
			b.say("")
		}
		if !building {
			return b.generations(all)
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(ctx.Err(), fmt.Errorf("the next generation has not caught up within %s", rebuiltWithin))
		}
	}
}

func (b *bugStory) generations(all []projections.Generation) error {
	document, err := json.Marshal(operations.Generations{Generations: all})
	if err != nil {
		return err
	}
	return showGenerations(b.w, document, false)
}

// compare shows the difference, and compares it with what the log says it is.
func (b *bugStory) compare(ctx context.Context) error {
	b.title("6. diff compares what is served with what was rebuilt, at one position, before anybody sees it:")
	d, err := b.ledger.Models().Diff(ctx, projections.DiffOptions{Models: []string{inventoryModel}, Rows: -1})
	if err != nil {
		return err
	}
	spoilt, err := releasedIn(ctx, b.ledger.Events(), d.Position)
	if err != nil {
		return err
	}
	if err := spoilt.differ(d); err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	d.Models[0].Rows = d.Models[0].Rows[:min(2, len(d.Models[0].Rows))]
	document, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := showDifference(b.w, document, d); err != nil {
		return err
	}
	b.say("\nThese are exactly the %d rows that the log says are spoilt, by how much it says, each from its first cancelled order on.", len(spoilt))
	return nil
}

// turn switches under traffic.
func (b *bugStory) turn(ctx context.Context) error {
	b.title("7. switch, between two queries, under full traffic. From then on every answer must be right.")
	before := b.traffic.right()
	if err := b.change(ctx, false, true); err != nil {
		return err
	}
	pauseFor(ctx, b.c.Trading)
	right := b.traffic.right() - before
	b.say("since then %d answers: 0 failed, 0 stale, and in all of them the totals are the sum of the levels.", right)
	if err := b.traffic.trouble(); err != nil {
		return err
	}
	if right <= 0 && ctx.Err() == nil {
		return errors.New("nobody has read since the switch")
	}
	return ctx.Err()
}

// change switches to what is ready, or to what was served before, and tells the
// callers whether totals are right then.
func (b *bugStory) change(ctx context.Context, back, right bool) error {
	b.traffic.totalsAreRight(false)
	began := time.Now()
	now, err := b.ledger.Models().Switch(ctx, back, inventoryModel)
	if err != nil {
		return err
	}
	took := time.Since(began)
	b.traffic.totalsAreRight(right)
	i := slices.IndexFunc(now, func(g projections.Generation) bool { return g.State == projections.Serving })
	if i < 0 {
		return errors.New("after the switch no generation is served")
	}
	b.say("generation %d (version %d) is served, at position %d; it took %s", now[i].Number, now[i].Version, now[i].Position, took.Round(10*time.Microsecond))
	return nil
}

// turnBack goes back and forth while nobody writes, so that answers can be compared.
func (b *bugStory) turnBack(ctx context.Context) error {
	b.title("8. switch --back goes to what was served before, and so back and forth. Writers pause, so that all answers can be compared; readers go on.")
	resume := b.traffic.pause()
	defer resume()
	right, err := b.allAnswers(ctx)
	if err != nil {
		return err
	}
	answers := map[bool][]byte{true: right}
	for _, right := range []bool{false, true, false, true} {
		if err := b.change(ctx, true, right); err != nil {
			return err
		}
		now, err := b.allAnswers(ctx)
		if err != nil {
			return err
		}
		if before, seen := answers[right]; seen && !bytes.Equal(before, now) {
			return fmt.Errorf("a generation answers otherwise when it is served again (the right one: %t)", right)
		}
		answers[right] = now
	}
	if bytes.Equal(answers[true], answers[false]) {
		return errors.New("both generations answer the same, and should not")
	}
	b.say("all answers about items, levels and reservations (%d bytes): each generation gives the same, to the byte, whenever it is served.",
		len(answers[true]))
	return b.traffic.trouble()
}

// allAnswers is what is answered about all items, levels and reservations.
func (b *bugStory) allAnswers(ctx context.Context) (all []byte, err error) {
	head, err := b.ledger.Events().Head(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"list-inventory-items", "list-inventory-levels", "list-reservation-items"} {
		question := object{"take": 1000, "after": head}
		if name == "list-inventory-items" {
			question["relations"] = []string{"location_levels", "reservation_items"}
		}
		for more := true; more; {
			answer, err := query(ctx, b.ledger, name, question)
			if err != nil {
				return nil, err
			}
			all = append(all, answer...)
			var page struct {
				Next *string `json:"next"`
			}
			if err := json.Unmarshal(answer, &page); err != nil {
				return nil, err
			}
			question["cursor"], more = page.Next, page.Next != nil
		}
	}
	return all, nil
}

// check verifies what is served in the end.
func (b *bugStory) check(ctx context.Context) error {
	b.title("9. The callers stop, and verify looks at everything once more.")
	told, err := b.traffic.stop()
	if err != nil {
		return err
	}
	report, err := b.ledger.Verify(ctx, nil)
	if err != nil {
		return err
	}
	document, err := json.Marshal(report)
	if err != nil {
		return err
	}
	if !report.OK() {
		return errors.Join(showReport(b.w, document, report), errors.New("verify finds something wrong after the switch"))
	}
	b.say("in all: %s", told)
	b.say("everything is right: %d events of %d streams up to position %d, and %d rows", report.Events, report.Streams, report.Position, report.Rows)
	return nil
}

// leave says where to look further.
func (b *bugStory) leave() {
	fmt.Fprintf(b.w, "\nEverything is on disk in %s; look at it with:\n  %s\n  %s\n  %s\n", b.dir,
		b.config.line("generations", "--data", b.dir), b.config.line("diff", "inventory", "--data", b.dir), b.config.line("serve", "--data", b.dir))
}

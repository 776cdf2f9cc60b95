package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
)

type copyLog struct {
	From string `required:"" placeholder:"URL" help:"The log to copy: sqlite:DIR, which is a data directory, nats://…, or esdb://…, as serve --store has it."`
	To   string `required:"" placeholder:"URL" help:"Where to, likewise. There must be nothing, or an earlier copy of the same log."`
	JSON bool   `help:"Answer in JSON."`
}

// Help implements kong.HelpProvider.
func (copyLog) Help() string {
	return `Moves a ledger to another event store: the same events with the same bytes, positions and hashes, and the same identity. Everything is
checked on the way, and the copy is read again at the end: its head is that of the log copied. Read models stay as they are, for the log is.

Interrupted or killed, it goes on where it ended: run the same command again. Run again when it is done, it copies what was added since.
It is of the log as it was at the start. So stop the ledger, copy, and start it with the new --store; and let only one of the two take
commands from then on, or they become two logs of one name. Start no ledger on the target before the copy is complete.

Exit status: 0 the copy is complete; 1 failed; 2 the target is not the beginning of the source, or one of them is not right; 3 no answer.

Examples:

    stockledger copy-log --from sqlite:/var/lib/stockledger --to 'nats://ledger:secret@n1:4222,n2:4222,n3:4222/main?replicas=3'
    stockledger copy-log --from 'nats://ledger:secret@n1:4222/main' --to sqlite:/mnt/backups/main
    stockledger copy-log --from sqlite:/var/lib/stockledger --to 'esdb://127.0.0.1:2113?tls=false&ledger=main' --json`
}

// Run copies a log.
func (c *copyLog) Run(ctx context.Context, s streams) error {
	from, to, err := c.places()
	if err != nil {
		return err
	}
	bar := newProgress(s.err)
	bar.unit = "events"
	defer bar.end()
	done, err := c.copy(ctx, from, to, bar)
	bar.end()
	if err != nil {
		return c.explained(ctx, err)
	}
	return c.tell(s, from, to, done)
}

// copied is what became of a copy.
type copied struct {
	evidence.Copied
	// SourceHead is where the source ended when the copy was complete.
	SourceHead uint64 `json:"source_position"`
	// SourceInUse is that a node carries out commands on the source.
	SourceInUse bool `json:"source_in_use"`
}

// copy opens both, copies, and reads the copy again.
func (c *copyLog) copy(ctx context.Context, from, to logPlace, bar *progress) (done copied, err error) {
	source, err := from.open(ctx)
	if err != nil {
		return done, fmt.Errorf("--from: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	used, err := inUse(ctx, source)
	if err != nil {
		return done, fmt.Errorf("--from: %w", err)
	}
	tell := paced(bar)
	if done.Copied, err = fill(ctx, source, to, tell); err != nil {
		return done, err
	}
	if err := proved(ctx, to, done.Head, tell); err != nil {
		return done, err
	}
	if err := to.settle(); err != nil {
		return done, fmt.Errorf("--to: %w", err)
	}
	if done.SourceHead, err = source.Head(ctx); err == nil {
		done.SourceInUse, err = used(ctx)
	}
	if err != nil {
		return done, fmt.Errorf("--from: %w", err)
	}
	return done, nil
}

// fill copies into the target, and closes it.
func fill(ctx context.Context, source events.Store, to logPlace, tell evidence.Progress) (done evidence.Copied, err error) {
	target, err := to.make(ctx, source.LogID())
	if err != nil {
		return done, fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	begun := false
	err = alone(ctx, target, func(ctx context.Context) error {
		now, err := evidence.Copy(ctx, source, target, tell)
		if begun { // again, and what there was to begin with counts
			now.Added, now.Found = now.Added+now.Found-done.Found, done.Found
		}
		begun, done = true, now
		return err
	})
	return done, err
}

// proved checks that the target ends at that head and has every event that it was
// taken of. It is opened anew for that, so that what is read comes from where it
// was written to, and not from memory.
func proved(ctx context.Context, to logPlace, head evidence.Head, tell evidence.Progress) (err error) {
	target, err := to.make(ctx, head.Log)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	end, err := target.Head(ctx)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if end > head.Position {
		return fault.New(fault.Conflict, "target_went_on", "the target has %d events already and the copy is of %d: a ledger that is served from it took commands",
			end, head.Position).With("position", head.Position).With("target_position", end)
	}
	err = evidence.Contains(ctx, target, head, func(_ string, done, total uint64) { tell("check", done, total) })
	if err != nil {
		return fmt.Errorf("the copy is not what was copied: %w", err)
	}
	return nil
}

// paced shows how far a copy is, how fast it goes and how long it will take. It is
// told often, and tells the bar now and then.
func paced(bar *progress) evidence.Progress {
	var stage string
	var shown, at uint64
	return func(name string, done, total uint64) {
		if name != stage {
			bar.end()
			bar.begin(name, int(total)) //nolint:gosec // G115: positions stay below 2^63
			stage, shown = name, 0
		}
		if at = done; at-shown >= 100 || at == total {
			bar.add(int(at - shown)) //nolint:gosec // G115: likewise
			shown = at
		}
	}
}

// explained is err with what to do about it.
func (c *copyLog) explained(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("the copy was interrupted; the same command goes on with it")
	case errors.Is(err, events.ErrInUse):
		return fmt.Errorf("%w; stop what has it open first", err)
	}
	return err
}

// tell shows the head that both have.
func (c *copyLog) tell(s streams, from, to logPlace, done copied) error {
	if c.JSON {
		document, err := json.Marshal(done)
		if err != nil {
			return err
		}
		if err := printJSON(s.out, document); err != nil {
			return err
		}
	} else {
		if err := (&showHead{}).show(s, done.Head); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "\n%s\n", done.story(from, to))
	}
	if done.SourceInUse || done.SourceHead > done.Head.Position {
		fmt.Fprintf(s.err, "stockledger: a ledger goes on with the source, which is at position %d now: the copy is as of position %d. Stop it, and run the same command again.\n",
			done.SourceHead, done.Head.Position)
	}
	return nil
}

// story says what was done, in a sentence.
func (d copied) story(from, to logPlace) string {
	added := fmt.Sprintf("%s copied from %s to %s", counted(d.Added, "event"), from.shown(), to.shown())
	if d.Found > 0 {
		added += fmt.Sprintf(", which had %d", d.Found)
	}
	return added + "; every event was read back, and the head of both is this one"
}

// places are the two logs.
func (c *copyLog) places() (from, to logPlace, err error) {
	var wrong []error
	if from, err = placeOf(c.From); err != nil {
		wrong = append(wrong, fmt.Errorf("--from: %w", err))
	}
	if to, err = placeOf(c.To); err != nil {
		wrong = append(wrong, fmt.Errorf("--to: %w", err))
	}
	if len(wrong) == 0 && from.same(to) {
		wrong = append(wrong, errors.New("--from and --to are the same log"))
	}
	return from, to, mistakes("the command", wrong)
}

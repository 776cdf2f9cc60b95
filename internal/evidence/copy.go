package evidence

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

const (
	// copyEvents is how many events are appended at once, or as soon as a commit
	// ends after them: a store waits for its disk, or its followers, once for all.
	copyEvents = 1000
	// copyBytes ends such a group sooner, so that a copy needs little memory also
	// where events carry the answers of large commands.
	copyBytes = 8 << 20
)

// Copied says what a copy has done.
type Copied struct {
	// Head is that of the log copied from, as it was when the copy began.
	Head Head `json:"head"`
	// Found is how many events the target had already, Added how many it was given.
	Found uint64 `json:"found"`
	Added uint64 `json:"added"`
}

// Copy adds to a log what another one has and it has not, whole commits at a time,
// up to the head of the other as it is now. Both must be the same log, and what
// the target has must be the beginning of the source: all of it is compared, and
// nothing is added to a target that differs. So a copy that was interrupted goes
// on where it ended, and one that is complete adds nothing.
//
// What is read is checked: positions, the parts of commits, each event's bytes and
// the chain of its stream. Positions, bytes and hashes in the target are those of
// the source. It is for the caller to read the target again, see [Contains].
//
// Nobody else may append to the target meanwhile: the copy ends with
// [events.ErrConflict] then, and has not written behind what it did not know. An
// error of kind Conflict says in which way the logs differ, or what is wrong with
// the source.
func Copy(ctx context.Context, from, to events.Store, progress Progress) (Copied, error) {
	if from.LogID() != to.LogID() {
		return Copied{}, fault.New(fault.Conflict, "target_is_another_log",
			"the target is log %s, and the source is log %s: name a target that is empty, or one that holds this log", to.LogID(), from.LogID())
	}
	last, err := wholeHead(ctx, from)
	if err != nil {
		return Copied{}, fmt.Errorf("source: %w", err)
	}
	found, err := wholeHead(ctx, to)
	if err != nil {
		return Copied{}, fmt.Errorf("target: %w", err)
	}
	if found > last {
		return Copied{}, fault.New(fault.Conflict, "target_is_ahead",
			"the target has %d events, and the source has only %d: the target went on by itself, or this is the wrong way round", found, last).
			With("source_position", last).With("target_position", found)
	}
	c := copier{from: from, to: to, chain: chain{log: from.LogID()}, streams: make(map[string]end), progress: progress}
	if err := c.compare(ctx, found); err != nil {
		return Copied{Found: found}, err
	}
	if err := c.add(ctx, found, last); err != nil {
		return Copied{Found: found}, err
	}
	head, err := c.chain.head()
	return Copied{Head: head, Found: found, Added: last - found}, err
}

// settleWithin is how long the rest of a commit may take to be seen, and settleEvery
// how often it is looked for.
const (
	settleWithin = 2 * time.Second
	settleEvery  = 20 * time.Millisecond
)

// wholeHead is the end of the last commit of the log. A store on servers can be asked
// while these are at it, and then the head is in the middle of a commit for a moment.
func wholeHead(ctx context.Context, store events.Store) (uint64, error) {
	head, err := store.Head(ctx)
	if err != nil || head == 0 {
		return head, err
	}
	var meta events.Meta
	err = walk(ctx, store, head-1, head, func(e events.Recorded) (err error) {
		meta, err = e.Origin()
		return err
	})
	if err != nil || meta.Last() || meta.Part > meta.Parts {
		return head, err // what is wrong with it is told when it is copied
	}
	whole := head + uint64(meta.Parts-meta.Part) //nolint:gosec // G115: a count
	within, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	again := time.NewTicker(settleEvery)
	defer again.Stop()
	for {
		if now, err := store.Head(ctx); err != nil || now >= whole {
			return whole, err
		}
		select {
		case <-again.C:
		case <-within.Done():
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, damaged(head, "the log ends there, in the middle of command %q", meta.CommandID)
		}
	}
}

// A copier reads the source from its beginning, and believes nothing of it.
type copier struct {
	from, to events.Store
	progress Progress

	chain   chain          // of the source, as far as it was read
	streams map[string]end // of the source, by name

	commit  events.Commit // as far as it was read
	first   events.Meta   // of its first event
	commits []events.Commit
	events  int // of commits
	bytes   int
}

// compare checks that the target, which ends there, is the beginning of the source.
func (c *copier) compare(ctx context.Context, through uint64) error {
	next, stop := iter.Pull2(each(ctx, c.to, 0, through))
	defer stop()
	for e, err := range each(ctx, c.from, 0, through) {
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		copied, err, ok := next()
		switch {
		case err != nil:
			return fmt.Errorf("target: %w", err)
		case !ok:
			return fmt.Errorf("target: it ends before position %d", e.Position)
		case copied.Hash != e.Hash:
			return fault.New(fault.Conflict, "target_differs",
				"the target is no copy of the source: at position %d it has %s@%d, recorded as %s, and the source %s@%d, recorded as %s",
				e.Position, copied.Stream, copied.Version, copied.Hash, e.Stream, e.Version, e.Hash).With("position", e.Position)
		}
		if err := c.take(e); err != nil {
			return fmt.Errorf("source: %w", err)
		}
		c.commits, c.events, c.bytes = nil, 0, 0 // the target has them
		if e.Position%copyEvents == 0 || e.Position == through {
			c.tell("compare", e.Position, through)
		}
	}
	if len(c.commit) > 0 {
		return damaged(through, "the target ends there, in the middle of command %q", c.first.CommandID)
	}
	return ctx.Err()
}

// add appends to the target what the source has after the one position and up to
// the other.
func (c *copier) add(ctx context.Context, after, through uint64) error {
	for e, err := range each(ctx, c.from, after, through) {
		if err == nil {
			err = c.take(e)
		}
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if len(c.commit) > 0 || e.Position != through && c.events < copyEvents && c.bytes < copyBytes {
			continue
		}
		if err := c.append(ctx, e.Position); err != nil {
			return err
		}
		c.tell("copy", e.Position-after, through-after)
	}
	if len(c.commit) > 0 {
		return fmt.Errorf("source: %w", damaged(through, "the log ends there, in the middle of command %q", c.first.CommandID))
	}
	return ctx.Err()
}

// take checks that the event follows in its stream and in its commit, and keeps it
// to be appended once the commit is complete.
func (c *copier) take(e events.Recorded) error {
	before := c.streams[e.Stream]
	if err := e.Verify(events.Recorded{Version: before.version, Hash: before.hash}); err != nil {
		return damaged(e.Position, "%s", err)
	}
	meta, err := e.Origin()
	if err != nil {
		return damaged(e.Position, "%s", err)
	}
	if len(c.commit) == 0 {
		c.first = meta
	}
	if err := isPart(meta, c.first, len(c.commit)+1); err != nil {
		return damaged(e.Position, "%s@%d: %s", e.Stream, e.Version, err)
	}
	c.streams[e.Stream] = end{e.Version, e.Hash}
	c.chain.add(e)
	c.commit = append(c.commit, e)
	c.bytes += len(e.Data) + len(e.Meta)
	if meta.Last() {
		c.commits, c.events = append(c.commits, c.commit), c.events+len(c.commit)
		c.commit = nil
	}
	return nil
}

// append gives the target the commits read, of which the last one ends at a
// position.
func (c *copier) append(ctx context.Context, through uint64) error {
	behind := through - uint64(c.events) //nolint:gosec // G115: a count
	positions, err := c.to.AppendAt(ctx, behind, c.commits...)
	switch {
	case errors.Is(err, events.ErrConflict):
		return fmt.Errorf("append to the target behind position %d: %w: another copy, or a ledger, writes to it; stop that, and copy again", behind, err)
	case err != nil:
		return fmt.Errorf("append to the target behind position %d: %w", behind, err)
	case len(positions) != len(c.commits) || positions[len(positions)-1] != through:
		return fmt.Errorf("append to the target behind position %d: it says %v, and the last event should be at %d", behind, positions, through)
	}
	c.commits, c.events, c.bytes = nil, 0, 0
	return nil
}

func (c *copier) tell(stage string, done, total uint64) {
	if c.progress != nil {
		c.progress(stage, done, total)
	}
}

// Package evidence lets somebody who trusts neither the ledger nor its operator
// check what the ledger says happened.
//
// A [Head] is a fingerprint of the whole log up to a position. Once it has been
// published, or signed and given away, no event up to there can be changed,
// dropped, moved or cut off without it showing. An export is the whole log as
// text, with every stored byte; cmd/chaincheck checks one without any code of
// the ledger. docs/evidence.md describes both well enough to write another
// checker.
package evidence

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// A Head says what the log was up to a position. It is a function of the log
// alone: whoever has the same events computes the same head.
type Head struct {
	// Log is the identity of the log, Position that of its last event; 0 is an
	// empty log.
	Log      string `json:"log"`
	Position uint64 `json:"position"`
	// Digest is D of that position, in hexadecimal, where D of 0 is 32 zero bytes and
	// D of n the SHA-256 of D of n-1 followed by the hash of the event at n.
	Digest string `json:"digest"`
	// At is when the event at the position was recorded, on the ledger's clock;
	// zero in an empty log.
	At time.Time `json:"at,omitzero"`
	// Key is the public key of who signed, Signature the signature; both in
	// base64, and empty in a head that nobody signed.
	Key       string `json:"key,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// Progress hears how far long work is, often and from one goroutine. It may be
// nil.
type Progress func(stage string, done, total uint64)

// events says how many events are done.
func (p Progress) events(done, total uint64) {
	if p != nil {
		p("events", done, total)
	}
}

// HeadOf is the head of the log as it is now. Every event it passes is checked to
// be at its place and to match its hash; the chains of streams are not, for which
// see [Export] and cmd/chaincheck.
//
// It goes on from the state in the file saved, and leaves the new one there, so
// that only what was added since is read. The file may be "", absent or damaged,
// and is not believed unless the log has the event it ends with; one that cannot
// be written is done without.
func HeadOf(ctx context.Context, store events.Store, saved string, progress Progress) (Head, error) {
	end, err := store.Head(ctx)
	if err != nil {
		return Head{}, err
	}
	c := resume(ctx, store, saved, end)
	from := c.position
	err = walk(ctx, store, from, end, func(e events.Recorded) error {
		c.add(e)
		progress.events(e.Position, end)
		return nil
	})
	if err != nil {
		return Head{}, err
	}
	if c.position > from {
		c.save(saved)
	}
	return c.head()
}

// Contains checks that the log still has every event that known was taken of. It
// reads the log from its beginning and believes no saved state. Its error is a
// [fault.Error] of kind Conflict that says in which way the log differs.
func Contains(ctx context.Context, store events.Store, known Head, progress Progress) error {
	if known.Log != store.LogID() {
		return fault.New(fault.Conflict, "head_of_other_log",
			"this head is of log %s, and this is log %s", known.Log, store.LogID())
	}
	end, err := store.Head(ctx)
	if err != nil {
		return err
	}
	if end < known.Position {
		return fault.New(fault.Conflict, "log_cut_short",
			"the log ends at position %d, and when this head was taken it reached position %d: its end was cut off",
			end, known.Position).With("position", end).With("head_position", known.Position)
	}
	c := chain{log: known.Log}
	err = walk(ctx, store, 0, known.Position, func(e events.Recorded) error {
		c.add(e)
		progress.events(e.Position, known.Position)
		return nil
	})
	if err != nil {
		return err
	}
	now, err := c.head()
	if err != nil {
		return err
	}
	return now.same(known)
}

// same checks that a head that was computed is the one that was known.
func (h Head) same(known Head) error {
	switch {
	case h.Digest != known.Digest:
		return fault.New(fault.Conflict, "log_changed",
			"the log is not the one this head was taken of: the digest of position %d is %s, and was %s; an event up to there was changed",
			h.Position, h.Digest, known.Digest).With("position", h.Position)
	case !h.At.Equal(known.At):
		return fault.New(fault.Conflict, "head_differs",
			"the event at position %d was recorded at %s, and the head says %s",
			h.Position, h.At.Format(time.RFC3339Nano), known.At.Format(time.RFC3339Nano)).With("position", h.Position)
	}
	return nil
}

// A chain is the digest of a log up to a position.
type chain struct {
	log      string
	position uint64
	digest   events.Hash
	last     events.Recorded // the event at position
}

func (c *chain) add(e events.Recorded) {
	c.digest = sha256.Sum256(append(c.digest[:], e.Hash[:]...))
	c.position, c.last = e.Position, e
}

func (c *chain) head() (Head, error) {
	h := Head{Log: c.log, Position: c.position, Digest: c.digest.String()}
	if c.position == 0 {
		return h, nil
	}
	meta, err := c.last.Metadata()
	h.At = meta.Recorded
	return h, err
}

// walk gives every event after a position through another to do, once it is known
// to be at its place and to match its hash. The log must reach that far.
func walk(ctx context.Context, store events.Store, after, through uint64, do func(events.Recorded) error) error {
	for e, err := range each(ctx, store, after, through) {
		if err != nil {
			return err
		}
		if err := do(e); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// each yields every event after a position through another, once it is known to be
// at its place and to match its hash. The log must reach that far. An error is
// yielded last.
func each(ctx context.Context, store events.Store, after, through uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		if after >= through {
			return
		}
		for batch, err := range store.Subscribe(ctx, after) {
			if err != nil {
				yield(events.Recorded{}, fmt.Errorf("read the log after position %d: %w", after, err))
				return
			}
			for _, e := range batch {
				if e.Position != after+1 {
					yield(e, damaged(after+1, "the event that is there says position %d", e.Position))
					return
				}
				if e.Hash != e.Link() {
					yield(e, damaged(e.Position, "the bytes of %s@%d do not match its hash", e.Stream, e.Version))
					return
				}
				after = e.Position
				if !yield(e, nil) || after == through {
					return
				}
			}
		}
	}
}

// damaged says that the log itself is wrong at a position.
func damaged(position uint64, why string, args ...any) error {
	return fault.New(fault.Conflict, "log_damaged", "the log is damaged at position %d: %s; `stockledger verify` says more",
		position, fmt.Sprintf(why, args...)).With("position", position)
}

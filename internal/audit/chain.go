package audit

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/stockledger/stockledger/events"
)

// A link is the last event of a stream so far; the zero link is before the first one.
type link struct {
	version uint64
	hash    uint64 // digest of its hash
}

func (s seeds) link(e *events.Recorded) link { return link{e.Version, s.hash(e.Hash)} }

func (s seeds) hash(h events.Hash) uint64 { return maphash.Bytes(s.a, h[:]) }

// broken says why an event does not follow the one before it in its stream, or is
// not what was recorded; "" when it is and does. The own hash of the event is handed
// in, as to compute it is most of the work.
func (s seeds) broken(e *events.Recorded, own events.Hash, before link) string {
	if before.version == 0 {
		before.hash = s.hash(events.Hash{})
	}
	switch {
	case e.Version != before.version+1:
		return fmt.Sprintf("version %d of %s follows version %d", e.Version, e.Stream, before.version)
	case s.hash(e.Prev) != before.hash:
		return fmt.Sprintf("version %d of %s does not continue the chain of version %d", e.Version, e.Stream, before.version)
	case e.Hash != own:
		return fmt.Sprintf("the bytes of version %d of %s do not match their hash", e.Version, e.Stream)
	}
	return ""
}

// mostLinks is how many streams a walker remembers the last event of: some 15 MB. Of
// the others it reads that event again.
const mostLinks = 200_000

// examine checks the events of a part of the log, one by one and as links of the
// chains of their streams.
func (w *Walker) examine(ctx context.Context, entries []*entry) error {
	for _, e := range entries {
		before, err := w.before(ctx, e)
		if err != nil {
			return err
		}
		bad, err := w.examineOne(ctx, e, before)
		if err != nil {
			return err
		}
		if _, known := w.damaged[e.Position]; known && !bad {
			if err := w.acquit(ctx, e); err != nil {
				return err
			}
		}
		if len(w.links) == mostLinks {
			clear(w.links)
		}
		w.links[w.seeds.key(e.Stream)] = w.seeds.link(&e.Recorded)
	}
	return nil
}

// before is the event before another one in its stream.
func (w *Walker) before(ctx context.Context, e *entry) (link, error) {
	if at, known := w.links[w.seeds.key(e.Stream)]; known || e.Version <= 1 {
		return at, nil
	}
	for recorded, err := range w.cfg.Store.Read(ctx, e.Stream, e.Version-2) {
		return w.seeds.link(&recorded), err
	}
	return link{}, nil
}

// examineOne reports whether an event is damaged, and raises the alarm when it is so
// twice: as it came, and as it is read again. If it is right then, that is what is
// left of it.
func (w *Walker) examineOne(ctx context.Context, e *entry, before link) (bad bool, err error) {
	f, bad := w.damage(e, before)
	if !bad {
		return false, nil
	}
	stored, again := w.stored(ctx, e)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case stored == nil: // which is no better
	case again == nil:
		*e = *stored
		return false, nil
	default:
		f = *again
	}
	w.accuse(f)
	return true, nil
}

// damage says what is wrong with an event itself.
func (w *Walker) damage(e *entry, before link) (f Finding, bad bool) {
	f = e.place()
	own := e.Link()
	if wrong := w.seeds.broken(&e.Recorded, own, before); wrong != "" {
		f.Check, f.Message = "chain", fmt.Sprintf("event %d: %s", e.Position, wrong)
		if e.Hash != own {
			f.Expected, f.Served = new(own.String()), new(e.Hash.String())
		}
		return f, true
	}
	if err := errors.Join(e.factErr, e.metaErr); err != nil {
		f.Check, f.Message = "facts", fmt.Sprintf("event %d cannot be read: %v", e.Position, err)
		return f, true
	}
	return f, false
}

// stored is an event as it is on the disk, whatever the store still has of it in
// memory, and what is wrong with it; nil when it cannot be found there.
func (w *Walker) stored(ctx context.Context, e *entry) (*entry, *Finding) {
	var before link
	for recorded, err := range w.cfg.Store.Read(ctx, e.Stream, max(e.Version, 2)-2) {
		if err != nil {
			return nil, nil
		}
		if recorded.Position == e.Position {
			again := readEntry(recorded)
			if f, bad := w.damage(again, before); bad {
				return again, &f
			}
			return again, nil
		}
		before = w.seeds.link(&recorded)
	}
	return nil, nil
}

// accuse raises the alarm about an event.
func (w *Walker) accuse(f Finding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.damaged[f.Position]; !known && len(w.damaged) == mostWrong {
		return
	} else if !known && len(w.damaged) < mostDescribed {
		w.cfg.Logger.Error("an event of the log is not what was recorded; stop, keep the directory as it is, and restore the last backup beside it; "+
			"do not rebuild the read models from this log",
			"check", f.Check, "position", f.Position, "stream", f.Stream, "version", f.Version, "finding", f.Message)
	}
	w.damaged[f.Position] = f
	w.count()
}

// acquit ends the alarm about an event that is right as it is on the disk, too. What
// the books have of its stream may be from before.
func (w *Walker) acquit(ctx context.Context, e *entry) error {
	stored, wrong := w.stored(ctx, e)
	if stored == nil || wrong != nil {
		return ctx.Err()
	}
	w.kept.forget()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.damaged, e.Position)
	w.cfg.Logger.Info("an event of the log that was damaged is right again", "position", e.Position, "stream", e.Stream)
	w.count()
	return nil
}

// spare takes out of what differs the rows that cannot be blamed, as nobody knows
// what they should be: those of streams with a damaged event, and, from the first
// such event on, those which say what there is at a place, whatever the stream.
func (w *Walker) spare(differ map[suspect]difference, entries []*entry) {
	if len(w.damaged) == 0 {
		return
	}
	first := ^uint64(0)
	streams := make(map[string]bool)
	for position, f := range w.damaged {
		first, streams[f.Stream] = min(first, position), true
	}
	doubtful := make(map[uint64]bool)
	for _, e := range entries {
		doubtful[e.Position] = streams[e.Stream]
	}
	for s := range differ {
		if doubtful[s.home] || s.sheet.ofPlaces() && s.home >= first {
			delete(differ, s)
		}
	}
}

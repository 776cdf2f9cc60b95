package esdbstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"

	"github.com/stockledger/stockledger/events"
)

const (
	pageEvents   = 256     // read from a stream at once
	pageRecords  = 1000    // read from the journal at once
	pageBytes    = 4 << 20 // after which a page ends early
	searchWindow = 1000    // events of others that the server passes over between two signs of life
	scanned      = 32      // records that are read rather than searched
)

// page is what one call read from a stream.
type page[T any] struct {
	items []T
	ended bool // the stream has no more
}

// whole keeps an event as it came.
func whole(e *esdb.RecordedEvent) (*esdb.RecordedEvent, error) { return e, nil }

// readPage reads up to n events of a stream from a revision on, as the leader
// has them, fewer if they are large or one of them is enough, which may be nil.
// A stream that is not there has none.
func readPage[T any](
	ctx context.Context, s *server, stream string, from, n uint64, enough func(T) bool, convert func(*esdb.RecordedEvent) (T, error),
) (page[T], error) {
	if from > math.MaxInt64 { // no revision of the server's
		return page[T]{ended: true}, nil
	}
	p, err := insist(ctx, s, func(ctx context.Context, c *esdb.Client) (p page[T], err error) {
		r, err := c.ReadStream(ctx, stream, esdb.ReadStreamOptions{Direction: esdb.Forwards, From: esdb.Revision(from)}, n)
		if err != nil {
			return p, err
		}
		defer r.Close()
		for size := 0; size < pageBytes; {
			e, err := r.Recv()
			if errors.Is(err, io.EOF) {
				p.ended = uint64(len(p.items)) < n
				return p, nil
			}
			if err != nil {
				return p, err
			}
			item, err := convert(e.OriginalEvent())
			if err != nil {
				return p, errors.Join(errJournal, err)
			}
			p.items = append(p.items, item)
			size += len(e.OriginalEvent().Data) + len(e.OriginalEvent().UserMetadata)
			if enough != nil && enough(item) {
				break
			}
		}
		return p, nil
	})
	if err != nil && judge(err) == missing {
		return page[T]{ended: true}, nil
	}
	return p, err
}

// readLast is the last event of a stream as the leader has it, nil if there is
// none.
func readLast(ctx context.Context, s *server, stream string) (*esdb.RecordedEvent, error) {
	e, err := insist(ctx, s, func(ctx context.Context, c *esdb.Client) (*esdb.RecordedEvent, error) {
		r, err := c.ReadStream(ctx, stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		e, err := r.Recv()
		if errors.Is(err, io.EOF) {
			return nil, nil //nolint:nilnil // there is none
		}
		if err != nil {
			return nil, err
		}
		return e.OriginalEvent(), nil
	})
	if err != nil && judge(err) == missing {
		return nil, nil //nolint:nilnil // there is none
	}
	return e, err
}

// Read implements [events.Store]. What is not in the stream yet comes from the
// journal.
func (s *Store) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		if err := s.read(ctx, stream, after, func(e events.Recorded) bool { return yield(e, nil) }); err != nil {
			yield(events.Recorded{}, fmt.Errorf("read %s: %w", stream, err))
		}
	}
}

// read gives the events of a stream to each until it has enough.
func (s *Store) read(ctx context.Context, stream string, after uint64, each func(events.Recorded) bool) error {
	if err := s.sync(ctx); err != nil {
		return err
	}
	rest, version, known := s.journal.stream(stream)
	at := after
	for upTo := first(rest) - 1; at < upTo && (!known || at < version); {
		p, err := readPage(ctx, s.server, s.names.stream(stream), at, pageEvents, nil, func(e *esdb.RecordedEvent) (events.Recorded, error) {
			return fromServer(stream, e)
		})
		if err != nil {
			return err
		}
		for _, e := range p.items {
			if e.Version != at+1 {
				return fmt.Errorf("version %d comes where %d follows: was the stream truncated?", e.Version, at+1)
			}
			if at++; !each(e) {
				return nil
			}
		}
		if p.ended {
			break
		}
	}
	for _, e := range rest {
		if e.Version > at+1 {
			return fmt.Errorf("the stream ends at version %d, before version %d: was it truncated?", at, e.Version)
		}
		if e.Version <= at {
			continue
		}
		if at++; !each(e) {
			return nil
		}
	}
	if known && at < version {
		return fmt.Errorf("the stream ends at version %d, before version %d: was it truncated?", at, version)
	}
	return nil
}

// first is the version of the first event, beyond all where there is none.
func first(list []events.Recorded) uint64 {
	if len(list) == 0 {
		return math.MaxUint64
	}
	return list[0].Version
}

// stream is what is known of a stream: the events that may be in the journal
// only, and the version it is at.
func (j *journal) stream(name string) (rest []events.Recorded, version uint64, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rest = j.behind[name]
	version, known = j.versions.get(name)
	return slices.Clip(rest), version, known
}

// Subscribe implements [events.Store]. The newest events come from memory, the
// others from the journal.
func (s *Store) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		if after > s.journal.tail.Head() {
			if err := s.sync(ctx); err != nil {
				yield(nil, fmt.Errorf("subscribe after position %d: %w", after, err))
				return
			}
		}
		s.journal.tail.Subscribe(ctx, after, s.old)(yield)
	}
}

// old reads events of the journal, after a position and up to another.
func (s *Store) old(ctx context.Context, after, through uint64) ([]events.Recorded, error) {
	from, err := s.find(ctx, after+1)
	if err != nil {
		return nil, err
	}
	var list []events.Recorded
	for parts := (partial{}); ; {
		p, err := s.records(ctx, from, min(through-after+scanned, pageRecords), func(r record) bool {
			return r.label.complete() && r.label.First+uint64(r.label.Events) > through //nolint:gosec // G115: a count
		})
		if err != nil {
			return nil, err
		}
		for _, r := range p.items {
			if r.label.Parts == 0 {
				parts = partial{}
			}
			found, err := parts.decode(r)
			if err != nil {
				return nil, err
			}
			if len(found) > 0 {
				s.journal.remember(mark{found[0].Position, r.label.start(r.revision)})
			}
			for _, e := range found {
				if e.Position > after && e.Position <= through {
					list = append(list, e)
				}
			}
			from = r.revision + 1
		}
		if len(list) > 0 {
			return list, nil
		}
		if p.ended {
			return nil, fmt.Errorf("position %d is not in journal %s: %w", after+1, s.names.journal, errJournal)
		}
	}
}

// find is the revision from which to read the journal for a position: at most
// some records before the one that holds it.
func (s *Store) find(ctx context.Context, position uint64) (uint64, error) {
	low, high := s.journal.around(position)
	for turn := 0; high.revision-low.revision > scanned; turn++ {
		half := (high.revision - low.revision) / 2
		if turn%2 == 0 && high.first > low.first { // as if the positions were spread evenly, with some to spare
			share := float64(position-low.first) / float64(high.first-low.first)
			half = uint64(share * float64(high.revision-low.revision))
			half = min(max(half, scanned/2), high.revision-low.revision-scanned/2)
		}
		p, err := s.records(ctx, low.revision+half, 1, nil)
		if err != nil {
			return 0, err
		}
		if len(p.items) == 0 {
			return 0, fmt.Errorf("record %d of journal %s is missing: %w", low.revision+half, s.names.journal, errJournal)
		}
		r := p.items[0]
		m := mark{r.label.First, r.label.start(r.revision)}
		switch {
		case m.first > position:
			high = m
		case m.revision <= low.revision: // one large commit fills the rest
			return low.revision, nil
		default:
			low = m
		}
	}
	return low.revision, nil
}

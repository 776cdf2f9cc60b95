package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/stockledger/stockledger/events"
)

// page is how many events of a stream Read takes at once. No transaction is
// open while its caller looks at them.
const page = 256

// batchBytes ends a batch of the log, so that who is slow to take his batches
// holds little memory however large the events are. 1000 of the usual ones fit.
const batchBytes = 1 << 20

// errFull ends a query whose batch has batchBytes.
var errFull = errors.New("the batch is full")

// reader is a connection that reads, with its statements.
type reader struct {
	*conn
	log, stream, at *stmt
}

func newReader(ctx context.Context, path, vfs string) (*reader, error) {
	// SQLite empties the cache of a reader whenever something was appended, and the
	// driver's memory comes in powers of two, so that 2 MiB take 5.
	c, err := dial(ctx, path, vfs, "busy_timeout = 1000", "query_only = ON", "cache_size = -2048")
	if err != nil {
		return nil, err
	}
	r := &reader{conn: c}
	const columns = "SELECT e.position, e.stream, e.version, e.type, e.data, e.meta, e.prev, e.hash FROM "
	err = c.keep(map[string]**stmt{
		columns + "events e WHERE position > ? AND position <= ? ORDER BY position": &r.log,
		columns + "events e WHERE position = ?":                                     &r.at,
		columns + `places p JOIN events e ON e.position = p.position
			WHERE p.stream = ? AND p.version > ? AND e.stream = ? ORDER BY p.version LIMIT ?`: &r.stream,
	})
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return r, nil
}

// read lends a reader to do, which takes a page: a query once begun is not cut off.
func (s *Store) read(ctx context.Context, do func(context.Context, *reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.done: // before the pool, which Close empties
		return events.ErrClosed
	default:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return events.ErrClosed
	case r := <-s.pool:
		defer func() { s.pool <- r }()
		return do(context.WithoutCancel(ctx), r)
	}
}

// Read implements [events.Store].
func (s *Store) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		if after > math.MaxInt64 {
			return // no stream is that long, and SQLite cannot say it
		}
		for version := after; ; version += page {
			batch, err := s.page(ctx, stream, version)
			if err != nil {
				if ctx.Err() == nil {
					err = fmt.Errorf("read %s after version %d: %w", stream, version, err)
				}
				yield(events.Recorded{}, err)
				return
			}
			for _, e := range batch {
				if !yield(e, nil) {
					return
				}
			}
			if len(batch) < page {
				return
			}
		}
	}
}

// page reads up to a page of a stream: from the index, and then what waits to
// get there. It looks at what waits first, lest it move meanwhile.
func (s *Store) page(ctx context.Context, stream string, after uint64) (batch []events.Recorded, err error) {
	waiting := s.places.of(stream, after)
	err = s.read(ctx, func(ctx context.Context, r *reader) error {
		add := func(v []driver.Value) error {
			e := recorded(v)
			if want := after + 1 + uint64(len(batch)); e.Version != want {
				return fmt.Errorf("version %d is missing", want)
			}
			batch = append(batch, e)
			return nil
		}
		if err := r.stream.query(ctx, add, s.places.key(stream), intOf(after), stream, int64(page)); err != nil {
			return err
		}
		for _, p := range waiting {
			if p.version <= after+uint64(len(batch)) {
				continue
			}
			if len(batch) == page {
				break
			}
			if err := r.at.query(ctx, add, intOf(p.position)); err != nil {
				return err
			}
		}
		return nil
	})
	return batch, err
}

// Subscribe implements [events.Store].
func (s *Store) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return s.tail.Subscribe(ctx, after, func(ctx context.Context, after, through uint64) ([]events.Recorded, error) {
		batch, size := make([]events.Recorded, 0, through-after), 0
		err := s.read(ctx, func(ctx context.Context, r *reader) error {
			return r.log.query(ctx, func(v []driver.Value) error {
				e := recorded(v)
				batch = append(batch, e)
				if size += len(e.Data) + len(e.Meta); size >= batchBytes {
					return errFull
				}
				return nil
			}, intOf(after), intOf(through))
		})
		if err != nil && !errors.Is(err, errFull) {
			return nil, fmt.Errorf("read log %s after position %d: %w", s.path, after, err)
		}
		return batch, nil
	})
}

// recorded is a row of events.
func recorded(v []driver.Value) events.Recorded {
	e := events.Recorded{
		Position: uintOf(v[0]), Stream: textOf(v[1]), Version: uintOf(v[2]), Type: textOf(v[3]),
		Data: blobOf(v[4]), Meta: blobOf(v[5]),
	}
	copy(e.Prev[:], blobOf(v[6]))
	copy(e.Hash[:], blobOf(v[7]))
	return e
}

func textOf(v driver.Value) string {
	s, _ := v.(string)
	return s
}

func blobOf(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

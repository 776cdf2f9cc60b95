package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
)

// ErrClosed is what a store returns once it has been closed.
var ErrClosed = errors.New("store is closed")

// What a Tail keeps: enough that a projection a few hundred milliseconds behind
// a busy log still reads from memory, and little beside a server's memory. It
// keeps it in chunks, which are forgotten as a whole: one array that moves as it
// grows would allocate 900 bytes per event instead of 200.
const (
	tailEvents = 1 << 14
	tailBytes  = 64 << 20 // of facts and metadata

	chunkEvents = 1 << 11
	chunkBytes  = 4 << 20
)

// A chunk is a part of what a Tail keeps.
type chunk struct {
	records []Recorded // no element is ever written again, so batches share them
	bytes   int        // of Data and Meta
}

func (c *chunk) full() bool { return len(c.records) == chunkEvents || c.bytes >= chunkBytes }

// firstRead is how many events a subscription reads from the store at first; it
// reads four times as many each time. So whoever wants one old event, the answer
// of a command that is sent again, does not pay for MaxBatch.
const firstRead = 4

// A Tail keeps the newest events of a log in memory, as they were appended, and
// wakes the subscribers that wait for more. A subscriber near the head gets the
// very records, facts still decoded, and does not touch the store. A store adds
// to its Tail what has become durable, and nothing else.
//
// Its methods may be called from many goroutines at once.
type Tail struct {
	mu      sync.Mutex
	head    uint64        // position of the last event added
	chunks  []chunk       // of the newest
	count   int           // of records in chunks
	bytes   int           // of Data and Meta of those
	changed chan struct{} // closed by the next Add or Close; nil while nobody waits
	closed  bool
}

// NewTail makes the Tail of a log whose last event is at head.
func NewTail(head uint64) *Tail { return &Tail{head: head} }

// Head is the position of the last event added, or what NewTail was given.
func (t *Tail) Head() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.head
}

// Add appends durable events, which have their positions, and wakes who waits
// for them. It panics if they do not follow the head. The caller must not change
// them afterwards.
func (t *Tail) Add(records ...Recorded) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range records {
		if e.Position != t.head+1 {
			panic(fmt.Sprintf("events: position %d added to a tail at %d", e.Position, t.head))
		}
		t.head = e.Position
		t.add(e)
	}
	t.trim()
	t.wake()
}

func (t *Tail) add(e Recorded) {
	if n := len(t.chunks); n == 0 || t.chunks[n-1].full() {
		t.chunks = append(t.chunks, chunk{records: make([]Recorded, 0, chunkEvents)})
	}
	size := len(e.Data) + len(e.Meta)
	last := &t.chunks[len(t.chunks)-1]
	last.records, last.bytes = append(last.records, e), last.bytes+size
	t.count, t.bytes = t.count+1, t.bytes+size
}

// trim forgets the oldest chunks until the others are within the bounds.
func (t *Tail) trim() {
	for t.count > tailEvents || t.bytes > tailBytes {
		t.count, t.bytes = t.count-len(t.chunks[0].records), t.bytes-t.chunks[0].bytes
		t.chunks = slices.Delete(t.chunks, 0, 1)
	}
}

// Close ends every subscription with ErrClosed.
func (t *Tail) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.wake()
}

func (t *Tail) wake() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// Subscribe is [Store.Subscribe] on a Tail. What the Tail no longer holds it
// asks of read, which returns one or more events that follow after, none beyond
// through, which is at most MaxBatch away and durable.
func (t *Tail) Subscribe(
	ctx context.Context, after uint64, read func(ctx context.Context, after, through uint64) ([]Recorded, error),
) iter.Seq2[[]Recorded, error] {
	return func(yield func([]Recorded, error) bool) {
		if head := t.Head(); after > head {
			yield(nil, fmt.Errorf("subscribe after position %d of a log that ends at %d: %w", after, head, ErrOtherLog))
			return
		}
		for at, size := after, uint64(firstRead); ; size = min(4*size, MaxBatch) {
			batch, err := t.next(ctx, at, size, read)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(batch, nil) {
				return
			}
			at = batch[len(batch)-1].Position
		}
	}
}

// next is the batch after a position, once there is one. It reads size events
// at most.
func (t *Tail) next(
	ctx context.Context, after, size uint64, read func(ctx context.Context, after, through uint64) ([]Recorded, error),
) ([]Recorded, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		batch, head, changed, err := t.after(after)
		if err != nil || len(batch) > 0 {
			return batch, err
		}
		if after < head {
			batch, err := read(ctx, after, min(head, after+size))
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err == nil {
				err = follow(after, batch)
			}
			return batch, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// after is what a chunk of the Tail holds of the MaxBatch events after a position,
// the head, and, when there is nothing after it, a channel that closes once there is.
func (t *Tail) after(position uint64) (batch []Recorded, head uint64, changed <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, 0, nil, fmt.Errorf("subscribe after position %d: %w", position, ErrClosed)
	}
	if position == t.head {
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		return nil, t.head, t.changed, nil
	}
	before := t.head - uint64(t.count) //nolint:gosec // G115: not negative; the position before the oldest record held
	if position < before {
		return nil, t.head, nil, nil
	}
	skip := int(position - before) //nolint:gosec // G115: less than count
	for _, c := range t.chunks {
		if skip < len(c.records) {
			batch = c.records[skip:]
			break
		}
		skip -= len(c.records)
	}
	n := min(len(batch), MaxBatch)
	return batch[:n:n], t.head, nil, nil
}

// follow checks that a batch read from a store is one, and follows a position.
func follow(after uint64, batch []Recorded) error {
	for i, e := range batch {
		if want := after + 1 + uint64(i); e.Position != want {
			return fmt.Errorf("subscribe after position %d: read position %d where %d follows", after, e.Position, want)
		}
	}
	if len(batch) == 0 {
		return fmt.Errorf("subscribe after position %d: position %d is missing", after, after+1)
	}
	return nil
}

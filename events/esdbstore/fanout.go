package esdbstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

const (
	batchMax   = 256             // events in one append to a stream
	leftAlone  = time.Second     // after twice that others make up for who appended
	drainWhile = 5 * time.Second // that Close waits for the streams
)

// fanout copies events from the journal to their own streams: many streams at
// once, the events of each in order.
type fanout struct {
	ctx func() context.Context

	mu      sync.Mutex
	queues  map[string][]work // a stream that is being written to has one, maybe empty
	ready   []string          // streams with work that nobody writes to
	workers int
	stopped error
	tasks   sync.WaitGroup
}

// work is one event to copy.
type work struct {
	of    *pending
	event *events.Recorded
}

func (f *fanout) init(ctx context.Context) {
	f.queues = make(map[string][]work)
	f.ctx = func() context.Context { return ctx }
}

// put adds work, in the order of the journal.
func (f *fanout) put(records []*pending, do func(ctx context.Context, stream string, list []work) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range records {
		for i := range p.events {
			stream := p.events[i].Stream
			queue, busy := f.queues[stream]
			f.queues[stream] = append(queue, work{p, &p.events[i]})
			if !busy {
				f.ready = append(f.ready, stream)
			}
		}
	}
	for f.workers < min(abreast, len(f.ready)) {
		f.workers++
		f.tasks.Go(func() { f.work(do) })
	}
}

// work writes to one stream after another, until none is ready.
func (f *fanout) work(do func(ctx context.Context, stream string, list []work) error) {
	for stream, list := f.next(""); list != nil; stream, list = f.next(stream) {
		if err := do(f.ctx(), stream, list); err != nil {
			f.fail(err)
		}
	}
}

// next gives the stream back that was written to, and takes another.
func (f *fanout) next(written string) (stream string, list []work) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if written != "" {
		if len(f.queues[written]) > 0 {
			f.ready = append(f.ready, written)
		} else {
			delete(f.queues, written)
		}
	}
	if len(f.ready) == 0 || f.stopped != nil || f.ctx().Err() != nil {
		f.workers--
		return "", nil
	}
	stream, f.ready = f.ready[0], f.ready[1:]
	list = f.queues[stream]
	f.queues[stream] = nil
	return stream, list
}

func (f *fanout) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped == nil && f.ctx().Err() == nil {
		f.stopped = err
	}
}

// failure is why events do not get to their streams any more.
func (f *fanout) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

func (f *fanout) wait() { f.tasks.Wait() }

// give has all that is pending copied.
func (s *Store) give() {
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	i := len(j.pending)
	for ; i > 0 && !j.pending[i-1].given; i-- {
		j.pending[i-1].given = true
	}
	s.fanout.put(j.pending[i:], s.copyTo)
}

// copyTo appends events, oldest first, to their own stream. It goes on until they
// are there, unless they cannot be. Those that another process copied before this
// one was to are not among them.
func (s *Store) copyTo(ctx context.Context, stream string, list []work) error {
	var pause backoff
	size := batchMax
	for left := list; len(left) > 0; {
		n := s.fits(left, size)
		there, err := s.copySome(ctx, stream, left[:n])
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			s.copied(left[:there])
			left = left[there:]
			pause = backoff{}
		case judge(err) == oversize && n > 1:
			size = n / 2
		case judge(err) != unknown || errors.Is(err, errForeign):
			s.log.Error("an event cannot be copied from the journal to its stream", "stream", s.names.stream(stream), "err", err)
			return fmt.Errorf("copy to %s: %w", s.names.stream(stream), err)
		default:
			s.log.Warn("copying events from the journal to their streams again", "stream", s.names.stream(stream), "err", err)
			pause.wait(ctx.Done())
		}
	}
	return nil
}

// fits is how many of the events, n at most, go into one append: they follow one
// another.
func (s *Store) fits(list []work, n int) int {
	size := 0
	for i, w := range list[:min(n, len(list))] {
		size += bulk(w.event)
		if i > 0 && (size > int(s.limit.Load())-overhead || w.event.Version != list[i-1].event.Version+1) {
			return i
		}
	}
	return min(n, len(list))
}

// errForeign says that a stream has events that are not from the journal.
var errForeign = errors.New("somebody else wrote to the stream, or truncated it")

// copySome appends events to their stream, and returns how many of them are
// there now. They may have been there before, through another process.
func (s *Store) copySome(ctx context.Context, stream string, list []work) (there int, err error) {
	data := make([]esdb.EventData, len(list))
	for i, w := range list {
		data[i] = toServer(s.eventID(w.event), w.event)
	}
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	before := list[0].event.Version - 1
	if before > 0 {
		expected = esdb.Revision(before - 1)
	}
	_, err = insist(ctx, s.copier, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(ctx, s.names.stream(stream), esdb.AppendToStreamOptions{ExpectedRevision: expected}, data...)
	})
	if err == nil || judge(err) != moved {
		return len(list), err
	}
	return s.alreadyThere(ctx, stream, list, err)
}

// alreadyThere counts the events of the list that a stream has, which is at
// another version than expected: some, because who copied them died.
func (s *Store) alreadyThere(ctx context.Context, stream string, list []work, refusal error) (int, error) {
	version, err := s.versionNow(ctx, stream, refusal)
	if err != nil {
		return 0, err
	}
	before := list[0].event.Version - 1
	if version <= before {
		return 0, fmt.Errorf("stream %s is at version %d where %d was expected: %w", stream, version, before, errForeign)
	}
	n := min(version-before, uint64(len(list)))
	last := list[n-1].event
	p, err := readPage(ctx, s.server, s.names.stream(stream), last.Version-1, 1, nil, whole)
	if err != nil {
		return 0, err
	}
	switch {
	case len(p.items) == 0:
		return 0, fmt.Errorf("stream %s is at version %d, and version %d is not there: %w", stream, version, last.Version, errForeign)
	case p.items[0].EventNumber != last.Version-1:
		return 0, fmt.Errorf("stream %s begins at version %d, after version %d: %w", stream, p.items[0].EventNumber+1, last.Version, errForeign)
	case p.items[0].EventID != s.eventID(last):
		return 0, fmt.Errorf("version %d of %s is another event, %s: %w", last.Version, stream, p.items[0].EventID, errForeign)
	}
	return int(n), nil //nolint:gosec // G115: at most len(list)
}

// versionNow is the version of a stream, as a refusal tells it or the server.
func (s *Store) versionNow(ctx context.Context, stream string, refusal error) (uint64, error) {
	if revision, found := revisionIn(refusal); found {
		return uint64(revision + 1), nil //nolint:gosec // G115: -1 at least
	}
	e, err := readLast(ctx, s.server, s.names.stream(stream))
	if err != nil || e == nil {
		return 0, err
	}
	return e.EventNumber + 1, nil
}

// eventID is the id of an event in its own stream: the same whoever copies it,
// and another for any other event.
func (s *Store) eventID(e *events.Recorded) uuid.UUID {
	name := make([]byte, 0, len(e.Stream)+8+len(e.Hash))
	name = append(name, e.Stream...)
	name = binary.BigEndian.AppendUint64(name, e.Version)
	name = append(name, e.Hash[:]...)
	return uuid.NewSHA1(s.space, name)
}

// copied notes that events are in their own streams.
func (s *Store) copied(list []work) {
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, w := range list {
		if w.of.left > 0 { // else it is known through another process
			w.of.left--
			j.lag--
		}
	}
	j.progress()
	j.trim(0)
}

// moving is a channel that closes when more events are known to be in their
// streams, nil when there are no more to come, and how far behind they are.
func (j *journal) moving() (moved <-chan struct{}, lag, bytes int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pending) == 0 {
		return nil, 0, 0
	}
	if j.moved == nil {
		j.moved = make(chan struct{})
	}
	return j.moved, j.lag, j.lagBytes
}

// room waits until the streams are near enough to the journal for it to grow. It
// has patience as long as they get nearer.
func (s *Store) room(ctx context.Context) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		if err := s.fanout.failure(); err != nil {
			return fmt.Errorf("%w: %w", events.ErrStopped, err)
		}
		moved, lag, bytes := s.journal.moving()
		if lag <= lagMax && bytes <= lagBytes {
			return nil
		}
		s.give()
		select {
		case <-moved:
			limit.Reset(patience)
		case <-limit.C:
			return fmt.Errorf("%d events wait to be copied to their streams, which EventStoreDB does not take", lag)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// recover copies all that is pending, and waits until it is there.
func (s *Store) recover(ctx context.Context) error {
	s.give()
	for {
		moved, _, _ := s.journal.moving()
		if err := s.fanout.failure(); err != nil || moved == nil {
			return err
		}
		timer := time.NewTimer(leftAlone) // a failure does not move anything
		select {
		case <-moved:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// settle waits a little until the streams have everything.
func (s *Store) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), drainWhile)
	defer cancel()
	if err := s.recover(ctx); err != nil {
		s.log.Warn("some events are in the journal only, until the ledger is opened again", "err", err)
	}
}

// tend has copied what another process appended, if that does not do it itself.
// And it asks for the end of the journal, for the case that a subscription is
// silent though there is more.
func (s *Store) tend(ctx context.Context) {
	ticker := time.NewTicker(leftAlone)
	defer ticker.Stop()
	oldest := uint64(0)
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := s.sync(ctx); err != nil {
			s.log.Debug("the end of the journal is not known", "err", err)
		}
		if at := s.journal.oldest(); at != 0 && at == oldest {
			s.give()
		} else {
			oldest = at
		}
	}
}

// oldest is the revision of the oldest record that is pending, or 0.
func (j *journal) oldest() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.pending) == 0 {
		return 0
	}
	return j.pending[0].revision
}

package natsstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
)

// What came to the log gets into the tail in two ways: this process knows what it
// appended itself, with its facts, and a consumer of the stream brings what
// others did.

const (
	// lookEvery is how often the head is asked for when nothing comes, in case the
	// consumer is dead and does not say so.
	lookEvery = 2 * time.Second
	// restFor is for how long a process stops listening to itself at least. What
	// others append meanwhile shows as a gap between its own.
	restFor = 500 * time.Millisecond
	// gapEvery is how often it looks for such gaps.
	gapEvery = 20 * time.Millisecond
	// idleConsumer is when the server drops a consumer nobody listens to.
	idleConsumer = 30 * time.Second
	retryFollow  = 200 * time.Millisecond
)

// landing is what this process appended and the tail cannot take yet.
type landing struct {
	mu    sync.Mutex
	ahead map[uint64][]events.Recorded // by the position of the first
	count int                          // events in ahead
}

// land gives the tail events that follow one another and are durable. Those that
// it has are passed over; those for which one is missing wait.
func (s *Store) land(records []events.Recorded) {
	l := &s.landed
	l.mu.Lock()
	defer l.mu.Unlock()
	for records != nil {
		head, first := s.tail.Head(), records[0].Position
		if first > head+1 {
			l.keep(records, s.bounds.ahead)
			return
		}
		if known := head + 1 - first; known < uint64(len(records)) {
			s.tail.Add(records[known:]...)
		}
		records = l.next(s.tail.Head())
	}
}

// keep keeps events for which one is missing.
func (l *landing) keep(records []events.Recorded, limit int) {
	first := records[0].Position
	if l.count+len(records) > limit || l.ahead[first] != nil {
		return
	}
	if l.ahead == nil {
		l.ahead = make(map[uint64][]events.Recorded)
	}
	l.ahead[first] = records
	l.count += len(records)
}

// next takes some of the events kept that none before is missing for any more.
func (l *landing) next(head uint64) []events.Recorded {
	for first, records := range l.ahead {
		if first <= head+1 {
			delete(l.ahead, first)
			l.count -= len(records)
			return records
		}
	}
	return nil
}

// gap reports whether events wait for one that is missing.
func (l *landing) gap() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ahead) > 0
}

// fill reads what the tail lacks up to a position that the log has reached.
func (s *Store) fill(ctx context.Context, through uint64) error {
	for {
		head := s.tail.Head()
		if head >= through {
			return nil
		}
		batch, err := s.between(ctx, head, through)
		if err != nil {
			return err
		}
		for i, e := range batch {
			if e.Position != head+1+uint64(i) {
				return fmt.Errorf("position %d comes where %d follows: events are missing", e.Position, head+1+uint64(i))
			}
		}
		s.saw(batch...)
		s.land(batch)
	}
}

func (s *Store) saw(records ...events.Recorded) {
	for _, e := range records {
		s.heads.saw(e.Stream, mark{e.Version, e.Position})
	}
}

// errEchoes is that only what the process itself appended came.
var errEchoes = errors.New("hears only itself")

// follow brings what others append to the tail, until the store is closed.
func (s *Store) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.consume(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errEchoes):
			s.rest(ctx)
		case s.conn.IsConnected():
			s.logger.Debug("the log is followed anew", "log", s.String(), "position", s.tail.Head(), "err", err)
		}
		s.catchUp(ctx)
		if !errors.Is(err, errEchoes) {
			sleep(ctx, retryFollow)
		}
	}
}

// catchUp fills the tail up to the head.
func (s *Store) catchUp(ctx context.Context) {
	head, err := s.head(ctx)
	if err == nil {
		err = s.fill(ctx, head)
	}
	if err != nil && ctx.Err() == nil {
		s.logger.Warn("the log cannot be read at its end", "log", s.String(), "position", s.tail.Head(), "err", err)
	}
}

// consume listens to the stream behind the tail, until something is wrong with
// that. It trusts the consumer with nothing: what comes must follow what came,
// and when nothing comes the head is asked for.
func (s *Store) consume(ctx context.Context) error {
	began := s.tail.Head()
	messages, done, err := s.listen(ctx, began+1)
	if err != nil {
		return err
	}
	defer done()
	if _, err := s.head(ctx); err != nil { // the stream may be another log by now; the consumer goes with it
		return err
	}
	at, own := began, uint64(0)
	for {
		m, err := messages.Next(jetstream.NextMaxWait(lookEvery))
		if errors.Is(err, nats.ErrTimeout) {
			head, err := s.head(ctx)
			if err != nil {
				return err
			}
			if head > at {
				return fmt.Errorf("the log is at position %d, and nothing came after %d", head, at)
			}
			continue
		}
		if err != nil {
			return err
		}
		e, err := s.consumed(m)
		if err != nil {
			return err
		}
		if e.Position != at+1 {
			return fmt.Errorf("position %d came where %d follows", e.Position, at+1)
		}
		at = e.Position
		if at <= s.tail.Head() {
			if own++; own >= s.bounds.echoes {
				return errEchoes
			}
			continue
		}
		own = 0
		s.saw(e)
		s.land([]events.Recorded{e})
	}
}

// listen makes a consumer of the stream from a position on.
func (s *Store) listen(ctx context.Context, from uint64) (messages jetstream.MessagesContext, done func(), err error) {
	creating, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	consumer, err := s.js.CreateConsumer(creating, s.stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: idleConsumer,
	})
	if err != nil {
		return nil, nil, err
	}
	messages, err = consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(1000, 2*pageBytes),
		jetstream.PullExpiry(lookEvery), jetstream.PullHeartbeat(lookEvery/4))
	if err != nil {
		return nil, nil, err
	}
	unhook := context.AfterFunc(ctx, messages.Stop)
	return messages, func() {
		unhook()
		messages.Stop()
		if ctx.Err() != nil {
			return // the server drops it by itself
		}
		deleting, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		_ = s.js.DeleteConsumer(deleting, s.stream, consumer.CachedInfo().Name)
	}, nil
}

func (s *Store) consumed(m jetstream.Msg) (events.Recorded, error) {
	meta, err := m.Metadata()
	if err != nil {
		return events.Recorded{}, err
	}
	return s.decode(m.Subject(), meta.Sequence.Stream, m.Headers(), m.Data())
}

// rest does not listen while the process appends a lot itself.
func (s *Store) rest(ctx context.Context) {
	for ctx.Err() == nil {
		before := s.appended.Load()
		for waited := time.Duration(0); waited < restFor && ctx.Err() == nil; waited += gapEvery {
			at, gap := s.tail.Head(), s.landed.gap()
			sleep(ctx, gapEvery)
			if gap && s.landed.gap() && s.tail.Head() == at {
				s.catchUp(ctx)
			}
		}
		if s.appended.Load()-before < s.bounds.echoes {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// head asks the leader of the stream for the end of the log.
func (s *Store) head(ctx context.Context) (head uint64, err error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	err = s.patiently(ctx, func(ctx context.Context) error {
		head, err = s.headOnce(ctx)
		return err
	})
	return head, err
}

package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
)

const (
	// pageBytes is how many bytes one request brings, and one event more.
	pageBytes = 4 << 20
)

// errNoMessage is that there is no such message.
var errNoMessage = errors.New("no such message")

// A get asks for messages of the log. Each field is one of the JetStream API.
type get struct {
	Seq      uint64 `json:"seq,omitempty"`
	LastBy   string `json:"last_by_subj,omitempty"`
	NextBy   string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// leader asks the leader of the stream for one event. Whatever was acknowledged
// before, the leader has.
func (s *Store) leader(ctx context.Context, g get) (e events.Recorded, err error) {
	err = s.patiently(ctx, func(ctx context.Context) error {
		e, err = s.leaderOnce(ctx, s.stream, g)
		return err
	})
	return e, err
}

func (s *Store) leaderOnce(ctx context.Context, stream string, g get) (e events.Recorded, err error) {
	m, err := s.rawOnce(ctx, stream, g)
	if err != nil {
		return e, err
	}
	return s.decode(m.Subject, m.Sequence, m.header, m.Data)
}

// A raw is a message as the leader has it.
type raw struct {
	Subject  string `json:"subject"`
	Sequence uint64 `json:"seq"`
	Headers  []byte `json:"hdrs"`
	Data     []byte `json:"data"`
	header   nats.Header
}

func (s *Store) rawOnce(ctx context.Context, stream string, g get) (*raw, error) {
	body, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	m, err := s.calls.ask(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + stream, Data: body})
	if err != nil {
		return nil, err
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message *raw                `json:"message"`
	}
	switch err := json.Unmarshal(m.Data, &got); {
	case err != nil:
		return nil, fmt.Errorf("answer of the server: %w", err)
	case got.Error != nil && got.Error.ErrorCode == codeNoMessage:
		return nil, errNoMessage
	case got.Error != nil:
		return nil, refused(got.Error)
	case got.Message == nil:
		return nil, errors.New("answer of the server: there is no message in it")
	}
	if len(got.Message.Headers) > 0 {
		if got.Message.header, err = nats.DecodeHeadersMsg(got.Message.Headers); err != nil {
			return nil, fmt.Errorf("headers of message %d: %w", got.Message.Sequence, err)
		}
	}
	return got.Message, nil
}

// direct asks any replica for up to g.Batch events. A replica may be behind, or
// stop in the middle, so what it does not have may be there all the same.
func (s *Store) direct(ctx context.Context, g get) (batch []events.Recorded, err error) {
	body, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	k := s.calls.begin(g.Batch + 1)
	defer k.end()
	if err := s.calls.publish(&nats.Msg{Subject: "$JS.API.DIRECT.GET." + s.stream, Reply: k.reply, Data: body}); err != nil {
		return nil, err
	}
	for len(batch) < g.Batch {
		m, err := k.wait(ctx, 0)
		if err != nil {
			return some(batch, err)
		}
		if status := m.Header.Get("Status"); len(m.Data) == 0 && status != "" {
			if status == "204" || status == "404" { // the end, or nothing there
				return batch, nil
			}
			return some(batch, fmt.Errorf("the server refuses: %s %s", status, m.Header.Get("Description")))
		}
		e, err := s.answered(m)
		if err != nil {
			return some(batch, err)
		}
		batch = append(batch, e)
	}
	return batch, nil
}

// some is what came before an error, which comes again if it is asked for, or
// the error if that is nothing.
func some(batch []events.Recorded, err error) ([]events.Recorded, error) {
	if len(batch) > 0 {
		return batch, nil
	}
	return nil, err
}

// answered reads an event in the answer of a replica.
func (s *Store) answered(m *nats.Msg) (events.Recorded, error) {
	var position uint64
	if _, err := fmt.Sscan(m.Header.Get(jetstream.SequenceHeader), &position); err != nil {
		return events.Recorded{}, fmt.Errorf("answer of the server: it does not say which message it is: %w", err)
	}
	return s.decode(m.Header.Get(jetstream.SubjectHeader), position, m.Header, m.Data)
}

// several asks any replica for events that are there, patiently, and the leader for
// one if the replica has none. It returns at least one event, or an error. A leader
// that does not have it either leads no more, or its servers have lost it.
func (s *Store) several(ctx context.Context, g get) (batch []events.Recorded, err error) {
	err = s.patiently(ctx, func(ctx context.Context) error {
		if batch, err = s.direct(ctx, g); err != nil || len(batch) > 0 {
			return err
		}
		e, err := s.leaderOnce(ctx, s.stream, get{Seq: g.Seq, NextBy: g.NextBy})
		if errors.Is(err, errNoMessage) {
			return fmt.Errorf("nothing from position %d on: %w", g.Seq, errBehind)
		}
		batch = []events.Recorded{e}
		return err
	})
	return batch, err
}

// Read implements [events.Store]. The leader says where the stream ends, and any
// replica gives what comes before.
func (s *Store) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		if err := s.read(ctx, stream, after, func(e events.Recorded) bool { return yield(e, nil) }); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			} else {
				err = fmt.Errorf("read %s after version %d: %w", stream, after, err)
			}
			yield(events.Recorded{}, err)
		}
	}
}

func (s *Store) read(ctx context.Context, stream string, after uint64, yield func(events.Recorded) bool) error {
	if !isToken(stream) || len(stream) > maxSubject {
		return s.usable(ctx) // nothing was ever written to it
	}
	end, err := s.end(ctx, stream)
	if err != nil || end.Version <= after {
		return err
	}
	at, from, err := s.seek(ctx, end, after)
	if err != nil {
		return err
	}
	for at < end.Version {
		batch := []events.Recorded{end}
		if at+1 < end.Version {
			batch, err = s.several(ctx, get{Seq: from + 1, NextBy: s.subject(stream), Batch: s.bounds.page, MaxBytes: pageBytes})
			if err != nil {
				return err
			}
		}
		for _, e := range batch {
			if e.Stream != stream || e.Version != at+1 || e.Position <= from {
				return fmt.Errorf("version %d of %s comes at position %d where version %d of %s follows", e.Version, e.Stream, e.Position, at+1, stream)
			}
			at, from = e.Version, e.Position
			if at > after && !yield(e) || at == end.Version {
				return nil
			}
		}
	}
	return nil
}

// usable is nil while the store is open and ctx is not done.
func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.closed:
		return events.ErrClosed
	default:
		return ctx.Err()
	}
}

// end is the last event of a stream, zero if there is none.
func (s *Store) end(ctx context.Context, stream string) (e events.Recorded, err error) {
	seen := s.heads.of(stream)
	err = s.patiently(ctx, func(ctx context.Context) error {
		e, err = s.leaderOnce(ctx, s.stream, get{LastBy: s.subject(stream)})
		if errors.Is(err, errNoMessage) {
			e, err = events.Recorded{}, s.usable(ctx)
		}
		if err == nil && e.Position < seen.position {
			return fmt.Errorf("%s ends at position %d and was at %d: %w", stream, e.Position, seen.position, errBehind)
		}
		return err
	})
	if err == nil && e.Position > 0 {
		s.heads.saw(stream, mark{e.Version, e.Position})
	}
	return e, err
}

// seek looks for an event of a stream that is not far before version after, and
// returns its version and its position, or 0 and 0 for the beginning. NATS finds
// an event by its position and not by its version, so this halves the stretch of
// the log it must be in.
func (s *Store) seek(ctx context.Context, end events.Recorded, after uint64) (version, position uint64, err error) {
	beyond := end.Position
	for after-version > s.bounds.near && beyond-position > 1 {
		middle := position + (beyond-position)/2
		found, err := s.direct(ctx, get{Seq: middle, NextBy: s.subject(end.Stream), Batch: 1})
		switch {
		case err != nil && !passing(err):
			return 0, 0, err
		case err != nil || len(found) == 0: // a replica that is behind; reading will find out
			return version, position, ctx.Err()
		case found[0].Version > after:
			beyond = middle
		default:
			version, position = found[0].Version, found[0].Position
		}
	}
	return version, position, nil
}

// Subscribe implements [events.Store].
func (s *Store) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		// The tail may not have what another process, or this one, appended just now.
		if after > s.tail.Head() {
			if err := s.reach(ctx, after); err != nil {
				yield(nil, err)
				return
			}
		}
		s.tail.Subscribe(ctx, after, s.betweenUntil)(yield)
	}
}

// reach brings the tail up to a position that the log may have reached already.
func (s *Store) reach(ctx context.Context, position uint64) error {
	head, err := s.Head(ctx)
	if err != nil || head < position {
		return err // the tail will say that the log has not reached it
	}
	if err := s.fill(ctx, position); err != nil && ctx.Err() == nil {
		return fmt.Errorf("subscribe after position %d: %w", position, err)
	}
	return ctx.Err()
}

// betweenUntil is between for whoever waits until there are servers again, though not
// for what they have lost.
func (s *Store) betweenUntil(ctx context.Context, after, through uint64) ([]events.Recorded, error) {
	for {
		batch, err := s.between(ctx, after, through)
		if err == nil || !passing(err) || errors.Is(err, errBehind) || s.usable(ctx) != nil {
			return batch, err
		}
	}
}

// between reads events of the log that follow a position, which are there.
func (s *Store) between(ctx context.Context, after, through uint64) ([]events.Recorded, error) {
	batch, err := s.several(ctx, get{Seq: after + 1, Batch: int(min(through-after, events.MaxBatch)), MaxBytes: pageBytes})
	if err != nil {
		return nil, fmt.Errorf("read log %s after position %d: %w", s, after, err)
	}
	return batch, nil
}

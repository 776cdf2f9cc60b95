package natsstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
)

const (
	// groupBytes is how many bytes a batch of several commits has at most.
	groupBytes = 8 << 20
	// breath is after how many messages of a batch the server is waited for, lest
	// it has more of them to look at than it takes, which is 10,000.
	breath = 1000
	// lookups is how many streams are looked up at once.
	lookups = 64
)

// Append implements [events.Store]. A commit of one event waits for no other
// but those to its stream; the commits of one call are one batch, or several
// where a server would not take one so large.
func (s *Store) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, nil, commits)
}

// AppendAt implements [events.Store].
func (s *Store) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, &head, commits)
}

// append records commits, behind head if that is given.
func (s *Store) append(ctx context.Context, head *uint64, commits []events.Commit) (positions []uint64, err error) {
	spans := make([][]events.Span, len(commits))
	for i, c := range commits {
		spans[i] = spansOf(c)
	}
	if err := s.begin(); err != nil {
		return nil, fmt.Errorf("append to log %s: %w", s, err)
	}
	defer s.under.Done()
	if err := ctx.Err(); err != nil || len(commits) == 0 {
		return nil, err
	}
	for len(positions) < len(commits) {
		done := len(positions)
		g, refusal := s.group(head, commits[done:], spans[done:])
		if len(g.commits) == 0 {
			return positions, refusal
		}
		recorded, err := s.record(ctx, g)
		positions = append(positions, recorded...)
		switch {
		case err != nil && ctx.Err() != nil:
			return positions, ctx.Err()
		case err != nil:
			return positions, err
		case head != nil:
			head = &positions[len(positions)-1]
		}
	}
	return positions, nil
}

// spansOf are the spans of a commit, for most of which there is not much to find out.
func spansOf(c events.Commit) []events.Span {
	if len(c) == 1 && c[0].Version > 0 {
		return []events.Span{{Stream: c[0].Stream, Before: c[0].Version - 1, After: c[0].Version}}
	}
	return c.Spans()
}

// A group is commits that are sent together.
type group struct {
	head     *uint64 // the position they must be recorded behind
	commits  []events.Commit
	spans    [][]events.Span
	messages []*nats.Msg // one per event
	behind   uint64      // the position the stream of the first event must end at
}

// group takes the first commits that make a batch, and writes their messages. It
// is empty if the first commit cannot be sent, for which refusal is why.
func (s *Store) group(head *uint64, commits []events.Commit, spans [][]events.Span) (g group, refusal error) {
	g.head = head
	size := 0
	for i, c := range commits {
		if i > 0 && len(g.messages)+len(c) > s.bounds.group {
			return g, nil
		}
		messages := make([]*nats.Msg, 0, len(c))
		for _, e := range c {
			m, err := s.encode(e)
			if err != nil {
				return g, err
			}
			size += len(m.Data)
			messages = append(messages, m)
		}
		if i > 0 && size > groupBytes {
			return g, nil
		}
		g.commits, g.spans = commits[:i+1], spans[:i+1]
		if i == 0 {
			g.messages = messages
		} else {
			g.messages = append(g.messages, messages...)
		}
	}
	return g, nil
}

// first are the first n commits of a group.
func (g group) first(n int) group {
	size := 0
	for _, c := range g.commits[:n] {
		size += len(c)
	}
	return group{g.head, g.commits[:n], g.spans[:n], g.messages[:size], g.behind}
}

// streams are those the group writes to, each once.
func (g group) streams() []string {
	if len(g.spans) == 1 && len(g.spans[0]) == 1 {
		return []string{g.spans[0][0].Stream}
	}
	seen := make(map[string]bool, len(g.messages))
	streams := make([]string, 0, len(g.messages))
	for _, commit := range g.spans {
		for _, span := range commit {
			if !seen[span.Stream] {
				seen[span.Stream] = true
				streams = append(streams, span.Stream)
			}
		}
	}
	return streams
}

// record records the commits of a group up to the first that cannot be, and
// returns the position of the last event of each one recorded.
func (s *Store) record(ctx context.Context, g group) (positions []uint64, err error) {
	streams := g.streams()
	if err := s.turns.take(ctx, streams); err != nil {
		return nil, err
	}
	defer s.turns.give(streams)
	ctx, cancel := context.WithTimeout(ctx, patience+4*timeFor(len(g.messages)))
	defer cancel()
	var between pause
	var fresh map[string]mark
	for {
		sendable, refusal, err := s.accept(ctx, g, fresh)
		if err != nil || len(sendable.commits) == 0 {
			return nil, errors.Join(err, refusal)
		}
		first, err := s.send(ctx, sendable)
		switch {
		case err == nil:
			return s.recorded(sendable, first), refusal
		case code(err) == codeBatchTooLarge && len(sendable.commits) > 1:
			g = g.first(len(sendable.commits) / 2) // the others are the next group
			continue
		case code(err) == codeBatchTooLarge:
			return nil, fmt.Errorf("append to log %s: a commit of %d events is more than the server takes "+
				"(its setting jetstream { limits { batch { max_msgs } } }, 1000 by default): %w", s, len(g.messages), events.ErrTooLarge)
		case code(err) == codeMsgTooLarge:
			return nil, fmt.Errorf("append to log %s: an event is larger than the stream %s takes (its setting max_msg_size): %w",
				s, s.stream, events.ErrTooLarge)
		case code(err) != codeWrongLast:
			return nil, fmt.Errorf("append to log %s: %w", s, err)
		}
		// Somebody else wrote. What the leader says now decides which commit that hit.
		refused := err
		if fresh, err = s.refresh(ctx, g, streams); err != nil {
			return nil, err
		}
		// If it says none, what somebody else wrote is on its way.
		if between.wait(ctx) != nil {
			return nil, fmt.Errorf("append to log %s: %w: %w", s, events.ErrConflict, refused)
		}
	}
}

// refresh looks at where the streams and the log end now. A log that does not
// end where the group must follow is the conflict.
func (s *Store) refresh(ctx context.Context, g group, streams []string) (map[string]mark, error) {
	if g.head != nil {
		head, err := s.head(ctx)
		if err != nil {
			return nil, err
		}
		if head != *g.head {
			return nil, s.elsewhere(*g.head, head)
		}
	}
	return s.look(ctx, streams)
}

func (s *Store) elsewhere(want, head uint64) error {
	return fmt.Errorf("append at %d: the log is at position %d: %w", want, head, events.ErrConflict)
}

// recorded makes known what was recorded, and returns the position of the last
// event of each commit.
func (s *Store) recorded(g group, first uint64) []uint64 {
	positions := make([]uint64, 0, len(g.commits))
	records := make([]events.Recorded, 0, len(g.messages))
	for _, c := range g.commits {
		for _, e := range c {
			e.Position = first + uint64(len(records))
			records = append(records, e)
		}
		positions = append(positions, first+uint64(len(records))-1)
	}
	s.appended.Add(uint64(len(records)))
	s.saw(records...)
	s.land(records)
	return positions
}

// accept takes the commits of a group before the first that conflicts, for which
// refusal is why, and writes the checks into their messages.
func (s *Store) accept(ctx context.Context, g group, fresh map[string]mark) (sendable group, refusal, err error) {
	if head := s.tail.Head(); g.head != nil && head > *g.head {
		return group{}, s.elsewhere(*g.head, head), nil
	}
	if len(g.messages) == 1 && fresh == nil {
		span := g.spans[0][0]
		if at := s.heads.of(span.Stream); at.version == span.Before {
			g.behind = at.position
			g.check(0, at.position)
			return g, nil, nil
		}
	}
	known, err := s.marks(ctx, g, fresh)
	if err != nil {
		return group{}, nil, err
	}
	checks, n, refusal := checks(g.spans, known)
	if n == 0 {
		return group{}, refusal, nil
	}
	g = g.first(n)
	g.behind = checks[g.commits[0][0].Stream]
	message := 0
	for _, c := range g.commits {
		for _, e := range c {
			if position, first := checks[e.Stream]; first {
				g.check(message, position)
				delete(checks, e.Stream)
			} else {
				delete(g.messages[message].Header, jetstream.ExpectedLastSubjSeqHeader)
			}
			message++
		}
	}
	return g, refusal, nil
}

// check has the server check that the stream of a message ends at a position, and,
// with the first message, that the log ends at the head of the group.
func (g group) check(message int, position uint64) {
	header := g.messages[message].Header
	header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(position, 10)}
	if message == 0 && g.head != nil {
		header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(*g.head, 10)}
	}
}

// checks counts the commits before the first whose streams do not end where it
// expects them, and says why that one is refused. The server is to check the
// positions at which the streams of the others end.
func checks(spans [][]events.Span, known map[string]mark) (positions map[string]uint64, n int, refusal error) {
	positions = make(map[string]uint64, len(spans))
	after := make(map[string]uint64) // the versions streams are at after the commits before
	for n, commit := range spans {
		for _, span := range commit {
			version, written := after[span.Stream]
			if !written {
				at := known[span.Stream]
				version, positions[span.Stream] = at.version, at.position
			}
			if version != span.Before {
				return positions, n, fmt.Errorf("append to %s: it is at version %d, not %d: %w",
					span.Stream, version, span.Before, events.ErrConflict)
			}
		}
		for _, span := range commit {
			after[span.Stream] = span.After
		}
	}
	return positions, len(spans), nil
}

// marks are where the streams of a group end, as far as is known: as the leader
// said just now, or as this process last saw them. A stream that did not end then
// where the group expects it is looked up; one that was never seen is taken for
// new if the group says so, and one that is beyond what the group expects is.
func (s *Store) marks(ctx context.Context, g group, fresh map[string]mark) (map[string]mark, error) {
	known := make(map[string]mark)
	var unsure []string
	for _, commit := range g.spans {
		for _, span := range commit {
			if _, seen := known[span.Stream]; seen {
				continue
			}
			at, looked := fresh[span.Stream]
			if !looked {
				if at = s.heads.of(span.Stream); at.version < span.Before {
					unsure = append(unsure, span.Stream)
				}
			}
			known[span.Stream] = at
		}
	}
	found, err := s.look(ctx, unsure)
	maps.Copy(known, found)
	return known, err
}

// look asks the leader where streams end.
func (s *Store) look(ctx context.Context, streams []string) (map[string]mark, error) {
	found := make(map[string]mark, len(streams))
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	turn := make(chan struct{}, lookups)
	for _, stream := range streams {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			e, err := s.end(ctx, stream)
			mu.Lock()
			defer mu.Unlock()
			if found[stream] = (mark{e.Version, e.Position}); err != nil {
				failed = fmt.Errorf("append to %s: %w", stream, err)
			}
		})
	}
	all.Wait()
	return found, failed
}

// send publishes a group until it is known whether it was recorded, and returns
// the position of its first event. A try without an answer is made again to the
// letter: of two tries the checks let one take effect. The error of one that was
// refused is a refusal; after any other one the outcome is unknown.
func (s *Store) send(ctx context.Context, g group) (first uint64, err error) {
	var between pause
	unsure := false // an earlier try may have been recorded
	for {
		first, err := s.publish(ctx, g)
		switch {
		case err == nil:
			return first, nil
		case code(err) == codeWrongLast && unsure:
			first, fate, lookErr := s.fate(ctx, g)
			switch {
			case lookErr != nil || fate == itIsRecorded:
				return first, lookErr
			case fate == itIsNot:
				return 0, err
			}
			err = errUnderWay
		case errors.Is(err, errLost), errors.Is(err, errLate):
			unsure = true
		case passing(err):
		case code(err) == codeInFlight, code(err) == codeOverloaded, code(err) == codeBatchUnknown, code(err) == codeTooManyOpen:
		default:
			return 0, err
		}
		if between.wait(ctx) != nil {
			return 0, err
		}
	}
}

// errUnderWay is that a try that had no answer may still be recorded.
var errUnderWay = errors.New("a try without an answer is under way")

// What became of a try that had no answer.
type fate int

const (
	itIsUnderWay fate = iota
	itIsRecorded
	itIsNot // and never will be
)

// fate looks what became of a group, of which one try had no answer and a later
// one was refused. The leader of a cluster also refuses what would follow a write
// that it has not stored yet, and that may be the group itself. So only what is
// stored at its place says what became of it.
func (s *Store) fate(ctx context.Context, g group) (first uint64, _ fate, err error) {
	place := get{Seq: g.behind + 1, NextBy: g.messages[0].Subject}
	if g.head != nil {
		place = get{Seq: *g.head + 1}
	} else if moved, err := s.moved(ctx, g); err != nil || !moved {
		return 0, itIsUnderWay, err
	}
	begin, err := s.leader(ctx, place)
	switch {
	case errors.Is(err, errNoMessage) && g.head != nil:
		return 0, itIsUnderWay, nil
	case errors.Is(err, errNoMessage):
		return 0, itIsNot, nil // another of its streams was written to
	case err != nil:
		return 0, itIsUnderWay, err
	case begin.Hash != g.commits[0][0].Hash:
		return 0, itIsNot, nil
	}
	last := g.commits[len(g.commits)-1]
	end, err := s.leader(ctx, get{Seq: begin.Position + uint64(len(g.messages)) - 1})
	switch {
	case errors.Is(err, errNoMessage):
		// What is stored is, of a batch, stored entirely: this is the answer of one
		// who has less, because he leads no more.
		return 0, itIsUnderWay, nil
	case err != nil:
		return 0, itIsUnderWay, err
	case end.Hash != last[len(last)-1].Hash:
		return 0, itIsNot, nil
	}
	return begin.Position, itIsRecorded, nil
}

// moved reports whether somebody wrote to a stream of a group after the group's
// place in it, be it the group itself.
func (s *Store) moved(ctx context.Context, g group) (bool, error) {
	known, err := s.look(ctx, g.streams())
	for _, commit := range g.spans {
		for _, span := range commit {
			if known[span.Stream].version > span.Before {
				return true, err
			}
		}
	}
	return false, err
}

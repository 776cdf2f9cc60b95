package esdbdouble

import (
	"context"
	"sync/atomic"

	"github.com/google/uuid"
)

// counters count the calls that arrive.
type counters struct {
	appends, reads, subscriptions, features, forLeader atomic.Int64
}

func (c *counters) append(ctx context.Context) {
	c.appends.Add(1)
	c.header(ctx)
}

func (c *counters) read(ctx context.Context, kind Kind) {
	if kind == Subscriptions {
		c.subscriptions.Add(1)
	} else {
		c.reads.Add(1)
	}
	c.header(ctx)
}

func (c *counters) header(ctx context.Context) {
	if asksForLeader(ctx) {
		c.forLeader.Add(1)
	}
}

// Counts are how many calls have arrived at a node.
type Counts struct {
	Appends       int // with or without success
	Reads         int // with a count
	Subscriptions int
	Features      int // probes of a client that connects
	ForLeader     int // appends, reads and subscriptions with the header requires-leader
}

// Counts returns how many calls have arrived.
func (s *Server) Counts() Counts {
	return Counts{
		Appends: int(s.calls.appends.Load()), Reads: int(s.calls.reads.Load()),
		Subscriptions: int(s.calls.subscriptions.Load()), Features: int(s.calls.features.Load()),
		ForLeader: int(s.calls.forLeader.Load()),
	}
}

// Event is an event as it is in the log.
type Event struct {
	Stream     string
	Revision   int64
	ID         uuid.UUID
	Type       string
	Data, Meta []byte
	Position   uint64
}

// Streams are the names of the streams that have events, those of metadata
// ("$$…") among them, sorted.
func (s *Server) Streams() []string { return s.cluster.names() }

// Events are all events of a stream, also those that no reader is shown any more.
func (s *Server) Events(stream string) []Event {
	s.cluster.mu.RLock()
	defer s.cluster.mu.RUnlock()
	var events []Event
	if of := s.cluster.streams[stream]; of != nil {
		for _, r := range of.events {
			events = append(events, r.event())
		}
	}
	return events
}

// Log are all events in the order they were written.
func (s *Server) Log() []Event {
	s.cluster.mu.RLock()
	defer s.cluster.mu.RUnlock()
	var events []Event
	for _, r := range s.cluster.all {
		if !r.hidden && r.stream != epochStream {
			events = append(events, r.event())
		}
	}
	return events
}

func (r *record) event() Event {
	return Event{
		Stream: r.stream, Revision: r.revision, ID: r.id, Type: r.eventType,
		Data: r.message.GetData(), Meta: r.message.GetCustomMetadata(), Position: uint64(r.pos),
	}
}

// Write appends events to a stream as somebody else would, past all faults and
// whatever the stream holds. Events without an ID get one. It is for what a test
// finds already there, and for the foreign events of a server that is shared.
func (s *Server) Write(stream string, events ...Event) {
	records := make([]*record, len(events))
	for i, e := range events {
		if e.ID == uuid.Nil {
			e.ID = uuid.New()
		}
		records[i] = newRecord(stream, e.Type, "application/octet-stream", e.ID, e.Data, e.Meta)
	}
	if v := s.cluster.append(stream, expectAny, records); v.decision == wrongVersion || v.decision == streamDeleted {
		s.tb.Errorf("esdbdouble: write to %s: refused", stream)
	}
}

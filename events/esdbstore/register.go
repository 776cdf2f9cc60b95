package esdbstore

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

const (
	typeRegister = "stockledger.register-set.v1"
	registerKeep = 16 // values that stay in the stream of a register
)

// register is a stream of which the last event counts.
type register struct {
	server  *server
	stream  string
	bounded atomic.Bool
}

// Register implements [events.Shared]. The register is a stream of its own, of
// which the server keeps the last few events when it is scavenged.
func (s *Store) Register(_ context.Context, name string) (events.Register, error) {
	if name == "" || events.Escape(name) != name {
		return nil, fmt.Errorf("register %q: the name is not made of letters and digits", name)
	}
	return &register{server: s.server, stream: s.names.register(name)}, nil
}

// Get implements [events.Register].
func (r *register) Get(ctx context.Context) ([]byte, uint64, error) {
	e, err := readLast(ctx, r.server, r.stream)
	if err != nil {
		return nil, 0, fmt.Errorf("register %s: %w", r.stream, err)
	}
	if e == nil {
		return nil, 0, nil
	}
	return e.Data, e.EventNumber + 1, nil
}

// Set implements [events.Register].
func (r *register) Set(ctx context.Context, revision uint64, value []byte) (uint64, error) {
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	if revision > 0 {
		expected = esdb.Revision(revision - 1)
	}
	event := esdb.EventData{EventID: uuid.New(), EventType: typeRegister, ContentType: esdb.ContentTypeBinary, Data: value}
	result, err := insist(ctx, r.server, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(ctx, r.stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, event)
	})
	if err != nil && judge(err) == moved {
		return 0, fmt.Errorf("register %s is not at revision %d: %w", r.stream, revision, events.ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("register %s: %w", r.stream, err)
	}
	r.bound(ctx)
	return result.NextExpectedVersion + 1, nil
}

// bound tells the server once not to keep all values. If it is not told, the
// stream is longer than it need be, and no worse.
func (r *register) bound(ctx context.Context) {
	if r.bounded.Swap(true) {
		return
	}
	_, err := call(ctx, r.server, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		var m esdb.StreamMetadata
		m.SetMaxCount(registerKeep)
		return c.SetStreamMetadata(ctx, r.stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, m)
	})
	if err != nil {
		r.bounded.Store(false)
	}
}

package memstore

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/stockledger/stockledger/events"
)

// register is an [events.Register] in memory.
type register struct {
	name string

	mu       sync.Mutex
	value    []byte
	revision uint64
}

// Register implements [events.Shared].
func (s *Store) Register(ctx context.Context, name string) (events.Register, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("register %s: %w", name, events.ErrClosed)
	}
	if s.registers[name] == nil {
		s.registers[name] = &register{name: name}
	}
	return s.registers[name], ctx.Err()
}

// Get implements [events.Register].
func (r *register) Get(ctx context.Context) ([]byte, uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.value), r.revision, nil
}

// Set implements [events.Register].
func (r *register) Set(ctx context.Context, revision uint64, value []byte) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if revision != r.revision {
		return 0, fmt.Errorf("set register %s: it is at revision %d, not %d: %w", r.name, r.revision, revision, events.ErrConflict)
	}
	r.revision++
	r.value = bytes.Clone(value)
	return r.revision, nil
}

package natsstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
)

// A register is a key of a key-value bucket, and its revision the sequence of the
// key's message there. It is read from the leader of the bucket's stream: a
// replica may be behind.
type register struct {
	store *Store
	name  string
}

var validRegister = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

func (s *Store) bucket() string { return "STOCKLEDGER_" + s.at.ledger }

// Register implements [events.Shared]. The bucket of the ledger is made with the
// first register, with as many replicas as the log has.
func (s *Store) Register(ctx context.Context, name string) (events.Register, error) {
	if !validRegister.MatchString(name) {
		return nil, fmt.Errorf("register %q: the name is 1 to 64 letters and digits", name)
	}
	if err := s.usable(ctx); err != nil {
		return nil, fmt.Errorf("register %s: %w", name, err)
	}
	if err := s.patiently(ctx, s.ensureBucket); err != nil {
		return nil, fmt.Errorf("register %s of log %s: %w", name, s, err)
	}
	return &register{s, name}, nil
}

func (s *Store) ensureBucket(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, err := s.js.KeyValue(ctx, s.bucket())
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: s.bucket(), Description: "Which process leads the ledger " + s.at.ledger,
			History: 1, Storage: jetstream.FileStorage, Replicas: s.replicas,
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // made by another just now
			err = nil
		}
	}
	if err != nil {
		return s.failure(ctx, err)
	}
	return nil
}

func (r *register) subject() string { return "$KV." + r.store.bucket() + "." + r.name }

// Get implements [events.Register]. It asks once: who waits for a register has
// a time of its own.
func (r *register) Get(ctx context.Context) (value []byte, revision uint64, err error) {
	if err := r.store.usable(ctx); err != nil {
		return nil, 0, fmt.Errorf("read register %s: %w", r.name, err)
	}
	m, err := r.store.rawOnce(ctx, "KV_"+r.store.bucket(), get{LastBy: r.subject()})
	switch {
	case errors.Is(err, errNoMessage):
		return nil, 0, nil
	case err != nil && ctx.Err() != nil:
		return nil, 0, ctx.Err()
	case err != nil:
		return nil, 0, fmt.Errorf("read register %s: %w", r.name, err)
	}
	return m.Data, m.Sequence, nil
}

// Set implements [events.Register]. It tries once, unless the server says that it
// has another write to the register under way.
func (r *register) Set(ctx context.Context, revision uint64, value []byte) (uint64, error) {
	if err := r.store.usable(ctx); err != nil {
		return 0, fmt.Errorf("set register %s: %w", r.name, err)
	}
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var between pause
	for {
		set, err := r.set(bounded, revision, value)
		switch {
		case err == nil:
			return set, nil
		case code(err) == codeInFlight && between.wait(bounded) == nil:
			continue
		case code(err) == codeWrongLast:
			return 0, fmt.Errorf("set register %s at revision %d: %w", r.name, revision, events.ErrConflict)
		case ctx.Err() != nil:
			return 0, ctx.Err()
		}
		return 0, fmt.Errorf("set register %s: %w", r.name, err)
	}
}

func (r *register) set(ctx context.Context, revision uint64, value []byte) (uint64, error) {
	m, err := r.store.calls.ask(ctx, &nats.Msg{Subject: r.subject(), Data: value, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(revision, 10)},
	}})
	if err != nil {
		return 0, err
	}
	return acknowledged(m, 1)
}

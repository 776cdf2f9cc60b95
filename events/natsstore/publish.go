package natsstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Headers of atomic batches, ADR-50 of NATS.
const (
	headerBatch    = "Nats-Batch-Id"
	headerSequence = "Nats-Batch-Sequence"
	headerCommit   = "Nats-Batch-Commit"
)

// publish makes one try to have a group recorded.
func (s *Store) publish(ctx context.Context, g group) (first uint64, err error) {
	if len(g.messages) == 1 {
		for _, header := range []string{headerBatch, headerSequence, headerCommit} {
			delete(g.messages[0].Header, header) // of a try together with others
		}
		m, err := s.calls.ask(ctx, g.messages[0])
		if err != nil {
			return 0, err
		}
		return acknowledged(m, 1)
	}
	select {
	case s.batch <- struct{}{}:
		defer func() { <-s.batch }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return s.together(ctx, g.messages)
}

// together publishes messages as one atomic batch: all of them or none. Messages
// of a batch that are lost make the server refuse the rest, so the last answer
// is about all of them.
func (s *Store) together(ctx context.Context, messages []*nats.Msg) (first uint64, err error) {
	id := nuid.Next()
	for i, m := range messages {
		m.Reply = ""
		m.Header[headerBatch] = []string{id}
		m.Header[headerSequence] = []string{strconv.Itoa(i + 1)}
		switch {
		case i == len(messages)-1:
			m.Header[headerCommit] = []string{"1"}
			answer, err := s.calls.askFor(ctx, m, timeFor(len(messages)))
			if err != nil {
				return 0, err
			}
			return acknowledged(answer, uint64(len(messages)))
		case i%breath == breath-1:
			delete(m.Header, headerCommit)
			answer, err := s.calls.askFor(ctx, m, timeFor(len(messages)))
			if err != nil {
				return 0, uncommitted(err)
			}
			if len(answer.Data) > 0 {
				if _, err := acknowledged(answer, 0); err != nil {
					return 0, err
				}
			}
		default:
			delete(m.Header, headerCommit)
			if err := s.calls.publish(m); err != nil {
				return 0, err
			}
		}
	}
	panic("natsstore: a batch without messages")
}

// uncommitted is the error of a batch that was given up before its last message
// was sent, so that nothing of it can have been recorded.
func uncommitted(err error) error {
	if passing(err) {
		return errUnsent
	}
	return err
}

// acknowledged reads the server's answer to a publish of so many messages, 0 for
// one that must be a refusal.
func acknowledged(m *nats.Msg, count uint64) (first uint64, err error) {
	if first, plain := plainAck(m.Data); plain && count == 1 {
		return first, nil
	}
	var ack struct {
		Error    *jetstream.APIError `json:"error"`
		Sequence uint64              `json:"seq"`
		Count    uint64              `json:"count"`
	}
	switch err := json.Unmarshal(m.Data, &ack); {
	case err != nil:
		return 0, fmt.Errorf("answer of the server: %w", err)
	case ack.Error != nil:
		return 0, refused(ack.Error)
	case max(ack.Count, 1) != count || ack.Sequence < count:
		return 0, fmt.Errorf("answer of the server: %d messages were stored as %d up to %d", count, ack.Count, ack.Sequence)
	}
	return ack.Sequence - count + 1, nil
}

// plainAck reads the answer that nearly all have, {"stream":"S", "seq":7}, at a
// tenth of what reading any JSON takes. What looks otherwise is not plain.
func plainAck(answer []byte) (sequence uint64, plain bool) {
	rest, ok := bytes.CutPrefix(answer, []byte(`{"stream":"`))
	if !ok {
		return 0, false
	}
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return 0, false
	}
	rest = bytes.TrimLeft(bytes.TrimPrefix(rest[end+1:], []byte(",")), " ")
	if rest, ok = bytes.CutPrefix(rest, []byte(`"seq":`)); !ok {
		return 0, false
	}
	number, ok := bytes.CutSuffix(rest, []byte("}"))
	if !ok {
		return 0, false
	}
	sequence, err := strconv.ParseUint(string(number), 10, 64)
	return sequence, err == nil && sequence > 0
}

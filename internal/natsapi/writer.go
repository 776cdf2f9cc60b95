package natsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/transport"
)

const (
	// batchFrom is from how many events on an atomic batch is cheaper than one
	// write each: it syncs the disk about six times, whatever its size.
	batchFrom = 8
	// batchEvents and batchBytes bound a batch; the server takes 1000 messages.
	batchEvents = 1000
	batchBytes  = 4 << 20
)

// writer appends events to the feed's stream. It has one write under way at a
// time, and every write states the sequence it must follow: were several under
// way, the second could be accepted after a foreign message had taken the place
// of the first.
type writer struct {
	js     jetstream.JetStream
	names  names
	atomic bool // the server does atomic batches
	limit  int  // bytes of one message
}

// write appends the first events of a batch, and returns how many. After an
// error the stream may have them all the same.
func (w *writer) write(ctx context.Context, batch []events.Recorded) (int, error) {
	var messages []*nats.Msg
	size := 0
	for _, r := range batch[:min(len(batch), batchEvents)] {
		m, err := w.message(r)
		if err != nil {
			return 0, err
		}
		if size += len(m.Data); size > batchBytes && len(messages) > 0 {
			break
		}
		messages = append(messages, m)
	}
	after := batch[0].Position - 1
	if w.atomic && len(messages) >= batchFrom {
		return len(messages), w.together(ctx, after, messages)
	}
	for i, m := range messages {
		if err := w.single(ctx, after+uint64(i), m); err != nil {
			return 0, err
		}
	}
	return len(messages), nil
}

// message is an event as the feed carries it.
func (w *writer) message(r events.Recorded) (*nats.Msg, error) {
	e, err := transport.EventOf(r)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("position %d: %w", r.Position, err)
	}
	if limit := w.limit - headerRoom; len(body) > limit {
		e.Data, e.DataOmitted = json.RawMessage("null"),
			fmt.Sprintf("the event has %d bytes and NATS carries at most %d; read it from the log", len(body), limit)
		if body, err = json.Marshal(e); err != nil {
			return nil, fmt.Errorf("position %d: %w", r.Position, err)
		}
	}
	return &nats.Msg{Subject: w.names.events() + r.Stream, Header: header(r), Data: body}, nil
}

// single appends one event and waits until it is stored.
func (w *writer) single(ctx context.Context, after uint64, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	ack, err := w.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequence(after), jetstream.WithExpectStream(w.names.eventStream()))
	if err == nil && ack.Sequence != after+1 {
		err = fmt.Errorf("event %d was stored as message %d", after+1, ack.Sequence)
	}
	return err
}

// together appends events as one atomic batch (ADR-50): all of them or none, and
// one wait for the disk. Only the last message is answered.
func (w *writer) together(ctx context.Context, after uint64, messages []*nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	conn, id, last := w.js.Conn(), uuid.NewString(), len(messages)-1
	for i, m := range messages {
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i == 0 {
			m.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(after, 10))
		}
		if i == last {
			break
		}
		if err := conn.PublishMsg(m); err != nil {
			return err
		}
	}
	messages[last].Header.Set("Nats-Batch-Commit", "1")
	reply, err := conn.RequestMsgWithContext(ctx, messages[last])
	if err != nil {
		return err
	}
	var ack struct {
		Sequence uint64              `json:"seq"`
		Count    int                 `json:"count"`
		Error    *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(reply.Data, &ack); {
	case err != nil:
		return fmt.Errorf("answer to a batch: %w", err)
	case ack.Error != nil:
		return ack.Error
	case ack.Count != len(messages) || ack.Sequence != after+uint64(len(messages)):
		return fmt.Errorf("events %d to %d were stored as %d messages up to %d",
			after+1, after+uint64(len(messages)), ack.Count, ack.Sequence)
	}
	return nil
}

package natsapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/internal/fault"
)

// Follow yields the events of the feed after a position, in log order, and then
// waits for more. Filter is a stream such as item-iitem_1, or "" for all of
// them. Following again after the position of an event resumes with the next
// one. It ends only by yielding an error, which wraps ctx.Err() once ctx is done.
func (c *Client) Follow(ctx context.Context, after uint64, filter string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		messages, err := c.subscribe(ctx, after, filter)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer messages.Stop()
		for {
			e, err := next(ctx, messages)
			if err == nil && filter == "" && e.Position != after+1 {
				err = fmt.Errorf("event %d came after event %d: the feed at %s has a gap; tell its operator", e.Position, after, c.url)
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
			after = e.Position
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (c *Client) subscribe(ctx context.Context, after uint64, filter string) (jetstream.MessagesContext, error) {
	setup, cancel := c.within(ctx)
	defer cancel()
	stream, err := c.js.Stream(setup, c.names.eventStream())
	if err != nil {
		return nil, c.failed(err, 0)
	}
	if first := stream.CachedInfo().State.FirstSeq; first > after+1 {
		return nil, fault.New(fault.NotFound, "feed_trimmed",
			"the feed begins at position %d, and %d is asked for; follow it after %d, or have its operator remove the stream %s "+
				"and start the ledger again, which makes the feed anew from the log", first, after+1, first-1, c.names.eventStream()).With("first", first)
	}
	consumer, err := stream.OrderedConsumer(setup, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{c.names.events() + cmp.Or(filter, ">")},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return nil, c.failed(err, 0)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, c.failed(err, 0)
	}
	return messages, nil
}

// next is the next event, checked against its place in the feed.
func next(ctx context.Context, messages jetstream.MessagesContext) (e Event, err error) {
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return e, fmt.Errorf("follow the feed: %w", err)
	}
	if err := json.Unmarshal(m.Data(), &e); err != nil {
		return e, fmt.Errorf("follow the feed: %w", err)
	}
	meta, err := m.Metadata()
	if err == nil && meta.Sequence.Stream != e.Position {
		err = errors.New("a message is not in its place")
	}
	if err != nil {
		return e, fmt.Errorf("follow the feed at %d: %w", e.Position, err)
	}
	return e, nil
}

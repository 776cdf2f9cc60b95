package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// highest is the highest position that a caller was told.
func (b *book) highest() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told
}

// The stream of the feed, and what a message of it says of its event.
const (
	feedStream = "STOCKLEDGER_" + natsapi.DefaultPrefix + "_EVENTS"
	feedHash   = "Ledger-Hash"
)

// feedWithin is how long the feed may be behind, and the comparison take.
const feedWithin = 10 * time.Minute

// feedOf connects to the feed of a server.
func feedOf(ctx context.Context, url string) (*nats.Conn, jetstream.Stream, error) {
	conn, err := natsapi.Connect(url)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	if err == nil {
		var stream jetstream.Stream
		if stream, err = js.Stream(ctx, feedStream); err == nil {
			return conn, stream, nil
		}
	}
	conn.Close()
	return nil, nil, fmt.Errorf("the feed: %w", err)
}

// feedEnd is the position of the last event in the feed.
func feedEnd(ctx context.Context, url string) (uint64, error) {
	conn, stream, err := feedOf(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return stream.CachedInfo().State.LastSeq, nil
}

// checkFeed waits until the feed has what the log holds up to a position, and
// compares the two: every event once, in the order of the log.
func (c *campaign) checkFeed(ctx context.Context, through uint64) (compared uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, feedWithin)
	defer cancel()
	conn, stream, err := feedOf(ctx, c.server.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for stream.CachedInfo().State.LastSeq < through {
		if err := pause(ctx, 10*lookEvery, c.server.dead); err != nil {
			c.book.wrongly("feed", "the feed ends at %d, and the log at %d: %v", stream.CachedInfo().State.LastSeq, through, err)
			return 0, nil
		}
		if _, err := stream.Info(ctx); err != nil {
			return 0, err
		}
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{HeadersOnly: true, DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return 0, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return 0, err
	}
	defer messages.Stop()
	first := stream.CachedInfo().State.FirstSeq // what came before it has become too old
	err = readLog(ctx, c.log(), first-1, through, func(e events.Recorded) {
		if err == nil {
			err = c.inFeed(ctx, messages, e)
			compared++
		}
	})
	return compared, err
}

// inFeed compares the next message of the feed with the next event of the log.
func (c *campaign) inFeed(ctx context.Context, messages jetstream.MessagesContext, e events.Recorded) error {
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return fmt.Errorf("the feed at %d: %w", e.Position, err)
	}
	about, err := m.Metadata()
	if err != nil {
		return err
	}
	if about.Sequence.Stream != e.Position || m.Headers().Get(feedHash) != e.Hash.String() {
		c.book.wrongly("feed", "message %d of the feed is not event %d of the log", about.Sequence.Stream, e.Position)
	}
	return nil
}

// verify opens the ledger that the last server left, verifies all of it, and compares
// the levels that it answers with what the callers asked for.
func (c *campaign) verify(ctx context.Context) (err error) {
	ledger, err := stockledger.Open(ctx, stockledger.Config{Dir: c.data(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	report, err := ledger.Verify(ctx, nil)
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		c.book.wrongly("verify", "%s", f.Message)
	}
	if report.Events != c.check.trail.at {
		c.book.wrongly(kindLost, "the log has %d events, and had %d", report.Events, c.check.trail.at)
	}
	return c.served(ctx, ledger)
}

// served compares the levels that are served with the sums of the callers.
func (c *campaign) served(ctx context.Context, ledger *stockledger.Ledger) error {
	have := make(map[place]level)
	for skip := 0; ; {
		body, err := json.Marshal(object{"take": 100, "skip": skip, "after": c.check.trail.at})
		if err != nil {
			return err
		}
		answer, err := ledger.Query(ctx, "list-inventory-levels", body)
		if err != nil {
			return err
		}
		var page struct {
			Rows []struct {
				ItemID     string `json:"inventory_item_id"`
				LocationID string `json:"location_id"`
				Stocked    int64  `json:"stocked_quantity"`
				Reserved   int64  `json:"reserved_quantity"`
			} `json:"rows"`
		}
		document, err := json.Marshal(answer)
		if err == nil {
			err = json.Unmarshal(document, &page)
		}
		if err != nil {
			return err
		}
		for _, l := range page.Rows {
			have[place{l.ItemID, l.LocationID}] = level{l.Stocked, l.Reserved}
		}
		if skip += len(page.Rows); len(page.Rows) == 0 {
			break
		}
	}
	c.book.compare(have)
	return nil
}

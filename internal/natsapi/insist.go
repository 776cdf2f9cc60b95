package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/stockledger/stockledger/internal/fault"
)

// The times of a request that is sent until it is answered. A node that died while
// it had the request never answers, and one that is stopped keeps it, so after a
// while it is sent again: soon enough that it is there when another node leads,
// and more and more seldom where the ledger is merely slow.
const (
	firstTry = 2 * time.Second
	maxTry   = 10 * time.Second
	// A command is sent every second at first, for as long as it takes another
	// node to notice that the one before it is gone. It costs the ledger little: a
	// key that is under way is not carried out beside itself.
	commandTry = time.Second
	takeover   = 5 * time.Second
	// pauses between tries where nobody listens, or who does cannot now.
	minPause = 25 * time.Millisecond
	maxPause = 500 * time.Millisecond
	// lastTry is the least that a try is given. A shorter one would end before NATS
	// could say that nobody listens, and the outcome would be called unknown.
	lastTry = 100 * time.Millisecond
)

// An errand is a request that is sent until it is answered.
type errand struct {
	*nats.Msg
	// again is that it may be sent once more although somebody may have carried it
	// out: a command with a key, or a query. Anything may be sent again when nobody
	// was there to hear it.
	again bool
	// command is that it is a command, and not a query, which costs each time.
	command bool
}

// tryAfter is how long the next try may take, after one that took that long.
func (e errand) tryAfter(try, since time.Duration) time.Duration {
	if e.command && since < takeover {
		return commandTry
	}
	return min(try*3/2, maxTry)
}

func (e errand) firstTry() time.Duration {
	if e.command {
		return commandTry
	}
	return firstTry
}

// insist sends a request until it is answered, or ctx ends. NATS says at once when
// nobody listens, which is so while no node of the ledger leads.
func (c *Client) insist(ctx context.Context, e errand) (*nats.Msg, error) {
	begun := time.Now() //nolint:forbidigo // only differences are used
	until, limited := ctx.Deadline()
	if !limited {
		until = begun.Add(c.patience)
	}
	heard := false // it may have been carried out
	for try, pause := e.firstTry(), minPause; ; pause = min(2*pause, maxPause) {
		reply, err := c.once(ctx, e, try, until)
		refused, after := e.passes(reply)
		if err == nil && !refused {
			return reply, nil
		}
		nobody := errors.Is(err, nats.ErrNoResponders)
		heard = heard || err != nil && !nobody
		switch {
		case nobody && time.Since(begun) < c.absence: //nolint:forbidigo // as above
		case nobody, err != nil && !e.again, hopeless(err):
			return nil, c.unanswered(err, len(e.Data), heard)
		case errors.Is(err, context.DeadlineExceeded):
			try, pause = e.tryAfter(try, time.Since(begun)), minPause //nolint:forbidigo // as above
		}
		if rest(ctx, until, max(after, pause/2)+rand.N(pause)) == nil { //nolint:gosec // G404: so that not all come at once
			continue
		}
		if err == nil && !heard {
			return reply, nil // the refusal; nothing was changed
		}
		return nil, c.unanswered(err, len(e.Data), heard)
	}
}

// rest waits for some time, and fails if there is none left for another try then.
func rest(ctx context.Context, until time.Time, d time.Duration) error {
	ctx, cancel := context.WithDeadline(ctx, until.Add(-lastTry))
	defer cancel()
	return wait(ctx, d)
}

// store has JetStream store a message, which may be there already. It refuses for a
// while where the servers of a cluster have no leader.
func (c *Client) store(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	begun := time.Now() //nolint:forbidigo // only differences are used
	until, _ := ctx.Deadline()
	heard := false // it may have been stored
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		try, done := context.WithTimeout(ctx, maxTry)
		ack, err := c.js.PublishMsg(try, m)
		done()
		if err == nil {
			return ack, nil
		}
		nobody := errors.Is(err, jetstream.ErrNoStreamResponse)
		heard = heard || !nobody && !isRefusal(err)
		if nobody && time.Since(begun) >= c.absence || hopeless(err) || //nolint:forbidigo // as above
			rest(ctx, until, pause/2+rand.N(pause)) != nil { //nolint:gosec // G404: so that not all come at once
			return nil, c.unanswered(err, len(m.Data), heard)
		}
	}
}

// once sends a request once, and waits for the answer as long as one try takes,
// or, when there is no other, until then.
func (c *Client) once(ctx context.Context, e errand, try time.Duration, until time.Time) (*nats.Msg, error) {
	if e.again {
		if end := time.Now().Add(try); end.Before(until) { //nolint:forbidigo // only differences are used
			until = end
		}
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return c.conn.RequestMsgWithContext(ctx, e.Msg)
}

// unanswered says what it means that there was no answer.
func (c *Client) unanswered(err error, size int, heard bool) error {
	if heard && (err == nil || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) || isRefusal(err)) {
		err = context.DeadlineExceeded // it may have been carried out before nobody was there, or before it was refused
	}
	return c.failed(err, size)
}

// isRefusal reports whether JetStream has answered that it did not do what was asked.
func isRefusal(err error) bool {
	_, refused := errors.AsType[*jetstream.APIError](err)
	return refused
}

// hopeless reports whether sending the same again on this connection is in vain.
func hopeless(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refused.Code < 500 || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubject) ||
		errors.Is(err, context.Canceled)
}

// passes reports whether an answer is a refusal after which the same request may
// be sent again, and how soon: that of a node that does not lead any more, or for
// the moment cannot find out what became of the command, to whom the same key will
// be answered; or that of one that is busy, which has not looked at the request.
func (e errand) passes(m *nats.Msg) (passes bool, after time.Duration) {
	if m == nil || m.Header.Get(micro.ErrorCodeHeader) == "" {
		return false, 0
	}
	var refused fault.Answer
	if json.Unmarshal(m.Data, &refused) != nil {
		return false, 0
	}
	switch refused.Code {
	case standby, "closing", "store_unavailable", "outcome_unknown":
		return e.again, 0
	case "busy":
		seconds, _ := refused.Details["retry_after"].(float64)
		return true, time.Duration(min(max(seconds, 0), maxTry.Seconds()) * float64(time.Second))
	}
	return false, 0
}

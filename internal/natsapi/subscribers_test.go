package natsapi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// subscribers is how many follow the feed in the test below. Ten thousand of them
// are for a machine with nothing else to do: make subscribers.
func subscribers(t testing.TB) int {
	text := os.Getenv("STOCKLEDGER_TEST_SUBSCRIBERS")
	if text == "" {
		return 300
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// paced carries out commands from 8 callers, and returns how many a second, and how
// long one of a hundred took at least.
func paced(t *testing.T, s *shop, n int) (rate float64, p99 time.Duration) {
	const callers = 8
	took := make([]time.Duration, n)
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range callers {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				start := time.Now()
				if _, err := s.ledger.DoJSON(t.Context(), commands.Envelope{}, "adjust-inventory-levels", []byte(oneOn)); err != nil {
					t.Error(err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	all.Wait()
	rate = float64(n) / time.Since(began).Seconds()
	slices.Sort(took)
	return rate, took[n*99/100]
}

// An audience follows the feed, each on his own.
type audience struct {
	done    sync.WaitGroup
	after   uint64        // the event that they begin behind
	through atomic.Uint64 // they are to go on to that event; 0: it is not known yet
}

// gather has n follow the feed, and returns when each has had an event.
func gather(ctx context.Context, t *testing.T, s *shop, n int, after uint64) *audience {
	const (
		each     = 250 // on one connection
		arriving = 32  // at once
	)
	a := &audience{after: after}
	doors := make(chan struct{}, arriving)
	var ready sync.WaitGroup
	var client *natsapi.Client
	for i := range n {
		if i%each == 0 {
			client = dial(t, s.server.URL())
		}
		doors <- struct{}{}
		ready.Add(1)
		a.done.Go(func() { a.follow(ctx, t, client, sync.OnceFunc(func() { ready.Done(); <-doors })) })
	}
	ready.Wait()
	return a
}

// follow reads until the end, in order.
func (a *audience) follow(ctx context.Context, t *testing.T, client *natsapi.Client, first func()) {
	defer first()
	last := a.after
	for e, err := range client.Follow(ctx, a.after, "") {
		if err != nil {
			t.Errorf("after event %d of %d: %v", last, a.through.Load(), err)
			return
		}
		if e.Position != last+1 {
			t.Errorf("event %d came after event %d", e.Position, last)
		}
		last = e.Position
		first()
		if through := a.through.Load(); through > 0 && last >= through {
			return
		}
	}
}

// deaf asks the NATS server itself for every event of the feed and reads nothing of
// it, so that what is sent piles up at the server.
func deaf(t *testing.T, s *shop) {
	at, err := url.Parse(s.server.URL())
	require.NoError(t, err)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at.Host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprint(conn, "CONNECT {\"verbose\":false}\r\nSUB inventory.events.> 1\r\nPING\r\n")
	require.NoError(t, err)
}

// Whoever follows the feed costs the ledger no commit: while hundreds do, one of
// them stopped in mid-event and one that never reads at all, every command is
// carried out, all others have every event in order, and the one that stopped goes
// on from where it was without a loss.
func TestASubscriberThatStallsKeepsNobodyWaiting(t *testing.T) {
	n := subscribers(t)
	s := open(t)
	feed := serveFeed(t, connect(t, s.server), s.ledger.Events())
	s.command(t, "create-inventory-items", mug)
	const rounds, crowdedRounds = 2000, 200
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	alone, aloneLast := paced(t, s, rounds)

	stalled, goOn, seen := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	through := new(atomic.Uint64)
	client := dial(t, s.server.URL())
	go func() { seen <- stall(ctx, client, stalled, goOn, through) }()
	<-stalled
	deaf(t, s)
	all := gather(ctx, t, s, n, 1+rounds)
	crowded, crowdedLast := paced(t, s, crowdedRounds)

	head, err := s.ledger.Events().Head(within(t))
	require.NoError(t, err)
	require.EqualValues(t, 2+rounds+crowdedRounds, head, "no command was lost")
	through.Store(head)
	all.through.Store(head)
	s.command(t, "adjust-inventory-levels", oneOff) // whoever is at the head already hears that he may go
	began := time.Now()
	all.done.Wait()
	took := time.Since(began)
	require.NoError(t, feed.Err())
	close(goOn)
	require.NoError(t, <-seen)
	t.Logf("commands a second: %.0f alone, %.0f with %d subscribers, one stalled, one deaf (%.2f); p99 %s and %s (%.1f); the last had all %s later",
		alone, crowded, n, crowded/alone, aloneLast, crowdedLast, float64(crowdedLast)/float64(aloneLast), took)
}

// stall follows the feed, stops after the first event until it may go on, and then
// reads to the end.
func stall(ctx context.Context, client *natsapi.Client, stalled, goOn chan struct{}, through *atomic.Uint64) error {
	last := uint64(0)
	for e, err := range client.Follow(ctx, 0, "") {
		if err != nil {
			return fmt.Errorf("after event %d: %w", last, err)
		}
		if e.Position != last+1 {
			return fmt.Errorf("event %d came after event %d", e.Position, last)
		}
		if last = e.Position; last == 1 {
			close(stalled)
			<-goOn
		}
		if last == through.Load() {
			return nil
		}
	}
	return errors.New("it ended")
}

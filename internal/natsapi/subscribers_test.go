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

const rounds = 200 // commands that are carried out beside them

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

// paced carries out commands from 8 callers, each the next one when the feed has the
// last, so that the followers are served meanwhile, and returns how long a command took
// in the middle, and how long the slowest one of a hundred.
func paced(ctx context.Context, t *testing.T, s *shop, feed *natsapi.Feed) (p50, p99 time.Duration) {
	const callers = 8
	took := make([]time.Duration, rounds)
	var next atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < rounds; i = next.Add(1) - 1 {
				began := time.Now()
				answer, err := s.ledger.DoJSON(ctx, commands.Envelope{}, "adjust-inventory-levels", []byte(oneOn))
				took[i] = time.Since(began)
				if err == nil {
					err = feed.WaitFor(ctx, answer.Position)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took[rounds/2], took[rounds*99/100]
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

// A show is a crowd that follows the feed while commands are carried out.
type show struct {
	p50, p99 time.Duration // of the commands
	last     time.Duration // from the first command until each of the crowd had every event
	memory   int64         // bytes that the crowd takes, the server's part and their own
}

func (s show) String() string {
	return fmt.Sprintf("a command took %s, p99 %s; all had all %s after the first one; the crowd takes %d MiB",
		s.p50.Round(time.Microsecond), s.p99.Round(time.Microsecond), s.last.Round(time.Millisecond), s.memory>>20)
}

// perform has n follow the feed from its last event on while commands are carried
// out, and returns once they have had all of it.
func perform(ctx context.Context, t *testing.T, s *shop, feed *natsapi.Feed, n int) (seen show) {
	before := s.head(t)
	empty := memory()
	all := gather(ctx, t, s, n, before-1)
	seen.memory = int64(memory()) - int64(empty)
	began := time.Now()
	seen.p50, seen.p99 = paced(ctx, t, s, feed)
	require.Equal(t, before+rounds, s.head(t), "no command was lost")
	all.through.Store(before + rounds)
	s.command(t, "adjust-inventory-levels", oneOff) // whoever is there already hears that he may go
	all.done.Wait()
	seen.last = time.Since(began)
	return seen
}

// head is the position of the last event of the log.
func (s *shop) head(t testing.TB) uint64 {
	t.Helper()
	head, err := s.ledger.Events().Head(within(t))
	require.NoError(t, err)
	return head
}

// Whoever follows the feed costs the ledger no commit: while hundreds do, every
// command is carried out, and each of them has every event in order. Beside one that
// stopped in mid-event and one that never reads at all it is the same, and the one
// that stopped goes on from where it was without a loss.
func TestASubscriberThatStallsKeepsNobodyWaiting(t *testing.T) {
	n := subscribers(t)
	s := open(t)
	feed := serveFeed(t, connect(t, s.server), s.ledger.Events())
	s.command(t, "create-inventory-items", mug)
	ctx, cancel := context.WithTimeout(t.Context(), 15*patience)
	defer cancel()
	p50, p99 := paced(ctx, t, s, feed)
	t.Logf("alone a command took %s, p99 %s", p50, p99)
	quiet := perform(ctx, t, s, feed, n)
	t.Logf("beside %d subscribers: %s", n, quiet)

	stalled, goOn, seen := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	through := new(atomic.Uint64)
	client := dial(t, s.server.URL())
	go func() { seen <- stall(ctx, client, stalled, goOn, through) }()
	<-stalled
	deaf(t, s)
	beside := perform(ctx, t, s, feed, n)
	t.Logf("one more of which has stalled, and one is deaf: %s", beside)
	// A subscriber that held commands up would do so until it is given up, which is
	// after seconds; whatever is less may be the machine.
	require.Less(t, beside.p99, 10*quiet.p99+time.Second)

	require.NoError(t, feed.Err())
	through.Store(s.head(t))
	close(goOn)
	require.NoError(t, <-seen)
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

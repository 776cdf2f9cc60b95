package esdbstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/esdbstore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/esdbdouble"
)

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, time.Minute, time.Millisecond, what)
}

// within bounds what must end by itself.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// counting counts log messages.
type counting struct {
	slog.Handler
	mu   sync.Mutex
	seen map[string]int
}

func (c *counting) Enabled(context.Context, slog.Level) bool { return true }

func (c *counting) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[r.Message]++
	return nil
}

func (c *counting) WithAttrs([]slog.Attr) slog.Handler { return c }

func (c *counting) of(message string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[message]
}

func newCounting() *counting {
	return &counting{Handler: slog.DiscardHandler, seen: make(map[string]int)}
}

const unreachable = "cannot reach EventStoreDB"

// persist appends until the outcome is known, as a caller must.
func persist(ctx context.Context, s events.Store, c events.Commit) error {
	for {
		_, err := s.Append(ctx, c)
		if err == nil || ctx.Err() != nil {
			return err
		}
		n := 0
		for _, readErr := range s.Read(ctx, c[0].Stream, c[0].Version-1) {
			if readErr == nil {
				n++
			}
		}
		if n > 0 {
			return nil
		}
		if errors.Is(err, events.ErrConflict) || errors.Is(err, events.ErrClosed) {
			return err
		}
	}
}

// whole is the log up to its head.
func whole(t *testing.T, s events.Store) (log []events.Recorded) {
	t.Helper()
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	if head == 0 {
		return nil
	}
	for batch, err := range s.Subscribe(within(t), 0) {
		require.NoError(t, err)
		if log = append(log, batch...); uint64(len(log)) >= head {
			break
		}
	}
	return log
}

// holds checks that a log is exactly what its author wrote, and each stream too.
func holds(t *testing.T, s events.Store, want []events.Recorded) {
	t.Helper()
	got := whole(t, s)
	require.Len(t, got, len(want))
	streams := make(map[string][]events.Recorded)
	for i, e := range want {
		require.Equal(t, e.Hash, got[i].Hash, "position %d", i+1)
		require.Equal(t, e.Hash, got[i].Link(), "position %d", i+1)
		streams[e.Stream] = append(streams[e.Stream], e)
	}
	for stream, list := range streams {
		n := 0
		for e, err := range s.Read(t.Context(), stream, 0) {
			require.NoError(t, err)
			require.Equal(t, list[n].Hash, e.Hash, stream)
			n++
		}
		require.Equal(t, len(list), n, stream)
	}
}

func journals(name string) bool { return strings.HasSuffix(name, ".journal") }
func copies(name string) bool   { return !journals(name) && !strings.HasPrefix(name, "$") }

func TestServerThatIsDownAtTheStartIsWaitedFor(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it is stopped")
	d.Stop()
	var err error
	for wait := 50 * time.Millisecond; ; wait *= 2 { // a busy machine may not get as far as to be refused
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		_, err = esdbstore.Open(ctx, esdbstore.Config{URL: d.URL(), Logger: quiet()})
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		if wait > 10*time.Second || strings.Contains(err.Error(), "refused") {
			break
		}
	}
	require.ErrorContains(t, err, "refused", "why")

	log := newCounting()
	opened := make(chan *esdbstore.Store)
	go func() {
		s, err := esdbstore.Open(within(t), esdbstore.Config{URL: d.URL(), Logger: slog.New(log)})
		if err != nil {
			t.Error(err)
		}
		opened <- s
	}()
	eventually(t, "it tries again", func() bool { return log.of(unreachable) >= 3 })
	d.StartAgain()
	s := <-opened
	defer s.Close()
	var a storetest.Author
	_, err = s.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err)
	holds(t, s, a.Log)
}

// The client gives up for ever after its attempts; a minute of them has passed
// when several of its successors have failed, too.
func TestServerThatComesBackIsFoundAgain(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it is stopped")
	log := newCounting()
	s, err := esdbstore.Open(t.Context(), esdbstore.Config{URL: d.URL(), Logger: slog.New(log)})
	require.NoError(t, err)
	defer s.Close()
	var a storetest.Author
	_, err = s.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err)
	d.Stop()

	for _, call := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := s.Head(ctx); return err },
		func(ctx context.Context) error { _, err := s.Append(ctx, events.Commit{a.Log[0]}); return err },
		func(ctx context.Context) error {
			for _, err := range s.Read(ctx, "item-1", 0) {
				return err
			}
			return nil
		},
	} {
		var calls sync.WaitGroup
		for range 16 {
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
				defer cancel()
				if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("it does not honour its context: %v", err)
				}
			})
		}
		calls.Wait()
	}
	waiting := make(chan error)
	go func() {
		_, err := s.Head(within(t))
		waiting <- err
	}()
	eventually(t, "it tries again", func() bool { return log.of(unreachable) >= 6 })
	d.StartAgain()
	require.NoError(t, <-waiting)
	require.NoError(t, persist(within(t), s, a.Commit("item-1", "item-2")))
	holds(t, s, a.Log)
}

// Each Unavailable costs the client a connection, which it never closes, unless
// it is closed itself before it makes the next.
func TestUnavailableAnswersLeakNoConnections(t *testing.T) {
	const answers = 1000
	d := esdbdouble.NeedsDouble(t, "it answers Unavailable")
	s := open(t, d.URL())
	lease, err := s.Register(t.Context(), "lease")
	require.NoError(t, err)
	fault := d.Inject(esdbdouble.Refuse(codes.Unavailable), esdbdouble.When{Kind: esdbdouble.Reads, Times: answers})
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			for fault.Hits() < answers && t.Context().Err() == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				_, _, _ = lease.Get(ctx)
				cancel()
			}
		})
	}
	callers.Wait()
	fault.Await(t, answers)
	_, _, err = lease.Get(within(t))
	require.NoError(t, err)
	t.Logf("%d connections were made", d.Accepted())
	eventually(t, "one connection to read, one to copy", func() bool { return d.Conns() <= 2 })
}

// Answers are lost in the ways the client tells apart, and some that it does not.
func TestStoreWhoseAnswersAreLost(t *testing.T) {
	for name, fault := range map[string]map[bool]esdbdouble.Fault{
		"unavailable": {true: esdbdouble.LoseAnswer(codes.Unavailable), false: esdbdouble.Refuse(codes.Unavailable)},
		"aborted":     {true: esdbdouble.LoseAnswer(codes.Aborted), false: esdbdouble.Refuse(codes.Aborted)},
		"dropped":     {true: esdbdouble.DropAfter(), false: esdbdouble.Drop()},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.RunUnknown(t, func(t *testing.T) (events.Store, func(bool)) {
				d := esdbdouble.NeedsDouble(t, "it loses answers")
				return open(t, d.URL()), func(recorded bool) {
					d.Inject(fault[recorded], esdbdouble.When{Kind: esdbdouble.Appends, Stream: journals, Times: 1})
				}
			})
		})
	}
}

func TestAnswersThatNeverCome(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it does not answer")
	s := open(t, d.URL())
	var a storetest.Author
	for _, fault := range []esdbdouble.Fault{esdbdouble.Hang(), esdbdouble.HangAfter()} {
		d.Inject(fault, esdbdouble.When{Kind: esdbdouble.Appends, Times: 1})
		require.NoError(t, persist(within(t), s, a.Commit("item-1", "item-2")))
	}
	holds(t, s, a.Log)
}

func TestStoreWhoseConnectionsBreak(t *testing.T) {
	storetest.RunReconnect(t, func(t *testing.T) (events.Store, func()) {
		d := esdbdouble.NeedsDouble(t, "its connections are broken")
		return open(t, d.URL()), d.DropConnections
	})
}

func TestTwoStoresOnOneLog(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (a, b events.Shared) {
		url := esdbdouble.URL(t)
		return open(t, url), open(t, url)
	})
}

func TestCommitsThatAreTooLarge(t *testing.T) {
	storetest.RunTooLarge(t, func(t *testing.T) events.Store {
		return open(t, esdbdouble.URL(t)+"&maxAppendSize=16384")
	}, 4000)
}

func TestEventThatIsTooLarge(t *testing.T) {
	s := open(t, esdbdouble.URL(t))
	var a storetest.Author
	large := a.Commit("item-1")
	large[0].Data = make([]byte, 1<<20)
	_, err := s.Append(t.Context(), large)
	require.ErrorIs(t, err, events.ErrTooLarge)
	require.ErrorContains(t, err, "maxAppendSize")
}

// Its readers hold a commit in memory, however much the server takes at once.
func TestCommitThatIsTooLargeForItsReaders(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "its limit is large", esdbdouble.MaxAppendSize(15_000_000))
	s := open(t, d.URL()+"&maxAppendSize=15000000")
	var a storetest.Author
	_, err := s.Append(t.Context(), large(&a, "item-1", slices.Repeat([]int{13 << 20}, 5)...))
	require.ErrorIs(t, err, events.ErrTooLarge)
}

// The server takes less than the URL says, and tells it in the middle of the
// sending, which the client reports as the end of the stream.
func TestServerThatTakesLess(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "its limit is small", esdbdouble.MaxAppendSize(64<<10))
	s := open(t, d.URL())
	var a storetest.Author
	streams := make([]string, 1000)
	for i := range streams {
		streams[i] = fmt.Sprintf("item-%d", i%3)
	}
	require.NoError(t, persist(within(t), s, a.Commit(streams...)))
	require.NoError(t, persist(within(t), s, a.Commit(streams...)))
	holds(t, s, a.Log)
	eventually(t, "the streams, too", s.Copied)
}

func TestLeaderThatChanges(t *testing.T) {
	nodes := esdbdouble.StartCluster(t, 3)
	s := open(t, nodes[0].ClusterURL())
	alone := open(t, nodes[2].URL()) // it knows of one node, which does not lead
	var a storetest.Author
	for i := range 6 {
		nodes[i%3].Lead()
		of := []*esdbstore.Store{s, alone}[i%2]
		require.NoError(t, persist(within(t), of, a.Commit("item-1", "item-2")))
	}
	holds(t, s, a.Log)
	holds(t, alone, a.Log)
	for i, n := range nodes {
		c := n.Counts()
		t.Logf("node %d: %+v", i, c)
		require.Positive(t, c.ForLeader, "the header is sent")
	}
}

// What one appends the other is told of, each event once, in order, though its
// subscription breaks, and though the server says that it is further than it is.
func TestSubscriptionThatIsDropped(t *testing.T) {
	for name, options := range map[string][]esdbdouble.Option{
		"": nil, "checkpoints at the end": {esdbdouble.CheckpointsAtEnd()},
	} {
		t.Run(name, func(t *testing.T) {
			d := esdbdouble.NeedsDouble(t, "its subscriptions are dropped", options...)
			writer, reader := open(t, d.URL()), open(t, d.URL())
			const rounds = 5
			var a storetest.Author
			got := make(chan events.Recorded)
			go func() {
				defer close(got)
				for batch, err := range reader.Subscribe(within(t), 0) {
					if err != nil {
						t.Error(err)
						return
					}
					for _, e := range batch {
						got <- e
						if e.Position == 2*rounds {
							return
						}
					}
				}
			}()
			for range rounds {
				c := a.Commit("item-1", "item-2")
				if _, err := writer.Append(t.Context(), c); err != nil {
					require.NoError(t, persist(within(t), writer, c))
				}
				for _, e := range c {
					require.Equal(t, e.Hash, (<-got).Hash)
				}
				d.AbortSubscriptions(codes.Unavailable)
			}
			_, open := <-got
			require.False(t, open)
		})
	}
}

// Wherever the process that appended stopped copying, the next one goes on.
func TestCrashBetweenJournalAndStreams(t *testing.T) {
	for copied := range 5 { // streams to which something was copied before the crash
		for name, fault := range map[string]esdbdouble.Fault{"before": esdbdouble.Hang(), "after": esdbdouble.HangAfter()} {
			t.Run(fmt.Sprintf("%s the copy to stream %d", name, copied+1), func(t *testing.T) {
				d := esdbdouble.NeedsDouble(t, "it does not answer")
				crashing, standing := open(t, d.URL()), open(t, d.URL())
				var a storetest.Author
				_, err := crashing.Append(t.Context(), a.Commit("item-1", "item-2"))
				require.NoError(t, err)
				eventually(t, "the first commit is copied", crashing.Copied)
				hanging := d.Inject(fault, esdbdouble.When{Kind: esdbdouble.Appends, Stream: copies, Skip: copied})
				_, err = crashing.Append(t.Context(), a.Commit("item-1", "item-2", "item-3", "item-1", "item-4"))
				require.NoError(t, err)
				if copied < 4 {
					hanging.Await(t, 1)
				}
				crashing.Crash()
				hanging.Remove()
				holds(t, standing, a.Log) // though it has not copied anything

				next := open(t, d.URL())
				require.True(t, next.Copied())
				for i, n := range []int{3, 2, 1, 1} {
					require.Len(t, d.Events(fmt.Sprintf("stockledger.item-%d", i+1)), n)
				}
				holds(t, next, a.Log)
				_, err = next.Append(t.Context(), a.Commit("item-4", "item-1"))
				require.NoError(t, err)
				holds(t, standing, a.Log)
			})
		}
	}
}

// What was copied in other portions than it is copied now is not copied twice.
func TestCopiesThatAreThereInPart(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it does not answer")
	crashing := open(t, d.URL())
	hanging := d.Inject(esdbdouble.HangAfter(), esdbdouble.When{Kind: esdbdouble.Appends, Stream: copies})
	var a storetest.Author
	_, err := crashing.Append(t.Context(), a.Commit(slices.Repeat([]string{"item-1"}, 100)...))
	require.NoError(t, err)
	hanging.Await(t, 1)
	_, err = crashing.Append(t.Context(), a.Commit(slices.Repeat([]string{"item-1"}, 200)...))
	require.NoError(t, err)
	crashing.Crash()
	hanging.Remove()
	require.Len(t, d.Events("stockledger.item-1"), 100)
	next := open(t, d.URL())
	require.Len(t, d.Events("stockledger.item-1"), 300)
	holds(t, next, a.Log)
}

// What another process copied is not waited for, so that the events of a stream
// which are still to be copied may have a gap.
func TestCopiesOfAnotherBetweenThose(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it is slow")
	slow, other := open(t, d.URL()), open(t, d.URL())
	release := make(chan struct{})
	held := d.Inject(esdbdouble.Hold(release), esdbdouble.When{Kind: esdbdouble.Appends, Stream: copies, Times: 1})
	var a storetest.Author
	by := func(s *esdbstore.Store) {
		_, err := s.Append(t.Context(), a.Commit("item-1"))
		require.NoError(t, err)
	}
	by(slow) // and its copy is held
	held.Await(t, 1)
	by(slow) // and is to be copied after that one
	for range 2 {
		by(other)
		require.NoError(t, other.Copy(within(t)))
	}
	require.NoError(t, other.Close())
	require.Len(t, d.Events("stockledger.item-1"), 4)
	holds(t, slow, a.Log) // it knows from the last one that those before it are copied
	by(slow)
	close(release)
	require.NoError(t, slow.Copy(within(t)))
	require.Len(t, d.Events("stockledger.item-1"), 5)
	holds(t, slow, a.Log)
}

// A commit of several parts is there when the last of them is. Whoever finds some
// of them only, whenever he began to read, passes over them.
func TestPartsThatWereAbandoned(t *testing.T) {
	for parts := range 4 { // that were written before the crash
		t.Run(fmt.Sprintf("after %d parts", parts), func(t *testing.T) {
			d := esdbdouble.NeedsDouble(t, "it does not answer")
			url := d.URL() + "&maxAppendSize=16384"
			crashing, standing := open(t, url), open(t, url)
			var a, lost storetest.Author
			_, err := crashing.Append(t.Context(), a.Commit("item-1"))
			require.NoError(t, err)
			hanging := d.Inject(esdbdouble.Hang(), esdbdouble.When{Kind: esdbdouble.Appends, Stream: journals, Skip: parts})
			done := make(chan error)
			go func() {
				_, err := crashing.Append(t.Context(), lost.Commit(slices.Repeat([]string{"item-large"}, 100)...))
				done <- err
			}()
			hanging.Await(t, 1)
			opened := open(t, url) // it begins to read in the middle
			crashing.Crash()
			require.Error(t, <-done)
			hanging.Remove()
			if parts == 2 { // parts follow upon parts
				_, err = standing.Append(t.Context(), a.Commit(slices.Repeat([]string{"item-1"}, 90)...))
				require.NoError(t, err)
			}
			for _, s := range []events.Store{opened, standing, opened} {
				_, err = s.Append(t.Context(), a.Commit("item-1", "item-2"), a.Commit(slices.Repeat([]string{"item-2"}, 90)...))
				require.NoError(t, err)
			}
			for _, s := range []*esdbstore.Store{opened, standing, open(t, url)} {
				holds(t, s, a.Log)
				head, err := s.Head(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, len(a.Log), head)
			}
		})
	}
}

// Another process that finds half a commit may write; then the half is void for
// who wrote it, too, and he writes it again behind.
func TestPartsBetweenWhichAnotherWrites(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it is slow")
	url := d.URL() + "&maxAppendSize=16384"
	slow, other := open(t, url), open(t, url)
	var a, b storetest.Author
	release := make(chan struct{})
	held := d.Inject(esdbdouble.Hold(release), esdbdouble.When{Kind: esdbdouble.Appends, Stream: journals, Skip: 2, Times: 1})
	done := make(chan error)
	large := a.Commit(slices.Repeat([]string{"item-large"}, 100)...)
	go func() {
		_, err := slow.Append(t.Context(), large)
		done <- err
	}()
	held.Await(t, 1)
	_, err := other.Append(t.Context(), b.Commit("item-1"))
	require.NoError(t, err)
	close(release)
	require.NoError(t, <-done)
	want := append(slices.Clone(b.Log), a.Log...)
	holds(t, slow, want)
	holds(t, other, want)
	holds(t, open(t, url), want)
}

// A record, or a part of one, whose answer was lost can arrive when the commit has
// been cut into smaller parts. It is not taken for one of them, and its caller is
// not told that his own commit is a conflict, before he was told to read.
func TestPartThatArrivesLate(t *testing.T) {
	for name, n := range map[string]int{"a record": 4, "a part": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // the first attempt must time out
			d := esdbdouble.NeedsDouble(t, "it is slow")
			url := d.URL() + "&maxAppendSize=65536"
			s, other := open(t, url), open(t, url)
			late, next := make(chan struct{}), make(chan struct{})
			inject := func(f esdbdouble.Fault) *esdbdouble.Injected {
				return d.Inject(f, esdbdouble.When{Kind: esdbdouble.Appends, Stream: journals, Times: 1})
			}
			inject(esdbdouble.Hold(late))
			inject(esdbdouble.Refuse(codes.InvalidArgument))
			smaller := inject(esdbdouble.Hold(next))
			var a storetest.Author
			c := large(&a, "item-1", slices.Repeat([]int{10_000}, n)...)
			_, err := s.Append(t.Context(), c)
			require.Error(t, err)
			require.NotErrorIs(t, err, events.ErrConflict, "its own commit is no conflict")
			require.NotErrorIs(t, err, events.ErrTooLarge)
			done := make(chan error)
			go func() { done <- persist(within(t), s, c) }()
			smaller.Await(t, 1)
			close(late)
			eventually(t, "it arrives", func() bool { return len(d.Events("stockledger.journal")) == 2 })
			close(next)
			require.NoError(t, <-done)
			holds(t, s, a.Log)
			holds(t, other, a.Log)
			holds(t, open(t, url), a.Log)
		})
	}
}

// large is a commit of events of so many bytes.
func large(a *storetest.Author, stream string, sizes ...int) events.Commit {
	c := a.Commit(slices.Repeat([]string{stream}, len(sizes))...)
	prev := c[0].Prev
	for i, size := range sizes {
		c[i].Data, c[i].Prev = make([]byte, size), prev
		c[i].Hash = c[i].Link()
		prev = c[i].Hash
	}
	copy(a.Log[len(a.Log)-len(c):], c)
	return c
}

// Requests that do not fit into one record wait for the next one, and for each other.
func TestLargeRequestsThatWaitTogether(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it is slow")
	s := open(t, d.URL()+"&maxAppendSize=16384")
	release := make(chan struct{})
	held := d.Inject(esdbdouble.Hold(release), esdbdouble.When{Kind: esdbdouble.Appends, Stream: journals, Times: 1})
	var callers sync.WaitGroup
	request := func(stream string) {
		var a storetest.Author
		commits := make([]events.Commit, 6)
		for i := range commits {
			commits[i] = large(&a, stream, 5000)
		}
		callers.Go(func() {
			if ends, err := s.Append(within(t), commits...); err != nil || len(ends) != len(commits) {
				t.Errorf("%s: %v, %v", stream, ends, err)
			}
		})
	}
	request("item-0")
	held.Await(t, 1)
	for i := range 8 {
		request(fmt.Sprintf("item-%d", i+1))
	}
	eventually(t, "they wait", func() bool { return s.Waiting() == 8 })
	close(release)
	callers.Wait()
	require.Len(t, whole(t, s), 9*6)
}

// A connection that breaks in the middle of the sending looks as a refusal of the
// size does, to the client. It is none.
func TestConnectionThatBreaksDuringALargeAppend(t *testing.T) {
	for name, at := range map[string]func(string) bool{"to the journal": journals, "to a stream": copies} {
		t.Run(name, func(t *testing.T) {
			d := esdbdouble.NeedsDouble(t, "it refuses in the middle")
			s := open(t, d.URL())
			broken := d.Inject(esdbdouble.RefuseEarly(codes.Unavailable), esdbdouble.When{Kind: esdbdouble.Appends, Stream: at, Times: 1})
			var a storetest.Author
			for range 2 {
				_, err := s.Append(t.Context(), large(&a, "item-1", 700_000))
				require.NoError(t, err)
				broken.Await(t, 1)
				require.NoError(t, s.Copy(within(t)))
			}
			holds(t, s, a.Log)
		})
	}
}

// Nor is it one when there is no server afterwards for as long as it is waited for.
func TestConnectionThatBreaksBeforeTheServerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, broken := time.Now(), false
		tooLarge, err := esdbstore.Insist(t.Context(), func(ctx context.Context) error {
			switch {
			case time.Since(began) < 8*time.Second:
				return status.Error(codes.Aborted, "a timeout of the server's own")
			case !broken:
				broken = true
				return io.EOF
			default:
				<-ctx.Done()
				return ctx.Err()
			}
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, broken)
		require.False(t, tooLarge, "%v", err)
	})
}

// A server that has less than it had takes no append of who knows more.
func TestServerThatWasRestoredFromABackup(t *testing.T) {
	s := open(t, esdbdouble.URL(t))
	var a storetest.Author
	_, err := s.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err)
	s.Ahead()
	_, err = s.Append(within(t), a.Commit("item-1"))
	require.ErrorContains(t, err, "backup")
}

// The standby copies what nobody copies.
func TestStandbyCopiesWhatIsLeft(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it does not answer")
	crashing, standing := open(t, d.URL()), open(t, d.URL())
	hanging := d.Inject(esdbdouble.Hang(), esdbdouble.When{Kind: esdbdouble.Appends, Stream: copies})
	var a storetest.Author
	_, err := crashing.Append(t.Context(), a.Commit("item-1", "item-1"))
	require.NoError(t, err)
	hanging.Await(t, 1)
	crashing.Crash()
	hanging.Remove()
	eventually(t, "it is copied", func() bool { return len(d.Events("stockledger.item-1")) == 2 })
	holds(t, standing, a.Log)
}

// Whoever opens a log later finds any position in a journal he has not read, with
// commits of several records in it.
func TestOldPositionsAreFound(t *testing.T) {
	url := esdbdouble.URL(t) + "&maxAppendSize=16384"
	s := open(t, url)
	var a storetest.Author
	for i := range 300 {
		streams := []string{"item-1"}
		if i%100 == 50 {
			streams = slices.Repeat(streams, 200)
		}
		_, err := s.Append(t.Context(), a.Commit(streams...))
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	n := len(a.Log)
	for _, after := range []int{0, 1, 49, 50, 150, 249, 250, 251, 360, 600, n - 2, n - 1} {
		later := open(t, url)
		for batch, err := range later.Subscribe(within(t), uint64(after)) {
			require.NoError(t, err)
			for i, e := range batch {
				require.EqualValues(t, after+i+1, e.Position)
				require.Equal(t, a.Log[after+i].Hash, e.Hash)
			}
			break
		}
	}
	holds(t, open(t, url), a.Log)
}

// A user who may not read $all follows the journal alone.
func TestUserWhoMayNotReadAll(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "it refuses $all")
	d.Inject(esdbdouble.Refuse(codes.PermissionDenied), esdbdouble.When{
		Kind: esdbdouble.Subscriptions, Stream: func(name string) bool { return name == "$all" },
	})
	writer, reader := open(t, d.URL()), open(t, d.URL())
	eventually(t, "both follow", func() bool { return d.Subscriptions() == 2 })
	var a storetest.Author
	_, err := writer.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err)
	holds(t, reader, a.Log)
}

// A stream that is not the ledger's alone stops the store, loudly.
func TestStreamThatAnotherWroteTo(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "somebody else writes to it")
	s := open(t, d.URL())
	var a storetest.Author
	d.Write("stockledger.item-1", esdbdouble.Event{Type: "foreign", Data: []byte("{}")})
	_, err := s.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err, "the journal has it")
	eventually(t, "it stops", func() bool {
		_, err := s.Append(t.Context(), a.Commit("item-2"))
		return errors.Is(err, events.ErrStopped)
	})
}

func TestTwoThatMakeTheLogAtOnceAgreeOnItsIdentity(t *testing.T) {
	url := esdbdouble.URL(t)
	ids := make([]string, 8)
	var makers sync.WaitGroup
	for i := range ids {
		makers.Go(func() {
			s, err := esdbstore.Open(t.Context(), esdbstore.Config{URL: url, Logger: quiet()})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = s.LogID()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	makers.Wait()
	require.Len(t, slices.Compact(ids), 1)
	s, err := esdbstore.Open(t.Context(), esdbstore.Config{URL: url, LogID: ids[0], Logger: quiet()})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = esdbstore.Open(t.Context(), esdbstore.Config{URL: url, LogID: uuid.NewString(), Logger: quiet()})
	require.ErrorIs(t, err, events.ErrOtherLog)
	want := uuid.NewString()
	s, err = esdbstore.Open(t.Context(), esdbstore.Config{URL: esdbdouble.URL(t), LogID: want, Logger: quiet()})
	require.NoError(t, err)
	require.Equal(t, want, s.LogID())
	require.NoError(t, s.Close())
}

// The client tells the revision of a conflict in a text only.
func TestRevisionInAWrongExpectedVersion(t *testing.T) {
	config, err := esdb.ParseConnectionString(strings.Split(esdbdouble.Start(t).URL(), "&")[0])
	require.NoError(t, err)
	config.Logger = esdb.NoopLogging()
	c, err := esdb.NewClient(config)
	require.NoError(t, err)
	defer c.Close()
	event := func() esdb.EventData { return esdb.EventData{EventID: uuid.New(), EventType: "t"} }
	_, err = c.AppendToStream(t.Context(), "a", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event(), event(), event())
	require.NoError(t, err)
	for _, expected := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Revision(1), esdb.Revision(7)} {
		_, err = c.AppendToStream(t.Context(), "a", esdb.AppendToStreamOptions{ExpectedRevision: expected}, event())
		revision, found := esdbstore.RevisionIn(fmt.Errorf("wrapped: %w", err))
		require.True(t, found, "%v", err)
		require.EqualValues(t, 2, revision)
	}
	_, err = c.AppendToStream(t.Context(), "b", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(3)}, event())
	revision, found := esdbstore.RevisionIn(err)
	require.True(t, found)
	require.EqualValues(t, -1, revision)
	for _, other := range []error{nil, errors.New("but got '2'"), new(esdb.Error)} {
		_, found = esdbstore.RevisionIn(other)
		require.False(t, found)
	}
}

func TestEventsAreGoodToReadInEventStoreDB(t *testing.T) {
	d := esdbdouble.NeedsDouble(t, "its log is looked at")
	s := open(t, d.URL())
	e, err := events.Record("item-1", 0, events.Hash{}, events.StockAdjusted{ItemID: "1", Delta: events.Units(1)},
		&events.Meta{EventID: "e", Command: "c", CommandID: "k", Correlation: `order "7"`, Causation: "basket", Actor: "Zoë"})
	require.NoError(t, err)
	_, err = s.Append(t.Context(), events.Commit{e})
	require.NoError(t, err)
	eventually(t, "it is copied", s.Copied)
	got := d.Events("stockledger.item-1")
	require.Len(t, got, 1)
	require.Equal(t, "inventory.stock-adjusted.v1", got[0].Type)
	require.JSONEq(t, string(e.Data), string(got[0].Data))
	require.JSONEq(t, fmt.Sprintf(`{"$correlationId":"order \"7\"","$causationId":"basket","position":1,"prev":"%s","hash":"%s","meta":%s}`,
		e.Prev, e.Hash, e.Meta), string(got[0].Meta))
}

func TestURL(t *testing.T) {
	for _, good := range []string{
		"esdb://localhost:2113?tls=false", "kurrentdb://localhost?tls=false&ledger=berlin", "esdb://a:1,b:2,c:3?tls=true&maxAppendSize=1048576",
		"esdb+discover://cluster.example:2113", "esdb://user:p%40ss@localhost:2113", "kurrentdb+discover://cluster.example", "esdb://localhost/?TLS=false",
	} {
		require.NoError(t, esdbstore.CheckURL(good), good)
	}
	for bad, says := range map[string]string{
		"nats://localhost":                               "scheme",
		"localhost:2113":                                 "esdb://",
		"esdb://":                                        "no host",
		"esdb://localhost/path":                          "path",
		"esdb+discover://a,b":                            "several hosts",
		"esdb://localhost?ledger=":                       "ledger",
		"esdb://localhost?ledger=a.b":                    "ledger",
		"esdb://localhost?maxAppendSize=1":               "maxAppendSize",
		"esdb://localhost?tsl=false":                     "tsl",
		"esdb://localhost?tls=no":                        "tls",
		"esdb://localhost?defaultDeadline=soon":          "defaultDeadline",
		"esdb://localhost?keepAliveInterval=1":           "keepAliveInterval",
		"esdb://localhost?nodePreference=follower":       "nodePreference",
		"esdb://[::1]:2113":                              "wrong host format",
		"esdb://user:s3cret@localhost?tls=false":         "TLS",
		"esdb://user:s3cret%@localhost":                  "credentials",
		"esdb://:s3cret@localhost":                       "credentials",
		"esdb://user:s3cret@localhost:port":              "port",
		"esdb://user:s3cret@localhost?maxAppendSize=%zz": "parameters",
		"esdb://user:s3cret@":                            "no host",
		"esdb://user:no?s3cret@localhost":                "%3F",
	} {
		err := esdbstore.CheckURL(bad)
		require.ErrorContains(t, err, says, bad)
		require.NotContains(t, err.Error(), "s3cret", bad)
		_, err = esdbstore.Open(t.Context(), esdbstore.Config{URL: bad})
		require.Error(t, err)
	}
}

package commands_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

var errDisk = errors.New("the disk is gone")

// flaky is a memstore that fails as a test wants. A nil func does not fail.
type flaky struct {
	*memstore.Store
	appending atomic.Pointer[func(commits []events.Commit) ([]uint64, error)]
	reading   atomic.Pointer[func(stream string, r *events.Recorded) error] // each event, and once at the end
	heading   atomic.Pointer[error]
	following atomic.Pointer[func(batch []events.Recorded) ([]events.Recorded, error)]
}

func newFlaky() *flaky { return &flaky{Store: memstore.New()} }

func (f *flaky) onAppend(do func(commits []events.Commit) ([]uint64, error)) {
	if do == nil {
		f.appending.Store(nil)
	} else {
		f.appending.Store(&do)
	}
}

func (f *flaky) onRead(do func(stream string, r *events.Recorded) error) { f.reading.Store(&do) }

func (f *flaky) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	if do := f.appending.Load(); do != nil {
		return (*do)(commits)
	}
	return f.Store.Append(ctx, commits...)
}

func (f *flaky) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	if do := f.appending.Load(); do != nil {
		return (*do)(commits)
	}
	return f.Store.AppendAt(ctx, head, commits...)
}

// record appends whatever the test wants to be there.
func (f *flaky) record(commits ...events.Commit) []uint64 {
	positions, err := f.Store.Append(context.Background(), commits...)
	if err != nil {
		panic(err)
	}
	return positions
}

func (f *flaky) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		do := f.reading.Load()
		for r, err := range f.Store.Read(ctx, stream, after) {
			if do != nil && err == nil {
				err = (*do)(stream, &r)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
		if do == nil {
			return
		}
		if err := (*do)(stream, nil); err != nil {
			yield(events.Recorded{}, err)
		}
	}
}

func (f *flaky) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range f.Store.Subscribe(ctx, after) {
			do := f.following.Load()
			if do == nil || err != nil {
				if !yield(batch, err) {
					return
				}
				continue
			}
			batch, err = (*do)(batch)
			if !yield(batch, nil) || err != nil && !yield(nil, err) || err != nil {
				return
			}
		}
	}
}

func (f *flaky) Head(ctx context.Context) (uint64, error) {
	if err := f.heading.Load(); err != nil {
		return 0, *err
	}
	return f.Store.Head(ctx)
}

func (f *flaky) down(err error) {
	f.onAppend(func([]events.Commit) ([]uint64, error) { return nil, err })
	f.heading.Store(&err)
}

func (f *flaky) up() {
	f.onAppend(nil)
	f.heading.Store(nil)
}

// commitsOf counts the commits of each key in the log.
func (s *shop) commitsOf() map[string]int {
	all := map[string]int{}
	for _, r := range s.recorded(0) {
		meta, err := r.Metadata()
		require.NoError(s.t, err)
		if meta.Last() {
			all[meta.CommandID]++
		}
	}
	return all
}

// Whatever becomes of the first append, the command is carried out once, and its
// publisher does not notice.
func TestAFailedAppendIsTriedAgain(t *testing.T) {
	for name, fail := range map[string]func(*flaky, []events.Commit) ([]uint64, error){
		"before it recorded anything": func(*flaky, []events.Commit) ([]uint64, error) { return nil, errDisk },
		"its answer was lost": func(f *flaky, commits []events.Commit) ([]uint64, error) {
			f.record(commits...)
			return nil, errDisk
		},
		"as a conflict": func(*flaky, []events.Commit) ([]uint64, error) { return nil, events.ErrConflict },
	} {
		for _, key := range []string{"", "sale-1"} {
			t.Run(fmt.Sprintf("%s, key %q", name, key), func(t *testing.T) {
				store := newFlaky()
				s := openShop(t, store)
				s.stocked("cup", "paris", 5)
				store.onAppend(func(commits []events.Commit) ([]uint64, error) {
					store.onAppend(nil)
					return fail(store, commits)
				})
				before := s.head()
				answer := s.do("create-reservations", cupHas+`"quantity":2}]`, keyed(key))
				require.False(t, answer.Replayed, "it is its own answer")
				require.Equal(t, before+1, s.head())
				require.Equal(t, s.head(), answer.Position)
				require.Len(t, result[[]commands.ReservationRow](t, answer), 1)

				again := s.do("create-reservations", cupHas+`"quantity":2}]`, keyed(answer.CommandID))
				answer.Replayed = true
				require.Equal(t, answer, again)
				require.Equal(t, "2", s.level("cup", "paris").ReservedQuantity.String())
				s.agreesWithTheLog()
			})
		}
	}
}

// Nor when the engine has left it to the index meanwhile, whoever made the key.
func TestAnAppendWhoseAnswerWasLostIsFoundInTheIndex(t *testing.T) {
	for _, key := range []string{"", "sale-1"} {
		synctest.Test(t, func(t *testing.T) { // there is a pause before it is tried again
			store := newFlaky()
			index := newLagging(t, store)
			s := openShop(t, store, func(c *commands.Config) { c.Index = index })
			s.KeepCommands(0)
			s.stocked("cup", "paris", 5)
			s.stocked("pot", "paris", 5)
			store.onAppend(func(commits []events.Commit) ([]uint64, error) {
				store.onAppend(nil)
				store.record(commits...)
				return nil, errDisk
			})
			answered := make(chan commands.Answer, 1)
			go func() { answered <- s.do("create-reservations", cupHas+`"quantity":2}]`, keyed(key)) }()
			synctest.Wait()
			potOff := strings.ReplaceAll(oneOff, "cup", "pot")
			s.do("adjust-inventory-levels", potOff) // which reads the log again
			index.catchUp(-1)
			s.do("adjust-inventory-levels", potOff) // which forgets
			require.Equal(t, 1, s.Remembered())
			require.Empty(t, answered)

			require.False(t, (<-answered).Replayed, "it is its own answer")
			require.Equal(t, "2", s.level("cup", "paris").ReservedQuantity.String(), "key %q", key)
			s.agreesWithTheLog()
		})
	}
}

// A refusal that rests on what did not become durable is decided again.
func TestARefusalWaitsForWhatItRestsOn(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 1)
	gate, entered := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release) // nor does a test that fails keep the engine from closing
	store.onAppend(func([]events.Commit) ([]uint64, error) {
		store.onAppend(nil)
		close(entered)
		<-gate
		return nil, errDisk
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := s.Do(ctx, keyed("first"), decode(t, "create-reservations", cupHas+`"quantity":1}]`))
		first <- err
	}()
	<-entered // before that, what is decided next would be of one group with it
	cancel()
	requireRefused(t, "outcome_unknown", `{"command_id":"first"}`, <-first) // and nobody sends it again
	second := make(chan error, 1)
	go func() {
		_, err := s.try("create-reservations", cupHas+`"quantity":1}]`, keyed("second"))
		second <- err
	}()
	require.Eventually(t, func() bool { return s.Waiting() == 1 }, time.Minute, time.Millisecond)
	release()
	require.NoError(t, <-second, "the unit was never taken")
	require.Zero(t, s.commitsOf()["first"])
}

func decode(t testing.TB, name, body string) commands.Command {
	t.Helper()
	command, err := commands.Decode(name, []byte(body))
	require.NoError(t, err)
	return command
}

// queued sends n commands while an append is under way, so that they are
// committed as one group, in order, does what is to be done before, and then lets
// the store go on.
func (s *shop) queued(store *flaky, n int, send func(i int), group func(commits []events.Commit) ([]uint64, error), before ...func()) {
	s.t.Helper()
	gate, entered := make(chan struct{}), make(chan struct{})
	store.onAppend(func(commits []events.Commit) ([]uint64, error) {
		store.onAppend(group)
		close(entered)
		<-gate
		return store.record(commits...), nil
	})
	var all sync.WaitGroup
	all.Go(func() { s.do("create-inventory-items", `{"id":"first"}`) })
	<-entered
	for i := range n {
		all.Go(func() { send(i) })
		require.Eventually(s.t, func() bool { return s.Waiting() == i+1 }, time.Minute, 100*time.Microsecond)
	}
	for _, do := range before {
		do()
	}
	close(gate)
	all.Wait()
}

func TestOfAGroupThatFailsInTheMiddleTheFirstAreAnsweredAndTheOthersDecidedAgain(t *testing.T) {
	for name, cause := range map[string]error{"unknown": errDisk, "conflict": events.ErrConflict} {
		t.Run(name, func(t *testing.T) {
			store := newFlaky()
			s := openShop(t, store)
			s.stocked("cup", "paris", 5)
			answers := make([]commands.Answer, 5)
			var groups [][]string
			s.queued(store, 5, func(i int) {
				answers[i] = s.do("adjust-inventory-levels", oneOff, keyed(fmt.Sprint("k", i)))
			}, func(commits []events.Commit) ([]uint64, error) {
				var keys []string
				for _, c := range commits {
					meta, err := c[0].Metadata()
					require.NoError(t, err)
					keys = append(keys, meta.CommandID)
				}
				if groups = append(groups, keys); len(groups) > 1 {
					return store.record(commits...), nil
				}
				return store.record(commits[:2]...), cause
			})
			require.Equal(t, []string{"k0", "k1", "k2", "k3", "k4"}, groups[0])
			var again []string
			for _, g := range groups[1:] {
				again = append(again, g...)
			}
			require.ElementsMatch(t, []string{"k2", "k3", "k4"}, again)
			left := map[string]bool{}
			for i, a := range answers {
				require.False(t, a.Replayed)
				require.Equal(t, 1, s.commitsOf()[fmt.Sprint("k", i)])
				left[result[[]commands.LevelRow](t, a)[0].StockedQuantity.String()] = true
			}
			require.Len(t, left, 5, "each saw another quantity")
			require.Equal(t, "0", s.level("cup", "paris").StockedQuantity.String())
			s.agreesWithTheLog()
		})
	}
}

func TestAnAnswerLeavesWhenItsCommitIsDurableAndNotBefore(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	gate, entered := make(chan struct{}), make(chan struct{})
	store.onAppend(func(commits []events.Commit) ([]uint64, error) {
		store.onAppend(nil)
		close(entered)
		<-gate
		return store.record(commits...), nil
	})
	answered := make(chan string, 3)
	var all sync.WaitGroup
	all.Go(func() { s.do("adjust-inventory-levels", oneOff, keyed("k")); answered <- "original" })
	<-entered
	all.Go(func() { s.do("adjust-inventory-levels", oneOff, keyed("k")); answered <- "retry" })
	all.Go(func() {
		_, err := s.try("adjust-inventory-levels", cupHas+`"adjustment":-5}]`)
		require.Equal(t, "below_reserved", fault.Code(err))
		answered <- "refusal"
	})
	select {
	case what := <-answered:
		t.Errorf("the %s was answered before the commit was durable", what)
	case <-time.After(50 * time.Millisecond):
	}
	close(gate)
	all.Wait()
	require.Len(t, answered, 3)
}

func TestAStoreThatIsDownIsUnavailableAndNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // there are pauses between the attempts
		store := newFlaky()
		s := openShop(t, store)
		s.stocked("cup", "paris", 5)
		// The log cannot be read after the append failed: it may be there.
		store.down(errDisk)
		_, err := s.try("adjust-inventory-levels", oneOff, keyed("k"))
		requireRefused(t, "outcome_unknown", `{"command_id":"k"}`, err)
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
		_, err = s.try("adjust-inventory-levels", oneOff)
		requireRefused(t, "store_unavailable", "", err)
		require.NotEmpty(t, fault.Of(err).Details["command_id"])

		// The log can be read, but not be written to.
		store.heading.Store(nil)
		_, err = s.try("adjust-inventory-levels", oneOff, keyed("k"))
		requireRefused(t, "outcome_unknown", `{"command_id":"k"}`, err)
		require.Contains(t, err.Error(), "send it again with this key")

		// A conflict for good: that is known not to be there.
		store.onAppend(func([]events.Commit) ([]uint64, error) { return nil, events.ErrConflict })
		_, err = s.try("adjust-inventory-levels", oneOff, keyed("k"))
		requireRefused(t, "unavailable", `{"command_id":"k"}`, err)

		store.up()
		require.False(t, s.do("adjust-inventory-levels", oneOff, keyed("k")).Replayed)
		require.True(t, s.do("adjust-inventory-levels", oneOff, keyed("k")).Replayed)
		require.Equal(t, "4", s.level("cup", "paris").StockedQuantity.String())
		s.agreesWithTheLog()
	})
}

func TestWhatWasRecordedWhileTheStoreWentDownIsFoundByItsKey(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	store.onAppend(func(commits []events.Commit) ([]uint64, error) {
		store.record(commits...)
		store.down(errDisk)
		return nil, errDisk
	})
	_, err := s.try("adjust-inventory-levels", oneOff, keyed("k"))
	requireRefused(t, "outcome_unknown", `{"command_id":"k"}`, err)
	store.up()
	answer := s.do("adjust-inventory-levels", oneOff, keyed("k"))
	require.True(t, answer.Replayed)
	require.Equal(t, "4", result[[]commands.LevelRow](t, answer)[0].StockedQuantity.String())
	require.Equal(t, 1, s.commitsOf()["k"])
}

// Batches end anywhere, and so does what an index knows and what is read before
// the log fails.
func TestHalfACommitIsNotForgottenForTheWhole(t *testing.T) {
	const sale = cupHas + `"adjustment":-1},` + cupHas2 + `"adjustment":-1},` + cupHas2 + `"adjustment":-1}]`
	store := newFlaky()
	index := newLagging(t, store)
	s := openShop(t, store, func(c *commands.Config) { c.Index = index })
	s.KeepCommands(0)
	s.stocked("cup", "paris", 9)
	index.catchUp(-1)
	half := index.Position() + 2
	store.onAppend(func(commits []events.Commit) ([]uint64, error) {
		store.record(commits...)
		store.onAppend(nil)
		half := func(batch []events.Recorded) ([]events.Recorded, error) {
			store.following.Store(nil)
			return batch[:2], errDisk
		}
		store.following.Store(&half)
		return nil, errDisk
	})
	_, err := s.try("adjust-inventory-levels", sale, keyed("k"))
	requireRefused(t, "outcome_unknown", `{"command_id":"k"}`, err)
	index.position = half // in the middle of the commit, which it does not know yet
	s.do("create-inventory-items", `{"id":"pot"}`)

	again := s.do("adjust-inventory-levels", sale, keyed("k"))
	require.True(t, again.Replayed)
	require.Len(t, result[[]commands.LevelRow](t, again), 3)
	require.Equal(t, half+1, again.Position)
	require.Equal(t, again, openShop(t, store, func(c *commands.Config) { c.Index = index }).do("adjust-inventory-levels", sale, keyed("k")))
	require.Equal(t, "6", s.level("cup", "paris").StockedQuantity.String())
}

func TestAStreamThatCannotBeReadIsUnavailable(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	s = openShop(t, store)
	store.onRead(func(string, *events.Recorded) error { return errDisk })
	_, err := s.try("adjust-inventory-levels", oneOff, keyed("k"))
	requireRefused(t, "store_unavailable", `{"command_id":"k"}`, err)
	store.onRead(func(string, *events.Recorded) error { return nil })
	s.do("adjust-inventory-levels", oneOff, keyed("k"))
}

// unreadable is a store whose log cannot be read for the moment.
type unreadable struct {
	*memstore.Store
	now atomic.Bool
}

func (u *unreadable) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	if u.now.Load() {
		return func(yield func([]events.Recorded, error) bool) { yield(nil, errDisk) }
	}
	return u.Store.Subscribe(ctx, after)
}

// The answer of a command that only the index knows by its key is in the log.
func TestAnOldAnswerThatCannotBeReadIsAskedForAgain(t *testing.T) {
	store := &unreadable{Store: memstore.New()}
	index := newLagging(t, store)
	s := openShop(t, store, func(c *commands.Config) { c.Index = index })
	s.KeepCommands(1)
	s.stocked("cup", "paris", 5)
	first := s.do("adjust-inventory-levels", oneOff, keyed("k"))
	index.catchUp(-1)
	for range 3 {
		s.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`)
		index.catchUp(-1)
	}
	store.now.Store(true)
	_, err := s.try("adjust-inventory-levels", oneOff, keyed("k"))
	requireRefused(t, "store_unavailable", `{"command_id":"k"}`, err)
	store.now.Store(false)
	again := s.do("adjust-inventory-levels", oneOff, keyed("k"))
	require.True(t, again.Replayed)
	require.Equal(t, first.Position, again.Position)
}

// Somebody else writes to the log behind the engine's back.
func TestAForeignWriterIsNoticed(t *testing.T) {
	type writers struct{ ours, theirs *shop }
	open := func(t *testing.T) writers {
		store := memstore.New()
		w := writers{ours: openShop(t, store)}
		w.ours.stocked("cup", "paris", 5)
		w.ours.stocked("pot", "paris", 5)
		w.theirs = openShop(t, store)
		return w
	}
	t.Run("what it changed is decided on", func(t *testing.T) {
		w := open(t)
		w.theirs.do("adjust-inventory-levels", cupHas+`"adjustment":-4}]`)
		_, err := w.ours.try("create-reservations", cupHas+`"quantity":2}]`)
		requireRefused(t, "insufficient_stock", `{"available":1}`, err)
		w.ours.agreesWithTheLog()
	})
	t.Run("its keys are known when a stream has moved", func(t *testing.T) {
		w := open(t)
		first := w.theirs.do("adjust-inventory-levels", oneOff, keyed("k"))
		again := w.ours.do("adjust-inventory-levels", oneOff, keyed("k"))
		require.True(t, again.Replayed)
		require.Equal(t, first.Result, again.Result)
	})
	t.Run("also when we had not read it before", func(t *testing.T) {
		w := open(t)
		w.theirs.stocked("jar", "paris", 5)
		const sale = `[{"inventory_item_id":"jar","location_id":"paris","adjustment":-1}]`
		w.theirs.do("adjust-inventory-levels", sale, keyed("k"))
		require.True(t, w.ours.do("adjust-inventory-levels", sale, keyed("k")).Replayed)
		require.Equal(t, "4", w.ours.level("jar", "paris").StockedQuantity.String())
	})
	t.Run("and when our own commit came after theirs", func(t *testing.T) {
		w := open(t)
		w.theirs.do("create-inventory-items", `{"title":"jar"}`, keyed("k"))
		w.ours.do("adjust-inventory-levels", oneOff)
		require.True(t, w.ours.do("create-inventory-items", `{"title":"jar"}`, keyed("k")).Replayed)
		require.Equal(t, 1, w.ours.commitsOf()["k"])
	})
	t.Run("two that write all the time lose nothing", func(t *testing.T) {
		w := open(t)
		var done atomicCounter
		together(8, func(i int) {
			s := []*shop{w.ours, w.theirs}[i%2]
			for n := range 20 {
				key := keyed(fmt.Sprint(i, "-", n))
				for {
					_, err := s.try("adjust-inventory-levels", cupHas+`"adjustment":1}]`, key)
					if err == nil {
						done.add()
						break
					}
					require.Equal(t, fault.Unavailable, fault.Of(err).Kind, "%v", err)
				}
			}
		})
		require.EqualValues(t, 160, done.n.Load())
		for key, n := range w.ours.commitsOf() {
			require.Equal(t, 1, n, key)
		}
		require.Equal(t, "165", openShop(t, w.ours.store).level("cup", "paris").StockedQuantity.String())
	})
}

func TestWhoGivesUpWaitingLearnsTheOutcomeByTheKey(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	gate, entered := make(chan struct{}), make(chan struct{})
	store.onAppend(func(commits []events.Commit) ([]uint64, error) {
		store.onAppend(nil)
		close(entered)
		<-gate
		return store.record(commits...), nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err := s.Do(ctx, commands.Envelope{}, decode(t, "adjust-inventory-levels", oneOff))
	requireRefused(t, "outcome_unknown", "", err)
	key := fault.Of(err).Details["command_id"].(string)
	close(gate)
	answer := s.do("adjust-inventory-levels", oneOff, keyed(key))
	require.True(t, answer.Replayed)
	require.Equal(t, "4", s.level("cup", "paris").StockedQuantity.String())

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = openShop(t, store).Do(ctx, keyed("k"), decode(t, "adjust-inventory-levels", oneOff))
	requireRefused(t, "unavailable", `{"command_id":"k"}`, err)
}

// The loading of a stream belongs to all who wait for it, not to the first.
func TestWhoGivesUpLoadingDoesNotTakeTheOthersWithHim(t *testing.T) {
	for name, given := range map[string]func(context.Context) context.Context{
		"cancelled": func(ctx context.Context) context.Context { return ctx },
		"in time":   func(ctx context.Context) context.Context { return overdue{ctx} },
	} {
		t.Run(name, func(t *testing.T) {
			store := newFlaky()
			s := openShop(t, store)
			s.stocked("cup", "paris", 5)
			s = openShop(t, store)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ctx = given(ctx)
			entered, gate := make(chan struct{}), make(chan struct{})
			var once sync.Once
			store.onRead(func(string, *events.Recorded) error {
				var err error
				once.Do(func() {
					close(entered)
					<-gate
					cancel()
					<-ctx.Done()
					err = ctx.Err()
				})
				return err
			})
			first := make(chan error, 1)
			go func() {
				_, err := s.Do(ctx, commands.Envelope{}, decode(t, "adjust-inventory-levels", oneOff))
				first <- err
			}()
			<-entered
			second := make(chan error, 1)
			go func() {
				_, err := s.try("adjust-inventory-levels", oneOff)
				second <- err
			}()
			time.AfterFunc(20*time.Millisecond, func() { close(gate) }) // let the second one wait for the first
			requireRefused(t, "unavailable", "", <-first)
			require.NoError(t, <-second)
		})
	}
}

// overdue is a context that ends as one whose time is up.
type overdue struct{ context.Context } //nolint:containedctx // it is a context itself

func (o overdue) Err() error {
	if o.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

func TestCloseAnswersWhoeverIsInFlight(t *testing.T) {
	for round := range 20 {
		store := newFlaky()
		s := openShop(t, store)
		s.stocked("cup", "paris", 1_000_000)
		if round%2 == 1 {
			store.onAppend(func(commits []events.Commit) ([]uint64, error) {
				if rand.IntN(3) == 0 {
					if rand.IntN(2) == 0 {
						store.record(commits...)
					}
					return nil, errDisk
				}
				return store.record(commits...), nil
			})
		}
		var acknowledged, unknown sync.Map
		var started, all sync.WaitGroup
		started.Add(64)
		for i := range 64 {
			all.Go(func() {
				started.Done()
				for n := 0; ; n++ {
					key := fmt.Sprint(i, "-", n)
					_, err := s.try("adjust-inventory-levels", oneOff, keyed(key))
					switch code := fault.Code(err); code {
					case "":
						acknowledged.Store(key, true)
					case "outcome_unknown":
						unknown.Store(key, true)
					case "unavailable":
					case "closing":
						return
					default:
						t.Errorf("%s: %v", code, err)
						return
					}
				}
			})
		}
		started.Wait()
		require.NoError(t, s.Close())
		all.Wait()
		require.NoError(t, s.Close(), "twice is once")
		there := s.commitsOf()
		delete(there, "")
		acknowledged.Range(func(key, _ any) bool {
			require.Equal(t, 1, there[key.(string)], "acknowledged %s", key)
			delete(there, key.(string))
			return true
		})
		for key, n := range there {
			_, may := unknown.Load(key)
			require.True(t, may && n == 1 || key[:4] == "cmd_", "%s is in the log, and its publisher was told that it is not", key)
		}
		requireRefused(t, "closing", "", func() error { _, err := s.try("adjust-inventory-levels", oneOff); return err }())
	}
}

func TestABrokenRuleRefusesOnlyItsCommand(t *testing.T) {
	s := newShop(t)
	for _, g := range held {
		s.do(g.name, g.body)
	}
	head, rows := s.head(), s.rows()
	broken := commands.BrokenRule{
		AdjustInventoryLevels: decode(t, "adjust-inventory-levels", oneOff).(commands.AdjustInventoryLevels),
		Break:                 func() { panic("a bug") },
	}
	_, err := s.Do(t.Context(), keyed("k"), broken)
	require.Equal(t, fault.Internal, fault.Of(err).Kind)
	require.Equal(t, "internal error; the ledger's log says more", fault.Public(err).Message)
	require.Equal(t, head, s.head())
	require.Equal(t, rows, s.rows())
	s.agreesWithTheLog()

	together(64, func(i int) {
		if i%2 == 0 {
			_, err := s.Do(t.Context(), commands.Envelope{}, broken)
			require.Equal(t, "internal", fault.Code(err))
			return
		}
		s.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`)
	})
	require.Equal(t, "37", s.level("cup", "paris").StockedQuantity.String())
	broken.Break = func() {}
	_, err = s.Do(t.Context(), keyed("k"), broken)
	require.NoError(t, err, "the key was not used up")
	s.agreesWithTheLog()
}

func TestAnAnswerThatCannotBeWrittenRefusesOnlyItsCommand(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	unspeakable := commands.UnspeakableAnswer{AdjustInventoryLevels: decode(t, "adjust-inventory-levels", oneOff).(commands.AdjustInventoryLevels)}
	s.queued(store, 9, func(i int) {
		if i == 4 {
			_, err := s.Do(t.Context(), commands.Envelope{}, unspeakable)
			require.Equal(t, "internal", fault.Code(err), "%v", err)
			return
		}
		s.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`)
	}, nil)
	require.Equal(t, "13", s.level("cup", "paris").StockedQuantity.String())
	s.agreesWithTheLog()
}

func TestAFewStreamsInMemoryAreEnough(t *testing.T) {
	const items, callers, bound = 200, 16, 4
	store := newFlaky()
	s := openShop(t, store, func(c *commands.Config) { c.CachedStreams = bound })
	for i := range items {
		s.stocked(fmt.Sprint("i", i), "paris", 100)
	}
	require.LessOrEqual(t, s.CachedStreams(), bound)
	var want [items]atomic.Int64
	together(callers, func(i int) {
		random := rand.New(rand.NewPCG(uint64(i), 1))
		for range 100 {
			a, b := random.IntN(items), random.IntN(items/10) // some are hot
			s.do("adjust-inventory-levels", fmt.Sprintf(`[{"inventory_item_id":"i%d","location_id":"paris","adjustment":-1},
				{"inventory_item_id":"i%d","location_id":"paris","adjustment":2}]`, a, b))
			want[a].Add(-1)
			want[b].Add(2)
		}
	})
	require.LessOrEqual(t, s.CachedStreams(), bound)
	require.Zero(t, s.Pinned(), "nothing stays pinned")
	for i := range items {
		require.EqualValues(t, fmt.Sprint(100+want[i].Load()), s.level(fmt.Sprint("i", i), "paris").StockedQuantity.String())
	}
}

// What was decided and is not durable cannot be read back, so it must not leave
// memory.
func TestWhatIsNotDurableStaysInMemory(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store, func(c *commands.Config) { c.CachedStreams = 1 })
	for i := range 10 {
		s.stocked(fmt.Sprint("i", i), "paris", 1)
	}
	var held int
	s.queued(store, 11, func(i int) {
		if i == 10 {
			held = s.Pinned()
			s.stocked("last", "paris", 1)
			return
		}
		s.do("create-reservations", fmt.Sprintf(`{"inventory_item_id":"i%d","location_id":"paris","quantity":1}`, i))
	}, nil)
	require.Equal(t, 11, held, "all ten, and what the append under way is about")
	require.LessOrEqual(t, s.CachedStreams(), 1)
	for i := range 10 {
		require.Equal(t, "1", s.level(fmt.Sprint("i", i), "paris").ReservedQuantity.String())
	}
}

func TestACorruptStreamIsRefusedAndTheOthersAreServed(t *testing.T) {
	for name, corrupt := range map[string]func(*events.Recorded){
		"its bytes":   func(r *events.Recorded) { r.Data = append(slices.Clone(r.Data), ' ') },
		"its hash":    func(r *events.Recorded) { r.Hash[3] ^= 1 },
		"its chain":   func(r *events.Recorded) { r.Prev[3] ^= 1; r.Hash = r.Link() },
		"its version": func(r *events.Recorded) { r.Version++ },
		"its type":    func(r *events.Recorded) { *r = again(r, "inventory.item-eaten.v1", r.Data) },
		"its facts": func(r *events.Recorded) {
			*r = again(r, "inventory.stock-adjusted.v1", []byte(`{"location_id":"paris","delta":1,"stocked_quantity":7}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newFlaky()
			s := openShop(t, store)
			s.stocked("cup", "paris", 5)
			s.stocked("pot", "paris", 5)
			s = openShop(t, store)
			store.onRead(func(stream string, r *events.Recorded) error {
				if r != nil && stream == "item-cup" && r.Version == 2 {
					corrupt(r)
				}
				return nil
			})
			refusal := s.refuse("internal", "adjust-inventory-levels", oneOff, keyed("k"))
			require.Equal(t, fault.Internal, refusal.Kind)
			require.Contains(t, refusal.Message, "item-cup")
			s.do("adjust-inventory-levels", `[{"inventory_item_id":"pot","location_id":"paris","adjustment":-1}]`)
			store.onRead(func(string, *events.Recorded) error { return nil })
			s.do("adjust-inventory-levels", oneOff, keyed("k"))
		})
	}
}

// again is an event with a valid hash and other contents.
func again(r *events.Recorded, eventType string, data []byte) events.Recorded {
	forged := events.Recorded{
		Position: r.Position, Stream: r.Stream, Version: r.Version, Type: eventType, Data: data, Meta: r.Meta, Prev: r.Prev,
	}
	forged.Hash = forged.Link()
	return forged
}

func TestAnEngineDoesNotOpenOnALogItCannotRead(t *testing.T) {
	store := newFlaky()
	store.heading.Store(&errDisk)
	_, err := commands.Open(t.Context(), commands.Config{Store: store, Index: noIndex{}})
	require.ErrorIs(t, err, errDisk)

	short := memstore.New()
	_, err = commands.Open(t.Context(), commands.Config{Store: short, Index: &lagging{t: t, store: short, position: 7}})
	require.ErrorIs(t, err, events.ErrOtherLog, "an index of another log")
}

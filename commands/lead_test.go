package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

func standingBy(c *commands.Config) { c.Standby = true }

// soon waits until something is so.
func soon(t testing.TB, so func() bool, what string) {
	t.Helper()
	require.Eventually(t, so, time.Minute, time.Millisecond, what)
}

// follows waits until an engine that rests knows the log as it is.
func (s *shop) follows() {
	s.t.Helper()
	head := s.head()
	soon(s.t, func() bool { return s.Known() >= head }, "it does not follow")
}

func TestAnEngineThatStandsByRefusesUntilItLeads(t *testing.T) {
	store := memstore.New()
	openShop(t, store).stocked("cup", "paris", 5)
	s := openShop(t, store, standingBy)
	require.False(t, s.Leading())
	for _, env := range []commands.Envelope{{}, keyed("k"), {Key: "k", DryRun: true}} {
		refusal := s.refuse("standby", "adjust-inventory-levels", oneOff, env)
		require.Equal(t, fault.Unavailable, refusal.Kind)
		require.Contains(t, refusal.Message, "another node carries out commands; nothing was changed")
	}
	s.refuse("required", "create-reservations", `[{"quantity":1}]`) // nonsense is nonsense anywhere

	require.NoError(t, s.Lead(t.Context(), nil))
	require.True(t, s.Leading())
	require.False(t, s.do("adjust-inventory-levels", oneOff, keyed("k")).Replayed)
	require.NoError(t, s.Rest(t.Context()))
	require.NoError(t, s.Rest(t.Context()), "twice is once")
	require.False(t, s.Leading())
	s.refuse("standby", "adjust-inventory-levels", oneOff, keyed("k"))
	require.NoError(t, s.Lead(t.Context(), nil))
	require.True(t, s.do("adjust-inventory-levels", oneOff, keyed("k")).Replayed)
	require.Equal(t, "4", s.level("cup", "paris").StockedQuantity.String())

	require.NoError(t, s.Close())
	require.ErrorContains(t, s.Lead(t.Context(), nil), "shutting down")
	require.NoError(t, s.Rest(t.Context()))
}

// While it stands by it keeps all that its first commands need, so that they do
// not read the store: what was in memory, what was made, and what was touched.
func TestWhoTakesOverHasWhatWasTouchedInMemory(t *testing.T) {
	store := newFlaky()
	active := openShop(t, store.Store)
	active.stocked("old", "paris", 5)
	index := newLagging(t, store.Store)
	index.catchUp(-1)
	s := openShop(t, store, standingBy, func(c *commands.Config) { c.Index = index })
	const bodies = `[{"inventory_item_id":%q,"location_id":"paris","adjustment":1}]`
	var last commands.Answer
	for i := range 30 {
		active.stocked(fmt.Sprint("new", i), "paris", 5)
		last = active.do("adjust-inventory-levels", fmt.Sprintf(bodies, "old"), keyed(fmt.Sprint("k", i)))
	}
	active.do("create-reservations", `[{"id":"r1","inventory_item_id":"old","location_id":"paris","quantity":3,"line_item_id":"l1"}]`)
	s.follows()
	soon(t, func() bool { return s.CachedStreams() >= 31 }, "what is touched is loaded")
	active.do("adjust-inventory-levels", fmt.Sprintf(bodies, "old"))
	active.do("adjust-inventory-levels", fmt.Sprintf(bodies, "new7"))
	require.NoError(t, active.Close())

	var read []string
	store.onRead(func(stream string, r *events.Recorded) error {
		read = append(read, stream)
		return nil
	})
	require.NoError(t, s.Lead(t.Context(), nil))
	again := s.do("adjust-inventory-levels", fmt.Sprintf(bodies, "old"), keyed("k29"))
	require.True(t, again.Replayed)
	require.Equal(t, last.Position, again.Position)
	require.Equal(t, last.Result, again.Result)
	for i := range 30 {
		s.do("adjust-inventory-levels", fmt.Sprintf(bodies, fmt.Sprint("new", i)), keyed(fmt.Sprint("after-", i)))
	}
	require.Equal(t, "36", s.level("old", "paris").StockedQuantity.String())
	require.Equal(t, "3", s.level("old", "paris").ReservedQuantity.String())
	s.do("delete-reservations-by-line-item", `"l1"`)
	require.Empty(t, read, "the first commands read the store")
	s.agreesWithTheLog()
}

// What is busy all the time is loaded nevertheless, with nothing missing.
func TestAStreamThatIsWrittenToWhileItIsLoadedIsWhole(t *testing.T) {
	store := newFlaky()
	active := openShop(t, store.Store)
	active.stocked("cup", "paris", 5)
	index := newLagging(t, store.Store)
	index.catchUp(-1)
	var reads atomic.Int32
	more := func() { active.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`) }
	var s *shop
	opened := make(chan struct{})
	store.onRead(func(stream string, r *events.Recorded) error {
		if r == nil && reads.Add(1) <= 3 { // at the end of the stream as it was
			<-opened
			more()
			s.follows()
		}
		return nil
	})
	s = openShop(t, store, standingBy, func(c *commands.Config) { c.Index = index })
	close(opened)
	more()
	soon(t, func() bool { return s.CachedStreams() == 1 }, "it is loaded")
	require.EqualValues(t, 4, reads.Load(), "and read on until nothing is missing")
	require.NoError(t, active.Close())
	require.NoError(t, s.Lead(t.Context(), nil))
	require.Equal(t, "9", s.level("cup", "paris").StockedQuantity.String())
	require.EqualValues(t, 4, reads.Load())
	s.agreesWithTheLog()
}

// A broken event is refused by whoever needs the stream, and nobody else.
func TestFollowingChecksTheChain(t *testing.T) {
	store := newFlaky()
	active := openShop(t, store.Store)
	active.stocked("cup", "paris", 5)
	s := openShop(t, store, standingBy)
	s.follows()
	forge := func(batch []events.Recorded) ([]events.Recorded, error) {
		batch = slices.Clone(batch)
		for i := range batch {
			batch[i] = again(&batch[i], batch[i].Type, append(slices.Clone(batch[i].Data), ' '))
		}
		return batch, nil
	}
	store.following.Store(&forge)
	active.do("adjust-inventory-levels", oneOff)
	s.follows()
	store.following.Store(nil)
	require.NoError(t, active.Close())
	require.NoError(t, s.Lead(t.Context(), nil))
	require.Equal(t, "4", s.level("cup", "paris").StockedQuantity.String(), "from the store, not from what was forged")
	s.agreesWithTheLog()
}

func TestFollowingGoesOnWhenTheStoreFails(t *testing.T) {
	store := newFlaky()
	active := openShop(t, store.Store)
	s := openShop(t, store, standingBy)
	for i := range 3 {
		fails := atomicCounter{}
		fail := func(batch []events.Recorded) ([]events.Recorded, error) {
			if fails.add(); fails.n.Load() < 3 {
				return batch[:0], errDisk
			}
			return batch[:1], errDisk
		}
		store.following.Store(&fail)
		active.stocked(fmt.Sprint("i", i), "paris", 5)
		soon(t, func() bool { return fails.n.Load() >= 3 }, "it asks again")
		store.following.Store(nil)
		s.follows()
	}
	require.NoError(t, active.Close())
	store.heading.Store(&errDisk)
	require.ErrorIs(t, s.Lead(t.Context(), nil), errDisk)
	s.refuseNow("standby", "adjust-inventory-levels", oneOff)
	store.heading.Store(nil)
	require.NoError(t, s.Lead(t.Context(), nil))
	require.Equal(t, "5", s.level("i2", "paris").StockedQuantity.String())
}

// It remembers what the index does not know, and not more than it may.
func TestAStandbyWaitsForItsIndexAndForgets(t *testing.T) {
	store := newFlaky()
	active := openShop(t, store.Store)
	active.stocked("cup", "paris", 5)
	index := newLagging(t, store.Store)
	small := func(batch []events.Recorded) ([]events.Recorded, error) { return batch[:1], errDisk } // one at a time
	store.following.Store(&small)
	s := openShop(t, store, standingBy, func(c *commands.Config) { c.Index = index })
	s.RememberAtMost(10)
	for i := range 20 {
		active.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`, keyed(fmt.Sprint("k", i)))
	}
	store.following.Store(nil)
	soon(t, func() bool { return s.Remembered() >= 10 }, "it follows")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_ = s.Lead(ctx, nil) // cannot either, or has read all in one batch
	index.catchUp(-1)
	s.follows()
	require.NoError(t, s.Lead(t.Context(), nil))
	for i := range 20 {
		require.True(t, s.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`, keyed(fmt.Sprint("k", i))).Replayed)
	}
	require.Equal(t, "25", s.level("cup", "paris").StockedQuantity.String())
}

func TestItsClockGoesOnFromWhatItFollowed(t *testing.T) {
	store := memstore.New()
	active := openShop(t, store, func(c *commands.Config) { c.Now = func() time.Time { return instant.Add(time.Hour) } })
	active.stocked("cup", "paris", 5)
	s := openShop(t, store, standingBy, func(c *commands.Config) { c.Now = func() time.Time { return instant } }) // an hour behind
	active.do("adjust-inventory-levels", oneOff)
	require.NoError(t, active.Close())
	require.NoError(t, s.Lead(t.Context(), nil))
	s.do("adjust-inventory-levels", oneOff)
	all := s.recorded(0)
	for i := range all[1:] {
		before, err := all[i].Metadata()
		require.NoError(t, err)
		after, err := all[i+1].Metadata()
		require.NoError(t, err)
		require.True(t, before.CommandID == after.CommandID || after.Recorded.After(before.Recorded))
	}
}

// The lead goes from one to the other and back while commands come in at both.
// Whoever is told that nothing was changed sends it to the other.
func TestTheLeadChangesWhileCommandsComeIn(t *testing.T) {
	const callers, each, changes = 6, 30, 25
	store := newFlaky()
	both := []*shop{openShop(t, store), openShop(t, store, standingBy)}
	both[0].stocked("cup", "paris", 0)
	var originals, replays atomicCounter
	var changing sync.WaitGroup
	changing.Go(func() {
		for i := range changes {
			from, to := both[i%2], both[1-i%2]
			if err := errors.Join(from.Rest(t.Context()), to.Lead(t.Context(), nil)); err != nil {
				t.Error(err)
			}
			before := originals.n.Load()
			soon(t, func() bool { return originals.n.Load() > before || before >= callers*each-callers }, "it carries out commands")
		}
	})
	together(callers, func(i int) {
		for n := range each {
			key := keyed(fmt.Sprint(i, "-", n))
			for try := i; ; try++ {
				answer, err := both[try%2].try("adjust-inventory-levels", cupHas+`"adjustment":1}]`, key)
				if err == nil {
					originals.add()
					if answer.Replayed {
						replays.add()
					}
					break
				}
				if fault.Of(err).Kind != fault.Unavailable {
					t.Errorf("%v", err)
					return
				}
			}
		}
	})
	changing.Wait()
	require.EqualValues(t, callers*each, originals.n.Load())
	require.Zero(t, replays.n.Load(), "the store answered, so nobody was left in doubt")
	for key, n := range both[0].commitsOf() {
		require.Equal(t, 1, n, key)
	}
	leads := both[0]
	if !leads.Leading() {
		leads = both[1]
	}
	require.Equal(t, fmt.Sprint(callers*each), leads.level("cup", "paris").StockedQuantity.String())
	require.Zero(t, leads.Pinned())
	leads.agreesWithTheLog()
}

// May is asked before each append. Once it refuses nothing is appended, and what
// was decided has left no trace.
func TestWhoMayNotAppendsNothing(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	var lost atomic.Bool
	var asked atomicCounter
	require.NoError(t, s.Lead(t.Context(), func() error {
		if asked.add(); lost.Load() {
			return errDisk
		}
		return nil
	}))
	before := asked.n.Load()
	s.do("adjust-inventory-levels", oneOff)
	require.Greater(t, asked.n.Load(), before)

	refusals := make([]error, 5)
	s.queued(store, 5, func(i int) {
		_, refusals[i] = s.try("adjust-inventory-levels", oneOff, keyed(fmt.Sprint("k", i)))
	}, func([]events.Commit) ([]uint64, error) {
		t.Error("it appended")
		return nil, errDisk
	}, func() { lost.Store(true) })
	for i, err := range refusals {
		requireRefused(t, "standby", fmt.Sprintf(`{"command_id":"k%d"}`, i), err)
	}
	head := s.head()
	s.refuse("standby", "adjust-inventory-levels", oneOff)
	require.Equal(t, head, s.head())

	store.onAppend(nil)
	lost.Store(false)
	for i := range refusals {
		require.False(t, s.do("adjust-inventory-levels", oneOff, keyed(fmt.Sprint("k", i%4))).Replayed && i < 4)
	}
	require.Equal(t, "0", s.level("cup", "paris").StockedQuantity.String())
	s.agreesWithTheLog()
}

// Resting waits for what was handed to the store, as long as it may, and for
// nothing else.
func TestRestWaitsForTheAppendUnderWay(t *testing.T) {
	store := &heldStore{Store: memstore.New()}
	s := openShop(t, store)
	s.stocked("cup", "paris", 5)
	entered, release := store.hold()
	handed, waiting := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.try("adjust-inventory-levels", oneOff, keyed("handed"))
		handed <- err
	}()
	<-entered
	go func() {
		_, err := s.try("adjust-inventory-levels", oneOff, keyed("waiting"))
		waiting <- err
	}()
	soon(t, func() bool { return s.Waiting() == 1 }, "it is decided")
	rested := make(chan error, 1)
	go func() { rested <- s.Rest(t.Context()) }()
	soon(t, s.Resting, "it hands over nothing more")
	s.refuseNow("standby", "adjust-inventory-levels", oneOff)
	require.Empty(t, rested)
	close(release)
	require.NoError(t, <-handed)
	requireRefused(t, "standby", `{"command_id":"waiting"}`, <-waiting)
	require.NoError(t, <-rested)
	require.NoError(t, s.Lead(t.Context(), nil))
	require.False(t, s.do("adjust-inventory-levels", oneOff, keyed("waiting")).Replayed)
	require.Equal(t, "3", s.level("cup", "paris").StockedQuantity.String())
	s.agreesWithTheLog()
}

// A store that hangs does not hold up the one who has to rest. What it does with
// the append later is found, or refused.
func TestRestDoesNotWaitForeverForAStoreThatHangs(t *testing.T) {
	for _, overtaken := range []bool{false, true} {
		t.Run(fmt.Sprintf("overtaken %v", overtaken), func(t *testing.T) {
			store := &heldStore{Store: memstore.New()}
			s := openShop(t, store)
			s.stocked("cup", "paris", 5)
			entered, release := store.hold()
			handed, waiting := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := s.try("adjust-inventory-levels", oneOff, keyed("handed"))
				handed <- err
			}()
			<-entered
			go func() {
				_, err := s.try("adjust-inventory-levels", oneOff, keyed("waiting"))
				waiting <- err
			}()
			soon(t, func() bool { return s.Waiting() == 1 }, "it is decided")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.NoError(t, s.Rest(ctx))
			requireRefused(t, "outcome_unknown", `{"command_id":"handed"}`, <-handed)
			requireRefused(t, "standby", `{"command_id":"waiting"}`, <-waiting)

			require.NoError(t, s.Lead(t.Context(), nil))
			if overtaken {
				require.False(t, s.do("adjust-inventory-levels", oneOff, keyed("handed")).Replayed)
				close(release)
				require.ErrorIs(t, <-store.ended, events.ErrConflict)
			} else {
				close(release)
				require.NoError(t, <-store.ended)
			}
			require.True(t, s.do("adjust-inventory-levels", oneOff, keyed("handed")).Replayed)
			require.False(t, s.do("adjust-inventory-levels", oneOff, keyed("waiting")).Replayed)
			require.Equal(t, "3", s.level("cup", "paris").StockedQuantity.String())
			require.Equal(t, 1, s.commitsOf()["handed"])
			s.agreesWithTheLog()
		})
	}
}

func TestLeadEndsWithItsContext(t *testing.T) {
	store := newFlaky()
	active := openShop(t, store.Store)
	s := openShop(t, store, standingBy)
	active.stocked("cup", "paris", 5)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Lead(ctx, nil), context.Canceled)
	require.False(t, s.Leading())
	active.stocked("pot", "paris", 5)
	s.follows()
}

// Commands that come when a term is just over keep nothing in memory.
func TestWhatComesTooLateLetsGoOfWhatItNeeded(t *testing.T) {
	const late = 50
	store := newFlaky()
	before := openShop(t, store.Store)
	before.stocked("cup", "paris", 5)
	for i := range late {
		before.stocked(fmt.Sprint("pot", i), "paris", 5)
	}
	index := newLagging(t, store.Store)
	index.catchUp(-1)
	s := openShop(t, store, func(c *commands.Config) { c.Index = index })

	entered, release := make(chan struct{}), make(chan struct{})
	store.onAppend(func([]events.Commit) ([]uint64, error) {
		close(entered)
		<-release
		return nil, errDisk
	})
	handed := make(chan error, 1)
	go func() {
		_, err := s.try("adjust-inventory-levels", oneOff, keyed("handed"))
		handed <- err
	}()
	<-entered
	loading := make(chan struct{})
	store.onRead(func(string, *events.Recorded) error {
		<-loading
		return nil
	})
	var coming sync.WaitGroup
	for i := range late {
		coming.Go(func() {
			s.refuseNow("standby", "adjust-inventory-levels",
				fmt.Sprintf(`[{"inventory_item_id":"pot%d","location_id":"paris","adjustment":1}]`, i))
		})
	}
	soon(t, func() bool { return s.Pinned() == late+1 }, "they load what they need")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Rest(ctx))
	requireRefused(t, "outcome_unknown", `{"command_id":"handed"}`, <-handed)
	close(loading)
	coming.Wait()
	close(release)
	soon(t, func() bool { return s.Pinned() == 0 }, "what nobody needs is kept")
}

// A commit that the store cannot take is refused for good, and the others of its
// group are not.
func TestACommitThatIsTooLargeIsRefusedAlone(t *testing.T) {
	store := newFlaky()
	s := openShop(t, store)
	s.stocked("cup", "paris", 50)
	var tooLarge atomicCounter
	var answered atomicCounter
	s.queued(store, 6, func(i int) {
		if i == 3 {
			refusal := s.refuseNow("commit_too_large", "adjust-inventory-levels",
				cupHas+`"adjustment":-1},`+cupHas2+`"adjustment":-2}]`, keyed("large"))
			require.Equal(t, fault.Invalid, refusal.Kind)
			require.Contains(t, refusal.Message, "2 events")
			require.Contains(t, refusal.Message, "max_msgs")
			require.Equal(t, "large", refusal.Details["command_id"])
			return
		}
		require.False(t, s.do("adjust-inventory-levels", oneOff, keyed(fmt.Sprint("k", i))).Replayed)
		answered.add()
	}, func(commits []events.Commit) ([]uint64, error) {
		for i, c := range commits {
			if len(c) > 1 {
				tooLarge.add()
				return store.record(commits[:i]...), fmt.Errorf("2 messages, max_msgs is 1: %w", events.ErrTooLarge)
			}
		}
		return store.record(commits...), nil
	})
	require.EqualValues(t, 5, answered.n.Load())
	require.EqualValues(t, 1, tooLarge.n.Load(), "it is not sent again")
	require.Zero(t, s.commitsOf()["large"])
	require.Equal(t, "45", s.level("cup", "paris").StockedQuantity.String())
	store.onAppend(nil)
	require.False(t, s.do("adjust-inventory-levels", cupHas+`"adjustment":-1},`+cupHas2+`"adjustment":-2}]`, keyed("large")).Replayed,
		"the key was not used up")
	s.agreesWithTheLog()
}

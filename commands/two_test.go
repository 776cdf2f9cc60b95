package commands_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

// heldStore is a store whose next append at a head is held back, as by a process that
// is paused in the middle of it.
type heldStore struct {
	*memstore.Store
	mu      sync.Mutex
	entered chan struct{} // closed when the append is there; nil: nobody is held
	release chan struct{}
	ended   chan error // of the append that was held
}

// hold makes the next append wait until it is let go.
func (s *heldStore) hold() (entered, release chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entered, s.release, s.ended = make(chan struct{}), make(chan struct{}), make(chan error, 1)
	return s.entered, s.release
}

func (s *heldStore) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	s.mu.Lock()
	entered, release, ended := s.entered, s.release, s.ended
	s.entered = nil
	s.mu.Unlock()
	if entered == nil {
		return s.Store.AppendAt(ctx, head, commits...)
	}
	close(entered)
	<-release // whatever becomes of ctx
	positions, err := s.Store.AppendAt(context.WithoutCancel(ctx), head, commits...)
	ended <- err
	return positions, err
}

// The one who leads may be paused after he was allowed to append, for as long as
// it takes another to take over. What he was about to append was decided on a log
// that is not any more, and the store refuses it, also where the other wrote to
// other streams.
func TestWhatAPausedLeaderWasAboutToAppendIsRefusedWhenAnotherWroteElsewhere(t *testing.T) {
	store := &heldStore{Store: memstore.New()}
	old := openShop(t, store)
	old.stocked("cup", "paris", 5)
	next := openShop(t, store.Store)
	asked := 0
	require.NoError(t, old.Lead(t.Context(), func() error { asked++; return nil })) // and he thinks that he may

	entered, release := store.hold()
	answered := make(chan commands.Answer, 1)
	go func() { answered <- old.do("adjust-inventory-levels", oneOff, keyed("paused")) }()
	<-entered
	require.NotZero(t, asked)
	next.stocked("pot", "oslo", 7) // another stream
	before := next.head()
	taken := next.do("create-inventory-items", `{"title":"jar"}`, keyed("taken"))
	close(release)
	require.ErrorIs(t, <-store.ended, events.ErrConflict)

	// Nobody stopped him, so he reads on and decides again.
	require.Greater(t, (<-answered).Position, taken.Position)
	require.Equal(t, 1, old.commitsOf()["paused"])
	require.True(t, old.do("create-inventory-items", `{"title":"jar"}`, keyed("taken")).Replayed, "he learned the other's keys, too")
	require.Equal(t, before+2, old.head())
	old.agreesWithTheLog()
}

func TestAPausedLeaderWhoMayNotAnyMoreAppendsNothing(t *testing.T) {
	store := &heldStore{Store: memstore.New()}
	old := openShop(t, store)
	old.stocked("cup", "paris", 5)
	next := openShop(t, store.Store)
	var lease atomicCounter
	require.NoError(t, old.Lead(t.Context(), func() error {
		if lease.n.Load() > 0 {
			return errDisk
		}
		return nil
	}))
	entered, release := store.hold()
	answered := make(chan error, 1)
	go func() {
		_, err := old.try("adjust-inventory-levels", oneOff, keyed("paused"))
		answered <- err
	}()
	<-entered
	lease.add()
	next.stocked("pot", "oslo", 7)
	close(release)
	require.ErrorIs(t, <-store.ended, events.ErrConflict)
	requireRefused(t, "standby", `{"command_id":"paused"}`, <-answered)
	require.Zero(t, old.commitsOf()["paused"])
	require.False(t, next.do("adjust-inventory-levels", oneOff, keyed("paused")).Replayed)
}

// A key that touches no stream twice: only the head of the log tells the engines
// that the other was there.
func TestAKeySentToTwoEnginesAtOnceIsCarriedOutOnce(t *testing.T) {
	store := memstore.New()
	both := []*shop{openShop(t, store), openShop(t, store)}
	for round := range 100 {
		key := keyed(fmt.Sprint("new-", round))
		answers := make([]commands.Answer, 4)
		together(4, func(i int) { answers[i] = both[i%2].do("create-inventory-items", `{"title":"jar"}`, key) })
		originals := 0
		for _, a := range answers {
			if !a.Replayed {
				originals++
			}
			require.Equal(t, answers[0].Position, a.Position)
			require.Equal(t, answers[0].Result, a.Result)
		}
		require.Equal(t, 1, originals)
		require.Equal(t, 1, both[0].commitsOf()[key.Key], key.Key)
	}
}

// Also what is answered without a commit rests on the log as it is: a refusal says
// that nothing happened.
func TestARefusalRestsOnWhatTheOtherEngineDid(t *testing.T) {
	store := memstore.New()
	ours := openShop(t, store)
	ours.stocked("cup", "paris", 1)
	theirs := openShop(t, store)
	theirs.do("adjust-inventory-levels", cupHas+`"adjustment":4}]`)
	theirs.do("create-reservations", cupHas+`"quantity":5}]`, keyed("k"))
	require.True(t, ours.do("create-reservations", cupHas+`"quantity":5}]`, keyed("k")).Replayed,
		"as far as it knew there was one, and it would have refused")

	theirs.do("adjust-inventory-levels", cupHas+`"adjustment":2}]`)
	dry := keyed("dry")
	dry.DryRun = true
	row := result[[]commands.LevelRow](t, ours.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`, dry))[0]
	require.Equal(t, "8", row.StockedQuantity.String())
	require.Equal(t, "7", ours.level("cup", "paris").StockedQuantity.String())
}

// An aggregate that one command loads while the log is learned for another may or
// may not have what is learned. It is not kept: what is answered without a commit
// would rest on it, and no store would tell.
func TestWhatIsLoadedWhileTheLogIsLearnedIsNotKept(t *testing.T) {
	trial := keyed("k")
	trial.DryRun = true
	for name, env := range map[string]commands.Envelope{"a dry run": trial, "a refusal, were it one": keyed("k")} {
		t.Run(name, func(t *testing.T) {
			store := newFlaky()
			theirs := openShop(t, store.Store)
			theirs.stocked("cup", "paris", 1)
			theirs.stocked("pot", "oslo", 1)
			index := newLagging(t, store.Store)
			index.catchUp(-1)
			ours := openShop(t, store, func(c *commands.Config) { c.Index = index })

			cup := events.ItemStream("cup")
			read, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			store.onRead(func(stream string, r *events.Recorded) error {
				if stream == cup && r == nil { // at the end of the stream as it was
					once.Do(func() {
						close(read)
						<-release
					})
				}
				return nil
			})
			row := make(chan commands.LevelRow, 1)
			go func() {
				answer, err := ours.try("adjust-inventory-levels", cupHas+`"adjustment":-3}]`, env)
				if err != nil {
					t.Error(err)
					close(row)
					return
				}
				row <- result[[]commands.LevelRow](t, answer)[0]
			}()
			<-read
			theirs.do("adjust-inventory-levels", cupHas+`"adjustment":4}]`)
			ours.do("adjust-inventory-levels", `[{"inventory_item_id":"pot","location_id":"oslo","adjustment":1}]`)
			require.Equal(t, theirs.head(), ours.Known(), "what the other did is learned")
			close(release)
			require.Equal(t, "2", (<-row).StockedQuantity.String(), "1 + 4 - 3")
			require.Zero(t, ours.Pinned())
			ours.agreesWithTheLog()
		})
	}
}

// An answer was lost, the log does not have the commit, and then it has: before
// the command is appended again, or never because it was.
func TestAnAppendThatLandsLateIsFoundAndAnsweredOnce(t *testing.T) {
	const jar = `{"title":"jar"}`
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("before the second one %v", first), func(t *testing.T) {
			store := newFlaky()
			late := &lateStore{flaky: store}
			s := openShop(t, late)
			s.stocked("cup", "paris", 5)
			late.first = first
			late.armed = true
			answer := s.do("create-inventory-items", jar, keyed("k"))
			require.False(t, answer.Replayed, "it is its own answer")
			require.Equal(t, s.head(), answer.Position)
			require.Equal(t, 1, s.commitsOf()["k"])
			require.False(t, late.armed)
			if !first {
				require.ErrorIs(t, late.landed, events.ErrConflict)
			}
			again := s.do("create-inventory-items", jar, keyed("k"))
			require.True(t, again.Replayed)
			require.Equal(t, answer.Result, again.Result)
			s.agreesWithTheLog()
		})
	}
}

// lateStore loses the first append on the way, and lets it land around the second.
// It is used by one committer.
type lateStore struct {
	*flaky
	armed, first bool
	lost         func() error
	landed       error
}

func (s *lateStore) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	switch {
	case !s.armed:
		return s.Store.AppendAt(ctx, head, commits...)
	case s.lost == nil:
		s.lost = func() error {
			_, err := s.Store.AppendAt(context.WithoutCancel(ctx), head, commits...)
			return err
		}
		return nil, errDisk
	}
	s.armed = false
	if s.first {
		s.landed = s.lost()
		return s.Store.AppendAt(ctx, head, commits...)
	}
	positions, err := s.Store.AppendAt(ctx, head, commits...)
	s.landed = s.lost()
	return positions, err
}

// losing is a store that loses one answer in so many, recorded or not.
type losing struct {
	*memstore.Store
	mu     sync.Mutex
	random *rand.Rand
	oneIn  int // 0: none
}

func (s *losing) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	s.mu.Lock()
	lose := s.oneIn > 0 && s.random.IntN(s.oneIn) == 0
	upTo := len(commits)
	if lose {
		upTo = s.random.IntN(upTo + 1)
	}
	s.mu.Unlock()
	positions, err := s.Store.AppendAt(ctx, head, commits[:upTo]...)
	if lose && err == nil {
		return nil, errDisk
	}
	return positions, err
}

// Two engines carry out commands on one log at once, with the same keys sent to
// both and sent again to the other. The log is what the model makes of its
// commands in their order: no key twice, nothing acknowledged that is not there,
// no level that promises what it does not have.
func TestTwoEnginesOnOneLogAreOneLedger(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		callers := rapid.IntRange(1, 3).Draw(rt, "callers of each")
		kept := rapid.IntRange(0, 20).Draw(rt, "kept")
		cached := rapid.SampledFrom([]int{1, 3, 100}).Draw(rt, "cached")
		loses := rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 20}).Draw(rt, "one answer in so many is lost") // each costs a pause
		twoAgainstTheModel(t, seed, callers, kept, cached, loses)
	})
}

func twoAgainstTheModel(t *testing.T, seed uint64, callers, kept, cached, loses int) {
	store := &losing{Store: memstore.New(), random: rand.New(rand.NewPCG(seed, 0))}
	var both [2]*shop
	var indexes [2]*lagging
	for i := range both {
		indexes[i] = newLagging(t, store)
		both[i] = openShop(t, store, func(c *commands.Config) { c.Index = indexes[i]; c.CachedStreams = cached })
		defer both[i].Close()
		both[i].KeepCommands(kept)
	}
	m := both[0].modelled()
	start := both[0].head()
	store.oneIn = loses

	var mu sync.Mutex
	sent := map[string]modelCommand{}
	accepted := map[string]commands.Answer{}
	send := func(s *shop, c modelCommand, key string) {
		answer, err := s.try(c.name, c.body(), keyed(key))
		for tries := 0; err != nil && fault.Of(err).Kind == fault.Unavailable && tries < 3; tries++ {
			answer, err = s.try(c.name, c.body(), keyed(key))
		}
		if fault.Code(err) == "internal" {
			t.Errorf("seed %d: %s %s: %v", seed, c.name, c.body(), err)
		}
		if err != nil {
			return
		}
		answer.Replayed = false
		mu.Lock()
		defer mu.Unlock()
		if before, twice := accepted[key]; twice {
			require.Equal(t, before, answer, "seed %d", seed)
		}
		accepted[key] = answer
	}
	together(2*callers, func(caller int) {
		random := rand.New(rand.NewPCG(seed, uint64(caller)+1))
		for n := range 12 {
			c, key := anyCommand(random, 12), fmt.Sprint(caller, "-", n)
			if random.IntN(4) == 0 {
				c = modelCommand{"create-inventory-items", make([]modelLine, 1)} // a stream of its own
			}
			mu.Lock()
			sent[key] = c
			mu.Unlock()
			one, other := both[caller%2], both[1-caller%2]
			if random.IntN(3) == 0 {
				together(2, func(i int) { send(both[i], c, key) })
			} else {
				send(one, c, key)
			}
			if random.IntN(3) == 0 {
				send(other, c, key)
			}
			if random.IntN(4) == 0 {
				indexes[random.IntN(2)].catchUp(random.IntN(30))
			}
		}
	})
	store.mu.Lock()
	store.oneIn = 0
	store.mu.Unlock()
	both[1].judge(m, start, seed, sent, accepted)
	both[0].agreesWithTheLog()
}

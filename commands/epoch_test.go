package commands_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

// late makes the next command wait, after the engine found that it knows the log and
// before anything is fetched for it, until it may go on.
func (s *shop) late() (begun, goOn chan struct{}) {
	s.t.Helper()
	begun, goOn = make(chan struct{}), make(chan struct{})
	var asked atomic.Bool
	require.NoError(s.t, s.Lead(s.t.Context(), func() error {
		if asked.CompareAndSwap(false, true) {
			close(begun)
			<-goOn
		}
		return nil
	}))
	return begun, goOn
}

// A command that comes to be decided while the log is read again, because an answer of
// the store was lost, waits for that: what is decided in the middle of it would be
// remembered before what is read, and taken for durable.
func TestNothingIsDecidedWhileTheLogIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFlaky()
		s := openShop(t, store)
		s.stocked("cup", "paris", 5)
		begun, goOn := s.late()
		var all sync.WaitGroup
		var answer commands.Answer
		all.Go(func() { answer = s.do("adjust-inventory-levels", oneOff, keyed("late")) })
		<-begun

		store.onAppend(func(commits []events.Commit) ([]uint64, error) {
			store.onAppend(nil)
			store.record(commits...)
			return nil, errDisk
		})
		reading, release := make(chan struct{}), make(chan struct{})
		hold := sync.OnceFunc(func() {
			close(reading)
			<-release
		})
		following := func(batch []events.Recorded) ([]events.Recorded, error) {
			hold()
			return batch, nil
		}
		store.following.Store(&following)
		all.Go(func() { s.do("adjust-inventory-levels", oneOff, keyed("lost")) })
		<-reading
		close(goOn)
		synctest.Wait() // the late one is as far as it comes
		close(release)
		all.Wait()
		require.Equal(t, s.head(), answer.Position)
		require.Equal(t, 1, s.commitsOf()["late"])
		require.Equal(t, "3", s.level("cup", "paris").StockedQuantity.String())
		s.agreesWithTheLog()
	})
}

// headed is a store that is asked where the log ends when a test lets it.
type headed struct {
	*flaky
	asked atomic.Pointer[func()]
}

func (h *headed) Head(ctx context.Context) (uint64, error) {
	if asked := h.asked.Swap(nil); asked != nil {
		(*asked)()
	}
	return h.flaky.Head(ctx)
}

// What a command fetched while the log was read again may lack what was read, and no
// later append would tell: the command is fetched for again.
func TestWhatIsFetchedWhileTheLogIsReadAgainIsFetchedOnceMore(t *testing.T) {
	store := &headed{flaky: newFlaky()}
	theirs := openShop(t, store.Store)
	theirs.stocked("cup", "paris", 1)
	theirs.stocked("pot", "oslo", 1)
	index := newLagging(t, store.Store)
	index.catchUp(-1)
	ours := openShop(t, store, func(c *commands.Config) { c.Index = index }) // with nothing in memory
	const onePot = `[{"inventory_item_id":"pot","location_id":"oslo","adjustment":1}]`

	begun, goOn := ours.late()
	row := make(chan commands.LevelRow, 1)
	go func() {
		defer close(row)
		trial := keyed("k")
		trial.DryRun = true
		answer, err := ours.try("adjust-inventory-levels", cupHas+`"adjustment":-3}]`, trial)
		if err != nil {
			t.Error(err)
			return
		}
		row <- result[[]commands.LevelRow](t, answer)[0]
	}()
	<-begun

	theirs.do("adjust-inventory-levels", onePot)
	asking, tell := make(chan struct{}), make(chan struct{})
	asked := func() {
		close(asking)
		<-tell
	}
	store.asked.Store(&asked)
	var all sync.WaitGroup
	all.Go(func() { ours.do("adjust-inventory-levels", onePot) }) // is refused by the store, and reads the log
	<-asking

	read, loaded := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() {
		close(read)
		<-loaded
	})
	store.onRead(func(stream string, r *events.Recorded) error {
		if stream == events.ItemStream("cup") && r == nil { // at the end of the stream as it was
			hold()
		}
		return nil
	})
	close(goOn)
	<-read
	theirs.do("adjust-inventory-levels", cupHas+`"adjustment":4}]`)
	close(tell)
	all.Wait()
	close(loaded)
	require.Equal(t, "2", (<-row).StockedQuantity.String(), "1 + 4 - 3")
	ours.agreesWithTheLog()
}

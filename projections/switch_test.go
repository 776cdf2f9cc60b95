package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// steadily fails when a condition ceases to hold within a moment.
func steadily(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Never(t, func() bool { return !holds() }, 300*time.Millisecond, 5*time.Millisecond, what)
}

func opens(t testing.TB, cfg projections.Config) *projections.Models {
	t.Helper()
	m, err := projections.Open(t.Context(), cfg)
	require.NoError(t, err)
	return m
}

// Who goes back to an older version stays there, also after a restart and after a
// rebuild, which waits to be switched to; a newer version is served by itself again.
func TestSwitchingBackIsNotUndone(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	second := projections.Config{Dir: dir, Store: b.store}.Raised(true, nil)
	m = opens(t, second)
	until(t, "the new version is served", func() bool { return slices.Contains(generations(t, m, "inventory"), "2 v2 serving") })
	_, err := m.Switch(t.Context(), true, "inventory")
	require.NoError(t, err)
	require.NoError(t, m.Close())

	m = opens(t, second)
	steadily(t, "it stays", func() bool {
		return slices.Equal([]string{"1 v1 serving", "2 v2 kept"}, generations(t, m, "inventory"))
	})
	rebuilt(t, m, "inventory")
	steadily(t, "it waits", func() bool {
		return slices.Equal([]string{"1 v1 serving", "2 v2 kept", "3 v2 ready"}, generations(t, m, "inventory"))
	})
	require.NoError(t, m.Close())
	m = opens(t, second)
	untilReady(t, m, "inventory")
	steadily(t, "it waits after a restart", func() bool {
		return slices.Equal([]string{"1 v1 serving", "2 v2 kept", "3 v2 ready"}, generations(t, m, "inventory"))
	})
	_, err = m.Switch(t.Context(), false, "inventory")
	require.NoError(t, err)
	_, err = m.Switch(t.Context(), true, "inventory")
	require.NoError(t, err)
	require.NoError(t, m.Close())

	m = opens(t, second.Again())
	defer m.Close()
	until(t, "the version after is served", func() bool { return slices.Contains(generations(t, m, "inventory"), "4 v3 serving") })
}

// A generation that somebody asked for waits for them, whatever is served.
func TestWhatWasAskedForIsNotSwitchedToByItself(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	cfg := projections.Config{Dir: dir, Store: b.store, HoldRebuilt: true}.Raised(true, nil)
	m = opens(t, cfg)
	untilReady(t, m, "inventory")
	rebuilt(t, m, "inventory")
	require.NoError(t, m.Close())
	cfg.HoldRebuilt = false
	m = opens(t, cfg)
	defer m.Close()
	untilReady(t, m, "inventory")
	steadily(t, "it waits", func() bool { return slices.Contains(generations(t, m, "inventory"), "3 v2 ready") })
}

// A program of an older version serves what it still has a generation of, and
// does not build what it has.
func TestGoingBackToAnOlderProgram(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	was := answers(t, m)
	require.NoError(t, m.Close())
	second := projections.Config{Dir: dir, Store: b.store}.Raised(true, nil)

	second.HoldRebuilt = true
	m = opens(t, second)
	untilReady(t, m, "inventory")
	require.NoError(t, m.Close())
	m = open(t, b.store, dir)
	require.Equal(t, []string{"1 v1 serving"}, generations(t, m, "inventory"), "what the other program built is of no use")
	require.NoError(t, m.Close())

	second.HoldRebuilt = false
	m = opens(t, second)
	until(t, "the new version is served", func() bool { return slices.Contains(generations(t, m, "inventory"), "3 v2 serving") })
	require.NoError(t, m.Close())
	m = opens(t, projections.Config{Dir: dir, Store: heldBack{b.store, make(chan struct{})}})
	require.Equal(t, []string{"1 v1 serving", "3 v2 kept"}, generations(t, m, "inventory"))
	require.Equal(t, was, answers(t, m))
	require.NoError(t, m.Close())
}

// What is ready is switched to by itself even if it could not be at first and
// nothing happens any more.
func TestSwitchingByItselfIsTriedAgain(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	release := make(chan struct{})
	m = opens(t, projections.Config{Dir: dir, Store: heldBack{b.store, release}}.Raised(true, nil))
	defer m.Close()
	obstacle := filepath.Join(dir, "generations.json.new")
	require.NoError(t, os.Mkdir(obstacle, 0o700))
	close(release)
	untilReady(t, m, "inventory")
	steadily(t, "it cannot be", func() bool { return slices.Contains(generations(t, m, "inventory"), "2 v2 ready") })
	require.NoError(t, os.Remove(obstacle))
	until(t, "it is", func() bool { return slices.Contains(generations(t, m, "inventory"), "2 v2 serving") })
}

// A generation that cannot be removed does not keep another one from being served.
func TestASwitchBackOutlivesWhatCannotBeRemoved(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	for range 2 {
		rebuilt(t, m, "inventory")
		_, err := m.Switch(t.Context(), false, "inventory")
		require.NoError(t, err)
	}
	was := answers(t, m)
	require.NoError(t, m.Close())
	all, err := os.ReadFile(filepath.Join(dir, "generations.json"))
	require.NoError(t, err)
	var catalogue map[string]map[string]map[string]any
	require.NoError(t, json.Unmarshal(all, &catalogue))
	inventory := catalogue["models"]["inventory"]
	inventory["generations"] = append(inventory["generations"].([]any), map[string]any{"generation": 9, "version": 1, "file": "inventory.v1.g9.db", "made_at": "2026-01-01T00:00:00Z"})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "generations.json"), []byte(asJSON(t, catalogue)), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "inventory.v1.g9.db", "full"), 0o700))

	m = open(t, b.store, dir)
	defer m.Close()
	_, err = m.Switch(t.Context(), true, "inventory")
	require.NoError(t, err, "it has happened")
	require.Equal(t, []string{"1 v1 kept", "2 v1 serving", "3 v1 kept"}, generations(t, m, "inventory"))
	require.Equal(t, was, answers(t, m))
	b.record(events.LocationOpened{LocationID: "oslo", Attributes: events.LocationAttributes{Name: "Oslo"}})
	b.caughtUp(t, m)
}

// Where a generation was when it was kept is known after a restart.
func TestWhereAGenerationWasKept(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	rebuilt(t, m, "inventory")
	_, err := m.Switch(t.Context(), false, "inventory")
	require.NoError(t, err)
	require.NoError(t, m.Close())
	m = open(t, b.store, dir)
	defer m.Close()
	all, err := m.Generations(t.Context())
	require.NoError(t, err)
	require.Equal(t, projections.Kept, all[0].State)
	require.Equal(t, all[0].Head, all[0].Position)
}

// While the catalogue is being written, which may take as long as a disk does, answers
// are made.
func TestACatalogueThatTakesLongKeepsNobody(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	rebuilt(t, m, "inventory")
	slow := filepath.Join(dir, "generations.json.new")
	for name, do := range map[string]func() error{
		"rebuild": func() error { _, err := m.Rebuild(t.Context(), "movements"); return err },
		"drop":    func() error { return m.Drop(t.Context(), "inventory", 2) },
	} {
		require.NoError(t, syscall.Mkfifo(slow, 0o600))
		done, answered := make(chan error, 1), make(chan struct{})
		go func() { done <- do() }()
		time.Sleep(50 * time.Millisecond) // it writes
		go func() { m.Position(); close(answered) }()
		select {
		case <-answered:
		case <-time.After(time.Minute):
			t.Error(name, "keeps everybody from being answered")
		}
		reader, err := os.Open(slow)
		require.NoError(t, err)
		pathError := new(fs.PathError)
		require.ErrorAs(t, <-done, &pathError, "it cannot be synced")
		require.NoError(t, errors.Join(reader.Close(), os.Remove(slow)))
		require.Equal(t, []string{"1 v1 serving", "2 v1 ready"}, generations(t, m, "inventory"), "it changes nothing")
		require.Equal(t, []string{"1 v1 serving"}, generations(t, m, "movements"))
	}
}

// A model with nothing to serve, whose generation stops, says so.
func TestWhatCannotBeBuiltHasStopped(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	m = opens(t, projections.Config{Dir: dir, Store: garbled{b.store, 4, unknownType}}.Raised(false, nil))
	defer m.Close()
	until(t, "it stops", func() bool { return stoppedAt(t, m, 3) })
	all, err := m.Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, all[0].Stopped, "event 4")
}

// Readers who wait for what they wrote are answered although a switch is tried
// again and again, because the generation that is ready takes long.
func TestASwitchThatTakesLongKeepsNobodyWaiting(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	begun, slow := make(chan struct{}), make(chan struct{})
	m := opens(t, projections.Config{Dir: dir, Store: b.store}.Slow("inventory.v1.g2.db", "slow", begun, slow))
	defer m.Close()
	defer close(slow)
	b.caughtUp(t, m)
	rebuilt(t, m, "inventory")
	b.record(events.LocationOpened{LocationID: "slow", Attributes: events.LocationAttributes{Name: "Oslo"}})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	switched := make(chan error, 1)
	go func() {
		_, err := m.Switch(ctx, false, "inventory")
		switched <- err
	}()
	time.Sleep(100 * time.Millisecond) // it is held
	for i := range 3 {
		at := b.record(events.LocationOpened{LocationID: fmt.Sprint("l", i), Attributes: events.LocationAttributes{Name: "Oslo"}})
		_, err := m.Query(t.Context(), "list-stock-locations", fmt.Appendf(nil, `{"after":%d}`, at))
		require.NoError(t, err, "a query waits 5 s, and it is held for 1.25 s at once")
	}
	cancel()
	require.Equal(t, fault.Unavailable, fault.Of(<-switched).Kind)
}

// A feed that has ended is not joined by others, who would never be fed again.
func TestAFeedThatHasEndedIsNoMainFeed(t *testing.T) {
	b := lively()
	m := b.models(t)
	require.False(t, m.JoinsAnEndedFeed())
}

// A generation that cannot use its file, because that is damaged, say, is switched
// away from, and does not go on when it can.
func TestWhatCannotUseItsFileIsSwitchedAwayFrom(t *testing.T) {
	b, m, last, release := locked(t)
	defer release()

	rebuilt(t, m, "inventory")
	_, err := m.Diff(t.Context(), projections.DiffOptions{})
	require.Equal(t, "model_waiting", fault.Code(err), "it has not come to where the other one is")
	_, err = m.Switch(t.Context(), false)
	require.Equal(t, "nothing_ready", fault.Code(err), "of movements there is none")
	all, err := m.Switch(t.Context(), false, "inventory")
	require.NoError(t, err)
	require.Equal(t, []string{"1 v1 kept", "2 v1 serving"}, generations(t, m, "inventory"))
	require.Equal(t, []uint64{last - 1, last}, []uint64{all[0].Position, all[1].Position})
	require.NoError(t, m.WaitFor(soon(t), b.record(adjusted(12))))
	level, err := m.RetrieveLevel(t.Context(), "lev-b")
	require.NoError(t, err)
	require.Equal(t, "12", level.Stocked.String())
}

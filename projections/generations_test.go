package projections_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

// lively is a warehouse in which more may happen.
func lively() *book {
	b := warehouse()
	b.meta.CommandID = ""
	return b
}

// generations are those of a model as "number state", oldest first.
func generations(t testing.TB, m *projections.Models, model string) []string {
	t.Helper()
	all, err := m.Generations(t.Context())
	require.NoError(t, err)
	var of []string
	for _, g := range all {
		if g.Model == model {
			of = append(of, fmt.Sprintf("%d v%d %s", g.Number, g.Version, g.State))
		}
	}
	return of
}

// until waits for a condition that comes about by itself.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, time.Minute, time.Millisecond, what)
}

// rebuilt has a generation of each of the models ready beside the one that is served.
func rebuilt(t testing.TB, m *projections.Models, models ...string) {
	t.Helper()
	_, err := m.Rebuild(t.Context(), models...)
	require.NoError(t, err)
	untilReady(t, m, models...)
}

func untilReady(t testing.TB, m *projections.Models, models ...string) {
	t.Helper()
	for _, model := range models {
		until(t, model+" is ready", func() bool {
			all, err := m.Generations(t.Context())
			require.NoError(t, err)
			return slices.ContainsFunc(all, func(g projections.Generation) bool { return g.Model == model && g.State == projections.Ready })
		})
	}
}

// answers are what the lists have, as text.
func answers(t testing.TB, m *projections.Models) string {
	t.Helper()
	var all []string
	for _, name := range []string{
		"list-inventory-items", "list-inventory-levels", "list-reservation-items", "list-inventory-links", "list-stock-locations", "list-commands",
	} {
		answer, err := m.Query(t.Context(), name, []byte(`{"take":1000,"order":"-created_at"}`))
		if name == "list-commands" {
			answer, err = m.Query(t.Context(), name, []byte(`{"take":1000}`))
		}
		require.NoError(t, err, name)
		all = append(all, asJSON(t, answer))
	}
	return strings.Join(all, "\n")
}

// The next generation is built beside the one that is served, goes on being fed,
// and is switched to and back from without a difference to anybody.
func TestGenerationsAreBuiltSwitchedToAndBack(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	was := answers(t, m)
	require.Equal(t, []string{"1 v1 serving"}, generations(t, m, "inventory"))

	_, err := m.Switch(t.Context(), false, "inventory")
	require.Equal(t, "nothing_ready", fault.Code(err))
	require.Equal(t, fault.Conflict, fault.Of(err).Kind)
	_, err = m.Switch(t.Context(), true, "inventory")
	require.Equal(t, "nothing_ready", fault.Code(err))
	_, err = m.Rebuild(t.Context(), "stock")
	require.Equal(t, "unknown_model", fault.Code(err))

	rebuilt(t, m, "inventory", "movements")
	require.Equal(t, []string{"1 v1 serving", "2 v1 ready"}, generations(t, m, "inventory"))
	b.record(events.LocationOpened{LocationID: "oslo", Attributes: events.LocationAttributes{Name: "Oslo"}})
	b.caughtUp(t, m)
	until(t, "what is ready goes on being fed", func() bool {
		all, err := m.Generations(t.Context())
		require.NoError(t, err)
		return !slices.ContainsFunc(all, func(g projections.Generation) bool { return g.Behind > 0 })
	})

	all, err := m.Switch(t.Context(), false)
	require.NoError(t, err)
	require.Len(t, all, 4)
	require.Equal(t, []string{"1 v1 kept", "2 v1 serving"}, generations(t, m, "inventory"))
	require.Equal(t, []string{"1 v1 kept", "2 v1 serving"}, generations(t, m, "movements"))
	b.record(events.LocationOpened{LocationID: "rome", Attributes: events.LocationAttributes{Name: "Rome"}})
	b.caughtUp(t, m)
	now := answers(t, m)
	require.NotEqual(t, was, now)

	_, err = m.Switch(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, []string{"1 v1 serving", "2 v1 kept"}, generations(t, m, "inventory"))
	require.Equal(t, now, answers(t, m), "what was served before has caught up")
	require.NoError(t, m.Close())

	m = open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	require.Equal(t, []string{"1 v1 serving", "2 v1 kept"}, generations(t, m, "inventory"))
	_, err = m.Switch(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, []string{"1 v1 kept", "2 v1 serving"}, generations(t, m, "inventory"))
	require.Equal(t, now, answers(t, m))
}

// What was served is kept until there is too much of it, and numbers are not used
// again.
func TestFewGenerationsAreKept(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	for range 4 {
		rebuilt(t, m, "inventory")
		_, err := m.Switch(t.Context(), false, "inventory")
		require.NoError(t, err)
	}
	require.Equal(t, []string{"3 v1 kept", "4 v1 kept", "5 v1 serving"}, generations(t, m, "inventory"))
	require.Equal(t, []string{"1 v1 serving"}, generations(t, m, "movements"))

	rebuilt(t, m, "inventory")
	rebuilt(t, m, "inventory")
	require.Equal(t, []string{"3 v1 kept", "4 v1 kept", "5 v1 serving", "7 v1 ready"}, generations(t, m, "inventory"), "the one that was ready is replaced")

	require.Equal(t, "generation_served", fault.Code(m.Drop(t.Context(), "inventory", 5)))
	require.Equal(t, "unknown_generation", fault.Code(m.Drop(t.Context(), "inventory", 6)))
	require.Equal(t, "unknown_model", fault.Code(m.Drop(t.Context(), "stock", 1)))
	for _, number := range []int{3, 4, 7} {
		require.NoError(t, m.Drop(t.Context(), "inventory", number))
	}
	_, err := m.Switch(t.Context(), true, "inventory")
	require.Equal(t, "nothing_ready", fault.Code(err))
	require.NoError(t, m.Close())
	require.Equal(t, []string{"generations.json", "inventory.v1.g5.db", "movements.v1.db"}, names(t, dir))
}

// names are the files in a directory.
func names(t *testing.T, dir string) (all []string) {
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		all = append(all, f.Name())
	}
	return all
}

// While a generation is being built it cannot be switched to, nor another one
// begun; it can be dropped, and is resumed after a restart.
func TestRebuildGoesOnAfterARestart(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	was := answers(t, m)
	require.NoError(t, m.Close())

	m = open(t, heldBack{b.store, make(chan struct{})}, dir)
	_, err := m.Rebuild(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"1 v1 serving", "2 v1 building"}, generations(t, m, "movements"))
	_, err = m.Rebuild(t.Context(), "movements")
	require.Equal(t, "rebuild_running", fault.Code(err))
	_, err = m.Switch(t.Context(), false, "movements")
	require.Equal(t, "nothing_ready", fault.Code(err))
	require.ErrorContains(t, err, "is at position 0 of")
	require.NoError(t, m.Drop(t.Context(), "movements", 2))
	require.Equal(t, []string{"1 v1 serving"}, generations(t, m, "movements"))
	require.Equal(t, was, answers(t, m))
	require.NoError(t, m.Close())

	m = open(t, b.store, dir)
	defer m.Close()
	untilReady(t, m, "inventory")
	_, err = m.Switch(t.Context(), false, "inventory")
	require.NoError(t, err)
	require.Equal(t, was, answers(t, m))
}

// A model whose version has changed is built anew beside the one that is there,
// which is folded on by its own folds, or by the new ones when they fit, and then
// served.
func TestAChangedVersionIsBuiltAndServed(t *testing.T) {
	fits := map[int]string{1: `CREATE TABLE adapted (n INTEGER)`}
	for name, raised := range map[string]func(projections.Config) projections.Config{
		"superseded": func(c projections.Config) projections.Config { return c.Raised(true, nil) },
		"adapted":    func(c projections.Config) projections.Config { return c.Raised(false, fits) },
	} {
		t.Run(name, func(t *testing.T) {
			b, dir := lively(), filepath.Join(t.TempDir(), "models")
			m := open(t, b.store, dir)
			b.caughtUp(t, m)
			was := answers(t, m)
			require.NoError(t, m.Close())
			b.record(events.LocationOpened{LocationID: "oslo", Attributes: events.LocationAttributes{Name: "Oslo"}})

			for range 2 { // the second time, it is adapted already
				var err error
				m, err = projections.Open(t.Context(), raised(projections.Config{Dir: dir, Store: b.store, HoldRebuilt: true}))
				require.NoError(t, err)
				b.caughtUp(t, m)
				untilReady(t, m, "inventory")
				require.Equal(t, []string{"1 v1 serving", "2 v2 ready"}, generations(t, m, "inventory"))
				require.Equal(t, []string{"1 v1 serving"}, generations(t, m, "movements"))
				require.NotEqual(t, was, answers(t, m), "the old one is folded on")
				require.NoError(t, m.Close())
			}
			var log bytes.Buffer
			m, err := projections.Open(t.Context(), raised(projections.Config{Dir: dir, Store: b.store, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
			require.NoError(t, err)
			b.caughtUp(t, m)
			until(t, "the new version is served", func() bool {
				return slices.Contains(generations(t, m, "inventory"), "2 v2 serving")
			})
			require.Equal(t, []string{"1 v1 kept", "2 v2 serving"}, generations(t, m, "inventory"))
			now := answers(t, m)
			_, err = m.Switch(t.Context(), true, "inventory")
			require.NoError(t, err)
			require.Equal(t, now, answers(t, m))
			require.NoError(t, m.Close())
			require.Contains(t, log.String(), "is served from another generation")
		})
	}
}

// Without folds that fit the old file there is nothing to serve until the new
// version is built.
func TestAModelThatCannotBeServedIsBuiltFirst(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	was := answers(t, m)
	require.NoError(t, m.Close())

	release := make(chan struct{})
	m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: heldBack{b.store, release}, HoldRebuilt: true}.Raised(false, nil))
	require.NoError(t, err)
	defer m.Close()
	for name, body := range map[string]string{
		"list-inventory-items": `{}`, "retrieve-inventory-item": `{"id":"bolts"}`, "explain": `{"inventory_item_id":"bolts"}`,
	} {
		_, err = m.Query(t.Context(), name, []byte(body))
		require.Equal(t, "model_building", fault.Code(err), name)
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	}
	_, err = m.Query(t.Context(), "list-commands", nil)
	require.NoError(t, err)
	require.Equal(t, uint64(0), m.Position())
	status, err := m.Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, status[0].Waiting, "is being built")
	require.Equal(t, []string{"1 v1 kept", "2 v2 building"}, generations(t, m, "inventory"))

	close(release)
	until(t, "it is served", func() bool { return slices.Contains(generations(t, m, "inventory"), "2 v2 serving") })
	require.Equal(t, was, answers(t, m))
	_, err = m.Switch(t.Context(), true, "inventory")
	require.Equal(t, "unknown_version", fault.Code(err))
}

// Without a catalogue, what is there is served; files that no generation has go.
func TestACatalogueThatIsLost(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	rebuilt(t, m, "inventory")
	_, err := m.Switch(t.Context(), false, "inventory")
	require.NoError(t, err)
	was := answers(t, m)
	require.NoError(t, m.Close())
	catalogue := filepath.Join(dir, "generations.json")

	require.NoError(t, os.WriteFile(catalogue+".new", []byte(`{"mod`), 0o600), "a crash while it is written")
	orphan := filepath.Join(dir, "inventory.v1.g9.db-wal")
	require.NoError(t, os.WriteFile(orphan, nil, 0o600))
	stranger := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(stranger, nil, 0o600))
	m = open(t, b.store, dir)
	require.Equal(t, []string{"1 v1 kept", "2 v1 serving"}, generations(t, m, "inventory"))
	require.NoFileExists(t, orphan)
	require.FileExists(t, stranger)
	require.NoError(t, m.Close())

	require.NoError(t, os.Remove(catalogue))
	m = open(t, b.store, dir)
	require.Equal(t, []string{"1 v1 kept", "2 v1 serving"}, generations(t, m, "inventory"))
	require.Equal(t, was, answers(t, m))
	require.NoError(t, m.Close())

	whole, err := os.ReadFile(catalogue)
	require.NoError(t, err)
	for _, torn := range []string{"", string(whole[:len(whole)/2]), "null", "[]", `{"models":{"inventory":{"serving":1,"generations":[null]}}}`} {
		require.NoError(t, os.WriteFile(catalogue, []byte(torn), 0o600))
		_, err = projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store})
		require.ErrorContains(t, err, catalogue, torn)
		require.ErrorContains(t, err, "remove it")
	}
}

// A generation that cannot be built, because of an event, leaves the one that is
// served alone; with a fixed fold it goes on at that event.
func TestPoisonInARebuild(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	for _, how := range []func() error{func() error { return fmt.Errorf("no") }, func() error { panic("ouch") }} {
		m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store}.Failing(4, how))
		require.NoError(t, err)
		_, err = m.Rebuild(t.Context())
		if fault.Code(err) != "rebuild_running" {
			require.NoError(t, err)
		}
		until(t, "it stops", func() bool { return stoppedAt(t, m, 3) })
		_, err = m.Switch(t.Context(), false, "inventory")
		require.Equal(t, "nothing_ready", fault.Code(err))
		require.ErrorContains(t, err, "event 4")
		b.record(events.LocationOpened{LocationID: fmt.Sprintf("l%d", b.commands), Attributes: events.LocationAttributes{Name: "Oslo"}})
		b.caughtUp(t, m)
		require.NoError(t, m.Close())
	}
	m = open(t, b.store, dir)
	defer m.Close()
	untilReady(t, m, "inventory")
	now, err := m.Switch(t.Context(), false)
	require.NoError(t, err)
	// The second rebuild began another generation if the first had stopped by then.
	i := slices.IndexFunc(now, func(g projections.Generation) bool { return g.Model == "inventory" && g.State == projections.Serving })
	rebuilt := filepath.Join(dir, fmt.Sprintf("inventory.v1.g%d.db", now[i].Number))
	require.FileExists(t, rebuilt)
	_, err = m.Switch(t.Context(), true)
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.Equal(t, dumpFile(t, filepath.Join(dir, "inventory.v1.db")), dumpFile(t, rebuilt))
}

// A disk that is full while a generation is built leaves the one that is served
// alone; the other one waits, says so, and goes on when there is room.
func TestAFullDiskInARebuild(t *testing.T) {
	t.Parallel()
	for name, far := range map[string]int{"in small steps": 1_000_000, "far behind": 1} {
		t.Run(name, func(t *testing.T) {
			b, dir := lively(), filepath.Join(t.TempDir(), "models")
			for i := range 300 {
				b.record(events.ItemCreated{ItemID: fmt.Sprint("i", i), Attributes: events.ItemAttributes{Title: new(strings.Repeat("long ", 200))}})
			}
			var room atomic.Bool
			m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: b.store}.Far(far).Filling("inventory.v1.g2.db", room.Load))
			require.NoError(t, err)
			b.caughtUp(t, m)
			was := answers(t, m)
			_, err = m.Rebuild(t.Context(), "inventory")
			require.NoError(t, err)
			until(t, "it waits", func() bool {
				all, err := m.Generations(t.Context())
				require.NoError(t, err)
				return strings.Contains(all[1].Waiting, "full") && all[1].State == projections.Building
			})
			b.record(events.LocationOpened{LocationID: "oslo", Attributes: events.LocationAttributes{Name: "Oslo"}})
			b.caughtUp(t, m)
			require.NotEqual(t, was, answers(t, m))
			room.Store(true)
			untilReady(t, m, "inventory")
			now := answers(t, m)
			_, err = m.Switch(t.Context(), false, "inventory")
			require.NoError(t, err)
			require.Equal(t, now, answers(t, m))
			require.NoError(t, m.Close())
		})
	}
}

// A model that has stopped at an event serves what it has until a version of its
// folds that can go on is built; then that is served by itself.
func TestAMendedVersionReplacesOneThatHasStopped(t *testing.T) {
	b, dir := lively(), filepath.Join(t.TempDir(), "models")
	broken := projections.Config{Dir: dir, Store: b.store}.Failing(4, func() error { return fmt.Errorf("no") })
	m, err := projections.Open(t.Context(), broken)
	require.NoError(t, err)
	head, err := b.store.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, "model_stopped", fault.Code(m.WaitFor(soon(t), head)))
	require.NoError(t, m.Close())
	m, err = projections.Open(t.Context(), broken.Mended())
	require.NoError(t, err)
	defer m.Close()
	until(t, "the mended version is served", func() bool { return slices.Contains(generations(t, m, "inventory"), "2 v2 serving") })
	b.caughtUp(t, m)
}

func stoppedAt(t *testing.T, m *projections.Models, position uint64) bool {
	all, err := m.Generations(t.Context())
	require.NoError(t, err)
	return slices.ContainsFunc(all, func(g projections.Generation) bool {
		return g.State == projections.Building && g.Position == position && g.Stopped != ""
	})
}

// Readers and writers never notice a switch: no read fails, none is without what
// its reader knows of, no position goes back, and no answer is of two generations.
func TestSwitchUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBook()
	b.record(opened)
	b.record(bolts, atBerlin)
	m := b.models(t)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var position atomic.Uint64 // of the last event that was recorded
	position.Store(3)
	turn := make(chan struct{}, 1) // an event for every few reads, so that the log does not outgrow them
	work.Go(func() {
		for n := int64(11); ; n++ {
			select {
			case <-turn:
			case <-ctx.Done():
				return
			}
			position.Store(b.record(events.StockAdjusted{
				ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(1), Stocked: units(n),
			}))
		}
	})
	var reads atomic.Uint64
	explained := func(ctx context.Context, after uint64) (at uint64, err error) {
		answer, err := m.Query(ctx, "explain", fmt.Appendf(nil, `{"inventory_item_id":"bolts","quantity":"stocked","take":0,"after":%d}`, after))
		if err != nil {
			return 0, err
		}
		x := answer.(projections.Explanation)
		if x.Parts != nil {
			t.Errorf("what is served parts from the log: %s", asJSON(t, x.Parts))
		}
		return x.Served.Position, nil
	}
	retrieved := func(ctx context.Context, after uint64) (at uint64, err error) {
		answer, err := m.Query(ctx, "retrieve-inventory-level", fmt.Appendf(nil, `{"id":"lev-b","after":%d}`, after))
		if err != nil {
			return 0, err
		}
		return answer.(projections.Level).Version + 1, nil // but for the location, all events are the item's
	}
	readers := 15
	if race.On { // then they take all there is from what they read
		readers = 4
	}
	for reader := range readers {
		read := retrieved
		if reader < 3 {
			read = explained
		}
		work.Go(func() {
			var index, seen uint64
			for ctx.Err() == nil {
				after := position.Load()
				if reader%2 == 0 {
					after = 0
				}
				at, err := read(context.WithoutCancel(ctx), after)
				if err != nil {
					t.Error(err)
					return
				}
				now := m.Position()
				if at < after || at < seen || now < index {
					t.Errorf("position %d after %d, having seen %d; the index is at %d after %d", at, after, seen, now, index)
				}
				index, seen = now, at
				if reads.Add(1)%4 == 0 {
					select {
					case turn <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	for i := range 8 {
		rebuilt(t, m, "inventory", "movements")
		_, err := m.Switch(t.Context(), false)
		require.NoError(t, err)
		if i%2 == 0 {
			_, err = m.Switch(t.Context(), true)
			require.NoError(t, err)
		}
		before := reads.Load()
		until(t, "reads go on", func() bool { return reads.Load() > before+30 || t.Failed() })
	}
	cancel()
	work.Wait()
	t.Logf("%d reads", reads.Load())
}

// A model that is behind and does not get on is stuck, until it does.
func TestAFrozenModelIsStuck(t *testing.T) {
	b := lively()
	release := make(chan struct{})
	var log bytes.Buffer
	m, err := projections.Open(t.Context(), projections.Config{
		Dir: t.TempDir(), Store: heldBack{b.store, release}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}.Stuck(30*time.Millisecond))
	require.NoError(t, err)
	stuck := func() string {
		all, err := m.Status(t.Context())
		require.NoError(t, err)
		return all[0].Stuck
	}
	until(t, "it is stuck", func() bool { return stuck() != "" })
	require.Contains(t, stuck(), "events behind and has not moved for")
	close(release)
	b.caughtUp(t, m)
	until(t, "it is no longer stuck", func() bool { return stuck() == "" })
	require.NoError(t, m.Close())
	require.Contains(t, log.String(), "is behind and does not get on")
	require.Contains(t, log.String(), "gets on again")
}

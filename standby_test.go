package stockledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/esdbstore"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/internal/esdbdouble"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natscluster"
)

// handle is one ledger's handle on a log that others have open, too.
type handle struct{ events.Store }

func (handle) Close() error { return nil }

// stores opens a log anew for each ledger that shares it.
type stores func(t *testing.T) events.Store

// onShared runs a test on every log that several ledgers can have open at once.
func onShared(t *testing.T, test func(t *testing.T, open stores)) {
	t.Run("memory", func(t *testing.T) {
		store := memstore.New()
		test(t, func(*testing.T) events.Store { return handle{store} })
	})
	t.Run("NATS", func(t *testing.T) {
		servers := natscluster.Start(t, 1)
		test(t, func(t *testing.T) events.Store {
			store, err := natsstore.Open(t.Context(), natsstore.Config{URL: servers.URL() + "/standby", Logger: quiet("").Logger})
			require.NoError(t, err)
			return store
		})
	})
	t.Run("EventStoreDB", func(t *testing.T) {
		server := esdbdouble.Start(t)
		test(t, func(t *testing.T) events.Store {
			store, err := esdbstore.Open(t.Context(), esdbstore.Config{URL: server.URL(), Logger: quiet("").Logger})
			require.NoError(t, err)
			return store
		})
	})
}

// standingBy opens a ledger that follows a log.
func standingBy(t *testing.T, store events.Store) *stockledger.Ledger {
	t.Helper()
	config := quiet(t.TempDir())
	config.Store, config.Standby = store, true
	l, err := stockledger.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

const oneOff = `{"inventory_item_id":"mug","location_id":"paris","adjustment":-1}`

// left is how many mugs there are, as a ledger's read models say once they know a
// position.
func left(t *testing.T, l *stockledger.Ledger, after uint64) string {
	t.Helper()
	result, err := l.Query(t.Context(), "stocked-quantity",
		fmt.Appendf(nil, `{"inventory_item_id":"mug","location_ids":["paris"],"after":%d}`, after))
	require.NoError(t, err)
	body, err := json.Marshal(result)
	require.NoError(t, err)
	var q struct{ Quantity json.Number }
	require.NoError(t, json.Unmarshal(body, &q))
	return q.Quantity.String()
}

func TestAStandbyAnswersQueriesAndNothingElse(t *testing.T) {
	onShared(t, func(t *testing.T, open stores) {
		a, b := standingBy(t, open(t)), standingBy(t, open(t))
		require.False(t, a.Leading())
		_, err := a.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
		require.Equal(t, "standby", fault.Code(err))
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
		_, err = a.DoJSON(t.Context(), commands.Envelope{DryRun: true}, "create-inventory-items", []byte(newMug))
		require.Equal(t, "standby", fault.Code(err), "on trial, too")

		require.NoError(t, a.Lead(t.Context(), nil))
		require.True(t, a.Leading())
		answer, err := a.DoJSON(t.Context(), commands.Envelope{Key: "k"}, "create-inventory-items", []byte(newMug))
		require.NoError(t, err)
		require.Equal(t, "3", left(t, b, answer.Position), "of what another node wrote")
		_, err = b.DoJSON(t.Context(), commands.Envelope{}, "adjust-inventory-levels", []byte(oneOff))
		require.Equal(t, "standby", fault.Code(err))

		refusals, err := a.Query(t.Context(), "list-refusals", []byte(`{}`))
		require.NoError(t, err)
		text, err := json.Marshal(refusals)
		require.NoError(t, err)
		require.NotContains(t, string(text), "standby", "it refused nothing: another one carries it out")
	})
}

func TestNodesTakeTurns(t *testing.T) {
	onShared(t, func(t *testing.T, open stores) {
		nodes := []*stockledger.Ledger{standingBy(t, open(t)), standingBy(t, open(t))}
		mugs := strings.Replace(newMug, "3", "1000", 1)
		var first commands.Answer
		for n := range 10 {
			leads := nodes[n%2]
			require.NoError(t, leads.Lead(t.Context(), nil))
			created, err := leads.DoJSON(t.Context(), commands.Envelope{Key: "item"}, "create-inventory-items", []byte(mugs))
			require.NoError(t, err)
			if n == 0 {
				first = created
			}
			require.Equal(t, n > 0, created.Replayed, "a key is known to whoever leads next")
			require.Equal(t, first.Position, created.Position)
			var last commands.Answer
			for i := range 10 {
				last, err = leads.DoJSON(t.Context(), commands.Envelope{Key: fmt.Sprint(n, "-", i)}, "adjust-inventory-levels", []byte(oneOff))
				require.NoError(t, err)
			}
			for _, l := range nodes {
				require.Equal(t, fmt.Sprint(1000-10*(n+1)), left(t, l, last.Position))
			}
			require.NoError(t, leads.Rest(t.Context()))
			require.False(t, leads.Leading())
		}
	})
}

// A node that was asleep still knows what was so when it fell asleep. It must not
// refuse anything because of that.
func TestWhoMayNotLeadRefusesNothingOnWhatItKnew(t *testing.T) {
	onShared(t, func(t *testing.T, open stores) {
		a, b := standingBy(t, open(t)), standingBy(t, open(t))
		var lost atomic.Bool
		may := func() error {
			if lost.Load() {
				return errors.New("its time is over")
			}
			return nil
		}
		require.NoError(t, a.Lead(t.Context(), may))
		_, err := a.DoJSON(t.Context(), commands.Envelope{}, "adjust-inventory-levels", []byte(oneOff))
		require.Equal(t, "not_found", fault.Code(err))
		lost.Store(true)
		require.NoError(t, b.Lead(t.Context(), nil))
		_, err = b.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
		require.NoError(t, err)

		for name, env := range map[string]commands.Envelope{"for real": {}, "on trial": {DryRun: true}} {
			_, err = a.DoJSON(t.Context(), env, "adjust-inventory-levels", []byte(oneOff))
			require.Equal(t, "standby", fault.Code(err), name)
			_, err = a.DoJSON(t.Context(), env, "create-inventory-items", []byte(newMug))
			require.Equal(t, "standby", fault.Code(err), name)
		}
		require.Equal(t, "3", left(t, b, 2))
	})
}

// Two that both believe they lead waste work, and do nothing wrong.
func TestTwoLeadersOversellNothing(t *testing.T) {
	onShared(t, func(t *testing.T, open stores) {
		nodes := []*stockledger.Ledger{standingBy(t, open(t)), standingBy(t, open(t))}
		for _, l := range nodes {
			require.NoError(t, l.Lead(t.Context(), nil))
		}
		_, err := nodes[0].DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(strings.Replace(newMug, "3", "50", 1)))
		require.NoError(t, err)
		var taken, refused atomic.Int64
		var under sync.WaitGroup
		for i := range 80 {
			under.Go(func() {
				key := fmt.Sprint("k", i/2) // each twice, once at either
				for {
					answer, err := nodes[i%2].DoJSON(t.Context(), commands.Envelope{Key: key}, "adjust-inventory-levels", []byte(strings.Replace(oneOff, "-1", "-2", 1)))
					switch code := fault.Code(err); {
					case err == nil && !answer.Replayed:
						taken.Add(1)
					case err == nil:
					case code == "insufficient_stock", code == "below_reserved", code == "negative_stock":
						refused.Add(1)
					case fault.Of(err).Kind == fault.Unavailable:
						continue // they get in each other's way
					default:
						t.Errorf("%s: %v", code, err)
					}
					return
				}
			})
		}
		under.Wait()
		head, err := nodes[0].Events().Head(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 25, taken.Load(), "fifty mugs, two at a time, and %d refused", refused.Load())
		for _, l := range nodes {
			require.Equal(t, "0", left(t, l, head))
		}
		report, err := nodes[1].Verify(t.Context(), nil)
		require.NoError(t, err)
		require.True(t, report.OK(), "%+v", report)
	})
}

func TestRestingEndsWhatWaitsAtOnce(t *testing.T) {
	onShared(t, func(t *testing.T, open stores) {
		l := standingBy(t, open(t))
		require.NoError(t, l.Lead(t.Context(), nil))
		_, err := l.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(strings.Replace(newMug, "3", "100000", 1)))
		require.NoError(t, err)
		var under sync.WaitGroup
		var done atomic.Int64
		for range 64 {
			under.Go(func() {
				for {
					_, err := l.DoJSON(t.Context(), commands.Envelope{}, "adjust-inventory-levels", []byte(oneOff))
					if err != nil {
						if code := fault.Code(err); code != "standby" {
							t.Errorf("%s: %v", code, err)
						}
						return
					}
					done.Add(1)
				}
			})
		}
		require.Eventually(t, func() bool { return done.Load() > 200 }, time.Minute, time.Millisecond)
		require.NoError(t, l.Rest(t.Context()))
		under.Wait()
		head, err := l.Events().Head(t.Context())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(100000-done.Load()), left(t, l, head), "what was answered is there, and nothing else")
	})
}

// silent is a store that, from some time on, does not say where its log ends.
type silent struct {
	events.Store
	from atomic.Bool
	ends chan struct{}
}

func (s *silent) Head(ctx context.Context) (uint64, error) {
	if !s.from.Load() {
		return s.Store.Head(ctx)
	}
	<-s.ends
	return 0, events.ErrClosed
}

// That a command is nonsense every node can say alone, however the event store is.
func TestNonsenseIsRefusedWithoutTheStore(t *testing.T) {
	store := &silent{Store: handle{memstore.New()}, ends: make(chan struct{})}
	l := standingBy(t, store)
	t.Cleanup(func() { close(store.ends) })
	store.from.Store(true)
	refused := make(chan error, 1)
	go func() {
		_, err := l.DoJSON(t.Context(), commands.Envelope{}, "create-reservations", []byte(`[{"quantity":1}]`))
		refused <- err
	}()
	select {
	case err := <-refused:
		require.Equal(t, "required", fault.Code(err))
	case <-time.After(time.Minute):
		t.Fatal("it asks the event store first")
	}
}

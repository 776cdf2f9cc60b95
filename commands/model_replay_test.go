package commands_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/projections"
)

// The same events come to the same state, to the byte, on one processor and on
// eight and the second time: in the engine, and in every list that the read models
// answer.
func TestReplayIsDeterministic(t *testing.T) {
	seed, _ := numberFrom(t, seedVariable, uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	store := memstore.New()
	x := &trial{name: t.Name(), seed: seed, shop: openShop(t, store)}
	x.furnish()
	together(4, func(caller int) { x.call(caller, 100) })
	head := x.head()

	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	var first string
	for _, processors := range []int{1, 2, 8, 8} {
		runtime.GOMAXPROCS(processors)
		state := openShop(t, store).rows() + modelled(t, store, head)
		if first == "" {
			first = state
			require.Greater(t, strings.Count(state, "created_at"), 20)
		}
		require.Equal(t, first, state, "on %d processors", processors)
	}
	require.Equal(t, head, x.head(), "nothing was written")
}

// modelled is all that read models answer which are built from a log anew.
func modelled(t *testing.T, store events.Store, head uint64) string {
	t.Helper()
	models, err := projections.Open(t.Context(), projections.Config{Dir: t.TempDir(), Store: store, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, models.Close()) }()
	var all strings.Builder
	for _, list := range []string{"list-inventory-items", "list-inventory-levels", "list-reservation-items", "list-inventory-links", "list-stock-locations", "list-commands"} {
		answer, err := models.Query(t.Context(), list, fmt.Appendf(nil, `{"take":1000,"after":%d}`, head))
		require.NoError(t, err, list)
		text, err := json.Marshal(answer)
		require.NoError(t, err)
		all.Write(append(text, '\n'))
	}
	return all.String()
}

// Every command is drawn for the model, and every kind of it is accepted now and then.
func TestThePencilKnowsEveryCommand(t *testing.T) {
	p := newPencil(1)
	for _, name := range commands.Names() {
		accepted := slices.ContainsFunc(make([]struct{}, 50), func(struct{}) bool {
			_, err := commands.Decode(name, []byte(p.orderOf(name).body()))
			return err == nil
		})
		require.True(t, accepted, name)
	}
}

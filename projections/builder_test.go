package projections_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, foldUntilKilled(dir))
		os.Exit(1)
	}
	// A check opens some twenty SQLite files. The command line may ask for more.
	checks := "30"
	if race.On {
		checks = "10"
	}
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// A book is a log and what is needed to write well-formed events to it.
type book struct {
	store    *memstore.Store
	last     map[string]events.Recorded // of each stream
	now      time.Time
	commands int
	meta     events.Meta // of the next commits
}

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

func newBook() *book {
	return &book{
		store: memstore.New(), last: make(map[string]events.Recorded), now: start,
		meta: events.Meta{Command: "adjust-inventory-levels", Digest: "d1"},
	}
}

// record appends the facts as one commit and returns the position of the last.
func (b *book) record(facts ...events.Fact) uint64 {
	var commit events.Commit
	b.now = b.now.Add(time.Second)
	b.commands++
	meta := b.meta
	meta.Recorded = b.now
	if meta.CommandID == "" {
		meta.CommandID = fmt.Sprintf("command-%d", b.commands)
	}
	for i, fact := range facts {
		each := meta
		each.EventID = fmt.Sprintf("%s/%d", meta.CommandID, i)
		if len(facts) > 1 {
			each.Part, each.Parts = i+1, len(facts)
		}
		if i == len(facts)-1 {
			each.Answer = json.RawMessage(fmt.Sprintf(`{"answer":%q}`, meta.CommandID))
		}
		stream := streamOf(fact)
		last := b.last[stream]
		e, err := events.Record(stream, last.Version, last.Hash, fact, &each)
		if err != nil {
			panic(err)
		}
		b.last[stream] = e
		commit = append(commit, e)
	}
	positions, err := b.store.Append(context.Background(), commit)
	if err != nil {
		panic(err)
	}
	return positions[0]
}

// streamOf is the stream a fact belongs to.
func streamOf(fact events.Fact) string {
	var ids struct {
		Item     string `json:"inventory_item_id"`
		Location string `json:"location_id"`
		Variant  string `json:"variant_id"`
		SKU      string `json:"sku"`
		Command  string `json:"command_id"`
	}
	data, err := json.Marshal(fact)
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(data, &ids); err != nil {
		panic(err)
	}
	switch fact.(type) {
	case events.LocationOpened, events.LocationUpdated, events.LocationClosed, events.LocationLinked, events.LocationUnlinked:
		return events.LocationStream(ids.Location)
	case events.ItemLinked, events.LinkUpdated, events.ItemUnlinked:
		return events.VariantStream(ids.Variant)
	case events.SKUClaimed, events.SKUReleased:
		return events.SKUStream(ids.SKU)
	case events.CommandAccepted:
		return events.CommandStream(ids.Command)
	}
	return events.ItemStream(ids.Item)
}

func open(t testing.TB, store events.Store, dir string) *projections.Models {
	t.Helper()
	m, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: store})
	require.NoError(t, err)
	return m
}

// models opens the read models of the book and waits until they have it all.
func (b *book) models(t testing.TB) *projections.Models {
	t.Helper()
	m := open(t, b.store, filepath.Join(t.TempDir(), "models"))
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	b.caughtUp(t, m)
	return m
}

func (b *book) caughtUp(t testing.TB, m *projections.Models) {
	t.Helper()
	head, err := b.store.Head(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.WaitFor(t.Context(), head))
}

func qty(s string) events.Quantity {
	q, err := events.ParseQuantity(s)
	if err != nil {
		panic(err)
	}
	return q
}

func units(n int64) events.Quantity { return events.Units(n) }

package projections_test

import (
	"bytes"
	"context"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// A garbled store yields one event otherwise than it was recorded.
type garbled struct {
	events.Store
	position uint64
	garble   func(events.Recorded) events.Recorded
}

func (g garbled) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		for batch, err := range g.Store.Subscribe(ctx, after) {
			batch = append([]events.Recorded(nil), batch...)
			for i, e := range batch {
				if e.Position == g.position {
					batch[i] = g.garble(e)
				}
			}
			if !yield(batch, err) {
				return
			}
		}
	}
}

// stripped is e as a store that keeps only bytes has it.
func stripped(e events.Recorded) events.Recorded {
	return events.Recorded{
		Position: e.Position, Stream: e.Stream, Version: e.Version, Type: e.Type,
		Data: e.Data, Meta: e.Meta, Prev: e.Prev, Hash: e.Hash,
	}
}

func unknownType(e events.Recorded) events.Recorded {
	e = stripped(e)
	e.Type = "inventory.location-teleported.v9"
	return e
}

// statuses are the positions of the models by name, and why they stopped.
func statuses(t *testing.T, m *projections.Models) (positions map[string]uint64, stopped map[string]string) {
	t.Helper()
	all, err := m.Status(t.Context())
	require.NoError(t, err)
	positions, stopped = make(map[string]uint64), make(map[string]string)
	for _, s := range all {
		require.Equal(t, s.Head-s.Position, s.Behind)
		positions[s.Name] = s.Position
		if s.Stopped != "" {
			stopped[s.Name] = s.Stopped
		}
	}
	return positions, stopped
}

// soon is a context that ends in time to fail a test.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// An event that one model cannot apply stops that model before it, and not the
// other; once it can be read the model goes on, and every event still counts once.
func TestPoisonStopsOneModel(t *testing.T) {
	b, dir := newBook(), filepath.Join(t.TempDir(), "models")
	b.record(bolts, atBerlin)
	b.record(opened)
	poison := b.record(events.LocationUpdated{LocationID: "berlin", Attributes: events.LocationAttributes{Name: "Mitte"}})
	b.record(events.LocationOpened{LocationID: "paris", Attributes: events.LocationAttributes{Name: "Paris"}})
	b.record(held)

	var log bytes.Buffer
	m, err := projections.Open(t.Context(), projections.Config{
		Dir: dir, Store: garbled{b.store, poison, unknownType}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, err)
	err = m.WaitFor(soon(t), poison+2)
	require.Equal(t, "model_stopped", fault.Code(err))
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	require.Equal(t, "inventory", fault.Of(err).Details["model"])
	require.NoError(t, m.WaitFor(t.Context(), poison-1))

	for name, stopped := range map[string]bool{
		"list-inventory-items": true, "list-inventory-levels": true, "list-reservation-items": true,
		"list-inventory-links": true, "list-stock-locations": true, "list-commands": false,
	} {
		_, err = m.Query(t.Context(), name, []byte(`{"after":6}`))
		if stopped {
			require.Equal(t, "model_stopped", fault.Code(err), name)
		} else {
			require.NoError(t, err, "the other model goes on")
		}
	}
	_, err = m.Query(t.Context(), "stock-history", []byte(`{"after":6,"level_id":"lev-b"}`))
	require.NoError(t, err)

	positions, stopped := statuses(t, m)
	require.Equal(t, map[string]uint64{"inventory": poison - 1, "movements": 6}, positions)
	require.Len(t, stopped, 1)
	for _, word := range []string{"event 4", "inventory.location-teleported.v9", "location-berlin@2"} {
		require.Contains(t, stopped["inventory"], word)
	}
	for _, word := range []string{"level=ERROR", "model=inventory", "position=4", "stream=location-berlin", "type=inventory.location-teleported.v9", "err="} {
		require.Contains(t, log.String(), word)
	}
	require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"))
	berlin, err := m.RetrieveLocation(t.Context(), "berlin")
	require.NoError(t, err)
	require.Equal(t, "Berlin", berlin.Name, "what came before the poison is there")
	require.NoError(t, m.Close())

	m = open(t, garbled{b.store, poison, unknownType}, dir)
	require.Equal(t, "model_stopped", fault.Code(m.WaitFor(soon(t), 6)), "it tries again, and stops again")
	require.NoError(t, m.Close())

	m = open(t, b.store, dir)
	require.NoError(t, m.WaitFor(t.Context(), 6))
	require.NoError(t, m.Close())
	fresh := filepath.Join(t.TempDir(), "fresh")
	m = open(t, b.store, fresh)
	require.NoError(t, m.WaitFor(t.Context(), 6))
	require.NoError(t, m.Close())
	require.Equal(t, dump(t, fresh), dump(t, dir))
}

// What cannot follow the past, or cannot be read, stops the models it concerns:
// both, when it speaks of quantities.
func TestWhatStopsAModel(t *testing.T) {
	t.Parallel()
	inventory, both := []string{"inventory"}, []string{"inventory", "movements"}
	adjusted := func(delta, after int64) events.Fact {
		return events.StockAdjusted{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Delta: units(delta), Stocked: units(after)}
	}
	for _, tc := range []struct {
		name   string
		past   []events.Fact
		event  events.Fact
		garble func(events.Recorded) events.Recorded
		stops  []string
	}{{
		name: "no such level", past: []events.Fact{bolts}, event: adjusted(1, 1), stops: both,
	}, {
		name: "no such item", event: events.ItemUpdated{ItemID: "nuts"}, stops: inventory,
	}, {
		name: "no such reservation", past: []events.Fact{bolts, atBerlin},
		event: events.ReservationUpdated{
			ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", ReservationID: "r9",
			From: units(1), Quantity: units(1), Stocked: units(10),
		},
		stops: inventory,
	}, {
		name: "no such link", event: events.ItemUnlinked{VariantID: "v", ItemID: "i", Required: units(1)}, stops: inventory,
	}, {
		name: "no such location", event: events.LocationClosed{LocationID: "nowhere"}, stops: inventory,
	}, {
		name: "stock that does not add up", past: []events.Fact{bolts, atBerlin}, event: adjusted(5, 16), stops: both,
	}, {
		name: "reserved that is not so", past: []events.Fact{bolts, atBerlin, held}, event: adjusted(5, 15), stops: both,
	}, {
		name: "a level that is there already", past: []events.Fact{bolts, atBerlin}, event: atBerlin, stops: both,
	}, {
		name: "an item that is there already", past: []events.Fact{bolts}, event: bolts, stops: inventory,
	}, {
		name: "a level that is deleted", past: []events.Fact{bolts, atBerlin, berlinGone}, event: adjusted(1, 11), stops: both,
	}, {
		name: "a level deleted with reservations", past: []events.Fact{bolts, atBerlin, held}, event: berlinGone, stops: both,
	}, {
		name: "an item deleted with levels", past: []events.Fact{bolts, atBerlin}, event: boltsGone, stops: inventory,
	}, {
		name: "a reservation that is released", past: []events.Fact{bolts, atBerlin, held, released}, event: released, stops: both,
	}, {
		name: "a level restored that lives", past: []events.Fact{bolts, atBerlin},
		event: events.LevelRestored{ItemID: "bolts", LevelID: "lev-b", LocationID: "berlin", Stocked: units(10), Incoming: units(2)},
		stops: both,
	}, {
		name: "an unknown type of an item", past: []events.Fact{bolts, atBerlin}, event: adjusted(1, 11), garble: unknownType, stops: both,
	}, {
		name: "an unknown sort of stream", past: []events.Fact{bolts, atBerlin}, event: adjusted(1, 11),
		garble: func(e events.Recorded) events.Recorded {
			e = unknownType(e)
			e.Stream = "bin-7"
			return e
		},
		stops: both,
	}, {
		name: "a bad body", past: []events.Fact{bolts, atBerlin}, event: adjusted(1, 11),
		garble: func(e events.Recorded) events.Recorded {
			e = stripped(e)
			e.Data = []byte(`{"delta":"one"}`)
			return e
		},
		stops: both,
	}, {
		name: "bad metadata", past: []events.Fact{bolts, atBerlin}, event: adjusted(1, 11),
		garble: func(e events.Recorded) events.Recorded {
			e = stripped(e)
			e.Meta = []byte(`nonsense`)
			return e
		},
		stops: both,
	}} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBook()
			for _, fact := range tc.past {
				b.record(fact)
			}
			bad := b.record(tc.event)
			b.record(events.CommandAccepted{CommandID: "c"})
			store := events.Store(b.store)
			if tc.garble != nil {
				store = garbled{b.store, bad, tc.garble}
			}
			m := open(t, store, t.TempDir())
			defer m.Close()
			body := []byte(asJSON(t, map[string]any{"after": bad + 1}))
			for query, name := range map[string]string{
				"list-inventory-items": "inventory", "list-inventory-levels": "inventory", "list-reservation-items": "inventory",
				"list-inventory-links": "inventory", "list-stock-locations": "inventory", "list-commands": "movements",
			} {
				_, err := m.Query(t.Context(), query, body)
				if slices.Contains(tc.stops, name) {
					require.Equal(t, "model_stopped", fault.Code(err), query)
				} else {
					require.NoError(t, err, query)
				}
			}
			positions, stopped := statuses(t, m)
			require.Len(t, stopped, len(tc.stops))
			for _, name := range tc.stops {
				require.Equal(t, bad-1, positions[name], name)
			}
		})
	}
}

// A command id that comes again in another commit stops the model that has the commands:
// its table refuses, and the event is still found.
func TestCommandIDsAreUnique(t *testing.T) {
	b := newBook()
	b.meta.CommandID = "same"
	b.record(bolts)
	b.record(atBerlin)
	m := open(t, b.store, t.TempDir())
	defer m.Close()
	require.Equal(t, "model_stopped", fault.Code(m.WaitFor(soon(t), 2)))
	positions, stopped := statuses(t, m)
	require.Equal(t, uint64(1), positions["movements"])
	require.Contains(t, stopped["movements"], "event 2")
}

// Models of another log are refused, and so are those that are ahead of it.
func TestOtherLogIsRefused(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	b.record(bolts)
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())

	other := newBook()
	other.record(bolts)
	_, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: other.store})
	require.ErrorIs(t, err, events.ErrOtherLog)
	require.ErrorContains(t, err, filepath.Join(dir, "inventory.v1.db"))
	require.ErrorContains(t, err, "remove the file")

	_, err = projections.Open(t.Context(), projections.Config{Dir: dir, Store: shorter{b.store}})
	require.ErrorIs(t, err, events.ErrOtherLog)
	require.ErrorContains(t, err, "inventory.v1.db")

	m = open(t, b.store, dir)
	require.NoError(t, m.Close())
}

// shorter is a log that was put back to its beginning.
type shorter struct{ events.Store }

func (shorter) Head(context.Context) (uint64, error) { return 0, nil }

// A file that is not a database is named.
func TestBrokenFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "inventory.v1.db")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("not a database "), 1000), 0o600))
	_, err := projections.Open(t.Context(), projections.Config{Dir: dir, Store: memstore.New()})
	require.ErrorContains(t, err, path)
}

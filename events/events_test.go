package events_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

func TestAHashIsReadAsItWasWritten(t *testing.T) {
	var h events.Hash
	for i := range h {
		h[i] = byte(i * 7)
	}
	text, err := h.MarshalText()
	require.NoError(t, err)
	require.Equal(t, h.String(), string(text))
	require.Len(t, text, 64)
	var back events.Hash
	require.NoError(t, back.UnmarshalText(text))
	require.Equal(t, h, back)

	for _, text := range []string{"", "00", h.String()[1:], h.String() + "0", h.String() + "00", strings.Replace(h.String(), "0", "g", 1)} {
		require.Error(t, back.UnmarshalText([]byte(text)), "%q", text)
	}
	require.Equal(t, strings.Repeat("0", 64), events.Hash{}.String())
}

func TestARecordContinuesItsStream(t *testing.T) {
	stream := recordStream(t, "item-iitem_1", 3)
	var before events.Recorded
	for i, e := range stream {
		require.EqualValues(t, i+1, e.Version)
		require.Zero(t, e.Position, "the store gives it")
		require.Equal(t, before.Hash, e.Prev)
		require.Equal(t, e.Link(), e.Hash)
		require.NoError(t, e.Verify(before))
		before = e
	}
	require.Equal(t, "inventory.stock-adjusted.v1", before.Type)
	require.JSONEq(t, `{"inventory_item_id":"iitem_1","level_id":"ilev_1","location_id":"berlin","delta":3,"stocked_quantity":3,"reserved_quantity":0}`, string(before.Data))
}

// The fact and the metadata are the same whether the maker of the record
// remembers them or a reader decodes them.
func TestARecordHoldsWhatWasRecorded(t *testing.T) {
	fact := events.LevelUpdated{ItemID: "iitem_1", LevelID: "ilev_1", LocationID: "berlin"}
	meta := &events.Meta{EventID: "1", Command: "update-inventory-levels", CommandID: "k", Recorded: noon, Actor: "Łukasz <ł@example.org>"}
	e, err := events.Record("item-iitem_1", 7, events.Hash{1}, fact, meta)
	require.NoError(t, err)
	stored := events.Recorded{
		Position: 9, Stream: e.Stream, Version: e.Version, Type: e.Type, Data: slices.Clone(e.Data), Meta: slices.Clone(e.Meta),
		Prev: e.Prev, Hash: e.Hash,
	}
	require.Equal(t, stored.Link(), stored.Hash, "the position is not part of the chain")
	for _, e := range []events.Recorded{e, stored} {
		gotFact, err := e.Fact()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(events.Fact(fact), gotFact))
		gotMeta, err := e.Metadata()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(*meta, gotMeta))
	}

	for _, broken := range []events.Recorded{
		{Stream: "item-1", Version: 2, Type: "inventory.item-created.v1", Data: []byte("{"), Meta: []byte("{")},
		{Stream: "item-1", Version: 2, Type: "inventory.item-created.v0", Data: []byte("{}"), Meta: []byte("[]")},
	} {
		_, err := broken.Fact()
		require.ErrorContains(t, err, "item-1@2", "an error says where to look")
		_, err = broken.Metadata()
		require.ErrorContains(t, err, "item-1@2")
	}
}

func TestWhatCannotBeWrittenIsNotRecorded(t *testing.T) {
	_, err := events.Record("item-1", 0, events.Hash{}, events.LevelUpdated{Metadata: json.RawMessage("{")}, &events.Meta{})
	require.ErrorContains(t, err, "inventory.level-updated.v1")
	_, err = events.Record("item-1", 0, events.Hash{}, events.LevelUpdated{}, &events.Meta{Answer: json.RawMessage("{")})
	require.ErrorContains(t, err, "metadata of inventory.level-updated.v1")
}

// Nobody changes a byte of the past unnoticed.
func TestEveryByteIsChained(t *testing.T) {
	stream := recordStream(t, "item-iitem_1", 2)
	before, e := stream[0], stream[1]
	require.NoError(t, e.Verify(before))

	flipped := 0
	flip := func(part string, n int, in func(e *events.Recorded, i int, bit byte)) {
		for i := range n {
			for _, bit := range []byte{1, 0x80} {
				changed := e
				changed.Data, changed.Meta = slices.Clone(e.Data), slices.Clone(e.Meta)
				in(&changed, i, bit)
				require.Error(t, changed.Verify(before), "bit %d of byte %d of %s", bit, i, part)
				flipped++
			}
		}
	}
	flip("stream", len(e.Stream), func(e *events.Recorded, i int, bit byte) { e.Stream = flipText(e.Stream, i, bit) })
	flip("version", 8, func(e *events.Recorded, i int, bit byte) { e.Version ^= uint64(bit) << (8 * i) })
	flip("type", len(e.Type), func(e *events.Recorded, i int, bit byte) { e.Type = flipText(e.Type, i, bit) })
	flip("data", len(e.Data), func(e *events.Recorded, i int, bit byte) { e.Data[i] ^= bit })
	flip("meta", len(e.Meta), func(e *events.Recorded, i int, bit byte) { e.Meta[i] ^= bit })
	flip("prev", len(e.Prev), func(e *events.Recorded, i int, bit byte) { e.Prev[i] ^= bit })
	flip("hash", len(e.Hash), func(e *events.Recorded, i int, bit byte) { e.Hash[i] ^= bit })
	require.Greater(t, flipped, 500)

	// A version that looks right beside its neighbour is still not the one that was hashed.
	renumbered, neighbour := e, before
	renumbered.Version, neighbour.Version = e.Version+1, before.Version+1
	require.ErrorContains(t, renumbered.Verify(neighbour), "do not match its hash")
	// And the link covers the one before it, not only what Verify compares.
	elsewhere := e
	elsewhere.Prev = events.Hash{1}
	require.NotEqual(t, e.Hash, elsewhere.Link())
}

// No byte can wander from one part to the next.
func TestPartsOfALinkDoNotRunTogether(t *testing.T) {
	e := events.Recorded{Stream: "item-1", Version: 1, Type: "a", Data: []byte("bc"), Meta: []byte("d")}
	for _, other := range []events.Recorded{
		{Stream: "item-", Version: 1, Type: "1a", Data: []byte("bc"), Meta: []byte("d")},
		{Stream: "item-1", Version: 1, Type: "ab", Data: []byte("c"), Meta: []byte("d")},
		{Stream: "item-1", Version: 1, Type: "a", Data: []byte("b"), Meta: []byte("cd")},
		{Stream: "item-1", Version: 1, Type: "a", Data: []byte("bcd")},
	} {
		require.NotEqual(t, e.Link(), other.Link(), "%+v", other)
	}
}

// Nobody swaps, drops or inserts an event unnoticed.
func TestTheOrderIsChained(t *testing.T) {
	stream := recordStream(t, "item-iitem_1", 4)
	require.NoError(t, verify(stream))

	swapped := slices.Clone(stream)
	swapped[1], swapped[2] = swapped[2], swapped[1]
	require.Error(t, verify(swapped))
	swapped[1].Version, swapped[2].Version = swapped[2].Version, swapped[1].Version
	require.Error(t, verify(swapped), "renumbered")

	require.Error(t, verify(stream[1:]), "the first dropped")
	dropped := slices.Delete(slices.Clone(stream), 1, 2)
	require.Error(t, verify(dropped))
	dropped[1].Version--
	require.Error(t, verify(dropped), "renumbered")

	forged, err := events.Record("item-iitem_1", 2, stream[1].Hash, events.StockAdjusted{ItemID: "iitem_1"}, &events.Meta{})
	require.NoError(t, err)
	inserted := slices.Insert(slices.Clone(stream), 2, forged)
	require.Error(t, verify(inserted))
	require.Error(t, verify(append(slices.Clone(stream[:2]), append([]events.Recorded{forged}, stream[3:]...)...)), "replaced")

	skipped, err := events.Record("item-iitem_1", 3, stream[1].Hash, events.StockAdjusted{ItemID: "iitem_1"}, &events.Meta{})
	require.NoError(t, err)
	require.ErrorContains(t, skipped.Verify(stream[1]), "version 4 follows version 2", "an honest hash of a dishonest number")

	other := recordStream(t, "item-iitem_2", 4)
	require.Error(t, verify(append(slices.Clone(stream[:2]), other[2:]...)), "of another stream")
	require.Error(t, verify(append(slices.Clone(stream), stream[3])), "twice")
}

func TestMetadataIsReadAsItWasWritten(t *testing.T) {
	all := events.Meta{
		EventID: "01990000-0000-7000-8000-000000000001", Command: "adjust-inventory-levels", CommandID: "key 1",
		Digest: strings.Repeat("ab", 32), Correlation: "c", Causation: "d", Actor: "e", Reason: "f", Reference: "urn:g",
		Recorded: noon, Effective: noon.Add(-time.Hour), Trace: "00-0-0-01", Part: 1, Parts: 2, Answer: json.RawMessage(`{"h":[1.50]}`),
	}
	single := events.Meta{EventID: "1", Command: "a", CommandID: "b", Digest: "c", Recorded: noon}
	for want, meta := range map[string]events.Meta{
		`{"event_id":"01990000-0000-7000-8000-000000000001","command":"adjust-inventory-levels","command_id":"key 1","digest":"` +
			strings.Repeat("ab", 32) + `","correlation_id":"c","causation_id":"d","actor":"e","reason":"f","reference":"urn:g",` +
			`"recorded_at":"2026-03-01T12:00:00.000001Z","effective_at":"2026-03-01T11:00:00.000001Z","traceparent":"00-0-0-01",` +
			`"part":1,"parts":2,"answer":{"h":[1.50]}}`: all,
		`{"event_id":"1","command":"a","command_id":"b","digest":"c","recorded_at":"2026-03-01T12:00:00.000001Z"}`: single,
	} {
		text, err := json.Marshal(meta)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		var back events.Meta
		require.NoError(t, json.Unmarshal(text, &back))
		require.Empty(t, cmp.Diff(meta, back))
	}

	require.Equal(t, noon.Add(-time.Hour), all.EffectiveAt())
	require.Equal(t, noon, single.EffectiveAt(), "it happened when it was recorded unless somebody said otherwise")
	require.False(t, all.Last())
	all.Part = 2
	require.True(t, all.Last())
	require.True(t, single.Last())
}

func TestACommitTakesEachStreamFromOneVersionToAnother(t *testing.T) {
	at := func(stream string, version uint64) events.Recorded {
		return events.Recorded{Stream: stream, Version: version}
	}
	require.Equal(t, []events.Span{{Stream: "item-1", After: 2}, {Stream: "sku-a", Before: 6, After: 7}},
		events.Commit{at("item-1", 1), at("sku-a", 7), at("item-1", 2)}.Spans())

	require.Panics(t, func() { events.Commit{}.Spans() }, "empty")
	require.Panics(t, func() { events.Commit{at("item-1", 0)}.Spans() }, "version 0")
	require.Panics(t, func() { events.Commit{at("item-1", 2), at("item-1", 4)}.Spans() }, "skips a version")
	require.Panics(t, func() { events.Commit{at("item-1", 2), at("item-1", 2)}.Spans() }, "repeats a version")
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)

// recordStream makes the first n events of a stream.
func recordStream(t *testing.T, stream string, n int) []events.Recorded {
	t.Helper()
	var recorded []events.Recorded
	var before events.Recorded
	for i := range n {
		e, err := events.Record(stream, before.Version, before.Hash, events.StockAdjusted{
			ItemID: "iitem_1", LevelID: "ilev_1", LocationID: "berlin", Delta: events.Units(int64(i) + 1), Stocked: events.Units(int64(i) + 1),
		}, &events.Meta{EventID: fmt.Sprint(i), Recorded: noon})
		require.NoError(t, err)
		recorded, before = append(recorded, e), e
	}
	return recorded
}

// verify checks a stream from its first event on.
func verify(stream []events.Recorded) error {
	var before events.Recorded
	for _, e := range stream {
		if err := e.Verify(before); err != nil {
			return err
		}
		before = e
	}
	return nil
}

func flipText(text string, i int, bit byte) string {
	b := []byte(text)
	b[i] ^= bit
	return string(b)
}

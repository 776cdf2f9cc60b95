package events_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// testdata/recordings.jsonl is the life of one cup, as it was stored on the
// first day, in the order of the log. A line of it never changes. A new fact, or
// a new version of one, comes with a line of its own at the end.
const (
	firstDay       = 32 // lines
	firstDayDigest = "1ab404051c64527558295e3441de7a1711b6ef149ea41bd42063627eba8fbc7c"
)

// A recording is an event as it is stored, in one line.
type recording struct {
	Stream  string          `json:"stream"`
	Version uint64          `json:"version"`
	Type    string          `json:"type"`
	Data    json.RawMessage `json:"data"`
	Meta    json.RawMessage `json:"meta"`
	Prev    events.Hash     `json:"prev"`
	Hash    events.Hash     `json:"hash"`
}

func (r recording) event() events.Recorded {
	return events.Recorded{Stream: r.Stream, Version: r.Version, Type: r.Type, Data: r.Data, Meta: r.Meta, Prev: r.Prev, Hash: r.Hash}
}

func recordings(t require.TestingT) []recording {
	lines, err := os.ReadFile("testdata/recordings.jsonl")
	require.NoError(t, err)
	var all []recording
	for line := range bytes.Lines(lines) {
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		var r recording
		require.NoError(t, decoder.Decode(&r), "%s", line)
		all = append(all, r)
	}
	return all
}

func TestTheFirstDayIsNotRewritten(t *testing.T) {
	lines, err := os.ReadFile("testdata/recordings.jsonl")
	require.NoError(t, err)
	digest := sha256.New()
	for _, line := range bytes.SplitAfter(lines, []byte("\n"))[:firstDay] {
		digest.Write(line)
	}
	require.Equal(t, firstDayDigest, hex.EncodeToString(digest.Sum(nil)))
}

func TestEveryTypeHasARecording(t *testing.T) {
	recorded := make(map[string]bool)
	for _, r := range recordings(t) {
		recorded[r.Type] = true
		require.Contains(t, events.Types(), r.Type, "a type that was ever stored stays readable")
	}
	for _, eventType := range events.Types() {
		require.True(t, recorded[eventType], "no recording of %s", eventType)
	}
	require.True(t, slices.IsSorted(events.Types()))
}

// A log written on the first day reads today, and what reads it writes the same.
func TestRecordingsReadAsTheyWereWritten(t *testing.T) {
	for i, r := range recordings(t) {
		t.Run(fmt.Sprintf("%02d %s", i+1, r.Type), func(t *testing.T) {
			fact, err := r.event().Fact()
			require.NoError(t, err)
			if fact.EventType() == r.Type { // else an old version, read as the newest
				again, err := json.Marshal(fact)
				require.NoError(t, err)
				require.Equal(t, string(r.Data), string(again))
			}

			meta, err := r.event().Metadata()
			require.NoError(t, err)
			require.NotEmpty(t, meta.EventID)
			again, err := json.Marshal(meta)
			require.NoError(t, err)
			require.Equal(t, string(r.Meta), string(again))
		})
	}
}

func TestTheChainOfTheRecordingsHolds(t *testing.T) {
	last := make(map[string]events.Recorded)
	for i, r := range recordings(t) {
		require.NoError(t, r.event().Verify(last[r.Stream]), "line %d", i+1)
		last[r.Stream] = r.event()

		fact, err := r.event().Fact()
		require.NoError(t, err)
		meta, err := r.event().Metadata()
		require.NoError(t, err)
		if fact.EventType() == r.Type {
			again, err := events.Record(r.Stream, r.Version-1, r.Prev, fact, &meta)
			require.NoError(t, err)
			require.Equal(t, r.Hash, again.Hash, "line %d, recorded today", i+1)
		}
	}
}

func TestWhatIsNotKnownIsNotRead(t *testing.T) {
	for _, eventType := range []string{"", "inventory.item-created", "inventory.item-created.v2", "Inventory.item-created.v1", "inventory.item-created.v1 "} {
		fact, err := events.Decode(eventType, []byte("{}"))
		require.Nil(t, fact)
		require.ErrorContains(t, err, fmt.Sprintf("%q is not known", eventType))
	}
	for _, data := range []string{"", "{", "[]", `"x"`, `{"attributes":1}`, `{"inventory_item_id":1}`, `{"attributes":{"weight":"1"}}`, `{"attributes":{"weight":1e18}}`, `{} {}`} {
		fact, err := events.Decode("inventory.item-created.v1", []byte(data))
		require.Nil(t, fact, "%s", data)
		require.ErrorContains(t, err, "decode inventory.item-created.v1", "%s", data)
	}
	// A field this version does not know came from a later one that promised not to change what it means.
	_, err := events.Decode("inventory.item-created.v1", []byte(`{"inventory_item_id":"1","later":true}`))
	require.NoError(t, err)
}

// A null stays a nil, so that a fact read back is the fact that was recorded.
func TestNoMetadataReadsAsNone(t *testing.T) {
	for _, fact := range []events.Fact{
		events.ItemCreated{},
		events.ItemUpdated{},
		events.LevelCreated{},
		events.LevelUpdated{},
		events.ReservationCreated{},
		events.ReservationUpdated{},
		events.ReservationRestored{},
		events.LocationOpened{},
		events.LocationUpdated{},
		events.LocationOpened{Attributes: events.LocationAttributes{Address: &events.Address{}}},
		events.LocationUpdated{Attributes: events.LocationAttributes{Address: &events.Address{}}},
		events.ItemDeleted{},
		events.ItemDeleted{Levels: []string{}},
	} {
		data, err := json.Marshal(fact)
		require.NoError(t, err)
		back, err := events.Decode(fact.EventType(), data)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(fact, back))
	}
}

// Whatever bytes a log holds, reading them fails or settles: what was read is
// written and read again the same.
func FuzzDecode(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add(r.Type, []byte(r.Data))
	}
	f.Add("inventory.item-created.v1", []byte(`{"attributes":{"weight":1e999999999,"metadata":{"a":[1e400]}}}`))
	f.Add("inventory.item-created.v9", []byte(`{}`))
	f.Fuzz(func(t *testing.T, eventType string, data []byte) {
		fact, err := events.Decode(eventType, data)
		if err != nil {
			require.Nil(t, fact)
			return
		}
		written, err := json.Marshal(fact)
		require.NoError(t, err)
		again, err := events.Decode(fact.EventType(), written)
		require.NoError(t, err)
		rewritten, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(written), string(rewritten))
	})
}

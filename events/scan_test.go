package events

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A stored event is its type and its two texts.
type storedEvent struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
	Meta json.RawMessage `json:"meta"`
}

func (e storedEvent) recorded() Recorded { return Recorded{Type: e.Type, Data: e.Data, Meta: e.Meta} }

func storedEvents(t testing.TB) (all []storedEvent) {
	lines, err := os.ReadFile("testdata/recordings.jsonl")
	require.NoError(t, err)
	for line := range bytes.Lines(lines) {
		var e storedEvent
		require.NoError(t, json.Unmarshal(line, &e))
		all = append(all, e)
	}
	return all
}

// slowly is what encoding/json makes of a fact.
func slowly(t testing.TB, eventType string, data []byte) (any, error) {
	known, err := Decode(eventType, []byte(`{}`))
	require.NoError(t, err)
	into := reflect.New(reflect.TypeOf(known))
	err = json.Unmarshal(data, into.Interface())
	if f, ok := reflect.TypeAssert[interface{ tidy() }](into); ok {
		f.tidy()
	}
	return into.Elem().Interface(), err
}

// agrees checks that an event reads as encoding/json reads it, or not at all.
func agrees(t testing.TB, e storedEvent) {
	t.Helper()
	want, wantErr := slowly(t, e.Type, e.Data)
	fact, err := e.recorded().Fact()
	require.Equal(t, wantErr == nil, err == nil, "%s %s: %v, %v", e.Type, e.Data, err, wantErr)
	if err == nil {
		require.Equal(t, want, any(fact), "%s %s", e.Type, e.Data)
	}
	var wantMeta Meta
	wantErr = json.Unmarshal(e.Meta, &wantMeta)
	meta, err := e.recorded().Metadata()
	require.Equal(t, wantErr == nil, err == nil, "%s: %v, %v", e.Meta, err, wantErr)
	if err != nil {
		return
	}
	require.Equal(t, wantMeta, meta, "%s", e.Meta)
	origin, err := e.recorded().Origin()
	require.NoError(t, err)
	wantMeta.Answer = nil
	require.Equal(t, wantMeta, origin, "%s", e.Meta)
}

func TestEventsReadAsEncodingJSONReadsThem(t *testing.T) {
	for _, e := range storedEvents(t) {
		agrees(t, e)
	}
	// What Record would not write, or not so.
	for _, meta := range []string{
		`{}`, ` {"part":1}`, `{"part":1} `, `{"part": 1}`, `{"part":-1}`, `{"part":1.0}`, `{"part":1.5}`, `{"part":01}`, `{"part":1e2}`,
		`{"part":9999999999}`, `{"part":"1"}`, `{"part":null}`, `{"part":}`, `{"part"}`, `{"part":1,}`, `{,}`, `{"part":1`, `{"part":1}}`, `[]`, `null`, ``,
		`{"Actor":"ann"}`, `{"ACTOR":"ann","actor":"bob"}`, `{"actor":"ann","actor":"bob"}`, `{"other":[1,{"actor":"ann"}]}`,
		`{"actor":"\u0061nn"}`, `{"actor":"a\"b"}`, `{"actor":"Jörg"}`, "{\"actor\":\"\xff\"}", "{\"actor\":\"\xc3\"}", "{\"actor\":\"a\nb\"}", "{\"actor\":\"\x00\"}",
		`{"actor":null}`, `{"actor":7}`, `{"actor":"ann}`, `{"actor":"ann""part":1}`, `{"actor":"ann" ,"part":1}`,
		`{"recorded_at":"2026-03-01T09:00:00Z"}`, `{"recorded_at":"2026-03-01T09:00:00.000001+01:00"}`, `{"recorded_at":"2026-03-01"}`,
		`{"recorded_at":""}`, `{"recorded_at":null}`, `{"recorded_at":5}`, `{"recorded_at":"2026-03-01T9:00:00Z"}`,
		`{"answer":null}`, `{"answer":{}}`, `{"answer":[[{"a":"}]"}],2]}`, `{"answer":"\"}"}`, `{"answer":-1.5e3}`, `{"answer":true,"part":2}`,
		`{"answer": {"a": [1, 2]} ,"part":2}`,
	} {
		agrees(t, storedEvent{"inventory.command-accepted.v1", []byte(`{}`), []byte(meta)})
	}
	for _, broken := range []string{`{"answer":}`, `{"answer":{]}`, `{"answer":{"a":1]}`, `{"answer":nul}`, `{"answer":1 2}`, `{"answer":{}`, `{"answer":"}`} {
		_, err := Recorded{Meta: []byte(broken)}.Metadata()
		require.Error(t, err, broken)
	}
	for _, data := range []string{
		`{"delta":1.50}`, `{"delta":-0}`, `{"delta":-0.0}`, `{"delta":1e2}`, `{"delta":00}`, `{"delta":-}`, `{"delta":.5}`, `{"delta":5.}`, `{"delta":1-2}`,
		`{"delta":999999999999999999}`, `{"delta":1000000000000000000}`, `{"delta":0.999999999999999999}`, `{"delta":null}`, `{"delta":"1"}`, `{"delta":}`,
		`{"delta":1,"delta":2}`, `{"delta":1,"delta":null}`,
	} {
		agrees(t, storedEvent{"inventory.stock-adjusted.v1", []byte(data), []byte(`{}`)})
	}
	for _, data := range []string{
		`{"details":null}`, `{"details":{}}`, `{"details":{"metadata":null,"line_item_id":null}}`, `{"details":{"metadata":{"a" : 1}}}`,
		`{"details":{"metadata":{"a":1},"line_item_id":"li_1"},"details":{"metadata":null}}`, `{"details":{"allow_backorder":true}}`,
		`{"details":{"allow_backorder":null}}`, `{"details":{"allow_backorder":1}}`, `{"details":{"metadata":tru}}`, `{"details":[]}`,
	} {
		agrees(t, storedEvent{"inventory.reservation-created.v1", []byte(data), []byte(`{}`)})
	}
}

// Whatever happens to a byte, nothing is read that encoding/json would not read.
func TestDamagedEventsReadAsEncodingJSONReadsThem(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	alphabet := []byte(`{}[]",:.-0123456789abntfu\ ` + "\n\x00\xff\xc3")
	damaged := func(text []byte) []byte {
		text = bytes.Clone(text)
		for range 1 + random.IntN(2) {
			at, c := random.IntN(len(text)), alphabet[random.IntN(len(alphabet))]
			switch random.IntN(3) {
			case 0:
				text[at] = c
			case 1:
				text = append(text[:at], text[at+1:]...)
			default:
				text = append(text[:at], append([]byte{c}, text[at:]...)...)
			}
		}
		return text
	}
	all := storedEvents(t)
	for range 20_000 {
		e := all[random.IntN(len(all))]
		if random.IntN(2) == 0 {
			e.Data = damaged(e.Data)
		} else {
			e.Meta = damaged(e.Meta)
		}
		agrees(t, e)
	}
}

func TestMostOfALogIsScanned(t *testing.T) {
	scannedTypes := 0
	for _, e := range storedEvents(t) {
		require.True(t, scan(e.Meta, new(metaScanner)), "%s", e.Meta)
		known, err := Decode(e.Type, []byte(`{}`))
		require.NoError(t, err)
		into, ok := reflect.TypeAssert[scanned](reflect.New(reflect.TypeOf(known)))
		if !ok || strings.Contains(string(e.Data), `\`) {
			continue
		}
		scannedTypes++
		require.True(t, scan(e.Data, into), "%s %s", e.Type, e.Data)
	}
	require.Greater(t, scannedTypes, 8)
}

// BenchmarkDecode reads an adjustment and its metadata.
func BenchmarkDecode(b *testing.B) {
	var e storedEvent
	for _, each := range storedEvents(b) {
		if each.Type == (StockAdjusted{}).EventType() {
			e = each
		}
	}
	b.Run("scanned", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := e.recorded().Fact(); err != nil {
				b.Fatal(err)
			}
			if _, err := e.recorded().Origin(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			var f StockAdjusted
			if err := json.Unmarshal(e.Data, &f); err != nil {
				b.Fatal(err)
			}
			var m Meta
			if err := json.Unmarshal(e.Meta, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

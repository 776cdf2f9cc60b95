package events

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/race"
)

// anything fills a value with whatever its type can hold, most of it usual.
func anything(random *rand.Rand, v reflect.Value) {
	rare := random.IntN(20) == 0
	pick := func(usual, odd []string) string {
		if rare {
			return odd[random.IntN(len(odd))]
		}
		return usual[random.IntN(len(usual))]
	}
	switch into := v.Addr().Interface().(type) {
	case *Quantity:
		into.units = random.Int64N(2_000_001) - 1_000_000
		*into = scaled(into.units, int32(random.IntN(7)))
		if rare {
			*into = Units(math.MaxInt64 - random.Int64N(3)).Plus(Units(random.Int64N(5)))
		}
		return
	case *time.Time:
		*into = time.UnixMicro(random.Int64N(4e15)).UTC()
		if rare {
			odd := []time.Time{
				{},
				time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), into.In(time.FixedZone("", 3600)),
				into.In(time.FixedZone("", 24*3600)), into.In(time.FixedZone("", 61)), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC),
			}
			*into = odd[random.IntN(len(odd))]
		}
		return
	case *json.RawMessage:
		*into = json.RawMessage(pick(
			[]string{`{}`, `[]`, `null`, `{"a":1,"b":[true,false,null,-1.50],"c":{"d":"e f","":""}}`, `[[],{},[{}],0,-0,"Łódź"]`, `"x"`, `7`},
			[]string{
				`{"a": 1}`, ` {}`, `{} `, `{`, `}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `[1,]`, `[,1]`, `[1 2]`, `{"a":01}`, `{"a":-}`, `{"a":1e5}`,
				`{"a":1E+2}`, `{"a":.5}`, `{"a":5.}`, `{"a":12345678901234567890}`, `{"a":"<b>&"}`, `{"a":"\u0041"}`, `{"a":"\""}`, `{"<":1}`, `nul`, `nulll`,
				`truefalse`, `""""`, `{}{}`, `[][]`, `1,2`, "\"\u2028\"", "\"\u2029\"", "\"\xff\"", "\"\n\"", "[\"\x00\"]", ``, `"`, `-`, `{"a":1,"a":2}`,
				strings.Repeat("[", 100) + strings.Repeat("]", 100),
			}))
		if random.IntN(3) == 0 {
			*into = nil
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			anything(random, field)
		}
	case reflect.Pointer:
		if random.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			anything(random, v.Elem())
		}
	case reflect.String:
		v.SetString(pick(
			[]string{"", "item_1", "01K9XQ7Y", "two words", "Łódź", "螺丝", "😀", "a/b:c=d?e'f`g", "\x7f"},
			[]string{`"`, `\`, "<", ">", "&", "a<b>&c", "\n", "\x00", "\x1f", "\u2028", "x\u2029y", "\xff", "a\xc3", "\xed\xa0\x80", "\ufffd", "\u00a0"}))
	case reflect.Bool:
		v.SetBool(random.IntN(2) == 0)
	case reflect.Int:
		v.SetInt(random.Int64N(5) - 1)
	default:
		panic(fmt.Sprint("no such fields are known: ", v.Type()))
	}
}

// What is stored is what encoding/json makes of it, whoever wrote it: hashes are
// over these bytes.
func TestFactsAndMetadataAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, like := range []Written{
		new(Meta),
		ItemCreated{},
		SKUClaimed{},
		LevelCreated{},
		StockAdjusted{},
		StockSet{},
		ReservationCreated{},
		ReservationReleased{},
		ReservationFulfilled{},
	} {
		of, pointer := reflect.TypeOf(like), false
		if of.Kind() == reflect.Pointer {
			of, pointer = of.Elem(), true
		}
		plainly := 0
		for range 500 {
			made := reflect.New(of)
			anything(random, made.Elem())
			if !pointer {
				made = made.Elem()
			}
			v := made.Interface()
			want, wantErr := json.Marshal(v)
			got, err := Marshal(v)
			require.Equal(t, wantErr == nil, err == nil, "%#v: %v, %v", v, err, wantErr)
			require.Equal(t, string(want), string(got), "%#v", v)
			var w Writer
			v.(Written).Write(&w)
			if text, ok := w.Text(); ok {
				require.Equal(t, string(want), string(text), "%#v", v)
				plainly++
			}
		}
		require.Greater(t, plainly, 50, "%s: the others were written slowly", of)
	}
}

// Every fact that is scanned is written as well, so that the two keep step.
func TestWhatIsScannedIsWritten(t *testing.T) {
	for _, name := range Types() {
		fact, err := Decode(name, []byte(`{}`))
		require.NoError(t, err)
		_, written := fact.(Written)
		require.Equal(t, reflect.PointerTo(reflect.TypeOf(fact)).Implements(reflect.TypeFor[scanned]()), written, name)
	}
}

func adjusted() (StockAdjusted, *Meta) {
	fact := StockAdjusted{
		ItemID: "item_4711", LevelID: "ilev_019b2c3d-4e5f-7a6b-8c9d-0e1f2a3b4c5d", LocationID: "paris",
		Delta: Units(-1), Stocked: Units(4210), Reserved: Units(12),
	}
	meta := &Meta{
		EventID: "019b2c3d-4e5f-7a6b-8c9d-0e1f2a3b4c5d", Command: "adjust-inventory-levels", CommandID: "key-1234567",
		Digest: strings.Repeat("0123456789abcdef", 4), Actor: "bench", Recorded: time.UnixMicro(1_767_225_600_123_456).UTC(),
		Answer: json.RawMessage(`[{"id":"ilev_019b2c3d-4e5f-7a6b-8c9d-0e1f2a3b4c5d","inventory_item_id":"item_4711","location_id":"paris",` +
			`"stocked_quantity":4210,"reserved_quantity":12,"incoming_quantity":0,"available_quantity":4198,"metadata":null,"version":42,` +
			`"created_at":"2026-01-01T00:00:00.123456Z","updated_at":"2026-01-01T00:00:00.123456Z","deleted_at":null}]`),
	}
	return fact, meta
}

// The write path has a budget: what is recorded is its two texts, and little more.
func TestRecordingAllocatesLittle(t *testing.T) {
	if race.On {
		t.Skip("the race detector empties pools at random")
	}
	fact, meta := adjusted()
	var boxed Fact = fact
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := Record("item-item_4711", 41, Hash{1}, boxed, meta); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocations, 4.0)
}

// BenchmarkRecord records an adjustment.
func BenchmarkRecord(b *testing.B) {
	fact, meta := adjusted()
	b.Run("written", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Record("item-item_4711", 41, Hash{1}, fact, meta); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(fact); err != nil {
				b.Fatal(err)
			}
			if _, err := json.Marshal(meta); err != nil {
				b.Fatal(err)
			}
		}
	})
}

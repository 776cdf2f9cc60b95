package commands

import (
	"crypto/sha256"
	"encoding/hex"
	stdjson "encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// anything fills a value with whatever its type can hold, most of it usual.
func anything(random *rand.Rand, v reflect.Value) {
	pick := func(usual, odd []string) string {
		if random.IntN(20) == 0 {
			return odd[random.IntN(len(odd))]
		}
		return usual[random.IntN(len(usual))]
	}
	switch into := v.Addr().Interface().(type) {
	case *events.Quantity:
		read, err := events.ParseQuantity(pick([]string{"0", "1", "-1", "2.5", "-0.001", "123456789"}, []string{"1e17", "999999999999999999", "0.00000000000000001"}))
		if err != nil {
			panic(err)
		}
		*into = read
		return
	case *time.Time:
		*into = time.UnixMicro(random.Int64N(4e15)).UTC()
		return
	case *stdjson.RawMessage:
		if random.IntN(3) == 0 {
			*into = stdjson.RawMessage(pick([]string{`{}`, `{"a":1}`}, []string{`{"b":1,"a":2}`, `{"a": 1e5}`, `{"a":"<"}`, `{"a":"\u0061"}`}))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			anything(random, field)
		}
	case reflect.Pointer:
		if random.IntN(4) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			anything(random, v.Elem())
		}
	case reflect.Slice:
		if n := random.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n-1, n-1))
		}
		for i := range v.Len() {
			anything(random, v.Index(i))
		}
	case reflect.String:
		v.SetString(pick([]string{"", "item_1", "two words", "Łódź", "螺丝", "😀"}, []string{`"`, `\`, "<a&b>", "\n", "\x00", "\u2028", "\xff", "\x7f"}))
	case reflect.Bool:
		v.SetBool(random.IntN(2) == 0)
	case reflect.Uint64:
		v.SetUint(random.Uint64N(1000))
	default:
		panic(fmt.Sprint("no such fields are known: ", v.Type()))
	}
}

func eachOf(t *testing.T, types []any, do func(random *rand.Rand, v any)) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, of := range types {
		for range 500 {
			made := reflect.New(reflect.TypeOf(of)).Elem()
			anything(random, made)
			do(random, made.Interface())
		}
	}
}

// slowDigest is the digest that was stored from the first day on.
func slowDigest(c Command) (string, error) {
	body, err := json.Marshal(c, json.Deterministic(true), jsontext.ReorderRawObjects(true))
	sum := sha256.Sum256([]byte(c.Name() + "\x00" + string(body)))
	return hex.EncodeToString(sum[:]), err
}

// A command that was carried out before is known again by its digest, whichever
// version of the program took it.
func TestDigestsAreTheSameForEver(t *testing.T) {
	known := make(map[string]int)
	eachOf(t, []any{AdjustInventoryLevels{}, CreateReservations{}, DeleteReservations{}, FulfillReservations{}}, func(_ *rand.Rand, v any) {
		command := v.(Command)
		want, wantErr := slowDigest(command)
		got, err := digest(command)
		require.Equal(t, wantErr == nil, err == nil, "%+v: %v, %v", v, err, wantErr)
		if err == nil {
			require.Equal(t, want, got, "%+v", v)
		}
		if _, ok := canonical(new(events.Writer), command); ok {
			known[command.Name()]++
		}
	})
	for name, n := range known {
		require.Greater(t, n, 50, "%s: the others were digested slowly", name)
	}
	require.Len(t, known, 4)
	one := events.Units(1)
	for want, command := range map[string]Command{
		"142168ab": AdjustInventoryLevels{Updates: []Adjustment{{LevelName: LevelName{"cup", "paris"}, Adjustment: &one, Floor: domain.FloorNone}}},
		"2f875112": CreateReservations{Reservations: []NewReservation{{ID: "r", LevelName: LevelName{"cup", "paris"}, Quantity: &one}}},
		"13b84981": DeleteReservations{IDs: []string{"r", "Łódź"}},
		"f5707a11": FulfillReservations{Reservations: []Fulfilment{{ID: "r", Quantity: &one}}},
	} {
		got, err := digest(command)
		require.NoError(t, err)
		require.Equal(t, want, got[:8], "%s", command.Name())
	}
}

// An answer is stored as encoding/json writes it, so that a retry gets these bytes.
func TestAnswersAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	eachOf(t, []any{[]LevelRow{}, []ReservationRow{}}, func(_ *rand.Rand, v any) {
		want, wantErr := stdjson.Marshal(v)
		got, err := answerJSON(v)
		require.Equal(t, wantErr == nil, err == nil, "%+v: %v, %v", v, err, wantErr)
		require.Equal(t, string(want), string(got))
	})
}

package domain_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// remembering is an aggregate whose state can be taken and resumed.
type remembering interface {
	aggregate
	State() domain.State
	Size() int
	Resume(encoded []byte) error
}

// Whenever the state of an aggregate is taken, resuming it and replaying what
// came later is replaying everything.
func TestResumingIsReplaying(t *testing.T) {
	t.Run("item", func(t *testing.T) { resumes(t, anItem(wild)) })
	t.Run("sku", func(t *testing.T) { resumes(t, aSKU) })
	t.Run("variant", func(t *testing.T) { resumes(t, aVariant) })
	t.Run("location", func(t *testing.T) { resumes(t, aLocation) })
}

func resumes[A remembering](t *testing.T, k kind[A]) {
	rapid.Check(t, func(t *rapid.T) {
		fresh, start := k.fresh()
		states := [][]byte{encoded(t, fresh)}
		_, _, facts := live(t, k, 40, func(a A, _ ask[A], _ []events.Fact) { states = append(states, encoded(t, a)) })
		facts = readBack(t, facts)
		whole := replay(k, facts)

		for done, state := range states {
			a := resumed(t, whole, state)
			takeAll(a, start+uint64(done), facts[done:])
			requireSame(t, whole, a, "resumed after %d of %d facts", done, len(facts))
		}
		other := resumed(t, whole, states[len(states)-1])
		for range 10 { // and life goes on alike
			asked := k.ask(t, whole)
			decided, err := asked.do(whole)
			again, errAgain := asked.do(other)
			require.Empty(t, gocmp.Diff(decided, again), asked.name)
			require.Equal(t, err, errAgain, asked.name)
			takeAll(whole, start+uint64(len(facts)), decided)
			takeAll(other, start+uint64(len(facts)), again)
			requireSame(t, whole, other, asked.name)
		}
	})
}

// A state that was taken stays as it was, whatever its aggregate goes through,
// also what is undone.
func TestAStateIsACopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		it, _, _ := live(t, anItem(wild), 30, nil)
		state := it.State()
		before, err := state.Encode()
		require.NoError(t, err)
		for range 3 {
			it.Begin()
			more(t, anItem(wild), it, it.Version)
			if rapid.Bool().Draw(t, "keep") {
				it.Keep()
			} else {
				it.Rollback()
			}
		}
		after, err := state.Encode()
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
	})
}

// More reservations are released than an item remembers, and some of them are
// restored, before and after the state was taken.
func TestResumingForgetsReleasedReservationsInTheSameOrder(t *testing.T) {
	var facts []events.Fact
	it := fold(created, stocked(berlin, "5"))
	do := func(decided []events.Fact, err error) {
		facts = append(facts, must(decided, err)...)
		take(it, decided)
	}
	reserve := func(n int) {
		for i := range n {
			id := fmt.Sprintf("resitem_%d_%d", len(facts), i)
			do(it.Reserve(bolts, domain.NewReservation{ID: id, LocationID: berlin, Quantity: q("0.5")}, nil))
			do(it.Release(bolts, id))
		}
	}
	reserve(domain.MaxReleased + 7)
	r, found := it.Released(fmt.Sprintf("resitem_%d_%d", 2*domain.MaxReleased, domain.MaxReleased))
	require.True(t, found)
	do(it.RestoreReservation(bolts, r))
	state := encoded(t, it)
	done := len(facts)
	reserve(20)

	other := new(domain.Item)
	require.NoError(t, other.Resume(state))
	require.Equal(t, done+2, int(other.Version))
	takeAll(other, other.Version, readBack(t, facts[done:]))
	requireSame(t, it, other, "")
	require.Equal(t, domain.MaxReleased+2, other.Size(), "one level, one reservation, and those released")
}

func TestAStateThatCannotBeReadIsRefused(t *testing.T) {
	good := encoded(t, fold(created, stocked(berlin, "5")))
	for name, bad := range map[string][]byte{
		"nothing":         nil,
		"cut short":       good[:len(good)/2],
		"with more":       append(slices.Clone(good), "{}"...),
		"unknown field":   bytes.Replace(good, []byte(`"ID"`), []byte(`"id2"`), 1),
		"no quantity":     bytes.Replace(good, []byte(`"Stocked":5`), []byte(`"Stocked":true`), 1),
		"metadata inside": bytes.Replace(good, []byte(`"metadata":null`), []byte(`"metadata":{}`), 1),
	} {
		require.NotEqual(t, string(good), string(bad), name)
		require.Error(t, new(domain.Item).Resume(bad), name)
	}
}

var record = flag.Bool("record", false, "record the states of a new domain.StateFormat")

// What states look like, and what they are of the facts in events/testdata, is on
// record for each format. So neither changes without the format.
func TestStatesOfTheFormatAreThoseOnRecord(t *testing.T) {
	path := fmt.Sprintf("testdata/states.v%d.txt", domain.StateFormat)
	var is strings.Builder
	fmt.Fprintf(&is, "MaxReleased %d\n\n", domain.MaxReleased)
	seen := make(map[reflect.Type]bool)
	for _, a := range []any{domain.Item{}, domain.SKU{}, domain.Variant{}, domain.Location{}} {
		shape(&is, reflect.TypeOf(a), seen)
	}
	for _, line := range recordedStates(t) {
		fmt.Fprintln(&is, line)
	}
	if _, err := os.Stat(path); *record && os.IsNotExist(err) {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(path, []byte(is.String()), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test ./domain -run %s -record makes it, and the older one can go", t.Name())
	require.Empty(t, gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(is.String(), "\n")),
		"an aggregate knows something else than before, or makes something else of the same facts: raise domain.StateFormat, "+
			"or snapshots of the old kind are believed")
}

// shape writes the fields of a type of ours, and of those it is made of.
func shape(w *strings.Builder, of reflect.Type, seen map[reflect.Type]bool) {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		shape(w, of.Elem(), seen)
		return
	case reflect.Struct:
	default:
		return
	}
	writesItself := reflect.PointerTo(of).Implements(reflect.TypeFor[json.Marshaler]())
	if seen[of] || writesItself || !strings.Contains(of.PkgPath(), "stockledger") {
		return
	}
	seen[of] = true
	fmt.Fprintln(w, of)
	for field := range of.Fields() {
		fmt.Fprintln(w, " ", field.Name, field.Type, field.Tag)
	}
	fmt.Fprintln(w)
	for field := range of.Fields() {
		shape(w, field.Type, seen)
	}
}

// recordedStates are the states after each of the recorded facts.
func recordedStates(t *testing.T) (lines []string) {
	file, err := os.Open("../events/testdata/recordings.jsonl")
	require.NoError(t, err)
	defer file.Close()
	aggregates := make(map[string]remembering)
	for decoder := json.NewDecoder(file); decoder.More(); {
		var line struct {
			Stream, Type string
			Version      uint64
			Data         json.RawMessage
			Meta         struct {
				Recorded time.Time `json:"recorded_at"`
			}
		}
		require.NoError(t, decoder.Decode(&line))
		fact, err := events.Decode(line.Type, line.Data)
		require.NoError(t, err)
		kind, _, err := events.SplitStream(line.Stream)
		require.NoError(t, err)
		a := aggregates[line.Stream]
		if a == nil {
			fresh := map[string]remembering{
				"item": new(domain.Item), "sku": new(domain.SKU), "variant": new(domain.Variant), "location": new(domain.Location),
			}
			if a = fresh[kind]; a == nil {
				continue // a command that changed nothing
			}
			aggregates[line.Stream] = a
		}
		a.Apply(fact, domain.Stamp{Version: line.Version, At: line.Meta.Recorded})
		lines = append(lines, fmt.Sprintf("%s@%d %s", line.Stream, line.Version, line.Type), string(encoded(t, a)))
	}
	return lines
}

func encoded(t require.TestingT, a remembering) []byte {
	bytes, err := a.State().Encode()
	require.NoError(t, err)
	return bytes
}

// resumed is another aggregate like a, of an encoded state.
func resumed[A remembering](t require.TestingT, a A, state []byte) A {
	other := reflect.New(reflect.TypeOf(a).Elem()).Interface().(A)
	require.NoError(t, other.Resume(state))
	require.Equal(t, string(state), string(encoded(t, other)), "what was read is what was written")
	return other
}

// readBack are the facts as a store returns them.
func readBack(t require.TestingT, facts []events.Fact) []events.Fact {
	read := make([]events.Fact, len(facts))
	for i, fact := range facts {
		data, err := json.Marshal(fact)
		require.NoError(t, err)
		read[i], err = events.Decode(fact.EventType(), data)
		require.NoError(t, err)
	}
	return read
}

// requireSame compares all there is, seen or not, but for what Rollback goes back to.
func requireSame(t require.TestingT, want, got any, message string, args ...any) {
	everything := gocmp.Exporter(func(reflect.Type) bool { return true })
	undo := gocmp.FilterPath(func(p gocmp.Path) bool {
		field, ok := p.Last().(gocmp.StructField)
		return ok && (field.Name() == "saved" || field.Name() == "journal")
	}, gocmp.Ignore())
	require.Empty(t, gocmp.Diff(want, got, everything, undo), message, args)
}

// What a snapshot costs by how many reservations an item has: the copy is made
// while others wait to be decided, the rest is nobody's time.
//
//	go test ./domain -run XXX -bench State
func BenchmarkState(b *testing.B) {
	for _, rows := range []int{10, 1000, 100_000} {
		it := fold(created, stocked(berlin, "1e9"))
		for i := range rows {
			take(it, must(it.Reserve(bolts, domain.NewReservation{
				ID: fmt.Sprintf("resitem_%026d", i), LocationID: berlin, Quantity: q("1"),
				Details: events.ReservationDetails{LineItemID: new("ordli_01JB"), Description: new("order 17"), Metadata: raw(`{"channel":"web"}`)},
			}, nil)))
		}
		b.Run(fmt.Sprintf("rows=%d/copy", rows), func(b *testing.B) {
			for b.Loop() {
				it.State()
			}
		})
		b.Run(fmt.Sprintf("rows=%d/encode", rows), func(b *testing.B) {
			state := it.State()
			for b.Loop() {
				_, err := state.Encode()
				require.NoError(b, err)
			}
		})
		b.Run(fmt.Sprintf("rows=%d/resume", rows), func(b *testing.B) {
			state := encoded(b, it)
			for b.Loop() {
				require.NoError(b, new(domain.Item).Resume(state))
			}
		})
	}
}

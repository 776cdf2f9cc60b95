package commands_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

// A deed is something that was done to one level, or asked about it.
type deed struct {
	item string
	kind string // adjust, reserve, try (a dry run), or the name of a query
	n    int
}

// A sight is what was seen of the level then: two numbers after a command, one
// that a query answered, or that it was refused.
type sight struct {
	stocked, reserved int
	refused           bool
}

// level is all that is known of one: an item with one location.
type quantities struct{ stocked, reserved int }

// oneLevel is what a level does when one thing is done to it after the other. A
// history is linearizable if there is such an order that agrees with every answer
// and with who was answered before another one asked.
var oneLevel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		at := map[string]int{}
		for _, op := range history {
			item := op.Input.(deed).item
			i, known := at[item]
			if !known {
				i = len(parts)
				at[item], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return quantities{} },
	Step: func(state, input, output any) (bool, any) {
		is, did, saw := state.(quantities), input.(deed), output.(sight)
		switch did.kind {
		case "adjust", "try":
			after := quantities{is.stocked + did.n, is.reserved}
			if refused := did.n < 0 && after.stocked < is.reserved; refused || saw.refused {
				return refused == saw.refused, is
			}
			if did.kind == "try" {
				return saw == (sight{stocked: after.stocked, reserved: after.reserved}), is
			}
			return saw == (sight{stocked: after.stocked, reserved: after.reserved}), after
		case "reserve":
			if refused := is.stocked-is.reserved < did.n; refused || saw.refused {
				return refused == saw.refused, is
			}
			return true, quantities{is.stocked, is.reserved + did.n}
		case "stocked-quantity":
			return saw.stocked == is.stocked, is
		case "reserved-quantity":
			return saw.reserved == is.reserved, is
		case "available-quantity":
			return saw.stocked == is.stocked-is.reserved, is
		}
		panic(did.kind)
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// history takes down what was done, by whom and when.
type history struct {
	mu    sync.Mutex
	began time.Time
	done  []porcupine.Operation
	token atomic.Uint64 // position of the newest answer that anybody has
}

func (h *history) do(client int, d deed, act func(after uint64) (saw sight, position uint64)) {
	call := time.Since(h.began)
	saw, position := act(h.token.Load())
	for newest := h.token.Load(); newest < position && !h.token.CompareAndSwap(newest, position); {
		newest = h.token.Load()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = append(h.done, porcupine.Operation{
		ClientId: client, Input: d, Output: saw, Call: int64(call), Return: int64(time.Since(h.began)),
	})
}

// A reader is asked as transports ask: from memory if that has it.
type reader struct{ *projections.Models }

func (r reader) quantity(t *testing.T, name, item string, after uint64) int {
	body := fmt.Appendf(nil, `{"inventory_item_id":%q,"location_ids":["paris"],"after":%d}`, item, after)
	var answer any
	if memory, has := any(r.Models).(interface {
		Recall(name string, body []byte) (any, bool)
	}); has {
		answer, has = memory.Recall(name, body)
		if !has {
			answer = nil
		}
	}
	if answer == nil {
		var err error
		if answer, err = r.Query(t.Context(), name, body); err != nil {
			t.Error(err)
			return -1
		}
	}
	text, err := json.Marshal(answer)
	var is struct{ Quantity int }
	if err == nil {
		err = json.Unmarshal(text, &is)
	}
	if err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return is.Quantity
}

// Adjustments, reservations, dry runs and queries of many clients on two items at
// once have an order in which every answer is right: nothing is lost, and no query
// that is asked after a position answers from before it.
func TestEveryLevelIsLinearizable(t *testing.T) {
	seed, _ := numberFrom(t, seedVariable, uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	store := &hesitant{Store: memstore.New()}
	quiet := slog.New(slog.DiscardHandler)
	models, err := projections.Open(t.Context(), projections.Config{Dir: t.TempDir(), Store: store, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, models.Close()) })
	s := openShop(t, store, func(c *commands.Config) { c.Index = models })
	rounds := 12
	if race.On {
		rounds = 4
	}
	for round := range rounds {
		h := &history{began: time.Now()}
		items := []string{fmt.Sprint("cup-", round), fmt.Sprint("pot-", round)}
		for _, item := range items {
			s.stocked(item, "paris", 0)
		}
		h.token.Store(s.head())
		together(8, func(client int) {
			p := pencil{rand.New(rand.NewPCG(seed+uint64(round), uint64(client))), 0}
			for range 12 {
				s.deed(h, client, reader{models}, deed{
					pick(p, items...), pick(p, "adjust", "adjust", "reserve", "try", "stocked-quantity", "reserved-quantity", "available-quantity"), p.IntN(9) - 3,
				})
			}
		})
		requireLinearizable(t, h.done, seed+uint64(round))
	}
}

func requireLinearizable(t *testing.T, done []porcupine.Operation, seed uint64) {
	t.Helper()
	result, _ := porcupine.CheckOperationsVerbose(oneLevel, done, time.Minute)
	if result == porcupine.Ok {
		return
	}
	for _, op := range shortened(done) {
		t.Logf("%8d–%8d µs, client %d: %s", op.Call/1000, op.Return/1000, op.ClientId, oneLevel.DescribeOperation(op.Input, op.Output))
	}
	t.Fatalf("seed %d: %s: no order explains what was seen", seed, result)
}

// shortened leaves out of a history that has no order all that is not needed for
// that and changes nothing, and the items that have one.
func shortened(done []porcupine.Operation) []porcupine.Operation {
	for _, part := range oneLevel.Partition(done) {
		if !porcupine.CheckOperations(oneLevel, part) {
			done = part
		}
	}
	for i, op := range slices.Backward(done) {
		if did := op.Input.(deed); did.kind == "adjust" || did.kind == "reserve" {
			continue
		}
		if without := slices.Delete(slices.Clone(done), i, i+1); !porcupine.CheckOperations(oneLevel, without) {
			done = without
		}
	}
	slices.SortFunc(done, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return done
}

// deed does something to a level, and takes down what is seen. An answer that
// names no position, a refusal or a dry run, may rest on what nobody was told of
// yet; whoever reads after it asks where the log ends.
func (s *shop) deed(h *history, client int, r reader, d deed) {
	name, body := "adjust-inventory-levels", fmt.Sprintf(`[{"inventory_item_id":%q,"location_id":"paris","adjustment":%d}]`, d.item, d.n)
	switch d.kind {
	case "adjust", "try":
	case "reserve":
		d.n = max(d.n, 1)
		name, body = "create-reservations", fmt.Sprintf(`[{"inventory_item_id":%q,"location_id":"paris","quantity":%d}]`, d.item, d.n)
	default:
		h.do(client, d, func(after uint64) (sight, uint64) {
			is := r.quantity(s.t.(*testing.T), d.kind, d.item, after)
			if d.kind == "reserved-quantity" {
				return sight{reserved: is}, 0
			}
			return sight{stocked: is}, 0
		})
		return
	}
	h.do(client, d, func(uint64) (sight, uint64) {
		answer, err := s.try(name, body, commands.Envelope{DryRun: d.kind == "try"})
		if code := fault.Code(err); err != nil && code != "below_reserved" && code != "insufficient_stock" {
			s.t.Error(err)
		}
		if err != nil || d.kind == "reserve" {
			return sight{refused: err != nil}, cmp.Or(answer.Position, s.head())
		}
		var rows []struct {
			Stocked  int `json:"stocked_quantity"`
			Reserved int `json:"reserved_quantity"`
		}
		if err := json.Unmarshal(answer.Result, &rows); err != nil {
			s.t.Error(err)
			return sight{}, 0
		}
		return sight{stocked: rows[0].Stocked, reserved: rows[0].Reserved}, cmp.Or(answer.Position, s.head())
	})
}

// The checker goes red: these histories are short enough to see why.
func TestTheCheckerFindsWhatIsNotLinearizable(t *testing.T) {
	op := func(call, back int64, kind string, n int, saw sight) porcupine.Operation {
		return porcupine.Operation{Input: deed{"cup", kind, n}, Output: saw, Call: call, Return: back}
	}
	filled := op(0, 1, "adjust", 5, sight{stocked: 5})
	for name, tc := range map[string]struct {
		done []porcupine.Operation
		want bool
	}{
		"at once, in either order": {[]porcupine.Operation{filled, op(2, 9, "adjust", 1, sight{stocked: 7}), op(3, 8, "adjust", 1, sight{stocked: 6})}, true},
		"a lost update":            {[]porcupine.Operation{filled, op(2, 9, "adjust", 1, sight{stocked: 6}), op(3, 8, "adjust", 1, sight{stocked: 6})}, false},
		"a query that may still see what was": {
			[]porcupine.Operation{filled, op(2, 9, "adjust", 1, sight{stocked: 6}), op(3, 8, "stocked-quantity", 0, sight{stocked: 5})}, true,
		},
		"a stale query": {
			[]porcupine.Operation{filled, op(2, 3, "adjust", 1, sight{stocked: 6}), op(4, 8, "stocked-quantity", 0, sight{stocked: 5})}, false,
		},
		"a query that goes back": {
			[]porcupine.Operation{
				filled, op(2, 20, "adjust", 1, sight{stocked: 6}),
				op(3, 4, "stocked-quantity", 0, sight{stocked: 6}), op(5, 6, "stocked-quantity", 0, sight{stocked: 5}),
			}, false,
		},
		"the last unit twice": {[]porcupine.Operation{filled, op(2, 9, "reserve", 5, sight{}), op(2, 9, "reserve", 1, sight{})}, false},
		"a refusal of what there is": {
			[]porcupine.Operation{filled, op(2, 9, "reserve", 5, sight{refused: true}), op(10, 11, "available-quantity", 0, sight{stocked: 5})}, false,
		},
		"below what is reserved": {
			[]porcupine.Operation{filled, op(2, 3, "reserve", 5, sight{}), op(4, 5, "adjust", -1, sight{stocked: 4, reserved: 5})}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, porcupine.CheckOperations(oneLevel, tc.done))
		})
	}
}

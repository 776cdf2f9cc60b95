package audit_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

type object = map[string]any

// A shop gives a ledger random commands, sensible or not. Those that are refused
// leave nothing behind.
type shop struct {
	t      testing.TB
	ledger *stockledger.Ledger
	random *rand.Rand
	items  int
	orders int
	done   int // commands that were carried out
}

func newSeed(t testing.TB) uint64 {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	return seed
}

// fewer is n, or another number under the race detector, which is for what happens at
// the same time, and needs no large ledger for it.
func fewer(n, underRace int) int {
	if race.On {
		return underRace
	}
	return n
}

func quiet(dir string) stockledger.Config {
	return stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
}

func open(t testing.TB, dir string) *stockledger.Ledger {
	ledger, err := stockledger.Open(t.Context(), quiet(dir))
	require.NoError(t, err)
	return ledger
}

// newShop is a shop of so many items, with nothing in it.
func newShop(t testing.TB, ledger *stockledger.Ledger, items int, seed uint64) *shop {
	return &shop{t: t, ledger: ledger, items: items, random: rand.New(rand.NewPCG(seed, 1))}
}

var (
	shopPlaces     = []string{"berlin", "paris", "oslo", "rome"}
	shopQuantities = []string{"1", "1", "2", "2", "3", "7", "0.5", "12.25", "1000"}
)

func pick[T any](s *shop, all []T) T { return all[s.random.IntN(len(all))] }

func (s *shop) item() string { return fmt.Sprint("item ", s.random.IntN(s.items)) }

// living is an item that is not deleted.
func (s *shop) living() string {
	s.settle()
	page, err := s.ledger.Models().ListItems(s.t.Context(), projections.List{})
	require.NoError(s.t, err)
	return page.Rows[0].ID
}

func (s *shop) variant() string { return fmt.Sprint("variant-", s.random.IntN(s.items)) }
func (s *shop) quantity() string {
	if s.random.IntN(60) == 0 {
		return pick(s, []string{"99999999999999999", "0.000000000000000001"})
	}
	return pick(s, shopQuantities)
}
func (s *shop) promise() string { return fmt.Sprint("res-", s.random.IntN(4*s.items)) }

// furnish sees to it that every table has some rows, whatever the shop does besides.
func (s *shop) furnish() {
	for n := range 3 {
		item, place := fmt.Sprint("vase ", n), fmt.Sprint("hall ", n)
		s.do("create-stock-locations", object{"id": place, "name": "Hall"})
		s.do("update-stock-location-links", object{"id": place, "sales_channels": object{"add": []string{"web", "fair"}}})
		s.do("create-inventory-items", object{"id": item, "location_levels": []object{
			{"location_id": place, "stocked_quantity": 5}, {"location_id": "attic", "stocked_quantity": 5},
		}})
		s.backdate("adjust-inventory-levels", object{"inventory_item_id": item, "location_id": place, "adjustment": 2})
		s.do("create-reservations", object{"id": item, "inventory_item_id": item, "location_id": place, "quantity": 2})
		s.do("attach-inventory-items", []object{{"variant_id": "bouquet", "inventory_item_id": item, "required_quantity": 2}})
		s.do("delete-inventory-levels", object{"inventory_item_id": item, "location_id": "attic", "force": true})
	}
}

// trade gives so many random commands.
func (s *shop) trade(orders int) {
	for range orders {
		s.order()
	}
}

// order gives one random command.
func (s *shop) order() {
	item, place, promise := s.item(), pick(s, shopPlaces), s.promise()
	number := func() json.Number { return json.Number(s.quantity()) }
	switch s.random.IntN(24) {
	case 0, 1:
		s.do("create-inventory-items", object{
			"id": item, "sku": pick(s, []any{"SKU " + item, "shared", nil}), "title": "Ünï " + item, "weight": number(),
			"metadata":        object{"a": []int{1, 2}},
			"location_levels": []object{{"location_id": place, "stocked_quantity": number(), "incoming_quantity": 3}},
		})
	case 2:
		s.do("create-inventory-items", object{"id": item, "location_levels": []object{{"location_id": place}, {"location_id": "lima"}}})
	case 3:
		s.do("update-inventory-items", object{"id": item, "title": s.quantity(), "sku": pick(s, []any{nil, "SKU " + item, "other"})})
	case 4:
		s.do(pick(s, []string{"delete-inventory-items", "restore-inventory-items"}), []string{item})
	case 5, 6:
		s.do("create-inventory-levels", object{"inventory_item_id": item, "location_id": place, "stocked_quantity": number()})
	case 7, 8, 9, 10:
		sign := pick(s, []string{"", "", "-"})
		s.do("adjust-inventory-levels", []object{
			{"inventory_item_id": item, "location_id": place, "adjustment": json.Number(sign + s.quantity()), "floor": "none"},
		})
	case 11:
		s.do("update-inventory-levels", object{
			"inventory_item_id": item, "location_id": place, "stocked_quantity": number(), "incoming_quantity": number(), "floor": "none",
			"metadata": object{"shelf": s.quantity()},
		})
	case 12:
		s.do("delete-inventory-levels", object{"inventory_item_id": item, "location_id": place, "force": true})
	case 13, 14, 15:
		s.do("create-reservations", object{
			"id": promise, "inventory_item_id": item, "location_id": place, "quantity": number(), "allow_backorder": s.random.IntN(2) == 0,
			"description": "for " + promise, "metadata": object{"n": s.orders},
		})
	case 16:
		s.do("update-reservations", object{"id": promise, "quantity": number(), "location_id": place, "description": nil})
	case 17:
		s.do("update-reservations", object{"id": promise, "external_id": s.quantity()})
	case 18, 19:
		s.do("delete-reservations", []string{promise})
	case 20:
		s.do("restore-reservations", []string{promise})
	case 21:
		s.do("fulfill-reservations", object{"id": promise, "quantity": json.Number(pick(s, []string{"1", "0.5"})), "floor": "none"})
	case 22:
		s.link(item)
	case 23:
		s.locate(pick(s, append([]string{"lima"}, shopPlaces...)))
	}
}

func (s *shop) link(item string) {
	switch s.random.IntN(3) {
	case 0:
		s.do("attach-inventory-items", []object{{"variant_id": s.variant(), "inventory_item_id": item, "required_quantity": 2}})
	case 1:
		s.do("update-inventory-links", []object{{"variant_id": s.variant(), "inventory_item_id": item, "required_quantity": 3}})
	case 2:
		s.do("detach-inventory-items", []object{{"variant_id": s.variant(), "inventory_item_id": item}})
	}
}

func (s *shop) locate(place string) {
	switch s.random.IntN(8) {
	case 0, 4, 5:
		s.do("create-stock-locations", object{"id": place, "name": "In " + place, "address": object{"address_1": "Main St 1", "country_code": "de"}})
	case 1, 6:
		s.do("update-stock-locations", object{"id": place, "name": s.quantity(), "metadata": object{"x": "y"}})
	case 2, 7:
		s.do("update-stock-location-links", object{
			"id": place, "sales_channels": object{"add": []string{"web", "shop" + s.quantity()}, "remove": []string{"shop" + s.quantity()}},
			"fulfillment_sets": object{"add": []object{{"name": "ship " + s.quantity(), "type": "shipping"}}},
		})
	case 3:
		s.do("delete-stock-locations", []string{"lima"})
	}
}

func (s *shop) do(name string, body any) {
	s.orders++
	env := commands.Envelope{
		Actor: pick(s, []string{"ann", "bob", ""}), Reason: pick(s, []string{"count", ""}), Reference: fmt.Sprint("doc:", s.orders/3),
	}
	if s.orders%2 == 0 {
		env.Key = fmt.Sprint(s.random.Uint64())
	}
	if s.random.IntN(3) == 0 {
		env.Effective = s.past()
	}
	s.send(env, name, body)
}

// backdate gives a command that was carried out in the past.
func (s *shop) backdate(name string, body any) {
	s.send(commands.Envelope{Effective: s.past()}, name, body)
}

func (s *shop) past() time.Time {
	return time.Now().Add(-time.Duration(s.random.Int64N(int64(3000 * time.Hour)))).Truncate(time.Microsecond)
}

func (s *shop) send(env commands.Envelope, name string, body any) {
	text, err := json.Marshal(body)
	require.NoError(s.t, err)
	if _, err = s.ledger.DoJSON(s.t.Context(), env, name, text); err == nil {
		s.done++
		return
	}
	kind := fault.Of(err).Kind
	require.NotEqual(s.t, fault.Internal, kind, "%s %s: %v", name, text, err)
	require.NotEqual(s.t, "invalid_json", fault.Of(err).Code, "%s %s: %v", name, text, err)
	require.NotEqual(s.t, "unknown_field", fault.Of(err).Code, "%s %s: %v", name, text, err)
}

// settle waits until the read models have everything.
func (s *shop) settle() uint64 {
	head, err := s.ledger.Events().Head(s.t.Context())
	require.NoError(s.t, err)
	require.NoError(s.t, s.ledger.Models().WaitFor(s.t.Context(), head))
	return head
}

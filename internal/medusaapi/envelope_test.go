package medusaapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/projections"
)

func TestACallWithAKeyIsCarriedOutOnce(t *testing.T) {
	s := stocked(t)
	const send, body = "POST /admin/reservations", `{"inventory_item_id": "mug", "location_id": "paris", "quantity": 1}`
	first := s.ask(t, send, body, "Idempotency-Key", "k")
	require.Equal(t, 200, first.status, first.body)
	require.Equal(t, "k", first.header.Get("Ledger-Command-Id"))
	require.Equal(t, first.body, s.ask(t, send, body, "Idempotency-Key", "k").body)
	same(t, item(`{"id": "mug", "reserved_quantity": 4}`), s.ask(t, "GET /admin/inventory-items/mug?fields=reserved_quantity", "").body)

	other := s.ask(t, send, `{"inventory_item_id": "mug", "location_id": "paris", "quantity": 2}`, "Idempotency-Key", "k")
	require.Equal(t, 409, other.status)
	same(t, `{"code": "invalid_state_error", "type": "conflict", "message": "<any>"}`, other.body)

	const create = `{"sku": "NEW", "location_levels": [{"location_id": "paris"}]}`
	made := s.ask(t, "POST /admin/inventory-items", create, "Idempotency-Key", "i")
	require.Equal(t, 200, made.status)
	require.Equal(t, made.body, s.ask(t, "POST /admin/inventory-items", create, "Idempotency-Key", "i").body)
	require.NotEmpty(t, s.ask(t, "POST /admin/inventory-items", `{}`).header.Get("Ledger-Command-Id"), "the ledger makes a key")
}

func TestABatchOfLinksIsOneCommand(t *testing.T) {
	s := stocked(t)
	const send = "POST /admin/products/p/variants/inventory-items/batch"
	const both = `{"create": [{"variant_id": "v", "inventory_item_id": "bowl", "required_quantity": 1}], "delete": [{"variant_id": "set", "inventory_item_id": "mug"}]}`
	first := s.ask(t, send, both, "Idempotency-Key", "k")
	require.Equal(t, 200, first.status, first.body)
	require.Equal(t, "k", first.header.Get("Ledger-Command-Id"))
	require.Equal(t, first.body, s.ask(t, send, both, "Idempotency-Key", "k").body)
	done, err := s.ledger.Models().RetrieveCommand(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "batch-inventory-links", done.Name)

	got := s.ask(t, send, `{"delete": [{"variant_id": "v", "inventory_item_id": "bowl"}], "update": [{"variant_id": "v", "inventory_item_id": "bowl", "required_quantity": 2}]}`)
	require.Equal(t, 404, got.status, "what is removed cannot be changed")
	require.Equal(t, "1", fmt.Sprint(s.ask(t, "GET /admin/products/p/variants/v", "").value(t, "variant", "inventory_items", 0, "required_quantity")),
		"and is not removed")
}

// A late ledger is one whose read models have not seen what was done last when a call
// is looked at: it is done between whatever the call reads first and its command.
type late struct {
	*stockledger.Ledger
	first func()
}

func (l late) Do(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
	l.first()
	return l.Ledger.Do(ctx, env, command)
}

func TestTheLedgerDecidesAndNotWhatCanBeReadOfIt(t *testing.T) {
	const levels = "/admin/inventory-items/bowl/location-levels"
	for _, tc := range []struct{ name, command, before, send, body string }{
		{"a location is open", "create-stock-locations", `{"id": "bergen", "name": "Bergen"}`, "POST " + levels, `{"location_id": "bergen"}`},
		{"also for levels of a new item", "create-stock-locations", `{"id": "bergen", "name": "Bergen"}`, "POST /admin/inventory-items", `{"location_levels": [{"location_id": "bergen"}]}`},
		{
			"a level is deleted in a batch", "create-inventory-levels", `{"id": "ilev_new", "inventory_item_id": "bowl", "location_id": "oslo"}`,
			"POST " + levels + "/batch", `{"delete": ["ilev_new"]}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := stocked(t)
			s.mount(late{s.ledger, func() { s.do(t, tc.command, tc.before) }})
			got := s.ask(t, tc.send, tc.body)
			require.Equal(t, 200, got.status, got.body)
			page, err := s.ledger.Models().ListLevels(t.Context(), projections.List{Filter: map[string]any{"id": "ilev_new"}})
			require.NoError(t, err)
			require.Empty(t, page.Rows)
		})
	}
}

func TestDeletingWhatNeverWasIsACommandLikeOthers(t *testing.T) {
	s := stocked(t)
	for _, send := range []string{"DELETE /admin/inventory-items/cup", "DELETE /admin/reservations/cup", "DELETE /admin/stock-locations/cup"} {
		got := s.ask(t, send, "", "Idempotency-Key", send)
		require.Equal(t, 200, got.status, got.body)
		require.Equal(t, send, got.header.Get("Ledger-Command-Id"))
		_, err := s.ledger.Models().RetrieveCommand(t.Context(), send)
		require.NoError(t, err)
	}
	refusals, err := s.ledger.Query(t.Context(), "list-refusals", []byte(`{}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"rows": [], "next": null}`, mustJSON(refusals))
}

// Every call that changes something is sent, then all that it was about is deleted,
// and then it is sent again with its key.
func TestACallThatIsSentAgainIsAnsweredWhateverBecameOfItsRows(t *testing.T) {
	const item, level, variant = "/admin/inventory-items/mug", "/admin/inventory-items/mug/location-levels", "/admin/products/p/variants/set/inventory-items"
	all := []struct{ send, body, row string }{
		{"POST /admin/inventory-items", `{"sku": "NEW", "location_levels": [{"location_id": "paris"}]}`, "inventory_item"},
		{"POST " + item, `{"title": "x"}`, "inventory_item"},
		{"DELETE /admin/inventory-items/bowl", "", ""},
		{"POST /admin/inventory-items/bowl/location-levels", `{"location_id": "oslo"}`, "inventory_item"},
		{"POST " + level + "/paris", `{"stocked_quantity": 9}`, "inventory_item"},
		{"DELETE " + level + "/attic?force=true", "", "parent"},
		{"POST " + level + "/batch", `{"create": [{"location_id": "cellar"}], "update": [{"location_id": "oslo", "stocked_quantity": 1}], "delete": ["ilev_attic"], "force": true}`, ""},
		{"POST /admin/inventory-items/location-levels/batch", `{"delete": ["ilev_attic", "ilev_never"], "force": true}`, ""},
		{"POST /admin/reservations", `{"inventory_item_id": "mug", "location_id": "paris", "quantity": 1}`, "reservation"},
		{"POST /admin/reservations/res_1", `{"quantity": 2}`, "reservation"},
		{"DELETE /admin/reservations/res_1", "", ""},
		{"POST /admin/stock-locations", `{"name": "Bergen"}`, "stock_location"},
		{"POST /admin/stock-locations/oslo", `{"name": "Oslo harbour"}`, "stock_location"},
		{"DELETE /admin/stock-locations/oslo", "", ""},
		{"POST /admin/stock-locations/oslo/sales-channels", `{"add": ["sc_1"]}`, "stock_location"},
		{"POST /admin/stock-locations/oslo/fulfillment-sets", `{"name": "n", "type": "pickup"}`, "stock_location"},
		{"POST /admin/stock-locations/oslo/fulfillment-providers", `{"add": ["fp_1"]}`, "stock_location"},
		{"POST " + variant, `{"inventory_item_id": "bowl", "required_quantity": 1}`, "variant"},
		{"POST " + variant + "/mug", `{"required_quantity": 3}`, "variant"},
		{"DELETE " + variant + "/mug", "", "parent"},
		{"POST /admin/products/p/variants/inventory-items/batch", `{"create": [{"variant_id": "v", "inventory_item_id": "bowl", "required_quantity": 1}]}`, ""},
	}
	tried := map[string]bool{"POST /admin/inventory-items/export": true} // no command
	for _, tc := range all {
		t.Run(tc.send, func(t *testing.T) {
			s := stocked(t)
			s.do(t, "create-inventory-levels", `{"id": "ilev_attic", "inventory_item_id": "mug", "location_id": "attic", "stocked_quantity": 1}`)
			method, path, _ := strings.Cut(tc.send, " ")
			_, pattern := s.mux.Handler(httptest.NewRequestWithContext(t.Context(), method, path, nil))
			tried[pattern] = true

			first := s.ask(t, tc.send, tc.body, "Idempotency-Key", "k")
			require.Equal(t, 200, first.status, first.body)
			s.deleteAll(t)
			again := s.ask(t, tc.send, tc.body, "Idempotency-Key", "k")
			require.Equal(t, 200, again.status, again.body)
			require.Equal(t, "k", again.header.Get("Ledger-Command-Id"))
			if tc.row == "" {
				require.Equal(t, first.body, again.body)
				return
			}
			require.NotEmpty(t, first.text(t, tc.row, "id"))
			require.Equal(t, first.text(t, tc.row, "id"), again.text(t, tc.row, "id"))
			for _, member := range []string{"id", "object", "deleted"} { // of the answer to DELETE
				require.Equal(t, first.value(t, member), again.value(t, member))
			}
		})
	}
	for _, r := range open(t).routes {
		if r.Method != http.MethodGet {
			require.True(t, tried[r.Method+" "+r.Path], "%s %s", r.Method, r.Path)
		}
	}
}

// deleteAll deletes all items, reservations and locations there are.
func (s *shop) deleteAll(t *testing.T) {
	t.Helper()
	models, everything := s.ledger.Models(), projections.List{}
	reservations, err := models.ListReservations(t.Context(), everything)
	require.NoError(t, err)
	for _, r := range reservations.Rows {
		s.do(t, "delete-reservations", mustJSON(r.ID))
	}
	items, err := models.ListItems(t.Context(), everything)
	require.NoError(t, err)
	for _, it := range items.Rows {
		s.do(t, "delete-inventory-items", mustJSON(it.ID))
	}
	locations, err := models.ListLocations(t.Context(), everything)
	require.NoError(t, err)
	for _, l := range locations.Rows {
		s.do(t, "delete-stock-locations", mustJSON(l.ID))
	}
}

func TestWhoAndWhyAreRecorded(t *testing.T) {
	s := stocked(t)
	got := s.ask(t, "POST /admin/inventory-items/mug/location-levels/paris", `{"stocked_quantity": 9}`,
		"Idempotency-Key", "count-7", "Ledger-Actor", "anna", "Ledger-Reason", "stocktake", "Ledger-Reference", "doc://7")
	require.Equal(t, 200, got.status, got.body)
	done, err := s.ledger.Models().RetrieveCommand(t.Context(), "count-7")
	require.NoError(t, err)
	require.Equal(t, "update-inventory-levels anna stocktake doc://7", fmt.Sprint(done.Name, " ", done.Actor, " ", done.Reason, " ", done.Reference))

	got = s.ask(t, "POST /admin/inventory-items", `{}`, "Ledger-Raeson", "x")
	require.Equal(t, 400, got.status)
	require.Equal(t, "invalid_data", got.text(t, "type"))
}

func TestADryRunIsAnsweredByTheLedgerAndChangesNothing(t *testing.T) {
	s := stocked(t)
	got := s.ask(t, "POST /admin/reservations", `{"inventory_item_id": "mug", "location_id": "oslo", "quantity": 2}`, "Ledger-Dry-Run", "true")
	require.Equal(t, 200, got.status, got.body)
	require.Equal(t, true, got.value(t, "dry_run"))
	require.Equal(t, "oslo", got.text(t, "result", 0, "location_id"))
	got = s.ask(t, "POST /admin/reservations", `{"inventory_item_id": "mug", "location_id": "oslo", "quantity": 6}`, "Ledger-Dry-Run", "true")
	require.Equal(t, 400, got.status)
	got = s.ask(t, "POST /admin/products/p/variants/inventory-items/batch",
		`{"create": [{"variant_id": "v", "inventory_item_id": "bowl", "required_quantity": 1}], "delete": [{"variant_id": "set", "inventory_item_id": "mug"}]}`,
		"Ledger-Dry-Run", "true")
	require.Equal(t, 200, got.status, got.body)
	require.Equal(t, true, got.value(t, "dry_run"))
	require.Equal(t, "bowl", got.text(t, "result", "created", 0, "inventory_item_id"))
	same(t, `{"variant": `+set+`}`, s.ask(t, "GET /admin/products/prod/variants/set", "").body)
	same(t, item(mug), s.ask(t, "GET /admin/inventory-items/mug", "").body)
}

// TestEveryAnswerShowsWhatItsCallDid has many callers write at once; each must find
// its own write in its answer, and the sums must be right in the end.
func TestEveryAnswerShowsWhatItsCallDid(t *testing.T) {
	s := stocked(t)
	s.do(t, "update-inventory-levels", `{"id": "ilev_paris", "stocked_quantity": 1000}`)
	const callers, calls = 8, 10
	var work sync.WaitGroup
	for caller := range callers {
		work.Go(func() {
			for i := range calls {
				line := fmt.Sprintf("line_%d_%d", caller, i)
				got := s.ask(t, "POST /admin/reservations", `{"inventory_item_id": "mug", "location_id": "paris", "quantity": 1, "line_item_id": "`+line+`"}`)
				if got.status != 200 || got.text(t, "reservation", "line_item_id") != line {
					t.Errorf("%d %s", got.status, got.body)
					return
				}
				id := got.text(t, "reservation", "id")
				if held := s.ask(t, "GET /admin/reservations/"+id, ""); held.status != 200 {
					t.Errorf("%s is not there: %s", id, held.body)
				}
				if i%2 == 0 {
					s.ask(t, "DELETE /admin/reservations/"+id, "")
				}
			}
		})
	}
	work.Wait()
	same(t, item(`{"id": "mug", "reserved_quantity": 43}`), s.ask(t, "GET /admin/inventory-items/mug?fields=reserved_quantity", "").body)
}

// A command that is under way when another node takes over ends so, and who sent it
// has to know from the code that it is to be sent there.
func TestACommandOfANodeThatDoesNotLeadIsAnotherNodes(t *testing.T) {
	ledger, err := stockledger.Open(t.Context(), stockledger.Config{Dir: t.TempDir(), Store: memstore.New(), Standby: true, Logger: quiet})
	require.NoError(t, err)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := &shop{ledger: ledger}
	s.mount(ledger)
	got := s.ask(t, "POST /admin/inventory-items", `{}`)
	require.Equal(t, 503, got.status, got.body)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	same(t, `{"code": "standby", "type": "unavailable", "message": "<any>"}`, got.body)
}

func TestWhatFailsHereIsNotToldInDetail(t *testing.T) {
	s := stocked(t)
	require.NoError(t, s.ledger.Close())
	got := s.ask(t, "POST /admin/inventory-items", `{}`)
	require.Equal(t, 503, got.status, got.body)
	require.Equal(t, "unavailable", got.text(t, "type"))
	require.Equal(t, "1", got.header.Get("Retry-After"))
	got = s.ask(t, "GET /admin/inventory-items", "")
	require.Equal(t, 500, got.status, got.body)
	same(t, `{"code": "unknown_error", "type": "unknown_error", "message": "An unknown error occurred."}`, got.body)
}

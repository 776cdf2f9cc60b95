package medusaapi_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
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

func TestABatchOfLinksWithAKeyIsCarriedOutOnce(t *testing.T) {
	s := stocked(t)
	const send = "POST /admin/products/p/variants/inventory-items/batch"
	const both = `{"create": [{"variant_id": "v", "inventory_item_id": "bowl", "required_quantity": 1}], "delete": [{"variant_id": "set", "inventory_item_id": "mug"}]}`
	first := s.ask(t, send, both, "Idempotency-Key", "k")
	require.Equal(t, 200, first.status, first.body)
	require.Equal(t, first.body, s.ask(t, send, both, "Idempotency-Key", "k").body)
	for _, key := range []string{"k/detach-inventory-items", "k/attach-inventory-items"} {
		_, err := s.ledger.Models().RetrieveCommand(t.Context(), key)
		require.NoError(t, err)
	}
	one := s.ask(t, send, `{"create": [{"variant_id": "v", "inventory_item_id": "mug", "required_quantity": 1}]}`, "Idempotency-Key", "one")
	require.Equal(t, 200, one.status, one.body)
	_, err := s.ledger.Models().RetrieveCommand(t.Context(), "one")
	require.NoError(t, err)
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

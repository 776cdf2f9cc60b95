package medusaapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzRequests sends whatever there is. Nothing makes the routes fail: a request is
// served, or the caller is told what is wrong with it.
func FuzzRequests(f *testing.F) {
	for _, seed := range [][2]string{
		{"q=mug&order=-sku&limit=3&fields=%2Bvariants,-sku,*location_levels", `{"sku": "a", "location_levels": [{"location_id": "oslo", "stocked_quantity": 1}]}`},
		{"id[]=a,b&weight[$gt]=1e1&$or[0][sku]=x&$and[]=1", `{"metadata": {"a": [1, null, {}]}, "weight": null, "x": 1}`},
		{"location_levels.location_id=oslo&with_deleted=true&offset=1", `{"create": [{"location_id": "x"}], "delete": ["ilev_oslo"], "force": true}`},
		{"created_at[$lt]=2026-01-01T00:00:00Z&description[$re]=(a", `{"inventory_item_id": "mug", "location_id": "oslo", "quantity": 1}`},
		{"fields=.*,*,+,-,.,a..b", `{"name": " x ", "address": {"address_1": "a", "country_code": "b", "z": []}}`},
		{"quantity[$in][]=1&q=%00&fields=*inventory_item.location_levels", `{"add": ["a"], "remove": ["a"]}`},
		{"required=1", `{"create": [{"variant_id": "v", "inventory_item_id": "mug", "required_quantity": 1}], "update": [], "delete": [{}]}`},
	} {
		f.Add(seed[0], seed[1])
	}
	s := stocked(f)
	f.Fuzz(func(t *testing.T, query, body string) {
		for _, route := range s.routes {
			path := strings.NewReplacer("{id}", "mug", "{location_id}", "oslo", "{variant_id}", "set", "{inventory_item_id}", "mug").Replace(route.Path)
			r := httptest.NewRequestWithContext(t.Context(), route.Method, path, strings.NewReader(body))
			r.URL.RawQuery = query
			r.Header.Set("Content-Type", "application/json")
			if route.Method != http.MethodGet {
				r.Header.Set("Ledger-Dry-Run", "true")
			}
			w := httptest.NewRecorder()
			s.mux.ServeHTTP(w, r)
			if w.Code == http.StatusInternalServerError {
				t.Fatalf("%s %s?%q %q: %s", route.Method, path, query, body, w.Body)
			}
		}
	})
}

package medusaapi_test

import (
	"fmt"
	"strings"
	"testing"
)

// benchmarked is a ledger of 10,000 items with two levels each.
func benchmarked(b *testing.B) *shop {
	b.Helper()
	s := open(b)
	var lines []string
	for i := range 10_000 {
		lines = append(lines, fmt.Sprintf(`{"id": "item_%d", "sku": "SKU-%d", "location_levels": [
			{"location_id": "a", "stocked_quantity": 1000000}, {"location_id": "b"}]}`, i, i))
	}
	for from := 0; from < len(lines); from += 5000 {
		s.do(b, "create-inventory-items", "["+strings.Join(lines[from:from+5000], ",")+"]")
	}
	return s
}

func BenchmarkRequests(b *testing.B) {
	s := benchmarked(b)
	for name, send := range map[string][2]string{
		"list 20 items":        {"GET /admin/inventory-items?order=-sku&stocked_quantity[$gt]=5", ""},
		"retrieve an item":     {"GET /admin/inventory-items/item_77", ""},
		"make a reservation":   {"POST /admin/reservations", `{"inventory_item_id": "item_5", "location_id": "a", "quantity": 1}`},
		"set a level's stock":  {"POST /admin/inventory-items/item_6/location-levels/b", `{"stocked_quantity": 7}`},
		"refuse a reservation": {"POST /admin/reservations", `{"inventory_item_id": "item_5", "location_id": "b", "quantity": 1}`},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if got := s.ask(b, send[0], send[1]); got.status >= 500 {
					b.Fatal(got.body)
				}
			}
		})
	}
}

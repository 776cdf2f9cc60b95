package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/stockledger/stockledger/commands"
)

// A step is one command in the history of the shop.
type step struct {
	name string
	env  commands.Envelope
	body any
}

// object is a JSON object.
type object map[string]any

// The shop: 20 products in 10 colours, at a warehouse and in four shops.
var (
	shopProducts = strings.Fields("mug bowl plate vase lamp cushion blanket candle basket tray " +
		"clock frame jug teapot apron towel tote notebook stool umbrella")
	shopColours   = strings.Fields("red blue green black white yellow grey pink orange brown")
	shopLocations = []object{
		{"id": "warehouse", "name": "Central warehouse"},
		{"id": "paris", "name": "Shop in Paris"},
		{"id": "berlin", "name": "Shop in Berlin"},
		{"id": "lisbon", "name": "Shop in Lisbon"},
		{"id": "london", "name": "Shop in London"},
	}
	shopNames = []string{"paris", "berlin", "lisbon", "london"}
)

// shopDays is how far back the history goes.
const shopDays = 30

// A shopkeeper invents the history. Everything follows from the seed, so every
// demo has the same quantities; only the dates move with today.
type shopkeeper struct {
	today time.Time
	dice  *rand.Rand
	steps []step
	free  map[[2]string]int // what may still be promised, by item and location
	open  []string          // reservations that wait to be shipped
	items []string
}

// shopHistory is the history of the shop up to today.
func shopHistory(today time.Time) []step {
	k := &shopkeeper{
		today: today.UTC().Truncate(24 * time.Hour),
		dice:  rand.New(rand.NewPCG(20, 26)), //nolint:gosec // G404: a shop, not a secret
		free:  make(map[[2]string]int),
	}
	k.openShop()
	for day := 1; day < shopDays; day++ {
		k.shipOrders(day)
		k.takeOrders(day)
		k.sellInShops(day)
		if day%7 == 0 {
			k.replenish(day)
		}
		if day%10 == 0 {
			k.count(day)
		}
	}
	return k.steps
}

// do notes a step at an hour of a day, counted from the first.
func (k *shopkeeper) do(day int, hour float64, name, actor, reason, reference string, body any) {
	at := k.today.AddDate(0, 0, day-shopDays).Add(time.Duration(hour * float64(time.Hour)))
	k.steps = append(k.steps, step{name, commands.Envelope{
		Key: fmt.Sprintf("demo-%04d", len(k.steps)+1), Actor: actor, Reason: reason, Reference: reference, Effective: at,
	}, body})
}

// adjust moves stock, one line for each item.
func (k *shopkeeper) adjust(day int, hour float64, actor, reason, reference, location string, by int, items ...string) {
	lines := make([]object, len(items))
	for i, item := range items {
		lines[i] = object{"inventory_item_id": item, "location_id": location, "adjustment": by}
		k.free[[2]string{item, location}] += by
	}
	k.do(day, hour, "adjust-inventory-levels", actor, reason, reference, lines)
}

// openShop opens the locations, creates the items with empty levels, and
// receives the first deliveries.
func (k *shopkeeper) openShop() {
	k.do(0, 7, "create-stock-locations", "ann", "opening", "", shopLocations)
	var items []object
	for _, product := range shopProducts {
		for i, colour := range shopColours {
			id := product + "-" + colour
			k.items = append(k.items, id)
			levels := []object{{"location_id": "warehouse"}}
			for _, shop := range shopNames[:1+i%len(shopNames)] {
				levels = append(levels, object{"location_id": shop})
			}
			items = append(items, object{
				"id": id, "sku": strings.ToUpper(id), "location_levels": levels,
				"title": strings.ToUpper(colour[:1]) + colour[1:] + " " + product,
			})
		}
	}
	k.do(0, 7.5, "create-inventory-items", "ann", "opening", "", items)
	k.do(0, 8, "attach-inventory-items", "ann", "opening", "", []object{
		{"variant_id": "tea-set-red", "inventory_item_id": "teapot-red", "required_quantity": 1},
		{"variant_id": "tea-set-red", "inventory_item_id": "mug-red", "required_quantity": 4},
	})
	for i := range shopProducts {
		k.adjust(0, 9+float64(i)/10, "bob", "receipt", fmt.Sprintf("delivery:%d", 1001+i), "warehouse", 120, k.items[10*i:10*i+10]...)
	}
	for _, shop := range shopNames {
		k.adjust(0, 14, "bob", "receipt", "delivery:"+shop+"-1", shop, 30, k.stocked(shop)...)
	}
}

// stocked are the items that have a level at a shop.
func (k *shopkeeper) stocked(shop string) []string {
	var items []string
	for i, item := range k.items {
		for _, s := range shopNames[:1+i%len(shopColours)%len(shopNames)] {
			if s == shop {
				items = append(items, item)
			}
		}
	}
	return items
}

// shelf draws a shop and an item that is there; the red mug in Paris often.
func (k *shopkeeper) shelf() (item, shop string) {
	if k.dice.IntN(16) == 0 {
		return "mug-red", "paris"
	}
	shop = shopNames[k.dice.IntN(len(shopNames))]
	items := k.stocked(shop)
	return items[k.dice.IntN(len(items))], shop
}

// takeOrders reserves what customers order.
func (k *shopkeeper) takeOrders(day int) {
	for n := range 4 {
		item, shop := k.shelf()
		quantity := 1 + k.dice.IntN(3)
		if k.free[[2]string{item, shop}] < quantity {
			continue
		}
		k.free[[2]string{item, shop}] -= quantity
		id := fmt.Sprintf("order-%d%02d", 20+n, day)
		k.open = append(k.open, id)
		k.do(day, 10+float64(n), "create-reservations", "web-shop", "order", "order:"+id[6:], object{
			"id": id, "inventory_item_id": item, "location_id": shop, "quantity": quantity, "line_item_id": "line-" + id[6:],
		})
	}
}

// shipOrders fulfils what was reserved some days before; a few orders are cancelled.
func (k *shopkeeper) shipOrders(day int) {
	for n := 0; len(k.open) > 6 && n < 4; n++ {
		id := k.open[0]
		k.open = k.open[1:]
		if k.dice.IntN(8) == 0 {
			// What is free again is left out of k.free, which errs on the safe side.
			k.do(day, 8+float64(n)/4, "delete-reservations", "web-shop", "cancelled", "order:"+id[6:], []string{id})
			continue
		}
		k.do(day, 8+float64(n)/4, "fulfill-reservations", "bob", "shipped", "order:"+id[6:], object{"id": id})
	}
}

// sellInShops sells over the counter, takes something back now and then, and
// drops something.
func (k *shopkeeper) sellInShops(day int) {
	for n := range 5 {
		item, shop := k.shelf()
		quantity := 1 + k.dice.IntN(3)
		if k.free[[2]string{item, shop}] < quantity {
			continue
		}
		k.adjust(day, 11+1.3*float64(n), "till-"+shop, "sale", fmt.Sprintf("receipt:%s-%03d", shop, 10*day+n), shop, -quantity, item)
	}
	item, shop := k.shelf()
	if k.dice.IntN(3) == 0 {
		k.adjust(day, 17.5, "till-"+shop, "return", fmt.Sprintf("receipt:%s-%03d", shop, 10*day+9), shop, 1, item)
	} else if k.dice.IntN(3) == 0 && k.free[[2]string{item, shop}] > 0 {
		k.adjust(day, 18, "carla", "damaged", "", shop, -1, item)
	}
}

// replenish moves goods from the warehouse to the shops, out and in at once.
func (k *shopkeeper) replenish(day int) {
	for i, shop := range shopNames {
		item := k.stocked(shop)[k.dice.IntN(10)]
		k.free[[2]string{item, "warehouse"}] -= 12
		k.free[[2]string{item, shop}] += 12
		k.do(day, 6+float64(i)/4, "adjust-inventory-levels", "bob", "transfer", fmt.Sprintf("transfer:%d-%s", day/7, shop), []object{
			{"inventory_item_id": item, "location_id": "warehouse", "adjustment": -12},
			{"inventory_item_id": item, "location_id": shop, "adjustment": 12},
		})
	}
}

// count sets a few levels of the warehouse to what was counted.
func (k *shopkeeper) count(day int) {
	for range 3 {
		item := k.items[k.dice.IntN(len(k.items))]
		at := [2]string{item, "warehouse"}
		k.free[at]--
		k.do(day, 20, "update-inventory-levels", "carla", "count", fmt.Sprintf("count:%d", day/10), object{
			"inventory_item_id": item, "location_id": "warehouse", "stocked_quantity": k.free[at],
		})
	}
}

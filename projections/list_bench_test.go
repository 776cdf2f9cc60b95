package projections

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
)

// An assortment is many items, each with a level at three of a hundred
// locations, and a reservation for every fifth. One item in a hundred is deleted.
type assortment struct {
	models            *Models
	items, events     int
	folding, building time.Duration // the fold, and with the indexes
}

var shopWords = []string{"hex", "bolt", "nut", "washer", "screw", "anchor", "flange", "bracket", "hinge", "spring", "bearing", "gasket", "valve", "clamp", "rivet", "dowel"}

// stockUp folds an assortment into a model of its own.
func stockUp(t testing.TB, dir string, items int) *assortment {
	began := time.Now()
	cfg := Config{Dir: dir, Store: memstore.New(), Logger: slog.New(slog.DiscardHandler)}
	d := cfg.lineages()[ofInventory].now
	m, err := openModel(t.Context(), cfg, d, entry{Number: 1, Version: d.version, File: "inventory.db"}, math.MaxUint64) // as a new file far behind a log
	require.NoError(t, err)
	a := &assortment{models: &Models{core: &core{longest: longest}, inventory: m}, items: items}
	a.fold(t, m, items)
	a.folding = time.Since(began)
	m.complete()
	a.building = time.Since(began)
	return a
}

func (a *assortment) fold(t testing.TB, m *model, items int) {
	r := rand.New(rand.NewPCG(1, 2))
	var batch []*event
	position := uint64(0)
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	add := func(version uint64, fact events.Fact) {
		position++
		at = at.Add(time.Second)
		batch = append(batch, &event{
			Recorded: events.Recorded{Position: position, Version: version, Stream: "item-x", Type: "x"},
			fact:     fact, changes: changesOf(fact), at: at,
		})
		if len(batch) == 10*events.MaxBatch {
			require.NoError(t, m.commit(batch))
			batch = nil
		}
	}
	word := func() string { return shopWords[r.IntN(len(shopWords))] }
	for i := range items {
		id := fmt.Sprintf("iitem_%026d", i)
		var attributes events.ItemAttributes
		attributes.SKU = new(fmt.Sprintf("SKU-%07d", i*7919%items))
		attributes.Title = new(fmt.Sprintf("%s %s M%d", word(), word(), r.IntN(100)))
		if r.IntN(4) == 0 {
			attributes.Description = new(fmt.Sprintf("%s for %s, batch %05d", word(), word(), r.IntN(100_000)))
		}
		attributes.Thumbnail = new(fmt.Sprintf("https://cdn.example/%07d.png", i))
		attributes.OriginCountry = new([]string{"de", "fr", "it", "pl", "cn", "us", "jp", "in", "se", "nl"}[min(r.IntN(10), r.IntN(10))])
		attributes.HSCode = new(fmt.Sprintf("%04d.%02d", 7300+r.IntN(100), r.IntN(100)))
		attributes.MIDCode = new(fmt.Sprintf("MID%05d", r.IntN(50_000)))
		attributes.Material = new([]string{"steel", "brass", "zinc", "nylon", "titanium"}[min(r.IntN(5), r.IntN(5))])
		if r.IntN(10) == 0 {
			attributes.UnitOfMeasure = new([]string{"kg", "m", "piece"}[r.IntN(3)])
		}
		attributes.Weight = new(events.Units(int64(r.IntN(10_000))))
		attributes.Length = new(events.Units(int64(r.IntN(1_000))))
		attributes.RequiresShipping = r.IntN(1000) > 0
		add(1, events.ItemCreated{ItemID: id, Attributes: attributes})
		if i%100 == 99 {
			add(2, events.ItemDeleted{ItemID: id})
			continue
		}
		for n := range 3 {
			level, place := fmt.Sprintf("ilev_%026d", 3*i+n), fmt.Sprintf("sloc_%02d", (i*7+n*13)%100)
			stocked := events.Units(int64(r.IntN(1_000)))
			if r.IntN(3) == 0 {
				stocked = events.Quantity{}
			}
			add(uint64(n+2), events.LevelCreated{ItemID: id, LevelID: level, LocationID: place, Stocked: stocked})
			if i%5 == 0 && n == 0 {
				add(5, events.ReservationCreated{
					ItemID: id, LevelID: level, LocationID: place, ReservationID: fmt.Sprintf("resitem_%026d", i), Quantity: events.Units(2),
					Stocked: stocked, Reserved: events.Units(2),
					Details: events.ReservationDetails{LineItemID: new(fmt.Sprintf("line_%d", i)), CreatedBy: new(fmt.Sprintf("user_%d", i%50))},
				})
			}
		}
	}
	require.NoError(t, m.commit(batch))
	a.events = int(position)
}

// benchItems is how many items the benchmark of lists has: 1,000,000, with
// -short 10,000, or as many as STOCKLEDGER_BENCH_ITEMS says.
func benchItems(b *testing.B) int {
	if text := os.Getenv("STOCKLEDGER_BENCH_ITEMS"); text != "" {
		items, err := strconv.Atoi(text)
		require.NoError(b, err)
		return items
	}
	if testing.Short() {
		return 10_000
	}
	return 1_000_000
}

type question struct {
	name string
	List
}

func where(selectors ...any) map[string]any {
	all := make(map[string]any)
	for i := 0; i < len(selectors); i += 2 {
		all[selectors[i].(string)] = selectors[i+1]
	}
	return all
}

func is(operator string, value any) map[string]any { return map[string]any{operator: value} }

// itemQuestions are one for each sort of filter, by how many rows it selects.
func (a *assortment) itemQuestions() []question {
	n := a.items
	sku := func(i int) string { return fmt.Sprintf("SKU-%07d", i) }
	late := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(a.events) * time.Second * 9 / 10)
	q := func(name string, selectors ...any) question { return question{name, List{Filter: where(selectors...)}} }
	return []question{
		q("all"),
		q("id", "id", fmt.Sprintf("iitem_%026d", n/2)),
		q("sku", "sku", sku(n/2)),
		q("sku-in-100", "sku", is("$in", func() (all []any) {
			for i := range 100 {
				all = append(all, sku(i*n/100))
			}
			return all
		}())),
		q("sku-range-many", "sku", is("$gte", sku(n/2))),
		q("sku-range-few", "sku", is("$gte", sku(n-100))),
		q("sku-like-head", "sku", is("$like", "SKU-00001%")),
		q("sku-ilike-middle", "sku", is("$ilike", "%"+fmt.Sprintf("%05d", 12345)+"%")),
		q("sku-ne", "sku", is("$ne", sku(5))),
		q("title-contains", "title", is("contains", "bearing m7")),
		q("title-re", "title", is("$re", "^hex bolt M[0-9]$")),
		q("description-null", "description", nil),
		q("thumbnail", "thumbnail", fmt.Sprintf("https://cdn.example/%07d.png", n/3)),
		q("origin-country-many", "origin_country", "de"),
		q("origin-country-few", "origin_country", "nl"),
		q("origin-country-ne", "origin_country", is("$ne", "de")),
		q("hs-code", "hs_code", "7350.50"),
		q("mid-code", "mid_code", "MID00077"),
		q("material", "material", "titanium"),
		q("unit-of-measure", "unit_of_measure", is("$exists", true)),
		q("weight-range", "weight", is("$gt", events.Units(9_990))),
		q("weight-between", "weight", map[string]any{"$gt": events.Units(5_000), "$lt": events.Units(5_003)}),
		q("height-not-null", "height", is("$ne", nil)),
		q("requires-shipping-many", "requires_shipping", true),
		q("requires-shipping-few", "requires_shipping", false),
		q("stocked-zero", "stocked_quantity", events.Units(0)),
		q("stocked-range-many", "stocked_quantity", is("$gt", events.Units(500))),
		q("stocked-range-few", "stocked_quantity", is("$gt", events.Units(2_970))),
		q("reserved-ne-zero", "reserved_quantity", is("$ne", events.Units(0))),
		q("incoming-ne-zero", "incoming_quantity", is("$ne", events.Units(0))),
		q("available-negative", "available_quantity", is("$lt", events.Units(0))),
		q("created-late", "created_at", is("$gte", late)),
		q("updated-late", "updated_at", is("$gte", late)),
		q("location", "location_id", "sloc_42"),
		q("levels-nested", "location_levels", where("location_id", "sloc_42", "stocked_quantity", is("$gt", events.Units(990)))),
		q("or", "$or", []any{where("sku", sku(7)), where("mid_code", "MID00077")}),
		q("and-three", "origin_country", "de", "material", "brass", "available_quantity", is("$gt", events.Units(2_900))),
		{"q-one-word", List{Q: "bearing"}},
		{"q-two-words", List{Q: "bearing hinge"}},
		{"q-rare", List{Q: "batch 77777"}},
		{"q-short", List{Q: "m7"}},
		{"deleted-only", List{Filter: where("deleted_at", is("$ne", nil)), WithDeleted: true}},
		{"order-sku", List{Order: []string{"sku"}}},
		{"order-sku-down", List{Order: []string{"-sku"}}},
		{"order-title", List{Order: []string{"title"}}},
		{"order-stocked", List{Order: []string{"-stocked_quantity"}}},
		{"order-available", List{Order: []string{"available_quantity"}}},
		{"order-updated", List{Order: []string{"-updated_at"}}},
		{"order-created", List{Order: []string{"-created_at"}}},
		{"order-two", List{Order: []string{"origin_country", "-available_quantity"}}},
		{"order-version", List{Order: []string{"-version"}}},
		{"order-available-country", List{Order: []string{"-available_quantity"}, Filter: where("origin_country", "nl")}},
	}
}

func (a *assortment) levelQuestions() []question {
	q := func(name string, selectors ...any) question { return question{name, List{Filter: where(selectors...)}} }
	return []question{
		q("all"),
		q("item", "inventory_item_id", fmt.Sprintf("iitem_%026d", a.items/2)),
		q("location", "location_id", "sloc_42"),
		q("location-ne", "location_id", is("$ne", "sloc_42")),
		q("stocked-range-many", "stocked_quantity", is("$gt", events.Units(500))),
		q("stocked-range-few", "stocked_quantity", is("$gt", events.Units(998))),
		q("reserved", "reserved_quantity", is("$gt", events.Units(0))),
		q("available-negative", "available_quantity", is("$lt", events.Units(0))),
		q("location-and-available", "location_id", "sloc_42", "available_quantity", is("$lt", events.Units(0))),
		{"order-available", List{Order: []string{"-available_quantity"}}},
		{"order-available-at-location", List{Order: []string{"-available_quantity"}, Filter: where("location_id", "sloc_42")}},
	}
}

func (a *assortment) reservationQuestions() []question {
	q := func(name string, selectors ...any) question { return question{name, List{Filter: where(selectors...)}} }
	return []question{
		q("all"),
		q("line-item", "line_item_id", fmt.Sprintf("line_%d", a.items/10*5)),
		q("location", "location_id", "sloc_40"),
		q("created-by", "created_by", "user_5"),
		q("quantity-range", "quantity", is("$gt", events.Units(2))),
		q("status", "status", StatusReleased),
		{"q", List{Q: "bearing m77"}},
		{"order-created", List{Order: []string{"-created_at"}}},
	}
}

// BenchmarkList reads pages of 50 of a large assortment, by one filter or order
// each; first without the count of all that match, then with it, then the
// tenth page by its cursor.
func BenchmarkList(b *testing.B) {
	a := stockUp(b, b.TempDir(), benchItems(b))
	b.Cleanup(func() { require.NoError(b, a.models.inventory.file.close()) })
	b.Logf("%d items: %d events folded in %v, with the indexes %v", a.items, a.events, a.folding.Round(time.Second), a.building.Round(time.Second))
	benchmarkLists(b, "items", a.itemQuestions(), a.models.ListItems)
	benchmarkLists(b, "levels", a.levelQuestions(), a.models.ListLevels)
	benchmarkLists(b, "reservations", a.reservationQuestions(), a.models.ListReservations)
}

func benchmarkLists[T any](b *testing.B, name string, all []question, list func(context.Context, List) (Page[T], error)) {
	for _, q := range all {
		run := func(b *testing.B, l List) (page Page[T]) {
			for range b.N {
				var err error
				if page, err = list(b.Context(), l); err != nil {
					b.Fatal(err)
				}
			}
			return page
		}
		q.NoCount = true
		b.Run(name+"/"+q.name+"/page", func(b *testing.B) { run(b, q.List) })
		b.Run(name+"/"+q.name+"/tenth", func(b *testing.B) {
			l := q.List
			for range 9 {
				page, err := list(b.Context(), l)
				require.NoError(b, err)
				if page.Next == nil {
					b.Skip("there are not so many")
				}
				l.Cursor = *page.Next
			}
			b.ResetTimer()
			run(b, l)
		})
		q.NoCount = false
		b.Run(name+"/"+q.name+"/counted", func(b *testing.B) {
			page := run(b, q.List)
			b.ReportMetric(float64(*page.Count), "matches")
		})
	}
}

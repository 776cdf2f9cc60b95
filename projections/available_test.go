package projections_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// stocked is an item with levels, whose quantities may be below zero.
func stocked(item string, levels map[string]string) []events.Fact {
	facts := []events.Fact{events.ItemCreated{ItemID: item}}
	for _, location := range slices.Sorted(maps.Keys(levels)) {
		level := item + "@" + location
		facts = append(facts,
			events.LevelCreated{ItemID: item, LevelID: level, LocationID: location},
			events.StockSet{ItemID: item, LevelID: level, LocationID: location, Stocked: qty(levels[location])})
	}
	return facts
}

// A shop with what medusa.md §2.2 asks about, and more.
func shopOfPoints() *book {
	b := newBook()
	b.record(stocked("cup", map[string]string{"berlin": "10", "paris": "1.5", "rome": "-3"})...)
	b.record(stocked("tray", map[string]string{"berlin": "7"})...)
	b.record(stocked("lost", map[string]string{"rome": "-3"})...)
	b.record(stocked("bare", nil)...)
	b.record(stocked("halved", map[string]string{"berlin": "5", "paris": "4"})...)
	b.record(events.LevelDeleted{ItemID: "halved", LevelID: "halved@paris", LocationID: "paris", Stocked: units(4)})
	b.record(stocked("gone", map[string]string{"berlin": "9"})...)
	b.record(events.LevelDeleted{ItemID: "gone", LevelID: "gone@berlin", LocationID: "berlin", Stocked: units(9)},
		events.ItemDeleted{ItemID: "gone", Levels: []string{"gone@berlin"}})
	b.record(events.ReservationCreated{
		ItemID: "cup", LevelID: "cup@berlin", LocationID: "berlin", ReservationID: "r1", Quantity: units(4), Stocked: units(10), Reserved: units(4),
	})
	for variant, items := range map[string]map[string]string{
		"cup-2": {"cup": "2"}, "set": {"cup": "0.4", "tray": "3"}, "lost-2": {"lost": "2"}, "half": {"halved": "1"}, "thirds": {"tray": "0.3"},
	} {
		for _, item := range slices.Sorted(maps.Keys(items)) {
			b.record(events.ItemLinked{VariantID: variant, ItemID: item, Required: qty(items[item])})
		}
	}
	b.record(events.ItemLinked{VariantID: "unlinked", ItemID: "cup", Required: units(1)})
	b.record(events.ItemUnlinked{VariantID: "unlinked", ItemID: "cup", Required: units(1)})
	for _, place := range []string{"berlin", "paris", "rome"} {
		b.record(events.LocationOpened{LocationID: place, Attributes: events.LocationAttributes{Name: place}})
	}
	serve := func(place, channel string) events.Fact {
		return events.LocationLinked{LocationID: place, Kind: events.SalesChannel, ID: channel}
	}
	b.record(serve("berlin", "web"), serve("paris", "web"), serve("paris", "shop"), serve("rome", "fair"), serve("berlin", "quit"), serve("rome", "closed"))
	b.record(events.LocationUnlinked{LocationID: "berlin", Kind: events.SalesChannel, ID: "quit"})
	b.record(events.LocationLinked{LocationID: "berlin", Kind: events.FulfillmentProvider, ID: "shop"}) // another kind of that id
	b.record(events.LocationClosed{LocationID: "rome"})
	return b
}

func TestPointQueries(t *testing.T) {
	m := shopOfPoints().models(t)
	const available, stock, reserved, confirm, variants = "available-quantity", "stocked-quantity", "reserved-quantity", "confirm-inventory", "variant-availability"
	for _, tc := range []struct{ name, query, body, answer, refused, details string }{
		// For no locations, no such item, and no live level there are three answers.
		{"available at no location", available, `{"inventory_item_id":"cup","location_ids":[]}`, `{"quantity":0}`, "", ""},
		{"not looked up for no location", available, `{"inventory_item_id":"ghost","location_ids":[]}`, `{"quantity":0}`, "", ""},
		{"in stock at no location", stock, `{"inventory_item_id":"ghost","location_ids":[]}`, `{"quantity":0}`, "", ""},
		{"reserved at no location", reserved, `{"inventory_item_id":"cup","location_ids":[]}`, `{"quantity":0}`, "", ""},
		{"reserved looks the item up first", reserved, `{"inventory_item_id":"ghost","location_ids":[]}`, "", "not_found", `{"inventory_item_id":"ghost"}`},
		{"an unknown item", available, `{"inventory_item_id":"ghost","location_ids":["berlin"]}`, "", "not_found", `{"inventory_item_id":"ghost"}`},
		{"an unknown item in stock", stock, `{"inventory_item_id":"ghost","location_ids":["berlin"]}`, "", "not_found", ""},
		{"an unknown item reserved", reserved, `{"inventory_item_id":"ghost","location_ids":["berlin"]}`, "", "not_found", ""},
		{"a deleted item", available, `{"inventory_item_id":"gone","location_ids":["berlin"]}`, "", "not_found", ""},
		{"a deleted item in stock", stock, `{"inventory_item_id":"gone","location_ids":["berlin"]}`, "", "not_found", ""},
		{"a deleted item reserved", reserved, `{"inventory_item_id":"gone","location_ids":["berlin"]}`, "", "not_found", ""},
		{"a deleted level", available, `{"inventory_item_id":"halved","location_ids":["berlin","paris"]}`, `{"quantity":5}`, "", ""},
		{"a deleted level alone", stock, `{"inventory_item_id":"halved","location_ids":["paris"]}`, `{"quantity":0}`, "", ""},
		{"no level", available, `{"inventory_item_id":"bare","location_ids":["berlin"]}`, `{"quantity":0}`, "", ""},
		{"a location twice", available, `{"inventory_item_id":"cup","location_ids":["berlin","berlin","mars"]}`, `{"quantity":6}`, "", ""},
		{"more promised than there is", available, `{"inventory_item_id":"cup","location_ids":["paris","rome"]}`, `{"quantity":-1.5}`, "", ""},
		{"all of it", stock, `{"inventory_item_id":"cup","location_ids":["berlin","paris","rome"]}`, `{"quantity":8.5}`, "", ""},
		{"reserved at some", reserved, `{"inventory_item_id":"cup","location_ids":["berlin","paris"]}`, `{"quantity":4}`, "", ""},

		{"enough", confirm, `{"inventory_item_id":"cup","location_ids":["berlin","paris"],"quantity":7.5}`, `{"confirmed":true,"available_quantity":7.5}`, "", ""},
		{"not enough", confirm, `{"inventory_item_id":"cup","location_ids":["berlin","paris"],"quantity":7.50000001}`, `{"confirmed":false,"available_quantity":7.5}`, "", ""},
		{"nothing of nothing", confirm, `{"inventory_item_id":"ghost","location_ids":[],"quantity":0}`, `{"confirmed":true,"available_quantity":0}`, "", ""},
		{"something of nothing", confirm, `{"inventory_item_id":"ghost","location_ids":[],"quantity":1}`, `{"confirmed":false,"available_quantity":0}`, "", ""},
		{"nothing of less", confirm, `{"inventory_item_id":"lost","location_ids":["rome"],"quantity":0}`, `{"confirmed":false,"available_quantity":-3}`, "", ""},
		{"debts count", confirm, `{"inventory_item_id":"cup","location_ids":["berlin","rome"],"quantity":4}`, `{"confirmed":false,"available_quantity":3}`, "", ""},
		{"of an unknown item", confirm, `{"inventory_item_id":"ghost","location_ids":["berlin"],"quantity":0}`, "", "not_found", ""},

		{
			"a basket", confirm, `{"lines":[{"inventory_item_id":"cup","location_ids":["berlin"],"quantity":6},{"inventory_item_id":"tray","location_ids":["berlin"],"quantity":7}]}`,
			`{"confirmed":true,"lines":[{"inventory_item_id":"cup","location_ids":["berlin"],"quantity":6,"available_quantity":6,"confirmed":true},
				{"inventory_item_id":"tray","location_ids":["berlin"],"quantity":7,"available_quantity":7,"confirmed":true}]}`, "", "",
		},
		{
			"each unit is promised once", confirm, `{"lines":[{"inventory_item_id":"tray","location_ids":["berlin"],"quantity":4},{"inventory_item_id":"cup","location_ids":["paris"],"quantity":1},
			{"inventory_item_id":"tray","location_ids":["berlin"],"quantity":4},{"inventory_item_id":"tray","location_ids":["berlin","berlin"],"quantity":3}]}`,
			`{"confirmed":false,"lines":[{"inventory_item_id":"tray","location_ids":["berlin"],"quantity":4,"available_quantity":7,"confirmed":true},
				{"inventory_item_id":"cup","location_ids":["paris"],"quantity":1,"available_quantity":1.5,"confirmed":true},
				{"inventory_item_id":"tray","location_ids":["berlin"],"quantity":4,"available_quantity":3,"confirmed":false},
				{"inventory_item_id":"tray","location_ids":["berlin","berlin"],"quantity":3,"available_quantity":3,"confirmed":true}]}`, "", "",
		},
		{
			"a line makes room for another", confirm, `{"lines":[{"inventory_item_id":"cup","location_ids":["paris","berlin"],"quantity":2},{"inventory_item_id":"cup","location_ids":["paris"],"quantity":1.5}]}`,
			`{"confirmed":true,"lines":[{"inventory_item_id":"cup","location_ids":["paris","berlin"],"quantity":2,"available_quantity":7.5,"confirmed":true},
				{"inventory_item_id":"cup","location_ids":["paris"],"quantity":1.5,"available_quantity":1.5,"confirmed":true}]}`, "", "",
		},
		{
			"a basket of one line is that line", confirm, `{"lines":[{"inventory_item_id":"lost","location_ids":["rome"],"quantity":0}]}`,
			`{"confirmed":false,"lines":[{"inventory_item_id":"lost","location_ids":["rome"],"quantity":0,"available_quantity":-3,"confirmed":false}]}`, "", "",
		},
		{
			"debts count once", confirm, `{"lines":[{"inventory_item_id":"lost","location_ids":["rome","rome"],"quantity":0}]}`,
			`{"confirmed":false,"lines":[{"inventory_item_id":"lost","location_ids":["rome","rome"],"quantity":0,"available_quantity":-3,"confirmed":false}]}`, "", "",
		},
		{
			"a deleted level in a basket", confirm, `{"lines":[{"inventory_item_id":"halved","location_ids":["berlin","paris"],"quantity":6}]}`,
			`{"confirmed":false,"lines":[{"inventory_item_id":"halved","location_ids":["berlin","paris"],"quantity":6,"available_quantity":5,"confirmed":false}]}`, "", "",
		},
		{
			"also of no locations", confirm, `{"lines":[{"inventory_item_id":"ghost","location_ids":[],"quantity":0}]}`,
			`{"confirmed":true,"lines":[{"inventory_item_id":"ghost","location_ids":[],"quantity":0,"available_quantity":0,"confirmed":true}]}`, "", "",
		},
		{"an empty basket", confirm, `{"lines":[]}`, `{"confirmed":true,"lines":[]}`, "", ""},
		{
			"a line of an unknown item", confirm, `{"lines":[{"inventory_item_id":"cup","location_ids":["berlin"],"quantity":1},{"inventory_item_id":"gone","location_ids":["berlin"],"quantity":1}]}`,
			"", "not_found", `{"line":2,"inventory_item_id":"gone"}`,
		},
		{"a line without a quantity", confirm, `{"lines":[{"inventory_item_id":"cup","location_ids":["berlin"]}]}`, "", "required", `{"line":1,"field":"quantity"}`},
		{"a line of less than nothing", confirm, `{"lines":[{"inventory_item_id":"cup","location_ids":["berlin"],"quantity":-1}]}`, "", "invalid_quantity", `{"line":1}`},
		{"a line and lines", confirm, `{"quantity":1,"lines":[]}`, "", "invalid_value", `{"field":"lines"}`},
		{"too many lines", confirm, fmt.Sprintf(`{"lines":[%s]}`, times(1001, `{"inventory_item_id":"cup","location_ids":[],"quantity":1}`)), "", "too_many_lines", ""},
		{"too many locations", confirm, fmt.Sprintf(`{"lines":[{"inventory_item_id":"cup","location_ids":[%s],"quantity":1}]}`, times(2001, `"berlin"`)), "", "too_many_lines", ""},

		{
			"a variant anywhere", variants, `{"variant_id":"cup-2"}`,
			`{"variants":[{"variant_id":"cup-2","availability":2,"items":[{"inventory_item_id":"cup","required_quantity":2,"available_quantity":4.5}]}]}`, "", "",
		},
		{
			"at locations", variants, `{"variant_id":"cup-2","location_ids":["berlin","berlin","mars"]}`,
			`{"variants":[{"variant_id":"cup-2","availability":3,"items":[{"inventory_item_id":"cup","required_quantity":2,"available_quantity":6}]}]}`, "", "",
		},
		{
			"at none", variants, `{"variant_id":"cup-2","location_ids":[]}`,
			`{"variants":[{"variant_id":"cup-2","availability":0,"items":[{"inventory_item_id":"cup","required_quantity":2,"available_quantity":0}]}]}`, "", "",
		},
		{
			"in a sales channel", variants, `{"variant_id":"cup-2","sales_channel_id":"web"}`,
			`{"variants":[{"variant_id":"cup-2","availability":3,"items":[{"inventory_item_id":"cup","required_quantity":2,"available_quantity":7.5}]}]}`, "", "",
		},
		{
			"in one of a single location", variants, `{"variant_id":"cup-2","sales_channel_id":"shop"}`,
			`{"variants":[{"variant_id":"cup-2","availability":0,"items":[{"inventory_item_id":"cup","required_quantity":2,"available_quantity":1.5}]}]}`, "", "",
		},
		{
			"in one that nobody serves", variants, `{"variant_id":"cup-2","sales_channel_id":"mars"}`,
			`{"variants":[{"variant_id":"cup-2","availability":0,"items":[{"inventory_item_id":"cup","required_quantity":2,"available_quantity":0}]}]}`, "", "",
		},
		{
			"in one that is served no longer", variants, `{"variant_id":"cup-2","sales_channel_id":"quit"}`,
			`{"variants":[{"variant_id":"cup-2","availability":0,"items":[{"inventory_item_id":"cup","required_quantity":2,"available_quantity":0}]}]}`, "", "",
		},
		{
			"in one of a closed location", variants, `{"variant_id":"lost-2","sales_channel_id":"fair"}`,
			`{"variants":[{"variant_id":"lost-2","availability":0,"items":[{"inventory_item_id":"lost","required_quantity":2,"available_quantity":0}]}]}`, "", "",
		},
		{
			"rounded down below zero", variants, `{"variant_id":"lost-2"}`,
			`{"variants":[{"variant_id":"lost-2","availability":-2,"items":[{"inventory_item_id":"lost","required_quantity":2,"available_quantity":-3}]}]}`, "", "",
		},
		{
			"the scarcest item decides, exactly", variants, `{"variant_ids":["set","thirds","set"],"location_ids":["berlin","paris"]}`,
			`{"variants":[{"variant_id":"set","availability":2,"items":[{"inventory_item_id":"cup","required_quantity":0.4,"available_quantity":7.5},
				{"inventory_item_id":"tray","required_quantity":3,"available_quantity":7}]},
			{"variant_id":"thirds","availability":23,"items":[{"inventory_item_id":"tray","required_quantity":0.3,"available_quantity":7}]}]}`, "", "",
		},
		{
			"a deleted level of a variant", variants, `{"variant_id":"half","location_ids":["berlin","paris"]}`,
			`{"variants":[{"variant_id":"half","availability":5,"items":[{"inventory_item_id":"halved","required_quantity":1,"available_quantity":5}]}]}`, "", "",
		},
		{
			"a deleted level of a variant anywhere", variants, `{"variant_id":"half"}`,
			`{"variants":[{"variant_id":"half","availability":5,"items":[{"inventory_item_id":"halved","required_quantity":1,"available_quantity":5}]}]}`, "", "",
		},
		{
			"made of nothing", variants, `{"variant_ids":["unlinked","ghost"]}`,
			`{"variants":[{"variant_id":"unlinked","availability":null,"items":[]},{"variant_id":"ghost","availability":null,"items":[]}]}`, "", "",
		},
		{"no variants", variants, `{"variant_ids":[]}`, `{"variants":[]}`, "", ""},
		{"no variant", variants, `{}`, "", "required", `{"field":"variant_id"}`},
		{"both ways to name a variant", variants, `{"variant_id":"a","variant_ids":["b"]}`, "", "invalid_value", `{"field":"variant_ids"}`},
		{"both ways to name a place", variants, `{"variant_id":"a","location_ids":[],"sales_channel_id":"web"}`, "", "invalid_value", `{"field":"sales_channel_id"}`},
		{"too many variants", variants, fmt.Sprintf(`{"variant_ids":[%s]}`, times(1001, `"v"`)), "", "invalid_value", `{"field":"variant_ids"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := m.Query(t.Context(), tc.query, []byte(tc.body))
			require.Equal(t, tc.refused, fault.Code(err), "%v", err)
			if tc.refused == "" {
				require.JSONEq(t, tc.answer, asJSON(t, got))
				return
			}
			details := make(map[string]any)
			require.NoError(t, json.Unmarshal([]byte(asJSON(t, fault.Of(err).Details)), &details))
			want := make(map[string]any)
			if tc.details != "" {
				require.NoError(t, json.Unmarshal([]byte(tc.details), &want))
			}
			for name, value := range want {
				require.Equal(t, value, details[name], name)
			}
		})
	}
}

// A sales channel has the locations that serve it now, whatever was written when.
func TestASalesChannelHasTheLocationsThatServeIt(t *testing.T) {
	b := newBook()
	b.record(stocked("cup", map[string]string{"berlin": "5", "paris": "1"})...)
	b.record(events.ItemLinked{VariantID: "v", ItemID: "cup", Required: units(1)})
	for _, place := range []string{"berlin", "paris"} {
		b.record(events.LocationOpened{LocationID: place, Attributes: events.LocationAttributes{Name: place}})
	}
	m := b.models(t)
	channel := events.LocationLinked{LocationID: "berlin", Kind: events.SalesChannel, ID: "web"}
	other := events.LocationLinked{LocationID: "paris", Kind: events.SalesChannel, ID: "web"}
	for _, step := range []struct {
		fact events.Fact
		want string
	}{
		{channel, "5"},
		{other, "6"},
		{events.LocationUpdated{LocationID: "berlin", Attributes: events.LocationAttributes{Name: "Mitte"}}, "6"},
		{events.LocationUnlinked{LocationID: "berlin", Kind: events.SalesChannel, ID: "web"}, "1"},
		{channel, "6"},
		{events.LocationClosed{LocationID: "berlin"}, "1"},
	} {
		b.record(step.fact)
		b.caughtUp(t, m)
		answer, err := m.VariantAvailability(t.Context(), projections.VariantQuestion{VariantID: "v", SalesChannelID: "web"})
		require.NoError(t, err)
		require.Equal(t, step.want, answer.Variants[0].Availability.String(), "%T", step.fact)
	}
}

// times is n copies of an element of a list.
func times(n int, element string) string {
	text := element
	for range n - 1 {
		text += "," + element
	}
	return text
}

// Whatever the basket, a line is confirmed when all that is confirmed so far and
// the line can be met at once, found by trying every way to meet them; and what
// is available to it is the most that can.
func TestABasketIsMetWheneverItCanBe(t *testing.T) {
	places := []string{"a", "b", "c"}
	b := newBook()
	stock := make(map[string]map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		item := fmt.Sprintf("item-%d", len(stock))
		stock[item] = make(map[string]int)
		levels := make(map[string]string)
		for _, place := range places {
			stock[item][place] = rapid.IntRange(0, 3).Draw(t, place)
			levels[place] = fmt.Sprint(stock[item][place])
		}
		b.record(stocked(item, levels)...)
	})
	m := b.models(t)
	rapid.Check(t, func(t *rapid.T) {
		item := rapid.SampledFrom(slices.Sorted(maps.Keys(stock))).Draw(t, "item")
		lines := make([]projections.Demand, rapid.IntRange(1, 4).Draw(t, "lines"))
		for i := range lines {
			lines[i] = projections.Demand{
				ItemID: item, Quantity: new(units(rapid.Int64Range(0, 3).Draw(t, "quantity"))),
				LocationIDs: rapid.SliceOfN(rapid.SampledFrom(places), 1, 4).Draw(t, "at"),
			}
		}
		basket, err := m.ConfirmBasket(t.Context(), lines)
		require.NoError(t, err)
		var kept []int // confirmed lines
		quantities := make([]int, len(lines))
		all := true
		for i, row := range basket.Lines {
			asked := whole(t, *lines[i].Quantity)
			most := -1
			for q := 0; ; q++ {
				quantities[i] = q
				if !canMeet(stock[item], lines, append(slices.Clone(kept), i), quantities) {
					break
				}
				most = q
			}
			require.Equal(t, most, whole(t, row.Available), "available to line %d of %s", i+1, asText(lines))
			require.Equal(t, asked <= most, row.Confirmed)
			if quantities[i] = asked; row.Confirmed {
				kept = append(kept, i)
			}
			all = all && row.Confirmed
		}
		require.Equal(t, all, basket.Confirmed)
	})
}

func whole(t require.TestingT, q events.Quantity) (n int) {
	_, err := fmt.Sscan(q.String(), &n)
	require.NoError(t, err)
	return n
}

func asText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// canMeet tries to take the quantities unit by unit, every way.
func canMeet(stock map[string]int, lines []projections.Demand, which, quantities []int) bool {
	if len(which) == 0 {
		return true
	}
	line := which[0]
	if quantities[line] == 0 {
		return canMeet(stock, lines, which[1:], quantities)
	}
	for _, place := range slices.Compact(slices.Sorted(slices.Values(lines[line].LocationIDs))) {
		if stock[place] == 0 {
			continue
		}
		stock[place]--
		quantities[line]--
		met := canMeet(stock, lines, which, quantities)
		quantities[line]++
		stock[place]++
		if met {
			return true
		}
	}
	return false
}

// Where more is promised than there is, a line gets what its locations have
// together, less what the lines before it got: as if it were one place.
func TestABasketOwesWhatItsLocationsOwe(t *testing.T) {
	b := newBook()
	b.record(stocked("cup", map[string]string{"a": "-2", "b": "5", "c": "-1", "d": "4"})...)
	b.record(stocked("pot", map[string]string{"a": "-6", "b": "5"})...)
	m := b.models(t)
	line := func(item string, q int64, at ...string) projections.Demand {
		return projections.Demand{ItemID: item, LocationIDs: at, Quantity: new(units(q))}
	}
	for _, tc := range []struct {
		lines []projections.Demand
		want  []string
	}{
		{[]projections.Demand{line("cup", 1, "a", "b", "c", "d"), line("cup", 4, "d", "c", "b", "a"), line("cup", 2, "a", "b", "c", "d"), line("cup", 1, "a", "b", "c", "d")}, []string{"6 true", "5 true", "1 false", "1 true"}},
		{[]projections.Demand{line("cup", 2, "a", "b"), line("cup", 2, "b"), line("cup", 1, "b")}, []string{"3 true", "1 false", "1 true"}},
		{[]projections.Demand{line("cup", 4, "d"), line("cup", 2, "a", "b")}, []string{"4 true", "3 true"}},
		{[]projections.Demand{line("cup", 3, "d"), line("cup", 2, "a", "b", "d")}, []string{"4 true", "4 true"}},
		{[]projections.Demand{line("pot", 0, "a", "b"), line("pot", 1, "b")}, []string{"-1 false", "0 false"}},
		{[]projections.Demand{line("pot", 1, "b"), line("cup", 1, "b")}, []string{"5 true", "5 true"}},
	} {
		basket, err := m.ConfirmBasket(t.Context(), tc.lines)
		require.NoError(t, err)
		var got []string
		for _, row := range basket.Lines {
			got = append(got, fmt.Sprint(row.Available, row.Confirmed))
		}
		require.Equal(t, tc.want, got, asText(tc.lines))
	}
}

// The hardest baskets: every line wants what the lines before it had; and many
// lines of one place each beside two that hold a little of every place.
func BenchmarkConfirmBasket(b *testing.B) {
	const places = 900
	book := newBook()
	levels := make(map[string]string)
	at := make([]string, places)
	for i := range at {
		at[i] = fmt.Sprintf("place-%03d", i)
		levels[at[i]] = "1"
	}
	book.record(stocked("cup", levels)...)
	m := book.models(b)
	demand := func(quantity string, at ...string) projections.Demand {
		return projections.Demand{ItemID: "cup", LocationIDs: at, Quantity: new(qty(quantity))}
	}
	var shrinking []projections.Demand
	for i := range 20 {
		shrinking = append(shrinking, demand("5", at[:100-5*i]...))
	}
	wide := []projections.Demand{demand("0.000001", at...), demand("0.000001", at...)}
	for i := range 190 {
		wide = append(wide, demand("1", at[i]))
	}
	for name, lines := range map[string][]projections.Demand{"shrinking": shrinking, "wide": wide} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := m.ConfirmBasket(b.Context(), lines)
				require.NoError(b, err)
			}
		})
	}
}

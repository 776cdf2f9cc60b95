package commands_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

func TestWhatMakesNoSenseIsRefusedByName(t *testing.T) {
	const (
		adjust  = "adjust-inventory-levels"
		create  = "create-inventory-items"
		level   = "create-inventory-levels"
		reserve = "create-reservations"
		fulfil  = "fulfill-reservations"
		batch   = "batch-inventory-item-levels"
		remove  = "delete-inventory-levels"
		links   = "update-stock-location-links"
	)
	long := strings.Repeat("x", 256)
	for _, tc := range []struct{ name, command, body, code, details string }{
		{"an unknown command", "create-everything", `{}`, "unknown_command", `{"command":"create-everything"}`},

		{"no JSON", adjust, ``, "malformed_json", ``},
		{"half of it", adjust, `[{"inventory_item_id":"cup"`, "malformed_json", ``},
		{"text", adjust, `nope`, "malformed_json", ``},
		{"something after it", adjust, cupHas + `"adjustment":1}] x`, "malformed_json", ``},
		{"two bodies", adjust, `[] []`, "malformed_json", ``},
		{"a comma too many", adjust, `{"updates":[{"inventory_item_id":"cup",}]}`, "malformed_json", ``},
		{"NaN", adjust, cupHas + `"adjustment":NaN}]`, "malformed_json", ``},
		{"+1", adjust, cupHas + `"adjustment":+1}]`, "malformed_json", ``},
		{"invalid UTF-8", create, "{\"title\":\"\xff\"}", "malformed_json", `{"field":"title"}`},
		{"too deep", create, `{"metadata":{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}`, "malformed_json", ``},
		{"half a deep one", create, strings.Repeat("[", 1_000_000), "invalid_type", ``},
		{"a name twice", adjust, `[{"inventory_item_id":"cup","inventory_item_id":"pot"}]`, "duplicate_field", `{"line":1,"field":"inventory_item_id"}`},
		{"a name twice, under a name", adjust, `{"updates":[],"updates":[]}`, "duplicate_field", `{"field":"updates"}`},
		{"a name twice in metadata", create, `{"metadata":{"a":1,"a":2}}`, "duplicate_field", `{"field":"metadata.a"}`},

		{"null", create, `null`, "invalid_type", ``},
		{"null for a batch", batch, `null`, "invalid_type", ``},
		{"null for ids", "delete-inventory-items", `null`, "invalid_type", ``},
		{"null under a name", "delete-inventory-items", `{"id":null}`, "invalid_type", `{"field":"id"}`},
		{"null for the lines", create, `{"items":null}`, "invalid_type", `{"field":"items"}`},
		{"null for a line", create, `[{},null]`, "invalid_type", `{"line":2}`},
		{"a number", create, `5`, "invalid_type", ``},
		{"a text for a line", create, `["cup"]`, "invalid_type", `{"line":1}`},
		{"an object for the lines", create, `{"items":{}}`, "invalid_type", `{"field":"items"}`},
		{"an array for an object", batch, `[]`, "invalid_type", ``},
		{"an object for an array", batch, `{"create":{}}`, "invalid_type", `{"field":"create"}`},
		{"a number for a text", create, `[{"title":"a"},{"title":5}]`, "invalid_type", `{"line":2,"field":"title"}`},
		{"a text for a boolean", create, `{"requires_shipping":"yes"}`, "invalid_type", `{"field":"requires_shipping"}`},
		{"a text for a version", adjust, cupHas + `"adjustment":1,"expect":{"version":"2"}}]`, "invalid_type", `{"line":1,"field":"expect.version"}`},
		{"a negative version", adjust, cupHas + `"adjustment":1,"expect":{"version":-2}}]`, "invalid_type", `{"line":1,"field":"expect.version"}`},
		{"a number for an id", "delete-inventory-items", `{"id":["a",5]}`, "invalid_type", `{"line":2,"field":"id"}`},
		{"a number for ids", "delete-levels-by-location", `{"location_id":5}`, "invalid_type", `{"field":"location_id"}`},
		{"a number for a level to delete", batch, `{"delete":["a",5]}`, "invalid_type", `{"line":2,"field":"delete"}`},
		{"a wrong type in a batch", batch, `{"create":[{"inventory_item_id":"cup","location_id":5}]}`, "invalid_type", `{"part":"create","line":1,"field":"location_id"}`},
		{"a wrong type in a first level", create, `{"location_levels":[{"location_id":"a"},{"location_id":5}]}`, "invalid_type", `{"field":"location_levels.1.location_id"}`},
		{"the same in a line", create, `[{},{"location_levels":[{"location_id":5}]}]`, "invalid_type", `{"line":2,"field":"location_levels.0.location_id"}`},

		{"an unknown field", adjust, cupHas + `"adjustment":1,"adjusted":2}]`, "unknown_field", `{"line":1,"field":"adjusted"}`},
		{"an unknown field of one line", adjust, `{"inventory_item_id":"cup","location_id":"paris","quantity":1}`, "unknown_field", `{"field":"quantity"}`},
		{"an unknown field beside the lines", adjust, `{"updates":[],"force":true}`, "unknown_field", `{"field":"force"}`},
		{"an unknown field beside ids", "delete-inventory-items", `{"id":"cup","force":true}`, "unknown_field", `{"field":"force"}`},
		{"an unknown field of a batch", batch, `{"upsert":[]}`, "unknown_field", `{"field":"upsert"}`},
		{"an unknown field of an expectation", adjust, cupHas + `"adjustment":1,"expect":{"available_quantity":1}}]`, "unknown_field", `{"line":1,"field":"expect.available_quantity"}`},
		{"an unknown field of an address", "create-stock-locations", `[{"name":"x","address":{"zip":"1"}}]`, "unknown_field", `{"line":1,"field":"address.zip"}`},
		{"another case", adjust, `{"Inventory_Item_Id":"cup"}`, "unknown_field", `{"field":"Inventory_Item_Id"}`},
		{"two names of one thing", "attach-inventory-items", `[{"variant_id":"v","tag":"v","inventory_item_id":"cup"}]`, "unknown_field", `{"line":1,"field":"tag"}`},

		{"no item", adjust, `[{"location_id":"paris","adjustment":1}]`, "required", `{"line":1,"field":"inventory_item_id"}`},
		{"no location", adjust, `[{"inventory_item_id":"cup","adjustment":1}]`, "required", `{"line":1,"field":"location_id"}`},
		{"no adjustment", adjust, cupHas + `"adjustment":null}]`, "required", `{"line":1,"field":"adjustment"}`},
		{"no quantity", reserve, cupHas + `"line_item_id":"x"}]`, "required", `{"line":1,"field":"quantity"}`},
		{"no required quantity", "update-inventory-links", `[{"variant_id":"v","inventory_item_id":"cup"}]`, "required", `{"line":1,"field":"required_quantity"}`},
		{"no id", "update-inventory-items", `[{"id":"cup"},{"title":"x"}]`, "required", `{"line":2,"field":"id"}`},
		{"an empty id", "delete-inventory-items", `["cup",""]`, "required", `{"line":2,"field":"id"}`},
		{"null among ids", "delete-inventory-items", `["cup",null]`, "required", `{"line":2,"field":"id"}`},
		{"no ids", "delete-reservations", `{}`, "required", `{"field":"id"}`},
		{"no level named", remove, `{"force":true}`, "required", `{"field":"id"}`},
		{"no level named by an empty list", remove, `{"id":[]}`, "required", `{"field":"id"}`},
		{"no location to clear", "delete-levels-by-location", `{"location_id":[]}`, "required", `{"field":"location_id"}`},
		{"half a pair", "update-inventory-levels", `[{"id":"L","location_id":"paris","stocked_quantity":1}]`, "required", `{"line":1,"field":"inventory_item_id"}`},
		{"no variant", "attach-inventory-items", `[{"inventoryItemId":"cup","tag":""}]`, "required", `{"line":1,"field":"variant_id"}`},
		{"no location of a first level", create, `[{"location_levels":[{"location_id":"a"},{}]}]`, "required", `{"line":1,"field":"location_levels.1.location_id"}`},

		{"no location to link", links, `[{"id":"paris"},{"sales_channels":{"add":["web"]}}]`, "required", `{"line":2,"field":"id"}`},
		{"an empty sales channel", links, `[{"id":"paris","sales_channels":{"add":["web",""]}}]`, "required", `{"line":1,"field":"sales_channels.add.1"}`},
		{"an empty provider", links, `[{"id":"paris","fulfillment_providers":{"add":[null]}}]`, "required", `{"line":1,"field":"fulfillment_providers.add.0"}`},
		{"an empty link to remove", links, `[{"id":"paris","fulfillment_sets":{"remove":["a",""]}}]`, "required", `{"line":1,"field":"fulfillment_sets.remove.1"}`},
		{"a set without a name", links, `[{"id":"paris","fulfillment_sets":{"add":[{"type":"pickup"}]}}]`, "required", `{"line":1,"field":"fulfillment_sets.add.0.name"}`},
		{"a set without a type", links, `[{"id":"paris","fulfillment_sets":{"add":[{"name":"x"}]}}]`, "required", `{"line":1,"field":"fulfillment_sets.add.0.type"}`},
		{"a number for a link", links, `[{"id":"paris","sales_channels":{"add":["web",5]}}]`, "invalid_type", `{"line":1,"field":"sales_channels.add.1"}`},
		{"a list for links", links, `[{"id":"paris","sales_channels":["web"]}]`, "invalid_type", `{"line":1,"field":"sales_channels"}`},
		{"an unknown field of links", links, `[{"id":"paris","sales_channels":{"set":["web"]}}]`, "unknown_field", `{"line":1,"field":"sales_channels.set"}`},
		{"a long link", links, `[{"id":"paris","sales_channels":{"add":["` + long + `"]}}]`, "too_long", `{"line":1,"field":"sales_channels.add.0"}`},
		{"a long set", links, `[{"id":"paris","fulfillment_sets":{"add":[{"id":"` + long + `","name":"x","type":"y"}]}}]`, "too_long", `{"line":1,"field":"fulfillment_sets.add.0.id"}`},

		{"a long id", adjust, `[{"inventory_item_id":"` + long + `","location_id":"paris","adjustment":1}]`, "too_long", `{"line":1,"field":"inventory_item_id"}`},
		{"a long new id", create, `[{"id":"` + long + `"}]`, "too_long", `{"line":1,"field":"id"}`},
		{"a long SKU", create, `[{"sku":"` + long + `"}]`, "too_long", `{"line":1,"field":"sku"}`},
		{"a long title", create, `[{"title":"` + strings.Repeat("x", 16<<10+1) + `"}]`, "too_long", `{"line":1,"field":"title"}`},
		{"huge metadata", create, `[{"metadata":{"a":"` + strings.Repeat("x", 64<<10) + `"}}]`, "too_long", `{"line":1,"field":"metadata"}`},
		{"huge metadata of a reservation", reserve, cupHas + `"quantity":1,"metadata":{"a":"` + strings.Repeat("x", 64<<10) + `"}}]`, "too_long", `{"line":1,"field":"metadata"}`},
		{"a NUL", create, `[{"title":"a\u0000b"}]`, "invalid_text", `{"line":1,"field":"title"}`},
		{"half a surrogate", create, `[{"title":"\ud800"}]`, "malformed_json", `{"line":1,"field":"title"}`},
		{"metadata that is no object", create, `[{"id":"a","metadata":[1]}]`, "invalid_metadata", `{"line":1,"field":"metadata"}`},
		{"metadata of a level that is no object", "update-inventory-levels", cupHas + `"metadata":"x"}]`, "invalid_metadata", `{"line":1,"field":"metadata"}`},

		{"1e400", adjust, cupHas + `"adjustment":1e400}]`, "invalid_quantity", `{"line":1,"field":"adjustment"}`},
		{"1e999999999", adjust, cupHas + `"adjustment":1e999999999}]`, "invalid_quantity", `{"line":1,"field":"adjustment"}`},
		{"NaN in quotes", adjust, cupHas + `"adjustment":"NaN"}]`, "invalid_quantity", `{"line":1,"field":"adjustment"}`},
		{"a number in quotes", adjust, cupHas + `"adjustment":"1"}]`, "invalid_quantity", `{"line":1,"field":"adjustment"}`},
		{"19 digits", adjust, cupHas + `"adjustment":1234567890.123456789}]`, "invalid_quantity", `{"line":1,"field":"adjustment"}`},
		{"19 digits without a point", adjust, cupHas + `"adjustment":1234567890123456789}]`, "invalid_quantity", `{"line":1,"field":"adjustment"}`},
		{
			"19 digits expected", adjust, cupHas + `"adjustment":1,"expect":{"stocked_quantity":1234567890123456789}}]`, "invalid_quantity",
			`{"line":1,"field":"expect.stocked_quantity"}`,
		},
		{"a boolean", adjust, cupHas + `"adjustment":true}]`, "invalid_quantity", `{"line":1,"field":"adjustment"}`},
		{"a quantity in a batch", batch, `{"update":[{"id":"L","stocked_quantity":"x"}]}`, "invalid_quantity", `{"part":"update","line":1,"field":"stocked_quantity"}`},
		{"nothing reserved", reserve, cupHas + `"quantity":0}]`, "invalid_quantity", `{"line":1,"field":"quantity","asked":0}`},
		{"less than nothing reserved", reserve, cupHas + `"quantity":-1}]`, "invalid_quantity", `{"line":1,"field":"quantity","asked":-1}`},
		{"a reservation of nothing", "update-reservations", `[{"id":"R1","quantity":0}]`, "invalid_quantity", `{"line":1,"field":"quantity","asked":0}`},
		{"less than nothing fulfilled", fulfil, `[{"id":"R1","quantity":-1}]`, "invalid_quantity", `{"line":1,"field":"quantity","asked":-1}`},
		{"less than nothing in stock", level, `[{"inventory_item_id":"cup","location_id":"lima","stocked_quantity":-1}]`, "invalid_quantity", `{"line":1,"field":"stocked_quantity"}`},
		{"less than nothing on its way", level, `[{"inventory_item_id":"cup","location_id":"lima","incoming_quantity":-1}]`, "invalid_quantity", `{"line":1,"field":"incoming_quantity"}`},
		{"less than nothing on its way, later", "update-inventory-levels", cupHas + `"incoming_quantity":-1}]`, "invalid_quantity", `{"line":1,"field":"incoming_quantity"}`},
		{"less than no weight", create, `[{"weight":-1}]`, "invalid_quantity", `{"line":1,"field":"weight"}`},
		{"reserved stock from nowhere", level, `[{"inventory_item_id":"cup","location_id":"oslo","reserved_quantity":1}]`, "reserved_is_derived", `{"line":1,"field":"reserved_quantity"}`},
		{"reserved stock from nowhere, in a batch", batch, `{"create":[{"inventory_item_id":"cup","location_id":"oslo","reserved_quantity":1}]}`, "reserved_is_derived", `{"part":"create","line":1,"field":"reserved_quantity"}`},
		{"an empty SKU", create, `[{"sku":""}]`, "invalid_value", `{"line":1,"field":"sku"}`},
		{"an unknown floor", adjust, cupHas + `"adjustment":1,"floor":"cellar"}]`, "invalid_value", `{"line":1,"field":"floor"}`},

		{"an unknown item", adjust, `[{"inventory_item_id":"nope","location_id":"paris","adjustment":1}]`, "not_found", `{"line":1,"inventory_item_id":"nope"}`},
		{"an unknown place", adjust, `[{"inventory_item_id":"cup","location_id":"nowhere","adjustment":1}]`, "not_found", `{"line":1,"inventory_item_id":"cup","location_id":"nowhere"}`},
		{"an unknown reservation", fulfil, `[{"id":"nope"}]`, "not_found", `{"line":1,"reservation_id":"nope"}`},
		{"an unknown level", "update-inventory-levels", `[{"id":"nope"}]`, "not_found", `{"line":1,"level_id":"nope"}`},
		{"a level that is there", level, `[{"inventory_item_id":"cup","location_id":"paris"}]`, "level_exists", `{"line":1,"inventory_item_id":"cup","location_id":"paris","level_id":"L1"}`},
		{"a level with stock", remove, `{"id":"L2"}`, "level_has_stock", `{"line":1,"location_id":"oslo","stocked":3}`},
		{"a level with reservations", remove, `{"id":"L1","force":true}`, "level_has_reservations", `{"line":1,"location_id":"paris","reserved":2}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newShop(t)
			for _, g := range after(cupAtThree, twoReserved) {
				s.do(g.name, g.body)
			}
			head, rows := s.head(), s.rows()
			_, err := s.try(tc.command, tc.body, commands.Envelope{Key: "k"})
			requireRefused(t, tc.code, tc.details, err)
			public := fault.Public(err)
			require.NotEmpty(t, public.Message)
			require.NotContains(t, public.Message, "''", "no field without a name")
			require.NotContains(t, public.Message, "commands.", "no type of ours")
			_, err = json.Marshal(public)
			require.NoError(t, err)
			require.Equal(t, head, s.head(), "a refusal records nothing")
			require.Equal(t, rows, s.rows(), "a refusal changes nothing")
		})
	}
}

func TestATextWithANULIsToldApartFromOneThatIsNotUTF8(t *testing.T) {
	s := newShop(t)
	require.Equal(t, "Field 'title' must not contain NUL", s.refuse("invalid_text", "create-inventory-items", `{"title":"a\u0000b"}`).Message)
}

func TestACommandHasAtMost20000Lines(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 0)
	lines := func(n int, line string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(line+",", n), ",") + "]"
	}
	const (
		adjust = `{"inventory_item_id":"cup","location_id":"paris","adjustment":1}`
		level  = `{"inventory_item_id":"cup","location_id":"oslo"}`
	)
	for name, body := range map[string]string{
		"adjust-inventory-levels":     lines(commands.MaxLines+1, adjust),
		"delete-reservations":         lines(commands.MaxLines+1, `"r"`),
		"batch-inventory-item-levels": fmt.Sprintf(`{"create":%s,"delete":%s}`, lines(commands.MaxLines/2, level), lines(commands.MaxLines/2+1, `"L"`)),
		"bulk-create-delete-levels":   fmt.Sprintf(`{"creates":%s,"deletes":%s}`, lines(commands.MaxLines/2, level), lines(commands.MaxLines/2+1, level)),
		"delete-inventory-levels":     fmt.Sprintf(`{"id":%s,"ids":%s}`, lines(commands.MaxLines/2, `"L"`), lines(commands.MaxLines/2+1, `"L"`)),
		"create-inventory-items":      fmt.Sprintf(`{"location_levels":%s}`, lines(commands.MaxLines, `{"location_id":"a"}`)),
		"batch-inventory-links": fmt.Sprintf(`{"create":%s,"delete":%s}`,
			lines(commands.MaxLines/2, `{"variant_id":"v","inventory_item_id":"cup"}`), lines(commands.MaxLines/2+1, `{"variant_id":"v","inventory_item_id":"cup"}`)),
		"delete-reservations-by-location": lines(commands.MaxLines+1, `"r"`),
		"update-stock-location-links": fmt.Sprintf(`{"id":"a","sales_channels":{"add":%s},"fulfillment_providers":{"remove":%s}}`,
			lines(commands.MaxLines/2, `"c"`), lines(commands.MaxLines/2, `"p"`)),
	} {
		s.refuse("too_many_lines", name, body)
	}
	answer := s.do("adjust-inventory-levels", lines(commands.MaxLines, adjust))
	rows := result[[]commands.LevelRow](t, answer)
	require.Len(t, rows, commands.MaxLines)
	require.Equal(t, "20000", s.level("cup", "paris").StockedQuantity.String())
	require.EqualValues(t, commands.MaxLines+2, s.head())
}

func TestADigestDoesNotDependOnHowACommandIsWritten(t *testing.T) {
	for _, same := range []struct {
		name   string
		bodies []string
	}{
		{"adjust-inventory-levels", []string{
			cupHas + `"adjustment":1.5}]`,
			` [ { "adjustment" : 15e-1 , "location_id":"par\u0069s","inventory_item_id":"cup"}]`,
			`{"updates":[{"inventory_item_id":"cup","location_id":"paris","adjustment":1.50}]}`,
			`{"inventory_item_id":"cup","location_id":"paris","adjustment":1.5}`,
			cupHas + `"adjustment":1.5,"expect":null}]`,
		}},
		{"create-inventory-items", []string{
			`{"metadata":{"a":{"x":1,"y":[1, 2]},"b":2}}`,
			`[{"metadata": {"b":2, "a":{"y":[1,2],"x":1} } }]`,
			`{"items":[{"id":"","metadata":{"b":2,"a":{"y":[1,2],"x":1}}}]}`,
		}},
		{"delete-inventory-items", []string{`"cup"`, `["cup"]`, `{"id":"cup"}`, `{"id":["cup"]}`, `{"ids":["cup"]}`, `{"ids":"cup"}`}},
		{"attach-inventory-items", []string{
			`[{"variant_id":"v","inventory_item_id":"cup"}]`, `{"links":[{"inventory_item_id":"cup","variant_id":"v"}]}`,
		}},
	} {
		first := digest(t, same.name, same.bodies[0])
		for _, body := range same.bodies[1:] {
			require.Equal(t, first, digest(t, same.name, body), "%s %s", same.name, body)
		}
	}
	differ := map[string]string{}
	for _, c := range []step{
		{"adjust-inventory-levels", cupHas + `"adjustment":1}]`},
		{"adjust-inventory-levels", cupHas + `"adjustment":-1}]`},
		{"adjust-inventory-levels", cupHas + `"adjustment":1,"floor":"none"}]`},
		{"adjust-inventory-levels", cupHas + `"adjustment":1,"expect":{"version":1}}]`},
		{"adjust-inventory-levels", cupHas + `"adjustment":1},` + cupHas2 + `"adjustment":1}]`},
		{"delete-inventory-items", `"cup"`},
		{"restore-inventory-items", `"cup"`},
		{"update-inventory-items", `{"id":"cup"}`},
		{"update-inventory-items", `{"id":"cup","title":null}`},
		{"update-inventory-items", `{"id":"cup","title":""}`},
		{"update-inventory-items", `{"id":"cup","metadata":{"a":1}}`},
		{"update-inventory-items", `{"id":"cup","metadata":{"a":2}}`},
	} {
		d := digest(t, c.name, c.body)
		require.Empty(t, differ[d], "%s %s", c.name, c.body)
		differ[d] = c.name + c.body
	}
}

func digest(t testing.TB, name, body string) string {
	t.Helper()
	command, err := commands.Decode(name, []byte(body))
	require.NoError(t, err, "%s %s", name, body)
	sum, err := commands.Digest(command)
	require.NoError(t, err)
	return sum
}

// Whatever arrives is decoded or refused with a name; what is decoded has a
// digest, and so has the same command written by us.
func FuzzDecode(f *testing.F) {
	names := commands.Names()
	for _, family := range families {
		for _, sc := range family {
			for i, name := range names {
				if name == sc.when.name {
					f.Add(i, []byte(sc.when.body))
				}
			}
		}
	}
	for i := range names {
		for _, body := range []string{``, `null`, `[]`, `{}`, `[null]`, `[[]]`, `"x"`, `{"id":[""]}`, `[{"expect":{}}]`, "\xff", `{"a":1,"a":2}`} {
			f.Add(i, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		name := names[uint(which)%uint(len(names))]
		command, err := commands.Decode(name, body)
		if err != nil {
			refusal := fault.Of(err)
			require.Equal(t, fault.Invalid, refusal.Kind, "%v", err)
			require.NotEmpty(t, refusal.Code)
			return
		}
		require.Equal(t, name, command.Name())
		_, err = commands.Digest(command)
		require.NoError(t, err)
	})
}

// What a person reads who sent JSON of another kind than there must be.
func TestRefusalsSayWhatWasSent(t *testing.T) {
	for body, says := range map[string]string{
		`[{"sku":{}}]`:                  "Expected type: 'string' for field 'sku', got: 'object'",
		`[{"title":[]}]`:                "Expected type: 'string' for field 'title', got: 'array'",
		`[{"requires_shipping":"yes"}]`: "Expected type: 'boolean' for field 'requires_shipping', got: 'string'",
		`[{"sku":true}]`:                "Expected type: 'string' for field 'sku', got: 'boolean'",
		`[["cup"]]`:                     "Expected type: 'object', got: 'array'",
	} {
		_, err := commands.Decode("create-inventory-items", []byte(body))
		require.EqualError(t, err, says)
	}
}

package medusaapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/httpapi"
)

// ids are the ids of the rows in an answer.
func (r reply) ids(t testing.TB, name string) []string {
	t.Helper()
	require.Equal(t, 200, r.status, r.body)
	rows, ok := r.value(t, name).([]any)
	require.True(t, ok, r.body)
	found := []string{}
	for i := range rows {
		found = append(found, r.text(t, name, i, "id"))
	}
	require.EqualValues(t, len(found), mustNumber(t, r.value(t, "count")), r.body)
	return found
}

// TestFilters finds the mug alone, both items, or neither, by what is asked.
func TestFilters(t *testing.T) {
	s := stocked(t)
	for name, lists := range map[string]map[string]string{
		"inventory_items": {
			"":                                       "mug bowl",
			"q=MUG":                                  "mug",
			"q=soup":                                 "bowl",
			"q=clay":                                 "",
			"id=mug":                                 "mug",
			"id[]=mug&id[]=bowl":                     "mug bowl",
			"id[]=mug,bowl":                          "mug bowl",
			"id[0]=bowl&id[1]=cup":                   "bowl",
			"id=mug&id=bowl":                         "mug bowl",
			"sku=BOWL-1":                             "bowl",
			"sku[]=BOWL-1&sku[]=x":                   "bowl",
			"origin_country=UK":                      "mug",
			"mid_code=m":                             "",
			"hs_code=hs1":                            "mug",
			"material=clay":                          "mug",
			"requires_shipping=true":                 "mug",
			"requires_shipping=FALSE":                "bowl",
			"weight=0.25":                            "mug",
			"weight=0.250":                           "mug",
			"weight[]=1&weight[]=0.25":               "mug",
			"weight[$gt]=0.24&weight[$lte]=0.25":     "mug",
			"weight[$gt]=0.25":                       "",
			"weight[$in][]=0.25&weight[$in][]=3":     "mug",
			"weight[$in]=0.25":                       "mug",
			"weight[$nin][]=0.25":                    "",
			"length[$gte]=0":                         "",
			"height[$ne]=3":                          "",
			"width[$lt]=3":                           "",
			"location_levels[location_id]=paris":     "mug",
			"location_levels.location_id=paris":      "mug",
			"location_levels[location_id][]=mars":    "",
			"location_levels[location_id][0]=oslo":   "mug",
			"$or[0][sku]=MUG-1&$or[1][sku]=BOWL-1":   "mug bowl",
			"$and[0][sku]=MUG-1&$and[1][id]=bowl":    "",
			"$or[0][weight][$gt]=0&$or[1][id][]=cup": "mug",
			"stocked_quantity[$gte]=15.5":            "mug",
			"stocked_quantity=0":                     "bowl",
			"reserved_quantity[$gt]=0":               "mug",
			"available_quantity[$lt]=12.5":           "bowl",
			"available_quantity=12.5":                "mug",
			"order=sku":                              "bowl mug",
			"order=-sku":                             "mug bowl",
			"order=available_quantity":               "bowl mug",
			"order=-stocked_quantity":                "mug bowl",
			"order=created_at":                       "mug bowl",
			"with_deleted=true":                      "mug bowl",
			"with_deleted=false":                     "mug bowl",
		},
		"inventory_levels": {
			"":                                         "ilev_paris ilev_oslo",
			"location_id=oslo":                         "ilev_oslo",
			"location_id[]=oslo&location_id[]=paris":   "ilev_paris ilev_oslo",
			"$or[0][location_id]=oslo":                 "ilev_oslo",
			"$and[0][location_id][]=oslo":              "ilev_oslo",
			"stocked_quantity[$gt]=5":                  "ilev_paris",
			"reserved_quantity=3":                      "ilev_paris",
			"incoming_quantity[$gt]=0":                 "ilev_oslo",
			"available_quantity[$lt]=7":                "ilev_oslo",
			"order=available_quantity":                 "ilev_oslo ilev_paris",
			"order=-stocked_quantity":                  "ilev_paris ilev_oslo",
			"fields=*stock_locations,*inventory_item":  "ilev_paris ilev_oslo",
			"available_quantity[$in][]=5&order=-order": "400",
		},
		"reservations": {
			"":                           "res_1",
			"q=MUG":                      "res_1",
			"q=gift":                     "res_1",
			"q=line_1":                   "",
			"location_id=paris":          "res_1",
			"location_id[]=oslo":         "",
			"inventory_item_id=mug":      "res_1",
			"line_item_id[]=line_1":      "res_1",
			"created_by=anna":            "res_1",
			"created_by=bert":            "",
			"description=gift":           "res_1",
			"description[$ilike]=GI%25":  "res_1",
			"description[$like]=x%25":    "",
			"quantity=3":                 "res_1",
			"quantity[$gt]=3":            "",
			"quantity[$gte]=3":           "res_1",
			"created_at[$gt]=2026-01-01": "res_1",
			"created_at[$lt]=2026-01-01T00:00:00.000Z":    "",
			"updated_at[$gt]=2026-01-01T00:00:00%2B02:00": "res_1",
			"deleted_at[$gt]=2026-01-01":                  "",
			"order=-quantity":                             "res_1",
		},
		"stock_locations": {
			"":                                 "paris oslo",
			"q=ari":                            "paris",
			"id=oslo":                          "oslo",
			"id[]=oslo&id[]=rome":              "oslo",
			"name=Oslo":                        "oslo",
			"name[]=Oslo&name[]=Paris":         "paris oslo",
			"address_id=laddr_paris":           "paris",
			"address_id[]=laddr_mars&id=paris": "",
			"address_id=paris":                 "",
			"address_id=laddr_oslo":            "",
			"address_id=laddr_sloc_paris":      "",
			"address_id=laddr_paris&id=oslo":   "",
			"address_id=laddr_paris&$and[0][name]=Oslo":               "",
			"sales_channel_id=sc_1":                                   "oslo",
			"sales_channel_id[]=sc_2":                                 "",
			"sales_channel_id=sc_1&id=paris":                          "",
			"created_at[$gt]=2026-01-01":                              "paris oslo",
			"updated_at[$lt]=2026-01-01":                              "",
			"deleted_at[$gt]=2026-01-01":                              "",
			"$or[0][name]=Oslo&$or[1][q]=Par":                         "400",
			"$or[0][name]=Oslo&$or[1][id]=paris":                      "paris oslo",
			"order=name":                                              "oslo paris",
			"with_deleted=true":                                       "paris oslo rome",
			"with_deleted=true&deleted_at[$gt]=1":                     "400",
			"with_deleted=true&deleted_at[$gt]=2026-01-01&order=name": "rome",
		},
	} {
		path := map[string]string{
			"inventory_items": "/admin/inventory-items", "inventory_levels": "/admin/inventory-items/mug/location-levels",
			"reservations": "/admin/reservations", "stock_locations": "/admin/stock-locations",
		}[name]
		require.Equal(t, 200, s.ask(t, "POST /admin/stock-locations/oslo/sales-channels", `{"add": ["sc_1"], "remove": ["sc_2"]}`).status)
		require.Equal(t, 200, s.ask(t, "POST /admin/stock-locations/paris/fulfillment-providers", `{"add": ["sc_1"]}`).status)
		for query, want := range lists {
			t.Run(name+"?"+query, func(t *testing.T) {
				got := s.ask(t, "GET "+path+"?"+escaped(query), "")
				if want == "400" {
					require.Equal(t, 400, got.status, got.body)
					require.Equal(t, "invalid_data", got.text(t, "type"))
					return
				}
				require.Equal(t, want, strings.Join(got.ids(t, name), " "))
			})
		}
	}
}

// escaped writes brackets as clients do.
func escaped(query string) string {
	return strings.NewReplacer("[", "%5B", "]", "%5D", "$", "%24").Replace(query)
}

func TestWhatIsWrongWithAQueryIsToldAsMedusaDoes(t *testing.T) {
	s := stocked(t)
	const list = "GET /admin/inventory-items?"
	for request, want := range map[string]string{
		list + "title=x&sku=y&metadata[a]=b":            invalid("Unrecognized fields: 'title, metadata'"),
		list + "limit=abc":                              invalid("Expected type: 'number' for field 'limit', got: 'abc'"),
		list + "limit=20items":                          invalid("Expected type: 'number' for field 'limit', got: '20items'"),
		list + "limit=-1":                               invalid("Value for field 'limit' too small, expected at least: '0'"),
		list + "limit=10001":                            invalid("Value for field 'limit' too big, expected at most: '10000'"),
		list + "offset=-1":                              invalid("Value for field 'offset' too small, expected at least: '0'"),
		list + "offset[]=1&limit=x&order[]=a&fields[]=": invalid("Expected type: 'string' for field 'fields', got: ''; Expected type: 'number' for field 'offset', got: '1'; Expected type: 'number' for field 'limit', got: 'x'"),
		list + "with_deleted=maybe":                     invalid("Expected type: 'boolean' for field 'with_deleted', got: 'maybe'"),
		list + "requires_shipping=maybe":                invalid("Invalid input"),
		list + "id[a]=b":                                invalid("Expected type: 'string, array' for field 'id', got: '[object Object]'"),
		list + "weight=heavy":                           invalid("Expected type: 'number' for field 'weight', got: 'heavy'"),
		list + "weight[$gt]=heavy":                      invalid("Expected type: 'number' for field 'weight, $gt', got: 'heavy'"),
		list + "weight[$gt][]=1":                        invalid("Expected type: 'number' for field 'weight, $gt', got: '1'"),
		list + "weight[$gtt]=1":                         invalid("Unrecognized fields: '$gtt'"),
		list + "location_levels=paris":                  invalid("Expected type: 'object' for field 'location_levels', got: 'paris'"),
		list + "location_levels[metadata]=1":            invalid("Unrecognized fields: 'metadata'"),
		list + "$or=1":                                  invalid("Expected type: 'array' for field '$or', got: '1'"),
		list + "$or[]=1":                                invalid("Expected type: 'object' for field '$or, 0', got: '1'"),
		list + "$or[0][title]=1":                        invalid("Unrecognized fields: 'title'"),
		list + "fields=nonsense,location_levels.no":     invalid("Unrecognized fields: 'nonsense, location_levels.no'"),
		list + "a.b.c=1":                                refusal("invalid_data", "Key accessor more than 2 levels deep: a.b.c"),
		list + "sku=a&sku[x]=b":                         refusal("invalid_data", "the query gives a parameter in two ways that do not go together"),
		list + "sku.b=1&sku=a":                          refusal("invalid_data", "the query gives a parameter in two ways that do not go together"),
		list + "sku=a&sku.b=1":                          refusal("invalid_data", "the query gives a parameter in two ways that do not go together"),
		list + "weight.$gt=1&weight[$gt]=2":             refusal("invalid_data", "the query gives a parameter in two ways that do not go together"),
		list + "sku[x":                                  refusal("invalid_data", `the query names "sku[x": a bracket is not closed`),
		list + "a[b][c][d][e][f][g]=1":                  refusal("invalid_data", `the query names "a[b][c][d][e][f][g]": more than 5 levels deep`),
		list + strings.Repeat("a=1&", 1001):             refusal("invalid_data", "the query has more than 1000 parameters"),
		list + "sku=%zz":                                refusal("invalid_data", `the query is not well-formed: invalid URL escape "%zz"`),

		"GET /admin/inventory-items/mug?limit=1":                    invalid("Unrecognized fields: 'limit'"),
		"GET /admin/reservations?id=res_1":                          invalid("Unrecognized fields: 'id'"),
		"GET /admin/reservations?$or[0][quantity]=1":                invalid("Unrecognized fields: '$or'"),
		"GET /admin/reservations?created_at[$gt]=yesterday":         invalid("Expected type: 'string' for field 'created_at, $gt', got: 'yesterday'"),
		"GET /admin/reservations?quantity[a]=1":                     invalid("Unrecognized fields: 'a'"),
		"GET /admin/inventory-items/mug/location-levels?quantity=1": invalid("Unrecognized fields: 'quantity'"),
		"DELETE /admin/inventory-items/mug?force=true":              invalid("Unrecognized fields: 'force'"),
		"GET /admin/stock-locations?sales_channel_id[a]=1":          invalid("Expected type: 'string, array' for field 'sales_channel_id', got: '[object Object]'"),
	} {
		t.Run(request[:min(len(request), 80)], func(t *testing.T) {
			got := s.ask(t, strings.NewReplacer(" ", " ", "[", "%5B", "]", "%5D").Replace(request), "")
			require.Equal(t, 400, got.status, got.body)
			same(t, want, got.body)
		})
	}
	got := s.ask(t, list+"order=nonsense", "")
	require.Equal(t, 400, got.status, "where Medusa fails with 500")
	require.Equal(t, "invalid_data", got.text(t, "type"))
}

func TestFields(t *testing.T) {
	s := stocked(t)
	const one = "GET /admin/inventory-items/mug?fields="
	for fields, want := range map[string]string{
		"sku":                                    `{"id": "mug", "sku": "MUG-1"}`,
		"sku,-title":                             `{"id": "mug", "sku": "MUG-1", "title": "Mug"}`, // a plain name replaces, and then - means nothing
		"id,location_levels.stocked_quantity":    `{"id": "mug", "location_levels": [{"id": "ilev_paris", "stocked_quantity": 10.5}, {"id": "ilev_oslo", "stocked_quantity": 5}]}`,
		"sku,*location_levels":                   `{"id": "mug", "sku": "MUG-1", "location_levels": [` + parisIn + `, ` + osloIn + `]}`,
		"sku,location_levels.*":                  `{"id": "mug", "sku": "MUG-1", "location_levels": [` + parisIn + `, ` + osloIn + `]}`,
		"*location_levels":                       mug,
		"":                                       `{"id": "mug"}`,
		"%2Bdeleted_at,-location_levels,-sku":    strings.Replace(`{`+mugScalars+`, "deleted_at": null}`, `"sku": "MUG-1",`, ``, 1),
		"+deleted_at,-location_levels":           `{` + mugScalars + `, "deleted_at": null}`,
		"-metadata,-created_at,-location_levels": strings.NewReplacer(`"metadata": {"colour": "blue"}, `, ``, `"created_at": "<time>", `, ``).Replace(`{` + mugScalars + `}`),
		"sku,*variants":                          `{"id": "mug", "sku": "MUG-1", "variants": [{"id": "set"}]}`,
		"sku,variants.title,variants.*":          `{"id": "mug", "sku": "MUG-1", "variants": [{"id": "set"}]}`,
		"sku,*variants.inventory_items":          `{"id": "mug", "sku": "MUG-1", "variants": [{"id": "set", "inventory_items": [{"variant_id": "set", "inventory_item_id": "mug", "required_quantity": 2}]}]}`,
		"available_quantity,incoming_quantity,unit_of_measure": `{"id": "mug", "available_quantity": 12.5, "incoming_quantity": 2, "unit_of_measure": null}`,
		"id,*reservation_items": `{"id": "mug", "reservation_items": [{"id": "res_1", "location_id": "paris", "inventory_item_id": "mug", "quantity": 3,
			"line_item_id": "line_1", "description": "gift", "metadata": null, "created_at": "<time>", "updated_at": "<time>",
			"allow_backorder": false, "external_id": null, "created_by": "anna", "deleted_at": null}]}`,
	} {
		t.Run(fields, func(t *testing.T) { same(t, item(want), s.ask(t, one+fields, "").body) })
	}
	same(t, `{"reservation": {"id": "res_1", "allow_backorder": false, "external_id": null, "created_by": "anna", "deleted_at": null, "inventory_item": {"id": "mug", "sku": "MUG-1"}}}`,
		s.ask(t, "GET /admin/reservations/res_1?fields=allow_backorder,external_id,created_by,deleted_at,inventory_item.sku", "").body)
	same(t, `{"inventory_levels": [{"id": "ilev_oslo", "inventory_item": {`+mugScalars+`, "deleted_at": null, "unit_of_measure": null, "incoming_quantity": 2,
		"available_quantity": 12.5}, "stock_locations": [{"id": "oslo", "name": "Oslo"}]}], "count": 1, "offset": 0, "limit": 50}`,
		s.ask(t, "GET /admin/inventory-items/mug/location-levels?location_id=oslo&fields=id,*inventory_item,stock_locations.name", "").body)
	same(t, `{"stock_location": {"id": "paris", "address": {"id": "laddr_paris", "company": "Four"}, "address_id": "laddr_paris", "deleted_at": null}}`,
		s.ask(t, "GET /admin/stock-locations/paris?fields=address.company,address_id,deleted_at", "").body)
}

// TestAWholeListIsReadPageByPage asks for more rows than the read models give at
// once: clients of Medusa ask for 9999 where they mean all.
func TestAWholeListIsReadPageByPage(t *testing.T) {
	s := open(t)
	var lines []string
	for i := range 2345 {
		lines = append(lines, fmt.Sprintf(`{"id": "item_%04d", "weight": %d}`, i, i%7))
	}
	s.do(t, "create-inventory-items", `[`+strings.Join(lines, ",")+`]`)
	for query, want := range map[string][3]int{ // rows, the first, the last
		"limit=9999":                           {2345, 0, 2344},
		"limit=9999&offset=1001":               {1344, 1001, 2344},
		"limit=1500&offset=20":                 {1500, 20, 1519},
		"limit=1000":                           {1000, 0, 999},
		"limit=0":                              {},
		"":                                     {20, 0, 19},
		"limit=9999&order=-id":                 {2345, 2344, 0},
		"limit=9999&order=id&weight[$gte]=0":   {2345, 0, 2344},
		"limit=3&offset=2344":                  {1, 2344, 2344},
		"limit=9999&offset=5000&order=-weight": {},
	} {
		got := s.ask(t, "GET /admin/inventory-items?fields=id&"+escaped(query), "")
		require.Equal(t, 200, got.status, got.body)
		rows, ok := got.value(t, "inventory_items").([]any)
		require.True(t, ok)
		require.Len(t, rows, want[0], query)
		require.EqualValues(t, 2345, mustNumber(t, got.value(t, "count")), query)
		seen := make(map[any]bool)
		for _, row := range rows {
			seen[row.(map[string]any)["id"]] = true
		}
		require.Len(t, seen, len(rows), query)
		if len(rows) > 0 {
			require.Equal(t, fmt.Sprintf("item_%04d", want[1]), got.text(t, "inventory_items", 0, "id"), query)
			require.Equal(t, fmt.Sprintf("item_%04d", want[2]), got.text(t, "inventory_items", len(rows)-1, "id"), query)
		}
		asked, err := url.ParseQuery(query)
		require.NoError(t, err)
		for name, otherwise := range map[string]string{"limit": "20", "offset": "0"} {
			if given := asked.Get(name); given != "" {
				otherwise = given
			}
			require.Equal(t, otherwise, mustJSON(got.value(t, name)), query)
		}
	}
}

func TestBodies(t *testing.T) {
	s := stocked(t)
	const create, change = "POST /admin/inventory-items", "POST /admin/inventory-items/bowl"
	for body, want := range map[string]string{
		`{"sku": 1, "weight": "1", "title": [1, null, "a"], "metadata": "m"}`: invalid("Expected type: 'string' for field 'sku', got: '1'; Expected type: 'number' for field 'weight', got: '1'; Expected type: 'string' for field 'title', got: '1,,a'"),
		`{"requires_shipping": null}`:                                         invalid("Expected type: 'boolean' for field 'requires_shipping', got: 'null'"),
		`{"metadata": [], "thumbnail": {}, "requires_shipping": "true"}`:      invalid("Expected type: 'boolean' for field 'requires_shipping', got: 'true'; Expected type: 'string' for field 'thumbnail', got: '[object Object]'; Expected type: 'record' for field 'metadata', got: ''"),
		`{"id": "x", "unit_of_measure": "kg", "sku": "s"}`:                    invalid("Unrecognized fields: 'id, unit_of_measure'"),
		`{"sku": "a", "sku": "b"}`:                                            refusal("invalid_data", "<any>"),
		`{"sku": "a"} x`:                                                      refusal("invalid_data", "<any>"),
		`{"sku": "a"}{}`:                                                      refusal("invalid_data", "<any>"),
		`{"sku": "a\u0000"}`:                                                  refusal("invalid_data", "Field 'sku' must not contain NUL"),
		`{"sku": "a"`:                                                         refusal("invalid_data", "<any>"),
		`[]`:                                                                  invalid("Expected type: 'object', got: ''"),
		`"a"`:                                                                 invalid("Expected type: 'object', got: 'a'"),
		`{"weight": 1234567890123456789}`:                                     invalid("Field 'weight': not a quantity: 1234567890123456789 has more than 18 digits"),
		`{"weight": 1e999999999}`:                                             refusal("invalid_data", "<any>"),
		`{"title": "` + strings.Repeat("x", 16<<10+1) + `"}`:                  refusal("invalid_data", "Field 'title' has 16385 bytes, at most 16384 are allowed"),
		`{"sku": ""}`:                                                         refusal("invalid_data", "<any>"),
		`{"sku": 123456789012345678901234567890, "a": 1, "b": 2}`: invalid("Expected type: 'string' for field 'sku', got: '123456789012345678901234567890'; Unrecognized fields: 'a, b'"),
	} {
		for _, send := range []string{create, change} {
			got := s.ask(t, send, body)
			require.Equal(t, 400, got.status, body)
			same(t, want, got.body)
		}
	}
	require.Contains(t, s.ask(t, create, `{"sku": "a"} x`).text(t, "message"), "invalid character 'x' after top-level value")
	got := s.ask(t, create, `{"sku": "s"}`, "Content-Type", "text/plain")
	require.Equal(t, 400, got.status)
	same(t, invalid("send the body as application/json"), got.body)
	require.Equal(t, 200, s.ask(t, create, `{"sku": "s"}`, "Content-Type", "application/json; charset=utf-8").status)

	got = s.ask(t, create, `{"sku": "`+strings.Repeat("x", httpapi.MaxBody)+`"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
	require.Equal(t, "invalid_data", got.text(t, "type"))
}

func mustNumber(t testing.TB, v any) int64 {
	t.Helper()
	number, ok := v.(interface{ Int64() (int64, error) })
	require.True(t, ok, "%v", v)
	n, err := number.Int64()
	require.NoError(t, err)
	return n
}

func TestAnAddressIsFoundByItsOwnIdAlone(t *testing.T) {
	s := open(t)
	s.do(t, "create-stock-locations", `{"id": "sloc_lima", "name": "Lima", "address": {"address_1": "1", "country_code": "pe"}}`)
	require.Equal(t, "laddr_lima", s.ask(t, "GET /admin/stock-locations/sloc_lima", "").text(t, "stock_location", "address", "id"))
	for id, want := range map[string]string{"laddr_lima": "1", "laddr_sloc_lima": "0", "lima": "0", "sloc_lima": "0"} {
		require.Equal(t, want, fmt.Sprint(s.ask(t, "GET /admin/stock-locations?address_id="+id, "").value(t, "count")), id)
	}
}

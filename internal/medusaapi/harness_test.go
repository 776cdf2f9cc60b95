package medusaapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/medusaapi"
)

var quiet = slog.New(slog.DiscardHandler)

// shop is a ledger behind Medusa's routes.
type shop struct {
	ledger  *stockledger.Ledger
	exports *medusaapi.Exports
	routes  []httpapi.Route
	mux     *http.ServeMux
}

// open opens an empty ledger of its own.
func open(t testing.TB) *shop {
	t.Helper()
	ledger, err := stockledger.Open(t.Context(), stockledger.Config{Dir: t.TempDir(), Logger: quiet})
	require.NoError(t, err)
	exports, err := medusaapi.OpenExports(t.TempDir(), ledger.Models(), quiet)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, exports.Close())
		require.NoError(t, ledger.Close())
	})
	s := &shop{ledger: ledger, exports: exports}
	s.mount(ledger)
	return s
}

// mount makes the routes those on a ledger.
func (s *shop) mount(ledger medusaapi.Ledger) {
	s.routes = medusaapi.Routes(ledger, medusaapi.Config{Exports: s.exports, Logger: quiet})
	s.mux = http.NewServeMux()
	for _, r := range s.routes {
		s.mux.HandleFunc(r.Method+" "+r.Path, r.Handler)
	}
}

// stock is the ledger that the tests begin with.
var stock = []struct{ command, body string }{
	{"create-stock-locations", `[{"id": "paris", "name": "Paris", "address": {"address_1": "1 rue du Four", "country_code": "fr", "company": "Four"}},
		{"id": "oslo", "name": "Oslo", "metadata": {"docks": 2}}, {"id": "rome", "name": "Rome"}]`},
	{"delete-stock-locations", `"rome"`},
	{"create-inventory-items", `[{"id": "mug", "sku": "MUG-1", "title": "Mug", "origin_country": "UK", "hs_code": "hs1", "material": "clay",
		"weight": 0.25, "metadata": {"colour": "blue"}}, {"id": "bowl", "sku": "BOWL-1", "description": "for soup", "requires_shipping": false}]`},
	{"create-inventory-levels", `[{"id": "ilev_paris", "inventory_item_id": "mug", "location_id": "paris", "stocked_quantity": 10.5},
		{"id": "ilev_oslo", "inventory_item_id": "mug", "location_id": "oslo", "stocked_quantity": 5, "incoming_quantity": 2}]`},
	{"create-reservations", `{"id": "res_1", "inventory_item_id": "mug", "location_id": "paris", "quantity": 3, "line_item_id": "line_1",
		"description": "gift", "created_by": "anna"}`},
	{"attach-inventory-items", `{"variant_id": "set", "inventory_item_id": "mug", "required_quantity": 2}`},
}

// stocked opens a ledger that holds what tests begin with.
func stocked(t testing.TB) *shop {
	t.Helper()
	s := open(t)
	for _, c := range stock {
		s.do(t, c.command, c.body)
	}
	return s
}

// do carries out a command and waits until it can be read.
func (s *shop) do(t testing.TB, command, body string) {
	t.Helper()
	answer, err := s.ledger.DoJSON(t.Context(), commands.Envelope{}, command, []byte(body))
	require.NoError(t, err)
	require.NoError(t, s.ledger.Models().WaitFor(t.Context(), answer.Position))
}

type reply struct {
	status int
	header http.Header
	body   string
}

// ask sends a request, such as "GET /admin/inventory-items". Headers are names and
// values, alternating.
func (s *shop) ask(t testing.TB, request, body string, headers ...string) reply {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, r)
	got, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return reply{w.Code, w.Result().Header, string(got)}
}

// value finds what is at a path in an answer, such as "inventory_item", "id".
func (r reply) value(t testing.TB, path ...any) any {
	t.Helper()
	v := decode(t, r.body)
	for _, step := range path {
		switch step := step.(type) {
		case string:
			members, ok := v.(map[string]any)
			require.True(t, ok, "%v in %s", path, r.body)
			v = members[step]
		case int:
			elements, ok := v.([]any)
			require.True(t, ok && step < len(elements), "%v in %s", path, r.body)
			v = elements[step]
		}
	}
	return v
}

func (r reply) text(t testing.TB, path ...any) string {
	t.Helper()
	text, ok := r.value(t, path...).(string)
	require.True(t, ok, "%v in %s", path, r.body)
	return text
}

// decode reads JSON with its numbers as they are written.
func decode(t testing.TB, text string) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&v), "%s", text)
	return v
}

// same compares an answer with the one wanted, in which "<time>" is any time,
// "<id:iitem_>" any id that begins so, and "<any>" anything at all.
func same(t testing.TB, want, got string) {
	t.Helper()
	wanted, found := decode(t, want), decode(t, got)
	require.Equal(t, wanted, masked(wanted, found), "got %s", got)
}

var idMask = regexp.MustCompile(`^<id:(.*)>$`)

// masked is found with what want has masks for replaced by the masks.
func masked(want, found any) any {
	switch w := want.(type) {
	case string:
		text, isText := found.(string)
		if w == "<any>" {
			return w
		}
		if w == "<time>" && isText {
			if _, err := time.Parse(time.RFC3339Nano, text); err == nil {
				return w
			}
		}
		if id := idMask.FindStringSubmatch(w); id != nil && isText && strings.HasPrefix(text, id[1]) && len(text) > len(id[1]) {
			return w
		}
	case []any:
		if f, ok := found.([]any); ok && len(f) == len(w) {
			for i := range f {
				f[i] = masked(w[i], f[i])
			}
		}
	case map[string]any:
		if f, ok := found.(map[string]any); ok {
			for name := range f {
				if inner, there := w[name]; there {
					f[name] = masked(inner, f[name])
				}
			}
		}
	}
	return found
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

package httpapi_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	openapirouters "github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

// described finds what the document of a server says of a request.
func (s *shop) described(t testing.TB) openapirouters.Router {
	t.Helper()
	routers.Lock()
	defer routers.Unlock()
	text := s.documentText(t)
	known, found := routers.of[string(text)]
	if !found {
		doc, err := openapi3.NewLoader().LoadFromData(text)
		require.NoError(t, err)
		known, err = gorillamux.NewRouter(doc)
		require.NoError(t, err)
		routers.of[string(text)] = known
	}
	return known
}

// routers are those of documents that were read before.
var routers = struct {
	sync.Mutex
	of map[string]openapirouters.Router
}{of: make(map[string]openapirouters.Router)}

func (s *shop) document(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(s.documentText(t))
	require.NoError(t, err)
	return doc
}

func (s *shop) documentText(t testing.TB) []byte {
	t.Helper()
	if s.describedAs != nil {
		return s.describedAs
	}
	r, err := http.NewRequestWithContext(within(t), "GET", s.server.URL()+"/openapi.json", nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	s.describedAs, err = io.ReadAll(answer.Body)
	require.NoError(t, err)
	return s.describedAs
}

// asDocumented checks an answer against the document. What is no route of it is
// answered as all errors are.
func (s *shop) asDocumented(t testing.TB, r *http.Request, answer reply) {
	t.Helper()
	to := r.Clone(r.Context())
	to.Host, to.URL = "", &url.URL{Path: r.URL.Path}
	route, _, err := s.described(t).FindRoute(to)
	if err != nil {
		require.Contains(t, []int{401, 403, 404, 405}, answer.status, "%s %s is not in the document", r.Method, r.URL.Path)
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: to, Route: route},
		Status:                 answer.status, Header: answer.header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes([]byte(answer.body))
	require.NoError(t, openapi3filter.ValidateResponse(r.Context(), input), "%s %s", r.Method, r.URL)
}

func TestTheDocumentIsValidAndHasEveryRoute(t *testing.T) {
	s := open(t, guarded(t))
	doc := s.document(t)
	require.NoError(t, doc.Validate(within(t)))
	ids := make(map[string]bool)
	for _, route := range httpapi.RoutesOf(s.server) {
		item := doc.Paths.Value(route.Path)
		if route.Hidden() {
			require.Nil(t, item, route.Path)
			continue
		}
		require.NotNil(t, item, route.Path)
		operation := item.GetOperation(route.Method)
		require.NotNil(t, operation, "%s %s", route.Method, route.Path)
		require.Equal(t, route.Name, operation.OperationID)
		require.False(t, ids[route.Name], "%s is there twice", route.Name)
		ids[route.Name] = true
		require.Equal(t, route.Scope != "", operation.Security != nil && len(*operation.Security) > 0, route.Name)
		if operation.Summary == "" {
			require.Contains(t, route.Path, "/admin/", "%s says nothing about itself", route.Name)
		}
	}
	for _, name := range commands.Names() {
		operation := doc.Paths.Value("/ledger/v1/commands/" + name).Post
		require.NotNil(t, operation.RequestBody, "the body of %s is described", name)
	}
	for name := range projections.QueryNames() {
		require.NotNil(t, doc.Paths.Value("/ledger/v1/queries/"+name).Get)
	}
}

// A body that the ledger carries out is one that the document allows, and one
// that is plainly wrong is not.
func TestBodiesAreDescribed(t *testing.T) {
	s := open(t)
	for _, c := range []struct {
		name, body string
		valid      bool
	}{
		{"create-inventory-items", mug, true},
		{"create-inventory-items", `[{"id":"cup"}]`, true},
		{"create-inventory-items", `{"items":[{"id":"pot"}]}`, true},
		{"create-inventory-items", `{"id":"a","sku":null,"weight":1.25,"metadata":{"a":[1]}}`, true},
		{"create-inventory-items", `{"id":7}`, false},
		{"create-inventory-items", `"mug"`, false},
		{"adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":-0.5,"floor":"zero","expect":{"stocked_quantity":10}}`, true},
		{"adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":"many"}`, false},
		{"update-inventory-items", `{"id":"mug","title":null,"weight":2}`, true},
		{"update-inventory-items", `{"id":"mug","title":2}`, false},
		{"delete-inventory-levels", `{"inventory_item_id":"mug","location_id":["paris"],"force":true}`, true},
		{"delete-inventory-levels", `{"inventory_item_id":"mug","force":"yes"}`, false},
	} {
		r, err := http.NewRequestWithContext(within(t), "POST", "/ledger/v1/commands/"+c.name, strings.NewReader(c.body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		route, parameters, err := s.described(t).FindRoute(r)
		require.NoError(t, err)
		err = openapi3filter.ValidateRequest(within(t), &openapi3filter.RequestValidationInput{
			Request: r, Route: route, PathParams: parameters,
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
		})
		require.Equal(t, c.valid, err == nil, "%s %s: %v", c.name, c.body, err)
		require.Equal(t, c.valid, s.ask(t, "POST", "/ledger/v1/commands/"+c.name, c.body).status == 200, "%s %s", c.name, c.body)
	}
}

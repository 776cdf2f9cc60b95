package httpapi

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3gen"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

// describe answers with the OpenAPI document of all routes.
func (s *Server) describe(w http.ResponseWriter, r *http.Request) {
	document, err := s.document()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document) // whoever is gone cannot be told
}

// document is the OpenAPI document of routes.
func document(version string, routes []Route) ([]byte, error) {
	doc := &openapi3.T{
		OpenAPI: "3.0.3",
		Info: &openapi3.Info{
			Title: "Stockledger", Version: version,
			Description: "An inventory ledger. Quantities are exact decimals; read them as such where your JSON library can.",
		},
		Paths: openapi3.NewPaths(),
		Components: &openapi3.Components{SecuritySchemes: openapi3.SecuritySchemes{
			"bearer": {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer")},
			"basic":  {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("basic").WithDescription("The token as the user, without a password.")},
		}},
	}
	schemas := schemas{make(openapi3.Schemas)}
	doc.Components.Schemas = schemas.cyclic
	for _, route := range routes {
		if route.hidden {
			continue
		}
		o, err := schemas.operation(route)
		if err != nil {
			return nil, fmt.Errorf("describe %s %s: %w", route.Method, route.Path, err)
		}
		doc.AddOperation(route.Path, route.Method, o)
	}
	return json.Marshal(doc)
}

var inPath = regexp.MustCompile(`\{([^}]+)\}`)

// schemas makes the schemas of types, and keeps those of types that hold
// themselves, which the others refer to by name.
type schemas struct{ cyclic openapi3.Schemas }

func (s schemas) operation(route Route) (*openapi3.Operation, error) {
	o := openapi3.NewOperation()
	o.OperationID, o.Summary = route.Name, route.About
	o.Tags = []string{strings.Split(route.Path, "/")[1]}
	for _, found := range inPath.FindAllStringSubmatch(route.Path, -1) {
		o.AddParameter(openapi3.NewPathParameter(found[1]).WithSchema(openapi3.NewStringSchema()))
	}
	for _, p := range route.Params {
		o.AddParameter(parameterOf(p))
	}
	if route.Scope == Command {
		for _, name := range transport.HeaderNames() {
			o.AddParameter(openapi3.NewHeaderParameter(name).WithSchema(openapi3.NewStringSchema()))
		}
	}
	errs := slices.Concat(route.Errors, []int{http.StatusInternalServerError, http.StatusRequestHeaderFieldsTooLarge})
	if route.Scope != "" {
		o.Security = &openapi3.SecurityRequirements{{"bearer": {}}, {"basic": {}}}
		o.Extensions = map[string]any{"x-scope": route.Scope}
		errs = append(errs, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable)
	}
	if route.Body != nil {
		body, err := s.of(route.Body)
		if err != nil {
			return nil, err
		}
		o.RequestBody = &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithJSONSchemaRef(body)}
		errs = append(errs, http.StatusRequestEntityTooLarge)
	}
	return o, s.answers(o, route, errs)
}

// answers adds what a route answers.
func (s schemas) answers(o *openapi3.Operation, route Route, errs []int) error {
	good := openapi3.NewResponse().WithDescription("As asked for.")
	switch {
	case route.Answer != nil:
		answer, err := s.of(route.Answer)
		if err != nil {
			return err
		}
		good.WithJSONSchemaRef(answer)
	case route.stream:
		good.Content = openapi3.NewContentWithSchema(openapi3.NewStringSchema(), []string{"text/event-stream"})
	default:
		good.Content = openapi3.NewContentWithSchema(openapi3.NewStringSchema(), []string{"text/plain"})
	}
	o.AddResponse(max(route.Status, http.StatusOK), good)
	var problem any = fault.Answer{}
	if strings.HasPrefix(route.Path, "/admin/") {
		problem = medusaError{}
	}
	slices.Sort(errs)
	for _, status := range slices.Compact(errs) {
		of := problem
		if health, ok := route.Answer.(Health); ok && status == http.StatusServiceUnavailable {
			of = health
		}
		schema, err := s.of(of)
		if err != nil {
			return err
		}
		o.AddResponse(status, openapi3.NewResponse().WithDescription(http.StatusText(status)).WithJSONSchemaRef(schema))
	}
	o.Responses.Delete("default")
	return nil
}

func parameterOf(p Param) *openapi3.Parameter {
	schema := openapi3.NewStringSchema()
	switch p.Type {
	case "integer":
		schema = openapi3.NewIntegerSchema()
	case "number":
		schema = openapi3.NewFloat64Schema()
	case "boolean":
		schema = openapi3.NewBoolSchema()
	case "array":
		schema = openapi3.NewArraySchema().WithItems(openapi3.NewStringSchema())
	}
	return openapi3.NewQueryParameter(p.Name).WithDescription(p.About).WithSchema(schema)
}

// of is the schema of the JSON of a value's type.
func (s schemas) of(v any) (*openapi3.SchemaRef, error) {
	switch v := v.(type) {
	case lines:
		return s.ofLines(v)
	case Shape:
		return s.ofQuestion(v)
	default:
		return s.ofType(reflect.TypeOf(v))
	}
}

func (s schemas) ofQuestion(q Shape) (*openapi3.SchemaRef, error) {
	schema, err := s.of(q.Asked)
	if err != nil {
		return nil, err
	}
	after := openapi3.NewInt64Schema().WithMin(0)
	after.Description = "A position that must be in the answer; the query waits for it."
	schema.Value.WithProperty("after", after)
	if q.Selectors {
		delete(schema.Value.Properties, "Filter") // what is embedded has no name of its own
		schema.Value.Description = "Any other member is a selector: the name of a field of the rows, with a value, a list of values or operators."
	}
	schema.Value.AdditionalProperties = openapi3.BoolSchema{Has: &q.Selectors}
	return schema, nil
}

func (s schemas) ofLines(many lines) (*openapi3.SchemaRef, error) {
	whole, err := s.of(many.whole)
	if err != nil {
		return nil, err
	}
	whole.Value.Required = slices.Collect(maps.Keys(whole.Value.Properties)) // the one it has
	line, err := s.of(many.line)
	if err != nil {
		return nil, err
	}
	list := openapi3.NewArraySchema().WithMaxItems(commands.MaxLines)
	list.Items = line
	either := openapi3.NewSchema()
	either.AnyOf = openapi3.SchemaRefs{whole, {Value: list}, line}
	return openapi3.NewSchemaRef("", either), nil
}

func (s schemas) ofType(t reflect.Type) (*openapi3.SchemaRef, error) {
	return openapi3gen.NewSchemaRefForValue(reflect.New(t).Elem().Interface(), s.cyclic, openapi3gen.SchemaCustomizer(s.asWritten))
}

// asWritten corrects the schema of a type that writes its JSON itself.
func (s schemas) asWritten(_ string, t reflect.Type, _ reflect.StructTag, schema *openapi3.Schema) error {
	nullable := schema.Nullable
	switch {
	case t == reflect.TypeFor[events.Quantity]():
		*schema = *openapi3.NewFloat64Schema().WithFormat("") // a decimal of any size
	case t == reflect.TypeFor[events.Hash]():
		*schema = *openapi3.NewStringSchema().WithMinLength(64).WithMaxLength(64)
	case t == reflect.TypeFor[json.RawMessage](), t == reflect.TypeFor[jsontext.Value](), t.Kind() == reflect.Interface:
		*schema = openapi3.Schema{} // anything
		nullable = true
	case t == reflect.TypeFor[commands.IDs]():
		*schema = openapi3.Schema{AnyOf: openapi3.SchemaRefs{
			{Value: openapi3.NewStringSchema()}, {Value: openapi3.NewArraySchema().WithItems(openapi3.NewStringSchema())},
		}}
	case t != reflect.TypeFor[time.Time]() && t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		*schema = *openapi3.NewStringSchema()
	case strings.HasPrefix(t.Name(), "Field[") && strings.HasSuffix(t.PkgPath(), "/domain"): // a value, null, or left out
		value, _ := t.FieldByName("Value")
		of, err := s.ofType(value.Type.Elem())
		if err != nil {
			return err
		}
		*schema = *of.Value
		nullable = true
	}
	schema.Nullable = nullable
	return nil
}

package fault

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Unreadable says in the words of every query why JSON cannot be read, by what the
// JSON package says of it.
func Unreadable(err error) *Error {
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return New(Invalid, "malformed_json", "the body is not well-formed JSON: %v", err)
	}
	field := strings.Join(slices.Collect(semantic.JSONPointer.Tokens()), ".")
	_, isTime := errors.AsType[*time.ParseError](err)
	refused := New(Invalid, "invalid_type", "Field '%s' cannot be of type '%s'", field, JSONType(semantic.JSONKind))
	switch {
	case errors.Is(err, json.ErrUnknownName):
		refused = New(Invalid, "unknown_field", "Unrecognized fields: '%s'", field)
	case isTime:
		refused = New(Invalid, "invalid_time", "Field '%s': send a time as in RFC 3339, such as 2026-01-31T13:45:00Z", field)
	case field == "":
		refused = New(Invalid, "invalid_type", "Expected type: 'object', got: '%s'", JSONType(semantic.JSONKind))
	}
	return refused.With("field", field)
}

// JSONType is what people call a JSON value of a kind.
func JSONType(kind jsontext.Kind) string {
	switch kind {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	case '0':
		return "number"
	default:
		return "value"
	}
}

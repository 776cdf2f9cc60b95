package medusaapi

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The types of fields, as Medusa's messages name them.
const (
	aText    = "string"
	aNumber  = "number"
	aBoolean = "boolean"
	anObject = "object"
	aRecord  = "record" // an object of anything
	anArray  = "array"
)

// A shape is what an object of a body looks like. Its fields are in the order in
// which Medusa checks them, and so in the order of the messages.
type shape struct {
	fields []field
	lax    bool // members that are no fields are dropped, not refused
}

// A field is a member of a shape.
type field struct {
	name     string
	want     string
	required bool
	nullable bool
	positive bool   // 0 or more
	of       *shape // of the object, or of every object in the array; an array without one is of texts
}

// issues are what is wrong with a request.
type issues []string

// mostIssues is how many of them are told, as in Medusa.
const mostIssues = 3

func (i *issues) add(format string, args ...any) {
	if len(*i) < mostIssues {
		*i = append(*i, fmt.Sprintf(format, args...))
	}
}

func (i *issues) required(path string) { i.add("Field '%s' is required", path) }

func (i *issues) wrongType(want, path, got string) {
	i.add("Expected type: '%s' for field '%s', got: '%s'", want, path, got)
}

func (i *issues) unrecognized(names []string) {
	if len(names) > 0 {
		i.add("Unrecognized fields: '%s'", clipped(strings.Join(names, ", ")))
	}
}

// err is the refusal of a request with issues, nil if there are none.
func (i issues) err() error {
	if len(i) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, "invalid_request", "Invalid request: %s", strings.Join(i, "; "))
}

// under is the path of a member, as in Medusa's messages: "create, 0, location_id".
func under(path, name string) string {
	if path == "" {
		return name
	}
	return path + ", " + name
}

// read checks a body and returns it without the members that are dropped.
func (s shape) read(body []byte) (jsontext.Value, error) {
	var whole jsontext.Value
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, malformed(err)
	}
	if kind := jsontext.Value(body).Kind(); kind != '{' {
		return nil, invalid("Invalid request: Expected type: 'object', got: '%s'", asText(body))
	}
	var wrong issues
	clean := s.check("", body, &wrong)
	return clean, wrong.err()
}

func malformed(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return invalid("Invalid request: a field is there twice: %v", err)
	}
	return invalid("Invalid request: the body is not well-formed JSON: %v", err)
}

// check checks an object, which is valid JSON.
func (s shape) check(path string, object jsontext.Value, wrong *issues) jsontext.Value {
	members, err := membersOf(object)
	if err != nil {
		wrong.add("%v", err)
		return nil
	}
	var clean bytes.Buffer
	clean.WriteByte('{')
	for _, f := range s.fields {
		value, there := members.of[f.name]
		if !there {
			if f.required {
				wrong.required(under(path, f.name))
			}
			continue
		}
		if clean.Len() > 1 {
			clean.WriteByte(',')
		}
		fmt.Fprintf(&clean, "%q:", f.name)
		clean.Write(f.check(under(path, f.name), value, wrong))
	}
	clean.WriteByte('}')
	if !s.lax {
		wrong.unrecognized(s.strangers(members.names))
	}
	return clean.Bytes()
}

// strangers are the names that no field has.
func (s shape) strangers(names []string) []string {
	known := make(map[string]bool, len(s.fields))
	for _, f := range s.fields {
		known[f.name] = true
	}
	var all []string
	for _, name := range names {
		if !known[name] {
			all = append(all, name)
		}
	}
	return all
}

// kinds are how JSON begins for a type.
var kinds = map[string]string{aText: `"`, aNumber: "0", aBoolean: "tf", anObject: "{", aRecord: "{", anArray: "["}

func (f field) check(path string, value jsontext.Value, wrong *issues) jsontext.Value {
	kind := value.Kind()
	if kind == 'n' && f.nullable {
		return value
	}
	if !strings.ContainsRune(kinds[f.want], rune(kind)) {
		wrong.wrongType(f.want, path, asText(value))
		return value
	}
	switch f.want {
	case aNumber:
		f.checkNumber(path, value, wrong)
	case anObject:
		return f.of.check(path, value, wrong)
	case anArray:
		return f.checkArray(path, value, wrong)
	}
	return value
}

func (f field) checkNumber(path string, value jsontext.Value, wrong *issues) {
	q, err := events.ParseQuantity(string(value))
	switch {
	case err != nil:
		wrong.add("Field '%s': %v", path, err)
	case f.positive && q.Sign() < 0:
		wrong.add("Value for field '%s' too small, expected at least: '0'", path)
	}
}

func (f field) checkArray(path string, value jsontext.Value, wrong *issues) jsontext.Value {
	element := field{want: aText}
	if f.of != nil {
		element = field{want: anObject, of: f.of}
	}
	clean := []byte{'['}
	for i, one := range elementsOf(value) {
		if i > 0 {
			clean = append(clean, ',')
		}
		clean = append(clean, element.check(under(path, fmt.Sprint(i)), one, wrong)...)
	}
	return append(clean, ']')
}

// members are those of an object, in order.
type members struct {
	names []string
	of    map[string]jsontext.Value
}

// membersOf reads an object, which it refuses when it is not well-formed or names
// a member twice.
func membersOf(object []byte) (members, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(object))
	all := members{of: make(map[string]jsontext.Value)}
	if _, err := dec.ReadToken(); err != nil {
		return all, err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return all, err
		}
		key := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return all, err
		}
		all.names = append(all.names, key)
		all.of[key] = value.Clone()
	}
	_, err := dec.ReadToken()
	return all, err
}

// elementsOf are those of an array, which is valid JSON.
func elementsOf(array jsontext.Value) (all []jsontext.Value) {
	dec := jsontext.NewDecoder(bytes.NewReader(array))
	if _, err := dec.ReadToken(); err != nil {
		return nil
	}
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return all
		}
		all = append(all, value.Clone())
	}
	return all
}

// asText is a value as JavaScript would say it in a message, which is what
// Medusa's messages have.
func asText(value jsontext.Value) string {
	if value.Kind() != '[' {
		return oneAsText(value)
	}
	var parts []string
	for _, one := range elementsOf(value) {
		if one.Kind() == 'n' {
			one = jsontext.Value(`""`)
		}
		parts = append(parts, oneAsText(one))
	}
	return clipped(strings.Join(parts, ","))
}

// oneAsText is a value that is not looked into.
func oneAsText(value jsontext.Value) string {
	switch value.Kind() {
	case '"':
		if text, err := jsontext.AppendUnquote(nil, value); err == nil {
			return clipped(string(text))
		}
	case '{':
		return "[object Object]"
	}
	return clipped(strings.TrimSpace(string(value)))
}

// clipped keeps a message from being as long as what it is about.
func clipped(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

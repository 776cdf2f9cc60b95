package commands

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// decoders read the body of each command by its name.
var decoders = map[string]func(body []byte) (Command, error){
	"create-inventory-items":           lines("items", func(l []NewItem) Command { return CreateInventoryItems{Items: l} }),
	"update-inventory-items":           lines("updates", func(l []ItemUpdate) Command { return UpdateInventoryItems{l} }),
	"delete-inventory-items":           names("id", func(ids []string) Command { return DeleteInventoryItems{IDs: ids} }),
	"restore-inventory-items":          names("id", func(ids []string) Command { return RestoreInventoryItems{ids} }),
	"create-inventory-levels":          lines("inventory_levels", func(l []NewLevel) Command { return CreateInventoryLevels{Levels: l} }),
	"update-inventory-levels":          lines("updates", func(l []LevelUpdate) Command { return UpdateInventoryLevels{l} }),
	"delete-inventory-levels":          object[DeleteInventoryLevels],
	"batch-inventory-item-levels":      object[BatchInventoryItemLevels],
	"bulk-create-delete-levels":        object[BulkCreateDeleteLevels],
	"delete-levels-by-location":        object[DeleteLevelsByLocation],
	"adjust-inventory-levels":          lines("updates", func(l []Adjustment) Command { return AdjustInventoryLevels{l} }),
	"create-reservations":              lines("reservations", func(l []NewReservation) Command { return CreateReservations{l} }),
	"update-reservations":              lines("updates", func(l []ReservationUpdate) Command { return UpdateReservations{l} }),
	"delete-reservations":              names("id", func(ids []string) Command { return DeleteReservations{IDs: ids} }),
	"delete-reservations-by-line-item": names("line_item_id", func(ids []string) Command { return DeleteReservationsByLineItem{ids} }),
	"delete-reservations-by-location":  names("location_id", func(ids []string) Command { return DeleteReservationsByLocation{ids} }),
	"restore-reservations":             names("id", func(ids []string) Command { return RestoreReservations{ids} }),
	"fulfill-reservations":             lines("reservations", func(l []Fulfilment) Command { return FulfillReservations{l} }),
	"attach-inventory-items":           lines("links", func(l []NewLink) Command { return AttachInventoryItems{l} }),
	"update-inventory-links":           lines("links", func(l []LinkUpdate) Command { return UpdateInventoryLinks{l} }),
	"detach-inventory-items":           lines("links", func(l []LinkName) Command { return DetachInventoryItems{l} }),
	"batch-inventory-links":            object[BatchInventoryLinks],
	"create-stock-locations":           lines("locations", func(l []NewLocation) Command { return CreateStockLocations{l} }),
	"update-stock-locations":           lines("updates", func(l []LocationUpdate) Command { return UpdateStockLocations{l} }),
	"update-stock-location-links":      lines("updates", func(l []LocationLinksUpdate) Command { return UpdateStockLocationLinks{l} }),
	"delete-stock-locations":           names("id", func(ids []string) Command { return DeleteStockLocations{IDs: ids} }),
}

// Names are the names of all commands, sorted.
func Names() []string {
	all := make([]string, 0, len(decoders))
	for name := range decoders {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Decode reads the body of the command of that name and checks all that can be
// checked without the state. Its errors are *fault.Error and name the field,
// and the line where there are several.
func Decode(name string, body []byte) (Command, error) {
	decode, known := decoders[name]
	if !known {
		return nil, fault.New(fault.NotFound, "unknown_command", "there is no command %q", name).With("command", name)
	}
	command, err := decode(body)
	if err != nil {
		return nil, decodeFault(err, inParts)
	}
	return command, command.check()
}

// strict is how commands are read.
var strict = json.JoinOptions(json.RejectUnknownMembers(true), json.WithUnmarshalers(json.UnmarshalFunc(events.ReadAsked)))

// object reads a command that is one JSON object.
func object[C Command](body []byte) (Command, error) {
	var c C
	if err := startsWith("", body, "object", '{'); err != nil {
		return nil, err
	}
	err := json.Unmarshal(body, &c, strict)
	return c, err
}

// startsWith refuses JSON of another kind; the JSON package would take null for
// anything.
func startsWith(field string, value jsontext.Value, want string, kinds ...jsontext.Kind) error {
	kind := value.Kind()
	if slices.Contains(kinds, kind) {
		return nil
	}
	var malformed jsontext.Value
	if err := json.Unmarshal(value, &malformed); err != nil {
		return err
	}
	return wrongType(want, field, kind)
}

// lines reads a command of many lines: an array of them, an object that holds
// the array under a name (as Medusa's workflows take it), or one line by itself.
func lines[L any](wrapper string, build func([]L) Command) func([]byte) (Command, error) {
	return func(body []byte) (Command, error) {
		if err := startsWith("", body, "object", '{', '['); err != nil {
			return nil, err
		}
		if jsontext.Value(body).Kind() == '[' {
			return buildLines(body, build)
		}
		var members map[string]jsontext.Value
		if err := json.Unmarshal(body, &members); err != nil {
			return nil, err
		}
		list, wrapped := members[wrapper]
		if !wrapped {
			line := make([]L, 1)
			if err := json.Unmarshal(body, &line[0], strict); err != nil {
				return nil, decodeFault(err, inOneLine)
			}
			return build(line), nil
		}
		for name := range members {
			if name != wrapper {
				return nil, unknownField(name)
			}
		}
		if err := startsWith(wrapper, list, "array", '['); err != nil {
			return nil, err
		}
		return buildLines(list, build)
	}
}

func buildLines[L any](list []byte, build func([]L) Command) (Command, error) {
	var read []*L // pointers, to tell a null from a line
	if err := json.Unmarshal(list, &read, strict); err != nil {
		return nil, err
	}
	all := make([]L, len(read))
	for i, line := range read {
		if line == nil {
			return nil, wrongType("object", "", 'n').With("line", i+1)
		}
		all[i] = *line
	}
	return build(all), nil
}

// names reads a command that only names things: one id, an array of ids, or an
// object that holds either under a name or under "ids".
func names(member string, build func([]string) Command) func([]byte) (Command, error) {
	return func(body []byte) (Command, error) {
		if jsontext.Value(body).Kind() != '{' {
			ids, err := readIDs("", body)
			return build(ids), err
		}
		var members map[string]jsontext.Value
		if err := json.Unmarshal(body, &members); err != nil {
			return nil, err
		}
		if len(members) == 0 {
			return nil, required(member, "")
		}
		var all IDs
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if name != member && name != "ids" {
				return nil, unknownField(name)
			}
			ids, err := readIDs(name, members[name])
			if err != nil {
				return nil, err
			}
			all = append(all, ids...)
		}
		return build(all), nil
	}
}

func readIDs(field string, value jsontext.Value) (ids IDs, err error) {
	if err := startsWith(field, value, "array", '"', '['); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(value, &ids, strict); err != nil {
		return nil, decodeFault(err, inParts).With("field", field)
	}
	return ids, nil
}

// IDs is one id or an array of ids in JSON.
type IDs []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (ids *IDs) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '"' {
		*ids = make(IDs, 1)
		return json.UnmarshalDecode(dec, &(*ids)[0])
	}
	return json.UnmarshalDecode(dec, (*[]string)(ids))
}

func unknownField(name string) *fault.Error {
	return fault.New(fault.Invalid, "unknown_field", "Unrecognized fields: '%s'", name).With("field", name)
}

// decodeFault turns what the JSON package says into a refusal that names the
// line and the field.
func decodeFault(err error, place func(jsontext.Pointer) position) *fault.Error {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at := place(syntactic.JSONPointer)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return at.name(fault.New(fault.Invalid, "duplicate_field", "Field '%s' is there twice", at.field))
		}
		return at.name(fault.New(fault.Invalid, "malformed_json", "the body is not well-formed JSON: %v", err))
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok { // such as an end before the JSON is complete
		return fault.New(fault.Invalid, "malformed_json", "the body is not well-formed JSON: %v", err)
	}
	at := place(semantic.JSONPointer)
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return at.name(unknownField(at.field))
	case errors.Is(err, events.ErrQuantity):
		return at.name(fault.New(fault.Invalid, "invalid_quantity", "Field '%s': %v", at.field, semantic.Err))
	}
	return at.name(wrongType(typeName(semantic), at.field, semantic.JSONKind))
}

func wrongType(want, field string, kind jsontext.Kind) *fault.Error {
	got := fault.JSONType(kind)
	if field == "" {
		return fault.New(fault.Invalid, "invalid_type", "Expected type: '%s', got: '%s'", want, got)
	}
	return fault.New(fault.Invalid, "invalid_type", "Expected type: '%s' for field '%s', got: '%s'", want, field, got).With("field", field)
}

// position is where in a body something is.
type position struct {
	line  int    // from 1; 0 when there are no lines
	part  string // of a batch
	field string
}

func (at position) name(e *fault.Error) *fault.Error {
	if at.part != "" {
		e = e.With("part", at.part)
	}
	if at.line > 0 {
		e = e.With("line", at.line)
	}
	if at.field != "" {
		e = e.With("field", at.field)
	}
	return e
}

// inOneLine reads a pointer into a body that is one line.
func inOneLine(pointer jsontext.Pointer) position {
	return position{field: strings.Join(slices.Collect(pointer.Tokens()), ".")}
}

// inParts reads a pointer into a list of lines, such as /3/location_levels/0, or
// into an object of such lists, such as /create/3/location_id.
func inParts(pointer jsontext.Pointer) position {
	tokens := slices.Collect(pointer.Tokens())
	for depth, token := range tokens[:min(2, len(tokens))] {
		index, err := strconv.Atoi(token)
		if err != nil {
			continue
		}
		at := position{line: index + 1, field: strings.Join(tokens[depth+1:], ".")}
		switch {
		case depth > 0 && at.field == "":
			at.field = tokens[0]
		case depth > 0:
			at.part = tokens[0]
		}
		return at
	}
	return inOneLine(pointer)
}

func typeName(e *json.SemanticError) string {
	if e.GoType == nil {
		return "value"
	}
	name := strings.TrimLeft(e.GoType.String(), "*")
	switch {
	case strings.Contains(name, "Quantity"), strings.Contains(name, "int"):
		return "number"
	case strings.HasPrefix(name, "[]"), strings.Contains(name, "IDs"):
		return "array"
	case name == "bool":
		return "boolean"
	case name == "string", name == "domain.Floor":
		return "string"
	}
	return "object"
}

// The checks every command uses.

func required(field, value string) error {
	if value == "" {
		return fault.New(fault.Invalid, "required", "Field '%s' is required", field).With("field", field)
	}
	return textWithin(field, value, maxID)
}

func requiredQuantity(field string, q *events.Quantity) error {
	if q == nil {
		return fault.New(fault.Invalid, "required", "Field '%s' is required", field).With("field", field)
	}
	return nil
}

func textWithin(field, value string, bound int) error {
	if len(value) > bound {
		return fault.New(fault.Invalid, "too_long", "Field '%s' has %d bytes, at most %d are allowed", field, len(value), bound).
			With("field", field).With("size", len(value)).With("limit", bound)
	}
	if !utf8.ValidString(value) {
		return fault.New(fault.Invalid, "invalid_text", "Field '%s' is not valid UTF-8 text", field).With("field", field)
	}
	if strings.ContainsRune(value, 0) {
		return fault.New(fault.Invalid, "invalid_text", "Field '%s' must not contain NUL", field).With("field", field)
	}
	return nil
}

// optional checks a text that may be missing.
func optional(field string, value *string, bound int) error {
	if value == nil {
		return nil
	}
	return textWithin(field, *value, bound)
}

func optionalField(field string, value domain.Field[string], bound int) error {
	return optional(field, value.Value, bound)
}

func metadataWithin(raw []byte) error {
	if len(raw) > maxMetadata {
		return fault.New(fault.Invalid, "too_long", "Field 'metadata' has %d bytes, at most %d are allowed", len(raw), maxMetadata).
			With("field", "metadata").With("size", len(raw)).With("limit", maxMetadata)
	}
	if depth := nesting(raw); depth > maxNesting {
		return fault.New(fault.Invalid, "too_deep", "Field 'metadata' is nested %d deep, at most %d are allowed", depth, maxNesting).
			With("field", "metadata").With("limit", maxNesting)
	}
	return nil
}

// nesting is how many objects and arrays stand in one another at most in JSON that
// is well-formed.
func nesting(raw []byte) (most int) {
	depth, inText := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{', c == '[':
			depth++
			most = max(most, depth)
		case c == '}', c == ']':
			depth--
		}
	}
	return most
}

func metadataField(f domain.Field[stdjson.RawMessage]) error {
	if f.Value == nil {
		return nil
	}
	return metadataWithin(*f.Value)
}

// part names the part of a batch that a refusal is about.
func part(name string, err error) error {
	if refusal, ok := errors.AsType[*fault.Error](err); ok {
		return refusal.With("part", name)
	}
	return err
}

// eachInner checks the parts of one line, and names the part that fails.
func eachInner[P any](field string, parts []P, check func(P) error) error {
	for i, part := range parts {
		if refusal, ok := errors.AsType[*fault.Error](check(part)); ok {
			return refusal.With("field", fmt.Sprintf("%s.%d.%s", field, i, refusal.Details["field"]))
		}
	}
	return nil
}

// eachLine checks lines one after the other and names the one that fails.
func eachLine[L any](all []L, check func(L) error) error {
	if err := within(len(all)); err != nil {
		return err
	}
	for i, line := range all {
		if err := check(line); err != nil {
			return domain.Line(err, i+1)
		}
	}
	return nil
}

// within refuses more lines than one command may have.
func within(lines int) error {
	if lines <= MaxLines {
		return nil
	}
	return fault.New(fault.Invalid, "too_many_lines", "the command has %d lines, at most %d are allowed; send several commands",
		lines, MaxLines).With("lines", lines).With("limit", MaxLines)
}

func eachID(field string, ids []string) error {
	return eachLine(ids, func(id string) error { return required(field, id) })
}

// first is the first error of all.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

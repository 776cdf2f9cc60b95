package httpapi

import (
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/stockledger/stockledger/internal/fault"
)

// maxNesting is how deep a parameter reaches: location_levels[quantity][$gt] is 3.
const maxNesting = 8

// parameters makes the JSON of a query from that of a URL. A URL has only texts,
// and nothing is guessed from how they look, because an item may well be called
// 0012 or null:
//
//	key=text    a text
//	key:=json   JSON, such as take:=50 or sku:=null
//	key[part]=  a member of an object, such as stocked_quantity[$gt]:=5
//	key[]=      a member of a list; so is a key that comes several times
//	body=json   all of it, and nothing beside it
func parameters(rawQuery string) ([]byte, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, errUnreadable
	}
	if body, whole := values["body"]; whole {
		if len(values) > 1 || len(body) > 1 {
			return nil, badParameter("body", "body is the whole query in JSON; send nothing beside it")
		}
		return []byte(body[0]), nil
	}
	all := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path, list, isJSON, err := parse(name)
		if err != nil {
			return nil, err
		}
		value, err := valueOf(name, values[name], list, isJSON)
		if err != nil {
			return nil, err
		}
		if err := put(all, name, path, value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(all)
}

var errUnreadable = fault.New(fault.Invalid, "invalid_parameter", "the part of the URL after ? cannot be read; write characters as %%XX")

func badParameter(name, message string, args ...any) error {
	return fault.New(fault.Invalid, "invalid_parameter", message, args...).With("field", name)
}

// parameter is a name with what it reaches into.
var parameter = regexp.MustCompile(`^([^\[\]:]+)((?:\[[^\[\]]+\])*)(\[\])?(:)?$`)

// parse takes the name of a parameter apart.
func parse(name string) (path []string, list, isJSON bool, err error) {
	parts := parameter.FindStringSubmatch(name)
	if parts == nil || strings.Count(name, "[") >= maxNesting {
		return nil, false, false, badParameter(name,
			"parameter %q cannot be read; write key=text, key:=json, key[part]=… or key[]=…, or send the query in the body of a POST", name)
	}
	path = []string{parts[1]}
	if parts[2] != "" {
		path = append(path, strings.Split(strings.Trim(parts[2], "[]"), "][")...)
	}
	return path, parts[3] != "", parts[4] != "", nil
}

// valueOf is what a parameter says.
func valueOf(name string, texts []string, list, isJSON bool) (any, error) {
	var all []any
	for _, text := range texts {
		if !utf8.ValidString(text) { // JSON would have another text in its place
			return nil, badParameter(name, "parameter %q is followed by what is not valid UTF-8 text", name+"=")
		}
		if !isJSON {
			all = append(all, text)
			continue
		}
		if !json.Valid([]byte(text)) {
			return nil, badParameter(name, "parameter %q is followed by JSON, and %q is none; a text is written as %s=%s",
				name+"=", text, strings.TrimSuffix(name, ":"), text)
		}
		all = append(all, json.RawMessage(text))
	}
	if len(all) == 1 && !list {
		return all[0], nil
	}
	return all, nil
}

// put puts a value where its path leads.
func put(into map[string]any, name string, path []string, value any) error {
	for ; len(path) > 1; path = path[1:] {
		next, isObject := into[path[0]].(map[string]any)
		if _, taken := into[path[0]]; taken && !isObject {
			return badParameter(name, "parameter %q is there twice, in different spellings", name)
		}
		if !isObject {
			next = make(map[string]any)
			into[path[0]] = next
		}
		into = next
	}
	if _, taken := into[path[0]]; taken {
		return badParameter(name, "parameter %q is there twice, in different spellings", name)
	}
	into[path[0]] = value
	return nil
}

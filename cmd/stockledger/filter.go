package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/events"
)

// filters are conditions on rows, by the field they are on.
type filters struct {
	fields map[string]*conditions
	order  []string
}

// conditions are all that a command line says of one field.
type conditions struct {
	equal, unlike []any
	operators     map[string]any  // such as $lt
	verbatim      json.RawMessage // instead of all others
}

// condition is a field, an operator and a value. What stands before the first
// operator is the field.
var condition = regexp.MustCompile(`(?s)^([A-Za-z0-9_.]+)(:=|!=|>=|<=|=|>|<|~)(.*)$`)

var comparisons = map[string]string{"<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}

// isFilter tells filters from ids, among the arguments of a list. An id that looks
// like a filter can be asked for with id=.
func isFilter(argument string) bool { return condition.MatchString(argument) }

// add reads a condition. Unless it is literal, a comma separates values one of
// which is meant, and null is no value.
func (f *filters) add(text string, literal bool) error {
	parts := condition.FindStringSubmatch(text)
	if parts == nil {
		return fmt.Errorf("%s: write it NAME=VALUE; there are also != < <= > >= ~ and :=", text)
	}
	name, operator, value := parts[1], parts[2], parts[3]
	if flag, taken := flagFor[name]; taken {
		return fmt.Errorf("%s: there is a flag for that, %s", text, flag)
	}
	c := f.of(name)
	var err error
	switch operator {
	case ":=":
		err = c.replace(value)
	case "=":
		err = c.list(&c.equal, name, value, literal)
	case "!=":
		err = c.list(&c.unlike, name, value, literal)
	case "~":
		err = c.compare("$ilike", "%"+likeText.Replace(value)+"%")
	default:
		var typed any
		if typed, err = typedValue(name, value); err == nil {
			err = c.compare(comparisons[operator], typed)
		}
	}
	if err = cmp.Or(err, c.check()); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	return nil
}

// flagFor has the names that no field has, because questions have them.
var flagFor = map[string]string{
	"skip": "--skip", "offset": "--skip", "take": "--take", "limit": "--take", "order": "--order", "q": "--q",
	"fields": "--fields", "select": "--fields", "relations": "--relations", "with_deleted": "--with-deleted",
	"cursor": "--cursor", "after": "--after",
}

// likeText takes from a text what it would mean in a pattern.
var likeText = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

func (f *filters) of(name string) *conditions {
	if f.fields == nil {
		f.fields = make(map[string]*conditions)
	}
	c, found := f.fields[name]
	if !found {
		c = &conditions{operators: make(map[string]any)}
		f.fields[name] = c
		f.order = append(f.order, name)
	}
	return c
}

// check refuses what could only be dropped silently.
func (c *conditions) check() error {
	if c.verbatim != nil && len(c.equal)+len(c.unlike)+len(c.operators) > 0 {
		return errors.New("the field has another condition, and := is all of them; write both into the JSON")
	}
	return nil
}

func (c *conditions) replace(text string) error {
	if c.verbatim != nil {
		return errors.New("the field has that condition twice")
	}
	if !json.Valid([]byte(text)) {
		return fmt.Errorf("%s is not JSON", text)
	}
	c.verbatim = json.RawMessage(text)
	return nil
}

func (c *conditions) list(values *[]any, name, text string, literal bool) error {
	parts := []string{text}
	if !literal {
		parts = strings.Split(text, ",")
	}
	for _, part := range parts {
		if part == "null" && !literal {
			*values = append(*values, nil)
			continue
		}
		typed, err := typedValue(name, part)
		if err != nil {
			return err
		}
		*values = append(*values, typed)
	}
	return nil
}

func (c *conditions) compare(operator string, value any) error {
	if _, twice := c.operators[operator]; twice {
		return errors.New("the field has that condition twice")
	}
	c.operators[operator] = value
	return nil
}

// value is what the ledger is asked with.
func (c *conditions) value() any {
	if c.verbatim != nil {
		return c.verbatim
	}
	if len(c.unlike) == 0 && len(c.operators) == 0 {
		return oneOrAll(c.equal)
	}
	all := object{}
	maps.Copy(all, c.operators)
	add := func(one, several string, values []any) {
		switch len(values) {
		case 0:
		case 1:
			all[one] = values[0]
		default:
			all[several] = values
		}
	}
	add("$eq", "$in", c.equal)
	add("$ne", "$nin", c.unlike)
	return all
}

func oneOrAll(values []any) any {
	if len(values) == 1 {
		return values[0]
	}
	return values
}

// into adds the conditions to what a list is asked with. A name with a dot is of
// the rows that belong to a row.
func (f *filters) into(params object) error {
	for _, name := range f.order {
		at, path := params, strings.Split(name, ".")
		for _, step := range path[:len(path)-1] {
			inner, nested := at[step].(object)
			if !nested {
				if _, taken := at[step]; taken {
					return fmt.Errorf("%s and %s: give one of the two", step, name)
				}
				inner = object{}
				at[step] = inner
			}
			at = inner
		}
		last := path[len(path)-1]
		if _, taken := at[last]; taken {
			return fmt.Errorf("%s is given twice", name)
		}
		at[last] = f.fields[name].value()
	}
	return nil
}

// Fields whose values are not texts. All others are, so that
// the SKU 71053 is none; and times end in _at.
var (
	numberFields = []string{
		"quantity", "weight", "length", "height", "width", "position", "last_position", "events",
	}
	booleanFields = []string{"requires_shipping", "allow_backorder"}
)

// typedValue is the value that a text means for a field.
func typedValue(name, text string) (any, error) {
	field := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case strings.HasSuffix(field, "_quantity"), slices.Contains(numberFields, field):
		q, err := events.ParseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("%s is a number: %w", field, err)
		}
		return q, nil
	case strings.HasSuffix(field, "_at"):
		t, err := here().parse(text)
		if err != nil {
			return nil, err
		}
		return rfc3339(t), nil
	case slices.Contains(booleanFields, field):
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("%s is true or false", field)
		}
		return text == "true", nil
	}
	return text, nil
}

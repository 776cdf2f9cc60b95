package medusaapi

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

// A param is one parameter of a query.
type param struct {
	name  string
	about string
	kind  string // as in OpenAPI
	// take checks what was given and puts it where it belongs.
	take func(path string, v given, to *asked, wrong *issues)
}

// params are those of a route, in the order in which Medusa checks them.
type params []param

// asked is what a query asks for.
type asked struct {
	fields *string
	limit  int
	force  bool
	projections.List
}

// and adds a filter that must hold beside all others, also one by the same column.
func (a *asked) and(filter map[string]any) {
	others, _ := a.Filter["$and"].([]any)
	a.Filter["$and"] = append(others, filter)
}

func (p params) described() []httpapi.Param {
	var all []httpapi.Param
	for _, one := range p {
		all = append(all, httpapi.Param{Name: one.name, About: one.about, Type: one.kind})
	}
	return all
}

// query reads the query of the request.
func (c *call) query(p params, limit int) (asked, error) {
	to := asked{limit: limit, List: projections.List{Filter: map[string]any{}}}
	query, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return to, err
	}
	var wrong issues
	p.take("", query, &to, &wrong)
	return to, wrong.err()
}

func (p params) take(path string, query *nested, to *asked, wrong *issues) {
	for _, one := range p {
		if v, there := query.of[one.name]; there {
			one.take(under(path, one.name), v, to, wrong)
		}
	}
	wrong.unrecognized(slices.DeleteFunc(slices.Clone(query.names), func(name string) bool {
		return slices.ContainsFunc(p, func(one param) bool { return one.name == name })
	}))
}

// The parameters of every answer that has fields, and of every list.
var (
	selectParams = params{{"fields", "what the answer has: a list of fields, or +field, -field and *relation to change the defaults", "", takeFields}}
	pageParams   = append(slices.Clone(selectParams),
		param{"offset", "how many rows to pass over", "integer", takeNumber(func(to *asked, n int) { to.Skip = n }, math.MaxInt32)},
		param{"limit", "how many rows to answer with", "integer", takeNumber(func(to *asked, n int) { to.limit = n }, maxLimit)},
		param{"order", "the field to sort by; -field is descending", "", takeOrder},
		param{"with_deleted", "also what was deleted", "boolean", takeWithDeleted},
	)
	forceParam = param{"force", "delete also a level with stock", "boolean", takeForce}
	searchText = param{"q", "words that the row must have", "", takeSearch}
)

// listParams are those of a list with filters, which may be joined by $and and $or.
func listParams(filters params) params { return slices.Concat(pageParams, filters) }

// withGroups adds $and and $or to filters. What they hold are filters of columns; q
// is none.
func withGroups(filters params) params {
	columns := slices.DeleteFunc(slices.Clone(filters), func(one param) bool { return one.name == searchText.name })
	return append(slices.Clone(filters),
		param{"$and", "filters that must all hold", "array", takeGroups("$and", columns)},
		param{"$or", "filters of which one must hold", "array", takeGroups("$or", columns)})
}

func takeText(path string, v given, wrong *issues) (string, bool) {
	text, ok := v.(string)
	if !ok {
		wrong.wrongType(aText, path, saidBy(v))
	}
	return text, ok
}

func takeFields(path string, v given, to *asked, wrong *issues) {
	if text, ok := takeText(path, v, wrong); ok {
		to.fields = &text
	}
}

func takeOrder(path string, v given, to *asked, wrong *issues) {
	if text, ok := takeText(path, v, wrong); ok && text != "" {
		to.Order = []string{text}
	}
}

func takeSearch(path string, v given, to *asked, wrong *issues) {
	if text, ok := takeText(path, v, wrong); ok {
		to.Q = text
	}
}

// takeNumber reads a whole number. Medusa's parseInt would take 20 for "20 items";
// here that is an error.
func takeNumber(put func(*asked, int), most int) func(string, given, *asked, *issues) {
	return func(path string, v given, to *asked, wrong *issues) {
		text, _ := v.(string)
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case err != nil:
			wrong.wrongType(aNumber, path, saidBy(v))
		case n < 0:
			wrong.add("Value for field '%s' too small, expected at least: '0'", path)
		case n > int64(most):
			wrong.add("Value for field '%s' too big, expected at most: '%d'", path, most)
		default:
			put(to, int(n))
		}
	}
}

func takeBool(path string, v given, wrong *issues) bool {
	text, _ := v.(string)
	if text != "true" && text != "false" {
		wrong.wrongType(aBoolean, path, saidBy(v))
	}
	return text == "true"
}

func takeWithDeleted(path string, v given, to *asked, wrong *issues) {
	to.WithDeleted = takeBool(path, v, wrong)
}

func takeForce(path string, v given, to *asked, wrong *issues) { to.force = takeBool(path, v, wrong) }

// texts filters by a column of texts: one of them, or any of a list.
func texts(name, about string) param {
	return param{name, about, "array", func(path string, v given, to *asked, wrong *issues) {
		switch v := v.(type) {
		case string:
			to.Filter[name] = v
			return
		case []any:
			if !slices.ContainsFunc(v, func(one any) bool { _, text := one.(string); return !text }) {
				to.Filter[name] = v
				return
			}
		}
		wrong.wrongType("string, array", path, saidBy(v))
	}}
}

// yesOrNo filters by a column of booleans.
func yesOrNo(name, about string) param {
	return param{name, about, "boolean", func(_ string, v given, to *asked, wrong *issues) {
		text, _ := v.(string)
		switch text = strings.ToLower(text); text {
		case "true", "false":
			to.Filter[name] = text == "true"
		default:
			wrong.add("Invalid input")
		}
	}}
}

// numbers, moments and compared filter by any value of a column, by operators.
func numbers(name, about string) param {
	return operators(name, about, "number", func(text string) (any, bool) {
		q, err := events.ParseQuantity(text)
		return q, err == nil
	})
}

func moments(name, about string) param {
	return operators(name, about, "", func(text string) (any, bool) {
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateTime, time.DateOnly} {
			if at, err := time.Parse(layout, text); err == nil {
				return at, true
			}
		}
		return nil, false
	})
}

func compared(name, about string) param {
	return operators(name, about, "", func(text string) (any, bool) { return text, true })
}

// The operators of a filter, and whether they take a list.
var operatorNames = map[string]bool{
	"$eq": true, "$ne": true, "$in": true, "$nin": true,
	"$like": false, "$ilike": false, "$re": false, "$contains": false, "$gt": false, "$gte": false, "$lt": false, "$lte": false,
}

func operators(name, about, kind string, read func(string) (any, bool)) param {
	want := map[string]string{"number": aNumber}[kind]
	if want == "" {
		want = aText
	}
	value := func(path string, v given, lists bool, wrong *issues) any {
		switch v := v.(type) {
		case string:
			if value, ok := read(v); ok {
				return value
			}
		case []any:
			if !lists {
				break
			}
			var all []any
			for _, one := range v {
				text, _ := one.(string)
				value, ok := read(text)
				if !ok {
					wrong.wrongType(want, path, saidBy(v))
					return nil
				}
				all = append(all, value)
			}
			return all
		}
		wrong.wrongType(want, path, saidBy(v))
		return nil
	}
	return param{name, about, kind, func(path string, v given, to *asked, wrong *issues) {
		of, ok := v.(*nested)
		if !ok {
			to.Filter[name] = value(path, v, true, wrong)
			return
		}
		all := make(map[string]any)
		var unknown []string
		for _, operator := range of.names {
			lists, known := operatorNames[operator]
			if !known {
				unknown = append(unknown, operator)
				continue
			}
			operand := value(under(path, operator), of.of[operator], lists, wrong)
			if list := operator == "$in" || operator == "$nin"; list {
				if _, ok := operand.([]any); !ok {
					operand = []any{operand}
				}
			}
			all[operator] = operand
		}
		wrong.unrecognized(unknown)
		to.Filter[name] = all
	}}
}

// within filters by what belongs to a row.
func within(name, about string, filters params) param {
	return param{name, about, "object", func(path string, v given, to *asked, wrong *issues) {
		of, ok := v.(*nested)
		if !ok {
			wrong.wrongType(anObject, path, saidBy(v))
			return
		}
		inner := asked{List: projections.List{Filter: map[string]any{}}}
		filters.take(path, of, &inner, wrong)
		to.Filter[name] = inner.Filter
	}}
}

// takeGroups reads a list of filters.
func takeGroups(name string, filters params) func(string, given, *asked, *issues) {
	return func(path string, v given, to *asked, wrong *issues) {
		list, ok := v.([]any)
		if !ok {
			wrong.wrongType(anArray, path, saidBy(v))
			return
		}
		var all []any
		for i, one := range list {
			at := under(path, strconv.Itoa(i))
			of, ok := one.(*nested)
			if !ok {
				wrong.wrongType(anObject, at, saidBy(one))
				continue
			}
			inner := asked{List: projections.List{Filter: map[string]any{}}}
			filters.take(at, of, &inner, wrong)
			all = append(all, inner.Filter)
		}
		others, _ := to.Filter[name].([]any)
		to.Filter[name] = append(others, all...)
	}
}

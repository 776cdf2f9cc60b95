package medusaapi

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The bounds on a query string; qs, with which Medusa reads it, has the same.
const (
	maxParams = 1000
	maxDepth  = 5
)

// A given is what a query string gives: a text, a []any of them, or a *nested.
type given = any

// nested is an object of a query string, in the order in which it was written.
type nested struct {
	names []string
	of    map[string]given
}

func newNested() *nested { return &nested{of: make(map[string]given)} }

func (n *nested) set(name string, v given) {
	if _, there := n.of[name]; !there {
		n.names = append(n.names, name)
	}
	n.of[name] = v
}

// parseQuery reads a query string as Medusa does: key[]=a&key[]=b, key=a&key=b and
// key[0]=a&key[1]=b are lists, key[$gt]=1 and key.sub=1 are objects. A list of one
// text is split at its commas.
func parseQuery(text string) (*nested, error) {
	all := newNested()
	pairs := strings.Split(text, "&")
	if len(pairs) > maxParams {
		return nil, invalid("the query has more than %d parameters", maxParams)
	}
	for _, pair := range pairs {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(name)
		if err != nil {
			return nil, invalid("the query is not well-formed: %v", err)
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, invalid("the query is not well-formed: %v", err)
		}
		path, err := pathOf(key)
		if err != nil {
			return nil, err
		}
		below, err := insert(all.of[path[0]], path[1:], value)
		if err != nil {
			return nil, err
		}
		all.set(path[0], below)
	}
	return all.undotted()
}

// undotted splits lists of one text, and puts parent.child where parent[child] is.
func (n *nested) undotted() (*nested, error) {
	all := newNested()
	for _, name := range n.names {
		v := listed(n.of[name])
		if one, ok := v.([]any); ok && len(one) == 1 {
			if text, ok := one[0].(string); ok {
				v = split(text)
			}
		}
		parent, child, dotted := strings.Cut(name, ".")
		if !dotted {
			if err := all.put(name, v); err != nil {
				return nil, err
			}
			continue
		}
		if strings.Contains(child, ".") {
			return nil, invalid("Key accessor more than 2 levels deep: %s", clipped(name))
		}
		if all.of[parent] == nil {
			all.set(parent, newNested())
		}
		of, ok := all.of[parent].(*nested)
		if !ok {
			return nil, errTwoWays
		}
		if err := of.put(child, v); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// put sets what is not there yet, and joins an object to one that is.
func (n *nested) put(name string, v given) error {
	old, there := n.of[name]
	if !there {
		n.set(name, v)
		return nil
	}
	from, object := v.(*nested)
	into, both := old.(*nested)
	if !object || !both {
		return errTwoWays
	}
	for _, name := range from.names {
		if err := into.put(name, from.of[name]); err != nil {
			return err
		}
	}
	return nil
}

func split(text string) []any {
	var all []any
	for part := range strings.SplitSeq(text, ",") {
		all = append(all, part)
	}
	return all
}

// pathOf splits a[b][c].
func pathOf(key string) ([]string, error) {
	root, rest, _ := strings.Cut(key, "[")
	path := []string{root}
	if rest != "" || strings.HasSuffix(key, "[") {
		inner, closed := strings.CutSuffix(rest, "]")
		if !closed {
			return nil, invalid("the query names %q: a bracket is not closed", clipped(key))
		}
		path = append(path, strings.Split(inner, "][")...)
	}
	if len(path) > maxDepth+1 {
		return nil, invalid("the query names %q: more than %d levels deep", clipped(key), maxDepth)
	}
	return path, nil
}

// insert puts a text where a path leads.
func insert(at given, path []string, value string) (given, error) {
	if len(path) == 0 {
		switch old := at.(type) {
		case nil:
			return value, nil
		case string:
			return []any{old, value}, nil
		case []any:
			return append(old, value), nil
		}
		return nil, errTwoWays
	}
	if path[0] == "" { // key[]
		list, _ := at.([]any)
		if text, ok := at.(string); ok {
			list = []any{text}
		} else if _, ok := at.(*nested); ok {
			return nil, errTwoWays
		}
		element, err := insert(nil, path[1:], value)
		return append(list, element), err
	}
	if at == nil {
		at = newNested()
	}
	object, ok := at.(*nested)
	if !ok {
		return nil, errTwoWays
	}
	below, err := insert(object.of[path[0]], path[1:], value)
	object.set(path[0], below)
	return object, err
}

var errTwoWays = invalid("the query gives a parameter in two ways that do not go together")

// listed turns objects whose names are all numbers into lists.
func listed(v given) given {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = listed(v[i])
		}
		return v
	case *nested:
		for name, below := range v.of {
			v.of[name] = listed(below)
		}
		return v.list()
	}
	return v
}

func (n *nested) list() given {
	type element struct {
		at int
		v  given
	}
	var all []element
	for _, name := range n.names {
		at, err := strconv.ParseUint(name, 10, 31)
		if err != nil {
			return n
		}
		all = append(all, element{int(at), n.of[name]})
	}
	slices.SortStableFunc(all, func(a, b element) int { return cmp.Compare(a.at, b.at) })
	list := make([]any, len(all))
	for i, e := range all {
		list[i] = e.v
	}
	return list
}

// saidBy is a value as JavaScript would say it in a message.
func saidBy(v given) string {
	switch v := v.(type) {
	case string:
		return clipped(v)
	case []any:
		var parts []string
		for _, one := range v {
			parts = append(parts, saidBy(one))
		}
		return clipped(strings.Join(parts, ","))
	}
	return "[object Object]"
}

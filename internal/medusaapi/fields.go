package medusaapi

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An entity is what the fields of an answer can be chosen from.
type entity struct {
	plain     []string
	relations map[string]*entity
	open      bool // it has fields in Medusa that the ledger knows nothing of; they are left out
}

// A selection is what of an entity was chosen.
type selection struct {
	plain     map[string]bool
	relations map[string]*selection
}

func newSelection() *selection {
	return &selection{map[string]bool{}, map[string]*selection{}}
}

// chosen reads the parameter fields against the defaults, as Medusa does: a list
// that has a plain name replaces the defaults; one of +name, -name, *relation and
// relation.* changes them. The id is always there.
func (e *entity) chosen(fields *string, defaults []string) (*selection, error) {
	all := slices.Clone(defaults)
	if fields != nil {
		names := slices.DeleteFunc(strings.Split(*fields, ","), func(name string) bool { return name == "" })
		if len(names) == 0 || slices.ContainsFunc(names, replaces) {
			all = nil
			for _, name := range names {
				all = append(all, strings.TrimLeft(name[:1], "+ -")+name[1:])
			}
		} else {
			for _, name := range names {
				all = change(all, name)
			}
		}
		all = append(all, "id")
	}
	s := newSelection()
	var unknown []string
	for _, name := range all {
		if !e.choose(s, name) && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	var wrong issues
	wrong.unrecognized(unknown)
	return s, wrong.err()
}

func replaces(name string) bool {
	return !strings.ContainsAny(name[:1], "-+ *") && !strings.HasSuffix(name, ".*")
}

// change adds a field to those chosen, or takes it and what is under it away.
func change(all []string, name string) []string {
	switch name[0] {
	case '+', ' ': // a + in a query string is a space
		return append(all, strings.TrimLeft(name, "+ "))
	case '-':
		return slices.DeleteFunc(all, func(one string) bool {
			one = strings.TrimPrefix(one, "*")
			return one == name[1:] || strings.HasPrefix(one, name[1:]+".")
		})
	}
	return append(all, name)
}

// choose adds a field, such as sku, location_levels.id or *location_levels, and
// reports whether there is such a one.
func (e *entity) choose(s *selection, name string) bool {
	path, star := strings.CutPrefix(name, "*")
	if inner, suffixed := strings.CutSuffix(path, ".*"); suffixed {
		path, star = inner, true
	}
	if path == "" {
		e.chooseAll(s)
		return star
	}
	head, rest, deeper := strings.Cut(path, ".")
	below, related := e.relations[head]
	switch {
	case related:
		inner := s.relations[head]
		if inner == nil {
			inner = newSelection()
			s.relations[head] = inner
		}
		if !deeper {
			below.chooseAll(inner)
			return true
		}
		if slices.Contains(below.plain, "id") {
			inner.plain["id"] = true
		}
		if star {
			rest = "*" + rest
		}
		return below.choose(inner, rest)
	case !deeper && !star && slices.Contains(e.plain, head):
		s.plain[head] = true
		return true
	}
	return e.open
}

func (e *entity) chooseAll(s *selection) {
	for _, name := range e.plain {
		s.plain[name] = true
	}
}

// wants reports whether a relation was chosen.
func (s *selection) wants(relation string) bool { return s.relations[relation] != nil }

// below is what was chosen of a relation; nothing, if it was not chosen.
func (s *selection) below(relation string) *selection {
	if s.wants(relation) {
		return s.relations[relation]
	}
	return newSelection()
}

// names are the relations that were chosen, sorted.
func (s *selection) names() []string {
	var all []string
	for name := range s.relations {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// of is a row with what was chosen of it.
func (s *selection) of(row any) (jsontext.Value, error) {
	whole, err := json.Marshal(row)
	if err != nil {
		return nil, err
	}
	return s.pick(whole)
}

func (s *selection) pick(whole jsontext.Value) (jsontext.Value, error) {
	var picked bytes.Buffer
	switch whole.Kind() {
	case '[':
		picked.WriteByte('[')
		for i, one := range elementsOf(whole) {
			if i > 0 {
				picked.WriteByte(',')
			}
			part, err := s.pick(one)
			if err != nil {
				return nil, err
			}
			picked.Write(part)
		}
		picked.WriteByte(']')
		return picked.Bytes(), nil
	case '{':
		return s.pickMembers(whole)
	}
	return whole, nil // null
}

func (s *selection) pickMembers(object jsontext.Value) (jsontext.Value, error) {
	members, err := membersOf(object)
	if err != nil {
		return nil, err
	}
	picked := []byte{'{'}
	for _, name := range members.names {
		value := members.of[name]
		if below := s.relations[name]; below != nil {
			if value, err = below.pick(value); err != nil {
				return nil, err
			}
		} else if !s.plain[name] {
			continue
		}
		if len(picked) > 1 {
			picked = append(picked, ',')
		}
		if picked, err = jsontext.AppendQuote(picked, name); err != nil {
			return nil, err
		}
		picked = append(append(picked, ':'), value...)
	}
	return append(picked, '}'), nil
}

// each is rows with what was chosen of them.
func each[R any](s *selection, rows []R) ([]jsontext.Value, error) {
	all := make([]jsontext.Value, len(rows))
	for i, row := range rows {
		var err error
		if all[i], err = s.of(row); err != nil {
			return nil, err
		}
	}
	return all, nil
}

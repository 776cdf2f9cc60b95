package audit

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/stockledger/stockledger/projections"
)

// A rowKey names a row of a table by its number.
type rowKey struct {
	sheet  *sheet
	number uint64
}

// event is the position of the event that made the row.
func (k rowKey) event() uint64 {
	if k.sheet.number != "" {
		return k.number / 2
	}
	return k.number
}

// A difference is a row that is not what the books say. Either side may be nil.
type difference struct {
	rowKey
	wanted *line
	served *projections.Row
}

// A layout says where in the rows of a table the columns of its sheet are.
type layout struct {
	*sheet
	plain  []int
	words  [][]int
	number int // -1 for the position
}

// layouts finds the columns of all sheets in the tables of a snapshot. It fails
// when a table or a column is not what the books know.
func layouts(tables []projections.Table) (map[*sheet]*layout, error) {
	all := make(map[*sheet]*layout, len(sheets))
	for _, s := range sheets {
		i := slices.IndexFunc(tables, func(t projections.Table) bool { return t.Model == s.model && t.Name == s.table })
		if i < 0 {
			return nil, fmt.Errorf("the read model %s has no table %s", s.model, s.table)
		}
		l, err := s.layout(tables[i].Columns)
		if err != nil {
			return nil, err
		}
		all[s] = l
	}
	for _, t := range tables {
		if !slices.ContainsFunc(sheets, func(s *sheet) bool { return s.model == t.Model && s.table == t.Name }) {
			return nil, fmt.Errorf("the books do not know the table %s of the read model %s", t.Name, t.Model)
		}
	}
	return all, nil
}

func (s *sheet) layout(columns []string) (*layout, error) {
	l := &layout{sheet: s, number: slices.Index(columns, s.number)}
	find := func(names []string) (at []int, err error) {
		for _, name := range names {
			i := slices.Index(columns, name)
			if i < 0 {
				return nil, fmt.Errorf("the table %s has no column %s", s.name(), name)
			}
			at = append(at, i)
		}
		return at, nil
	}
	var err error
	if l.plain, err = find(s.plain); err != nil {
		return nil, err
	}
	all := slices.Clone(s.plain)
	for _, group := range s.words {
		at, err := find(group)
		if err != nil {
			return nil, err
		}
		l.words, all = append(l.words, at), append(all, group...)
	}
	for _, name := range columns {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("the books do not know the column %s of the table %s", name, s.name())
		}
	}
	return l, nil
}

// rowNumber is the number of a served row.
func (l *layout) rowNumber(r *projections.Row) uint64 {
	if l.number < 0 {
		return r.Position
	}
	n, _ := strconv.ParseUint(r.Values[l.number].String, 10, 64)
	return n
}

// same reports whether a served row is what the books say.
func (l *layout) same(s seeds, want *line, have *projections.Row, scratch []text) bool {
	for i, column := range l.plain {
		if have.Values[column] != want.plain[i] {
			return false
		}
	}
	for i, group := range l.words {
		scratch = scratch[:0]
		for _, column := range group {
			scratch = append(scratch, have.Values[column])
		}
		if s.digest(scratch...) != want.words[i] {
			return false
		}
	}
	return true
}

// compare goes through the rows of a table and the lines of the books beside each
// other; both are in the order of their numbers. It hands every row that differs,
// is missing or is too many to differs, and returns how many rows there are.
func (l *layout) compare(
	s seeds, want iter.Seq[*line], have iter.Seq2[projections.Row, error], look func(*projections.Row), differs func(difference),
) (rows uint64, err error) {
	next, stop := iter.Pull2(have)
	defer stop()
	scratch := make([]text, 0, 24)
	var row projections.Row
	var number, last uint64
	var more bool
	advance := func() error {
		var failed error
		if row, failed, more = next(); !more {
			return nil
		}
		if failed != nil {
			more = false
			return failed
		}
		rows++
		if look != nil {
			look(&row)
		}
		number = l.rowNumber(&row)
		last = max(last, number)
		return nil
	}
	extra := func() { differs(difference{rowKey: rowKey{l.sheet, number}, served: clone(&row)}) }
	if err := advance(); err != nil {
		return rows, err
	}
	for w := range want {
		for more && number < w.number {
			extra()
			if err := advance(); err != nil {
				return rows, err
			}
		}
		if !more || number > w.number {
			differs(difference{rowKey: rowKey{l.sheet, w.number}, wanted: w.clone()})
			continue
		}
		if !l.same(s, w, &row, scratch) {
			differs(difference{rowKey{l.sheet, w.number}, w.clone(), clone(&row)})
		}
		if err := advance(); err != nil {
			return rows, err
		}
	}
	for more {
		extra()
		if err := advance(); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func clone(r *projections.Row) *projections.Row {
	c := *r
	return &c
}

func (l *line) clone() *line {
	return &line{l.number, slices.Clone(l.plain), slices.Clone(l.words)}
}

// A column is one that differs, with both values.
type column struct {
	name         string
	wanted, have text
}

// columns are those in which a row differs. Names and values of the columns that
// the books keep together come from the dictionary; without one, the group is named.
func (l *layout) columns(b *books, d difference) (all []column) {
	if d.served == nil || d.wanted == nil {
		return nil
	}
	for i, at := range l.plain {
		if have := d.served.Values[at]; have != d.wanted.plain[i] {
			all = append(all, column{l.sheet.plain[i], d.wanted.plain[i], have})
		}
	}
	for i, group := range l.words {
		values := make([]text, len(group))
		for n, at := range group {
			values[n] = d.served.Values[at]
		}
		if b.digest(values...) == d.wanted.words[i] {
			continue
		}
		wanted := b.dictionary[d.wanted.words[i]]
		for n, have := range values {
			switch {
			case wanted == nil:
				all = append(all, column{name: l.sheet.words[i][n], have: have})
			case have != wanted[n]:
				all = append(all, column{l.sheet.words[i][n], wanted[n], have})
			}
		}
	}
	return all
}

// key is what people know the row of a line by.
func (l *layout) key(b *books, w *line) string {
	for i, name := range l.sheet.plain {
		if name == "id" || name == "command_id" {
			return w.plain[i].String
		}
	}
	if len(w.words) > 0 {
		if values := b.dictionary[w.words[0]]; values != nil {
			return values[0].String
		}
	}
	return strconv.FormatUint(w.number, 10)
}

func byPlace(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Row, b.Row))
}

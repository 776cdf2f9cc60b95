package projections

import (
	"encoding/json"
	"slices"
	"strings"
)

// A table is what can be listed: its columns, and the ways to its rows. All SQL
// is made of its texts.
type table struct {
	name    string
	beside  beside // what else there is of each row
	filters []column
	indexes []index
	search  search
	nested  map[string]nested // selectors of other tables
	deletes bool              // rows have deleted_at
	early   []string          // columns that not only lists find rows by
	alive   string            // an index of the positions that are not deleted
}

// A beside is a table with a row for each row of another, at the same position.
type beside struct {
	name    string
	columns []string
}

func (t *table) column(name string) (column, bool) {
	i := slices.IndexFunc(t.filters, func(c column) bool { return c.name == name })
	if i < 0 {
		return column{}, false
	}
	return t.filters[i], true
}

func (t *table) isBeside(column string) bool { return slices.Contains(t.beside.columns, column) }

// from is the table, and what is beside it when that is needed, both at the
// positions that are hit, if they were found elsewhere.
func (t *table) from(hit string, besides bool) (from, position string) {
	from, position = t.name+` NOT INDEXED`, t.name+`.position`
	if hit != "" {
		from, position = `(`+hit+`) AS hit CROSS JOIN `+t.name+` ON `+t.name+`.position = hit.at`, `hit.at`
	}
	if besides {
		from += ` CROSS JOIN ` + t.beside.name + ` ON ` + t.beside.name + `.position = ` + position
	}
	return from, position
}

// schema makes what the fold and the engine find rows by, and what is searched.
func (t *table) schema() string { return t.ddl(true) + t.search.schema() }

// late makes the indexes that only lists need.
func (t *table) late() string {
	ddl := t.ddl(false)
	if t.alive != "" {
		ddl += `CREATE INDEX ` + t.alive + ` ON ` + t.name + ` (position) WHERE deleted_at IS NULL;`
	}
	return ddl
}

func (t *table) ddl(early bool) string {
	var ddl strings.Builder
	for _, ix := range t.indexes {
		if early == (ix.unique || slices.Contains(t.early, ix.column)) {
			ddl.WriteString(ix.schema())
		}
	}
	return ddl.String()
}

// An index leads to rows by a column.
type index struct {
	name, table, column string
	then                string // the column after it; position is what makes it yield rows of one value in order
	deleted             string // what says that a row is deleted, "" for nothing
	live                bool   // it has no others than those that are not deleted
	unique              bool   // there is one row at most of a value
	given               bool   // it has no rows without a value
}

func (ix index) schema() string {
	columns, where := ix.column+`, `+ix.then, ``
	switch {
	case ix.unique:
		return `CREATE UNIQUE INDEX ` + ix.name + ` ON ` + ix.table + ` (` + ix.column + `);`
	case ix.live:
		where = ` WHERE ` + ix.deleted + ` IS NULL`
	case ix.deleted != "":
		columns += `, ` + ix.deleted
	}
	return `CREATE INDEX ` + ix.name + ` ON ` + ix.table + ` (` + columns + `)` + where + `;`
}

// indexes are those of columns that yield the rows of one value in order, and know
// which of them are deleted.
func indexes(table, deleted string, columns ...string) (made []index) {
	for _, column := range columns {
		made = append(made, index{name: table + `_by_` + column, table: table, column: column, then: `position`, deleted: deleted})
	}
	return made
}

// uniqueIndex is an index of a column that has each value once.
func uniqueIndex(table, column string) index {
	return index{name: table + `_by_` + column, table: table, column: column, then: `position`, unique: true}
}

// liveIndexes are the same without what is deleted.
func liveIndexes(table string, columns ...string) (made []index) {
	for _, column := range columns {
		made = append(made, index{
			name: `live_` + table + `_by_` + column, table: table, column: column, then: `position`, deleted: `deleted_at`, live: true,
		})
	}
	return made
}

// A leg finds positions in one place.
type leg struct {
	at, from string
	join     string // from there to the positions, when they are elsewhere
	where    []string
	args     []any
}

// text selects the positions, and the column to order them by unless key is "".
func (l leg) text(key string) string {
	if key != "" {
		key = `, ` + key + ` AS key`
	}
	return `SELECT ` + l.at + ` AS at` + key + ` FROM ` + l.from + l.join + whereAll(l.where)
}

func whereAll(conditions []string) string {
	if len(conditions) == 0 {
		return ``
	}
	return ` WHERE ` + strings.Join(conditions, ` AND `)
}

// and is the leg with one more condition.
func (l leg) and(condition string, args ...any) leg {
	l.where = append(slices.Clip(l.where), condition)
	l.args = append(slices.Clip(l.args), args...)
	return l
}

// A route leads to all positions that a term is true of, and maybe to others.
type route struct {
	legs    []leg  // apart from each other when the route is exact
	index   string // that the one leg takes, "" for none or several
	ordered bool   // it yields positions in order, either way
	exact   bool   // it leads to no others
	live    bool   // nor to any that are deleted, unless they are asked for
	costly  bool   // to count what it leads to takes longer than to follow it for a page
}

// maxLegs bounds what one statement is made of.
const maxLegs = 64

// text selects the positions.
func (r route) text() (text string, args []any) {
	texts := make([]string, len(r.legs))
	for i, l := range r.legs {
		texts[i] = l.text("")
		args = append(args, l.args...)
	}
	return strings.Join(texts, ` UNION ALL `), args
}

// probe counts what is found before the positions are known, up to a limit.
func (r route) probe() (text string, args []any) {
	texts := make([]string, len(r.legs))
	for i, l := range r.legs {
		texts[i] = `SELECT 1 FROM ` + l.from + whereAll(l.where)
		args = append(args, l.args...)
	}
	return `SELECT count(*) FROM (` + strings.Join(texts, ` UNION ALL `) + ` LIMIT ?)`, args
}

// leg begins a way through the index.
func (ix index) leg(withDeleted bool) leg {
	l := leg{at: `position`, from: ix.table + ` INDEXED BY ` + ix.name}
	if !withDeleted && ix.deleted != "" {
		l = l.and(ix.deleted + ` IS NULL`)
	}
	return l
}

// route leads to what a comparison of the column is true of. There is none to
// what may be anywhere, nor to what is in too many pieces.
func (ix index) route(c comparison, withDeleted bool) (route, bool) {
	e := c.extent
	if e.anywhere() {
		return route{}, false
	}
	r := route{exact: true, live: withDeleted || ix.deleted != ""}
	start := ix.leg(withDeleted)
	if !e.exact {
		start = start.and(c.text, c.args...)
	}
	var points []any
	for _, s := range e.spans {
		if s.isPoint() {
			points = append(points, s.from)
			continue
		}
		if len(r.legs) == maxLegs {
			return route{}, false
		}
		r.legs = append(r.legs, s.narrow(start, ix.column))
	}
	switch len(points) {
	case 0:
	case 1:
		r.legs = append(r.legs, start.and(ix.column+` = ?`, points[0]))
	default:
		set, err := json.Marshal(points)
		if err != nil {
			panic(err) // they are strings and numbers
		}
		r.legs = append(r.legs, start.and(ix.column+` IN (SELECT value FROM json_each(?))`, string(set)))
	}
	if e.null == yes && ix.given {
		return route{}, false
	}
	if e.null == yes {
		r.legs = append(r.legs, start.and(ix.column+` IS NULL`))
	}
	switch len(r.legs) {
	case 0:
		r.legs = []leg{{at: `0`, from: `(SELECT 0)`, where: []string{`FALSE`}}}
	case 1:
		r.index = ix.name
		r.ordered = ix.then == `position` && (len(points) == 1 || e.null == yes)
	}
	return r, true
}

// narrow keeps what is in the span.
func (s span) narrow(l leg, column string) leg {
	if s.from == nil && s.to == nil {
		return l.and(column + ` IS NOT NULL`)
	}
	if s.from != nil {
		sign := ` >= ?`
		if s.fromOpen {
			sign = ` > ?`
		}
		l = l.and(column+sign, s.from)
	}
	if s.to != nil {
		sign := ` <= ?`
		if s.toOpen {
			sign = ` < ?`
		}
		l = l.and(column+sign, s.to)
	}
	return l
}

// union leads to what any of the terms is true of, if there is a way to each.
func union(terms []term) (together route, ok bool) {
	together.live = true
	for _, t := range terms {
		if len(t.routes) == 0 {
			return route{}, false
		}
		r := t.routes[0]
		for _, other := range t.routes[1:] {
			if other.ordered && !r.ordered {
				r = other // one value, most likely the fewest rows
			}
		}
		together.legs = append(together.legs, r.legs...)
		together.live = together.live && r.live
	}
	return together, len(together.legs) > 0 && len(together.legs) <= maxLegs
}

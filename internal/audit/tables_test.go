package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A tableAt is a table of a read model, with what it takes to spoil it.
type tableAt struct {
	model, table string
	key          string // of the primary key, what tells a row by itself
}

func (a tableAt) String() string { return a.model + "." + a.table }

var allTables = []tableAt{
	{"inventory", "items", "position"},
	{"inventory", "totals", "position"},
	{"inventory", "levels", "position"},
	{"inventory", "reservations", "position"},
	{"inventory", "links", "position"},
	{"inventory", "locations", "position"},
	{"inventory", "location_links", "id"},
	{"movements", "commands", "position"},
	{"movements", "places", "position"},
	{"movements", "levels", "position"},
	{"movements", "movements", "id"},
	{"movements", "backdated", "id"},
	{"movements", "endings", "id"},
}

// takeOut deletes a row behind the model's back, and returns what puts it back.
func (a tableAt) takeOut(t testing.TB, dir string) func() {
	row := rowOf(t, dir, a)
	spoil(t, dir, a.model, `DELETE FROM `+a.table+` WHERE `+row.where(), row.values...)
	return func() {
		spoil(t, dir, a.model, `INSERT INTO `+a.table+` (`+strings.Join(row.columns, ", ")+`) VALUES (?`+
			strings.Repeat(", ?", len(row.columns)-1)+`)`, row.values...)
	}
}

// putIn adds a row like another one, as if made by an event that made none.
func (a tableAt) putIn(t testing.TB, dir string) func() {
	row := rowOf(t, dir, a)
	var columns []string
	for _, c := range row.columns {
		switch c {
		case a.key:
			c = fmt.Sprint(1 << 40)
		case "id", "command_id", "variant_id":
			c += ` || 'x'`
		}
		columns = append(columns, c)
	}
	spoil(t, dir, a.model, `INSERT INTO `+a.table+` (`+strings.Join(row.columns, ", ")+`)
		SELECT `+strings.Join(columns, ", ")+` FROM `+a.table+` WHERE `+row.where(), row.values...)
	return func() { spoil(t, dir, a.model, `DELETE FROM `+a.table+` WHERE `+a.key+` = ?`, 1<<40) }
}

type storedRow struct {
	columns []string
	values  []any
}

// where finds the row by all its values.
func (r storedRow) where() string {
	var all []string
	for i, c := range r.columns {
		all = append(all, fmt.Sprintf("%s IS ?%d", c, i+1))
	}
	return strings.Join(all, " AND ")
}

// rowOf reads a row in the middle of a table.
func rowOf(t testing.TB, dir string, a tableAt) storedRow {
	db := modelFile(t, dir, a.model)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT * FROM `+a.table+` LIMIT 1 OFFSET (SELECT count(*) / 2 FROM `+a.table+`)`)
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next(), "%s is empty", a)
	var r storedRow
	r.columns, err = rows.Columns()
	require.NoError(t, err)
	r.values = make([]any, len(r.columns))
	into := make([]any, len(r.columns))
	for i := range into {
		into[i] = &r.values[i]
	}
	require.NoError(t, rows.Scan(into...))
	require.NoError(t, rows.Err())
	return r
}

// change changes one value of a row, and returns what changes it back.
func (a tableAt) change(t testing.TB, dir string, row storedRow, column int, to any) func() {
	set := func(now storedRow, to any) {
		spoil(t, dir, a.model, fmt.Sprintf("UPDATE %s SET %s = ?%d WHERE %s", a.table, row.columns[column], len(row.columns)+1, now.where()),
			append(slices.Clone(now.values), to)...)
	}
	changed := storedRow{row.columns, slices.Clone(row.values)}
	changed.values[column] = to
	set(row, to)
	return func() { set(changed, row.values[column]) }
}

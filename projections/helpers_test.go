package projections_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/projections"
)

func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// listed is a page as JSON, row by row.
func listed[T any](t testing.TB, list func(context.Context, projections.List) (projections.Page[T], error), asked projections.List) []string {
	t.Helper()
	page, err := list(t.Context(), asked)
	require.NoError(t, err)
	var rows []string
	for _, row := range page.Rows {
		rows = append(rows, asJSON(t, row))
	}
	return rows
}

// ordinaryTables are those that are not full-text indexes, nor parts of them.
const ordinaryTables = `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '%\_grams%' ESCAPE '\' ORDER BY name`

// dump is everything in the files of a directory, by file and table.
func dump(t require.TestingT, dir string) map[string][]string {
	all := make(map[string][]string)
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, file := range files {
		for table, rows := range dumpFile(t, file) {
			all[filepath.Base(file)+" "+table] = rows
		}
	}
	return all
}

// dumpFile is everything in a file, by table.
func dumpFile(t require.TestingT, file string) map[string][]string {
	all := make(map[string][]string)
	db := sql.OpenDB(projections.Connect(file))
	defer db.Close()
	db.SetMaxOpenConns(1) // temporary tables are of a connection
	for _, table := range texts(t, db, ordinaryTables) {
		all[table] = texts(t, db, `SELECT * FROM `+table+` ORDER BY 1`)
	}
	// A full-text index is laid out by how it came about, so what is in it counts.
	for _, table := range texts(t, db, `SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%'`) {
		_, err := db.Exec(`CREATE VIRTUAL TABLE temp.terms_of_` + table + ` USING fts5vocab(main, ` + table + `, instance)`)
		require.NoError(t, err)
		all[table] = texts(t, db, `SELECT term, doc FROM terms_of_`+table+` ORDER BY 1, 2`)
	}
	return all
}

// texts are the rows of a query, each as one text.
func texts(t require.TestingT, db *sql.DB, query string) []string {
	rows, err := db.Query(query)
	require.NoError(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		require.NoError(t, rows.Scan(into...))
		if len(values) == 1 {
			all = append(all, fmt.Sprint(values[0]))
		} else {
			all = append(all, fmt.Sprint(values...))
		}
	}
	require.NoError(t, rows.Err())
	return all
}

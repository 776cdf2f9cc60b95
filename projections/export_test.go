package projections

import (
	"database/sql/driver"
	"testing"
)

// Connect opens a file as the models do.
func Connect(path string) driver.Connector { return connector{dsn(path)} }

// Holding is cfg with no more than so many rows of a table in memory.
func (cfg Config) Holding(rows int) Config {
	cfg.held = rows
	return cfg
}

// CompareDecimals is the collation.
var CompareDecimals = compareDecimals

// LevelTexts asks the file of levels for one column of text.
func (m *Models) LevelTexts(t *testing.T, query string) []string {
	t.Helper()
	rows, err := m.levels.file.db.QueryContext(t.Context(), query)
	texts, err := gather(rows, err, func(s scanner) (text string, err error) { return text, s.Scan(&text) })
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// HoldPages takes every connection that pages of levels are read through, each
// inside a page, until the test ends.
func (m *Models) HoldPages(t *testing.T) {
	t.Helper()
	for range readers {
		rows, err := m.levels.file.db.QueryContext(t.Context(), `SELECT position FROM checkpoint`)
		if err != nil || !rows.Next() {
			t.Fatal(err, rows.Err())
		}
		t.Cleanup(func() { _ = rows.Close() })
	}
}

package projections

import (
	"database/sql/driver"
	"testing"
	"time"
)

// Connect opens a file as the models do.
func Connect(path string) driver.Connector { return connector{dsn(path)} }

// Holding is cfg with no more than so many rows of a table in memory.
func (cfg Config) Holding(rows int) Config {
	cfg.held = rows
	return cfg
}

// Finding is cfg with lists that take so many rows for few.
func (cfg Config) Finding(few int) Config {
	cfg.few = few
	return cfg
}

// Within is cfg with queries that may take so long.
func (cfg Config) Within(longest time.Duration) Config {
	cfg.longest = longest
	return cfg
}

// Far is cfg with new files that do without indexes when so many events behind.
func (cfg Config) Far(events int) Config {
	cfg.far = events
	return cfg
}

// How quantities are stored that rows are found by.
var (
	QuantityKey = quantityKey
	ParseKey    = parseKey
)

// HoldPages takes every connection that pages of levels are read through, each
// inside a page, until the test ends.
func (m *Models) HoldPages(t *testing.T) {
	t.Helper()
	for range readers {
		rows, err := m.inventory.file.db.QueryContext(t.Context(), `SELECT position FROM checkpoint`)
		if err != nil || !rows.Next() {
			t.Fatal(err, rows.Err())
		}
		t.Cleanup(func() { _ = rows.Close() })
	}
}

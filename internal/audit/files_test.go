package audit_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	_ "modernc.org/sqlite"
)

// A row that an index does not lead to is right, and not in the lists. Only
// SQLite can tell.
func TestVerifyFindsAnIndexThatIsNotItsTables(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	s := newShop(t, ledger, 5, newSeed(t))
	s.furnish()
	s.settle()
	requireOK(t, verify(t, ledger))
	require.NoError(t, ledger.Close())
	path := filepath.Join(dir, "models", "inventory.v1.db")
	execAll(t, path, `UPDATE levels SET inventory_item_id = inventory_item_id || '!'`)
	execAll(t, path, `CREATE TABLE hidden AS SELECT * FROM sqlite_schema WHERE name = 'levels_by_item'`,
		`PRAGMA writable_schema = 1`, `DELETE FROM sqlite_schema WHERE name = 'levels_by_item'`)
	execAll(t, path, `UPDATE levels SET inventory_item_id = rtrim(inventory_item_id, '!')`, `PRAGMA writable_schema = 1`,
		`INSERT INTO sqlite_schema SELECT * FROM hidden`, `DROP TABLE hidden`)
	ledger = open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()

	report := verify(t, ledger)

	require.EqualValues(t, 1, wrong(report, "files"), "%+v", report.Findings)
	f, found := named(report, "files", "")
	require.True(t, found)
	require.Equal(t, "inventory", f.Model)
	require.True(t, strings.HasPrefix(f.Message, "the file of the read model inventory is damaged; rebuild it: "), f.Message)
}

// execAll changes a file that nobody has open, over a connection of its own.
func execAll(t *testing.T, path string, statements ...string) {
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, statement := range statements {
		_, err := db.Exec(statement)
		require.NoError(t, err, statement)
	}
}

package main

import (
	"database/sql"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tamper changes a file of the ledger while it is not served.
func (s *shop) tamper(file, statement string) {
	s.Helper()
	s.close()
	files, err := filepath.Glob(filepath.Join(s.dir, "data", file))
	require.NoError(s, err)
	require.Len(s, files, 1)
	db, err := sql.Open("sqlite", files[0])
	require.NoError(s, err)
	result, err := db.Exec(statement)
	require.NoError(s, err)
	changed, err := result.RowsAffected()
	require.NoError(s, err)
	require.Positive(s, changed, "nothing was tampered with")
	require.NoError(s, db.Close())
	s.open()
}

// parts runs explain, which must fail with 1 and say where.
func (s *shop) parts(want string, args ...string) {
	s.Helper()
	explain := s.program(append([]string{"explain"}, args...)...)
	out, err := explain.CombinedOutput()
	require.Error(s, err, "%s", out)
	require.Equal(s, exitFailed, explain.ProcessState.ExitCode(), "%s", out)
	require.Contains(s, string(out), want)
}

// What the ledger serves may be wrong; explain says so, and where.
func TestExplainNamesTheFirstPlaceWhereTheyPart(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run("cmd", "create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":9},{"location_id":"rome","stocked_quantity":4}]}`)
	sale := s.run("cmd", "adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"rome","adjustment":-1}`, "--reason", "sale")
	position := strings.TrimSuffix(strings.Fields(sale)[3], ":")
	out := s.run("explain", "mug")
	require.Contains(t, out, "sum of 3 events = 12 available\nserved 12 ✓\nchain ✓ (")

	s.tamper("models/inventory.v*.db",
		`UPDATE levels SET stocked_quantity = (SELECT stocked_quantity FROM levels WHERE location_id = 'paris') WHERE location_id = 'rome'`)
	parts := "THE LOG AND WHAT IS SERVED PART after position " + position + ": there the log makes "
	s.parts(parts+"3 stocked, and the levels of the read model have 9", "mug", "rome", "--quantity", "stocked")
	s.parts(parts+"3 stocked, and the levels of the read model have 9", "mug", "rome", "--quantity", "stocked", "--json")
	s.parts(parts+"3 stocked, and the levels of the read model have 9 for level ilev_", "mug", "--quantity", "stocked")

	s.tamper("log.db", `UPDATE events SET data = CAST(replace(CAST(data AS TEXT), ':-1', ':-2') AS BLOB) WHERE position = `+position)
	s.parts("THE CHAIN OF item-mug IS BROKEN: ", "mug", "paris")
	s.parts("chain ✗", "mug", "paris")
}

// A story that is longer than a page is told whole.
func TestALongStoryIsExplained(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run("cmd", "create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]}`)
	line := `{"inventory_item_id":"mug","location_id":"paris","adjustment":1}`
	s.run("cmd", "adjust-inventory-levels", "["+strings.Repeat(line+",", 1200)+line+"]")

	var e explanation
	require.NoError(t, json.Unmarshal([]byte(s.run("explain", "mug", "--all", "--json")), &e))
	require.Len(t, e.Rows, 1202)
	require.Equal(t, "1204", e.Sum.String())
	require.Zero(t, e.Opening.Events)
	for i, r := range e.Rows {
		require.Equal(t, strconv.Itoa(i+3), r.text("running"))
	}
	require.Contains(t, s.run("explain", "mug", "--take", "2"), "1200 events before these = 1202; --all shows all\n")
	require.Contains(t, s.run("history", "mug", "--newest", "1"), "\n1201 older movements were not shown\n")
	require.Contains(t, s.run("history", "mug", "--newest", "1"), "\nsum of 1202 movements = 1204 = stocked now\n")
}

package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/race"
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
	parts := "THE LOG AND WHAT IS SERVED PART after position " + position + ": there stocked is 3 by the log, and "
	s.parts(parts+"9 in levels of the read model", "mug", "rome", "--quantity", "stocked")
	s.parts(parts+"9 in levels of the read model", "mug", "rome", "--quantity", "stocked", "--json")
	s.parts(parts+"9 in levels of the read model for level ilev_", "mug", "--quantity", "stocked")

	s.tamper("models/inventory.v*.db", `UPDATE levels SET stocked_quantity = 'many' WHERE location_id = 'rome'`)
	s.parts(parts+`"many" in levels of the read model`, "mug", "rome", "--quantity", "stocked")

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
	newest := s.run("history", "mug", "--newest", "1")
	require.Contains(t, newest, "  1204  ", "what all of them come to")
	require.Contains(t, newest, "\nthe newest 1 movement; there are older ones, --all shows them\n")
	require.Contains(t, s.run("history", "mug"), "\nsum of 1202 movements = 1204 = stocked now\n")
}

// An item may have more levels than a page has rows. Its history adds up all the
// same, and no sum begins again where a page does.
func TestAnItemInMorePlacesThanAPageHas(t *testing.T) {
	if race.On {
		t.Skip("so many levels take too long under the race detector")
	}
	t.Parallel()
	s := openShop(t)
	levels := make([]string, 1100)
	for i := range levels {
		levels[i] = fmt.Sprintf(`{"inventory_item_id":"mug","location_id":"at-%d","stocked_quantity":2}`, i)
	}
	s.run("cmd", "create-inventory-items", `{"id":"mug"}`)
	s.run("cmd", "create-inventory-levels", "["+strings.Join(levels, ",")+"]", "--actor", "ann")
	s.run("cmd", "adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"at-7","adjustment":-2}`, "--actor", "bob")

	whole := s.run("history", "mug")
	require.Contains(t, whole, "\nsum of 1101 movements = 2198 = stocked now\n")
	require.Regexp(t, `level-created +at-1099 +\+2 +2200 `, whole, "the sum of all levels")
	require.Contains(t, s.run("history", "mug", "at-8"), "\nsum of 1 movement = 2 = stocked now\n")

	anns := s.run("history", "mug", "--actor", "ann", "--all")
	require.Equal(t, 1100, strings.Count(anns, "level-created"))
	require.Regexp(t, `level-created +at-999 +\+2 +2 +0 `, anns, "what the level held")
	require.Regexp(t, `level-created +at-1000 +\+2 +2 +0 `, anns)
	require.NotContains(t, s.run("history", "mug", "--actor", "ann", "--all", "--json"), "running_")
	out, err := s.program("history", "mug", "--since", "yesterday", "--all", "--json").Output()
	require.NoError(t, err)
	balance := lines[row](t, out)
	require.Equal(t, "2198", balance[len(balance)-1].text("running_stocked"), "there is a balance of an item")
}

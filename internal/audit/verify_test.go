package audit_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/race"
)

func verify(t testing.TB, ledger *stockledger.Ledger) audit.Report {
	report, err := audit.Verify(t.Context(), audit.Config{Store: ledger.Events(), Models: ledger.Models()})
	require.NoError(t, err)
	return report
}

// requireOK shows what was found when something was.
func requireOK(t testing.TB, report audit.Report) {
	t.Helper()
	for _, f := range report.Findings {
		t.Log(f.Check, "|", f.Message)
	}
	require.True(t, report.OK(), "%d wrong: %+v", report.Wrong(), report.Checks)
}

func TestALedgerThatIsRightIsNotAccused(t *testing.T) {
	ledger := open(t, t.TempDir())
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 40, newSeed(t))
	s.furnish()
	s.trade(fewer(4000, 300))
	item := s.living()
	for _, required := range []int{2, 3, 3, 3} { // again, which changes nothing and is only accepted
		s.do("attach-inventory-items", []object{{"variant_id": "v", "inventory_item_id": item, "required_quantity": required}})
	}
	s.settle()

	report := verify(t, ledger)

	requireOK(t, report)
	t.Logf("%d of %d commands, %d events, %d rows", s.done, s.orders, report.Events, report.Rows)
	for _, c := range report.Checks {
		t.Log(c.Name, c.Checked)
		if c.Name != "backdated sums" {
			require.NotZero(t, c.Checked, "%s was not looked at", c.Name)
		}
	}
	types := make(map[string]bool)
	for batch, err := range ledger.Events().Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		for _, e := range batch {
			types[e.Type] = true
		}
		if batch[len(batch)-1].Position == report.Position {
			break
		}
	}
	for _, name := range events.Types() {
		if race.On {
			break // which has too few orders for all of them
		}
		require.True(t, types[name], "the shop makes no %s, so nothing says that the books know it", name)
	}
	written, err := json.Marshal(report)
	require.NoError(t, err)
	require.Contains(t, string(written), `"head":"`+report.Head.String()+`"`)
}

// named finds the finding about a column of a table.
func named(report audit.Report, check, column string) (audit.Finding, bool) {
	i := slices.IndexFunc(report.Findings, func(f audit.Finding) bool { return f.Check == check && f.Column == column })
	if i < 0 {
		return audit.Finding{}, false
	}
	return report.Findings[i], true
}

// wrong counts what a check found.
func wrong(report audit.Report, name string) uint64 {
	i := slices.IndexFunc(report.Checks, func(c audit.Check) bool { return c.Name == name })
	return report.Checks[i].Wrong
}

func TestVerifyNamesTheRowTheColumnAndBothValuesWhateverIsChanged(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 15, newSeed(t))
	s.furnish()
	s.trade(fewer(900, 60))
	s.settle()
	requireOK(t, verify(t, ledger))
	for _, of := range allTables {
		row := rowOf(t, dir, of)
		for i, column := range row.columns {
			if race.On && i%4 != 0 {
				continue // one column is like another then
			}
			t.Run(of.String()+"."+column, func(t *testing.T) {
				back := of.change(t, dir, row, i, spoilt(row.values[i]))

				report := verify(t, ledger)

				require.NotZero(t, wrong(report, of.String()), "%+v", report.Findings)
				f, found := named(report, of.String(), column)
				if found {
					require.NotNil(t, f.Served)
					require.NotEqual(t, f.Expected, f.Served)
					require.Contains(t, f.Message, column+" is ")
					require.NotZero(t, f.Position)
				} else { // the row is another one now
					require.Contains(t, []string{"position", "id", "kind", "location_id", "level", "effective_at"}, column)
				}

				back()
			})
		}
	}
	requireOK(t, verify(t, ledger))
}

// spoilt is another value than the one that is stored.
func spoilt(stored any) any {
	switch v := stored.(type) {
	case int64:
		return v + 1<<40
	case string:
		return v + "x"
	}
	return "x"
}

func TestVerifyFindsRowsThatAreMissingTooManyOrSwapped(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 15, newSeed(t))
	s.furnish()
	s.trade(fewer(900, 60))
	s.settle()
	for _, of := range allTables {
		back := of.takeOut(t, dir)
		report := verify(t, ledger)
		require.EqualValues(t, 1, wrong(report, of.String()), "%s: %+v", of, report.Findings)
		i := slices.IndexFunc(report.Findings, func(f audit.Finding) bool { return f.Check == of.String() })
		require.Contains(t, report.Findings[i].Message, "is missing")
		back()

		back = of.putIn(t, dir)
		report = verify(t, ledger)
		require.EqualValues(t, 1, wrong(report, of.String()), "%s: %+v", of, report.Findings)
		i = slices.IndexFunc(report.Findings, func(f audit.Finding) bool { return f.Check == of.String() })
		require.Contains(t, report.Findings[i].Message, "should not be there")
		back()
	}
	requireOK(t, verify(t, ledger))

	s.do("create-inventory-items", []object{
		{"id": "mug", "location_levels": []object{{"location_id": "paris", "stocked_quantity": 3}}},
		{"id": "cup", "location_levels": []object{{"location_id": "paris", "stocked_quantity": 4}}},
	})
	s.settle()
	spoil(t, dir, "inventory", `UPDATE levels SET
		stocked_quantity = CASE inventory_item_id WHEN 'mug' THEN 'Q4' ELSE 'Q3' END,
		available_quantity = CASE inventory_item_id WHEN 'mug' THEN 'Q4' ELSE 'Q3' END WHERE inventory_item_id IN ('mug', 'cup')`)
	report := verify(t, ledger)
	require.EqualValues(t, 2, wrong(report, "inventory.levels"))
	require.EqualValues(t, 2, wrong(report, "totals"), "the totals do not follow from the levels any more")
	require.EqualValues(t, 2, wrong(report, "movements"))
	f, _ := named(report, "inventory.levels", "stocked_quantity")
	require.Equal(t, "3", *f.Expected)
	require.Equal(t, "4", *f.Served)
}

// Verify runs in the same program as the fold with the bug.
func TestVerifyFindsABugInAFold(t *testing.T) {
	config := quiet(t.TempDir())
	config.Planted = true // totals do not give back what is released
	ledger, err := stockledger.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 10, newSeed(t))
	place := object{"location_id": "paris", "stocked_quantity": 10}
	s.do("create-inventory-items", []object{{"id": "mug", "location_levels": []object{place}}, {"id": "cup", "location_levels": []object{place}}})
	for _, item := range []string{"mug", "cup"} {
		s.do("create-reservations", object{"id": "for " + item, "inventory_item_id": item, "location_id": "paris", "quantity": 4})
	}
	s.settle()
	requireOK(t, verify(t, ledger))

	s.do("delete-reservations", []string{"for mug"})
	released := s.settle()
	s.do("adjust-inventory-levels", object{"inventory_item_id": "mug", "location_id": "paris", "adjustment": 1})
	s.settle()
	report := verify(t, ledger)

	require.EqualValues(t, 1, wrong(report, "inventory.totals"))
	require.EqualValues(t, 1, wrong(report, "totals"), "it is seen in the rows alone, too")
	require.EqualValues(t, 0, wrong(report, "inventory.levels"))
	f, found := named(report, "inventory.totals", "reserved_quantity")
	require.True(t, found)
	require.Equal(t, "0", *f.Expected)
	require.Equal(t, "4", *f.Served)
	require.Equal(t, released, f.Position, f.Message)
	require.Equal(t, "item-mug", f.Stream)

	w := walk(t, ledger)
	state := roundsOf(t, w, 1)
	require.EqualValues(t, 1, state.Wrong)
	require.Equal(t, f.Message, state.First.Message)
}

// The sums of backdated movements are no rows that events make one by one. They
// must add up.
func TestVerifyAddsUpBackdatedMovements(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 10, newSeed(t))
	s.trade(200)
	s.do("create-inventory-items", object{"id": "mug", "location_levels": []object{{"location_id": "paris", "stocked_quantity": 10}}})
	line := object{"inventory_item_id": "mug", "location_id": "paris", "adjustment": 1}
	for range 30 {
		s.backdate("adjust-inventory-levels", slices.Repeat([]object{line}, 100))
	}
	s.settle()
	report := verify(t, ledger)
	requireOK(t, report)
	i := slices.IndexFunc(report.Checks, func(c audit.Check) bool { return c.Name == "backdated sums" })
	require.NotZero(t, report.Checks[i].Checked)

	for _, text := range []string{
		`UPDATE buckets SET stocked = '7' WHERE id = (SELECT max(id) FROM buckets)`,
		`UPDATE buckets SET movements = movements + 1 WHERE id = (SELECT max(id) FROM buckets)`,
		`DELETE FROM buckets`,
	} {
		spoil(t, dir, "movements", text)
		require.NotZero(t, wrong(verify(t, ledger), "backdated sums"), text)
	}
}

// A read model that has stopped is compared as it was where it stopped; the log is
// read to its end.
func TestVerifyComparesAModelThatHasStoppedWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 10, newSeed(t))
	s.trade(300)
	head := s.settle()
	meta, err := json.Marshal(events.Meta{CommandID: "poison", Recorded: time.Now().Add(time.Minute)})
	require.NoError(t, err)
	poison := events.Recorded{Stream: "item-poison", Version: 1, Type: "inventory.from-the-future.v1", Data: []byte("{}"), Meta: meta}
	poison.Hash = poison.Link()
	_, err = ledger.Events().Append(t.Context(), events.Commit{poison})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		all, err := ledger.Models().Status(t.Context())
		require.NoError(t, err)
		return all[0].Stopped != "" && all[1].Stopped != ""
	}, time.Minute, time.Millisecond)

	report := verify(t, ledger)

	require.Equal(t, head+1, report.Position)
	require.EqualValues(t, 2, wrong(report, "models"))
	require.EqualValues(t, 1, wrong(report, "facts"))
	require.EqualValues(t, 3, report.Wrong(), "%+v", report.Findings)
	require.Equal(t, head+1, report.Findings[0].Position)

	spoil(t, dir, "inventory", `UPDATE totals SET stocked_quantity = 'Q99' WHERE position = (SELECT max(position) FROM totals)`)
	require.EqualValues(t, 1, wrong(verify(t, ledger), "inventory.totals"))
	w := walk(t, ledger)
	require.EqualValues(t, 1, roundsOf(t, w, 1).Wrong)
}

// While one read model has stopped and the other goes on, they have no position in
// common. The log is verified all the same.
func TestVerifyReadsTheLogThoughAModelCannotBeCompared(t *testing.T) {
	ledger := open(t, t.TempDir())
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 10, newSeed(t))
	s.trade(100)
	head := s.settle()
	poison, err := events.Record(events.LocationStream("nowhere"), 0, events.Hash{}, events.LocationClosed{LocationID: "nowhere"},
		&events.Meta{CommandID: "poison", Recorded: time.Now().Add(time.Minute)})
	require.NoError(t, err)
	_, err = ledger.Events().Append(t.Context(), events.Commit{poison})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		all, err := ledger.Models().Status(t.Context())
		require.NoError(t, err)
		return all[0].Stopped != "" && all[1].Position == head+1
	}, time.Minute, time.Millisecond)

	report := verify(t, ledger)

	require.Equal(t, head+1, report.Position)
	require.NotZero(t, wrong(report, "models"))
	require.EqualValues(t, 1, wrong(report, "history"))
	i := slices.IndexFunc(report.Findings, func(f audit.Finding) bool { return f.Check == "history" })
	require.Equal(t, head+1, report.Findings[i].Position)
	require.Contains(t, report.Findings[i].Message, "there is no such location")
}

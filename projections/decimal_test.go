package projections_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// anySum is a number that may have more digits than a quantity.
func anySum(t *rapid.T) events.Quantity {
	text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,39})(\.[0-9]{0,17}[1-9])?`).Draw(t, "number")
	q, err := events.ParseSum(text)
	require.NoError(t, err)
	return q
}

// Keys are in the order of the numbers, and are read as the numbers they are of,
// however long.
func TestKeysAreInTheOrderOfTheNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anySum(t), anySum(t)
		if rapid.Bool().Draw(t, "close") {
			b = a.Plus(qty("0.001"))
		}
		require.Equal(t, a.Cmp(b), strings.Compare(projections.QuantityKey(a), projections.QuantityKey(b)), "%s and %s", a, b)
		read, err := projections.ParseKey(projections.QuantityKey(a))
		require.NoError(t, err)
		require.Equal(t, a.String(), read.String())
	})
	for number, key := range map[string]string{"0": "Q0", "0.5": "Q0.5", "12.5": "R12.5", "-12": "M87~", "-12.5": "M87.4~", "-0.5": "N9.4~"} {
		require.Equal(t, key, projections.QuantityKey(qty(number)))
	}
	for _, key := range []string{"", "Q", "Qx", "M87", "~", "Q0~~"} {
		q, err := projections.ParseKey(key)
		if err == nil {
			require.NotEqual(t, key, projections.QuantityKey(q), "it is no key")
		}
	}
}

// stocks makes one item with a level for each quantity, and lists them.
func stocks(t *testing.T, quantities ...string) *projections.Models {
	b := newBook()
	b.record(bolts)
	for _, q := range quantities {
		b.record(events.LevelCreated{ItemID: "bolts", LevelID: "at " + q, LocationID: "at " + q, Stocked: qty(q)})
	}
	return b.models(t)
}

func TestDecimalsAreOrderedAndComparedInSQL(t *testing.T) {
	want := []string{"-100.5", "-9.75", "-9.5", "0", "0.001", "9.5", "10", "100000000000000000", "100000000000000001"}
	shuffled := []string{"10", "9.5", "100000000000000001", "-9.5", "0.001", "-100.5", "0", "100000000000000000", "-9.75"}
	m := stocks(t, shuffled...)
	stocked := func(asked projections.List) (stocked []string) {
		page, err := m.ListLevels(t.Context(), asked)
		require.NoError(t, err)
		for _, l := range page.Rows {
			stocked = append(stocked, l.Stocked.String())
		}
		return stocked
	}
	require.Equal(t, want, stocked(projections.List{Order: []string{"stocked_quantity"}}))
	require.Equal(t, []string{"10", "100000000000000000", "100000000000000001"},
		stocked(projections.List{Order: []string{"stocked_quantity"}, Filter: map[string]any{"stocked_quantity": map[string]any{"$gt": qty("9.5")}}}))
	slices.Reverse(want)
	require.Equal(t, want, stocked(projections.List{Order: []string{"-available_quantity"}}))

	for _, filter := range []any{qty("9.50"), "9.5", []any{qty("9.5")}, []string{"9.5", "7"}} {
		page, err := m.ListLevels(t.Context(), projections.List{Filter: map[string]any{"stocked_quantity": filter}})
		require.NoError(t, err)
		require.Len(t, page.Rows, 1)
		require.Equal(t, "at 9.5", page.Rows[0].ID)
	}
}

// Sums are exact, also those that have more digits than a quantity may have.
func TestSumsAreExact(t *testing.T) {
	m := stocks(t, "100000000000000000", "0.000001", "999999999999999999", "-0.1")
	const sum = "1099999999999999998.900001"
	it, err := m.RetrieveItem(t.Context(), "bolts")
	require.NoError(t, err)
	require.Equal(t, sum, it.Stocked.String())
	page, err := m.ListItems(t.Context(), projections.List{})
	require.NoError(t, err)
	require.Equal(t, sum, page.Rows[0].Stocked.String())
	q, err := m.StockedQuantity(t.Context(), "bolts", []string{"at 100000000000000000", "at 0.000001"})
	require.NoError(t, err)
	require.Equal(t, "100000000000000000.000001", q.String())
	require.JSONEq(t, `{"quantity":100000000000000000.000001}`, asJSON(t, ask(t, m, "stocked-quantity",
		`{"inventory_item_id":"bolts","location_ids":["at 100000000000000000","at 0.000001","at 0.000001"]}`)))
}

// A total with more digits than a quantity may have is read again, and goes on.
func TestLongTotalsSurviveARestart(t *testing.T) {
	b, dir := newBook(), t.TempDir()
	level := func(id, q string) {
		b.record(events.LevelCreated{ItemID: "bolts", LevelID: id, LocationID: id, Stocked: qty(q)})
	}
	b.record(bolts)
	level("a", "-999999999999999999")
	level("b", "-999999999999999999")
	level("c", "-0.000001")
	m := open(t, b.store, dir)
	b.caughtUp(t, m)
	require.NoError(t, m.Close())
	level("d", "0.5")
	m = open(t, b.store, dir)
	defer m.Close()
	b.caughtUp(t, m)
	page, err := m.ListItems(t.Context(), projections.List{})
	require.NoError(t, err)
	require.Equal(t, "-1999999999999999997.500001", page.Rows[0].Stocked.String())
}

package main

import (
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/race"
)

// Ten thousand real sales lines, imported and then asked about. The truth is the
// file, read without any code of the ledger: an item had its 5,000 from the first
// of December on, when it was created on the effective clock, and each line counts
// from its own time.
func TestRealSalesCanBeAskedAbout(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds and more")
	}
	t.Parallel()
	sales := readSales(t, fewerUnderRace())
	newRetail(t, sales, inItsDirectory(t, sales)).canBeAskedAbout()
}

func (r *retail) canBeAskedAbout() {
	created := r.start(append(r.importItems(), "--set", "effective_at="+salesOpened)...).finish(r.T)
	require.Equal(r, len(r.sales.sold), created.settled())
	adjusted := r.start(r.importAdjustments()...).finish(r.T)
	require.Equal(r, len(r.sales.lines), adjusted.settled())
	r.answersAsTheFileDoes()
}

// salesOpened is when the items were created, on the effective clock.
const salesOpened = "2010-12-01T00:00:00Z"

func (r *retail) answersAsTheFileDoes() {
	sales := r.sales
	a := asked{retail: r, opened: salesOpened, head: r.caughtUp()}
	seed := uint64(time.Now().UnixNano())
	r.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	items := slices.Sorted(func(yield func(string) bool) {
		for item := range sales.sold {
			if !yield(item) {
				return
			}
		}
	})

	// Under the race detector a part of it takes long enough.
	some := func() bool { return !race.On || dice.IntN(10) == 0 }
	noon := "2010-12-03T12:00:00Z"
	for _, item := range items {
		if !some() {
			continue
		}
		a.asOf(item, noon)
		a.explain(item)
	}
	for range 300 {
		if !some() {
			continue
		}
		line := sales.lines[dice.IntN(len(sales.lines))]
		a.asOf(items[dice.IntN(len(items))], line.date) // the very second of a sale
	}
	a.asOf(items[0], "2010-11-30T23:59:59Z")
	a.wholeLocation(noon)
	invoices := a.invoices()
	for _, invoice := range invoices {
		if some() {
			a.invoice(invoice)
		}
	}
	r.Logf("%d items as of %s and explained, %d invoices", len(items), noon, len(invoices))

	a.everythingByHand(noon)
	for range 3 {
		a.asOfByHand(items[dice.IntN(len(items))])
		a.explainByHand(items[dice.IntN(len(items))])
		a.invoiceByHand(invoices[dice.IntN(len(invoices))])
	}
}

// asked compares answers with the file.
type asked struct {
	*retail
	opened string
	head   uint64
}

// stocked is what the file says there was of an item at a time.
func (a asked) stocked(item, at string) string {
	if at < a.opened {
		return "0"
	}
	sum := events.Units(5000)
	for _, line := range a.sales.lines {
		if line.item == item && line.date <= at { // RFC 3339 in UTC sorts as text
			q, err := events.ParseQuantity(line.adjustment)
			require.NoError(a, err)
			sum = sum.Plus(q)
		}
	}
	return sum.String()
}

func (a asked) asOf(item, at string) {
	a.Helper()
	was, err := ask[past](a.Context(), a.client, "as-of", object{"inventory_item_id": item, "at": at, "clock": "effective", "after": a.head})
	require.NoError(a, err)
	require.Equal(a, a.stocked(item, at), was.Stocked.String(), "%s as of %s", item, at)
}

// wholeLocation asks for all levels at once.
func (a asked) wholeLocation(at string) {
	a.Helper()
	got := make(map[string]string)
	for params := (object{"location_id": "warehouse", "at": at, "clock": "effective", "take": 1000}); ; {
		part, err := ask[past](a.Context(), a.client, "as-of", params)
		require.NoError(a, err)
		for _, level := range part.Levels {
			got[level.text("inventory_item_id")] = level.text("stocked_quantity")
		}
		if part.Next == nil {
			break
		}
		params["cursor"] = *part.Next
	}
	want := make(map[string]string)
	for item := range a.sales.sold {
		want[item] = a.stocked(item, at)
	}
	require.Equal(a, want, got)
}

// lines are the lines of the file that are wanted, as often as each occurs.
func (a asked) lines(wanted func(sale) bool) map[sale]int {
	found := make(map[sale]int)
	for _, line := range a.sales.lines {
		if wanted(line) {
			found[line]++
		}
	}
	return found
}

// movementsOf are the adjustments among rows, as often as each occurs.
func movementsOf(rows []row, delta string) map[sale]int {
	found := make(map[sale]int)
	for _, m := range rows {
		if m.text("kind") == "stock-adjusted" {
			found[sale{m.text("inventory_item_id"), m.text(delta), m.text("reason"), m.text("reference"), m.text("effective_at")}]++
		}
	}
	return found
}

func (a asked) explain(item string) {
	a.Helper()
	e, err := ask[explanation](a.Context(), a.client, "explain", object{"inventory_item_id": item, "quantity": "stocked", "take": 1000})
	require.NoError(a, err)
	a.explains(item, e)
}

func (a asked) explains(item string, e explanation) {
	a.Helper()
	want := a.lines(func(line sale) bool { return line.item == item })
	require.Equal(a, want, movementsOf(e.Rows, "delta"), "the lines of %s", item)
	sum := a.stocked(item, "2011")
	require.Equal(a, sum, e.Sum.String(), item)
	require.Equal(a, sum, e.Value.String(), item)
	require.Equal(a, sum, e.Rows[len(e.Rows)-1].text("running"), item)
	require.True(a, e.Agrees && e.Chain.Verified, "%s: %+v", item, e)
	require.False(a, e.More)
}

func (a asked) invoices() []string {
	var all []string
	for _, line := range a.sales.lines {
		all = append(all, line.reference)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (a asked) invoice(invoice string) {
	a.Helper()
	p, err := ask[historyPage](a.Context(), a.client, "stock-history", object{"reference": invoice, "take": 1000})
	require.NoError(a, err)
	require.False(a, p.More)
	a.isInvoice(invoice, p.Rows)
}

func (a asked) isInvoice(invoice string, movements []movement) {
	a.Helper()
	rows := make([]row, len(movements))
	for i, m := range movements {
		rows[i] = m.row
		require.Equal(a, "stock-adjusted", m.text("kind"))
	}
	require.Equal(a, a.lines(func(line sale) bool { return line.reference == invoice }), movementsOf(rows, "delta_stocked"), "invoice %s", invoice)
}

// byHand runs the program as a person would.
func (a asked) byHand(args ...string) []byte {
	a.Helper()
	out, err := exec.Command(a.place.program, append(args, "--server", a.place.server)...).Output()
	require.NoError(a, err, "%v\n%s", args, out)
	return out
}

// everythingByHand walks lists that are longer than a page.
func (a asked) everythingByHand(at string) {
	a.Helper()
	want := make(map[string]string)
	for item := range a.sales.sold {
		want[item] = a.stocked(item, "2011")
	}
	listed, last := make(map[string]string), events.Units(1_000_000)
	for _, level := range lines[row](a.T, a.byHand("get", "levels", "location_id=warehouse", "--order", "-stocked_quantity", "--all", "--json")) {
		stocked, err := events.ParseQuantity(level.text("stocked_quantity"))
		require.NoError(a, err)
		require.LessOrEqual(a, stocked.Cmp(last), 0, "the largest first")
		listed[level.text("inventory_item_id")], last = stocked.String(), stocked
	}
	require.Equal(a, want, listed)

	was := make(map[string]string)
	for _, level := range lines[row](a.T, a.byHand("as-of", "--location", "warehouse", "--at", at, "--clock", "effective", "--all", "--json")) {
		was[level.text("inventory_item_id")] = level.text("stocked_quantity")
	}
	for item := range want {
		want[item] = a.stocked(item, at)
	}
	require.Equal(a, want, was)

	moved := lines[row](a.T, a.byHand("history", "--location", "warehouse", "--kind", "stock-adjusted", "--all", "--json"))
	require.Equal(a, a.lines(func(sale) bool { return true }), movementsOf(moved, "delta_stocked"))
}

// lines are documents that are printed one on a line.
func lines[T any](t *testing.T, text []byte) (all []T) {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		var one T
		require.NoError(t, json.Unmarshal([]byte(line), &one))
		all = append(all, one)
	}
	return all
}

func (a asked) asOfByHand(item string) {
	a.Helper()
	var was past
	require.NoError(a, json.Unmarshal(a.byHand("as-of", item, "warehouse", "--at", "2010-12-03T12:00Z", "--clock", "effective", "--json"), &was))
	require.Equal(a, a.stocked(item, "2010-12-03T12:00:00Z"), was.Stocked.String(), item)
	require.Equal(a, "2010-12-03T12:00:00Z", *was.At)
}

func (a asked) explainByHand(item string) {
	a.Helper()
	var e explanation
	require.NoError(a, json.Unmarshal(a.byHand("explain", item, "--quantity", "stocked", "--all", "--json"), &e))
	a.explains(item, e)
	told := string(a.byHand("explain", item, "warehouse", "--all"))
	sum := a.stocked(item, "2011")
	require.Regexp(a, `\nsum of \d+ events = `+sum+` available\nserved `+sum+` ✓\nchain ✓ \(\d+ events of item-\S.* verified, head [0-9a-f]+\)\n$`, told)
	for line := range a.lines(func(line sale) bool { return line.item == item }) {
		require.Contains(a, told, "  "+line.reference+"  ")
	}
}

func (a asked) invoiceByHand(invoice string) {
	a.Helper()
	a.isInvoice(invoice, lines[movement](a.T, a.byHand("history", "--reference", invoice, "--all", "--json")))
	var page historyPage // a document is shown whole without being asked to
	require.NoError(a, json.Unmarshal(a.byHand("history", "--reference", invoice, "--json"), &page))
	a.isInvoice(invoice, page.Rows)
}

package stockledger_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

// answerWithin is far more than any answer from a ledger of a dozen rows takes,
// and less than the bound on a query: one that gets there has no bound of its own.
const answerWithin = 10 * time.Second

// corner is a small ledger with something of everything.
func corner(f *testing.F) *stockledger.Ledger {
	ledger, err := stockledger.Open(f.Context(), stockledger.Config{
		Dir: f.TempDir(), Store: memstore.New(), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(f, err)
	f.Cleanup(func() { _ = ledger.Close() })
	for _, c := range [][2]string{
		{"create-stock-locations", `[{"id":"paris","name":"Paris"},{"id":"rome","name":"Rome"}]`},
		{"create-inventory-items", `[{"id":"mug","sku":"MUG","title":"A mug","metadata":{"a":[1,{"b":null}]},
			"location_levels":[{"location_id":"paris","stocked_quantity":10},{"location_id":"rome","stocked_quantity":0.5}]},{"id":"cup"}]`},
		{"adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":-1}`},
		{"create-reservations", `[{"id":"r1","inventory_item_id":"mug","location_id":"paris","quantity":2,"line_item_id":"l"}]`},
		{"attach-inventory-items", `{"variant_id":"v","inventory_item_id":"mug","required_quantity":2}`},
		{"update-stock-location-links", `{"id":"paris","sales_channels":{"add":["web"]}}`},
		{"delete-inventory-items", `"cup"`},
	} {
		answer, err := ledger.DoJSON(f.Context(), commands.Envelope{Key: c[0]}, c[0], []byte(c[1]))
		require.NoError(f, err, c[0])
		require.NoError(f, ledger.Models().WaitFor(f.Context(), answer.Position))
	}
	_, err = ledger.DoJSON(f.Context(), commands.Envelope{Key: "no"}, "adjust-inventory-levels", []byte(`{"inventory_item_id":"x","location_id":"paris","adjustment":1}`))
	require.Error(f, err)
	return ledger
}

// answeredOrRefused asks, and wants an answer that can be sent, or a refusal that
// says what is wrong with the question.
func answeredOrRefused(t *testing.T, ledger *stockledger.Ledger, name string, body []byte) (answer []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), answerWithin)
	defer cancel()
	result, err := ledger.Query(ctx, name, body)
	if ctx.Err() != nil {
		t.Fatalf("%s %q takes longer than %s", name, body, answerWithin)
	}
	if err != nil {
		refusal := fault.Of(err)
		require.Contains(t, []fault.Kind{fault.Invalid, fault.NotFound, fault.NotAllowed}, refusal.Kind, "%s %q: %v", name, body, err)
		_, err = json.Marshal(fault.Public(err))
		require.NoError(t, err)
		return nil
	}
	answer, err = json.Marshal(result)
	require.NoError(t, err, "%s %q", name, body)
	return answer
}

// Whatever is asked, there is an answer, or a refusal that says what is wrong with
// the question; none of it is an internal error, and none takes for ever.
func FuzzQueries(f *testing.F) {
	ledger := corner(f)
	names := slices.Sorted(maps.Keys(ledger.QueryNames()))
	for title, example := range examples(f) {
		f.Add(slices.Index(names, title), example)
	}
	for i := range names {
		for _, body := range []string{
			``, `null`, `{}`, `[]`, `{"after":99}`, `{"after":-1}`, `{"take":1001}`, `{"skip":1e99}`, `{"cursor":"e30"}`, `{"id":["mug","` + "\xff" + `"]}`,
			`{"id":"mug","take":1,"order":["-sku"]}`, `{"inventory_item_id":"mug","location_ids":["paris"],"quantity":1e17}`,
			`{"$or":[{"sku":{"$ilike":"%m_"}},{"$not":{"title":{"$re":"(a+)+$"}}}],"q":"m u"}`, `{"as_of":"2026-01-01T00:00:00Z"}`, `{"position":3}`,
			`{"stocked_quantity":{"$gte":0.1,"$lt":"x"}}`, `{"created_at":{"$gt":"9999-12-31T23:59:59Z"}}`, `{"relations":["location_levels"]}`,
		} {
			f.Add(i, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		if asksToWait(body) {
			return // it would, which is tested elsewhere
		}
		answeredOrRefused(t, ledger, names[uint(which)%uint(len(names))], body)
	})
}

// asksToWait reports whether a query names a position that the log may not have
// reached: it would wait for it as long as it is told to.
func asksToWait(body []byte) bool {
	var asked struct {
		After *json.Number `json:"after"`
	}
	return json.Unmarshal(body, &asked) == nil && asked.After != nil
}

// examples are the questions in docs/queries.md, by the name of the query.
func examples(f *testing.F) map[string][]byte {
	source, err := os.ReadFile("docs/queries.md")
	require.NoError(f, err)
	all := make(map[string][]byte)
	for section := range strings.SplitSeq(string(source), "\n##") {
		title, rest, _ := strings.Cut(strings.TrimLeft(section, "# "), "\n")
		if _, question, found := strings.Cut(rest, "```json\n"); found {
			question, _, _ = strings.Cut(question, "```")
			all[title] = []byte(question)
		}
	}
	return all
}

// Whatever is made of the cursor of a page, it is refused, or leads to rows of
// that list.
func FuzzCursors(f *testing.F) {
	ledger := corner(f)
	lists := []struct{ name, asked string }{
		{"list-inventory-levels", `"take":1`},
		{"list-inventory-levels", `"take":1,"order":["-stocked_quantity","location_id"]`},
		{"list-inventory-items", `"take":1,"with_deleted":true,"order":["sku"]`},
		{"list-inventory-items", `"take":1,"with_deleted":true,"order":["-deleted_at","requires_shipping"]`},
		{"list-refusals", `"take":1`},
	}
	for i, list := range lists {
		result, err := ledger.Query(f.Context(), list.name, []byte(`{`+list.asked+`}`))
		require.NoError(f, err)
		answer, err := json.Marshal(result)
		require.NoError(f, err)
		var page struct{ Next *string }
		require.NoError(f, json.Unmarshal(answer, &page))
		key := []byte(`{}`)
		if page.Next != nil {
			key, err = base64.RawURLEncoding.DecodeString(*page.Next)
			require.NoError(f, err)
		}
		f.Add(i, key)
		f.Add(i, []byte(nil))
		f.Add(i, []byte(`{"o":"","k":[]}`))
	}
	f.Fuzz(func(t *testing.T, which int, key []byte) {
		list := lists[uint(which)%uint(len(lists))]
		cursor := base64.RawURLEncoding.EncodeToString(key)
		answeredOrRefused(t, ledger, list.name, []byte(`{`+list.asked+`,"cursor":"`+cursor+`"}`))
	})
}

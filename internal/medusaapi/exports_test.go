package medusaapi_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/medusaapi"
)

// export exports what a query wants, and returns the rows of the file.
func (s *shop) export(t *testing.T, query string) [][]string {
	t.Helper()
	got := s.ask(t, "POST /admin/inventory-items/export"+query, "")
	require.Equal(t, http.StatusAccepted, got.status, got.body)
	same(t, `{"transaction_id": "<id:export_>"}`, got.body)
	file := s.download(t, got.text(t, "transaction_id"))
	require.Equal(t, 200, file.status, file.body)
	require.Equal(t, "text/csv; charset=utf-8", file.header.Get("Content-Type"))
	require.Equal(t, `attachment; filename="`+got.text(t, "transaction_id")+`.csv"`, file.header.Get("Content-Disposition"))
	rows, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
	require.NoError(t, err)
	return rows
}

// download asks for an export until it is no longer under way.
func (s *shop) download(t *testing.T, id string) reply {
	t.Helper()
	for {
		got := s.ask(t, "GET /ledger/v1/exports/"+id, "")
		if got.status != http.StatusConflict {
			return got
		}
		require.Equal(t, "export_under_way", got.text(t, "code"))
		require.NoError(t, t.Context().Err())
	}
}

func TestExports(t *testing.T) {
	s := stocked(t)
	s.do(t, "create-inventory-levels", `{"id": "ilev_attic", "inventory_item_id": "mug", "location_id": "attic, left", "stocked_quantity": 0.5}`)
	head := []string{
		"Item Id", "Item Sku", "Item Title", "Item Description", "Item Thumbnail", "Item Origin Country", "Item Hs Code",
		"Item Mid Code", "Item Material", "Item Weight", "Item Length", "Item Height", "Item Width", "Item Requires Shipping",
		"Item Metadata", "Item Stocked Quantity", "Item Reserved Quantity", "Item Created At", "Item Updated At",
		"Level Id", "Location Id", "Location Name", "Stocked Quantity", "Reserved Quantity", "Incoming Quantity", "Available Quantity",
	}
	mug := func(level ...string) []string {
		return append([]string{
			"mug", "MUG-1", "Mug", "", "", "UK", "hs1", "", "clay", "0.25", "", "", "", "true", `{"colour":"blue"}`, "16", "3", "<time>", "<time>",
		}, level...)
	}
	bowl := []string{"bowl", "BOWL-1", "", "for soup", "", "", "", "", "", "", "", "", "", "false", "", "0", "0", "<time>", "<time>", "", "", "", "", "", "", ""}
	mugs := [][]string{
		mug("ilev_paris", "paris", "Paris", "10.5", "3", "0", "7.5"),
		mug("ilev_oslo", "oslo", "Oslo", "5", "0", "2", "5"),
		mug("ilev_attic", "attic, left", "", "0.5", "0", "0", "0.5"),
	}
	for query, want := range map[string][][]string{
		"":                                       append(mugs, bowl),
		"?sku=BOWL-1&limit=0&offset=7&fields=id": {bowl},
		"?q=mug&order=-sku":                      mugs,
		"?id=none":                               nil,
		"?order=sku":                             append([][]string{bowl}, mugs...),
	} {
		t.Run(query, func(t *testing.T) {
			rows := s.export(t, query)
			for _, row := range rows[1:] {
				row[17], row[18] = "<time>", "<time>"
			}
			require.Equal(t, append([][]string{head}, want...), rows)
		})
	}
	same(t, invalid("Unrecognized fields: 'title'"), s.ask(t, "POST /admin/inventory-items/export?title=x", "").body)
	require.Equal(t, 400, s.ask(t, "POST /admin/inventory-items/export?order=nonsense", "").status)
	for _, id := range []string{"export_x", "..%2F..%2Flog.db", "x.csv"} {
		got := s.ask(t, "GET /ledger/v1/exports/"+id, "")
		require.Equal(t, 404, got.status, got.body)
		require.Equal(t, "not_found", got.text(t, "code"))
	}
}

func TestAnExportHasEveryItemAndLevelOnce(t *testing.T) {
	s := open(t)
	const items = 2*medusaapi.ExportPage + 1
	var lines []string
	for i := range items {
		lines = append(lines, fmt.Sprintf(`{"id": "item_%d", "location_levels": [{"location_id": "a"}, {"location_id": "b"}]}`, i))
	}
	s.do(t, "create-inventory-items", "["+strings.Join(lines, ",")+"]")
	seen := make(map[string]bool)
	for _, row := range s.export(t, "")[1:] {
		seen[row[0]+" "+row[20]] = true
	}
	require.Len(t, seen, 2*items)
}

func TestExportsAreKeptAcrossRestartsUpToABound(t *testing.T) {
	s, dir := stocked(t), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "export_broken.part"), []byte("half"), 0o600))
	notOurs := filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(notOurs, []byte("mine"), 0o600))
	exports, err := medusaapi.OpenExports(dir, s.ledger.Models(), quiet)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "export_broken.part"))
	s.serveExports(exports)
	ids := make([]string, medusaapi.KeptExports+1)
	for i := range ids {
		ids[i], err = exports.Start()
		require.NoError(t, err)
		require.Equal(t, 200, s.download(t, ids[i]).status)
	}
	newest := s.download(t, ids[len(ids)-1]).body
	require.NoError(t, exports.Close())

	exports, err = medusaapi.OpenExports(dir, s.ledger.Models(), quiet)
	require.NoError(t, err)
	defer func() { require.NoError(t, exports.Close()) }()
	s.serveExports(exports)
	require.Equal(t, 404, s.ask(t, "GET /ledger/v1/exports/"+ids[0], "").status, "the oldest is gone")
	require.Equal(t, 200, s.ask(t, "GET /ledger/v1/exports/"+ids[1], "").status)
	require.Equal(t, newest, s.ask(t, "GET /ledger/v1/exports/"+ids[len(ids)-1], "").body)

	more, err := exports.Start()
	require.NoError(t, err)
	require.Equal(t, 200, s.download(t, more).status)
	require.Equal(t, 404, s.ask(t, "GET /ledger/v1/exports/"+ids[1], "").status, "the next oldest is gone")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, medusaapi.KeptExports+1)
	require.FileExists(t, notOurs)
}

// serveExports mounts the routes of other exports.
func (s *shop) serveExports(exports *medusaapi.Exports) {
	s.exports = exports
	s.mount(s.ledger)
}

func TestAnExportIsNotTried(t *testing.T) {
	s := stocked(t)
	idle := medusaapi.IdleExports(t)
	s.serveExports(idle)
	for _, header := range [][]string{{"Ledger-Dry-Run", "true"}, {"Ledger-Dry-Run", "perhaps"}, {"Ledger-Raeson", "x"}} {
		got := s.ask(t, "POST /admin/inventory-items/export", "", header...)
		require.Equal(t, 400, got.status, got.body)
		require.Equal(t, "invalid_data", got.text(t, "type"))
	}
	require.Zero(t, idle.Waiting())
}

func TestNoCellOfAnExportIsAFormula(t *testing.T) {
	s := open(t)
	for _, text := range []string{"=1+1", "+1", "-1", "@sum", "\t=1", "\r=1"} {
		sku := "id" + text
		s.do(t, "create-inventory-items", mustJSON(map[string]any{"id": text, "sku": sku, "title": text}))
		s.do(t, "create-stock-locations", mustJSON(map[string]any{"id": text, "name": text}))
		s.do(t, "create-inventory-levels", mustJSON(map[string]any{"id": text, "inventory_item_id": text, "location_id": text}))
		s.do(t, "create-reservations", mustJSON(map[string]any{"inventory_item_id": text, "location_id": text, "quantity": 1, "allow_backorder": true}))
		row := s.export(t, "?sku="+url.QueryEscape(sku))[1]
		for _, cell := range []int{0, 19, 20} {
			require.Equal(t, "'"+text, row[cell])
		}
		for _, cell := range []int{2, 21} {
			require.True(t, strings.HasPrefix(row[cell], "'"), row[cell])
		}
		require.Equal(t, []string{sku, "-1"}, []string{row[1], row[25]}, "a number is a number")
	}
}

func TestExportsThatWaitAreBounded(t *testing.T) {
	s := stocked(t)
	s.serveExports(medusaapi.IdleExports(t))
	var first string
	for range medusaapi.WaitingExports {
		got := s.ask(t, "POST /admin/inventory-items/export", "")
		require.Equal(t, 202, got.status)
		first = got.text(t, "transaction_id")
	}
	got := s.ask(t, "POST /admin/inventory-items/export", "")
	require.Equal(t, 503, got.status)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	same(t, refusal("unavailable", "16 exports are waiting already; try again when one is done"), got.body)

	got = s.ask(t, "GET /ledger/v1/exports/"+first, "")
	require.Equal(t, 409, got.status)
	same(t, `{"code": "export_under_way", "type": "conflict", "message": "export `+first+` is not done yet; ask again", "details": {"export": "`+first+`"}}`, got.body)
}

func TestAnExportThatFailsSaysSo(t *testing.T) {
	s, dir := stocked(t), filepath.Join(t.TempDir(), "exports")
	exports, err := medusaapi.OpenExports(dir, s.ledger.Models(), quiet)
	require.NoError(t, err)
	defer func() { require.NoError(t, exports.Close()) }()
	s.serveExports(exports)
	require.NoError(t, os.RemoveAll(dir))
	id, err := exports.Start()
	require.NoError(t, err)
	got := s.download(t, id)
	require.Equal(t, 503, got.status, got.body)
	require.Equal(t, "export_failed", got.text(t, "code"))
	require.Equal(t, "export "+id+" failed; the ledger's log says why; start another", got.text(t, "message"))
}

// An operator may clear the directory while the server runs.
func TestAnExportWhoseFileWasRemovedIsNotThere(t *testing.T) {
	s, dir := stocked(t), t.TempDir()
	exports, err := medusaapi.OpenExports(dir, s.ledger.Models(), quiet)
	require.NoError(t, err)
	defer func() { require.NoError(t, exports.Close()) }()
	s.serveExports(exports)
	id, err := exports.Start()
	require.NoError(t, err)
	require.Equal(t, 200, s.download(t, id).status)
	require.NoError(t, os.Remove(filepath.Join(dir, id+".csv")))
	got := s.download(t, id)
	require.Equal(t, 404, got.status, got.body)
	require.Equal(t, "not_found", got.text(t, "code"))
}

func TestWithoutADirectoryThereAreNoExports(t *testing.T) {
	s := stocked(t)
	s.serveExports(nil)
	require.Equal(t, 404, s.ask(t, "POST /admin/inventory-items/export", "{}").status, "the path is that of an item")
}

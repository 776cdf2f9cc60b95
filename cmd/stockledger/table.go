package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// A row is a row of an answer. Values stay as the ledger wrote them, so that
// quantities stay exact.
type row map[string]json.RawMessage

// text is the string of that name, or the JSON value as it stands; "" for none.
func (r row) text(name string) string {
	raw, found := r[name]
	if !found || string(raw) == "null" {
		return ""
	}
	var s string
	if raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// A column of a table shows one value of a row.
type column struct {
	header string
	value  func(row) string
}

func col(header, name string) column {
	return column{header, func(r row) string { return r.text(name) }}
}

// clipped shows the beginning of what may be long.
func clipped(header, name string) column {
	return column{header, func(r row) string {
		text := []rune(r.text(name))
		if len(text) > clipWidth {
			return string(text[:clipWidth-1]) + "…"
		}
		return string(text)
	}}
}

// clipWidth keeps a long description from pushing the numbers off the screen;
// --json has all of it.
const clipWidth = 40

// when shows a time to the second, in UTC like everything the ledger says.
func when(header, name string) column {
	return column{header, func(r row) string { return moment(r.text(name)) }}
}

func moment(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// shapes are the tables, by what their rows are.
var shapes = map[string][]column{
	"items": {
		col("ID", "id"), col("SKU", "sku"), clipped("TITLE", "title"),
		col("STOCKED", "stocked_quantity"), col("RESERVED", "reserved_quantity"), col("AVAILABLE", "available_quantity"),
	},
	"levels": {
		col("ITEM", "inventory_item_id"), col("LOCATION", "location_id"),
		col("STOCKED", "stocked_quantity"), col("RESERVED", "reserved_quantity"),
		col("AVAILABLE", "available_quantity"), col("INCOMING", "incoming_quantity"), col("LEVEL", "id"),
	},
	"reservations": {
		col("ID", "id"), col("ITEM", "inventory_item_id"), col("LOCATION", "location_id"), col("QUANTITY", "quantity"),
		col("LINE ITEM", "line_item_id"), clipped("DESCRIPTION", "description"), when("CREATED", "created_at"),
	},
	"links":     {col("VARIANT", "variant_id"), col("ITEM", "inventory_item_id"), col("REQUIRED", "required_quantity")},
	"locations": {col("ID", "id"), col("NAME", "name"), when("OPENED", "created_at"), when("CLOSED", "deleted_at")},
	"commands": {
		col("POSITION", "position"), when("RECORDED", "recorded_at"), col("COMMAND", "command"), col("EVENTS", "events"),
		col("ACTOR", "actor"), col("REASON", "reason"), col("REFERENCE", "reference"), col("KEY", "command_id"),
	},
	"models": {
		col("PART", "name"), col("VERSION", "version"), col("POSITION", "position"),
		col("BEHIND", "behind"),
		{"STATE", modelState},
	},
}

// modelState says whether a model runs, and why not.
func modelState(r row) string {
	if why := stoppedBy(r); why != "" {
		return "STOPPED: " + why
	}
	if r.text("behind") != "0" {
		return "catching up"
	}
	return "up to date"
}

// stoppedBy is why a model goes no further, "" while it runs.
func stoppedBy(r row) string { return r.text("error") }

// printTable writes rows below their headers. Columns that are empty in all rows
// are left out.
func printTable(w io.Writer, columns []column, rows []row) {
	columns = filled(columns, rows)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	headers := make([]string, len(columns))
	for i, c := range columns {
		headers[i] = c.header
	}
	fmt.Fprintln(table, strings.Join(headers, "\t"))
	for _, r := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(c.value(r))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	_ = table.Flush()
}

func filled(columns []column, rows []row) []column {
	var kept []column
	for _, c := range columns {
		for _, r := range rows {
			if c.value(r) != "" {
				kept = append(kept, c)
				break
			}
		}
	}
	return kept
}

// cell makes any text fit into a line of a table: nothing in it moves the cursor.
func cell(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// printJSON writes a document as people and programs can both read it.
func printJSON(w io.Writer, document json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, document, "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := b.WriteTo(w)
	return err
}

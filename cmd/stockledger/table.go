package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stockledger/stockledger/projections"
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
	right  bool // as numbers are written
}

func col(header, name string) column {
	return column{header: header, value: func(r row) string { return r.text(name) }}
}

// num shows a number.
func num(header, name string) column {
	c := col(header, name)
	c.right = true
	return c
}

// clipped shows the beginning of what may be long.
func clipped(header, name string) column {
	return column{header: header, value: func(r row) string {
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

// when shows a time to the second, in UTC like everything the ledger says, and as
// every flag that takes a time understands it.
func when(header, name string) column {
	return column{header: header, value: func(r row) string { return moment(r.text(name)) }}
}

func moment(text string) string {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return t.UTC().Format(time.RFC3339)
}

// shapes are the tables, by what their rows are.
var shapes = map[string][]column{
	"items": {
		col("ID", "id"), col("SKU", "sku"), clipped("TITLE", "title"),
		num("STOCKED", "stocked_quantity"), num("RESERVED", "reserved_quantity"), num("AVAILABLE", "available_quantity"),
		when("DELETED", "deleted_at"),
	},
	"levels": {
		col("ITEM", "inventory_item_id"), col("LOCATION", "location_id"),
		num("STOCKED", "stocked_quantity"), num("RESERVED", "reserved_quantity"),
		num("AVAILABLE", "available_quantity"), num("INCOMING", "incoming_quantity"), col("LEVEL", "id"), when("DELETED", "deleted_at"),
	},
	"reservations": {
		col("ID", "id"), col("ITEM", "inventory_item_id"), col("LOCATION", "location_id"), num("QUANTITY", "quantity"),
		col("STATUS", "status"), col("LINE ITEM", "line_item_id"), clipped("DESCRIPTION", "description"), when("CREATED", "created_at"),
	},
	"links":     {col("VARIANT", "variant_id"), col("ITEM", "inventory_item_id"), num("REQUIRED", "required_quantity")},
	"locations": {col("ID", "id"), col("NAME", "name"), when("OPENED", "created_at"), when("CLOSED", "deleted_at")},
	"commands": {
		num("POSITION", "position"), when("RECORDED", "recorded_at"), col("COMMAND", "command"), num("EVENTS", "events"),
		col("ACTOR", "actor"), col("REASON", "reason"), col("REFERENCE", "reference"), col("KEY", "command_id"),
	},
	"refusals": {
		when("REFUSED", "recorded_at"), col("COMMAND", "command"), col("CODE", "code"),
		col("ITEM", "inventory_item_id"), col("LOCATION", "location_id"), num("ASKED", "asked"), num("AVAILABLE", "available"),
		col("ACTOR", "actor"), col("REASON", "reason"), col("REFERENCE", "reference"), clipped("MESSAGE", "message"),
	},
	"refusals by day": {
		col("DAY", "day"), col("COMMAND", "command"), col("CODE", "code"), num("REFUSED", "count"), num("WITH DETAILS", "detailed"),
	},
	"checks": {
		col("CHECK", "check"), num("CHECKED", "checked"), num("WRONG", "wrong"), col("WHAT MUST BE SO", "about"),
	},
	"differences": {
		col("TABLE", "table"), num("EQUAL", "equal"), num("DIFFERENT", "different"), num("MISSING", "missing"), num("EXTRA", "extra"),
	},
	"generations": {
		col("MODEL", "model"), num("GENERATION", "generation"), num("VERSION", "version"), col("STATE", "state"),
		num("POSITION", "position"), num("BEHIND", "behind"),
		{header: "PACE", value: pace},
		{header: "SIZE", value: func(r row) string { return size(r, "bytes") }, right: true},
		when("MADE", "made_at"),
		{header: "WHY NOT", value: func(r row) string { return cmp.Or(r.text("stopped"), r.text("waiting")) }},
	},
	"models": {
		col("PART", "name"), num("GENERATION", "generation"), num("VERSION", "version"), num("POSITION", "position"),
		num("BEHIND", "behind"),
		{header: "STATE", value: modelState},
	},
}

// named are columns for the fields that were asked for.
func named(fields []string, rows []row) []column {
	columns := make([]column, len(fields))
	for i, name := range fields {
		c := col(strings.ToUpper(strings.ReplaceAll(name, "_", " ")), name)
		switch {
		case strings.HasSuffix(name, "_at"):
			c.value = when("", name).value
		default:
			c.right = slices.ContainsFunc(rows, func(r row) bool { return isNumber(r[name]) })
		}
		columns[i] = c
	}
	return columns
}

func isNumber(raw json.RawMessage) bool {
	return len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}

// pace is how fast a generation is built, and when it has caught up.
func pace(r row) string {
	var g projections.Generation
	_ = json.Unmarshal(r["events_per_second"], &g.Rate)
	_ = json.Unmarshal(r["remaining_seconds"], &g.Remaining)
	return paceOf([]projections.Generation{g})
}

// size is a number of bytes for people.
func size(r row, name string) string {
	bytes, err := strconv.ParseFloat(r.text(name), 64)
	if err != nil {
		return r.text(name)
	}
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if bytes < 1024 {
			return strconv.FormatFloat(bytes, 'f', 0, 64) + " " + unit
		}
		bytes /= 1024
	}
	return strconv.FormatFloat(bytes, 'f', 1, 64) + " GiB"
}

// modelState says whether a model runs, and why not.
func modelState(r row) string {
	if why := stoppedBy(r); why != "" {
		return "STOPPED: " + why
	}
	if why := r.text("waiting"); why != "" {
		return "WAITING: " + why
	}
	if why := r.text("stuck"); why != "" {
		return "STUCK: " + why
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
	t := table{w: w, columns: filled(columns, rows)}
	t.print(rows)
}

// A table prints rows as they come, below headers that it prints once. Its columns
// get wider when something longer comes.
type table struct {
	w       io.Writer
	columns []column
	widths  []int
}

func (t *table) print(rows []row) {
	first := t.widths == nil
	if first {
		for _, c := range t.columns {
			t.widths = append(t.widths, utf8.RuneCountInString(c.header))
		}
	}
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = make([]string, len(t.columns))
		for j, c := range t.columns {
			lines[i][j] = cell(c.value(r))
			t.widths[j] = max(t.widths[j], utf8.RuneCountInString(lines[i][j]))
		}
	}
	if first {
		headers := make([]string, len(t.columns))
		for i, c := range t.columns {
			headers[i] = c.header
		}
		t.line(headers)
	}
	for _, cells := range lines {
		t.line(cells)
	}
}

// gap is what separates columns.
const gap = "  "

func (t *table) line(cells []string) {
	var b strings.Builder
	for i, text := range cells {
		padding := strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(text))
		if t.columns[i].right {
			text = padding + text
		} else {
			text += padding
		}
		b.WriteString(text + gap)
	}
	fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
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

// printLines writes each row as one line of JSON.
func printLines[T any](w io.Writer, rows []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, r := range rows {
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// printRows writes the rows that a document has under that name, each as one line of
// JSON.
func printRows(w io.Writer, document json.RawMessage, name string) error {
	var parts map[string]json.RawMessage
	var rows []json.RawMessage
	if err := json.Unmarshal(document, &parts); err != nil {
		return err
	}
	if err := json.Unmarshal(parts[name], &rows); err != nil {
		return fmt.Errorf("%s of the answer: %w", name, err)
	}
	return printLines(w, rows)
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

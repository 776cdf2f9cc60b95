package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
)

// A fieldKind is how a cell becomes a value.
type fieldKind int

const (
	textField fieldKind = iota
	numberField
	booleanField
	documentField // any JSON
	envelopeField // goes beside the body
)

// A subject is what a CSV file is imported as.
type subject struct {
	name    string // of the subcommand
	command string // that each row becomes
	fields  map[string]fieldKind
	body    func(fields map[string]json.RawMessage) map[string]any
}

var envelopeFields = []string{"actor", "reason", "reference", "effective_at"}

var itemRows = subject{
	name: "items", command: "create-inventory-items",
	fields: fieldKinds(map[fieldKind][]string{
		textField: {
			"id", "sku", "title", "description", "thumbnail", "origin_country", "hs_code", "mid_code", "material", "unit_of_measure",
			"location_id",
		},
		numberField:   {"weight", "length", "height", "width", "stocked_quantity", "incoming_quantity"},
		booleanField:  {"requires_shipping"},
		documentField: {"metadata"},
	}),
	body: itemBody,
}

var adjustmentRows = subject{
	name: "adjustments", command: "adjust-inventory-levels",
	fields: fieldKinds(map[fieldKind][]string{
		textField:   {"inventory_item_id", "sku", "location_id", "floor"},
		numberField: {"adjustment"},
	}),
	body: func(fields map[string]json.RawMessage) map[string]any {
		body := make(map[string]any, len(fields))
		for name, value := range fields {
			body[name] = value
		}
		return body
	},
}

func fieldKinds(byKind map[fieldKind][]string) map[string]fieldKind {
	kinds := make(map[string]fieldKind)
	byKind[envelopeField] = envelopeFields
	for kind, names := range byKind {
		for _, name := range names {
			kinds[name] = kind
		}
	}
	return kinds
}

// levelFields are the fields of items that belong to their first level.
var levelFields = []string{"location_id", "stocked_quantity", "incoming_quantity"}

// itemBody puts the fields of the level where the command has them.
func itemBody(fields map[string]json.RawMessage) map[string]any {
	body, level := make(map[string]any, len(fields)), make(map[string]any)
	for name, value := range fields {
		if slices.Contains(levelFields, name) {
			level[name] = value
		} else {
			body[name] = value
		}
	}
	if len(level) > 0 {
		body["location_levels"] = []any{level}
	}
	return body
}

// A mapping says how rows of a file become commands.
type mapping struct {
	subject
	columns   map[string]string // field → column
	constants map[string]string // field → value
	negate    bool              // the adjustment
	positive  string            // reason where the adjustment's column is 0 or more; "" for none
	negative  string            // reason where it is below
	distinct  string            // field that rows must differ in; "" for none

	index map[string]int // column → place in the file
}

// newMapping reads --map and --set, and tells all mistakes in them.
func newMapping(of subject, maps, sets []string) (*mapping, error) {
	m := &mapping{subject: of, columns: make(map[string]string), constants: make(map[string]string)}
	var wrong []error
	read := func(flag string, pairs []string, into map[string]string) {
		for _, pair := range pairs {
			field, value, found := strings.Cut(pair, "=")
			switch _, known := of.fields[field]; {
			case !found || field == "" || value == "":
				wrong = append(wrong, fmt.Errorf("%s %s: write it %s FIELD=…", flag, pair, flag))
			case !known:
				wrong = append(wrong, unknown("field", field, m.fieldNames(), "fields of "+of.name+" are "+strings.Join(m.fieldNames(), ", ")))
			case m.has(field):
				wrong = append(wrong, fmt.Errorf("field %s is given twice", field))
			default:
				into[field] = value
			}
		}
	}
	read("--map", maps, m.columns)
	read("--set", sets, m.constants)
	return m, mistakes("the mapping", wrong)
}

func (m *mapping) fieldNames() []string { return slices.Sorted(maps.Keys(m.fields)) }

func (m *mapping) has(field string) bool {
	_, mapped := m.columns[field]
	_, constant := m.constants[field]
	return mapped || constant
}

// check finds what is missing or does not go together, whatever the file.
func (m *mapping) check() error {
	var wrong []error
	need := func(field, why string) {
		if !m.has(field) {
			wrong = append(wrong, fmt.Errorf("field %s is missing%s: give it with --map %s=COLUMN or --set %s=VALUE", field, why, field, field))
		}
	}
	if m.name == adjustmentRows.name {
		if m.has("sku") == m.has("inventory_item_id") {
			wrong = append(wrong, errors.New("name the item by one of the fields inventory_item_id and sku: --map sku=COLUMN"))
		}
		need("location_id", "")
		need("adjustment", "")
	} else {
		if len(m.columns) == 0 {
			wrong = append(wrong, errors.New("no column of the file is used, so every row would be an item without a name: --map sku=COLUMN"))
		}
		if m.has("stocked_quantity") || m.has("incoming_quantity") {
			need("location_id", ", which quantities are for")
		}
	}
	if m.distinct != "" && !m.has(m.distinct) {
		wrong = append(wrong, fmt.Errorf("--distinct %s: no column is mapped to that field", m.distinct))
	}
	if m.has("reason") && (m.positive != "" || m.negative != "") {
		wrong = append(wrong, errors.New("the reason is given both by the field reason and by sign"))
	}
	return mistakes("the mapping", wrong)
}

// bind finds the columns in the header of the file.
func (m *mapping) bind(header []string) error {
	m.index = make(map[string]int, len(header))
	var wrong []error
	for i, name := range header {
		if _, twice := m.index[name]; twice && slices.Contains(slices.Collect(maps.Values(m.columns)), name) {
			wrong = append(wrong, fmt.Errorf("the file has two columns %q", name))
		}
		m.index[name] = i
	}
	for _, field := range slices.Sorted(maps.Keys(m.columns)) {
		if _, found := m.index[m.columns[field]]; !found {
			wrong = append(wrong, fmt.Errorf("--map %s=%s: %w", field, m.columns[field], noColumn(m.columns[field], header)))
		}
	}
	return mistakes("the mapping", wrong)
}

// noColumn is the error for a column that the header has not. A header that is a
// single column may be several, divided as spreadsheets do where a comma is in
// numbers.
func noColumn(name string, header []string) error {
	if len(header) == 1 && strings.ContainsAny(header[0], ";\t") {
		return unknown("column", name, nil, fmt.Sprintf("the first line is %q, and it is commas that divide columns: save the file with commas", header[0]))
	}
	return unknown("column", name, header, "the file has "+strings.Join(header, ", "))
}

// identity is what the mapping does to stock, for the name of the import. Who and
// why are left out: a repeat that corrects them must not move stock again.
func (m *mapping) identity() map[string]any {
	body := func(all map[string]string) map[string]string {
		kept := make(map[string]string)
		for field, from := range all {
			if m.fields[field] != envelopeField {
				kept[field] = from
			}
		}
		return kept
	}
	return map[string]any{
		"import": m.name, "map": body(m.columns), "set": body(m.constants), "negate": m.negate, "distinct": m.distinct,
	}
}

// A line is one row of the file as a command.
type line struct {
	number     int // of the row, from 1; part of its idempotency key
	at         int // line of the file it begins on
	fields     map[string]json.RawMessage
	env        commands.Envelope
	sku        string // of the item, when its id is still to be found
	adjustment events.Quantity
	distinct   string
	again      bool  // an earlier row had the same in the distinct field
	bad        error // why it is no command
}

// line reads a row.
func (m *mapping) line(number, at int, cells []string) line {
	l := line{number: number, at: at, fields: make(map[string]json.RawMessage)}
	for field, column := range m.columns {
		l.fail(m.set(&l, field, cells[m.index[column]]))
	}
	for field, constant := range m.constants {
		l.fail(m.set(&l, field, constant))
	}
	if m.name == adjustmentRows.name {
		m.adjust(&l)
	}
	if m.distinct != "" {
		l.distinct = string(l.fields[m.distinct])
	}
	if l.bad == nil {
		l.bad = m.checkBody(l)
	}
	return l
}

// fail keeps the first thing that is wrong, in an order that does not change
// from run to run.
func (l *line) fail(err error) {
	if err != nil && (l.bad == nil || err.Error() < l.bad.Error()) {
		l.bad = err
	}
}

// set reads one cell. An empty one is nothing.
func (m *mapping) set(l *line, field, cell string) error {
	kind := m.fields[field]
	if kind != textField {
		cell = strings.TrimSpace(cell)
	}
	if cell == "" {
		return nil
	}
	if !utf8.ValidString(cell) {
		return fmt.Errorf("%s is not UTF-8 text; convert the file, such as with: iconv -f WINDOWS-1252 -t UTF-8", field)
	}
	switch kind {
	case textField:
		l.fields[field] = quoted(cell)
	case numberField:
		q, err := events.ParseQuantity(cell)
		if err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		l.fields[field] = json.RawMessage(q.String())
		if field == "adjustment" {
			l.adjustment = q
		}
	case booleanField:
		if cell != "true" && cell != "false" {
			return fmt.Errorf("%s is %q, not true or false", field, cell)
		}
		l.fields[field] = json.RawMessage(cell)
	case documentField:
		if !json.Valid([]byte(cell)) {
			return fmt.Errorf("%s is not JSON", field)
		}
		l.fields[field] = json.RawMessage(cell)
	case envelopeField:
		return l.setEnvelope(field, cell)
	}
	return nil
}

func (l *line) setEnvelope(field, cell string) (err error) {
	switch field {
	case "actor":
		l.env.Actor = cell
	case "reason":
		l.env.Reason = cell
	case "reference":
		l.env.Reference = cell
	case "effective_at":
		var at time.Time
		if at, err = parseTime(cell); err != nil {
			return fmt.Errorf("effective_at: %w", err)
		}
		l.env.Effective = at
	}
	return nil
}

// adjust gives an adjustment its reason and its sign, and takes the SKU out of
// the fields: the command names the item by its id.
func (m *mapping) adjust(l *line) {
	reason := m.positive
	if l.adjustment.Sign() < 0 {
		reason = m.negative
	}
	if reason != "" {
		l.env.Reason = reason
	}
	if m.negate && l.fields["adjustment"] != nil {
		l.adjustment = l.adjustment.Negated()
		l.fields["adjustment"] = json.RawMessage(l.adjustment.String())
	}
	if m.has("sku") {
		l.sku = row(l.fields).text("sku")
		delete(l.fields, "sku")
		if l.sku == "" {
			l.fail(errors.New("sku is empty"))
		}
	}
}

// checkBody checks all that can be checked without the ledger.
func (m *mapping) checkBody(l line) error {
	if l.sku != "" {
		l.fields = maps.Clone(l.fields)
		l.fields["inventory_item_id"] = quoted("to be found by SKU")
	}
	body, err := m.encode(l)
	if err != nil {
		return err
	}
	_, err = commands.Decode(m.command, body)
	return err
}

// encode is the body of the command.
func (m *mapping) encode(l line) ([]byte, error) {
	body, err := json.Marshal(m.body(l.fields))
	if err != nil {
		return nil, fmt.Errorf("row %d: %w", l.number, err)
	}
	return body, nil
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
)

type history struct {
	ofItem
	Items        []string `name:"item" sep:"none" placeholder:"ID" help:"Movements of an item; several: of any of them. So with those that follow."`
	Levels       []string `name:"level" sep:"none" placeholder:"ID" help:"Of a level."`
	Locations    []string `name:"location" sep:"none" placeholder:"ID" help:"At a location."`
	Reservations []string `name:"reservation" sep:"none" placeholder:"ID" help:"Of a reservation."`
	Variants     []string `name:"variant" sep:"none" placeholder:"ID" help:"Of the items of a variant."`
	Actors       []string `name:"actor" sep:"none" placeholder:"NAME" help:"Asked for by somebody."`
	Reasons      []string `name:"reason" sep:"none" placeholder:"TEXT" help:"For a reason."`
	References   []string `name:"reference" sep:"none" placeholder:"URI" help:"Resting on a document."`
	Commands     []string `name:"command" sep:"none" placeholder:"NAME" help:"Made by a command, such as adjust-inventory-levels."`
	CommandIDs   []string `name:"command-id" sep:"none" placeholder:"KEY" help:"Made by the command with an idempotency key."`
	Correlations []string `name:"correlation" sep:"none" placeholder:"ID" help:"Belonging to a business process."`
	Kinds        []string `name:"kind" sep:"none" placeholder:"NAME" help:"Of a kind, such as stock-adjusted."`
	period
	EffectiveSince string `placeholder:"TIME" help:"Happened then or later."`
	EffectiveUntil string `placeholder:"TIME" help:"Happened before that moment."`

	Take     int  `placeholder:"N" help:"Show the oldest N movements."`
	Newest   int  `aliases:"last" placeholder:"N" help:"Show the newest N movements."`
	All      bool `help:"Show all, however many."`
	Recorded bool `help:"Show when the ledger recorded a movement, instead of when it happened."`
	JSON     bool `help:"Answer in JSON; with --all each movement on a line."`
	watching
	reach
}

// An ofItem is the item that a question is about, as a whole or at a location.
type ofItem struct {
	Item     string `arg:"" optional:"" help:"Id of the item, or its SKU with --sku."`
	Location string `arg:"" optional:"" help:"Only what is at this location."`
	SKU      bool   `name:"sku" help:"The item is named by its SKU."`
}

// Help implements kong.HelpProvider.
func (history) Help() string {
	return `Every movement that the flags leave, oldest first. Of an item or a level alone these are all there are, and the last line says whether
they add up to what is in stock now; exit status 1 says that they do not. Of a document, a command, a process or a reservation they
are the first 1000, of anything else the first 50. --take, --newest and --all say otherwise.

STOCKED and RESERVED are those of the level afterwards; of an item alone, those of all its levels together.

Times are written as in stockledger as-of --help.

Examples:

    stockledger history mug paris
    stockledger history --sku MUG-1 --newest 20
    stockledger history --reference invoice:536365
    stockledger history --actor ann --reason damaged --since 'last monday' --all --json
    stockledger history --location paris --effective-since 2026-01-01 --effective-until 2026-02-01 --all`
}

// A movement is one change of the quantities of a level.
type movement struct {
	row
	document      json.RawMessage
	position      uint64
	deltaStocked  events.Quantity
	deltaReserved events.Quantity
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *movement) UnmarshalJSON(document []byte) error {
	var typed struct {
		Position      uint64           `json:"position"`
		DeltaStocked  *events.Quantity `json:"delta_stocked"` // null where nothing moved
		DeltaReserved *events.Quantity `json:"delta_reserved"`
	}
	if err := errors.Join(json.Unmarshal(document, &typed), json.Unmarshal(document, &m.row)); err != nil {
		return err
	}
	m.position, m.document = typed.Position, bytes.Clone(document)
	if typed.DeltaStocked != nil {
		m.deltaStocked = *typed.DeltaStocked
	}
	if typed.DeltaReserved != nil {
		m.deltaReserved = *typed.DeltaReserved
	}
	return nil
}

// documents are movements as the ledger gave them.
func documents(movements []movement) []json.RawMessage {
	all := make([]json.RawMessage, len(movements))
	for i, m := range movements {
		all[i] = m.document
	}
	return all
}

// An account is the history of an item and what it comes to.
type account struct {
	Movements []movement      `json:"-"`                // all; as JSON, those that are shown
	Sum       events.Quantity `json:"sum"`              // of what moved in stock
	Stocked   events.Quantity `json:"stocked_quantity"` // as the levels have it
	Reserved  events.Quantity `json:"reserved_quantity"`
	AddsUp    bool            `json:"adds_up"`
}

// Run shows the history.
func (c *history) Run(ctx context.Context, s streams) error {
	if err := c.check(); err != nil {
		return err
	}
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := c.find(ctx, conn); err != nil {
		return err
	}
	question, err := c.question()
	if err != nil {
		return err
	}
	whole := isAccount(question) && c.Take == 0 && c.Newest == 0
	if c.All && !whole {
		return c.walk(ctx, s, conn, question)
	}
	return c.Watch.show(ctx, s, conn, watched{settled: whole, show: func(ctx context.Context, w io.Writer, after uint64) error {
		question, err := c.question() // again: times may be relative to now
		if err != nil {
			return err
		}
		if after > 0 {
			question["after"] = after
		}
		if whole {
			return c.showAccount(ctx, w, conn, question)
		}
		return c.showPage(ctx, w, conn, question)
	}})
}

func (c *history) check() error {
	given := 0
	for _, flag := range []bool{c.Take > 0, c.Newest > 0, c.All} {
		if flag {
			given++
		}
	}
	switch {
	case given > 1:
		return errors.New("--take, --newest and --all: give one of the three")
	case c.All && c.Watch.given:
		return errors.New("--all and --watch: give one of the two")
	case c.Item != "" && len(c.Items) > 0, c.Location != "" && len(c.Locations) > 0:
		return errors.New("the item or the location is named twice, as an argument and with a flag")
	}
	return nil
}

// find replaces a SKU by the id of the item that has it.
func (s *ofItem) find(ctx context.Context, l ledger) error {
	switch {
	case !s.SKU:
		return nil
	case s.Item == "":
		return errors.New("--sku: which one?")
	}
	found, err := itemsBySKU(ctx, l, []string{s.Item}, 0)
	if err != nil {
		return err
	}
	id, ok := found[s.Item]
	if !ok {
		return fmt.Errorf("no item has the SKU %q; SKUs are compared letter by letter, also their case", s.Item)
	}
	s.Item, s.SKU = id, false
	return nil
}

// question is what the flags ask for.
func (c *history) question() (object, error) {
	q := object{}
	for name, values := range map[string][]string{
		"inventory_item_id": append(c.Items, just(c.Item)...), "location_id": append(c.Locations, just(c.Location)...),
		"level_id": c.Levels, "reservation_id": c.Reservations, "variant_id": c.Variants,
		"actor": c.Actors, "reason": c.Reasons, "reference": c.References, "command": c.Commands, "command_id": c.CommandIDs,
		"correlation_id": c.Correlations, "kind": c.Kinds,
	} {
		switch len(values) {
		case 0:
		case 1:
			q[name] = values[0]
		default:
			q[name] = values
		}
	}
	return q, bounds(q, bound{"--since", c.Since, "recorded_from"}, bound{"--until", c.Until, "recorded_before"},
		bound{"--effective-since", c.EffectiveSince, "effective_from"}, bound{"--effective-until", c.EffectiveUntil, "effective_before"})
}

// just is a list of the text, or of nothing.
func just(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

// isAccount reports whether a question is for all there is of one item or level,
// which must add up.
func isAccount(q object) bool {
	_, item := q["inventory_item_id"].(string)
	_, level := q["level_id"].(string)
	_, location := q["location_id"].(string)
	named := len(q)
	if _, waits := q["after"]; waits {
		named--
	}
	return item && named == 1 || level && named == 1 || item && location && named == 2
}

// isBalanced reports whether there is a balance of what a question is for, so that
// its running sums go on from page to page. What somebody moved, say, has none.
func isBalanced(q object) bool {
	balanced := false
	for name := range q {
		switch name {
		case "inventory_item_id", "level_id", "location_id", "variant_id":
			balanced = true
		case "recorded_from", "recorded_before":
		default:
			return false
		}
	}
	return balanced
}

// showAccount shows all movements and what they come to.
func (c *history) showAccount(ctx context.Context, w io.Writer, l ledger, question object) error {
	a, err := readAccount(ctx, l, question)
	if err != nil {
		return err
	}
	if len(a.Movements) == 0 {
		return c.nothing(ctx, l)
	}
	if !c.JSON {
		a.show(w, view{columns: questionColumns(question, c.Recorded), recorded: c.Recorded})
		return a.verdict()
	}
	if c.All {
		return errors.Join(printLines(w, documents(a.Movements)), a.verdict())
	}
	document, err := json.Marshal(struct {
		Movements []json.RawMessage `json:"movements"`
		account
	}{documents(a.Movements), a})
	if err != nil {
		return err
	}
	return errors.Join(c.Watch.printJSON(w, document), a.verdict())
}

// A historyPage is a page of movements.
type historyPage struct {
	Rows []movement `json:"rows"`
	More bool       `json:"more"`
}

// lastPosition is beyond the end of every log, and a number that every reader of
// JSON reads as it is.
const lastPosition = 1 << 53

// page is how many movements are shown unless it is said how many. Those of one
// document or one command belong together.
func (c *history) page() int {
	if len(c.References)+len(c.CommandIDs)+len(c.Correlations)+len(c.Reservations) > 0 {
		return 1000
	}
	return 50
}

// showPage shows some movements.
func (c *history) showPage(ctx context.Context, w io.Writer, l ledger, question object) error {
	params := maps.Clone(question)
	params["take"] = cmp.Or(c.Take, c.Newest, c.page())
	if c.Newest > 0 {
		params["before_position"] = uint64(lastPosition)
	}
	document, err := ask[json.RawMessage](ctx, l, "stock-history", params)
	if err != nil {
		return err
	}
	var p historyPage
	if err := json.Unmarshal(document, &p); err != nil {
		return fmt.Errorf("answer to stock-history: %w", err)
	}
	switch {
	case len(p.Rows) == 0 && isAccount(question):
		return c.nothing(ctx, l)
	case c.JSON:
		return c.Watch.printJSON(w, document)
	case len(p.Rows) == 0:
		fmt.Fprintln(w, "no movements")
		return nil
	}
	rows := make([]row, len(p.Rows))
	var sum tally
	for i, m := range p.Rows {
		rows[i] = m.row
		sum.add(m)
	}
	printTable(w, questionColumns(question, c.Recorded), rows)
	fmt.Fprintln(w)
	switch {
	case p.More && c.Newest > 0:
		fmt.Fprintf(w, "the newest %s; there are older ones, --all shows them\n", several(len(rows), "movement"))
	case p.More:
		fmt.Fprintf(w, "the oldest %s; there are newer ones, --all shows them and --newest N the last of them\n", several(len(rows), "movement"))
	default:
		fmt.Fprintln(w, sum)
	}
	return nil
}

// walk shows all movements as they come.
func (c *history) walk(ctx context.Context, s streams, l ledger, question object) error {
	t := table{w: s.out, columns: questionColumns(question, c.Recorded)}
	bar := progressBeside(s)
	bar.begin("movements", -1)
	defer bar.end()
	var sum tally
	err := eachMovement(ctx, l, question, func(part []movement) error {
		bar.add(len(part))
		rows := make([]row, len(part))
		for i, m := range part {
			rows[i] = m.row
			sum.add(m)
		}
		switch {
		case c.JSON && isBalanced(question):
			return printLines(s.out, documents(part))
		case c.JSON:
			for _, r := range rows { // sums that begin again with every page
				delete(r, "running_stocked")
				delete(r, "running_reserved")
			}
			return printLines(s.out, rows)
		}
		t.print(rows)
		return nil
	})
	if err == nil && !c.JSON {
		fmt.Fprintf(s.out, "\n%s\n", sum)
	}
	return err
}

// eachMovement reads all movements, page by page.
func eachMovement(ctx context.Context, l ledger, question object, do func([]movement) error) error {
	params := maps.Clone(question)
	params["take"] = pageSize
	for {
		part, err := ask[historyPage](ctx, l, "stock-history", params)
		if err != nil {
			return err
		}
		if len(part.Rows) > 0 {
			if err := do(part.Rows); err != nil {
				return err
			}
			params["after_position"] = part.Rows[len(part.Rows)-1].position
		}
		if !part.More || len(part.Rows) == 0 {
			return nil
		}
	}
}

// A tally is what movements come to.
type tally struct {
	movements         int
	stocked, reserved events.Quantity
}

func (t *tally) add(m movement) {
	t.movements++
	t.stocked, t.reserved = t.stocked.Plus(m.deltaStocked), t.reserved.Plus(m.deltaReserved)
}

// String is the last line of a table of movements.
func (t tally) String() string {
	return fmt.Sprintf("sum of %s = %s stocked, %s reserved", several(t.movements, "movement"), signed(t.stocked.String()), signed(t.reserved.String()))
}

// nothing says what to try when there is no history.
func (c *history) nothing(ctx context.Context, l ledger) error {
	item := cmp.Or(c.Item, strings.Join(c.Items, ""))
	switch location := cmp.Or(c.Location, strings.Join(c.Locations, "")); {
	case item == "":
		return fmt.Errorf("there was never a level with the id %q", strings.Join(c.Levels, ""))
	case location != "":
		return fmt.Errorf("item %s never had a level at location %q; leave the location out for the item as a whole", item, location)
	}
	return noHistory(ctx, l, "history", item)
}

// noHistory says what to try when an item is not there.
func noHistory(ctx context.Context, l ledger, command, item string) error {
	if found, err := itemsBySKU(ctx, l, []string{item}, 0); err == nil && len(found) > 0 {
		return fmt.Errorf("no item has the id %q, but one has it as its SKU: stockledger %s --sku %s", item, command, shellWord(item))
	}
	return fmt.Errorf("item %q has no history: there is no such item, or it never had a level", item)
}

// itemsBySKU finds the ids of the items that have the SKUs. What is recorded up
// to position after is taken into account.
func itemsBySKU(ctx context.Context, l ledger, skus []string, after uint64) (map[string]string, error) {
	params := map[string]any{"sku": skus, "take": len(skus)}
	if after > 0 {
		params["after"] = after
	}
	p, err := ask[page](ctx, l, "list-inventory-items", params)
	if err != nil {
		return nil, fmt.Errorf("look up SKUs: %w", err)
	}
	found := make(map[string]string, len(p.Rows))
	for _, r := range p.Rows {
		found[r.text("sku")] = r.text("id")
	}
	return found, nil
}

// attempts bounds how often a sum is compared again because something moved
// between the two questions. A level that never rests for so long is compared
// by whoever stops it.
const attempts = 10

// readAccount reads all movements and what they must add up to. The two are
// asked for one after the other, so it asks again when something moved between.
func readAccount(ctx context.Context, l ledger, question object) (a account, err error) {
	var after uint64
	for range attempts {
		if after, err = a.read(ctx, l, question, after); err != nil || len(a.Movements) == 0 {
			return a, err
		}
		if a.Stocked, a.Reserved, err = inStock(ctx, l, question, after); err != nil {
			return a, err
		}
		if a.AddsUp = a.Sum.Equal(a.Stocked); a.AddsUp {
			break
		}
	}
	return a, nil
}

// read adds the movements after a position, and returns that of the last one.
func (a *account) read(ctx context.Context, l ledger, question object, after uint64) (uint64, error) {
	question = maps.Clone(question)
	question["after_position"] = after
	err := eachMovement(ctx, l, question, func(part []movement) error {
		for _, m := range part {
			a.Movements = append(a.Movements, m)
			a.Sum = a.Sum.Plus(m.deltaStocked)
			after = m.position
		}
		return nil
	})
	return after, err
}

// inStock is what the levels that live hold. Of an item these may be more than a
// page; its totals are one row.
func inStock(ctx context.Context, l ledger, question object, after uint64) (stocked, reserved events.Quantity, err error) {
	query, params := "list-inventory-levels", object{"after": after}
	item, location, level := question["inventory_item_id"], question["location_id"], question["level_id"]
	switch {
	case level != nil:
		params["id"] = level
	case location != nil:
		params["inventory_item_id"], params["location_id"] = item, location
	default:
		query, params["id"] = "list-inventory-items", item
	}
	held, err := ask[struct {
		Rows []struct {
			Stocked  events.Quantity `json:"stocked_quantity"`
			Reserved events.Quantity `json:"reserved_quantity"`
		} `json:"rows"`
	}](ctx, l, query, params)
	for _, r := range held.Rows {
		stocked, reserved = stocked.Plus(r.Stocked), reserved.Plus(r.Reserved)
	}
	return stocked, reserved, err
}

// A view is how an account is shown.
type view struct {
	columns  []column
	recorded bool
	newest   int // how many; 0 for all
}

// show prints the movements as a table, and the sum below it.
func (a account) show(w io.Writer, v view) {
	older := 0
	if v.newest > 0 {
		older = max(0, len(a.Movements)-v.newest)
	}
	rows := make([]row, 0, len(a.Movements)-older)
	late := 0
	for _, m := range a.Movements[older:] {
		rows = append(rows, m.row)
		if reportedLate(m.row) {
			late++
		}
	}
	printTable(w, v.columns, rows)
	fmt.Fprintln(w)
	if older > 0 {
		fmt.Fprintf(w, "%s not shown\n", were(older, "older movement"))
	}
	if late > 0 && !v.recorded {
		fmt.Fprintf(w, "%s recorded after they happened; --recorded shows when\n", were(late, "movement"))
	}
	fmt.Fprintln(w, a.sumLine())
}

// sumLine is what it comes to.
func (a account) sumLine() string {
	sum := fmt.Sprintf("sum of %s = %s", several(len(a.Movements), "movement"), a.Sum)
	if !a.AddsUp {
		return fmt.Sprintf("%s ≠ %s stocked now", sum, a.Stocked)
	}
	line := sum + " = stocked now"
	if !a.Reserved.IsZero() {
		line += fmt.Sprintf(", of which %s reserved", a.Reserved)
	}
	return line
}

func (a account) verdict() error {
	if a.AddsUp {
		return nil
	}
	return errors.New("the movements do not add up to what is in stock: a read model is wrong or behind; see: stockledger status")
}

// reportedLate reports whether a movement happened a second or more before it
// was recorded.
func reportedLate(r row) bool {
	happened, err1 := time.Parse(time.RFC3339Nano, r.text("effective_at"))
	recorded, err2 := time.Parse(time.RFC3339Nano, r.text("recorded_at"))
	return err1 == nil && err2 == nil && recorded.Sub(happened) >= time.Second
}

// questionColumns are the columns for what a question leaves open. The balance is
// that of each level, or, of an item alone, that of all its levels together. Of
// anything else that several levels hold there is none: a sum would be of apples
// and pears, or of what one person moved.
func questionColumns(question object, recorded bool) []column {
	_, item := question["inventory_item_id"].(string)
	_, level := question["level_id"].(string)
	_, location := question["location_id"].(string)
	columns := []column{when("WHEN", "effective_at"), col("WHAT", "kind")}
	if recorded {
		columns[0] = when("RECORDED", "recorded_at")
	}
	if !item && !level {
		columns = append(columns, col("ITEM", "inventory_item_id"))
	}
	if !location && !level {
		columns = append(columns, col("LOCATION", "location_id"))
	}
	stocked, reserved := "stocked_quantity", "reserved_quantity"
	if isAccount(question) {
		stocked, reserved = "running_stocked", "running_reserved"
	}
	return append(columns,
		delta("DELTA", "delta_stocked"), num("STOCKED", stocked),
		delta("HELD", "delta_reserved"), num("RESERVED", reserved),
		col("REASON", "reason"), col("REFERENCE", "reference"), col("ACTOR", "actor"), num("POSITION", "position"))
}

// delta shows a change with its sign.
func delta(header, name string) column {
	return column{header: header, right: true, value: func(r row) string { return signed(r.text(name)) }}
}

func signed(text string) string {
	if text != "" && text[0] != '-' && text != "0" {
		return "+" + text
	}
	return text
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stockledger/stockledger/events"
)

type history struct {
	Item     string `arg:"" help:"Id of the item, or its SKU with --sku."`
	Location string `arg:"" optional:"" help:"Only what moved at this location."`
	SKU      bool   `name:"sku" help:"The item is named by its SKU."`
	Recorded bool   `help:"Show when the ledger recorded a movement, instead of when it happened."`
	Last     int    `placeholder:"N" help:"Show only the newest N movements. All of them are summed."`
	JSON     bool   `help:"Answer in JSON."`
	reach
}

// Help implements kong.HelpProvider.
func (history) Help() string {
	return `Every movement of the item's stock, oldest first, and at the end whether they add up to what is in stock now. Exit status 1 says that
they do not.

Examples:

    stockledger history mug paris
    stockledger history --sku MUG-1 --last 20`
}

// A movement is one change of the quantities of a level.
type movement struct {
	row
	position      uint64
	deltaStocked  events.Quantity
	deltaReserved events.Quantity
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *movement) UnmarshalJSON(document []byte) error {
	var typed struct {
		Position      uint64           `json:"position"`
		DeltaStocked  *events.Quantity `json:"delta_stocked"`
		DeltaReserved *events.Quantity `json:"delta_reserved"`
	}
	if err := errors.Join(json.Unmarshal(document, &typed), json.Unmarshal(document, &m.row)); err != nil {
		return err
	}
	m.position = typed.Position
	if typed.DeltaStocked != nil {
		m.deltaStocked = *typed.DeltaStocked
	}
	if typed.DeltaReserved != nil {
		m.deltaReserved = *typed.DeltaReserved
	}
	return nil
}

// MarshalJSON implements json.Marshaler: a movement is the row the ledger gave.
func (m movement) MarshalJSON() ([]byte, error) { return json.Marshal(m.row) }

// An account is the history of an item and what it comes to.
type account struct {
	Movements []movement      `json:"movements"`
	Sum       events.Quantity `json:"sum"`              // of what moved in stock
	Stocked   events.Quantity `json:"stocked_quantity"` // as the levels have it
	Reserved  events.Quantity `json:"reserved_quantity"`
	AddsUp    bool            `json:"adds_up"`
}

// Run shows the history.
func (c *history) Run(ctx context.Context, s streams) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	item, err := c.item(ctx, conn)
	if err != nil {
		return err
	}
	a, err := readAccount(ctx, conn, item, c.Location)
	if err != nil {
		return err
	}
	if len(a.Movements) == 0 {
		return c.nothing(ctx, conn, item)
	}
	if c.JSON {
		document, err := json.Marshal(a)
		if err != nil {
			return err
		}
		return errors.Join(printJSON(s.out, document), a.verdict())
	}
	a.show(s.out, c.Location == "", c.Recorded, c.Last)
	return a.verdict()
}

// item is the id of the item that was asked for.
func (c *history) item(ctx context.Context, l ledger) (string, error) {
	if !c.SKU {
		return c.Item, nil
	}
	found, err := itemsBySKU(ctx, l, []string{c.Item}, 0)
	if err != nil {
		return "", err
	}
	id, ok := found[c.Item]
	if !ok {
		return "", fmt.Errorf("no item has the SKU %q; SKUs are compared letter by letter, also their case", c.Item)
	}
	return id, nil
}

// nothing says what to try when there is no history.
func (c *history) nothing(ctx context.Context, l ledger, item string) error {
	if c.Location != "" {
		return fmt.Errorf("item %s never had a level at location %q; leave the location out for the item as a whole", item, c.Location)
	}
	if found, err := itemsBySKU(ctx, l, []string{item}, 0); err == nil && len(found) > 0 {
		return fmt.Errorf("no item has the id %q, but one has it as its SKU: stockledger history --sku %s", item, shellWord(item))
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
func readAccount(ctx context.Context, l ledger, item, location string) (a account, err error) {
	var after uint64
	for range attempts {
		if after, err = a.read(ctx, l, item, location, after); err != nil || len(a.Movements) == 0 {
			return a, err
		}
		if a.Stocked, a.Reserved, err = inStock(ctx, l, item, location, after); err != nil {
			return a, err
		}
		if a.AddsUp = a.Sum.Equal(a.Stocked); a.AddsUp {
			break
		}
	}
	return a, nil
}

// read adds the movements after a position, and returns that of the last one.
func (a *account) read(ctx context.Context, l ledger, item, location string, after uint64) (uint64, error) {
	for {
		params := map[string]any{"inventory_item_id": item, "after_position": after, "take": 1000}
		if location != "" {
			params["location_id"] = location
		}
		part, err := ask[struct {
			Rows []movement `json:"rows"`
			More bool       `json:"more"`
		}](ctx, l, "stock-history", params)
		if err != nil {
			return after, err
		}
		for _, m := range part.Rows {
			a.Movements = append(a.Movements, m)
			a.Sum = a.Sum.Plus(m.deltaStocked)
			after = m.position
		}
		if !part.More || len(part.Rows) == 0 {
			return after, nil
		}
	}
}

// inStock sums the levels that live.
func inStock(ctx context.Context, l ledger, item, location string, after uint64) (stocked, reserved events.Quantity, err error) {
	params := map[string]any{"inventory_item_id": item, "take": 1000, "after": after}
	if location != "" {
		params["location_id"] = location
	}
	levels, err := ask[struct {
		Rows []struct {
			Stocked  events.Quantity `json:"stocked_quantity"`
			Reserved events.Quantity `json:"reserved_quantity"`
		} `json:"rows"`
	}](ctx, l, "list-inventory-levels", params)
	for _, level := range levels.Rows {
		stocked, reserved = stocked.Plus(level.Stocked), reserved.Plus(level.Reserved)
	}
	return stocked, reserved, err
}

// show prints the movements as a table, and the sum below it.
func (a account) show(w io.Writer, everywhere, recorded bool, last int) {
	from := 0
	if last > 0 {
		from = max(0, len(a.Movements)-last)
	}
	rows := make([]row, 0, len(a.Movements)-from)
	late := 0
	for _, m := range a.Movements[from:] {
		rows = append(rows, m.row)
		if reportedLate(m.row) {
			late++
		}
	}
	printTable(w, historyColumns(everywhere, recorded), rows)
	fmt.Fprintln(w)
	if from > 0 {
		fmt.Fprintf(w, "%s not shown\n", were(from, "older movement"))
	}
	if late > 0 && !recorded {
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

func historyColumns(everywhere, recorded bool) []column {
	clock := when("WHEN", "effective_at")
	if recorded {
		clock = when("RECORDED", "recorded_at")
	}
	stocked, reserved := "stocked_quantity", "reserved_quantity"
	columns := []column{clock, col("WHAT", "kind")}
	if everywhere {
		columns = append(columns, col("LOCATION", "location_id"))
		stocked, reserved = "running_stocked", "running_reserved"
	}
	return append(columns,
		delta("DELTA", "delta_stocked"), col("STOCKED", stocked),
		delta("HELD", "delta_reserved"), col("RESERVED", reserved),
		col("REASON", "reason"), col("REFERENCE", "reference"), col("ACTOR", "actor"), col("POSITION", "position"))
}

// delta shows a change with its sign.
func delta(header, name string) column {
	return column{header, func(r row) string {
		text := r.text(name)
		if text != "" && text[0] != '-' && text != "0" {
			return "+" + text
		}
		return text
	}}
}

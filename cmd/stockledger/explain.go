package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

type explain struct {
	ofItem
	Level    string `placeholder:"ID" help:"The level, instead of an item and a location."`
	Quantity string `enum:"available,stocked,reserved,incoming" default:"available" placeholder:"available|stocked|reserved|incoming" help:"Which quantity."`
	AsOf     string `name:"as-of" aliases:"at" placeholder:"TIME" help:"What it was then, on the clock of the record."`
	Position uint64 `placeholder:"N" help:"What it was at that position of the log."`
	Take     int    `default:"50" help:"How many events are shown, the newest; all of them are summed."`
	All      bool   `help:"Show all events."`
	JSON     bool   `help:"Answer in JSON."`
	watching
	reach
}

// Help implements kong.HelpProvider.
func (explain) Help() string {
	return `The events that make a quantity, with the sum so far, read from the log itself; then whether their sum is what the ledger serves,
and whether the chain of the item's events is whole. Exit status 1 says that either is not so, and where.

` + aboutTimes + `

Examples:

    stockledger explain mug
    stockledger explain mug paris --quantity reserved --all
    stockledger explain --sku MUG-1 paris --as-of yesterday
    stockledger explain mug --json`
}

// An explanation is the answer of the ledger.
type explanation struct {
	Quantity string          `json:"quantity"`
	Value    events.Quantity `json:"value"` // as it is served
	Events   int             `json:"events"`
	Sum      events.Quantity `json:"sum"` // as the log has it
	Served   struct {
		Position uint64 `json:"position"`
	} `json:"served"`
	Agrees bool     `json:"agrees"`
	Parts  *parting `json:"parts"`
	Chain  struct {
		Stream   string `json:"stream"`
		Events   int    `json:"events"`
		Verified bool   `json:"verified"`
		Broken   string `json:"broken"`
		Head     string `json:"head"`
	} `json:"chain"`
	Opening struct {
		Events int             `json:"events"`
		Sum    events.Quantity `json:"sum"`
	} `json:"opening"`
	Rows []row `json:"rows"`
	More bool  `json:"more"`
}

// A parting is the first place where the log and what is served part.
type parting struct {
	Position uint64          `json:"position"`
	LevelID  string          `json:"level_id"`
	Row      string          `json:"row"` // the table
	Log      events.Quantity `json:"log"`
	Served   events.Quantity `json:"served"`
	Stored   *string         `json:"stored"` // what stands there when it is no quantity
}

// Run explains a quantity.
func (c *explain) Run(ctx context.Context, s streams) error {
	if (c.Item == "") == (c.Level == "") {
		return errors.New("of what? name an item, an item and a location, or --level ID")
	}
	if err := atOrPosition(c.AsOf, c.Position); err != nil {
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
	what := watched{settled: true, show: func(ctx context.Context, w io.Writer, after uint64) error {
		return c.show(ctx, w, conn, after)
	}}
	if c.AsOf != "" {
		what.settled, what.passing = false, clockTicks
	}
	return c.Watch.show(ctx, s, conn, what)
}

// show prints the explanation, and fails when it does not agree.
func (c *explain) show(ctx context.Context, w io.Writer, l ledger, after uint64) error {
	question := selectors(c.Item, c.Location, c.Level)
	question["quantity"], question["take"] = c.Quantity, c.Take
	if after > 0 {
		question["after"] = after
	}
	if c.Position > 0 {
		question["position"] = c.Position
	} else if err := bounds(question, bound{"--as-of", c.AsOf, "at"}); err != nil {
		return err
	}
	document, e, err := c.ask(ctx, l, question)
	if fault.Of(err).Kind == fault.NotFound && c.Item != "" {
		if found, failed := itemsBySKU(ctx, l, []string{c.Item}, 0); failed == nil && len(found) > 0 {
			return noHistory(ctx, l, "explain", c.Item)
		}
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = c.Watch.printJSON(w, document)
	} else {
		if at, dated := question["at"]; dated || c.Position > 0 {
			fmt.Fprintf(w, "as of %v\n\n", cmp.Or(at, any(fmt.Sprintf("position %d", c.Position))))
		}
		e.print(w, c.Location == "" && c.Level == "")
	}
	return errors.Join(err, e.verdict())
}

// ask asks for the explanation: the page that ends in the sum, or, when all events
// are wanted, page by page from the first. The last page has the sum then.
func (c *explain) ask(ctx context.Context, l ledger, question object) (document json.RawMessage, e explanation, err error) {
	if c.All {
		question["take"], question["after_position"] = pageSize, 0
	}
	var rows []row
	for {
		if document, err = ask[json.RawMessage](ctx, l, "explain", question); err != nil {
			return nil, e, err
		}
		e = explanation{}
		if err := json.Unmarshal(document, &e); err != nil {
			return nil, e, fmt.Errorf("answer to explain: %w", err)
		}
		rows = append(rows, e.Rows...)
		if !c.All || !e.More || len(e.Rows) == 0 {
			break
		}
		question["after_position"] = json.Number(e.Rows[len(e.Rows)-1].text("position"))
	}
	if len(rows) > len(e.Rows) {
		e.Rows, e.Opening.Events, e.Opening.Sum = rows, 0, events.Quantity{}
		document, err = e.with(document)
	}
	return document, e, err
}

// with is the document of the last page with the rows of all.
func (e explanation) with(document json.RawMessage) (json.RawMessage, error) {
	var parts map[string]json.RawMessage
	err := json.Unmarshal(document, &parts)
	for name, value := range map[string]any{"rows": e.Rows, "opening": e.Opening} {
		part, failed := json.Marshal(value)
		parts[name] = part
		err = errors.Join(err, failed)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(parts)
}

func (e explanation) print(w io.Writer, everywhere bool) {
	columns := []column{when("WHEN", "effective_at"), col("WHAT", "kind")}
	if everywhere {
		columns = append(columns, col("LOCATION", "location_id"))
	}
	columns = append(columns, delta("DELTA", "delta"), num("SUM", "running"),
		col("REASON", "reason"), col("REFERENCE", "reference"), col("ACTOR", "actor"), num("POSITION", "position"))
	if e.Opening.Events > 0 {
		fmt.Fprintf(w, "%s before these = %s; --all shows all\n\n", several(e.Opening.Events, "event"), e.Opening.Sum)
	}
	if len(e.Rows) > 0 {
		printTable(w, columns, e.Rows)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "sum of %s = %s %s\n", several(e.Events, "event"), e.Sum, e.Quantity)
	fmt.Fprintf(w, "served %s %s\n", e.Value, tick(e.Parts == nil))
	fmt.Fprintf(w, "chain %s (%s of %s verified, head %s)\n", tick(e.Chain.Verified), several(e.Chain.Events, "event"), e.Chain.Stream, e.Chain.Head)
}

func tick(good bool) string {
	if good {
		return "✓"
	}
	return "✗"
}

// verdict is the error that names the first place where they part.
func (e explanation) verdict() error {
	switch {
	case !e.Chain.Verified:
		return fmt.Errorf("THE CHAIN OF %s IS BROKEN: %s", e.Chain.Stream, e.Chain.Broken)
	case e.Parts != nil:
		p, what, served, where := e.Parts, e.Quantity, e.Parts.Served.String(), ""
		if p.Row == "totals.version" {
			what = "the item's version"
		}
		if p.Stored != nil {
			served = strconv.Quote(*p.Stored)
		}
		if p.LevelID != "" {
			where = " for level " + p.LevelID
		}
		return fmt.Errorf("THE LOG AND WHAT IS SERVED PART after position %d: there %s is %s by the log, and %s in %s of the read model%s",
			p.Position, what, p.Log, served, p.Row, where)
	case !e.Agrees:
		return errors.New("THE LOG AND WHAT IS SERVED DO NOT AGREE")
	}
	return nil
}

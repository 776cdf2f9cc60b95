package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

type listRefusals struct {
	Filters []string `arg:"" optional:"" name:"filter" help:"Idempotency keys, or filters such as code=insufficient_stock."`
	Where   []string `sep:"none" placeholder:"FILTER" help:"A filter whose value is taken as it is, also with commas."`
	period
	ByDay  bool   `help:"How many a day, by command and code; they are counted also where the details were dropped."`
	Take   int    `default:"50" help:"How many rows at most, up to 1000; up to 10000 by day."`
	Cursor string `help:"Go on after a page: what it has under next."`
	All    bool   `help:"All rows, however many, with --json each on a line; by day the newest 10000."`
	JSON   bool   `help:"Answer in JSON."`
	watching
}

// Help implements kong.HelpProvider.
func (listRefusals) Help() string {
	return `Newest first, with what was asked for and what there was. A filter is NAME=VALUE, or NAME=A,B for any of them; NAME=null finds those without.
The names are ` + names(refusalFields) + `.

The newest 100,000 keep their details, but for what a flood left no time for. Counts by day, command and code are kept for ever: --by-day,
in whole days, with filters on ` + names(countFields) + `; those of an item count only what has its details.

Examples:

    stockledger get refusals inventory_item_id=mug
    stockledger get refusals code=insufficient_stock actor=web-shop --since yesterday --json
    stockledger get refusals --by-day --since '7 days ago'`
}

// What refusals, and their counts by day, are found by.
var (
	refusalFields = []string{
		"command", "command_id", "code", "actor", "reason", "reference", "correlation_id", "inventory_item_id", "location_id",
	}
	countFields = []string{"command", "code", "inventory_item_id"}
)

// names is a list of them in a sentence.
func names(all []string) string {
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + " and " + all[last]
}

// Run lists refusals.
func (l *listRefusals) Run(ctx context.Context, s streams, at *get) error {
	if l.ByDay {
		return l.countByDay(ctx, s, at.reach)
	}
	page := listing{Take: l.Take, Cursor: l.Cursor, All: l.All, JSON: l.JSON, watching: l.watching}
	return page.show(ctx, s, at.reach, list{"refusals", "list-refusals", "command_id"}, func() (object, error) {
		return l.question(refusalFields, l.Take)
	})
}

// question is what the ledger is asked.
func (l *listRefusals) question(fields []string, take int) (object, error) {
	wanted := map[string][]string{}
	for _, text := range l.Filters {
		if !isFilter(text) {
			wanted["command_id"] = append(wanted["command_id"], text)
		} else if err := addEqual(wanted, fields, text, false); err != nil {
			return nil, err
		}
	}
	for _, text := range l.Where {
		if err := addEqual(wanted, fields, text, true); err != nil {
			return nil, fmt.Errorf("--where %w", err)
		}
	}
	if len(wanted["command_id"]) > 0 && !slices.Contains(fields, "command_id") {
		return nil, fmt.Errorf("--by-day counts are of %s, not of an idempotency key", names(fields))
	}
	q := object{"take": take}
	for name, values := range wanted {
		q[name] = values
	}
	if l.Cursor != "" {
		q["cursor"] = l.Cursor
	}
	return q, l.bounds(q)
}

// addEqual reads a filter by equality.
func addEqual(wanted map[string][]string, fields []string, text string, literal bool) error {
	parts := condition.FindStringSubmatch(text)
	switch {
	case parts == nil || parts[2] != "=":
		return fmt.Errorf("%s: write NAME=VALUE, or NAME=A,B for any of them; refusals have no other filters", text)
	case !slices.Contains(fields, parts[1]):
		return fmt.Errorf("%s: %s is no filter of these; there are %s", text, parts[1], names(fields))
	}
	values := []string{parts[3]}
	if !literal {
		values = strings.Split(parts[3], ",")
	}
	for _, value := range values {
		if value == "null" && !literal {
			value = "" // finds those without
		}
		wanted[parts[1]] = append(wanted[parts[1]], value)
	}
	return nil
}

// maxCounts is how many rows of counts the ledger answers with at most.
const maxCounts = 10_000

// countByDay shows the counts.
func (l *listRefusals) countByDay(ctx context.Context, s streams, at reach) error {
	switch {
	case l.Cursor != "":
		return errors.New("--cursor and --by-day: counts have no pages; --until bounds them")
	case l.All && l.Watch.given:
		return errors.New("--all and --watch: give one of the two")
	case l.All:
		l.Take = maxCounts
	}
	if _, err := l.question(countFields, l.Take); err != nil {
		return err
	}
	conn, err := at.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return l.Watch.show(ctx, s, conn, watched{show: func(ctx context.Context, w io.Writer, _ uint64) error {
		question, err := l.question(countFields, l.Take)
		if err != nil {
			return err
		}
		document, err := ask[json.RawMessage](ctx, conn, "refusal-counts", question)
		if err != nil {
			return err
		}
		if l.JSON {
			return l.Watch.printJSON(w, document)
		}
		return l.printCounts(w, document)
	}})
}

func (l *listRefusals) printCounts(w io.Writer, document json.RawMessage) error {
	var p struct {
		Rows []row `json:"rows"`
		More bool  `json:"more"`
	}
	if err := json.Unmarshal(document, &p); err != nil {
		return fmt.Errorf("answer to refusal-counts: %w", err)
	}
	if len(p.Rows) == 0 {
		fmt.Fprintln(w, "no refusals")
		return nil
	}
	printTable(w, shapes["refusals by day"], p.Rows)
	switch {
	case p.More && l.All:
		fmt.Fprintf(w, "the newest %s; there are older ones, --until goes back to them\n", several(len(p.Rows), "row"))
	case p.More:
		fmt.Fprintf(w, "the newest %s; there are older ones, --all shows them\n", several(len(p.Rows), "row"))
	}
	return nil
}

// A period bounds when something was recorded.
type period struct {
	Since string `placeholder:"TIME" help:"Recorded then or later."`
	Until string `placeholder:"TIME" help:"Recorded before that moment."`
}

// bounds adds the period to a question.
func (p period) bounds(params object) error {
	return bounds(params, bound{"--since", p.Since, "recorded_from"}, bound{"--until", p.Until, "recorded_before"})
}

// A bound is a time that a flag has, and what the question calls it.
type bound struct{ flag, text, name string }

// bounds adds the times that were given to a question.
func bounds(params object, all ...bound) error {
	for _, b := range all {
		if b.text == "" {
			continue
		}
		t, err := here().parse(b.text)
		if err != nil {
			return fmt.Errorf("%s: %w", b.flag, err)
		}
		params[b.name] = rfc3339(t)
	}
	return nil
}

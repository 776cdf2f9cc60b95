package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

type refusals struct {
	listing
	period
	ByDay bool `help:"How many a day, by command and code; they are counted also where the details were dropped."`
}

// Help implements kong.HelpProvider.
func (refusals) Help() string {
	return `Newest first. Filters are equal (=) or one of (a,b) command, code, actor, reason, reference, correlation_id, command_id,
inventory_item_id, location_id. Of a flood of refusals only the first have details; all are counted.

Examples:

    stockledger get refusals inventory_item_id=mug
    stockledger get refusals code=insufficient_stock actor=web-shop --since yesterday --json
    stockledger get refusals --by-day --since '7 days ago'`
}

// Run lists refusals.
func (l *refusals) Run(ctx context.Context, s streams, at *get) error {
	of := list{"refusals", "list-refusals", "command_id"}
	if l.ByDay {
		return l.countByDay(ctx, s, at.reach)
	}
	return l.run(ctx, s, at.reach, of, l.bounds)
}

// countByDay shows the counts.
func (l *refusals) countByDay(ctx context.Context, s streams, at reach) error {
	f, err := l.filters("command_id")
	if err != nil {
		return err
	}
	params := object{}
	if err := l.bounds(params); err != nil {
		return err
	}
	if err := f.into(params); err != nil {
		return err
	}
	conn, err := at.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return l.Watch.show(ctx, s, conn, l.After, nil, func(ctx context.Context, w io.Writer, _ uint64) error {
		document, err := ask[json.RawMessage](ctx, conn, "refusal-counts", params)
		if err != nil {
			return err
		}
		if l.JSON {
			return l.Watch.printJSON(w, document)
		}
		var p page
		if err := json.Unmarshal(document, &p); err != nil {
			return fmt.Errorf("answer to refusal-counts: %w", err)
		}
		if len(p.Rows) == 0 {
			fmt.Fprintln(w, "no refusals")
			return nil
		}
		printTable(w, shapes["refusals by day"], p.Rows)
		return nil
	})
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

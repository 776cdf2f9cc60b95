package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/projections"
)

type diff struct {
	Models []string `arg:"" optional:"" name:"model" help:"The read models to compare: inventory, movements; all that have another generation when left out."`
	Rows   int      `default:"20" placeholder:"N" help:"How many of the worst rows of each table to show; all are counted."`
	All    bool     `help:"Show all rows that differ, up to 10000 of each table."`
	JSON   bool     `help:"Answer in JSON."`
	onLedger
}

// Help implements kong.HelpProvider.
func (diff) Help() string {
	return `Compares what is served with what was rebuilt, or after a switch with what was served before, at one position of the log: how many rows are
equal, different, missing in what is served, or extra there; the worst of them with the value that is served → the other one; and the
first event after which they part.

Exit status: 0 they are equal; 1 they differ; 2 refused, as when there is nothing to compare with; 3 no answer.

Examples:

    stockledger diff
    stockledger diff inventory --rows 5
    stockledger diff --all --json > difference.json`
}

// Run compares generations of read models.
func (c *diff) Run(ctx context.Context, s streams, config *settings) (err error) {
	op, err := c.operator(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := c.settled(ctx, op, s); err != nil {
		return err
	}
	rows := max(c.Rows, 1)
	if c.All {
		rows = -1
	}
	document, err := runJob[json.RawMessage](ctx, op, s, "diff-models", operations.Contrast{Models: c.Models, Rows: rows})
	if err != nil {
		return err
	}
	var d projections.Difference
	if err := json.Unmarshal(document, &d); err != nil {
		return fmt.Errorf("result of diff-models: %w", err)
	}
	if c.JSON {
		err = printJSON(s.out, document)
	} else {
		err = showDifference(s.out, document, d)
		c.advise(s.out, config, d)
	}
	if err == nil && d.Differing > 0 {
		return errReported{exitFailed}
	}
	return err
}

// advise says what to do next.
func (c *diff) advise(w io.Writer, config *settings, d projections.Difference) {
	var ready []string
	for _, m := range d.Models {
		if m.Other.State == projections.Ready {
			ready = append(ready, m.Model)
		}
	}
	if len(ready) > 0 {
		fmt.Fprintf(w, "\nserve what was rebuilt with:\n  %s\n", config.line(slices.Concat([]string{"switch"}, ready, c.place())...))
	}
}

// showDifference prints counts of the tables, then the rows, model by model.
func showDifference(w io.Writer, document json.RawMessage, d projections.Difference) error {
	var parts struct {
		Models []struct {
			Tables []row `json:"tables"`
		} `json:"models"`
	}
	if err := json.Unmarshal(document, &parts); err != nil {
		return err
	}
	for i, m := range d.Models {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s at position %d: generation %d (version %d), which is served, and generation %d (version %d), which is %s\n\n",
			m.Model, d.Position, m.Served.Generation, m.Served.Version, m.Other.Generation, m.Other.Version, m.Other.State)
		printTable(w, shapes["differences"], parts.Models[i].Tables)
		for _, r := range m.Rows {
			fmt.Fprintln(w)
			showRowDifference(w, r)
		}
		if more := unnamed(m); more > 0 {
			fmt.Fprintf(w, "\n… and %s more; --all shows them\n", counted(more, "row"))
		}
	}
	if d.Differing == 0 {
		fmt.Fprintln(w, "\nthere is no difference")
	}
	return nil
}

// unnamed is how many rows differ and are not among those that are shown.
func unnamed(m projections.ModelDifference) (more uint64) {
	for _, t := range m.Tables {
		more += t.Different + t.Missing + t.Extra - t.Named
	}
	return more
}

// kindsTold are what a difference means.
var kindsTold = map[string]string{
	projections.RowDifferent: "",
	projections.RowMissing:   " is missing in what is served",
	projections.RowExtra:     " is served and should not be",
}

func showRowDifference(w io.Writer, r projections.RowDifference) {
	fmt.Fprintf(w, "%s %s%s\n", r.Table, cell(r.Key), kindsTold[r.Kind])
	width := 0
	for name := range r.Columns {
		width = max(width, len(name))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Columns)) {
		change := r.Columns[name]
		fmt.Fprintf(w, "  %-*s  %s → %s\n", width, name, valueTold(change.Served), valueTold(change.Other))
	}
	if r.Since != nil {
		fmt.Fprintf(w, "  %s %s\n", sinceTold[r.How], eventTold(*r.Since))
	}
}

// sinceTold says what an event has to do with a difference, by how that is known.
var sinceTold = map[string]string{
	projections.HowOwnEvent: "made by",
	projections.HowReplayed: "since",
	projections.HowStale:    "not folded since",
	projections.HowUnknown:  "no event leads there; the last one of the row is",
}

// valueTold is a value, so much of it as fits into a line.
func valueTold(value *string) string {
	if value == nil {
		return "none"
	}
	text := []rune(cell(*value))
	if len(text) > 2*clipWidth {
		return string(text[:2*clipWidth-1]) + "…"
	}
	return string(text)
}

// eventTold names an event, and who wanted it.
func eventTold(e projections.EventRef) string {
	text := fmt.Sprintf("event %d of %s, %s in %s@%d", e.Position, e.Recorded.UTC().Format(time.RFC3339), e.Type, e.Stream, e.Version)
	var wanted []string
	for _, part := range []struct{ before, value string }{
		{"", e.Command}, {"by ", e.Actor}, {"reason ", e.Reason}, {"reference ", e.Reference}, {"key ", e.CommandID},
	} {
		if part.value != "" {
			wanted = append(wanted, part.before+part.value)
		}
	}
	return cell(text + " (" + strings.Join(wanted, ", ") + ")")
}

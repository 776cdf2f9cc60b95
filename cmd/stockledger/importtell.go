package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// print writes the control totals.
func (t totals) print(w io.Writer, asJSON bool) error {
	if asJSON {
		document, err := json.Marshal(t)
		if err != nil {
			return err
		}
		return printJSON(w, document)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	count := func(name string, n int) { fmt.Fprintf(table, "%s\t%d\n", name, n) }
	some := func(name string, n int, note string) {
		if n > 0 {
			fmt.Fprintf(table, "%s\t%d\t%s\n", name, n, note)
		}
	}
	count("rows", t.Rows)
	count("accepted", t.Accepted)
	some("replayed", t.Replayed, t.earlier())
	some("same item", t.Same, "as an earlier row, so not sent")
	count("refused", t.Refused)
	some("bad", t.Bad, "malformed, so not sent")
	some("unknown", t.Unknown, "not sent, or not answered")
	if t.adjusts {
		fmt.Fprintf(table, "adjustment\t%s\tsum over the rows accepted and replayed\n", t.Adjustment)
	}
	if t.Held != nil {
		fmt.Fprintf(table, "in ledger\t%d\t%s\n", *t.Held, t.compared())
	}
	fmt.Fprintf(table, "import\t%s\n", t.Import)
	if err := table.Flush(); err != nil {
		return err
	}
	if t.DryRun {
		fmt.Fprintln(w, "dry run: nothing was recorded")
	}
	return nil
}

func (t totals) earlier() string {
	if t.Journaled > 0 {
		return "by an earlier run, " + strconv.Itoa(t.Journaled) + " of them not sent again"
	}
	return "by an earlier run"
}

func (t totals) compared() string {
	if *t.Held == t.settled() {
		return "rows of this import: all that were accepted or replayed"
	}
	return fmt.Sprintf("rows of this import, but %d were accepted or replayed", t.settled())
}

// verdict is the exit status of an import, and what to do next.
func (c *importing) verdict(s streams, config *settings, t totals) error {
	again := config.line(config.args...)
	switch {
	case t.Unknown > 0:
		status := exitUnavailable
		if t.stopped != nil && !errors.Is(t.stopped, context.Canceled) {
			status = report(s.err, c.JSON, t.stopped)
		}
		fmt.Fprintf(s.err, "stockledger: stopped with %s to go; nothing is lost, and no row counts twice. Go on with:\n  %s\n",
			several(t.Unknown, "row"), again)
		return errReported{status}
	case t.Held != nil && *t.Held != t.settled():
		return fmt.Errorf("the ledger has %d rows of this import, not %d; has it been replaced meanwhile?", *t.Held, t.settled())
	case t.Refused > 0:
		if !t.DryRun {
			fmt.Fprintf(s.err, "stockledger: %s refused; mend what the ledger lacks, or the rows in place, and go on with:\n  %s\n",
				were(t.Refused, "row"), c.resume(again, t))
		}
		return errReported{exitRefused}
	case t.Bad > 0 && t.DryRun:
		return errReported{exitFailed}
	case t.Bad > 0:
		fmt.Fprintf(s.err, "stockledger: %s malformed and left out; mend them in place, and go on with:\n  %s\n", were(t.Bad, "row"), c.resume(again, t))
	}
	return nil
}

// resume is the command that goes on after the file was changed, which would
// otherwise be another import.
func (c *importing) resume(again string, t totals) string {
	if c.ImportID != "" {
		return again
	}
	return again + " --import-id " + shellWord(t.Import)
}

// several is a number of things in words that fit it.
func several(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

func were(n int, thing string) string {
	if n == 1 {
		return several(n, thing) + " was"
	}
	return several(n, thing) + " were"
}

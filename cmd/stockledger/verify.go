package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/operations"
)

type verify struct {
	Rows int  `default:"20" help:"How many findings to show at most; all of them are counted."`
	JSON bool `help:"Answer in JSON."`
	onLedger
}

// Help implements kong.HelpProvider.
func (verify) Help() string {
	return `Reads the whole log and checks it: positions, commits, hash chains, and the quantities that every event says. Then it compares every row that
is served with what the log says, by books of its own, and checks that the numbers go together. Commands and queries go on meanwhile.

Exit status: 0 everything is right; 1 something is wrong; 2 refused; 3 no answer.

Examples:

    stockledger verify
    stockledger verify --json
    stockledger verify --data /var/lib/stockledger`
}

// Run verifies a ledger.
func (c *verify) Run(ctx context.Context, s streams) (err error) {
	op, err := c.operator(ctx, s)
	if err != nil && c.local() && !errors.Is(err, events.ErrInUse) && !errors.Is(err, os.ErrNotExist) {
		return c.log(ctx, s, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, op.Close()) }()
	document, err := runJob[json.RawMessage](ctx, op, s, "verify-ledger", operations.Verification{Rows: c.Rows})
	if err != nil {
		return err
	}
	return c.tell(s, document)
}

// log verifies the log alone, of a ledger that cannot be opened: what is wrong
// with it is most likely why.
func (c *verify) log(ctx context.Context, s streams, cause error) error {
	report, err := onLog(c.Data, s, func(log events.Store, tell evidence.Progress) (audit.Report, error) {
		return audit.Verify(ctx, audit.Config{Store: log, Rows: c.Rows, Progress: tell})
	})
	if err != nil {
		return errors.Join(cause, err)
	}
	document, err := json.Marshal(report)
	if err == nil {
		err = c.tell(s, document)
	}
	if errors.As(err, new(errReported)) {
		fmt.Fprintf(s.err, "stockledger: only the log could be verified: %v\n", cause)
		return err
	}
	return errors.Join(fmt.Errorf("only the log could be verified: %w", cause), err)
}

// tell shows a report, and is an error when something is wrong.
func (c *verify) tell(s streams, document json.RawMessage) error {
	var report audit.Report
	err := json.Unmarshal(document, &report)
	switch {
	case err != nil:
		return fmt.Errorf("result of verify-ledger: %w", err)
	case c.JSON:
		err = printJSON(s.out, document)
	default:
		err = showReport(s.out, document, report)
	}
	if err == nil && !report.OK() {
		return errReported{exitFailed}
	}
	return err
}

// showReport prints what was checked, then what is wrong, then how it ended.
func showReport(w io.Writer, document json.RawMessage, report audit.Report) error {
	var parts struct {
		Checks []row `json:"checks"`
	}
	if err := json.Unmarshal(document, &parts); err != nil {
		return err
	}
	printTable(w, shapes["checks"], parts.Checks)
	fmt.Fprintln(w)
	for _, f := range report.Findings {
		fmt.Fprintf(w, "wrong: %s\n", cell(f.Message))
	}
	wrong := report.Wrong()
	if named := uint64(len(report.Findings)); wrong > named {
		fmt.Fprintf(w, "… and %d more; --rows N shows more\n", wrong-named)
	}
	verdict := "everything is right"
	if wrong > 0 {
		verdict = counted(wrong, "thing") + " wrong"
	}
	fmt.Fprintf(w, "%s: %s of %s up to position %d, and %s\n", verdict,
		counted(report.Events, "event"), counted(report.Streams, "stream"), report.Position, counted(report.Rows, "row"))
	fmt.Fprintf(w, "head: %s\n", report.Head)
	return nil
}

// counted is several of what there may be very many of.
func counted(n uint64, thing string) string {
	return several(int(n), thing) //nolint:gosec // G115: the log has fewer events
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/evidence"
)

type exportLog struct {
	To string `arg:"" name:"file" help:"File to write, which must not be there yet; - is standard output, with --data only. A server writes on its own machine."`
	onLedger
}

// Help implements kong.HelpProvider.
func (exportLog) Help() string {
	return `Writes the whole log as text, one line an event, with every stored byte: what chaincheck checks, and what import-log makes a ledger of again.
Commands and queries go on meanwhile. A file is there whole or not at all.

Exit status: 0 done; 1 failed; 2 refused; 3 no answer.

Examples:

    stockledger export /srv/audit/ledger.jsonl
    stockledger export - --data /var/lib/stockledger | chaincheck -
    stockledger export - --data /var/lib/stockledger | zstd > ledger.jsonl.zst`
}

// Run exports a log.
func (c *exportLog) Run(ctx context.Context, s streams) error {
	if c.To == "-" && !c.local() {
		return errors.New("a server writes to a file on its own machine; name one, or stop the server and name its directory with --data")
	}
	head, err := c.export(ctx, s)
	if err != nil {
		return err
	}
	to := c.To
	if to == "-" {
		to = "standard output"
	}
	fmt.Fprintf(s.err, "%d events written to %s\n", head.Position, to)
	return nil
}

func (c *exportLog) export(ctx context.Context, s streams) (head evidence.Head, err error) {
	if !c.local() {
		path, err := filepath.Abs(c.To)
		if err != nil {
			return head, err
		}
		op, err := c.operator(ctx, s)
		if err != nil {
			return head, err
		}
		defer op.Close()
		return runJob[evidence.Head](ctx, op, s, "export-ledger", object{"to": path})
	}
	return onLog(c.Data, s, func(log events.Store, tell evidence.Progress) (evidence.Head, error) {
		if c.To == "-" {
			return evidence.Export(ctx, log, s.out, tell)
		}
		return evidence.ExportFile(ctx, log, c.To, tell)
	})
}

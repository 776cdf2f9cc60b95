package main

import (
	"context"
	"fmt"

	"github.com/stockledger/stockledger/internal/backup"
)

type restoreCommand struct {
	From string `arg:"" name:"dir|file.tar" help:"The backup."`
	Data string `required:"" placeholder:"DIR" help:"The data directory to make: one that is not there yet, or empty."`
	JSON bool   `help:"Answer in JSON."`
}

// Help implements kong.HelpProvider.
func (restoreCommand) Help() string {
	return `The sums are compared, the read models are built, and everything is verified before the ledger gets its name. No server is needed.

The ledger that comes out is the one that was backed up, with its log id. Never let both go on: what each recorded after the backup
is not in the other.

Example:

    stockledger restore /mnt/backups/2026-03-01.tar --data stockledger-data`
}

// Run restores the ledger.
func (c *restoreCommand) Run(ctx context.Context, s streams, config *settings) error {
	bar := newProgress(s.err)
	bar.unit = ""
	defer bar.end()
	m, err := backup.Restore(ctx, c.From, c.Data, bar.at)
	if err != nil {
		return err
	}
	bar.end()
	if c.JSON {
		return printManifest(s.out, m)
	}
	m.Verified = true // by Restore, whatever the backup was
	fmt.Fprintf(s.out, "restored into %s\n\n", c.Data)
	tellManifest(s.out, m)
	fmt.Fprintf(s.out, "\nserve it with:\n  %s\n", config.line("serve", "--data", c.Data))
	return nil
}

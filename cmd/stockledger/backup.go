package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/stockledger/stockledger/internal/backup"
)

type backupCommand struct {
	To     string `arg:"" name:"dir|file.tar" help:"Where to: a new directory, or a new file whose name ends in .tar. On the machine of the server."`
	Verify bool   `negatable:"" default:"true" help:"Build the read models from the copy and verify all of it. Without, only the sums and the head of the log are computed."`
	JSON   bool   `help:"Answer in JSON."`
	onLedger
}

// Help implements kong.HelpProvider.
func (backupCommand) Help() string {
	return `The ledger goes on meanwhile. The copy holds at least the events up to the position the log is at when this begins. It is complete once
it has its name: until then it is in a directory beside it whose name ends in .partial. Read models are not copied: restore builds them.

Examples:

    stockledger backup /mnt/backups/$(date +%F)
    stockledger backup /mnt/backups/$(date +%F).tar --server nats://127.0.0.1:4222`
}

// Run makes the backup.
func (c *backupCommand) Run(ctx context.Context, s streams, config *settings) error {
	to, err := filepath.Abs(c.To)
	if err != nil {
		return err
	}
	op, err := c.operator(ctx, s)
	if err != nil {
		return err
	}
	defer op.Close()
	m, err := runJob[backup.Manifest](ctx, op, s, "backup-ledger", object{"to": to, "unverified": !c.Verify})
	if err != nil {
		return err
	}
	if c.JSON {
		return printManifest(s.out, m)
	}
	fmt.Fprintf(s.out, "backed up to %s\n\n", to)
	tellManifest(s.out, m)
	fmt.Fprintf(s.out, "\nmake a ledger of it again with:\n  %s\n", config.line("restore", to, "--data", "DIR"))
	return nil
}

func printManifest(w io.Writer, m backup.Manifest) error {
	document, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return printJSON(w, document)
}

// tellManifest prints what a backup is of.
func tellManifest(w io.Writer, m backup.Manifest) {
	proof := "its sums were computed, its events and rows were not checked"
	if m.Verified {
		proof = "every event, and every row built from them, is right"
	}
	fmt.Fprintf(w, "log       %s\n", m.Head.Log)
	fmt.Fprintf(w, "position  %d\n", m.Head.Position)
	fmt.Fprintf(w, "head      %s\n", m.Head.Digest)
	fmt.Fprintf(w, "verified  %s\n", proof)
	fmt.Fprintf(w, "made      %s\n", m.MadeAt.Format(time.RFC3339))
	for _, f := range m.Files {
		fmt.Fprintf(w, "file      %-12s %14d bytes  sha256 %s\n", f.Name, f.Bytes, f.SHA256)
	}
}

package operations

import (
	"context"
	"path/filepath"

	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/backup"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
)

// ofLedger are the operations on the ledger as a whole.
func ofLedger() map[string]operation {
	return map[string]operation{
		"verify-ledger": asJob("verify-ledger", "check the whole log, and every row that is served against it", (*Operations).verify),
		"backup-ledger": asJob("backup-ledger", "copy the ledger to a place on its machine, and prove that the copy is one", (*Operations).backup),
		"export-ledger": asJob("export-ledger", "write the whole log to a file on the server's machine, for others to check", (*Operations).export),
		"ledger-head":   asJob("ledger-head", "the fingerprint of the whole log, once it is sure that a known one is still in it", (*Operations).head),
	}
}

// A Verification names so many wrong rows at most; 0 is 20.
type Verification struct {
	Rows int `json:"rows"`
}

func (v Verification) check(*Operations) error {
	if v.Rows < 0 || v.Rows > maxRows {
		return fault.New(fault.Invalid, "invalid_data", "rows must be from 0 to %d, 0 being 20", maxRows).With("field", "rows")
	}
	return nil
}

// maxRows is how many wrong rows an answer has at most. All of them are counted.
const maxRows = 10_000

func (o *Operations) verify(ctx context.Context, asked Verification, tell progressing) (audit.Report, error) {
	return audit.Verify(ctx, audit.Config{Store: o.ledger.Events(), Models: o.ledger.Models(), Rows: asked.Rows, Progress: tell})
}

// A Destination is where to write on the machine of the ledger.
type Destination struct {
	To string `json:"to"` // an absolute path at which there is nothing yet
}

func (d Destination) check(o *Operations) error { return o.mayWrite(d.To) }

// A Copy says where to make a copy of the ledger, and whether it need not be
// proved to be one.
type Copy struct {
	To         string `json:"to"` // an absolute path at which there is nothing yet
	Unverified bool   `json:"unverified"`
}

func (c Copy) check(o *Operations) error {
	if err := backup.Check(o.ledger.Events()); err != nil {
		return err
	}
	return o.mayWrite(c.To)
}

func (o *Operations) backup(ctx context.Context, asked Copy, tell progressing) (backup.Manifest, error) {
	return backup.Take(ctx, backup.Config{
		Store: o.ledger.Events(), Dir: o.dir, To: asked.To, Unverified: asked.Unverified, Version: o.version, Progress: tell,
	})
}

func (o *Operations) export(ctx context.Context, to Destination, tell progressing) (evidence.Head, error) {
	return evidence.ExportFile(ctx, o.ledger.Events(), to.To, tell)
}

// A Known head is one that the log must still have.
type Known struct {
	Head *evidence.Head `json:"known,omitempty"` // nil is none
}

func (o *Operations) head(ctx context.Context, asked Known, tell progressing) (evidence.Head, error) {
	if asked.Head != nil {
		if err := evidence.Contains(ctx, o.ledger.Events(), *asked.Head, tell); err != nil {
			return evidence.Head{}, err
		}
	}
	return evidence.HeadOf(ctx, o.ledger.Events(), filepath.Join(o.dir, "head.json"), tell)
}

package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// prove opens the log in the stage as a ledger would and returns its head. If the
// whole is to be verified the read models are built from it, and left beside it.
func (s *stage) prove(ctx context.Context, whole bool, tell Progress) (head evidence.Head, err error) {
	store, err := sqlitestore.Open(s.path(logName))
	if err != nil {
		return head, err
	}
	defer func() {
		err = errors.Join(err, store.Close(), s.remove(logName+".lock"))
	}()
	if head, err = evidence.HeadOf(ctx, store, "", tell); err != nil || !whole {
		return head, err
	}
	models, err := projections.Open(ctx, projections.Config{Dir: s.path(modelsName), Store: store})
	if err != nil {
		return head, err
	}
	defer func() { err = errors.Join(err, models.Close()) }()
	if err := build(ctx, models, head.Position, tell); err != nil {
		return head, err
	}
	report, err := audit.Verify(ctx, audit.Config{Store: store, Models: models, Progress: tell, Rows: 1})
	if err != nil {
		return head, err
	}
	return head, verdict(report)
}

// tellEvery is how often it is told how far the read models are.
const tellEvery = 200 * time.Millisecond

// build waits until the read models have folded the whole log.
func build(ctx context.Context, models *projections.Models, head uint64, tell Progress) error {
	for {
		tell("build read models", models.Position(), head)
		moment, cancel := context.WithTimeout(ctx, tellEvery)
		err := models.WaitFor(moment, head)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fault.Code(err) != "not_caught_up" {
			return err
		}
	}
}

// verdict refuses a copy with which something is wrong.
func verdict(report audit.Report) error {
	if report.OK() {
		return nil
	}
	refusal := fault.New(fault.Conflict, "not_verified", "the copy does not verify: %d values are wrong", report.Wrong()).
		With("wrong", report.Wrong())
	if len(report.Findings) > 0 {
		first := report.Findings[0]
		refusal.Message += fmt.Sprintf("; the first, at position %d: %s", first.Position, first.Message)
		refusal = refusal.With("position", first.Position)
	}
	return refusal
}

// copyRefusals copies the record of refusals, if there is one, as it is at one
// moment. It is small, because its rows are bounded.
func copyRefusals(ctx context.Context, from, to string) (err error) {
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	absolute, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	// SQLite fills a file that is there and empty, and keeps who may read it.
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // G304: in the stage
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute), RawQuery: "mode=ro&_pragma=busy_timeout(10000)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return fmt.Errorf("copy %s: %w; if it is damaged, move it away: a new one is made", from, err)
	}
	return nil
}

// full reports whether there was no room for what was to be written.
func full(err error) bool {
	if failed, ok := errors.AsType[*sqlite.Error](err); ok && failed.Code()&0xff == sqlite3.SQLITE_FULL {
		return true
	}
	return errors.Is(err, syscall.ENOSPC)
}

// sameLog refuses a log that is not the one a manifest is of.
func sameLog(found, expected evidence.Head) error {
	if found.Log == expected.Log && found.Position == expected.Position && found.Digest == expected.Digest {
		return nil
	}
	return damaged("its log is %s at position %d with head %s, not %s at %d with %s",
		found.Log, found.Position, found.Digest, expected.Log, expected.Position, expected.Digest)
}

var _ copier = (*sqlitestore.Store)(nil)

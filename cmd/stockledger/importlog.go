package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/evidence"
)

type importLog struct {
	From string    `arg:"" name:"file" help:"An exported log; - is standard input."`
	Data string    `required:"" placeholder:"DIR" help:"Data directory of the ledger to make: one that is not there, or is empty."`
	Head givenFile `placeholder:"FILE" help:"Refuse a log that does not have the head in that file."`
	Key  givenFile `placeholder:"FILE" help:"With --head: the public key that the head must be signed with."`
}

// Help implements kong.HelpProvider.
func (importLog) Help() string {
	return `Makes a ledger of an exported log: the same events with the same bytes, positions and hashes, and the same identity, for it is the same log.
So do not let both ledgers take commands: they would become two logs of one name. Everything is checked on the way; a log that is not right
leaves nothing behind.

Exit status: 0 done; 1 failed; 2 the log is not right.

Examples:

    stockledger import-log ledger.jsonl --data ./copy && stockledger serve --data ./copy
    zstd -dc ledger.jsonl.zst | stockledger import-log - --data ./copy --head monday.json --key ledger.key.pub`
}

// Run imports a log.
func (c *importLog) Run(ctx context.Context, s streams) error {
	if c.Key != "" && c.Head == "" {
		return errors.New("--key is the key of a head: name that with --head")
	}
	known, err := readHead(c.Head, c.Key)
	if err != nil {
		return err
	}
	in := s.in
	if c.From != "-" {
		file, err := os.Open(c.From)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	head, err := c.make(ctx, s, in, known)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.err, "%d events imported to %s; its read models are built when it is served\n", head.Position, c.Data)
	return nil
}

// unfinishedImport is what the names of directories begin with in which an import is
// under way, or was when it was killed.
const unfinishedImport = "importing-"

// make makes the log beside its place, and puts it there when it is complete.
func (c *importLog) make(ctx context.Context, s streams, in io.Reader, known *evidence.Head) (head evidence.Head, err error) {
	if err := c.mustBeEmpty(); err != nil {
		return head, err
	}
	if err := os.MkdirAll(c.Data, 0o750); err != nil {
		return head, fmt.Errorf("--data: %w", err)
	}
	beside, err := os.MkdirTemp(c.Data, unfinishedImport)
	if err != nil {
		return head, fmt.Errorf("--data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(beside)) }()
	path := filepath.Join(beside, "log.db")
	if head, err = readLog(ctx, s, path, in, known); err != nil {
		return head, err
	}
	// A link, because it replaces nothing: somebody may have made a ledger meanwhile.
	if err := os.Link(path, filepath.Join(c.Data, "log.db")); err != nil {
		return head, fmt.Errorf("--data: %w", err)
	}
	return head, syncDirectory(c.Data)
}

// mustBeEmpty is an error when there is something in the directory: a ledger, or
// what belongs to one.
func (c *importLog) mustBeEmpty() error {
	found, err := os.ReadDir(c.Data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--data: %w", err)
	}
	for _, entry := range found {
		if !strings.HasPrefix(entry.Name(), unfinishedImport) {
			return fmt.Errorf("--data %s: there is %s in it already; name a directory that is not there, or is empty", c.Data, entry.Name())
		}
	}
	return nil
}

// readLog makes the log at path. It is closed, and on the disk, when there is no
// error.
func readLog(ctx context.Context, s streams, path string, in io.Reader, known *evidence.Head) (head evidence.Head, err error) {
	var log *sqlitestore.Store
	defer func() {
		if log != nil {
			err = errors.Join(err, log.Close())
		}
	}()
	bar := newProgress(s.err)
	bar.unit = "events"
	defer bar.end()
	head, err = evidence.Import(ctx, in, func(id string) (events.Store, error) {
		log, err = sqlitestore.Create(path, id)
		return log, err
	}, bar.at)
	if err == nil && known != nil {
		err = evidence.Contains(ctx, log, *known, bar.at)
	}
	return head, err
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

package evidence

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Export writes the log, as far as it reaches now, and returns the head of that.
// Every event is checked to be at its place and to match its hash; one that does
// not ends the export with an error that names it, and an export without its last
// line is none. Two exports up to the same position are the same bytes.
func Export(ctx context.Context, store events.Store, w io.Writer, progress Progress) (Head, error) {
	end, err := store.Head(ctx)
	if err != nil {
		return Head{}, err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	c := chain{log: store.LogID()}
	if _, err := out.Write(headerLine(c.log)); err != nil {
		return Head{}, fmt.Errorf("write the export: %w", err)
	}
	var line []byte
	err = walk(ctx, store, 0, end, func(e events.Recorded) error {
		for _, text := range [][]byte{[]byte(e.Stream), []byte(e.Type), e.Data, e.Meta} {
			if !utf8.Valid(text) { // no command can bring that about
				return damaged(e.Position, "%s@%d holds bytes that are no UTF-8", e.Stream, e.Version)
			}
		}
		c.add(e)
		line = appendEvent(line[:0], e)
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		progress.events(e.Position, end)
		return nil
	})
	if err != nil {
		return Head{}, err
	}
	head, err := c.head()
	if err != nil {
		return Head{}, err
	}
	if _, err := out.Write(trailerLine(head)); err != nil {
		return Head{}, fmt.Errorf("write the export: %w", err)
	}
	return head, out.Flush()
}

// ExportFile exports to a new file at path, which is there whole and on the disk
// or not at all. It replaces no file.
func ExportFile(ctx context.Context, store events.Store, path string, progress Progress) (head Head, err error) {
	if err := absent(path); err != nil {
		return Head{}, err
	}
	err = replace(path, func(f *os.File) error {
		if head, err = Export(ctx, store, f, progress); err != nil {
			return err
		}
		return absent(path) // it has taken a while
	})
	if missing, ok := errors.AsType[*fs.PathError](err); ok {
		return Head{}, fault.New(fault.Invalid, "cannot_write", "export to %s: %s", path, missing.Err).With("path", path)
	}
	return head, err
}

// absent is an error if there is something at path.
func absent(path string) error {
	_, err := os.Lstat(path)
	if err == nil {
		return fault.New(fault.Conflict, "file_exists", "there is something at %s already; name a new file, or remove it first", path).With("path", path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

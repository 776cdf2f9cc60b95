package evidence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

const (
	// maxLine is the longest line that is read: an event may carry the answer to a
	// command of thousands of lines, and what is no export may have no lines at all.
	maxLine = 64 << 20
	// group is how many events are appended at once, or as soon as a commit ends
	// after them: enough that the disk is not waited for after every command.
	group = 2000
)

// Import reads an export into the empty store that create makes for the log of
// that identity, and returns the head, which is that of the export. Positions,
// bytes and hashes are those of the export; what does not follow from what came
// before it is refused with a [fault.Error] of kind Invalid that names the line.
//
// After an error the store holds a part of the log, which nobody should take for
// the whole: the caller removes it. Only one import at a time may write to it.
func Import(ctx context.Context, r io.Reader, create func(log string) (events.Store, error), progress Progress) (Head, error) {
	in := newReader(r)
	log, err := in.header()
	if err != nil {
		return Head{}, err
	}
	store, err := emptyStore(ctx, log, create)
	if err != nil {
		return Head{}, err
	}
	var commits []events.Commit
	size := 0
	flush := func() error {
		if _, err := store.Append(ctx, commits...); err != nil {
			return err
		}
		commits, size = nil, 0
		progress.events(in.chain.position, 0)
		return nil
	}
	for commit, err := range in.commits() {
		if err != nil {
			return Head{}, err
		}
		if commits, size = append(commits, commit), size+len(commit); size >= group {
			if err := flush(); err != nil {
				return Head{}, err
			}
		}
	}
	if err := flush(); err != nil {
		return Head{}, err
	}
	return in.head, nil
}

// emptyStore makes the store, and makes sure that it is what was asked for.
func emptyStore(ctx context.Context, log string, create func(log string) (events.Store, error)) (events.Store, error) {
	store, err := create(log)
	if err != nil {
		return nil, err
	}
	if store.LogID() != log {
		return nil, fmt.Errorf("import log %s: the store %w, %s", log, events.ErrOtherLog, store.LogID())
	}
	head, err := store.Head(ctx)
	if err == nil && head != 0 {
		err = fault.New(fault.Conflict, "log_not_empty", "the log to import into has %d events already", head)
	}
	return store, err
}

// A reader reads an export and believes nothing of it.
type reader struct {
	lines   *bufio.Scanner
	number  int // of the line read last, from 1
	chain   chain
	streams map[string]end // by name
	head    Head           // once all has been read
}

// end is where a stream ends.
type end struct {
	version uint64
	hash    events.Hash
}

func newReader(r io.Reader) *reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	return &reader{lines: lines, streams: make(map[string]end)}
}

var errCut = errors.New("it ends within a line")

// wholeLines splits at line feeds, and wants one after the last line.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errCut
	}
	return 0, nil, nil
}

// next is the next line. There must be one.
func (r *reader) next() ([]byte, error) {
	r.number++
	if r.lines.Scan() {
		return r.lines.Bytes(), nil
	}
	switch err := r.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, r.wrong("it is longer than %d MiB", maxLine>>20)
	case errors.Is(err, errCut):
		return nil, r.wrong("the file ends within it")
	case err != nil:
		return nil, fmt.Errorf("read the export: %w", err)
	}
	return nil, r.wrong("the file ends before the line with the head: it was cut short")
}

// wrong says what is wrong with the line read last.
func (r *reader) wrong(why string, args ...any) error {
	return fault.New(fault.Invalid, "export_damaged", "line %d of the export: %s", r.number, fmt.Sprintf(why, args...)).
		With("line", r.number).With("position", r.chain.position+1)
}

// header reads the first line and returns the identity of the log.
func (r *reader) header() (string, error) {
	line, err := r.next()
	if err != nil {
		return "", err
	}
	var h header
	if err := parse(line, &h); err != nil || h.Format != format {
		return "", r.wrong("this is no export of a ledger in the format %s", format)
	}
	if err := sameForm(line, headerLine(h.Log)); err != nil {
		return "", r.wrong("%s", err)
	}
	if h.Log == "" {
		return "", r.wrong("it names no log")
	}
	r.chain.log = h.Log
	return h.Log, nil
}

// commits yields the commits, and then checks that the export ends with their
// head. An error is yielded last.
func (r *reader) commits() iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		for {
			line, err := r.next()
			if err == nil && bytes.HasPrefix(line, []byte(`{"head":`)) {
				if err := r.trailer(line); err != nil {
					yield(nil, err)
				}
				return
			}
			var commit events.Commit
			if err == nil {
				commit, err = r.commit(line)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(commit, nil) {
				return
			}
		}
	}
}

// commit reads the commit whose first line that is.
func (r *reader) commit(line []byte) (events.Commit, error) {
	var commit events.Commit
	var first events.Meta
	for {
		e, err := r.event(line)
		if err != nil {
			return nil, err
		}
		meta, err := e.Metadata()
		if err != nil {
			return nil, r.wrong("%s", err)
		}
		if len(commit) == 0 {
			first = meta
		}
		if err := isPart(meta, first, len(commit)+1); err != nil {
			return nil, r.wrong("%s@%d: %s", e.Stream, e.Version, err)
		}
		commit = append(commit, e)
		if meta.Last() {
			return commit, nil
		}
		if line, err = r.next(); err != nil {
			return nil, err
		}
	}
}

// isPart checks that meta is of the nth event of the commit that first began.
func isPart(meta, first events.Meta, n int) error {
	switch {
	case meta.Parts == 0 && meta.Part == 0 && n == 1:
		return nil // a commit of one event
	case meta.Parts < 2 || meta.Part != n || meta.Part > meta.Parts || meta.Parts != first.Parts:
		return fmt.Errorf("it is part %d of %d of a commit where part %d of %d follows", meta.Part, meta.Parts, n, first.Parts)
	case meta.CommandID != first.CommandID:
		return fmt.Errorf("it belongs to command %q in the middle of the events of command %q", meta.CommandID, first.CommandID)
	}
	return nil
}

// event reads an event, which must follow from those before it.
func (r *reader) event(line []byte) (events.Recorded, error) {
	e, err := parseEvent(line)
	if err != nil {
		return e, r.wrong("%s", err)
	}
	if want := r.chain.position + 1; e.Position != want {
		return e, r.wrong("position %d where position %d follows", e.Position, want)
	}
	before := r.streams[e.Stream]
	if err := e.Verify(events.Recorded{Version: before.version, Hash: before.hash}); err != nil {
		return e, r.wrong("%s", err)
	}
	r.streams[e.Stream] = end{e.Version, e.Hash}
	r.chain.add(e)
	return e, nil
}

// trailer checks that the last line has the head of what was read, and that it is
// the last.
func (r *reader) trailer(line []byte) error {
	head, err := r.chain.head()
	if err != nil {
		return err
	}
	if err := sameForm(line, trailerLine(head)); err != nil {
		return r.wrong("it does not say the head of the events before it, which is position %d of log %s with digest %s",
			head.Position, head.Log, head.Digest)
	}
	if r.lines.Scan() || r.lines.Err() != nil {
		r.number++
		return r.wrong("something follows the line with the head")
	}
	r.head = head
	return nil
}

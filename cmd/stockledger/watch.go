package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"

	"github.com/stockledger/stockledger/internal/fault"
)

// watching is the flag of what can be shown again whenever it changed.
type watching struct {
	Watch interval `help:"Show it again whenever it changed, until ^C; --watch=5s looks every five seconds instead of every one."`
}

// An interval is a flag that may have a duration: --watch, --watch 2s or --watch=2s.
type interval struct {
	given bool
	every time.Duration
}

// IsBool implements kong.BoolMapperValue.
func (interval) IsBool() bool { return true }

// Decode implements kong.MapperValue.
func (i *interval) Decode(ctx *kong.DecodeContext) error {
	i.given, i.every = true, time.Second
	next := ctx.Scan.Peek()
	d, err := time.ParseDuration(next.String())
	switch {
	case next.Type == kong.FlagValueToken && (err != nil || d <= 0):
		return fmt.Errorf("%q is not how long to wait; write it like 2s or 500ms", next)
	case next.Type == kong.FlagValueToken, next.Type == kong.UntypedToken && err == nil && d > 0:
		ctx.Scan.Pop()
		i.every = d
	}
	return nil
}

// A showing writes the answer to a question. The answer contains what was recorded
// up to position after.
type showing func(ctx context.Context, w io.Writer, after uint64) error

// A watched answer is what is shown, or watched.
type watched struct {
	show    showing
	after   uint64
	passing *regexp.Regexp // may differ in an answer that has not changed; nil for nothing
	settled bool           // only what is recorded changes it, not the clock, and not a refusal
}

// show shows an answer; again, when it is watched, whenever it changed. What is
// watched ends without an error when ctx does.
func (i interval) show(ctx context.Context, s streams, l ledger, what watched) error {
	if !i.given {
		return what.show(ctx, s.out, what.after)
	}
	o := observer{watched: what, ledger: l, out: s.out}
	for {
		if err := o.look(ctx); ctx.Err() == nil && !o.bears(s.err, err) {
			return err
		}
		if !wait(ctx, i.every) {
			return nil
		}
	}
}

// bears reports whether it makes sense to look again. A ledger that answered once
// may come back.
func (o *observer) bears(w io.Writer, err error) bool {
	if err == nil {
		return true
	}
	if o.last == nil || fault.Of(err).Kind != fault.Unavailable {
		return false
	}
	fmt.Fprintf(w, "stockledger: %v; trying again\n", err)
	return true
}

// wait reports whether so much time passed before ctx was done.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// An observer looks at an answer again and again, and shows only what is not what
// it showed last. What is settled it asks for only when the log has grown.
type observer struct {
	watched
	ledger ledger
	out    io.Writer
	last   []byte // without what is passing
}

func (o *observer) look(ctx context.Context) error {
	h, err := ask[health](ctx, o.ledger, statusQuery, nil)
	if err != nil || o.settled && o.last != nil && h.Head == o.after {
		return err
	}
	var now bytes.Buffer
	err = o.show(ctx, &now, max(o.after, h.Head))
	lasting := now.Bytes()
	if o.passing != nil {
		lasting = o.passing.ReplaceAll(lasting, nil)
	}
	if now.Len() > 0 && !bytes.Equal(o.last, lasting) {
		redraw(o.out, now.Bytes(), o.last == nil)
		o.last = lasting
	}
	if err == nil {
		o.after = h.Head
	}
	return err
}

// redraw shows an answer: on a terminal in place of the one before it, elsewhere
// below it.
func redraw(w io.Writer, answer []byte, first bool) {
	document := bytes.HasPrefix(answer, []byte("{"))
	switch {
	case document:
	case terminal(w):
		fmt.Fprint(w, "\x1b[H\x1b[2J")
	case !first:
		fmt.Fprintln(w)
	}
	_, _ = w.Write(answer)
}

// printJSON writes a document: as people and programs can both read it, or, when
// others may follow, on a line.
func (i interval) printJSON(w io.Writer, document json.RawMessage) error {
	if i.given {
		return printLines(w, []json.RawMessage{document})
	}
	return printJSON(w, document)
}

// terminal reports whether somebody looks at it.
func terminal(w io.Writer) bool {
	if out, ok := w.(*output); ok {
		w = out.to
	}
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

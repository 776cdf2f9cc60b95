package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"strconv"
	"strings"
	"sync"
)

// A place is an item at a location.
type place struct{ item, location string }

// A level is how much is at a place, in whole units.
type level struct{ stocked, reserved int64 }

// A move is what a command does to the level of a place, if it is carried out.
type move struct {
	place
	level
}

// An outcome is what the caller of a command knows of it.
type outcome uint8

const (
	open         outcome = iota // it waits for the answer, or will send it again
	acknowledged                // and was told a position
	refused                     // it will never be carried out
	givenUp                     // it will never know
)

// A name is the place of a command in the book: its caller, and its number among
// those of that caller. It is written as the idempotency key.
type name struct{ caller, number int }

func (n name) String() string { return fmt.Sprintf("c%d-%d", n.caller, n.number) }

// nameOf reads a key.
func nameOf(key string) (n name, ok bool) {
	caller, number, ok := strings.Cut(strings.TrimPrefix(key, "c"), "-")
	if !ok {
		return n, false
	}
	var err, err2 error
	n.caller, err = strconv.Atoi(caller)
	n.number, err2 = strconv.Atoi(number)
	return n, err == nil && err2 == nil
}

// An entry is a command in the book. Millions of them are kept, so that none may
// turn up again; what only the check of the next round needs is let go after it.
type entry struct {
	outcome  outcome
	over     bool   // it is not open, and its server is dead
	absent   bool   // given up, and not in the log that the next server opened
	parts    uint16 // how many events the command makes
	told     uint64 // the position it was acknowledged with
	answer   uint64 // hash of what it was answered
	position uint64 // where it is in the log, 0 if it was not seen there
	moves    []move // nil once it is settled
}

// A book is what the callers sent and what they were told, in memory, and in a
// journal for whoever comes later. Its methods may be called from many goroutines.
type book struct {
	seed maphash.Seed

	mu      sync.Mutex
	file    *os.File
	journal *bufio.Writer
	entries [][]entry // by caller and number
	pending []name    // those that the check has not settled
	told    uint64    // the highest position of an acknowledgment
	there   uint64    // commands found in the log
	totals  map[place]level
	wrong   []Finding
	counts  counts
}

// counts are the figures of a book.
type counts struct {
	sent, acknowledged, refused, givenUp, givenUpThere, resent, replayed, lost, doubled uint64
}

func newBook(path string, callers int) (*book, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // G304: a directory of our own
	if err != nil {
		return nil, fmt.Errorf("journal of the callers: %w", err)
	}
	return &book{
		seed: maphash.MakeSeed(), file: f, journal: bufio.NewWriterSize(f, 1<<16),
		entries: make([][]entry, callers), totals: make(map[place]level),
	}, nil
}

func (b *book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.journal.Flush(), b.file.Close())
}

// sending writes down a command before it is sent for the first time.
func (b *book) sending(caller int, command string, parts int, moves []move) name {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := name{caller, len(b.entries[caller])}
	b.entries[caller] = append(b.entries[caller], entry{parts: uint16(parts), moves: moves}) //nolint:gosec // G115: some hundreds at most
	b.pending = append(b.pending, n)
	b.counts.sent++
	b.note("sent", n, command)
	for _, m := range moves {
		fmt.Fprintf(b.journal, " %s@%s%+d%+d", m.item, m.location, m.stocked, m.reserved)
	}
	fmt.Fprintln(b.journal)
	return n
}

func (b *book) note(what string, n name, more string) {
	fmt.Fprintf(b.journal, "%s %s %s", what, n, more)
}

// acknowledge writes down the answer to a command.
func (b *book) acknowledge(n name, position uint64, replayed bool, result json.RawMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(n)
	answer := b.digest(result)
	if e.outcome == acknowledged && (e.told != position || e.answer != answer) {
		b.complain("answered in two ways", "%s was acknowledged with position %d, and again with position %d or another answer", n, e.told, position)
		return
	}
	if e.position != 0 && (e.position != position || e.answer != answer) {
		b.complain("elsewhere", "%s was sent again and acknowledged with position %d, and is at %d, or is answered otherwise there", n, position, e.position)
	}
	if e.outcome != acknowledged {
		b.counts.acknowledged++
	}
	if replayed {
		b.counts.replayed++
	}
	e.outcome, e.told, e.answer = acknowledged, position, answer
	b.told = max(b.told, position)
	b.note("acknowledged", n, strconv.FormatUint(position, 10)+"\n")
}

// digest is a hash of a document, whatever white space is in it.
func (b *book) digest(document json.RawMessage) uint64 {
	var text bytes.Buffer
	if json.Compact(&text, document) != nil {
		return 0
	}
	return maphash.Bytes(b.seed, text.Bytes())
}

// refuse writes down that a command was refused.
func (b *book) refuse(n name, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entry(n); e.outcome == open {
		e.outcome = refused
		b.counts.refused++
		b.note("refused", n, strings.ReplaceAll(err.Error(), "\n", " ")+"\n")
	}
}

// giveUp writes down that nobody will send a command again.
func (b *book) giveUp(n name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entry(n); e.outcome == open {
		e.outcome = givenUp
		b.counts.givenUp++
		b.note("given-up", n, "\n")
	}
}

// resending writes down that a command is sent once more.
func (b *book) resending(n name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.resent++
	b.note("sent-again", n, "\n")
}

// killed writes down the end of a server. The journal is complete up to there.
func (b *book) killed(round int, where string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(b.journal, "killed %d %s\n", round+1, where)
	_ = b.journal.Flush() // closing says so, too
}

// entry is a command in the book. The caller has the lock.
func (b *book) entry(n name) *entry { return &b.entries[n.caller][n.number] }

// A Finding is something that must not be.
type Finding struct {
	Kind    string `json:"kind"` // lost, doubled, …
	Message string `json:"message"`
}

// The findings that are counted.
const (
	kindLost    = "lost"
	kindDoubled = "doubled"
)

// namedFindings is how many findings are kept in words: the first ones tell most.
const namedFindings = 50

// complain keeps a finding. The caller has the lock.
func (b *book) complain(kind, format string, args ...any) {
	switch kind {
	case kindLost:
		b.counts.lost++
	case kindDoubled:
		b.counts.doubled++
	}
	if len(b.wrong) < namedFindings {
		b.wrong = append(b.wrong, Finding{kind, fmt.Sprintf(format, args...)})
	}
}

// wrongly is complain for those who have not got the lock.
func (b *book) wrongly(kind, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complain(kind, format, args...)
}

// failed reports whether anything was found to be wrong.
func (b *book) failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.wrong) > 0
}

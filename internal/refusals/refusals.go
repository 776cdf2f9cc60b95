// Package refusals keeps what the ledger refused: who asked for what, why it was
// refused, when, and how far the log was. A refusal changes nothing, so it is no
// event; but who audits stock asks for it, and what could not be sold is demand.
//
// Everything here gives way to the commands. A refusal is put into a bounded
// queue or, when that is full, only counted; one goroutine writes what is queued,
// at most so much a second, to a file that keeps the newest of them. The counts
// are of all of them. A file that cannot be written fails nothing: the counts
// stay in memory until it can.
package refusals

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/stockledger/stockledger/internal/fault"
)

// The bounds.
const (
	// DefaultKeep is how many refusals are kept with their details: 100 MB where
	// commands are as short as most, 900 MB where all are as long as they get.
	DefaultKeep = 100_000
	// waiting is how many may wait for the writer. Together with rest it bounds
	// what a flood makes it write: some 1,000 a second, a few hundredths of a core.
	waiting = 1024
	rest    = time.Second
	// longRest is how long the writer lets a file alone that it cannot use.
	longRest = 5 * time.Second
)

// Config is what a Log needs. Path must be set.
type Config struct {
	Path   string           // of the file
	Keep   int              // how many refusals keep their details; 0 is DefaultKeep
	Now    func() time.Time // the ledger's clock; nil is time.Now
	Logger *slog.Logger     // nil is slog.Default()
}

// Log is the record of refused commands. Its methods may be called from many
// goroutines.
type Log struct {
	config Config
	queue  chan *Refusal
	wake   chan struct{}   // something is queued or counted
	asked  chan chan error // to write all that is queued, now
	ending chan struct{}   // closed by Close
	ended  chan struct{}   // closed when the writer has ended
	end    sync.Once

	file *file // the writer's, and anybody's once flush returned nil; nil until it could be opened

	mu     sync.Mutex
	counts map[tally]int64 // of refusals that are not in the file's counts yet
}

// A tally is what refusals are counted by.
type tally struct {
	day           int64 // since 1970, UTC
	command, code string
}

// Open opens the record, and creates it where there is none. It does not wait
// for the file and does not fail because of it.
func Open(config Config) *Log {
	config.Keep = cmp.Or(config.Keep, DefaultKeep)
	config.Logger = cmp.Or(config.Logger, slog.Default())
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default of what the caller may set
	}
	l := &Log{
		config: config,
		queue:  make(chan *Refusal, waiting),
		wake:   make(chan struct{}, 1),
		asked:  make(chan chan error),
		ending: make(chan struct{}),
		ended:  make(chan struct{}),
		counts: make(map[tally]int64),
	}
	go l.write()
	return l
}

// An Attempt is a command that ended in Err.
type Attempt struct {
	Command, CommandID                    string
	Actor, Reason, Reference, Correlation string
	Err                                   error
	// Body and Position are called only if there is room for details.
	Body     func() string // of the command in JSON, its beginning at least
	Position func() uint64 // of the last event in the log
}

// Add takes a refusal in and never waits. What is no refusal, such as a failure
// of the ledger itself, it leaves alone.
func (l *Log) Add(a Attempt) {
	e, ok := errors.AsType[*fault.Error](a.Err)
	if !ok {
		return
	}
	switch e.Kind {
	case fault.Invalid, fault.NotFound, fault.NotAllowed, fault.Conflict:
	default:
		return
	}
	now := l.config.Now().UTC()
	t := tally{now.Unix() / secondsOfDay, known(a.Command, e.Code), cut(e.Code, maxText)}
	l.mu.Lock()
	l.counts[t]++
	l.mu.Unlock()
	if len(l.queue) < cap(l.queue) {
		select {
		case l.queue <- detailed(a, e, t, now):
		default: // it is counted
		}
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

const secondsOfDay = 24 * 60 * 60

// Close writes what is queued, and ends the record.
func (l *Log) Close() {
	l.end.Do(func() { close(l.ending) })
	<-l.ended
}

// flush returns once everything that was added before is in the file.
func (l *Log) flush(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case l.asked <- done:
	case <-l.ended:
		return errors.New("the record of refusals is closed")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the one goroutine that writes the file. It rests after every write,
// unless somebody asks. A file that it cannot use it tries again after a while.
func (l *Log) write() {
	defer close(l.ended)
	var broken error
	resting := time.NewTimer(0) // and so the file is opened
	wake := (<-chan struct{})(nil)
	for {
		var done chan error
		ending := false
		select {
		case <-resting.C:
			if wake = l.wake; l.file != nil && broken == nil {
				continue
			}
		case <-wake:
		case done = <-l.asked:
		case <-l.ending:
			ending = true
		}
		err := l.writeQueued()
		l.tell(broken, err)
		broken = err
		if done != nil {
			done <- err
		}
		if ending {
			l.file.close()
			return
		}
		wake = nil
		if resting.Reset(rest); broken != nil {
			resting.Reset(longRest)
		}
	}
}

// writeQueued writes what was added before it was called.
func (l *Log) writeQueued() error {
	if l.file == nil {
		f, err := openFile(l.config.Path)
		if err != nil {
			l.drain() // the details are lost, so that those to come have room
			return err
		}
		l.file = f
	}
	details := l.drain()
	l.mu.Lock()
	counts := l.counts
	l.counts = make(map[tally]int64)
	l.mu.Unlock()
	err := l.file.write(details, counts, l.config.Keep)
	if err != nil {
		l.mu.Lock()
		for t, n := range counts {
			l.counts[t] += n
		}
		l.mu.Unlock()
	}
	return err
}

// drain empties the queue, of what is in it now.
func (l *Log) drain() (all []*Refusal) {
	for range len(l.queue) {
		all = append(all, <-l.queue)
	}
	return all
}

// tell says once that the file cannot be used, and once that it can again.
func (l *Log) tell(before, now error) {
	switch {
	case before == nil && now != nil:
		l.config.Logger.Error("refused commands cannot be recorded; they are counted, and the ledger goes on",
			"path", l.config.Path, "err", now)
	case before != nil && now == nil:
		l.config.Logger.Info("refused commands are recorded again", "path", l.config.Path)
	}
}

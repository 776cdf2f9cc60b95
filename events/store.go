package events

import (
	"context"
	"errors"
	"iter"
)

// ErrConflict is returned by [Store.Append] when a stream is not at the version
// the commit expects: somebody else wrote to it.
var ErrConflict = errors.New("stream is at another version")

// ErrOtherLog is returned when a position or an identity belongs to another log.
var ErrOtherLog = errors.New("belongs to another log")

// ErrInUse is returned on opening a store that another process has open.
var ErrInUse = errors.New("in use by another process")

// ErrStopped is returned by [Store.Append] of a store that has stopped for good,
// because it does not know what a failure left on the disk. Nothing was recorded,
// and nothing will be until the store is opened again.
var ErrStopped = errors.New("the event store has stopped and must be opened again")

// MaxBatch is how many events Subscribe yields at most at once.
const MaxBatch = 1000

// Store is an append-only log of events in streams. Its methods may be called
// from many goroutines at once. The suite in storetest checks every promise.
type Store interface {
	// LogID identifies the log: a UUID made when the log was, which never
	// changes. What was built from one log must not be continued from another.
	LogID() string

	// Append records the commits in order, each entirely or not at all, and
	// returns the position of the last event of each one recorded. The
	// positions of a commit's events follow one another, and no other event
	// comes between.
	//
	// It stops at the first commit that cannot be recorded: those before it are
	// recorded, it and those after it are not. The error is ErrConflict if a
	// stream is not at the version that commit expects, and ErrStopped if the
	// store takes none any more. After any other error the outcome of the commits for which no position was returned is unknown,
	// and the caller reads to find out; each of them is there entirely or not
	// at all.
	//
	// Commits whose positions are returned are durable: they survive the
	// process, and, where the medium can, the machine.
	//
	// An empty commit, or one whose events skip a version, is a bug of the
	// caller, and panics.
	Append(ctx context.Context, commits ...Commit) (positions []uint64, err error)

	// Read yields the events of stream after version, oldest first, up to the
	// end of the stream as it was when Read was called or later. A stream that
	// was never written to yields nothing. An error is yielded last.
	Read(ctx context.Context, stream string, after uint64) iter.Seq2[Recorded, error]

	// Head is the position of the last event of the log, 0 when it is empty.
	Head(ctx context.Context) (uint64, error)

	// Subscribe yields every event after position in log order, in batches of
	// one to MaxBatch, and then waits for more. It ends only by yielding an
	// error, which is ctx.Err() once ctx is done. Subscribing again after the
	// position of an event resumes with the next one: none is skipped, none
	// comes twice. Only durable events are yielded. A batch may end inside a
	// commit; the events that follow are already durable then. A position the
	// log has not reached came from another log, and fails with ErrOtherLog.
	Subscribe(ctx context.Context, after uint64) iter.Seq2[[]Recorded, error]

	// Close releases the store. It waits for appends under way; what uses the
	// store afterwards fails.
	Close() error
}

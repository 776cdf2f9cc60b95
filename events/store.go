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

// ErrTooLarge is returned by [Store.Append] for a commit that the store cannot
// take at once, however often it is sent. Nothing of it was recorded.
var ErrTooLarge = errors.New("the commit is larger than the event store takes")

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
	// stream is not at the version that commit expects, ErrTooLarge if the store
	// cannot take that commit, and ErrStopped if it takes none any more. After
	// any other error the outcome of the commits for which no position was
	// returned is unknown, and the caller reads to find out; each of them is
	// there entirely or not at all.
	//
	// Commits whose positions are returned are durable: they survive the
	// process, and, where the medium can, the machine.
	//
	// An empty commit, or one whose events skip a version, is a bug of the
	// caller, and panics.
	Append(ctx context.Context, commits ...Commit) (positions []uint64, err error)

	// AppendAt is Append for whoever decided on all that the log holds: each
	// commit is recorded right behind the one before it, and the first one right
	// behind position head, or it is not recorded and the error is ErrConflict.
	// So a writer that others have overtaken cannot write on what it no longer
	// knows, also where it would write to streams that they left alone.
	AppendAt(ctx context.Context, head uint64, commits ...Commit) (positions []uint64, err error)

	// Read yields the events of stream after version, oldest first, up to the
	// end of the stream as it was when Read was called or later. A stream that
	// was never written to yields nothing. An error is yielded last.
	Read(ctx context.Context, stream string, after uint64) iter.Seq2[Recorded, error]

	// Head is the position of the last event of the log, 0 when it is empty. It
	// counts what any process has appended before Head was called.
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

// Shared is a store that several processes may have open at once, on several
// machines.
type Shared interface {
	Store

	// Register is the register of that name beside the log. It is made by the
	// first Set. The name is letters and digits.
	Register(ctx context.Context, name string) (Register, error)
}

// A Register holds one small value that several processes compare and set. Its
// methods may be called from many goroutines at once.
type Register interface {
	// Get returns the value as it is, with its revision. A register that was
	// never set has no value and revision 0.
	Get(ctx context.Context) (value []byte, revision uint64, err error)

	// Set replaces the value that has that revision, and returns the revision of
	// the new one, which is higher. The error is ErrConflict if the register has
	// another revision. After any other error the outcome is unknown.
	Set(ctx context.Context, revision uint64, value []byte) (uint64, error)
}

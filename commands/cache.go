package commands

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// aggregate is the state of one stream.
type aggregate interface {
	Apply(fact events.Fact, at domain.Stamp)
	Begin()
	Keep()
	Rollback()
}

// newAggregate is the empty state of a stream, nil for a stream without one.
func newAggregate(stream string) aggregate {
	switch kind, _, _ := strings.Cut(stream, "-"); kind {
	case "item":
		return new(domain.Item)
	case "sku":
		return new(domain.SKU)
	case "variant":
		return new(domain.Variant)
	case "location":
		return new(domain.Location)
	default:
		return note{}
	}
}

// note is the state of a stream that only marks that a command was accepted.
type note struct{}

func (note) Apply(events.Fact, domain.Stamp) {}
func (note) Begin()                          {}
func (note) Keep()                           {}
func (note) Rollback()                       {}

// entry is an aggregate in memory. There is at most one for a stream, so
// whoever decides sees what was decided before. loaded is closed once it can be
// used; state and version then belong to the decider, hash to the committer.
type entry struct {
	stream  string
	loaded  chan struct{} // guarded by cache.mu
	err     error
	state   aggregate
	version uint64      // of the newest event decided, durable or not
	hash    events.Hash // of the newest event sealed
	read    uint64      // position of the newest event that was read from the store
	saved   uint64      // version of the newest snapshot, or copy for one; the decider's

	begun bool   // by the decision under way
	ahead uint64 // facts the decision under way has recorded

	pins int           // commands and commits that need it here; guarded by cache.mu
	idle *list.Element // in cache.idle while pins is 0
}

func newEntry(stream string) *entry { return &entry{stream: stream, loaded: make(chan struct{})} }

// loaded is what entry.loaded is of all that are loaded: a channel of its own would
// be a third of an entry, and there are many.
var loaded = func() chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

// cache holds the aggregates that are being used, and as many of those used
// last as its bound allows.
//
// An aggregate stays while it is pinned: from the prefetch of a command until
// what was decided on it is durable. So it is never read back from a store that
// does not know yet what was decided.
type cache struct {
	store     events.Store
	snapshots *snapshotter
	bound     int

	mu      sync.Mutex
	entries map[string]*entry
	idle    list.List // of *entry, the longest unused first
}

func newCache(store events.Store, snapshots *snapshotter, bound int) *cache {
	return &cache{store: store, snapshots: snapshots, bound: bound, entries: make(map[string]*entry)}
}

// pin returns the aggregate of a stream, from memory or from the store, and
// keeps it in memory until it is unpinned.
func (c *cache) pin(ctx context.Context, stream string) (*entry, error) {
	c.mu.Lock()
	e, found := c.entries[stream]
	if !found {
		e = newEntry(stream)
		c.entries[stream] = e
	}
	e.pins++
	if e.idle != nil {
		c.idle.Remove(e.idle)
		e.idle = nil
	}
	usable := e.loaded
	c.mu.Unlock()

	if !found {
		e.err = e.load(ctx, c.store, c.snapshots)
		if e.err != nil {
			c.forget(e)
		}
		c.done(e)
	}
	select {
	case <-usable:
	case <-ctx.Done():
		c.unpin(e)
		return nil, ctx.Err()
	}
	if e.err != nil {
		c.unpin(e)
		if found && ended(e.err) && ctx.Err() == nil {
			return c.pin(ctx, stream) // whoever was loading it went away
		}
		return nil, e.err
	}
	return e, nil
}

// done lets whoever waits for an aggregate use it.
func (c *cache) done(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.loaded)
	e.loaded = loaded
}

func (c *cache) unpin(pinned ...*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range pinned {
		e.pins--
		if e.pins == 0 && c.entries[e.stream] == e {
			c.rest(e)
		}
	}
}

// rest keeps an aggregate that nobody needs, and lets go of those that were not
// needed for the longest time if there are too many. c.mu is held.
func (c *cache) rest(e *entry) {
	e.idle = c.idle.PushBack(e)
	for len(c.entries) > c.bound && c.idle.Len() > 0 {
		oldest := c.idle.Remove(c.idle.Front()).(*entry)
		oldest.idle = nil
		delete(c.entries, oldest.stream)
	}
}

// add keeps an aggregate that was loaded elsewhere, unless there is one.
func (c *cache) add(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[e.stream] != nil {
		return
	}
	e.loaded = loaded
	c.entries[e.stream] = e
	c.rest(e)
}

// fold takes an event that was read from the log into the aggregate of its
// stream, and reports whether that is in memory and has it now. An aggregate that
// is being loaded, and may or may not get the event, is forgotten, and so is one
// that the event does not follow. Nobody may be deciding meanwhile.
func (c *cache) fold(r events.Recorded, fact events.Fact, at domain.Stamp) bool {
	c.mu.Lock()
	e := c.entries[r.Stream]
	if e != nil && e.idle != nil {
		c.idle.MoveToBack(e.idle)
	}
	usable := e != nil && e.loaded == loaded
	c.mu.Unlock()
	if e == nil {
		return false
	}
	if !usable || e.follow(r, fact, at) != nil {
		c.forget(e)
		return false
	}
	c.snapshots.followed(e)
	return true
}

func (c *cache) forget(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[e.stream] != e {
		return
	}
	delete(c.entries, e.stream)
	if e.idle != nil {
		c.idle.Remove(e.idle)
		e.idle = nil
	}
}

// load replays the stream, from its snapshot on if it has one that holds. It
// checks the chain, and refuses a stream whose facts cannot have followed one
// another. Whatever is wrong with a snapshot, the stream alone decides.
func (e *entry) load(ctx context.Context, store events.Store, snapshots *snapshotter) error {
	from := snapshots.find(ctx, e.stream)
	wrong := e.replay(ctx, store, snapshots, from)
	if wrong == nil || from.Version == 0 || errors.Is(wrong, errRead) {
		return wrong
	}
	snapshots.discard(ctx, e.stream, wrong) // before another one is taken
	return e.replay(ctx, store, snapshots, Snapshot{})
}

// replay makes the state what the stream says.
func (e *entry) replay(ctx context.Context, store events.Store, snapshots *snapshotter, from Snapshot) error {
	e.state, e.saved = newAggregate(e.stream), from.Version
	if from.Version > 0 {
		if err := e.state.(stateful).Resume(from.State); err != nil {
			return fmt.Errorf("read its state: %w", err)
		}
	}
	last, err := replay(ctx, store, e.stream, from, func(r events.Recorded, fact events.Fact, at domain.Stamp) {
		e.state.Apply(fact, at)
		e.version, e.hash = r.Version, r.Hash
		snapshots.loaded(e, snapshots.pace.load)
	})
	if err != nil {
		return err
	}
	e.version, e.hash, e.read = last.Version, last.Hash, last.Position
	snapshots.loaded(e, snapshots.pace.tail)
	return nil
}

// readOn takes in what the stream has after the newest event taken in.
func (e *entry) readOn(ctx context.Context, store events.Store) error {
	last, err := replay(ctx, store, e.stream, Snapshot{Version: e.version, Hash: e.hash}, func(r events.Recorded, fact events.Fact, at domain.Stamp) {
		e.state.Apply(fact, at)
		e.version, e.hash = r.Version, r.Hash
	})
	e.read = max(e.read, last.Position)
	return err
}

// follow takes in one event that was read from the log, unless it has it
// already. It fails when the event does not follow on those it has.
func (e *entry) follow(r events.Recorded, fact events.Fact, at domain.Stamp) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("stream %s is corrupt at version %d: %v", e.stream, r.Version, p)
		}
	}()
	if r.Version <= e.version {
		return nil
	}
	if err := r.Verify(events.Recorded{Stream: e.stream, Version: e.version, Hash: e.hash}); err != nil {
		return fmt.Errorf("stream is corrupt: %w", err)
	}
	e.state.Apply(fact, at)
	e.version, e.hash = r.Version, r.Hash
	return nil
}

// errRead is what a failure to read the store wraps, unlike what is wrong with
// what was read.
var errRead = errors.New("the event store does not answer")

func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// replay reads a stream from its beginning, or what follows the snapshot it is
// given, and returns the newest event. It fails when the stream does not hold the
// event that the snapshot was taken at.
func replay(ctx context.Context, store events.Store, stream string, from Snapshot, take func(events.Recorded, events.Fact, domain.Stamp)) (last events.Recorded, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("stream %s is corrupt after version %d: %v", stream, last.Version, p)
		}
	}()
	for r, err := range store.Read(ctx, stream, max(from.Version, 1)-1) {
		if err != nil {
			return last, fmt.Errorf("%w: read %s: %w", errRead, stream, err)
		}
		if r.Version == from.Version {
			if r.Hash != from.Hash || r.Hash != r.Link() {
				return last, fmt.Errorf("%s@%d: %w", stream, from.Version, errOtherEvent)
			}
			last = r
			continue
		}
		if err := r.Verify(last); err != nil {
			return last, fmt.Errorf("stream is corrupt: %w", err)
		}
		fact, err := r.Fact()
		if err != nil {
			return last, err
		}
		meta, err := r.Metadata()
		if err != nil {
			return last, err
		}
		take(r, fact, domain.Stamp{Version: r.Version, At: meta.Recorded})
		last = r
	}
	if last.Version < from.Version {
		return last, fmt.Errorf("%s@%d: %w", stream, from.Version, errOtherEvent)
	}
	return last, nil
}

// errOtherEvent says that a snapshot is not of this stream as it is.
var errOtherEvent = errors.New("the log does not hold the event the snapshot was taken at")

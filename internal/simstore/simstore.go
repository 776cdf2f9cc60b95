// Package simstore is an event log on a simulated disk, for tests of whoever
// writes to one.
//
// A Disk holds what is durable. Whoever uses it opens a Store on it, as a process
// would; several may be open at once, and one that is killed takes nothing with it
// but its answers. In between stands whoever drives the simulation: every call of
// a Store waits until the driver says what becomes of it, so that a slow disk, a
// lost answer, a torn group, a full disk and a crash are choices of one program
// that takes them one after the other, and a seed is enough to take them again.
package simstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
)

// ErrCrashed is what calls of a store end with that was killed. Nobody is left to
// hear it but the goroutines that have to end.
var ErrCrashed = errors.New("the process was killed")

// Disk is what is durable. Its methods may be called from many goroutines.
type Disk struct {
	log *memstore.Store

	mu      sync.Mutex
	waiting []*Call
	late    []func() // appends that are still on the wire
}

// NewDisk makes an empty one.
func NewDisk() *Disk { return &Disk{log: memstore.New()} }

// Log is the log as it is on the disk, for the driver: its calls wait for nobody
// and do not fail.
func (d *Disk) Log() events.Store { return d.log }

// Close ends the disk, which nobody may use any more.
func (d *Disk) Close() error { return d.log.Close() }

// Kind says what a call asks for.
type Kind string

// The kinds of calls.
const (
	Append Kind = "append"
	Head   Kind = "head"
	Read   Kind = "read"
	Follow Kind = "follow"
	Ask    Kind = "ask"
)

// Call is a call of a store that waits for the driver.
type Call struct {
	Store   string // the name of the store
	Kind    Kind
	Subject string // the stream, or the position it asks for or appends behind
	Commits []events.Commit

	fate chan Fate
	disk *Disk
}

// Fate is what becomes of a call. The zero Fate is that all goes well.
type Fate struct {
	// Err is what the call ends with. nil is what the log says.
	Err error
	// Land is how many commits of an append that ends with Err become durable, and
	// Tell for how many of those the position is returned.
	Land, Tell int
	// Late leaves the commits on the wire: they land when the driver lets them, and
	// then only if the log is still where they were to be appended.
	Late bool
}

// Waiting lists the calls that wait, in an order that depends on what they ask for
// and not on which came first.
func (d *Disk) Waiting() []*Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.waiting)
	slices.SortStableFunc(all, func(a, b *Call) int {
		return cmp.Or(cmp.Compare(a.Store, b.Store), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject))
	})
	return all
}

// End lets a call that waits have its fate.
func (c *Call) End(fate Fate) {
	c.disk.forget(c)
	c.fate <- fate
}

func (d *Disk) forget(c *Call) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = slices.DeleteFunc(d.waiting, func(other *Call) bool { return other == c })
}

// LandLate lets everything land that is on the wire, if it still can.
func (d *Disk) LandLate() {
	d.mu.Lock()
	late := d.late
	d.late = nil
	d.mu.Unlock()
	for _, land := range late {
		land()
	}
}

// Store is an [events.Store] on a Disk. Its methods may be called from many
// goroutines.
type Store struct {
	disk *Disk
	name string

	mu     sync.Mutex
	driven bool
	killed bool
}

// Open opens a store under a name. Its calls do not wait until Drive.
func (d *Disk) Open(name string) *Store { return &Store{disk: d, name: name} }

// Drive makes the calls of the store wait for the driver from now on, or no longer.
func (s *Store) Drive(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.driven = on
}

// Ask is a call that is none of the log but of something beside it, so that the
// driver says also when that answers, and whether.
func (s *Store) Ask(ctx context.Context, subject string) error {
	return s.wait(ctx, Ask, subject, nil).Err
}

// Kill is the death of the process that has the store open: nothing that it asks
// for takes effect any more. Of an append that waits, the first land commits have
// reached the disk.
func (s *Store) Kill(land int) {
	s.mu.Lock()
	s.killed = true
	s.mu.Unlock()
	for _, c := range s.disk.Waiting() {
		if c.Store == s.name {
			c.End(Fate{Err: ErrCrashed, Land: min(land, len(c.Commits))})
		}
	}
}

// wait asks the driver what becomes of a call.
func (s *Store) wait(ctx context.Context, kind Kind, subject string, commits []events.Commit) Fate {
	s.mu.Lock()
	driven, killed := s.driven, s.killed
	s.mu.Unlock()
	if killed {
		return Fate{Err: ErrCrashed}
	}
	if !driven {
		return Fate{}
	}
	c := &Call{Store: s.name, Kind: kind, Subject: subject, Commits: commits, fate: make(chan Fate, 1), disk: s.disk}
	s.disk.mu.Lock()
	s.disk.waiting = append(s.disk.waiting, c)
	s.disk.mu.Unlock()
	select {
	case fate := <-c.fate:
		return fate
	case <-ctx.Done():
		s.disk.forget(c)
		return Fate{Err: ctx.Err()}
	}
}

// LogID implements [events.Store].
func (s *Store) LogID() string { return s.disk.log.LogID() }

// Append implements [events.Store].
func (s *Store) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, "anywhere", commits, s.disk.log.Append)
}

// AppendAt implements [events.Store].
func (s *Store) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, at(head), commits, func(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
		return s.disk.log.AppendAt(ctx, head, commits...)
	})
}

func at(position uint64) string { return fmt.Sprintf("%020d", position) }

// append carries an append out as far as its fate lets it.
func (s *Store) append(ctx context.Context, subject string, commits []events.Commit, do func(context.Context, ...events.Commit) ([]uint64, error)) ([]uint64, error) {
	for _, c := range commits {
		c.Spans() // panics if it is none
	}
	fate := s.wait(ctx, Append, subject, commits)
	if fate.Err == nil {
		return do(ctx, commits...)
	}
	landed := func() ([]uint64, error) {
		return do(context.WithoutCancel(ctx), commits[:min(fate.Land, len(commits))]...)
	}
	if fate.Late {
		s.disk.mu.Lock()
		s.disk.late = append(s.disk.late, func() { _, _ = landed() })
		s.disk.mu.Unlock()
		return nil, fate.Err
	}
	if fate.Land == 0 {
		return nil, fate.Err
	}
	positions, err := landed()
	if len(positions) == 0 && err != nil {
		return nil, err // a conflict is one, whatever was to happen
	}
	return positions[:min(fate.Tell, len(positions))], fate.Err
}

// Read implements [events.Store].
func (s *Store) Read(ctx context.Context, stream string, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		if fate := s.wait(ctx, Read, stream, nil); fate.Err != nil {
			yield(events.Recorded{}, fate.Err)
			return
		}
		s.disk.log.Read(ctx, stream, after)(yield)
	}
}

// Head implements [events.Store].
func (s *Store) Head(ctx context.Context) (uint64, error) {
	if fate := s.wait(ctx, Head, "", nil); fate.Err != nil {
		return 0, fate.Err
	}
	return s.disk.log.Head(ctx)
}

// Subscribe implements [events.Store]. Only its beginning waits for the driver.
func (s *Store) Subscribe(ctx context.Context, after uint64) iter.Seq2[[]events.Recorded, error] {
	return func(yield func([]events.Recorded, error) bool) {
		if fate := s.wait(ctx, Follow, at(after), nil); fate.Err != nil {
			yield(nil, fate.Err)
			return
		}
		s.disk.log.Subscribe(ctx, after)(yield)
	}
}

// Close implements [events.Store]. The disk stays.
func (s *Store) Close() error {
	s.Kill(0)
	return nil
}

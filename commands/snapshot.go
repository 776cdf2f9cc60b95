package commands

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// A Snapshot is what the aggregate of a stream knew at a version, so that only
// what came later has to be replayed. It is a shortcut and never a source: it is
// believed only while the log holds the event it was taken at, and can be thrown
// away at any time.
type Snapshot struct {
	Stream  string
	Version uint64
	Hash    events.Hash // of the event of that version
	Format  uint32      // the [domain.StateFormat] that State is in
	State   []byte
	Sum     [sha256.Size]byte // over all of the above
}

// Snapshots keeps a snapshot for each stream that is long enough to need one.
// Its methods may be called from many goroutines at once.
type Snapshots interface {
	// Snapshot finds the snapshot of a stream. It is asked for every stream that
	// is loaded, most of which have none.
	Snapshot(ctx context.Context, stream string) (s Snapshot, found bool, err error)
	// Keep keeps s in place of what it kept for that stream.
	Keep(ctx context.Context, s Snapshot) error
	// Discard lets go of the snapshot of a stream.
	Discard(ctx context.Context, stream string) error
}

// pace is how often snapshots are taken, in events.
type pace struct {
	// tail is how many events after its snapshot a stream may have before it is
	// worth another.
	tail uint64
	// row is what comes to tail for each row of the state, so that the large ones
	// are written less often.
	row uint64
	// load is how many events of a stream are replayed before they are worth a
	// snapshot although more follow. So a load that is given up in time has not
	// been in vain, however long the stream is.
	load uint64
	// copied is how many rows are copied while commands wait to be decided. What
	// has more is read from the log again, where nobody waits for it.
	copied int
}

// usualPace makes a stream that nobody has in memory some 20 ms of replaying, a
// load that is given up lose a second of it, and writing snapshots a few
// hundredths of what the commands cost. Copying 10,000 rows takes some 2 ms.
var usualPace = pace{tail: 1000, row: 4, load: 50_000, copied: 10_000}

// waitingRows bounds the copies that wait to be written, to some 50 MB. What is
// over it is left out, and taken another time.
const waitingRows = 1 << 17

// stateful is an aggregate of which snapshots are taken.
type stateful interface {
	State() domain.State
	Size() int
	Resume(encoded []byte) error
}

// taken is the state of a stream that is durable, or will be when what it was
// taken of is.
type taken struct {
	stream  string
	version uint64
	hash    events.Hash
	state   domain.State // nil: to be read from the log
	rows    int          // to encode, about
}

// snapshotter writes snapshots, one after the other, where nobody waits for them.
type snapshotter struct {
	store  events.Store
	kept   Snapshots // nil: none
	logger *slog.Logger
	pace   pace

	mu      sync.Mutex
	waiting map[string]taken // the newest of each stream
	rows    int              // in waiting
	unread  bool             // it was told that snapshots cannot be read
	unkept  bool             // or written
	old     bool             // or are of another format

	wake    chan struct{}
	closing chan struct{}
	done    sync.WaitGroup
}

func newSnapshotter(store events.Store, kept Snapshots, logger *slog.Logger) *snapshotter {
	return &snapshotter{
		store: store, kept: kept, logger: logger, pace: usualPace, waiting: make(map[string]taken),
		wake: make(chan struct{}, 1), closing: make(chan struct{}),
	}
}

// start begins to write what is added.
func (s *snapshotter) start() {
	if s.kept != nil {
		s.done.Go(s.write)
	}
}

// close writes what waits, and ends.
func (s *snapshotter) close() {
	close(s.closing)
	s.done.Wait()
}

// due reports whether an aggregate has come so far that it is worth a snapshot.
func (s *snapshotter) due(e *entry) bool {
	since := e.version - e.saved
	if s.kept == nil || since < s.pace.tail {
		return false
	}
	a, ok := e.state.(stateful)
	return ok && since >= s.pace.tail+s.pace.row*uint64(a.Size()) //nolint:gosec // G115: a length
}

// take copies the state of an aggregate that is the caller's to look at, with
// nothing begun. The hash is left to the caller.
func take(e *entry) taken {
	a := e.state.(stateful)
	e.saved = e.version
	return taken{stream: e.stream, version: e.version, state: a.State(), rows: 1 + a.Size()}
}

// loaded takes a copy of an aggregate that is being loaded, once it took so many
// events.
func (s *snapshotter) loaded(e *entry, after uint64) {
	if _, ok := e.state.(stateful); !ok || s.kept == nil || e.version-e.saved < after {
		return
	}
	t := take(e)
	t.hash = e.hash
	s.add(t)
}

// followed takes a copy of an aggregate that follows the log, when it is worth one.
func (s *snapshotter) followed(e *entry) {
	if t, due := s.copy(e); due {
		t.hash = e.hash
		s.add(t)
	}
}

// copy takes a copy of an aggregate that is the caller's to look at, when it is
// worth a snapshot. The hash is left to the caller.
func (s *snapshotter) copy(e *entry) (t taken, due bool) {
	if !s.due(e) {
		return taken{}, false
	}
	if e.state.(stateful).Size() > s.pace.copied {
		e.saved = e.version
		return taken{stream: e.stream, version: e.version, rows: 1}, true
	}
	return take(e), true
}

// add gives copies of durable states to be written. It never waits.
func (s *snapshotter) add(all ...taken) {
	if len(all) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range all {
		old := s.waiting[t.stream]
		if t.version <= old.version || s.rows-old.rows+t.rows > waitingRows && len(s.waiting) > 0 {
			continue
		}
		s.rows += t.rows - old.rows
		s.waiting[t.stream] = t
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write is the one goroutine that writes snapshots.
func (s *snapshotter) write() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.done.Go(func() { <-s.closing; cancel() })
	for {
		select {
		case <-s.wake:
			s.writeWaiting(ctx)
		case <-s.closing:
			s.writeWaiting(ctx)
			return
		}
	}
}

// writeWaiting writes all that waits. Once ctx has ended nothing is read for it
// any more.
func (s *snapshotter) writeWaiting(ctx context.Context) {
	for {
		t, more := s.next()
		if !more {
			return
		}
		if t.state == nil {
			s.read(ctx, t.stream)
			continue
		}
		snapshot, err := t.snapshot()
		if err == nil {
			err = s.kept.Keep(context.WithoutCancel(ctx), snapshot)
		}
		s.tell(&s.unkept, "snapshots cannot be written; long streams are replayed further", err)
	}
}

// read takes the copy of a stream that was too large to be copied where commands
// wait. What is wrong with the stream whoever needs it will hear.
func (s *snapshotter) read(ctx context.Context, stream string) {
	e := newEntry(stream)
	if e.load(ctx, s.store, s) == nil {
		// However little came since the last one: that may have read past what was
		// asked for, and the next is asked for a whole tail from here.
		s.loaded(e, 1)
	}
}

// next takes one of those that wait, in no order.
func (s *snapshotter) next() (taken, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for stream, t := range s.waiting {
		delete(s.waiting, stream)
		s.rows -= t.rows
		return t, true
	}
	return taken{}, false
}

// tell says once that something fails, until it works again.
func (s *snapshotter) tell(told *bool, message string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !*told {
		s.logger.Warn(message, "err", err)
	}
	*told = err != nil
}

// snapshot encodes the copy.
func (t taken) snapshot() (Snapshot, error) {
	encoded, err := t.state.Encode()
	if err != nil {
		return Snapshot{}, fmt.Errorf("encode %s@%d: %w", t.stream, t.version, err)
	}
	s := Snapshot{Stream: t.stream, Version: t.version, Hash: t.hash, Format: domain.StateFormat, State: encoded}
	s.Sum = s.sum()
	return s, nil
}

// sum is what Sum must be.
func (s Snapshot) sum() [sha256.Size]byte {
	h := sha256.New()
	var n [8]byte
	for _, part := range [][]byte{[]byte(s.Stream), s.Hash[:], s.State} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	for _, number := range []uint64{s.Version, uint64(s.Format)} {
		binary.BigEndian.PutUint64(n[:], number)
		h.Write(n[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// errFormat says that another version of the program wrote a snapshot.
var errFormat = errors.New("another format")

// check reports why a snapshot cannot be used, as far as it alone tells.
func (s Snapshot) check(stream string) error {
	switch {
	case s.Format != domain.StateFormat:
		return fmt.Errorf("%w: %d, not %d", errFormat, s.Format, domain.StateFormat)
	case s.Sum != s.sum():
		return errors.New("its bytes do not match its checksum")
	case s.Stream != stream || s.Version == 0:
		return fmt.Errorf("it is of %s@%d", s.Stream, s.Version)
	}
	return nil
}

// find is the snapshot of a stream, the zero Snapshot when there is none.
func (s *snapshotter) find(ctx context.Context, stream string) Snapshot {
	if s.kept == nil {
		return Snapshot{}
	}
	found, ok, err := s.kept.Snapshot(ctx, stream)
	if ctx.Err() == nil {
		s.tell(&s.unread, "snapshots cannot be read; long streams are replayed in full", err)
	}
	if err != nil || !ok {
		return Snapshot{}
	}
	if err := found.check(stream); err != nil {
		s.discard(ctx, stream, err)
		return Snapshot{}
	}
	return found
}

// discard lets go of a snapshot that is no good. That there is one of another
// format is expected after an update and said once; anything else is not.
func (s *snapshotter) discard(ctx context.Context, stream string, why error) {
	expected := errors.Is(why, errFormat)
	s.mu.Lock()
	told := expected && s.old
	s.old = s.old || expected
	s.mu.Unlock()
	switch {
	case !expected:
		s.logger.Warn("a snapshot is not used; its stream is replayed in full", "stream", stream, "err", why)
	case !told:
		s.logger.Info("snapshots of an earlier version are replaced as their streams are loaded", "stream", stream, "err", why)
	}
	if err := s.kept.Discard(context.WithoutCancel(ctx), stream); err != nil {
		s.logger.Warn("a snapshot cannot be discarded", "stream", stream, "err", err)
	}
}

// copies are of the aggregates that the decision has brought so far that they
// are worth a snapshot. They are good once the decision is durable, and dropped
// with it.
func (d *decision) copies() (all []taken) {
	for _, touched := range d.touched {
		if t, due := d.engine.snapshots.copy(touched); due {
			all = append(all, t)
		}
	}
	return all
}

// durableCopies are the copies with the hashes that their events were sealed with.
func (o *outcome) durableCopies() []taken {
	for i, t := range o.copies {
		for _, r := range o.sealed {
			if r.Stream == t.stream && r.Version == t.version {
				o.copies[i].hash = r.Hash
			}
		}
	}
	return o.copies
}

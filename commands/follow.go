package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// The bounds of following.
const (
	// warmers is how many streams are loaded at once while the engine follows.
	warmers = 4
	// coldStreams is how many wait to be loaded. What is over it is loaded when it
	// is touched again, or by the first command that needs it.
	coldStreams = 4096
	// slowest is how long a follower waits at most before it asks a store that
	// failed again.
	slowest = 2 * time.Second
)

// follower keeps what an engine that rests knows up with the log.
type follower struct {
	role int
	cold chan string // streams to be loaded
	// newest is the version that a stream which is being loaded has come to, as
	// far as was read. It is guarded by Engine.mu.
	newest map[string]uint64
	cancel context.CancelFunc
}

// follow begins to follow the log, after what the engine knows of it.
func (e *Engine) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{
		role: e.changeRole(), cold: make(chan string, coldStreams), newest: make(map[string]uint64), cancel: cancel,
	}
	e.follower = f
	e.following.Go(func() { e.followLog(ctx, f) })
	for range warmers {
		e.following.Go(func() { e.warmAll(ctx, f) })
	}
}

// unfollow ends that. A store that hangs is not waited for unless the engine
// closes: nobody hears what it still says.
func (e *Engine) unfollow() {
	if e.follower != nil {
		e.follower.cancel()
		e.follower = nil
	}
	if closed(e.closed) {
		e.following.Wait()
	}
}

// followLog learns what is appended, for as long as the engine rests.
func (e *Engine) followLog(ctx context.Context, f *follower) {
	for pace := pause; ; pace = min(2*pace, slowest) {
		before := e.Known()
		err := e.followOnce(ctx, f)
		if ctx.Err() != nil || errors.Is(err, errStandby) {
			return
		}
		at := e.Known()
		if at > before {
			pace = pause
		}
		e.config.Logger.Warn("following the log failed; trying again", "position", at, "err", err)
		if wait(ctx, pace) != nil {
			return
		}
	}
}

func (e *Engine) followOnce(ctx context.Context, f *follower) error {
	after := e.Known()
	for batch, err := range e.config.Store.Subscribe(ctx, after) {
		if err != nil {
			return fmt.Errorf("read the log after %d: %w", after, err)
		}
		if err := e.learn(f.role, batch, f); err != nil {
			return err
		}
		if err := e.letIndexCatchUp(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// touch wants the aggregate of an event in memory, that is not. It does not wait.
// e.mu is held.
func (e *Engine) touch(f *follower, r events.Recorded, fact events.Fact, at domain.Stamp) {
	if newAggregate(r.Stream) == (note{}) {
		return // nobody else needs it
	}
	if r.Version == 1 {
		begun := newEntry(r.Stream)
		begun.state = newAggregate(r.Stream)
		if begun.follow(r, fact, at) == nil {
			e.cache.add(begun)
		}
		return
	}
	if _, loading := f.newest[r.Stream]; loading {
		f.newest[r.Stream] = r.Version
		return
	}
	select {
	case f.cold <- r.Stream:
		f.newest[r.Stream] = r.Version
	default:
	}
}

// warmAll loads the streams that are touched and not in memory.
func (e *Engine) warmAll(ctx context.Context, f *follower) {
	for {
		select {
		case stream := <-f.cold:
			e.warm(ctx, f, stream)
		case <-ctx.Done():
			return
		}
	}
}

// warm loads a stream, and reads on until the aggregate has all that the
// follower has seen. If it cannot be read, whoever needs it will hear.
func (e *Engine) warm(ctx context.Context, f *follower, stream string) {
	loaded := newEntry(stream)
	err := loaded.load(ctx, e.config.Store, e.snapshots)
	for !e.adopt(f, loaded, err) {
		err = loaded.readOn(ctx, e.config.Store)
	}
}

// adopt puts an aggregate into the cache, unless it could not be read. It returns
// false when there is more to be read first.
func (e *Engine) adopt(f *follower, loaded *entry, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.role != f.role {
		return true
	}
	if err == nil && loaded.version < f.newest[loaded.stream] {
		return false
	}
	delete(f.newest, loaded.stream)
	if err == nil {
		e.cache.add(loaded)
	}
	return true
}

// Known is the position of the newest event the engine knows. It asks nobody.
func (e *Engine) Known() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.head
}

// setClock makes the recorded times continue from the newest event the index
// knows, whatever the clock says after a restart.
func (e *Engine) setClock(ctx context.Context) error {
	if e.head == 0 {
		return nil
	}
	for batch, err := range e.config.Store.Subscribe(ctx, e.head-1) {
		if err != nil {
			return fmt.Errorf("read the log at %d: %w", e.head, err)
		}
		meta, err := batch[0].Metadata()
		e.clock = meta.Recorded
		return err
	}
	return nil
}

// catchUp learns what the log holds after the newest event the engine knows, up
// to its end as it is now.
func (e *Engine) catchUp(ctx context.Context, role int) error {
	head, err := e.config.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the head of the log: %w", err)
	}
	after := e.Known()
	if head <= after {
		return nil
	}
	for batch, err := range e.config.Store.Subscribe(ctx, after) {
		if err != nil {
			return fmt.Errorf("read the log after %d: %w", after, err)
		}
		if err := e.learn(role, batch, nil); err != nil {
			return err
		}
		if e.Known() >= head {
			break
		}
		if err := e.letIndexCatchUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// learn takes in what was read from the log: it remembers the commands, and
// folds the facts onto the aggregates in memory. A follower, if there is one,
// wants the others there, too. It fails with errStandby when the engine no longer
// has the role it is done for.
func (e *Engine) learn(role int, batch []events.Recorded, f *follower) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.role != role {
		return errStandby
	}
	for _, r := range batch {
		meta, err := r.Metadata()
		if err != nil {
			return err
		}
		fact, err := r.Fact()
		if err != nil {
			return err
		}
		e.recent.read(r.Position, &meta, fact)
		e.head = r.Position
		if meta.Recorded.After(e.clock) {
			e.clock = meta.Recorded
		}
		at := domain.Stamp{Version: r.Version, At: meta.Recorded}
		if !e.cache.fold(r, fact, at) && f != nil {
			e.touch(f, r, fact, at)
		}
	}
	return nil
}

// letIndexCatchUp forgets what the index knows, and waits while that is too
// little: read models that were deleted are being built anew.
func (e *Engine) letIndexCatchUp(ctx context.Context) error {
	for told := false; ; told = true {
		known := e.config.Index.Position()
		e.mu.Lock()
		e.recent.forget(known)
		full, read := e.recent.full(), e.head
		e.mu.Unlock()
		if !full {
			return nil
		}
		if !told {
			e.config.Logger.Warn("waiting for the read models, which are being built", "position", known, "read", read)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

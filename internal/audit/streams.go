package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stockledger/stockledger/events"
)

// lookups is how many streams are read at once: a store that is elsewhere takes a
// while for each.
const lookups = 4

// readStreams reads every stream by its name, as the engine does before it decides.
// The log that was read from its first event on has none of the indexes in it that
// lead there, and no chain: an index that has lost the last row of a stream, or the
// way from one page of it to the next, makes the stream shorter, and nothing else.
//
// Where the log itself is broken there is nothing to compare with.
func (v *verification) readStreams(ctx context.Context) error {
	if v.checks.byName["chain"].Wrong+v.checks.byName["positions"].Wrong > 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		streams = make(chan key)
		mu      sync.Mutex // of the checks, and of failed
		failed  error
		done    atomic.Uint64
		all     sync.WaitGroup
	)
	for range lookups {
		all.Go(func() {
			for k := range streams {
				at := v.pass.ends[k]
				wrong, err := v.streamEnds(ctx, at.stream, v.pass.chain[k])
				mu.Lock()
				switch {
				case err != nil:
					failed = errors.Join(failed, err)
					cancel()
				case !v.checks.see("streams", wrong == ""):
					v.checks.find("streams", Finding{Position: at.position, Stream: at.stream}, "%s", wrong)
				}
				mu.Unlock()
				if n := done.Add(1); n%1000 == 0 {
					mu.Lock()
					v.cfg.Progress("streams", n, uint64(len(v.pass.chain)))
					mu.Unlock()
				}
			}
		})
	}
	for k := range v.pass.chain {
		select {
		case streams <- k:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(streams)
	all.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

// streamEnds says what is wrong with the end of a stream that is read by its name,
// "" when it is the last event that the log has of it. It may have gone on since.
func (v *verification) streamEnds(ctx context.Context, stream string, last link) (wrong string, err error) {
	for e, err := range v.cfg.Store.Read(ctx, stream, 0) {
		switch {
		case err == nil && e.Version < last.version:
			continue
		case ctx.Err() != nil, errors.Is(err, events.ErrClosed), errors.Is(err, events.ErrOtherLog):
			return "", err
		case err != nil:
			return fmt.Sprintf("%s cannot be read by its name up to version %d: %v", stream, last.version, err), nil
		case v.seeds.link(&e) != last:
			return fmt.Sprintf("%s, read by its name, has another version %d than the log", stream, last.version), nil
		}
		return "", nil
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	return fmt.Sprintf("%s, read by its name, ends before version %d, which the log has: the index of its streams is damaged", stream, last.version), nil
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// MemoryConfig says how large a ledger is whose memory is taken.
type MemoryConfig struct {
	Items   int           `json:"items"`
	Levels  int           `json:"levels"` // of each item
	Callers int           `json:"callers"`
	Adjust  time.Duration `json:"-"` // how long levels are adjusted at random, once all is there
}

// Memory is how much memory a ledger takes, in bytes, and what it holds then.
type Memory struct {
	Config   MemoryConfig `json:"config"`
	Events   uint64       `json:"events"`
	Loaded   float64      `json:"loading_seconds"` // until the read models had all of it
	Adjusted int          `json:"adjustments"`     // after that
	Cached   int          `json:"cached_streams"`
	// Peak is the most that was resident at any time, PeakLoading until everything was
	// there, After at the end. 0 is not known.
	PeakLoading int64 `json:"peak_loading_bytes"`
	Peak        int64 `json:"peak_bytes"`
	After       int64 `json:"after_bytes"`
	Heap        int64 `json:"live_heap_bytes"` // at the end, what the garbage collector found alive last
	Log         int64 `json:"log_bytes"`
	Models      int64 `json:"models_bytes"`
}

// TakeMemory fills a ledger in this process and says how much memory it took. The
// process should have done nothing before.
func (b *Bench) TakeMemory(ctx context.Context, config MemoryConfig) (m Memory, err error) {
	m.Config = config
	dir, remove, err := b.fresh("memory")
	if err != nil {
		return m, err
	}
	defer remove()
	s := &subject{dir: dir, stocked: make([]atomic.Int64, config.Items), reserved: make([]atomic.Int64, config.Items)}
	if err := s.openLedger(ctx, b); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	begin := b.Now()
	if err := s.fill(ctx, b, config); err != nil {
		return m, err
	}
	m.Loaded, m.PeakLoading = b.Now().Sub(begin).Seconds(), peakResident()
	s.items = make([]string, config.Items)
	for i := range s.items {
		s.items[i] = fmt.Sprint("item_", i)
	}
	load := Load{Callers: config.Callers, Duration: config.Adjust, WarmUp: time.Millisecond}
	figures, err := b.drive(ctx, Figures{What: "adjusting at random"}, load, s.workers(b, inGo{s.ledger}, config.Callers, AllAdjust))
	if err == nil && figures.Errors > 0 {
		err = fmt.Errorf("%d adjustments failed: %s", figures.Errors, figures.Error)
	}
	if err != nil {
		return m, err
	}
	m.Adjusted, m.Cached = figures.Done, s.ledger.Cached()
	m.Peak, m.After, m.Heap = peakResident(), resident(), liveHeap()
	m.Log, m.Models = bytesOf(filepath.Join(dir, "log.db*")), bytesOf(filepath.Join(dir, "models", "*"))
	m.Events, err = s.ledger.Events().Head(ctx)
	return m, err
}

// fill makes the items in batches, and waits until the read models have them.
func (s *subject) fill(ctx context.Context, b *Bench, config MemoryConfig) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 4 { // so that decoding, deciding and writing go on side by side
		all.Go(func() {
			for ctx.Err() == nil {
				first := int(next.Add(batch)) - batch
				if first >= config.Items {
					return
				}
				if err := s.fillBatch(ctx, first, min(first+batch, config.Items), config.Levels); err != nil {
					stop(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for filling := true; filling; {
		select {
		case <-done:
			filling = false
		default:
			pause(ctx, 200*time.Millisecond)
			b.Progress("making items", min(uint64(next.Load()), uint64(config.Items)), uint64(config.Items)) //nolint:gosec // G115: not negative
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.caughtUp(ctx, b)
}

// caughtUp waits for the read models, however long they take.
func (s *subject) caughtUp(ctx context.Context, b *Bench) error {
	head, err := s.ledger.Events().Head(ctx)
	if err != nil {
		return err
	}
	for at := s.ledger.Models().Position(); at < head; at = s.ledger.Models().Position() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.Progress("read models", at, head)
		pause(ctx, 200*time.Millisecond)
	}
	return s.ledger.Models().WaitFor(ctx, head)
}

func (s *subject) fillBatch(ctx context.Context, first, end, levels int) error {
	items := make([]string, 0, end-first)
	for i := first; i < end; i++ {
		at := make([]string, levels)
		for l := range at {
			at[l] = fmt.Sprintf(`{"location_id":%q,"stocked_quantity":100}`, placeNumber(l))
		}
		items = append(items, fmt.Sprintf(`{"id":"item_%d","sku":"sku-%d","title":"Thing %d","location_levels":[%s]}`, i, i, i, strings.Join(at, ",")))
	}
	for {
		_, err := s.ledger.DoJSON(ctx, commands.Envelope{Key: fmt.Sprint("fill-", first), Actor: "bench"}, "create-inventory-items",
			[]byte("["+strings.Join(items, ",")+"]"))
		if fault.Code(err) != "index_behind" || ctx.Err() != nil { // or else the read models are too far behind for more
			return err
		}
	}
}

// placeNumber is the name of a location; the first is where loads adjust.
func placeNumber(n int) string {
	if n == 0 {
		return place
	}
	return fmt.Sprint("place-", n)
}

// resident is how much of this process is in memory, 0 where that is not known.
func resident() int64 { return kibibytes(field("/proc/self/status", "VmRSS")) }

// peakResident is the most that ever was.
func peakResident() int64 { return kibibytes(field("/proc/self/status", "VmHWM")) }

// liveHeap is what the garbage collector found alive last.
func liveHeap() int64 { return int64(measured("/gc/heap/live:bytes")) } //nolint:gosec // G115: below 2^63

func goroutines() int { return int(measured("/sched/goroutines:goroutines")) } //nolint:gosec // G115: a few hundred

func measured(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// bytesOf is the size of the files that match a pattern.
func bytesOf(pattern string) (sum int64) {
	files, _ := filepath.Glob(pattern)
	for _, file := range files {
		if about, err := os.Stat(file); err == nil {
			sum += about.Size()
		}
	}
	return sum
}

// openFiles is how many files, sockets and the like this process has open, 0 where
// that is not known.
func openFiles() int {
	open, _ := os.ReadDir("/proc/self/fd")
	return len(open)
}

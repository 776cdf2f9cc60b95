package bench

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Load says how hard something is pushed, and for how long.
type Load struct {
	Callers  int           `json:"callers"`
	Duration time.Duration `json:"-"`
	WarmUp   time.Duration `json:"-"` // before anything counts; 0 is a fifth of Duration, and at most a second
}

// MaxCallers bounds how many callers there can be: PostgreSQL has a process for each.
const MaxCallers = 256

func (l Load) warmUp() time.Duration {
	if l.WarmUp > 0 {
		return l.WarmUp
	}
	return min(l.Duration/5, time.Second)
}

// Figures are what a load found out. Times are in milliseconds, of everything that
// ended while it was measured; a percentile is the smallest time that so many of all
// samples do not exceed, none of them estimated.
type Figures struct {
	What    string  `json:"what"`
	Durable bool    `json:"durable"` // on the disk before it is answered
	Callers int     `json:"callers"`
	Seconds float64 `json:"seconds"`
	Done    int     `json:"done"`
	Rate    float64 `json:"per_second"`
	P50     float64 `json:"p50_ms"`
	P95     float64 `json:"p95_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	// Group is how many were made durable at once, in the mean; 0 is not known.
	Group float64 `json:"mean_group,omitempty"`
	// Bytes that each of them has in the log or in the file.
	Bytes float64 `json:"bytes_each,omitempty"`
	// CPU is the processor time of this process for each of them, in microseconds:
	// that of its callers, too, and not that of other processes.
	CPU float64 `json:"processor_us_each"`
	// Errors counts what failed, also before and after what was measured; Error is
	// one of them.
	Errors int    `json:"errors"`
	Error  string `json:"error,omitempty"`
	// Kinds are the figures of each kind, where there are several.
	Kinds map[string]Figures `json:"kinds,omitempty"`
}

// A worker does one thing after the other, and says of which kind it was.
type worker func(ctx context.Context) (Kind, error)

// patience of a caller with what fails: it gives up after so many errors.
const patience = 100

// samples are how long things took, by kind.
type samples [kinds][]time.Duration

// run is a load under way. What ends between from and until counts.
type run struct {
	now         func() time.Time
	from, until time.Time
	mu          sync.Mutex
	took        samples
	errors      int
	err         error
}

// drive has every worker work in a goroutine of its own until the time is up, and
// waits for all of them. The error is that ctx is done; what workers fail with is in
// the figures.
func (b *Bench) drive(ctx context.Context, f Figures, load Load, workers []worker) (Figures, error) {
	quietDisks()
	begin := b.Now()
	r := &run{now: b.Now, from: begin.Add(load.warmUp())}
	r.until = r.from.Add(load.Duration)
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() { r.work(ctx, w) })
	}
	spent := b.watch(ctx, f.What, begin, r)
	all.Wait()
	if ctx.Err() != nil {
		return f, context.Cause(ctx)
	}
	f.Callers, f.Seconds, f.Errors = len(workers), load.Duration.Seconds(), r.errors
	if r.err != nil {
		f.Error = r.err.Error()
	}
	f.tell(r.took)
	if f.Done > 0 {
		f.CPU = float64(spent.Microseconds()) / float64(f.Done)
	}
	return f, nil
}

// watch tells how far a load is until its time is up, and returns the processor time
// that was spent while it was measured.
func (b *Bench) watch(ctx context.Context, what string, begin time.Time, r *run) time.Duration {
	total := uint64(r.until.Sub(begin).Milliseconds()) //nolint:gosec // G115: a duration of ours
	wait := func(until time.Time) {
		for ctx.Err() == nil {
			left := until.Sub(b.Now())
			if left <= 0 {
				return
			}
			pause(ctx, min(left, 200*time.Millisecond))
			b.Progress(what, min(total, uint64(max(0, b.Now().Sub(begin).Milliseconds()))), total)
		}
	}
	wait(r.from)
	before := processorTime()
	wait(r.until)
	return processorTime() - before
}

// pause waits for so long, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

func (r *run) work(ctx context.Context, w worker) {
	var took samples
	var failed int
	var last error
	for start := r.now(); start.Before(r.until) && failed < patience && ctx.Err() == nil; {
		kind, err := w(ctx)
		end := r.now()
		switch {
		case err != nil:
			failed, last = failed+1, err
		case end.After(r.from) && !end.After(r.until):
			took[kind] = append(took[kind], end.Sub(start))
		}
		start = end
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors += failed
	if last != nil {
		r.err = last
	}
	for kind := range took {
		r.took[kind] = append(r.took[kind], took[kind]...)
	}
}

// tell fills in what the samples say.
func (f *Figures) tell(took samples) {
	var all []time.Duration
	of := 0
	for _, of1 := range took {
		all = append(all, of1...)
		if len(of1) > 0 {
			of++
		}
	}
	f.summarize(all)
	if of < 2 {
		return
	}
	f.Kinds = make(map[string]Figures, of)
	for kind, of1 := range took {
		if len(of1) > 0 {
			one := Figures{What: Kind(kind).String(), Durable: Kind(kind) != Read, Callers: f.Callers, Seconds: f.Seconds}
			one.summarize(of1)
			f.Kinds[one.What] = one
		}
	}
}

func (f *Figures) summarize(took []time.Duration) {
	slices.Sort(took)
	f.Done, f.Rate = len(took), float64(len(took))/f.Seconds
	if len(took) == 0 {
		return
	}
	f.P50, f.P95, f.P99 = millis(percentile(took, 50)), millis(percentile(took, 95)), millis(percentile(took, 99))
	f.Max = millis(took[len(took)-1])
}

// percentile is the smallest of sorted times that percent of 100 do not exceed.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

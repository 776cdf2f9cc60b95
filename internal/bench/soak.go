package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/stockledger/stockledger/internal/figures"
)

// SoakConfig says how long a ledger is under full load.
type SoakConfig struct {
	LoadConfig
	Every time.Duration `json:"-"` // a sample
}

// A Sample is how a process under load is at one time, and what it did since the
// sample before.
type Sample struct {
	Second     float64 `json:"second"`
	Rate       float64 `json:"per_second"`
	P99        float64 `json:"p99_ms"`
	Resident   int64   `json:"resident_bytes"`
	Heap       int64   `json:"live_heap_bytes"`
	Goroutines int     `json:"goroutines"`
	Files      int     `json:"open_files"`
	Log        int64   `json:"log_bytes"`
	Behind     uint64  `json:"models_behind"` // events that the read models have yet to fold
}

// A Soak is what a long load found out.
type Soak struct {
	Machine Machine    `json:"machine"`
	Config  LoadConfig `json:"load"`
	Minutes float64    `json:"minutes"`
	Samples []Sample   `json:"samples"`
	Trends  []Trend    `json:"trends"`
	Check   Check      `json:"check"`
	Errors  int        `json:"errors"`
	Error   string     `json:"error,omitempty"`
}

// A Trend compares the median of the samples of the last quarter with that of the
// second: by then caches are full, and what grows still will grow for ever.
type Trend struct {
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Second float64 `json:"second_quarter"`
	Last   float64 `json:"last_quarter"`
	// Allowed is how much Last may be at most: a tenth more than Second, and a little
	// for what comes and goes.
	Allowed float64 `json:"allowed"`
	Flat    bool    `json:"flat"`
}

// Rule says when a soak is flat.
const Rule = "flat is: the median of the last quarter is at most a tenth above that of the second quarter, and a little: 16 MiB, 16 goroutines, 4 files"

// Flat reports whether nothing grows.
func (s Soak) Flat() bool {
	return !slices.ContainsFunc(s.Trends, func(t Trend) bool { return !t.Flat })
}

// Err is what is wrong, also that something grows.
func (s Soak) Err() error {
	errs := []error{s.Check.Err()}
	if s.Errors > 0 {
		errs = append(errs, fmt.Errorf("%d errors, such as: %s", s.Errors, s.Error))
	}
	for _, t := range s.Trends {
		if !t.Flat {
			errs = append(errs, fmt.Errorf("%s grows: %s %s in the second quarter, %s in the last", t.What, figures.Thousands(t.Second), t.Unit, figures.Thousands(t.Last)))
		}
	}
	return errors.Join(errs...)
}

// Soak puts a new ledger under full load for long, looks at the process now and then,
// and checks the ledger in the end.
func (b *Bench) Soak(ctx context.Context, config SoakConfig) (soak Soak, err error) {
	soak = Soak{Machine: b.machine, Config: config.LoadConfig, Minutes: config.Duration.Minutes()}
	dir, remove, err := b.fresh("soak")
	if err != nil {
		return soak, err
	}
	defer remove()
	s, err := b.openSubject(ctx, dir, config.Items)
	if err != nil {
		return soak, err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	at, end, err := s.open(ctx, config.Transport, config.Feed)
	if err != nil {
		return soak, err
	}
	soak.Samples, err = b.soak(ctx, s, s.workers(b, at, config.Callers, config.Mix), config, &soak)
	if err := errors.Join(err, end()); err != nil {
		return soak, err
	}
	soak.Trends = trends(soak.Samples)
	b.Progress("checking the ledger", 0, uint64(s.commits.Load())) //nolint:gosec // G115: not negative
	soak.Check, err = s.check(ctx)
	return soak, err
}

// A window is what a caller did since it was looked at last.
type window struct {
	mu   sync.Mutex
	took []time.Duration
}

func (w *window) add(d time.Duration) {
	w.mu.Lock()
	w.took = append(w.took, d)
	w.mu.Unlock()
}

// take moves what is in the window to the end of all.
func (w *window) take(all []time.Duration) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	all = append(all, w.took...)
	w.took = w.took[:0]
	return all
}

// soak has the workers work until the time is up, and takes the samples.
func (b *Bench) soak(ctx context.Context, s *subject, workers []worker, config SoakConfig, soak *Soak) (samples []Sample, err error) {
	begin := b.Now()
	until := begin.Add(config.Duration)
	windows := make([]window, len(workers))
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, w := range workers {
		all.Go(func() {
			failed := 0
			for start := b.Now(); start.Before(until) && ctx.Err() == nil && failed < patience; {
				_, err := w(ctx)
				now := b.Now()
				if err != nil {
					failed++
					mu.Lock()
					soak.Errors, soak.Error = soak.Errors+1, err.Error()
					mu.Unlock()
				} else {
					windows[i].add(now.Sub(start))
				}
				start = now
			}
		})
	}
	var took []time.Duration
	for last := begin; last.Before(until) && ctx.Err() == nil; {
		pause(ctx, min(config.Every, until.Sub(last)))
		took = took[:0]
		for i := range windows {
			took = windows[i].take(took)
		}
		now := b.Now()
		sample := s.sample(now.Sub(begin), now.Sub(last), took)
		samples, last = append(samples, sample), now
		b.Progress("soak", uint64(sample.Second), uint64(config.Duration.Seconds()))
	}
	all.Wait()
	if ctx.Err() != nil {
		return samples, context.Cause(ctx)
	}
	return samples, nil
}

// sample looks at the process.
func (s *subject) sample(at, since time.Duration, took []time.Duration) Sample {
	f := Figures{Seconds: since.Seconds()}
	f.summarize(took)
	sample := Sample{
		Second: at.Seconds(), Rate: f.Rate, P99: f.P99, Resident: resident(), Heap: liveHeap(), Goroutines: goroutines(), Files: openFiles(),
		Log: bytesOf(filepath.Join(s.dir, "log.db*")),
	}
	done, folded := s.seeded+uint64(s.events.Load()), s.ledger.Models().Position() //nolint:gosec // G115: not negative
	sample.Behind = max(done, folded) - folded
	return sample
}

// trends are the trends of what must not grow.
func trends(samples []Sample) []Trend {
	const mebibyte = 1 << 20
	of := func(what, unit string, spare float64, value func(Sample) float64) Trend {
		quarter := func(n int) float64 {
			part := samples[len(samples)*n/4 : max(len(samples)*n/4+1, len(samples)*(n+1)/4)]
			values := make([]float64, len(part))
			for i, s := range part {
				values[i] = value(s)
			}
			return figures.Median(values)
		}
		t := Trend{What: what, Unit: unit, Second: quarter(1), Last: quarter(3)}
		t.Allowed = t.Second*1.1 + spare
		t.Flat = t.Last <= t.Allowed
		return t
	}
	if len(samples) == 0 {
		return nil
	}
	return []Trend{
		of("resident memory", "MiB", 16, func(s Sample) float64 { return float64(s.Resident) / mebibyte }),
		of("live heap", "MiB", 16, func(s Sample) float64 { return float64(s.Heap) / mebibyte }),
		of("goroutines", "", 16, func(s Sample) float64 { return float64(s.Goroutines) }),
		of("open files", "", 4, func(s Sample) float64 { return float64(s.Files) }),
	}
}

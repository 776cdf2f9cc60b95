package operations

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/stockledger/stockledger/internal/fault"
)

const (
	// patience is how long whoever starts a job waits for it to be done.
	patience = 2 * time.Second
	// longestWait is how long an answer on a job may take: less than transports
	// and what is between here and the client allow.
	longestWait = 30 * time.Second
	// kept is how many jobs of one kind are remembered when they are done.
	kept = 4
)

// jobs are those under way and the last ones that are done.
type jobs struct {
	logger *slog.Logger
	hears  func(operation string, err error) // of jobs that have ended
	work   sync.WaitGroup
	life   context.Context //nolint:containedctx // of the jobs, which outlive the requests that start them
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	byKind map[string][]*job // the newest last
}

func newJobs(logger *slog.Logger, hears func(string, error)) *jobs {
	if hears == nil {
		hears = func(string, error) {}
	}
	j := &jobs{logger: logger, hears: hears, byKind: make(map[string][]*job)}
	j.life, j.cancel = context.WithCancel(context.Background())
	return j
}

// A job is an operation under way, or done.
type job struct {
	id, operation string
	asked         string // its parameters

	done chan struct{} // closed when it is; result and err are set before
	// result and err are how it ended.
	result any
	err    error

	mu    sync.Mutex
	stage string
	at    uint64
	total uint64
}

// A Job is how far a job with a result of type R is.
type Job[R any] struct {
	Job       string `json:"job"` // its id
	Operation string `json:"operation"`
	Done      bool   `json:"done"`
	// Stage is what it is doing now, Progress and Total how far with that. Total
	// is 0 where nobody knows.
	Stage    string `json:"stage"`
	Progress uint64 `json:"progress"`
	Total    uint64 `json:"total"`
	// Result is there once it is done, or Error when it failed.
	Result R             `json:"result,omitempty"`
	Error  *fault.Answer `json:"error,omitempty"`
}

// start starts a job, or finds the one that does the same already.
func (j *jobs) start(name string, asked any, do func(context.Context, progressing) (any, error)) (*job, error) {
	parameters, err := json.Marshal(asked)
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, fault.New(fault.Unavailable, "closing", "the ledger is shutting down; nothing was started")
	}
	if all := j.byKind[name]; len(all) > 0 {
		if last := all[len(all)-1]; !last.ended() {
			if last.asked == string(parameters) {
				return last, nil
			}
			return nil, fault.New(fault.Conflict, "job_running",
				"another %s is under way, asked for with %s; wait until it is done, and start this one then", name, last.asked).
				With("job", last.id).With("operation", name)
		}
		j.byKind[name] = slices.Clone(all[max(0, len(all)-kept+1):])
	}
	started := &job{id: "job_" + uuid.Must(uuid.NewV7()).String(), operation: name, asked: string(parameters), done: make(chan struct{})}
	j.byKind[name] = append(j.byKind[name], started)
	j.logger.Info("an operation has begun", "operation", name, "job", started.id, "asked", started.asked)
	j.work.Go(func() { j.run(started, do) })
	return started, nil
}

// run does the work of a job.
func (j *jobs) run(b *job, do func(context.Context, progressing) (any, error)) {
	defer close(b.done)
	b.result, b.err = b.guarded(j.life, do)
	switch {
	case b.err == nil:
		j.logger.Info("an operation is done", "operation", b.operation, "job", b.id)
	case j.life.Err() != nil:
		b.err = fault.New(fault.Unavailable, "closing", "the ledger was shut down before %s was done", b.operation)
	case fault.Of(b.err).Kind != fault.Internal:
		j.logger.Warn("an operation was refused", "operation", b.operation, "job", b.id, "err", b.err)
	default:
		j.logger.Error("an operation has failed", "operation", b.operation, "job", b.id, "err", b.err)
	}
	j.hears(b.operation, b.err)
}

func (b *job) guarded(ctx context.Context, do func(context.Context, progressing) (any, error)) (result any, err error) {
	defer mend(b.operation, &err)
	return do(ctx, b.tell)
}

// tell notes how far the job is.
func (b *job) tell(stage string, done, total uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stage, b.at, b.total = stage, done, total
}

func (b *job) ended() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// wait is how far the job is when it is done, or when so much time has passed.
func (b *job) wait(ctx context.Context, d time.Duration) Job[any] {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-b.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return b.now()
}

// now is how far the job is.
func (b *job) now() Job[any] {
	ended := b.ended()
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := Job[any]{Job: b.id, Operation: b.operation, Done: ended, Stage: b.stage, Progress: b.at, Total: b.total}
	if ended {
		answer.Result = b.result
		if b.err != nil {
			why := fault.Public(b.err)
			answer.Result, answer.Error = nil, &why
		}
	}
	return answer
}

// An ID names a job.
type ID struct {
	Job string `json:"job"`
	// Wait is how many seconds to wait for it to be done.
	Wait float64 `json:"wait_seconds"`
}

// job answers how far a job is.
func (o *Operations) job(ctx context.Context, which ID) (Job[any], error) {
	if which.Wait < 0 || which.Wait > longestWait.Seconds() {
		return Job[any]{}, fault.New(fault.Invalid, "invalid_data", "wait_seconds must be from 0 to %v", longestWait.Seconds()).
			With("field", "wait_seconds")
	}
	found := o.jobs.find(which.Job)
	if found == nil {
		return Job[any]{}, fault.New(fault.NotFound, "unknown_job",
			"there is no job %q; the last %d of each operation are kept until the ledger is closed", which.Job, kept).With("job", which.Job)
	}
	return found.wait(ctx, time.Duration(which.Wait*float64(time.Second))), nil
}

func (j *jobs) find(id string) *job {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, all := range j.byKind {
		for _, b := range all {
			if b.id == id {
				return b
			}
		}
	}
	return nil
}

// close takes no more jobs, gives up those under way, and waits for them.
func (j *jobs) close() {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.cancel()
	j.work.Wait()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// A sender sends the rows of a file, many at once, and collects the verdicts in
// the order of the rows. What is in memory is a window of the file.
type sender struct {
	ledger   ledger
	file     csvFile
	mapping  *mapping
	id       string // of the import
	actor    string
	dryRun   bool
	inFlight int
	patience patience
	items    skus
	journal  *journal

	settled numbers // rows the ledger must have
	newest  uint64  // highest position of an answer
}

// A job is a row on its way. The verdict is there when done is closed.
type job struct {
	line
	verdict  string // accepted, replayed, …
	position uint64
	refusal  error
	done     chan struct{}
}

// The verdicts.
const (
	isAccepted  = "accepted"
	isReplayed  = "replayed"
	isJournaled = "journaled" // replayed, by what the journal says
	isSame      = "same item"
	isRefused   = "refused"
	isBad       = "bad"
	isUnknown   = "unknown"
)

// run sends all rows. Rows that could not be sent are counted as unknown, with why
// the first of them was not, and are no error.
func (s *sender) run(ctx context.Context, reportPath string, rows int) (sum totals, err error) {
	report, err := openReport(reportPath)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, report.close()) }()
	s.patience.progress.begin("import", rows)
	defer s.patience.progress.end()

	start := time.Now()
	sum = totals{Import: s.id, DryRun: s.dryRun, adjusts: s.mapping.name == adjustmentRows.name}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	failed := make(chan error, 1)
	var broken error
	for j := range s.start(ctx, stop, failed) {
		<-j.done
		if broken != nil {
			continue
		}
		if broken = s.collect(&sum, j, report); broken != nil {
			stop(broken)
		}
	}
	if err := errors.Join(broken, <-failed); err != nil {
		return sum, err
	}
	sum.Unknown += rows - sum.Rows // those that were not even read
	sum.Rows, sum.stopped = rows, context.Cause(ctx)
	sum.Seconds = time.Since(start).Seconds()
	s.patience.progress.end()
	s.patience.progress.say("%s in %.1f s", several(rows-sum.Unknown, "row"), sum.Seconds)
	return sum, nil
}

// start reads the file and sends its rows in the background. The jobs come out
// in the order of the rows, some before they are done.
func (s *sender) start(ctx context.Context, stop context.CancelCauseFunc, failed chan<- error) <-chan *job {
	queue, inOrder := make(chan *job), make(chan *job, 4*s.inFlight)
	var workers sync.WaitGroup
	for range s.inFlight {
		workers.Go(func() {
			for j := range queue {
				s.send(ctx, j)
				if j.verdict == isUnknown {
					stop(j.refusal)
				}
				close(j.done)
			}
		})
	}
	go func() {
		err := s.read(ctx, func(j *job) {
			inOrder <- j
			queue <- j
		})
		close(queue)
		workers.Wait()
		failed <- err
		close(inOrder)
	}()
	return inOrder
}

// batch is how many rows are looked up by SKU in one query.
const batch = 500

// read reads rows until the end of the file or of ctx.
func (s *sender) read(ctx context.Context, give func(*job)) error {
	waiting := make([]*job, 0, batch)
	flush := func() error {
		err := s.identify(ctx, waiting)
		for _, j := range waiting {
			give(j)
		}
		waiting = waiting[:0]
		return err
	}
	for l, err := range s.file.lines(s.mapping, io.Discard) {
		if err != nil {
			return errors.Join(flush(), err)
		}
		waiting = append(waiting, &job{line: l, verdict: s.foregone(l), done: make(chan struct{})})
		if len(waiting) == batch {
			if err := flush(); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
		}
	}
	return flush()
}

// foregone is the verdict on a row that need not be sent, "" for the others.
func (s *sender) foregone(l line) string {
	switch {
	case l.bad != nil:
		return isBad
	case l.again:
		return isSame
	case s.journal.has(l.number):
		return isJournaled
	default:
		return ""
	}
}

// identify finds the items of the rows that name them by SKU.
func (s *sender) identify(ctx context.Context, jobs []*job) error {
	var wanted []string
	for _, j := range jobs {
		if j.verdict == "" && j.sku != "" {
			wanted = append(wanted, j.sku)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	err := s.patience.try(ctx, func(ctx context.Context) error { return s.items.find(ctx, s.ledger, wanted) })
	for _, j := range jobs {
		if j.verdict != "" || j.sku == "" {
			continue
		}
		if id, found := s.items.ids[j.sku]; found {
			j.fields["inventory_item_id"] = quoted(id)
		} else if err != nil {
			j.verdict, j.refusal = isUnknown, err
		} else {
			j.verdict = isRefused
			j.refusal = fault.New(fault.NotFound, "not_found", "no item has the SKU %q", j.sku).With("sku", j.sku)
		}
	}
	if err != nil && exitCode(err) != exitUnavailable && ctx.Err() == nil {
		return err
	}
	return nil // where the ledger did not answer, the verdicts say so
}

// send sends a row and notes what came of it.
func (s *sender) send(ctx context.Context, j *job) {
	if j.verdict != "" {
		return
	}
	body, err := s.mapping.encode(j.line)
	if err != nil {
		j.verdict, j.refusal = isBad, err
		return
	}
	env := j.env
	env.Key, env.Correlation, env.DryRun = s.key(j.number), s.id, s.dryRun
	if env.Actor == "" {
		env.Actor = s.actor
	}
	var answer commands.Answer
	err = s.patience.try(ctx, func(ctx context.Context) (err error) {
		answer, err = s.ledger.Command(ctx, s.mapping.command, env, body)
		return err
	})
	switch {
	case err == nil && answer.Replayed:
		j.verdict, j.position = isReplayed, answer.Position
	case err == nil:
		j.verdict, j.position = isAccepted, answer.Position
	case exitCode(err) == exitRefused:
		j.verdict, j.refusal = isRefused, err
	default:
		j.verdict, j.refusal = isUnknown, err
	}
}

// key is the idempotency key of a row.
func (s *sender) key(number int) string { return s.id + ":" + strconv.Itoa(number) }

// collect counts a row.
func (s *sender) collect(sum *totals, j *job, report *verdicts) error {
	s.patience.progress.add(1)
	sum.Rows++
	switch j.verdict {
	case isAccepted:
		sum.Accepted++
	case isReplayed:
		sum.Replayed++
	case isJournaled:
		sum.Replayed++
		sum.Journaled++
	case isSame:
		sum.Same++
	case isBad:
		sum.Bad++
		j.refusal = j.bad
	case isUnknown:
		sum.Unknown++
	case isRefused:
		if sum.Refused++; sum.Refused <= listed {
			s.patience.progress.say("%s:%d: row %d: refused: %s (%s)", s.file.path, j.at, j.number, cell(j.refusal.Error()), codeOf(j.refusal))
		} else if sum.Refused == listed+1 {
			s.patience.progress.say("… further refusals are not listed; --report FILE has them all")
		}
	}
	if j.verdict == isAccepted || j.verdict == isReplayed || j.verdict == isJournaled {
		sum.Adjustment = sum.Adjustment.Plus(j.adjustment)
		s.settled.add(j.number)
		s.newest = max(s.newest, j.position)
	}
	if j.verdict == isAccepted || j.verdict == isReplayed {
		if err := s.journal.accepted(j.number); err != nil {
			return fmt.Errorf("import journal: %w", err)
		}
	}
	return report.add(s.key(j.number), j)
}

// held asks the ledger how many of the rows it must have it has.
func (s *sender) held(ctx context.Context) (*int, error) {
	s.patience.progress.begin("compare", -1)
	defer s.patience.progress.end()
	held, keys := 0, make([]string, 0, 2*batch)
	count := func() error {
		if len(keys) == 0 {
			return nil
		}
		params := map[string]any{"command_id": keys, "take": 0, "after": s.newest}
		err := s.patience.try(ctx, func(ctx context.Context) error {
			p, err := ask[page](ctx, s.ledger, "list-commands", params)
			held += int(p.total()) //nolint:gosec // G115: at most as many as keys
			return err
		})
		s.patience.progress.add(len(keys))
		keys = keys[:0]
		return err
	}
	for number := range len(s.settled.bits) * 64 {
		if s.settled.has(number) {
			keys = append(keys, s.key(number))
		}
		if len(keys) == cap(keys) {
			if err := count(); err != nil {
				return nil, err
			}
		}
	}
	err := count()
	return &held, err
}

// patience is how long to go on when the ledger does not answer.
type patience struct {
	bound    time.Duration // of an outage
	once     time.Duration // of a single answer
	progress *progress
}

// try does it until the ledger answers, yes or no, or the bound has passed. What
// is tried must be safe to do twice.
func (p patience) try(ctx context.Context, do func(context.Context) error) error {
	deadline := time.Now().Add(p.bound)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		one, cancel := context.WithTimeout(ctx, p.once)
		err := do(one)
		cancel()
		if exitCode(err) != exitUnavailable || err == nil || ctx.Err() != nil || time.Now().Add(pause).After(deadline) {
			return err
		}
		if pause >= 400*time.Millisecond {
			p.progress.sayOnce("no answer (%v); trying again for up to %s", err, p.bound)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// skus remembers which items SKUs belong to.
type skus struct {
	head uint64            // of the log when the import began
	ids  map[string]string // by SKU
}

// remembered bounds them; when there are more they are looked up again.
const remembered = 100_000

// find makes sure that the SKUs that exist are in ids.
func (k *skus) find(ctx context.Context, l ledger, all []string) error {
	if k.ids == nil || len(k.ids) > remembered {
		k.ids = make(map[string]string)
	}
	missing := make([]string, 0, len(all))
	seen := make(map[string]struct{})
	for _, sku := range all {
		_, known := k.ids[sku]
		if _, again := seen[sku]; !known && !again {
			seen[sku] = struct{}{}
			missing = append(missing, sku)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	found, err := itemsBySKU(ctx, l, missing, k.head)
	maps.Copy(k.ids, found)
	return err
}

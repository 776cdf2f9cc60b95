package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/operations"
)

// An operator carries out operations on a ledger.
type operator interface {
	// Operate carries out the operation of that name. Its errors are *fault.Error
	// where the ledger refuses, and where nobody answers.
	Operate(ctx context.Context, name string, body []byte) (json.RawMessage, error)
	Close() error
}

// onLedger is which ledger to operate: one that a server has open, or one that
// nobody has.
type onLedger struct {
	Data string `placeholder:"DIR" help:"Open the ledger in that data directory here, instead of asking a server. No server may have it open."`
	reach
}

// operator reaches the ledger. The caller closes it.
func (o onLedger) operator(ctx context.Context, s streams) (operator, error) {
	if o.Data != "" {
		return openHere(ctx, o.Data, s)
	}
	c, err := o.dial()
	if err != nil {
		return nil, err
	}
	return there{c}, nil
}

// local reports whether the ledger is opened in this process, and so is closed
// with it.
func (o onLedger) local() bool { return o.Data != "" }

// place are the flags that say where the ledger is, for a line to run next.
func (o onLedger) place() []string {
	if o.local() {
		return []string{"--data", o.Data}
	}
	return []string{"--server", o.Server}
}

// there is a ledger that a server has open.
type there struct{ client }

// Operate implements operator.
func (t there) Operate(ctx context.Context, name string, body []byte) (json.RawMessage, error) {
	answer, err := t.client.Operate(ctx, name, body)
	if refusal, ok := errors.AsType[*fault.Error](err); ok && (refusal.Code == "unknown_path" || refusal.Code == "no_ledger" && t.answers(ctx)) {
		return nil, errors.New("the ledger there is of a version that takes no operations; update it, or stop it and name its directory with --data")
	}
	return answer, err
}

// answers reports whether a ledger answers at all.
func (t there) answers(ctx context.Context) bool {
	_, err := t.Query(ctx, statusQuery, nil)
	return err == nil
}

// Close implements operator.
func (t there) Close() error {
	t.client.Close()
	return nil
}

// inProcess is a ledger that this process has open.
type inProcess struct {
	operations *operations.Operations
	ledger     *stockledger.Ledger
}

// openHere opens the ledger in a data directory, which must have one.
func openHere(ctx context.Context, data string, s streams) (operator, error) {
	dir, err := filepath.Abs(data)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if err := hasLog(data); err != nil {
		return nil, err
	}
	logger := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ledger, err := stockledger.Open(ctx, stockledger.Config{Dir: dir, HoldRebuilt: true, Logger: logger})
	if errors.Is(err, events.ErrInUse) {
		return nil, fmt.Errorf("--data %s: %w; leave --data out and name the server that has it open with --server URL, or stop it", data, err)
	}
	if err != nil {
		return nil, fmt.Errorf("--data %s: %w", data, err)
	}
	return inProcess{operations.New(operations.Config{Ledger: ledger, Dir: dir, Version: programVersion(), Logger: logger}), ledger}, nil
}

// Operate implements operator.
func (p inProcess) Operate(ctx context.Context, name string, body []byte) (json.RawMessage, error) {
	answer, err := p.operations.Operate(ctx, name, body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// Close implements operator.
func (p inProcess) Close() error { return errors.Join(p.operations.Close(), p.ledger.Close()) }

// operate carries out an operation and reads the answer.
func operate[T any](ctx context.Context, op operator, name string, params any) (answer T, err error) {
	body := []byte("{}")
	if params != nil {
		if body, err = json.Marshal(params); err != nil {
			return answer, fmt.Errorf("%s: %w", name, err)
		}
	}
	document, err := op.Operate(ctx, name, body)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(document, &answer); err != nil {
		return answer, fmt.Errorf("answer to %s: %w", name, err)
	}
	return answer, nil
}

// A jobAnswer is how far a job is.
type jobAnswer = operations.Job[json.RawMessage]

const (
	// askEvery is how long one question after a job waits for it to be done.
	askEvery = time.Second
	// silence is for how long nobody may answer for a job before it is given up.
	silence = 30 * time.Second
)

// runJob starts a job, shows how far it is, and reads its result. A job that is
// under way already is waited for. When ctx ends the job is no longer waited
// for, and goes on where a server carries it out.
func runJob[T any](ctx context.Context, op operator, s streams, name string, params any) (result T, err error) {
	at, err := operate[jobAnswer](ctx, op, name, params)
	if err != nil {
		return result, cmp.Or(interrupted(ctx, op, name), err)
	}
	bar := newProgress(s.err)
	bar.unit = ""
	defer bar.end()
	heard := time.Now()
	for !at.Done {
		bar.at(cmp.Or(at.Stage, name), at.Progress, at.Total)
		next, err := operate[jobAnswer](ctx, op, "job", object{"job": at.Job, "wait_seconds": askEvery.Seconds()})
		switch {
		case ctx.Err() != nil:
			return result, interrupted(ctx, op, name)
		case err == nil:
			at, heard = next, time.Now()
		case !lost(err) || time.Since(heard) > silence:
			return result, err
		default:
			bar.sayOnce("%v; asking again", err)
			pauseFor(ctx, askEvery)
		}
	}
	if at.Error != nil {
		return result, at.Error.Error()
	}
	if err := json.Unmarshal(at.Result, &result); err != nil {
		return result, fmt.Errorf("result of %s: %w", name, err)
	}
	return result, nil
}

// lost reports whether an answer did not come, though the ledger may be there.
func lost(err error) bool {
	code := fault.Code(err)
	return code == "timeout" || code == "disconnected"
}

// pauseFor waits, but not longer than ctx lasts.
func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// interrupted is the error when the user does not want to wait any more.
func interrupted(ctx context.Context, op operator, name string) error {
	if ctx.Err() == nil {
		return nil
	}
	if _, here := op.(inProcess); here {
		return fmt.Errorf("%s was interrupted before it was done", name)
	}
	return fault.New(fault.Unavailable, "interrupted", "nobody waits for %s any more; the server goes on with it", name)
}

// onLog works on the log alone of a ledger that no server has open, and shows how
// far it is.
func onLog[T any](data string, s streams, do func(log events.Store, tell evidence.Progress) (T, error)) (made T, err error) {
	log, err := openLog(data)
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	bar := newProgress(s.err)
	bar.unit = "events"
	defer bar.end()
	return do(log, bar.at)
}

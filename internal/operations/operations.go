// Package operations looks after a ledger that runs: it rebuilds read models and
// switches to them, compares, verifies, backs up and exports. Every operation has
// a name and a JSON body, as commands and queries have, and transports carry it
// likewise.
//
// What takes long is a job: it is started, goes on whether or not anybody waits,
// and is asked for by its id. jobs.go has the jobs, models.go and ledger.go what
// there is to do.
package operations

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/internal/fault"
)

// Config is what New needs. Ledger and Dir must be set.
type Config struct {
	Ledger *stockledger.Ledger
	// Dir is the data directory of the ledger, into which nothing is written that
	// somebody names.
	Dir string
	// Version of the program, for what says who made it.
	Version string
	// Ended hears of every job that has ended, with its error; nil is nobody.
	Ended func(operation string, err error)
	// Logger hears of what was started and how it ended; nil is slog.Default().
	Logger *slog.Logger
}

// Operations carries out operations on one ledger. Its methods may be called from
// many goroutines.
type Operations struct {
	ledger       *stockledger.Ledger
	dir, version string
	logger       *slog.Logger
	jobs         *jobs
}

// New makes the operations of a ledger. Close ends them, before the ledger is
// closed.
func New(config Config) *Operations {
	logger := cmp.Or(config.Logger, slog.Default())
	return &Operations{ledger: config.Ledger, dir: config.Dir, version: config.Version, logger: logger, jobs: newJobs(logger, config.Ended)}
}

// Close gives up the jobs under way, and returns when they have ended.
func (o *Operations) Close() error {
	o.jobs.close()
	return nil
}

// A Shape is what an operation is asked with and answered: values of the types.
type Shape struct {
	About         string // one line
	Asked, Answer any
}

// An operation is one of those by name.
type operation struct {
	Shape
	run func(ctx context.Context, o *Operations, body []byte) (any, error)
}

// Names are the names that Operate knows, each with a line on what it does.
func Names() map[string]string {
	names := make(map[string]string)
	for name, of := range all() {
		names[name] = of.About
	}
	return names
}

// Shapes describes the operations, by name.
func Shapes() map[string]Shape {
	shapes := make(map[string]Shape)
	for name, of := range all() {
		shapes[name] = of.Shape
	}
	return shapes
}

// Operate carries out the operation of that name. Body is a JSON object of its
// parameters, strictly read; none is an empty one. The errors that are the
// caller's are [*fault.Error].
func (o *Operations) Operate(ctx context.Context, name string, body []byte) (answer any, err error) {
	of, known := all()[name]
	if !known {
		return nil, fault.New(fault.NotFound, "unknown_operation", "there is no operation %q", name).With("operation", name)
	}
	defer mend(name, &err)
	return of.run(ctx, o, body)
}

// mend keeps a bug in one operation from ending the ledger.
func mend(name string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s: panic: %v\n%s", name, p, debug.Stack())
	}
}

// all are the operations by name.
func all() map[string]operation {
	named := map[string]operation{
		"job": direct("how far a job is, and its result once it is done", (*Operations).job),
	}
	maps.Copy(named, ofModels())
	maps.Copy(named, ofLedger())
	return named
}

// direct is an operation that is answered at once.
func direct[Q, A any](about string, do func(*Operations, context.Context, Q) (A, error)) operation {
	return operation{Shape{about, *new(Q), *new(A)}, func(ctx context.Context, o *Operations, body []byte) (any, error) {
		asked, err := decode[Q](body)
		if err != nil {
			return nil, err
		}
		return do(o, ctx, asked)
	}}
}

// progressing hears how far a job is: of a stage, so many of a total.
type progressing = func(stage string, done, total uint64)

// asJob is an operation that may take long.
func asJob[Q, A any](name, about string, do func(*Operations, context.Context, Q, progressing) (A, error)) operation {
	return operation{Shape{about, *new(Q), Job[A]{}}, func(ctx context.Context, o *Operations, body []byte) (any, error) {
		asked, err := decode[Q](body)
		if err != nil {
			return nil, err
		}
		if checked, ok := any(asked).(interface{ check(*Operations) error }); ok {
			if err := checked.check(o); err != nil {
				return nil, err
			}
		}
		started, err := o.jobs.start(name, asked, func(ctx context.Context, tell progressing) (any, error) {
			result, err := do(o, ctx, asked, tell)
			if err != nil {
				return nil, err
			}
			return document(result)
		})
		if err != nil {
			return nil, err
		}
		return started.wait(ctx, patience), nil
	}}
}

// document is a result as JSON, in which a list without elements is one. What is no
// UTF-8 has a character in its place: a damaged row is a result, too.
func document(result any) (jsontext.Value, error) {
	return json.Marshal(result, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
}

// decode reads the parameters of an operation.
func decode[Q any](body []byte) (asked Q, err error) {
	if len(body) == 0 {
		return asked, nil
	}
	if err := json.Unmarshal(body, &asked, json.RejectUnknownMembers(true)); err != nil {
		return asked, fault.New(fault.Invalid, "invalid_json", "the parameters cannot be read: %v", err)
	}
	return asked, nil
}

// Package transport is what NATS and HTTP have in common: how the envelope of a
// command travels in headers, how a recorded event looks to those who follow the
// log, and how much may be under way at once. A transport decides nothing: all
// it does is carry.
package transport

import (
	"context"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// Ledger is what is carried to; *stockledger.Ledger is one.
type Ledger interface {
	// DoJSON carries out the command of that name with a JSON body. What cannot be
	// read is refused, and put on record, like anything else that is refused.
	DoJSON(ctx context.Context, env commands.Envelope, name string, body []byte) (commands.Answer, error)
	Query(ctx context.Context, name string, body []byte) (any, error)
}

// A Recaller is a ledger that has some answers in memory.
type Recaller interface {
	// Recall answers a query at once, if it can without reading and waiting;
	// otherwise, and whatever is wrong with the query, Query is to be asked.
	Recall(name string, body []byte) (answer any, found bool)
}

// Operator is what operations are carried to; *operations.Operations is one.
type Operator interface {
	// Operate carries out the operation of that name with a JSON body, "" being no
	// parameters.
	Operate(ctx context.Context, name string, body []byte) (any, error)
}

const (
	// InFlight is how many commands, and how many queries, are under way at once
	// unless told otherwise: several times what one group commit takes.
	InFlight = 1024
	// InFlightBytes bounds the bodies of those, so that large ones do not take
	// the memory that many small ones were meant to have.
	InFlightBytes = 256 << 20
)

// TooLarge refuses a body by its size. Size 0 is not known.
func TooLarge(size, limit int) error {
	if size == 0 {
		return fault.New(fault.Invalid, "body_too_large",
			"the body has more than %d bytes; send several smaller ones", limit).With("limit", limit)
	}
	return fault.New(fault.Invalid, "body_too_large",
		"the body has %d bytes, at most %d are allowed; send several smaller ones", size, limit).
		With("size", size).With("limit", limit)
}

// traceKey is where a context keeps the trace it is part of.
type traceKey struct{}

// WithTrace is ctx as part of the trace that the headers of a request name.
func WithTrace(ctx context.Context, headers map[string][]string) context.Context {
	if len(headers) == 0 {
		return ctx
	}
	given, _ := texts(headers) // another header may be wrong, which is not for here
	if given[headerTrace] == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, given[headerTrace])
}

// Trace is the W3C traceparent of the request that ctx is of, "" if it has none.
func Trace(ctx context.Context) string {
	traceparent, _ := ctx.Value(traceKey{}).(string)
	return traceparent
}

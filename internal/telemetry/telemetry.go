// Package telemetry measures what a ledger does, whichever transport asks: it
// wraps the ledger that all of them are given. Metrics are for Prometheus, spans
// for OpenTelemetry. Every label has few values: names and codes of ours, never
// what a caller writes.
package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

// Inner is the ledger that is measured; *stockledger.Ledger is one.
type Inner interface {
	transport.Ledger
	Do(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error)
}

// Ledger is a ledger, measured.
type Ledger struct {
	inner   Inner
	metrics *Metrics
	tracer  trace.Tracer // nil: there are no spans
	now     func() time.Time

	commands, queries map[string]bool // by name
}

// Measured is a ledger with those queries, whose commands and queries are
// counted, and are spans of tracer, which may be nil. A command that has a span
// is recorded as part of it.
func Measured(inner Inner, queries map[string]string, metrics *Metrics, tracer trace.Tracer, now func() time.Time) *Ledger {
	l := &Ledger{inner, metrics, tracer, now, make(map[string]bool), make(map[string]bool)}
	for _, name := range commands.Names() {
		l.commands[name] = true
	}
	for name := range queries {
		l.queries[name] = true
	}
	return l
}

// known is a name if it is one of ours, so that nobody fills the memory with
// names of his own.
func known(names map[string]bool, name string) string {
	if names[name] {
		return name
	}
	return "unknown"
}

// Do carries out a command that was made here, by Medusa's routes.
func (l *Ledger) Do(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
	return l.command(ctx, env, command.Name(), func(ctx context.Context, env commands.Envelope) (commands.Answer, error) {
		return l.inner.Do(ctx, env, command)
	})
}

// DoJSON implements transport.Ledger.
func (l *Ledger) DoJSON(ctx context.Context, env commands.Envelope, name string, body []byte) (commands.Answer, error) {
	return l.command(ctx, env, name, func(ctx context.Context, env commands.Envelope) (commands.Answer, error) {
		return l.inner.DoJSON(ctx, env, name, body)
	})
}

func (l *Ledger) command(
	ctx context.Context, env commands.Envelope, name string,
	do func(context.Context, commands.Envelope) (commands.Answer, error),
) (answer commands.Answer, err error) {
	name = known(l.commands, name)
	ctx, span := l.begin(ctx, "command "+name, env.Trace)
	if span != nil {
		env.Trace = traceparent(ctx)
	}
	start := l.now()
	err = errPanic // unless it returns
	defer func() {
		l.metrics.command(name, l.now().Sub(start), err)
		span.end(err, attribute.String("stockledger.command", name), attribute.String("stockledger.command_id", answer.CommandID),
			attribute.Int64("stockledger.position", int64(answer.Position)), //nolint:gosec // G115: positions stay below 2^63
			attribute.Bool("stockledger.replayed", answer.Replayed), attribute.Bool("stockledger.dry_run", env.DryRun))
	}()
	answer, err = do(ctx, env)
	return answer, err
}

// errPanic is the outcome of what ends in a panic, which goes on to whoever
// answers for it.
var errPanic = errors.New("panic")

// Query implements transport.Ledger.
func (l *Ledger) Query(ctx context.Context, name string, body []byte) (result any, err error) {
	as := known(l.queries, name)
	ctx, span := l.begin(ctx, "query "+as, transport.Trace(ctx))
	start := l.now()
	err = errPanic // unless it returns
	defer func() {
		l.metrics.query(as, l.now().Sub(start), err)
		span.end(err, attribute.String("stockledger.query", as))
	}()
	result, err = l.inner.Query(ctx, name, body)
	return result, err
}

// Recall implements transport.Recaller, when the ledger that is measured does. Where
// queries are spans, it leaves them all to Query, which makes one of each.
func (l *Ledger) Recall(name string, body []byte) (answer any, found bool) {
	inner, recalls := l.inner.(transport.Recaller)
	if !recalls || l.tracer != nil {
		return nil, false
	}
	start := l.now()
	if answer, found = inner.Recall(name, body); found {
		l.metrics.query(known(l.queries, name), l.now().Sub(start), nil)
	}
	return answer, found
}

// A span is one of OpenTelemetry's; nil is none.
type span struct{ of trace.Span }

// begin begins a span that is a child of the one that a traceparent names.
func (l *Ledger) begin(ctx context.Context, name, parent string) (context.Context, *span) {
	if l.tracer == nil {
		return ctx, nil
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	ctx, of := l.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, &span{of}
}

// end ends a span. A refusal is an answer, and no failure of ours.
func (s *span) end(err error, attributes ...attribute.KeyValue) {
	if s == nil {
		return
	}
	s.of.SetAttributes(attributes...)
	if err != nil {
		s.of.SetAttributes(attribute.String("error.type", fault.Code(err)))
		if kind := fault.Of(err).Kind; kind == fault.Internal || kind == fault.Unavailable {
			s.of.SetStatus(codes.Error, fault.Public(err).Message)
		}
	}
	s.of.End()
}

// traceparent names the span in ctx.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

package telemetry

import (
	"context"

	"github.com/stockledger/stockledger/internal/transport"
)

// operator is an operator whose operations are counted.
type operator struct {
	inner   transport.Operator
	metrics *Metrics
	names   map[string]bool
}

// Operator is an operator that knows those operations, counted by name and
// outcome.
func (m *Metrics) Operator(inner transport.Operator, operations map[string]string) transport.Operator {
	names := make(map[string]bool)
	for name := range operations {
		names[name] = true
	}
	return &operator{inner, m, names}
}

// Job counts a job of an operation that has ended.
func (m *Metrics) Job(operation string, err error) {
	m.jobs.WithLabelValues(operation, outcome(err)).Inc()
}

// Operate implements transport.Operator.
func (o *operator) Operate(ctx context.Context, name string, body []byte) (answer any, err error) {
	err = errPanic // unless it returns
	defer func() { o.metrics.operations.WithLabelValues(known(o.names, name), outcome(err)).Inc() }()
	answer, err = o.inner.Operate(ctx, name, body)
	return answer, err
}

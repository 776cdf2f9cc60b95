package natsapi_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// operator carries out operations as it is told to.
type operator func(ctx context.Context, name string, body []byte) (any, error)

func (o operator) Operate(ctx context.Context, name string, body []byte) (any, error) {
	return o(ctx, name, body)
}

// operated has an operation that polishes a shelf.
func operated(do operator) change {
	return func(c *natsapi.Config) {
		c.Operator, c.Operations = do, map[string]string{"polish-shelf": "make it shine"}
	}
}

func TestOperationsAreCarried(t *testing.T) {
	s := open(t, operated(func(_ context.Context, name string, body []byte) (any, error) {
		if string(body) == "much" {
			return strings.Repeat("shiny ", 2<<20), nil
		}
		return map[string]string{name: string(body)}, nil
	}))
	answer, err := s.client.Operate(within(t), "polish-shelf", []byte("top"))
	require.NoError(t, err)
	require.JSONEq(t, `{"polish-shelf":"top"}`, string(answer))
	require.JSONEq(t, `{"polish-shelf":"top"}`, string(s.ask(t, "inventory.op.polish-shelf", nil, "top").Data))
	_, err = s.client.Operate(within(t), "polish-shelf", []byte("much"))
	require.Equal(t, "answer_too_large", fault.Code(err))
	_, err = s.client.Operate(within(t), "dust-shelf", nil)
	require.Equal(t, "unknown_operation", fault.Code(err))
	require.Contains(t, string(s.ask(t, "$SRV.INFO.stockledger", nil, "").Data), "make it shine")
}

func TestOperationsAreRefusedLikeQueries(t *testing.T) {
	refusal := fault.New(fault.Conflict, "job_running", "somebody polishes it already").With("job", "job_1")
	s := open(t, operated(func(_ context.Context, _ string, body []byte) (any, error) {
		if len(body) > 0 {
			return nil, errors.New("a secret")
		}
		return nil, refusal
	}))
	_, err := s.client.Operate(within(t), "polish-shelf", nil)
	require.Equal(t, refusal, fault.Of(err), "the refusal arrives as it was made")
	m := s.ask(t, "inventory.op.polish-shelf", nil, "{}")
	require.Equal(t, "500", m.Header.Get(micro.ErrorCodeHeader))
	require.NotContains(t, string(m.Data), "secret")
}

// Who asks what would happen must not have it happen, nor who misspells it.
func TestOperationsHaveNoDryRun(t *testing.T) {
	s := open(t, operated(func(context.Context, string, []byte) (any, error) {
		t.Error("it was carried out")
		return "shiny", nil
	}))
	for header, code := range map[string]string{"Ledger-Dry-Run": "no_dry_run", "Ledger-Dryrun": "invalid_header"} {
		answer, status := refused(t, s.ask(t, "inventory.op.polish-shelf", nats.Header{header: {"true"}}, "{}"))
		require.Equal(t, code, answer.Code)
		require.Equal(t, "400", status)
	}
}

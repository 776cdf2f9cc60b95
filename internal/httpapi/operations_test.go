package httpapi_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

// operator carries out operations as it is told to.
type operator func(ctx context.Context, name string, body []byte) (any, error)

func (o operator) Operate(ctx context.Context, name string, body []byte) (any, error) {
	return o(ctx, name, body)
}

type polish struct {
	Shelf string `json:"shelf"`
}

// operated has an operation that polishes a shelf.
func operated(do operator) change {
	return func(c *httpapi.Config) {
		c.Operator = do
		c.Operations = map[string]httpapi.Operation{"polish-shelf": {About: "make it shine", Asked: polish{}, Answer: polish{}}}
	}
}

const polishing = "/ledger/v1/operations/polish-shelf"

func TestOperationsAreCarried(t *testing.T) {
	s := open(t, operated(func(_ context.Context, name string, body []byte) (any, error) {
		require.Equal(t, "polish-shelf", name)
		require.JSONEq(t, `{"shelf":"top"}`, string(body))
		return polish{"shiny"}, nil
	}))
	answer, err := s.client.Operate(within(t), "polish-shelf", []byte(`{"shelf":"top"}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"shelf":"shiny"}`, string(answer))
	require.JSONEq(t, `{"shelf":"shiny"}`, s.ask(t, "POST", polishing, `{"shelf":"top"}`).body)
	require.Equal(t, 405, s.ask(t, "GET", polishing, "").status, "an operation is no reading")

	described := s.document(t).Paths.Value(polishing).Post
	require.Equal(t, "operate", described.Extensions["x-scope"])
	require.Equal(t, "make it shine", described.Summary)
	require.Contains(t, described.RequestBody.Value.Content["application/json"].Schema.Value.Properties, "shelf")
}

func TestOperationsAreRefusedLikeQueries(t *testing.T) {
	refusal := fault.New(fault.Conflict, "job_running", "somebody polishes it already").With("job", "job_1")
	s := open(t, operated(func(_ context.Context, _ string, body []byte) (any, error) {
		if len(body) > 0 {
			return nil, errors.New("a secret")
		}
		return nil, refusal
	}))
	m := s.ask(t, "POST", polishing, "")
	require.Equal(t, 409, m.status)
	require.Equal(t, "job_running", m.refused(t).Code)
	_, err := s.client.Operate(within(t), "polish-shelf", nil)
	require.Equal(t, refusal, fault.Of(err), "the refusal arrives as it was made")

	m = s.ask(t, "POST", polishing, "{}")
	require.Equal(t, 500, m.status)
	require.NotContains(t, m.body, "secret")
	_, err = s.client.Operate(within(t), "dust-shelf", nil)
	require.Equal(t, "unknown_operation", fault.Code(err))
	require.Equal(t, fault.NotFound, fault.Of(err).Kind)
}

// Who asks what would happen must not have it happen, nor who misspells it.
func TestOperationsHaveNoDryRun(t *testing.T) {
	s := open(t, operated(func(context.Context, string, []byte) (any, error) {
		t.Error("it was carried out")
		return polish{}, nil
	}))
	for header, code := range map[string]string{"Ledger-Dry-Run": "no_dry_run", "Ledger-Dryrun": "invalid_header"} {
		m := s.ask(t, "POST", polishing, "{}", header, "true")
		require.Equal(t, 400, m.status, m.body)
		require.Equal(t, code, m.refused(t).Code)
	}
}

func TestOperationsWantTheirScope(t *testing.T) {
	s := open(t, guarded(t), operated(func(context.Context, string, []byte) (any, error) { return polish{}, nil }))
	for scope, status := range map[httpapi.Scope]int{httpapi.Operate: 200, "all": 200, httpapi.Command: 403, httpapi.Query: 403} {
		require.Equal(t, status, s.ask(t, "POST", polishing, "{}", bearer(secret(scope))...).status, scope)
	}
	require.Equal(t, 401, s.ask(t, "POST", polishing, "{}").status)
}

func TestOperationsTakeNoRoomFromCommands(t *testing.T) {
	inside, letGo := make(chan struct{}), make(chan struct{})
	s := open(t, operated(func(context.Context, string, []byte) (any, error) {
		inside <- struct{}{}
		<-letGo
		return polish{}, nil
	}), func(c *httpapi.Config) { c.InFlight = 1 })
	done := make(chan int)
	go func() { done <- s.ask(t, "POST", polishing, "{}").status }()
	<-inside
	m := s.ask(t, "POST", polishing, "{}")
	require.Equal(t, "busy", m.refused(t).Code)
	require.Equal(t, 200, s.ask(t, "POST", create, mug).status)
	close(letGo)
	require.Equal(t, 200, <-done)
}

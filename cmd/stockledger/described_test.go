package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/operations"
)

// What operations, and the status, are asked with and answer is as /openapi.json says.
func TestOperationsAreDescribed(t *testing.T) {
	t.Parallel()
	at, _ := serving(t, nil, "serve", "--data", spoilt(t), "--http", "127.0.0.1:0", "--walk=on")
	_, text := see(t, at.HTTP+"/openapi.json", "")
	document, err := openapi3.NewLoader().LoadFromData([]byte(text))
	require.NoError(t, err)
	router, err := gorillamux.NewRouter(document)
	require.NoError(t, err)

	done := func(answer []byte) {
		t.Helper()
		var job jobAnswer
		require.NoError(t, json.Unmarshal(answer, &job))
		require.True(t, job.Done, "%s", answer)
		require.Nil(t, job.Error)
		require.NotEmpty(t, job.Result)
	}
	code, _, errs := ran(t, "rebuild", "--server", at.HTTP)
	require.Zero(t, code, errs)
	done(exchanged(t, at, router, "operations/diff-models", `{"models":["inventory"],"rows":-1}`, 200))
	exchanged(t, at, router, "queries/"+statusQuery, `{}`, 200)
	exchanged(t, at, router, "operations/switch-models", `{"models":["inventory"],"back":false}`, 200)
	exchanged(t, at, router, "operations/rebuild-models", `{"models":["movements"]}`, 200)
	exchanged(t, at, router, "operations/list-generations", `{}`, 200)
	exchanged(t, at, router, "operations/drop-generation", `{"model":"inventory","generation":1}`, 200)
	done(exchanged(t, at, router, "operations/verify-ledger", `{"rows":5}`, 200))
	head := exchanged(t, at, router, "operations/ledger-head", `{}`, 200)
	done(head)
	var job jobAnswer
	require.NoError(t, json.Unmarshal(head, &job))
	done(exchanged(t, at, router, "operations/ledger-head", fmt.Sprintf(`{"known":%s}`, job.Result), 200))
	done(exchanged(t, at, router, "operations/job", fmt.Sprintf(`{"job":%q,"wait_seconds":0.5}`, job.Job), 200))
	to := t.TempDir()
	done(exchanged(t, at, router, "operations/export-ledger", fmt.Sprintf(`{"to":%q}`, filepath.Join(to, "log.jsonl")), 200))
	done(exchanged(t, at, router, "operations/backup-ledger", fmt.Sprintf(`{"to":%q,"unverified":true}`, filepath.Join(to, "backup")), 200))
	exchanged(t, at, router, "operations/switch-models", `{"models":["stock"]}`, 400)
	for name := range operations.Names() {
		require.NotNil(t, document.Paths.Value("/ledger/v1/operations/"+name).Post, name)
	}
}

// exchanged is an answer, once the document is found to allow both the request and
// the answer.
func exchanged(t *testing.T, at ready, router routers.Router, path, body string, status int) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.HTTP+"/ledger/v1/"+path, bytes.NewBufferString(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	described, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/ledger/v1/"+path, bytes.NewBufferString(body))
	require.NoError(t, err)
	described.Header, described.URL = r.Header, &url.URL{Path: "/ledger/v1/" + path}
	route, parameters, err := router.FindRoute(described)
	require.NoError(t, err)
	asked := &openapi3filter.RequestValidationInput{
		Request: described, Route: route, PathParams: parameters,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	require.NoError(t, openapi3filter.ValidateRequest(t.Context(), asked), "%s %s", path, body)

	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, status, answer.StatusCode, "%s: %s", path, text)
	got := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: asked, Status: answer.StatusCode, Header: answer.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	got.SetBodyBytes(text)
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), got), "%s: %s", path, text)
	return text
}

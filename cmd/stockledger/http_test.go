package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// written keeps what a program writes.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// serving runs the program until the test ends, and returns where it answers and
// what it writes.
func serving(t *testing.T, env map[string]string, args ...string) (ready, *written) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	file, out := filepath.Join(t.TempDir(), "ready.json"), new(written)
	args = append([]string{"stockledger"}, append(args, "--nats-listen", "127.0.0.1:0", "--ready-file", file)...)
	var running sync.WaitGroup
	running.Go(func() { run(ctx, args, func(name string) string { return env[name] }, strings.NewReader(""), out, out) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	at, err := waitReady(file)
	require.NoError(t, err, "%s", out)
	return at, out
}

// see is what a GET answers.
func see(t *testing.T, url, token string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	if token != "" {
		r.SetBasicAuth(token, "") // as Medusa's client does
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func TestServeAnswersOnHTTP(t *testing.T) {
	t.Parallel()
	const token = "s3cr3t-s3cr3t-s3cr3t"
	at, out := serving(t, map[string]string{"STOCKLEDGER_HTTP_TOKEN": token}, "serve", "--store", "memory:", "--http", "127.0.0.1:0")
	over, err := httpapi.Dial(at.HTTP, token)
	require.NoError(t, err)
	defer over.Close()
	answer, err := over.Command(t.Context(), "create-inventory-items", commands.Envelope{}, []byte(`{"id":"mug"}`))
	require.NoError(t, err)
	require.EqualValues(t, 1, answer.Position)
	nats, err := natsapi.Dial(at.NATS)
	require.NoError(t, err)
	defer nats.Close()
	for range 2 { // the second is refused
		_, err = nats.Command(t.Context(), "create-inventory-items", commands.Envelope{}, []byte(`{"id":"cup"}`))
	}
	require.Error(t, err)

	status, body := see(t, at.HTTP+"/readyz", "")
	require.Equal(t, 200, status, body)
	var health httpapi.Health
	require.NoError(t, json.Unmarshal([]byte(body), &health))
	var names []string
	for _, c := range health.Conditions {
		names = append(names, c.Name)
	}
	require.Equal(t, []string{"store", "inventory", "movements", "feed", "drift", "role"}, names)

	status, body = see(t, at.HTTP+"/metrics", token)
	require.Equal(t, 200, status)
	require.Contains(t, body, "\n"+`stockledger_commands_total{code="ok",command="create-inventory-items"} 2`+"\n", "both transports are counted")
	require.Contains(t, body, "\nstockledger_log_position 2\n")
	require.Regexp(t, `\nstockledger_commit_commands_count [12]\n`, body)
	require.Regexp(t, `\nstockledger_disk_free_bytes [1-9]`, body)

	_, err = nats.Query(t.Context(), "list-inventory-items", []byte(`{"after":2}`)) // waits for the read models
	require.NoError(t, err)
	status, body = see(t, at.HTTP+"/admin/inventory-items/mug", token)
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"inventory_item":`)
	status, body = see(t, at.HTTP+"/admin/inventory-items/mug", "")
	require.Equal(t, 401, status)
	require.JSONEq(t, `{"message":"Unauthorized"}`, body)

	result, err := over.Query(t.Context(), statusQuery, nil)
	require.NoError(t, err)
	require.Contains(t, string(result), `"head":2`)
	require.NotContains(t, out.String(), "s3cr3t")
	require.Contains(t, out.String(), "http_url="+at.HTTP)
}

// Every route the program describes, Medusa's too, is asked without a token and
// with a token of each scope; only the right scope passes.
func TestEveryScopeOnEveryRoute(t *testing.T) {
	t.Parallel()
	tokens := map[string]string{} // by scope
	var file []map[string]any
	for _, scope := range httpapi.Scopes() {
		tokens[string(scope)] = "token-for-the-scope-" + string(scope)
		file = append(file, map[string]any{"name": scope, "token": tokens[string(scope)], "scopes": []httpapi.Scope{scope}})
	}
	text, err := json.Marshal(file)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "tokens.json")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	at, out := serving(t, nil, "serve", "--store", "memory:", "--http", "127.0.0.1:0", "--http-token-file", path)

	_, described := see(t, at.HTTP+"/openapi.json", "")
	var document struct {
		Paths map[string]map[string]struct {
			Scope string `json:"x-scope"`
		} `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(described), &document))
	asked := map[string]int{}
	for path, methods := range document.Paths {
		url := at.HTTP + regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(path, "none") + "?follow=false"
		for method, route := range methods {
			method = strings.ToUpper(method)
			for scope, token := range map[string]string{"": "", "wrong": "token-of-somebody-else", "command": tokens["command"], "query": tokens["query"], "operate": tokens["operate"]} {
				status := try(t, method, url, token)
				switch {
				case route.Scope == "" || scope == route.Scope:
					require.NotContains(t, []int{401, 403}, status, "%s %s with %q", method, path, scope)
				case token == "" || scope == "wrong":
					require.Equal(t, 401, status, "%s %s with %q", method, path, scope)
				default:
					require.Equal(t, 403, status, "%s %s with %q", method, path, scope)
				}
			}
			asked[strings.Split(path, "/")[1]+" "+route.Scope]++
		}
	}
	t.Logf("routes by scope: %v", asked)
	for _, sort := range []string{"admin command", "admin query", "ledger command", "ledger query", "ledger operate", "healthz ", "metrics operate"} {
		require.Positive(t, asked[sort], sort)
	}
	for _, token := range tokens {
		require.NotContains(t, out.String(), token)
	}
}

// try is the status of a request.
func try(t *testing.T, method, url, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	return answer.StatusCode
}

func TestHTTPCanBeOff(t *testing.T) {
	t.Parallel()
	for _, off := range []string{"--http=off", "--http="} {
		at, _ := serving(t, nil, "serve", "--store", "memory:", off)
		require.Empty(t, at.HTTP)
	}
}

func TestDemoTakesAnotherPort(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", httpapi.DefaultListen)
	if err == nil { // else somebody else has it, which is as good
		defer taken.Close()
	}
	at, out := serving(t, nil, "demo", "--data", t.TempDir())
	require.NotContains(t, at.HTTP, ":8080")
	status, body := see(t, at.HTTP+"/readyz", "")
	require.Equal(t, 200, status, body)
	require.Contains(t, out.String(), "  http  "+at.HTTP+"\n")
}

func TestServeSaysWhenThePortIsTaken(t *testing.T) {
	t.Parallel()
	at, _ := serving(t, nil, "serve", "--store", "memory:", "--http", "127.0.0.1:0")
	out := new(written)
	taken := strings.TrimPrefix(at.HTTP, "http://")
	code := run(t.Context(), []string{"stockledger", "serve", "--store", "memory:", "--nats-listen", "127.0.0.1:0", "--http", taken},
		func(string) string { return "" }, strings.NewReader(""), out, out)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out.String(), "in use, perhaps by another stockledger")
}

func TestAPartThatStoppedIsNotReady(t *testing.T) {
	for _, c := range []struct {
		part partStatus
		want httpapi.Condition
	}{
		{partStatus{Name: "feed"}, httpapi.Condition{Name: "feed", OK: true}},
		{partStatus{Name: "feed", Behind: maxBehind}, httpapi.Condition{Name: "feed", OK: true}},
		{partStatus{Name: "feed", Behind: maxBehind + 1}, httpapi.Condition{Name: "feed", Reason: "it is 40001 events behind the log"}},
		{partStatus{Name: "inventory", Behind: 1, Stuck: "it has not moved"}, httpapi.Condition{Name: "inventory", Reason: "it has not moved"}},
		{partStatus{Name: "feed", Error: "/secret/path is full"}, httpapi.Condition{Name: "feed", Reason: "it has stopped"}},
		{partStatus{Name: "inventory", Waiting: "/secret/path is full"}, httpapi.Condition{Name: "inventory", Reason: "it waits, and tries again"}},
	} {
		require.Equal(t, c.want, c.part.condition())
	}
}

func TestAWrongRowIsNotReady(t *testing.T) {
	t.Parallel()
	row := stockledger.Finding{Model: "inventory", Table: "levels", Key: "mug", Column: "stocked_quantity", Message: "secret"}
	for _, c := range []struct {
		drift stockledger.Drift
		want  httpapi.Condition
	}{
		{stockledger.Drift{}, httpapi.Condition{Name: "drift", OK: true}},
		{stockledger.Drift{Trouble: "it cannot look"}, httpapi.Condition{Name: "drift", OK: true}},
		{
			stockledger.Drift{Trouble: "it cannot look", Blind: true},
			httpapi.Condition{Name: "drift", Reason: "the walk over the rows cannot look: run stockledger verify"},
		},
		{
			stockledger.Drift{Wrong: 3, Damaged: 2, First: &stockledger.Finding{Check: "chain", Position: 500}},
			httpapi.Condition{Name: "drift", Reason: "event 500 of the log is damaged: run stockledger verify"},
		},
		{stockledger.Drift{Wrong: 1}, httpapi.Condition{Name: "drift", Reason: "1 wrong row in the read models"}},
		{
			stockledger.Drift{Wrong: 2, First: &row},
			httpapi.Condition{Name: "drift", Reason: "2 wrong rows in the read models, first stocked_quantity of mug in levels of inventory"},
		},
		{
			stockledger.Drift{Wrong: 1, First: &stockledger.Finding{Model: "inventory", Table: "levels", Key: strings.Repeat("é", 90)}},
			httpapi.Condition{Name: "drift", Reason: "1 wrong row in the read models, first " + strings.Repeat("é", 79) + "… in levels of inventory"},
		},
	} {
		require.Equal(t, c.want, driftCondition(c.drift))
	}
}

package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

func TestAnAcceptedCommandIsAnswered(t *testing.T) {
	s := open(t)
	m := s.ask(t, "POST", create, mug, "Idempotency-Key", "k1")
	require.Equal(t, 200, m.status, m.body)
	require.Equal(t, "application/json", m.header.Get("Content-Type"))
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(m.body), &fields))
	require.Len(t, fields, 5)
	require.JSONEq(t, `"k1"`, string(fields["command_id"]))
	require.JSONEq(t, `2`, string(fields["position"]))
	require.JSONEq(t, `false`, string(fields["replayed"]))
	require.Contains(t, string(fields["result"]), `"mug"`)
	require.Equal(t, "10", stocked(t, s.ledger, "mug"))
}

func TestHeadersReachTheEvents(t *testing.T) {
	s := open(t)
	answer := s.ask(t, "POST", create, mug,
		"Idempotency-Key", "k", "ledger-actor", "anna", "LEDGER-REASON", "count", "Ledger-Reference", "doc://7",
		"Ledger-Effective-At", "2026-01-31T13:45:00.5+02:00", "Ledger-Correlation-Id", "corr", "Ledger-Causation-Id", "cause",
		"Ledger-Dry-Run", "false", "traceparent", "00-1-2-03", "X-Other", "left alone")
	require.Equal(t, 200, answer.status, answer.body)
	meta, err := logged(t, s.ledger.Events())[0].Metadata()
	require.NoError(t, err)
	require.Equal(t, [...]string{"k", "anna", "count", "doc://7", "corr", "cause", "00-1-2-03", "create-inventory-items"},
		[...]string{meta.CommandID, meta.Actor, meta.Reason, meta.Reference, meta.Correlation, meta.Causation, meta.Trace, meta.Command})
	require.Equal(t, time.Date(2026, 1, 31, 11, 45, 0, 5e8, time.UTC), meta.Effective)
}

func TestTheClientSendsTheWholeEnvelope(t *testing.T) {
	s := open(t)
	sent := commands.Envelope{
		Key: "k", Actor: "a", Reason: "r", Reference: "f", Correlation: "co", Causation: "ca", Trace: "t",
		Effective: time.Date(2026, 1, 31, 11, 45, 0, 123456000, time.UTC),
	}
	_, err := s.client.Command(within(t), "create-inventory-items", sent, []byte(mug))
	require.NoError(t, err)
	meta, err := logged(t, s.ledger.Events())[0].Metadata()
	require.NoError(t, err)
	require.Equal(t, sent, commands.Envelope{
		Key: meta.CommandID, Actor: meta.Actor, Reason: meta.Reason, Reference: meta.Reference,
		Correlation: meta.Correlation, Causation: meta.Causation, Trace: meta.Trace, Effective: meta.Effective,
	})
	sent.Key, sent.DryRun = "dry", true
	answer, err := s.client.Command(within(t), "create-inventory-items", sent, []byte(`{"id":"cup"}`))
	require.NoError(t, err)
	require.True(t, answer.DryRun)
	require.Len(t, logged(t, s.ledger.Events()), 2, "a dry run records nothing")
}

func TestBadHeadersAreNamed(t *testing.T) {
	s := open(t)
	for _, header := range [][]string{
		{"Ledger-Effective-At", "yesterday"},
		{"Ledger-Effective-At", "0001-01-01T00:00:00Z"},
		{"Ledger-Effective-At", "0001-01-01T02:00:00+02:00"},
		{"Ledger-Dry-Run", "perhaps"},
		{"Ledger-Dryrun", "true"},
		{"Idempotency-Key", "one", "idempotency-key", "two"},
		{"Idempotency-Key", ""},
	} {
		m := s.ask(t, "POST", create, mug, header...)
		answer := m.refused(t)
		require.Equal(t, 400, m.status)
		require.Equal(t, "invalid_header", answer.Code)
		require.Contains(t, answer.Message, header[0])
	}
	require.Empty(t, logged(t, s.ledger.Events()))
}

func TestRefusalsAreTyped(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	s.ask(t, "POST", adjust, oneOff, "Idempotency-Key", "used")
	for name, c := range map[string]struct {
		method, path, body, code, kind string
		status                         int
		header                         []string
	}{
		"rule":            {"POST", adjust, strings.Replace(oneOff, "-1", "-11", 1), "below_reserved", "not_allowed", 400, nil},
		"not found":       {"POST", adjust, strings.Replace(oneOff, "mug", "cup", 1), "not_found", "not_found", 404, nil},
		"key reused":      {"POST", adjust, oneOn, "idempotency_key_reused", "conflict", 409, []string{"Idempotency-Key", "used"}},
		"malformed":       {"POST", adjust, `{"inventory_item_id":`, "malformed_json", "invalid_data", 400, nil},
		"empty":           {"POST", adjust, ``, "malformed_json", "invalid_data", 400, nil},
		"unknown field":   {"POST", create, `{"skew":"x"}`, "unknown_field", "invalid_data", 400, nil},
		"unknown command": {"POST", "/ledger/v1/commands/explode", `{}`, "unknown_command", "not_found", 404, nil},
		"unknown query":   {"POST", "/ledger/v1/queries/explode", `{}`, "unknown_query", "not_found", 404, nil},
		"query by URL":    {"GET", "/ledger/v1/queries/explode", ``, "unknown_query", "not_found", 404, nil},
		"query not found": {"POST", "/ledger/v1/queries/retrieve-inventory-item", `{"id":"cup"}`, "not_found", "not_found", 404, nil},
		"bad query":       {"POST", list, `{"tke":1}`, "unknown_field", "invalid_data", 400, nil},
		"empty segment":   {"POST", "/ledger/v1/commands//adjust-inventory-levels", oneOff, "unknown_path", "not_found", 404, nil},
		"dots":            {"POST", "/ledger/v1/commands/x/../adjust-inventory-levels", oneOff, "unknown_path", "not_found", 404, nil},
		"unknown path":    {"GET", "/ledger/v2", ``, "unknown_path", "not_found", 404, nil},
		"wrong method":    {"GET", create, ``, "method_not_allowed", "invalid_data", 405, nil},
		"too large":       {"POST", create, strings.Repeat(" ", httpapi.MaxBody+1), "body_too_large", "invalid_data", 413, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := s.ask(t, c.method, c.path, c.body, c.header...)
			answer := m.refused(t)
			require.Equal(t, c.code, answer.Code, answer.Message)
			require.Equal(t, c.kind, answer.Type)
			require.Equal(t, c.status, m.status)
		})
	}
	_, err := s.client.Command(within(t), "adjust-inventory-levels", commands.Envelope{}, []byte(strings.Replace(oneOff, "-1", "-11", 1)))
	refusal, ok := errors.AsType[*fault.Error](err)
	require.True(t, ok)
	require.Equal(t, fault.NotAllowed, refusal.Kind)
	require.Equal(t, "mug", refusal.Details["inventory_item_id"])
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))
	require.Equal(t, "POST", s.ask(t, "GET", create, "").header.Get("Allow"))
}

func TestABodyOfUnknownLengthIsBoundedToo(t *testing.T) {
	s := open(t)
	for size, want := range map[int]int{httpapi.MaxBody: 200, httpapi.MaxBody + 1: 413} {
		body := struct{ *strings.Reader }{strings.NewReader(mug + strings.Repeat(" ", size-len(mug)))}
		r, err := http.NewRequestWithContext(within(t), "POST", s.server.URL()+create, body)
		require.NoError(t, err)
		r.ContentLength = -1
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, want, answer.StatusCode)
	}
}

func TestTwiceIsOnce(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	env := commands.Envelope{Key: "k1"}
	first, err := s.client.Command(within(t), "adjust-inventory-levels", env, []byte(oneOff))
	require.NoError(t, err)
	again, err := s.client.Command(within(t), "adjust-inventory-levels", env, []byte(oneOff))
	require.NoError(t, err)
	require.False(t, first.Replayed)
	require.True(t, again.Replayed)
	require.Equal(t, first.Position, again.Position)
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))
}

func TestQueriesAreAnswered(t *testing.T) {
	s := open(t)
	at := s.command(t, "create-inventory-items", mug).Position
	body := fmt.Sprintf(`{"inventory_item_id":"mug","location_ids":["paris"],"after":%d}`, at)
	reply, err := s.client.Query(within(t), "stocked-quantity", []byte(body))
	require.NoError(t, err)
	require.JSONEq(t, `{"quantity":10}`, string(reply))
	_, err = s.client.Query(within(t), "list-inventory-items", nil)
	require.NoError(t, err)
	for _, query := range []string{
		fmt.Sprintf("inventory_item_id=mug&location_ids[]=paris&after:=%d", at),
		fmt.Sprintf("inventory_item_id=mug&location_ids:=%%5B%%22paris%%22%%5D&after:=%d", at),
		`body={"inventory_item_id":"mug","location_ids":["paris","rome"]}`,
		"inventory_item_id=mug&location_ids=paris&location_ids=rome",
	} {
		m := s.ask(t, "GET", "/ledger/v1/queries/stocked-quantity?"+strings.ReplaceAll(query, `"`, "%22"), "")
		require.Equal(t, 200, m.status, m.body)
		require.JSONEq(t, `{"quantity":10}`, m.body)
	}
}

// held is a ledger that keeps commands waiting: started tells of each, and
// release lets all go on.
func held(t testing.TB) (through change, started chan string, release func()) {
	started, gate := make(chan string, 100), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return func(c *httpapi.Config) {
		next := c.Ledger.(*stockledger.Ledger)
		c.Ledger = hooked{next, func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
			started <- env.Key
			<-gate
			return next.Do(ctx, env, command)
		}}
	}, started, release
}

func TestTheLedgerSaysWhenItIsBusy(t *testing.T) {
	through, started, release := held(t)
	s := open(t, through, func(c *httpapi.Config) { c.InFlight = 2 })
	var both sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		both.Go(func() {
			_, err := s.client.Command(t.Context(), "create-inventory-items", commands.Envelope{}, fmt.Appendf(nil, `{"id":%q}`, id))
			if err != nil {
				t.Error(err)
			}
		})
		<-started
	}
	m := s.ask(t, "POST", create, mug)
	answer := m.refused(t)
	require.Equal(t, "busy", answer.Code)
	require.Equal(t, "unavailable", answer.Type)
	require.Equal(t, 503, m.status)
	require.Equal(t, "1", m.header.Get("Retry-After"))
	_, err := s.client.Query(within(t), "list-inventory-items", nil)
	require.NoError(t, err, "queries have room of their own")
	release()
	both.Wait()
	require.Equal(t, 200, s.ask(t, "POST", create, mug).status)
}

func TestClosingAnswersWhatIsUnderWay(t *testing.T) {
	through, started, release := held(t)
	s := open(t, through)
	var asked, closed sync.WaitGroup
	for n := range 20 {
		asked.Go(func() {
			_, err := s.client.Command(t.Context(), "create-inventory-items", commands.Envelope{}, fmt.Appendf(nil, `{"id":"i%d"}`, n))
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 20 {
		<-started
	}
	gone := make(chan struct{})
	closed.Go(func() {
		defer close(gone)
		if err := s.server.Close(); err != nil {
			t.Error(err)
		}
	})
	for { // until it takes no more
		conn, err := new(net.Dialer).DialContext(within(t), "tcp", strings.TrimPrefix(s.server.URL(), "http://"))
		if err != nil {
			break
		}
		require.NoError(t, conn.Close())
	}
	select {
	case <-gone:
		t.Fatal("closed before what was under way was answered")
	default:
	}
	release()
	asked.Wait()
	closed.Wait()
	require.Len(t, logged(t, s.ledger.Events()), 20)
}

func TestInternalErrorsStayInside(t *testing.T) {
	for name, do := range map[string]func() error{
		"error": func() error { return errors.New("the secret of disk 3") },
		"panic": func() error { panic("the secret of disk 3") },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(c *httpapi.Config) {
				c.Ledger = hooked{c.Ledger, func(context.Context, commands.Envelope, commands.Command) (commands.Answer, error) {
					return commands.Answer{}, do()
				}}
			})
			m := s.ask(t, "POST", create, mug)
			require.Equal(t, "internal", m.refused(t).Code)
			require.Equal(t, 500, m.status)
			require.NotContains(t, m.body, "secret")
			require.Len(t, s.log.lines(), 1)
			require.Contains(t, s.log.lines()[0], "the secret of disk 3")
			require.Equal(t, 200, s.ask(t, "POST", list, "").status, "others go on")
		})
	}
}

// An answer that breaks off must not look like a whole one.
func TestABugInTheMiddleOfAnAnswerBreaksItOff(t *testing.T) {
	s := open(t, func(c *httpapi.Config) {
		c.Routes = []httpapi.Route{{Method: "GET", Path: "/admin/half", Name: "half", Handler: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"rows":[`))
			_ = http.NewResponseController(w).Flush()
			panic("half way")
		}}}
	})
	r, err := http.NewRequestWithContext(within(t), "GET", s.server.URL()+"/admin/half", nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.ReadAll(answer.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Contains(t, strings.Join(s.log.lines(), ""), "half way")
}

func TestTheClientSaysWhenNobodyAnswers(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	c := dial(t, "http://user:very-secret-token@"+l.Addr().String(), "")
	_, err = c.Command(within(t), "create-inventory-items", commands.Envelope{}, []byte(mug))
	requireNobody(t, err, l.Addr().String())
	_, err = c.Query(within(t), "list-inventory-items", nil)
	requireNobody(t, err, l.Addr().String())
	for _, err := range c.Follow(within(t), 0, "") {
		requireNobody(t, err, l.Addr().String())
	}
}

func requireNobody(t *testing.T, err error, url string) {
	t.Helper()
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	require.Equal(t, "no_ledger", fault.Code(err))
	require.ErrorContains(t, err, url)
	require.ErrorContains(t, err, "stockledger serve")
	require.NotContains(t, fmt.Sprint(err, fault.Public(err)), "secret")
}

func TestAMissingAnswerIsAnUnknownOutcome(t *testing.T) {
	through, started, release := held(t)
	s := open(t, through)
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-started
		cancel()
	}()
	_, err := s.client.Command(ctx, "create-inventory-items", commands.Envelope{Key: "k9"}, []byte(mug))
	require.Equal(t, "outcome_unknown", fault.Code(err))
	require.ErrorContains(t, err, "k9")
	release()
	_, err = s.client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "k9"}, []byte(mug))
	require.NoError(t, err)
	require.Len(t, logged(t, s.ledger.Events()), 2)
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	s := open(t)
	at := strings.TrimPrefix(s.server.URL(), "http://")
	_, err := httpapi.Serve(within(t), httpapi.Config{Listen: at, Ledger: s.ledger, Log: s.ledger.Events()})
	require.ErrorContains(t, err, at)
	require.ErrorContains(t, err, "in use")
}

func TestWhereToListenIsChecked(t *testing.T) {
	for listen, want := range map[string]string{
		"here": "write HOST:PORT", "127.0.0.1:99999": "from 0 to 65535", "0.0.0.0:0": "set a token", ":0": "set a token",
		"192.0.2.1:0": "set a token", "ledger.example:0": "set a token", "[::]:0": "set a token",
	} {
		require.ErrorContains(t, httpapi.Config{Listen: listen}.Check(), want, listen)
		_, err := httpapi.Serve(within(t), httpapi.Config{Listen: listen})
		require.ErrorContains(t, err, want, listen)
	}
	for _, listen := range []string{"", "127.0.0.1:0", "localhost:0", "[::1]:0"} {
		require.NoError(t, httpapi.Config{Listen: listen}.Check(), listen)
	}
}

func TestReadinessSaysWhatIsWrong(t *testing.T) {
	wrong := false
	s := open(t, func(c *httpapi.Config) {
		c.Ready = func(context.Context) []httpapi.Condition {
			return []httpapi.Condition{{Name: "store", OK: true}, {Name: "inventory", OK: !wrong, Reason: "it is 50000 events behind the log"}}
		}
	})
	require.Equal(t, 200, s.ask(t, "GET", "/readyz", "").status)
	require.JSONEq(t, `{"status":"ok"}`, s.ask(t, "GET", "/healthz", "").body)
	wrong = true
	m := s.ask(t, "GET", "/readyz", "")
	require.Equal(t, 503, m.status)
	require.Equal(t, "1", m.header.Get("Retry-After"))
	require.JSONEq(t, `{"status":"unavailable","conditions":[{"name":"store","ok":true},
		{"name":"inventory","ok":false,"reason":"it is 50000 events behind the log"}]}`, m.body)
	require.Equal(t, 200, s.ask(t, "GET", "/healthz", "").status)
}

// A node that another one leads takes no commands, says so before it reads them, and
// does everything else.
func TestAStandbyRefusesCommandsAlone(t *testing.T) {
	var leads atomic.Bool
	reached := false
	s := open(t, func(c *httpapi.Config) {
		c.Standby = func() error {
			if leads.Load() {
				return nil
			}
			return fault.New(fault.Unavailable, "standby", "a leads").With("active", "a")
		}
		c.Routes = []httpapi.Route{{
			Method: http.MethodPost, Path: "/admin/things", Name: "create-thing", Scope: httpapi.Command, Errors: []int{503},
			Handler: func(http.ResponseWriter, *http.Request) { reached = true },
		}}
	})
	for _, body := range []string{mug, "no JSON at all"} {
		r := s.ask(t, "POST", create, body)
		require.Equal(t, 503, r.status)
		require.Equal(t, "1", r.header.Get("Retry-After"))
		require.JSONEq(t, `{"code":"standby","type":"unavailable","message":"a leads","details":{"active":"a"}}`, r.body)
	}
	r := s.ask(t, "POST", "/admin/things", "")
	require.Equal(t, 503, r.status)
	require.Equal(t, "1", r.header.Get("Retry-After"))
	require.JSONEq(t, `{"code":"standby","type":"unavailable","message":"a leads"}`, r.body)
	require.False(t, reached)
	require.Equal(t, 200, s.ask(t, "POST", list, "{}").status)
	require.Equal(t, 200, s.ask(t, "GET", "/healthz", "").status)
	require.JSONEq(t, `{"status":"ok","role":"standby","conditions":[{"name":"role","ok":true,"reason":"a leads"}]}`, s.ask(t, "GET", "/readyz", "").body)
	r = s.ask(t, "GET", "/readyz?role=active", "")
	require.Equal(t, 503, r.status)
	require.JSONEq(t, `{"status":"unavailable","role":"standby","conditions":[{"name":"role","ok":false,"reason":"a leads"}]}`, r.body)
	require.Equal(t, 400, s.ask(t, "GET", "/readyz?role=leader", "").status)

	leads.Store(true)
	require.Equal(t, 200, s.ask(t, "POST", create, mug).status)
	r = s.ask(t, "GET", "/readyz?role=active", "")
	require.Equal(t, 200, r.status)
	require.JSONEq(t, `{"status":"ok","role":"leading","conditions":[{"name":"role","ok":true,"reason":"leading"}]}`, r.body)
}

func TestEveryAnswerIsObserved(t *testing.T) {
	var mu sync.Mutex
	seen, timed := make(map[string]int), make(map[string]bool)
	s := open(t, func(c *httpapi.Config) {
		c.Observe = func(route string, status int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			seen[fmt.Sprint(route, " ", status)]++
			timed[route] = took > 0
		}
	})
	s.ask(t, "POST", create, mug)
	s.ask(t, "POST", create, mug)
	s.ask(t, "GET", "/nowhere", "")
	s.ask(t, "POST", "/ledger/v1/commands/whatever", "")
	s.ask(t, "GET", "/ledger/v1/events?follow=false", "")
	require.NoError(t, s.server.Close())
	require.Equal(t, map[string]int{
		"command-create-inventory-items 200": 1, "command-create-inventory-items 409": 1, "none 404": 1, "unknown-command 404": 1, "openapi 200": 1,
		"follow-events 200": 1,
	}, seen)
	require.Equal(t, map[string]bool{
		"command-create-inventory-items": true, "none": true, "unknown-command": true, "openapi": true, "follow-events": false,
	}, timed, "how long somebody follows is not how long he waits")
}

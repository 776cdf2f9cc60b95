package httpapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

// secret is the text of a token with a scope.
func secret(scope httpapi.Scope) string { return "s3cr3t-0123456789-" + string(scope) }

// guarded has a token for each scope, of a holder of that name, and one for all
// of them; and routes as those of Medusa are.
func guarded(t testing.TB) change {
	t.Helper()
	var tokens []httpapi.Token
	for _, scope := range httpapi.Scopes() {
		token, err := httpapi.NewToken(string(scope), secret(scope), scope)
		require.NoError(t, err)
		tokens = append(tokens, token)
	}
	all, err := httpapi.NewToken("all", secret("all"), httpapi.Scopes()...)
	require.NoError(t, err)
	return func(c *httpapi.Config) {
		c.Tokens = append(tokens, all)
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("# figures\n")) })
		ok := func(w http.ResponseWriter, _ *http.Request) { _ = httpapi.WriteJSON(w, 200, map[string]any{}) }
		c.Routes = []httpapi.Route{
			{Method: "GET", Path: "/admin/things/{id}", Name: "read", Scope: httpapi.Query, Answer: map[string]any{}, Handler: ok},
			{Method: "POST", Path: "/admin/things/{id}", Name: "write", Scope: httpapi.Command, Body: map[string]any{}, Answer: map[string]any{}, Handler: ok},
		}
	}
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

func basic(user, password string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

// Every route is asked with no token, with a wrong one, and with one of each
// scope; every token but the right one is kept out.
func TestEveryRouteWantsItsScope(t *testing.T) {
	s := open(t, guarded(t))
	routes := httpapi.RoutesOf(s.server)
	require.Greater(t, len(routes), 2*len(commands.Names()))
	counted := make(map[httpapi.Scope]int)
	for _, route := range routes {
		counted[route.Scope]++
		path := strings.NewReplacer("{id}", "x", "{name}", "x").Replace(route.Path) + "?follow=false"
		medusa := strings.HasPrefix(path, "/admin/")
		for name, header := range map[string][]string{
			"no token": nil, "a wrong token": bearer(secret("wrong")), "an empty token": bearer(""), "another scheme": {"Authorization", "Digest " + secret("all")},
			"a user that is none": basic("x", "y"), "only a prefix": bearer(secret("all")[:20]),
		} {
			m := s.ask(t, route.Method, path, "{}", header...)
			if route.Scope == "" {
				require.Equal(t, 200, m.status, "%s %s with %s: %s", route.Method, path, name, m.body)
				continue
			}
			require.Equal(t, 401, m.status, "%s %s with %s", route.Method, path, name)
			require.Contains(t, m.header.Get("WWW-Authenticate"), "Bearer")
			if medusa {
				require.JSONEq(t, `{"message":"Unauthorized"}`, m.body)
			} else {
				require.Equal(t, "unauthorized", m.refused(t).Code)
			}
		}
		for _, scope := range append(httpapi.Scopes(), "all") {
			m := s.ask(t, route.Method, path, "{}", bearer(secret(scope))...)
			if route.Scope == "" || scope == "all" || scope == route.Scope {
				require.NotContains(t, []int{401, 403}, m.status, "%s %s with %s: %s", route.Method, path, scope, m.body)
				continue
			}
			require.Equal(t, 403, m.status, "%s %s with %s", route.Method, path, scope)
			var answer fault.Answer
			require.NoError(t, json.Unmarshal([]byte(m.body), &answer))
			require.Equal(t, "forbidden", answer.Type)
			require.Equal(t, medusa, answer.Code == "")
		}
	}
	for _, scope := range append(httpapi.Scopes(), "") {
		require.Positive(t, counted[scope], "no route has the scope %q", scope)
	}
}

func TestATokenIsShownInAnyOfThreeWays(t *testing.T) {
	s := open(t, guarded(t))
	for name, header := range map[string][]string{
		"bearer": bearer(secret("all")), "bearer in lower case": {"Authorization", "bearer " + secret("all")},
		"js-sdk's API key": basic(secret("all"), ""), "a password": basic("anybody", secret("all")),
		"Medusa 1": {"x-medusa-access-token", secret("all")},
	} {
		require.Equal(t, 200, s.ask(t, "POST", list, "", header...).status, name)
	}
	_, err := dial(t, s.server.URL(), secret("all")).Query(within(t), "list-inventory-items", nil)
	require.NoError(t, err)
	for _, user := range []string{secret("all"), "anybody:" + secret("all")} {
		_, err = dial(t, strings.Replace(s.server.URL(), "://", "://"+user+"@", 1), "").Query(within(t), "list-inventory-items", nil)
		require.NoError(t, err)
	}
	_, err = s.client.Query(within(t), "list-inventory-items", nil)
	require.Equal(t, fault.Unauthorized, fault.Of(err).Kind)
}

func TestWhoHasTheTokenIsTheActor(t *testing.T) {
	s := open(t, guarded(t))
	for n, header := range [][]string{nil, {"Ledger-Actor", "anna"}, {"ledger-actor", ""}} {
		m := s.ask(t, "POST", create, fmt.Sprintf(`{"id":"i%d"}`, n), append(header, bearer(secret(httpapi.Command))...)...)
		require.Equal(t, 200, m.status, m.body)
	}
	var actors []string
	for _, r := range logged(t, s.ledger.Events()) {
		meta, err := r.Metadata()
		require.NoError(t, err)
		actors = append(actors, meta.Actor)
	}
	require.Equal(t, []string{"command", "anna", "command"}, actors)
}

// Whatever goes wrong with a token in hand, the token is not in what is logged,
// answered or said.
func TestATokenIsNeverRepeated(t *testing.T) {
	s := open(t, guarded(t), func(c *httpapi.Config) {
		c.Ledger = hooked{c.Ledger, func(_ context.Context, env commands.Envelope, _ commands.Command) (commands.Answer, error) {
			panic(fmt.Sprintf("with %v", env))
		}}
	})
	var seen strings.Builder
	for _, route := range httpapi.RoutesOf(s.server) {
		path := strings.NewReplacer("{id}", "x", "{name}", "x").Replace(route.Path) + "?follow=false"
		for _, token := range []string{secret("all"), secret("wrong"), secret(httpapi.Operate)} {
			for _, header := range [][]string{bearer(token), basic(token, ""), basic("x", token), {"X-Medusa-Access-Token", token}} {
				m := s.ask(t, route.Method, path, `{"id":"mug"}`, header...)
				fmt.Fprintln(&seen, m.status, m.header, m.body)
			}
		}
	}
	for _, header := range []string{"Ledger-Nonsense", "Idempotency-Key"} {
		m := s.ask(t, "POST", create, mug, append(bearer(secret("all")), header, "", header, "")...)
		fmt.Fprintln(&seen, m.status, m.header, m.body)
	}
	for _, url := range []string{s.server.URL(), "http://127.0.0.1:1", "http://%zz", "nats://x", "http://h?q#f"} {
		at := strings.Replace(url, "://", "://"+secret("wrong")+"@", 1)
		c, err := httpapi.Dial(at, "")
		fmt.Fprintln(&seen, err, httpapi.Redacted(at))
		if err == nil {
			_, err = c.Query(within(t), "list-inventory-items", nil)
			fmt.Fprintln(&seen, err, fault.Public(err))
			c.Close()
		}
	}
	_, err := httpapi.NewToken("short", "s3cr3t")
	fmt.Fprintln(&seen, err)
	logged := strings.Join(s.log.lines(), "")
	require.Contains(t, logged, "panic", "something was logged")
	require.NotContains(t, seen.String()+logged, "s3cr3t")
	require.NotContains(t, seen.String()+logged, base64.StdEncoding.EncodeToString([]byte(secret("all")))[:20])
}

// Such a URL is taken for a host and a path, and the host would be looked up.
func TestATokenWithASlashIsNotTakenForAHost(t *testing.T) {
	for _, url := range []string{
		"http://s3cr3t/s3cr3t@127.0.0.1:1", "https://s3cr3t/s3cr3t@127.0.0.1:1", "http://s3cr3t:1/s3cr3t@127.0.0.1:1",
		"http://ann:x@s3cr3t/s3cr3t@127.0.0.1:1", "http://s3cr3t?s3cr3t@127.0.0.1:1", "http://s3cr3t#s3cr3t@127.0.0.1:1",
	} {
		_, err := httpapi.Dial(url, "")
		require.ErrorContains(t, err, "the server URL", url)
		require.NotContains(t, err.Error(), "s3cr3t", url)
		require.NotContains(t, httpapi.Redacted(url), "s3cr3t")
	}
	dial(t, "http://s3cr3t%2Fs3cr3t@127.0.0.1:1/below", "")
}

func TestBrowsersOfOthersAreKeptOut(t *testing.T) {
	s := open(t)
	port := s.server.URL()[strings.LastIndex(s.server.URL(), ":"):]
	for name, c := range map[string]struct {
		header []string
		code   string
	}{
		"curl":                        {nil, ""},
		"localhost":                   {[]string{"Host", "localhost" + port}, ""},
		"upper case":                  {[]string{"Host", "LOCALHOST" + port}, ""},
		"another loopback address":    {[]string{"Host", "127.1.2.3"}, ""},
		"IPv6":                        {[]string{"Host", "[::1]" + port}, ""},
		"a name that leads here":      {[]string{"Host", "attacker.example" + port}, "foreign_host"},
		"a name that looks like ours": {[]string{"Host", "localhost.attacker.example" + port}, "foreign_host"},
		"a network address":           {[]string{"Host", "192.0.2.1" + port}, "foreign_host"},
		"a page of another site":      {[]string{"Sec-Fetch-Site", "cross-site"}, "foreign_origin"},
		"a page of another port":      {[]string{"Sec-Fetch-Site", "same-site"}, "foreign_origin"},
		"an old browser":              {[]string{"Origin", "http://attacker.example"}, "foreign_origin"},
		"a page of ours":              {[]string{"Sec-Fetch-Site", "same-origin"}, ""},
		"the address bar":             {[]string{"Sec-Fetch-Site", "none"}, ""},
	} {
		for _, method := range []string{"POST", "GET"} {
			m := s.ask(t, method, list, "", c.header...)
			if c.code == "" {
				require.Equal(t, 200, m.status, "%s by %s", method, name)
				continue
			}
			require.Equal(t, 403, m.status, "%s by %s", method, name)
			require.Equal(t, c.code, m.refused(t).Code, name)
		}
	}
	with := open(t, guarded(t))
	header := append(bearer(secret("all")), "Host", "ledger.example")
	require.Equal(t, 200, with.ask(t, "POST", list, "", header...).status, "whoever shows a token is no page of others")
}

func TestFilesOfTokens(t *testing.T) {
	sum := sha256.Sum256([]byte(secret("all")))
	hashed := fmt.Sprintf(`[{"name":"till","token_sha256":%q,"scopes":["command","query"]}]`, hex.EncodeToString(sum[:]))
	plain := fmt.Sprintf(`[{"name":"till","token":%q,"scopes":["command","query"]}]`, secret("all"))
	write := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "tokens.json")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	for _, path := range []string{write(hashed, 0o600), write(hashed, 0o644), write(plain, 0o600)} {
		tokens, err := httpapi.ReadTokens(path)
		require.NoError(t, err)
		s := open(t, func(c *httpapi.Config) { c.Tokens = tokens })
		require.Equal(t, 200, s.ask(t, "POST", list, "", bearer(secret("all"))...).status)
		require.Equal(t, 401, s.ask(t, "POST", list, "", bearer(secret("wrong"))...).status)
	}
	entry := func(text string) string {
		return "[" + strings.Replace(hashed[1:len(hashed)-1], `"till"`, text, 1) + "]"
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable with tokens in it": {plain, 0o640, "chmod 600"},
		"writable":                   {hashed, 0o622, "chmod 600"},
		"no JSON":                    {"s3cr3t", 0o600, "is no file of tokens"},
		"an unknown member":          {`[{"nam":"s3cr3t"}]`, 0o600, "is no file of tokens"},
		"empty":                      {"[]", 0o600, "is no file of tokens"},
		"neither":                    {`[{"name":"x","scopes":["query"]}]`, 0o600, "a token or a token_sha256"},
		"both":                       {strings.Replace(hashed, `"name"`, `"token":"s3cr3t-0123456789","name"`, 1), 0o600, "and not both"},
		"a short token":              {`[{"name":"x","token":"s3cr3t","scopes":["query"]}]`, 0o600, "at least 16 characters"},
		"a token with a space":       {`[{"name":"x","token":"s3cr3t s3cr3t s3cr3t","scopes":["query"]}]`, 0o600, "without spaces"},
		"a short digest":             {`[{"name":"x","token_sha256":"abcd","scopes":["query"]}]`, 0o600, "64 hexadecimal digits"},
		"no name":                    {entry(`""`), 0o600, "give it a name"},
		"no scopes":                  {strings.Replace(hashed, `["command","query"]`, `[]`, 1), 0o600, "give it scopes"},
		"an unknown scope":           {strings.Replace(hashed, `"query"`, `"queries"`, 1), 0o600, `no scope "queries"`},
		"two of a name":              {"[" + hashed[1:len(hashed)-1] + "," + hashed[1:], 0o600, "two of that name"},
		"two that are the same":      {"[" + hashed[1:len(hashed)-1] + "," + strings.Replace(hashed[1:], "till", "tilt", 1), 0o600, "are the same"},
	} {
		_, err := httpapi.ReadTokens(write(c.text, c.mode))
		require.ErrorContains(t, err, c.want, name)
		require.NotContains(t, err.Error(), "s3cr3t", name)
	}
	_, err := httpapi.ReadTokens(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestBeyondThisMachineATokenIsNeeded(t *testing.T) {
	token, err := httpapi.NewToken("x", secret("all"), httpapi.Query)
	require.NoError(t, err)
	require.ErrorContains(t, httpapi.Config{Listen: "0.0.0.0:0"}.Check(), "whoever can reach it could change stock")
	require.NoError(t, httpapi.Config{Listen: "0.0.0.0:0", Tokens: []httpapi.Token{token}}.Check())
}

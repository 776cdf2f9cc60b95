package medusaapi_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/medusaapi"
	"github.com/stockledger/stockledger/projections"
)

// TestMedusasOwnClientWorksUnchanged drives the ledger with @medusajs/js-sdk: the
// version that the routes were written after, and a newer one.
func TestMedusasOwnClientWorksUnchanged(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches packages from npm")
	}
	dir := installed(t)
	for _, sdk := range []string{"@medusajs/js-sdk", "newest-js-sdk"} {
		t.Run(sdk, func(t *testing.T) {
			t.Log(node(t, dir, open(t), "test.mjs", "SDK="+sdk))
		})
	}
}

// TestTheScriptInTheDocumentIsTrue runs the first script of the document and compares
// what it prints with what stands below it.
func TestTheScriptInTheDocumentIsTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches packages from npm")
	}
	page, err := os.ReadFile("../../docs/medusa.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```js\n(.*?)```\n\n```\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, found)
	dir := installed(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "document.mjs"), found[1], 0o600))
	require.Equal(t, string(found[2]), node(t, dir, open(t), "document.mjs"))
}

// TestQueriesAreReadAsMedusaReadsThem compares with qs, which Medusa reads them with.
func TestQueriesAreReadAsMedusaReadsThem(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches packages from npm")
	}
	queries := []string{
		"", "a=1", "a=1&a=2", "a=1&a=2&a=3", "a[]=1", "a[]=1,2", "a[]=1&a[]=2,3", "a[0]=x", "a[1]=x&a[0]=y", "a[0]=x&a[2]=y",
		"a[$gt]=1&a[$lt]=2", "a[$in][]=1&a[$in][]=2", "a[$in][0]=1", "a=1,2", "a=", "a", "a.b=1", "a.b=1&c=2", "a.b[]=1,2",
		"$or[0][a]=1&$or[1][b]=2", "$or[0][a]=1&$or[0][b]=2", "$or[0][a][$gt]=1", "$or[0][a][]=1&$or[0][a][]=2", "$and[0][a][0]=1&$and[0][a][1]=2",
		"a%5B%5D=1&a%5B%5D=2", "a[%24gt]=1", "a=%2Bx&b=c+d", "a[b][c]=1&a[b][d]=2", "&&a=1&", "a=b=c", "a[]=", "é=ü", "a[b.c]=1", "a[10]=x&a[9]=y",
	}
	argument, err := json.Marshal(queries)
	require.NoError(t, err)
	run := exec.CommandContext(t.Context(), "node", "queries.mjs", string(argument))
	run.Dir = installed(t)
	output, err := run.CombinedOutput()
	require.NoError(t, err, "%s", output)
	var theirs []any
	require.NoError(t, json.Unmarshal(output, &theirs), "%s", output)
	for i, query := range queries {
		ours, err := medusaapi.ParseQuery(query)
		require.NoError(t, err, query)
		require.Equal(t, theirs[i], ours, query)
	}
}

// node runs a script against a shop and returns what it prints.
func node(t *testing.T, dir string, s *shop, script string, env ...string) string {
	t.Helper()
	url, token := s.serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, "node", script)
	run.Dir, run.Env = dir, append(append(os.Environ(), "LEDGER_URL="+url, "LEDGER_TOKEN="+token), env...)
	output, err := run.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return string(output)
}

// serve serves a shop on a port of its own, to whoever has the token.
func (s *shop) serve(t *testing.T) (url, token string) {
	t.Helper()
	token = "0123456789abcdef"
	client, err := httpapi.NewToken("js-sdk", token, httpapi.Command, httpapi.Query)
	require.NoError(t, err)
	server, err := httpapi.Serve(t.Context(), httpapi.Config{
		Listen: "127.0.0.1:0", Ledger: s.ledger, Log: s.ledger.Events(), Queries: projections.QueryNames(),
		Routes: s.routes, Tokens: []httpapi.Token{client}, Logger: quiet,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server.URL(), token
}

// installed is a directory with the script and the packages it needs.
func installed(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s, which is not installed here", program)
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "js-sdk"))))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	if output, err := npm.CombinedOutput(); err != nil {
		t.Skipf("the packages cannot be fetched: %v\n%s", err, output)
	}
	return dir
}

package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

// recorder is an answer that takes deadlines, as one on a connection does.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetReadDeadline(time.Time) error  { return nil }
func (recorder) SetWriteDeadline(time.Time) error { return nil }

// Whatever is sent to any route, it is answered, or refused with a code, and never
// because something of ours broke.
func FuzzRequests(f *testing.F) {
	s := open(f)
	s.command(f, "create-inventory-items", mug)
	for _, seed := range [][4]string{
		{"POST " + create, "", mug, ""},
		{"POST " + adjust, "", oneOff, "Idempotency-Key: k\nLedger-Effective-At: 2026-01-31T13:45:00Z"},
		{"POST " + adjust, "", `[` + oneOff + `]`, "Ledger-Dry-Run: maybe\nLedger-Foo: bar"},
		{"GET " + list, "sku[$ilike]=m%25&take:=1&order[]=-sku", "", ""},
		{"GET " + list, "body={\"$or\":[{}]}", "", "traceparent: 00-x"},
		{"POST " + list, "", `{"q":"mug","relations":["location_levels"],"cursor":"e30"}`, "Content-Type: text/plain"},
		{"GET /ledger/v1/events", "after=1&stream=item-mug", "", "Last-Event-ID: x"},
		{"GET /ledger/v1/events", "after=0", "", "Last-Event-ID: 0"},
		{"GET /openapi.json", "", "", "Origin: http://evil.example"},
		{"PATCH /ledger/v1/queries/%2e%2e/commands//x", "", "", "Host: evil.example"},
		{"HEAD /readyz", "role=active&role=x", "", "Authorization: Basic eA==\nAuthorization: Bearer x"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	handler := httpapi.HandlerOf(s.server)
	f.Fuzz(func(t *testing.T, line, query, body, headers string) {
		method, path, _ := strings.Cut(line, " ")
		if strings.Contains(query, "after") && strings.Contains(path, "quer") || strings.Contains(body, "after") {
			return // it may say to wait, which is tested elsewhere
		}
		// Who follows the events goes before the first heartbeat.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if strings.HasSuffix(path, "/events") {
			query = "follow=false&" + query
		}
		r, err := http.NewRequestWithContext(ctx, method, "http://localhost/", strings.NewReader(body))
		if err != nil {
			return // no client can send it
		}
		r.URL.Path, r.URL.RawQuery, r.Host = path, query, "localhost"
		for header := range strings.SplitSeq(headers, "\n") {
			name, value, _ := strings.Cut(header, ":")
			r.Header.Add(name, strings.TrimSpace(value))
		}
		w := recorder{httptest.NewRecorder()}
		handler.ServeHTTP(w, r)
		require.NoError(t, ctx.Err(), "%s ?%s", line, query)
		require.NotEqual(t, http.StatusInternalServerError, w.Code, "%s ?%s %q: %s", line, query, body, w.Body)
		if w.Code < 400 || strings.HasPrefix(path, "/admin/") || strings.HasSuffix(path, "z") {
			return
		}
		var refusal fault.Answer
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &refusal), "%s", w.Body)
		require.NotEmpty(t, refusal.Code)
		require.NotEqual(t, "internal", refusal.Code)
	})
}

// Whatever a server sends to a client that follows the events, the client ends
// with an error; it yields nothing twice and nothing out of its place.
func FuzzFollow(f *testing.F) {
	const event = "id: 1\nevent: x\ndata: {\"position\":1,\"stream\":\"item-mug\",\"type\":\"x\"}\n\n"
	for _, text := range []string{
		"", "retry: 1000\n\n" + event, event + event, event + strings.ReplaceAll(event, "1", "3"), ":\n\nid: 7\n\n", "data: {}\n\n", "id: -1\n\n",
		"id: 1\ndata: {\"position\":1,\"hash\":\"zz\"}\n\n", "id: 1\r\ndata: null\r\n\r\n", "id: 18446744073709551615\ndata: {\"position\":18446744073709551615}\n\n",
	} {
		f.Add([]byte(text))
	}
	client := dial(f, "http://127.0.0.1:1", "")
	f.Fuzz(func(t *testing.T, sent []byte) {
		var last uint64
		err := client.ReadEvents(bytes.NewReader(sent), func(e httpapi.Event) {
			require.Greater(t, e.Position, last)
			last = e.Position
		})
		require.Error(t, err, "what ends is cut off")
	})
}

package httpapi_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/doctest"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

// documented is the limit that docs/operations.md names, as it is written there.
func documented(t testing.TB, what string) string {
	t.Helper()
	rows := doctest.Rows(t, "../../docs/operations.md", "Limits")
	require.Contains(t, rows, what)
	return rows[what][1]
}

func documentedNumber(t testing.TB, what string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.ReplaceAll(documented(t, what), ",", ""))
	require.NoError(t, err)
	return n
}

func TestTheBoundsOnTimeAndMemoryAreInTheDocument(t *testing.T) {
	for what, bound := range httpapi.Bounds() {
		require.Equal(t, bound, documented(t, what), what)
	}
}

// requireSentAway checks a refusal of what came on top.
func requireSentAway(t *testing.T, r reply) {
	t.Helper()
	refusal := r.refused(t)
	require.Equal(t, 503, r.status)
	require.Equal(t, "busy", refusal.Code)
	require.Equal(t, fault.Unavailable.String(), refusal.Type)
	require.Positive(t, refusal.Details["retry_after"])
	seconds, err := strconv.Atoi(r.header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
}

// As many commands as the document says may be under way. Who comes on top is sent
// away at once and told when to come again; then there is room for him.
func TestCommandsOnTopAreSentAway(t *testing.T) {
	most := documentedNumber(t, "commands, queries, operations under way, each over NATS and over HTTP")
	started, gate := make(chan struct{}, most), make(chan struct{})
	s := open(t, func(c *httpapi.Config) {
		c.Ledger = hooked{c.Ledger, func(context.Context, commands.Envelope, commands.Command) (commands.Answer, error) {
			started <- struct{}{}
			<-gate
			return commands.Answer{Result: []byte("null")}, nil
		}}
	})
	release := sync.OnceFunc(func() { close(gate) })
	defer release()
	answers := make([]*bufio.Reader, most)
	for i := range most {
		conn := s.connect(t)
		_, err := io.WriteString(conn, "POST "+create+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
		require.NoError(t, err)
		answers[i] = bufio.NewReader(conn)
	}
	for range most {
		<-started
	}
	requireSentAway(t, s.ask(t, "POST", create, "{}"))
	require.Equal(t, 200, s.ask(t, "POST", list, "{}").status, "queries have room of their own")
	release()
	for _, from := range answers {
		answer, err := http.ReadResponse(from, nil)
		require.NoError(t, err)
		require.Equal(t, 200, answer.StatusCode)
		require.NoError(t, answer.Body.Close())
	}
	require.Equal(t, 200, s.ask(t, "POST", create, "{}").status)
}

// As many may follow the events as the document says, whether they read or not.
func TestFollowersOnTopAreSentAway(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	most := documentedNumber(t, "who follows the events over HTTP")
	for range most {
		s.begin(t, "")
	}
	requireSentAway(t, s.ask(t, "GET", "/ledger/v1/events", ""))
	s.command(t, "adjust-inventory-levels", oneOff)
}

// A URL that is too long is refused in words, not only by a status.
func TestALongURLIsRefusedInWords(t *testing.T) {
	s := open(t)
	r := s.ask(t, "GET", list+"?q="+strings.Repeat("x", 64<<10), "")
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, r.status)
	refusal := r.refused(t)
	require.Equal(t, "headers_too_large", refusal.Code)
	require.InDelta(t, 64<<10, refusal.Details["limit"], 0)
}

package httpapi_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
)

// connect opens a connection that is given up when the test has waited for long.
func (s *shop) connect(t testing.TB) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(within(t), "tcp", strings.TrimPrefix(s.server.URL(), "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// A server says 100 Continue when it begins to wait for the body.
func TestWhoIsSlowKeepsNobodyOut(t *testing.T) {
	s := open(t)
	const slow = 40 // times 8 MiB is more than may be in flight
	for _, path := range []string{create, list} {
		var last net.Conn
		var answers *bufio.Reader
		for range slow {
			last = s.connect(t)
			_, err := io.WriteString(last, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
			require.NoError(t, err)
			answers = bufio.NewReader(last)
			answer, err := http.ReadResponse(answers, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusContinue, answer.StatusCode)
			require.NoError(t, answer.Body.Close())
		}
		m := s.ask(t, "POST", path, "{}")
		require.Equal(t, 200, m.status, m.body)
		_, err := io.WriteString(last, "2\r\n{}\r\n0\r\n\r\n")
		require.NoError(t, err)
		answer, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		require.Equal(t, 200, answer.StatusCode, "who is slow is answered, too")
		require.NoError(t, answer.Body.Close())
	}
}

// Nobody waits for the body of whoever has shown no token.
func TestOpenRoutesTakeNoBody(t *testing.T) {
	conn := open(t).connect(t)
	_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, 200, answer.StatusCode)
	require.NoError(t, answer.Body.Close())
}

// slowly is a body that something happens in the middle of.
type slowly struct {
	begin io.Reader
	then  func()
}

func (s *slowly) Read(b []byte) (int, error) {
	n, err := s.begin.Read(b)
	if err == io.EOF {
		s.then()
	}
	return n, err
}

func TestWhatIsArrivingIsBounded(t *testing.T) {
	whole := httpapi.Arriving(10)
	arrive := func(body io.Reader) (string, error) {
		text, err := whole(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "POST", "/", body))
		return string(text), err
	}
	met := false
	text, err := arrive(&slowly{strings.NewReader("12345678"), func() {
		met = true
		_, err := arrive(strings.NewReader("123"))
		require.Equal(t, "busy", fault.Code(err))
		require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
		text, err := arrive(strings.NewReader("12"))
		require.NoError(t, err, "what was refused counts no more")
		require.Equal(t, "12", text)
	}})
	require.NoError(t, err)
	require.Equal(t, "12345678", text)
	require.True(t, met)
	_, err = arrive(strings.NewReader("1234567890"))
	require.NoError(t, err, "what is whole is arriving no more")
}

// closing is a connection that takes no deadline any more.
type closing struct{ *httptest.ResponseRecorder }

func (closing) SetReadDeadline(time.Time) error  { return net.ErrClosed }
func (closing) SetWriteDeadline(time.Time) error { return net.ErrClosed }

func TestAConnectionThatIsClosingIsNoBug(t *testing.T) {
	s := open(t)
	w := closing{httptest.NewRecorder()}
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		httpapi.HandlerOf(s.server).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/healthz", nil))
	})
	require.Empty(t, s.log.lines())
}

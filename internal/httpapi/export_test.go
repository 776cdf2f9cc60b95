package httpapi

import (
	"fmt"
	"io"
	"net/http"

	"github.com/stockledger/stockledger/internal/transport"
)

// RoutesOf are all routes of a server.
func RoutesOf(s *Server) []Route { return s.routes }

// Hidden reports whether a route is not documented.
func (r Route) Hidden() bool { return r.hidden }

// Parameters is the JSON of the query of a URL.
var Parameters = parameters

// HandlerOf is what answers the requests of a server.
func HandlerOf(s *Server) http.Handler { return s.http.Handler }

// Arriving takes bodies behind a bound on what has come of them.
func Arriving(limit int64) func(http.ResponseWriter, *http.Request) ([]byte, error) {
	return newArriving(limit).whole
}

// ReadEvents takes the events that come over one connection, as a client does that
// follows all of them from the beginning.
func (c *Client) ReadEvents(from io.Reader, do func(Event)) error {
	f := &follower{client: c}
	_, err := f.read(from, func(e Event) bool { do(e); return true }, func() {})
	return err
}

// Bounds are those of a server on time and memory, as docs/operations.md has them.
func Bounds() map[string]string {
	size := func(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
	return map[string]string{
		"bodies of those":                                         size(transport.InFlightBytes),
		"bodies that are still arriving over HTTP":                size(arrivingBytes),
		"what a follower over HTTP takes for one batch of events": fmt.Sprintf("%.0f s", takeWithin.Seconds()),
		"time for the headers, the body, the answer over HTTP": fmt.Sprintf("%.0f s, %.0f s, %.0f min",
			headerTimeout.Seconds(), bodyTimeout.Seconds(), answerTimeout.Minutes()),
	}
}

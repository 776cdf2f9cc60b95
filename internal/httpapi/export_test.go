package httpapi

import (
	"io"
	"net/http"
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

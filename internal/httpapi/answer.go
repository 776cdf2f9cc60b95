package httpapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/stockledger/stockledger/internal/fault"
)

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever is gone cannot be told
	return nil
}

// Status is the HTTP status of an error.
func Status(err error) int {
	switch e := fault.Of(err); e.Code { // HTTP has words of its own for these
	case "body_too_large":
		return http.StatusRequestEntityTooLarge
	case "headers_too_large":
		return http.StatusRequestHeaderFieldsTooLarge
	default:
		return e.Kind.Status()
	}
}

// medusaError is how Medusa writes an error. Those that come from here have a
// code only where nobody knows what went wrong, and where another node is to be
// asked, which no Medusa knows.
type medusaError struct {
	Code    string `json:"code,omitempty"`
	Type    string `json:"type,omitempty"`
	Message string `json:"message"`
}

// CodeStandby is the code of what a node refuses because another one leads.
const CodeStandby = "standby"

// face is an error as the client of that path knows errors.
func (s *Server) face(r *http.Request, err error) any {
	public := fault.Public(err)
	if !strings.HasPrefix(r.URL.Path, "/admin/") {
		return public
	}
	if public.Code == CodeStandby {
		return medusaError{CodeStandby, public.Type, public.Message}
	}
	switch fault.Of(err).Kind {
	case fault.Unauthorized:
		return medusaError{Message: "Unauthorized"} // nothing else, as Medusa's middleware has it
	case fault.Internal:
		return medusaError{"unknown_error", "unknown_error", "An unknown error occurred."}
	default:
		return medusaError{Type: public.Type, Message: public.Message}
	}
}

// refuse answers with an error, and tells the operator what only he may know.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := fault.Of(err)
	switch e.Kind {
	case fault.Internal:
		s.config.Logger.Error("a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	case fault.Unavailable:
		w.Header().Set("Retry-After", retryAfter(e))
	case fault.Unauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="stockledger"`)
	case fault.Invalid, fault.NotFound, fault.NotAllowed, fault.Conflict, fault.Forbidden:
	}
	s.write(w, r, Status(err), s.face(r, err))
}

// retryAfter is in whole seconds, as the header wants it.
func retryAfter(e *fault.Error) string {
	seconds, _ := e.Details["retry_after"].(float64)
	return strconv.Itoa(max(1, int(math.Ceil(seconds))))
}

// write answers with v. What cannot be written as JSON is a bug.
func (s *Server) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	if err := WriteJSON(w, status, v); err != nil {
		s.config.Logger.Error("an answer cannot be written", "method", r.Method, "path", r.URL.Path, "err", err)
		http.Error(w, `{"code":"internal","type":"unexpected_state","message":"internal error; the ledger's log says more"}`, http.StatusInternalServerError)
	}
}

// Package fault is what can go wrong, in one vocabulary: a kind that says what
// a caller can do about it, a stable code that says what happened, a sentence
// for people, and details for programs. Transports carry it unchanged; the only
// table that turns kinds into numbers is here.
package fault

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// Kind is what a caller can do about an error.
type Kind uint8

// The kinds.
const (
	Internal     Kind = iota // a bug or an unclassified failure; its text stays in our logs
	Invalid                  // the request makes no sense; mend it before sending it again
	NotFound                 // what is named does not exist
	NotAllowed               // understood, and refused by a rule
	Conflict                 // it contradicts what is already recorded
	Unavailable              // something we need is away; the same request may work later
	Unauthorized             // who are you
	Forbidden                // you may not
)

// kinds holds Medusa's name of each kind and its HTTP status. NATS sends the
// status as the Nats-Service-Error-Code header.
var kinds = [...]struct {
	name   string
	status int
}{
	Internal:     {"unexpected_state", 500},
	Invalid:      {"invalid_data", 400},
	NotFound:     {"not_found", 404},
	NotAllowed:   {"not_allowed", 400},
	Conflict:     {"conflict", 409},
	Unavailable:  {"unavailable", 503},
	Unauthorized: {"unauthorized", 401},
	Forbidden:    {"forbidden", 403},
}

// String is the kind's name, as Medusa has it: invalid_data, not_found, ….
func (k Kind) String() string { return kinds[k].name }

// Status is the HTTP status of the kind.
func (k Kind) Status() int { return kinds[k].status }

// Error is a refusal or a failure.
type Error struct {
	Kind    Kind
	Code    string // stable, lower_snake_case, such as insufficient_stock
	Message string // for people
	// Details name what it is about and the numbers that decided: line (counted
	// from 1), field, inventory_item_id, location_id, asked, available, ….
	Details map[string]any
}

// New makes an error. Message is a format for args.
func New(kind Kind, code, message string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(message, args...)}
}

// With is e with one more detail. e itself stays as it is.
func (e *Error) With(name string, value any) *Error {
	c := *e
	c.Details = maps.Clone(e.Details)
	if c.Details == nil {
		c.Details = make(map[string]any, 1)
	}
	c.Details[name] = value
	return &c
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Of finds the Error in err. An error that holds none is Internal, but for the
// end of a context, which is Unavailable: the request may yet be carried out.
func Of(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return New(Unavailable, "outcome_unknown",
			"no answer in time; a command may or may not be carried out: send it again with the same key to find out")
	}
	return New(Internal, "internal", "%s", err)
}

// Code is the code of err, "" for nil.
func Code(err error) string {
	if err == nil {
		return ""
	}
	return Of(err).Code
}

// Answer is the public face of an error, the same on every transport.
type Answer struct {
	Code    string         `json:"code"`
	Type    string         `json:"type"`
	Message string         `json:"message"`
	Details map[string]any `json:"details,omitempty"`
}

// Public is what the caller may know about err. Of an Internal error that is
// only that it happened.
func Public(err error) Answer {
	e := Of(err)
	if e.Kind == Internal {
		return Answer{Code: "internal", Type: Internal.String(), Message: "internal error; the ledger's log says more"}
	}
	return Answer{e.Code, e.Kind.String(), e.Message, e.Details}
}

// Error turns an answer that came from a server back into the error it was.
func (a Answer) Error() *Error {
	for k := range kinds {
		if kinds[k].name == a.Type {
			return &Error{Kind(k), a.Code, a.Message, a.Details}
		}
	}
	return &Error{Internal, a.Code, a.Message, a.Details}
}

package medusaapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/transport"
)

// patience is how long an answer waits at most for the read models to reach the
// command it follows.
const patience = 5 * time.Second

// A call is one request on its way.
type call struct {
	*api
	w http.ResponseWriter
	r *http.Request
}

func (c *call) ctx() context.Context { return c.r.Context() }

// id is a part of the path.
func (c *call) id(name string) string { return c.r.PathValue(name) }

// handler answers with what run makes of a request, or with the error it ends in.
func (a *api) handler(status int, run func(*call) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := run(&call{a, w, r})
		var body []byte
		if err == nil {
			body, err = json.Marshal(answer)
		}
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		a.reply(w, r, status, body)
	}
}

func (a *api) reply(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if _, err := bytes.NewReader(body).WriteTo(w); err != nil {
		a.logger.DebugContext(r.Context(), "answer not delivered", slog.String("path", r.URL.Path), slog.Any("err", err))
	}
}

// A problem is the body of an answer that is an error.
type problem struct {
	Code    string `json:"code,omitzero"`
	Type    string `json:"type"`
	Message string `json:"message"`
}

// tell logs a failure of ours, of which the answer does not say much.
func (a *api) tell(r *http.Request, err error) {
	if fault.Of(err).Kind == fault.Internal {
		a.logger.ErrorContext(r.Context(), "a request failed", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("err", err))
	}
}

func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	a.tell(r, err)
	if fault.Of(err).Kind == fault.Unavailable {
		w.Header().Set("Retry-After", "1")
	}
	body, failed := json.Marshal(problemOf(err))
	if failed != nil { // a message that is not UTF-8
		body = []byte(`{"type":"invalid_data","message":"the request is not valid UTF-8"}`)
	}
	a.reply(w, r, httpapi.Status(err), body)
}

// problemOf says an error as Medusa would. Only a conflict and a failure of ours
// have a code, as there, and what another node carries out, which no Medusa knows.
func problemOf(err error) problem {
	f := fault.Of(err)
	if f.Code == httpapi.CodeStandby {
		return problem{f.Code, f.Kind.String(), f.Message}
	}
	switch f.Kind {
	case fault.Internal:
		return problem{"unknown_error", "unknown_error", "An unknown error occurred."}
	case fault.Conflict:
		return problem{"invalid_state_error", f.Kind.String(), f.Message}
	}
	return problem{Type: f.Kind.String(), Message: f.Message}
}

func invalid(message string, args ...any) error {
	return fault.New(fault.Invalid, "invalid_value", message, args...)
}

func notFound(message string, args ...any) error {
	return fault.New(fault.NotFound, "not_found", message, args...)
}

// retold is err with another message, and kind, if its code is the one given.
func retold(err error, code string, kind fault.Kind, message string, args ...any) error {
	if fault.Code(err) != code {
		return err
	}
	return fault.New(kind, code, message, args...)
}

// body checks the body of the request against its schema and reads it into v.
func (c *call) body(s shape, v any) error {
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, httpapi.MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return transport.TooLarge(0, httpapi.MaxBody)
	}
	if err != nil {
		return invalid("the body could not be read: %v", err)
	}
	if len(raw) == 0 {
		raw = []byte("{}")
	} else if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return invalid("Invalid request: send the body as application/json")
	}
	clean, err := s.read(raw)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(clean, v); err != nil {
		return invalid("Invalid request: %v", err)
	}
	return nil
}

// do carries out a command, and then answers with what then makes of its result
// once that can be read. A dry run is answered with the ledger's own answer: there
// is nothing to read back.
func (c *call) do(command commands.Command, then func(result []byte) (any, error)) (any, error) {
	env, err := transport.Envelope(c.r.Header)
	if err != nil {
		return nil, err
	}
	answer, err := c.ledger.Do(c.ctx(), env, command)
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("Ledger-Command-Id", answer.CommandID)
	if answer.DryRun {
		return answer, nil
	}
	ctx, cancel := context.WithTimeout(c.ctx(), patience)
	defer cancel()
	if err := c.models.WaitFor(ctx, answer.Position); err != nil {
		return nil, fault.New(fault.Unavailable, "not_caught_up",
			"command %s was carried out, but cannot be read back yet: %v; read again later", answer.CommandID, err)
	}
	return then(answer.Result)
}

// rows reads the rows of a command's result.
func rows[R any](result []byte) (all []R, err error) {
	return all, json.Unmarshal(result, &all)
}

// named reads the ids that a command answered with.
func named(result []byte) ([]string, error) {
	var r commands.IDsRow
	err := json.Unmarshal(result, &r)
	return r.IDs, err
}

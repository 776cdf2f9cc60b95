package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

const (
	commandPath   = "/ledger/v1/commands/"
	queryPath     = "/ledger/v1/queries/"
	eventsPath    = "/ledger/v1/events"
	operationPath = "/ledger/v1/operations/"
)

// ledgerRoutes are those of commands, queries and events. Every name has one of
// its own.
func (s *Server) ledgerRoutes() []Route {
	var all []Route
	for _, name := range commands.Names() {
		all = append(all, Route{
			Method: http.MethodPost, Path: commandPath + name, Name: "command-" + name, Scope: Command,
			About: "Carry out " + name + ".",
			Body:  bodies()[name], Answer: commands.Answer{},
			Errors:  []int{400, 404, 409, 413, 503},
			Handler: s.handle(func(r *http.Request) (any, error) { return s.command(r, name) }),
		})
	}
	for _, name := range slices.Sorted(maps.Keys(s.config.Queries)) {
		all = append(all, s.queryRoutes(name)...)
	}
	return append(all, s.unknownRoute(http.MethodPost, commandPath, "command", Command),
		s.unknownRoute(http.MethodPost, queryPath, "query", Query),
		s.unknownRoute(http.MethodGet, queryPath, "query", Query),
		s.unknownRoute(http.MethodPost, operationPath, "operation", Operate),
		s.eventsRoute())
}

func (s *Server) queryRoutes(name string) []Route {
	post := Route{
		Method: http.MethodPost, Path: queryPath + name, Name: "query-" + name, Scope: Query,
		About: s.config.Queries[name],
		Body:  json.RawMessage{}, Answer: json.RawMessage{},
		Errors:  []int{400, 404, 413, 503},
		Handler: s.handle(func(r *http.Request) (any, error) { return s.query(r, name) }),
	}
	if shape, found := s.config.Shapes[name]; found {
		post.Body, post.Answer = shape, shape.Answer
	}
	get := post
	get.Method, get.Name, get.Body = http.MethodGet, post.Name+"-by-url", nil
	get.Params = []Param{{Name: "body", About: "The query as JSON. Without it each member is a parameter: key=text, or key:=JSON."}}
	return []Route{post, get}
}

// operationRoutes are for those who look after the ledger.
func (s *Server) operationRoutes() []Route {
	var all []Route
	for _, name := range slices.Sorted(maps.Keys(s.config.Operations)) {
		of := s.config.Operations[name]
		all = append(all, Route{
			Method: http.MethodPost, Path: operationPath + name, Name: "operation-" + name, Scope: Operate,
			About: of.About, Body: of.Asked, Answer: of.Answer,
			Errors:  []int{400, 404, 409, 413, 503},
			Handler: s.handle(func(r *http.Request) (any, error) { return s.operate(r, name) }),
		})
	}
	return all
}

// unknownRoute is for names that are not there.
func (s *Server) unknownRoute(method, path, what string, scope Scope) Route {
	return Route{
		Method: method, Path: path + "{name}", Name: "unknown-" + what, Scope: scope, hidden: true,
		Handler: s.handle(func(r *http.Request) (any, error) {
			name := r.PathValue("name")
			return nil, fault.New(fault.NotFound, "unknown_"+what, "there is no %s %q", what, name).With(what, name)
		}),
	}
}

// handle makes a handler of what answers with JSON, or with an error.
func (s *Server) handle(do func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := do(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.write(w, r, http.StatusOK, answer)
	}
}

func (s *Server) command(r *http.Request, name string) (any, error) {
	env, err := transport.Envelope(r.Header)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return s.config.Ledger.DoJSON(r.Context(), env, name, body)
}

func (s *Server) operate(r *http.Request, name string) (any, error) {
	if err := transport.NotDry(r.Header); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return s.config.Operator.Operate(r.Context(), name, body)
}

func (s *Server) query(r *http.Request, name string) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if body, err = parameters(r.URL.RawQuery); err != nil {
			return nil, err
		}
	}
	return s.config.Ledger.Query(transport.WithTrace(r.Context(), r.Header), name, body)
}

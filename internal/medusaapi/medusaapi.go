// Package medusaapi is the part of Medusa's admin API that concerns inventory,
// in front of a ledger: the same paths, bodies, answers, statuses and messages,
// so that @medusajs/js-sdk works with it unchanged. docs/medusa.md lists the
// routes and says where we differ, and why.
//
// A write is one command of the ledger, with the envelope of the request's
// headers; its answer is read back from the read models once they have reached
// the command. schema.go checks bodies, params.go checks queries, fields.go
// leaves out of an answer what was not asked for.
package medusaapi

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

// Ledger is what the routes need of a ledger.
type Ledger interface {
	// Do carries out a command and returns once it is durable.
	Do(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error)
	// Models answer what is there now.
	Models() *projections.Models
}

// Config is what the routes need besides a ledger. The zero Config is valid.
type Config struct {
	// Exports writes the exports of inventory items; nil: there are none, and
	// the routes for them are not there.
	Exports *Exports
	// Logger is told of failures that the caller is not told about; nil is for nobody.
	Logger *slog.Logger
}

// api is what all routes share.
type api struct {
	ledger  Ledger
	models  *projections.Models
	exports *Exports
	logger  *slog.Logger
}

// Routes are Medusa's admin routes on a ledger, and the one route of ours that
// gives what an export wrote.
func Routes(ledger Ledger, config Config) []httpapi.Route {
	a := &api{ledger: ledger, models: ledger.Models(), exports: config.Exports, logger: config.Logger}
	if a.logger == nil {
		a.logger = slog.New(slog.DiscardHandler)
	}
	return slices.Concat(
		a.itemRoutes(), a.levelRoutes(), a.reservationRoutes(), a.locationRoutes(), a.variantRoutes(), a.exportRoutes(),
	)
}

// ask is a route that reads. Answer is an example of the type of its answer.
func (a *api) ask(path, name, about string, params params, answer any, run func(*call) (any, error)) httpapi.Route {
	return httpapi.Route{
		Method: http.MethodGet, Path: path, Name: name, About: about, Scope: httpapi.Query,
		Params: params.described(), Answer: answer, Errors: []int{400, 404, 503}, Handler: a.handler(http.StatusOK, run),
	}
}

// write is a route that carries out a command. Body is an example of the type of
// its body, nil when it has none.
func (a *api) write(method, path, name, about string, params params, body, answer any, run func(*call) (any, error)) httpapi.Route {
	return httpapi.Route{
		Method: method, Path: path, Name: name, About: about, Scope: httpapi.Command,
		Params: params.described(), Body: body, Answer: answer, Errors: []int{400, 404, 409, 413, 503},
		Handler: a.handler(http.StatusOK, run),
	}
}

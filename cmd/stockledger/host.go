package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/medusaapi"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/operations"
	"github.com/stockledger/stockledger/internal/telemetry"
	"github.com/stockledger/stockledger/internal/transport"
	"github.com/stockledger/stockledger/projections"
)

// hostConfig says what a ledger in this process is made of.
type hostConfig struct {
	dir      string
	store    events.Store // nil is the file in dir
	kind     string       // of store
	shared   bool         // with other nodes: store is an [events.Shared]
	storeURL string       // of one that is shared
	prefix   string
	strict   bool // levels only at locations that were opened

	walk        bool // over the rows of the read models, in search of wrong ones
	holdRebuilt bool // a model of a new version waits to be switched to
	planted     bool // serve the model with a bug made on purpose

	node     string        // name of this node; "" makes one
	leaseTTL time.Duration // 0 is that of package lease

	natsURL               string // "" embeds a server
	replicas              int    // of the streams on NATS; 0 is 1
	listen                string // of the embedded server
	token, user, password string // to be shown to it

	spans *telemetry.Spans // nil: there are none

	http    string // HOST:PORT; "" is none
	httpURL string // where others find it; "" makes a guess
	anyPort bool   // take another port when that one is taken
	tokens  []httpapi.Token

	logger *slog.Logger
}

// A host is a ledger that runs in this process and answers over NATS and HTTP.
type host struct {
	url  string // of NATS, for clients
	dir  string
	kind string          // of the event store
	http *httpapi.Server // nil: there is none

	ledger     *stockledger.Ledger
	served     *telemetry.Ledger // the same, measured
	operations *operations.Operations
	operator   transport.Operator // the same, measured
	metrics    *telemetry.Metrics
	conn       *nats.Conn
	rank

	closers []func() error
}

// openHost opens the ledger, connects it, and returns once commands are served, by
// this node or by another one that shares its log. The store is closed with the
// host, also when it cannot be opened.
func openHost(ctx context.Context, config hostConfig) (_ *host, err error) {
	paceGarbage()
	h := &host{metrics: telemetry.NewMetrics(programVersion()), kind: cmp.Or(config.kind, kindSQLite)}
	h.begin(config)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if err := h.openLedger(ctx, config); err != nil {
		return nil, err
	}
	if err := h.connect(ctx, config); err != nil {
		return nil, err
	}
	err = h.serve(ctx, config)
	h.opened(h.operations.Close) // before the transports, too, which wait for those who wait for a job
	return h, err
}

// openLedger opens the ledger, following the log until it leads where others may.
func (h *host) openLedger(ctx context.Context, config hostConfig) (err error) {
	if h.dir, err = filepath.Abs(config.dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if config.shared {
		release, err := occupy(h.dir, config)
		if err != nil {
			return errors.Join(err, config.store.Close())
		}
		h.opened(release)
	}
	if config.store == nil {
		if err := mayBegin(h.dir); err != nil {
			return err
		}
	}
	h.ledger, err = stockledger.Open(ctx, stockledger.Config{
		Dir: h.dir, Store: config.store, Standby: config.shared, RequireKnownLocations: config.strict, Logger: config.logger,
		Walk: config.walk, HoldRebuilt: config.holdRebuilt, Planted: config.planted, Observe: h.metrics.Commit,
	})
	if err != nil {
		return err
	}
	h.opened(h.ledger.Close)
	h.operations = operations.New(operations.Config{Ledger: h.ledger, Dir: h.dir, Version: programVersion(), Ended: h.metrics.Job, Logger: config.logger})
	h.opened(h.operations.Close)
	h.operator = h.metrics.Operator(h.operations, operations.Names())
	h.served = telemetry.Measured(servedLedger{h}, h.queries(), h.metrics, config.spans.Tracer(), time.Now)
	return nil
}

// serveWithin bounds how long NATS may take to set up streams and endpoints.
const serveWithin = time.Minute

// connect starts the embedded NATS server and connects to it, or to the one that
// is named. One that is named beside a store that is shared may come up later.
func (h *host) connect(ctx context.Context, config hostConfig) (err error) {
	tell := []nats.Option{
		// A server that is being set up anew may turn everybody away for a while.
		nats.Name("stockledger"), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				config.logger.Warn("the connection to NATS is lost; trying again until it is back", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			config.logger.Warn("nats reports an error", "err", err)
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { config.logger.Info("connected to NATS again", "url", c.ConnectedUrlRedacted()) }),
	}
	if config.natsURL != "" {
		h.url = natsapi.Redacted(config.natsURL)
		connect := func(context.Context) (err error) {
			h.conn, err = natsapi.Connect(config.natsURL, tell...)
			return err
		}
		if config.shared {
			err = await(ctx, "NATS", h.url, config.logger, connect)
		} else {
			err = connect(ctx)
		}
		if err != nil {
			return fmt.Errorf("connect to NATS at %s: %w", h.url, err)
		}
		h.opened(h.disconnect)
		return nil
	}
	server, err := natsapi.StartServer(natsapi.ServerConfig{
		Listen: config.listen, Dir: filepath.Join(h.dir, "nats"),
		Token: config.token, User: config.user, Password: config.password, Logger: config.logger,
	})
	if err != nil {
		return err
	}
	h.opened(server.Close)
	h.url = server.URL()
	if h.conn, err = server.Connect(tell...); err != nil {
		return err
	}
	h.opened(h.disconnect)
	return nil
}

func (h *host) disconnect() error {
	h.conn.Close()
	return nil
}

// serve answers requests, takes submissions, and publishes the feed. A node that
// may not lead yet begins with the queries, so that others hear of it.
func (h *host) serve(ctx context.Context, config hostConfig) error {
	within, cancel := context.WithTimeout(ctx, serveWithin)
	defer cancel()
	if !config.shared {
		if err := h.leadAlone(within, config); err != nil {
			return err
		}
	}
	service, err := natsapi.ServeQueries(within, h.natsConfig(config))
	if err != nil {
		return err
	}
	h.opened(service.Close)
	if err := h.serveHTTP(within, config); err != nil {
		return err
	}
	if config.shared {
		return h.compete(ctx, config)
	}
	return nil
}

// natsConfig is what answers on NATS need.
func (h *host) natsConfig(config hostConfig) natsapi.Config {
	return natsapi.Config{
		Conn: h.conn, Ledger: h.served, May: h.held, Queries: h.queries(), Operator: h.operator, Operations: operations.Names(),
		Prefix: config.prefix, Logger: config.logger,
	}
}

// queries are the names of the queries, the one for the status, too.
func (h *host) queries() map[string]string {
	all := h.ledger.QueryNames()
	all[statusQuery] = statusAbout
	return all
}

// serveHTTP answers on HTTP, if that is wanted.
func (h *host) serveHTTP(ctx context.Context, config hostConfig) (err error) {
	if config.http == "" {
		return nil
	}
	exports, err := medusaapi.OpenExports(filepath.Join(h.dir, "exports"), h.ledger.Models(), config.logger)
	if err != nil {
		return err
	}
	h.opened(exports.Close)
	medusa := medusaapi.Routes(measuredLedger{h.served, h.ledger.Models()}, medusaapi.Config{Exports: exports, Logger: config.logger})
	api := httpapi.Config{
		Listen: config.http, Ledger: h.served, Log: h.ledger.Events(), Queries: h.queries(), Shapes: h.shapes(), Routes: medusa,
		Operator: h.operator, Operations: operationShapes(),
		Tokens: config.tokens, Ready: h.conditions, Standby: h.standby, Metrics: h.metrics.Handler(), Observe: h.metrics.Request,
		Version: programVersion(), Logger: config.logger,
	}
	h.http, err = httpapi.Serve(ctx, api)
	if config.anyPort && errors.Is(err, syscall.EADDRINUSE) {
		api.Listen = "127.0.0.1:0"
		h.http, err = httpapi.Serve(ctx, api)
	}
	if err != nil {
		return err
	}
	h.opened(h.http.Close)
	at := cmp.Or(config.httpURL, reachable(api.Listen, h.http.URL()))
	h.at.Store(&at)
	h.metrics.Watch(h.state, config.logger)
	return nil
}

// shapes describes the queries, the one for the status, too.
func (h *host) shapes() map[string]httpapi.Shape {
	all := map[string]httpapi.Shape{statusQuery: {Asked: struct{}{}, Answer: ledgerStatus{}}}
	for name, q := range h.ledger.QueryShapes() {
		all[name] = httpapi.Shape{Asked: q.Asked, Selectors: q.Selectors, Answer: q.Answer}
	}
	return all
}

// operationShapes describes the operations.
func operationShapes() map[string]httpapi.Operation {
	all := make(map[string]httpapi.Operation)
	for name, of := range operations.Shapes() {
		all[name] = httpapi.Operation(of)
	}
	return all
}

// state is how the ledger is, for its figures.
func (h *host) state(ctx context.Context) (telemetry.State, error) {
	now := telemetry.State{
		Leading: h.leads.Load(), Failed: h.failed(), Cached: h.ledger.Cached(), Followers: h.http.Followers(), Dir: h.dir,
	}
	if leader := h.leader(); leader != nil {
		now.Term = leader.Term
	}
	status, err := servedLedger{h}.status(ctx)
	if err != nil {
		return now, err
	}
	now.Head = status.Head
	for _, part := range status.parts() {
		now.Parts = append(now.Parts, telemetry.Part{
			Name: part.Name, Position: part.Position, Behind: part.Behind,
			Stopped: cmp.Or(part.Error, part.Waiting) != "", Stuck: part.Stuck != "", Generation: part.Generation,
		})
	}
	for _, g := range status.Rebuilds {
		if g.State == projections.Building {
			now.Rebuilds = append(now.Rebuilds, telemetry.Rebuild{
				Model: g.Model, Done: g.Position, Total: g.Position + g.Behind, Rate: g.Rate, Remaining: g.Remaining,
			})
		}
	}
	if d := status.Drift; d != nil {
		now.Walk = &telemetry.Walk{
			Wrong: d.Wrong, Rounds: d.Rounds, LastRound: d.LastRound, Position: d.Position, Rows: d.Rows, Blind: d.Trouble != "",
		}
	}
	return now, nil
}

// failed reports whether the store has stopped for good.
func (h *host) failed() bool {
	select {
	case <-h.ledger.Failed():
		return true
	default:
		return false
	}
}

// A measuredLedger is the ledger with its read models, for Medusa's routes.
type measuredLedger struct {
	*telemetry.Ledger
	models *projections.Models
}

// Models implements medusaapi.Ledger.
func (m measuredLedger) Models() *projections.Models { return m.models }

// httpURL is where HTTP is answered, "" if it is not.
func (h *host) httpURL() string {
	if h.http == nil {
		return ""
	}
	return h.http.URL()
}

// maxBehind is how many events a part may be behind the log in a ledger that is
// ready: more than one command can make at once.
const maxBehind = 2 * commands.MaxLines

// conditions are what must hold for the ledger to be of use. Their reasons are
// for everybody; the log and the query ledger-status say more.
func (h *host) conditions(ctx context.Context) []httpapi.Condition {
	store := httpapi.Condition{Name: "store", OK: true}
	if h.failed() {
		store = httpapi.Condition{Name: "store", Reason: "it has stopped after a failure to write"}
	}
	all := []httpapi.Condition{store}
	status, err := servedLedger{h}.status(ctx)
	if err != nil {
		return append(all, httpapi.Condition{Name: "log", Reason: "it cannot be read"})
	}
	for _, part := range status.parts() {
		all = append(all, part.condition())
	}
	if status.Drift != nil {
		all = append(all, driftCondition(*status.Drift))
	}
	if _, missing := h.missing.Load("submissions"); missing {
		all = append(all, httpapi.Condition{Name: "submissions", Reason: "they are not taken yet"})
	}
	return all
}

// driftCondition names the first event that is damaged, or else the first row that is
// wrong, and no value of it.
func driftCondition(d stockledger.Drift) httpapi.Condition {
	switch {
	case d.Damaged > 0 && d.First != nil:
		return httpapi.Condition{Name: "drift", Reason: fmt.Sprintf("event %d of the log is damaged: run stockledger verify", d.First.Position)}
	case d.Wrong > 0:
		return httpapi.Condition{Name: "drift", Reason: wrongRows(d) + firstWrong(d.First)}
	case d.Blind:
		return httpapi.Condition{Name: "drift", Reason: "the walk over the rows cannot look: run stockledger verify"}
	}
	return httpapi.Condition{Name: "drift", OK: true}
}

func wrongRows(d stockledger.Drift) string {
	return counted(d.Wrong, "wrong row") + " in the read models"
}

// firstWrong names a row.
func firstWrong(f *stockledger.Finding) string {
	switch {
	case f == nil:
		return ""
	case f.Column == "":
		return fmt.Sprintf(", first %s in %s of %s", shortened(f.Key), f.Table, f.Model)
	default:
		return fmt.Sprintf(", first %s of %s in %s of %s", f.Column, shortened(f.Key), f.Table, f.Model)
	}
}

// shortened is the beginning of a text that somebody else made up.
func shortened(text string) string {
	const enough = 80
	if runes := []rune(text); len(runes) > enough {
		return string(runes[:enough-1]) + "…"
	}
	return text
}

func (p partStatus) condition() httpapi.Condition {
	c := httpapi.Condition{Name: p.Name}
	switch {
	case p.Error != "":
		c.Reason = "it has stopped"
	case p.Waiting != "":
		c.Reason = "it waits, and tries again"
	case p.Stuck != "":
		c.Reason = p.Stuck
	case p.Behind > maxBehind:
		c.Reason = fmt.Sprintf("it is %d events behind the log", p.Behind)
	default:
		c.OK = true
	}
	return c
}

// Close takes no more work, answers what is under way, and puts everything away,
// what was opened last first.
func (h *host) Close() error {
	var errs []error
	for _, closeOne := range slices.Backward(h.closers) {
		errs = append(errs, closeOne())
	}
	return errors.Join(errs...)
}

// opened notes what Close has to close.
func (h *host) opened(closeOne func() error) { h.closers = append(h.closers, closeOne) }

// The query for the state of the ledger as a whole. It is answered here, because
// only the host has all parts.
const (
	statusQuery = "ledger-status"
	statusAbout = "how far the log, the read models and the feed are, and what has stopped"
)

// A servedLedger is the ledger with the query for its status.
type servedLedger struct{ *host }

// A partStatus is how far something that follows the log has come.
type partStatus struct {
	Name       string `json:"name"`
	Version    int    `json:"version,omitempty"`
	Generation int    `json:"generation,omitempty"`
	Position   uint64 `json:"position"`
	Head       uint64 `json:"head"`
	Behind     uint64 `json:"behind"`
	Error      string `json:"error"`   // why it goes no further, "" while it runs
	Waiting    string `json:"waiting"` // why it cannot go on yet and tries again, "" while it can
	Stuck      string `json:"stuck"`   // that it should go on, and has not moved for some time
}

// A ledgerStatus is the answer to ledger-status.
type ledgerStatus struct {
	LogID   string `json:"log_id"`
	Head    uint64 `json:"head"`
	DataDir string `json:"data_dir"`
	Version string `json:"version"`
	// Node is the name of the node that answers, Role leading or standby, Store the
	// kind of its event store: sqlite, memory, nats or esdb.
	Node  string `json:"node"`
	Role  string `json:"role"`
	Store string `json:"store"`
	// Leader is the node that carries out the commands, as far as the one that answers
	// knows; nil is none.
	Leader *leaderStatus `json:"leader"`
	Models []partStatus  `json:"models"`
	// Feed is how far the feed is; nil on a standby, which publishes none.
	Feed *partStatus `json:"feed"`
	// Rebuilds are the generations that are being built, or wait to be switched to.
	Rebuilds []projections.Generation `json:"rebuilds"`
	// Drift is what the walk over the rows has found; nil when nobody walks.
	Drift *stockledger.Drift `json:"drift"`
}

// A leaderStatus says which node leads.
type leaderStatus struct {
	Node    string    `json:"node"`
	HTTPURL string    `json:"http_url"` // "": it has none
	Since   time.Time `json:"since"`    // when the node that answers learned of it
	Term    uint64    `json:"term"`     // grows with every change of the leader; 0: the log is not shared
}

// parts are what follows the log.
func (l ledgerStatus) parts() []partStatus {
	if l.Feed == nil {
		return l.Models
	}
	return append(slices.Clip(l.Models), *l.Feed)
}

// Do implements telemetry.Inner.
func (s servedLedger) Do(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
	answer, err := s.ledger.Do(ctx, env, command)
	return answer, s.explained(err)
}

// DoJSON implements transport.Ledger.
func (s servedLedger) DoJSON(ctx context.Context, env commands.Envelope, name string, body []byte) (commands.Answer, error) {
	answer, err := s.ledger.DoJSON(ctx, env, name, body)
	return answer, s.explained(err)
}

// Query implements transport.Ledger.
func (s servedLedger) Query(ctx context.Context, name string, body []byte) (answer any, err error) {
	if name == statusQuery {
		answer, err = s.status(ctx)
	} else {
		answer, err = s.ledger.Query(ctx, name, body)
	}
	return answer, s.explained(err)
}

// explained adds to an error what only the host knows: which node leads, and that
// the event store is away for a while rather than broken.
func (s servedLedger) explained(err error) error {
	switch {
	case err == nil:
		return nil
	case fault.Code(err) == codeStandby:
		return s.refusal()
	case s.shared && fault.Of(err).Kind == fault.Internal && mayPass(err):
		return fault.New(fault.Unavailable, "store_unavailable", "the event store does not answer; try again in a moment")
	}
	return err
}

func (s servedLedger) status(ctx context.Context) (answer ledgerStatus, err error) {
	models, err := s.ledger.Models().Status(ctx)
	if err != nil {
		return answer, err
	}
	head, err := s.ledger.Events().Head(ctx)
	if err != nil {
		return answer, err
	}
	answer = ledgerStatus{
		LogID: s.ledger.Events().LogID(), Head: head, DataDir: s.dir, Version: programVersion(),
		Node: s.node, Role: s.role(), Store: s.kind, Leader: s.leader(),
	}
	for _, m := range models {
		answer.Models = append(answer.Models, partStatus{
			Name: m.Name, Version: m.Version, Generation: m.Generation, Position: m.Position, Head: m.Head, Behind: m.Behind,
			Error: m.Stopped, Waiting: m.Waiting, Stuck: m.Stuck,
		})
	}
	if answer.Rebuilds, err = s.rebuilds(ctx); err != nil {
		return answer, err
	}
	if drift, walking := s.ledger.Drift(); walking {
		answer.Drift = &drift
	}
	if feed := s.feed.Load(); feed != nil {
		position := feed.Position()
		answer.Feed = &partStatus{Name: "feed", Position: position, Head: head, Behind: max(head, position) - position}
		if err := feed.Err(); err != nil {
			answer.Feed.Error = err.Error()
		}
	} else if why, ok := s.missing.Load("feed"); ok {
		answer.Feed = &partStatus{Name: "feed", Head: head, Behind: head, Waiting: why.(string)}
	}
	return answer, nil
}

// rebuilds are the generations that are being built, or ready.
func (s servedLedger) rebuilds(ctx context.Context) ([]projections.Generation, error) {
	all, err := s.ledger.Models().Generations(ctx)
	rebuilds := []projections.Generation{}
	for _, g := range all {
		if g.State == projections.Building || g.State == projections.Ready {
			rebuilds = append(rebuilds, g)
		}
	}
	return rebuilds, err
}

// ready is what the ready file says.
type ready struct {
	NATS string `json:"nats_url"`
	HTTP string `json:"http_url"` // "": there is none
	Data string `json:"data"`
	PID  int    `json:"pid"`
	Node string `json:"node"`
	Role string `json:"role"` // leading, or standby, when the file was written
}

// announce writes the ready file, whole or not at all.
func (h *host) announce(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.Marshal(ready{NATS: h.url, HTTP: h.httpURL(), Data: h.dir, PID: os.Getpid(), Node: h.node, Role: h.role()})
	if err != nil {
		return err
	}
	next := path + ".next"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}

var readyFile = ownFile{"ready file", "--ready-file", regexp.MustCompile(`^{"nats_url":`)}

// unannounce removes the ready file, also one that a crash has left behind.
func unannounce(path string) error {
	if path == "" {
		return nil
	}
	if err := readyFile.mayReplace(path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}

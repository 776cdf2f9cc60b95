package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/telemetry"
)

type serve struct {
	Config string `setting:"STOCKLEDGER_CONFIG" placeholder:"FILE" help:"A JSON object with settings, named like the flags."`
	Data   string `setting:"STOCKLEDGER_DATA" placeholder:"DIR" help:"The data directory; ./stockledger-data when left out."`
	Store  string `setting:"STOCKLEDGER_STORE" placeholder:"URL" default:"sqlite:" help:"Where the log is: sqlite: in the data directory; nats://HOST:PORT/LEDGER, esdb://HOST:PORT or kurrentdb://HOST:PORT in an event store that several nodes share; or memory: for a try."`
	Node   string `setting:"STOCKLEDGER_NODE" placeholder:"NAME" help:"Name of this node among those that share the log; made of the machine and the process when left out."`

	NATSListen   string `name:"nats-listen" setting:"STOCKLEDGER_NATS_LISTEN" placeholder:"HOST:PORT" help:"Where the embedded NATS server listens; 127.0.0.1:4222 when left out, port 0 takes a free one."`
	NATSURL      string `name:"nats-url" setting:"STOCKLEDGER_NATS_URL" placeholder:"URL" help:"Use that NATS server instead of an embedded one. It must have JetStream. With a nats store it is the server of the store when left out."`
	NATSToken    string `name:"nats-token" setting:"STOCKLEDGER_NATS_TOKEN" placeholder:"TOKEN" help:"What clients of the embedded server must show; they put it into the URL."`
	NATSUser     string `name:"nats-user" setting:"STOCKLEDGER_NATS_USER" placeholder:"NAME" help:"Likewise, with a password."`
	NATSPassword string `name:"nats-password" setting:"STOCKLEDGER_NATS_PASSWORD" placeholder:"PASSWORD" help:"Likewise, with a user."`
	NATSReplicas int    `name:"nats-replicas" setting:"STOCKLEDGER_NATS_REPLICAS" placeholder:"N" help:"On how many servers of a NATS cluster the feed and the submissions are kept; as many as a nats store has, or 1, when left out."`
	Prefix       string `setting:"STOCKLEDGER_PREFIX" default:"inventory" help:"Prefix of the subjects, one for each ledger."`

	HTTP          string `name:"http" setting:"STOCKLEDGER_HTTP" placeholder:"HOST:PORT" default:"127.0.0.1:8080" help:"Where HTTP is served; 127.0.0.1:8080 when left out, port 0 takes a free one, off is not at all."`
	HTTPURL       string `name:"http-url" setting:"STOCKLEDGER_HTTP_URL" placeholder:"URL" help:"Where others find HTTP of this node, which a standby tells them; what it listens on, with the name of the machine, when left out."`
	HTTPToken     string `name:"http-token" setting:"STOCKLEDGER_HTTP_TOKEN" placeholder:"TOKEN" help:"What clients of HTTP must show, with all scopes."`
	HTTPTokenFile string `name:"http-token-file" setting:"STOCKLEDGER_HTTP_TOKEN_FILE" placeholder:"FILE" help:"Tokens with names and scopes, in JSON; docs/http.md has the format."`

	RequireKnownLocations bool   `setting:"STOCKLEDGER_REQUIRE_KNOWN_LOCATIONS" help:"Refuse levels at stock locations that were not created."`
	ReadyFile             string `setting:"STOCKLEDGER_READY_FILE" placeholder:"FILE" help:"Write where the ledger is into this file, in JSON, once commands are served, by this node or the one that leads."`

	Walk   string `setting:"STOCKLEDGER_WALK" default:"on" placeholder:"on|off" help:"Compare the rows of the read models with the log, slowly and without end, and raise an alarm when one is wrong."`
	Switch string `setting:"STOCKLEDGER_SWITCH" default:"auto" placeholder:"auto|manual" help:"What becomes of a read model that is rebuilt because the program has a new version of it: switched to once it has caught up, or left for stockledger diff and switch."`

	LogFormat string `setting:"STOCKLEDGER_LOG_FORMAT" default:"text" placeholder:"text|json" help:"How to log, to the standard error."`
}

// Help implements kong.HelpProvider.
func (serve) Help() string {
	return `Runs until it is interrupted or terminated; then it answers what is under way and exits with 0. What was acknowledged is on disk, also when
it is killed. Settings are taken from flags, then from the environment, then from the configuration file.

With an event store that several nodes share, one node leads and carries out the commands. The others stand by: they answer queries, and one of them
takes over within seconds when the leading node is gone. Each has a data directory of its own, for read models.

Examples:

    stockledger serve
    stockledger serve --data /var/lib/stockledger --ready-file /run/stockledger.json --log-format json
    STOCKLEDGER_NATS_TOKEN=secret stockledger serve --nats-listen 0.0.0.0:4222
    stockledger serve --http 0.0.0.0:8080 --http-token-file /etc/stockledger/tokens.json
    stockledger serve --nats-url nats://nats.example.com
    stockledger serve --store 'nats://ledger:secret@n1:4222,n2:4222,n3:4222/main?replicas=3' --node a --data /var/lib/stockledger
    stockledger serve --store 'esdb://esdb.example.com:2113' --nats-url nats://nats.example.com`
}

// Run runs the ledger until ctx is done.
func (c *serve) Run(ctx context.Context, s streams, config *settings) (err error) {
	if err := mistakes("the configuration", append(config.mistakes, c.check(config.getenv)...)); err != nil {
		return err
	}
	if err := unannounce(c.ReadyFile); err != nil {
		return err
	}
	logger := newLogger(s.err, c.LogFormat)
	tokens, err := c.tokens()
	if err != nil {
		return err
	}
	dir, remove, err := c.place()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := mayServe(dir, c.Store); err != nil {
		return err
	}
	hosted, err := c.hostConfig(dir, tokens, logger)
	if err != nil {
		return err
	}
	var finish func()
	if hosted.spans, finish, err = exportSpans(ctx, config.getenv, logger); err != nil {
		return err
	}
	defer finish()
	if hosted.store, err = c.openStore(ctx, logger); err != nil {
		return whileStarting(ctx, err)
	}
	h, err := openHost(ctx, hosted)
	if err != nil {
		return whileStarting(ctx, err)
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.announce(c.ReadyFile); err != nil {
		return err
	}
	logger.Info("the ledger is ready", "nats_url", h.url, "http_url", h.httpURL(), "data", h.dir, "version", programVersion(),
		"node", h.node, "role", h.role())
	select {
	case <-ctx.Done():
		logger.Info("closing")
		return unannounce(c.ReadyFile)
	case <-h.ledger.Failed():
		return errors.Join(errStoreStopped, unannounce(c.ReadyFile))
	case err := <-h.ended:
		return errors.Join(fmt.Errorf("this node cannot carry out commands: %w", err), unannounce(c.ReadyFile))
	}
}

// openStore opens the event store, nil where it is the file in the data directory.
func (c *serve) openStore(ctx context.Context, logger *slog.Logger) (events.Store, error) {
	switch {
	case c.Store == "memory:":
		return memstore.New(), nil
	case isShared(c.Store):
		return awaitStore(ctx, c.Store, "", logger)
	}
	return nil, nil
}

// exportSpans starts exporting spans, if the environment wants it.
func exportSpans(ctx context.Context, getenv func(string) string, logger *slog.Logger) (*telemetry.Spans, func(), error) {
	if wanted, err := telemetry.Wanted(getenv); err != nil || !wanted {
		return nil, func() {}, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("spans are not exported", "err", err) }))
	spans, err := telemetry.Export(ctx, programVersion())
	if err != nil {
		return nil, nil, err
	}
	return spans, func() {
		ctx, cancel := context.WithTimeout(context.Background(), exportWithin)
		defer cancel()
		if err := spans.Close(ctx); err != nil {
			logger.Warn("the last spans are not exported", "err", err)
		}
	}, nil
}

// exportWithin is how long closing waits for a collector of spans.
const exportWithin = 5 * time.Second

// errStoreStopped ends the program, so that whatever watches over it starts it
// again: the store finds out on opening what the failure left on the disk.
var errStoreStopped = errors.New("the event store has stopped after a failure to write (the log says which); " +
	"see that it is sound and its disk not full, and start the ledger again")

// whileStarting is no error when the program was told to stop.
func whileStarting(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (c *serve) hostConfig(dir string, tokens []httpapi.Token, logger *slog.Logger) (hostConfig, error) {
	config := hostConfig{
		dir: dir, prefix: c.Prefix, strict: c.RequireKnownLocations,
		walk: c.Walk == "on", holdRebuilt: c.Switch == "manual",
		kind: storeKind(c.Store), shared: isShared(c.Store), storeURL: c.Store, node: c.Node,
		natsURL: c.NATSURL, listen: cmp.Or(c.NATSListen, natsapi.DefaultListen), replicas: c.NATSReplicas,
		token: c.NATSToken, user: c.NATSUser, password: c.NATSPassword,
		http: c.http(), httpURL: c.HTTPURL, tokens: tokens, logger: logger,
	}
	if config.kind != kindNATS || c.NATSURL != "" {
		return config, nil
	}
	servers, replicas, err := natsstore.Servers(c.Store)
	if err != nil {
		return config, fmt.Errorf("--store: %w", err)
	}
	config.natsURL, config.replicas = servers, cmp.Or(c.NATSReplicas, replicas)
	return config, nil
}

// place is the data directory. A log in memory has one that goes with it.
func (c *serve) place() (dir string, remove func() error, err error) {
	if c.Store != "memory:" {
		return cmp.Or(c.Data, "stockledger-data"), func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "stockledger-memory-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// check finds everything that is wrong with the settings.
func (c *serve) check(getenv func(string) string) []error {
	var wrong []error
	mistake := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if info, err := os.Stat(c.Data); err == nil && !info.IsDir() {
		mistake("--data %s is a file, not a directory", c.Data)
	}
	if err := c.checkStore(); err != nil {
		mistake("--store: %w", err)
	}
	if c.Node != "" && !nodeName.MatchString(c.Node) {
		mistake("--node %q: use letters, digits, dots, dashes and underscores, 64 at most", c.Node)
	}
	if c.Store == "memory:" && (c.Data != "" || c.NATSURL != "") {
		mistake("--store memory: is for a try and forgets everything; it takes no --data and no --nats-url")
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		mistake("--log-format %q: choose text or json", c.LogFormat)
	}
	if c.Walk != "on" && c.Walk != "off" {
		mistake("--walk %q: choose on or off", c.Walk)
	}
	if c.Switch != "auto" && c.Switch != "manual" {
		mistake("--switch %q: choose auto or manual", c.Switch)
	}
	if err := natsapi.CheckPrefix(c.Prefix); err != nil {
		mistake("--prefix: %w", err)
	}
	if _, err := telemetry.Wanted(getenv); err != nil {
		wrong = append(wrong, err)
	}
	return append(append(wrong, c.checkNATS()...), c.checkHTTP()...)
}

// http is where HTTP is served, "" if it is not.
func (c *serve) http() string {
	if c.HTTP == "off" {
		return ""
	}
	return c.HTTP
}

// tokens are those of the file, and the one that may do all.
func (c *serve) tokens() (all []httpapi.Token, err error) {
	if c.HTTPTokenFile != "" {
		if all, err = httpapi.ReadTokens(c.HTTPTokenFile); err != nil {
			return nil, fmt.Errorf("--http-token-file: %w", err)
		}
	}
	if c.HTTPToken != "" {
		token, err := httpapi.NewToken("operator", c.HTTPToken, httpapi.Scopes()...)
		if err != nil {
			return nil, fmt.Errorf("--http-token: %w", err)
		}
		all = append(all, token)
	}
	return all, nil
}

func (c *serve) checkHTTP() []error {
	tokens, err := c.tokens()
	if err != nil {
		return []error{err}
	}
	if c.http() == "" {
		if len(tokens) > 0 {
			return []error{errors.New("--http-token and --http-token-file are for --http, which is off")}
		}
		return nil
	}
	var wrong []error
	if err := (httpapi.Config{Listen: c.http(), Tokens: tokens}).Check(); err != nil {
		wrong = append(wrong, fmt.Errorf("--http: %w", err))
	}
	if c.HTTPURL != "" && (!httpapi.IsURL(c.HTTPURL) || strings.Contains(c.HTTPURL, "@")) {
		wrong = append(wrong, errors.New("--http-url: write http://HOST:PORT or https://HOST, without a token: everybody hears of it"))
	}
	return wrong
}

// nodeName is what a node may be called: it is shown to others.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// checkStore says what is wrong with the URL of the store.
func (c *serve) checkStore() error {
	switch {
	case c.Store == "sqlite:" || c.Store == "memory:":
		return nil
	case isShared(c.Store):
		return checkStoreURL(c.Store)
	case storeKind(c.Store) == kindSQLite:
		return fmt.Errorf("%s: the log is always log.db in the data directory; write sqlite: and choose the directory with --data", natsapi.Redacted(c.Store))
	}
	return fmt.Errorf("%s is not known; write sqlite: or memory: with the colon, nats://HOST:PORT/LEDGER, esdb://HOST:PORT or kurrentdb://HOST:PORT",
		natsapi.Redacted(c.Store))
}

// maxReplicas is how many JetStream has of a stream at most.
const maxReplicas = 5

func (c *serve) checkNATS() []error {
	var wrong []error
	mistake := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if c.NATSReplicas < 0 || c.NATSReplicas > maxReplicas {
		mistake("--nats-replicas %d: it must be from 1 to %d", c.NATSReplicas, maxReplicas)
	}
	if c.NATSURL != "" {
		if c.NATSListen != "" {
			mistake("--nats-listen is for the embedded server and --nats-url for another one; give one of the two")
		}
		if c.NATSToken != "" || c.NATSUser != "" || c.NATSPassword != "" {
			mistake("--nats-token, --nats-user and --nats-password are for the embedded server; write them into --nats-url")
		}
		if err := natsapi.CheckURL(c.NATSURL); err != nil {
			mistake("--nats-url: %w", err)
		}
		return wrong
	}
	if storeKind(c.Store) == kindNATS {
		if c.NATSListen != "" {
			mistake("--nats-listen is for the embedded server, and there is none with a nats store: its servers serve clients; leave it out")
		}
		if c.NATSToken != "" || c.NATSUser != "" || c.NATSPassword != "" {
			mistake("--nats-token, --nats-user and --nats-password are for the embedded server, and there is none with a nats store; write them into --store")
		}
		return wrong
	}
	if c.NATSReplicas > 1 {
		mistake("--nats-replicas %d: the embedded server is one; name a cluster with --nats-url", c.NATSReplicas)
	}
	config := natsapi.ServerConfig{Listen: c.NATSListen, Token: c.NATSToken, User: c.NATSUser, Password: c.NATSPassword}
	if err := config.Check(); err != nil {
		wrong = append(wrong, err)
	}
	return wrong
}

func newLogger(w io.Writer, format string) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

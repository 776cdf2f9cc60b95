package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/telemetry"
)

type serve struct {
	Config string `setting:"STOCKLEDGER_CONFIG" placeholder:"FILE" help:"A JSON object with settings, named like the flags."`
	Data   string `setting:"STOCKLEDGER_DATA" placeholder:"DIR" help:"The data directory; ./stockledger-data when left out."`
	Store  string `setting:"STOCKLEDGER_STORE" placeholder:"URL" default:"sqlite:" help:"Where the log is: sqlite: in the data directory, or memory: for a try."`

	NATSListen   string `name:"nats-listen" setting:"STOCKLEDGER_NATS_LISTEN" placeholder:"HOST:PORT" help:"Where the embedded NATS server listens; 127.0.0.1:4222 when left out, port 0 takes a free one."`
	NATSURL      string `name:"nats-url" setting:"STOCKLEDGER_NATS_URL" placeholder:"URL" help:"Use that NATS server instead of an embedded one. It must have JetStream."`
	NATSToken    string `name:"nats-token" setting:"STOCKLEDGER_NATS_TOKEN" placeholder:"TOKEN" help:"What clients of the embedded server must show; they put it into the URL."`
	NATSUser     string `name:"nats-user" setting:"STOCKLEDGER_NATS_USER" placeholder:"NAME" help:"Likewise, with a password."`
	NATSPassword string `name:"nats-password" setting:"STOCKLEDGER_NATS_PASSWORD" placeholder:"PASSWORD" help:"Likewise, with a user."`
	Prefix       string `setting:"STOCKLEDGER_PREFIX" default:"inventory" help:"Prefix of the subjects, one for each ledger."`

	HTTP          string `name:"http" setting:"STOCKLEDGER_HTTP" placeholder:"HOST:PORT" default:"127.0.0.1:8080" help:"Where HTTP is served; port 0 takes a free one, off is not at all."`
	HTTPToken     string `name:"http-token" setting:"STOCKLEDGER_HTTP_TOKEN" placeholder:"TOKEN" help:"What clients of HTTP must show, with all scopes."`
	HTTPTokenFile string `name:"http-token-file" setting:"STOCKLEDGER_HTTP_TOKEN_FILE" placeholder:"FILE" help:"Tokens with names and scopes, in JSON; docs/http.md has the format."`

	RequireKnownLocations bool   `setting:"STOCKLEDGER_REQUIRE_KNOWN_LOCATIONS" help:"Refuse levels at stock locations that were not created."`
	ReadyFile             string `setting:"STOCKLEDGER_READY_FILE" placeholder:"FILE" help:"Write where the ledger is into this file, in JSON, once commands are served."`

	Walk   string `setting:"STOCKLEDGER_WALK" default:"on" placeholder:"on|off" help:"Compare the rows of the read models with the log, slowly and without end, and raise an alarm when one is wrong."`
	Switch string `setting:"STOCKLEDGER_SWITCH" default:"auto" placeholder:"auto|manual" help:"What becomes of a read model that is rebuilt because the program has a new version of it: switched to once it has caught up, or left for stockledger diff and switch."`

	LogFormat string `setting:"STOCKLEDGER_LOG_FORMAT" default:"text" placeholder:"text|json" help:"How to log, to the standard error."`
}

// Help implements kong.HelpProvider.
func (serve) Help() string {
	return `Runs until it is interrupted or terminated; then it answers what is under way and exits with 0. What was acknowledged is on disk, also when
it is killed. Settings are taken from flags, then from the environment, then from the configuration file.

Examples:

    stockledger serve
    stockledger serve --data /var/lib/stockledger --ready-file /run/stockledger.json --log-format json
    STOCKLEDGER_NATS_TOKEN=secret stockledger serve --nats-listen 0.0.0.0:4222
    stockledger serve --http 0.0.0.0:8080 --http-token-file /etc/stockledger/tokens.json
    stockledger serve --nats-url nats://nats.example.com`
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
	hosted := c.hostConfig(dir, tokens, logger)
	var finish func()
	if hosted.spans, finish, err = exportSpans(ctx, config.getenv, logger); err != nil {
		return err
	}
	defer finish()
	h, err := openHost(ctx, hosted)
	if err != nil {
		return whileStarting(ctx, err)
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.announce(c.ReadyFile); err != nil {
		return err
	}
	logger.Info("the ledger is ready", "nats_url", h.url, "http_url", h.httpURL(), "data", h.dir, "version", programVersion())
	select {
	case <-ctx.Done():
		logger.Info("closing")
		return unannounce(c.ReadyFile)
	case <-h.ledger.Failed():
		return errors.Join(errStoreStopped, unannounce(c.ReadyFile))
	}
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
	"see that the disk is sound and not full, and start the ledger again")

// whileStarting is no error when the program was told to stop.
func whileStarting(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (c *serve) hostConfig(dir string, tokens []httpapi.Token, logger *slog.Logger) hostConfig {
	config := hostConfig{
		dir: dir, prefix: c.Prefix, strict: c.RequireKnownLocations,
		walk: c.Walk == "on", holdRebuilt: c.Switch == "manual",
		natsURL: c.NATSURL, listen: cmp.Or(c.NATSListen, natsapi.DefaultListen),
		token: c.NATSToken, user: c.NATSUser, password: c.NATSPassword,
		http: c.http(), tokens: tokens, logger: logger,
	}
	if c.Store == "memory:" {
		config.store = memstore.New()
	}
	return config
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
	if err := checkStore(c.Store); err != nil {
		wrong = append(wrong, err)
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
	if err := (httpapi.Config{Listen: c.http(), Tokens: tokens}).Check(); err != nil {
		return []error{fmt.Errorf("--http: %w", err)}
	}
	return nil
}

// storesToCome have a place in the design and none in this program yet.
var storesToCome = []string{"nats", "esdb", "esdb+discover", "kurrentdb", "postgres", "postgresql"}

func checkStore(store string) error {
	if store == "sqlite:" || store == "memory:" {
		return nil
	}
	scheme, _, _ := strings.Cut(store, ":")
	switch {
	case slices.Contains(storesToCome, scheme):
		return fmt.Errorf("--store %s: this version has no store of that kind yet, only sqlite: and memory: so far", natsapi.Redacted(store))
	case scheme == "sqlite":
		return fmt.Errorf("--store %s: the log is always log.db in the data directory; write sqlite: and choose the directory with --data", store)
	default:
		return fmt.Errorf("--store %s is not known; write sqlite: or memory: with the colon", natsapi.Redacted(store))
	}
}

func (c *serve) checkNATS() []error {
	var wrong []error
	mistake := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
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

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

	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/natsapi"
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

	RequireKnownLocations bool   `setting:"STOCKLEDGER_REQUIRE_KNOWN_LOCATIONS" help:"Refuse levels at stock locations that were not created."`
	ReadyFile             string `setting:"STOCKLEDGER_READY_FILE" placeholder:"FILE" help:"Write where the ledger is into this file, in JSON, once commands are served."`
	LogFormat             string `setting:"STOCKLEDGER_LOG_FORMAT" default:"text" placeholder:"text|json" help:"How to log, to the standard error."`
}

// Help implements kong.HelpProvider.
func (serve) Help() string {
	return `Runs until it is interrupted or terminated; then it answers what is under way and exits with 0. What was acknowledged is on disk, also when
it is killed. Settings are taken from flags, then from the environment, then from the configuration file.

Examples:

    stockledger serve
    stockledger serve --data /var/lib/stockledger --ready-file /run/stockledger.json --log-format json
    STOCKLEDGER_NATS_TOKEN=secret stockledger serve --nats-listen 0.0.0.0:4222
    stockledger serve --nats-url nats://nats.example.com`
}

// Run runs the ledger until ctx is done.
func (c *serve) Run(ctx context.Context, s streams, config *settings) (err error) {
	if err := mistakes("the configuration", append(config.mistakes, c.check()...)); err != nil {
		return err
	}
	if err := unannounce(c.ReadyFile); err != nil {
		return err
	}
	logger := newLogger(s.err, c.LogFormat)
	dir, remove, err := c.place()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	h, err := openHost(ctx, c.hostConfig(dir, logger))
	if err != nil {
		return whileStarting(ctx, err)
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := h.announce(c.ReadyFile); err != nil {
		return err
	}
	logger.Info("the ledger is ready", "nats_url", h.url, "data", h.dir, "version", programVersion())
	select {
	case <-ctx.Done():
		logger.Info("closing")
		return unannounce(c.ReadyFile)
	case <-h.ledger.Failed():
		return errors.Join(errStoreStopped, unannounce(c.ReadyFile))
	}
}

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

func (c *serve) hostConfig(dir string, logger *slog.Logger) hostConfig {
	config := hostConfig{
		dir: dir, prefix: c.Prefix, strict: c.RequireKnownLocations,
		natsURL: c.NATSURL, listen: cmp.Or(c.NATSListen, natsapi.DefaultListen),
		token: c.NATSToken, user: c.NATSUser, password: c.NATSPassword, logger: logger,
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
func (c *serve) check() []error {
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
	if err := natsapi.CheckPrefix(c.Prefix); err != nil {
		mistake("--prefix: %w", err)
	}
	return append(wrong, c.checkNATS()...)
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

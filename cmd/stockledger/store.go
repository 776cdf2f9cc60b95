package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/esdbstore"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// The kinds of event stores.
const (
	kindSQLite = "sqlite"
	kindMemory = "memory"
	kindNATS   = "nats"
	kindESDB   = "esdb"
)

// storeKinds are the kinds by the scheme of a store's URL.
var storeKinds = map[string]string{
	"sqlite": kindSQLite, "memory": kindMemory,
	"nats": kindNATS, "tls": kindNATS,
	"esdb": kindESDB, "esdb+discover": kindESDB, "kurrentdb": kindESDB, "kurrentdb+discover": kindESDB,
}

// storeKind is the kind of the store at a URL, "" when there is no such kind.
func storeKind(at string) string {
	scheme, _, found := strings.Cut(at, ":")
	if !found {
		return ""
	}
	return storeKinds[scheme]
}

// isShared reports whether the log at that URL is one that several nodes have open.
func isShared(at string) bool {
	kind := storeKind(at)
	return kind == kindNATS || kind == kindESDB
}

// checkStoreURL says what is wrong with the URL of a store, without connecting and
// without repeating secrets. A file is sqlite:DIR.
func checkStoreURL(at string) error {
	switch storeKind(at) {
	case kindNATS:
		return natsstore.CheckURL(at)
	case kindESDB:
		return esdbstore.CheckURL(at)
	case kindSQLite:
		if dirOf(at) == "" {
			return errors.New("sqlite: names no directory: write sqlite:DIR")
		}
		return nil
	case kindMemory:
		return errors.New("memory: is gone with the process that has it; name a store that stays")
	}
	return fmt.Errorf("%s is not known; write sqlite:DIR, nats://HOST:PORT/LEDGER or esdb://HOST:PORT", natsapi.Redacted(at))
}

// dirOf is the data directory that sqlite:DIR names.
func dirOf(at string) string { return strings.TrimPrefix(at, "sqlite:") }

// openStore opens the event store at a URL, and makes it where there is none. A log
// that is there must have logID, unless that is "", or the error is
// [events.ErrOtherLog]; one that is made gets it. The caller closes the store.
// There are no secrets in the error.
func openStore(ctx context.Context, at, logID string, logger *slog.Logger) (events.Store, error) {
	if err := checkStoreURL(at); err != nil {
		return nil, err
	}
	store, err := openKind(ctx, at, logID, logger)
	if err != nil {
		return nil, fmt.Errorf("the event store at %s: %w", natsapi.Redacted(at), err)
	}
	return store, nil
}

// openKind is a store of whichever kind, and none, not one that is nil, with an error.
func openKind(ctx context.Context, at, logID string, logger *slog.Logger) (events.Store, error) {
	switch storeKind(at) {
	case kindNATS:
		store, err := natsstore.Open(ctx, natsstore.Config{URL: at, LogID: logID, Logger: logger})
		if err != nil {
			return nil, err
		}
		return store, nil
	case kindESDB:
		store, err := esdbstore.Open(ctx, esdbstore.Config{URL: at, LogID: logID, Logger: logger})
		if err != nil {
			return nil, err
		}
		return store, nil
	default:
		return openFile(dirOf(at), logID)
	}
}

// openFile opens the log in a data directory, or makes it.
func openFile(dir, logID string) (events.Store, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "log.db")
	open := func() (*sqlitestore.Store, error) { return sqlitestore.Open(path) }
	if _, err := os.Stat(path); logID != "" && errors.Is(err, os.ErrNotExist) {
		open = func() (*sqlitestore.Store, error) { return sqlitestore.Create(path, logID) }
	}
	store, err := open()
	if err != nil {
		return nil, err
	}
	if logID != "" && store.LogID() != logID {
		err := fmt.Errorf("the log is %s, not %s: it %w", store.LogID(), logID, events.ErrOtherLog)
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

const (
	// storeWithin is how long the ledger waits for what it needs to be there: longer
	// than a cluster of servers takes to come up on one machine. Whatever watches
	// over the process starts it again after that.
	storeWithin = 3 * time.Minute
	// storePause is between two tries, storeTry how long one may take, storeMoment
	// what is not worth a word.
	storePause  = 500 * time.Millisecond
	storeTry    = 30 * time.Second
	storeMoment = 3 * time.Second
)

// awaitStore is openStore for a store that may come up later than the ledger.
func awaitStore(ctx context.Context, at, logID string, logger *slog.Logger) (store events.Store, err error) {
	err = await(ctx, "the event store", natsapi.Redacted(at), logger, func(ctx context.Context) (err error) {
		store, err = openStore(ctx, at, logID, logger)
		return err
	})
	return store, err
}

// await tries until it succeeds, or fails with what does not pass by waiting, or
// storeWithin is over. It says what it waits for once that takes a moment, and why
// whenever the reason is another one.
func await(ctx context.Context, what, at string, logger *slog.Logger, try func(context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	moment := time.AfterFunc(storeMoment, func() { logger.Info("waiting for "+what, "url", at) })
	defer moment.Stop()
	told := ""
	for {
		once, done := context.WithTimeout(within, storeTry)
		err := try(once)
		done()
		switch {
		case err == nil:
			if told != "" {
				logger.Info(what+" is there now", "url", at)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !mayPass(err):
			return err
		case within.Err() != nil:
			return fmt.Errorf("waited %s for %s: %w", storeWithin, what, err)
		}
		if err.Error() != told {
			told = err.Error()
			moment.Stop()
			logger.Warn("waiting for "+what+", which does not answer yet", "url", at, "err", err)
		}
		pauseFor(within, storePause)
	}
}

// mayPass reports whether an error is that something is not there, or not ready yet,
// which may be over when it is tried again. Everything else wants a person.
func mayPass(err error) bool {
	if errors.Is(err, events.ErrOtherLog) || errors.Is(err, nats.ErrAuthorization) {
		return false
	}
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return refused.Code == 503 || refused.ErrorCode == codeNoPeers || refused.ErrorCode == codeNoMessage
	}
	if failed, ok := errors.AsType[*esdb.Error](err); ok {
		return !slices.Contains(lasting, failed.Code())
	}
	if code := grpcstatus.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
		return true
	}
	for _, passes := range []error{
		nats.ErrNoServers, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrStaleConnection,
		nats.ErrConnectionReconnecting, jetstream.ErrJetStreamNotEnabled, jetstream.ErrNoStreamResponse, context.DeadlineExceeded,
	} {
		if errors.Is(err, passes) {
			return true
		}
	}
	return errors.As(err, new(net.Error))
}

// codeNoPeers is JetStream's refusal of a stream for which not enough servers are
// there yet.
const codeNoPeers = 10005

// codeNoMessage is the answer of a server that is behind the others, or does not yet
// know that there is the stream's last message.
const codeNoMessage = 10037

// lasting are the failures of EventStoreDB that waiting does not mend.
var lasting = []esdb.ErrorCode{
	esdb.ErrorCodeUnauthenticated, esdb.ErrorCodeAccessDenied, esdb.ErrorCodeUnsupportedFeature, esdb.ErrorCodeParsing,
	esdb.ErrorCodeStreamDeleted, esdb.ErrorCodeWrongExpectedVersion, esdb.ErrorCodeResourceAlreadyExists,
}

package natsstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/natscluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, natscluster.Leftovers()...) }

func TestStoreOnOneServer(t *testing.T) {
	t.Parallel()
	run(t, natscluster.Start(t, 1), 1)
}

func TestStoreOnACluster(t *testing.T) {
	t.Parallel()
	run(t, natscluster.Start(t, 3), 3)
}

// run runs the suite on one cluster, with a ledger for every log.
func run(t *testing.T, c *natscluster.Cluster, replicas int) {
	urls := make(map[events.Store]string)
	opened := func(t *testing.T, url string) events.Store {
		s := open(t, url)
		urls[s] = url
		return s
	}
	storetest.Run(t,
		func(t *testing.T) events.Store { return opened(t, newURL(c.URL(), replicas)) },
		func(t *testing.T, s events.Store) events.Store {
			require.NoError(t, s.Close())
			return opened(t, urls[s])
		})
}

func TestTwoStoresOnOneServer(t *testing.T) {
	t.Parallel()
	runShared(t, natscluster.Start(t, 1), 1)
}

func TestTwoStoresOnACluster(t *testing.T) {
	t.Parallel()
	runShared(t, natscluster.Start(t, 3), 3)
}

func runShared(t *testing.T, c *natscluster.Cluster, replicas int) {
	storetest.RunShared(t, func(t *testing.T) (a, b events.Shared) {
		url := newURL(c.URL(), replicas)
		return open(t, url), open(t, url)
	})
}

func TestLostAnswersOnOneServer(t *testing.T) {
	t.Parallel()
	runUnknown(t, natscluster.Start(t, 1), 1)
}

func TestLostAnswersOnACluster(t *testing.T) {
	t.Parallel()
	runUnknown(t, natscluster.Start(t, 3), 3)
}

func runUnknown(t *testing.T, c *natscluster.Cluster, replicas int) {
	storetest.RunUnknown(t, func(t *testing.T) (s events.Store, lose func(recorded bool)) {
		proxy := natscluster.Behind(t, c.Address(0))
		url := newURL(proxy.URL(), replicas)
		return open(t, url, nats.IgnoreDiscoveredServers()), func(recorded bool) {
			if recorded {
				proxy.Strike(subjects(url), natscluster.CutAfter)
			} else {
				proxy.Strike(subjects(url), natscluster.CutBefore)
			}
		}
	})
}

func TestLostConnectionsToOneServer(t *testing.T) {
	t.Parallel()
	runReconnect(t, natscluster.Start(t, 1), 1)
}

func TestLostConnectionsToACluster(t *testing.T) {
	t.Parallel()
	runReconnect(t, natscluster.Start(t, 3), 3)
}

func runReconnect(t *testing.T, c *natscluster.Cluster, replicas int) {
	storetest.RunReconnect(t, func(t *testing.T) (s events.Store, cut func()) {
		proxy := natscluster.Behind(t, c.Address(0))
		return open(t, newURL(proxy.URL(), replicas), nats.IgnoreDiscoveredServers()), proxy.Cut
	})
}

func TestACommitOfMoreMessagesThanTheServerTakes(t *testing.T) {
	c := natscluster.Start(t, 1, natscluster.MaxBatch(0))
	storetest.RunTooLarge(t, func(t *testing.T) events.Store { return open(t, newURL(c.URL(), 1)) }, 1001)
}

var ledgers atomic.Int64

// newURL is that of a log that is not there yet.
func newURL(servers string, replicas int) string {
	return fmt.Sprintf("%s/test-%d?replicas=%d", servers, ledgers.Add(1), replicas)
}

// ledger is what the URL of a log calls it, and subjects is what its subjects
// begin with, and stream what JetStream calls it.
func ledger(url string) string {
	at, _, _ := strings.Cut(url, "?")
	return at[strings.LastIndex(at, "/")+1:]
}

func subjects(url string) string { return ledger(url) + ".log." }
func stream(url string) string   { return "STOCKLEDGER_" + ledger(url) + "_LOG" }

// open opens a log, which is closed with the test.
func open(t testing.TB, url string, options ...nats.Option) *natsstore.Store {
	t.Helper()
	s, err := openPatiently(t.Context(), natsstore.Config{URL: url, Options: options, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// openPatiently opens a log. A new one begins with an election, which on a busy
// machine may take longer than a store waits for it.
func openPatiently(ctx context.Context, c natsstore.Config) (s *natsstore.Store, err error) {
	for began := time.Now(); ; {
		s, err = natsstore.Open(ctx, c)
		if err == nil || !natsstore.Passing(err) || time.Since(began) > patience {
			return s, err
		}
	}
}

package esdbstore_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/esdbstore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/esdbdouble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is a logger for tests that break connections.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t testing.TB, url string) *esdbstore.Store {
	t.Helper()
	s, err := esdbstore.Open(t.Context(), esdbstore.Config{URL: url, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestStore(t *testing.T) {
	urls := make(map[events.Store]string)
	opened := func(t *testing.T, url string) events.Store {
		s := open(t, url)
		urls[s] = url
		return s
	}
	storetest.Run(t,
		func(t *testing.T) events.Store { return opened(t, esdbdouble.URL(t)) },
		func(t *testing.T, s events.Store) events.Store {
			require.NoError(t, s.Close())
			return opened(t, urls[s])
		})
}

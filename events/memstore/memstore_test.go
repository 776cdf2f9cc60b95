package memstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) events.Store {
		s := memstore.New()
		t.Cleanup(func() { _ = s.Close() })
		return s
	}, nil)
}

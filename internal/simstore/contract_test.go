package simstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/simstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// closing is a store that takes its disk with it.
type closing struct {
	*simstore.Store
	disk *simstore.Disk
}

func (c closing) Close() error { return c.disk.Close() }

// Undriven it is a store like any other.
func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) events.Store {
		disk := simstore.NewDisk()
		t.Cleanup(func() { _ = disk.Close() })
		return closing{disk.Open("a"), disk}
	}, nil)
}

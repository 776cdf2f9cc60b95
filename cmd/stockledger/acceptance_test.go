//go:build unix

package main

import (
	"os"
	"testing"

	"github.com/stockledger/stockledger/internal/esdbdouble"
	"github.com/stockledger/stockledger/internal/ports"
)

// The story of the real sales file is the same wherever the log is: items and sales
// are imported while the ledger and the import are killed, every line counts once,
// and all that can be asked is answered as the file says.
//
// Here the log is on the engines that several nodes share. CI takes the first lines
// of the file; `make acceptance` takes all of them.
func salesOnSharedStores(t *testing.T) salesLines {
	t.Helper()
	if testing.Short() {
		t.Skip("takes ten seconds and more")
	}
	most := 1500
	if os.Getenv("STOCKLEDGER_TEST_SALES") == "all" {
		most = 0
	}
	return readSales(t, most)
}

func TestRealSalesOnAClusterOfNATSServers(t *testing.T) {
	sales := salesOnSharedStores(t)
	t.Parallel()
	servers := startServers(t, newChildLogs(t), 3)
	r := newRetail(t, sales, retailPlace{
		program: builtProgram(t, "stockledger-node"), imports: fewAtOnce(sales),
		serve:  []string{"--store", servers.store(), "--node", "shop"},
		server: servers.url(),
	})
	r.countsOnceWhateverIsKilled("--set", "effective_at="+salesOpened)
	r.answersAsTheFileDoes()
}

func TestRealSalesOnEventStoreDB(t *testing.T) {
	sales := salesOnSharedStores(t)
	t.Parallel()
	double := esdbdouble.Start(t)
	listen := ports.Reserve(t)
	r := newRetail(t, sales, retailPlace{
		program: builtProgram(t, "stockledger-node"), imports: fewAtOnce(sales),
		serve:  []string{"--store", double.URL(), "--node", "shop", "--nats-listen", listen},
		server: "nats://" + listen,
	})
	r.countsOnceWhateverIsKilled("--set", "effective_at="+salesOpened)
	r.answersAsTheFileDoes()
}

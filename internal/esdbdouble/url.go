package esdbdouble

import (
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// Variable names the environment variable with the connection string of a real
// server, without a ledger: esdb://localhost:2113?tls=false
const Variable = "STOCKLEDGER_TEST_ESDB"

// RealServer is the connection string of the real server that tests are to use;
// "" when they are to use doubles.
func RealServer() string { return os.Getenv(Variable) }

// URL is the connection string of a ledger that nobody has used: on the real
// server when there is one, else on a double that ends with the test.
func URL(tb testing.TB) string {
	tb.Helper()
	server := RealServer()
	if server == "" {
		server = Start(tb).URL()
	}
	return WithLedger(server, "test-"+uuid.NewString()[:13])
}

// WithLedger adds the parameter that names a ledger to a connection string.
func WithLedger(url, ledger string) string {
	if strings.Contains(url, "?") {
		return url + "&ledger=" + ledger
	}
	return url + "?ledger=" + ledger
}

// NeedsDouble skips a test that a real server cannot run, and starts a double
// for it otherwise.
func NeedsDouble(tb testing.TB, why string, options ...Option) *Server {
	tb.Helper()
	return NeedsCluster(tb, 1, why, options...)[0]
}

// NeedsCluster is NeedsDouble for n nodes, the first of which leads.
func NeedsCluster(tb testing.TB, n int, why string, options ...Option) []*Server {
	tb.Helper()
	if RealServer() != "" {
		tb.Skipf("%s is set, and this needs the double: %s", Variable, why)
	}
	return StartCluster(tb, n, options...)
}

package ports_test

import (
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/ports"
)

// An address stays the test's while no server has it, and a server can take it
// again and again.
func TestAReservedAddressIsNobodyElses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("addresses cannot be reserved here")
	}
	at := ports.Reserve(t)
	for range 3 {
		_, err := net.Dial("tcp", at)
		require.Error(t, err, "nobody listens")
		server, err := net.Listen("tcp", at)
		require.NoError(t, err)
		client, err := net.Dial("tcp", at)
		require.NoError(t, err)
		require.NoError(t, server.Close())
		require.NoError(t, client.Close())
	}
	given := make(map[string]bool)
	for range 200 {
		other := ports.Reserve(t)
		require.NotEqual(t, at, other)
		require.False(t, given[other])
		given[other] = true
	}
}

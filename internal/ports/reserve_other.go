//go:build !linux

package ports

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// Reserve is an address on this machine, HOST:PORT, that was free a moment ago.
func Reserve(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

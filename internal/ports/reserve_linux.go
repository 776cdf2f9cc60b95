package ports

import (
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Reserve is an address on this machine, HOST:PORT, that nobody else is given until
// the test ends, however often a server of the test's takes it and gives it back.
// While none listens there, connections are refused.
//
// A socket that is bound and does not listen holds it: Linux lends such a port to
// nobody who takes any, and lets those who name it and would use it again, as
// servers do, listen on it. An address that was merely free a moment ago may be lent
// out before it is used: of nine in a row two were the same in one of 200 tries.
func Reserve(t testing.TB) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Close(socket)) })
	require.NoError(t, syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	require.NoError(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(at.(*syscall.SockaddrInet4).Port))
}

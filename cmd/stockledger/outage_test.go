package main

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// Servers of NATS that are being set up anew may turn everybody away for a while. A
// node is there again when they do not.
func TestANodeThatNATSTurnsAwayComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wants := func(password string, port int) *server.Options {
		return &server.Options{
			Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true, Username: "ledger", Password: password,
		}
	}
	s, err := server.NewServer(wants("right", server.RANDOM_PORT))
	require.NoError(t, err)
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(patienceInTests))
	port := s.Addr().(*net.TCPAddr).Port
	url := strings.Replace(s.ClientURL(), "nats://", "nats://ledger:right@", 1)
	log := new(written)
	h, err := openHost(t.Context(), hostConfig{dir: t.TempDir(), natsURL: url, logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close() })

	require.NoError(t, s.ReloadOptions(wants("another", port)))
	require.Eventually(t, func() bool {
		return h.conn.IsClosed() || strings.Count(log.String(), nats.ErrAuthorization.Error()) > 2
	}, patienceInTests, time.Millisecond)
	require.NoError(t, s.ReloadOptions(wants("right", port)))
	client, err := natsapi.Dial(url)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	_, err = client.Command(t.Context(), "create-inventory-items", commands.Envelope{}, []byte(`{"id":"mug"}`))
	require.NoError(t, err)
}

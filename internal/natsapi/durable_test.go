package natsapi

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatJetStreamAcknowledgesIsOnDisk(t *testing.T) {
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", Dir: t.TempDir()})
	require.NoError(t, err)
	defer s.Close()
	require.True(t, s.nats.JetStreamConfig().SyncAlways)
}

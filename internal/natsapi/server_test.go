package natsapi_test

import (
	"net"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/natsapi"
)

func TestServerRefusesToBeOpenToAll(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:4222", "example.com:4222"} {
		_, err := natsapi.StartServer(natsapi.ServerConfig{Listen: listen, Dir: t.TempDir(), Logger: quiet})
		require.ErrorContains(t, err, "set a token or a user and password, or listen on 127.0.0.1:4222", listen)
	}
	s, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "0.0.0.0:0", Dir: t.TempDir(), Token: "secret", Logger: quiet})
	require.NoError(t, err, "with a token it may")
	require.NoError(t, s.Close())
}

func TestServerAsksForCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		config natsapi.ServerConfig
		option nats.Option
	}{
		"token": {natsapi.ServerConfig{Token: "secret"}, nats.Token("secret")},
		"user":  {natsapi.ServerConfig{User: "shop", Password: "secret"}, nats.UserInfo("shop", "secret")},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Listen, c.config.Dir, c.config.Logger = "127.0.0.1:0", t.TempDir(), quiet
			s, err := natsapi.StartServer(c.config)
			require.NoError(t, err)
			defer s.Close()
			_, err = nats.Connect(s.URL())
			require.ErrorIs(t, err, nats.ErrAuthorization)
			outside, err := nats.Connect(s.URL(), c.option)
			require.NoError(t, err)
			outside.Close()
			connect(t, s).Close() // from inside it knows them
		})
	}
	_, err := natsapi.StartServer(natsapi.ServerConfig{User: "shop", Dir: t.TempDir(), Logger: quiet})
	require.ErrorContains(t, err, "a user needs a password")
}

func TestServerNamesThePortInUse(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, err = natsapi.StartServer(natsapi.ServerConfig{Listen: l.Addr().String(), Dir: t.TempDir(), Logger: quiet})
	require.ErrorContains(t, err, "port "+port+" is in use")
	require.ErrorContains(t, err, "choose another port")
}

func TestServerHasItsDirectoryAlone(t *testing.T) {
	dir := t.TempDir()
	startServer(t, dir)
	_, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: dir, Logger: quiet})
	require.ErrorIs(t, err, events.ErrInUse)
	require.ErrorContains(t, err, dir)
}

func TestServerSaysWhatIsWrongWithAnAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"4222": "write HOST:PORT", "127.0.0.1:nats": "must be a number", "127.0.0.1:65536": "must be a number",
	} {
		_, err := natsapi.StartServer(natsapi.ServerConfig{Listen: listen, Dir: t.TempDir(), Logger: quiet})
		require.ErrorContains(t, err, want)
	}
}

func TestServerTakesLargeMessages(t *testing.T) {
	require.EqualValues(t, 8<<20, connect(t, startServer(t, t.TempDir())).MaxPayload())
}

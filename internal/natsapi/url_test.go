package natsapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

func TestURLsAreShownWithoutSecrets(t *testing.T) {
	for urls, want := range map[string]string{
		"":                               "",
		"nats://localhost:4222":          "nats://localhost:4222",
		"localhost":                      "localhost",
		"s3cr3t@localhost":               "xxxxx@localhost",
		"s3cr3t:4222":                    "s3cr3t:4222",
		"ann:s3cr3t":                     "xxxxx",
		"nats://s3cr3t@localhost:1":      "nats://xxxxx@localhost:1",
		"tls://ann:s3cr3t@a:1, nats://b": "tls://xxxxx@a:1,nats://b",
		"nats://a,nats://ann:s3cr3t@b":   "nats://a,nats://xxxxx@b",
		"nats://ann:s3/cr@3t@a":          "nats://xxxxx@a",
		"nats://ann:%s3cr3t@a":           "nats://xxxxx@a",
		"nats://ann:s3,cr3t@a":           "xxxxx,xxxxx@a",
		"nats://ann:s3\ncr3t@a":          "nats://xxxxx@a",
		"ann:s3://cr3t@a":                "xxxxx@a",
	} {
		require.Equal(t, want, natsapi.Redacted(urls), urls)
		require.Equal(t, want, natsapi.Redacted(want), "and that is that")
	}
}

func TestErrorsHaveNoSecrets(t *testing.T) {
	_, err := natsapi.Dial("nats://ann:%s3cr3t@localhost:1")
	require.ErrorContains(t, err, "the server URL nats://xxxxx@localhost:1 cannot be read: write nats://HOST:PORT")
	require.NotContains(t, err.Error(), "s3cr3t")

	_, err = natsapi.Dial("nats://s3cr3t@127.0.0.1:1")
	requireNobody(t, err, "nats://xxxxx@127.0.0.1:1")
	require.NotContains(t, err.Error(), "s3cr3t")
	require.Equal(t, "nats://xxxxx@127.0.0.1:1", fault.Of(err).Details["server"])
}

// Such a URL is taken for a host and a path, and the host would be looked up.
func TestASecretWithASlashIsNotTakenForAHost(t *testing.T) {
	for _, urls := range []string{
		"nats://s3cr3t/s3cr3t@127.0.0.1:1", "s3cr3t/s3cr3t@127.0.0.1:1", "nats://s3cr3t?s3cr3t@127.0.0.1:1", "nats://s3cr3t#s3cr3t@127.0.0.1:1",
		"nats://127.0.0.1:1,nats://s3cr3t/s3cr3t@127.0.0.1:1",
	} {
		err := natsapi.CheckURL(urls)
		require.ErrorContains(t, err, "cannot be read", urls)
		require.NotContains(t, err.Error()+natsapi.Redacted(urls), "s3cr3t")
	}
	require.NoError(t, natsapi.CheckURL("nats://s3cr3t%2Fs3cr3t@127.0.0.1:1"))
}

func TestWrongCredentialsAreNoMissingLedger(t *testing.T) {
	server, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: t.TempDir(), Token: "right", Logger: quiet})
	require.NoError(t, err)
	defer server.Close()
	address := server.URL()[len("nats://"):]
	for _, url := range []string{"nats://" + address, "nats://wr0ng@" + address, "nats://ann:wr0ng@" + address} {
		_, err := natsapi.Dial(url)
		require.Equal(t, "unauthorized", fault.Code(err))
		require.Equal(t, fault.Unauthorized, fault.Of(err).Kind)
		require.ErrorContains(t, err, "nats://TOKEN@HOST:PORT or nats://USER:PASSWORD@HOST:PORT")
		require.NotContains(t, err.Error(), "wr0ng")
		require.Equal(t, natsapi.Redacted(url), fault.Of(err).Details["server"])
	}
	dial(t, "nats://right@"+address)
}

// NATS trims headers, so such a key would name something else than its sender thinks.
func TestTheClientRefusesAKeyThatNATSWouldChange(t *testing.T) {
	s := open(t)
	for _, key := range []string{" lead", "trail ", " ", "a\nb", "a\tb"} {
		_, err := s.client.Command(within(t), "create-inventory-items", commands.Envelope{Key: key}, []byte(mug))
		require.Equal(t, "invalid_key", fault.Code(err), "%q", key)
		_, err = s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: key}, []byte(mug))
		require.Equal(t, "invalid_key", fault.Code(err), "%q", key)
	}
	require.Empty(t, logged(t, s.ledger.Events()))
}

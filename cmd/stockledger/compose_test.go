package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/internal/ports"
)

// composeServers are the three NATS servers of docker-compose.yml, in this process:
// its own configuration file with the variables that it sets, but for where they
// listen and keep their data.
func composeServers(t *testing.T) (hosts []string) {
	t.Helper()
	routes, peers := make([]int, 3), make([]string, 3)
	for i := range routes {
		_, port, err := net.SplitHostPort(ports.Reserve(t))
		require.NoError(t, err)
		routes[i], err = strconv.Atoi(port)
		require.NoError(t, err)
		peers[i] = fmt.Sprintf(`"nats://cluster:7e5c@127.0.0.1:%d"`, routes[i])
	}
	for name, value := range map[string]string{
		"NATS_ROUTES":           "[" + strings.Join(peers, ", ") + "]",
		"NATS_CLUSTER_PASSWORD": `"7e5c"`, // a number, were it not for the quotes
	} {
		t.Setenv(name, value)
	}
	for _, user := range []string{"ledger", "service", "publisher", "operator"} {
		t.Setenv("NATS_"+strings.ToUpper(user)+"_PASSWORD", `"`+composePassword(user)+`"`)
	}
	var all []*server.Server
	for i := range routes {
		t.Setenv("NATS_NAME", fmt.Sprint("nats-", i+1))
		options, err := server.ProcessConfigFile("../../docs/compose/nats.conf")
		require.NoError(t, err)
		require.True(t, options.SyncAlways)
		options.Host, options.Port, options.HTTPPort, options.StoreDir = "127.0.0.1", -1, 0, t.TempDir()
		options.Cluster.Host, options.Cluster.Port = "127.0.0.1", routes[i]
		options.NoSigs, options.NoLog = true, true
		s, err := server.NewServer(options)
		require.NoError(t, err)
		go s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		all = append(all, s)
	}
	for _, s := range all {
		require.True(t, s.ReadyForConnections(patienceInTests))
		hosts = append(hosts, s.Addr().String())
	}
	require.Eventually(t, func() bool {
		leaders := 0
		for _, s := range all {
			if s.JetStreamIsLeader() {
				leaders++
			}
		}
		return leaders == 1
	}, patienceInTests, 20*time.Millisecond, "JetStream has a leader")
	return hosts
}

func composePassword(user string) string { return "1e9-" + strings.TrimPrefix(user, "log-") }

// composeURL is the URL of the servers for a user.
func composeURL(user string, hosts []string) string {
	return "nats://" + user + ":" + composePassword(user) + "@" + strings.Join(hosts, ",")
}

// composeConn is a connection of that user.
func composeConn(t *testing.T, user string, hosts []string) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(strings.Join(hosts, ","), nats.UserInfo(user, composePassword(user)), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// Whoever may send commands to the ledger cannot write to its log, and neither can
// the ledger be brought to do it for him.
func TestOnlyTheLedgersUserWritesToTheLog(t *testing.T) {
	hosts := composeServers(t)
	store, err := natsstore.Open(t.Context(), natsstore.Config{URL: composeURL("ledger", hosts) + "/main?replicas=3"})
	require.NoError(t, err)
	defer store.Close()
	append1(t, store, "first")
	const log = "STOCKLEDGER_main_LOG"
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // of what NATS does not even answer
		t.Cleanup(cancel)
		return ctx
	}
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		return ctx
	}
	stream := func(ctx context.Context, user string) (jetstream.JetStream, jetstream.Stream, error) {
		js, err := jetstream.New(composeConn(t, user, hosts))
		require.NoError(t, err)
		s, err := js.Stream(ctx, log)
		return js, s, err
	}
	_, _, err = stream(soon(), "log-operator")
	require.NoError(t, err)

	service := composeConn(t, "service", hosts)
	_, err = service.Subscribe("inventory.cmd.adjust-inventory-levels", func(m *nats.Msg) { _ = m.Respond([]byte("carried out")) })
	require.NoError(t, err)
	require.NoError(t, service.Flush())
	publisher := composeConn(t, "publisher", hosts)
	require.Eventually(t, func() bool { // the other servers hear of it in a moment
		answer, err := publisher.Request("inventory.cmd.adjust-inventory-levels", nil, time.Second)
		return err == nil && string(answer.Data) == "carried out"
	}, patienceInTests, 20*time.Millisecond)
	_, err = publisher.Request("inventory.op.backup-ledger", nil, patienceInTests)
	require.ErrorIs(t, err, nats.ErrNoResponders, "he does not look after the ledger")

	for _, user := range []string{"service", "publisher", "operator"} {
		js, _, err := stream(short(), user)
		require.Error(t, err, "%s cannot see the log", user)
		require.Error(t, js.DeleteStream(short(), log), user)
		_, err = js.Publish(short(), "main.log.item-a", []byte("{}"))
		require.Error(t, err, user)
		// He may name any subject for the answer; it is one of his own account.
		require.NoError(t, js.Conn().PublishRequest("inventory.cmd.adjust-inventory-levels", "main.log.item-a", nil))
		require.NoError(t, js.Conn().Flush())
	}
	ledger, have, err := stream(soon(), "ledger")
	require.NoError(t, err)
	require.Equal(t, 3, have.CachedInfo().Config.Replicas)
	require.Error(t, ledger.DeleteStream(short(), log), "not even the ledger deletes")
	require.Error(t, have.Purge(short()))
	limited := have.CachedInfo().Config
	limited.MaxMsgs = 1
	_, err = ledger.UpdateStream(short(), limited)
	require.Error(t, err, "a limit would delete history")
	require.Error(t, have.DeleteMsg(short(), 1))

	append1(t, store, "second")
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, head)

	_, err = nats.Connect(strings.Join(hosts, ","))
	require.ErrorIs(t, err, nats.ErrAuthorization, "nobody without a name")
	_, err = nats.Connect(strings.Join(hosts, ","), nats.UserInfo("ledger", "local-only-ledger"))
	require.ErrorIs(t, err, nats.ErrAuthorization)
}

// append1 records an event on a stream of its own.
func append1(t *testing.T, store events.Store, sku string) {
	t.Helper()
	meta := &events.Meta{CommandID: sku, Recorded: time.Unix(1, 0).UTC()}
	e, err := events.Record(events.SKUStream(sku), 0, events.Hash{}, events.SKUClaimed{SKU: sku}, meta)
	require.NoError(t, err)
	_, err = store.Append(t.Context(), events.Commit{e})
	require.NoError(t, err)
}

// What the configuration files ask the environment for is set by docker-compose.yml,
// and nothing else is.
func TestComposeSetsWhatItsFilesNeed(t *testing.T) {
	t.Parallel()
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join("../..", path))
		require.NoError(t, err)
		return string(text)
	}
	compose := read("docker-compose.yml")
	names := func(pattern, text string) map[string]bool {
		found := make(map[string]bool)
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found[match[1]] = true
		}
		return found
	}
	require.Equal(t, names(`: \$(NATS_\w+)`, read("docs/compose/nats.conf")), names(`\b(NATS_\w+):`, compose))

	// Prometheus asks the ledger nodes, at the port they listen on in the image.
	scraped := read("docs/compose/prometheus.yml")
	require.Contains(t, scraped, "targets: [ledger-1:8080, ledger-2:8080]")
	for _, node := range []string{"ledger-1", "ledger-2"} {
		require.Contains(t, compose, "\n  "+node+":")
	}
	require.Contains(t, read("Dockerfile"), "STOCKLEDGER_HTTP=0.0.0.0:8080")
	require.Contains(t, compose, "target: /etc/prometheus/http-token")
	require.Contains(t, scraped, "credentials_file: /etc/prometheus/http-token")
}

// The health check of the image is right about a ledger that is well, and about one
// that is not there.
func TestTheHealthCheckOfTheImage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	match := regexp.MustCompile(`(?m)^HEALTHCHECK .*CMD (\[.*\])$`).FindSubmatch(text)
	require.NotNil(t, match)
	var check []string
	require.NoError(t, json.Unmarshal(match[1], &check))
	require.Equal(t, "/stockledger", check[0])
	const token = "local-only-http-token"
	at, _ := serving(t, nil, "serve", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--http-token", token)
	code, out, errs := ran(t, append(check[1:], "--server", at.HTTP, "--token", token)...)
	require.Zero(t, code, "%s%s", out, errs)
	code, _, _ = ran(t, append(check[1:], "--server", at.HTTP, "--token", "another-token-of-that-length")...)
	require.NotZero(t, code)
	code, _, _ = ran(t, append(check[1:], "--server", "http://127.0.0.1:1", "--token", token)...)
	require.NotZero(t, code)
}

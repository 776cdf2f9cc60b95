// Package natscluster starts real NATS servers with JetStream for tests: one, or
// a cluster of several, all in this process.
package natscluster

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/internal/ports"
)

// patience is when a test gives up on a server.
const patience = time.Minute

// Cluster is NATS servers with JetStream, which end with the test. Batches may
// have 50,000 messages unless an option says otherwise.
type Cluster struct {
	t     testing.TB
	nodes []*node
	extra string
	disk  bool
	// maxBatch is how many messages a batch may have.
	maxBatch int
	sync     string
	user     *url.Userinfo
}

// A node is one server, and what it is started again with.
type node struct {
	server        *server.Server
	dir           string
	client, route string // HOST:PORT
}

// An Option changes how the servers are configured.
type Option func(*Cluster)

// Configured adds text to the configuration of every server.
func Configured(text string) Option { return func(c *Cluster) { c.extra += "\n" + text } }

// MaxBatch is how many messages a batch may have; 0 is what servers take unless
// they are configured, which is 1000.
func MaxBatch(messages int) Option { return func(c *Cluster) { c.maxBatch = messages } }

// User is who the connections of the cluster itself are of.
func User(name, password string) Option {
	return func(c *Cluster) { c.user = url.UserPassword(name, password) }
}

// Synced sets how often servers sync what they store to the disk: a duration such
// as 100ms, or always. Unless it is set that is two minutes.
func Synced(interval string) Option { return func(c *Cluster) { c.sync = interval } }

// OnDisk has the servers keep their data on the disk of the test's directory.
// Otherwise they keep it in memory where the system has a directory there: on a
// disk a server alone syncs five times for every batch.
func OnDisk() Option { return func(c *Cluster) { c.disk = true } }

// Start starts that many servers, and returns once they have a leader.
func Start(t testing.TB, nodes int, options ...Option) *Cluster {
	t.Helper()
	c := &Cluster{t: t, maxBatch: 50_000}
	for _, option := range options {
		option(c)
	}
	for range nodes {
		c.nodes = append(c.nodes, &node{dir: c.dir(), client: ports.Reserve(t), route: ports.Reserve(t)})
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.Stop(i)
		}
	})
	for i := range c.nodes {
		c.start(i)
	}
	c.Ready()
	return c
}

// memory is a file system in memory, where there is one.
const memory = "/dev/shm"

func (c *Cluster) dir() string {
	if !c.disk {
		if dir, err := os.MkdirTemp(memory, "natscluster-"); err == nil {
			c.t.Cleanup(func() { require.NoError(c.t, os.RemoveAll(dir)) })
			return dir
		}
	}
	return c.t.TempDir()
}

// start starts a server from a configuration file, which is the way that sets up
// a cluster whole.
func (c *Cluster) start(i int) {
	c.t.Helper()
	n := c.nodes[i]
	path := filepath.Join(n.dir, "nats.conf")
	require.NoError(c.t, os.WriteFile(path, []byte(c.config(i)), 0o600))
	options, err := server.ProcessConfigFile(path)
	require.NoError(c.t, err)
	options.NoSigs, options.NoLog = true, true
	n.server, err = server.NewServer(options)
	require.NoError(c.t, err)
	go n.server.Start()
	require.True(c.t, n.server.ReadyForConnections(patience), "server %d does not start", i)
}

func (c *Cluster) config(i int) string {
	n := c.nodes[i]
	limits := ""
	if c.maxBatch > 0 {
		limits = fmt.Sprintf("limits { batch { max_msgs: %d } }", c.maxBatch)
	}
	if c.sync != "" {
		limits += "\n  sync_interval: " + c.sync
	}
	text := fmt.Sprintf(`
server_name: node%d
listen: %q
jetstream {
  store_dir: %q
  %s
}
%s
`, i, n.client, n.dir, limits, c.extra)
	if len(c.nodes) == 1 {
		return text
	}
	var routes []string
	for _, other := range c.nodes {
		routes = append(routes, fmt.Sprintf("nats://%s", other.route))
	}
	return text + fmt.Sprintf("cluster { name: test, listen: %q, routes: [%s] }\n", n.route, strings.Join(routes, ", "))
}

// Ready waits until JetStream answers, which on a cluster takes a leader, and the
// leader knows of every server that runs.
func (c *Cluster) Ready() {
	c.t.Helper()
	c.until("JetStream has a leader", func() bool {
		for _, n := range c.nodes {
			if n.server != nil && n.server.Running() && (len(c.nodes) == 1 || n.server.JetStreamIsLeader()) {
				return len(c.nodes) == 1 || len(n.server.JetStreamClusterPeers()) == c.running()
			}
		}
		return false
	})
}

// running counts the servers that are not stopped.
func (c *Cluster) running() (n int) {
	for _, node := range c.nodes {
		if node.server != nil {
			n++
		}
	}
	return n
}

// URL is where clients connect: all servers, with commas. It is the same all the time.
func (c *Cluster) URL() string {
	var urls []string
	for i := range c.nodes {
		urls = append(urls, c.Address(i))
	}
	return "nats://" + strings.Join(urls, ",")
}

// Address is HOST:PORT of one server.
func (c *Cluster) Address(i int) string { return c.nodes[i].client }

// Stop stops a server in good order. One that is stopped stays so.
func (c *Cluster) Stop(i int) {
	if n := c.nodes[i]; n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.server = nil
	}
}

// Restart starts a stopped server again, with what it had stored, at the same address.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	c.Stop(i)
	c.start(i)
}

// Leader is the server that leads a stream; it waits until there is one.
func (c *Cluster) Leader(stream string) (leader int) {
	c.t.Helper()
	c.until("the stream "+stream+" has a leader", func() bool {
		for i, n := range c.nodes {
			if n.server != nil && n.server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
				leader = i
				return true
			}
		}
		return false
	})
	return leader
}

// StepDown has the leader of a stream hand over to another server.
func (c *Cluster) StepDown(stream string) {
	c.t.Helper()
	was := c.Leader(stream)
	conn := c.Connect()
	defer conn.Close()
	_, err := conn.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, patience)
	require.NoError(c.t, err)
	c.until("another leads the stream "+stream, func() bool { return c.Leader(stream) != was })
}

// Connect makes a plain connection.
func (c *Cluster) Connect() *nats.Conn {
	c.t.Helper()
	var options []nats.Option
	if c.user != nil {
		password, _ := c.user.Password()
		options = append(options, nats.UserInfo(c.user.Username(), password))
	}
	conn, err := nats.Connect(c.URL(), options...)
	require.NoError(c.t, err)
	return conn
}

// JetStream makes a plain connection, which ends with the test, and JetStream on it.
func (c *Cluster) JetStream() jetstream.JetStream {
	c.t.Helper()
	conn := c.Connect()
	c.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(c.t, err)
	return js
}

func (c *Cluster) until(what string, is func() bool) {
	c.t.Helper()
	require.Eventually(c.t, is, patience, 10*time.Millisecond, what)
}

// Leftovers are goroutines that servers leave behind when they are stopped while
// they make or move a stream: of stores of theirs that nobody closes.
func Leftovers() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*msgBlock).flushLoop"),
	}
}

// LeaderOfAll has one server lead a stream and JetStream as a whole, and says which.
func (c *Cluster) LeaderOfAll(stream string) (leader int) {
	c.t.Helper()
	conn := c.Connect()
	defer conn.Close()
	c.until("one server leads all", func() bool {
		if leader = c.Leader(stream); c.nodes[leader].server.JetStreamIsLeader() {
			return true
		}
		_, _ = conn.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, patience)
		return false
	})
	return leader
}

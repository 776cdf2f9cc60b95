//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/ports"
)

// natsServers are a NATS cluster of real processes with JetStream.
type natsServers struct {
	logs    *childLogs
	program string
	all     []*natsServer
}

// A natsServer is one of them. It comes back with the same addresses and the same
// data.
type natsServer struct {
	*child
	name, conf      string
	client, monitor string // HOST:PORT
}

// The settings are those of docs/compose: what is acknowledged is on the disks of
// two of three, and a commit may have as many events as a command can make.
const natsConf = `
server_name: %[1]s
listen: %[2]s
http: %[3]s
jetstream { store_dir: %[4]q, sync_interval: always, limits { batch { max_msgs: 50000 } } }
cluster { name: ledger, listen: %[5]s, no_advertise: true, routes: [%[6]s] }
`

// startServers starts a cluster and waits until it is one.
func startServers(t *testing.T, logs *childLogs, n int) *natsServers {
	t.Helper()
	c := &natsServers{logs: logs, program: builtProgram(t, "nats-server")}
	dir := t.TempDir()
	routes := make([]string, n)
	for i := range routes {
		routes[i] = ports.Reserve(t)
	}
	for i := range n {
		s := &natsServer{name: fmt.Sprintf("nats-%d", i+1), client: ports.Reserve(t), monitor: ports.Reserve(t)}
		s.conf = filepath.Join(dir, s.name+".conf")
		text := fmt.Sprintf(natsConf, s.name, s.client, s.monitor, filepath.Join(dir, s.name), routes[i], "nats://"+strings.Join(routes, ", nats://"))
		if n == 1 {
			text = text[:strings.Index(text, "cluster {")]
		}
		require.NoError(t, os.WriteFile(s.conf, []byte(text), 0o600))
		c.all = append(c.all, s)
	}
	t.Cleanup(func() {
		for _, s := range c.all {
			if s.child != nil {
				require.NoError(t, s.kill()) // its end is not what is tested
			}
		}
	})
	for _, s := range c.all {
		require.NoError(t, c.start(s))
	}
	require.NoError(t, c.healthy(t.Context()))
	return c
}

// start starts a server, on the data it had. Where its port can be lent out while it
// is away, it tries again.
func (c *natsServers) start(s *natsServer) error {
	var err error
	up := until(func() bool {
		if s.child == nil || s.ended() {
			if s.child, err = startChild(c.logs, s.name, c.program, "-c", s.conf); err != nil {
				return true
			}
		}
		return statusOf(context.Background(), "http://"+s.monitor+"/varz") == http.StatusOK
	}, "%s is up", s.name)
	return errors.Join(err, up)
}

// healthy waits until every server is up, and its copy of every stream complete.
func (c *natsServers) healthy(ctx context.Context) error {
	for _, s := range c.all {
		if err := until(func() bool { return statusOf(ctx, "http://"+s.monitor+"/healthz") == http.StatusOK }, "%s is healthy", s.name); err != nil {
			return err
		}
	}
	return nil
}

// hosts are where clients connect, with commas.
func (c *natsServers) hosts() string {
	all := make([]string, len(c.all))
	for i, s := range c.all {
		all[i] = s.client
	}
	return strings.Join(all, ",")
}

// url is where clients connect.
func (c *natsServers) url() string { return "nats://" + strings.ReplaceAll(c.hosts(), ",", ",nats://") }

// store is the URL of the log in the cluster.
func (c *natsServers) store() string {
	return fmt.Sprintf("nats://%s/LEDGER?replicas=%d", c.hosts(), len(c.all))
}

// statusOf is the status that a GET is answered with, 0 without an answer.
func statusOf(ctx context.Context, url string) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	return answer.StatusCode
}

// A ledgerNode is one of the processes that serve a ledger. It comes back with the
// same directory.
type ledgerNode struct {
	*child
	logs  *childLogs
	name  string
	dir   string
	store string
	more  []string // arguments
	at    ready
}

// startNode starts a node and waits until it answers queries.
func startNode(t *testing.T, logs *childLogs, name, store string, more ...string) *ledgerNode {
	t.Helper()
	n := &ledgerNode{logs: logs, name: name, dir: t.TempDir(), store: store, more: more}
	t.Cleanup(func() {
		if n.child != nil {
			require.NoError(t, n.end())
		}
	})
	require.NoError(t, n.start(builtProgram(t, "stockledger-node")))
	return n
}

func (n *ledgerNode) start(program string) (err error) {
	file := filepath.Join(n.dir, "ready.json")
	if err := unannounce(file); err != nil {
		return err
	}
	args := []string{
		"serve", "--data", filepath.Join(n.dir, "data"), "--store", n.store, "--node", n.name,
		"--http", "127.0.0.1:0", "--ready-file", file, "--walk", "off",
	}
	if n.child, err = startChild(n.logs, n.name, program, append(args, n.more...)...); err != nil {
		return err
	}
	announced := func() bool {
		_, missing := os.Stat(file)
		return missing == nil || n.ended()
	}
	if err := until(announced, "%s serves", n.name); err != nil {
		return err
	}
	if n.ended() {
		return fmt.Errorf("%s ended before it served", n.name)
	}
	n.at, err = waitReady(file)
	return err
}

// leading reports whether this node carries out the commands, as far as it knows.
func (n *ledgerNode) leading(ctx context.Context) bool {
	return statusOf(ctx, n.at.HTTP+"/readyz?role=active") == http.StatusOK
}

// serves reports whether the node answers queries.
func (n *ledgerNode) serves(ctx context.Context) bool {
	return statusOf(ctx, n.at.HTTP+"/readyz") == http.StatusOK
}

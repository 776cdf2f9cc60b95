// Package esdbdouble is a double of an EventStoreDB server, for tests: it
// speaks the server's own gRPC protocol on a port of this machine, so that what
// is tested is reached through the real client over TCP. It is for tests alone;
// no program of ours contains it.
//
// # What is modelled, and from what
//
// Each rule is taken from the server's source, read at tag v24.10.14-rc.1 of
// kurrent-io/KurrentDB (the file is named here and where the rule is), or from
// the client module github.com/EventStore/EventStore-Client-Go/v4 v4.2.0.
//
//   - Append: options, then events, to the end of the stream; the metadata
//     "type" and "content-type" are required; sizes are added up while events
//     arrive, and more than the limit is refused at once, in the middle of the
//     sending (Streams.Append.cs). Answers to wrong versions carry both
//     generations of fields.
//   - Idempotency: an append that expects a revision, or no stream, is compared
//     with what the stream holds, without limit of time; one that expects
//     anything or any stream only with a bounded memory of recent ids, which a
//     restart or another leader has not (IndexWriter.cs CheckCommit,
//     BoundedCache.cs).
//   - Delete and Tombstone; a stream deleted softly opens again with the next
//     append, and its metadata says where (StorageWriterService.cs).
//   - $$ streams with $maxCount and $tb; a metadata stream shows its last event.
//   - Read of a stream and of $all, both ways, with count, filter and links, in
//     pages of 32 (IndexReader.cs, AllReader.cs, Enumerator.*.cs). Reads forwards
//     begin with the event at the position given; reads of $all backwards with
//     the one before it. A position that no record begins at is refused.
//   - Positions are offsets in bytes: they grow by what a record occupies.
//   - Subscriptions begin after the position given; Confirmation first, CaughtUp
//     each time the live log is reached, which is more than once for a consumer
//     that was slow; with a filter also Checkpoints: each window times interval
//     records, on going live and on falling behind
//     (Enumerator.AllSubscriptionFiltered.cs, SubscriptionsService.cs).
//   - The header requires-leader on a node that is not the leader is answered
//     with NotFound and the leader's address in trailers (RpcExceptions.cs);
//     without the header a write is carried out nevertheless (forwarded), and a
//     read is served.
//   - BatchAppend (Streams.BatchAppend.cs), Gossip, ServerFeatures.
//   - A connection carries 100 calls at a time, subscriptions among them: the
//     web server below the real one has that limit, and nothing raises it.
//
// # What is not
//
//   - Durability, and time: nothing is on disk, no fsync is waited for, events
//     carry made-up dates, and $maxAge does nothing.
//   - Replication: the nodes of [StartCluster] share one log, so none is ever
//     behind, nothing is lost with a leader, and an append that was repeated
//     before it was replicated is answered at once.
//   - Scavenging: what $maxCount and $tb hide still counts for idempotency.
//   - Users, access control and TLS; persistent subscriptions, projections,
//     secondary indexes, the older TCP protocol, HTTP, and the services of
//     KurrentDB 25.1 and later (AppendSession, AppendRecords).
//   - Regular expressions are Go's, not .NET's; prefixes are compared byte by byte.
//   - The answer to a repeated append has no position ([IdempotentPositions]
//     gives it one: the server does, as long as the event can be read).
//
// A double is only as honest as its source: the tests of this package run
// against a real server, too, when STOCKLEDGER_TEST_ESDB names one (see [URL]).
package esdbdouble

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/stockledger/stockledger/internal/ports"
)

// maxMessage is the largest message the server takes (TFConsts.cs,
// EffectiveMaxLogRecordSize).
const maxMessage = 16<<20 - 10_000

// settings are what options change.
type settings struct {
	version             string
	maxAppendSize       int
	maxCalls            uint32
	idempotentPositions bool
	checkpointsAtEnd    bool
}

// Option changes how a server is.
type Option func(*settings)

// Version is what the server says its version is; without it, 24.10.14.
func Version(version string) Option { return func(s *settings) { s.version = version } }

// MaxAppendSize is how many bytes one append may have: its events' data and
// metadata, and two for each character of their types. Without it, 1 MiB, as
// servers before 25.1 have it.
func MaxAppendSize(bytes int) Option { return func(s *settings) { s.maxAppendSize = bytes } }

// MaxCalls is how many calls one connection carries at a time; without it, 100.
func MaxCalls(n uint32) Option { return func(s *settings) { s.maxCalls = n } }

// IdempotentPositions gives the answer to a repeated append the position of the
// last event it wrote the first time.
func IdempotentPositions() Option { return func(s *settings) { s.idempotentPositions = true } }

// CheckpointsAtEnd makes subscriptions with a filter go live with a checkpoint
// at the end of the log, where the next event will be. Who resumes after it
// misses that event, and so does the subscription itself: servers before 24.10.5, 25.0.1 and 25.1.0 have this bug
// (KDB-744). [Server.SetCheckpointsAtEnd] turns it on and off later.
func CheckpointsAtEnd() Option { return func(s *settings) { s.checkpointsAtEnd = true } }

// Server is one node. Its methods may be called from any goroutine.
type Server struct {
	tb      testing.TB
	set     settings
	cluster *cluster
	faults  faults
	calls   counters

	checkpointsAtEnd atomic.Bool
	duplicates       atomic.Bool
	latency          atomic.Int64

	mu       sync.Mutex // guards what follows
	address  string
	running  *grpc.Server
	stop     chan struct{} // closed when running is to end
	served   chan struct{} // closed when running has ended
	conns    map[string]net.Conn
	accepted int
	role     role
	subs     map[*subscription]struct{}
}

// cluster is what nodes share.
type cluster struct {
	*log
	nodes []*Server
}

// role is what a node is in its cluster.
type role struct {
	leads  bool
	leader string // another node's host:port; "" when it knows none
}

// Start starts a node that is alone, on a port of its own, and stops it when
// the test ends.
func Start(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	return StartCluster(tb, 1, options...)[0]
}

// StartCluster starts n nodes that share one log; the first leads.
func StartCluster(tb testing.TB, n int, options ...Option) []*Server {
	tb.Helper()
	set := settings{version: "24.10.14", maxAppendSize: 1 << 20, maxCalls: 100}
	for _, option := range options {
		option(&set)
	}
	c := &cluster{log: newLog()}
	for range n {
		s := &Server{tb: tb, set: set, cluster: c, conns: make(map[string]net.Conn), subs: make(map[*subscription]struct{})}
		s.checkpointsAtEnd.Store(set.checkpointsAtEnd)
		if err := s.listen(ports.Reserve(tb)); err != nil {
			tb.Fatalf("esdbdouble: %v", err)
		}
		tb.Cleanup(s.Stop)
		c.nodes = append(c.nodes, s)
	}
	c.nodes[0].Lead()
	return c.nodes
}

// Address is the node's host and port.
func (s *Server) Address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// URL is the node's connection string.
func (s *Server) URL() string { return "esdb://" + s.Address() + "?tls=false" }

// ClusterURL names all nodes of the cluster; a client asks them for their gossip.
func (s *Server) ClusterURL() string {
	addresses := make([]string, len(s.cluster.nodes))
	for i, node := range s.cluster.nodes {
		addresses[i] = node.Address()
	}
	return "esdb://" + strings.Join(addresses, ",") + "?tls=false"
}

// Stop ends the node as a crash of its process would: its port is closed, its
// connections are broken and its calls end. What was appended is kept for
// StartAgain. It returns when nothing of the node runs any more.
func (s *Server) Stop() {
	s.mu.Lock()
	running, stop, served := s.running, s.stop, s.served
	s.running = nil
	s.mu.Unlock()
	if running == nil {
		return
	}
	close(stop)
	running.Stop()
	<-served
}

// StartAgain starts a stopped node on the port it had. Its memory of recent
// event ids is empty.
func (s *Server) StartAgain() {
	s.tb.Helper()
	s.cluster.forget()
	if err := s.listen(s.Address()); err != nil {
		s.tb.Errorf("esdbdouble: start again: %v", err)
	}
}

// Restart is Stop and StartAgain.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	s.StartAgain()
}

func (s *Server) listen(address string) error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	running := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(s.set.maxCalls),
		grpc.WaitForHandlers(true),
		// The real server does not mind pings, and clients send them each 10 s.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	streams.RegisterStreamsServer(running, streamsService{Server: s})
	gossip.RegisterGossipServer(running, gossipService{Server: s})
	serverfeatures.RegisterServerFeaturesServer(running, featuresService{Server: s})
	served := make(chan struct{})
	s.mu.Lock()
	s.address, s.running, s.stop, s.served = listener.Addr().String(), running, make(chan struct{}), served
	s.mu.Unlock()
	go func() {
		defer close(served)
		_ = running.Serve(countingListener{listener, s}) // ends with Stop, by an error that says so
	}()
	return nil
}

// countingListener knows the connections that are open.
type countingListener struct {
	net.Listener
	server *Server
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	counted := &countedConn{Conn: conn, server: l.server}
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	l.server.conns[conn.RemoteAddr().String()] = counted
	l.server.accepted++
	return counted, nil
}

type countedConn struct {
	net.Conn
	server *Server
}

func (c *countedConn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c.RemoteAddr().String())
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// DropConnections breaks all connections. The port stays open.
func (s *Server) DropConnections() {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.conns))
	for _, conn := range s.conns {
		conns = append(conns, conn)
	}
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// dropConnection breaks the connection a call came over.
func (s *Server) dropConnection(from string) {
	s.mu.Lock()
	conn := s.conns[from]
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

// Conns is how many connections are open.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Accepted is how many connections there have been.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Lead makes the node the leader of its cluster, and the others follow it. A
// new leader has no memory of recent event ids.
func (s *Server) Lead() {
	s.cluster.forget()
	for _, node := range s.cluster.nodes {
		node.mu.Lock()
		node.role = role{leads: node == s}
		if node != s {
			node.role.leader = s.address
		}
		node.mu.Unlock()
	}
}

// NotLeader makes the node one that follows the leader at host:port; "" when it
// knows of none, as during an election. Lead ends it.
func (s *Server) NotLeader(leader string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.role = role{leader: leader}
}

func (s *Server) roleNow() role {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.role
}

// stopping is closed when the node is told to stop.
func (s *Server) stopping() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop
}

// pause waits, and says whether it did before ctx was done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hostPort splits an address that was made by us.
func hostPort(address string) (host string, port uint32) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		panic(fmt.Sprintf("esdbdouble: %q is no host:port", address))
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		panic(fmt.Sprintf("esdbdouble: %q has no port", address))
	}
	return host, uint32(n)
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/esdbdouble"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/lease"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// A handle is the store as one node of a test has it.
type handle struct {
	events.Shared
	gate *gate
	kept bool // closing it leaves it open for the others
}

func (h handle) Close() error {
	if h.kept {
		return nil
	}
	return h.Shared.Close()
}

// AppendAt fails for good once the gate is broken.
func (h handle) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	if h.gate.broken.Load() {
		return nil, events.ErrStopped
	}
	return h.Shared.AppendAt(ctx, head, commits...)
}

// Register is one whose calls the gate may keep from the register.
func (h handle) Register(ctx context.Context, name string) (events.Register, error) {
	r, err := h.Shared.Register(ctx, name)
	return gated{r, h.gate}, err
}

// A gate is closed while a node cannot reach the register of the lease, and broken
// once it cannot append any more.
type gate struct {
	closed chan struct{}
	broken atomic.Bool
}

func newGate() *gate { return &gate{closed: make(chan struct{})} }

func (g *gate) close() { close(g.closed) }

func (g *gate) through() error {
	select {
	case <-g.closed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

type gated struct {
	events.Register
	gate *gate
}

func (g gated) Get(ctx context.Context) ([]byte, uint64, error) {
	if err := g.gate.through(); err != nil {
		return nil, 0, err
	}
	return g.Register.Get(ctx)
}

func (g gated) Set(ctx context.Context, revision uint64, value []byte) (uint64, error) {
	if err := g.gate.through(); err != nil {
		return 0, err
	}
	return g.Register.Set(ctx, revision, value)
}

// pair are two nodes of one ledger.
type pair struct {
	kind  string
	log   *memstore.Store // of the kind memory
	nats  string
	esdb  string // of the kind esdb
	gates map[string]*gate
	ttl   time.Duration // of the lease
}

// store is the store of the pair, for one node.
func (p *pair) store(t *testing.T, of *gate) events.Store {
	t.Helper()
	at := p.nats + "/shop"
	switch p.kind {
	case kindMemory:
		return handle{p.log, of, true}
	case kindESDB:
		at = p.esdb
	}
	store, err := openStore(t.Context(), at, "", nodesLog)
	require.NoError(t, err)
	return handle{store.(events.Shared), of, false}
}

var nodesLog = slog.New(slog.DiscardHandler)

// longLease is how long a lease lives that no busy machine takes from who has it.
const longLease = 10 * lease.DefaultTTL

// open opens a node. It is closed with the test.
func (p *pair) open(t *testing.T, name string) *host {
	t.Helper()
	p.gates[name] = newGate()
	h, err := openHost(t.Context(), hostConfig{
		dir: t.TempDir(), store: p.store(t, p.gates[name]), kind: p.kind, shared: true, storeURL: p.kind + ":", node: name,
		leaseTTL: p.ttl, natsURL: p.nats, http: "127.0.0.1:0", logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// twoNodes opens a, which leads, and then b, which stands by.
func twoNodes(t *testing.T, kind string) (p *pair, a, b *host) {
	t.Helper()
	return twoNodesFor(t, kind, longLease)
}

// twoNodesFor is twoNodes with another life of the lease.
func twoNodesFor(t *testing.T, kind string, ttl time.Duration) (p *pair, a, b *host) {
	t.Helper()
	server, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: t.TempDir(), Logger: nodesLog})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	p = &pair{kind: kind, log: memstore.New(), nats: server.URL(), gates: make(map[string]*gate), ttl: ttl}
	if kind == kindESDB {
		p.esdb = esdbdouble.URL(t)
	}
	a, b = p.open(t, "a"), p.open(t, "b")
	require.Equal(t, "leading", a.role())
	require.Equal(t, "standby", b.role())
	return p, a, b
}

// onEach runs a test with a log of every kind that nodes share, and with one in memory.
func onEach(t *testing.T, test func(t *testing.T, kind string)) {
	t.Parallel()
	for _, kind := range []string{kindMemory, kindNATS, kindESDB} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// client talks to the ledger over NATS, whichever node leads.
func (p *pair) client(t *testing.T) *natsapi.Client {
	t.Helper()
	c, err := natsapi.Dial(p.nats, natsapi.WithPatience(patienceInTests))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// said is an answer over HTTP.
type said struct {
	status int
	header http.Header
	body   string
}

func post(t *testing.T, url, body string) said {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return said{answer.StatusCode, answer.Header, string(text)}
}

const (
	createMug = `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":5}]}`
	sellMug   = `{"inventory_item_id":"mug","location_id":"paris","adjustment":-1}`
)

// sell sells a mug over NATS.
func sell(t *testing.T, c *natsapi.Client, key string) commands.Answer {
	t.Helper()
	answer, err := c.Command(t.Context(), "adjust-inventory-levels", commands.Envelope{Key: key}, []byte(sellMug))
	require.NoError(t, err)
	return answer
}

// stocked is how many mugs a node says there are, once it knows of that position.
func stocked(t *testing.T, h *host, after uint64) string {
	t.Helper()
	require.NoError(t, h.ledger.Models().WaitFor(t.Context(), after))
	_, body := see(t, h.httpURL()+`/ledger/v1/queries/stocked-quantity?inventory_item_id=mug&location_ids[]=paris`, "")
	var answer struct{ Quantity json.Number }
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	return answer.Quantity.String()
}

func TestAStandbyAnswersQueriesAndRefusesCommands(t *testing.T) {
	t.Parallel()
	p, a, b := twoNodes(t, kindMemory)
	_, err := p.client(t).Command(t.Context(), "create-inventory-items", commands.Envelope{}, []byte(createMug))
	require.NoError(t, err)
	sold := sell(t, p.client(t), "s1")
	require.Equal(t, "4", stocked(t, a, sold.Position))
	require.Equal(t, "4", stocked(t, b, sold.Position))

	refused := post(t, b.httpURL()+"/ledger/v1/commands/adjust-inventory-levels", sellMug)
	require.Equal(t, 503, refused.status, refused.body)
	require.Equal(t, "1", refused.header.Get("Retry-After"))
	var why fault.Answer
	require.NoError(t, json.Unmarshal([]byte(refused.body), &why))
	require.Equal(t, "standby", why.Code)
	require.Equal(t, map[string]any{"node": "b", "active": "a", "http_url": a.httpURL()}, why.Details)
	for _, path := range []string{"/admin/inventory-items", "/admin/reservations/none", "/admin/stock-locations"} {
		refused := post(t, b.httpURL()+path, `{}`)
		require.Equal(t, 503, refused.status, "%s: %s", path, refused.body)
		require.Equal(t, "1", refused.header.Get("Retry-After"))
		require.Contains(t, refused.body, `"code":"standby"`)
	}
	status, _ := see(t, b.httpURL()+"/admin/inventory-items", "")
	require.Equal(t, 200, status, "who only reads is answered")
	require.Equal(t, 200, post(t, a.httpURL()+"/ledger/v1/commands/adjust-inventory-levels", sellMug).status)

	for url, want := range map[string]int{
		a.httpURL() + "/readyz": 200, a.httpURL() + "/readyz?role=active": 200, a.httpURL() + "/healthz": 200,
		b.httpURL() + "/readyz": 200, b.httpURL() + "/readyz?role=active": 503, b.httpURL() + "/healthz": 200,
		b.httpURL() + "/readyz?role=standby": 400,
	} {
		status, body := see(t, url, "")
		require.Equal(t, want, status, "%s: %s", url, body)
	}
	_, body := see(t, b.httpURL()+"/readyz", "")
	require.Contains(t, body, `"role":"standby"`)
}

// A rankSeen is the parts of a status that tell nodes apart.
type rankSeen struct {
	Node, Role, Store string
	Leader            *leaderStatus
	Feed              *partStatus
}

func rankOf(t *testing.T, h *host) (seen rankSeen) {
	t.Helper()
	_, body := see(t, h.httpURL()+"/ledger/v1/queries/ledger-status", "")
	require.NoError(t, json.Unmarshal([]byte(body), &seen), body)
	return seen
}

func TestTheStatusSaysWhoLeads(t *testing.T) {
	t.Parallel()
	_, a, b := twoNodes(t, kindMemory)
	ofA, ofB := rankOf(t, a), rankOf(t, b)
	require.Equal(t, []string{"a", "leading", "memory"}, []string{ofA.Node, ofA.Role, ofA.Store})
	require.Equal(t, []string{"b", "standby", "memory"}, []string{ofB.Node, ofB.Role, ofB.Store})
	for _, leader := range []*leaderStatus{ofA.Leader, ofB.Leader} {
		require.Equal(t, "a", leader.Node)
		require.Equal(t, a.httpURL(), leader.HTTPURL)
		require.Equal(t, ofA.Leader.Term, leader.Term)
		require.Positive(t, leader.Term)
	}
	require.NotNil(t, ofA.Feed)
	require.Nil(t, ofB.Feed, "a standby publishes no feed")

	code, out, errs := ran(t, "status", "--server", b.httpURL())
	require.Zero(t, code, errs)
	require.Contains(t, out, "node      b, standby")
	require.Regexp(t, `leader    a at http://\S+, since \S+ at least, term \d+`, out)

	_, figures := see(t, b.httpURL()+"/metrics", "")
	require.Contains(t, figures, "\nstockledger_leading 0\n")
	require.Contains(t, figures, "\nstockledger_takeovers_total 0\n")
	_, figures = see(t, a.httpURL()+"/metrics", "")
	require.Contains(t, figures, "\nstockledger_leading 1\n")
	require.Contains(t, figures, "\nstockledger_takeovers_total 1\n")
	require.Regexp(t, `\nstockledger_lease_term [1-9]`, figures)
}

func TestAStandbyTakesOverWhenTheLeaderCloses(t *testing.T) {
	onEach(t, func(t *testing.T, kind string) {
		p, a, b := twoNodes(t, kind)
		c := p.client(t)
		_, err := c.Command(t.Context(), "create-inventory-items", commands.Envelope{}, []byte(createMug))
		require.NoError(t, err)
		sell(t, c, "s1")
		require.NoError(t, a.Close())
		sold := sell(t, c, "s2") // waits for the one who takes over
		require.Eventually(t, func() bool { return b.role() == "leading" }, patienceInTests, time.Millisecond, "it says so a moment after the first answer")
		require.Equal(t, "3", stocked(t, b, sold.Position))
		require.True(t, sell(t, c, "s1").Replayed, "what the first node carried out is known to the second")
		require.Eventually(t, func() bool { return statusOf(t.Context(), b.httpURL()+"/readyz?role=active") == http.StatusOK },
			patienceInTests, 5*time.Millisecond, "submissions are taken a moment after commands")

		back := p.open(t, "a")
		require.Equal(t, "standby", back.role())
		require.Equal(t, "3", stocked(t, back, sold.Position))
	})
}

// A node that loses the lease goes on answering, as a standby; and takes commands
// again when it is its turn.
func TestANodeThatLosesTheLeaseStandsBy(t *testing.T) {
	onEach(t, func(t *testing.T, kind string) {
		p, a, b := twoNodesFor(t, kind, 2*lease.DefaultTTL)
		c := p.client(t)
		_, err := c.Command(t.Context(), "create-inventory-items", commands.Envelope{}, []byte(createMug))
		require.NoError(t, err)
		p.gates["a"].close()
		require.Eventually(t, func() bool { return b.role() == "leading" && a.role() == "standby" }, patienceInTests, 5*time.Millisecond)
		sold := sell(t, c, "s1")
		require.Equal(t, "4", stocked(t, a, sold.Position), "the one that led follows the log again")
		require.Equal(t, "4", stocked(t, b, sold.Position))
		refused := post(t, a.httpURL()+"/ledger/v1/commands/adjust-inventory-levels", sellMug)
		require.Equal(t, 503, refused.status)
		require.Contains(t, refused.body, `"code":"standby"`)
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
}

// What a node cannot write another one may be able to.
func TestANodeWhoseStoreHasStoppedGivesTheLeaseUp(t *testing.T) {
	t.Parallel()
	p, a, b := twoNodes(t, kindMemory)
	p.gates["a"].broken.Store(true)
	refused := post(t, a.httpURL()+"/ledger/v1/commands/create-inventory-items", createMug)
	require.Equal(t, 503, refused.status, refused.body)
	select {
	case <-a.ledger.Failed(): // which ends the program
	case <-time.After(patienceInTests):
		t.Fatal("the engine goes on")
	}
	require.Eventually(t, func() bool { return b.role() == "leading" }, patienceInTests, 5*time.Millisecond)
	status, body := see(t, a.httpURL()+"/readyz", "")
	require.Equal(t, 503, status, body)
	require.NoError(t, b.ledger.Models().WaitFor(t.Context(), 0))
	require.Equal(t, 200, post(t, b.httpURL()+"/ledger/v1/commands/create-inventory-items", createMug).status)
}

// What passes by itself is waited for, and nothing else.
func TestWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		nats.ErrNoServers, nats.ErrTimeout, fmt.Errorf("open: %w", context.DeadlineExceeded), &net.OpError{Op: "dial", Err: errors.New("refused")},
		&jetstream.APIError{Code: 503, ErrorCode: 10008}, &jetstream.APIError{Code: 400, ErrorCode: 10005}, jetstream.ErrJetStreamNotEnabled,
		grpcstatus.Error(codes.Unavailable, "no leader"),
	} {
		require.True(t, mayPass(err), "%v", err)
	}
	for _, err := range []error{
		nats.ErrAuthorization, fmt.Errorf("the feed: %w", events.ErrOtherLog), errors.New("a stream of somebody else"),
		&jetstream.APIError{Code: 400, ErrorCode: 10052}, grpcstatus.Error(codes.PermissionDenied, "no"), errStoreStopped,
		errors.Join(events.ErrOtherLog, nats.ErrTimeout),
	} {
		require.False(t, mayPass(err), "%v", err)
	}
}

func TestWhereOthersFindANode(t *testing.T) {
	t.Parallel()
	name, err := os.Hostname()
	require.NoError(t, err)
	for listen, want := range map[string]string{
		"127.0.0.1:0": "http://127.0.0.1:4711", "ledger-1:0": "http://127.0.0.1:4711", "0.0.0.0:0": "http://" + name + ":4711",
		"[::]:0": "http://" + name + ":4711", ":0": "http://" + name + ":4711",
	} {
		require.Equal(t, want, reachable(listen, "http://127.0.0.1:4711"), listen)
	}
}

// Whoever starts the ledger before its store need not mind, and may change his mind.
func TestServeWaitsForAStoreAndEndsAtOnceWhenTold(t *testing.T) {
	t.Parallel()
	told, file := new(written), filepath.Join(t.TempDir(), "ready.json")
	ctx, interrupt := context.WithCancel(t.Context())
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{
			"stockledger", "serve", "--store", "nats://s3cr3t@127.0.0.1:1/shop", "--data", t.TempDir(), "--http", "off", "--ready-file", file,
		}, func(string) string { return "" }, strings.NewReader(""), io.Discard, told)
	}()
	require.Eventually(t, func() bool { return strings.Contains(told.String(), "waiting for the event store") }, patienceInTests, 5*time.Millisecond)
	interrupt()
	require.Zero(t, <-code, told.String())
	require.Contains(t, told.String(), "nats://xxxxx@127.0.0.1:1/shop")
	require.NotContains(t, told.String(), "s3cr3t")
	require.NoFileExists(t, file)
}

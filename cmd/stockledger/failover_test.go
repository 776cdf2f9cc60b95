//go:build unix

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// Two ledger nodes on a cluster of three NATS servers, 32 publishers, and faults
// one after the other, sometimes two at once: the leading node is killed, a random
// server is killed, one of either is stopped for a while and goes on. Never more
// than one server is away, for two of three must agree.
//
// Afterwards every command that was acknowledged is in the log once, where it was
// said to be and with the answer that was given; every other one is there once or
// not at all; and whatever is a sum of others is one at every position. `make
// failover` does all of it with ten times as many faults.
func TestFailoverLosesAndDoublesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute and more")
	}
	t.Parallel()
	c := startCampaign(t, numberFrom("STOCKLEDGER_TEST_SEED", uint64(time.Now().UnixNano())))
	c.strikeAll(int(numberFrom("STOCKLEDGER_TEST_FAILOVER", 2)))
	c.settle()
	t.Logf("%s", c.table())
	c.nodesAgree()
	c.everythingIsThereOnce()
}

// numberFrom is a number that may be set from outside.
func numberFrom(variable string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(variable), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// A campaign is a cluster, its ledger nodes, its traffic, and what was done to them.
type campaign struct {
	*testing.T
	dice    *rand.Rand
	logs    *childLogs
	servers *natsServers
	nodes   []*ledgerNode
	traffic *failoverTraffic

	mu      sync.Mutex
	outages []outage
}

// An outage is how long it took after a fault until the other node led, 0 if it
// did not or need not, and until a command was acknowledged.
type outage struct {
	what      string
	led, took time.Duration
}

const publishers = 32

func startCampaign(t *testing.T, seed uint64) *campaign {
	t.Helper()
	t.Logf("seed %d; STOCKLEDGER_TEST_SEED=%d draws the same faults again", seed, seed)
	c := &campaign{T: t, dice: rand.New(rand.NewPCG(seed, 1<<32)), logs: newChildLogs(t)}
	c.servers = startServers(t, c.logs, 3)
	for i := range 2 {
		c.nodes = append(c.nodes, startNode(t, c.logs, fmt.Sprintf("ledger-%d", i+1), c.servers.store()))
	}
	require.NoError(t, c.calm())
	c.traffic = startTraffic(t, c.servers.url(), publishers, seed)
	return c
}

// What can be done to whom.
const (
	killLedger = "the leading ledger node is killed"
	killServer = "a NATS server is killed"
	stopLedger = "the leading ledger node is stopped"
	stopServer = "a NATS server is stopped"
)

// A strike is one fault: how long after the one before it comes, and how long it
// lasts. One that lasts 0 lasts until commands are acknowledged again.
type strike struct {
	what        string
	wait, lasts time.Duration
	server      int
}

// strikeAll draws and does everything: n times each kill, and n times that somebody
// is stopped.
func (c *campaign) strikeAll(n int) {
	c.Helper()
	var all []strike
	for i := range n {
		all = append(all, strike{what: killLedger}, strike{what: killServer}, strike{what: [...]string{stopLedger, stopServer}[i%2]})
	}
	c.dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i := range all {
		c.draw(&all[i])
	}
	for len(all) > 0 {
		round := all[:1]
		if len(all) > 1 && ofServer(all[0]) != ofServer(all[1]) && c.dice.IntN(3) == 0 {
			round = all[:2]
		}
		require.NoError(c, c.round(round))
		all = all[len(round):]
	}
}

// draw draws what of a strike is left to chance.
func (c *campaign) draw(s *strike) {
	between := func(from, to time.Duration) time.Duration { return from + time.Duration(c.dice.Int64N(int64(to-from))) }
	s.server, s.wait = c.dice.IntN(len(c.servers.all)), between(0, time.Second)
	switch {
	case s.what == stopLedger || s.what == stopServer:
		s.lasts = between(200*time.Millisecond, 8*time.Second)
	case c.dice.IntN(3) == 0: // whatever watches over it is quick
		s.lasts = between(time.Millisecond, time.Second)
	}
}

func ofServer(s strike) bool { return s.what == killServer || s.what == stopServer }

// round does one strike, or two at a time.
func (c *campaign) round(strikes []strike) error {
	if err := c.calm(); err != nil {
		return err
	}
	enough := c.traffic.acknowledged() + publishers
	if err := until(func() bool { return c.traffic.acknowledged() >= enough }, "commands are acknowledged while nothing is wrong"); err != nil {
		return err
	}
	var both sync.WaitGroup
	failed := make([]error, len(strikes))
	for i, s := range strikes {
		if i > 0 {
			<-time.After(s.wait)
		}
		both.Go(func() { failed[i] = c.strike(s, len(strikes) > 1) })
	}
	both.Wait()
	return errors.Join(failed...)
}

// calm waits until all servers have all there is, and both nodes serve, one of them
// commands.
func (c *campaign) calm() error {
	if err := c.servers.healthy(c.Context()); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := until(func() bool { return n.serves(c.Context()) }, "%s is ready", n.name); err != nil {
			return err
		}
	}
	_, err := c.leader()
	return err
}

// leader is the node that carries out commands, once there is exactly one.
func (c *campaign) leader() (leader *ledgerNode, err error) {
	err = until(func() bool {
		var leading []*ledgerNode
		for _, n := range c.nodes {
			if n.leading(c.Context()) {
				leading = append(leading, n)
			}
		}
		if len(leading) == 1 {
			leader = leading[0]
		}
		return len(leading) == 1
	}, "one node leads")
	return leader, err
}

// strike does one thing to one process, undoes it, and notes how long it took until
// commands were acknowledged again.
func (c *campaign) strike(s strike, together bool) error {
	v, err := c.victim(s)
	if err != nil {
		return err
	}
	lasts := "as long as it takes"
	if s.lasts > 0 {
		lasts = s.lasts.Round(time.Millisecond).String()
	}
	c.Logf("%s: %s, for %s", s.what, v.name, lasts)
	struck := time.Now()
	if err := v.fall(); err != nil {
		return err
	}
	began := time.Now() // what is sent from here on, this process does not answer
	led := c.otherLeads(v, struck)
	answered, found := c.answeredSince(began, s.lasts)
	err = v.rise()
	switch {
	case err != nil:
	case found:
		c.note(outage{s.what, led(), answered.Sub(struck)}, together)
		return nil
	default:
		if answered, err = c.goesOnAt(began); err == nil && v.killed {
			c.note(outage{s.what, led(), answered.Sub(struck)}, together)
			return nil
		} // who was only stopped went on before anybody was needed in its place
	}
	led()
	return err
}

// A victim is a process that is struck.
type victim struct {
	*child
	node       int // of the ledger, -1 for a server
	killed     bool
	fall, rise func() error
}

func (c *campaign) victim(s strike) (*victim, error) {
	if ofServer(s) {
		server := c.servers.all[s.server]
		v := &victim{child: server.child, node: -1, killed: s.what == killServer, fall: server.stop, rise: server.goOn}
		if v.killed {
			v.fall, v.rise = server.kill, func() error { return c.servers.start(server) }
		}
		return v, nil
	}
	node, err := c.leader()
	if err != nil {
		return nil, err
	}
	v := &victim{child: node.child, node: slices.Index(c.nodes, node), killed: s.what == killLedger, fall: node.stop, rise: node.goOn}
	if v.killed {
		v.fall, v.rise = node.kill, func() error { return node.start(builtProgram(c.T, "stockledger-node")) }
	}
	return v, nil
}

// otherLeads watches for the other node to lead. What it returns ends that, and says
// how long it took.
func (c *campaign) otherLeads(v *victim, struck time.Time) (led func() time.Duration) {
	if v.node < 0 {
		return func() time.Duration { return 0 }
	}
	other := c.nodes[1-v.node]
	ctx, stop := context.WithCancel(c.Context())
	took := make(chan time.Duration, 1)
	go func() {
		defer close(took)
		_ = until(func() bool {
			if other.leading(c.Context()) {
				took <- time.Since(struck)
				return true
			}
			return ctx.Err() != nil
		}, "the other node leads")
	}()
	return func() time.Duration {
		stop()
		return <-took
	}
}

// answeredSince waits until a command that was sent after a time is acknowledged,
// but not longer than the fault lasts.
func (c *campaign) answeredSince(began time.Time, lasts time.Duration) (answered time.Time, found bool) {
	over := began.Add(cmp.Or(lasts, patienceInTests))
	_ = until(func() bool {
		answered, found = c.traffic.firstSince(began)
		return found && lasts == 0 || time.Now().After(over)
	}, "a fault is over")
	return answered, found
}

// goesOnAt is when the first command was acknowledged that was sent after a time.
func (c *campaign) goesOnAt(began time.Time) (answered time.Time, err error) {
	err = until(func() (found bool) {
		answered, found = c.traffic.firstSince(began)
		return found
	}, "commands are acknowledged again")
	return answered, err
}

// note keeps how long a fault kept commands from being acknowledged. Of two at a
// time it is the ledger's that counts: the other is why it took longer.
func (c *campaign) note(o outage, together bool) {
	server := o.what == killServer || o.what == stopServer
	if server && together {
		return
	}
	if together {
		o.what += ", and a NATS server beside it"
	}
	if o.led > 0 {
		c.Logf("%s: the other node led after %s", o.what, o.led.Round(time.Millisecond))
	}
	c.Logf("%s: the first acknowledgment came after %s", o.what, o.took.Round(time.Millisecond))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outages = append(c.outages, o)
}

// table says how long takeovers took.
func (c *campaign) table() string {
	led, took := make(map[string][]time.Duration), make(map[string][]time.Duration)
	for _, o := range c.outages {
		took[o.what] = append(took[o.what], o.took)
		if o.led > 0 {
			led[o.what] = append(led[o.what], o.led)
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%-64s %5s  %-22s  %-22s\n", "seconds from the fault until", "times", "the other node led", "a command was answered")
	for _, what := range slices.Sorted(maps.Keys(took)) {
		fmt.Fprintf(&text, "%-64s %5d  %-22s  %-22s\n", what, len(took[what]), spread(led[what]), spread(took[what]))
	}
	return text.String()
}

// spread is the median of some times, and the worst.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	return fmt.Sprintf("median %.2f worst %.2f", all[len(all)/2].Seconds(), all[len(all)-1].Seconds())
}

// settle ends the traffic once everything runs again.
func (c *campaign) settle() {
	c.Helper()
	require.NoError(c, c.calm())
	c.traffic.end()
	require.Empty(c, c.traffic.wrong)
}

// The lists that both nodes must have alike.
var listsOfNodes = []string{
	"list-inventory-items", "list-inventory-levels", "list-reservation-items", "list-commands", "stock-history",
}

// nodesAgree compares what the two nodes answer, row by row.
func (c *campaign) nodesAgree() {
	c.Helper()
	head := uint64(0)
	for _, s := range c.traffic.sent {
		if s.Answer != nil {
			head = max(head, s.Answer.Position)
		}
	}
	answers := make([][]string, len(c.nodes))
	for i, n := range c.nodes {
		client, err := httpapi.Dial(n.at.HTTP, "")
		require.NoError(c, err)
		for _, list := range listsOfNodes {
			for skip := 0; ; skip += 1000 {
				params := object{"after": head, "take": 1000, "skip": skip}
				if list == "stock-history" {
					params = object{"after": head, "take": 1000}
				}
				answer, err := ask[json.RawMessage](c.Context(), client, list, params)
				require.NoError(c, err, "%s of %s", list, n.name)
				answers[i] = append(answers[i], fmt.Sprintf("%s from %d: %s", list, skip, answer))
				var page struct {
					Rows []json.RawMessage `json:"rows"`
				}
				require.NoError(c, json.Unmarshal(answer, &page))
				if len(page.Rows) < 1000 || list == "stock-history" {
					break
				}
			}
		}
		client.Close()
	}
	require.Equal(c, answers[0], answers[1], "the two nodes answer alike")
}

// everythingIsThereOnce ends the nodes and reads the log, the feed and the read
// models of both.
func (c *campaign) everythingIsThereOnce() {
	c.Helper()
	store, err := natsstore.Open(c.Context(), natsstore.Config{URL: c.servers.store(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(c, err)
	defer func() { require.NoError(c, store.Close()) }()
	found, err := checkLog(c.Context(), store, c.traffic.sent)
	require.NoError(c, err)
	require.Empty(c, found.wrong)
	c.feedIsWhole(found)
	for _, n := range c.nodes {
		require.NoError(c, n.end())
		c.modelsAreRight(n)
	}
	acknowledged, refused := 0, 0
	for _, s := range c.traffic.sent {
		if s.Answer != nil {
			acknowledged++
		} else if s.Refused != nil {
			refused++
		}
	}
	unknown, there := found.unknown(c.traffic.sent)
	c.Logf("%d events; %d commands acknowledged, each there once; %d refused, none there; %d given up on, %d of them there once",
		found.at, acknowledged, refused, unknown, there)
}

// feedIsWhole reads the feed from its first message to its last: message n is event
// n of the log.
func (c *campaign) feedIsWhole(log *failoverCheck) {
	c.Helper()
	conn, err := natsapi.Connect(c.servers.url())
	require.NoError(c, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(c, err)
	const feed = "STOCKLEDGER_inventory_EVENTS"
	require.NoError(c, until(func() bool {
		stream, err := js.Stream(c.Context(), feed)
		return err == nil && stream.CachedInfo().State.LastSeq >= log.at
	}, "the feed comes to position %d", log.at))
	consumer, err := js.OrderedConsumer(c.Context(), feed, jetstream.OrderedConsumerConfig{})
	require.NoError(c, err)
	messages, err := consumer.Messages()
	require.NoError(c, err)
	defer messages.Stop()
	for at := uint64(1); at <= log.at; at++ {
		ctx, cancel := context.WithTimeout(c.Context(), patienceInTests)
		m, err := messages.Next(jetstream.NextContext(ctx))
		cancel()
		require.NoError(c, err, "position %d of the feed", at)
		meta, err := m.Metadata()
		require.NoError(c, err)
		require.Equal(c, at, meta.Sequence.Stream, "the feed leaves something out")
		require.Equal(c, strconv.FormatUint(at, 10), m.Headers().Get("Ledger-Position"))
		require.Equal(c, log.hash[at-1].String(), m.Headers().Get("Ledger-Hash"), "position %d of the feed is another event", at)
	}
}

// modelsAreRight verifies the read models that a node has in its directory.
func (c *campaign) modelsAreRight(n *ledgerNode) {
	c.Helper()
	store, err := natsstore.Open(c.Context(), natsstore.Config{URL: c.servers.store(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(c, err)
	l, err := stockledger.Open(c.Context(), stockledger.Config{
		Dir: filepath.Join(n.dir, "data"), Store: store, Standby: true, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(c, err)
	report, err := l.Verify(c.Context(), nil)
	require.NoError(c, err)
	require.Empty(c, report.Findings, "verify of %s", n.name)
	require.True(c, report.OK())
	require.NoError(c, l.Close())
	c.Logf("%s: %d rows verified at position %d", n.name, report.Rows, report.Position)
}

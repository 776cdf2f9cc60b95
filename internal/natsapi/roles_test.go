package natsapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/lease"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/natscluster"
	"github.com/stockledger/stockledger/projections"
)

// handle is one node's handle on a log that others have open, too.
type handle struct{ events.Shared }

func (handle) Close() error { return nil }

// A member is one node of a ledger: it answers queries, and while it has the lease
// does all the rest.
type member struct {
	name    string
	conn    *nats.Conn
	ledger  *stockledger.Ledger
	lease   *lease.Lease
	queries *natsapi.Service

	served  atomic.Int64 // terms
	service atomic.Pointer[natsapi.Service]
	feed    atomic.Pointer[natsapi.Feed]
	end     func()
}

// join adds a node to the ledger on a log.
func join(t testing.TB, name, url string, replicas int, store events.Shared, out *logBook) *member {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(out, nil)).With("test", name)
	m := &member{name: name}
	var err error
	m.conn, err = natsapi.Connect(url, nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(m.conn.Close)
	m.ledger, err = stockledger.Open(within(t), stockledger.Config{Dir: t.TempDir(), Store: handle{store}, Standby: true, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.ledger.Close() })
	register, err := store.Register(within(t), "lease")
	require.NoError(t, err)
	m.lease = lease.New(lease.Config{Register: register, Node: name, TTL: time.Duration(replicas) * 900 * time.Millisecond, Logger: logger})
	m.queries, err = natsapi.ServeQueries(within(t), natsapi.Config{Conn: m.conn, Ledger: m.ledger, Queries: projections.QueryNames(), Logger: logger})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.queries.Close() })

	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- m.lease.Run(ctx, func(ctx context.Context) error { return m.lead(ctx, replicas, logger) })
	}()
	m.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(m.end)
	return m
}

// lead is one term.
func (m *member) lead(ctx context.Context, replicas int, logger *slog.Logger) (err error) {
	defer func() {
		if ctx.Err() != nil && err != nil {
			err = nil // it was lost before it had begun
		}
	}()
	if err := m.ledger.Lead(ctx, m.lease.Held); err != nil {
		return err
	}
	rest := func() {
		bounded, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err = errors.Join(err, m.ledger.Rest(bounded))
	}
	config := natsapi.Config{Conn: m.conn, Ledger: m.ledger, May: m.lease.Held, Logger: logger}
	service, err := natsapi.ServeCommands(ctx, config)
	if err != nil {
		rest()
		return err
	}
	m.service.Store(service)
	submissions, err := natsapi.ServeSubmissions(ctx, natsapi.SubmitConfig{Conn: m.conn, Ledger: m.ledger, Replicas: replicas, Logger: logger})
	if err == nil {
		var feed *natsapi.Feed
		if feed, err = natsapi.ServeFeed(ctx, natsapi.FeedConfig{Conn: m.conn, Log: m.ledger.Events(), Replicas: replicas, Logger: logger}); err == nil {
			m.feed.Store(feed)
			m.served.Add(1)
			<-ctx.Done()
		}
	}
	if m.lease.Held() != nil {
		rest()
	}
	err = errors.Join(err, service.Close())
	if submissions != nil {
		err = errors.Join(err, submissions.Close())
	}
	if feed := m.feed.Swap(nil); feed != nil {
		err = errors.Join(err, feed.Close())
	}
	rest()
	return err
}

// leader waits until one of the nodes leads.
func leader(t testing.TB, all ...*member) (leads *member) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, m := range all {
			if m.ledger.Leading() && m.lease.Held() == nil && m.feed.Load() != nil {
				leads = m
				return true
			}
		}
		return false
	}, patience, 2*time.Millisecond)
	return leads
}

// fedTo waits until the feed has an event. The node that serves it may lose the lease
// meanwhile, and get it again.
func fedTo(t testing.TB, m *member, position uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		feed := leader(t, m).feed.Load()
		return feed != nil && feed.WaitFor(within(t), position) == nil
	}, 2*patience, time.Millisecond)
}

// traffic is publishers that take one mug each time and never give up.
type traffic struct {
	stop  chan struct{}
	under sync.WaitGroup
	mu    sync.Mutex
	at    map[string]uint64 // position of the answer, by key
	slow  time.Duration     // the slowest answer
}

func publish(t testing.TB, publishers int, client *natsapi.Client) *traffic {
	tr := &traffic{stop: make(chan struct{}), at: make(map[string]uint64)}
	for p := range publishers {
		tr.under.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-tr.stop:
					return
				default:
				}
				key := fmt.Sprintf("p%d-%d", p, n)
				began := time.Now()
				answer, err := client.Command(within(t), "adjust-inventory-levels", commands.Envelope{Key: key}, []byte(oneOff))
				if err != nil {
					t.Errorf("%s: %v", key, err)
					return
				}
				tr.mu.Lock()
				tr.at[key], tr.slow = answer.Position, max(tr.slow, time.Since(began))
				tr.mu.Unlock()
			}
		})
	}
	return tr
}

func (tr *traffic) answeredAt(key string, position uint64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.at[key] = position
}

func (tr *traffic) answered() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.at)
}

// checked ends the traffic and checks that each command has one effect, where its
// answer says.
func (tr *traffic) checked(t testing.TB, log events.Store) {
	t.Helper()
	close(tr.stop)
	tr.under.Wait()
	at := make(map[string]uint64)
	for _, r := range logged(t, log) {
		meta, err := r.Metadata()
		require.NoError(t, err)
		if meta.Command == "adjust-inventory-levels" {
			require.Zero(t, at[meta.CommandID], "%s is there twice", meta.CommandID)
			at[meta.CommandID] = r.Position
		}
	}
	require.Equal(t, tr.at, at)
}

const manyMugs = `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":1000000}]}`

func TestCommandsGoOnWhenNodesComeAndGo(t *testing.T) {
	server, store, book := startServer(t, t.TempDir()), memstore.New(), new(logBook)
	a := join(t, "a", server.URL(), 1, store, book)
	leader(t, a)
	b := join(t, "b", server.URL(), 1, store, book)
	client := dial(t, server.URL())
	_, err := client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "item"}, []byte(manyMugs))
	require.NoError(t, err)

	tr := publish(t, 8, client)
	more := func() {
		before := tr.answered()
		require.Eventually(t, func() bool { return tr.answered() > before+100 || t.Failed() }, patience, time.Millisecond)
	}
	more()
	a.end() // cleanly
	require.Equal(t, b, leader(t, b))
	more()
	c := join(t, "c", server.URL(), 1, store, book)
	b.end()
	require.Equal(t, c, leader(t, c))
	more()
	tr.checked(t, store)
	t.Logf("the slowest of %d answers took %s", len(tr.at), tr.slow)

	head, err := store.Head(within(t))
	require.NoError(t, err)
	fedTo(t, c, head)
	for i, e := range follow(t, client, 0, head, "") {
		require.EqualValues(t, i+1, e.Position)
	}
	for _, line := range book.lines() {
		require.NotContains(t, line, "level=ERROR")
		require.NotContains(t, line, "interrupted")
	}
}

// Nodes and servers of a cluster come and go, and every command has one effect.
func TestCommandsGoOnAcrossACluster(t *testing.T) {
	servers, book := natscluster.Start(t, 3), new(logBook)
	open := func() events.Shared {
		var store *natsstore.Store
		require.Eventually(t, func() (open bool) { // the servers may be at an election
			var err error
			store, err = natsstore.Open(within(t), natsstore.Config{URL: servers.URL() + "/roles?replicas=3", Logger: quiet})
			return err == nil
		}, 2*patience, time.Millisecond)
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
	a := join(t, "a", servers.URL(), 3, open(), book)
	leader(t, a)
	b := join(t, "b", servers.URL(), 3, open(), book)
	client := dial(t, servers.URL(), natsapi.WithNATS(nats.ReconnectWait(20*time.Millisecond)))
	_, err := client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "item"}, []byte(manyMugs))
	require.NoError(t, err)
	receipt, err := client.Submit(within(t), "adjust-inventory-levels", commands.Envelope{Key: "submitted"}, []byte(oneOn))
	require.NoError(t, err)

	tr := publish(t, 8, client)
	more := func() {
		before := tr.answered()
		require.Eventually(t, func() bool { return tr.answered() > before+100 || t.Failed() }, patience, time.Millisecond)
	}
	more()
	servers.Stop(1)
	more()
	servers.Restart(1)
	a.end()
	require.Equal(t, b, leader(t, b))
	more()
	store := open()
	head, err := store.Head(within(t))
	require.NoError(t, err)
	fedTo(t, b, head)
	outcome, err := client.WaitResult(within(t), receipt.Key)
	require.NoError(t, err)
	require.Equal(t, natsapi.Committed, outcome.Status)
	tr.answeredAt("submitted", outcome.Answer.Position)
	tr.checked(t, store)
	t.Logf("the slowest of %d answers took %s\n%s", len(tr.at), tr.slow, strings.Join(book.lines(), ""))
	for i, e := range follow(t, client, 0, head, "") {
		require.EqualValues(t, i+1, e.Position)
	}
}

// A weak store is a handle whose register can be cut off.
type weak struct {
	events.Shared
	cut *atomic.Bool
}

func (w weak) Register(ctx context.Context, name string) (events.Register, error) {
	r, err := w.Shared.Register(ctx, name)
	return weakRegister{r, w.cut}, err
}

type weakRegister struct {
	events.Register
	cut *atomic.Bool
}

func (w weakRegister) Get(ctx context.Context) ([]byte, uint64, error) {
	if w.cut.Load() {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	return w.Register.Get(ctx)
}

func (w weakRegister) Set(ctx context.Context, revision uint64, value []byte) (uint64, error) {
	if w.cut.Load() {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return w.Register.Set(ctx, revision, value)
}

func TestCommandsGoOnWhenTheLeaseIsLost(t *testing.T) {
	server, store, book := startServer(t, t.TempDir()), memstore.New(), new(logBook)
	cut := make(map[*member]*atomic.Bool)
	var all []*member
	for _, name := range []string{"a", "b"} {
		off := new(atomic.Bool)
		m := join(t, name, server.URL(), 1, weak{store, off}, book)
		cut[m], all = off, append(all, m)
	}
	client := dial(t, server.URL())
	_, err := client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "item"}, []byte(manyMugs))
	require.NoError(t, err)
	tr := publish(t, 8, client)
	for range 4 {
		old := leader(t, all...)
		before := tr.answered()
		require.Eventually(t, func() bool { return tr.answered() > before+50 || t.Failed() }, patience, time.Millisecond)
		cut[old].Store(true)
		require.Eventually(t, func() bool { return leader(t, all...) != old }, patience, time.Millisecond)
		cut[old].Store(false)
	}
	tr.checked(t, store)
	t.Logf("the slowest of %d answers took %s", len(tr.at), tr.slow)
	for _, line := range book.lines() {
		require.NotContains(t, line, "level=ERROR")
	}
}

// A node may for a moment believe that it leads when another one does. Both hear
// every command then, and carry it out once.
func TestTwoThatBelieveTheyLeadDoEverythingOnce(t *testing.T) {
	server, store := startServer(t, t.TempDir()), memstore.New()
	for range 2 {
		l, err := stockledger.Open(within(t), stockledger.Config{Dir: t.TempDir(), Store: handle{store}, Logger: quiet})
		require.NoError(t, err)
		defer l.Close()
		conn := connect(t, server)
		s, err := natsapi.ServeCommands(within(t), natsapi.Config{Conn: conn, Ledger: l, Logger: quiet})
		require.NoError(t, err)
		defer s.Close()
		serveFeed(t, conn, store)
	}
	client := dial(t, server.URL())
	_, err := client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "item"}, []byte(manyMugs))
	require.NoError(t, err)
	tr := publish(t, 4, client)
	require.Eventually(t, func() bool { return tr.answered() > 300 || t.Failed() }, patience, time.Millisecond)
	tr.checked(t, store)

	head, err := store.Head(within(t))
	require.NoError(t, err)
	for i, e := range follow(t, client, 0, head, "") { // of both feeds
		require.EqualValues(t, i+1, e.Position)
	}
}

// What a node finds that was asleep and leads no more is not its business.
func TestANodeThatMustNotDoesNotAnswer(t *testing.T) {
	lost := errors.New("another one leads")
	var may atomic.Pointer[error]
	s := open(t, func(c *natsapi.Config) {
		c.May = func() error {
			if err := may.Load(); err != nil {
				return *err
			}
			return nil
		}
	})
	s.command(t, "create-inventory-items", mug)
	may.Store(&lost)
	for _, subject := range []string{"inventory.cmd.adjust-inventory-levels", "inventory.cmd.no-such-command", "inventory.op.rebuild"} {
		_, err := s.conn.Request(subject, []byte(oneOff), 50*time.Millisecond)
		require.Error(t, err, subject)
	}
	_, err := s.client.Query(within(t), "list-inventory-items", nil)
	require.NoError(t, err, "queries are for all")
	require.Len(t, logged(t, s.ledger.Events()), 2)

	// The command was heard; with its key it is sent until somebody leads.
	asked := make(chan error, 1)
	go func() {
		_, err := s.client.Command(within(t), "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOff))
		asked <- err
	}()
	require.Eventually(t, func() bool { return s.left(t, "inventory.cmd.adjust-inventory-levels") >= 2 }, patience, time.Millisecond)
	may.Store(nil)
	require.NoError(t, <-asked)
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))
}

// left is how many requests to an endpoint were left to the node that leads.
func (s *shop) left(t testing.TB, subject string) int64 {
	t.Helper()
	return s.tallies(t)[subject].Left
}

func TestStandbyIsNoAnswer(t *testing.T) {
	s := open(t)
	require.NoError(t, s.ledger.Rest(within(t)))
	_, err := s.conn.Request("inventory.cmd.create-inventory-items", []byte(mug), 50*time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout)
	_, err = s.ledger.DoJSON(within(t), commands.Envelope{}, "create-inventory-items", []byte(mug))
	require.Equal(t, "standby", fault.Code(err), "as for whoever asks the ledger itself")
}

func TestASubmissionIsHandedToTheNodeThatLeads(t *testing.T) {
	s := open(t)
	store := memstore.New()
	nodes := make([]*stockledger.Ledger, 2)
	for i := range nodes {
		var err error
		nodes[i], err = stockledger.Open(within(t), stockledger.Config{Dir: t.TempDir(), Store: handle{store}, Standby: true, Logger: quiet})
		require.NoError(t, err)
		defer nodes[i].Close()
	}
	require.NoError(t, nodes[1].Lead(within(t), nil))
	// The first believes that it is its turn until it has got one.
	var asked atomic.Int64
	sleeper := hooked{nodes[0], func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
		asked.Add(1)
		return nodes[0].Do(ctx, env, command)
	}}
	old := s.submissions(t, func(c *natsapi.SubmitConfig) { c.Ledger = sleeper })
	for n := range 100 {
		_, err := s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: fmt.Sprint("k", n)}, fmt.Appendf(nil, `{"id":"i%d"}`, n))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return asked.Load() > 0 }, patience, time.Millisecond)
	began := time.Now()
	s.submissions(t, func(c *natsapi.SubmitConfig) { c.Ledger = nodes[1] })
	for n := range 100 {
		require.Equal(t, natsapi.Committed, s.await(t, fmt.Sprint("k", n)).Status)
	}
	t.Logf("after %s; the one that does not lead was asked %d times", time.Since(began), asked.Load())
	require.Less(t, asked.Load(), int64(200), "it takes no more of them")
	s.drained(t)
	require.NoError(t, old.Close())
	require.Len(t, logged(t, store), 100)
}

// A node is stopped when it has decided and not said so, for as long as it takes
// another one to decide otherwise. Waking up it does not take that back.
func TestALateRefusalDoesNotReplaceTheOutcome(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	stopped, goOn := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	old := s.submissions(t, func(c *natsapi.SubmitConfig) {
		c.AckWait = time.Second
		c.Ledger = hooked{s.ledger, func(context.Context, commands.Envelope, commands.Command) (commands.Answer, error) {
			if asked.Add(1) > 1 {
				return commands.Answer{}, fault.New(fault.Unavailable, "standby", "another one leads")
			}
			close(stopped)
			<-goOn
			return commands.Answer{}, fault.New(fault.NotAllowed, "insufficient", "as it was then")
		}}
	})
	_, err := s.client.Submit(within(t), "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOff))
	require.NoError(t, err)
	<-stopped
	s.submissions(t, func(c *natsapi.SubmitConfig) { c.AckWait = time.Second })
	require.Equal(t, natsapi.Committed, s.await(t, "k").Status)
	close(goOn)
	require.NoError(t, old.Close())
	require.Equal(t, natsapi.Committed, s.await(t, "k").Status)
	s.drained(t)
}

func TestTheRoleMayBeTakenAndLeftAnyNumberOfTimes(t *testing.T) {
	s := open(t)
	conn := connect(t, s.server)
	for n := range 10 {
		feed, err := natsapi.ServeFeed(within(t), natsapi.FeedConfig{Conn: conn, Log: s.ledger.Events(), Logger: quiet})
		require.NoError(t, err)
		sub, err := natsapi.ServeSubmissions(within(t), natsapi.SubmitConfig{Conn: conn, Ledger: s.ledger, Logger: quiet})
		require.NoError(t, err)
		service, err := natsapi.ServeCommands(within(t), natsapi.Config{Conn: conn, Ledger: s.ledger, Prefix: "second", Logger: quiet})
		require.NoError(t, err)
		_, err = s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: fmt.Sprint(n)}, fmt.Appendf(nil, `{"id":"i%d"}`, n))
		require.NoError(t, err)
		require.Equal(t, natsapi.Committed, s.await(t, fmt.Sprint(n)).Status)
		require.NoError(t, feed.WaitFor(within(t), uint64(n+1)))
		require.NoError(t, service.Close())
		require.NoError(t, sub.Close())
		require.NoError(t, feed.Close())
	}
	// Only the one that hears answers is left.
	require.Eventually(t, func() bool { return conn.NumSubscriptions() <= 1 }, patience, time.Millisecond)
}

func TestACommandWithAKeyIsSentUntilItIsAnswered(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	require.NoError(t, s.service.Close())
	// Somebody listens who is dead, and keeps what he hears.
	dead, err := s.conn.SubscribeSync("inventory.cmd.>")
	require.NoError(t, err)
	require.NoError(t, s.conn.Flush())

	heard := func() int {
		n, _, err := dead.Pending()
		require.NoError(t, err)
		return n
	}
	answered := make(chan error, 1)
	waits, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	go func() {
		_, err := s.client.Command(waits, "adjust-inventory-levels", commands.Envelope{}, []byte(oneOff))
		answered <- err
	}()
	require.Eventually(t, func() bool { return heard() > 0 }, patience, time.Millisecond)
	giveUp()
	require.Equal(t, "outcome_unknown", fault.Code(<-answered))
	require.Equal(t, 1, heard(), "without a key it is sent once")

	go func() {
		answer, err := s.client.Command(within(t), "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOff))
		if err == nil && answer.CommandID != "k" {
			err = errors.New("another key")
		}
		answered <- err
	}()
	require.Eventually(t, func() bool { return heard() >= 2 }, patience, time.Millisecond)
	require.NoError(t, dead.Unsubscribe()) // nobody is there now
	require.NoError(t, s.conn.Flush())
	again, err := natsapi.Serve(within(t), natsapi.Config{Conn: connect(t, s.server), Ledger: s.ledger, Queries: projections.QueryNames(), Logger: quiet})
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, <-answered)
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))
}

func TestWhatNobodyHeardIsSentAgain(t *testing.T) {
	server := startServer(t, t.TempDir())
	l := openLedger(t)
	client := dial(t, server.URL())
	answered := make(chan error, 3)
	ask := func(do func() error) { go func() { answered <- do() }() }
	ask(func() error { // without a key, because it cannot have been carried out
		_, err := client.Command(within(t), "create-inventory-items", commands.Envelope{}, []byte(mug))
		return err
	})
	ask(func() error {
		_, err := client.Query(within(t), "list-inventory-items", nil)
		return err
	})
	ask(func() error {
		_, err := client.Operate(within(t), "rebuild", nil)
		if fault.Code(err) == "unknown_operation" {
			return nil
		}
		return err
	})
	conn := connect(t, server)
	s, err := natsapi.Serve(within(t), natsapi.Config{Conn: conn, Ledger: l, Queries: projections.QueryNames(), Logger: quiet})
	require.NoError(t, err)
	defer s.Close()
	for range 3 {
		require.NoError(t, <-answered)
	}
	require.Len(t, logged(t, l.Events()), 2)
}

func TestARefusalThatPassesIsNotTheLastWord(t *testing.T) {
	for _, code := range []string{"closing", "store_unavailable", "outcome_unknown"} {
		t.Run(code, func(t *testing.T) {
			var tries atomic.Int64
			s := open(t)
			require.NoError(t, s.service.Close())
			failing := hooked{s.ledger, func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
				if tries.Add(1) < 3 {
					return commands.Answer{}, fault.New(fault.Unavailable, code, "not now")
				}
				return s.ledger.Do(ctx, env, command)
			}}
			service, err := natsapi.ServeCommands(within(t), natsapi.Config{Conn: connect(t, s.server), Ledger: failing, Logger: quiet})
			require.NoError(t, err)
			defer service.Close()
			_, err = s.client.Command(within(t), "create-inventory-items", commands.Envelope{}, []byte(mug))
			require.Equal(t, code, fault.Code(err), "without a key it is the publisher's to decide")
			_, err = s.client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "k"}, []byte(mug))
			require.NoError(t, err)
			require.EqualValues(t, 3, tries.Load())
		})
	}
}

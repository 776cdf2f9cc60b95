package natsapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/projections"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = time.Minute

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

var quiet = slog.New(slog.DiscardHandler)

func startServer(t testing.TB, dir string) *natsapi.Server {
	s, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: dir, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func connect(t testing.TB, s *natsapi.Server, options ...nats.Option) *nats.Conn {
	conn, err := s.Connect(options...)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func openLedger(t testing.TB) *stockledger.Ledger {
	l, err := stockledger.Open(within(t), stockledger.Config{Dir: t.TempDir(), Store: memstore.New(), Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t testing.TB, url string, options ...natsapi.Option) *natsapi.Client {
	c, err := natsapi.Dial(url, options...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// shop is a ledger that answers on NATS, with a raw connection to it.
type shop struct {
	server  *natsapi.Server
	ledger  *stockledger.Ledger
	service *natsapi.Service
	conn    *nats.Conn
	client  *natsapi.Client
	log     *logBook
}

type change func(*natsapi.Config)

func open(t testing.TB, changes ...change) *shop {
	s := &shop{server: startServer(t, t.TempDir()), ledger: openLedger(t), log: new(logBook)}
	config := natsapi.Config{
		Conn: connect(t, s.server), Ledger: s.ledger, Queries: projections.QueryNames(), Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	}
	for _, c := range changes {
		c(&config)
	}
	var err error
	s.service, err = natsapi.Serve(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.service.Close() })
	s.client = dial(t, s.server.URL())
	s.conn, err = nats.Connect(s.server.URL())
	require.NoError(t, err)
	t.Cleanup(s.conn.Close)
	return s
}

// ask sends a raw request.
func (s *shop) ask(t testing.TB, subject string, header nats.Header, body string) *nats.Msg {
	t.Helper()
	m, err := s.conn.RequestMsgWithContext(within(t), &nats.Msg{Subject: subject, Header: header, Data: []byte(body)})
	require.NoError(t, err)
	return m
}

// command carries out a command that must succeed.
func (s *shop) command(t testing.TB, name, body string) commands.Answer {
	t.Helper()
	answer, err := s.client.Command(within(t), name, commands.Envelope{}, []byte(body))
	require.NoError(t, err)
	return answer
}

// stocked is what the ledger has of an item in paris.
func stocked(t testing.TB, l *stockledger.Ledger, item string) string {
	t.Helper()
	head, err := l.Events().Head(within(t))
	require.NoError(t, err)
	result, err := l.Query(within(t), "stocked-quantity",
		fmt.Appendf(nil, `{"inventory_item_id":%q,"location_ids":["paris"],"after":%d}`, item, head))
	require.NoError(t, err)
	body, err := json.Marshal(result)
	require.NoError(t, err)
	var q struct{ Quantity json.Number }
	require.NoError(t, json.Unmarshal(body, &q))
	return q.Quantity.String()
}

const (
	mug    = `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":10}]}`
	oneOff = `{"inventory_item_id":"mug","location_id":"paris","adjustment":-1}`
	oneOn  = `{"inventory_item_id":"mug","location_id":"paris","adjustment":1}`
)

// refused reads a refusal and checks its two faces against each other.
func refused(t testing.TB, m *nats.Msg) (answer fault.Answer, status string) {
	t.Helper()
	require.NotEmpty(t, m.Header.Get("Nats-Service-Error-Code"), "answered with %s", m.Data)
	require.NoError(t, json.Unmarshal(m.Data, &answer))
	require.Equal(t, answer.Message, m.Header.Get("Nats-Service-Error"))
	return answer, m.Header.Get("Nats-Service-Error-Code")
}

// hooked is a ledger that something happens to.
type hooked struct {
	natsapi.Ledger
	do func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error)
}

func (h hooked) DoJSON(ctx context.Context, env commands.Envelope, name string, body []byte) (commands.Answer, error) {
	command, err := commands.Decode(name, body)
	if err != nil {
		return commands.Answer{}, err
	}
	return h.do(ctx, env, command)
}

// logBook keeps what was logged.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for line := range bytes.Lines(l.text.Bytes()) {
		all = append(all, string(line))
	}
	return all
}

// logged are all events of a log so far.
func logged(t testing.TB, store events.Store) []events.Recorded {
	t.Helper()
	head, err := store.Head(within(t))
	require.NoError(t, err)
	var all []events.Recorded
	if head == 0 {
		return nil
	}
	for batch, err := range store.Subscribe(within(t), 0) {
		require.NoError(t, err)
		if all = append(all, batch...); uint64(len(all)) >= head {
			break
		}
	}
	return all
}

package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

var quiet = slog.New(slog.DiscardHandler)

func openLedger(t testing.TB) *stockledger.Ledger {
	l, err := stockledger.Open(within(t), stockledger.Config{Dir: t.TempDir(), Store: memstore.New(), Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// shop is a ledger that answers on HTTP.
type shop struct {
	ledger *stockledger.Ledger
	server *httpapi.Server
	client *httpapi.Client
	log    *logBook

	describedAs []byte // by its own document, nil until that was read
}

type change func(*httpapi.Config)

func open(t testing.TB, changes ...change) *shop {
	s := &shop{ledger: openLedger(t), log: new(logBook)}
	config := httpapi.Config{
		Listen: "127.0.0.1:0", Ledger: s.ledger, Log: s.ledger.Events(), Queries: projections.QueryNames(), Shapes: shapes(),
		Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	}
	for _, c := range changes {
		c(&config)
	}
	var err error
	s.server, err = httpapi.Serve(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.server.Close() })
	s.client = dial(t, s.server.URL(), "")
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return s
}

func dial(t testing.TB, url, token string) *httpapi.Client {
	c, err := httpapi.Dial(url, token)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   string
}

// ask sends a raw request, and checks that the answer is as the document of the
// server says. Header is names and values, alternating.
func (s *shop) ask(t testing.TB, method, path, body string, header ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(within(t), method, s.server.URL()+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Add(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	got := reply{answer.StatusCode, answer.Header, string(text)}
	s.asDocumented(t, r, got)
	return got
}

// refused reads a refusal.
func (r reply) refused(t testing.TB) (answer fault.Answer) {
	t.Helper()
	require.GreaterOrEqual(t, r.status, 400, r.body)
	require.Equal(t, "application/json", r.header.Get("Content-Type"), r.body)
	require.NoError(t, json.Unmarshal([]byte(r.body), &answer), r.body)
	require.NotEmpty(t, answer.Code, r.body)
	require.NotEmpty(t, answer.Message, r.body)
	return answer
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
	create = "/ledger/v1/commands/create-inventory-items"
	adjust = "/ledger/v1/commands/adjust-inventory-levels"
	list   = "/ledger/v1/queries/list-inventory-items"

	mug    = `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":10}]}`
	oneOff = `{"inventory_item_id":"mug","location_id":"paris","adjustment":-1}`
	oneOn  = `{"inventory_item_id":"mug","location_id":"paris","adjustment":1}`
)

// hooked is a ledger that something happens to.
type hooked struct {
	httpapi.Ledger
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

// shapes describes the queries.
func shapes() map[string]httpapi.Shape {
	all := make(map[string]httpapi.Shape)
	for name, q := range projections.QueryShapes() {
		all[name] = httpapi.Shape{Asked: q.Asked, Selectors: q.Selectors, Answer: q.Answer}
	}
	return all
}

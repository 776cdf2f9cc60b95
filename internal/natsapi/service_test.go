package natsapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/projections"
)

func TestAnAcceptedCommandIsAnswered(t *testing.T) {
	s := open(t)
	m := s.ask(t, "inventory.cmd.create-inventory-items", nats.Header{"Idempotency-Key": {"k1"}}, mug)
	require.Empty(t, m.Header.Get("Nats-Service-Error-Code"))
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(m.Data, &fields))
	require.Len(t, fields, 5)
	require.JSONEq(t, `"k1"`, string(fields["command_id"]))
	require.JSONEq(t, `2`, string(fields["position"]))
	require.JSONEq(t, `false`, string(fields["replayed"]))
	require.JSONEq(t, `false`, string(fields["dry_run"]))
	require.Contains(t, string(fields["result"]), `"mug"`)
	require.Equal(t, "10", stocked(t, s.ledger, "mug"))
}

func TestHeadersReachTheEvents(t *testing.T) {
	s := open(t)
	for n, write := range []func(string) string{func(h string) string { return h }, strings.ToLower, strings.ToUpper} {
		header := nats.Header{}
		key := fmt.Sprintf("key-%d", n)
		for name, value := range map[string]string{
			"Idempotency-Key": key, "Ledger-Actor": "anna", "Ledger-Reason": "count", "Ledger-Reference": "doc://7",
			"Ledger-Effective-At": "2026-01-31T13:45:00.5+02:00", "Ledger-Correlation-Id": "corr", "Ledger-Causation-Id": "cause",
			"Ledger-Dry-Run": "false", "traceparent": "00-1-2-03", "Nats-Msg-Id": "left alone", "X-Other": "left alone",
		} {
			header[write(name)] = []string{value}
		}
		body := fmt.Sprintf(`{"id":%q}`, key)
		require.Empty(t, s.ask(t, "inventory.cmd.create-inventory-items", header, body).Header)
		all := logged(t, s.ledger.Events())
		meta, err := all[len(all)-1].Metadata()
		require.NoError(t, err)
		require.Equal(t, [...]string{key, "anna", "count", "doc://7", "corr", "cause", "00-1-2-03", "create-inventory-items"},
			[...]string{meta.CommandID, meta.Actor, meta.Reason, meta.Reference, meta.Correlation, meta.Causation, meta.Trace, meta.Command})
		require.Equal(t, time.Date(2026, 1, 31, 11, 45, 0, 5e8, time.UTC), meta.Effective)
	}
}

func TestTheClientSendsTheWholeEnvelope(t *testing.T) {
	s := open(t)
	sent := commands.Envelope{
		Key: "k", Actor: "a", Reason: "r", Reference: "f", Correlation: "co", Causation: "ca", Trace: "t",
		Effective: time.Date(2026, 1, 31, 11, 45, 0, 123456000, time.UTC),
	}
	_, err := s.client.Command(within(t), "create-inventory-items", sent, []byte(mug))
	require.NoError(t, err)
	meta, err := logged(t, s.ledger.Events())[0].Metadata()
	require.NoError(t, err)
	require.Equal(t, sent, commands.Envelope{
		Key: meta.CommandID, Actor: meta.Actor, Reason: meta.Reason, Reference: meta.Reference,
		Correlation: meta.Correlation, Causation: meta.Causation, Trace: meta.Trace, Effective: meta.Effective,
	})
	sent.Key, sent.DryRun = "dry", true
	answer, err := s.client.Command(within(t), "create-inventory-items", sent, []byte(`{"id":"cup"}`))
	require.NoError(t, err)
	require.True(t, answer.DryRun)
	require.Len(t, logged(t, s.ledger.Events()), 2, "a dry run records nothing")
}

func TestBadHeadersAreNamed(t *testing.T) {
	s := open(t)
	for name, values := range map[string][]string{
		"Ledger-Effective-At": {"yesterday"},
		"Ledger-Dry-Run":      {"perhaps"},
		"Ledger-Dryrun":       {"true"},
		"Idempotency-Key":     {"one", "two"},
		"idempotency-key":     {""},
	} {
		answer, status := refused(t, s.ask(t, "inventory.cmd.create-inventory-items", nats.Header{name: values}, mug))
		require.Equal(t, "invalid_header", answer.Code)
		require.Equal(t, "invalid_data", answer.Type)
		require.Equal(t, name, answer.Details["header"])
		require.Contains(t, answer.Message, name)
		require.Equal(t, "400", status)
	}
	require.Empty(t, logged(t, s.ledger.Events()))
}

// Which of them counts must not be left to chance.
func TestAHeaderIsSentOnceWhateverItsSpelling(t *testing.T) {
	s := open(t)
	for _, header := range []nats.Header{
		{"Idempotency-Key": {"a"}, "idempotency-key": {"b"}},
		{"Idempotency-Key": {"a"}, "IDEMPOTENCY-KEY": {"a"}},
		{"Ledger-Dry-Run": {"true"}, "ledger-dry-run": {"false"}},
		{"ledger-actor": {"ann"}, "LEDGER-ACTOR": {"bob"}, "Ledger-Actor": {"cy"}},
	} {
		for range 20 {
			answer, _ := refused(t, s.ask(t, "inventory.cmd.create-inventory-items", header, mug))
			require.Equal(t, "invalid_header", answer.Code)
			require.Contains(t, answer.Message, "twice, in different spellings")
		}
	}
	require.Empty(t, logged(t, s.ledger.Events()))
}

func TestRefusalsAreTyped(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	for name, c := range map[string]struct{ subject, body, code, kind, status string }{
		"rule":            {"cmd.adjust-inventory-levels", strings.Replace(oneOff, "-1", "-11", 1), "below_reserved", "not_allowed", "400"},
		"not found":       {"cmd.adjust-inventory-levels", strings.Replace(oneOff, "mug", "cup", 1), "not_found", "not_found", "404"},
		"malformed":       {"cmd.adjust-inventory-levels", `{"inventory_item_id":`, "malformed_json", "invalid_data", "400"},
		"empty":           {"cmd.adjust-inventory-levels", ``, "malformed_json", "invalid_data", "400"},
		"unknown field":   {"cmd.create-inventory-items", `{"skew":"x"}`, "unknown_field", "invalid_data", "400"},
		"unknown command": {"cmd.explode", `{}`, "unknown_command", "not_found", "404"},
		"dotted command":  {"cmd.adjust.inventory.levels", `{}`, "unknown_command", "not_found", "404"},
		"unknown query":   {"query.explode", `{}`, "unknown_query", "not_found", "404"},
		"query not found": {"query.retrieve-inventory-item", `{"id":"cup"}`, "not_found", "not_found", "404"},
		"bad query":       {"query.list-inventory-items", `{"tke":1}`, "unknown_field", "invalid_data", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, status := refused(t, s.ask(t, "inventory."+c.subject, nil, c.body))
			require.Equal(t, c.code, answer.Code, answer.Message)
			require.Equal(t, c.kind, answer.Type)
			require.Equal(t, c.status, status)
			require.NotEmpty(t, answer.Message)
		})
	}
	_, err := s.client.Command(within(t), "adjust-inventory-levels", commands.Envelope{}, []byte(strings.Replace(oneOff, "-1", "-11", 1)))
	refusal, ok := errors.AsType[*fault.Error](err)
	require.True(t, ok)
	require.Equal(t, fault.NotAllowed, refusal.Kind)
	require.Equal(t, "mug", refusal.Details["inventory_item_id"])
	require.Equal(t, "10", stocked(t, s.ledger, "mug"))
}

func TestARefusalMayQuoteWhatWasSent(t *testing.T) {
	s := open(t)
	long := strings.Repeat("é\n", 300_000)
	body, err := json.Marshal(map[string]string{long: "x"})
	require.NoError(t, err)
	m := s.ask(t, "inventory.cmd.create-inventory-items", nil, string(body))
	require.Equal(t, "400", m.Header.Get("Nats-Service-Error-Code"))
	require.Less(t, len(m.Header.Get("Nats-Service-Error")), 600)
	var answer fault.Answer
	require.NoError(t, json.Unmarshal(m.Data, &answer))
	require.Equal(t, "unknown_field", answer.Code)
}

func TestTwiceIsOnce(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	env := commands.Envelope{Key: "k1"}
	first, err := s.client.Command(within(t), "adjust-inventory-levels", env, []byte(oneOff))
	require.NoError(t, err)
	again, err := s.client.Command(within(t), "adjust-inventory-levels", env, []byte(oneOff))
	require.NoError(t, err)
	require.False(t, first.Replayed)
	require.True(t, again.Replayed)
	require.Equal(t, first.Position, again.Position)
	require.JSONEq(t, string(first.Result), string(again.Result))
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))

	_, err = s.client.Command(within(t), "adjust-inventory-levels", env, []byte(oneOn))
	require.Equal(t, "idempotency_key_reused", fault.Code(err))
	require.Equal(t, fault.Conflict, fault.Of(err).Kind)
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))
}

func TestALargeBodyIsRefused(t *testing.T) {
	s := open(t)
	for _, subject := range []string{"inventory.cmd.create-inventory-items", "inventory.query.list-inventory-items"} {
		answer, status := refused(t, s.ask(t, subject, nil, strings.Repeat(" ", 2<<20)))
		require.Equal(t, "body_too_large", answer.Code)
		require.Equal(t, "400", status)
		require.EqualValues(t, 2<<20, answer.Details["size"])
		require.EqualValues(t, 1<<20+1<<19, answer.Details["limit"])
		require.Contains(t, answer.Message, "2097152")
		require.Contains(t, answer.Message, "1572864")
	}
	padded := mug + strings.Repeat(" ", natsapi.MaxBody-len(mug))
	require.Empty(t, s.ask(t, "inventory.cmd.create-inventory-items", nil, padded).Header, "the limit itself is allowed")
	_, err := s.client.Query(within(t), "list-inventory-items", make([]byte, 9<<20))
	require.Equal(t, "body_too_large", fault.Code(err), "NATS itself would not carry it")
}

// many are n items in one command.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"id":"i%05d"}`, i)
	}
	return "[" + b.String()[1:] + "]"
}

func TestLargeAnswers(t *testing.T) {
	s := open(t)
	answer := s.command(t, "create-inventory-items", many(4000))
	var rows []json.RawMessage
	require.NoError(t, json.Unmarshal(answer.Result, &rows))
	require.Len(t, rows, 4000)
	require.Greater(t, len(answer.Result), 1<<20)
}

func TestQueriesAreAnswered(t *testing.T) {
	s := open(t)
	at := s.command(t, "create-inventory-items", mug).Position
	reply, err := s.client.Query(within(t), "stocked-quantity",
		fmt.Appendf(nil, `{"inventory_item_id":"mug","location_ids":["paris"],"after":%d}`, at))
	require.NoError(t, err)
	require.JSONEq(t, `{"quantity":10}`, string(reply))
	_, err = s.client.Query(within(t), "list-inventory-items", nil)
	require.NoError(t, err)
}

func TestTheServiceIsDiscoverable(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	_, err := s.client.Command(within(t), "create-inventory-items", commands.Envelope{}, []byte(`{"x":1}`))
	require.Error(t, err)

	var info micro.Info
	require.NoError(t, json.Unmarshal(s.ask(t, "$SRV.INFO.stockledger", nil, "").Data, &info))
	require.Equal(t, "stockledger", info.Name)
	require.Equal(t, "inventory", info.Metadata["prefix"])
	subjects := make(map[string]micro.EndpointInfo)
	for _, e := range info.Endpoints {
		if strings.HasPrefix(e.Subject, "inventory.query.") {
			require.Equal(t, "stockledger", e.QueueGroup)
		} else {
			require.Contains(t, e.QueueGroup, info.ID, "in a group of several, a node that is stopped would keep its part of the commands")
		}
		require.NotEmpty(t, e.Metadata["description"], e.Subject)
		subjects[e.Subject] = e
	}
	for _, name := range commands.Names() {
		require.Contains(t, subjects, "inventory.cmd."+name)
	}
	for name := range projections.QueryNames() {
		require.Contains(t, subjects, "inventory.query."+name)
	}
	require.Len(t, info.Endpoints, len(commands.Names())+len(projections.QueryNames()))

	tally := s.tallies(t)["inventory.cmd.create-inventory-items"]
	require.EqualValues(t, 1, tally.Answered)
	require.EqualValues(t, 1, tally.Refused)
	require.Positive(t, tally.Average)
}

// tallies are what the service says of its endpoints, by subject.
func (s *shop) tallies(t testing.TB) map[string]natsapi.Tally {
	t.Helper()
	var stats struct {
		Endpoints []struct {
			Subject string        `json:"subject"`
			Data    natsapi.Tally `json:"data"`
		} `json:"endpoints"`
	}
	require.NoError(t, json.Unmarshal(s.ask(t, "$SRV.STATS.stockledger", nil, "").Data, &stats))
	all := make(map[string]natsapi.Tally)
	for _, e := range stats.Endpoints {
		all[e.Subject] = e.Data
	}
	return all
}

func TestManyAtOnce(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":1000}]}`)
	var all sync.WaitGroup
	for caller := range 64 {
		all.Go(func() {
			for n := range 10 {
				env := commands.Envelope{Key: fmt.Sprintf("%d-%d", caller, n)}
				answer, err := s.client.Command(t.Context(), "adjust-inventory-levels", env, []byte(oneOff))
				if err != nil || answer.CommandID != env.Key {
					t.Errorf("%s: %v %v", env.Key, answer, err)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, "360", stocked(t, s.ledger, "mug"))
}

// held is a ledger that keeps commands waiting: started tells of each, and
// release lets all go on.
func held(t testing.TB) (through change, started chan string, release func()) {
	started, gate := make(chan string, 100), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return func(c *natsapi.Config) {
		next := c.Ledger.(*stockledger.Ledger)
		c.Ledger = hooked{next, func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
			started <- env.Key
			<-gate
			return next.Do(ctx, env, command)
		}}
	}, started, release
}

func TestTheLedgerSaysWhenItIsBusy(t *testing.T) {
	through, started, release := held(t)
	s := open(t, through, func(c *natsapi.Config) { c.InFlight = 2 })
	var both sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		both.Go(func() {
			_, err := s.client.Command(t.Context(), "create-inventory-items", commands.Envelope{}, fmt.Appendf(nil, `{"id":%q}`, id))
			if err != nil {
				t.Error(err)
			}
		})
		<-started
	}
	answer, status := refused(t, s.ask(t, "inventory.cmd.create-inventory-items", nil, mug))
	require.Equal(t, "busy", answer.Code)
	require.Equal(t, "unavailable", answer.Type)
	require.Equal(t, "503", status)
	require.InDelta(t, 0.1, answer.Details["retry_after"], 1e-9)
	_, err := s.client.Query(within(t), "list-inventory-items", nil)
	require.NoError(t, err, "queries have room of their own")
	release()
	both.Wait()
	require.Empty(t, s.ask(t, "inventory.cmd.create-inventory-items", nil, mug).Header)
}

func TestClosingAnswersWhatIsUnderWay(t *testing.T) {
	through, started, release := held(t)
	s := open(t, through)
	var asked, closed sync.WaitGroup
	for n := range 20 {
		asked.Go(func() {
			_, err := s.client.Command(t.Context(), "create-inventory-items", commands.Envelope{}, fmt.Appendf(nil, `{"id":"i%d"}`, n))
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 20 {
		<-started
	}
	gone := make(chan struct{})
	closed.Go(func() {
		defer close(gone)
		if err := s.service.Close(); err != nil {
			t.Error(err)
		}
	})
	for { // until it takes no more
		m, err := s.conn.RequestWithContext(within(t), "inventory.query.list-inventory-items", nil)
		if errors.Is(err, nats.ErrNoResponders) {
			break
		}
		require.NoError(t, err)
		if strings.Contains(string(m.Data), `"closing"`) {
			break
		}
	}
	select {
	case <-gone:
		t.Fatal("closed before what was under way was answered")
	default:
	}
	release()
	asked.Wait()
	closed.Wait()
	require.Len(t, logged(t, s.ledger.Events()), 20)
}

func TestInternalErrorsStayInside(t *testing.T) {
	for name, do := range map[string]func() error{
		"error": func() error { return errors.New("the secret of disk 3") },
		"panic": func() error { panic("the secret of disk 3") },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(c *natsapi.Config) {
				c.Ledger = hooked{c.Ledger, func(context.Context, commands.Envelope, commands.Command) (commands.Answer, error) {
					return commands.Answer{}, do()
				}}
			})
			m := s.ask(t, "inventory.cmd.create-inventory-items", nil, mug)
			answer, status := refused(t, m)
			require.Equal(t, "internal", answer.Code)
			require.Equal(t, "500", status)
			require.NotContains(t, string(m.Data), "secret")
			require.Len(t, s.log.lines(), 1)
			require.Contains(t, s.log.lines()[0], "the secret of disk 3")
		})
	}
}

func TestWithoutAReplySubjectACommandIsStillCarriedOut(t *testing.T) {
	s := open(t)
	require.NoError(t, s.conn.Publish("inventory.cmd.create-inventory-items", []byte(mug)))
	for batch, err := range s.ledger.Events().Subscribe(within(t), 0) {
		require.NoError(t, err)
		require.NotEmpty(t, batch)
		break
	}
	require.Empty(t, s.log.lines())
}

func TestPrefixesKeepLedgersApart(t *testing.T) {
	s := open(t, func(c *natsapi.Config) { c.Prefix = "shops.berlin" })
	_, err := dial(t, s.server.URL(), natsapi.WithAbsence(100*time.Millisecond)).
		Command(within(t), "create-inventory-items", commands.Envelope{}, []byte(mug))
	require.Equal(t, "no_ledger", fault.Code(err))
	_, err = dial(t, s.server.URL(), natsapi.WithPrefix("shops.berlin")).
		Command(within(t), "create-inventory-items", commands.Envelope{}, []byte(mug))
	require.NoError(t, err)
	for _, bad := range []string{"a b", "a.*", ">", "a..b", ".a", "a."} {
		_, err := natsapi.Serve(within(t), natsapi.Config{Prefix: bad})
		require.ErrorContains(t, err, bad)
	}
}

func TestTheClientSaysWhenNobodyAnswers(t *testing.T) {
	server := startServer(t, t.TempDir())
	c := dial(t, server.URL(), natsapi.WithAbsence(100*time.Millisecond))
	_, err := c.Command(within(t), "create-inventory-items", commands.Envelope{}, []byte(mug))
	requireNobody(t, err, server.URL())
	_, err = c.Query(within(t), "list-inventory-items", nil)
	requireNobody(t, err, server.URL())
	_, err = c.Submit(within(t), "create-inventory-items", commands.Envelope{}, []byte(mug))
	requireNobody(t, err, server.URL())
	_, err = c.Result(within(t), "k")
	requireNobody(t, err, server.URL())
	for _, err := range c.Follow(within(t), 0, "") {
		requireNobody(t, err, server.URL())
	}

	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = natsapi.Dial("nats://" + l.Addr().String())
	requireNobody(t, err, l.Addr().String())
}

func requireNobody(t *testing.T, err error, url string) {
	t.Helper()
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	require.Equal(t, "no_ledger", fault.Code(err))
	require.ErrorContains(t, err, url)
	require.ErrorContains(t, err, "stockledger serve")
}

func TestAMissingAnswerIsAnUnknownOutcome(t *testing.T) {
	through, started, release := held(t)
	s := open(t, through)
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-started
		cancel()
	}()
	_, err := s.client.Command(ctx, "create-inventory-items", commands.Envelope{Key: "k9"}, []byte(mug))
	require.Equal(t, "outcome_unknown", fault.Code(err))
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)
	require.ErrorContains(t, err, "k9")
	release()
	answer, err := s.client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "k9"}, []byte(mug))
	require.NoError(t, err)
	require.EqualValues(t, 2, answer.Position)
	require.NoError(t, s.service.Close()) // the first is through, too
	require.Len(t, logged(t, s.ledger.Events()), 2)
}

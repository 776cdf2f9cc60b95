package natsapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// Replies that are read in a quick way come to what json.Unmarshal makes of them,
// and the replies of a ledger are among those.
func FuzzAnswerIn(f *testing.F) {
	for _, text := range []string{
		`{"command_id":"k","position":7,"replayed":false,"dry_run":true,"result":{"a":[1,"x\u00e9"]}}`,
		`{"command_id":"k","position":0,"replayed":true,"dry_run":false,"result":null}`,
		`{"command_id":"k","position":07,"replayed":true,"dry_run":false,"result":1}`,
		`{"command_id":"k","position":18446744073709551616,"replayed":true,"dry_run":false,"result":1}`,
		`{"command_id":"k","position":-1,"replayed":true,"dry_run":false,"result":1}`,
		`{"command_id":"k","position":1,"replayed":True,"dry_run":false,"result":1}`,
		`{"command_id":"k","position":1,"replayed":null,"dry_run":false,"result":1}`,
		`{"command_id":"k","position":1,"replayed":true,"dry_run":false,"result":1,"result":2}`,
		`{"command_id":"k","position":1,"replayed":true,"dry_run":false,"result":null,"result_omitted":"large"}`,
		`{"command_id":"k","position":1,"replayed":true,"dry_run":false,"result": [1] }`,
		`{"command_id":"k","position":1,"replayed":true,"dry_run":false,"result":}`,
		`{"command_id":"\u006b","position":1,"replayed":true,"dry_run":false,"result":1}`,
		`{"command_id":"k\",\"position\":2","position":1,"replayed":true,"dry_run":false,"result":1}`,
		"{\"command_id\":\"\xff\",\"position\":1,\"replayed\":true,\"dry_run\":false,\"result\":1}",
		"{\"command_id\":\"a\nb\",\"position\":1,\"replayed\":true,\"dry_run\":false,\"result\":1}",
		`{"Command_ID":"k","position":1}`, ` {"command_id":"k"}`, `null`, ``, `{"command_id":"","position":,"replayed":,"dry_run":,"result":}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		var want natsapi.Answer
		wantErr := json.Unmarshal(reply, &want)
		got, err := natsapi.AnswerIn(reply)
		require.Equal(t, wantErr, err)
		if err == nil {
			require.Equal(t, want, got)
		}
	})
}

func TestTheRepliesOfALedgerAreReadTheQuickWay(t *testing.T) {
	s := open(t)
	for _, m := range []*nats.Msg{
		s.ask(t, "inventory.cmd.create-inventory-items", nil, mug),
		s.ask(t, "inventory.cmd.adjust-inventory-levels", nats.Header{"Idempotency-Key": {"k-1"}}, oneOff),
		s.ask(t, "inventory.cmd.adjust-inventory-levels", nats.Header{"Idempotency-Key": {"k-1"}}, oneOff),
		s.ask(t, "inventory.cmd.adjust-inventory-levels", nats.Header{"Ledger-Dry-Run": {"true"}}, oneOff),
	} {
		require.True(t, natsapi.IsPlain(m.Data), "%s", m.Data)
	}
}

// Quantities are the same whether they are in memory or not, to whoever asks.
func TestQuantitiesFromMemory(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	for n := range 20 {
		answer := s.command(t, "adjust-inventory-levels", oneOn)
		body := fmt.Sprintf(`{"inventory_item_id":"mug","location_ids":["paris"],"after":%d}`, answer.Position)
		for range 3 {
			got, err := s.client.Query(within(t), "available-quantity", []byte(body))
			require.NoError(t, err)
			require.JSONEq(t, fmt.Sprintf(`{"quantity":%d}`, 11+n), string(got))
		}
	}
	tally := s.tallies(t)["inventory.query.available-quantity"]
	require.EqualValues(t, 60, tally.Answered, "each request counts once, whoever took it")
	for name, body := range map[string]string{
		"not_found":        `{"inventory_item_id":"cup","location_ids":["paris"]}`,
		"unknown_field":    `{"inventory_item_id":"mug","location_ids":["paris"],"colour":1}`,
		"required":         `{"location_ids":["paris"]}`,
		"malformed_json":   `{"inventory_item_id":"mug"`,
		"after_beyond_log": `{"inventory_item_id":"mug","location_ids":["paris"],"after":1000}`,
	} {
		refusal, _ := refused(t, s.ask(t, "inventory.query.available-quantity", nil, body))
		require.Equal(t, name, refusal.Code)
	}
}

// recalling is a ledger that has something in memory.
type recalling struct {
	natsapi.Ledger
	recall func(name string, body []byte) (any, bool)
}

func (r recalling) Recall(name string, body []byte) (any, bool) { return r.recall(name, body) }

func TestAPanicInMemoryStaysInside(t *testing.T) {
	s := open(t, func(c *natsapi.Config) {
		c.Ledger = recalling{c.Ledger, func(_ string, body []byte) (any, bool) {
			if len(body) > 0 {
				panic("the secret of disk 3")
			}
			return nil, false
		}}
	})
	m := s.ask(t, "inventory.query.list-inventory-items", nil, "{}")
	refusal, status := refused(t, m)
	require.Equal(t, "internal", refusal.Code)
	require.Equal(t, "500", status)
	require.NotContains(t, string(m.Data), "secret")
	require.Contains(t, strings.Join(s.log.lines(), ""), "the secret of disk 3")
	require.Empty(t, s.ask(t, "inventory.query.list-inventory-items", nil, "").Header)
}

// A request that comes while the ledger is busy is sent again when the ledger says
// so, with a key or without; who has no patience for that is told.
func TestABusyLedgerIsAskedAgain(t *testing.T) {
	through, started, release := held(t)
	s := open(t, through, func(c *natsapi.Config) { c.InFlight = 1 })
	var both sync.WaitGroup
	send := func(id string) {
		both.Go(func() {
			_, err := s.client.Command(within(t), "create-inventory-items", commands.Envelope{}, fmt.Appendf(nil, `{"id":%q}`, id))
			if err != nil {
				t.Error(err)
			}
		})
	}
	send("a")
	<-started
	sentAway := func() int64 { return s.tallies(t)["inventory.cmd.create-inventory-items"].Refused }
	code := ""
	for range 30 { // where the time is up while a request is on its way, nobody has answered
		if code == "busy" {
			break
		}
		before := sentAway()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := s.client.Command(impatient, "create-inventory-items", commands.Envelope{Key: "k"}, []byte(mug))
		cancel()
		code = fault.Code(err)
		require.LessOrEqual(t, sentAway()-before, int64(11), "not before the ledger says so, which is after 0.1 s")
	}
	require.Equal(t, "busy", code)
	before := sentAway()
	require.Positive(t, before)
	send("b")
	require.Eventually(t, func() bool { return sentAway() > before }, patience, time.Millisecond)
	release()
	both.Wait()
	require.Len(t, logged(t, s.ledger.Events()), 2)
}

// Twenty thousand requests at once over one connection are each answered, most of
// them that the ledger is busy, and do not take the memory that their number would.
func TestACrowdIsSentAway(t *testing.T) {
	const crowd, room = 20_000, 1024
	gate := make(chan struct{})
	var entered atomic.Int64
	s := open(t, func(c *natsapi.Config) {
		c.Ledger = hooked{c.Ledger, func(_ context.Context, env commands.Envelope, _ commands.Command) (commands.Answer, error) {
			entered.Add(1)
			<-gate
			return commands.Answer{CommandID: env.Key, Result: json.RawMessage(`null`)}, nil
		}}
	})
	inbox := nats.NewInbox()
	replies := make(chan *nats.Msg, crowd)
	sub, err := s.conn.ChanSubscribe(inbox, replies)
	require.NoError(t, err)
	defer func() { _ = sub.Unsubscribe() }()
	before, threads := memory(), runtime.NumGoroutine()
	for range crowd {
		require.NoError(t, s.conn.PublishRequest("inventory.cmd.adjust-inventory-levels", inbox, []byte(oneOff)))
	}
	answered, busy := 0, 0
	count := func(m *nats.Msg) {
		if m.Header.Get("Nats-Service-Error-Code") == "" {
			answered++
			return
		}
		refusal, _ := refused(t, m)
		require.Equal(t, "busy", refusal.Code)
		busy++
	}
	for range crowd - room {
		select {
		case m := <-replies:
			count(m)
		case <-time.After(patience):
			t.Fatalf("%d answered and %d sent away", answered, busy)
		}
	}
	require.Equal(t, crowd-room, busy)
	require.LessOrEqual(t, runtime.NumGoroutine()-threads, room+100)
	grown := int64(memory()) - int64(before)
	require.Less(t, grown, int64(64<<20), "memory has grown by %d MiB", grown>>20)
	close(gate)
	for range room {
		count(<-replies)
	}
	require.Equal(t, room, answered)
	require.EqualValues(t, room, entered.Load())
	require.NoError(t, s.service.Close())
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= threads+20 }, patience, time.Millisecond, "those who waited for more to do have gone")
}

// memory is what is on the heap, and in stacks, after a collection.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

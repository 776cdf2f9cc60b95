package natsapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

const (
	submitStream = "STOCKLEDGER_inventory_SUBMIT"
	resultStream = "STOCKLEDGER_inventory_RESULT"
	deadStream   = "STOCKLEDGER_inventory_DEAD"
)

// submissions serves what is submitted to a shop.
func (s *shop) submissions(t testing.TB, changes ...func(*natsapi.SubmitConfig)) *natsapi.Submissions {
	config := natsapi.SubmitConfig{Conn: connect(t, s.server), Ledger: s.ledger, Logger: quiet}
	for _, c := range changes {
		c(&config)
	}
	sub, err := natsapi.ServeSubmissions(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = sub.Close() })
	return sub
}

func (s *shop) js(t testing.TB) jetstream.JetStream {
	js, err := jetstream.New(s.conn)
	require.NoError(t, err)
	return js
}

// await is the outcome of a submission, once there is one.
func (s *shop) await(t testing.TB, key string) natsapi.Outcome {
	t.Helper()
	outcome, err := s.client.WaitResult(within(t), key)
	require.NoError(t, err)
	require.Equal(t, key, outcome.CommandID)
	return outcome
}

// drained waits until the queue is empty.
func (s *shop) drained(t testing.TB) {
	t.Helper()
	stream, err := s.js(t).Stream(within(t), submitStream)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 0
	}, patience, 5*time.Millisecond)
}

func TestASubmissionIsCarriedOut(t *testing.T) {
	s := open(t)
	s.submissions(t)
	receipt, err := s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: "k 1", Actor: "anna"}, []byte(mug))
	require.NoError(t, err)
	require.Equal(t, natsapi.Receipt{Key: "k 1", Stream: submitStream, Sequence: 1}, receipt)
	outcome := s.await(t, "k 1")
	require.Equal(t, natsapi.Committed, outcome.Status)
	require.Nil(t, outcome.Refusal)
	require.EqualValues(t, 2, outcome.Answer.Position)
	require.Contains(t, string(outcome.Answer.Result), `"mug"`)
	meta, err := logged(t, s.ledger.Events())[0].Metadata()
	require.NoError(t, err)
	require.Equal(t, "anna", meta.Actor)
	s.drained(t)

	stream, err := s.js(t).Stream(within(t), resultStream)
	require.NoError(t, err)
	m, err := stream.GetLastMsgForSubject(within(t), "inventory.result.k=201")
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(m.Data, &fields))
	require.Len(t, fields, 3)
	require.Equal(t, "committed", fields["status"])
	require.Equal(t, 7*24*time.Hour, stream.CachedInfo().Config.MaxAge)

	got, err := s.client.Result(within(t), "k 1")
	require.NoError(t, err)
	require.Equal(t, outcome, got)
	_, err = s.client.Result(within(t), "never sent")
	require.Equal(t, "not_found", fault.Code(err))
}

func TestARefusedSubmissionSaysSo(t *testing.T) {
	s := open(t)
	s.submissions(t)
	receipt, err := s.client.Submit(within(t), "adjust-inventory-levels", commands.Envelope{}, []byte(oneOff))
	require.NoError(t, err)
	outcome := s.await(t, receipt.Key)
	require.Equal(t, natsapi.Refused, outcome.Status)
	require.Nil(t, outcome.Answer)
	require.Equal(t, "not_found", outcome.Refusal.Code)
	require.Equal(t, "mug", outcome.Refusal.Details["inventory_item_id"])
	s.drained(t)
	dead, err := s.js(t).Stream(within(t), deadStream)
	require.NoError(t, err)
	require.Zero(t, dead.CachedInfo().State.Msgs, "a refusal is an answer, not poison")
}

func TestSubmittedTwiceIsDoneOnce(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	s.submissions(t)
	for range 3 {
		_, err := s.client.Submit(within(t), "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOff))
		require.NoError(t, err)
	}
	s.drained(t)
	require.Equal(t, natsapi.Committed, s.await(t, "k").Status)
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))

	// By request and by submission it is the same key.
	answer, err := s.client.Command(within(t), "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOff))
	require.NoError(t, err)
	require.True(t, answer.Replayed)
}

func TestEverySubmissionHasAKey(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	s.submissions(t)
	js := s.js(t)
	for range 2 { // JetStream itself drops the second
		_, err := js.Publish(within(t), "inventory.submit.adjust-inventory-levels", []byte(oneOff), jetstream.WithMsgID("m1"))
		require.NoError(t, err)
	}
	require.Equal(t, natsapi.Committed, s.await(t, "m1").Status)
	ack, err := js.Publish(within(t), "inventory.submit.adjust-inventory-levels", []byte(oneOff))
	require.NoError(t, err)
	stream, err := js.Stream(within(t), submitStream)
	require.NoError(t, err)
	key := fmt.Sprintf("submission-%s-%d", stream.CachedInfo().Config.Metadata["stockledger-stream-id"], ack.Sequence)
	require.Equal(t, natsapi.Committed, s.await(t, key).Status)
	require.Equal(t, "8", stocked(t, s.ledger, "mug"))
}

func TestASubmissionOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	ledger := openLedger(t)
	_, err := ledger.DoJSON(within(t), commands.Envelope{}, "create-inventory-items", []byte(mug))
	require.NoError(t, err)

	// It is stored, and begun; then server and ledger go away before it is done.
	begun, crash := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) }) // where it takes long to go away it is handed out again
	first, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: dir, Logger: quiet})
	require.NoError(t, err)
	s := &shop{server: first, ledger: ledger}
	conn := connect(t, first)
	sub := s.submissions(t, func(c *natsapi.SubmitConfig) {
		c.Conn, c.AckWait = conn, 2*time.Second
		c.Ledger = hooked{ledger, func(context.Context, commands.Envelope, commands.Command) (commands.Answer, error) {
			begin()
			<-crash
			return commands.Answer{}, fault.New(fault.Unavailable, "closing", "gone")
		}}
	})
	_, err = dial(t, first.URL()).Submit(within(t), "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOff))
	require.NoError(t, err)
	<-begun
	conn.Close()
	require.NoError(t, first.Close())
	close(crash)
	_ = sub.Close()
	require.Equal(t, "10", stocked(t, ledger, "mug"))

	s = &shop{server: startServer(t, dir), ledger: ledger}
	s.client = dial(t, s.server.URL())
	s.submissions(t, func(c *natsapi.SubmitConfig) { c.AckWait = 2 * time.Second })
	require.Equal(t, natsapi.Committed, s.await(t, "k").Status)
	require.Equal(t, "9", stocked(t, ledger, "mug"))
}

func TestALostAnswerIsFoundAgain(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	var tries atomic.Int32
	s.submissions(t, func(c *natsapi.SubmitConfig) {
		c.Ledger = hooked{s.ledger, func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
			answer, err := s.ledger.Do(ctx, env, command)
			if tries.Add(1) == 1 {
				return commands.Answer{}, fault.New(fault.Unavailable, "outcome_unknown", "the answer was lost")
			}
			return answer, err
		}}
	})
	receipt, err := s.client.Submit(within(t), "adjust-inventory-levels", commands.Envelope{}, []byte(oneOff))
	require.NoError(t, err)
	outcome := s.await(t, receipt.Key)
	require.Equal(t, natsapi.Committed, outcome.Status)
	require.True(t, outcome.Answer.Replayed)
	require.EqualValues(t, 2, tries.Load())
	require.Equal(t, "9", stocked(t, s.ledger, "mug"))
}

// submitted submits oneOff with the key k. What it returns stores a refusal of it.
func submitted(t *testing.T, js jetstream.JetStream) (refused func()) {
	t.Helper()
	ack, err := js.PublishMsg(within(t), &nats.Msg{
		Subject: "inventory.submit.adjust-inventory-levels", Data: []byte(oneOff), Header: nats.Header{"Idempotency-Key": {"k"}},
	})
	require.NoError(t, err)
	stream, err := js.Stream(within(t), submitStream)
	require.NoError(t, err)
	id := stream.CachedInfo().Config.Metadata["stockledger-stream-id"]
	return func() {
		_, err := js.PublishMsg(within(t), &nats.Msg{
			Subject: "inventory.result.k", Data: []byte(`{"command_id":"k","status":"refused","refusal":{"code":"x"}}`),
			Header: nats.Header{"Submission": {fmt.Sprintf("%s-%d", id, ack.Sequence)}},
		})
		require.NoError(t, err)
	}
}

func TestARefusalIsFinal(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var tries atomic.Int32
	s.submissions(t, func(c *natsapi.SubmitConfig) {
		c.Ledger = hooked{s.ledger, func(context.Context, commands.Envelope, commands.Command) (commands.Answer, error) {
			tries.Add(1)
			close(begun)
			<-goOn
			return commands.Answer{}, fault.New(fault.Unavailable, "outcome_unknown", "lost")
		}}
	})
	js := s.js(t)
	refused := submitted(t, js)
	<-begun
	refused() // as if the process had ended between storing the refusal and the queue's acknowledgement
	close(goOn)
	s.drained(t)
	require.EqualValues(t, 1, tries.Load())
	require.Equal(t, natsapi.Refused, s.await(t, "k").Status)
}

// As long as nobody can tell whether a submission was refused, it is not tried again:
// there may be stock by now, and its publisher was told that there was none.
func TestARefusalThatCannotBeReadIsFinalToo(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var tries atomic.Int32
	s.submissions(t, func(c *natsapi.SubmitConfig) {
		c.Ledger = hooked{s.ledger, func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
			if tries.Add(1) > 1 {
				return s.ledger.Do(ctx, env, command)
			}
			close(begun)
			<-goOn
			return commands.Answer{}, fault.New(fault.Unavailable, "outcome_unknown", "lost")
		}}
	})
	js := s.js(t)
	refused := submitted(t, js)
	<-begun
	results, err := js.Stream(within(t), resultStream)
	require.NoError(t, err)
	config := results.CachedInfo().Config
	asked, err := s.conn.SubscribeSync("$JS.API.STREAM.INFO." + resultStream)
	require.NoError(t, err)
	require.NoError(t, s.conn.Flush())
	require.NoError(t, js.DeleteStream(within(t), resultStream)) // as if none of its servers were there
	close(goOn)
	for range 3 { // and then there are two seconds before the next
		_, err = asked.NextMsgWithContext(within(t))
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, tries.Load())

	_, err = js.CreateStream(within(t), config)
	require.NoError(t, err)
	refused()
	s.drained(t)
	require.EqualValues(t, 1, tries.Load())
	require.Equal(t, natsapi.Refused, s.await(t, "k").Status)
	require.Equal(t, "10", stocked(t, s.ledger, "mug"))
}

func TestPoisonIsKeptByteForByte(t *testing.T) {
	s := open(t)
	s.submissions(t)
	large := strings.Repeat("x", 2<<20)
	for name, c := range map[string]struct{ command, body, header, value, code string }{
		"malformed": {"create-inventory-items", "{\"id\": \x00\xff\r\n", "X-Mine", "kept", "malformed_json"},
		"unknown":   {"explode", "{ }", "X-Mine", "kept", "unknown_command"},
		"dotted":    {"explode.now", "", "X-Mine", "kept", "unknown_command"},
		"too large": {"create-inventory-items", large, "X-Mine", "kept", "body_too_large"},
		"header":    {"create-inventory-items", mug, "Ledger-Effective-At", "once", "invalid_header"},
		"two keys":  {"create-inventory-items", mug, "idempotency-key", "another", "invalid_header"},
		"long key":  {"create-inventory-items", mug, "X-Mine", strings.Repeat("k", 300), "too_long"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &nats.Msg{Subject: "inventory.submit." + c.command, Data: []byte(c.body), Header: nats.Header{c.header: {c.value}}}
			key := "key of " + name
			m.Header.Set("Idempotency-Key", key)
			m.Header.Set("Nats-Msg-Id", "id of "+name)
			if name == "long key" {
				m.Header.Set("Idempotency-Key", c.value)
			}
			js := s.js(t)
			ack, err := js.PublishMsg(within(t), m)
			require.NoError(t, err)
			s.drained(t)
			dead, err := js.Stream(within(t), deadStream)
			require.NoError(t, err)
			letter, err := dead.GetLastMsgForSubject(within(t), "inventory.dead."+c.command)
			require.NoError(t, err)
			require.Equal(t, []byte(c.body), append([]byte{}, letter.Data...))
			require.Equal(t, c.value, letter.Header.Get(c.header))
			require.Equal(t, m.Header.Get("Idempotency-Key"), letter.Header.Get("Idempotency-Key"))
			require.Equal(t, "id of "+name, letter.Header.Get("Dead-Letter-Renamed-Nats-Msg-Id"))
			require.Equal(t, c.code, letter.Header.Get("Dead-Letter-Code"))
			require.NotEmpty(t, letter.Header.Get("Dead-Letter-Reason"))
			require.Equal(t, "refused", letter.Header.Get("Dead-Letter-Status"))
			require.True(t, strings.HasSuffix(letter.Header.Get("Dead-Letter-Origin"), fmt.Sprint("-", ack.Sequence)))
			var why fault.Answer
			require.NoError(t, json.Unmarshal([]byte(letter.Header.Get("Dead-Letter-Fault")), &why))
			require.Equal(t, c.code, why.Code)
			outcome := s.await(t, letter.Header.Get("Dead-Letter-Key"))
			require.Equal(t, natsapi.Refused, outcome.Status)
			require.Equal(t, c.code, outcome.Refusal.Code)
		})
	}
	require.Empty(t, logged(t, s.ledger.Events()))
}

func TestADeadLetterCanBeSubmittedAgain(t *testing.T) {
	s := open(t)
	var mended atomic.Bool
	s.submissions(t, func(c *natsapi.SubmitConfig) {
		c.MaxDeliver = 2
		c.Ledger = hooked{s.ledger, func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
			if mended.Load() {
				return s.ledger.Do(ctx, env, command)
			}
			return commands.Answer{}, fault.New(fault.Unavailable, "store_unavailable", "no disk")
		}}
	})
	_, err := s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: "k", Actor: "anna"}, []byte(mug))
	require.NoError(t, err)
	s.drained(t)
	outcome := s.await(t, "k")
	require.Equal(t, natsapi.Unknown, outcome.Status)
	require.Equal(t, "store_unavailable", outcome.Refusal.Code)
	dead, err := s.js(t).Stream(within(t), deadStream)
	require.NoError(t, err)
	letter, err := dead.GetMsg(within(t), 1)
	require.NoError(t, err)
	require.Equal(t, "2", letter.Header.Get("Dead-Letter-Tries"))

	mended.Store(true)
	_, err = s.js(t).PublishMsg(within(t), &nats.Msg{
		Subject: strings.Replace(letter.Subject, ".dead.", ".submit.", 1), Header: letter.Header, Data: letter.Data,
	})
	require.NoError(t, err)
	s.drained(t)
	require.Equal(t, natsapi.Committed, s.await(t, "k").Status)
	meta, err := logged(t, s.ledger.Events())[0].Metadata()
	require.NoError(t, err)
	require.Equal(t, "anna", meta.Actor)
}

func TestAReusedKeyKeepsTheOutcomeOfItsOwner(t *testing.T) {
	s := open(t)
	s.submissions(t)
	_, err := s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: "k"}, []byte(mug))
	require.NoError(t, err)
	require.Equal(t, natsapi.Committed, s.await(t, "k").Status)
	_, err = s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: "k"}, []byte(`{"id":"cup"}`))
	require.NoError(t, err)
	s.drained(t)
	require.Equal(t, natsapi.Committed, s.await(t, "k").Status)
	dead, err := s.js(t).Stream(within(t), deadStream)
	require.NoError(t, err)
	letter, err := dead.GetLastMsgForSubject(within(t), "inventory.dead.create-inventory-items")
	require.NoError(t, err)
	require.Equal(t, "idempotency_key_reused", letter.Header.Get("Dead-Letter-Code"))
}

func TestAnOutcomeThatIsNoLongerKeptComesFromTheReadModels(t *testing.T) {
	s := open(t)
	s.submissions(t)
	answer, err := s.client.Command(within(t), "create-inventory-items", commands.Envelope{Key: "k"}, []byte(mug))
	require.NoError(t, err)
	require.NoError(t, s.ledger.Models().WaitFor(within(t), answer.Position))
	outcome, err := s.client.Result(within(t), "k")
	require.NoError(t, err)
	require.Equal(t, natsapi.Committed, outcome.Status)
	require.JSONEq(t, string(answer.Result), string(outcome.Answer.Result))
}

func TestManySubmissions(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":1000}]}`)
	s.submissions(t)
	var all sync.WaitGroup
	for caller := range 16 {
		all.Go(func() {
			for n := range 20 {
				if _, err := s.client.Submit(t.Context(), "adjust-inventory-levels",
					commands.Envelope{Key: fmt.Sprintf("%d-%d", caller, n)}, []byte(oneOff)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	s.drained(t)
	require.Equal(t, "680", stocked(t, s.ledger, "mug"))
	results, err := s.js(t).Stream(within(t), resultStream)
	require.NoError(t, err)
	require.EqualValues(t, 320, results.CachedInfo().State.Msgs)
}

// The queue's consumer goes when an operator deletes it, or moves it to other servers.
func TestSubmissionsAreTakenAgainWhenTheirConsumerIsGone(t *testing.T) {
	s := open(t)
	s.submissions(t)
	for range 2 {
		receipt, err := s.client.Submit(within(t), "create-inventory-items", commands.Envelope{}, []byte(`{"sku":null}`))
		require.NoError(t, err)
		require.Equal(t, natsapi.Committed, s.await(t, receipt.Key).Status)
		require.NoError(t, s.js(t).DeleteConsumer(within(t), submitStream, "engine"))
	}
}

// A try whose answer nobody could read may have been stored, whatever became of the
// next one.
func TestASubmissionThatMayBeStoredIsNotCalledRefused(t *testing.T) {
	const full = `{"error":{"code":400,"err_code":10077,"description":"maximum messages exceeded"}}`
	for name, of := range map[string]struct {
		answers []string
		code    string
	}{
		"refused":             {[]string{full}, "unavailable"},
		"unread, and refused": {[]string{"?", full}, "outcome_unknown"},
		"unread, and put off": {[]string{"?", `{"error":{"code":503,"err_code":10023,"description":"insufficient resources"}}`, full}, "outcome_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			answers := of.answers
			_, err := s.conn.Subscribe("inventory.submit.>", func(m *nats.Msg) {
				_ = m.Respond([]byte(answers[0]))
				answers = answers[1:]
			})
			require.NoError(t, err)
			require.NoError(t, s.conn.Flush())
			_, err = s.client.Submit(within(t), "create-inventory-items", commands.Envelope{Key: "k"}, []byte(mug))
			require.Equal(t, of.code, fault.Code(err), "%v", err)
		})
	}
}

func TestAStreamOfSomebodyElseIsNotTaken(t *testing.T) {
	s := open(t)
	_, err := s.js(t).CreateStream(within(t), jetstream.StreamConfig{Name: submitStream, Subjects: []string{"theirs"}})
	require.NoError(t, err)
	_, err = natsapi.ServeSubmissions(within(t), natsapi.SubmitConfig{Conn: connect(t, s.server), Ledger: s.ledger})
	require.ErrorContains(t, err, submitStream)
	require.ErrorContains(t, err, "choose another prefix")
}

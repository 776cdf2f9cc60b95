package natsapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/projections"
)

// A NATS server of somebody else may carry less than ours.
func TestAServerThatCarriesLittle(t *testing.T) {
	theirs, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 32 << 10,
	})
	require.NoError(t, err)
	theirs.Start()
	defer theirs.WaitForShutdown()
	defer theirs.Shutdown()
	conn, err := nats.Connect("", nats.InProcessServer(theirs))
	require.NoError(t, err)
	defer conn.Close()
	ledger := openLedger(t)
	service, err := natsapi.Serve(within(t), natsapi.Config{Conn: conn, Ledger: ledger, Queries: projections.QueryNames(), Logger: quiet})
	require.NoError(t, err)
	defer service.Close()
	submissions, err := natsapi.ServeSubmissions(within(t), natsapi.SubmitConfig{Conn: conn, Ledger: ledger, Logger: quiet})
	require.NoError(t, err)
	defer submissions.Close()
	f := serveFeed(t, conn, ledger.Events())
	c := dial(t, theirs.ClientURL())

	// An event larger than a message keeps its place in the feed.
	large := fmt.Sprintf(`{"id":"mug","metadata":{"x":%q}}`, strings.Repeat("x", 40<<10))
	_, err = ledger.DoJSON(within(t), commands.Envelope{}, "create-inventory-items", []byte(large))
	require.NoError(t, err)
	caughtUp(t, f, ledger.Events())
	e := follow(t, c, 0, 1, "")[0]
	require.Equal(t, "null", string(e.Data))
	require.Contains(t, e.DataOmitted, "read it from the log")
	require.Equal(t, "item-mug", e.Stream)

	// An answer larger than a message says so instead of its result.
	reply, err := conn.RequestMsgWithContext(within(t), &nats.Msg{
		Subject: "inventory.cmd.create-inventory-items", Data: []byte(many(500)), Header: nats.Header{"Idempotency-Key": {"r"}},
	})
	require.NoError(t, err)
	require.Empty(t, reply.Header)
	var answer map[string]any
	require.NoError(t, json.Unmarshal(reply.Data, &answer))
	require.Equal(t, "r", answer["command_id"])
	require.EqualValues(t, 501, answer["position"])
	require.Nil(t, answer["result"])
	require.Contains(t, answer["result_omitted"], "the command was carried out")
	require.Contains(t, answer["result_omitted"], "send fewer lines at once, or raise max_payload")
	got, err := c.Command(within(t), "create-inventory-items", commands.Envelope{Key: "r"}, []byte(many(500)))
	require.NoError(t, err)
	require.True(t, got.Replayed)
	require.Contains(t, string(got.Result), "result_omitted")
	_, err = c.Query(within(t), "retrieve-command", []byte(`{"command_id":"r","after":501}`))
	require.Equal(t, "answer_too_large", fault.Code(err))
	require.ErrorContains(t, err, "ask for fewer rows at once, or raise max_payload")

	// So does the outcome of a submission.
	_, err = c.Submit(within(t), "create-inventory-items", commands.Envelope{Key: "k"}, []byte(strings.ReplaceAll(many(500), "i0", "j0")))
	require.NoError(t, err)
	outcome, err := c.WaitResult(within(t), "k")
	require.NoError(t, err)
	require.Equal(t, natsapi.Committed, outcome.Status)
	require.Contains(t, outcome.Answer.ResultOmitted, "the command was carried out")

	_, err = c.Submit(within(t), "create-inventory-items", commands.Envelope{}, []byte(many(1200)))
	require.Equal(t, "body_too_large", fault.Code(err), "the queue says so at once")
}

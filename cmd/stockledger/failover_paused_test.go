//go:build unix

package main

import (
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// A leading node decides a command and sends its append on its way; at that very
// moment everything it says is held on the wire, and it is stopped. The other node
// takes over and carries out a command on another item. Then the old one wakes up,
// and its append arrives: it is refused by the log itself, though the item it is
// about has not changed, because it was decided on a log that others have continued.
func TestAPausedLeaderThatWakesUpCannotAppend(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds and more")
	}
	t.Parallel()
	logs := newChildLogs(t)
	servers := startServers(t, logs, 3)
	w := startWire(t, strings.Split(servers.hosts(), ",")...)
	old := startNode(t, logs, "old", strings.Replace(servers.store(), servers.hosts(), w.hosts(), 1))
	require.NoError(t, until(func() bool { return old.leading(t.Context()) }, "the first node leads"))
	standby := startNode(t, logs, "standby", servers.store())

	client, err := natsapi.Dial(servers.url())
	require.NoError(t, err)
	defer client.Close()
	do := func(key, name, body string) commands.Answer {
		answer, err := client.Command(t.Context(), name, commands.Envelope{Key: key}, []byte(body))
		require.NoError(t, err, key)
		return answer
	}
	opened := do("open", "create-inventory-items",
		`[{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":9}]},{"id":"cup","location_levels":[{"location_id":"paris","stocked_quantity":9}]}]`)

	// The append is on its way, and goes no further.
	const held = `{"inventory_item_id":"mug","location_id":"paris","adjustment":-1}`
	conn, err := natsapi.Connect(servers.url())
	require.NoError(t, err)
	defer conn.Close()
	replies, err := conn.SubscribeSync(conn.NewRespInbox())
	require.NoError(t, err)
	w.hold()
	require.NoError(t, conn.PublishMsg(&nats.Msg{
		Subject: "inventory.cmd.adjust-inventory-levels", Reply: replies.Subject, Data: []byte(held),
		Header: nats.Header{"Idempotency-Key": {"held"}},
	}))
	require.NoError(t, until(func() bool { return w.holds(`"command_id":"held"`) }, "the append is on the wire"))
	require.NoError(t, old.stop())

	// The other node leads now, and the log goes on.
	require.NoError(t, until(func() bool { return standby.leading(t.Context()) }, "the standby takes over"))
	meanwhile := do("meanwhile", "adjust-inventory-levels", `{"inventory_item_id":"cup","location_id":"paris","adjustment":-2}`)
	require.Equal(t, opened.Position+1, meanwhile.Position, "where the held append wanted to go")

	// The old one wakes up, and its append arrives.
	require.NoError(t, old.goOn())
	w.letGo()
	require.NoError(t, until(func() bool { return refusedAppend.MatchString(w.toldSince()) }, "the late append is refused"))
	t.Logf("NATS answers the late append: %s", refusedAppend.FindString(w.toldSince()))
	require.NoError(t, until(func() bool { return !old.leading(t.Context()) && old.serves(t.Context()) }, "the old leader is a standby"))

	store, err := natsstore.Open(t.Context(), natsstore.Config{URL: servers.store(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, meanwhile.Position, head, "nothing of the held command is in the log")

	// Its publisher, who was never answered, sends it again.
	if m, err := replies.NextMsg(1); err == nil {
		require.NotEmpty(t, m.Header.Get("Nats-Service-Error-Code"), "the old leader acknowledged what is not in the log: %s", m.Data)
	}
	again := do("held", "adjust-inventory-levels", held)
	require.False(t, again.Replayed)
	require.Equal(t, meanwhile.Position+1, again.Position)
	times := 0
	for e, err := range store.Read(t.Context(), events.ItemStream("mug"), 0) {
		require.NoError(t, err)
		meta, err := e.Metadata()
		require.NoError(t, err)
		if meta.CommandID == "held" {
			times++
		}
	}
	require.Equal(t, 1, times)
	stock, err := ask[struct {
		Rows []struct {
			Item    string      `json:"inventory_item_id"`
			Stocked json.Number `json:"stocked_quantity"`
		} `json:"rows"`
	}](t.Context(), client, "list-inventory-levels", object{"after": again.Position, "order": "inventory_item_id"})
	require.NoError(t, err)
	require.Len(t, stock.Rows, 2)
	for _, l := range stock.Rows {
		require.Equal(t, map[string]json.Number{"cup": "7", "mug": "8"}[l.Item], l.Stocked, l.Item)
	}
	for line := range strings.Lines(logs.of("old")) {
		if strings.Contains(line, "lease") || strings.Contains(line, "append") {
			t.Logf("the old leader says: %s", strings.TrimSpace(line))
		}
	}
}

// refusedAppend is how JetStream says that the log does not end where the append
// says it must: error 10071, of the stream of the log.
var refusedAppend = regexp.MustCompile(`\{"error":\{[^{}]*"err_code":10071[^{}]*\},"stream":"STOCKLEDGER_LEDGER_LOG"[^{}]*\}`)

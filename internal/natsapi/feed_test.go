package natsapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/ports"
)

const eventStream = "STOCKLEDGER_inventory_EVENTS"

func serveFeed(t testing.TB, conn *nats.Conn, log events.Store) *natsapi.Feed {
	t.Helper()
	f, err := natsapi.ServeFeed(t.Context(), natsapi.FeedConfig{Conn: conn, Log: log, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// caughtUp waits until a feed has all of a log.
func caughtUp(t testing.TB, f *natsapi.Feed, log events.Store) {
	t.Helper()
	head, err := log.Head(within(t))
	require.NoError(t, err)
	require.NoError(t, f.WaitFor(within(t), head))
}

// follow reads the feed after a position up to a position.
func follow(t testing.TB, c *natsapi.Client, after, through uint64, filter string) []natsapi.Event {
	t.Helper()
	var all []natsapi.Event
	for e, err := range c.Follow(within(t), after, filter) {
		require.NoError(t, err)
		if all = append(all, e); e.Position >= through {
			break
		}
	}
	return all
}

// busyDay makes events of every kind that moves a quantity.
func busyDay(t testing.TB, s *shop) {
	for _, c := range [][2]string{
		{"create-inventory-items", mug},
		{"create-inventory-items", `{"id":"cup","sku":"CUP 1","location_levels":[{"location_id":"paris","stocked_quantity":4,"incoming_quantity":2}]}`},
		{"create-inventory-levels", `{"inventory_item_id":"mug","location_id":"rome","stocked_quantity":5}`},
		{"create-inventory-levels", `{"inventory_item_id":"mug","location_id":"oslo"}`},
		{"adjust-inventory-levels", `[` + oneOff + `,` + oneOn + `,` + oneOn + `]`},
		{"update-inventory-levels", `{"inventory_item_id":"mug","location_id":"rome","stocked_quantity":7.5,"incoming_quantity":3}`},
		{"create-reservations", `[{"id":"r1","inventory_item_id":"mug","location_id":"paris","quantity":3},
			{"id":"r2","inventory_item_id":"mug","location_id":"paris","quantity":2}]`},
		{"update-reservations", `{"id":"r1","quantity":4}`},
		{"update-reservations", `{"id":"r1","location_id":"rome"}`},
		{"fulfill-reservations", `{"id":"r1","quantity":1}`},
		{"delete-reservations", `{"ids":["r2"]}`},
		{"restore-reservations", `{"ids":["r2"]}`},
		{"delete-inventory-levels", `{"inventory_item_id":"mug","location_id":"oslo"}`},
		{"delete-inventory-items", `"cup"`},
		{"restore-inventory-items", `"cup"`},
		{"attach-inventory-items", `{"variant_id":"v","inventory_item_id":"mug","required_quantity":1}`},
		{"create-stock-locations", `{"name":"Paris"}`},
	} {
		answer, err := s.client.Command(within(t), c[0], commands.Envelope{Actor: "anna", Reason: "busy"}, []byte(c[1]))
		require.NoError(t, err, "%s %s", c[0], c[1])
		require.NotZero(t, answer.Position)
	}
}

func TestTheFeedHasEveryEventInOrder(t *testing.T) {
	s := open(t)
	serveFeed(t, connect(t, s.server), s.ledger.Events())
	busyDay(t, s)
	all := logged(t, s.ledger.Events())
	got := follow(t, s.client, 0, uint64(len(all)), "")
	require.Len(t, got, len(all))
	for i, want := range all {
		e := got[i]
		meta, err := want.Metadata()
		require.NoError(t, err)
		require.EqualValues(t, i+1, e.Position)
		require.Equal(t, [...]any{want.Stream, want.Version, want.Type, want.Hash, want.Prev, string(want.Data)},
			[...]any{e.Stream, e.Version, e.Type, e.Hash, e.Prev, string(e.Data)})
		require.Equal(t, [...]any{meta.Command, meta.CommandID, "anna", "busy", meta.Part, meta.Parts},
			[...]any{e.Command, e.CommandID, e.Actor, e.Reason, e.Part, e.Parts})
		require.True(t, meta.Recorded.Equal(e.Recorded))
		require.True(t, meta.EffectiveAt().Equal(e.Effective))
	}

	stream, err := s.js(t).Stream(within(t), eventStream)
	require.NoError(t, err)
	for i, want := range all {
		m, err := stream.GetMsg(within(t), uint64(i+1))
		require.NoError(t, err)
		require.Equal(t, "inventory.events."+want.Stream, m.Subject)
		require.Equal(t, fmt.Sprint(i+1), m.Header.Get("Ledger-Position"))
		require.Equal(t, want.Type, m.Header.Get("Ledger-Type"))
		var fields map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(m.Data, &fields))
		require.NotContains(t, fields, "answer")
		for _, name := range []string{"position", "stream", "version", "type", "data", "before", "after", "command", "command_id", "recorded_at", "effective_at", "hash", "prev_hash"} {
			require.Contains(t, fields, name)
		}
	}
	info := stream.CachedInfo().Config
	require.True(t, info.DenyDelete && info.DenyPurge)
	require.Equal(t, jetstream.FileStorage, info.Storage)
}

func TestTheFeedCanBeFollowedFromAnywhere(t *testing.T) {
	s := open(t)
	f := serveFeed(t, connect(t, s.server), s.ledger.Events())
	busyDay(t, s)
	caughtUp(t, f, s.ledger.Events())
	all := logged(t, s.ledger.Events())
	for _, e := range follow(t, s.client, 5, uint64(len(all)), "") {
		require.Greater(t, e.Position, uint64(5))
	}
	var last, mugs uint64
	for _, r := range all {
		if r.Stream == "item-mug" {
			last = r.Position
			mugs++
		}
	}
	only := follow(t, s.client, 0, last, "item-mug")
	require.Len(t, only, int(mugs))
	for i, e := range only {
		require.EqualValues(t, i+1, e.Version)
	}

	ctx, cancel := context.WithCancel(within(t))
	next := make(chan natsapi.Event)
	ended := make(chan error, 1)
	go func() {
		for e, err := range s.client.Follow(ctx, uint64(len(all)), "") {
			if err != nil {
				ended <- err
				return
			}
			next <- e
		}
	}()
	s.command(t, "adjust-inventory-levels", oneOff)
	require.EqualValues(t, len(all)+1, (<-next).Position)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestAFeedThatBeginsLaterSaysWhatToDo(t *testing.T) {
	s := open(t)
	js, err := jetstream.New(s.conn)
	require.NoError(t, err)
	_, err = js.CreateStream(within(t), jetstream.StreamConfig{
		Name: "STOCKLEDGER_inventory_EVENTS", Subjects: []string{"inventory.events.>"}, FirstSeq: 5,
	})
	require.NoError(t, err)
	for _, err := range s.client.Follow(within(t), 3, "") {
		require.Equal(t, "feed_trimmed", fault.Code(err))
		require.ErrorContains(t, err, "follow it after 4, or have its operator remove the stream STOCKLEDGER_inventory_EVENTS and start the ledger again")
	}
}

// The levels folded from what the feed says came before and after each event.
func TestLevelsCanBeRebuiltFromTheFeed(t *testing.T) {
	s := open(t)
	serveFeed(t, connect(t, s.server), s.ledger.Events())
	busyDay(t, s)
	head, err := s.ledger.Events().Head(within(t))
	require.NoError(t, err)

	type row struct{ stocked, reserved, incoming string }
	text := func(q *events.Quantity, or string) string {
		if q == nil {
			return or
		}
		return q.String()
	}
	rows := make(map[string]row)
	for _, e := range follow(t, s.client, 0, head, "") {
		for _, l := range e.Before {
			had, exists := rows[l.LevelID]
			require.True(t, exists, "%s of %s", e.Type, l.LevelID)
			require.Equal(t, had, row{text(l.Stocked, had.stocked), text(l.Reserved, had.reserved), text(l.Incoming, had.incoming)},
				"before %d, %s", e.Position, e.Type)
			delete(rows, l.LevelID)
			for _, after := range e.After {
				if after.LevelID == l.LevelID {
					rows[l.LevelID] = had
				}
			}
		}
		for _, l := range e.After {
			had := rows[l.LevelID]
			rows[l.LevelID] = row{text(l.Stocked, had.stocked), text(l.Reserved, had.reserved), text(l.Incoming, had.incoming)}
		}
	}

	reply, err := s.client.Query(within(t), "list-inventory-levels", fmt.Appendf(nil, `{"take":100,"after":%d}`, head))
	require.NoError(t, err)
	var page struct {
		Rows []struct {
			ID       string          `json:"id"`
			Stocked  events.Quantity `json:"stocked_quantity"`
			Reserved events.Quantity `json:"reserved_quantity"`
			Incoming events.Quantity `json:"incoming_quantity"`
		} `json:"rows"`
	}
	require.NoError(t, json.Unmarshal(reply, &page))
	want := make(map[string]row)
	for _, r := range page.Rows {
		want[r.ID] = row{r.Stocked.String(), r.Reserved.String(), r.Incoming.String()}
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, maps.Clone(rows))
}

func TestTheFeedResumesAfterARestart(t *testing.T) {
	dir := t.TempDir()
	ledger := openLedger(t)
	do := func(name, body string) {
		_, err := ledger.DoJSON(within(t), commands.Envelope{}, name, []byte(body))
		require.NoError(t, err)
	}
	do("create-inventory-items", many(1500)) // several batches
	do("create-inventory-items", mug)
	for n := range 3 {
		server, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: dir, Logger: quiet})
		require.NoError(t, err)
		conn := connect(t, server)
		f := serveFeed(t, conn, ledger.Events())
		require.True(t, n == 0 || f.Position() >= 1500, "it does not begin anew")
		do("adjust-inventory-levels", oneOff) // while it runs
		caughtUp(t, f, ledger.Events())
		head, err := ledger.Events().Head(within(t))
		require.NoError(t, err)
		got := follow(t, dial(t, server.URL()), 0, head, "")
		require.Len(t, got, int(head))
		for i, r := range logged(t, ledger.Events()) {
			require.Equal(t, r.Hash, got[i].Hash)
		}
		require.NoError(t, f.Close())
		conn.Close()
		require.NoError(t, server.Close())
		do("adjust-inventory-levels", oneOff) // while it does not
	}
}

func TestTheFeedGoesOnWhenNATSComesBack(t *testing.T) {
	dir := t.TempDir()
	ledger := openLedger(t)
	address := ports.Reserve(t)
	first, err := natsapi.StartServer(natsapi.ServerConfig{Listen: address, Dir: dir, Logger: quiet})
	require.NoError(t, err)
	conn, err := nats.Connect(first.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	require.NoError(t, err)
	defer conn.Close()
	f := serveFeed(t, conn, ledger.Events())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := range 60 {
			body := fmt.Sprintf(`[{"id":"a%d"},{"id":"b%d"},{"id":"c%d"}]`, n, n, n)
			if _, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(body)); err != nil {
				t.Error(err)
			}
			if n == 20 {
				_ = first.Close()
			}
		}
	}()
	<-ended
	second, err := natsapi.StartServer(natsapi.ServerConfig{Listen: address, Dir: dir, Logger: quiet})
	require.NoError(t, err)
	defer second.Close()
	caughtUp(t, f, ledger.Events())
	for i, e := range follow(t, dial(t, second.URL()), 0, 180, "") {
		require.EqualValues(t, i+1, e.Position)
	}
}

func TestTheFeedOfAnotherLogIsRefused(t *testing.T) {
	s := open(t)
	require.NoError(t, serveFeed(t, connect(t, s.server), s.ledger.Events()).Close())
	_, err := natsapi.ServeFeed(within(t), natsapi.FeedConfig{Conn: connect(t, s.server), Log: openLedger(t).Events(), Logger: quiet})
	require.ErrorIs(t, err, events.ErrOtherLog)
	require.ErrorContains(t, err, "nats stream rm "+eventStream)
}

func TestAForeignMessageStopsTheFeedLoudly(t *testing.T) {
	for name, next := range map[string]string{"before one": `{"id":"cup"}`, "before a batch": many(20)} {
		t.Run(name, func(t *testing.T) { foreignMessage(t, next) })
	}
}

func foreignMessage(t *testing.T, next string) {
	s := open(t)
	f := serveFeed(t, connect(t, s.server), s.ledger.Events())
	s.command(t, "create-inventory-items", mug)
	caughtUp(t, f, s.ledger.Events())
	_, err := s.js(t).Publish(within(t), "inventory.events.item-mug", []byte(`{"position":3}`))
	require.NoError(t, err)
	s.command(t, "create-inventory-items", next)
	require.ErrorContains(t, f.WaitFor(within(t), 3), "message 3 is not event 3 of the log")
	require.ErrorContains(t, f.Err(), "nats stream rm "+eventStream)
	require.NoError(t, f.Close())
	_, err = natsapi.ServeFeed(within(t), natsapi.FeedConfig{Conn: connect(t, s.server), Log: s.ledger.Events(), Logger: quiet})
	require.ErrorContains(t, err, "does not match the log")
}

// shorter is a log that has lost its end.
type shorter struct{ events.Store }

func (shorter) Head(context.Context) (uint64, error) { return 1, nil }

// late is a log whose servers say at first that it ends where it ended before.
type late struct {
	events.Store
	asked *atomic.Int32
}

func (l late) Head(ctx context.Context) (uint64, error) {
	if l.asked.Add(1) < 3 {
		return 1, nil
	}
	return l.Store.Head(ctx)
}

// fed is a shop whose feed had what its log has when it was closed.
func fed(t *testing.T) *shop {
	t.Helper()
	s := open(t)
	f := serveFeed(t, connect(t, s.server), s.ledger.Events())
	s.command(t, "create-inventory-items", mug)
	caughtUp(t, f, s.ledger.Events())
	require.NoError(t, f.Close())
	return s
}

func TestAFeedThatIsAheadOfTheLogForAMomentGoesOn(t *testing.T) {
	s := fed(t)
	f := serveFeed(t, connect(t, s.server), late{s.ledger.Events(), new(atomic.Int32)})
	s.command(t, "adjust-inventory-levels", oneOn)
	caughtUp(t, f, s.ledger.Events())
}

func TestAFeedThatKnowsMoreThanTheLogIsRefused(t *testing.T) {
	s := fed(t)
	_, err := natsapi.ServeFeed(within(t), natsapi.FeedConfig{Conn: connect(t, s.server), Log: shorter{s.ledger.Events()}, Logger: quiet})
	require.ErrorIs(t, err, events.ErrOtherLog)
	require.ErrorContains(t, err, "it has 2 events, and the log has 1")
}

package natsstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/natscluster"
)

// A leader whose followers are away takes a write and cannot store it yet. It
// refuses what would follow the same position, and has nothing to show there.
func TestAWriteThatIsStillOnItsWayIsNoConflict(t *testing.T) {
	for name, streams := range map[string][]string{"one event": {"item-1"}, "several": {"item-2", "item-1"}} {
		t.Run(name, func(t *testing.T) {
			c := natscluster.Start(t, 3)
			url := newURL(c.URL(), 3)
			require.NoError(t, tryOpen(t, natsstore.Config{URL: url}))
			leader := c.LeaderOfAll(stream(url))
			s := open(t, strings.Replace(url, c.URL(), "nats://"+c.Address(leader), 1), nats.IgnoreDiscoveredServers())
			var a storetest.Author
			_, err := s.AppendAt(t.Context(), 0, a.Commit("item-1"))
			require.NoError(t, err)

			conn, err := nats.Connect("nats://" + c.Address(leader))
			require.NoError(t, err)
			defer conn.Close()
			tries, err := conn.SubscribeSync(subjects(url) + streams[0])
			require.NoError(t, err)
			require.NoError(t, conn.Flush())
			for i := range 3 {
				if i != leader {
					c.Stop(i)
				}
			}
			type answer struct {
				positions []uint64
				err       error
			}
			answered := make(chan answer, 1)
			go func() {
				positions, err := s.AppendAt(within(t), 1, a.Commit(streams...))
				answered <- answer{positions, err}
			}()
			for range 4 {
				_, err := tries.NextMsg(patience)
				require.NoError(t, err)
			}
			for i := range 3 {
				if i != leader {
					c.Restart(i)
				}
			}
			got := <-answered
			require.NotErrorIs(t, got.err, events.ErrConflict)
			head := uint64(0)
			require.Eventually(t, func() bool {
				head, err = s.Head(t.Context())
				return err == nil
			}, patience, time.Millisecond)
			if got.err != nil { // on a busy machine the others may be back later than an append waits for them
				require.Contains(t, []uint64{1, uint64(1 + len(streams))}, head, "%v", got.err)
				return
			}
			require.Equal(t, []uint64{uint64(1 + len(streams))}, got.positions)
			require.EqualValues(t, 1+len(streams), head, "once each")
		})
	}
}

// A log that was replaced under an open store is not taken for the old one.
func TestALogThatWentBackIsNoticed(t *testing.T) {
	c := natscluster.Start(t, 1)
	js := c.JetStream()
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"another log":               func(c *jetstream.StreamConfig) { c.Metadata["stockledger_log"] = uuid.NewString() },
		"the same without an event": func(*jetstream.StreamConfig) {},
	} {
		t.Run(name, func(t *testing.T) {
			url := newURL(c.URL(), 1)
			s := open(t, url)
			var a storetest.Author
			_, err := s.AppendAt(t.Context(), 0, a.Commit("item-1"), a.Commit("item-1"))
			require.NoError(t, err)
			made, err := js.Stream(t.Context(), stream(url))
			require.NoError(t, err)
			config := made.CachedInfo().Config
			require.NoError(t, js.DeleteStream(t.Context(), stream(url)))
			change(&config)
			_, err = js.CreateStream(t.Context(), config)
			require.NoError(t, err)

			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err = s.Head(ctx)
			require.Error(t, err)
			n := 0
			for _, err = range s.Read(ctx, "item-1", 0) {
				n++
			}
			require.Error(t, err)
			require.Equal(t, 1, n, "the error alone")
		})
	}
}

// Nor do its events come to whoever follows the old one.
func TestAnotherLogIsNotFollowed(t *testing.T) {
	c := natscluster.Start(t, 1)
	url := newURL(c.URL(), 1)
	s := open(t, url)
	var a storetest.Author
	_, err := s.Append(t.Context(), a.Commit("item-1"), a.Commit("item-1"))
	require.NoError(t, err)
	require.NoError(t, c.JetStream().DeleteStream(t.Context(), stream(url)))
	var other storetest.Author
	for range 5 {
		_, err = open(t, url).Append(t.Context(), other.Commit("item-2"))
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for batch, err := range s.Subscribe(ctx, 2) {
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, batch)
	}
}

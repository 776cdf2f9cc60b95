package natsstore_test

import (
	"context"
	"errors"
	"log/slog"
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

// Whoever waits for servers tells by the error whether that helps.
func TestWhatPassesIsKnownToWhoeverWaits(t *testing.T) {
	for _, err := range natsstore.OfServers() {
		require.True(t, natsstore.Passing(err))
		known := errors.As(err, new(*jetstream.APIError))
		for _, passes := range []error{nats.ErrDisconnected, nats.ErrTimeout, nats.ErrNoResponders} {
			known = known || errors.Is(err, passes)
		}
		require.True(t, known, "%v", err)
	}
}

// And reads why there is no log yet, not only that the time is up.
func TestALogThatTakesTooLongToOpenSaysWhy(t *testing.T) {
	mute := natscluster.Configured(`authorization { users: [{ user: u, password: p, permissions: { publish: { deny: "$JS.API.>" } } }] }`)
	c := natscluster.Start(t, 1, mute, natscluster.User("u", "p"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := natsstore.Open(ctx, natsstore.Config{URL: "nats://u:p@" + c.Address(0), Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, natsstore.Passing(err), "%v", err)
	require.ErrorContains(t, err, "no answer")
}

func tryOpen(t *testing.T, c natsstore.Config) error {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	s, err := openPatiently(t.Context(), c)
	if err == nil {
		require.NoError(t, s.Close())
	}
	return err
}

func TestALogHasTheIdentityItWasMadeWith(t *testing.T) {
	c := natscluster.Start(t, 1)
	url, id := newURL(c.URL(), 1), uuid.NewString()
	s, err := natsstore.Open(t.Context(), natsstore.Config{URL: url, LogID: id})
	require.NoError(t, err)
	require.Equal(t, id, s.LogID())
	require.NoError(t, s.Close())
	require.NoError(t, tryOpen(t, natsstore.Config{URL: url}))
	require.NoError(t, tryOpen(t, natsstore.Config{URL: url, LogID: id}))

	other := uuid.NewString()
	err = tryOpen(t, natsstore.Config{URL: url, LogID: other})
	require.ErrorIs(t, err, events.ErrOtherLog)
	require.ErrorContains(t, err, id)
	require.ErrorContains(t, err, other)
	require.ErrorContains(t, tryOpen(t, natsstore.Config{URL: newURL(c.URL(), 1), LogID: "mine"}), "no UUID")
}

// Two processes that start at once make one log.
func TestManyOpenANewLogAtOnce(t *testing.T) {
	c := natscluster.Start(t, 3)
	url := newURL(c.URL(), 3)
	ids := make(chan string, 4)
	for range cap(ids) {
		go func() {
			s, err := openPatiently(t.Context(), natsstore.Config{URL: url})
			if err != nil {
				ids <- err.Error()
				return
			}
			ids <- s.LogID()
			s.Close()
		}()
	}
	id := <-ids
	require.NoError(t, uuid.Validate(id))
	for range cap(ids) - 1 {
		require.Equal(t, id, <-ids)
	}
}

func TestAStreamInWhichEventsCouldGetLostIsRefused(t *testing.T) {
	c := natscluster.Start(t, 1)
	js := c.JetStream()
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"max_age":                func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs ":              func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 },
		"max_msgs_per_subject":   func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 10 },
		"discard":                func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"allow_msg_ttl":          func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"allow_rollup_hdrs":      func(c *jetstream.StreamConfig) { c.DenyPurge, c.AllowRollup = false, true },
		"deny_delete":            func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"deny_purge":             func(c *jetstream.StreamConfig) { c.DenyPurge = false },
		"allow_atomic":           func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"allow_direct":           func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"storage":                func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"retention":              func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"subjects":               func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "elsewhere."+c.Name) },
		"no_ack":                 func(c *jetstream.StreamConfig) { c.NoAck, c.AllowAtomicPublish = true, false },
		"format 9":               func(c *jetstream.StreamConfig) { c.Metadata["stockledger_format"] = "9" },
		"not a log":              func(c *jetstream.StreamConfig) { c.Metadata = nil },
		"missing":                func(c *jetstream.StreamConfig) { c.FirstSeq = 100 },
		"1 replicas and the URL": nil,
	} {
		t.Run(name, func(t *testing.T) {
			url := newURL(c.URL(), 1)
			require.NoError(t, tryOpen(t, natsstore.Config{URL: url}))
			made, err := js.Stream(t.Context(), stream(url))
			require.NoError(t, err)
			config := made.CachedInfo().Config
			if change == nil {
				url = strings.Replace(url, "replicas=1", "replicas=3", 1)
			} else {
				require.NoError(t, js.DeleteStream(t.Context(), stream(url)))
				change(&config)
				_, err = js.CreateStream(t.Context(), config)
				require.NoError(t, err)
			}
			if name == "missing" {
				_, err = js.Publish(t.Context(), subjects(url)+"item-1", nil)
				require.NoError(t, err)
			}
			require.ErrorContains(t, tryOpen(t, natsstore.Config{URL: url}), strings.TrimSpace(name))
		})
	}
}

func TestNothingCanBeDeleted(t *testing.T) {
	c := natscluster.Start(t, 1)
	url := newURL(c.URL(), 1)
	s := open(t, url)
	var a storetest.Author
	_, err := s.Append(t.Context(), a.Commit("item-1", "item-2"))
	require.NoError(t, err)
	log, err := c.JetStream().Stream(t.Context(), stream(url))
	require.NoError(t, err)
	require.Error(t, log.DeleteMsg(t.Context(), 1))
	require.Error(t, log.SecureDeleteMsg(t.Context(), 1))
	require.Error(t, log.Purge(t.Context()))
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, head)
}

func TestALogThatCannotBeReachedSaysSo(t *testing.T) {
	plain := natscluster.Start(t, 1, natscluster.Configured(`authorization { user: ledger, password: "geheim" }`), natscluster.User("ledger", "geheim"))
	at := strings.TrimPrefix(plain.URL(), "nats://")
	require.NoError(t, tryOpen(t, natsstore.Config{URL: "nats://ledger:geheim@" + at}))
	for _, url := range []string{"nats://" + at, "nats://ledger:falsch@" + at, "nats://falsch@" + at} {
		err := tryOpen(t, natsstore.Config{URL: url})
		require.ErrorContains(t, err, "user and password")
		require.NotContains(t, err.Error(), "falsch")
	}
	plain.Stop(0)
	err := tryOpen(t, natsstore.Config{URL: "nats://ledger:geheim@" + at})
	require.ErrorContains(t, err, at)
	require.NotContains(t, err.Error(), "geheim")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = natsstore.Open(ctx, natsstore.Config{URL: "nats://" + at})
	require.Error(t, err)
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]struct {
		servers  string
		replicas int
	}{
		"nats://a":                 {"nats://a:4222", 0},
		"tls://a:1,b/L?replicas=3": {"tls://a:1,tls://b:4222", 3},
		"nats://u:p%40@a:1,b:2,c/L-1_x?replicas=5":       {"nats://u:p%40@a:1,nats://u:p%40@b:2,nats://u:p%40@c:4222", 5},
		"nats://token@[::1]:4222/":                       {"nats://token@[::1]:4222", 0},
		"nats://u:p@a:1,nats://v:q@b:2/stock?replicas=1": {"nats://u:p@a:1,nats://v:q@b:2", 1},
	} {
		servers, replicas, err := natsstore.Servers(url)
		require.NoError(t, err, url)
		require.NoError(t, natsstore.CheckURL(url))
		require.Equal(t, want.servers, servers)
		require.Equal(t, want.replicas, replicas)
	}
	for _, url := range []string{
		"", "a:4222", "http://a", "nats://", "nats:///L", "nats://u:geheim@", "nats://u:geheim@a:x/L", "nats://u:geheim@a:0", "nats://u:geheim@a:70000",
		"nats://u:ge/heim@a/L", "nats://u:ge,heim@a", "nats://a,u:geheim@b", "nats://u:geheim@a,,b", "nats://u:geheim@a/L,b", "nats://u:geheim@a,http://b",
		"nats://u:geheim@a/two words", "nats://u:geheim@a/L/M", "nats://u:geheim@a/L.M", "nats://u:geheim@a/ä", "nats://u:geheim@a/L#x",
		"nats://u:geheim@a?replicas=0", "nats://u:geheim@a?replicas=6", "nats://u:geheim@a?replicas=two", "nats://u:geheim@a?replicas=1&replicas=3",
		"nats://u:geheim@a?replica=3", "nats://u:geheim@a?replicas=%zz", "nats://u:geheim%@a", "nats://u:ge heim@a b",
	} {
		err := natsstore.CheckURL(url)
		require.Error(t, err, url)
		for _, secret := range []string{"geheim", "heim", "ge,"} {
			require.NotContains(t, err.Error(), secret, url)
		}
		_, _, err = natsstore.Servers(url)
		require.Error(t, err, url)
	}
}

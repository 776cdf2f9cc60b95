package natsapi_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// A request is sent until it is answered. A copy of it that was held up on the way,
// and comes when there is stock again, must not be carried out: its sender was told
// that nothing happened.
func TestALateCopyOfARefusedRequestIsRefused(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	const subject, twelve = "inventory.cmd.adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":-12}`
	copyOf := func(request string) *nats.Msg {
		return s.ask(t, subject, nats.Header{"Idempotency-Key": {"sale"}, "Request-Id": {request}}, twelve)
	}
	first, _ := refused(t, copyOf("a"))
	s.command(t, "adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":5}`)

	late, _ := refused(t, copyOf("a"))
	require.Equal(t, first, late)
	require.Equal(t, "15", stocked(t, s.ledger, "mug"))

	// Whoever asks anew is answered anew.
	require.Empty(t, copyOf("b").Header.Get("Nats-Service-Error-Code"))
	require.Equal(t, "3", stocked(t, s.ledger, "mug"))
	require.Empty(t, copyOf("b").Header.Get("Nats-Service-Error-Code"), "what was accepted is answered as before")
	require.Equal(t, "3", stocked(t, s.ledger, "mug"))
}

// The client names its requests, each by itself.
func TestTheClientNamesItsRequests(t *testing.T) {
	s := open(t)
	s.command(t, "create-inventory-items", mug)
	heard, err := s.conn.SubscribeSync("inventory.cmd.>")
	require.NoError(t, err)
	require.NoError(t, s.conn.Flush())
	seen := make(map[string]bool)
	for range 3 {
		_, err := s.client.Command(within(t), "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOn))
		require.NoError(t, err)
		m, err := heard.NextMsgWithContext(within(t))
		require.NoError(t, err)
		require.NotEmpty(t, m.Header.Get("Request-Id"))
		seen[m.Header.Get("Request-Id")] = true
	}
	require.Len(t, seen, 3)
}

// Copies that come while the first is carried out are not carried out beside it.
func TestCopiesWaitForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, goOn := natsapi.NewCopies(2), make(chan struct{})
		var times atomic.Int32
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				reply, err := c.Answer("a", func() ([]byte, error) {
					times.Add(1)
					<-goOn
					return []byte("done"), nil
				})
				assert.NoError(t, err)
				assert.Equal(t, "done", string(reply))
			})
		}
		synctest.Wait()
		_, err := c.Answer("b", func() ([]byte, error) { return nil, nil })
		require.NoError(t, err, "another request does not wait")
		close(goOn)
		all.Wait()
		require.EqualValues(t, 1, times.Load())
		require.Zero(t, c.Kept(), "the log knows what was accepted")
	})
}

func TestCopiesOfARequestAreCarriedOutOnce(t *testing.T) {
	started, goOn := make(chan string, 10), make(chan struct{})
	s := open(t, func(c *natsapi.Config) {
		next := c.Ledger
		c.Ledger = hooked{next, func(ctx context.Context, env commands.Envelope, command commands.Command) (commands.Answer, error) {
			if env.Key != "" {
				started <- env.Key
				<-goOn
			}
			return next.(*stockledger.Ledger).Do(ctx, env, command)
		}}
	})
	s.command(t, "create-inventory-items", mug)
	answers, err := s.conn.SubscribeSync(s.conn.NewInbox())
	require.NoError(t, err)
	copyOf := func(key string) {
		require.NoError(t, s.conn.PublishMsg(&nats.Msg{
			Subject: "inventory.cmd.adjust-inventory-levels", Reply: answers.Subject,
			Data:   []byte(`{"inventory_item_id":"mug","location_id":"paris","adjustment":-12}`),
			Header: nats.Header{"Idempotency-Key": {key}, "request-id": {"a"}},
		}))
	}
	copyOf("sale")
	require.Equal(t, "sale", <-started)
	copyOf("sale")
	copyOf("sale")
	copyOf("another") // is another request
	require.Equal(t, "another", <-started)
	close(goOn)
	for range 4 {
		m, err := answers.NextMsgWithContext(within(t))
		require.NoError(t, err)
		answer, _ := refused(t, m)
		require.Equal(t, "below_reserved", answer.Code)
	}
	require.Empty(t, started, "each is carried out once")
}

// A sender may give several commands one name, such as that of the page they are
// for. Each is carried out and answered by itself.
func TestCommandsOfOneNameAreNoCopies(t *testing.T) {
	const twelve = `{"inventory_item_id":"mug","location_id":"paris","adjustment":-12}`
	type request struct {
		header nats.Header
		lines  string
	}
	for what, of := range map[string]struct{ one, another request }{
		"other lines": {
			request{nats.Header{"Request-Id": {"page"}}, twelve},
			request{nats.Header{"Request-Id": {"page"}}, oneOff},
		},
		"another key, in whatever spelling": {
			request{nats.Header{"Request-Id": {"page"}, "idempotency-key": {"a"}}, twelve},
			request{nats.Header{"Request-Id": {"page"}, "idempotency-key": {"b"}}, twelve},
		},
		"on trial and then in earnest": {
			request{nats.Header{"Request-Id": {"page"}, "Ledger-Dry-Run": {"true"}}, twelve},
			request{nats.Header{"Request-Id": {"page"}}, twelve},
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t)
			s.command(t, "create-inventory-items", mug)
			const subject = "inventory.cmd.adjust-inventory-levels"
			no, _ := refused(t, s.ask(t, subject, of.one.header, of.one.lines))
			require.Equal(t, "below_reserved", no.Code)
			s.command(t, "adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":5}`)
			m := s.ask(t, subject, of.another.header, of.another.lines)
			require.Empty(t, m.Header.Get("Nats-Service-Error-Code"), "%s", m.Data)
		})
	}
}

func TestANameOfARequestIsShort(t *testing.T) {
	s := open(t)
	for _, size := range []int{255, 256} {
		m := s.ask(t, "inventory.cmd.adjust-inventory-levels", nats.Header{"Request-Id": {strings.Repeat("x", size)}}, oneOn)
		answer, _ := refused(t, m)
		require.Equal(t, size > 255, answer.Code == "invalid_header", answer.Message)
	}
}

// What is remembered of refusals is bounded: the oldest go.
func TestRefusalsAreRememberedUpToABound(t *testing.T) {
	c := natsapi.NewCopies(2)
	times := make(map[string]int)
	refuse := func(request string) func() ([]byte, error) {
		return func() ([]byte, error) {
			times[request]++
			return nil, fault.New(fault.NotAllowed, "insufficient_stock", "no")
		}
	}
	for _, request := range []string{"a", "b", "c", "b", "c", "a", "c", "b"} {
		_, err := c.Answer(request, refuse(request))
		require.Error(t, err)
	}
	require.Equal(t, map[string]int{"a": 2, "b": 2, "c": 1}, times)
	require.Equal(t, 2, c.Kept())

	// What is not final, or broken, is tried again.
	for _, again := range []error{fault.New(fault.Unavailable, "store_unavailable", "not now"), errors.New("a bug"), nil} {
		tried := 0
		for range 2 {
			_, err := c.Answer("d", func() ([]byte, error) { tried++; return nil, again })
			require.Equal(t, again, err)
		}
		require.Equal(t, 2, tried, "%v", again)
	}
	require.Panics(t, func() { _, _ = c.Answer("e", func() ([]byte, error) { panic("a bug") }) })
	_, err := c.Answer("e", func() ([]byte, error) { return nil, nil })
	require.NoError(t, err)
	require.Equal(t, 2, c.Kept())
}

package esdbdouble_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"github.com/stockledger/stockledger/internal/esdbdouble"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		// Connections that the client has lost sight of never end: a trap of its own,
		// which the tests below spring. What is the double's does end.
		if err := goleak.Find(goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// server is what a conformance test runs against: a double, or the real server.
type server struct {
	*esdb.Client

	prefix string // of the streams of this test alone
}

// conform connects to the real server if there is one, else to a double.
func conform(t *testing.T) server {
	t.Helper()
	url := esdbdouble.RealServer()
	if url == "" {
		url = esdbdouble.Start(t).URL()
	}
	return server{connect(t, url), "test-" + uuid.NewString() + "."}
}

// connect is a client that is closed when the test ends.
func connect(t testing.TB, url string) *esdb.Client {
	t.Helper()
	config, err := esdb.ParseConnectionString(url)
	require.NoError(t, err)
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// within is a context that ends long after anything here should have.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// askingForLeader is within with the header that the client forgets.
func askingForLeader(t testing.TB) context.Context {
	return metadata.AppendToOutgoingContext(within(t), "requires-leader", "true")
}

// event is the nth event of a stream: always with the same id.
func event(stream string, n int) esdb.EventData {
	return esdb.EventData{
		EventID:   uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, stream, " ", n)),
		EventType: "test.event.v1", ContentType: esdb.ContentTypeJson,
		Data: fmt.Appendf(nil, `{"n":%d}`, n), Metadata: []byte(`{"by":"test"}`),
	}
}

func events(stream string, from, to int) []esdb.EventData {
	var all []esdb.EventData
	for n := from; n <= to; n++ {
		all = append(all, event(stream, n))
	}
	return all
}

func appendTo(t testing.TB, c *esdb.Client, stream string, expected esdb.ExpectedRevision, all ...esdb.EventData) (*esdb.WriteResult, error) {
	t.Helper()
	return c.AppendToStream(within(t), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, all...)
}

func mustAppend(t testing.TB, c *esdb.Client, stream string, expected esdb.ExpectedRevision, all ...esdb.EventData) *esdb.WriteResult {
	t.Helper()
	result, err := appendTo(t, c, stream, expected, all...)
	require.NoError(t, err)
	return result
}

// collect is what a read yields, and the error that ended it, if any.
func collect(read *esdb.ReadStream, err error) ([]*esdb.ResolvedEvent, error) {
	if err != nil {
		return nil, err
	}
	defer read.Close()
	var all []*esdb.ResolvedEvent
	for {
		e, err := read.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

func readStream(t testing.TB, c *esdb.Client, stream string, options esdb.ReadStreamOptions, count uint64) ([]*esdb.ResolvedEvent, error) {
	t.Helper()
	return collect(c.ReadStream(within(t), stream, options, count))
}

func everything(t testing.TB, c *esdb.Client, stream string) []*esdb.ResolvedEvent {
	t.Helper()
	all, err := readStream(t, c, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, math.MaxUint64)
	require.NoError(t, err)
	return all
}

// revisions are those of events, in their order.
func revisions(all []*esdb.ResolvedEvent) []uint64 {
	var numbers []uint64
	for _, e := range all {
		numbers = append(numbers, e.OriginalEvent().EventNumber)
	}
	return numbers
}

func requireCode(t testing.TB, err error, code esdb.ErrorCode) {
	t.Helper()
	var of *esdb.Error
	require.ErrorAs(t, err, &of)
	require.Equal(t, code, of.Code(), "%v", err)
}

// label is an event of a subscription in a word.
func label(prefix string, e *esdb.SubscriptionEvent) string {
	switch {
	case e.EventAppeared != nil:
		original := e.EventAppeared.OriginalEvent()
		return fmt.Sprintf("%s@%d", strings.TrimPrefix(original.StreamID, prefix), original.EventNumber)
	case e.CheckPointReached != nil:
		return "checkpoint"
	case e.CaughtUp != nil:
		return "caught up"
	case e.SubscriptionDropped != nil:
		return "dropped"
	default:
		return "other"
	}
}

// next is the next event of a subscription; the test fails when there is none
// for long.
func next(t testing.TB, sub *esdb.Subscription) *esdb.SubscriptionEvent {
	t.Helper()
	got := make(chan *esdb.SubscriptionEvent, 1)
	go func() { got <- sub.Recv() }()
	select {
	case e := <-got:
		return e
	case <-time.After(20 * time.Second):
		_ = sub.Close()
		<-got
		t.Fatal("nothing came from the subscription")
		return nil
	}
}

// until takes events to the first that is labelled so, and returns all labels.
func until(t testing.TB, sub *esdb.Subscription, prefix, last string) []string {
	t.Helper()
	var labels []string
	for {
		e := next(t, sub)
		labels = append(labels, label(prefix, e))
		if e.SubscriptionDropped != nil && last != "dropped" {
			t.Fatalf("dropped after %v: %v", labels, e.SubscriptionDropped.Error)
		}
		if labels[len(labels)-1] == last {
			return labels
		}
	}
}

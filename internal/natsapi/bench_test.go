package natsapi_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/projections"
)

// callers is how many ask at once.
const callers = 64

// BenchmarkCommand adjusts 1,000 items of a durable ledger: over NATS, with the
// feed running and without, and in Go; echo is the same request to a micro
// service that only returns it.
func BenchmarkCommand(b *testing.B) {
	dir := b.TempDir()
	ledger, err := stockledger.Open(b.Context(), stockledger.Config{Dir: filepath.Join(dir, "data"), Logger: quiet})
	require.NoError(b, err)
	defer ledger.Close()
	for n := range 10 {
		body := "["
		for i := range 100 {
			body += fmt.Sprintf(`{"id":"i%d","location_levels":[{"location_id":"paris","stocked_quantity":1}]},`, n*100+i)
		}
		_, err := ledger.DoJSON(b.Context(), commands.Envelope{}, "create-inventory-items", []byte(body[:len(body)-1]+"]"))
		require.NoError(b, err)
	}
	server := startServer(b, filepath.Join(dir, "nats"))
	service, err := natsapi.Serve(b.Context(), natsapi.Config{Conn: connect(b, server), Ledger: ledger, Queries: projections.QueryNames()})
	require.NoError(b, err)
	defer service.Close()
	echo, err := micro.AddService(connect(b, server), micro.Config{Name: "echo", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "echo", Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }),
	}})
	require.NoError(b, err)
	defer echo.Stop()
	client := dial(b, server.URL())
	conn, err := nats.Connect(server.URL())
	require.NoError(b, err)
	defer conn.Close()

	var next atomic.Int64
	run := func(name string, do func(key string, body []byte) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(callers / 2)
			began := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n := next.Add(1)
					body := fmt.Appendf(nil, `{"inventory_item_id":"i%d","location_id":"paris","adjustment":1}`, n%1000)
					if err := do(fmt.Sprintf("key-%d", n), body); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			b.ReportMetric(float64((processorTime(b)-began).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
	overNATS := func(key string, body []byte) error {
		_, err := client.Command(context.Background(), "adjust-inventory-levels", commands.Envelope{Key: key}, body)
		return err
	}
	run("echo", func(_ string, body []byte) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := conn.RequestWithContext(ctx, "echo", body)
		return err
	})
	run("nats", overNATS)
	run("go", func(key string, body []byte) error {
		_, err := ledger.DoJSON(context.Background(), commands.Envelope{Key: key}, "adjust-inventory-levels", body)
		return err
	})
	run("query", func(_ string, _ []byte) error {
		body := fmt.Appendf(nil, `{"inventory_item_id":"i%d","location_ids":["paris"]}`, next.Load()%1000)
		_, err := client.Query(context.Background(), "stocked-quantity", body)
		return err
	})
	feed := serveFeed(b, connect(b, server), ledger.Events())
	caughtUp(b, feed, ledger.Events())
	run("nats-with-feed", overNATS)
	b.Logf("feed at %d", feed.Position())
	caughtUp(b, feed, ledger.Events())
}

// processorTime is what the process has had of the processors, for the server, the
// service and the client together. Unlike the time on the clock, it does not depend
// on what else the machine does.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkFeed publishes a log that is there.
func BenchmarkFeed(b *testing.B) {
	ledger := openLedger(b)
	for n := 0; n < b.N; n += 1000 {
		body := "["
		for i := range 1000 {
			body += fmt.Sprintf(`{"id":"i%d-%d"},`, n, i)
		}
		_, err := ledger.DoJSON(b.Context(), commands.Envelope{}, "create-inventory-items", []byte(body[:len(body)-1]+"]"))
		require.NoError(b, err)
	}
	conn := connect(b, startServer(b, b.TempDir()))
	b.ResetTimer()
	caughtUp(b, serveFeed(b, conn, ledger.Events()), ledger.Events())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkCarry is a ledger that has nothing to do against an echo service: what
// the transport alone costs.
func BenchmarkCarry(b *testing.B) {
	server := startServer(b, b.TempDir())
	answer := commands.Answer{CommandID: "k", Position: 1, Result: []byte(`{"quantity":1}`)}
	idle := hooked{do: func(context.Context, commands.Envelope, commands.Command) (commands.Answer, error) {
		return answer, nil
	}}
	service, err := natsapi.Serve(b.Context(), natsapi.Config{
		Conn: connect(b, server), Ledger: asked{idle}, Queries: map[string]string{"nothing": "nothing"},
	})
	require.NoError(b, err)
	defer service.Close()
	echo, err := micro.AddService(connect(b, server), micro.Config{Name: "echo", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "echo", Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }),
	}})
	require.NoError(b, err)
	defer echo.Stop()
	conn, err := nats.Connect(server.URL())
	require.NoError(b, err)
	defer conn.Close()
	client, err := natsapi.NewClient(conn)
	require.NoError(b, err)
	for name, do := range map[string]func(context.Context) error{
		"echo": func(ctx context.Context) error {
			_, err := conn.RequestWithContext(ctx, "echo", []byte(oneOff))
			return err
		},
		"command": func(ctx context.Context) error {
			_, err := client.Command(ctx, "adjust-inventory-levels", commands.Envelope{Key: "k"}, []byte(oneOff))
			return err
		},
		"query": func(ctx context.Context) error {
			_, err := client.Query(ctx, "nothing", []byte(oneOff))
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(callers / 2)
			began := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					if err := do(ctx); err != nil {
						b.Error(err)
					}
					cancel()
				}
			})
			b.ReportMetric(float64((processorTime(b)-began).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
}

// asked answers every query at once.
type asked struct{ hooked }

func (asked) Query(context.Context, string, []byte) (any, error) {
	return map[string]int{"quantity": 1}, nil
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/transport"
)

// Transport is how callers reach the ledger: Go, NATS or HTTP.
type Transport string

// The transports.
const (
	Go   Transport = "go"   // in this process
	NATS Transport = "nats" // request and reply, over an embedded server
	HTTP Transport = "http" // over loopback
)

// client is what both clients are.
type client interface {
	Command(ctx context.Context, name string, env commands.Envelope, body []byte) (commands.Answer, error)
}

// overNATS reaches the ledger over one connection for all callers.
type overNATS struct{ *natsapi.Client }

func (d overNATS) carryOut(ctx context.Context, env commands.Envelope, item string, e errand) error {
	return sent(ctx, d, env, item, e)
}

func (d overNATS) stocked(ctx context.Context, item string) error {
	_, err := d.Query(ctx, "stocked-quantity", question(item))
	return err
}

// overHTTP reaches it over as many connections as there are callers, up to 64.
type overHTTP struct{ *httpapi.Client }

func (d overHTTP) carryOut(ctx context.Context, env commands.Envelope, item string, e errand) error {
	return sent(ctx, d, env, item, e)
}

func (d overHTTP) stocked(ctx context.Context, item string) error {
	_, err := d.Query(ctx, "stocked-quantity", question(item))
	return err
}

func sent(ctx context.Context, c client, env commands.Envelope, item string, e errand) error {
	name, body := written(item, e)
	_, err := c.Command(ctx, name, env, body)
	return err
}

// open serves the ledger over a transport, with the feed if that is wanted, and says
// how to end that.
func (s *subject) open(ctx context.Context, by Transport, feed bool) (doorway, func() error, error) {
	switch by {
	case Go:
		return inGo{s.ledger}, func() error { return nil }, nil
	case NATS:
		return s.openNATS(ctx, feed)
	case HTTP:
		return s.openHTTP(ctx)
	default:
		return nil, nil, fmt.Errorf("there is no transport %q; there are go, nats and http", by)
	}
}

func (s *subject) openNATS(ctx context.Context, feed bool) (_ doorway, end func() error, err error) {
	var open closers
	defer func() {
		if err != nil {
			err = errors.Join(err, open.close())
		}
	}()
	server, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: filepath.Join(s.dir, "nats"), Logger: quiet()})
	if err != nil {
		return nil, nil, err
	}
	open.add(server.Close)
	conn, err := server.Connect()
	if err != nil {
		return nil, nil, err
	}
	open.add(func() error { conn.Close(); return nil })
	service, err := natsapi.Serve(ctx, natsapi.Config{Conn: conn, Ledger: s.ledger, Queries: s.ledger.QueryNames(), Logger: quiet()})
	if err != nil {
		return nil, nil, err
	}
	open.add(service.Close)
	if feed {
		publishing, err := natsapi.ServeFeed(ctx, natsapi.FeedConfig{Conn: conn, Log: s.ledger.Events(), Logger: quiet()})
		if err != nil {
			return nil, nil, err
		}
		open.add(publishing.Close)
	}
	client, err := natsapi.Dial(server.URL())
	if err != nil {
		return nil, nil, err
	}
	open.add(func() error { client.Close(); return nil })
	return overNATS{client}, open.close, nil
}

func (s *subject) openHTTP(ctx context.Context) (doorway, func() error, error) {
	server, err := httpapi.Serve(ctx, httpapi.Config{
		Listen: "127.0.0.1:0", Ledger: s.ledger, Log: s.ledger.Events(), Queries: s.ledger.QueryNames(), Logger: quiet(),
	})
	if err != nil {
		return nil, nil, err
	}
	client, err := httpapi.Dial(server.URL(), "")
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	return overHTTP{client}, func() error { client.Close(); return server.Close() }, nil
}

// closers are ended in the opposite order.
type closers []func() error

func (c *closers) add(end func() error) { *c = append(*c, end) }

func (c *closers) close() (err error) {
	for _, end := range slices.Backward(*c) {
		err = errors.Join(err, end())
	}
	return err
}

// Echo asks a micro service on an embedded NATS server for what it was sent: the least
// that a request over NATS costs. The requests are those of the mix, headers and all.
func (b *Bench) Echo(ctx context.Context, load Load, mix Mix) (figures Figures, err error) {
	dir, remove, err := b.fresh("echo")
	if err != nil {
		return figures, err
	}
	defer remove()
	var open closers
	defer func() { err = errors.Join(err, open.close()) }()
	server, err := natsapi.StartServer(natsapi.ServerConfig{Listen: "127.0.0.1:0", Dir: dir, Logger: quiet()})
	if err != nil {
		return figures, err
	}
	open.add(server.Close)
	serving, err := server.Connect()
	if err != nil {
		return figures, err
	}
	open.add(func() error { serving.Close(); return nil })
	service, err := micro.AddService(serving, micro.Config{Name: "echo", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "echo", Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }),
	}})
	if err != nil {
		return figures, err
	}
	open.add(service.Stop)
	// Its subscription must be at the server before somebody on another connection asks.
	if err := serving.Flush(); err != nil {
		return figures, err
	}
	conn, err := natsapi.Connect(server.URL())
	if err != nil {
		return figures, err
	}
	open.add(func() error { conn.Close(); return nil })
	return b.drive(ctx, Figures{What: "NATS echo service"}, load, ofEcho().workers(b, echoed{conn}, load.Callers, mix))
}

// ofEcho has items to name, and no ledger.
func ofEcho() *subject {
	const items = 1000
	s := &subject{items: make([]string, items), stocked: make([]atomic.Int64, items), reserved: make([]atomic.Int64, items)}
	for i := range s.items {
		s.items[i] = fmt.Sprint("item_", i)
	}
	return s
}

// echoed sends what a ledger would be sent.
type echoed struct{ conn *nats.Conn }

func (d echoed) carryOut(ctx context.Context, env commands.Envelope, item string, e errand) error {
	_, body := written(item, e)
	return d.send(ctx, &nats.Msg{Subject: "echo", Header: transport.Headers(env), Data: body})
}

func (d echoed) stocked(ctx context.Context, item string) error {
	return d.send(ctx, &nats.Msg{Subject: "echo", Data: question(item)})
}

func (d echoed) send(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, err := d.conn.RequestMsgWithContext(ctx, m)
	return err
}

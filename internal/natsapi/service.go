package natsapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

// grace is how long closing waits for what is under way.
const grace = 30 * time.Second

// Config is what Serve needs. Conn and Ledger must be set.
type Config struct {
	Conn   *nats.Conn
	Ledger Ledger
	// Queries are the names of the queries that Ledger answers, each with a line
	// on what it is about; projections.QueryNames has them.
	Queries map[string]string
	// Operator carries out the operations of those names, each with a line on what
	// it does; nil is when there are none.
	Operator   transport.Operator
	Operations map[string]string
	// Prefix begins every subject; "" is DefaultPrefix.
	Prefix string
	// Version of the program, as in SemVer; "" is 0.0.0.
	Version string
	// InFlight bounds the commands, the queries and the operations under way, each
	// by itself; 0 is 1024. Who comes on top is told that the ledger is busy.
	InFlight int
	// Now times requests for the statistics; nil is time.Now.
	Now func() time.Time
	// Logger is told what a person must act on; nil is slog.Default().
	Logger *slog.Logger
}

// Service answers commands and queries on NATS.
type Service struct {
	config  Config
	names   names
	micro   micro.Service
	unknown []*nats.Subscription
	tallies map[string]*tally // by subject

	commands, queries, operations *transport.Gate

	work   context.Context //nolint:containedctx // the life of the service, which requests share
	cancel context.CancelFunc
}

// Serve starts answering on conn as the NATS micro service "stockledger". Ctx
// bounds the start only; Close ends the service.
func Serve(ctx context.Context, config Config) (_ *Service, err error) {
	config.Logger = cmp.Or(config.Logger, slog.Default())
	config.Version = cmp.Or(config.Version, "0.0.0")
	config.InFlight = cmp.Or(config.InFlight, transport.InFlight)
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default of what the caller may set
	}
	s := &Service{
		config:     config,
		tallies:    make(map[string]*tally),
		commands:   transport.NewGate(config.InFlight, transport.InFlightBytes),
		queries:    transport.NewGate(config.InFlight, transport.InFlightBytes),
		operations: transport.NewGate(config.InFlight, transport.InFlightBytes),
	}
	s.work, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.names, err = prefixed(config.Prefix); err != nil {
		return nil, err
	}
	about := make(map[string]string)
	for _, name := range commands.Names() {
		about[name] = "carries out " + name + "; the body is JSON, docs/commands.md has its shape"
		s.tallies[s.names.commands()+name] = new(tally)
	}
	for name := range config.Queries {
		s.tallies[s.names.queries()+name] = new(tally)
	}
	for name := range config.Operations {
		s.tallies[s.names.operations()+name] = new(tally)
	}
	if s.micro, err = micro.AddService(config.Conn, micro.Config{
		Name: "stockledger", Version: config.Version,
		Description:  "An event-sourced inventory ledger",
		Metadata:     map[string]string{"prefix": string(s.names)},
		QueueGroup:   "stockledger",
		StatsHandler: func(e *micro.Endpoint) any { return s.tallies[e.Subject].snapshot() },
		ErrorHandler: func(_ micro.Service, err *micro.NATSError) {
			config.Logger.Error("nats reports an error", "subject", err.Subject, "err", err)
		},
	}); err != nil {
		return nil, fmt.Errorf("serve on NATS: %w", err)
	}
	if err := cmp.Or(s.listen(about), flush(ctx, config.Conn)); err != nil {
		return nil, errors.Join(fmt.Errorf("serve on NATS: %w", err), s.close(ctx))
	}
	return s, nil
}

// flush returns once the server has had everything that was sent to it. NATS
// wants a bound on that.
func flush(ctx context.Context, conn *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	return conn.FlushWithContext(ctx)
}

// listen adds the endpoints.
func (s *Service) listen(about map[string]string) error {
	return cmp.Or(
		s.listenAll(s.names.commands(), about, s.commands, s.command),
		s.listenAll(s.names.queries(), s.config.Queries, s.queries, s.query),
		s.listenAll(s.names.operations(), s.config.Operations, s.operations, s.operate),
		s.listenUnknown(s.names.commands(), about, "command"),
		s.listenUnknown(s.names.queries(), s.config.Queries, "query"),
		s.listenUnknown(s.names.operations(), s.config.Operations, "operation"),
	)
}

// handler answers one request: with a body, or with an error.
type handler func(ctx context.Context, name string, headers nats.Header, body []byte) ([]byte, error)

func (s *Service) listenAll(subject string, about map[string]string, g *transport.Gate, do handler) error {
	for _, name := range slices.Sorted(maps.Keys(about)) {
		t := s.tallies[subject+name]
		err := s.micro.AddEndpoint(name, micro.HandlerFunc(func(req micro.Request) { s.accept(req, name, g, t, do) }),
			micro.WithEndpointSubject(subject+name),
			micro.WithEndpointMetadata(map[string]string{
				"description": about[name],
				"headers":     strings.Join(transport.HeaderNames(), ", "),
			}))
		if err != nil {
			return fmt.Errorf("endpoint %s%s: %w", subject, name, err)
		}
	}
	return nil
}

// listenUnknown refuses the names that are not there, which otherwise would look
// as if the ledger were not. It is no endpoint, because it also hears, and
// leaves alone, what the endpoints hear.
func (s *Service) listenUnknown(subject string, all map[string]string, what string) error {
	sub, err := s.config.Conn.QueueSubscribe(subject+">", "stockledger-unknown", func(m *nats.Msg) {
		name := m.Subject[len(subject):]
		if _, known := all[name]; !known {
			s.refuse(m.Subject, m.Reply, fault.New(fault.NotFound, "unknown_"+what, "there is no %s %q", what, name).With(what, name))
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s>: %w", subject, err)
	}
	s.unknown = append(s.unknown, sub)
	return nil
}

// accept starts answering a request. It does not wait: the requests behind this
// one are for other goroutines.
func (s *Service) accept(req micro.Request, name string, g *transport.Gate, t *tally, do handler) {
	size := len(req.Data())
	if size > MaxBody {
		t.refused.Add(1)
		s.refuse(req.Subject(), req.Reply(), transport.TooLarge(size, MaxBody))
		return
	}
	if err := g.Enter(size); err != nil {
		t.refused.Add(1)
		s.refuse(req.Subject(), req.Reply(), err)
		return
	}
	go func() {
		defer g.Leave(size)
		start := s.config.Now()
		body, err := s.do(do, name, nats.Header(req.Headers()), req.Data())
		t.add(s.config.Now().Sub(start), err)
		if err != nil {
			s.refuse(req.Subject(), req.Reply(), err)
			return
		}
		s.publish(req.Subject(), &nats.Msg{Subject: req.Reply(), Data: body})
	}()
}

// do keeps a bug in the answer to one request from ending all others.
func (s *Service) do(do handler, name string, headers nats.Header, data []byte) (body []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", name, p, debug.Stack())
		}
	}()
	return do(s.work, name, headers, data)
}

func (s *Service) command(ctx context.Context, name string, headers nats.Header, body []byte) ([]byte, error) {
	env, err := transport.Envelope(headers)
	if err != nil {
		return nil, err
	}
	answer, err := s.config.Ledger.DoJSON(ctx, env, name, body)
	if err != nil {
		return nil, err
	}
	return fit(answer, s.config.Conn.MaxPayload())
}

func (s *Service) query(ctx context.Context, name string, headers nats.Header, body []byte) ([]byte, error) {
	result, err := s.config.Ledger.Query(transport.WithTrace(ctx, headers), name, body)
	if err != nil {
		return nil, err
	}
	return s.whole(name, result)
}

func (s *Service) operate(ctx context.Context, name string, _ nats.Header, body []byte) ([]byte, error) {
	result, err := s.config.Operator.Operate(ctx, name, body)
	if err != nil {
		return nil, err
	}
	return s.whole(name, result)
}

// whole is an answer as JSON, if NATS carries all of it.
func (s *Service) whole(name string, result any) ([]byte, error) {
	answer, err := json.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("encode the answer to %s: %w", name, err)
	}
	if limit := s.config.Conn.MaxPayload(); int64(len(answer)) > limit {
		return nil, fault.New(fault.Invalid, "answer_too_large",
			"the answer has %d bytes and this NATS server carries at most %d; ask for fewer rows at once, or raise max_payload of the server",
			len(answer), limit).With("size", len(answer)).With("limit", limit)
	}
	return answer, nil
}

// refuse answers with an error, and tells the operator what only he may know.
func (s *Service) refuse(subject, reply string, err error) {
	if fault.Of(err).Kind == fault.Internal {
		s.config.Logger.Error("a request failed", "subject", subject, "err", err)
	}
	m := refusal(err, s.config.Conn.MaxPayload())
	m.Subject = reply
	s.publish(subject, m)
}

func (s *Service) publish(subject string, m *nats.Msg) {
	if m.Subject == "" {
		return // the publisher did not ask
	}
	if err := s.config.Conn.PublishMsg(m); err != nil {
		s.config.Logger.Error("an answer was not sent", "subject", subject, "err", err)
	}
}

// Close stops taking requests and returns once those under way are answered.
// Requests that still arrive are refused as closing. The connection stays open.
func (s *Service) Close() error { return s.close(context.Background()) }

func (s *Service) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	defer s.cancel()
	// The listeners for unknown names go first: left alone with a known name they
	// would keep its sender waiting for an answer that nobody gives.
	var errs []error
	for _, sub := range s.unknown {
		errs = append(errs, sub.Drain())
	}
	errs = append(errs, s.micro.Stop())
	// Afterwards everything the server has sent us is here.
	errs = append(errs, flush(ctx, s.config.Conn))
	for _, g := range []*transport.Gate{s.commands, s.queries, s.operations} {
		if g.Close(ctx) != nil {
			errs = append(errs, fmt.Errorf("close: requests were still under way after %s", grace))
		}
	}
	return errors.Join(append(errs, flush(ctx, s.config.Conn))...)
}

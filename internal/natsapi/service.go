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
	// May is asked whether this node may carry out commands and operations, such
	// as lease.Lease.Held; nil is that it always may. What comes while it must not
	// is not answered: the node that may hears it, too, or the sender sends it
	// again.
	May func() error
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

// Service answers commands, queries and operations on NATS, or some of these.
type Service struct {
	config  Config
	names   names
	micro   micro.Service
	served  []*endpoints
	any     []*nats.Subscription // to requests of any name
	crew    *crew
	copies  *copies
	tallies map[string]*tally // by subject

	work   context.Context //nolint:containedctx // the life of the service, which requests share
	cancel context.CancelFunc
}

// endpoints are those of one kind, such as the queries.
type endpoints struct {
	what    string            // query
	subject string            // inventory.query.
	about   map[string]string // by name
	do      handler
	recall  handler // do for what is in memory, or fails with errElsewhere; nil where nothing is
	gate    *transport.Gate
	leading bool // served by the leading node alone
}

// A request is what an endpoint is to answer.
type request struct {
	subject, reply string
	header         nats.Header
	body           []byte
}

// Serve starts answering on conn as the NATS micro service "stockledger": all that
// a ledger alone answers. Ctx bounds the start only; Close ends the service.
func Serve(ctx context.Context, config Config) (*Service, error) {
	return serve(ctx, config, (*Service).forLeader, (*Service).forAll)
}

// ServeQueries is Serve for the queries alone, which every node of a ledger
// answers, each its part of them.
func ServeQueries(ctx context.Context, config Config) (*Service, error) {
	return serve(ctx, config, (*Service).forAll)
}

// ServeCommands is Serve for the commands and the operations alone, for as long as
// this node leads. Each request reaches every node that believes so: were it given
// to one of them, as a query is, one that is stopped, and has not yet found out that
// it leads no more, would get some of them and keep them.
func ServeCommands(ctx context.Context, config Config) (*Service, error) {
	return serve(ctx, config, (*Service).forLeader)
}

// forLeader are the endpoints of the node that leads.
func (s *Service) forLeader() []*endpoints {
	about := make(map[string]string)
	for _, name := range commands.Names() {
		about[name] = "carries out " + name + "; the body is JSON, docs/commands.md has its shape"
	}
	return []*endpoints{
		{what: "command", subject: s.names.commands(), about: about, do: s.command, leading: true},
		{what: "operation", subject: s.names.operations(), about: s.config.Operations, do: s.operate, leading: true},
	}
}

// forAll are the endpoints of every node.
func (s *Service) forAll() []*endpoints {
	queries := &endpoints{what: "query", subject: s.names.queries(), about: s.config.Queries, do: s.query}
	if _, recalls := s.config.Ledger.(transport.Recaller); recalls {
		queries.recall = s.recall
	}
	return []*endpoints{queries}
}

func serve(ctx context.Context, config Config, parts ...func(*Service) []*endpoints) (_ *Service, err error) {
	config.Logger = cmp.Or(config.Logger, slog.Default())
	config.Version = cmp.Or(config.Version, "0.0.0")
	config.InFlight = cmp.Or(config.InFlight, transport.InFlight)
	if config.Now == nil {
		config.Now = time.Now //nolint:forbidigo // the default of what the caller may set
	}
	if config.May == nil {
		config.May = func() error { return nil }
	}
	s := &Service{config: config, crew: newCrew(), copies: newCopies(), tallies: make(map[string]*tally)}
	s.work, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.names, err = prefixed(config.Prefix); err != nil {
		return nil, err
	}
	for _, part := range parts {
		s.served = append(s.served, part(s)...)
	}
	for _, e := range s.served {
		e.gate = transport.NewGate(config.InFlight, transport.InFlightBytes)
		for name := range e.about {
			s.tallies[e.subject+name] = new(tally)
		}
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
	if err := cmp.Or(s.listen(), flush(ctx, config.Conn)); err != nil {
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

// listen adds the endpoints, and the listeners for other names.
func (s *Service) listen() error {
	for _, e := range s.served {
		if err := s.listenAll(e); err != nil {
			return err
		}
		if err := s.listenAny(e); err != nil {
			return err
		}
	}
	return nil
}

// handler answers one request: with a body, or with an error.
type handler func(ctx context.Context, name string, headers nats.Header, body []byte) ([]byte, error)

func (s *Service) listenAll(e *endpoints) error {
	for _, name := range slices.Sorted(maps.Keys(e.about)) {
		t := s.tallies[e.subject+name]
		err := s.micro.AddEndpoint(name,
			micro.HandlerFunc(func(req micro.Request) {
				s.accept(e, request{req.Subject(), req.Reply(), nats.Header(req.Headers()), req.Data()}, name, t)
			}),
			micro.WithEndpointSubject(e.subject+name),
			micro.WithEndpointQueueGroup(s.group(e)),
			micro.WithEndpointMetadata(map[string]string{
				"description": e.about[name],
				"headers":     strings.Join(transport.HeaderNames(), ", "),
			}))
		if err != nil {
			return fmt.Errorf("endpoint %s%s: %w", e.subject, name, err)
		}
	}
	return nil
}

// group is the queue group of endpoints, of which NATS gives a request to one: one
// of all nodes, or, as each node that believes to lead has to hear of it, one of
// this node.
func (s *Service) group(e *endpoints) string {
	if e.leading {
		return "stockledger-" + s.micro.Info().ID
	}
	return "stockledger"
}

// listenAny refuses the names that are not there, which otherwise would look as if
// the ledger were not. It is in the group of the endpoints, or each request would
// be delivered twice. So it also gets some of theirs, and answers those; NATS micro
// does not count them, but our tallies do.
func (s *Service) listenAny(e *endpoints) error {
	sub, err := s.config.Conn.QueueSubscribe(e.subject+">", s.group(e), func(m *nats.Msg) {
		name := m.Subject[len(e.subject):]
		if _, known := e.about[name]; known {
			s.accept(e, request{m.Subject, m.Reply, m.Header, m.Data}, name, s.tallies[m.Subject])
		} else if !s.mustNot(e) {
			s.refuse(m.Subject, m.Reply, fault.New(fault.NotFound, "unknown_"+e.what, "there is no %s %q", e.what, name).With(e.what, name))
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s>: %w", e.subject, err)
	}
	s.any = append(s.any, sub)
	return nil
}

// mustNot reports whether a request is for another node.
func (s *Service) mustNot(e *endpoints) bool { return e.leading && s.config.May() != nil }

// accept answers a request whose answer is in memory, and starts answering any
// other. It does not wait: the requests behind this one are for other goroutines.
func (s *Service) accept(e *endpoints, req request, name string, t *tally) {
	if s.mustNot(e) { // a node that was stopped finds many that others have long answered
		t.left.Add(1)
		return
	}
	size := len(req.body)
	if size > MaxBody {
		t.refused.Add(1)
		s.refuse(req.subject, req.reply, transport.TooLarge(size, MaxBody))
		return
	}
	if err := e.gate.Enter(size); err != nil {
		t.refused.Add(1)
		s.refuse(req.subject, req.reply, err)
		return
	}
	if e.recall != nil && s.answer(e.recall, req, name, t) {
		e.gate.Leave(size)
		return
	}
	s.crew.do(func() {
		defer e.gate.Leave(size)
		s.answer(e.do, req, name, t)
	})
}

// errElsewhere is that an answer is not in memory.
var errElsewhere = errors.New("the answer is not in memory")

// answer answers a request, unless that is to be done elsewhere: by another node,
// or not from memory.
func (s *Service) answer(do handler, req request, name string, t *tally) (answered bool) {
	start := s.config.Now()
	body, err := s.do(do, name, req.header, req.body)
	switch {
	case err == errElsewhere: //nolint:errorlint // nobody wraps it, and this is once for each request
		return false
	case fault.Code(err) == standby:
		t.left.Add(1)
		return false
	}
	t.add(s.config.Now().Sub(start), err)
	if err != nil {
		s.refuse(req.subject, req.reply, err)
	} else {
		s.publish(req.subject, &nats.Msg{Subject: req.reply, Data: body})
	}
	return true
}

// standby is the code of the answer of a node that does not lead. It is never sent
// over NATS, where the node that leads answers, or nobody does and the sender
// sends it again.
const standby = "standby"

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
	request, err := requestIn(name, env, headers, body)
	if err != nil {
		return nil, err
	}
	return s.copies.answer(request, func() ([]byte, error) { return s.carryOut(ctx, env, name, body) })
}

func (s *Service) carryOut(ctx context.Context, env commands.Envelope, name string, body []byte) ([]byte, error) {
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

// recall is query for an answer that is in memory.
func (s *Service) recall(_ context.Context, name string, _ nats.Header, body []byte) ([]byte, error) {
	answer, found := s.config.Ledger.(transport.Recaller).Recall(name, body)
	if !found {
		return nil, errElsewhere
	}
	return s.whole(name, answer)
}

func (s *Service) operate(ctx context.Context, name string, headers nats.Header, body []byte) ([]byte, error) {
	if err := transport.NotDry(headers); err != nil {
		return nil, err
	}
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
	var errs []error
	for _, sub := range s.any {
		errs = append(errs, sub.Drain())
	}
	errs = append(errs, s.micro.Stop())
	// Afterwards everything the server has sent us is here.
	errs = append(errs, flush(ctx, s.config.Conn))
	for _, e := range s.served {
		if e.gate.Close(ctx) != nil {
			errs = append(errs, fmt.Errorf("close: requests were still under way after %s", grace))
		}
	}
	s.crew.dismiss()
	return errors.Join(append(errs, flush(ctx, s.config.Conn))...)
}

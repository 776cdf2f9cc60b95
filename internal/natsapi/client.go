package natsapi

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

// defaultPatience is how long a client waits when its context does not say.
const defaultPatience = 30 * time.Second

// Client talks to a ledger on NATS. Its methods may be called from many
// goroutines at once, and share one connection. Their errors are *fault.Error:
// the ledger's refusals as they were made, and fault.Unavailable when nobody
// answers.
type Client struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	names    names
	url      string // redacted
	patience time.Duration
	absence  time.Duration // of every ledger
	own      bool          // the connection
	nats     []nats.Option
}

// An Option changes a Client.
type Option func(*Client) error

// WithPrefix talks to the ledger with another prefix than DefaultPrefix.
func WithPrefix(prefix string) Option {
	return func(c *Client) (err error) {
		c.names, err = prefixed(prefix)
		return err
	}
}

// WithPatience is how long requests wait when their context does not say; 30 s
// unless it is given.
func WithPatience(d time.Duration) Option {
	return func(c *Client) error {
		c.patience = d
		return nil
	}
}

// WithAbsence is how long a request is sent again when no ledger listens at all,
// such as while another node takes over; 0 is not once. Unless it is given, that is
// as long as the request may wait.
func WithAbsence(d time.Duration) Option {
	return func(c *Client) error {
		c.absence = d
		return nil
	}
}

// WithNATS passes options to NATS when dialling, such as nats.Token.
func WithNATS(options ...nats.Option) Option {
	return func(c *Client) error {
		c.nats = append(c.nats, options...)
		return nil
	}
}

// Dial connects to the NATS server at url, which may be a list with commas.
func Dial(url string, options ...Option) (*Client, error) {
	c, err := newClient(url, options)
	if err != nil {
		return nil, err
	}
	if err := CheckURL(url); err != nil {
		return nil, err
	}
	all := append([]nats.Option{nats.Name("stockledger client"), nats.MaxReconnects(-1)}, c.nats...)
	if c.conn, err = Connect(url, all...); err != nil {
		if fault.Code(err) == "unauthorized" {
			return nil, err
		}
		return nil, c.nobody(err)
	}
	c.own = true
	return c.ready()
}

// NewClient talks over a connection that stays the caller's.
func NewClient(conn *nats.Conn, options ...Option) (*Client, error) {
	c, err := newClient(conn.ConnectedUrlRedacted(), options)
	if err != nil {
		return nil, err
	}
	c.conn = conn
	return c.ready()
}

func newClient(url string, options []Option) (*Client, error) {
	c := &Client{names: DefaultPrefix, url: Redacted(url), patience: defaultPatience, absence: math.MaxInt64}
	for _, option := range options {
		if err := option(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Client) ready() (_ *Client, err error) {
	c.js, err = jetstream.New(c.conn)
	return c, err
}

// Close ends the connection, if the client made it.
func (c *Client) Close() {
	if c.own {
		c.conn.Close()
	}
}

// Command has a command carried out and waits for the answer. A command with a key
// is sent until it is answered: when no node of the ledger leads for the moment,
// and when the one that had it died, too. It has one effect all the same. A command
// without a key is sent again only while nobody is there to hear it, or who is there
// is too busy to. When the ledger had to leave the result out because NATS would not carry it, Result is the
// object {"result_omitted": "why, and what to do"}.
func (c *Client) Command(ctx context.Context, name string, env commands.Envelope, body []byte) (commands.Answer, error) {
	if err := transport.Carries(env.Key); err != nil {
		return commands.Answer{}, err
	}
	header := nats.Header(transport.Headers(env))
	if env.Key != "" {
		header.Set(headerRequest, nuid.Next()) // of all its copies
	}
	m, err := c.insist(ctx, errand{
		Msg:   &nats.Msg{Subject: c.names.commands() + name, Header: header, Data: body},
		again: env.Key != "", command: true,
	})
	if err != nil {
		return commands.Answer{}, unknownOutcome(err, env.Key)
	}
	reply, err := answered(m, name)
	if err != nil {
		return commands.Answer{}, err
	}
	answer, err := answerIn(reply)
	if err != nil {
		return commands.Answer{}, strange(name, err)
	}
	return answer.plain(), nil
}

func (a Answer) plain() commands.Answer {
	if a.ResultOmitted != "" {
		a.Result, _ = json.Marshal(map[string]string{"result_omitted": a.ResultOmitted})
	}
	return a.Answer
}

// Query asks a query, until it is answered. Body may be nil.
func (c *Client) Query(ctx context.Context, name string, body []byte) (json.RawMessage, error) {
	m, err := c.insist(ctx, errand{Msg: &nats.Msg{Subject: c.names.queries() + name, Data: body}, again: true})
	if err != nil {
		return nil, err
	}
	return answered(m, name)
}

// Operate has an operation carried out. It is sent again only while nobody is there
// to hear it, or who is there is too busy to. Body may be nil.
func (c *Client) Operate(ctx context.Context, name string, body []byte) (json.RawMessage, error) {
	m, err := c.insist(ctx, errand{Msg: &nats.Msg{Subject: c.names.operations() + name, Data: body}})
	if err != nil {
		return nil, err
	}
	return answered(m, name)
}

// Receipt says that a submission is stored, and where.
type Receipt struct {
	Key       string `json:"key"` // what Result is asked with
	Stream    string `json:"stream"`
	Sequence  uint64 `json:"sequence"`
	Duplicate bool   `json:"duplicate"` // it was stored before
}

// Submit stores a command that is carried out later, even if no ledger runs now,
// and makes a key for it if it has none. Result tells what became of it. As it has
// a key, it is sent until NATS has stored it; stored twice, it has one effect.
func (c *Client) Submit(ctx context.Context, name string, env commands.Envelope, body []byte) (Receipt, error) {
	if env.Key == "" {
		env.Key = "cmd_" + uuid.Must(uuid.NewV7()).String()
	}
	if err := transport.Carries(env.Key); err != nil {
		return Receipt{}, err
	}
	ack, err := c.store(ctx, &nats.Msg{Subject: c.names.submit() + name, Header: transport.Headers(env), Data: body})
	if err != nil {
		return Receipt{}, unknownOutcome(err, env.Key)
	}
	return Receipt{env.Key, ack.Stream, ack.Sequence, ack.Duplicate}, nil
}

// Result is what became of a submission. While it waits, and for a key that was
// never submitted, the error is not_found.
func (c *Client) Result(ctx context.Context, key string) (Outcome, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	stream, err := c.js.Stream(ctx, c.names.resultStream())
	if err != nil {
		return Outcome{}, c.failed(err, 0)
	}
	m, err := stream.GetLastMsgForSubject(ctx, c.names.result(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return c.archived(ctx, key)
	}
	if err != nil {
		return Outcome{}, c.failed(err, 0)
	}
	return outcomeIn(m.Data)
}

// archived asks the read models for an outcome that is no longer kept.
func (c *Client) archived(ctx context.Context, key string) (Outcome, error) {
	ask, err := json.Marshal(map[string]string{"command_id": key})
	if err != nil {
		return Outcome{}, err
	}
	reply, err := c.Query(ctx, "retrieve-command", ask)
	if err == nil {
		var found struct {
			Position uint64          `json:"position"`
			Answer   json.RawMessage `json:"answer"`
		}
		if err := json.Unmarshal(reply, &found); err != nil {
			return Outcome{}, strange("retrieve-command", err)
		}
		return Outcome{CommandID: key, Status: Committed, Answer: &Answer{Answer: commands.Answer{
			CommandID: key, Position: found.Position, Replayed: true, Result: found.Answer,
		}}}, nil
	}
	if kind := fault.Of(err).Kind; kind == fault.Unavailable || kind == fault.Internal {
		return Outcome{}, err
	}
	return Outcome{}, fault.New(fault.NotFound, "not_found",
		"no outcome of %s is known: it waits to be carried out, or was refused long ago, or never submitted", key).With("command_id", key)
}

// WaitResult is Result once there is one.
func (c *Client) WaitResult(ctx context.Context, key string) (Outcome, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	consumer, err := c.js.OrderedConsumer(ctx, c.names.resultStream(), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{c.names.result(key)}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return Outcome{}, c.failed(err, 0)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return Outcome{}, c.failed(err, 0)
	}
	defer messages.Stop()
	m, err := messages.Next(jetstream.NextContext(ctx))
	if errors.Is(err, context.DeadlineExceeded) {
		return c.Result(context.WithoutCancel(ctx), key)
	}
	if err != nil {
		return Outcome{}, c.failed(err, 0)
	}
	return outcomeIn(m.Data())
}

func outcomeIn(body []byte) (o Outcome, err error) {
	if err := json.Unmarshal(body, &o); err != nil {
		return Outcome{}, strange("a submission", err)
	}
	return o, nil
}

// answered is the body of an answer, or the refusal.
func answered(m *nats.Msg, name string) ([]byte, error) {
	if m.Header.Get(micro.ErrorCodeHeader) == "" {
		return m.Data, nil
	}
	var refused fault.Answer
	if err := json.Unmarshal(m.Data, &refused); err != nil || refused.Code == "" {
		return nil, strange(name, errors.New(m.Header.Get(micro.ErrorHeader)))
	}
	return nil, refused.Error()
}

func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, limited := ctx.Deadline(); limited {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.patience)
}

// failed says what it means that NATS did not carry a request of so many bytes,
// or no answer to it, and what to do.
func (c *Client) failed(err error, size int) error {
	switch {
	case errors.Is(err, nats.ErrMaxPayload), isTooLarge(err):
		return fault.New(fault.Invalid, "body_too_large",
			"the body has %d bytes, more than %s takes (%v); send several smaller ones", size, c.url, err).With("size", size)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, jetstream.ErrStreamNotFound),
		errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return c.nobody(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fault.New(fault.Unavailable, "timeout", "no answer from the ledger at %s in time (%v)", c.url, err)
	case errors.As(err, new(*jetstream.APIError)):
		return fault.New(fault.Unavailable, "unavailable", "JetStream at %s refuses (%v); nothing was changed", c.url, err)
	}
	return fault.New(fault.Unavailable, "disconnected", "the connection to %s fails (%v)", c.url, err)
}

func isTooLarge(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refused.ErrorCode == codeMessageTooLarge
}

// codeMessageTooLarge is JetStream's refusal of a message above max_msg_size.
const codeMessageTooLarge = 10054

func (c *Client) nobody(err error) error {
	nobody := fault.New(fault.Unavailable, "no_ledger",
		"no ledger answers at %s (%v); start one with `stockledger serve`, or say where it is with --server or STOCKLEDGER_SERVER", c.url, err).
		With("server", c.url)
	if c.names != DefaultPrefix {
		nobody = nobody.With("prefix", string(c.names)) // there may be one under another
	}
	return nobody
}

// unknownOutcome turns a missing answer to a command into what it means: it may
// have been carried out.
func unknownOutcome(err error, key string) error {
	e := fault.Of(err)
	switch {
	case e.Code != "timeout" && e.Code != "disconnected":
		return err
	case key == "":
		return fault.New(fault.Unavailable, "outcome_unknown",
			"%s. The command may or may not be carried out; had it an idempotency key, it could be sent again safely", e.Message)
	}
	return fault.New(fault.Unavailable, "outcome_unknown",
		"%s. The command may or may not be carried out: send it again with the same key, %s, to find out", e.Message, key).
		With("command_id", key)
}

func strange(what string, err error) error {
	return fault.New(fault.Internal, "internal", "the answer to %s is not what a ledger answers: %v", what, err)
}

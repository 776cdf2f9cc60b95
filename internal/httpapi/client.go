package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

const (
	// defaultPatience is how long a client waits when its context does not say.
	defaultPatience = 30 * time.Second
	// dialWithin is how long connecting may take.
	dialWithin = 5 * time.Second
	// connections to one ledger that a client keeps open.
	connections = 64
	// maxAnswer bounds what a client reads of an answer, in bytes.
	maxAnswer = 256 << 20
)

// Client talks to a ledger on HTTP. Its methods may be called from many
// goroutines at once. Their errors are *fault.Error: the ledger's refusals as
// they were made, and fault.Unavailable when nobody answers.
type Client struct {
	at       *url.URL
	token    string
	patience time.Duration
	http     *http.Client
}

// An Option changes a Client.
type Option func(*Client)

// WithPatience is how long requests wait when their context does not say; 30 s
// unless it is given.
func WithPatience(d time.Duration) Option { return func(c *Client) { c.patience = d } }

// Dial makes a client of the ledger at a URL. The token may be in the URL
// instead, before the host. It connects with the first request.
func Dial(serverURL, token string, options ...Option) (*Client, error) {
	at, inURL, err := parseURL(serverURL)
	if err != nil {
		return nil, err
	}
	pool := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialWithin}).DialContext,
		TLSHandshakeTimeout: dialWithin,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     idleTimeout / 2, // before the server's end does
	}
	c := &Client{at: at, token: cmp.Or(inURL, token), patience: defaultPatience, http: &http.Client{
		Transport: pool,
		// A token is for one server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, option := range options {
		option(c)
	}
	return c, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Command has a command carried out and waits for the answer.
func (c *Client) Command(ctx context.Context, name string, env commands.Envelope, body []byte) (answer commands.Answer, err error) {
	if err := transport.Carries(env.Key); err != nil {
		return answer, err
	}
	reply, err := c.exchange(ctx, commandPath+url.PathEscape(name), transport.Headers(env), body)
	if err != nil {
		return answer, unknownOutcome(err, env.Key)
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return answer, strange(name, err)
	}
	return answer, nil
}

// Query asks a query. Body may be nil.
func (c *Client) Query(ctx context.Context, name string, body []byte) (json.RawMessage, error) {
	return c.exchange(ctx, queryPath+url.PathEscape(name), nil, body)
}

// Operate carries out an operation. Body may be nil.
func (c *Client) Operate(ctx context.Context, name string, body []byte) (json.RawMessage, error) {
	return c.exchange(ctx, operationPath+url.PathEscape(name), nil, body)
}

// exchange posts a request and returns the body of the answer, or the refusal.
func (c *Client) exchange(ctx context.Context, path string, headers http.Header, body []byte) ([]byte, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	r, err := c.request(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for name, values := range headers {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	reply, err := c.http.Do(r)
	if err != nil {
		return nil, c.failed(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxAnswer))
	if err != nil {
		return nil, c.failed(err)
	}
	if reply.StatusCode != http.StatusOK {
		return nil, c.refusal(reply.StatusCode, text)
	}
	return text, nil
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.at.JoinPath(path).String(), body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.at, err)
	}
	r.Header.Set("User-Agent", "stockledger")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	return r, nil
}

// refusal is the error that an answer says.
func (c *Client) refusal(status int, body []byte) error {
	var refused fault.Answer
	if json.Unmarshal(body, &refused) == nil && refused.Code != "" {
		e := refused.Error()
		if e.Code == "unauthorized" {
			return e.With("server", c.at.String())
		}
		return e
	}
	if status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout {
		return fault.New(fault.Unavailable, "disconnected", "something between here and the ledger at %s answered with status %d", c.at, status)
	}
	return strange(c.at.String(), fmt.Errorf("status %d", status))
}

func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, limited := ctx.Deadline(); limited {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.patience)
}

// failed says what it means that no answer came, and what to do.
func (c *Client) failed(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // the URL is in our words already
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return fault.New(fault.Unavailable, "no_ledger",
			"no ledger answers at %s (%v); start one with `stockledger serve`, or say where it is with --server or STOCKLEDGER_SERVER", c.at, err).
			With("server", c.at.String())
	}
	timeout, ok := errors.AsType[net.Error](err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return fault.New(fault.Unavailable, "timeout", "no answer from the ledger at %s in time (%v)", c.at, err)
	}
	return fault.New(fault.Unavailable, "disconnected", "the connection to %s fails (%v)", c.at, err)
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
	return fault.New(fault.Internal, "internal", "the answer of %s is not what a ledger answers: %v", what, err)
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
)

// A ledger is what a subcommand needs of the one that runs somewhere.
type ledger interface {
	Command(ctx context.Context, name string, env commands.Envelope, body []byte) (commands.Answer, error)
	Query(ctx context.Context, name string, body []byte) (json.RawMessage, error)
}

// reach is how to reach a ledger.
type reach struct {
	Server  string        `setting:"STOCKLEDGER_SERVER" default:"nats://127.0.0.1:4222" placeholder:"URL" help:"Where the ledger answers: nats://HOST:PORT, http://HOST:PORT or https://HOST."`
	Token   string        `setting:"STOCKLEDGER_TOKEN" placeholder:"TOKEN" help:"Bearer token for HTTP, unless the URL has one: http://TOKEN@HOST:PORT. Others can see the command line; the variable is better."`
	Prefix  string        `setting:"STOCKLEDGER_PREFIX" default:"inventory" help:"Prefix of the ledger's subjects on NATS."`
	Timeout time.Duration `default:"10s" help:"How long to wait for an answer."`
}

// A client is a connection to a ledger. A request on it waits for --timeout at
// most.
type client interface {
	ledger
	Operate(ctx context.Context, name string, body []byte) (json.RawMessage, error)
	Close()
}

// onNATS is what the URLs of NATS servers begin with; a port shows that nothing
// was left out but that.
var onNATS = regexp.MustCompile(`(?i)^((nats|tls|wss?)://|[^/]*:\d+(,|$))`)

// dial connects to the ledger. The caller closes the connection.
func (r reach) dial() (client, error) {
	if httpapi.IsURL(r.Server) {
		return httpapi.Dial(r.Server, r.Token, httpapi.WithPatience(r.Timeout))
	}
	if !onNATS.MatchString(r.Server) {
		return nil, fmt.Errorf("--server %s: write nats://HOST:PORT, or http://HOST:PORT or https://HOST", natsapi.Redacted(r.Server))
	}
	return natsapi.Dial(r.Server, natsapi.WithPrefix(r.Prefix), natsapi.WithPatience(r.Timeout), natsapi.WithNATS(
		nats.Timeout(min(r.Timeout, 5*time.Second)), nats.ReconnectWait(250*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))) // requests tell what became of them
}

// ask asks a query and reads the answer.
func ask[T any](ctx context.Context, l ledger, name string, params any) (answer T, err error) {
	body := []byte("{}")
	if params != nil {
		if body, err = json.Marshal(params); err != nil {
			return answer, fmt.Errorf("ask %s: %w", name, err)
		}
	}
	document, err := l.Query(ctx, name, body)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(document, &answer); err != nil {
		return answer, fmt.Errorf("answer to %s: %w", name, err)
	}
	return answer, nil
}

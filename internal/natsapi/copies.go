package natsapi

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// headerRequest names a request that may come more than once, because its sender
// sends it until it is answered. It is another one each time somebody asks for a
// command, even with the same idempotency key.
const headerRequest = "Request-Id"

// maxRequest is how many bytes it may have, as an idempotency key.
const maxRequest = 255

// keptRefusals is how many refused requests are remembered: a few megabytes, and
// minutes of refusals at a rate that no shop has for long.
const keptRefusals = 1 << 14

// copies gives all copies of a request one answer. A copy may be held up on the
// way, by a server that was stopped, until after another was answered. Was it
// accepted, then its key tells; was it refused, nobody would know any more, and a
// copy that comes when there is stock again would be carried out although its
// sender was told that nothing happened.
//
// What is remembered is this node's, and in memory: copies that reach two nodes, the
// second after it took over, may still be answered differently.
type copies struct {
	mu      sync.Mutex
	of      map[string]*onceAnswered // by the name of the request
	refused []string                 // those that are remembered, oldest first
	most    int                      // keptRefusals
}

// onceAnswered is a request that is being answered, or was refused.
type onceAnswered struct {
	done  chan struct{} // closed when it is answered
	reply []byte
	err   error
}

// requestIn is what the copies of a request to carry out the command name share, ""
// if the request comes once. What is to be done is a part of it, so that a sender who
// gives all his requests one name, such as that of the page they are for, gets the
// answers to his own commands all the same.
func requestIn(name string, env commands.Envelope, headers nats.Header, body []byte) (string, error) {
	id := ""
	for header, values := range headers {
		if strings.EqualFold(header, headerRequest) && len(values) > 0 {
			id = values[0]
		}
	}
	switch {
	case id == "":
		return "", nil
	case len(id) > maxRequest:
		return "", fault.New(fault.Invalid, "invalid_header", "the header %s has %d bytes, send at most %d", headerRequest, len(id), maxRequest).
			With("field", headerRequest).With("header", headerRequest)
	}
	digest := sha256.Sum256(body)
	return strings.Join([]string{name, env.Key, strconv.FormatBool(env.DryRun), id, string(digest[:])}, "\x00"), nil
}

func newCopies() *copies { return &copies{of: make(map[string]*onceAnswered), most: keptRefusals} }

// answer has a request carried out, unless another copy of it is, or was refused.
// Request is "" for one that comes once.
func (c *copies) answer(request string, carryOut func() ([]byte, error)) ([]byte, error) {
	if request == "" {
		return carryOut()
	}
	c.mu.Lock()
	first, known := c.of[request]
	if !known {
		first = &onceAnswered{done: make(chan struct{}), err: errCarry}
		c.of[request] = first
	}
	c.mu.Unlock()
	if known {
		<-first.done
		return first.reply, first.err
	}
	defer c.settle(request, first) // even after a panic
	first.reply, first.err = carryOut()
	return first.reply, first.err
}

// errCarry is what the copies of a request are told whose first one panicked.
var errCarry = fault.New(fault.Internal, "internal", "something is broken in the ledger; its operator finds the cause in its log")

// settle lets the copies go, and remembers the request if it was refused for good.
func (c *copies) settle(request string, answered *onceAnswered) {
	close(answered.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch kind := fault.Of(answered.err).Kind; {
	case answered.err == nil, kind == fault.Unavailable, kind == fault.Internal:
		delete(c.of, request)
		return
	}
	c.refused = append(c.refused, request)
	if len(c.refused) > c.most {
		delete(c.of, c.refused[0])
		c.refused = c.refused[1:]
	}
}

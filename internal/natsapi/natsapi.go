// Package natsapi is the ledger on NATS. It decides nothing: all it does is carry.
//
//	inventory.cmd.<command>      request/reply; answered once the command is durable
//	inventory.query.<query>      request/reply
//	inventory.op.<operation>     request/reply
//	inventory.submit.<command>   durable submission through JetStream
//	inventory.result.<key>       the outcome of a submission
//	inventory.dead.<command>     submissions that could not be carried out, as they came
//	inventory.events.<stream>    every event of the log, in its order
//
// "inventory" is the prefix, one per ledger. Serve answers requests,
// ServeSubmissions takes submissions, ServeFeed publishes the events; each works
// alone. StartServer embeds a NATS server. Client is the other end of all of it.
package natsapi

import (
	"fmt"
	"regexp"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/transport"
)

// Ledger is what is carried to; *stockledger.Ledger is one.
type Ledger = transport.Ledger

// Event is one event of the feed, and Level the quantities of a level in it.
type (
	Event = transport.Event
	Level = transport.Level
)

// DefaultPrefix begins every subject unless another is configured.
const DefaultPrefix = "inventory"

// MaxBody is how many bytes the body of a command or a query may have: room for
// 20,000 short lines, and within what any NATS server can be told to carry.
const MaxBody = 1<<20 + 1<<19

// maxKey is how many bytes an idempotency key may have; the engine has the same bound.
const maxKey = 255

// names are the subjects and streams of one ledger, made from its prefix.
type names string

var validPrefix = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// prefixed checks a prefix, "" being the default one.
func prefixed(prefix string) (names, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	if !validPrefix.MatchString(prefix) {
		return "", fmt.Errorf("prefix %q: use letters, digits, hyphen and underscore, in parts divided by dots, such as %q",
			prefix, DefaultPrefix)
	}
	return names(prefix), nil
}

// CheckPrefix says what is wrong with a prefix.
func CheckPrefix(prefix string) error {
	_, err := prefixed(prefix)
	return err
}

// The subjects, each but result with its dot and without what follows it.
func (n names) commands() string         { return string(n) + ".cmd." }
func (n names) queries() string          { return string(n) + ".query." }
func (n names) operations() string       { return string(n) + ".op." }
func (n names) submit() string           { return string(n) + ".submit." }
func (n names) dead() string             { return string(n) + ".dead." }
func (n names) events() string           { return string(n) + ".events." }
func (n names) results() string          { return string(n) + ".result." }
func (n names) result(key string) string { return n.results() + events.Escape(key) }

// stream is the name of a JetStream stream, such as STOCKLEDGER_inventory_SUBMIT.
func (n names) stream(what string) string {
	return "STOCKLEDGER_" + events.Escape(string(n)) + "_" + what
}

func (n names) submitStream() string { return n.stream("SUBMIT") }
func (n names) resultStream() string { return n.stream("RESULT") }
func (n names) deadStream() string   { return n.stream("DEAD") }
func (n names) eventStream() string  { return n.stream("EVENTS") }

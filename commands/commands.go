// Package commands is what publishers may ask of the ledger, and the engine that
// carries it out.
//
// A command is decoded and checked on its own, the aggregates it touches are
// fetched, and then one goroutine decides it against their state, after every
// command before it and before every command after it. What it decided is
// recorded in one commit, together with the commits that wait beside it, and
// the publisher is answered once that is durable. Engine.Do tells the story.
package commands

import (
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/internal/fault"
)

// Envelope is what travels with a command besides its body. The zero Envelope
// is valid.
type Envelope struct {
	// Key is the idempotency key. A command sent again with the same key and
	// the same body has no second effect, ever, and gets the same answer;
	// with another body it is refused with idempotency_key_reused. Without a
	// key the ledger makes one, which the answer names.
	Key string
	// Actor, Reason, Reference, Correlation and Causation are recorded with
	// every event; see events.Meta. Trace is a W3C traceparent.
	Actor, Reason, Reference, Correlation, Causation, Trace string
	// Effective is when it happened in the world, if that was before now. Whole
	// microseconds of it are recorded.
	Effective time.Time
	// DryRun decides without recording: same answer, same refusal, no effect.
	DryRun bool
}

// Answer is what the publisher of an accepted command gets.
type Answer struct {
	CommandID string `json:"command_id"` // the idempotency key
	// Position is that of the commit's last event. It is 0 for a dry run, and
	// for a command without a key of its own that changed nothing.
	Position uint64          `json:"position"`
	Replayed bool            `json:"replayed"` // the command had been carried out before
	DryRun   bool            `json:"dry_run"`
	Result   json.RawMessage `json:"result"` // also kept for retries, so not to be changed
}

// Command is one of the commands of this package.
type Command interface {
	// Name is the command's name on every transport.
	Name() string
	// check finds what is wrong with the command whatever the state.
	check() error
	// prefetch names what the decision will read.
	prefetch(ctx context.Context, p *prefetch) error
	// decide makes the decision and returns the result. It does no I/O.
	decide(d *decision) (any, error)
}

// MaxLines is how many lines a command may have, so that one commit stays
// within what every store and reader can hold in memory.
const MaxLines = 20_000

// The bounds on texts, in bytes.
const (
	maxID       = 255
	maxText     = 16 << 10
	maxMetadata = domain.MaxMetadata
)

// maxNesting is how deep metadata may be nested: every reader of JSON takes that, also
// where it stands inside an answer.
const maxNesting = 64

func (env Envelope) check() error {
	for _, f := range []struct{ name, value string }{
		{"Idempotency-Key", env.Key},
		{"Ledger-Actor", env.Actor},
		{"Ledger-Reason", env.Reason},
		{"Ledger-Reference", env.Reference},
		{"Ledger-Correlation-Id", env.Correlation},
		{"Ledger-Causation-Id", env.Causation},
		{"traceparent", env.Trace},
	} {
		if err := textWithin(f.name, f.value, maxID*4); err != nil {
			return err
		}
	}
	if !env.Effective.IsZero() && (env.Effective.UTC().Year() < 1 || env.Effective.UTC().Year() > 9999) {
		return fault.New(fault.Invalid, "invalid_value", "effective time %v is not in the years 1 to 9999", env.Effective).
			With("field", "Ledger-Effective-At")
	}
	if strings.TrimSpace(env.Key) != env.Key || strings.ContainsFunc(env.Key, unicode.IsControl) {
		return fault.New(fault.Invalid, "invalid_key",
			"the idempotency key begins or ends with a space, or has a control character; transports would change it").
			With("field", "Idempotency-Key")
	}
	return textWithin("Idempotency-Key", env.Key, maxID)
}

// outcomeUnknown is the answer when a command was given up on after it may
// have been recorded.
func outcomeUnknown(id string, cause error) error {
	return fault.New(fault.Unavailable, "outcome_unknown",
		"command %s may or may not be carried out: %s; send it again with this key to find out", id, plainly(cause)).
		With("command_id", id)
}

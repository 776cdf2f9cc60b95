package transport

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/stockledger/stockledger/events"
)

// Event is one event of the feed: what happened, to which quantities, as part of
// which command, when, why and by whom.
type Event struct {
	Position uint64 `json:"position"` // in the log, and the sequence in the feed's stream
	Stream   string `json:"stream"`
	Version  uint64 `json:"version"` // in Stream
	Type     string `json:"type"`
	// Data is the fact as it is stored. It is null when NATS would not carry it,
	// and DataOmitted says so then.
	Data        json.RawMessage `json:"data"`
	DataOmitted string          `json:"data_omitted,omitempty"`
	// Before and After are the quantities the fact moved, per level. A level that
	// was or is not there is not listed; both are empty when no quantity moved.
	Before []Level `json:"before"`
	After  []Level `json:"after"`

	Command     string `json:"command"`
	CommandID   string `json:"command_id"`
	Correlation string `json:"correlation_id,omitempty"`
	Causation   string `json:"causation_id,omitempty"`
	Actor       string `json:"actor,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Reference   string `json:"reference,omitempty"`
	Trace       string `json:"traceparent,omitempty"`
	// Part and Parts number the events of one command, from 1; both are left out
	// when it has one.
	Part      int         `json:"part,omitempty"`
	Parts     int         `json:"parts,omitempty"`
	Recorded  time.Time   `json:"recorded_at"`
	Effective time.Time   `json:"effective_at"`
	Hash      events.Hash `json:"hash"`
	Prev      events.Hash `json:"prev_hash"`
}

// EventOf is what the feed says of a recorded event.
func EventOf(r events.Recorded) (Event, error) {
	meta, err := r.Metadata()
	if err != nil {
		return Event{}, fmt.Errorf("position %d: %w", r.Position, err)
	}
	fact, err := r.Fact()
	if err != nil {
		return Event{}, fmt.Errorf("position %d: %w", r.Position, err)
	}
	e := Event{
		Position: r.Position, Stream: r.Stream, Version: r.Version, Type: r.Type, Data: r.Data,
		Command: meta.Command, CommandID: meta.CommandID,
		Correlation: meta.Correlation, Causation: meta.Causation,
		Actor: meta.Actor, Reason: meta.Reason, Reference: meta.Reference, Trace: meta.Trace,
		Part: meta.Part, Parts: meta.Parts,
		Recorded: meta.Recorded, Effective: meta.EffectiveAt(),
		Hash: r.Hash, Prev: r.Prev,
	}
	e.Before, e.After = quantities(fact)
	return e, nil
}

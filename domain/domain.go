// Package domain holds the rules of the inventory: what may happen to an item,
// its levels and its reservations, to a SKU, to the links of a product variant
// and to a stock location.
//
// Everything here is a pure function of the past. An aggregate is what its
// stream says; a decision reads it and returns the facts it decided, or a
// refusal and no facts; Apply takes a fact in. There is no clock, no I/O and no
// randomness: what a decision needs, its caller passes.
//
// A decision that already holds returns no facts: doing it twice is doing it
// once. The rules are those of Medusa's inventory module where it has any, made
// strict where it is loose; docs/commands.md lists both.
//
// Aggregates are not safe for concurrent use.
package domain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Stamp is where and when a fact was recorded.
type Stamp struct {
	Version uint64    // place of the fact in its stream
	At      time.Time // when it was recorded
}

// Line names the line of a command that a refusal is about, from 1.
func Line(err error, line int) error {
	if refusal, ok := errors.AsType[*fault.Error](err); ok {
		return refusal.With("line", line)
	}
	return err
}

func invalid(field, code, message string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, code, message, args...).With("field", field)
}

// positive refuses a quantity of nothing or less.
func positive(field string, q events.Quantity) error {
	if q.Sign() <= 0 {
		return invalid(field, "invalid_quantity", "%s must be greater than 0, not %s", field, q).With("asked", q)
	}
	return withinRange(field, q)
}

func notNegative(field string, q events.Quantity) error {
	if q.Sign() < 0 {
		return invalid(field, "invalid_quantity", "%s must not be negative, not %s", field, q).With("asked", q)
	}
	return withinRange(field, q)
}

// withinRange refuses a quantity that has more digits than the ledger promises.
// Every quantity of every fact is checked, or no stream could be read again.
func withinRange(field string, q events.Quantity) error {
	if !q.Fits() {
		return invalid(field, "quantity_out_of_range", "%s would be %s, which has more than %d digits", field, q, events.MaxDigits)
	}
	return nil
}

// mergeMetadata lays the keys of change over those of old, as Medusa does. A
// null for a key removes it; a null for the whole removes all.
func mergeMetadata(old, change json.RawMessage) (json.RawMessage, error) {
	if isNull(change) {
		return nil, nil
	}
	merged, err := metadataObject(old)
	if err != nil {
		return nil, fmt.Errorf("stored metadata: %w", err)
	}
	changes, err := metadataObject(change)
	if err != nil {
		return nil, invalid("metadata", "invalid_metadata", "metadata must be a JSON object or null")
	}
	for key, value := range changes {
		if isNull(value) {
			delete(merged, key)
			continue
		}
		merged[key] = value
	}
	return json.Marshal(merged) // sorted by key
}

// MaxMetadata is how many bytes the metadata of one thing may have.
const MaxMetadata = 64 << 10

// metadataWithin refuses what merging made too long. What was too long before may
// still be changed, as long as it does not grow.
func metadataWithin(old, merged json.RawMessage) error {
	if len(merged) <= max(MaxMetadata, len(old)) {
		return nil
	}
	plain := jsontext.Value(bytes.Clone(merged)) // encoding/json has escaped more than it needs
	if err := plain.Format(jsontext.PreserveRawStrings(false)); err != nil {
		return fmt.Errorf("merged metadata: %w", err)
	}
	if len(plain) <= MaxMetadata {
		return nil
	}
	return invalid("metadata", "too_long", "Field 'metadata' would have %d bytes, at most %d are allowed", len(plain), MaxMetadata).
		With("size", len(plain)).With("limit", MaxMetadata)
}

func metadataObject(raw json.RawMessage) (map[string]json.RawMessage, error) {
	object := make(map[string]json.RawMessage)
	if isNull(raw) {
		return object, nil
	}
	err := json.Unmarshal(raw, &object)
	return object, err
}

func isNull(raw json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || bytes.Equal(raw, []byte("null"))
}

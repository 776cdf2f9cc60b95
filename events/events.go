// Package events is the language of the ledger: the facts it may record, how
// they are written on disk, the envelope each travels in, and what a store of
// them promises.
//
// Facts are for ever. A stored name and its meaning never change; a new shape
// is a new version with an upcaster and a recording in testdata.
package events

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Meta is what is known of a fact besides the fact: who wanted it, why, when,
// and as part of which command. It is stored beside the fact as JSON, and the
// stream's hash chain covers it.
type Meta struct {
	// EventID is unique to this event, a UUIDv7.
	EventID string `json:"event_id"`
	// Command is the name of the command that caused the event, such as
	// adjust-inventory-levels.
	Command string `json:"command"`
	// CommandID is the idempotency key of that command. All events of one
	// commit share it, and no two commits do.
	CommandID string `json:"command_id"`
	// Digest is the SHA-256 of the command's name and canonical body, in
	// hexadecimal. A retry with another digest is another command.
	Digest string `json:"digest"`
	// Correlation groups commands of one business process; Causation names what
	// made the publisher send this one. Both are the publisher's words.
	Correlation string `json:"correlation_id,omitempty"`
	Causation   string `json:"causation_id,omitempty"`
	// Actor is who asked, Reason why, Reference the document it rests on (a URI
	// or a document number).
	Actor     string `json:"actor,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Reference string `json:"reference,omitempty"`
	// Recorded is when the ledger decided, on the ledger's clock: UTC, whole
	// microseconds, the same for all events of a commit and later than that of
	// every commit before it.
	Recorded time.Time `json:"recorded_at"`
	// Effective is when it happened in the world. It is Recorded unless the
	// publisher said otherwise, and is stored only then.
	Effective time.Time `json:"effective_at,omitzero"`
	// Trace is the W3C traceparent of the request.
	Trace string `json:"traceparent,omitempty"`
	// Part and Parts number the events of one commit, from 1. Both are left out
	// when the commit is one event.
	Part  int `json:"part,omitempty"`
	Parts int `json:"parts,omitempty"`
	// Answer is what the publisher was answered, on the last event of the
	// commit. A retry is answered with these very bytes.
	Answer json.RawMessage `json:"answer,omitempty"`
}

// EffectiveAt is when it happened in the world.
func (m Meta) EffectiveAt() time.Time {
	if m.Effective.IsZero() {
		return m.Recorded
	}
	return m.Effective
}

// Last reports whether the event is the last of its commit.
func (m Meta) Last() bool { return m.Part == m.Parts }

// MicrosUp is an instant in microseconds, rounded up. Events are recorded at whole
// microseconds, so the same ones are at or after it, and before it.
func MicrosUp(t time.Time) int64 {
	micros := t.UnixMicro()
	if t.After(time.UnixMicro(micros)) {
		micros++
	}
	return micros
}

// A Hash is one link of a stream's chain; see [Recorded.Link]. The zero Hash
// precedes the first event of every stream.
type Hash [sha256.Size]byte

// String is h in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("hash of %d characters, want %d", len(text), hex.EncodedLen(len(h)))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// A Recorded event is a fact at its place in a stream and in the log, as it is
// stored. Data and Meta are kept to the byte; neither may be changed.
type Recorded struct {
	Position uint64 // place in the log, from 1, without gaps; 0 until stored
	Stream   string
	Version  uint64 // place in the stream, from 1, without gaps
	Type     string // such as inventory.stock-adjusted.v1
	Data     []byte // the fact, as JSON
	Meta     []byte // its Meta, as JSON
	Prev     Hash   // Hash of the event before it in the stream
	Hash     Hash   // own link of the chain

	// What Data and Meta hold, when whoever made the record still knew.
	fact Fact
	meta *Meta
}

// A Commit is all that one command changed: one or more events of any number
// of streams, recorded together or not at all. The Version of a stream's first
// event in the commit, less one, is the version the stream must be at; further
// events of the same stream follow on without gaps.
type Commit []Recorded

// Record makes the next event of a stream, given the version and the hash of
// the one before it. Position is left to the store.
func Record(stream string, after uint64, prev Hash, fact Fact, meta *Meta) (Recorded, error) {
	data, err := Marshal(fact)
	if err != nil {
		return Recorded{}, fmt.Errorf("encode %s: %w", fact.EventType(), err)
	}
	metaJSON, err := Marshal(meta)
	if err != nil {
		return Recorded{}, fmt.Errorf("encode metadata of %s: %w", fact.EventType(), err)
	}
	e := Recorded{
		Stream: stream, Version: after + 1, Type: fact.EventType(),
		Data: data, Meta: metaJSON, Prev: prev, fact: fact, meta: meta,
	}
	e.Hash = e.Link()
	return e, nil
}

// Link is the hash the event must carry: SHA-256 over Prev and then the stream,
// the version, the type, the data and the metadata, each text preceded by its
// length as eight bytes, big endian. It is over the stored bytes, so it holds
// whatever a later version of the ledger makes of them.
func (e Recorded) Link() Hash {
	// One buffer and one call leave nothing for the garbage collector.
	w := writers.Get().(*Writer)
	defer writers.Put(w)
	w.Reset()
	number := func(v uint64) { w.text = binary.BigEndian.AppendUint64(w.text, v) }
	w.text = append(w.text, e.Prev[:]...)
	number(uint64(len(e.Stream)))
	w.Raw(e.Stream)
	number(e.Version)
	number(uint64(len(e.Type)))
	w.Raw(e.Type)
	number(uint64(len(e.Data)))
	w.text = append(w.text, e.Data...)
	number(uint64(len(e.Meta)))
	w.text = append(w.text, e.Meta...)
	return sha256.Sum256(w.text)
}

// Verify checks that the event follows prev, the event before it in its stream
// (the zero Recorded for the first one), and is what was written.
func (e Recorded) Verify(prev Recorded) error {
	switch {
	case e.Version != prev.Version+1:
		return fmt.Errorf("%s: version %d follows version %d", e.Stream, e.Version, prev.Version)
	case e.Prev != prev.Hash:
		return fmt.Errorf("%s@%d: does not continue the chain of version %d", e.Stream, e.Version, prev.Version)
	case e.Hash != e.Link():
		return fmt.Errorf("%s@%d: its bytes do not match its hash", e.Stream, e.Version)
	}
	return nil
}

// Fact reads the fact, in its newest version. It fails on a type this program
// does not know or a body it cannot read.
func (e Recorded) Fact() (Fact, error) {
	if e.fact != nil {
		return e.fact, nil
	}
	fact, err := Decode(e.Type, e.Data)
	if err != nil {
		return nil, fmt.Errorf("%s@%d: %w", e.Stream, e.Version, err)
	}
	return fact, nil
}

// Metadata reads the metadata.
func (e Recorded) Metadata() (Meta, error) { return e.metadata(true) }

// Origin reads the metadata without the answer, which is often most of it, and
// of no use to whoever folds events. An answer that is no JSON it may pass over.
func (e Recorded) Origin() (Meta, error) {
	m, err := e.metadata(false)
	m.Answer = nil
	return m, err
}

func (e Recorded) metadata(answer bool) (Meta, error) {
	if e.meta != nil {
		return *e.meta, nil
	}
	if m := (metaScanner{answer: answer}); scan(e.Meta, &m) {
		return m.Meta, nil
	}
	var m Meta
	if err := json.Unmarshal(e.Meta, &m); err != nil {
		return Meta{}, fmt.Errorf("%s@%d: metadata: %w", e.Stream, e.Version, err)
	}
	return m, nil
}

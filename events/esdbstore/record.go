package esdbstore

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

// The types of the journal's own events. They are stored, and never change.
const (
	typeBegun  = "stockledger.journal-begun.v1"
	typeRecord = "stockledger.journal-record.v1"
	typeEvent  = "stockledger.event.v1" // of an event whose own type the server does not take
)

// bodyFormat is the first byte of a record's body.
const bodyFormat = 1

// begun is the first event of a journal.
type begun struct {
	LogID string `json:"log_id"`
}

// label is the metadata of a journal record, as JSON.
type label struct {
	First  uint64 `json:"first"`            // position of the first event in it
	Events int    `json:"events"`           // how many there are
	Fanned uint64 `json:"fanned_revision"`  // all up to this record are in streams of their own
	Before uint64 `json:"fanned_position"`  // the last position in there
	Part   int    `json:"part,omitempty"`   // of a commit too large for one record: which, from 1,
	Parts  int    `json:"parts,omitempty"`  // of how many,
	Commit string `json:"commit,omitempty"` // and of which
}

// complete reports whether the record, with the parts before it, counts.
func (l label) complete() bool { return l.Part == l.Parts }

// start is the revision of the first part of the commit that the record at a
// revision belongs to.
func (l label) start(revision uint64) uint64 {
	return revision - uint64(max(l.Part, 1)-1)
}

// record is an event of the journal stream.
type record struct {
	revision uint64
	id       uuid.UUID
	at       esdb.Position
	label    label
	body     []byte
}

// recordOf reads an event of the journal stream. The begin of the journal is a
// record without events.
func recordOf(e *esdb.RecordedEvent) (record, error) {
	r := record{revision: e.EventNumber, id: e.EventID, at: e.Position, body: e.Data}
	switch e.EventType {
	case typeBegun:
		r.label = label{First: 1}
		r.body = []byte{bodyFormat}
		return r, nil
	case typeRecord:
		if err := json.Unmarshal(e.UserMetadata, &r.label); err != nil {
			return r, fmt.Errorf("journal record %d: %w", r.revision, err)
		}
		return r, nil
	default:
		return r, fmt.Errorf("journal record %d is of type %s: a newer version wrote it, or it is no journal", r.revision, e.EventType)
	}
}

// appendCommit writes a commit behind what body holds.
func appendCommit(body []byte, c events.Commit) []byte {
	if len(body) == 0 {
		body = append(body, bodyFormat)
	}
	body = binary.AppendUvarint(body, uint64(len(c)))
	for _, e := range c {
		body = appendText(body, e.Stream)
		body = binary.AppendUvarint(body, e.Version)
		body = appendText(body, e.Type)
		body = appendText(body, e.Data)
		body = appendText(body, e.Meta)
		body = append(body, e.Prev[:]...)
		body = append(body, e.Hash[:]...)
	}
	return body
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// sizeOf bounds what appendCommit adds.
func sizeOf(c events.Commit) int {
	n := binary.MaxVarintLen32
	for _, e := range c {
		n += len(e.Stream) + len(e.Type) + len(e.Data) + len(e.Meta) + len(e.Prev) + len(e.Hash) + 4*binary.MaxVarintLen32 + binary.MaxVarintLen64
	}
	return n
}

var errBody = errors.New("the body is cut short, or no journal record")

// eventsIn reads the events of a body, the first of which has a position.
func eventsIn(body []byte, first uint64) (list []events.Recorded, err error) {
	r := reader{rest: body}
	if format := r.bytes(1); len(format) == 1 && format[0] != bodyFormat {
		return nil, fmt.Errorf("the body has format %d, which a newer version wrote", format[0])
	}
	for len(r.rest) > 0 && !r.short {
		for n := r.number(); n > 0 && !r.short; n-- {
			e := events.Recorded{Position: first + uint64(len(list))}
			e.Stream = string(r.text())
			e.Version = r.number()
			e.Type = string(r.text())
			e.Data = r.text()
			e.Meta = r.text()
			copy(e.Prev[:], r.bytes(len(e.Prev)))
			copy(e.Hash[:], r.bytes(len(e.Hash)))
			list = append(list, e)
		}
	}
	if r.short {
		return nil, errBody
	}
	return list, nil
}

// reader takes bytes from the front; short says that there were too few.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.short, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) text() []byte {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	return r.bytes(int(n)) //nolint:gosec // G115: at most what is left
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// header is the metadata of an event in its own stream: what EventStoreDB has a
// place for, in its place, and the rest so that the bytes come back as they were.
type header struct {
	Correlation string          `json:"$correlationId,omitempty"`
	Causation   string          `json:"$causationId,omitempty"`
	Position    uint64          `json:"position"`
	Prev        events.Hash     `json:"prev"`
	Hash        events.Hash     `json:"hash"`
	Meta        json.RawMessage `json:"meta,omitempty"`
	MetaBytes   []byte          `json:"meta_base64,omitempty"` // where Meta is not plain JSON
	Type        []byte          `json:"type_base64,omitempty"` // where it cannot be the type of the event
}

// toServer is an event as it is in its own stream. Data is the fact, to the byte.
func toServer(id uuid.UUID, e *events.Recorded) esdb.EventData {
	d := esdb.EventData{EventID: id, EventType: e.Type, ContentType: esdb.ContentTypeBinary, Data: e.Data}
	if json.Valid(e.Data) {
		d.ContentType = esdb.ContentTypeJson
	}
	m := make([]byte, 0, len(e.Meta)+256)
	m = append(m, '{')
	if origin, err := e.Origin(); err == nil {
		m = appendName(m, "$correlationId", origin.Correlation)
		m = appendName(m, "$causationId", origin.Causation)
	}
	m = fmt.Appendf(m, `"position":%d,"prev":"%x","hash":"%x"`, e.Position, e.Prev[:], e.Hash[:])
	if !plainType(e.Type) {
		d.EventType = typeEvent
		m = appendBase64(m, "type_base64", []byte(e.Type))
	}
	if plainJSON(e.Meta) {
		m = append(append(m, `,"meta":`...), e.Meta...)
	} else {
		m = appendBase64(m, "meta_base64", e.Meta)
	}
	d.Metadata = append(m, '}')
	return d
}

func appendName(m []byte, name, value string) []byte {
	if value == "" {
		return m
	}
	quoted, err := json.Marshal(value)
	if err != nil { // a string always can
		return m
	}
	m = append(append(append(m, '"'), name...), `":`...)
	return append(append(m, quoted...), ',')
}

func appendBase64(m []byte, name string, value []byte) []byte {
	m = append(append(append(m, `,"`...), name...), `":"`...)
	m = base64.StdEncoding.AppendEncode(m, value)
	return append(m, '"')
}

// plainJSON reports whether text comes back to the byte when it is a value
// inside other JSON.
func plainJSON(text []byte) bool {
	return json.Valid(text) && len(bytes.TrimSpace(text)) == len(text) && utf8.Valid(text) && string(text) != "null"
}

// plainType reports whether the server takes it as the type of an event of ours.
func plainType(name string) bool {
	return name != "" && name != typeEvent && len(name) <= 200 && utf8.ValidString(name) && !strings.HasPrefix(name, "$") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' })
}

// fromServer is the event of a stream that an event of EventStoreDB holds.
func fromServer(stream string, d *esdb.RecordedEvent) (events.Recorded, error) {
	var h header
	if err := json.Unmarshal(d.UserMetadata, &h); err != nil {
		return events.Recorded{}, fmt.Errorf("%s@%d: its metadata is not the ledger's: %w", stream, d.EventNumber+1, err)
	}
	e := events.Recorded{
		Position: h.Position, Stream: stream, Version: d.EventNumber + 1, Type: d.EventType,
		Data: d.Data, Meta: h.Meta, Prev: h.Prev, Hash: h.Hash,
	}
	if h.Meta == nil {
		e.Meta = h.MetaBytes
	}
	if e.Type == typeEvent {
		e.Type = string(h.Type)
	}
	return e, nil
}

// names are the streams of a ledger.
type names struct{ prefix, journal string }

func namesOf(ledger string) names { return names{ledger + ".", ledger + ".journal"} }

// stream is the name of an event's stream. No stream of the ledger's has a name
// that begins with '=', so it marks those that would be taken for the journal.
func (n names) stream(of string) string {
	if of == "journal" || strings.HasPrefix(of, "register.") || strings.HasPrefix(of, "=") {
		of = "=" + of
	}
	return n.prefix + of
}

func (n names) register(name string) string { return n.prefix + "register." + name }

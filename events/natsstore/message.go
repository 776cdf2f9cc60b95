package natsstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/stockledger/stockledger/events"
)

// An event is one message. Its subject names the stream and its sequence is the
// position; the payload is the fact and then the metadata, each to the byte.
const (
	headerType    = "Ledger-Type"
	headerVersion = "Ledger-Version"
	headerSplit   = "Ledger-Data" // how many bytes of the payload are the fact
	headerPrev    = "Ledger-Prev" // in hexadecimal, left out where it is zero
	headerHash    = "Ledger-Hash"
)

// maxSubject is how many bytes a subject may have. The line of the protocol that
// carries it has 4096 at most, with the subject of the answer and two numbers.
const maxSubject = 3500

// encode writes an event as a message for the server, without the checks. A
// message of more than limit bytes is ErrTooLarge.
func (s *Store) encode(e events.Recorded) (*nats.Msg, error) {
	if !isToken(e.Stream) {
		return nil, fmt.Errorf("append to %q: a subject of NATS cannot carry this name", e.Stream)
	}
	if len(e.Type) > 256 || strings.ContainsFunc(e.Type, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("append to %s: a header of NATS cannot carry the type %q", e.Stream, e.Type)
	}
	m := &nats.Msg{Subject: s.subject(e.Stream), Header: make(nats.Header, 8)}
	if len(m.Subject) > maxSubject {
		return nil, fmt.Errorf("append to %.40s…: the name of the stream has %d bytes and the log takes %d (max_control_line of the server): %w",
			e.Stream, len(m.Subject), maxSubject, events.ErrTooLarge)
	}
	values := [...]string{e.Type, strconv.FormatUint(e.Version, 10), strconv.Itoa(len(e.Data)), e.Hash.String()}
	m.Header[headerType] = values[0:1:1]
	m.Header[headerVersion] = values[1:2:2]
	m.Header[headerSplit] = values[2:3:3]
	m.Header[headerHash] = values[3:4:4]
	if e.Prev != (events.Hash{}) {
		m.Header[headerPrev] = []string{e.Prev.String()}
	}
	m.Data = make([]byte, 0, len(e.Data)+len(e.Meta))
	m.Data = append(append(m.Data, e.Data...), e.Meta...)
	if size, limit := int64(m.Size()-len(m.Subject))+headerRoom, s.conn.MaxPayload(); size > limit {
		return nil, fmt.Errorf("append to %s: event %d is a message of %d bytes and the server takes %d (its setting max_payload): %w",
			e.Stream, e.Version, size, limit, events.ErrTooLarge)
	}
	return m, nil
}

// headerRoom is what the checks and the numbering of a batch add to a message.
const headerRoom = 512

// isToken reports whether a stream's name can be one token of a subject.
func isToken(stream string) bool {
	return stream != "" && utf8.ValidString(stream) && !strings.ContainsFunc(stream, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == '.' || r == '*' || r == '>'
	})
}

// decode reads a message of the log. What is no event was put there by somebody
// who is no ledger; the position is taken, so nothing can be read past it.
func (s *Store) decode(subject string, position uint64, header nats.Header, payload []byte) (events.Recorded, error) {
	e, err := s.event(subject, header, payload)
	if err != nil {
		return events.Recorded{}, fmt.Errorf("position %d of the log, on subject %s, is not an event of a ledger: %w", position, subject, err)
	}
	e.Position = position
	return e, nil
}

func (s *Store) event(subject string, header nats.Header, payload []byte) (e events.Recorded, err error) {
	stream, ours := strings.CutPrefix(subject, s.prefix)
	if !ours {
		return e, errors.New("it has another subject")
	}
	e.Stream, e.Type = stream, header.Get(headerType)
	if e.Type == "" {
		return e, errors.New("it has no type")
	}
	if e.Version, err = strconv.ParseUint(header.Get(headerVersion), 10, 64); err != nil || e.Version == 0 {
		return e, errors.New("it has no version")
	}
	split, err := strconv.Atoi(header.Get(headerSplit))
	if err != nil || split < 0 || split > len(payload) {
		return e, errors.New("it does not say where its metadata begin")
	}
	e.Data, e.Meta = payload[:split:split], payload[split:]
	if prev := header.Get(headerPrev); prev != "" {
		if err := e.Prev.UnmarshalText([]byte(prev)); err != nil {
			return e, fmt.Errorf("the link to the event before it: %w", err)
		}
	}
	if err := e.Hash.UnmarshalText([]byte(header.Get(headerHash))); err != nil {
		return e, fmt.Errorf("its own link: %w", err)
	}
	return e, nil
}

func (s *Store) subject(stream string) string { return s.prefix + stream }

package evidence

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
)

// format is the first member of an export. Another format gets another name.
const format = "stockledger.log.v1"

// The lines of an export. Each has one form: these members in this order, no
// space, and strings with no escape but those that JSON demands (RFC 8785, section
// 3.2.2.2). Whoever reads a line writes it again and wants the same bytes, so that
// there is no byte of an export that says nothing.
type (
	header struct {
		Format string `json:"format"`
		Log    string `json:"log"`
	}
	event struct {
		Position uint64 `json:"position"`
		Stream   string `json:"stream"`
		Version  uint64 `json:"version"`
		Type     string `json:"type"`
		Data     string `json:"data"`
		Meta     string `json:"meta"`
		Prev     string `json:"prev"`
		Hash     string `json:"hash"`
	}
)

func headerLine(log string) []byte {
	line := appendText(nil, `{"format":`, format)
	return append(appendText(line, `,"log":`, log), "}\n"...)
}

func trailerLine(h Head) []byte {
	line := appendText(nil, `{"head":{"log":`, h.Log)
	line = appendNumber(line, `,"position":`, h.Position)
	line = appendText(line, `,"digest":`, h.Digest)
	at := ""
	if !h.At.IsZero() {
		at = h.At.Format(time.RFC3339Nano)
	}
	line = appendText(line, `,"at":`, at)
	return append(line, "}}\n"...)
}

// appendEvent appends the line of an event.
func appendEvent(line []byte, e events.Recorded) []byte {
	line = appendNumber(line, `{"position":`, e.Position)
	line = appendText(line, `,"stream":`, e.Stream)
	line = appendNumber(line, `,"version":`, e.Version)
	line = appendText(line, `,"type":`, e.Type)
	line = appendText(line, `,"data":`, e.Data)
	line = appendText(line, `,"meta":`, e.Meta)
	line = appendText(line, `,"prev":`, e.Prev.String())
	line = appendText(line, `,"hash":`, e.Hash.String())
	return append(line, "}\n"...)
}

func appendNumber(line []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(line, name...), n, 10)
}

func appendText[T ~string | ~[]byte](line []byte, name string, text T) []byte {
	line, _ = jsontext.AppendQuote(append(line, name...), text) // what is no UTF-8 was refused before
	return line
}

// parse reads a line into v, a pointer to one of the types above.
func parse(line []byte, v any) error {
	err := json.Unmarshal(line, v, json.RejectUnknownMembers(true))
	if err != nil {
		return fmt.Errorf("the line cannot be read: %w", err)
	}
	return nil
}

// errForm is wrong with a line that says the right thing in other bytes.
var errForm = errors.New("the line is not in the one form that lines have")

// parseEvent reads the line of an event.
func parseEvent(line []byte) (events.Recorded, error) {
	var v event
	if err := parse(line, &v); err != nil {
		return events.Recorded{}, err
	}
	e := events.Recorded{
		Position: v.Position, Stream: v.Stream, Version: v.Version, Type: v.Type,
		Data: []byte(v.Data), Meta: []byte(v.Meta),
	}
	for _, h := range []struct {
		into *events.Hash
		text string
	}{{&e.Prev, v.Prev}, {&e.Hash, v.Hash}} {
		if hex.DecodedLen(len(h.text)) != len(h.into) {
			return e, errForm
		}
		if err := h.into.UnmarshalText([]byte(h.text)); err != nil {
			return e, fmt.Errorf("the line cannot be read: %w", err)
		}
	}
	return e, sameForm(line, appendEvent(nil, e))
}

// sameForm checks that a line is what written, which ends with a line feed, says.
func sameForm(line, written []byte) error {
	if !bytes.Equal(line, written[:len(written)-1]) {
		return errForm
	}
	return nil
}

package refusals

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The bounds of one refusal, in bytes.
const (
	// MaxBody is how much of a command's body is kept.
	MaxBody    = 4 << 10
	maxMessage = 1 << 10
	maxDetails = 1 << 10
	maxText    = 255 // of any other text; longer names are refused by the ledger anyway
)

// Refusal is a refused command on record.
type Refusal struct {
	ID          uint64             `json:"id"` // increasing
	Recorded    time.Time          `json:"recorded_at"`
	Command     string             `json:"command"` // "" when there is none of the name, which details then has
	CommandID   string             `json:"command_id"`
	Code        string             `json:"code"`
	Type        string             `json:"type"`
	Message     string             `json:"message"`
	Details     stdjson.RawMessage `json:"details"` // null when they are too long
	Actor       string             `json:"actor"`
	Reason      string             `json:"reason"`
	Reference   string             `json:"reference"`
	Correlation string             `json:"correlation_id"`
	Line        *int64             `json:"line"`
	ItemID      string             `json:"inventory_item_id"`
	LocationID  string             `json:"location_id"`
	Asked       *events.Quantity   `json:"asked"`
	Available   *events.Quantity   `json:"available"`
	Position    uint64             `json:"position"` // of the last event in the log when it was refused
	Body        string             `json:"body"`     // its beginning, when it is long

	tally tally
}

// detailed is the refusal with its details, each of them within its bound.
func detailed(a Attempt, e *fault.Error, t tally, now time.Time) *Refusal {
	r := &Refusal{
		tally: t, Recorded: now.Truncate(time.Microsecond), Command: t.command, CommandID: cut(a.CommandID, maxText),
		Code: t.code, Type: e.Kind.String(), Message: cut(e.Message, maxMessage),
		Actor: cut(a.Actor, maxText), Reason: cut(a.Reason, maxText), Reference: cut(a.Reference, maxText),
		Correlation: cut(a.Correlation, maxText),
		ItemID:      text(e.Details["inventory_item_id"]), LocationID: text(e.Details["location_id"]),
		Asked: amount(e.Details["asked"]), Available: amount(e.Details["available"]),
		Position: a.Position(), Body: cut(a.Body(), MaxBody),
	}
	if line, ok := e.Details["line"].(int); ok {
		r.Line = new(int64(line))
	}
	if details, err := json.Marshal(e.Details, json.Deterministic(true)); err == nil && len(details) <= maxDetails {
		r.Details = details
	}
	return r
}

// known keeps the names that strangers make up out of the counts.
func known(command, code string) string {
	if code == "unknown_command" {
		return ""
	}
	return cut(command, maxText)
}

func text(detail any) string {
	s, _ := detail.(string)
	return cut(s, maxText)
}

func amount(detail any) *events.Quantity {
	switch q := detail.(type) {
	case events.Quantity:
		return &q
	case *events.Quantity:
		return q
	}
	return nil
}

// cut is the beginning of s, in whole characters, as UTF-8 whatever it was.
func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most]
		for start := most - 1; start >= max(0, most-utf8.UTFMax); start-- {
			if utf8.RuneStart(s[start]) {
				if !utf8.FullRuneInString(s[start:]) {
					s = s[:start]
				}
				break
			}
		}
	}
	if utf8.ValidString(s) {
		return strings.Clone(s) // and lets go of the rest
	}
	return cut(strings.ToValidUTF8(s, "\uFFFD"), most)
}

// JSON is the beginning of v in JSON, as much as is kept of a body.
func JSON(v any) string {
	var w prefix
	_ = json.MarshalWrite(&w, v) // it fails once there is enough
	return w.String()
}

// A prefix takes the beginning of what is written, and refuses the rest.
type prefix struct{ bytes.Buffer }

var errEnough = errors.New("that is enough")

// Write implements io.Writer.
func (p *prefix) Write(b []byte) (int, error) {
	if p.Len() > MaxBody {
		return 0, errEnough
	}
	return p.Buffer.Write(b)
}

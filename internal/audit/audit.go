// Package audit is the second opinion on a ledger. It reads the log and keeps
// books of its own of what every row of every read model should be, and compares
// them with the rows that are served.
//
// The books know nothing of the folds in package projections: they are written
// from what the facts state, so that a fold with a bug is found though it runs in
// the same program. What is said twice in this way is checked by a test, which
// fails when a fact or a column is forgotten here.
//
// [Verify] reads the whole log once and looks at everything. A [Walker] goes
// round for ever, a little at a time, and raises an alarm when a row is wrong.
package audit

import (
	"encoding/hex"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// Config says what to verify.
type Config struct {
	Store  events.Store
	Models *projections.Models // nil checks the log only
	// Progress hears how far it is, often; nil is nobody.
	Progress func(stage string, done, total uint64)
	// Rows is how many findings to describe; 0 is 20, and below 0 all. All of them
	// are counted.
	Rows int
}

// A Report is what a verification found.
type Report struct {
	Log      string    `json:"log"`
	Position uint64    `json:"position"` // up to which the log was read, and at which the rows were
	Head     Digest    `json:"head"`     // of the log up to Position, as `stockledger head` computes it
	Events   uint64    `json:"events"`
	Commands uint64    `json:"commands"`
	Streams  uint64    `json:"streams"`
	Rows     uint64    `json:"rows"` // that are served and were compared
	Checks   []Check   `json:"checks"`
	Findings []Finding `json:"findings"` // the first bad position first
}

// OK reports whether everything that was looked at is right.
func (r Report) OK() bool { return r.Wrong() == 0 }

// Wrong counts what is wrong, described or not.
func (r Report) Wrong() (wrong uint64) {
	for _, c := range r.Checks {
		wrong += c.Wrong
	}
	return wrong
}

// A Check is one thing that must be so, and how often it was looked at.
type Check struct {
	Name    string `json:"check"`
	About   string `json:"about"` // what must be so, for people
	Checked uint64 `json:"checked"`
	Wrong   uint64 `json:"wrong"`
}

// A Finding is something that is wrong. What does not apply is empty.
type Finding struct {
	Check string `json:"check"`
	// Position is that of the event with which it went wrong: the one that is bad
	// itself, or the first one after which the row is not what it should be.
	Position uint64 `json:"position"`
	Stream   string `json:"stream"`
	Version  uint64 `json:"version"`
	Model    string `json:"model"`
	Table    string `json:"table"`
	Row      uint64 `json:"row"` // the position of the event that made the row
	Key      string `json:"key"` // what people know the row by
	Column   string `json:"column"`
	// Expected is what the events say, Served what is there; nil is nothing.
	Expected *string `json:"expected"`
	Served   *string `json:"served"`
	Message  string  `json:"message"`
}

// A Digest stands for a whole log up to a position: D₀ is 32 zero bytes, and Dₙ
// the SHA-256 of Dₙ₋₁ and the hash of the event at position n.
type Digest [32]byte

// String is d in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error { return (*events.Hash)(d).UnmarshalText(text) }

package audit

import (
	"database/sql"
	"hash/maphash"
	"strconv"
	"time"

	"github.com/stockledger/stockledger/events"
)

// An entry is an event as the books read it.
type entry struct {
	events.Recorded
	fact    events.Fact
	factErr error // why there is no fact
	meta    events.Meta
	metaErr error
	at      int64 // when it was recorded, in microseconds since 1970
}

// readEntry reads an event but for its answer, of which no row is made.
func readEntry(recorded events.Recorded) *entry {
	meta, err := recorded.Origin()
	return newEntry(recorded, meta, err)
}

// readWhole reads all of an event from its bytes, whatever its store remembers of it.
func readWhole(recorded events.Recorded) *entry {
	stored := events.Recorded{
		Position: recorded.Position, Stream: recorded.Stream, Version: recorded.Version, Type: recorded.Type,
		Data: recorded.Data, Meta: recorded.Meta, Prev: recorded.Prev, Hash: recorded.Hash,
	}
	meta, err := stored.Metadata()
	return newEntry(stored, meta, err)
}

func newEntry(recorded events.Recorded, meta events.Meta, err error) *entry {
	e := &entry{Recorded: recorded, meta: meta, metaErr: err}
	e.at = e.meta.Recorded.UnixMicro()
	e.fact, e.factErr = recorded.Fact()
	return e
}

// effective is when it happened, if that is another time than it was recorded.
func (e *entry) effective() (at int64, backdated bool) {
	if e.meta.Effective.IsZero() {
		return e.at, false
	}
	at = e.meta.Effective.UnixMicro()
	return at, at != e.at
}

// place says where the event is, for findings.
func (e *entry) place() Finding {
	return Finding{Position: e.Position, Stream: e.Stream, Version: e.Version}
}

// A key stands for an id: two hashes of it with seeds that nobody knows. Two ids
// of ten million have the same key with a chance of 1 in 10²⁴.
type key [2]uint64

// A text is a value as it is in a column; it may be absent.
type text = sql.NullString

func known(s string) text { return text{String: s, Valid: true} }

// blank is absent when s is empty.
func blank(s string) text { return text{String: s, Valid: s != ""} }

func optional(s *string) text {
	if s == nil {
		return text{}
	}
	return known(*s)
}

func optionalAmount(q *events.Quantity) text {
	if q == nil {
		return text{}
	}
	return known(q.String())
}

// document is absent when it is empty or null.
func document(raw []byte) text {
	if len(raw) == 0 || string(raw) == "null" {
		return text{}
	}
	return known(string(raw))
}

func number(n uint64) text { return known(strconv.FormatUint(n, 10)) }

// moment is a time in microseconds since 1970.
func moment(micros int64) text {
	return known(time.UnixMicro(micros).UTC().Format(time.RFC3339Nano))
}

// optionalMoment is absent when it is 0: nothing was recorded in 1970.
func optionalMoment(micros int64) text {
	if micros == 0 {
		return text{}
	}
	return moment(micros)
}

func flag(yes bool) text { return known(strconv.FormatBool(yes)) }

// seeds make keys and digests. They are new for each set of books, so that
// nobody can prepare two texts that look alike.
type seeds struct{ a, b maphash.Seed }

func newSeeds() seeds { return seeds{maphash.MakeSeed(), maphash.MakeSeed()} }

func (s seeds) key(id string) key { return key{maphash.String(s.a, id), maphash.String(s.b, id)} }

// digest stands for some values. Others have the same with a chance of 1 in 10¹⁹.
func (s seeds) digest(values ...text) uint64 {
	var h maphash.Hash
	h.SetSeed(s.a)
	for _, v := range values {
		if !v.Valid {
			_ = h.WriteByte(0)
			continue
		}
		_ = h.WriteByte(1)
		maphash.WriteComparable(&h, len(v.String))
		_, _ = h.WriteString(v.String)
	}
	return h.Sum64()
}

package events

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// A scanner reads JSON as Record writes it: without spaces, without escapes, with
// no other members than there are fields. Stored metadata and the facts that logs
// are full of are read with it first, which takes a third of the time that
// encoding/json takes (BenchmarkDecode). What it does not expect it does not
// read, and encoding/json decides; so it never reads anything in another way.
type scanner struct {
	text   string // what is read are parts of it
	at     int
	failed bool // nothing that was read counts
}

// A scanned value is an object with members that a scanner knows.
type scanned interface {
	// member reads the value of the member of that name.
	member(s *scanner, name string)
}

// scan reads an object, all of the text. If it reports false, what it read so
// far is in the object and must not be used.
func scan(text []byte, into scanned) bool {
	s := scanner{text: string(text)}
	s.object(into)
	return !s.failed && s.at == len(s.text)
}

func (s *scanner) fail() { s.failed = true }

// next reports whether the text goes on with c, and passes it.
func (s *scanner) next(c byte) bool {
	if s.failed || s.at >= len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) expect(c byte) {
	if !s.next(c) {
		s.fail()
	}
}

// word reports whether the text goes on with a word, and passes it.
func (s *scanner) word(w string) bool {
	if s.failed || !strings.HasPrefix(s.text[s.at:], w) {
		return false
	}
	s.at += len(w)
	return true
}

// object reads the members of an object.
func (s *scanner) object(into scanned) {
	s.expect('{')
	if s.next('}') {
		return
	}
	for more := true; more && !s.failed; more = s.next(',') {
		name := s.string()
		s.expect(':')
		into.member(s, name)
	}
	s.expect('}')
}

func (s *scanner) string() string {
	s.expect('"')
	begin, plain := s.at, true
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"' && !s.failed && (plain || utf8.ValidString(s.text[begin:s.at])):
			s.at++
			return s.text[begin : s.at-1]
		case c == '"', c == '\\', c < ' ':
			s.fail()
			return ""
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	s.fail()
	return ""
}

// optional reads a string or null.
func (s *scanner) optional() *string {
	if s.word("null") {
		return nil
	}
	text := s.string()
	return &text
}

func (s *scanner) quantity() Quantity {
	q, ok := parsePlain(s.number())
	if !ok {
		s.fail()
	}
	return q
}

func (s *scanner) optionalQuantity() *Quantity {
	if s.word("null") {
		return nil
	}
	q := s.quantity()
	return &q
}

// whole reads a number from 0 to 999.999.999.
func (s *scanner) whole() int {
	digits := s.number()
	q, ok := parsePlain(digits)
	if !ok || strings.ContainsAny(digits, "-.") || len(digits) > 9 {
		s.fail()
	}
	return int(q.units)
}

// number is what may be a number.
func (s *scanner) number() string {
	begin := s.at
	for s.at < len(s.text) && (s.text[s.at] == '-' || s.text[s.at] == '.' || '0' <= s.text[s.at] && s.text[s.at] <= '9') {
		s.at++
	}
	return s.text[begin:s.at]
}

func (s *scanner) bool() bool {
	yes := s.word("true")
	if !yes && !s.word("false") {
		s.fail()
	}
	return yes
}

func (s *scanner) time() (t time.Time) {
	if err := t.UnmarshalText([]byte(s.string())); err != nil {
		s.fail()
	}
	return t
}

// document reads any value; null is nil.
func (s *scanner) document() json.RawMessage {
	if s.word("null") {
		return nil
	}
	value := s.skip()
	if value != strings.TrimSpace(value) || !json.Valid([]byte(value)) {
		s.fail()
	}
	return json.RawMessage(value)
}

// skip passes a value, of which it looks at strings and brackets only.
func (s *scanner) skip() string {
	begin, open := s.at, 0
	for ; s.at < len(s.text) && !s.failed; s.at++ {
		switch s.text[s.at] {
		case '"':
			s.at = s.closing()
		case '{', '[':
			open++
		case '}', ']':
			if open == 0 {
				return s.text[begin:s.at]
			}
			open--
		case ',':
			if open == 0 {
				return s.text[begin:s.at]
			}
		}
	}
	s.fail()
	return ""
}

// deepest is how far values may be nested that a scanner follows.
const deepest = 64

// value passes a value that is as encoding/json writes it: compact, without
// anything that it would escape, and without anything that is no JSON.
func (s *scanner) value(depth int) {
	switch {
	case s.failed, s.at == len(s.text), depth == deepest:
		s.fail()
	case s.text[s.at] == '"':
		s.plainString()
	case s.next('{'):
		for more := !s.next('}'); more && !s.failed; {
			s.plainString()
			s.expect(':')
			s.value(depth + 1)
			if more = s.next(','); !more {
				s.expect('}')
			}
		}
	case s.next('['):
		for more := !s.next(']'); more && !s.failed; {
			s.value(depth + 1)
			if more = s.next(','); !more {
				s.expect(']')
			}
		}
	case s.word("null"), s.word("true"), s.word("false"):
	default:
		s.quantity()
	}
}

func (s *scanner) plainString() {
	if !plain(s.string()) {
		s.fail()
	}
}

// closing is where the string ends that begins here, escapes and all.
func (s *scanner) closing() int {
	for at := s.at + 1; at < len(s.text); at++ {
		switch s.text[at] {
		case '\\':
			at++
		case '"':
			return at
		}
	}
	s.fail()
	return s.at
}

// A metaScanner reads metadata, and the answer only where it is wanted.
type metaScanner struct {
	Meta
	answer bool
}

func (m *metaScanner) member(s *scanner, name string) {
	switch name {
	case "event_id":
		m.EventID = s.string()
	case "command":
		m.Command = s.string()
	case "command_id":
		m.CommandID = s.string()
	case "digest":
		m.Digest = s.string()
	case "correlation_id":
		m.Correlation = s.string()
	case "causation_id":
		m.Causation = s.string()
	case "actor":
		m.Actor = s.string()
	case "reason":
		m.Reason = s.string()
	case "reference":
		m.Reference = s.string()
	case "recorded_at":
		m.Recorded = s.time()
	case "effective_at":
		m.Effective = s.time()
	case "traceparent":
		m.Trace = s.string()
	case "part":
		m.Part = s.whole()
	case "parts":
		m.Parts = s.whole()
	case "answer":
		if m.answer {
			m.Answer = s.answer()
		} else {
			s.skip()
		}
	default:
		s.fail()
	}
}

// answer reads a document; null stays null.
func (s *scanner) answer() json.RawMessage {
	if s.word("null") {
		return json.RawMessage("null")
	}
	return s.document()
}

func (f *ItemCreated) member(s *scanner, name string) {
	switch name {
	case "inventory_item_id":
		f.ItemID = s.string()
	case "attributes":
		s.object(&f.Attributes)
	default:
		s.fail()
	}
}

func (a *ItemAttributes) member(s *scanner, name string) {
	switch name {
	case "sku":
		a.SKU = s.optional()
	case "title":
		a.Title = s.optional()
	case "description":
		a.Description = s.optional()
	case "thumbnail":
		a.Thumbnail = s.optional()
	case "origin_country":
		a.OriginCountry = s.optional()
	case "hs_code":
		a.HSCode = s.optional()
	case "mid_code":
		a.MIDCode = s.optional()
	case "material":
		a.Material = s.optional()
	case "unit_of_measure":
		a.UnitOfMeasure = s.optional()
	case "weight":
		a.Weight = s.optionalQuantity()
	case "length":
		a.Length = s.optionalQuantity()
	case "height":
		a.Height = s.optionalQuantity()
	case "width":
		a.Width = s.optionalQuantity()
	case "requires_shipping":
		a.RequiresShipping = s.bool()
	case "metadata":
		a.Metadata = s.document()
	default:
		s.fail()
	}
}

func (f *SKUClaimed) member(s *scanner, name string) {
	switch name {
	case "sku":
		f.SKU = s.string()
	case "inventory_item_id":
		f.ItemID = s.string()
	default:
		s.fail()
	}
}

func (f *LevelCreated) member(s *scanner, name string) {
	switch name {
	case "inventory_item_id":
		f.ItemID = s.string()
	case "level_id":
		f.LevelID = s.string()
	case "location_id":
		f.LocationID = s.string()
	case "stocked_quantity":
		f.Stocked = s.quantity()
	case "incoming_quantity":
		f.Incoming = s.quantity()
	case "metadata":
		f.Metadata = s.document()
	default:
		s.fail()
	}
}

func (f *StockAdjusted) member(s *scanner, name string) {
	switch name {
	case "inventory_item_id":
		f.ItemID = s.string()
	case "level_id":
		f.LevelID = s.string()
	case "location_id":
		f.LocationID = s.string()
	case "delta":
		f.Delta = s.quantity()
	case "stocked_quantity":
		f.Stocked = s.quantity()
	case "reserved_quantity":
		f.Reserved = s.quantity()
	default:
		s.fail()
	}
}

func (f *StockSet) member(s *scanner, name string) {
	switch name {
	case "inventory_item_id":
		f.ItemID = s.string()
	case "level_id":
		f.LevelID = s.string()
	case "location_id":
		f.LocationID = s.string()
	case "from":
		f.From = s.quantity()
	case "stocked_quantity":
		f.Stocked = s.quantity()
	case "reserved_quantity":
		f.Reserved = s.quantity()
	default:
		s.fail()
	}
}

func (f *ReservationCreated) member(s *scanner, name string) {
	switch name {
	case "inventory_item_id":
		f.ItemID = s.string()
	case "level_id":
		f.LevelID = s.string()
	case "location_id":
		f.LocationID = s.string()
	case "reservation_id":
		f.ReservationID = s.string()
	case "quantity":
		f.Quantity = s.quantity()
	case "details":
		s.object(&f.Details)
	case "stocked_quantity":
		f.Stocked = s.quantity()
	case "reserved_quantity":
		f.Reserved = s.quantity()
	default:
		s.fail()
	}
}

func (d *ReservationDetails) member(s *scanner, name string) {
	switch name {
	case "line_item_id":
		d.LineItemID = s.optional()
	case "description":
		d.Description = s.optional()
	case "external_id":
		d.ExternalID = s.optional()
	case "created_by":
		d.CreatedBy = s.optional()
	case "allow_backorder":
		d.AllowBackorder = s.bool()
	case "metadata":
		d.Metadata = s.document()
	default:
		s.fail()
	}
}

func (f *ReservationReleased) member(s *scanner, name string) {
	switch name {
	case "inventory_item_id":
		f.ItemID = s.string()
	case "level_id":
		f.LevelID = s.string()
	case "location_id":
		f.LocationID = s.string()
	case "reservation_id":
		f.ReservationID = s.string()
	case "quantity":
		f.Quantity = s.quantity()
	case "stocked_quantity":
		f.Stocked = s.quantity()
	case "reserved_quantity":
		f.Reserved = s.quantity()
	default:
		s.fail()
	}
}

func (f *ReservationFulfilled) member(s *scanner, name string) {
	switch name {
	case "inventory_item_id":
		f.ItemID = s.string()
	case "level_id":
		f.LevelID = s.string()
	case "location_id":
		f.LocationID = s.string()
	case "reservation_id":
		f.ReservationID = s.string()
	case "quantity":
		f.Quantity = s.quantity()
	case "remaining":
		f.Remaining = s.quantity()
	case "stocked_quantity":
		f.Stocked = s.quantity()
	case "reserved_quantity":
		f.Reserved = s.quantity()
	default:
		s.fail()
	}
}

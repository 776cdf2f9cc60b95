package events

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"
)

// A Writer writes JSON to the byte as encoding/json would, without reflection. The
// facts that logs are full of, metadata and the usual answers are written with it
// first; BenchmarkRecord says what that saves. What would need an escape, or is no
// JSON, it does not write, and encoding/json decides; so it never writes anything in
// another way. It is to writing what a scanner is to reading.
//
// The zero Writer is ready for use, by one goroutine.
type Writer struct {
	text   []byte
	failed bool // nothing that was written counts
}

// A Written value writes itself: all of it, and the same that encoding/json would.
type Written interface{ Write(w *Writer) }

// writers are used again, as what is written with them is copied.
var writers = sync.Pool{New: func() any { return new(Writer) }}

// Marshal is json.Marshal(v), which it is left to unless v writes itself and can.
func Marshal(v any) ([]byte, error) {
	if known, ok := v.(Written); ok {
		w := writers.Get().(*Writer)
		defer writers.Put(w)
		w.Reset()
		known.Write(w)
		if text, ok := w.Text(); ok {
			return append(make([]byte, 0, len(text)), text...), nil
		}
	}
	return json.Marshal(v)
}

// Reset makes the Writer empty, and keeps its memory unless that is much.
func (w *Writer) Reset() {
	if cap(w.text) > 1<<16 {
		w.text = nil
	}
	w.text, w.failed = w.text[:0], false
}

// Text is what was written, until the next Reset, and whether encoding/json would
// have written the same.
func (w *Writer) Text() (text []byte, ok bool) { return w.text, !w.failed }

// Fail says that encoding/json would write something else.
func (w *Writer) Fail() { w.failed = true }

// Raw writes text as it is: brackets, and commas between elements.
func (w *Writer) Raw(text string) { w.text = append(w.text, text...) }

// Member writes the name of a member, and the comma after the one before it.
func (w *Writer) Member(name string) {
	if n := len(w.text); n > 0 && w.text[n-1] != '{' {
		w.text = append(w.text, ',')
	}
	w.text = append(w.text, '"')
	w.text = append(w.text, name...)
	w.text = append(w.text, '"', ':')
}

// Element writes a string that is no member.
func (w *Writer) Element(s string) {
	if !plain(s) {
		w.failed = true
	}
	w.text = append(w.text, '"')
	w.text = append(w.text, s...)
	w.text = append(w.text, '"')
}

// plain reports whether encoding/json writes a text as it is.
func plain(s string) bool {
	ascii := true
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf {
			ascii = false
		} else if escapes[c] {
			return false
		}
	}
	return ascii || utf8.ValidString(s) && !strings.ContainsAny(s, "\u2028\u2029")
}

// escapes are the ASCII characters that encoding/json does not write as they are.
var escapes = func() (all [utf8.RuneSelf]bool) {
	for c := range byte(' ') {
		all[c] = true
	}
	for _, c := range []byte(`"\<>&`) {
		all[c] = true
	}
	return all
}()

// String writes a member.
func (w *Writer) String(name, value string) {
	w.Member(name)
	w.Element(value)
}

// NotEmpty writes a member, unless it is empty.
func (w *Writer) NotEmpty(name, value string) {
	if value != "" {
		w.String(name, value)
	}
}

// Optional writes a member, null for nil.
func (w *Writer) Optional(name string, value *string) {
	w.Member(name)
	if value == nil {
		w.Raw("null")
	} else {
		w.Element(*value)
	}
}

// Quantity writes a member.
func (w *Writer) Quantity(name string, value Quantity) {
	w.Member(name)
	w.text = value.append(w.text)
}

// OptionalQuantity writes a member, null for nil.
func (w *Writer) OptionalQuantity(name string, value *Quantity) {
	w.Member(name)
	if value == nil {
		w.Raw("null")
	} else {
		w.text = value.append(w.text)
	}
}

// Uint writes a member.
func (w *Writer) Uint(name string, value uint64) {
	w.Member(name)
	w.text = strconv.AppendUint(w.text, value, 10)
}

// notZero writes a member, unless it is 0.
func (w *Writer) notZero(name string, value int) {
	if value != 0 {
		w.Member(name)
		w.text = strconv.AppendInt(w.text, int64(value), 10)
	}
}

// Bool writes a member.
func (w *Writer) Bool(name string, value bool) {
	w.Member(name)
	w.text = strconv.AppendBool(w.text, value)
}

// Time writes a member.
func (w *Writer) Time(name string, value time.Time) {
	w.Member(name)
	w.text = append(w.text, '"')
	text, err := value.AppendText(w.text)
	if err != nil {
		w.failed = true
		return
	}
	w.text = append(text, '"')
}

// OptionalTime writes a member, null for nil.
func (w *Writer) OptionalTime(name string, value *time.Time) {
	if value != nil {
		w.Time(name, *value)
		return
	}
	w.Member(name)
	w.Raw("null")
}

// Document writes a member that is JSON, null for nil. It looks at every byte of it
// first.
func (w *Writer) Document(name string, value json.RawMessage) {
	w.Member(name)
	if value == nil {
		w.Raw("null")
		return
	}
	w.text = append(w.text, value...)
	// The scanner only looks, at what nobody changes meanwhile, so it needs no copy.
	s := scanner{text: unsafe.String(unsafe.SliceData(value), len(value))} //nolint:gosec // G103: see above
	if s.value(0); s.failed || s.at != len(s.text) {
		w.failed = true
	}
}

// Write implements [Written].
func (m *Meta) Write(w *Writer) {
	w.Raw("{")
	w.String("event_id", m.EventID)
	w.String("command", m.Command)
	w.String("command_id", m.CommandID)
	w.String("digest", m.Digest)
	w.NotEmpty("correlation_id", m.Correlation)
	w.NotEmpty("causation_id", m.Causation)
	w.NotEmpty("actor", m.Actor)
	w.NotEmpty("reason", m.Reason)
	w.NotEmpty("reference", m.Reference)
	w.Time("recorded_at", m.Recorded)
	if !m.Effective.IsZero() {
		w.Time("effective_at", m.Effective)
	}
	w.NotEmpty("traceparent", m.Trace)
	w.notZero("part", m.Part)
	w.notZero("parts", m.Parts)
	if len(m.Answer) > 0 {
		w.Document("answer", m.Answer)
	}
	w.Raw("}")
}

// Write implements [Written].
func (f ItemCreated) Write(w *Writer) {
	w.Raw("{")
	w.String("inventory_item_id", f.ItemID)
	w.Member("attributes")
	w.Raw("{")
	w.Optional("sku", f.Attributes.SKU)
	w.Optional("title", f.Attributes.Title)
	w.Optional("description", f.Attributes.Description)
	w.Optional("thumbnail", f.Attributes.Thumbnail)
	w.Optional("origin_country", f.Attributes.OriginCountry)
	w.Optional("hs_code", f.Attributes.HSCode)
	w.Optional("mid_code", f.Attributes.MIDCode)
	w.Optional("material", f.Attributes.Material)
	w.Optional("unit_of_measure", f.Attributes.UnitOfMeasure)
	w.OptionalQuantity("weight", f.Attributes.Weight)
	w.OptionalQuantity("length", f.Attributes.Length)
	w.OptionalQuantity("height", f.Attributes.Height)
	w.OptionalQuantity("width", f.Attributes.Width)
	w.Bool("requires_shipping", f.Attributes.RequiresShipping)
	w.Document("metadata", f.Attributes.Metadata)
	w.Raw("}}")
}

// Write implements [Written].
func (f SKUClaimed) Write(w *Writer) {
	w.Raw("{")
	w.String("sku", f.SKU)
	w.String("inventory_item_id", f.ItemID)
	w.Raw("}")
}

// level begins a fact about a level.
func (w *Writer) level(item, level, location string) {
	w.Raw("{")
	w.String("inventory_item_id", item)
	w.String("level_id", level)
	w.String("location_id", location)
}

// stock ends a fact with how the level is then.
func (w *Writer) stock(stocked, reserved Quantity) {
	w.Quantity("stocked_quantity", stocked)
	w.Quantity("reserved_quantity", reserved)
	w.Raw("}")
}

// Write implements [Written].
func (f LevelCreated) Write(w *Writer) {
	w.level(f.ItemID, f.LevelID, f.LocationID)
	w.Quantity("stocked_quantity", f.Stocked)
	w.Quantity("incoming_quantity", f.Incoming)
	if len(f.Metadata) > 0 {
		w.Document("metadata", f.Metadata)
	}
	w.Raw("}")
}

// Write implements [Written].
func (f StockAdjusted) Write(w *Writer) {
	w.level(f.ItemID, f.LevelID, f.LocationID)
	w.Quantity("delta", f.Delta)
	w.stock(f.Stocked, f.Reserved)
}

// Write implements [Written].
func (f StockSet) Write(w *Writer) {
	w.level(f.ItemID, f.LevelID, f.LocationID)
	w.Quantity("from", f.From)
	w.stock(f.Stocked, f.Reserved)
}

// Write implements [Written].
func (f ReservationCreated) Write(w *Writer) {
	w.level(f.ItemID, f.LevelID, f.LocationID)
	w.String("reservation_id", f.ReservationID)
	w.Quantity("quantity", f.Quantity)
	w.Member("details")
	w.Raw("{")
	f.Details.Members(w)
	w.Raw("}")
	w.stock(f.Stocked, f.Reserved)
}

// Members writes the members of d, which is embedded elsewhere.
func (d ReservationDetails) Members(w *Writer) {
	w.Optional("line_item_id", d.LineItemID)
	w.Optional("description", d.Description)
	w.Optional("external_id", d.ExternalID)
	w.Optional("created_by", d.CreatedBy)
	w.Bool("allow_backorder", d.AllowBackorder)
	w.Document("metadata", d.Metadata)
}

// Write implements [Written].
func (f ReservationReleased) Write(w *Writer) {
	w.level(f.ItemID, f.LevelID, f.LocationID)
	w.String("reservation_id", f.ReservationID)
	w.Quantity("quantity", f.Quantity)
	w.stock(f.Stocked, f.Reserved)
}

// Write implements [Written].
func (f ReservationFulfilled) Write(w *Writer) {
	w.level(f.ItemID, f.LevelID, f.LocationID)
	w.String("reservation_id", f.ReservationID)
	w.Quantity("quantity", f.Quantity)
	w.Quantity("remaining", f.Remaining)
	w.stock(f.Stocked, f.Reserved)
}

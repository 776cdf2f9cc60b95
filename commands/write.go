package commands

import (
	"crypto/sha256"
	"encoding/hex"
	stdjson "encoding/json"
	"slices"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The answers and the digests of the commands that ledgers are full of are written
// without reflection, see events.Writer.

// answerJSON is what encoding/json makes of a result.
func answerJSON(result any) (stdjson.RawMessage, error) {
	switch rows := result.(type) {
	case []LevelRow:
		return events.Marshal(rowsOf[LevelRow](rows))
	case []ReservationRow:
		return events.Marshal(rowsOf[ReservationRow](rows))
	default:
		return stdjson.Marshal(result)
	}
}

// rowsOf are rows that write themselves.
type rowsOf[R events.Written] []R

// Write implements events.Written.
func (rows rowsOf[R]) Write(w *events.Writer) {
	if rows == nil {
		w.Raw("null")
		return
	}
	array(w, rows, R.Write)
}

// array writes an array.
func array[T any](w *events.Writer, all []T, write func(T, *events.Writer)) {
	w.Raw("[")
	for i, each := range all {
		if i > 0 {
			w.Raw(",")
		}
		write(each, w)
	}
	w.Raw("]")
}

// Write implements events.Written.
func (r LevelRow) Write(w *events.Writer) {
	w.Raw("{")
	w.String("id", r.ID)
	w.String("inventory_item_id", r.InventoryItemID)
	w.String("location_id", r.LocationID)
	w.Quantity("stocked_quantity", r.StockedQuantity)
	w.Quantity("reserved_quantity", r.ReservedQuantity)
	w.Quantity("incoming_quantity", r.IncomingQuantity)
	w.Quantity("available_quantity", r.AvailableQuantity)
	w.Document("metadata", r.Metadata)
	w.Uint("version", r.Version)
	w.Time("created_at", r.CreatedAt)
	w.Time("updated_at", r.UpdatedAt)
	w.OptionalTime("deleted_at", r.DeletedAt)
	w.Raw("}")
}

// Write implements events.Written.
func (r ReservationRow) Write(w *events.Writer) {
	w.Raw("{")
	w.String("id", r.ID)
	w.String("inventory_item_id", r.InventoryItemID)
	w.String("location_id", r.LocationID)
	w.Quantity("quantity", r.Quantity)
	r.Members(w)
	w.Time("created_at", r.CreatedAt)
	w.Time("updated_at", r.UpdatedAt)
	w.OptionalTime("deleted_at", r.DeletedAt)
	w.Raw("}")
}

// digest identifies a command's name and body, however the body was written: it is
// the SHA-256 of the name, a zero byte and the canonical body. Digests are stored
// with the events, so they are the same for ever.
func digest(c Command) (string, error) {
	w := canons.Get().(*events.Writer)
	defer canons.Put(w)
	w.Reset()
	w.Raw(c.Name())
	w.Raw("\x00")
	text, known := canonical(w, c)
	if !known {
		body, err := json.Marshal(c, json.Deterministic(true), jsontext.ReorderRawObjects(true))
		if err != nil {
			// Texts are checked by now, so it is a document that only a Go program can send.
			return "", fault.New(fault.Invalid, "invalid_metadata", "metadata is not well-formed JSON: %v", err).With("field", "metadata")
		}
		text = slices.Concat([]byte(c.Name()), []byte{0}, body)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// canons are used again.
var canons = sync.Pool{New: func() any { return new(events.Writer) }}

// canonical writes the bodies of the commands that it knows, and that have nothing
// that one JSON package writes in another way than the other.
func canonical(w *events.Writer, c Command) (text []byte, known bool) {
	w.Raw("{")
	switch c := c.(type) {
	case AdjustInventoryLevels:
		w.Member("updates")
		array(w, c.Updates, Adjustment.canonical)
	case CreateReservations:
		w.Member("reservations")
		array(w, c.Reservations, NewReservation.canonical)
	case DeleteReservations:
		w.Member("ids")
		array(w, c.IDs, func(id string, w *events.Writer) { w.Element(id) })
	case FulfillReservations:
		w.Member("reservations")
		array(w, c.Reservations, Fulfilment.canonical)
	default:
		return nil, false
	}
	w.Raw("}")
	return w.Text()
}

func (a Adjustment) canonical(w *events.Writer) {
	w.Raw("{")
	w.String("inventory_item_id", a.InventoryItemID)
	w.String("location_id", a.LocationID)
	w.OptionalQuantity("adjustment", a.Adjustment)
	w.NotEmpty("floor", string(a.Floor))
	if a.Expect != nil {
		w.Fail()
	}
	w.Raw("}")
}

func (n NewReservation) canonical(w *events.Writer) {
	w.Raw("{")
	w.NotEmpty("id", n.ID)
	w.String("inventory_item_id", n.InventoryItemID)
	w.String("location_id", n.LocationID)
	w.OptionalQuantity("quantity", n.Quantity)
	ifGiven(w, "line_item_id", n.LineItemID)
	ifGiven(w, "description", n.Description)
	ifGiven(w, "external_id", n.ExternalID)
	ifGiven(w, "created_by", n.CreatedBy)
	if n.AllowBackorder {
		w.Bool("allow_backorder", true)
	}
	if n.Metadata != nil || n.Expect != nil { // whose members may need another order
		w.Fail()
	}
	w.Raw("}")
}

func (f Fulfilment) canonical(w *events.Writer) {
	w.Raw("{")
	w.String("id", f.ID)
	if f.Quantity != nil {
		w.Quantity("quantity", *f.Quantity)
	}
	ifGiven(w, "location_id", f.LocationID)
	w.NotEmpty("floor", string(f.Floor))
	if f.Expect != nil {
		w.Fail()
	}
	w.Raw("}")
}

func ifGiven(w *events.Writer, name string, value *string) {
	if value != nil {
		w.String(name, *value)
	}
}

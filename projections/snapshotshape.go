package projections

import (
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/stockledger/stockledger/events"
)

// A sense is what a stored value means, which SQLite does not know.
type sense int

const (
	asStored sense = iota // text, and whole numbers
	asKey                 // a quantity as quantityKey writes it; NULL is none
	asSparse              // a quantity in plain notation; NULL is 0
	asMoment              // microseconds since 1970
	asFlag                // 0 or 1
	asJSON                // a JSON document
	asKind                // the number of a kind of movement
	asFirst               // a moment, or the beginning of all time
)

// A shape says of a table what its schema cannot.
type shape struct {
	model, table string
	key          []string // the columns people know a row by; none for the primary key
	called       string   // what selects that from elsewhere, "" when the row has it
	made         string   // the column that says which event made the row; "" for none
	doubled      bool     // that column has twice the position, and 1 for the second of a pair
	once         bool     // a row is written by that event, and never again
	within       string   // the column that has the position of an event in the stream that makes the row, when no event made it
	location     string   // or the one that says which location's stream that is
	elsewhere    string   // the column that events of other streams decide, too
	columns      map[string]sense
}

// shapes are all tables of all models but those that are full-text indexes. A
// test sees to it that no table or column is left out.
var shapes = []shape{
	{model: "inventory", table: "items", key: []string{"id"}, made: "position", columns: map[string]sense{
		"position": asStored, "id": asStored, "sku": asStored, "title": asStored, "description": asStored, "thumbnail": asStored,
		"origin_country": asStored, "hs_code": asStored, "mid_code": asStored, "material": asStored, "unit_of_measure": asStored,
		"weight": asKey, "length": asKey, "height": asKey, "width": asKey, "requires_shipping": asFlag, "metadata": asJSON,
		"created_at": asMoment, "updated_at": asMoment, "deleted_at": asMoment,
	}},
	{model: "inventory", table: "totals", called: `(SELECT id FROM items WHERE items.position = totals.position)`, made: "position", columns: map[string]sense{
		"position": asStored, "stocked_quantity": asKey, "reserved_quantity": asKey, "incoming_quantity": asKey,
		"available_quantity": asKey, "version": asStored, "item_deleted_at": asMoment,
	}},
	{model: "inventory", table: "levels", key: []string{"id"}, made: "position", columns: map[string]sense{
		"position": asStored, "id": asStored, "inventory_item_id": asStored, "location_id": asStored,
		"stocked_quantity": asKey, "reserved_quantity": asKey, "incoming_quantity": asKey, "available_quantity": asKey,
		"metadata": asJSON, "version": asStored, "created_at": asMoment, "updated_at": asMoment, "deleted_at": asMoment,
	}},
	{model: "inventory", table: "reservations", key: []string{"id"}, made: "position", columns: map[string]sense{
		"position": asStored, "id": asStored, "inventory_item_id": asStored, "level_id": asStored, "location_id": asStored,
		"quantity": asKey, "fulfilled_quantity": asKey, "status": asStored, "line_item_id": asStored, "description": asStored,
		"external_id": asStored, "created_by": asStored, "allow_backorder": asFlag, "metadata": asJSON, "version": asStored,
		"created_at": asMoment, "updated_at": asMoment, "deleted_at": asMoment,
	}},
	{model: "inventory", table: "links", key: []string{"variant_id", "inventory_item_id"}, made: "position", columns: map[string]sense{
		"position": asStored, "variant_id": asStored, "inventory_item_id": asStored, "required_quantity": asKey,
		"version": asStored, "created_at": asMoment, "updated_at": asMoment, "deleted_at": asMoment,
	}},
	{model: "inventory", table: "locations", key: []string{"id"}, made: "position", columns: map[string]sense{
		"position": asStored, "id": asStored, "name": asStored, "address": asJSON, "metadata": asJSON, "links": asJSON,
		"version": asStored, "created_at": asMoment, "updated_at": asMoment, "deleted_at": asMoment,
	}},
	{model: "inventory", table: "location_links", location: "location_id", columns: map[string]sense{
		"kind": asStored, "id": asStored, "location_id": asStored,
	}},
	{model: "movements", table: "commands", key: []string{"command_id"}, made: "position", once: true, columns: map[string]sense{
		"position": asStored, "events": asStored, "command_id": asStored, "command": asStored, "digest": asStored,
		"actor": asStored, "reason": asStored, "reference": asStored, "correlation_id": asStored, "causation_id": asStored,
		"recorded_at": asMoment, "effective_at": asMoment,
	}},
	{model: "movements", table: "places", key: []string{"id"}, made: "position", once: true, columns: map[string]sense{
		"position": asStored, "id": asStored,
	}},
	{model: "movements", table: "levels", key: []string{"id"}, made: "position", elsewhere: "place", columns: map[string]sense{
		"position": asStored, "id": asStored, "inventory_item_id": asStored, "place": asStored, "prompt": asStored,
	}},
	{model: "movements", table: "movements", made: "id", doubled: true, once: true, columns: map[string]sense{
		"id": asStored, "level": asStored, "place": asStored, "kind": asKind, "reservation_id": asStored,
		"delta_stocked": asSparse, "delta_reserved": asSparse, "delta_incoming": asSparse,
		"stocked": asSparse, "reserved": asSparse, "incoming": asSparse, "place_stocked": asSparse, "place_reserved": asSparse,
		"effective_at": asMoment, "dated": asStored, "dated_stocked": asSparse, "dated_reserved": asSparse, "dated_incoming": asSparse,
	}},
	{model: "movements", table: "backdated", made: "id", doubled: true, once: true, columns: map[string]sense{
		"level": asStored, "effective_at": asMoment, "id": asStored, "stocked": asSparse, "reserved": asSparse, "incoming": asSparse,
	}},
	{model: "movements", table: "buckets", within: "level", columns: map[string]sense{
		"level": asStored, "effective_at": asFirst, "id": asStored, "movements": asStored,
		"stocked": asSparse, "reserved": asSparse, "incoming": asSparse,
	}},
	{model: "movements", table: "endings", made: "id", doubled: true, once: true, columns: map[string]sense{
		"level": asStored, "effective_at": asMoment, "id": asStored, "deleted": asFlag,
	}},
}

// shapeOf is the shape of a table, or an empty one for a table of another
// version of the model, whose values are then shown as they are stored.
func shapeOf(model, table string) shape {
	for _, s := range shapes {
		if s.model == model && s.table == table {
			return s
		}
	}
	return shape{model: model, table: table}
}

// isAmount reports whether a column holds a quantity.
func (s *shape) isAmount(column string) bool {
	return s.columns[column] == asKey || s.columns[column] == asSparse
}

// plain writes a stored value for people and programs. A value that cannot be
// one of its column is shown between the words unreadable and the stored text, so
// that it is equal to no other.
func (s sense) plain(stored any) sql.NullString {
	if stored == nil {
		if s == asSparse {
			return known0
		}
		return sql.NullString{}
	}
	if text, ok := s.read(stored); ok {
		return sql.NullString{String: text, Valid: true}
	}
	return sql.NullString{String: fmt.Sprintf("unreadable %T %q", stored, fmt.Sprint(stored)), Valid: true}
}

var known0 = sql.NullString{String: "0", Valid: true}

func (s sense) read(stored any) (text string, ok bool) {
	switch s {
	case asKey:
		key, _ := stored.(string)
		q, err := parseKey(key)
		return q.String(), err == nil && quantityKey(q) == key
	case asSparse:
		text, _ := stored.(string)
		q, err := events.ParseSum(text)
		return text, err == nil && q.String() == text && !q.IsZero()
	case asFirst:
		if stored == int64(math.MinInt64) {
			return "-infinity", true
		}
		return asMoment.read(stored)
	case asMoment:
		micros, ok := stored.(int64)
		return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano), ok
	case asFlag:
		return strconv.FormatBool(stored == int64(1)), stored == int64(0) || stored == int64(1)
	case asKind:
		n, _ := stored.(int64)
		if n < 1 || n > int64(len(movementKinds)) {
			return "", false
		}
		return movementKinds[n-1], true
	case asStored, asJSON:
	}
	switch v := stored.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), s == asStored
	}
	return "", false
}

// stored is how a plain value is stored that rows are looked up by. A whole
// number may be in a column of texts, too: SQLite compares by the column's type.
func (s sense) stored(plain string) (any, error) {
	switch s {
	case asKey, asSparse:
		q, err := events.ParseSum(plain)
		if err != nil {
			return nil, err
		}
		switch {
		case s == asKey:
			return quantityKey(q), nil
		case q.IsZero():
			return nil, nil //nolint:nilnil // that is how it is stored
		}
		return q.String(), nil
	case asMoment, asFirst:
		t, err := time.Parse(time.RFC3339Nano, plain)
		return t.UnixMicro(), err
	case asFlag:
		yes, err := strconv.ParseBool(plain)
		return yes, err
	case asKind:
		return kindNumber(plain), nil
	case asStored, asJSON:
	}
	return plain, nil
}

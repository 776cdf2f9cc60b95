package domain

import (
	stdjson "encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/events"
)

// StateFormat numbers what [State.Encode] writes. It goes up with every change
// of what an aggregate knows or of what it makes of the same facts, however
// small: a state of another format is thrown away and made anew from the stream.
const StateFormat = 1

// A State is what an aggregate knew when it was asked. It does not change with
// the aggregate, so another goroutine may encode it.
type State interface {
	// Encode writes the state for Resume. Equal states are equal bytes.
	Encode() ([]byte, error)
}

// itemState is what an Item knows: all of it but what Rollback needs.
type itemState struct {
	ID            string
	Version       uint64
	Attributes    events.ItemAttributes
	Created       time.Time
	Updated       time.Time
	Deleted       time.Time
	Levels        map[string]Level
	Places        map[string]string
	Live          map[string]Reservation
	Released      map[string]Reservation
	ReleasedOrder []string
	Removed       []Level
	RemovedLinks  []events.Link
}

// State copies what the item knows. It must not be called between Begin and
// Keep or Rollback.
func (it *Item) State() State {
	// The slices may be shared: Apply replaces them, or appends beyond what is seen here.
	return itemState{
		ID: it.ID, Version: it.Version, Attributes: it.Attributes,
		Created: it.Created, Updated: it.Updated, Deleted: it.Deleted,
		Levels: maps.Clone(it.levels.rows), Places: maps.Clone(it.places.rows),
		Live: maps.Clone(it.live.rows), Released: maps.Clone(it.released.rows),
		ReleasedOrder: it.releasedOrder, Removed: it.removed, RemovedLinks: it.removedLinks,
	}
}

// Size is about how many rows State copies.
func (it *Item) Size() int {
	return len(it.levels.rows) + len(it.live.rows) + len(it.released.rows) + len(it.removed)
}

// Resume makes a zero Item what the state was that encoded is of.
func (it *Item) Resume(encoded []byte) error {
	var s itemState
	if err := decode(encoded, &s); err != nil {
		return err
	}
	*it = Item{
		itemHead: itemHead{
			ID: s.ID, Version: s.Version, Attributes: s.Attributes,
			Created: s.Created, Updated: s.Updated, Deleted: s.Deleted,
			removed: s.Removed, removedLinks: s.RemovedLinks, releasedOrder: s.ReleasedOrder,
		},
		levels: table[Level]{rows: s.Levels}, places: table[string]{rows: s.Places},
		live: table[Reservation]{rows: s.Live}, released: table[Reservation]{rows: s.Released},
	}
	return nil
}

// Encode implements State.
func (s itemState) Encode() ([]byte, error) { return encode(s) }

// variantState is what a Variant knows.
type variantState struct {
	Version uint64
	Links   map[string]events.Quantity
}

// State copies what the variant knows; see [Item.State].
func (v *Variant) State() State { return variantState{v.Version, maps.Clone(v.links.rows)} }

// Size is about how many rows State copies.
func (v *Variant) Size() int { return len(v.links.rows) }

// Resume makes a zero Variant what the state was that encoded is of.
func (v *Variant) Resume(encoded []byte) error {
	var s variantState
	if err := decode(encoded, &s); err != nil {
		return err
	}
	*v = Variant{Version: s.Version, links: table[events.Quantity]{rows: s.Links}}
	return nil
}

// Encode implements State.
func (s variantState) Encode() ([]byte, error) { return encode(s) }

// State copies what is known of the SKU; see [Item.State].
func (s *SKU) State() State { return s.skuHead }

// Size is about how many rows State copies.
func (s *SKU) Size() int { return 0 }

// Resume makes a zero SKU what the state was that encoded is of.
func (s *SKU) Resume(encoded []byte) error {
	*s = SKU{}
	return decode(encoded, &s.skuHead)
}

// Encode implements State.
func (s skuHead) Encode() ([]byte, error) { return encode(s) }

// State copies what the location knows; see [Item.State].
func (l *Location) State() State { return l.locationHead }

// Size is about how many rows State copies.
func (l *Location) Size() int { return l.Links.Len() }

// Resume makes a zero Location what the state was that encoded is of.
func (l *Location) Resume(encoded []byte) error {
	*l = Location{}
	return decode(encoded, &l.locationHead)
}

// Encode implements State.
func (l locationHead) Encode() ([]byte, error) { return encode(l) }

// encode and decode keep the difference between nothing and what is empty, which
// JSON alone does not: a decision may look at either.
func encode(state any) ([]byte, error) {
	return json.Marshal(state,
		json.Deterministic(true), json.FormatNilMapAsNull(true), json.FormatNilSliceAsNull(true), jsontext.AllowInvalidUTF8(true),
		json.WithMarshalers(json.MarshalToFunc(func(enc *jsontext.Encoder, raw stdjson.RawMessage) error {
			if raw == nil {
				return enc.WriteToken(jsontext.Null)
			}
			return enc.WriteToken(jsontext.String(string(raw)))
		})))
}

func decode(encoded []byte, state any) error {
	return json.Unmarshal(encoded, state, json.RejectUnknownMembers(true),
		json.WithUnmarshalers(json.UnmarshalFromFunc(func(dec *jsontext.Decoder, raw *stdjson.RawMessage) error {
			token, err := dec.ReadToken()
			if err != nil {
				return err
			}
			switch token.Kind() {
			case 'n':
				*raw = nil
			case '"':
				*raw = stdjson.RawMessage(token.String())
			default:
				return fmt.Errorf("metadata is %s, not a string", token.Kind())
			}
			return nil
		})))
}

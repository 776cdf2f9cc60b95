package domain

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Field of a change is absent (the zero value), null, or a value. Absent
// leaves what is there, null clears it.
type Field[T any] struct {
	Set   bool
	Value *T // nil: null
}

// Value is a Field that sets v.
func Value[T any](v T) Field[T] { return Field[T]{Set: true, Value: &v} }

// Null is a Field that clears.
func Null[T any]() Field[T] { return Field[T]{Set: true} }

// IsZero reports whether the field is absent; omitzero asks it.
func (f Field[T]) IsZero() bool { return !f.Set }

// MarshalJSONTo implements json.MarshalerTo.
func (f Field[T]) MarshalJSONTo(enc *jsontext.Encoder) error {
	return json.MarshalEncode(enc, f.Value)
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (f *Field[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	f.Set, f.Value = true, nil
	return json.UnmarshalDecode(dec, &f.Value)
}

// copied is a pointer to a value of its own. Facts are kept, and whoever asked for
// them may use his variables again.
func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

package domain_test

import (
	encoding "encoding/json"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
)

// Absent leaves, null clears, a value sets: JSON keeps the three apart, both ways.
func TestAbsentIsNotNull(t *testing.T) {
	for text, want := range map[string]domain.ItemChanges{
		`{}`:                         {},
		`{"title":null}`:             {Title: domain.Null[string]()},
		`{"title":""}`:               {Title: domain.Value("")},
		`{"title":"x"}`:              {Title: domain.Value("x")},
		`{"weight":null}`:            {Weight: domain.Null[events.Quantity]()},
		`{"weight":0}`:               {Weight: domain.Value(q("0"))},
		`{"weight":1.5}`:             {Weight: domain.Value(q("1.5"))},
		`{"requires_shipping":true}`: {RequiresShipping: domain.Value(true)},
		`{"metadata":null}`:          {Metadata: domain.Null[encoding.RawMessage]()},
		`{"metadata":{"a":null}}`:    {Metadata: domain.Value(raw(`{"a":null}`))},
	} {
		t.Run(text, func(t *testing.T) {
			var got domain.ItemChanges
			require.NoError(t, json.Unmarshal([]byte(text), &got))
			require.Empty(t, cmp.Diff(want, got))
			again, err := json.Marshal(got)
			require.NoError(t, err)
			require.Equal(t, text, string(again))
		})
	}

	for _, text := range []string{`{"title":1}`, `{"weight":"1"}`, `{"weight":1e18}`, `{"requires_shipping":"yes"}`} {
		var got domain.ItemChanges
		require.Error(t, json.Unmarshal([]byte(text), &got), text)
	}

	// A field that is read twice holds what was read last.
	var f domain.Field[string]
	require.NoError(t, json.Unmarshal([]byte(`"x"`), &f))
	require.NoError(t, json.Unmarshal([]byte(`null`), &f))
	require.Equal(t, domain.Null[string](), f)
	require.True(t, domain.Field[string]{}.IsZero())
	require.False(t, f.IsZero())
}

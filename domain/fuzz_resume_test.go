package domain_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
)

// A resumer is an aggregate that goes on from a snapshot.
type resumer interface {
	Resume(encoded []byte) error
	State() domain.State
	Size() int
}

// Whatever bytes a snapshot has, an aggregate refuses them, or knows what they say
// and writes the same again.
func FuzzResume(f *testing.F) {
	for which := range 4 {
		for _, state := range []string{
			"", "null", "{}", "[]", `{"Version":1}`, `{"Version":-1}`, `{"Unknown":1}`,
			`{"ID":"cup","Version":3,"Attributes":{"metadata":"{\"a\":1}"},"Levels":{"l":{"ID":"l"}},"Places":null,"Live":{},"ReleasedOrder":["r"]}`,
			`{"Version":2,"Links":{"cup":1.5}}`,
		} {
			f.Add(which, []byte(state))
		}
	}
	aggregates := []func() resumer{
		func() resumer { return new(domain.Item) }, func() resumer { return new(domain.Variant) },
		func() resumer { return new(domain.SKU) }, func() resumer { return new(domain.Location) },
	}
	f.Fuzz(func(t *testing.T, which int, encoded []byte) {
		fresh := aggregates[uint(which)%uint(len(aggregates))]
		first := fresh()
		if first.Resume(encoded) != nil {
			return
		}
		_ = first.Size()
		written, err := first.State().Encode()
		require.NoError(t, err)
		again := fresh()
		require.NoError(t, again.Resume(written), "%s", written)
		rewritten, err := again.State().Encode()
		require.NoError(t, err)
		require.Equal(t, string(written), string(rewritten))
	})
}

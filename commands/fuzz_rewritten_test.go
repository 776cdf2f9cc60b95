package commands_test

import (
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// A command that was read and is written again, as a Go program sends it, is the
// same command: a repeat that comes by another way is found to be one.
func FuzzRewritten(f *testing.F) {
	names := commands.Names()
	for i, name := range names {
		for _, family := range families {
			for _, sc := range family {
				if name == sc.when.name {
					f.Add(i, []byte(sc.when.body))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		name := names[uint(which)%uint(len(names))]
		command, err := commands.Decode(name, body)
		if err != nil {
			refusal := fault.Public(err)
			require.Equal(t, fault.Invalid.String(), refusal.Type, "%v", err)
			require.NotEmpty(t, refusal.Code)
			require.True(t, utf8.ValidString(refusal.Message), "%q", refusal.Message)
			return
		}
		digest, err := commands.Digest(command)
		require.NoError(t, err)
		written, err := json.Marshal(command)
		require.NoError(t, err)
		again, err := commands.Decode(name, written)
		require.NoError(t, err, "%s", written)
		same, err := commands.Digest(again)
		require.NoError(t, err)
		require.Equal(t, digest, same, "%s", written)
	})
}

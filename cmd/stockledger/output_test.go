package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A fullDisk takes nothing.
type fullDisk struct{}

var errFull = errors.New("no space left on device")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// A list that is cut short because the disk is full looks like all there is, so the
// shell has to hear of it, whatever form it was asked for in.
func TestWhatCouldNotBeWrittenIsNoSuccess(t *testing.T) {
	for _, args := range []string{"cmd --list", "cmd --list --json", "version"} {
		var told strings.Builder
		code := run(t.Context(), strings.Fields("stockledger "+args), func(string) string { return "" }, strings.NewReader(""), fullDisk{}, &told)
		require.Equal(t, exitFailed, code, args)
		require.Equal(t, "stockledger: no space left on device\n", told.String(), args)
	}
}

package projections

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A new pattern takes the place of one, not of all, and those that all readers of
// two files can match at once fit in twice.
func TestCompiledPatternsAreKept(t *testing.T) {
	var c compiled
	for n := range 10*maxCompiled + 1 {
		_, err := c.get(fmt.Sprint("other", n))
		require.NoError(t, err)
		require.LessOrEqual(t, len(c.last), maxCompiled)
	}
	require.Len(t, c.last, maxCompiled)
	require.GreaterOrEqual(t, maxCompiled, 2*2*readers*maxRegexps)
}

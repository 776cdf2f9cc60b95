package natsapi

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who has never been heard is not told that he may have been: a try that ends before
// NATS can say that nobody listens is not made.
func TestTheLastTryHasTimeToBeRefused(t *testing.T) {
	for _, enough := range []bool{false, true} {
		left := lastTry
		if enough {
			left = time.Minute
		}
		err := rest(t.Context(), time.Now().Add(left), lastTry/2)
		require.Equal(t, enough, err == nil, "%v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, rest(ended, time.Now().Add(time.Minute), time.Minute), context.Canceled)
}

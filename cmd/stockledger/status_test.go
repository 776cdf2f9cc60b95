package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/internal/audit"
)

// What to do about a damaged log is the opposite of what to do about a wrong row.
func TestWhatTheWalkFoundSaysWhatToDo(t *testing.T) {
	for advice, drift := range map[string]stockledger.Drift{
		"rebuild": {Wrong: 2, First: &audit.Finding{Message: "a row"}},
		"restore": {Wrong: 2, Damaged: 1, First: &audit.Finding{Message: "an event"}},
		"verify":  {Blind: true},
	} {
		err := health{Drift: &drift}.verdict()
		require.ErrorContains(t, err, advice)
		if advice == "restore" {
			require.NotContains(t, err.Error(), "rebuild")
		}
	}
	require.NoError(t, health{Drift: &stockledger.Drift{Trouble: "for a moment"}}.verdict())
}

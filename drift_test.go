package stockledger_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
)

// A program that embeds a ledger can have it verified, and hear what the walk finds.
func TestALedgerIsVerifiedInAProgram(t *testing.T) {
	config := quiet(t.TempDir())
	ledger, err := stockledger.Open(t.Context(), config)
	require.NoError(t, err)
	answer, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	require.NoError(t, ledger.Close())
	config.Walk = true
	ledger, err = stockledger.Open(t.Context(), config)
	require.NoError(t, err)
	defer ledger.Close()
	require.NoError(t, ledger.Models().WaitFor(t.Context(), answer.Position))

	report, err := ledger.Verify(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report.Findings)
	require.Equal(t, answer.Position, report.Position)
	require.Eventually(t, func() bool {
		drift, walking := ledger.Drift()
		return walking && drift.Rows > 0 && drift.Wrong == 0
	}, time.Minute, 10*time.Millisecond, "rows are walked over, and none is wrong")
}

func TestNobodyWalksUnasked(t *testing.T) {
	_, walking := open(t, t.TempDir()).Drift()
	require.False(t, walking)
}

package audit_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/audit"
)

func verify(t testing.TB, ledger *stockledger.Ledger) audit.Report {
	report, err := audit.Verify(t.Context(), audit.Config{Store: ledger.Events(), Models: ledger.Models()})
	require.NoError(t, err)
	return report
}

// requireOK shows what was found when something was.
func requireOK(t testing.TB, report audit.Report) {
	t.Helper()
	for _, f := range report.Findings {
		t.Log(f.Check, "|", f.Message)
	}
	require.True(t, report.OK(), "%d wrong: %+v", report.Wrong(), report.Checks)
}

func TestALedgerThatIsRightIsNotAccused(t *testing.T) {
	ledger := open(t, t.TempDir())
	defer func() { require.NoError(t, ledger.Close()) }()
	s := newShop(t, ledger, 40, newSeed(t))
	s.trade(6000)
	s.settle()

	report := verify(t, ledger)

	requireOK(t, report)
	t.Logf("%d of %d commands, %d events, %d rows", s.done, s.orders, report.Events, report.Rows)
	for _, c := range report.Checks {
		t.Log(c.Name, c.Checked)
		if c.Name != "backdated sums" {
			require.NotZero(t, c.Checked, "%s was not looked at", c.Name)
		}
	}
	types := make(map[string]bool)
	for batch, err := range ledger.Events().Subscribe(t.Context(), 0) {
		require.NoError(t, err)
		for _, e := range batch {
			types[e.Type] = true
		}
		if batch[len(batch)-1].Position == report.Position {
			break
		}
	}
	for _, name := range events.Types() {
		require.True(t, types[name], "the shop makes no %s, so nothing says that the books know it", name)
	}
	written, err := json.Marshal(report)
	require.NoError(t, err)
	require.Contains(t, string(written), `"head":"`+report.Head.String()+`"`)
}

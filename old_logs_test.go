package stockledger_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/evidence"
)

// testdata/logs has a log of each format that was ever released, as it was exported
// then, and beside it what a ledger on it answered on that day: names of queries,
// what was asked, the answer. Neither ever changes. A new format comes with a log of
// its own.
func TestLogsOfEveryReleaseStillLoad(t *testing.T) {
	logs, err := filepath.Glob("testdata/logs/*.jsonl")
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, log := range logs {
		t.Run(filepath.Base(log), func(t *testing.T) {
			dir := t.TempDir()
			head := imported(t, log, dir)
			ledger := open(t, dir)
			require.NoError(t, ledger.Models().WaitFor(t.Context(), head.Position))
			for _, told := range toldOf(t, log) {
				answer, err := ledger.Query(t.Context(), told.Query, told.Asked)
				require.NoError(t, err, "%s %s", told.Query, told.Asked)
				body, err := json.Marshal(answer)
				require.NoError(t, err)
				require.JSONEq(t, string(told.Answer), string(body), "%s %s", told.Query, told.Asked)
			}
			report, err := audit.Verify(t.Context(), audit.Config{Store: ledger.Events(), Models: ledger.Models(), Rows: 1})
			require.NoError(t, err)
			require.True(t, report.OK(), "%v", report.Findings)
			again := filepath.Join(t.TempDir(), "again.jsonl")
			_, err = evidence.ExportFile(t.Context(), ledger.Events(), again, nil)
			require.NoError(t, err)
			require.Equal(t, contents(t, log), contents(t, again))
		})
	}
}

// A told answer is what a ledger said on the day of the export.
type told struct {
	Query  string          `json:"query"`
	Asked  json.RawMessage `json:"asked"`
	Answer json.RawMessage `json:"answer"`
}

func toldOf(t *testing.T, log string) (all []told) {
	require.NoError(t, json.Unmarshal([]byte(contents(t, strings.TrimSuffix(log, "l"))), &all))
	require.NotEmpty(t, all)
	return all
}

func contents(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// imported makes the log in a directory what an export says.
func imported(t *testing.T, from, dir string) evidence.Head {
	file, err := os.Open(from)
	require.NoError(t, err)
	defer file.Close()
	var store *sqlitestore.Store
	head, err := evidence.Import(t.Context(), file, func(id string) (_ events.Store, err error) {
		store, err = sqlitestore.Create(filepath.Join(dir, "log.db"), id)
		return store, err
	}, nil)
	require.NoError(t, err)
	require.NoError(t, store.Close())
	return head
}

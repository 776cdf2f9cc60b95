package operations

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
)

// A damaged row is told of whatever is in it.
func TestAVerificationIsAnsweredWhateverARowHolds(t *testing.T) {
	title := strings.Repeat("n", 199) + "ü" // which a message does not have in full
	for name, spoilt := range map[string]string{
		"bytes that are no text": `CAST(X'6D7567FF' AS TEXT)`,
		"a long text":            `'` + title + `'`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ledger, err := stockledger.Open(t.Context(), stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			o := New(Config{Ledger: ledger, Dir: dir, Logger: slog.New(slog.DiscardHandler)})
			defer func() { require.NoError(t, errors.Join(o.Close(), ledger.Close())) }()
			answer, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(`{"id":"mug","title":"Mug"}`))
			require.NoError(t, err)
			require.NoError(t, ledger.Models().WaitFor(t.Context(), answer.Position))
			db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "models", "inventory.v1.db")+"?_pragma=busy_timeout(5000)")
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), `UPDATE items SET title = `+spoilt)
			require.NoError(t, err)
			require.NoError(t, db.Close())

			job, err := o.Operate(t.Context(), "verify-ledger", nil)
			require.NoError(t, err)
			found, err := o.job(t.Context(), ID{Job: job.(Job[any]).Job, Wait: longestWait.Seconds()})
			require.NoError(t, err)
			require.Nil(t, found.Error)
			require.Contains(t, fmt.Sprint(found.Result), "inventory.items mug: title is ")
		})
	}
}

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // spoils rows as no program of ours would

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/projections"
)

// ran runs the program in this process, and returns its exit status and what
// it writes.
func ran(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patienceInTests)
	defer cancel()
	stdout, stderr := new(written), new(written)
	code = run(ctx, append([]string{"stockledger"}, args...), func(string) string { return "" }, strings.NewReader(""), stdout, stderr)
	return code, stdout.String(), stderr.String()
}

// spoilt makes a ledger whose read model has a bug made on purpose: two of three
// mugs stay reserved although nobody wants them any more.
func spoilt(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	h, err := openHost(t.Context(), hostConfig{
		dir: dir, listen: "127.0.0.1:0", planted: true, logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Close()) }()
	do(t, h, commands.Envelope{}, "create-inventory-items",
		`[{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]},{"id":"cup"}]`)
	do(t, h, commands.Envelope{}, "create-reservations", `{"id":"r1","inventory_item_id":"mug","location_id":"paris","quantity":2}`)
	last := do(t, h, commands.Envelope{Key: "cancel-1", Actor: "ann", Reason: "cancelled"}, "delete-reservations", `{"ids":["r1"]}`)
	require.NoError(t, h.ledger.Models().WaitFor(t.Context(), last.Position))
	return dir
}

func do(t *testing.T, h *host, env commands.Envelope, name, body string) commands.Answer {
	t.Helper()
	answer, err := h.ledger.DoJSON(t.Context(), env, name, []byte(body))
	require.NoError(t, err)
	return answer
}

// available is what is served of mugs.
func available(t *testing.T, server string) string {
	t.Helper()
	code, out, errs := ran(t, "get", "items", "mug", "--json", "--server", server)
	require.Zero(t, code, errs)
	return regexp.MustCompile(`"available_quantity": ?([0-9.]+)`).FindStringSubmatch(out)[1]
}

// An operator sees which rows a bug has spoilt and since when, serves what was
// rebuilt, and goes back; over either transport.
func TestRebuildDiffSwitchAndBack(t *testing.T) {
	t.Parallel()
	dir := spoilt(t)
	at, _ := serving(t, nil, "serve", "--data", dir, "--http", "127.0.0.1:0", "--switch=manual", "--walk=off")
	for i, server := range []string{at.NATS, at.HTTP} {
		require.Equal(t, "1", available(t, server), "the bug is served")
		code, out, errs := ran(t, "rebuild", "inventory", "--server", server)
		require.Zero(t, code, errs)
		require.Regexp(t, `(?m)^inventory +\d+ +1  ready `, out)
		require.Contains(t, out, "stockledger diff inventory --server "+server)

		code, out, errs = ran(t, "diff", "--server", server)
		require.Equal(t, exitFailed, code, "they differ: %s", errs)
		require.Regexp(t, `(?m)^totals +1 +1 +0 +0$`, out)
		require.Regexp(t, `(?m)^levels +1 +0 +0 +0$`, out)
		require.Contains(t, out, "available_quantity  1 → 3\n")
		require.Regexp(t, `(?m)^  since event \d+ of .*, inventory\.reservation-released\.v1 in .* \(delete-reservations, by ann, reason cancelled, key cancel-1\)$`, out)
		require.Contains(t, out, "stockledger switch inventory --server "+server)
		require.Empty(t, errs)

		code, out, errs = ran(t, "switch", "--server", server, "inventory")
		require.Zero(t, code, errs)
		require.Regexp(t, `^inventory: generation \d+ is served, at position \d+\n`, out)
		require.Equal(t, "3", available(t, server))
		code, out, _ = ran(t, "diff", "--server", server)
		require.Equal(t, exitFailed, code)
		require.Contains(t, out, "available_quantity  3 → 1\n", "after the switch, what was served before is the other one")

		code, out, errs = ran(t, "switch", "--back", "--json", "--server", server, "inventory")
		require.Zero(t, code, errs)
		require.Equal(t, "serving", stateOf(t, out, "inventory", 1))
		require.Equal(t, "1", available(t, server), "round %d", i)
	}
}

// stateOf is the state of a generation in an answer that has it.
func stateOf(t *testing.T, document, model string, number int) string {
	t.Helper()
	var answer struct {
		Generations []projections.Generation `json:"generations"`
	}
	require.NoError(t, json.Unmarshal([]byte(document), &answer), document)
	for _, g := range answer.Generations {
		if g.Model == model && g.Number == number {
			return g.State
		}
	}
	return "none"
}

// The same without a server, in this process.
func TestADirectoryIsOperatedOn(t *testing.T) {
	t.Parallel()
	dir := spoilt(t)
	code, _, errs := ran(t, "rebuild", "--data", dir)
	require.Zero(t, code, errs)
	code, out, errs := ran(t, "diff", "--json", "--data", dir)
	require.Equal(t, exitFailed, code, errs)
	var d projections.Difference
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	require.EqualValues(t, 1, d.Differing)
	code, _, errs = ran(t, "switch", "--data", dir)
	require.Zero(t, code, errs)
	code, out, errs = ran(t, "verify", "--data", dir)
	require.Zero(t, code, "%s%s", out, errs)
	require.Contains(t, out, "everything is right: 5 events of ")
	code, _, errs = ran(t, "switch", "--back", "--data", dir)
	require.Zero(t, code, errs)
	code, out, errs = ran(t, "verify", "--data", dir)
	require.Equal(t, exitFailed, code, errs)
	require.Regexp(t, `(?m)^wrong: .*mug.*$`, out)

	code, _, errs = ran(t, "rebuild", "--switch", "--data", dir)
	require.Zero(t, code, errs)
	code, out, errs = ran(t, "generations", "--json", "--data", dir)
	require.Zero(t, code, errs)
	require.Equal(t, "kept", stateOf(t, out, "inventory", 1))
	code, out, errs = ran(t, "generations", "drop", "inventory", "1", "--json", "--data", dir)
	require.Zero(t, code, errs)
	require.Equal(t, "none", stateOf(t, out, "inventory", 1))
}

func TestWhatIsRefusedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := spoilt(t)
	at, _ := serving(t, nil, "serve", "--data", dir, "--http", "127.0.0.1:0", "--walk=off")
	for name, c := range map[string]struct {
		code int
		args []string
		says string
	}{
		"a server has it open":     {exitFailed, []string{"diff", "--data", dir}, "leave --data out and name the server that has it open with --server URL, or stop it"},
		"there is no ledger":       {exitFailed, []string{"verify", "--data", t.TempDir()}, "there is no ledger in it"},
		"no server":                {exitUnavailable, []string{"rebuild", "--server", "nats://127.0.0.1:1"}, "no ledger answers"},
		"no such model":            {exitRefused, []string{"rebuild", "stock", "--server", at.NATS}, "there is no read model \"stock\""},
		"nothing to switch to":     {exitRefused, []string{"switch", "movements", "--server", at.HTTP}, "nothing_ready"},
		"nothing to go back to":    {exitRefused, []string{"switch", "--back", "movements", "--server", at.HTTP}, "code: "},
		"nothing to compare with":  {exitRefused, []string{"diff", "movements", "--server", at.NATS}, "nothing_to_compare"},
		"it is served":             {exitRefused, []string{"generations", "drop", "movements", "1", "--server", at.NATS}, "code: "},
		"there is no such one":     {exitRefused, []string{"generations", "drop", "movements", "7", "--server", at.NATS}, "code: "},
		"nobody would go on":       {exitFailed, []string{"rebuild", "--no-wait", "--data", dir}, "--no-wait is for a server"},
		"it would not be switched": {exitFailed, []string{"rebuild", "--no-wait", "--switch", "--server", at.NATS}, "leave one of them out"},
		"no token":                 {exitFailed, []string{"serve", "--walk", "slowly", "--switch", "never"}, "--switch \"never\": choose auto or manual"},
	} {
		code, out, errs := ran(t, c.args...)
		require.Equal(t, c.code, code, "%s: %s%s", name, out, errs)
		require.Contains(t, errs, c.says, name)
		require.Empty(t, out, name)
	}
}

// A version that changed is built by itself and then served, unless somebody wants
// to look at it first.
func TestANewVersionIsServedByItself(t *testing.T) {
	t.Parallel()
	at, _ := serving(t, nil, "serve", "--data", spoilt(t), "--http", "127.0.0.1:0", "--walk=off")
	require.Eventually(t, func() bool { return available(t, at.NATS) == "3" }, patienceInTests, 20*time.Millisecond)

	at, _ = serving(t, nil, "serve", "--data", spoilt(t), "--http", "127.0.0.1:0", "--walk=off", "--switch=manual")
	require.Eventually(t, func() bool {
		_, out, _ := ran(t, "status", "--server", at.NATS)
		return strings.Contains(out, "generation 2 of inventory is ready; stockledger diff shows what differs")
	}, patienceInTests, 20*time.Millisecond)
	require.Equal(t, "1", available(t, at.HTTP))
}

// A job is carried out once for all who ask for the same, goes on unattended, and
// is refused to nobody who knows its id.
func TestJobsOverBothTransports(t *testing.T) {
	t.Parallel()
	at, _ := serving(t, nil, "serve", "--data", spoilt(t), "--http", "127.0.0.1:0", "--walk=off")
	conn, err := natsapi.Dial(at.NATS)
	require.NoError(t, err)
	defer conn.Close()
	over, err := httpapi.Dial(at.HTTP, "")
	require.NoError(t, err)
	defer over.Close()
	var began jobAnswer
	answer, err := over.Operate(t.Context(), "ledger-head", nil)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(answer, &began))
	answer, err = conn.Operate(t.Context(), "job", fmt.Appendf(nil, `{"job":%q,"wait_seconds":30}`, began.Job))
	require.NoError(t, err)
	var done jobAnswer
	require.NoError(t, json.Unmarshal(answer, &done))
	require.True(t, done.Done)
	require.Nil(t, done.Error)
	require.Contains(t, string(done.Result), `"position":5`)

	for name, c := range map[string]struct{ operation, body, code string }{
		"unknown":          {"explode", ``, "unknown_operation"},
		"unknown member":   {"rebuild-models", `{"model":"inventory"}`, "invalid_json"},
		"no JSON":          {"rebuild-models", `[`, "invalid_json"},
		"no such job":      {"job", `{"job":"job_1"}`, "unknown_job"},
		"too long a wait":  {"job", `{"job":"job_1","wait_seconds":31}`, "invalid_data"},
		"no destination":   {"export-ledger", `{}`, "invalid_data"},
		"a relative path":  {"export-ledger", `{"to":"log.jsonl"}`, "path_not_absolute"},
		"among the data":   {"backup-ledger", fmt.Sprintf(`{"to":%q}`, filepath.Join(at.Data, "nats", "x")), "path_in_data"},
		"the data":         {"backup-ledger", fmt.Sprintf(`{"to":%q}`, at.Data), "path_in_data"},
		"dots in the path": {"export-ledger", fmt.Sprintf(`{"to":%q}`, at.Data+"/nats/../../x"), "path_not_absolute"},
	} {
		for transport, c2 := range map[string]client{"NATS": conn, "HTTP": over} {
			answer, err := c2.Operate(t.Context(), c.operation, []byte(c.body))
			require.Equal(t, c.code, fault.Code(err), "%s over %s: %s %v", name, transport, answer, err)
		}
	}
	_, body := see(t, at.HTTP+"/metrics", "")
	require.Contains(t, body, `stockledger_operations_total{code="ok",operation="ledger-head"} 1`)
	require.Contains(t, body, `stockledger_jobs_total{code="ok",operation="ledger-head"} 1`)
	require.Contains(t, body, `stockledger_operations_total{code="path_in_data",operation="backup-ledger"} 4`)
	require.NotContains(t, body, "explode")
}

// A row that is not what the log says is on the figures, in the log and in the
// readiness, until it is right again; and nothing else is.
func TestASpoiltRowIsAlarming(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := openHost(t.Context(), hostConfig{dir: dir, listen: "127.0.0.1:0", logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	last := do(t, h, commands.Envelope{}, "create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]}`)
	require.NoError(t, h.ledger.Models().WaitFor(t.Context(), last.Position))
	require.NoError(t, h.Close())
	file, err := sql.Open("sqlite", filepath.Join(dir, "models", "inventory.v1.db"))
	require.NoError(t, err)
	_, err = file.ExecContext(t.Context(), `UPDATE levels SET stocked_quantity = reserved_quantity`)
	require.NoError(t, errors.Join(err, file.Close()))

	at, log := serving(t, nil, "serve", "--data", dir, "--http", "127.0.0.1:0")
	var status int
	var body string
	require.Eventually(t, func() bool {
		status, body = see(t, at.HTTP+"/readyz", "")
		return status == http.StatusServiceUnavailable
	}, patienceInTests, 50*time.Millisecond)
	require.Contains(t, body, "1 wrong row in the read models, first stocked_quantity of ilev_")
	_, body = see(t, at.HTTP+"/metrics", "")
	require.Contains(t, body, "\nstockledger_drift_wrong_rows 1\n")
	require.Contains(t, body, "\nstockledger_model_generation{part=\"inventory\"} 1\n")
	require.Contains(t, log.String(), "level=ERROR")
	code, out, errs := ran(t, "status", "--server", at.NATS)
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, errs, "1 wrong row in the read models, the first of them: ")
	code, out, _ = ran(t, "verify", "--server", at.HTTP, "--json")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, `"column": "stocked_quantity"`)

	code, _, errs = ran(t, "rebuild", "inventory", "--switch", "--server", at.NATS)
	require.Zero(t, code, errs)
	require.Eventually(t, func() bool {
		status, body = see(t, at.HTTP+"/readyz", "")
		return status == http.StatusOK
	}, patienceInTests, 50*time.Millisecond, "%s", body)
	_, body = see(t, at.HTTP+"/metrics", "")
	require.Contains(t, body, "\nstockledger_drift_wrong_rows 0\n")
}

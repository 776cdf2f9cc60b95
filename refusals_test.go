package stockledger_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
)

// refusal is a row of list-refusals, as far as it matters here.
type refusal struct {
	Command   string          `json:"command"`
	CommandID string          `json:"command_id"`
	Code      string          `json:"code"`
	Details   json.RawMessage `json:"details"`
	Actor     string          `json:"actor"`
	Asked     json.Number     `json:"asked"`
	Available json.Number     `json:"available"`
	Line      int             `json:"line"`
	ItemID    string          `json:"inventory_item_id"`
	Position  uint64          `json:"position"`
	Body      string          `json:"body"`
}

func refusals(t testing.TB, l *stockledger.Ledger, body string) []refusal {
	t.Helper()
	answer, err := l.Query(t.Context(), "list-refusals", []byte(body))
	require.NoError(t, err)
	text, err := json.Marshal(answer)
	require.NoError(t, err)
	var page struct{ Rows []refusal }
	require.NoError(t, json.Unmarshal(text, &page))
	return page.Rows
}

// Each way in which a command is refused, and what is no refusal.
func TestRefusedCommandsAreOnRecord(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	do := func(env commands.Envelope, name, body, code string) {
		t.Helper()
		_, err := l.DoJSON(t.Context(), env, name, []byte(body))
		require.Equal(t, code, fault.Code(err), "%v", err)
	}
	do(commands.Envelope{Key: "new"}, "create-inventory-items", newMug, "")
	const tooMany = `[{"inventory_item_id":"mug","location_id":"paris","quantity":1},{"inventory_item_id":"mug","location_id":"paris","quantity":5}]`
	do(commands.Envelope{Key: "k", Actor: "ann"}, "create-reservations", tooMany, "insufficient_stock")
	do(commands.Envelope{Key: "k", DryRun: true}, "create-reservations", tooMany, "insufficient_stock")
	do(commands.Envelope{}, "create-reservations", `[{"quantity":"x`+strings.Repeat(" ", 9000), "malformed_json")
	do(commands.Envelope{}, "make-coffee", `{}`, "unknown_command")
	do(commands.Envelope{Key: "new"}, "create-inventory-items", `{"id":"cup"}`, "idempotency_key_reused")
	command, err := commands.Decode("delete-inventory-items", []byte(`"nope"`))
	require.NoError(t, err)
	_, err = l.Do(t.Context(), commands.Envelope{}, command)
	require.Equal(t, "not_found", fault.Code(err))
	_, err = l.Do(t.Context(), commands.Envelope{DryRun: true}, command)
	require.Equal(t, "not_found", fault.Code(err))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Do(gone, commands.Envelope{}, command)
	require.Equal(t, fault.Unavailable, fault.Of(err).Kind)

	want := []refusal{
		{Command: "delete-inventory-items", Code: "not_found", ItemID: "nope", Line: 1, Position: 2, Body: `{"ids":["nope"]}`},
		{Command: "create-inventory-items", CommandID: "new", Code: "idempotency_key_reused", Position: 2, Body: `{"id":"cup"}`},
		{Code: "unknown_command", Position: 2, Body: `{}`},
		{Command: "create-reservations", Code: "malformed_json", Line: 1, Position: 2, Body: `[{"quantity":"x` + strings.Repeat(" ", 4<<10-15)},
		{
			Command: "create-reservations", CommandID: "k", Code: "insufficient_stock", Actor: "ann", Line: 2, ItemID: "mug",
			Asked: "5", Available: "2", Position: 2, Body: tooMany,
		},
	}
	got := refusals(t, l, ``)
	for i := range got {
		require.NotEmpty(t, got[i].Details)
		got[i].Details = nil
	}
	require.Equal(t, want, got)
	require.NoError(t, l.Close())

	l = open(t, dir)
	require.Len(t, refusals(t, l, `{}`), len(want), "they outlive the process")
	require.Len(t, refusals(t, l, `{"inventory_item_id":"mug"}`), 1)
	require.Contains(t, l.QueryNames(), "list-refusals")
	require.Contains(t, l.QueryNames(), "retrieve-inventory-item")
	_, err = l.Query(t.Context(), "no-such-query", nil)
	require.Equal(t, "unknown_query", fault.Code(err))
}

func TestALedgerGoesOnWithoutTheRecordOfRefusals(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "refusals.db"), 0o750))
	l := open(t, dir)
	_, err := l.DoJSON(t.Context(), commands.Envelope{}, "delete-inventory-items", []byte(`"nope"`))
	require.Equal(t, "not_found", fault.Code(err))
	_, err = l.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	_, err = l.Query(t.Context(), "list-refusals", nil)
	require.Equal(t, "refusals_unavailable", fault.Code(err))
}

// Commands that are accepted, alone and beside 64 callers whose commands are all
// refused. Compare with the same refusals where none is recorded: the engine has
// to decide them, too.
func BenchmarkLedgerBesideAFlood(b *testing.B) {
	for _, tc := range []struct {
		name  string
		flood bool
		none  bool // refusals are not recorded
	}{{name: "calm"}, {name: "flood", flood: true}, {name: "flood, not recorded", flood: true, none: true}} {
		b.Run(tc.name, func(b *testing.B) {
			l, err := stockledger.Open(b.Context(), quiet(b.TempDir()))
			require.NoError(b, err)
			defer l.Close()
			_, err = l.DoJSON(b.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
			require.NoError(b, err)
			var stop atomic.Bool
			var refused atomic.Int64
			var flood sync.WaitGroup
			for range 64 {
				flood.Go(func() {
					for tc.flood && !stop.Load() {
						_, err := l.DoJSON(b.Context(), commands.Envelope{DryRun: tc.none}, "create-reservations",
							[]byte(`{"inventory_item_id":"mug","location_id":"paris","quantity":99}`))
						if fault.Code(err) == "insufficient_stock" {
							refused.Add(1)
						}
					}
				})
			}
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := l.DoJSON(b.Context(), commands.Envelope{}, "adjust-inventory-levels",
						[]byte(`{"inventory_item_id":"mug","location_id":"paris","adjustment":-1,"floor":"none"}`)); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			stop.Store(true)
			flood.Wait()
			b.ReportMetric(float64(refused.Load())/b.Elapsed().Seconds(), "refused/s")
		})
	}
}

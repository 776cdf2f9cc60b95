package stockledger_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// A ledger of a million events: 10,000 items at 3 locations; half of the rest are
// sales, three tenths reservations, two tenths releases, all of them by 64 callers.
// It says how quickly its read models are built again, and how soon it answers a
// command after a restart. With STOCKLEDGER_MILLION=DIR the ledger stays there.
//
//	go test . -run XXX -bench Million -benchtime 1x -timeout 30m
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	dir := os.Getenv("STOCKLEDGER_MILLION")
	if dir == "" {
		dir = b.TempDir()
	}
	for range b.N {
		head := grow(b, dir, million)

		start := time.Now()
		ledger := openQuiet(b, dir)
		sell(b, ledger, 0)
		restarted := time.Since(start)
		start = time.Now()
		_, err := ledger.Models().Rebuild(b.Context())
		require.NoError(b, err)
		waitUntilReady(b, ledger.Models())
		beside := time.Since(start)
		require.NoError(b, ledger.Close())

		require.NoError(b, os.RemoveAll(filepath.Join(dir, "models")))
		start = time.Now()
		ledger = openQuiet(b, dir)
		require.NoError(b, ledger.Models().WaitFor(b.Context(), head))
		alone := time.Since(start)
		require.NoError(b, ledger.Close())

		b.ReportMetric(restarted.Seconds(), "s-to-first-answer")
		b.ReportMetric(float64(head)/beside.Seconds(), "events/s-beside")
		b.ReportMetric(float64(head)/alone.Seconds(), "events/s-alone")
		b.ReportMetric(0, "ns/op")
	}
}

func openQuiet(b *testing.B, dir string) *stockledger.Ledger {
	ledger, err := stockledger.Open(b.Context(), stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	return ledger
}

// waitUntilReady waits for the generations that are being built.
func waitUntilReady(b *testing.B, models *projections.Models) {
	require.Eventually(b, func() bool {
		all, err := models.Generations(b.Context())
		require.NoError(b, err)
		for _, g := range all {
			require.Empty(b, g.Stopped)
			if g.State == "building" {
				return false
			}
		}
		return true
	}, 10*time.Minute, 50*time.Millisecond)
}

// grow has a ledger take commands until its log has so many events.
func grow(b *testing.B, dir string, size uint64) uint64 {
	const items, callers = 10_000, 64
	ledger := openQuiet(b, dir)
	defer func() { require.NoError(b, ledger.Close()) }()
	for first := 0; first < items; first += 500 {
		lines := make([]string, 500)
		for i := range lines {
			lines[i] = fmt.Sprintf(`{"id":"item_%d","sku":"sku-%d","title":"Thing %d","location_levels":[%s]}`, first+i, first+i, first+i,
				`{"location_id":"warehouse","stocked_quantity":1000000},{"location_id":"paris","stocked_quantity":1000000},{"location_id":"lyon","stocked_quantity":1000000}`)
		}
		_, err := ledger.DoJSON(b.Context(), commands.Envelope{Key: fmt.Sprint("seed-", first)}, "create-inventory-items", []byte("["+strings.Join(lines, ",")+"]"))
		require.NoError(b, err)
	}
	ctx, enough := context.WithCancel(b.Context())
	defer enough()
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(caller)))
			for n := 0; ctx.Err() == nil; n++ {
				env := commands.Envelope{Key: fmt.Sprintf("caller-%d-%d", caller, n), Actor: "till", Reason: "order", Reference: fmt.Sprint("order:", caller, n)}
				if sold, err := traffic(ctx, ledger, env, random); err != nil && ctx.Err() == nil {
					b.Error(err)
					enough()
				} else if sold >= size {
					enough()
				}
			}
		})
	}
	all.Wait()
	head, err := ledger.Events().Head(b.Context())
	require.NoError(b, err)
	require.NoError(b, ledger.Models().WaitFor(b.Context(), head))
	return head
}

// traffic carries out one command of the mix, and says where the log is.
func traffic(ctx context.Context, ledger *stockledger.Ledger, env commands.Envelope, random *rand.Rand) (uint64, error) {
	item := fmt.Sprint("item_", random.IntN(10_000))
	place := []string{"warehouse", "paris", "lyon"}[random.IntN(3)]
	if random.IntN(10) < 5 {
		one := events.Units(-1)
		answer, err := ledger.Do(ctx, env, commands.AdjustInventoryLevels{Updates: []commands.Adjustment{{
			LevelName: commands.LevelName{InventoryItemID: item, LocationID: place}, Adjustment: &one,
		}}})
		return answer.Position, err
	}
	id := "resitem_" + env.Key
	answer, err := ledger.DoJSON(ctx, env, "create-reservations",
		[]byte(fmt.Sprintf(`{"id":%q,"inventory_item_id":%q,"location_id":%q,"quantity":1}`, id, item, place)))
	if err != nil || random.IntN(3) == 0 {
		return answer.Position, err
	}
	env.Key += "-release"
	answer, err = ledger.Do(ctx, env, commands.DeleteReservations{IDs: []string{id}})
	return answer.Position, err
}

// sell is a command that needs an aggregate.
func sell(b *testing.B, ledger *stockledger.Ledger, item int) {
	one := events.Units(-1)
	_, err := ledger.Do(b.Context(), commands.Envelope{}, commands.AdjustInventoryLevels{Updates: []commands.Adjustment{{
		LevelName: commands.LevelName{InventoryItemID: fmt.Sprint("item_", item), LocationID: "paris"}, Adjustment: &one,
	}}})
	require.NoError(b, err)
}

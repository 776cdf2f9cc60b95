package commands_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/snapshots"
)

// The first command on an item after a start, by how many events its stream has,
// without a snapshot and with one. The item remembers 1,000 released reservations,
// as many as there can be. The log of a million takes a minute to make.
//
//	go test ./commands -run XXX -bench LongStream -benchtime 1x
func BenchmarkLongStream(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		log := filepath.Join(b.TempDir(), "log.db")
		store, err := sqlitestore.Open(log)
		require.NoError(b, err)
		longLife(b, store, "cup", n)
		require.NoError(b, store.Close())
		dir := b.TempDir()
		firstCommand(b, log, dir, func(commands.Snapshot) {}) // takes the snapshot

		b.Run(fmt.Sprintf("events=%d/without", n), func(b *testing.B) {
			for range b.N {
				firstCommand(b, log, b.TempDir(), func(commands.Snapshot) {})
			}
		})
		b.Run(fmt.Sprintf("events=%d/with", n), func(b *testing.B) {
			size := 0
			for range b.N {
				firstCommand(b, log, dir, func(s commands.Snapshot) { size = len(s.State) })
			}
			b.ReportMetric(float64(size)/1024, "KiB")
		})
	}
}

// firstCommand opens an engine and times the first command on the cup.
func firstCommand(b *testing.B, log, dir string, look func(commands.Snapshot)) {
	b.Helper()
	b.StopTimer()
	store, err := sqlitestore.Open(log)
	require.NoError(b, err)
	defer store.Close()
	f := snapshots.Open(b.Context(), snapshots.Config{
		Path: filepath.Join(dir, "snapshots.db"), Log: store.LogID(), Logger: slog.New(slog.DiscardHandler),
	})
	defer f.Close()
	engine, err := commands.Open(b.Context(), commands.Config{
		Store: store, Index: upToDate{store: store}, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Snapshots: f,
	})
	require.NoError(b, err)
	defer engine.Close()
	kept, _, err := f.Snapshot(b.Context(), events.ItemStream("cup"))
	require.NoError(b, err)
	look(kept)
	command, err := commands.Decode("adjust-inventory-levels", []byte(`[{"inventory_item_id":"cup","location_id":"paris","adjustment":0}]`))
	require.NoError(b, err)

	b.StartTimer()
	_, err = engine.Do(b.Context(), commands.Envelope{}, command)
	b.StopTimer()
	require.NoError(b, err)
}

package stockledger_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

func open(t *testing.T, dir string) *stockledger.Ledger {
	t.Helper()
	ledger, err := stockledger.Open(t.Context(), quiet(dir))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ledger.Close()) })
	return ledger
}

func quiet(dir string) stockledger.Config {
	return stockledger.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
}

const newMug = `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]}`

func TestSecondProcessOnTheSameDirectoryIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := stockledger.Open(t.Context(), quiet(dir))
	require.ErrorIs(t, err, events.ErrInUse)
	require.ErrorContains(t, err, filepath.Join(dir, "log.db"))
}

// What is opened only when it is needed must be where the rest is: the record of
// refusals and new generations of the read models.
func TestProgramMayChangeItsDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	ledger := open(t, "data")
	t.Chdir(t.TempDir())
	answer, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	_, err = ledger.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
	require.Equal(t, "item_exists", fault.Code(err))
	require.Len(t, refusals(t, ledger, `{}`), 1)

	_, err = ledger.Models().Rebuild(t.Context())
	require.NoError(t, err)
	require.NoError(t, ledger.Models().WaitFor(t.Context(), answer.Position))
	report, err := ledger.Verify(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}

func TestNoDirectoryIsRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := stockledger.Open(t.Context(), quiet(""))
	require.ErrorContains(t, err, "data directory")
}

// borrowed is a store that others go on using.
type borrowed struct{ events.Store }

func (borrowed) Close() error { return nil }

// With a log that several have open, the directory is still one ledger's: its read
// models stopped when two folded into them.
func TestSecondLedgerInTheDirectoryOfAnotherIsRefused(t *testing.T) {
	store := memstore.New()
	defer store.Close()
	config := quiet(t.TempDir())
	config.Store = borrowed{store}
	first, err := stockledger.Open(t.Context(), config)
	require.NoError(t, err)
	_, err = stockledger.Open(t.Context(), config)
	require.ErrorIs(t, err, events.ErrInUse)
	require.ErrorContains(t, err, config.Dir)

	answer, err := first.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	require.NoError(t, first.Models().WaitFor(t.Context(), answer.Position))
	require.NoError(t, first.Close())
	next, err := stockledger.Open(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, next.Close())
}

func TestReadModelsOfAnotherLogAreRefused(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	for _, dir := range []string{mine, other} {
		ledger, err := stockledger.Open(t.Context(), quiet(dir))
		require.NoError(t, err)
		answer, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "create-inventory-items", []byte(newMug))
		require.NoError(t, err)
		require.NoError(t, ledger.Models().WaitFor(t.Context(), answer.Position))
		require.NoError(t, ledger.Close())
	}
	log, err := os.ReadFile(filepath.Join(other, "log.db"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(mine, "log.db"), log, 0o600))
	_, err = stockledger.Open(t.Context(), quiet(mine))
	require.ErrorIs(t, err, events.ErrOtherLog)
}

func TestSameKeySameAnswerAfterRestart(t *testing.T) {
	dir := t.TempDir()
	ledger := open(t, dir)
	first, err := ledger.DoJSON(t.Context(), commands.Envelope{Key: "k"}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	require.NoError(t, ledger.Close())

	again, err := open(t, dir).DoJSON(t.Context(), commands.Envelope{Key: "k"}, "create-inventory-items", []byte(newMug))
	require.NoError(t, err)
	require.True(t, again.Replayed)
	require.Equal(t, first.Result, again.Result)
	require.Equal(t, first.Position, again.Position)
}

// What is in memory must not change with the variables of the program, or later
// commands and the read models go by what nobody asked for.
func TestVariablesOfACommandMayBeUsedAgain(t *testing.T) {
	ledger := open(t, t.TempDir())
	text, weight, quantity := "first", events.Units(1), events.Units(1)
	address := events.Address{Address1: "1 Quay", CountryCode: "fr", City: &text}
	given := domain.Field[string]{Set: true, Value: &text}
	var last uint64
	for _, c := range []commands.Command{
		commands.CreateStockLocations{Locations: []commands.NewLocation{{
			ID: "paris", LocationAttributes: events.LocationAttributes{Name: "Paris", Address: &address},
		}}},
		commands.CreateInventoryItems{Items: []commands.NewItem{{
			ID: "mug", ItemChanges: domain.ItemChanges{Title: given, Weight: domain.Field[events.Quantity]{Set: true, Value: &weight}},
			LocationLevels: []commands.ItemLevel{{LocationID: "paris", Stocked: events.Units(3)}},
		}}},
		commands.CreateReservations{Reservations: []commands.NewReservation{{
			ID: "r", LevelName: commands.LevelName{InventoryItemID: "mug", LocationID: "paris"}, Quantity: &quantity,
			LineItemID: &text, Description: &text, ExternalID: &text, CreatedBy: &text,
		}}},
		commands.UpdateReservations{Updates: []commands.ReservationUpdate{{ID: "r", LineItemID: given}}},
	} {
		text, weight, quantity = "first", events.Units(1), events.Units(1)
		answer, err := ledger.Do(t.Context(), commands.Envelope{}, c)
		require.NoError(t, err)
		text, weight, quantity = "second", events.Units(2), events.Units(2)
		last = answer.Position
	}
	require.NoError(t, ledger.Models().WaitFor(t.Context(), last))
	report, err := ledger.Verify(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, report.Findings)

	changed, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "update-inventory-items", []byte(`{"id":"mug","material":"clay"}`))
	require.NoError(t, err)
	require.Contains(t, string(changed.Result), `"weight":1`)
	released, err := ledger.DoJSON(t.Context(), commands.Envelope{}, "delete-reservations-by-line-item", []byte(`"first"`))
	require.NoError(t, err)
	require.JSONEq(t, `{"ids":["r"]}`, string(released.Result))
}

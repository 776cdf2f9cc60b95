package domain_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/internal/fault"
)

// The four probes that Medusa's module fails, as one decider after another sees
// them. Commands that race are put in a row by the engine; what must hold then
// is that each sees what the one before it decided.

// #16569: two callers reserve the last unit. One of them gets it.
func TestProbe16569TheLastUnitIsReservedOnce(t *testing.T) {
	it := fold(created, stocked(berlin, "1"))
	take(it, must(it.Reserve(bolts, domain.NewReservation{ID: order1, LocationID: berlin, Quantity: q("1")}, nil)))

	_, err := reserve(order2, berlin, "1")(it)
	require.Equal(t, "insufficient_stock", fault.Code(err))
	require.Equal(t, "0", fmt.Sprint(fault.Of(err).Details["available"]))
	requireLevel(t, it, berlin, "1", "1")
}

// #16502: two lines of one call reserve 2 + 2 of 2. The second is refused, and
// the first is undone with it.
func TestProbe16502LinesOfOneCallSeeEachOther(t *testing.T) {
	it := fold(created, stocked(berlin, "2"))
	it.Begin()
	take(it, must(it.Reserve(bolts, domain.NewReservation{ID: order1, LocationID: berlin, Quantity: q("2")}, nil)))
	_, err := reserve(order2, berlin, "2")(it)
	require.Equal(t, "insufficient_stock", fault.Code(err))
	it.Rollback()

	requireLevel(t, it, berlin, "2", "0")
	_, live := it.Reservation(order1)
	require.False(t, live)
}

// #16576: two hundred callers add 1 each. All of it arrives.
func TestProbe16576NoAdjustmentIsLost(t *testing.T) {
	it := fold(created, stocked(berlin, "0"))
	for range 200 {
		take(it, must(it.Adjust(bolts, berlin, q("1"), "", nil)))
	}
	requireLevel(t, it, berlin, "200", "0")
}

// Adjust −9 on stocked 5, reserved 5.
func TestProbeAdjustBelowReserved(t *testing.T) {
	it := fold(created, stocked(berlin, "5"), held(order1, berlin, "5"))
	facts, err := it.Adjust(bolts, berlin, q("-9"), "", nil)
	require.Nil(t, facts)
	require.Equal(t, "below_reserved", fault.Code(err))
	require.Equal(t, fault.NotAllowed, fault.Of(err).Kind)
	requireLevel(t, it, berlin, "5", "5")
}

// #16488: a moved reservation lets go of where it was.
func TestProbe16488AMoveLeavesNothingBehind(t *testing.T) {
	it := fold(created, stocked(berlin, "5"), stocked(hamburg, "5"), held(order1, berlin, "5"))
	take(it, must(it.UpdateReservation(bolts, order1, domain.ReservationChanges{LocationID: new(hamburg)})))
	requireLevel(t, it, berlin, "5", "0")
	requireLevel(t, it, hamburg, "5", "5")
}

func requireLevel(t *testing.T, it *domain.Item, location, stocked, reserved string) {
	t.Helper()
	level, found := it.Level(location)
	require.True(t, found)
	require.Equal(t, stocked, level.Stocked.String(), "stocked")
	require.Equal(t, reserved, level.Reserved.String(), "reserved")
}

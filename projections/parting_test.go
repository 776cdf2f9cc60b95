package projections

import (
	"database/sql/driver"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// Rows that agreed again part anew: what counts is since when they are apart now.
func TestRowsThatAgreedAgainPartAnew(t *testing.T) {
	f := &followed{apart: &apart{table: &viewed{}}}
	one, two := []driver.Value{int64(1)}, []driver.Value{int64(2)}
	at := func(version uint64) []events.Recorded { return []events.Recorded{{Version: version}} }
	for version, after := range [][2][]driver.Value{{one, one}, {one, two}, {two, two}, {two, one}, {one, nil}} {
		parting := sameRow(f.made[0], f.made[1]) != sameRow(after[0], after[1])
		require.True(t, !parting || f.hides(after, at(uint64(version))), "what parts is looked at closely")
		f.note(after, at(uint64(version)))
	}
	require.Equal(t, uint64(3), f.parted.Version)
}

package stockledger_test

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/internal/backup"
	"github.com/stockledger/stockledger/internal/diskfault"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/projections"
)

// A space is what is left of a disk for some files, in writes. It can be made free
// again.
type space struct {
	of func(path string) bool

	mu    sync.Mutex
	left  int // writes; below zero it is boundless
	short int // bytes of the first write that does not fit
	hit   bool
}

func (s *space) plan(op diskfault.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case op.Kind != diskfault.Write || s.left < 0 || !s.of(op.Path):
		return nil
	case s.left > 0:
		s.left--
		return nil
	}
	if !s.hit && s.short > 0 {
		s.hit = true
		return diskfault.Short(s.short)
	}
	s.hit = true
	return syscall.ENOSPC
}

// limit leaves room for so many writes.
func (s *space) limit(writes int, random *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.short, s.hit = writes, random.IntN(4096), false
}

// free makes room, and reports whether there was none.
func (s *space) free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = -1
	return s.hit
}

// Everything the ledger writes meets the full disk: the log, the read models, the
// snapshots, the refusals.
func TestAFullDiskLosesNothingAndIsOverWhenThereIsRoom(t *testing.T) {
	seeds(t, 20, func(t *testing.T, random *rand.Rand) {
		room := &space{of: func(string) bool { return true }, left: -1}
		dir := t.TempDir()
		r := newRig(t, dir, room.plan)
		require.NoError(t, r.open())
		require.NoError(t, r.stock())
		r.sell("before", 3, 3)
		caughtUp(t, r.ledger)
		room.limit(random.IntN(60), random)
		r.sell("full", 1+random.IntN(4), 1+random.IntN(6))
		require.GreaterOrEqual(t, len(stocked(t, r.ledger, "mug")), 1, "queries go on")
		t.Logf("there was no room: %v", room.free())
		caughtUp(t, r.ledger)
		require.NoError(t, r.do("adjust-inventory-levels", "later", oneOfEach), "without a restart")
		caughtUp(t, r.ledger)
		verified(t, r.ledger)
		told, sent := r.acknowledged(), r.sent
		r.close()
		keeps(t, dir, told, sent)
	})
}

func TestARebuildOnAFullDiskLeavesWhatIsServedAlone(t *testing.T) {
	seeds(t, 12, func(t *testing.T, random *rand.Rand) {
		// The second generation of a model has a file of its own.
		room := &space{of: func(path string) bool { return strings.Contains(filepath.Base(path), ".g2.db") }, left: -1}
		r := newRig(t, t.TempDir(), room.plan)
		defer r.close()
		require.NoError(t, r.open())
		require.NoError(t, r.stock())
		r.sell("before", 3, 3)
		caughtUp(t, r.ledger)

		room.limit(random.IntN(500), random)
		_, err := r.ledger.Models().Rebuild(t.Context())
		begun := err == nil
		if !begun {
			require.Equal(t, "disk_full", fault.Code(err))
		}
		r.sell("during", 3, 1)
		caughtUp(t, r.ledger)
		require.Equal(t, "12", stocked(t, r.ledger, "mug"))
		verified(t, r.ledger)

		t.Logf("there was no room: %v; the rebuild had begun: %v", room.free(), begun)
		if !begun {
			_, err = r.ledger.Models().Rebuild(t.Context())
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { // once both have caught up, and found that there is room
			if ready(t, r.ledger) < 2 {
				return false
			}
			_, err := r.ledger.Models().Switch(t.Context(), false)
			return err == nil
		}, time.Minute, 10*time.Millisecond)
		require.Equal(t, "12", stocked(t, r.ledger, "mug"))
		verified(t, r.ledger)
	})
}

// ready is how many generations can be switched to.
func ready(t *testing.T, l *stockledger.Ledger) (n int) {
	t.Helper()
	all, err := l.Models().Generations(t.Context())
	require.NoError(t, err)
	for _, g := range all {
		if g.State == projections.Ready {
			n++
		}
	}
	return n
}

func TestABackupOnAFullDiskLeavesTheLedgerAlone(t *testing.T) {
	seeds(t, 12, func(t *testing.T, random *rand.Rand) {
		dir, place := t.TempDir(), t.TempDir()
		room := &space{of: func(path string) bool { return strings.HasPrefix(path, place) }, left: -1}
		r := newRig(t, dir, room.plan)
		defer r.close()
		require.NoError(t, r.open())
		require.NoError(t, r.stock())
		r.sell("before", 3, 3)
		caughtUp(t, r.ledger)

		room.limit(random.IntN(12), random)
		config := backup.Config{Store: r.ledger.Events(), Dir: dir, To: filepath.Join(place, "copy")}
		_, err := backup.Take(t.Context(), config)
		if room.free() {
			require.Equal(t, "disk_full", fault.Code(err), "%v", err)
			_, err = backup.Take(t.Context(), config)
		}
		require.NoError(t, err)
		require.NoError(t, r.do("adjust-inventory-levels", "later", oneOfEach))
		caughtUp(t, r.ledger)
		verified(t, r.ledger)
	})
}

package simstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/simstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errLost = errors.New("the answer is lost")

// commit is n events of a stream, after the version it is at.
func commit(t *testing.T, stream string, after uint64, n int) (c events.Commit) {
	t.Helper()
	var prev events.Hash
	for range n {
		r, err := events.Record(stream, after, prev, events.CommandAccepted{CommandID: stream}, &events.Meta{CommandID: stream})
		require.NoError(t, err)
		c, after, prev = append(c, r), after+1, r.Hash
	}
	return c
}

// What a driver decides is what is on the disk, and what is told.
func TestAnAppendHasTheFateThatTheDriverDecides(t *testing.T) {
	for name, tc := range map[string]struct {
		fate   simstore.Fate
		landed uint64
		told   []uint64
	}{
		"all goes well":              {simstore.Fate{}, 5, []uint64{2, 3, 5}},
		"nothing lands":              {simstore.Fate{Err: errLost}, 0, nil},
		"the group is torn":          {simstore.Fate{Err: errLost, Land: 2, Tell: 2}, 3, []uint64{2, 3}},
		"the answer is lost":         {simstore.Fate{Err: errLost, Land: 3}, 5, nil},
		"the answer is lost in part": {simstore.Fate{Err: errLost, Land: 3, Tell: 1}, 5, []uint64{2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := simstore.NewDisk()
				defer disk.Close()
				s := disk.Open("a")
				s.Drive(true)
				var told []uint64
				var err error
				go func() {
					told, err = s.AppendAt(context.Background(), 0, commit(t, "command-a", 0, 2), commit(t, "command-b", 0, 1), commit(t, "command-c", 0, 2))
				}()
				synctest.Wait()
				waiting := disk.Waiting()
				require.Len(t, waiting, 1)
				require.Equal(t, simstore.Append, waiting[0].Kind)
				require.Zero(t, head(t, disk), "it waits")
				waiting[0].End(tc.fate)
				synctest.Wait()
				require.ErrorIs(t, err, tc.fate.Err)
				require.Equal(t, tc.landed, head(t, disk))
				require.ElementsMatch(t, tc.told, told)
				require.Empty(t, disk.Waiting())
			})
		})
	}
}

func head(t *testing.T, d *simstore.Disk) uint64 {
	t.Helper()
	at, err := d.Log().Head(t.Context())
	require.NoError(t, err)
	return at
}

// What is late lands where it was to be appended, or not at all.
func TestWhatIsLateLandsOnlyOnTheLogItWasMeantFor(t *testing.T) {
	for _, overtaken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := simstore.NewDisk()
			defer disk.Close()
			s := disk.Open("a")
			s.Drive(true)
			go s.AppendAt(context.Background(), 0, commit(t, "command-a", 0, 2))
			synctest.Wait()
			disk.Waiting()[0].End(simstore.Fate{Err: errLost, Land: 1, Late: true})
			synctest.Wait()
			require.Zero(t, head(t, disk))
			want := uint64(2)
			if overtaken {
				_, err := disk.Log().AppendAt(t.Context(), 0, commit(t, "command-b", 0, 1))
				require.NoError(t, err)
				want = 1
			}
			disk.LandLate()
			require.Equal(t, want, head(t, disk))
		})
	}
}

// A process that is killed changes nothing any more, and hangs nobody.
func TestAKilledStoreTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := simstore.NewDisk()
		defer disk.Close()
		s := disk.Open("a")
		s.Drive(true)
		var err error
		go func() {
			_, err = s.AppendAt(context.Background(), 0, commit(t, "command-a", 0, 2), commit(t, "command-b", 0, 1))
		}()
		synctest.Wait()
		s.Kill(1)
		synctest.Wait()
		require.ErrorIs(t, err, simstore.ErrCrashed)
		require.EqualValues(t, 2, head(t, disk), "what had reached the disk")
		_, err = s.AppendAt(t.Context(), 2, commit(t, "command-b", 0, 1))
		require.ErrorIs(t, err, simstore.ErrCrashed)
		_, err = s.Head(t.Context())
		require.ErrorIs(t, err, simstore.ErrCrashed)
		require.EqualValues(t, 2, head(t, disk))
		at, err := disk.Open("b").Head(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, at, "the next process finds it")
	})
}

package sqlitestore_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/diskfault"
	"github.com/stockledger/stockledger/internal/race"
)

// What tests of power cuts are told from outside.
const (
	powerCuts = "STOCKLEDGER_TEST_POWERCUTS" // how many seeds
	firstSeed = "STOCKLEDGER_TEST_SEED"      // the first of them
)

// seeds runs a test with as many seeds as are asked for.
func seeds(t *testing.T, usual int, run func(t *testing.T, random *rand.Rand)) {
	t.Helper()
	if race.On {
		usual /= 20
	}
	many, err := strconv.Atoi(cmp.Or(os.Getenv(powerCuts), strconv.Itoa(usual)))
	require.NoError(t, err)
	first, err := strconv.ParseUint(cmp.Or(os.Getenv(firstSeed), strconv.FormatUint(rand.Uint64N(1_000_000), 10)), 10, 64)
	require.NoError(t, err)
	for seed := first; seed < first+uint64(many); seed++ {
		done := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { run(t, rand.New(rand.NewPCG(seed, 0))) })
		require.True(t, done, "%s=%d %s=1 draws it again", firstSeed, seed, powerCuts)
	}
}

// A plug is pulled out at some operation of a disk, before it happens. From then on
// the disk does nothing.
type plug struct {
	at     func(op diskfault.Op, n int) bool // n counts the operations, from 1
	random *rand.Rand
	clerks []*clerk

	mu    sync.Mutex
	n     int
	disk  *diskfault.Disk
	from  string
	into  string // what is left, once it is out
	acked *clerk // what had been acknowledged by then
	err   error
}

func (p *plug) plan(op diskfault.Op) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n++; !p.out() && p.at(op, p.n) {
		p.pull()
	}
	if p.out() {
		return syscall.EIO
	}
	return nil
}

func (p *plug) out() bool { return p.acked != nil }

// pull pulls it. What was acknowledged before is known before the power is gone.
func (p *plug) pull() {
	all := newClerk("all")
	for _, c := range p.clerks {
		maps.Copy(all.acked, c.acknowledged())
	}
	p.err = p.disk.PowerCut(p.from, p.into, p.random)
	p.acked = all
}

// live runs clerks on the log in a directory until the power is cut, and returns
// what is left: the directory, and what had been acknowledged. It fails if the log
// does not hold what was acknowledged in the life before.
func live(t *testing.T, dir string, before *clerk, p *plug, appends int) (left string, acked *clerk) {
	t.Helper()
	p.from, p.into = dir, t.TempDir()
	p.disk = disk(t, p.plan)
	s, err := sqlitestore.OpenNarrowOn(p.disk.Name(), filepath.Join(dir, "log.db"))
	if err == nil {
		before.holds(t, s)
		var working sync.WaitGroup
		for _, c := range p.clerks {
			working.Go(func() {
				for range appends {
					if c.append(t, s) != nil {
						return
					}
				}
			})
		}
		working.Wait()
	}
	p.mu.Lock()
	if !p.out() {
		assert.NoError(t, err)
		p.pull()
	}
	p.mu.Unlock()
	if s != nil {
		_ = s.Close() // on a dead disk
		require.NoError(t, sqlitestore.LetGo(s))
	}
	require.NoError(t, p.err)
	require.NoError(t, p.disk.Close())
	maps.Copy(p.acked.acked, before.acked)
	return p.into, p.acked
}

func clerks(n int, life int) (all []*clerk) {
	for i := range n {
		all = append(all, newClerk(fmt.Sprintf("%d-%d", life, i)))
	}
	return all
}

// One log lives through several power cuts, at any moment: while it is made, opened,
// written to by several, moved from the write-ahead log to the file, or closed.
func TestPowerCutsLoseNothingThatWasAcknowledged(t *testing.T) {
	seeds(t, 200, func(t *testing.T, random *rand.Rand) {
		dir, acked := t.TempDir(), newClerk("nobody")
		for life := range 3 {
			last := 1 + random.IntN(120)
			p := &plug{
				at:     func(_ diskfault.Op, n int) bool { return n == last },
				random: random, clerks: clerks(1+random.IntN(4), life),
			}
			dir, acked = live(t, dir, acked, p, 3+random.IntN(8))
		}
		survives(t, filepath.Join(dir, "log.db"), acked)
	})
}

// Before each sync, everything since the last one is at stake; after it, nothing is.
func TestAPowerCutAtEverySyncLosesNothingThatWasAcknowledged(t *testing.T) {
	for _, kind := range []diskfault.Kind{diskfault.Sync, diskfault.Synced} {
		t.Run(kind.String(), func(t *testing.T) {
			for try := range uint64(3) {
				each(t, 17, func(t *testing.T, nth int) bool {
					syncs, over := 0, true
					p := &plug{
						at: func(op diskfault.Op, _ int) bool {
							if op.Kind == kind {
								syncs++
							}
							over = over && syncs < nth
							return syncs == nth
						},
						random: rand.New(rand.NewPCG(uint64(nth), try)), clerks: clerks(1, 0),
					}
					dir, acked := live(t, t.TempDir(), newClerk("nobody"), p, 8)
					survives(t, filepath.Join(dir, "log.db"), acked)
					return !over
				})
			}
		})
	}
}

// What a failed fsync was to write may be dropped by the operating system, which goes
// on showing it to whoever reads. The log is opened again on such a machine, without a
// restart of that, goes on, and then the power fails.
func TestAPowerCutAfterAFailedSyncLosesNothingThatWasAcknowledged(t *testing.T) {
	seeds(t, 200, func(t *testing.T, random *rand.Rand) {
		dir, into := t.TempDir(), t.TempDir()
		failing, last := 1+random.IntN(25), 1+random.IntN(200)
		var syncs atomic.Int64 // of the writer and of who moves the write-ahead log
		c := newClerk("a")
		p := &plug{
			at:     func(_ diskfault.Op, n int) bool { return n == last },
			random: random, clerks: []*clerk{c}, from: dir, into: into,
		}
		p.disk = disk(t, func(op diskfault.Op) error {
			if err := p.plan(op); err != nil || op.Kind != diskfault.Sync {
				return err
			}
			if syncs.Add(1) == int64(failing) {
				return syscall.EIO
			}
			return nil
		})
		for range 3 {
			s, err := sqlitestore.OpenNarrowOn(p.disk.Name(), filepath.Join(dir, "log.db"))
			if err != nil {
				continue
			}
			p.mu.Lock()
			out := p.out()
			p.mu.Unlock()
			if !out {
				c.holds(t, s)
			}
			for range 6 {
				if c.append(t, s) != nil {
					break
				}
			}
			_ = s.Close()
		}
		p.mu.Lock()
		if !p.out() {
			p.pull()
		}
		p.mu.Unlock()
		require.NoError(t, p.err)
		_ = p.disk.Close() // a store that has stopped keeps a connection
		survives(t, filepath.Join(into, "log.db"), p.acked)
	})
}

package stockledger_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/diskfault"
	"github.com/stockledger/stockledger/internal/race"
)

// A rig is a ledger on a disk of which the test decides what it does. Everything in
// its directory is on that disk.
type rig struct {
	t      *testing.T
	dir    string
	disk   *diskfault.Disk
	ledger *stockledger.Ledger // nil: it did not open

	mu   sync.Mutex
	told map[string]commands.Answer // by key
	sent []string                   // keys
}

// newRig opens the ledger in dir on a disk with that plan.
func newRig(t *testing.T, dir string, plan func(diskfault.Op) error) *rig {
	t.Helper()
	d, err := diskfault.NewVolatile(fmt.Sprintf("%s-%d", t.Name(), rand.Uint64()), plan)
	require.NoError(t, err)
	require.NoError(t, d.MakeDefault())
	return &rig{t: t, dir: dir, disk: d, told: make(map[string]commands.Answer)}
}

func (r *rig) open() (err error) {
	r.ledger, err = stockledger.Open(r.t.Context(), quiet(r.dir))
	return err
}

// close closes what is open; on a disk that is dead it need not succeed.
func (r *rig) close() {
	if r.ledger != nil {
		_ = r.ledger.Close()
	}
	_ = r.disk.Close() // a store that has stopped keeps a connection
}

const (
	twoGoods = `{"items":[{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":0}]},` +
		`{"id":"cup","location_levels":[{"location_id":"paris","stocked_quantity":0}]}]}`
	oneOfEach = `{"updates":[{"inventory_item_id":"mug","location_id":"paris","adjustment":1},` +
		`{"inventory_item_id":"cup","location_id":"paris","adjustment":1}]}`
)

// stock makes the goods.
func (r *rig) stock() error {
	return r.do("create-inventory-items", "goods", twoGoods)
}

// sell has each caller take in one of each good so many times, or until he is
// refused.
func (r *rig) sell(life string, callers, times int) {
	var calling sync.WaitGroup
	for c := range callers {
		calling.Go(func() {
			for n := range times {
				if r.do("adjust-inventory-levels", fmt.Sprintf("%s-%d-%d", life, c, n), oneOfEach) != nil {
					return
				}
			}
		})
	}
	calling.Wait()
}

func (r *rig) do(name, key, body string) error {
	r.mu.Lock()
	if name != "create-inventory-items" {
		r.sent = append(r.sent, key)
	}
	r.mu.Unlock()
	answer, err := r.ledger.DoJSON(r.t.Context(), commands.Envelope{Key: key}, name, []byte(body))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told[key] = answer
	return nil
}

// acknowledged is what callers have been told by now.
func (r *rig) acknowledged() map[string]commands.Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.told)
}

// keeps opens the ledger in a directory on a sound disk, and checks that it holds
// all that was acknowledged; that everything that was sent counts once when it is sent
// again; and that every row and every hash is right.
func keeps(t *testing.T, dir string, told map[string]commands.Answer, sent []string) {
	t.Helper()
	r := newRig(t, dir, nil)
	defer r.close()
	require.NoError(t, r.open())
	for key, before := range told {
		name, body := "adjust-inventory-levels", oneOfEach
		if key == "goods" {
			name, body = "create-inventory-items", twoGoods
		}
		again, err := r.ledger.DoJSON(t.Context(), commands.Envelope{Key: key}, name, []byte(body))
		require.NoError(t, err, key)
		require.True(t, again.Replayed, "%s was acknowledged at position %d", key, before.Position)
		require.Equal(t, before.Position, again.Position, key)
		require.JSONEq(t, string(before.Result), string(again.Result), key)
	}
	require.NoError(t, r.stock())
	for _, key := range sent {
		require.NoError(t, r.do("adjust-inventory-levels", key, oneOfEach))
	}
	caughtUp(t, r.ledger)
	require.Equal(t, strconv.Itoa(len(sent)), stocked(t, r.ledger, "mug"))
	require.Equal(t, strconv.Itoa(len(sent)), stocked(t, r.ledger, "cup"))
	verified(t, r.ledger)
}

func stocked(t *testing.T, l *stockledger.Ledger, item string) string {
	t.Helper()
	answer, err := l.Query(t.Context(), "stocked-quantity", fmt.Appendf(nil, `{"inventory_item_id":%q,"location_ids":["paris"]}`, item))
	require.NoError(t, err)
	text, err := json.Marshal(answer)
	require.NoError(t, err)
	var q struct{ Quantity json.Number }
	require.NoError(t, json.Unmarshal(text, &q))
	return q.Quantity.String()
}

// caughtUp waits until the read models know the log.
func caughtUp(t *testing.T, l *stockledger.Ledger) {
	t.Helper()
	head, err := l.Events().Head(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, l.Models().WaitFor(ctx, head))
}

func verified(t *testing.T, l *stockledger.Ledger) {
	t.Helper()
	report, err := l.Verify(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report.Findings)
}

// What tests of disks are told from outside.
const (
	powerCuts = "STOCKLEDGER_TEST_POWERCUTS" // how many seeds
	firstSeed = "STOCKLEDGER_TEST_SEED"      // the first of them
)

// seeds runs a test with as many seeds as are asked for.
func seeds(t *testing.T, usual int, run func(t *testing.T, random *rand.Rand)) {
	t.Helper()
	if race.On {
		usual = max(1, usual/15)
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

// isLog reports whether a file is the log or its write-ahead log.
func isLog(path string) bool { return strings.HasPrefix(filepath.Base(path), "log.db") }

// A cut takes the power from a part of a disk at some operation on it, before it
// happens. From then on that part does nothing.
type cut struct {
	of     func(path string) bool // the part
	at     int                    // which operation, from 1
	into   string
	random *rand.Rand

	mu   sync.Mutex
	rig  *rig
	n    int
	told map[string]commands.Answer // before
	err  error
}

func (c *cut) plan(op diskfault.Op) error {
	if !c.of(op.Path) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n++; c.n == c.at {
		c.now()
	}
	if c.told != nil {
		return syscall.EIO
	}
	return nil
}

// now cuts the power. What was acknowledged before is known before it is gone.
func (c *cut) now() {
	c.told = c.rig.acknowledged()
	c.err = c.rig.disk.PowerCut(c.rig.dir, c.into, c.random)
}

// live runs a ledger until the power is cut, and returns what callers were told
// before.
func (c *cut) live(t *testing.T, dir string, callers, times int) (told map[string]commands.Answer, sent []string) {
	t.Helper()
	c.into = t.TempDir()
	c.rig = newRig(t, dir, c.plan)
	if err := c.rig.open(); err == nil {
		if c.rig.stock() == nil {
			c.rig.sell("life", callers, times)
		}
		if !c.of("models") {
			caughtUp(t, c.rig.ledger)
		}
	}
	c.end()
	c.rig.close()
	require.NoError(t, c.err)
	return c.told, c.rig.sent
}

// end cuts the power if that has not happened. Models and snapshots go on meanwhile,
// and the operation it was to happen at may be one of theirs: it is cut once.
func (c *cut) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == nil {
		c.at, c.n = 1, 1
		c.now()
	}
}

// take copies to a directory the files of another one that are not there.
func take(t *testing.T, from, into string, which func(path string) bool) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !which(path) {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(into, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o600)
	}))
}

// The log, the read models, the snapshots and the refusals lose their power together.
func TestAPowerCutLeavesALedgerThatHoldsWhatItAcknowledged(t *testing.T) {
	seeds(t, 40, func(t *testing.T, random *rand.Rand) {
		c := &cut{of: func(string) bool { return true }, at: 1 + random.IntN(400), random: random}
		dir := t.TempDir()
		told, sent := c.live(t, dir, 1+random.IntN(6), 1+random.IntN(12))
		take(t, dir, c.into, func(path string) bool { return strings.HasSuffix(path, ".json") }) // SQLite does not write it
		keeps(t, c.into, told, sent)
	})
}

// Only the log loses its tail, and everything else goes on for as long as it can. Were
// there a read model or a snapshot that knows an event which is not durable, the log
// would not be theirs any more.
func TestNothingKnowsAnEventThatIsNotDurable(t *testing.T) {
	seeds(t, 40, func(t *testing.T, random *rand.Rand) {
		c := &cut{of: isLog, at: 60 + random.IntN(200), random: random}
		dir := t.TempDir()
		told, sent := c.live(t, dir, 1+random.IntN(6), 1+random.IntN(12))
		take(t, dir, c.into, func(path string) bool { return !isLog(path) })
		keeps(t, c.into, told, sent)
	})
}

// An fsync of the log that fails stops the ledger, and nothing else does.
func TestAFailedSyncOfTheLogStopsTheLedger(t *testing.T) {
	seeds(t, 20, func(t *testing.T, random *rand.Rand) {
		var mu sync.Mutex
		armed, failed := false, false
		dir := t.TempDir()
		r := newRig(t, dir, func(op diskfault.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if armed && !failed && isLog(op.Path) && op.Kind == diskfault.Sync {
				failed = true
				return syscall.EIO
			}
			return nil
		})
		require.NoError(t, r.open())
		require.NoError(t, r.stock())
		r.sell("before", 4, 3)
		mu.Lock()
		armed = true
		mu.Unlock()
		before := len(r.acknowledged())
		r.sell("after", 1+random.IntN(6), 1)
		<-r.ledger.Failed()
		require.Len(t, r.acknowledged(), before, "nothing that rests on a failed sync is acknowledged")
		require.ErrorContains(t, r.do("adjust-inventory-levels", "late", oneOfEach), "must be started again")
		caughtUp(t, r.ledger)
		require.Equal(t, "12", stocked(t, r.ledger, "mug"), "queries go on")
		verified(t, r.ledger)
		into := t.TempDir()
		require.NoError(t, r.disk.PowerCut(dir, into, random))
		take(t, dir, into, func(path string) bool { return strings.HasSuffix(path, ".json") })
		told, sent := r.acknowledged(), r.sent
		r.close()
		ended := t.TempDir() // what the end of the process leaves; until then the log is locked
		take(t, dir, ended, func(path string) bool { return !strings.HasSuffix(path, "-shm") })
		keeps(t, ended, told, sent)
		keeps(t, into, told, sent)
	})
}

package commands_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/internal/simstore"
)

const simulationsVariable = "STOCKLEDGER_TEST_SIMULATIONS" // how many seeds are run

var (
	errSimulated = errors.New("the simulated store does not answer")
	errFull      = errors.New("the simulated disk is full")
)

// A simulation is one short history of an engine, several callers, another writer
// and a disk. One goroutine drives it: it starts a command, lets one call of the
// store have its fate, moves the clock or kills the process, and waits until
// nobody can go on without it. All it decides comes from the seed, so the same
// seed is the same history.
type simulation struct {
	*trial
	pencil
	t testing.TB

	disk    *simstore.Disk
	store   *simstore.Store // of the engine
	index   *lagging        // survives the engine
	opened  int             // engines
	foreign *commands.Engine
	// goroutines says for which caller a goroutine carries a command out.
	goroutines sync.Map
	kept       int
	cached     int

	callers []*simCaller
	ended   map[[2]string]bool // by key and digest: it was acknowledged
	first   map[string]int     // how often a key was sent

	widest int  // more events than that are too large for the store; 0: none are
	late   bool // appends may land late
	full   bool
	down   bool // for reads
	dead   bool // the store has stopped for good

	skew   time.Duration
	frozen time.Time
}

type simCaller struct {
	id     int
	left   int
	send   *asked // to be sent again
	flight *flight
}

type flight struct {
	asked
	digest string
	cancel context.CancelFunc
	done   bool
}

// simIndex answers about a key when the driver lets it, so that commands come to
// the decider one after the other.
type simIndex struct {
	*lagging
	store *simstore.Store
}

type callerKey struct{}

func (x simIndex) Command(ctx context.Context, key string) (uint64, string, bool, error) {
	if err := x.store.Ask(ctx, fmt.Sprint(ctx.Value(callerKey{}))); err != nil {
		return 0, "", false, err
	}
	return x.lagging.Command(ctx, key)
}

// simulate runs the history of a seed and checks it. It is called in a bubble.
func simulate(t *testing.T, seed uint64) *simulation {
	p := pencil{rand.New(rand.NewPCG(seed, 1)), 6}
	s := &simulation{
		t: t, pencil: p, disk: simstore.NewDisk(), ended: map[[2]string]bool{}, first: map[string]int{},
		kept: p.IntN(12), cached: pick(p, 1, 3, 1000), late: p.oneIn(3),
		widest: sometimes(p, 4, func() int { return 3 + p.IntN(3) }),
	}
	s.trial = &trial{name: "TestSimulation", seed: seed, known: p.oneIn(3), narrow: s.widest > 0, faulty: true}
	s.index = newLagging(t, s.disk.Log())
	s.shop = &shop{t: t, store: s.disk.Log()}
	s.foreign = s.openEngine(s.disk.Log(), noIndex{}, 1000)
	s.Engine = s.foreign
	s.furnish()
	for _, a := range s.asked {
		s.first[a.key]++
	}
	for id := range 1 + p.IntN(4) {
		s.callers = append(s.callers, &simCaller{id: id + 1, left: 2 + p.IntN(4)})
	}
	s.reopen()
	defer s.abandon()
	for step, faulty := 0, 20+p.IntN(120); ; step++ {
		synctest.Wait()
		s.collect()
		if s.finished() {
			break
		}
		if step > 4000 {
			s.fatal(nil, "it comes to no end: %s", s.state())
		}
		s.act(step >= faulty)
	}
	s.close()
	return s
}

// abandon ends whatever still runs, also after a failure.
func (s *simulation) abandon() {
	s.store.Kill(0)
	for _, c := range s.callers {
		if c.flight != nil {
			c.flight.cancel()
		}
	}
	_ = s.Close()
	_ = s.foreign.Close()
}

func (s *simulation) openEngine(store events.Store, index commands.Index, cached int) *commands.Engine {
	e, err := commands.Open(context.Background(), commands.Config{
		Store: store, Index: index, Now: s.clock, Logger: slog.New(slog.DiscardHandler),
		RequireKnownLocations: s.known, CachedStreams: cached,
	})
	require.NoError(s.t, err, "seed %d", s.seed)
	return e
}

// clock is the simulated one, which jumps and stands still.
func (s *simulation) clock() time.Time {
	if !s.frozen.IsZero() {
		return s.frozen
	}
	return time.Now().Add(s.skew)
}

// reopen starts the process again, on what is durable.
func (s *simulation) reopen() {
	if s.store != nil {
		for _, c := range s.callers {
			if f := c.flight; f != nil { // nobody hears what becomes of it
				again := f.asked
				c.send, c.flight = &again, nil
				defer f.cancel()
			}
		}
		s.store.Kill(s.IntN(4))
		require.NoError(s.t, s.Close())
	}
	s.opened++
	s.dead, s.down = false, false
	s.store = s.disk.Open(fmt.Sprint("engine-", s.opened))
	s.Engine = s.openEngine(s.store, simIndex{s.index, s.store}, s.cached)
	s.KeepCommands(s.kept)
	require.NoError(s.t, s.Lead(context.Background(), s.mayLead(s.store)))
	s.store.Drive(true)
}

// What the engine asks before a command is fetched for, and before each append.
const (
	beforeTry    = "may the command begin of caller "
	beforeCommit = "may a group be committed"
)

// mayLead makes the driver say when a command begins and when a group is
// committed: otherwise they would race for the log, and no seed would tell who won.
func (s *simulation) mayLead(store *simstore.Store) func() error {
	return func() error {
		what := beforeCommit
		if caller, is := s.goroutines.Load(goroutine()); is {
			what = fmt.Sprint(beforeTry, caller)
		}
		return store.Ask(context.Background(), what)
	}
}

// goroutine is the number of the one that calls: the engine asks whether it may
// lead, and does not say for whom.
func goroutine() string {
	var trace [64]byte
	return strings.Fields(string(trace[:runtime.Stack(trace[:], false)]))[1]
}

func (s *simulation) finished() bool {
	return !slices.ContainsFunc(s.callers, func(c *simCaller) bool { return c.left > 0 || c.send != nil || c.flight != nil })
}

// act does one thing of those that can be done.
func (s *simulation) act(calm bool) {
	if calm {
		s.full, s.down, s.skew, s.frozen = false, false, 0, time.Time{}
		s.disk.LandLate()
		if s.dead {
			s.reopen()
			return
		}
	} else if s.oneIn(5) && s.disturb() {
		return
	}
	var idle []*simCaller
	for _, c := range s.callers {
		if c.flight == nil && (c.left > 0 || c.send != nil) {
			idle = append(idle, c)
		}
	}
	waiting := s.ready()
	switch n := s.IntN(10); {
	case len(idle) > 0 && (n < 5 || len(waiting) == 0):
		s.start(idle[s.IntN(len(idle))])
	case len(waiting) > 0 && n < 9:
		call := waiting[s.IntN(len(waiting))]
		call.End(s.fate(call, calm))
	default:
		time.Sleep(time.Duration(1+s.IntN(80)) * time.Millisecond)
	}
}

// ready leaves out of the calls that wait those after which two goroutines of the
// engine would go on at once towards the decider, so that chance would say which
// comes first: a second command that would fetch a stream, and one that would wait
// for the turn to read the log.
func (s *simulation) ready() []*simstore.Call {
	waiting := s.disk.Waiting()
	is := func(which func(c *simstore.Call) bool) bool { return slices.ContainsFunc(waiting, which) }
	fetching := is(func(c *simstore.Call) bool { return c.Kind == simstore.Read })
	recovering := is(func(c *simstore.Call) bool { return c.Kind == simstore.Head || c.Kind == simstore.Follow })
	committing := is(func(c *simstore.Call) bool { return c.Kind == simstore.Append || c.Subject == beforeCommit })
	return slices.DeleteFunc(waiting, func(c *simstore.Call) bool {
		switch {
		case c.Kind != simstore.Ask || c.Subject == beforeCommit:
			return false
		case strings.HasPrefix(c.Subject, beforeTry):
			return recovering || committing && s.Stale()
		}
		return fetching
	})
}

// reads reports whether a call reads the log.
func reads(c *simstore.Call) bool { return c.Kind != simstore.Append && c.Kind != simstore.Ask }

// disturb makes something go wrong, if that can be now.
func (s *simulation) disturb() bool {
	switch s.IntN(12) {
	case 0:
		s.full = !s.full
	case 1:
		s.down = !s.down
	case 2, 3:
		s.skew, s.frozen = pick(s.pencil, 0, -time.Hour, 10*365*24*time.Hour), time.Time{}
	case 4:
		s.frozen = s.clock()
	case 5, 6:
		s.disk.LandLate()
	case 7, 8:
		s.index.catchUp(s.IntN(6))
	case 9:
		c := s.callers[s.IntN(len(s.callers))]
		begins := func(call *simstore.Call) bool { return call.Subject == fmt.Sprint(beforeTry, c.id) }
		if c.flight == nil || slices.ContainsFunc(s.disk.Waiting(), begins) {
			return false // chance would say whether it still goes on
		}
		c.flight.cancel()
	case 10:
		s.foreignWrites()
	default:
		if !s.dead && !s.oneIn(3) {
			return false
		}
		s.reopen()
	}
	return true
}

// fate decides what becomes of a call.
func (s *simulation) fate(c *simstore.Call, calm bool) simstore.Fate {
	n := len(c.Commits)
	switch {
	case s.dead && c.Kind == simstore.Append:
		return simstore.Fate{Err: events.ErrStopped}
	case s.down && reads(c):
		return simstore.Fate{Err: errSimulated}
	case !calm && (strings.HasPrefix(c.Subject, beforeTry) || c.Subject == beforeCommit) && s.oneIn(60):
		return simstore.Fate{Err: errSimulated} // another has the lease
	case c.Kind != simstore.Append:
		return simstore.Fate{}
	case s.full:
		return simstore.Fate{Err: errFull}
	}
	if s.widest > 0 {
		if i := slices.IndexFunc(c.Commits, func(c events.Commit) bool { return len(c) > s.widest }); i >= 0 {
			return simstore.Fate{Err: events.ErrTooLarge, Land: i, Tell: i}
		}
	}
	if calm || !s.oneIn(3) {
		return simstore.Fate{}
	}
	switch s.IntN(8) {
	case 0, 1: // a torn group
		land := s.IntN(n + 1)
		return simstore.Fate{Err: errSimulated, Land: land, Tell: land}
	case 2, 3, 4: // an answer that is lost, in part
		land := s.IntN(n + 1)
		return simstore.Fate{Err: errSimulated, Land: land, Tell: s.IntN(land + 1)}
	case 5:
		s.dead = true
		land := s.IntN(n + 1)
		return simstore.Fate{Err: errSimulated, Land: land, Tell: s.IntN(land + 1)}
	case 6:
		if s.late {
			return simstore.Fate{Err: errSimulated, Land: n, Late: true}
		}
	}
	return simstore.Fate{Err: errSimulated}
}

// start sends the next command of a caller: one that has no answer yet, a new one,
// or one that was sent before, by whomever, also with another body.
func (s *simulation) start(c *simCaller) {
	a := c.send
	for c.send = nil; a == nil; {
		fresh := asked{order: s.order(), caller: c.id, key: fmt.Sprint(c.id, "-", c.left), dry: s.oneIn(12)}
		if earlier, found := s.earlier(s.pencil); found && s.oneIn(5) {
			if fresh.key = earlier.key; !s.oneIn(4) {
				fresh.order = earlier.order
			}
		}
		if _, err := commands.Decode(fresh.name, []byte(fresh.body())); err != nil {
			continue
		}
		c.left--
		a = &fresh
	}
	a.caller = c.id
	s.launch(c, *a)
}

func (s *simulation) launch(c *simCaller, a asked) {
	a.sent = a.name + " " + a.body()
	command, err := commands.Decode(a.name, []byte(a.body()))
	require.NoError(s.t, err)
	digest, err := commands.Digest(command)
	require.NoError(s.t, err)
	if !a.dry {
		s.remember(a, command)
		s.first[a.key]++
	}
	a.from = s.head()
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), callerKey{}, c.id))
	f := &flight{asked: a, digest: digest, cancel: cancel}
	c.flight = f
	engine := s.Engine
	go func() {
		me := goroutine()
		s.goroutines.Store(me, c.id)
		defer s.goroutines.Delete(me)
		f.answer, f.err = engine.Do(ctx, commands.Envelope{Key: a.key, DryRun: a.dry}, command)
		f.done = true
	}()
}

// collect takes the answers that are there.
func (s *simulation) collect() {
	for _, c := range s.callers {
		f := c.flight
		if f == nil || !f.done {
			continue
		}
		f.cancel()
		c.flight = nil
		f.to = s.head()
		s.asked = append(s.asked, f.asked)
		kind := fault.Of(f.err).Kind
		switch {
		case f.err == nil:
			if !f.dry || f.answer.Position > 0 {
				s.ended[[2]string{f.key, f.digest}] = true
			}
		case kind == fault.Internal:
			s.fatal(nil, "a bug: %v", f.asked)
		default:
			if f.code() != "outcome_unknown" && f.code() != "idempotency_key_reused" && !f.dry && s.first[f.key] == 1 && s.commitsOf()[f.key] > 0 {
				s.fatal(nil, "told that nothing was changed, and it is in the log: %v", f.asked)
			}
			if kind == fault.Unavailable {
				again := f.asked
				again.answer, again.err = commands.Answer{}, nil
				c.send = &again
			}
		}
	}
}

// foreignWrites lets another engine on the same log carry out a command.
func (s *simulation) foreignWrites() {
	o := s.order()
	command, err := commands.Decode(o.name, []byte(o.body()))
	if err != nil {
		return
	}
	a := asked{order: o, caller: 99, key: fmt.Sprint("foreign-", len(s.asked)), sent: o.name + " " + o.body(), from: s.head()}
	digest, err := commands.Digest(command)
	require.NoError(s.t, err)
	s.remember(a, command)
	s.first[a.key]++
	a.answer, a.err = s.foreign.Do(context.Background(), commands.Envelope{Key: a.key}, command)
	a.to = s.head()
	if a.err == nil {
		s.ended[[2]string{a.key, digest}] = true
	}
	s.asked = append(s.asked, a)
}

// close ends the simulation and judges it.
func (s *simulation) close() {
	s.store.Drive(false)
	s.judge()
	for _, c := range commits(s.recorded(0)) {
		meta, err := c[len(c)-1].Metadata()
		require.NoError(s.t, err)
		if !strings.HasPrefix(meta.CommandID, "furnish") && !s.ended[[2]string{meta.CommandID, meta.Digest}] {
			s.fatal(nil, "%s is in the log, and its publisher was told that nothing was changed", meta.CommandID)
		}
	}
	require.Empty(s.t, s.disk.Waiting())
}

// digest sums up the log and every answer.
func (s *simulation) digest() string {
	sum := sha256.New()
	line := func(values ...any) { io.WriteString(sum, generic(fmt.Appendln(nil, values...))) }
	for _, r := range s.recorded(0) {
		line(r.Position, r.Stream, r.Version, r.Type, string(r.Data), string(r.Meta))
	}
	for _, a := range s.asked {
		line(a, a.answer.Replayed)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (s *simulation) state() string {
	var all strings.Builder
	for _, c := range s.disk.Waiting() {
		fmt.Fprintln(&all, c.Store, c.Kind, c.Subject)
	}
	for _, c := range s.callers {
		fmt.Fprintln(&all, c.id, c.left, c.send != nil, c.flight)
	}
	return all.String()
}

// Thousands of short histories of an engine whose disk is slow, torn, full or
// dead, whose answers get lost or come late, whose process is killed, whose clock
// jumps, and beside which another engine writes: what was acknowledged is in the
// log once, where it was said to be, and what was refused is not; who sends again
// gets the one answer, and in the end everybody has one; the log is a history of
// the model, its hashes and its times follow one another, and the state of the
// engine is the model's.
//
// STOCKLEDGER_TEST_SEED runs one seed, STOCKLEDGER_TEST_SIMULATIONS so many.
func TestSimulation(t *testing.T) {
	seed, one := numberFrom(t, seedVariable, uint64(time.Now().UnixNano()))
	rounds := uint64(2000)
	if race.On {
		rounds = 200 // the detector makes them ten times as slow, and finds its races in few
	}
	rounds, _ = numberFrom(t, simulationsVariable, rounds)
	if one {
		rounds = 1
	}
	t.Logf("seeds %d to %d", seed, seed+rounds-1)
	for i := range rounds {
		synctest.Test(t, func(t *testing.T) { simulate(t, seed+i) })
		if t.Failed() {
			t.Fatalf("seed %d", seed+i)
		}
	}
}

// A seed is a history: run again it is the same, to the last answer.
func TestASimulationIsItsSeed(t *testing.T) {
	seed, _ := numberFrom(t, seedVariable, uint64(time.Now().UnixNano()))
	different := map[string]bool{}
	rounds := uint64(100)
	if race.On {
		rounds = 25
	}
	for i := range rounds {
		var sums [2]string
		for j := range sums {
			synctest.Test(t, func(t *testing.T) { sums[j] = simulate(t, seed+i).digest() })
		}
		require.Equal(t, sums[0], sums[1], "seed %d", seed+i)
		different[sums[0]] = true
	}
	require.Len(t, different, int(rounds))
}

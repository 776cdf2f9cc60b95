package commands_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/race"
	"github.com/stockledger/stockledger/projections"
)

// What the environment may say. A seed runs one round only, that seed's.
const (
	seedVariable  = "STOCKLEDGER_TEST_SEED"
	modelVariable = "STOCKLEDGER_TEST_MODEL" // how many commands the model test sends
)

// numberFrom is a number of the environment, or another if there is none.
func numberFrom(t testing.TB, variable string, otherwise uint64) (n uint64, given bool) {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, variable)
	return n, true
}

// An asked is a command that was sent, and what came of it.
type asked struct {
	order
	caller   int
	key      string
	dry      bool
	sent     string // name and body
	from, to uint64 // where the log ended before it was sent, and when the answer was there
	answer   commands.Answer
	err      error
}

func (a asked) String() string {
	came := string(a.answer.Result)
	if a.err != nil {
		came = "refused: " + a.err.Error()
	}
	return fmt.Sprintf("caller %d, key %q, dry %v, between %d and %d: %s\n\t-> %d %s", a.caller, a.key, a.dry, a.from, a.to, a.sent, a.answer.Position, came)
}

func (a asked) code() string { return fault.Code(a.err) }

// A trial is one round of random commands against one ledger.
type trial struct {
	*shop
	name  string // of the test
	seed  uint64
	known bool // only known locations

	// narrow says that the store refuses some commits as too large.
	narrow bool
	// faulty says that outcomes get lost: two who send one command at once and both
	// lose its outcome both find themselves, and neither is called a replay.
	faulty bool

	mu    sync.Mutex
	asked []asked
	// sent is all that was sent with a key, by key and digest: also that whose answer
	// was lost.
	sent map[[2]string]asked
}

// remember notes a command that is about to be sent.
func (x *trial) remember(a asked, command commands.Command) {
	digest, err := commands.Digest(command)
	require.NoError(x.t, err)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sent == nil {
		x.sent = map[[2]string]asked{}
	}
	if _, before := x.sent[[2]string{a.key, digest}]; !before {
		x.sent[[2]string{a.key, digest}] = a
	}
}

// send sends an order and writes down what came of it. It is false for one that
// makes no sense whatever the state, of which the ledger says so in the same way.
func (x *trial) send(caller int, o order, key string, dry bool) bool {
	a := asked{order: o, caller: caller, key: key, dry: dry, sent: o.name + " " + o.body()}
	command, err := commands.Decode(o.name, []byte(o.body()))
	if err != nil {
		return false
	}
	x.remember(a, command)
	a.from, err = x.store.Head(x.t.Context())
	if err == nil {
		a.answer, a.err = x.Do(x.t.Context(), commands.Envelope{Key: key, DryRun: dry}, command)
		a.to, err = x.store.Head(x.t.Context())
	}
	if err != nil || a.code() == "internal" || fault.Of(a.err).Kind == fault.Unavailable && a.err != nil {
		x.t.Errorf("seed %d: nothing fails here: %v; %v", x.seed, err, a)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = append(x.asked, a)
	return true
}

// earlier is something that was sent with a key.
func (x *trial) earlier(p pencil) (a asked, found bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.asked) == 0 {
		return asked{}, false
	}
	a = x.asked[max(0, len(x.asked)-1-p.IntN(60))]
	return a, a.key != ""
}

// call is what one caller does.
func (x *trial) call(caller, times int) {
	p := pencil{rand.New(rand.NewPCG(x.seed, uint64(caller)+1)), 14}
	for n := range times {
		key := fmt.Sprint(caller, "-", n)
		switch p.IntN(24) {
		case 0:
			x.send(caller, p.order(), "", false)
		case 1, 2, 3:
			x.send(caller, p.order(), sometimes(p, 2, func() string { return key }), true)
		case 4, 5, 6:
			if a, found := x.earlier(p); found {
				x.send(caller, a.order, a.key, p.oneIn(6)) // again
			}
		case 7:
			if a, found := x.earlier(p); found {
				x.send(caller, p.order(), a.key, p.oneIn(6)) // something else by the same name
			}
		default:
			for o := p.order(); !x.send(caller, o, key, false); {
				o = p.order()
			}
		}
	}
}

// furnish gives the shop what most commands name.
func (x *trial) furnish() {
	levels := []bookLine{
		{ID: "lv0", Item: "cup", Location: "paris", Stocked: new(amount(90))},
		{ID: "lv1", Item: "cup", Location: "oslo", Stocked: new(amount(45))},
		{ID: "lv2", Item: "pot", Location: "paris", Stocked: new(amount(30))},
		{ID: "lv3", Item: "jar", Location: "paris"},
	}
	for _, o := range []order{
		{name: "create-stock-locations", lines: []bookLine{{ID: "paris", Name: "Paris"}, {ID: "oslo", Name: "Oslo"}, {ID: "rome", Name: "Rome"}}},
		{name: "create-inventory-items", lines: []bookLine{{ID: "cup"}, {ID: "pot", SKU: json.RawMessage(`"A"`)}, {ID: "jar"}, {ID: "tin"}}},
		{name: "create-inventory-levels", lines: levels},
	} {
		x.send(0, o, "furnish "+o.name, false)
	}
}

// judge replays what was sent in the order of the log, on a book.
func (x *trial) judge() {
	b := newBook(x.known)
	log := x.recorded(0)
	told := x.acknowledged(log)
	var unplaced []asked
	for _, a := range x.asked {
		if a.answer.Position == 0 && (a.err == nil || fault.Of(a.err).Kind != fault.Unavailable) {
			unplaced = append(unplaced, a)
		}
	}
	slices.SortStableFunc(unplaced, func(p, q asked) int { return cmp.Compare(p.from, q.from) })
	sums := newConservation()
	var history []asked
	var head uint64
	place := func() {
		unplaced = slices.DeleteFunc(unplaced, func(a asked) bool {
			if a.to < head {
				x.fatal(history, "no state that it may have seen explains %v", a)
			}
			return a.from <= head && (a.explainedBy(b) || x.narrow && a.code() == "commit_too_large")
		})
	}
	place()
	for _, c := range commits(log) {
		last := c[len(c)-1]
		meta, err := last.Metadata()
		require.NoError(x.t, err)
		a, found := told[meta.CommandID]
		if !found {
			a, found = x.sent[[2]string{meta.CommandID, meta.Digest}]
		}
		history = append(history, a)
		switch _, twice := b.commands[meta.CommandID]; {
		case !found:
			x.fatal(history, "nobody sent %s, which is at %d", meta.CommandID, last.Position)
		case twice:
			x.fatal(history, "%s is there twice", meta.CommandID)
		case a.answer.Position != last.Position && a.answer.Position != 0:
			x.fatal(history, "acknowledged at %d, and it is at %d", a.answer.Position, last.Position)
		case a.answer.Position != 0 && !bytes.Equal(a.answer.Result, meta.Answer):
			x.fatal(history, "another answer was given than the log has: %s", meta.Answer)
		}
		result, refused := b.do(a.order, meta.Recorded, true, idsOf(meta.Answer))
		if refused != nil {
			x.fatal(history, "the model refuses with %v", refused)
		}
		if !sameAnswer(a.name, meta.Answer, result) {
			x.fatal(history, "the model answers\n%s\nand the ledger\n%s", result, meta.Answer)
		}
		if err := sums.take(c); err != nil {
			x.fatal(history, "%v", err)
		}
		if err := sums.agrees(b); err != nil {
			x.fatal(history, "%v", err)
		}
		b.commands[meta.CommandID] = carried{a.sent, meta.Answer, last.Position}
		head = last.Position
		place()
	}
	if len(unplaced) > 0 {
		x.fatal(history, "no state that it may have seen explains %v", unplaced[0])
	}
	for key, a := range told {
		if _, there := b.commands[key]; !there {
			x.fatal(history, "acknowledged and not in the log: %v", a)
		}
	}
	x.endsAs(b)
}

// acknowledged is every command that was carried out, by its key, and checks that
// all who were told of it were told the same, at a time that can be.
func (x *trial) acknowledged(log []events.Recorded) map[string]asked {
	all := map[string]asked{}
	original := map[string]bool{}
	for _, a := range x.asked {
		if a.err != nil || a.answer.Position == 0 {
			continue
		}
		key := a.answer.CommandID
		first, told := all[key]
		if told && (first.answer.Position != a.answer.Position || !bytes.Equal(first.answer.Result, a.answer.Result) || first.sent != a.sent) {
			x.fatal(nil, "one key, two answers: %v and %v", first, a)
		}
		if a.answer.Position > a.to || !a.answer.Replayed && a.answer.Position <= a.from {
			x.fatal(nil, "answered with a position that cannot be: %v", a)
		}
		if !a.answer.Replayed && original[key] && !x.faulty {
			x.fatal(nil, "two originals: %v and %v", first, a)
		}
		original[key] = original[key] || !a.answer.Replayed
		if at := log[a.answer.Position-1]; !bytes.Contains(at.Meta, []byte(strconv.Quote(key))) {
			x.fatal(nil, "position %d is another command's: %v", a.answer.Position, a)
		}
		all[key] = a
	}
	return all
}

// explainedBy reports whether the command would have been answered so by the book
// as it is, without changing it.
func (a asked) explainedBy(b *book) bool {
	if prior, done := b.commands[a.key]; done && a.key != "" {
		return prior.sent != a.sent && a.code() == "idempotency_key_reused"
	}
	result, refused := b.do(a.order, latest(a.answer.Result), false, idsOf(a.answer.Result))
	if refused != nil {
		line, _ := fault.Of(a.err).Details["line"].(int)
		return slices.Contains(strings.Fields(refused.codes), a.code()) && line == refused.line
	}
	return a.err == nil && (a.dry || !b.changed) && sameAnswer(a.name, a.answer.Result, result)
}

// sameAnswer compares to the byte, but for ids that were made, and the order of
// ids where none is promised.
func sameAnswer(name string, ledger, model []byte) bool {
	if bytes.Equal(ledger, model) {
		return true
	}
	ledger, model = uuids.ReplaceAll(ledger, []byte("~")), uuids.ReplaceAll(model, []byte("~"))
	if bytes.Equal(ledger, model) {
		return true
	}
	if !strings.HasPrefix(name, "delete-") {
		return false
	}
	return slices.Equal(slices.Sorted(slices.Values(idsOf(ledger))), slices.Sorted(slices.Values(idsOf(model))))
}

func idsOf(result []byte) []string {
	var named struct{ IDs []string }
	if bytes.HasPrefix(result, []byte(`{"ids"`)) {
		mustRead(result, &named)
	}
	return named.IDs
}

var instants = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"`)

// latest is the newest instant that an answer names.
func latest(result []byte) (newest time.Time) {
	for _, quoted := range instants.FindAll(result, -1) {
		var at time.Time
		if mustRead(quoted, &at); at.After(newest) {
			newest = at
		}
	}
	return newest
}

// endsAs compares every row of the ledger with the book's: it asks for changes
// that change nothing, as dry runs.
func (x *trial) endsAs(b *book) {
	ask := func(name string, lines []bookLine) {
		if len(lines) == 0 {
			return
		}
		o := order{name: name, lines: lines}
		command, err := commands.Decode(o.name, []byte(o.body()))
		require.NoError(x.t, err)
		answer, err := x.Do(x.t.Context(), commands.Envelope{DryRun: true}, command)
		require.NoError(x.t, err, "seed %d: in the end, %s %s", x.seed, o.name, o.body())
		result, refused := b.do(o, time.Time{}, false, nil)
		require.Nil(x.t, refused)
		require.Equal(x.t, generic(result), generic(answer.Result), "seed %d: in the end", x.seed)
	}
	lines := func(name string, ids iter.Seq[string], live func(id string) bool) {
		var all []bookLine
		for _, id := range slices.Sorted(ids) {
			if live(id) && !strings.Contains(id, madeInTheBook) {
				all = append(all, bookLine{ID: id})
			}
		}
		ask(name, all)
	}
	lines("update-inventory-items", maps.Keys(b.items), b.lives)
	lines("update-reservations", maps.Keys(b.reservations), func(id string) bool { return b.reservations[id].Released == nil })
	lines("update-inventory-levels", maps.Keys(b.levelItem), func(id string) bool { _, there := b.levelByID(id); return there })
	lines("update-stock-locations", maps.Keys(b.locations), b.open)
	var links []bookLine
	for _, variant := range []string{"tea-set", "breakfast"} {
		for _, item := range []string{"cup", "pot", "jar", "tin"} {
			links = append(links, bookLine{Variant: variant, Item: item})
		}
	}
	ask("detach-inventory-items", links)
}

// fatal ends the test with the newest of what was done.
func (x *trial) fatal(history []asked, format string, args ...any) {
	x.t.Helper()
	x.t.Logf("%s=%d go test -count=1 -run '^%s$' ./commands", seedVariable, x.seed, x.name)
	for _, a := range history[max(0, len(history)-12):] {
		x.t.Log(a)
	}
	x.t.Fatalf("seed %d, after %d commits: "+format, append([]any{x.seed, len(history)}, args...)...)
}

// A conservation adds up what facts say was moved, fact by fact: stock is the sum
// of its movements, and reserved that of the live reservations.
type conservation struct {
	stocked      map[place]events.Quantity
	gone         map[string]events.Quantity // by deleted level
	reserved     map[place]events.Quantity
	reservations map[string]holding
	times        time.Time
	chain        map[string]events.Recorded
	position     uint64
}

type holding struct {
	at       place
	quantity events.Quantity
}

func newConservation() *conservation {
	return &conservation{
		stocked: map[place]events.Quantity{}, gone: map[string]events.Quantity{}, reserved: map[place]events.Quantity{},
		reservations: map[string]holding{}, chain: map[string]events.Recorded{},
	}
}

// take takes a commit in, and says what does not add up at any of its events.
func (s *conservation) take(commit []events.Recorded) error {
	for i, r := range commit {
		meta, err := r.Metadata()
		if err != nil {
			return err
		}
		switch {
		case r.Position != s.position+1:
			return fmt.Errorf("position %d follows %d", r.Position, s.position)
		case i == 0 && !meta.Recorded.After(s.times), i > 0 && !meta.Recorded.Equal(s.times):
			return fmt.Errorf("position %d: recorded at %v after %v", r.Position, meta.Recorded, s.times)
		}
		if err := r.Verify(s.chain[r.Stream]); err != nil {
			return err
		}
		s.position, s.times, s.chain[r.Stream] = r.Position, meta.Recorded, r
		fact, err := r.Fact()
		if err == nil {
			err = s.fact(fact)
		}
		if err != nil {
			return fmt.Errorf("position %d: %w", r.Position, err)
		}
	}
	return nil
}

func (s *conservation) fact(fact events.Fact) error {
	switch f := fact.(type) {
	case events.LevelCreated:
		s.stocked[place{f.ItemID, f.LocationID}] = f.Stocked
		s.reserved[place{f.ItemID, f.LocationID}] = events.Quantity{}
	case events.LevelDeleted:
		at := place{f.ItemID, f.LocationID}
		s.gone[f.LevelID] = s.stocked[at]
		if !s.reserved[at].IsZero() {
			return fmt.Errorf("%v is deleted with %v reserved", at, s.reserved[at])
		}
		delete(s.stocked, at)
		delete(s.reserved, at)
	case events.LevelRestored:
		at := place{f.ItemID, f.LocationID}
		s.stocked[at], s.reserved[at] = s.gone[f.LevelID], events.Quantity{}
		return s.says(at, f.Stocked, events.Quantity{})
	case events.StockAdjusted:
		return s.move(place{f.ItemID, f.LocationID}, f.Delta, f.Stocked, f.Reserved)
	case events.StockSet:
		return s.move(place{f.ItemID, f.LocationID}, f.Stocked.Minus(f.From), f.Stocked, f.Reserved)
	case events.ReservationCreated:
		return s.hold(f.ReservationID, place{f.ItemID, f.LocationID}, f.Quantity, f.Stocked, f.Reserved)
	case events.ReservationUpdated:
		return s.hold(f.ReservationID, place{f.ItemID, f.LocationID}, f.Quantity, f.Stocked, f.Reserved)
	case events.ReservationMoved:
		from := s.reservations[f.ReservationID].at
		if err := s.hold(f.ReservationID, place{f.ItemID, f.LocationID}, f.Quantity, f.Stocked, f.Reserved); err != nil {
			return err
		}
		return s.says(from, f.FromStocked, f.FromReserved)
	case events.ReservationReleased:
		return s.hold(f.ReservationID, place{f.ItemID, f.LocationID}, events.Quantity{}, f.Stocked, f.Reserved)
	case events.ReservationRestored:
		return s.hold(f.ReservationID, place{f.ItemID, f.LocationID}, f.Quantity, f.Stocked, f.Reserved)
	case events.ReservationFulfilled:
		at := place{f.ItemID, f.LocationID}
		s.stocked[at] = s.stocked[at].Minus(f.Quantity)
		return s.hold(f.ReservationID, at, f.Remaining, f.Stocked, f.Reserved)
	default: // moves nothing
	}
	return nil
}

func (s *conservation) move(at place, delta, stocked, reserved events.Quantity) error {
	s.stocked[at] = s.stocked[at].Plus(delta)
	return s.says(at, stocked, reserved)
}

func (s *conservation) hold(id string, at place, quantity, stocked, reserved events.Quantity) error {
	before := s.reservations[id]
	if before != (holding{}) {
		s.reserved[before.at] = s.reserved[before.at].Minus(before.quantity)
	}
	s.reservations[id] = holding{at, quantity}
	s.reserved[at] = s.reserved[at].Plus(quantity)
	return s.says(at, stocked, reserved)
}

func (s *conservation) says(at place, stocked, reserved events.Quantity) error {
	if !s.stocked[at].Equal(stocked) || !s.reserved[at].Equal(reserved) {
		return fmt.Errorf("%v says %v in stock, %v reserved; its movements come to %v and %v", at, stocked, reserved, s.stocked[at], s.reserved[at])
	}
	return nil
}

// agrees compares the sums with the book's levels, and checks that none promises
// what it does not have without leave.
func (s *conservation) agrees(b *book) error {
	if len(s.stocked) != len(b.levels) {
		return fmt.Errorf("%d levels, the model has %d", len(s.stocked), len(b.levels))
	}
	for at, l := range b.levels {
		if strings.Contains(at.item, madeInTheBook) {
			continue
		}
		l = b.row(l)
		stocked, _ := l.Stocked.MarshalJSON()
		reserved, _ := l.Reserved.MarshalJSON()
		if s.stocked[at].String() != string(stocked) || s.reserved[at].String() != string(reserved) {
			return fmt.Errorf("%v has %v in stock, %v reserved; the model %s and %s", at, s.stocked[at], s.reserved[at], stocked, reserved)
		}
		if l.Available < 0 && !b.free[at] {
			return fmt.Errorf("%v is oversold, and nobody allowed it", at)
		}
	}
	return nil
}

// hesitant is a store that lets the others go first, so that commands pile up.
type hesitant struct{ *memstore.Store }

func (s *hesitant) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	for range 30 {
		runtime.Gosched()
	}
	return s.Store.AppendAt(ctx, head, commits...)
}

// Random commands of all kinds from 8 callers at once, replayed one after the
// other in the order of the log by a ledger of plain maps: it gives every answer
// that was given, to the byte; every refusal and every dry run is what it would
// have answered at some position between the question and the answer; and at
// every single event stock is the sum of its movements, reserved that of the live
// reservations, and nothing is promised twice.
//
// STOCKLEDGER_TEST_MODEL=1000000 sends so many commands.
func TestEveryAnswerIsTheModels(t *testing.T) {
	seed, one := numberFrom(t, seedVariable, uint64(time.Now().UnixNano()))
	total := uint64(4000)
	if race.On {
		total = 2000 // and every kind of command is not sure to be accepted
	}
	total, _ = numberFrom(t, modelVariable, total)
	t.Logf("seeds from %d on", seed)
	counts := &tally{}
	enough := func(sent uint64) bool { // so many, and each kind of command was accepted once
		return sent >= total && (total < 4000 || sent >= 50*total || len(counts.accepted) == len(commands.Names()))
	}
	for sent := uint64(0); !enough(sent); seed++ {
		done := t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { // which lets go of its ledger at its end
			sent += oneTrial(t, seed, counts, onMaps, 8, 100)
		})
		if one || !done {
			break
		}
	}
	if !one {
		counts.report(t, total)
	}
}

// onMaps has a ledger of memory only, whose index lags behind.
func onMaps(t testing.TB, random *rand.Rand, c *commands.Config) (finish func()) {
	store := &hesitant{Store: memstore.New()}
	index := newLagging(t, store)
	c.Store, c.Index = store, index
	if random.IntN(2) == 0 {
		c.CachedStreams = 1 + random.IntN(4)
	}
	index.catchUp(random.IntN(2))
	return func() { index.catchUp(random.IntN(100)) }
}

// The same on a SQLite file, with the read models of the product as the index.
func TestEveryAnswerIsTheModelsOnSQLite(t *testing.T) {
	seed, _ := numberFrom(t, seedVariable, uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	oneTrial(t, seed, &tally{}, func(t testing.TB, _ *rand.Rand, c *commands.Config) func() {
		dir := t.TempDir()
		store, err := sqlitestore.Open(filepath.Join(dir, "log.db"))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		models, err := projections.Open(t.Context(), projections.Config{Dir: filepath.Join(dir, "models"), Store: store, Logger: c.Logger})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, models.Close()) })
		c.Store, c.Index = store, models
		return func() {}
	}, 8, 30)
}

// A tally counts what the commands of a run came to, so that a test which draws
// nothing but refusals is noticed.
type tally struct {
	accepted, refused map[string]int
}

func (c *tally) report(t *testing.T, total uint64) {
	accepted, refused := 0, 0
	for _, n := range c.accepted {
		accepted += n
	}
	for _, n := range c.refused {
		refused += n
	}
	t.Logf("%d accepted, %d refused: %v", accepted, refused, c.refused)
	if total < 4000 || t.Failed() {
		return
	}
	for _, name := range commands.Names() {
		require.NotZero(t, c.accepted[name], "%s was never accepted", name)
	}
}

// oneTrial sends commands from callers at once, then from one after the other,
// where what was seen is known exactly, and judges.
func oneTrial(t *testing.T, seed uint64, counts *tally, furnish func(t testing.TB, random *rand.Rand, c *commands.Config) func(), callers, times int) uint64 {
	random := rand.New(rand.NewPCG(seed, 0))
	c := commands.Config{
		Now: time.Now, RequireKnownLocations: random.IntN(2) == 0, Logger: slog.New(slog.DiscardHandler),
	}
	catchUp := furnish(t, random, &c)
	name, _, _ := strings.Cut(t.Name(), "/")
	x := &trial{name: name, seed: seed, known: c.RequireKnownLocations}
	x.shop = openShop(t, c.Store, func(open *commands.Config) { *open = c })
	x.KeepCommands(random.IntN(40))
	x.furnish()
	stop := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() { // the index follows now and then
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				catchUp()
			}
		}
	})
	together(callers, func(caller int) { x.call(caller, times) })
	x.call(callers, times/2)
	close(stop)
	following.Wait()
	x.judge()
	x.agreesWithTheLog()
	require.NoError(t, x.Close())
	if counts.accepted == nil {
		*counts = tally{map[string]int{}, map[string]int{}}
	}
	for _, a := range x.asked {
		if a.err == nil && !a.dry {
			counts.accepted[a.name]++
		} else if a.err != nil {
			counts.refused[a.code()]++
		}
	}
	return uint64(len(x.asked))
}

package commands_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The model is a ledger in a hundred lines: whole units, plain maps, one thread.
// It knows the rules from docs/commands.md and nothing of package domain.
type model struct {
	levels       map[string]*modelLevel // by "item/location"
	reservations map[string]*modelReservation
}

type modelLevel struct {
	stocked int64
	free    bool // oversold on purpose, by a floor or a backorder
}

type modelReservation struct {
	level    string
	quantity int64
	line     string
	live     bool
	backlog  bool // allow_backorder
}

// modelLine is a line of any of the commands the model knows.
type modelLine struct {
	ID         string  `json:"id,omitempty"`
	Item       string  `json:"inventory_item_id,omitempty"`
	Location   string  `json:"location_id,omitempty"`
	Adjustment *int64  `json:"adjustment,omitempty"`
	Stocked    *int64  `json:"stocked_quantity,omitempty"`
	Quantity   *int64  `json:"quantity,omitempty"`
	Line       string  `json:"line_item_id,omitempty"`
	Backorder  bool    `json:"allow_backorder,omitempty"`
	Floor      string  `json:"floor,omitempty"`
	Place      *string `json:"-"` // where an update moves a reservation to
}

var errRule = errors.New("refused")

func (m *model) reserved(level string) (sum int64) {
	for _, r := range m.reservations {
		if r.live && r.level == level {
			sum += r.quantity
		}
	}
	return sum
}

func (m *model) clone() *model {
	c := &model{map[string]*modelLevel{}, map[string]*modelReservation{}}
	for k, v := range m.levels {
		l := *v
		c.levels[k] = &l
	}
	for k, v := range m.reservations {
		r := *v
		c.reservations[k] = &r
	}
	return c
}

func (m *model) stock(l *modelLevel, name string, to int64, floor string) error {
	if to < l.stocked && (floor == "" && to < m.reserved(name) || floor == "zero" && to < 0) {
		return errRule
	}
	l.free = l.free || floor != ""
	l.stocked = to
	return nil
}

func (m *model) hold(level string, quantity int64, backorder bool) error {
	l := m.levels[level]
	if l == nil || quantity <= 0 && !backorder || l.stocked-m.reserved(level) < quantity && !backorder {
		return errRule
	}
	l.free = l.free || backorder
	return nil
}

// do carries out one line and says what it answers: stocked and reserved of a
// level, or what a reservation holds.
func (m *model) do(name string, n modelLine) (answer []int64, err error) {
	level := n.Item + "/" + n.Location
	r := m.reservations[n.ID]
	switch name {
	case "create-inventory-items": // of which it has no levels
		return nil, nil
	case "adjust-inventory-levels", "update-inventory-levels":
		l := m.levels[level]
		if l == nil {
			return nil, errRule
		}
		to := l.stocked
		if n.Adjustment != nil {
			to += *n.Adjustment
		} else {
			to = *n.Stocked
		}
		err = m.stock(l, level, to, n.Floor)
		return []int64{l.stocked, m.reserved(level)}, err
	case "create-reservations":
		if r != nil {
			return nil, errRule
		}
		if err := m.hold(level, *n.Quantity, n.Backorder); err != nil {
			return nil, err
		}
		m.reservations[n.ID] = &modelReservation{level, *n.Quantity, n.Line, true, n.Backorder}
		return []int64{*n.Quantity}, nil
	case "update-reservations":
		if r == nil || !r.live {
			return nil, errRule
		}
		q, to := r.quantity, r.level
		if n.Quantity != nil {
			q = *n.Quantity
		}
		if n.Location != "" {
			item, _, _ := strings.Cut(r.level, "/")
			to = item + "/" + n.Location
		}
		more := q
		if to == r.level {
			more = max(q-r.quantity, 0)
		}
		if more > 0 {
			if err := m.hold(to, more, r.backlog); err != nil {
				return nil, err
			}
		}
		r.quantity, r.level = q, to
		return []int64{q}, nil
	case "fulfill-reservations":
		if r == nil || !r.live || n.Quantity != nil && *n.Quantity > r.quantity {
			return nil, errRule
		}
		q := r.quantity
		if n.Quantity != nil {
			q = *n.Quantity
		}
		l := m.levels[r.level]
		if l.stocked < q && n.Floor != "none" {
			return nil, errRule
		}
		l.free = l.free || n.Floor == "none"
		l.stocked -= q
		r.quantity -= q
		r.live = r.quantity > 0
		return []int64{r.quantity}, nil
	case "delete-reservations":
		if r == nil {
			return nil, errRule
		}
		r.live = false
		return nil, nil
	case "restore-reservations":
		switch {
		case r == nil, !r.live && r.quantity == 0: // used up
			return nil, errRule
		case r.live:
			return []int64{r.quantity}, nil
		}
		if err := m.hold(r.level, r.quantity, r.backlog); err != nil {
			return nil, err
		}
		r.live = true
		return []int64{r.quantity}, nil
	case "delete-reservations-by-line-item":
		for _, r := range m.reservations {
			if r.line == n.ID {
				r.live = false
			}
		}
		return nil, nil
	}
	panic(name)
}

// oversold names a level that promises more than it has though nobody allowed it.
func (m *model) oversold() string {
	for name, l := range m.levels {
		if !l.free && l.stocked < m.reserved(name) {
			return name
		}
	}
	return ""
}

type modelCommand struct {
	name  string
	lines []modelLine
}

func (c modelCommand) body() string {
	var body []byte
	if c.names() {
		ids := make([]string, len(c.lines))
		for i, l := range c.lines {
			ids[i] = l.ID
		}
		body, _ = json.Marshal(ids)
	} else {
		body, _ = json.Marshal(c.lines)
	}
	return string(body)
}

func (c modelCommand) names() bool {
	return strings.HasPrefix(c.name, "delete-") || strings.HasPrefix(c.name, "restore-")
}

// anyCommand makes a command about few things, so that callers get in each
// other's way.
func anyCommand(random *rand.Rand, reservations int) modelCommand {
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	number := func(from, to int64) *int64 { n := from + random.Int64N(to-from); return &n }
	c := modelCommand{name: pick(
		"adjust-inventory-levels", "adjust-inventory-levels", "update-inventory-levels", "create-reservations", "create-reservations", "create-reservations",
		"update-reservations", "fulfill-reservations", "delete-reservations", "restore-reservations", "delete-reservations-by-line-item")}
	for range 1 + random.IntN(3) {
		l := modelLine{}
		line := func() string { return fmt.Sprint("line-", random.IntN(8)) }
		reservation := func() string { return fmt.Sprint("r", random.IntN(reservations)) }
		place := func() {
			l.Item, l.Location = pick("cup", "pot"), pick("paris", "oslo", "rome") // pot is not at rome
		}
		switch c.name {
		case "adjust-inventory-levels":
			place()
			l.Adjustment, l.Floor = number(-4, 6), pick("", "", "", "zero", "none")
		case "update-inventory-levels":
			place()
			l.Stocked, l.Floor = number(0, 12), pick("", "", "", "zero", "none")
		case "create-reservations":
			place()
			l.ID, l.Quantity, l.Line, l.Backorder = reservation(), number(1, 5), line(), random.IntN(10) == 0
		case "update-reservations":
			l.ID = reservation()
			if random.IntN(2) == 0 {
				l.Quantity = number(1, 6)
			}
			if random.IntN(2) == 0 {
				l.Location = pick("paris", "oslo", "rome")
			}
		case "fulfill-reservations":
			l.ID, l.Floor = reservation(), pick("", "", "none")
			if random.IntN(2) == 0 {
				l.Quantity = number(1, 3)
			}
		case "delete-reservations-by-line-item":
			l.ID = line()
		default:
			l.ID = reservation()
		}
		c.lines = append(c.lines, l)
	}
	return c
}

// Random commands from several callers, replayed one after the other in the
// order of the log against the model: every command that was accepted would have
// been accepted there, with the same quantities in its answer; what is left is
// what the log says; reserved is the sum of the live reservations at every
// commit; and no level promises more than it has, unless somebody allowed it.
//
// Behind it are the things that must not show: an index that lags, an engine that
// forgets, a small cache, a store that fails, callers that retry and give up.
func TestTheLedgerIsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		callers := rapid.IntRange(1, 8).Draw(rt, "callers")
		kept := rapid.IntRange(0, 20).Draw(rt, "kept")
		cached := rapid.SampledFrom([]int{1, 3, 100}).Draw(rt, "cached")
		fails := rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 10, 40}).Draw(rt, "one append in so many fails") // each costs a pause
		againstTheModel(t, seed, callers, kept, cached, fails)
	})
}

// modelled gives the shop a few things and makes the model of them.
func (s *shop) modelled() *model {
	s.t.Helper()
	s.do("create-inventory-items", `[
		{"id":"cup","location_levels":[{"location_id":"paris","stocked_quantity":9},{"location_id":"oslo","stocked_quantity":4},{"location_id":"rome"}]},
		{"id":"pot","location_levels":[{"location_id":"paris","stocked_quantity":3},{"location_id":"oslo"}]}]`)
	return &model{levels: map[string]*modelLevel{
		"cup/paris": {stocked: 9}, "cup/oslo": {stocked: 4}, "cup/rome": {}, "pot/paris": {stocked: 3}, "pot/oslo": {},
	}, reservations: map[string]*modelReservation{}}
}

func againstTheModel(t *testing.T, seed uint64, callers, kept, cached, fails int) {
	store := newFlaky()
	index := newLagging(t, store)
	s := openShop(t, store, func(c *commands.Config) { c.Index = index; c.CachedStreams = cached })
	defer s.Close()
	s.KeepCommands(kept)
	m := s.modelled()
	start := s.head()

	appends := rand.New(rand.NewPCG(seed, 0)) // used by the committer only
	store.onAppend(func(commits []events.Commit) ([]uint64, error) {
		n, told, fail := len(commits), len(commits), error(nil)
		if fails > 0 && appends.IntN(fails) == 0 {
			n, fail = appends.IntN(n+1), errDisk
			told = appends.IntN(n + 1)
		}
		positions, err := store.Store.Append(context.Background(), commits[:n]...)
		if err != nil {
			t.Errorf("seed %d: nobody else writes: %v", seed, err)
			return positions, err
		}
		return positions[:told], fail
	})
	var mu sync.Mutex
	sent := map[string]modelCommand{}
	accepted := map[string]commands.Answer{}
	together(callers, func(caller int) {
		random := rand.New(rand.NewPCG(seed, uint64(caller)+1))
		for n := range 40 {
			c, key := anyCommand(random, 12), fmt.Sprint(caller, "-", n)
			mu.Lock()
			sent[key] = c
			mu.Unlock()
			for range 1 + random.IntN(2) { // some are sent twice
				answer, err := s.try(c.name, c.body(), keyed(key))
				if fault.Code(err) == "internal" {
					t.Errorf("%s %s: %v", c.name, c.body(), err)
				}
				if err == nil {
					answer.Replayed = false
					mu.Lock()
					before, twice := accepted[key]
					accepted[key] = answer
					mu.Unlock()
					if twice {
						require.Equal(t, before, answer)
					}
				}
			}
			if random.IntN(4) == 0 {
				index.catchUp(random.IntN(30))
			}
		}
	})
	store.onAppend(nil)
	s.judge(m, start, seed, sent, accepted)
}

// judge replays the log after start against the model, one commit after the other.
func (s *shop) judge(m *model, start, seed uint64, sent map[string]modelCommand, accepted map[string]commands.Answer) {
	t := s.t
	done := map[string]bool{}
	for _, c := range commits(s.recorded(start)) {
		meta, err := c[len(c)-1].Metadata()
		require.NoError(t, err)
		key := meta.CommandID
		require.False(t, done[key], "%s was carried out twice", key)
		done[key] = true
		require.NoError(t, m.replay(sent[key], meta.Answer), "seed %d: %s %s", seed, sent[key].name, sent[key].body())
		require.Empty(t, m.oversold(), "seed %d after %s", seed, key)
		if answer, ok := accepted[key]; ok {
			require.Equal(t, meta.Answer, answer.Result)
			require.Equal(t, c[len(c)-1].Position, answer.Position)
		}
		m.agrees(t, c)
	}
	for key := range accepted {
		require.True(t, done[key], "%s was acknowledged and is not in the log", key)
	}
	for name, l := range m.levels {
		item, location, _ := strings.Cut(name, "/")
		row := s.level(item, location)
		require.Equal(t, fmt.Sprint(l.stocked, " ", m.reserved(name)), fmt.Sprint(row.StockedQuantity, " ", row.ReservedQuantity), "seed %d: %s", seed, name)
	}
	s.agreesWithTheLog()
}

// commits cuts a log into its commits.
func commits(all []events.Recorded) (cut [][]events.Recorded) {
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(r events.Recorded) bool {
			meta, err := r.Metadata()
			return err == nil && meta.Last()
		}) + 1
		cut, all = append(cut, all[:n]), all[n:]
	}
	return cut
}

// replay carries a command out and compares the quantities of its answer.
func (m *model) replay(c modelCommand, answer json.RawMessage) error {
	after := m.clone()
	var rows []struct {
		Stocked  json.Number `json:"stocked_quantity"`
		Reserved json.Number `json:"reserved_quantity"`
		Quantity json.Number `json:"quantity"`
	}
	if !strings.HasPrefix(c.name, "delete-") && answer != nil {
		if err := json.Unmarshal(answer, &rows); err != nil {
			return err
		}
	}
	for i, line := range c.lines {
		want, err := after.do(c.name, line)
		if err != nil {
			return fmt.Errorf("line %d: %w by the model: %s", i+1, err, m)
		}
		if want == nil || answer == nil {
			continue
		}
		got := []string{cmp.Or(rows[i].Quantity.String(), rows[i].Stocked.String()), rows[i].Reserved.String()}
		for j, n := range want {
			if got[j] != fmt.Sprint(n) {
				return fmt.Errorf("line %d answers %v, the model %v", i+1, got, want)
			}
		}
	}
	*m = *after
	return nil
}

func (m *model) String() string {
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.levels)) {
		fmt.Fprintf(&all, "%s %+v; ", name, *m.levels[name])
	}
	for _, id := range slices.Sorted(maps.Keys(m.reservations)) {
		fmt.Fprintf(&all, "%s %+v; ", id, *m.reservations[id])
	}
	return all.String()
}

// agrees compares the quantities in the last fact about each level of a commit
// with the model.
func (m *model) agrees(t testing.TB, commit []events.Recorded) {
	after := map[string]string{}
	for _, r := range commit {
		fact, err := r.Fact()
		require.NoError(t, err)
		note := func(item, location string, stocked, reserved events.Quantity) {
			after[item+"/"+location] = fmt.Sprint(stocked, " ", reserved)
		}
		switch f := fact.(type) {
		case events.StockAdjusted:
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.StockSet:
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.ReservationCreated:
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.ReservationUpdated:
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.ReservationMoved:
			note(f.ItemID, f.FromLocationID, f.FromStocked, f.FromReserved)
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.ReservationReleased:
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.ReservationRestored:
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.ReservationFulfilled:
			note(f.ItemID, f.LocationID, f.Stocked, f.Reserved)
		case events.CommandAccepted, events.ItemCreated:
		default:
			t.Fatalf("the model does not know %T", fact)
		}
	}
	for level, quantities := range after {
		require.Equal(t, fmt.Sprint(m.levels[level].stocked, " ", m.reserved(level)), quantities, level)
	}
}

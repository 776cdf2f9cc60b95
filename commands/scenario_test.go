package commands_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

// scenario is one promise of one command: given some commands, when it is sent,
// then it is answered or refused, and these facts are recorded.
//
// Whoever writes a scenario gets more: the same command as a dry run before, with
// the same key again, with that key after a restart, and without a key. And at
// the end, what the engine has in memory is what the log says.
type scenario struct {
	name    string
	given   []step
	when    step
	strict  bool     // the ledger requires known locations
	answer  string   // JSON the result holds
	refused string   // or the code of the refusal
	details string   // JSON its details hold
	then    []string // the facts, as "stream fact" or "stream fact {JSON it holds}"
	again   string   // sent again without a key: "" does nothing, "acts" does, or a code
}

type step struct{ name, body string }

var instant = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

func (sc scenario) run(t *testing.T) {
	store := memstore.New()
	config := func(c *commands.Config) {
		c.RequireKnownLocations = sc.strict
		c.Now = func() time.Time { return instant } // so that a dry run and a real one have one time
	}
	s := openShop(t, store, config)
	for _, g := range sc.given {
		s.do(g.name, g.body)
	}
	before, rows := s.head(), s.rows()
	env := commands.Envelope{Key: "key-1"}
	dry, dryErr := s.try(sc.when.name, sc.when.body, commands.Envelope{Key: "key-1", DryRun: true})
	require.Equal(t, before, s.head(), "a dry run records nothing")
	require.Equal(t, rows, s.rows(), "a dry run changes nothing")

	answer, err := s.try(sc.when.name, sc.when.body, env)
	if sc.refused != "" {
		requireRefused(t, sc.refused, sc.details, err)
		require.Equal(t, refusal(t, err), refusal(t, dryErr), "the refusal of the dry run")
		require.Equal(t, before, s.head(), "a refusal records nothing")
		require.Equal(t, rows, s.rows(), "a refusal changes nothing")
		_, err = s.try(sc.when.name, sc.when.body, env)
		requireRefused(t, sc.refused, sc.details, err)
		s.agreesWithTheLog()
		return
	}
	require.NoError(t, err)
	require.NoError(t, dryErr)
	require.True(t, dry.DryRun)
	require.Equal(t, generic(dry.Result), generic(answer.Result), "the answer of the dry run")
	requireHolds(t, sc.answer, answer.Result)
	require.False(t, answer.Replayed)
	s.requireFacts(before, sc.then)
	after := s.head()
	require.Equal(t, after, answer.Position)

	again := s.do(sc.when.name, sc.when.body, env)
	require.Equal(t, commands.Answer{CommandID: "key-1", Position: after, Replayed: true, Result: answer.Result}, again)
	again = openShop(t, store, config).do(sc.when.name, sc.when.body, env)
	require.Equal(t, commands.Answer{CommandID: "key-1", Position: after, Replayed: true, Result: answer.Result}, again)
	require.Equal(t, after, s.head(), "twice is once")
	s.agreesWithTheLog()

	_, err = s.try(sc.when.name, sc.when.body)
	switch sc.again {
	case "":
		require.NoError(t, err)
		require.Equal(t, after, s.head(), "twice is once, also without a key")
	case "acts":
		require.NoError(t, err)
		require.Greater(t, s.head(), after)
	default:
		require.Equal(t, sc.again, fault.Code(err), "%v", err)
		require.Equal(t, after, s.head())
	}
	s.agreesWithTheLog()
}

func runAll(t *testing.T, all []scenario) {
	for _, sc := range all {
		t.Run(sc.name, sc.run)
	}
}

// recorded are the events after a position.
func (s *shop) recorded(after uint64) (all []events.Recorded) {
	s.t.Helper()
	head := s.head()
	if head == after {
		return nil
	}
	for batch, err := range s.store.Subscribe(s.t.Context(), after) {
		require.NoError(s.t, err)
		for _, r := range batch {
			if all = append(all, r); r.Position == head {
				return all
			}
		}
	}
	panic("unreachable")
}

func (s *shop) requireFacts(after uint64, want []string) {
	s.t.Helper()
	recorded := s.recorded(after)
	got := make([]string, len(recorded))
	for i, r := range recorded {
		got[i] = generic([]byte(r.Stream)) + " " + strings.TrimSuffix(strings.TrimPrefix(r.Type, "inventory."), ".v1")
	}
	names := make([]string, len(want))
	for i, w := range want {
		names[i], _, _ = strings.Cut(w, " {")
	}
	require.Equal(s.t, names, got)
	for i, w := range want {
		if _, holds, some := strings.Cut(w, " {"); some {
			requireHolds(s.t, "{"+holds, recorded[i].Data)
		}
	}
}

// rows are all items and reservations as this engine answers them.
func (s *shop) rows() string {
	s.t.Helper()
	items, reservations := map[string]bool{}, map[string]bool{}
	for _, r := range s.recorded(0) {
		fact, err := r.Fact()
		require.NoError(s.t, err)
		switch f := fact.(type) {
		case events.ItemCreated:
			items[f.ItemID] = true
		case events.ReservationCreated:
			reservations[f.ReservationID] = true
		}
	}
	var all strings.Builder
	ask := func(name, id string) {
		answer, err := s.try(name, fmt.Sprintf(`[{"id":%q}]`, id))
		fmt.Fprintln(&all, id, string(answer.Result), err)
	}
	for _, id := range slices.Sorted(maps.Keys(items)) {
		ask("update-inventory-items", id)
	}
	for _, id := range slices.Sorted(maps.Keys(reservations)) {
		ask("update-reservations", id)
	}
	return all.String()
}

// agreesWithTheLog compares what the engine has in memory with what another one
// reads from the log.
func (s *shop) agreesWithTheLog() {
	s.t.Helper()
	require.Equal(s.t, openShop(s.t, s.store).rows(), s.rows())
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// generic is text without the ids that were made.
func generic(text []byte) string { return string(uuids.ReplaceAll(text, []byte("~"))) }

// refusal is all that the publisher sees of err.
func refusal(t testing.TB, err error) string {
	t.Helper()
	seen, failed := json.Marshal(fault.Public(err))
	require.NoError(t, failed)
	return generic(seen)
}

func requireRefused(t testing.TB, code, details string, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.Code(err), "%v", err)
	if details != "" {
		got, err := json.Marshal(fault.Of(err).Details)
		require.NoError(t, err)
		requireHolds(t, details, got)
	}
}

// requireHolds checks that all of want is in got: an object of want may leave
// members out, an array may not.
func requireHolds(t testing.TB, want string, got []byte) {
	t.Helper()
	if want == "" {
		return
	}
	require.NoError(t, holds(parse(t, []byte(want)), parse(t, []byte(generic(got)))), "%s", got)
}

func parse(t testing.TB, text []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&v), "%s", text)
	return v
}

func holds(want, got any) error {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for name, value := range w {
			member, there := g[name]
			if !there {
				return fmt.Errorf("%q is missing", name)
			}
			if err := holds(value, member); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("want %d of %v, got %v", len(w), w, got)
		}
		for i := range w {
			if err := holds(w[i], g[i]); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return nil
	}
	if want != got {
		return fmt.Errorf("want %v, got %v", want, got)
	}
	return nil
}

var families = map[string][]scenario{
	"items": itemScenarios, "levels": levelScenarios, "reservations": reservationScenarios,
	"links": linkScenarios, "locations": locationScenarios,
}

func TestEveryCommandHasAScenario(t *testing.T) {
	accepted := map[string]bool{}
	for _, family := range families {
		for _, sc := range family {
			if sc.refused == "" {
				accepted[sc.when.name] = true
			}
		}
	}
	require.Equal(t, commands.Names(), slices.Sorted(maps.Keys(accepted)))
}

func TestItems(t *testing.T)        { runAll(t, itemScenarios) }
func TestLevels(t *testing.T)       { runAll(t, levelScenarios) }
func TestReservations(t *testing.T) { runAll(t, reservationScenarios) }
func TestLinks(t *testing.T)        { runAll(t, linkScenarios) }
func TestLocations(t *testing.T)    { runAll(t, locationScenarios) }

package commands_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

const oneOff = cupHas + `"adjustment":-1}]`

func keyed(key string) commands.Envelope { return commands.Envelope{Key: key} }

// withIndex is a shop with an index, which remembers kept commands that the index
// knows.
func withIndex(t testing.TB, kept int) (*shop, *lagging) {
	t.Helper()
	store := memstore.New()
	index := newLagging(t, store)
	s := openShop(t, store, func(c *commands.Config) { c.Index = index })
	s.KeepCommands(kept)
	return s, index
}

func TestRetriesThatRaceWithTheOriginalHaveOneEffect(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 1000)
	for round := range 20 {
		key := keyed(fmt.Sprintf("sale-%d", round))
		answers := make([]commands.Answer, 64)
		together(64, func(i int) {
			answers[i] = s.do("create-reservations", cupHas+`"quantity":1}]`, key)
		})
		originals := 0
		for _, a := range answers {
			if !a.Replayed {
				originals++
			}
			a.Replayed = answers[0].Replayed
			require.Equal(t, answers[0], a, "one answer for all")
		}
		require.Equal(t, 1, originals)
	}
	require.Equal(t, "20", s.level("cup", "paris").ReservedQuantity.String())
}

func TestAKeyBelongsToOneCommand(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	s.do("delete-reservations-by-line-item", `"line-1"`, keyed("k"))
	for _, other := range []step{
		{"delete-reservations-by-line-item", `"line-2"`},
		{"delete-reservations-by-location", `"line-1"`},
		{"adjust-inventory-levels", oneOff},
	} {
		refusal := s.refuse("idempotency_key_reused", other.name, other.body, keyed("k"))
		require.Equal(t, "k", refusal.Details["command_id"])
		require.Equal(t, fault.Conflict, refusal.Kind)
		dry := keyed("k")
		dry.DryRun = true
		s.refuse("idempotency_key_reused", other.name, other.body, dry)
	}
}

// To say that it is 0 is not to say nothing.
func TestAKeyBelongsToOneQuantity(t *testing.T) {
	for name, bodies := range map[string][2]string{
		"update-inventory-levels": {`{"id":"L1"}`, `{"id":"L1","stocked_quantity":0}`},
		"attach-inventory-items":  {`{"inventory_item_id":"cup","variant_id":"v"}`, `{"inventory_item_id":"cup","variant_id":"v","required_quantity":0}`},
		"update-reservations":     {`{"id":"r"}`, `{"id":"r","quantity":0}`},
		"fulfill-reservations":    {`{"id":"r"}`, `{"id":"r","quantity":0}`},
		"adjust-inventory-levels": {
			`{"inventory_item_id":"cup","location_id":"paris","adjustment":1,"expect":{}}`,
			`{"inventory_item_id":"cup","location_id":"paris","adjustment":1,"expect":{"reserved_quantity":0}}`,
		},
	} {
		var digests [2]string
		for i, body := range bodies {
			command, err := commands.Decode(name, []byte(body))
			require.NoError(t, err, "%s %s", name, body)
			digests[i], err = commands.Digest(command)
			require.NoError(t, err)
		}
		require.NotEqual(t, digests[0], digests[1], name)
	}
}

// The key is for the command, not for who sends it and why.
func TestARetryMayHaveAnotherEnvelope(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	s.do("adjust-inventory-levels", oneOff, commands.Envelope{Key: "k", Actor: "ann"})
	again := s.do("adjust-inventory-levels", oneOff, commands.Envelope{Key: "k", Actor: "bob", Effective: time.Now().Add(time.Hour)})
	require.True(t, again.Replayed)
}

func TestARefusalDoesNotUseUpTheKey(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 0)
	s.refuse("below_reserved", "adjust-inventory-levels", oneOff, keyed("k"))
	s.do("adjust-inventory-levels", cupHas+`"adjustment":1}]`)
	require.False(t, s.do("adjust-inventory-levels", oneOff, keyed("k")).Replayed)
}

func TestADryRunDoesNotUseUpTheKey(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	dry := s.do("adjust-inventory-levels", oneOff, commands.Envelope{Key: "k", DryRun: true})
	require.Equal(t, "4", result[[]commands.LevelRow](t, dry)[0].StockedQuantity.String())
	require.Zero(t, dry.Position)
	require.Equal(t, "5", s.level("cup", "paris").StockedQuantity.String())
	done := s.do("adjust-inventory-levels", oneOff, keyed("k"))
	require.False(t, done.Replayed)

	dry = s.do("adjust-inventory-levels", oneOff, commands.Envelope{Key: "k", DryRun: true})
	done.Replayed = true
	require.Equal(t, done, dry, "what was done is told, also to a dry run")
}

func TestACommandThatChangedNothingStillChangesNothingWhenItCould(t *testing.T) {
	s, index := withIndex(t, 0)
	s.do("create-inventory-items", `{"id":"cup","title":"Cup"}`)
	const title = `{"id":"cup","title":"Cup"}`
	first := s.do("update-inventory-items", title, keyed("k"))
	require.Equal(t, s.head(), first.Position)
	s.do("update-inventory-items", `{"id":"cup","title":"Mug"}`)

	still := func(s *shop) {
		t.Helper()
		head := s.head()
		again := s.do("update-inventory-items", title, keyed("k"))
		require.True(t, again.Replayed)
		require.Equal(t, first.Result, again.Result)
		require.Equal(t, first.Position, again.Position)
		require.Equal(t, head, s.head())
	}
	still(s)
	still(openShop(t, s.store))
	index.catchUp(-1)
	s.do("update-inventory-items", `{"id":"cup","title":"Pot"}`) // which forgets
	require.LessOrEqual(t, s.Remembered(), 1)
	still(s)
}

func TestACommandWithoutAKeyThatChangesNothingIsNotRecorded(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	head := s.head()
	answer := s.do("adjust-inventory-levels", cupHas+`"adjustment":0}]`)
	require.Zero(t, answer.Position)
	require.NotEmpty(t, answer.CommandID)
	require.Equal(t, head, s.head())
}

func TestTheKeyThatTheLedgerMadeWorksLikeOne(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	first := s.do("adjust-inventory-levels", oneOff)
	again := s.do("adjust-inventory-levels", oneOff, keyed(first.CommandID))
	first.Replayed = true
	require.Equal(t, first, again)
}

func TestWhatTheEngineForgotTheIndexAndTheLogRemember(t *testing.T) {
	for _, lag := range []int{0, 1, 7, 1000} { // commits the index learns after each command
		s, index := withIndex(t, 3)
		s.stocked("cup", "paris", 1000)
		var answers []commands.Answer
		send := func(i int) commands.Answer {
			return s.do("create-reservations", fmt.Sprintf(
				`[{"inventory_item_id":"cup","location_id":"paris","quantity":%d},{"inventory_item_id":"cup","location_id":"paris","quantity":1}]`, i%3+1),
				keyed(fmt.Sprint("sale-", i)))
		}
		for i := range 60 {
			answers = append(answers, send(i))
			if i%5 == 0 {
				index.catchUp(5 * lag)
			}
			back := i * 7 % (i + 1)
			again := send(back)
			require.True(t, again.Replayed)
			again.Replayed = false
			require.Equal(t, answers[back], again, "lag %d, command %d", lag, back)
		}
		if lag > 7 {
			index.catchUp(-1)
			s.do("adjust-inventory-levels", oneOff)
			require.LessOrEqual(t, s.Remembered(), 3)
			require.NotZero(t, index.asked)
		}
		s.refuse("idempotency_key_reused", "adjust-inventory-levels", oneOff, keyed("sale-0"))
		index.catchUp(-1) // and finds every command once
	}
}

// While a retry asks the index, which does not know the key yet, the original is
// carried out, the index learns of it and the engine forgets it.
func TestAKeyIsNotLostBetweenTheEngineAndTheIndex(t *testing.T) {
	s, index := withIndex(t, 0)
	s.stocked("cup", "paris", 5)
	index.asking = func(key string) {
		s.do("adjust-inventory-levels", oneOff, keyed(key))
		index.catchUp(-1)
		s.do("create-inventory-items", `{"id":"pot"}`) // which forgets
	}
	again := s.do("adjust-inventory-levels", oneOff, keyed("k"))
	require.True(t, again.Replayed)
	require.Equal(t, "4", s.level("cup", "paris").StockedQuantity.String())
}

// The same for what a command finds through the index.
func TestWhatAnIndexFindsIsNotLostBetweenTheEngineAndTheIndex(t *testing.T) {
	s, index := withIndex(t, 0)
	for _, g := range cupAtThree {
		s.do(g.name, g.body)
	}
	index.finding = func() {
		s.do("create-reservations", cupHas+`"quantity":2,"line_item_id":"line-1"}]`)
		index.catchUp(-1)
		s.do("create-inventory-items", `{"id":"pot"}`) // which forgets
	}
	answer := s.do("delete-reservations-by-line-item", `"line-1"`)
	require.Len(t, result[commands.IDsRow](t, answer).IDs, 1)
	require.Equal(t, "0", s.level("cup", "paris").ReservedQuantity.String())
}

func TestEveryEventCarriesItsEnvelope(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	before := s.head()
	past := time.Date(2025, 12, 24, 18, 0, 0, 0, time.FixedZone("", 3600))
	env := commands.Envelope{
		Key: "k", Actor: "ann", Reason: "stocktake", Reference: "https://example.com/42", Correlation: "c1", Causation: "c0",
		Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Effective: past,
	}
	const body = cupHas + `"adjustment":-1},` + `{"inventory_item_id":"cup","location_id":"paris","adjustment":3}]`
	answer := s.do("adjust-inventory-levels", body, env)
	events := s.recorded(before)
	require.Len(t, events, 2)
	ids := map[string]bool{}
	for i, r := range events {
		m, err := r.Metadata()
		require.NoError(t, err)
		require.Equal(t, "adjust-inventory-levels", m.Command)
		require.Equal(t, []string{"k", "ann", "stocktake", "https://example.com/42", "c1", "c0", env.Trace},
			[]string{m.CommandID, m.Actor, m.Reason, m.Reference, m.Correlation, m.Causation, m.Trace})
		require.Equal(t, past.UTC(), m.Effective)
		require.Equal(t, past.UTC(), m.EffectiveAt())
		require.Equal(t, time.UTC, m.Recorded.Location())
		require.True(t, m.Recorded.Equal(m.Recorded.Truncate(time.Microsecond)))
		require.Equal(t, digest(t, "adjust-inventory-levels", body), m.Digest)
		require.Equal(t, []int{i + 1, 2}, []int{m.Part, m.Parts})
		ids[m.EventID] = true
		if m.Last() {
			require.Equal(t, answer.Result, m.Answer)
		} else {
			require.Nil(t, m.Answer)
		}
	}
	require.Len(t, ids, 2, "event ids")
}

func TestEffectiveTimes(t *testing.T) {
	s := newShop(t, func(c *commands.Config) { c.Now = func() time.Time { return instant } })
	s.stocked("cup", "paris", 5)
	refusal := s.refuse("effective_in_future", "adjust-inventory-levels", oneOff, commands.Envelope{Effective: instant.Add(6 * time.Minute)})
	require.Equal(t, "Ledger-Effective-At", refusal.Details["field"])
	s.do("adjust-inventory-levels", oneOff, commands.Envelope{Effective: instant.Add(time.Minute)}) // clocks differ
	s.do("adjust-inventory-levels", oneOff, commands.Envelope{Effective: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)})

	before := s.head()
	s.do("adjust-inventory-levels", oneOff)
	meta, err := s.recorded(before)[0].Metadata()
	require.NoError(t, err)
	require.True(t, meta.Effective.IsZero(), "it is when it was recorded, unless somebody says otherwise")
	for _, never := range []time.Time{time.Date(-44, 3, 15, 0, 0, 0, 0, time.UTC), time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		s.refuse("invalid_value", "adjust-inventory-levels", oneOff, commands.Envelope{Effective: never})
	}
}

func TestAnEnvelopeHasBounds(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 5)
	long := strings.Repeat("x", 256)
	for _, tc := range []struct {
		env         commands.Envelope
		code, field string
	}{
		{commands.Envelope{Key: long}, "too_long", "Idempotency-Key"},
		{commands.Envelope{Actor: strings.Repeat(long, 4)}, "too_long", "Ledger-Actor"},
		{commands.Envelope{Reason: "\xff"}, "invalid_text", "Ledger-Reason"},
		{commands.Envelope{Reference: "a\x00"}, "invalid_text", "Ledger-Reference"},
		{commands.Envelope{Correlation: strings.Repeat(long, 4)}, "too_long", "Ledger-Correlation-Id"},
		{commands.Envelope{Causation: strings.Repeat(long, 4)}, "too_long", "Ledger-Causation-Id"},
		{commands.Envelope{Trace: strings.Repeat(long, 4)}, "too_long", "traceparent"},
	} {
		refusal := s.refuse(tc.code, "adjust-inventory-levels", oneOff, tc.env)
		require.Equal(t, tc.field, refusal.Details["field"])
	}
	s.do("adjust-inventory-levels", oneOff, commands.Envelope{Key: long[:255], Reference: long + long + long})
}

// What a command needs besides what it names is found in few rounds, however
// many lines it has and however far the index is behind.
func TestManyLinesMayNeedWhatTheyDoNotName(t *testing.T) {
	const n = 300
	s := newShop(t)
	list := func(format string) string {
		var all []string
		for i := range n {
			all = append(all, strings.ReplaceAll(format, "#", fmt.Sprint(i)))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	s.do("create-inventory-items", list(`{"id":"i#","sku":"S#","location_levels":[{"location_id":"paris","stocked_quantity":9}]}`))
	s.do("attach-inventory-items", list(`{"inventory_item_id":"i0","variant_id":"v#"}`))
	s.do("create-reservations", list(`{"id":"r#","inventory_item_id":"i#","location_id":"paris","quantity":1,"line_item_id":"line-#"}`))

	s = openShop(t, s.store) // with nothing in memory but what is found where
	s.do("update-reservations", list(`{"id":"r#","quantity":2}`))
	s = openShop(t, s.store)
	s.do("fulfill-reservations", list(`{"id":"r#","quantity":1}`))
	s = openShop(t, s.store)
	require.Len(t, result[commands.IDsRow](t, s.do("delete-reservations-by-line-item", list(`"line-#"`))).IDs, n)
	s = openShop(t, s.store)
	s.do("restore-reservations", list(`"r#"`))
	s = openShop(t, s.store)
	require.Len(t, result[commands.IDsRow](t, s.do("delete-reservations-by-location", `"paris"`)).IDs, n)
	s.do("restore-reservations", list(`"r#"`))
	s = openShop(t, s.store)
	s.do("delete-reservations", list(`"r#"`))
	s = openShop(t, s.store)
	s.do("delete-inventory-items", list(`"i#"`))
	s = openShop(t, s.store)
	s.do("restore-inventory-items", list(`"i#"`))
	s = openShop(t, s.store)
	s.do("update-inventory-items", list(`{"id":"i#","sku":"T#"}`))
	s = openShop(t, s.store)
	require.Len(t, result[commands.IDsRow](t, s.do("delete-levels-by-location", `{"location_id":"paris","force":true}`)).IDs, n)
	s.agreesWithTheLog()
}

// A long command with ids of its own takes as long as its lines, not their square.
func TestTenThousandReservationsWithIDsAreOneCommand(t *testing.T) {
	s := newShop(t)
	s.stocked("cup", "paris", 10_000)
	lines := make([]string, 10_000)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"id":"r%d","inventory_item_id":"cup","location_id":"paris","quantity":1,"line_item_id":"line"}`, i)
	}
	start := time.Now()
	answer := s.do("create-reservations", "["+strings.Join(lines, ",")+"]")
	require.Len(t, result[[]json.RawMessage](t, answer), 10_000)
	require.Len(t, result[commands.IDsRow](t, s.do("delete-reservations-by-line-item", `"line"`)).IDs, 10_000)
	require.Less(t, time.Since(start), time.Minute, "it took minutes when every line looked at all before it")
}

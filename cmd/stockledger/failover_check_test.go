//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/domain"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/fault"
)

// A doneCommand is a command as the log has it.
type doneCommand struct {
	name, order string
	position    uint64 // of its last event
	answer      json.RawMessage
}

// A failoverCheck reads a whole log, event by event, and compares it with what
// publishers know. What is wrong is told in words.
type failoverCheck struct {
	wrong []string
	at    uint64
	hash  []events.Hash // of each event, for the feed

	links  map[string]events.Recorded // the last event of each stream
	items  map[string]*domain.Item
	done   map[string]doneCommand // by key
	orders map[string]string      // the key that each order was carried out with

	open events.Meta // of the last event
}

func (c *failoverCheck) complain(format string, args ...any) {
	if len(c.wrong) < 50 { // the first ones tell most
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

// checkLog reads the log from its first event to its last.
func checkLog(ctx context.Context, store events.Store, sent []*sentCommand) (*failoverCheck, error) {
	c := &failoverCheck{
		links: make(map[string]events.Recorded), items: make(map[string]*domain.Item),
		done: make(map[string]doneCommand), orders: make(map[string]string),
	}
	head, err := store.Head(ctx)
	if err != nil {
		return nil, err
	}
	for c.at < head {
		for batch, err := range store.Subscribe(ctx, c.at) {
			if err != nil {
				return nil, err
			}
			for _, e := range batch {
				c.event(e)
			}
			break
		}
	}
	if c.open.Part < c.open.Parts {
		c.complain("the log ends inside the commit of %s: part %d of %d", c.open.CommandID, c.open.Part, c.open.Parts)
	}
	c.compare(sent)
	c.addUp(sent)
	report, err := audit.Verify(ctx, audit.Config{Store: store})
	if err != nil {
		return nil, err
	}
	for _, f := range report.Findings {
		c.complain("verify: %s", f.Message)
	}
	return c, nil
}

// event takes in the next event of the log.
func (c *failoverCheck) event(e events.Recorded) {
	if e.Position != c.at+1 {
		c.complain("position %d follows position %d", e.Position, c.at)
	}
	c.at = e.Position
	c.hash = append(c.hash, e.Hash)
	if err := e.Verify(c.links[e.Stream]); err != nil {
		c.complain("position %d: %v", e.Position, err)
	}
	c.links[e.Stream] = e
	meta, err := e.Metadata()
	if err != nil {
		c.complain("position %d: %v", e.Position, err)
		return
	}
	c.commit(e, meta)
	fact, err := e.Fact()
	if err != nil {
		c.complain("position %d: %v", e.Position, err)
		return
	}
	c.apply(e, fact, meta)
}

// commit follows the parts of commits, and notes each one that is whole.
func (c *failoverCheck) commit(e events.Recorded, meta events.Meta) {
	if c.open.Part < c.open.Parts {
		if meta.CommandID != c.open.CommandID || meta.Part != c.open.Part+1 {
			c.complain("position %d: part %d of %s comes inside the commit of %s", e.Position, meta.Part, meta.CommandID, c.open.CommandID)
		}
	} else if meta.Part > 1 {
		c.complain("position %d: the commit of %s begins with part %d", e.Position, meta.CommandID, meta.Part)
	}
	c.open = meta
	if !meta.Last() {
		return
	}
	if before, twice := c.done[meta.CommandID]; twice {
		c.complain("the key %s is in the log twice, at %d and at %d", meta.CommandID, before.position, e.Position)
	}
	c.done[meta.CommandID] = doneCommand{meta.Command, meta.Reference, e.Position, meta.Answer}
	if key, twice := c.orders[meta.Reference]; twice && meta.Reference != "" {
		c.complain("the order %s was carried out twice, as %s and as %s", meta.Reference, key, meta.CommandID)
	}
	c.orders[meta.Reference] = meta.CommandID
}

// apply takes a fact into its item, by the rules' own fold, and looks whether the
// item is as every item must be at every position.
func (c *failoverCheck) apply(e events.Recorded, fact events.Fact, meta events.Meta) {
	kind, id, err := events.SplitStream(e.Stream)
	if err != nil || kind != "item" {
		return
	}
	it := c.items[id]
	if it == nil {
		it = new(domain.Item)
		c.items[id] = it
	}
	it.Apply(fact, domain.Stamp{Version: e.Version, At: meta.Recorded})
	promised := make(map[string]events.Quantity)
	for _, r := range it.Reservations() {
		promised[r.LocationID] = promised[r.LocationID].Plus(r.Quantity)
	}
	for _, l := range it.Levels() {
		where := fmt.Sprintf("position %d: item %s at %s", e.Position, id, l.LocationID)
		if l.Reserved.Cmp(promised[l.LocationID]) != 0 {
			c.complain("%s has %s reserved, and its reservations are %s", where, l.Reserved, promised[l.LocationID])
		}
		if l.Stocked.Sign() < 0 || l.Reserved.Sign() < 0 || l.Available().Sign() < 0 {
			c.complain("%s has %s, %s of them reserved: nobody was allowed to sell what is not there", where, l.Stocked, l.Reserved)
		}
		if l.Available().Plus(l.Reserved).Cmp(l.Stocked) != 0 {
			c.complain("%s: %s available and %s reserved are not %s", where, l.Available(), l.Reserved, l.Stocked)
		}
	}
}

// compare compares what publishers know with what is there.
func (c *failoverCheck) compare(sent []*sentCommand) {
	mine := make(map[string]bool, len(sent))
	for _, s := range sent {
		mine[s.Key] = true
		done, there := c.done[s.Key]
		switch {
		case s.Answer != nil && !there:
			c.complain("%s was acknowledged with position %d, and is not in the log", s.Key, s.Answer.Position)
		case s.Answer != nil && done.position != s.Answer.Position:
			c.complain("%s was acknowledged with position %d, and is at %d", s.Key, s.Answer.Position, done.position)
		case s.Answer != nil && !sameJSON(done.answer, s.Answer.Result):
			c.complain("%s was answered %s, and the log has %s", s.Key, s.Answer.Result, done.answer)
		case s.Refused != nil && there:
			c.complain("%s was refused (%v), and is in the log at %d", s.Key, s.Refused, done.position)
		case there && (done.name != s.Name || done.order != s.Order):
			c.complain("%s is in the log as another command, %s for %s", s.Key, done.name, done.order)
		}
	}
	for key, done := range c.done {
		if !mine[key] {
			c.complain("nobody sent %s, which is in the log at %d", key, done.position)
		}
	}
}

// sameJSON reports whether two documents are the same but for white space.
func sameJSON(a, b json.RawMessage) bool {
	var left, right bytes.Buffer
	return json.Compact(&left, a) == nil && json.Compact(&right, b) == nil && bytes.Equal(left.Bytes(), right.Bytes())
}

// addUp adds up what publishers wanted, command by command as often as they wanted
// it, which is once. That is what must be in stock, whatever the events say.
func (c *failoverCheck) addUp(sent []*sentCommand) {
	want := make(map[stockPlace]int)
	for _, s := range sent {
		if _, there := c.done[s.Key]; !there {
			continue
		}
		for place, by := range s.Moves {
			want[place] += by
		}
	}
	for place, stocked := range want {
		it := c.items[place.item]
		if it == nil {
			c.complain("there is no item %s", place.item)
			continue
		}
		level, _ := it.Level(place.location)
		if level.Stocked.Cmp(events.Units(int64(stocked))) != 0 {
			c.complain("%s at %s has %s in stock; what was carried out comes to %d", place.item, place.location, level.Stocked, stocked)
		}
	}
}

// unknown counts the commands of which publishers never learned what became of
// them, and how many of those are there.
func (c *failoverCheck) unknown(sent []*sentCommand) (all, there int) {
	for _, s := range sent {
		if s.Answer == nil && s.Refused == nil {
			all++
			if _, done := c.done[s.Key]; done {
				there++
			}
		}
	}
	return all, there
}

// The checker is believed once it has been seen red: each of these is a way in
// which a takeover could go wrong.
func TestTheCheckOfAFailoverGoesRed(t *testing.T) {
	t.Parallel()
	for name, trick := range map[string]struct {
		do   func(*checkedShop)
		want string
	}{
		"nothing is wrong": {func(*checkedShop) {}, ""},
		"a publisher sends again with another key": {func(s *checkedShop) {
			c := s.sell(1)
			s.carryOut(c, c.Key+"-again")
		}, "the order order-2 was carried out twice"},
		"an acknowledged command is lost": {func(s *checkedShop) {
			s.sent = append(s.sent, &sentCommand{Key: "lost", Order: "lost", Name: "adjust-inventory-levels", Answer: &commands.Answer{Position: 3}})
		}, "lost was acknowledged with position 3, and is not in the log"},
		"a command is elsewhere": {func(s *checkedShop) { s.sell(1).Answer.Position++ }, "was acknowledged with position"},
		"a command was answered otherwise": {func(s *checkedShop) {
			s.sell(1).Answer.Result = json.RawMessage(`[]`)
		}, "was answered []"},
		"a refused command is there": {func(s *checkedShop) {
			c := s.sell(1)
			c.Answer, c.Refused = nil, fault.New(fault.NotAllowed, "below_reserved", "no")
		}, "was refused (no), and is in the log at"},
		"somebody else writes": {func(s *checkedShop) {
			s.sell(1)
			s.sent = s.sent[:len(s.sent)-1]
		}, "nobody sent order-2"},
		"it counted twice": {func(s *checkedShop) { s.sell(1).Moves[stockPlace{"mug", "paris"}] = -2 }, "what was carried out comes to 8"},
		"half a commit is there": {func(s *checkedShop) {
			half := s.recorded(events.Meta{CommandID: "half", Part: 1, Parts: 2}, 1)
			require.NoError(s, s.append(half))
		}, "the log ends inside the commit of half"},
		"the same key is recorded again": {func(s *checkedShop) {
			c := s.sell(1)
			require.NoError(s, s.append(s.recorded(events.Meta{CommandID: c.Key, Reference: c.Order, Answer: c.Answer.Result}, -1)))
		}, "the key order-2 is in the log twice"},
		"more is sold than there is": {func(s *checkedShop) {
			require.NoError(s, s.append(s.recorded(events.Meta{CommandID: "late"}, -11)))
		}, "nobody was allowed to sell what is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openCheckedShop(t)
			trick.do(s)
			c, err := checkLog(t.Context(), s.store, s.sent)
			require.NoError(t, err)
			if trick.want == "" {
				require.Empty(t, c.wrong)
				return
			}
			require.Contains(t, strings.Join(c.wrong, "\n"), trick.want)
		})
	}
}

// A checkedShop is a ledger in memory with ten mugs, and what its publisher knows.
type checkedShop struct {
	*testing.T
	store  events.Store
	ledger *stockledger.Ledger
	sent   []*sentCommand
}

func openCheckedShop(t *testing.T) *checkedShop {
	t.Helper()
	s := &checkedShop{T: t, store: memstore.New()}
	var err error
	s.ledger, err = stockledger.Open(t.Context(), stockledger.Config{Dir: t.TempDir(), Store: s.store, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.ledger.Close()) })
	s.order("create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":10}]}`, 10)
	return s
}

func (s *checkedShop) order(name, body string, by int) *sentCommand {
	order := "order-" + strconv.Itoa(len(s.sent)+1)
	c := &sentCommand{Key: order, Order: order, Name: name, Body: body, Moves: map[stockPlace]int{{"mug", "paris"}: by}}
	s.sent = append(s.sent, c)
	answer := s.carryOut(c, c.Key)
	c.Answer = &answer
	return c
}

func (s *checkedShop) carryOut(c *sentCommand, key string) commands.Answer {
	answer, err := s.ledger.DoJSON(s.Context(), commands.Envelope{Key: key, Reference: c.Order}, c.Name, []byte(c.Body))
	require.NoError(s, err)
	return answer
}

func (s *checkedShop) sell(n int) *sentCommand {
	return s.order("adjust-inventory-levels", fmt.Sprintf(`{"inventory_item_id":"mug","location_id":"paris","adjustment":-%d}`, n), -n)
}

// recorded is an adjustment behind the last event of the mug, of a writer that does
// as it likes.
func (s *checkedShop) recorded(meta events.Meta, by int64) events.Recorded {
	var mug domain.Item
	var last events.Recorded
	var was events.Meta
	for e, err := range s.store.Read(s.Context(), events.ItemStream("mug"), 0) {
		require.NoError(s, err)
		fact, err := e.Fact()
		require.NoError(s, err)
		was, err = e.Metadata()
		require.NoError(s, err)
		mug.Apply(fact, domain.Stamp{Version: e.Version, At: was.Recorded})
		last = e
	}
	meta.Recorded, meta.Command = was.Recorded.Add(time.Second), "adjust-inventory-levels"
	level, _ := mug.Level("paris")
	e, err := events.Record(last.Stream, last.Version, last.Hash, events.StockAdjusted{
		ItemID: "mug", LevelID: level.ID, LocationID: "paris",
		Delta: events.Units(by), Stocked: level.Stocked.Plus(events.Units(by)), Reserved: level.Reserved,
	}, &meta)
	require.NoError(s, err)
	return e
}

func (s *checkedShop) append(e events.Recorded) error {
	_, err := s.store.Append(s.Context(), events.Commit{e})
	return err
}

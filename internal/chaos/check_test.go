package chaos

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// The checker is believed once it has been seen red: each of these is a way in which
// a kill could do harm.
func TestTheCheckGoesRed(t *testing.T) {
	t.Parallel()
	for what, trick := range map[string]struct {
		do   func(*shop)
		want string
	}{
		"nothing is wrong": {func(*shop) {}, ""},
		"an acknowledged command is not there": {func(s *shop) {
			s.book.acknowledge(s.sends(1), 1000, false, nil)
		}, "lost: c0-3 was acknowledged with position 1000, and is not in the log"},
		"the last event is cut off": {
			func(s *shop) { s.sql("DELETE FROM events WHERE position = (SELECT max(position) FROM events)") },
			"torn: the log ends at 5, inside the commit of c0-2: part 2 of 3",
		},
		"the last commit is cut off": {
			func(s *shop) { s.sql("DELETE FROM events WHERE position > 3") },
			"lost: c0-2 was acknowledged with position 6, and is not in the log",
		},
		"an event is missing": {func(s *shop) { s.sql("DELETE FROM events WHERE position = 3") }, "gap: position 4 follows position 2"},
		"an event is changed": {
			func(s *shop) { s.sql(`UPDATE events SET data = replace(data, '-3', '-4') WHERE position = 5`) },
			"its bytes do not match its hash",
		},
		"a command is elsewhere": {func(s *shop) { s.book.entries[0][1].told++ }, "elsewhere: c0-1 was acknowledged with position 4, and is at 3"},
		"a command was answered otherwise": {
			func(s *shop) { s.book.entries[0][1].answer++ },
			"answer: c0-1 was answered otherwise than the log at 3 says",
		},
		"a refused command is there":                    {func(s *shop) { s.book.entries[0][1].outcome = refused }, "refused: c0-1 was refused, and is in the log at 3"},
		"a command made fewer events than it has lines": {func(s *shop) { s.book.entries[0][2].parts = 4 }, "torn: c0-2 is at 6 with 3 events, and makes 4"},
		"somebody else writes":                          {func(s *shop) { s.carryOut("somebody", sale(1)) }, "nobody's: nobody sent somebody"},
		"a command counted twice": {
			func(s *shop) { s.book.entries[0][1].moves[0].stocked *= 2 },
			"level: mug at paris has 91, 0 of them reserved; what was carried out comes to 90 and 0",
		},
		"a key is there twice": {func(s *shop) { s.twice("c0-1") }, "doubled: c0-1 is in the log twice, at 3 and at 7"},
		"what was given up and gone comes back": {func(s *shop) {
			n := s.sends(1)
			s.book.giveUp(n)
			s.check()
			s.carryOut(n.String(), sale(1))
		}, "late: c0-3 was given up and was not in the log"},
		"two answers to one command": {func(s *shop) { s.book.acknowledge(name{0, 1}, 5, true, nil) }, "answered in two ways"},
		"what was checked is changed later": {func(s *shop) {
			s.check()
			s.sql("DELETE FROM events WHERE position = 2")
		}, "gap: position 3 follows position 1"},
		"what was checked is cut off later": {func(s *shop) {
			s.check()
			s.sql("DELETE FROM events WHERE position > 3")
		}, "lost: the log ends at 3, and it had 6 events"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := openShop(t)
			trick.do(s)
			s.check()
			s.book.settled()
			require.NoError(t, s.checker.whole(t.Context()))
			var found []string
			for _, f := range s.book.wrong {
				found = append(found, f.Kind+": "+f.Message)
			}
			if trick.want == "" {
				require.Empty(t, found)
				return
			}
			require.Contains(t, strings.Join(found, "\n"), trick.want)
		})
	}
}

// What is in the air when a server dies is there or not, and the check takes both.
func TestWhatNobodyKnowsMayBeThereOrNot(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	there, lost, open, refusal := s.sends(1), s.sends(1), s.sends(1), s.sends(1)
	s.carryOut(there.String(), sale(1))
	s.book.giveUp(there)
	s.book.giveUp(lost)
	s.book.refuse(refusal, fault.New(fault.NotAllowed, "insufficient_stock", "no"))
	s.check()
	require.Empty(t, s.book.wrong)
	require.Equal(t, []name{open}, s.book.pending)
	answer := s.carryOut(open.String(), sale(1))
	s.book.acknowledge(open, answer.Position, false, answer.Result)
	s.check()
	s.book.settled()
	require.NoError(t, s.checker.whole(t.Context()))
	require.Empty(t, s.book.wrong)
	require.EqualValues(t, 1, s.book.counts.givenUpThere)
}

// A shop is a ledger with a hundred mugs, which one caller has sold some of.
type shop struct {
	*testing.T
	dir     string
	book    *book
	checker *checker
}

func openShop(t *testing.T) *shop {
	t.Helper()
	dir := t.TempDir()
	b, err := newBook(filepath.Join(dir, journalFile), 1)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.close()) })
	s := &shop{T: t, dir: dir, book: b, checker: newChecker(filepath.Join(dir, "log.db"), b)}
	sold := soldMugs(t)
	require.NoError(t, os.WriteFile(s.checker.path, sold.log, 0o600))
	for i, c := range sold.sent {
		n := b.sending(0, c.kind, c.parts, []move{{place{"mug", "paris"}, level{stocked: c.stocked}}})
		b.acknowledge(n, sold.answers[i].Position, false, sold.answers[i].Result)
	}
	return s
}

// A past is a log, and the commands it was made of with their answers.
type past struct {
	log     []byte
	sent    []sentOnce
	answers []commands.Answer
}

// sentOnce is a command about mugs in Paris.
type sentOnce struct {
	kind, body string
	parts      int
	stocked    int64
}

var (
	mugs     past
	mugsOnce sync.Once
)

// soldMugs is the past of every shop here, made once.
func soldMugs(t *testing.T) past {
	t.Helper()
	mugsOnce.Do(func() {
		dir := t.TempDir()
		l, err := openLedger(t.Context(), dir)
		require.NoError(t, err)
		mugs.sent = []sentOnce{
			{"create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":100}]}`, 2, 100},
			{"adjust-inventory-levels", sale(1), 1, -1},
			{"adjust-inventory-levels", sale(2, 3, 3), 3, -8},
		}
		for i, c := range mugs.sent {
			answer, err := l.DoJSON(t.Context(), commands.Envelope{Key: name{0, i}.String()}, c.kind, []byte(c.body))
			require.NoError(t, err)
			mugs.answers = append(mugs.answers, answer)
		}
		require.NoError(t, l.Close())
		mugs.log, err = os.ReadFile(filepath.Join(dir, "log.db"))
		require.NoError(t, err)
	})
	return mugs
}

// sale is the body of an adjustment, a line for each quantity.
func sale(quantities ...int) string {
	var lines []object
	for _, q := range quantities {
		lines = append(lines, object{"inventory_item_id": "mug", "location_id": "paris", "adjustment": -q})
	}
	body, err := json.Marshal(lines)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// sends writes down a sale and does not send it.
func (s *shop) sends(quantity int64) name {
	return s.book.sending(0, "adjust-inventory-levels", 1, []move{{place{"mug", "paris"}, level{stocked: -quantity}}})
}

func (s *shop) carryOut(key, body string) commands.Answer {
	return s.command(key, "adjust-inventory-levels", body)
}

func (s *shop) command(key, kind, body string) commands.Answer {
	l := s.open()
	defer func() { require.NoError(s, l.Close()) }()
	answer, err := l.DoJSON(s.Context(), commands.Envelope{Key: key}, kind, []byte(body))
	require.NoError(s, err)
	return answer
}

func (s *shop) open() *stockledger.Ledger {
	l, err := openLedger(s.Context(), s.dir)
	require.NoError(s, err)
	return l
}

func (s *shop) check() {
	at, err := s.checker.cut(s.Context())
	require.NoError(s, err)
	require.NoError(s, s.checker.advance(s.Context(), at))
}

// sql changes the file of the log, as nobody should.
func (s *shop) sql(statement string) {
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "log.db"))
	require.NoError(s, err)
	defer db.Close()
	_, err = db.ExecContext(s.Context(), statement)
	require.NoError(s, err)
}

// twice records a sale once more under a key, as an engine would that forgets.
func (s *shop) twice(key string) {
	l := s.open()
	defer func() { require.NoError(s, l.Close()) }()
	var last events.Recorded
	for e, err := range l.Events().Read(s.Context(), events.ItemStream("mug"), 0) {
		require.NoError(s, err)
		last = e
	}
	meta, err := last.Metadata()
	require.NoError(s, err)
	fact, err := last.Fact()
	require.NoError(s, err)
	meta.CommandID, meta.Part, meta.Parts = key, 0, 0
	e, err := events.Record(last.Stream, last.Version, last.Hash, fact, &meta)
	require.NoError(s, err)
	_, err = l.Events().Append(s.Context(), events.Commit{e})
	require.NoError(s, err)
}

func TestTheReportIsASentence(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1 kill, 0 acknowledged, 0 lost, 0 doubled; restart median 0.00 s, worst 0.00 s", Report{Kills: 1}.Sentence())
	require.Equal(t, fmt.Sprint(name{12, 34}), "c12-34")
}

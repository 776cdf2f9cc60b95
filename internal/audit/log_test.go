package audit_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/audit"
	"github.com/stockledger/stockledger/internal/race"
)

// A storedLog is the file of a log that nobody has open.
type storedLog struct {
	t        testing.TB
	path     string
	original []byte
	events   []events.Recorded // of the untouched log
	head     uint64
	whole    audit.Report // of the untouched log
}

// tradedLog is the log of a shop that has closed.
func tradedLog(t testing.TB, orders int, seed uint64) *storedLog {
	dir := t.TempDir()
	ledger := open(t, dir)
	s := newShop(t, ledger, 10, seed)
	s.trade(orders)
	require.NoError(t, ledger.Close())
	l := &storedLog{t: t, path: filepath.Join(dir, "log.db")}
	var err error
	l.original, err = os.ReadFile(l.path)
	require.NoError(t, err)
	l.whole = l.untouched()
	l.head = l.whole.Position
	l.events = l.read()
	return l
}

// verify checks the log alone. A store that is opened is one that can be verified.
func (l *storedLog) verify() (report audit.Report, opened bool) {
	store, err := sqlitestore.Open(l.path)
	if err != nil {
		return report, false
	}
	defer func() { require.NoError(l.t, store.Close()) }()
	report, err = audit.Verify(l.t.Context(), audit.Config{Store: store})
	require.NoError(l.t, err)
	return report, true
}

// untouched verifies the log as it was.
func (l *storedLog) untouched() audit.Report {
	report, opened := l.verify()
	require.True(l.t, opened)
	requireOK(l.t, report)
	return report
}

// with verifies the log as some statements leave it, and puts it back.
func (l *storedLog) with(statements ...string) (report audit.Report, opened bool) {
	db, err := sql.Open("sqlite", l.path)
	require.NoError(l.t, err)
	tx, err := db.BeginTx(l.t.Context(), nil)
	require.NoError(l.t, err)
	for _, text := range statements {
		done, err := tx.ExecContext(l.t.Context(), text)
		require.NoError(l.t, err, text)
		rows, err := done.RowsAffected()
		require.NoError(l.t, err)
		require.NotZero(l.t, rows, text)
	}
	require.NoError(l.t, tx.Commit())
	require.NoError(l.t, db.Close())
	report, opened = l.verify()
	require.NoError(l.t, os.WriteFile(l.path, l.original, 0o600))
	return report, opened
}

// event is one event of the untouched log.
func (l *storedLog) event(position uint64) events.Recorded { return l.events[position-1] }

// read reads the events as they are stored.
func (l *storedLog) read() (all []events.Recorded) {
	db, err := sql.Open("sqlite", l.path)
	require.NoError(l.t, err)
	defer db.Close()
	rows, err := db.QueryContext(l.t.Context(), `SELECT position, stream, version, type, data, meta, prev, hash FROM events ORDER BY position`)
	require.NoError(l.t, err)
	defer rows.Close()
	for rows.Next() {
		var e events.Recorded
		var prev, hash []byte
		require.NoError(l.t, rows.Scan(&e.Position, &e.Stream, &e.Version, &e.Type, &e.Data, &e.Meta, &prev, &hash))
		copy(e.Prev[:], prev)
		copy(e.Hash[:], hash)
		all = append(all, e)
	}
	require.NoError(l.t, rows.Err())
	return all
}

// set is the statement that writes an event in the place of another.
func set(position uint64, e events.Recorded) string {
	return fmt.Sprintf(`UPDATE events SET stream = '%s', version = %d, type = '%s', data = x'%x', meta = x'%x', prev = x'%x', hash = x'%x'
		WHERE position = %d`, e.Stream, e.Version, e.Type, e.Data, e.Meta, e.Prev[:], e.Hash[:], position)
}

func TestVerifyNamesTheFirstBadPositionOfALog(t *testing.T) {
	l := tradedLog(t, fewer(900, 250), newSeed(t))
	at := l.head / 2
	for l.event(at).Version == 1 || l.event(at).Type == "inventory.sku-claimed.v1" {
		at++
	}
	e := l.event(at)
	for name, tc := range map[string]struct {
		statements []string
		check      string
	}{
		"a byte of the data": {[]string{set(at, change(e, func(e *events.Recorded) { e.Data = swapByte(e.Data) }))}, "chain"},
		"a byte of the meta": {[]string{set(at, change(e, func(e *events.Recorded) { e.Meta = swapByte(e.Meta) }))}, "chain"},
		"the type":           {[]string{set(at, change(e, func(e *events.Recorded) { e.Type = "inventory.sku-claimed.v1" }))}, "chain"},
		"an unknown type":    {[]string{set(at, change(e, func(e *events.Recorded) { e.Type = "inventory.gone.v1" }))}, "facts"},
		"the stream":         {[]string{set(at, change(e, func(e *events.Recorded) { e.Stream += "x" }))}, "chain"},
		"the version":        {[]string{set(at, change(e, func(e *events.Recorded) { e.Version += 3 }))}, "chain"},
		"the hash":           {[]string{set(at, change(e, func(e *events.Recorded) { e.Hash[5]++ }))}, "chain"},
		"the hash before":    {[]string{set(at, change(e, func(e *events.Recorded) { e.Prev[31]++ }))}, "chain"},
		"an event is gone":   {[]string{fmt.Sprint(`DELETE FROM events WHERE position = `, at)}, "positions"},
		"two events swapped": {[]string{set(at, l.event(at+1)), set(at+1, e)}, ""},
		"an event is twice":  {[]string{set(at+1, e)}, "chain"},
		"data and hash agree, and the next one does not": {
			[]string{set(at, change(e, func(e *events.Recorded) { e.Prev[0]++; e.Hash = e.Link() }))}, "chain",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			report, opened := l.with(tc.statements...)
			require.True(t, opened)
			require.False(t, report.OK())
			if tc.check != "" {
				require.NotZero(t, wrong(report, tc.check), "%+v", report.Findings)
			}
			first := report.Findings[0]
			require.InDelta(t, at, first.Position, 1, first.Message)
		})
	}
	l.t = t
	l.untouched()
}

// The index that leads from a stream's name to its events is not in any chain.
func TestVerifyFindsAStreamThatEndsEarlyByItsName(t *testing.T) {
	l := tradedLog(t, fewer(300, 100), newSeed(t))
	last := l.event(l.head)
	report, opened := l.with(fmt.Sprint(`DELETE FROM places WHERE position = `, l.head))
	require.True(t, opened)
	require.Equal(t, uint64(1), wrong(report, "streams"))
	require.Equal(t, last.Stream, report.Findings[0].Stream)
	require.Contains(t, report.Findings[0].Message, fmt.Sprintf("ends before version %d", last.Version))
	l.untouched()
}

func change(e events.Recorded, how func(*events.Recorded)) events.Recorded {
	e.Data, e.Meta = bytes.Clone(e.Data), bytes.Clone(e.Meta)
	how(&e)
	return e
}

func swapByte(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

// What is stated in an event is checked, too, when somebody has made all hashes anew.
func TestVerifyFindsAQuantityThatDoesNotFollowThoughTheChainHolds(t *testing.T) {
	l := tradedLog(t, fewer(900, 250), newSeed(t))
	var statements []string
	var bad uint64
	last := make(map[string]events.Hash)
	for at := uint64(1); at <= l.head; at++ {
		e := l.event(at)
		if bad == 0 && e.Type == "inventory.stock-adjusted.v1" && at > l.head/3 && !bytes.Contains(e.Data, []byte(`"stocked_quantity":-`)) {
			bad = at
			e.Data = bytes.Replace(e.Data, []byte(`"stocked_quantity":`), []byte(`"stocked_quantity":7`), 1)
			require.NotEqual(t, l.event(at).Data, e.Data)
		}
		e.Prev = last[e.Stream]
		e.Hash = e.Link()
		last[e.Stream] = e.Hash
		if bad > 0 {
			statements = append(statements, set(at, e))
		}
	}
	require.NotZero(t, bad)

	report, opened := l.with(statements...)
	require.True(t, opened)

	require.Zero(t, wrong(report, "chain"))
	require.NotZero(t, wrong(report, "quantities"))
	first := report.Findings[0]
	require.Equal(t, bad, first.Position, first.Message)
	require.NotEqual(t, first.Expected, first.Served)
	require.NotEqual(t, l.whole.Head, report.Head)
}

// Whatever is done to a stored log, it is found, or else the head is another than
// the one that was published; and the log as it was is never accused.
func TestNoMutationOfALogGoesUnnoticed(t *testing.T) {
	tries := 10_000
	if testing.Short() || race.On {
		tries = 40
	}
	seed := newSeed(t)
	random := rand.New(rand.NewPCG(seed, 2))
	l := tradedLog(t, 200, seed)
	byTheHead := 0
	for n := range tries {
		at := 1 + random.Uint64N(l.head-1)
		e := l.event(at)
		var what string
		var statements []string
		switch random.IntN(8) {
		case 0, 1, 2:
			what = "flip a bit"
			statements = []string{set(at, change(e, func(e *events.Recorded) { flip(random, e) }))}
		case 3:
			what = "drop an event, and close the gap"
			statements = []string{
				fmt.Sprint(`DELETE FROM events WHERE position = `, at),
				fmt.Sprint(`UPDATE events SET position = -position WHERE position > `, at),
				`UPDATE events SET position = -position - 1 WHERE position < 0`,
			}
		case 4:
			what = "drop an event"
			statements = []string{fmt.Sprint(`DELETE FROM events WHERE position = `, at)}
		case 5:
			what = "swap two events"
			other := 1 + random.Uint64N(l.head)
			if other == at {
				continue
			}
			statements = []string{set(at, l.event(other)), set(other, e)}
		case 6:
			what = "insert an event"
			statements = []string{
				fmt.Sprint(`UPDATE events SET position = -position WHERE position > `, at),
				`UPDATE events SET position = -position + 1 WHERE position < 0`,
				fmt.Sprintf(`INSERT INTO events SELECT %d, stream, version, type, data, meta, prev, hash FROM events WHERE position = %d`,
					at+1, 1+random.Uint64N(at)),
			}
		case 7:
			what = "cut off the end"
			statements = []string{
				fmt.Sprint(`DELETE FROM events WHERE position > `, at),
				fmt.Sprintf(`UPDATE meta SET value = %d WHERE name = 'indexed'`, at),
			}
		}
		report, opened := l.with(statements...)
		if opened && report.OK() { // otherwise it was noticed
			byTheHead++
			require.NotEqual(t, l.whole.Head, report.Head, "try %d: %s at %d went unnoticed", n, what, at)
		}
	}
	l.untouched()
	t.Logf("%d mutations, %d of them noticed by the head alone", tries, byTheHead)
}

// flip turns over one bit anywhere in an event.
func flip(random *rand.Rand, e *events.Recorded) {
	bit := byte(1) << random.IntN(8)
	parts := [][]byte{e.Data, e.Meta, e.Prev[:], e.Hash[:]}
	part := parts[random.IntN(len(parts))]
	part[random.IntN(len(part))] ^= bit
}

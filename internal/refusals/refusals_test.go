package refusals

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, c Config) *Log {
	t.Helper()
	if c.Now == nil {
		c.Now = func() time.Time { return noon }
	}
	if c.Path == "" {
		c.Path = filepath.Join(t.TempDir(), "refusals.db")
	}
	c.Logger = orQuiet(c.Logger)
	l := Open(c)
	t.Cleanup(l.Close)
	return l
}

func orQuiet(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// short is a reservation refused for want of stock.
func short(item string, asked int64) Attempt {
	return Attempt{
		Command: "create-reservations", CommandID: "key-1", Actor: "ann", Reason: "sale", Reference: "order:1", Correlation: "c1",
		Err: fault.New(fault.NotAllowed, "insufficient_stock", "not enough of %s", item).
			With("inventory_item_id", item).With("location_id", "paris").With("line", 2).
			With("asked", events.Units(asked)).With("available", events.Units(1)),
		Body: func() string { return `[{"quantity":1}]` }, Position: func() uint64 { return 7 },
	}
}

func invalid(command, code string) Attempt {
	return Attempt{
		Command: command, Err: fault.New(fault.Invalid, code, "no"),
		Body: func() string { return "" }, Position: func() uint64 { return 0 },
	}
}

// answered is the answer in JSON.
func answered(t testing.TB, l *Log, name, body string) string {
	t.Helper()
	answer, known, err := l.Query(t.Context(), name, []byte(body))
	require.True(t, known)
	require.NoError(t, err)
	text, err := json.Marshal(answer)
	require.NoError(t, err)
	return string(text)
}

func listed(t testing.TB, l *Log, body string) Page {
	t.Helper()
	answer, _, err := l.Query(t.Context(), "list-refusals", []byte(body))
	require.NoError(t, err)
	return answer.(Page)
}

func counted(t testing.TB, l *Log, body string) []Counted {
	t.Helper()
	answer, _, err := l.Query(t.Context(), "refusal-counts", []byte(body))
	require.NoError(t, err)
	return answer.(Tallies).Rows
}

func TestARefusalIsOnRecord(t *testing.T) {
	l := open(t, Config{})
	l.Add(short("cup", 3))
	require.JSONEq(t, `{"rows":[{"id":1,"recorded_at":"2026-03-01T12:00:00Z","command":"create-reservations","command_id":"key-1",
		"code":"insufficient_stock","type":"not_allowed","message":"not enough of cup",
		"details":{"inventory_item_id":"cup","location_id":"paris","line":2,"asked":3,"available":1},
		"actor":"ann","reason":"sale","reference":"order:1","correlation_id":"c1","line":2,"inventory_item_id":"cup","location_id":"paris",
		"asked":3,"available":1,"position":7,"body":"[{\"quantity\":1}]"}],"next":null}`, answered(t, l, "list-refusals", ""))
	l.Add(invalid("adjust-inventory-levels", "malformed_json"))
	require.JSONEq(t, `{"id":2,"recorded_at":"2026-03-01T12:00:00Z","command":"adjust-inventory-levels","command_id":"",
		"code":"malformed_json","type":"invalid_data","message":"no","details":{},"actor":"","reason":"","reference":"","correlation_id":"",
		"line":null,"inventory_item_id":"","location_id":"","asked":null,"available":null,"position":0,"body":""}`,
		string(must(json.Marshal(listed(t, l, `{"after":9}`).Rows[0]))))
}

// The bodies of commands are nobody else's business.
func TestOnlyTheOwnerReadsTheRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "refusals.db")
	l := open(t, Config{Path: path})
	l.Add(short("cup", 3))
	require.Len(t, listed(t, l, "").Rows, 1)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path+suffix)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestOnlyRefusalsAreRecorded(t *testing.T) {
	l := open(t, Config{})
	for kind := range fault.Unauthorized + 1 {
		a := invalid("c", kind.String())
		a.Err = fmt.Errorf("wrapped: %w", fault.New(kind, kind.String(), "x"))
		l.Add(a)
	}
	for _, err := range []error{nil, errors.New("a bug"), context.Canceled} {
		a := invalid("c", "")
		a.Err = err
		l.Add(a)
	}
	var codes []string
	for _, r := range counted(t, l, "") {
		codes = append(codes, r.Code)
	}
	require.ElementsMatch(t, []string{
		fault.Invalid.String(), fault.NotFound.String(), fault.NotAllowed.String(), fault.Conflict.String(),
	}, codes)
}

func TestRefusalsAreFoundByWhatTheySay(t *testing.T) {
	clock := noon
	l := open(t, Config{Now: func() time.Time { return clock }})
	for i := range 4 { // 1 to 4
		a := short(fmt.Sprintf("item-%d", i%2), 1)
		a.Actor, a.CommandID = fmt.Sprintf("actor-%d", i), ""
		clock = noon.Add(time.Duration(i) * time.Hour)
		l.Add(a)
	}
	l.Add(invalid("adjust-inventory-levels", "required")) // 5, at 15:00 too
	for _, tc := range []struct {
		body string
		want []uint64
	}{
		{`{}`, []uint64{5, 4, 3, 2, 1}},
		{`{"command":"create-reservations"}`, []uint64{4, 3, 2, 1}},
		{`{"code":["required","nothing"]}`, []uint64{5}},
		{`{"code":[]}`, nil},
		{`{"inventory_item_id":"item-1"}`, []uint64{4, 2}},
		{`{"inventory_item_id":["item-1","item-0"]}`, []uint64{4, 3, 2, 1}},
		{`{"inventory_item_id":["item-1",""]}`, []uint64{5, 4, 2}},
		{`{"inventory_item_id":""}`, []uint64{5}},
		{`{"location_id":"paris","actor":["actor-1","actor-2"]}`, []uint64{3, 2}},
		{`{"reason":"sale","reference":"order:1","correlation_id":"c1","command_id":""}`, []uint64{4, 3, 2, 1}},
		{`{"reason":"theft"}`, nil},
		{`{"reference":"order:2"}`, nil},
		{`{"correlation_id":"c2"}`, nil},
		{`{"command_id":"x"}`, nil},
		{`{"recorded_from":"2026-03-01T14:00:00Z"}`, []uint64{5, 4, 3}},
		{`{"recorded_before":"2026-03-01T14:00:00Z"}`, []uint64{2, 1}},
		{`{"recorded_from":"2026-03-01T13:00:00Z","recorded_before":"2026-03-01T14:00:00+00:00"}`, []uint64{2}},
		{`{"recorded_from":"2026-03-01T14:00:00.0000001Z"}`, []uint64{5, 4}},
		{`{"recorded_before":"2026-03-01T14:00:00.0000001Z"}`, []uint64{3, 2, 1}},
		{`{"take":2}`, []uint64{5, 4}},
		{`{"take":0}`, nil},
	} {
		var ids []uint64
		for _, r := range listed(t, l, tc.body).Rows {
			ids = append(ids, r.ID)
		}
		require.Equal(t, tc.want, ids, tc.body)
	}
	for body, code := range map[string]string{
		`{"take":1001}`: "invalid_value", `{"take":-1}`: "invalid_value", `{"actors":"x"}`: "unknown_field", `{"actor":5}`: "invalid_type",
		`{`: "malformed_json", `{"cursor":"x"}`: "invalid_cursor", `{"recorded_from":"yesterday"}`: "invalid_time",
		`[]`: "invalid_type",
	} {
		_, _, err := l.Query(t.Context(), "list-refusals", []byte(body))
		require.Equal(t, code, fault.Code(err), body)
	}
	for body, says := range map[string]string{
		`[]`:             "Expected type: 'object', got: 'array'",
		`{"command":{}}`: "Field 'command' cannot be of type 'object'",
	} {
		_, _, err := l.Query(t.Context(), "list-refusals", []byte(body))
		require.EqualError(t, err, says)
	}
	_, _, err := l.Query(t.Context(), "refusal-counts", []byte(`{"by":"moon"}`))
	require.Equal(t, "invalid_value", fault.Code(err))
	_, known, _ := l.Query(t.Context(), "list-commands", nil)
	require.False(t, known)
}

func TestPagesStayWhereTheyAreWhileMoreIsRefused(t *testing.T) {
	l := open(t, Config{})
	for range 5 {
		l.Add(short("cup", 1))
	}
	page := listed(t, l, `{"take":2,"inventory_item_id":"cup"}`)
	var ids []uint64
	for {
		for _, r := range page.Rows {
			ids = append(ids, r.ID)
		}
		if page.Next == nil {
			break
		}
		l.Add(short("cup", 1))
		page = listed(t, l, fmt.Sprintf(`{"take":2,"inventory_item_id":"cup","cursor":%q}`, *page.Next))
	}
	require.Equal(t, []uint64{5, 4, 3, 2, 1}, ids)

	next := listed(t, l, `{"take":1,"inventory_item_id":"cup"}`).Next
	_, _, err := l.Query(t.Context(), "list-refusals", fmt.Appendf(nil, `{"inventory_item_id":"pot","cursor":%q}`, *next))
	require.Equal(t, "invalid_cursor", fault.Code(err))
}

func TestWhatWasAskedForAndNotThere(t *testing.T) {
	clock := noon
	l := open(t, Config{Now: func() time.Time { return clock }})
	l.Add(short("cup", 3))
	l.Add(short("pot", 1))
	clock = noon.AddDate(0, 0, 1)
	half := short("cup", 0)
	half.Err = fault.Of(half.Err).With("asked", must(events.ParseQuantity("0.5")))
	l.Add(half)
	l.Add(invalid("adjust-inventory-levels", "required"))

	require.JSONEq(t, `{"more":false,"rows":[
		{"day":"2026-03-02","command":"adjust-inventory-levels","code":"required","count":1,"detailed":1},
		{"day":"2026-03-02","command":"create-reservations","code":"insufficient_stock","count":1,"detailed":1},
		{"day":"2026-03-01","command":"create-reservations","code":"insufficient_stock","count":2,"detailed":2}]}`, answered(t, l, "refusal-counts", ``))
	require.JSONEq(t, `{"more":false,"rows":[
		{"inventory_item_id":"cup","command":"create-reservations","code":"insufficient_stock","count":2,"detailed":2,"asked":3.5},
		{"inventory_item_id":"pot","command":"create-reservations","code":"insufficient_stock","count":1,"detailed":1,"asked":1}]}`,
		answered(t, l, "refusal-counts", `{"by":"item"}`))
	for body, want := range map[string]int{
		`{"take":1}`: 1, `{"code":"required"}`: 1, `{"command":["create-reservations"]}`: 2, `{"by":"item","take":1}`: 1,
		`{"recorded_from":"2026-03-02T23:00:00Z"}`: 2, `{"recorded_from":"2026-03-03T00:00:00Z"}`: 0,
		`{"recorded_before":"2026-03-02T00:00:00Z"}`: 1, `{"recorded_before":"2026-03-02T00:00:01Z"}`: 3,
		`{"by":"item","inventory_item_id":"pot"}`: 1, `{"by":"item","recorded_from":"2026-03-01T13:00:00Z"}`: 1,
		`{"inventory_item_id":"cup"}`: 2, `{"inventory_item_id":"mug"}`: 0, `{"by":"day","code":[]}`: 0,
	} {
		require.Len(t, counted(t, l, body), want, body)
	}
	require.JSONEq(t, `[{"day":"2026-03-01","command":"create-reservations","code":"insufficient_stock","count":1,"detailed":1}]`,
		string(must(json.Marshal(counted(t, l, `{"inventory_item_id":"pot"}`)))))
	answer, _, err := l.Query(t.Context(), "refusal-counts", []byte(`{"take":2}`))
	require.NoError(t, err)
	require.True(t, answer.(Tallies).More)
}

func TestTheNewestKeepTheirDetailsAndAllAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "refusals.db")
	l := open(t, Config{Path: path, Keep: 10})
	for i := range 25 {
		l.Add(short(fmt.Sprintf("item-%d", i), 1))
		if i%7 == 0 {
			require.NotEmpty(t, listed(t, l, ``).Rows) // so that there are several transactions
		}
	}
	check := func(l *Log, count, newest int) {
		rows := listed(t, l, ``).Rows
		require.Len(t, rows, 10)
		for i, r := range rows {
			require.EqualValues(t, newest-i, r.ID)
		}
		counts := counted(t, l, ``)
		require.Len(t, counts, 1)
		require.EqualValues(t, count, counts[0].Count)
		require.EqualValues(t, 10, counts[0].Detailed)
	}
	check(l, 25, 25)
	l.Add(short("last", 1))
	l.Close()
	l.Close()

	l = open(t, Config{Path: path, Keep: 10})
	check(l, 26, 26)
	require.Equal(t, "last", listed(t, l, ``).Rows[0].ItemID)
	l.Add(short("next", 1))
	check(l, 27, 27)
}

func TestAFloodIsCountedAndDoesNotFillTheDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 refusals")
	}
	const callers, each, keep = 64, 3125, 2000
	path := filepath.Join(t.TempDir(), "refusals.db")
	l := open(t, Config{Path: path, Keep: keep})
	long := strings.Repeat("x", 2*MaxBody)
	var flood sync.WaitGroup
	for c := range callers {
		flood.Go(func() {
			for i := range each {
				a := short(fmt.Sprintf("item-%d-%d", c, i), 1)
				a.Command = []string{"create-reservations", "adjust-inventory-levels"}[i%2]
				a.Body = func() string { return long }
				l.Add(a)
				if c == 0 && i%100 == 0 { // the writer is kept busy, too
					_ = l.flush(t.Context())
				}
			}
		})
	}
	flood.Wait()
	l.Add(short("the last", 1))
	var all, detailed int64
	for _, n := range counted(t, l, ``) {
		all, detailed = all+n.Count, detailed+n.Detailed
	}
	require.EqualValues(t, callers*each+1, all)
	require.EqualValues(t, keep, detailed)
	newest := listed(t, l, `{"take":1}`).Rows[0]
	require.Equal(t, "the last", newest.ItemID)
	require.Greater(t, newest.ID, uint64(keep), "some were let go of")
	l.Close()

	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(keep+waiting)*(MaxBody+4<<10), "of as many as may be there at once")
	t.Logf("%d of %d were written; the file has %d bytes", newest.ID, all, info.Size())
}

func TestEverythingHasABound(t *testing.T) {
	l := open(t, Config{})
	long := strings.Repeat("é", 10_000)
	l.Add(Attempt{
		Command: long, CommandID: long, Actor: long, Reason: long, Reference: long, Correlation: long,
		Err:  fault.New(fault.Invalid, "too_long", "%s", long).With("inventory_item_id", long).With("location_id", long).With("field", long),
		Body: func() string { return long }, Position: func() uint64 { return 1 },
	})
	r := listed(t, l, ``).Rows[0]
	for _, text := range []string{r.Command, r.CommandID, r.Actor, r.Reason, r.Reference, r.Correlation, r.ItemID, r.LocationID} {
		require.Equal(t, strings.Repeat("é", 127), text, "whole characters in 255 bytes")
	}
	require.Equal(t, strings.Repeat("é", MaxBody/2), r.Body)
	require.Len(t, r.Message, 1<<10)
	require.Nil(t, r.Details)

	unknown := invalid("made up", "unknown_command")
	l.Add(unknown)
	require.Empty(t, listed(t, l, `{"code":"unknown_command"}`).Rows[0].Command, "or counts would have no bound")
}

func TestTextsAreCutBetweenCharacters(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		most       int
	}{
		{"", "", 4},
		{"abcd", "abcd", 4},
		{"abcde", "abcd", 4},
		{"abcé", "abc", 4},
		{"ab€", "ab", 4},
		{"a😀", "a", 4},
		{"😀", "😀", 4},
		{"a\xffb", "a\uFFFDb", 9},
		{"\xff\xff\xff", "\uFFFD", 4},
		{"ab\xe2\x82", "ab\uFFFD", 9},
		{"abc\xe2\x82\xac", "abc", 4},
		{"\x80\x80\x80\x80\x80", "\uFFFD", 4},
	} {
		require.Equal(t, tc.want, cut(tc.text, tc.most), "%q at %d", tc.text, tc.most)
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 10_000 {
		b := make([]byte, random.IntN(40))
		for i := range b {
			b[i] = "aé€😀\xff\x80"[random.IntN(12)]
		}
		most := random.IntN(40)
		got := cut(string(b), most)
		require.True(t, utf8.ValidString(got) && len(got) <= most, "%q at %d is %q", b, most, got)
	}
}

func TestABodyIsWrittenAsFarAsItIsKept(t *testing.T) {
	require.Equal(t, `{"a":[1]}`, JSON(map[string]any{"a": []int{1}}))
	lines := make([]string, 1_000_000)
	require.Less(t, len(JSON(lines)), 16<<10)
	require.GreaterOrEqual(t, len(JSON(lines)), MaxBody)
}

// A directory in the place of the file cannot be opened, whoever runs the test.
func TestAFileThatCannotBeWrittenFailsNothing(t *testing.T) {
	var said bytes.Buffer
	path := filepath.Join(t.TempDir(), "refusals.db")
	require.NoError(t, os.Mkdir(path, 0o750))
	l := open(t, Config{Path: path, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	for range 3 * waiting {
		l.Add(short("cup", 1))
	}
	for range 3 {
		_, _, err := l.Query(t.Context(), "list-refusals", nil)
		require.Equal(t, "refusals_unavailable", fault.Code(err))
		require.NotContains(t, err.Error(), path)
	}
	require.NoError(t, os.Remove(path))
	require.EqualValues(t, 3*waiting, counted(t, l, ``)[0].Count, "none is lost")
	l.Add(short("pot", 1))
	require.Equal(t, "pot", listed(t, l, ``).Rows[0].ItemID)
	l.Close()
	require.Equal(t, 1, strings.Count(said.String(), "cannot be recorded"), said.String())
	require.Equal(t, 1, strings.Count(said.String(), "recorded again"), said.String())
}

// A full disk is a file that may not grow.
func TestAFullDiskLosesDetailsAndNoCount(t *testing.T) {
	l := open(t, Config{})
	l.Add(short("cup", 1))
	require.Len(t, listed(t, l, ``).Rows, 1)
	limit := func(pages int) {
		_, err := l.file.writer.ExecContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
		require.NoError(t, err)
	}
	limit(1) // SQLite makes it as many as there are
	for range 500 {
		a := short("pot", 1)
		a.Body = func() string { return strings.Repeat("x", MaxBody) }
		l.Add(a)
	}
	_, _, err := l.Query(t.Context(), "refusal-counts", nil)
	require.Equal(t, "refusals_unavailable", fault.Code(err))
	limit(1 << 30)
	counts := counted(t, l, ``)
	require.EqualValues(t, 501, counts[0].Count)
	require.EqualValues(t, 1, counts[0].Detailed)
	require.Len(t, listed(t, l, ``).Rows, 1)
}

func TestARecordOfAnotherVersionIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "refusals.db")
	l := open(t, Config{Path: path})
	l.Add(short("cup", 1))
	require.NoError(t, l.flush(t.Context()))
	_, err := l.file.writer.ExecContext(t.Context(), `PRAGMA user_version = 2`)
	require.NoError(t, err)
	l.Close()
	before := must(os.ReadFile(path))

	l = open(t, Config{Path: path})
	l.Add(short("cup", 1))
	_, _, err = l.Query(t.Context(), "refusal-counts", nil)
	require.Equal(t, "refusals_unavailable", fault.Code(err))
	l.Close()
	require.Equal(t, before, must(os.ReadFile(path)))
}

func TestAfterTheEndNothingWaits(t *testing.T) {
	l := open(t, Config{})
	l.Close()
	var late sync.WaitGroup
	for range 16 {
		late.Go(func() {
			for range waiting {
				l.Add(short("cup", 1))
			}
		})
	}
	late.Wait()
	_, _, err := l.Query(t.Context(), "list-refusals", nil)
	require.Equal(t, "refusals_unavailable", fault.Code(err))
}

func TestNoSelectorReadsAllThatIsKept(t *testing.T) {
	l := open(t, Config{})
	l.Add(short("cup", 1))
	require.NoError(t, l.flush(t.Context()))
	for column, index := range map[string]string{
		"command": "refusals_by_command", "code": "refusals_by_code", "command_id": "refusals_by_command_id", "actor": "refusals_by_actor",
		"reference": "refusals_by_reference", "inventory_item_id": "refusals_by_item", "location_id": "refusals_by_location",
	} {
		var c condition
		c.is(column, Texts{"x"})
		c.and(`id < ?`, 5)
		rows, err := l.file.reader.QueryContext(t.Context(), c.query(`EXPLAIN QUERY PLAN SELECT * FROM refusals`, ` ORDER BY id DESC LIMIT 50`), c.args...)
		require.NoError(t, err)
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var line string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &line))
			plan = append(plan, line)
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
		require.Equal(t, []string{fmt.Sprintf("SEARCH refusals USING INDEX %s (%s=? AND rowid<?)", index, column)}, plan)
	}
}

// What a refused command pays: most of the time with a full queue, as in a flood.
func BenchmarkAdd(b *testing.B) {
	l := open(b, Config{Now: time.Now})
	a := short("cup", 1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Add(a)
		}
	})
}

// What is available, or a difference, may have more digits than a quantity that is
// asked for. The record has it all the same, and what is next to it.
func TestQuantitiesOfManyDigits(t *testing.T) {
	l := open(t, Config{})
	most, err := events.ParseQuantity("999999999999999999")
	require.NoError(t, err)
	half, err := events.ParseQuantity("0.5")
	require.NoError(t, err)
	a := short("cup", 1)
	a.Err = fault.Of(a.Err).With("asked", half.Minus(most)).With("available", most.Minus(half))
	l.Add(a)
	l.Add(short("nut", 3))
	page := listed(t, l, "")
	require.Len(t, page.Rows, 2)
	require.Equal(t, "-999999999999999998.5", page.Rows[1].Asked.String())
	require.Equal(t, "999999999999999998.5", page.Rows[1].Available.String())
	require.Equal(t, "-999999999999999998.5", counted(t, l, `{"by":"item","inventory_item_id":"cup"}`)[0].Asked.String())
}

// Nothing asked for is 0, and not unknown.
func TestNothingAskedForIsCounted(t *testing.T) {
	l := open(t, Config{})
	l.Add(short("cup", 0))
	require.Contains(t, answered(t, l, "refusal-counts", `{"by":"item"}`), `"asked":0`)
}

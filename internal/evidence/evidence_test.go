package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a log on disk, to which a test adds what its commands would.
type ledger struct {
	*sqlitestore.Store
	t    testing.TB
	path string
	ends map[string]events.Recorded // by stream
	made int                        // commits
}

func openLedger(t testing.TB, path string) *ledger {
	t.Helper()
	store, err := sqlitestore.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return &ledger{Store: store, t: t, path: path, ends: make(map[string]events.Recorded)}
}

func newLedger(t testing.TB) *ledger { return openLedger(t, filepath.Join(t.TempDir(), "log.db")) }

// start is when the first commit was recorded.
var start = time.Date(2026, 3, 1, 9, 30, 0, 123_456_000, time.UTC)

// commit records a fact on each of the streams, as one command.
func (l *ledger) commit(streams ...string) {
	l.t.Helper()
	l.made++
	var c events.Commit
	for i, stream := range streams {
		meta := events.Meta{
			EventID: fmt.Sprintf("event-%d-%d", l.made, i), Command: "adjust-inventory-levels", CommandID: fmt.Sprint("key-", l.made),
			Recorded: start.Add(time.Duration(l.made) * time.Second), Actor: "Zoë \"Z\" \u2028\x01",
		}
		if len(streams) > 1 {
			meta.Part, meta.Parts = i+1, len(streams)
		}
		before := l.ends[stream]
		e, err := events.Record(stream, before.Version, before.Hash, events.SKUClaimed{SKU: "螺丝 <&>\n", ItemID: stream}, &meta)
		require.NoError(l.t, err)
		l.ends[stream] = e
		c = append(c, e)
	}
	_, err := l.Append(l.t.Context(), c)
	require.NoError(l.t, err)
}

// commits records n commits of one to three events.
func (l *ledger) commits(n int) {
	l.t.Helper()
	streams := []string{"item-a", "item-b", "item-c"}
	for i := range n {
		l.commit(streams[i%3 : i%3+1+i%(3-i%3)]...)
	}
}

func (l *ledger) all() (all []events.Recorded) {
	l.t.Helper()
	head, err := l.Head(l.t.Context())
	require.NoError(l.t, err)
	if head == 0 {
		return nil
	}
	for batch, err := range l.Subscribe(l.t.Context(), 0) {
		require.NoError(l.t, err)
		if all = append(all, batch...); uint64(len(all)) == head {
			break
		}
	}
	for i, e := range all { // without what it knows besides the bytes
		all[i] = events.Recorded{
			Position: e.Position, Stream: e.Stream, Version: e.Version, Type: e.Type, Data: e.Data, Meta: e.Meta, Prev: e.Prev, Hash: e.Hash,
		}
	}
	return all
}

func (l *ledger) export() []byte {
	l.t.Helper()
	var out bytes.Buffer
	head, err := evidence.Export(l.t.Context(), l.Store, &out, nil)
	require.NoError(l.t, err)
	require.Equal(l.t, head, l.head(""))
	return out.Bytes()
}

func (l *ledger) head(saved string) evidence.Head {
	l.t.Helper()
	head, err := evidence.HeadOf(l.t.Context(), l.Store, saved, nil)
	require.NoError(l.t, err)
	return head
}

// reopened is the ledger after somebody changed its file behind its back.
func (l *ledger) reopened(change func(*sql.DB)) *ledger {
	l.t.Helper()
	require.NoError(l.t, l.Close())
	db, err := sql.Open("sqlite", l.path)
	require.NoError(l.t, err)
	change(db)
	require.NoError(l.t, db.Close())
	return openLedger(l.t, l.path)
}

func (l *ledger) exec(db *sql.DB, query string, args ...any) {
	l.t.Helper()
	_, err := db.ExecContext(l.t.Context(), query, args...)
	require.NoError(l.t, err)
}

// imported is what an export makes in an empty file.
func imported(t testing.TB, export io.Reader) (*ledger, evidence.Head, error) {
	t.Helper()
	l := &ledger{t: t, path: filepath.Join(t.TempDir(), "copy.db")}
	head, err := evidence.Import(t.Context(), export, func(id string) (_ events.Store, err error) {
		l.Store, err = sqlitestore.Create(l.path, id)
		return l.Store, err
	}, nil)
	t.Cleanup(func() {
		if l.Store != nil {
			require.NoError(t, l.Close())
		}
	})
	return l, head, err
}

func requireFault(t *testing.T, kind fault.Kind, code string, err error) *fault.Error {
	t.Helper()
	require.Error(t, err)
	e := fault.Of(err)
	require.Equal(t, code, e.Code, "%v", err)
	require.Equal(t, kind, e.Kind)
	return e
}

func TestTheHeadIsTheDigestOfAllHashesInOrder(t *testing.T) {
	l := newLedger(t)
	require.Equal(t, evidence.Head{Log: l.LogID(), Digest: strings.Repeat("00", 32)}, l.head(""))
	l.commits(20)
	var d [32]byte
	for _, e := range l.all() {
		d = sha256.Sum256(append(d[:], e.Hash[:]...))
	}
	require.Equal(t, evidence.Head{
		Log: l.LogID(), Position: uint64(len(l.all())), Digest: fmt.Sprintf("%x", d), At: start.Add(20 * time.Second),
	}, l.head(""))
}

func TestAnExportMakesTheSameLogAgain(t *testing.T) {
	for _, n := range []int{0, 1, 500} { // 2,500 events: more than are appended at once
		l := newLedger(t)
		for i := range n {
			l.commit(fmt.Sprint("item-", i%7), fmt.Sprint("sku-", i), fmt.Sprint("variant-", i%50), fmt.Sprint("item-", i%7))
			l.commit(fmt.Sprint("item-", i%7))
		}
		export := l.export()
		again, head, err := imported(t, iotest.HalfReader(bytes.NewReader(export)))
		require.NoError(t, err)
		require.Equal(t, l.LogID(), again.LogID(), "it is the same log")
		require.Equal(t, l.head(""), head)
		require.Equal(t, head, again.head(""))
		require.Equal(t, l.all(), again.all(), "to the byte")
		require.Equal(t, export, again.export())
		require.NoError(t, again.Close())
		reopened := openLedger(t, again.path)
		require.Equal(t, l.LogID(), reopened.LogID())
		require.Equal(t, export, reopened.export(), "also after it was closed")
	}
}

func TestACopyGoesOnWhereTheLogEnded(t *testing.T) {
	l := newLedger(t)
	l.commits(10)
	before := l.head("")
	again, _, err := imported(t, bytes.NewReader(l.export()))
	require.NoError(t, err)
	again.ends, again.made = l.ends, l.made
	again.commits(5)
	require.NoError(t, evidence.Contains(t.Context(), again.Store, before, nil))
}

func TestAHeadGoesOnFromWhatWasSaved(t *testing.T) {
	l := newLedger(t)
	saved := filepath.Join(t.TempDir(), "head.json")
	read := func(file string) (n int, head evidence.Head) {
		head, err := evidence.HeadOf(t.Context(), l.Store, file, func(string, uint64, uint64) { n++ })
		require.NoError(t, err)
		return n, head
	}
	l.commits(30)
	first, _ := read(saved)
	require.Len(t, l.all(), first)
	more, _ := read(saved)
	require.Zero(t, more, "nothing is new")
	l.commit("item-a", "item-b")
	more, head := read(saved)
	require.Equal(t, 2, more)
	require.Equal(t, l.head(""), head)

	good, err := os.ReadFile(saved)
	require.NoError(t, err)
	for name, bad := range map[string]string{
		"nothing":              "",
		"no JSON":              "{",
		"another log":          strings.Replace(string(good), l.LogID()[:8], "00000000", 1),
		"another digest":       strings.Replace(string(good), `"digest":"`, `"digest":"00`, 1),
		"a digest changed":     strings.Replace(string(good), head.Digest[:4], "0000", 1),
		"another position":     strings.Replace(string(good), `"position":`, `"position":1`, 1),
		"no position":          `{"position":0}`,
		"a log that is longer": strings.Replace(string(good), `"position":`, `"position":9`, 1),
	} {
		require.NoError(t, os.WriteFile(saved, []byte(bad), 0o600))
		all, again := read(saved)
		require.Len(t, l.all(), all, name)
		require.Equal(t, head, again, name)
	}
	nowhere := filepath.Join(t.TempDir(), "no", "such", "directory")
	_, again := read(nowhere)
	require.Equal(t, head, again, "a state that cannot be kept is done without")
}

// The saved state is of a log that was another one then.
func TestASavedHeadOfAnotherPastIsNotBelieved(t *testing.T) {
	l := newLedger(t)
	l.commits(10)
	saved := filepath.Join(t.TempDir(), "head.json")
	old := l.head(saved)
	l = l.reopened(func(db *sql.DB) { rewrite(t, db, int(old.Position)) })
	require.NotEqual(t, old.Digest, l.head(saved).Digest)
	require.Equal(t, l.head(""), l.head(saved))
}

func TestALogThatIsShorterOrOtherThanItsHeadIsFound(t *testing.T) {
	l := newLedger(t)
	l.commits(10)
	known := l.head("")
	early := known.Position
	l.commits(10)
	require.NoError(t, evidence.Contains(t.Context(), l.Store, known, nil))
	require.NoError(t, evidence.Contains(t.Context(), l.Store, evidence.Head{Log: l.LogID(), Digest: strings.Repeat("00", 32)}, nil))
	latest := l.head("")

	other := known
	other.Log = "another"
	requireFault(t, fault.Conflict, "head_of_other_log", evidence.Contains(t.Context(), l.Store, other, nil))
	other = known
	other.At = other.At.Add(1)
	requireFault(t, fault.Conflict, "head_differs", evidence.Contains(t.Context(), l.Store, other, nil))

	l = l.reopened(func(db *sql.DB) { // the tail is cut off, and of the index, too, or the store would not open
		l.exec(db, "DELETE FROM events WHERE position > ?", early)
		l.exec(db, "DELETE FROM places WHERE position > ?", early)
		l.exec(db, "UPDATE meta SET value = min(value, ?) WHERE name = 'indexed'", early)
	})
	err := evidence.Contains(t.Context(), l.Store, latest, nil)
	refusal := requireFault(t, fault.Conflict, "log_cut_short", err)
	require.Equal(t, fmt.Sprintf("the log ends at position %d, and when this head was taken it reached position %d: its end was cut off",
		early, latest.Position), refusal.Message)
	require.NoError(t, evidence.Contains(t.Context(), l.Store, known, nil))

	l = l.reopened(func(db *sql.DB) { // an event is changed, and all hashes behind it
		rewrite(t, db, 4)
	})
	requireFault(t, fault.Conflict, "log_changed", evidence.Contains(t.Context(), l.Store, known, nil))

	l = l.reopened(func(db *sql.DB) { // and one more, without
		l.exec(db, `UPDATE events SET data = CAST(data || ' ' AS BLOB) WHERE position = 6`)
	})
	err = evidence.Contains(t.Context(), l.Store, known, nil)
	requireFault(t, fault.Conflict, "log_damaged", err)
	require.ErrorContains(t, err, "position 6")
	var out bytes.Buffer
	_, err = evidence.Export(t.Context(), l.Store, &out, nil)
	requireFault(t, fault.Conflict, "log_damaged", err)
	_, err = evidence.HeadOf(t.Context(), l.Store, "", nil)
	requireFault(t, fault.Conflict, "log_damaged", err)
}

// rewrite changes the event at a position as somebody would who knows how: with
// the hashes of all that follows it in its stream.
func rewrite(t *testing.T, db *sql.DB, position int) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `UPDATE events SET data = CAST(replace(data, '"sku":"', '"sku":"not ') AS BLOB) WHERE position = ?`, position)
	require.NoError(t, err)
	rows, err := db.QueryContext(t.Context(), `SELECT position, stream, version, type, data, meta FROM events
		WHERE stream = (SELECT stream FROM events WHERE position = ?) ORDER BY version`, position)
	require.NoError(t, err)
	var prev events.Hash
	var linked []events.Recorded
	for rows.Next() {
		e := events.Recorded{Prev: prev}
		require.NoError(t, rows.Scan(&e.Position, &e.Stream, &e.Version, &e.Type, &e.Data, &e.Meta))
		e.Hash = e.Link()
		prev = e.Hash
		linked = append(linked, e)
	}
	require.NoError(t, rows.Err())
	for _, e := range linked {
		_, err := db.ExecContext(t.Context(), `UPDATE events SET prev = ?, hash = ? WHERE position = ?`, e.Prev[:], e.Hash[:], e.Position)
		require.NoError(t, err)
	}
}

func TestBytesThatAreNoTextAreNotExported(t *testing.T) {
	l := newLedger(t)
	meta := &events.Meta{CommandID: "k", Recorded: start}
	e, err := events.Record("item-a", 0, events.Hash{}, events.SKUClaimed{}, meta)
	require.NoError(t, err)
	e.Data = []byte("\"\xff\"")
	e.Hash = e.Link()
	_, err = l.Append(t.Context(), events.Commit{e})
	require.NoError(t, err)
	_, err = evidence.Export(t.Context(), l.Store, io.Discard, nil)
	requireFault(t, fault.Conflict, "log_damaged", err)
	require.ErrorContains(t, err, "item-a@1 holds bytes that are no UTF-8")
}

func TestAnExportIsThereWholeOrNotAtAll(t *testing.T) {
	l := newLedger(t)
	l.commits(5)
	dir := t.TempDir()
	path := filepath.Join(dir, "log.jsonl")
	head, err := evidence.ExportFile(t.Context(), l.Store, path, nil)
	require.NoError(t, err)
	require.Equal(t, l.head(""), head)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(l.export()), string(text), "two exports of the same are the same")

	_, err = evidence.ExportFile(t.Context(), l.Store, path, nil)
	requireFault(t, fault.Conflict, "file_exists", err)
	_, err = evidence.ExportFile(t.Context(), l.Store, filepath.Join(dir, "no", "such"), nil)
	requireFault(t, fault.Invalid, "cannot_write", err)

	path = filepath.Join(t.TempDir(), "meanwhile")
	_, err = evidence.ExportFile(t.Context(), l.Store, path, func(string, uint64, uint64) {
		require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	})
	requireFault(t, fault.Conflict, "file_exists", err)
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))

	l = l.reopened(func(db *sql.DB) { l.exec(db, `UPDATE events SET meta = '{}' WHERE position = 3`) })
	_, err = evidence.ExportFile(t.Context(), l.Store, filepath.Join(dir, "another"), nil)
	requireFault(t, fault.Conflict, "log_damaged", err)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "only what was whole")
}

func TestWhatDoesNotFollowIsNotImported(t *testing.T) {
	l := newLedger(t)
	l.commits(10)
	export := string(l.export())
	lines := strings.SplitAfter(export, "\n")
	join := func(lines ...string) string { return strings.Join(lines, "") }
	for name, tc := range map[string]struct{ export, says string }{
		"nothing":           {"", "line 1 of the export: the file ends before the line with the head"},
		"no export":         {"sku,title\n", "line 1 of the export: this is no export of a ledger"},
		"a newer format":    {strings.Replace(export, "log.v1", "log.v2", 1), "in the format stockledger.log.v1"},
		"no log":            {`{"format":"stockledger.log.v1","log":""}` + "\n", "it names no log"},
		"no head":           {join(lines[:len(lines)-2]...), "the file ends before the line with the head: it was cut short"},
		"half a line":       {export[:len(export)-20], "the file ends within it"},
		"something behind":  {export + "\n", "something follows the line with the head"},
		"a line dropped":    {join(append(lines[:4:4], lines[5:]...)...), "line 5 of the export: position 5 where position 4 follows"},
		"another spelling":  {strings.Replace(export, `,"version"`, ` ,"version"`, 1), "line 2 of the export: the line is not in the one form"},
		"another content":   {strings.Replace(export, "螺丝", "螺母", 1), "line 2 of the export: item-a@1: its bytes do not match its hash"},
		"another head":      {join(append(lines[:len(lines)-2:len(lines)-2], strings.Replace(lines[len(lines)-2], `"digest":"`, `"digest":"0`, 1))...), "it does not say the head"},
		"half a commit":     {join(append(lines[:3:3], lines[len(lines)-2])...), "line 4"},
		"a line of 65 MiB":  {lines[0] + strings.Repeat("x", 65<<20), "line 2 of the export: it is longer than 64 MiB"},
		"an identity apart": {strings.ReplaceAll(export, l.LogID(), "'); DROP TABLE events; --"), "is no UUID"},
	} {
		_, _, err := imported(t, strings.NewReader(tc.export))
		require.ErrorContains(t, err, tc.says, name)
	}
	_, _, err := imported(t, io.MultiReader(strings.NewReader(export[:500]), iotest.ErrReader(io.ErrNoProgress)))
	require.ErrorIs(t, err, io.ErrNoProgress)
}

func TestALogIsImportedIntoAnEmptyStoreOnly(t *testing.T) {
	l := newLedger(t)
	l.commits(3)
	_, err := evidence.Import(t.Context(), bytes.NewReader(l.export()), func(string) (events.Store, error) { return l.Store, nil }, nil)
	requireFault(t, fault.Conflict, "log_not_empty", err)
	other := newLedger(t)
	_, err = evidence.Import(t.Context(), bytes.NewReader(l.export()), func(string) (events.Store, error) { return other.Store, nil }, nil)
	require.ErrorIs(t, err, events.ErrOtherLog)
}

func TestASignatureIsOfTheWholeHead(t *testing.T) {
	l := newLedger(t)
	l.commits(3)
	path := filepath.Join(t.TempDir(), "ledger.key")
	public, err := evidence.NewKey(path)
	require.NoError(t, err)
	_, err = evidence.NewKey(path)
	require.ErrorIs(t, err, os.ErrExist, "no key is replaced")
	alone := filepath.Join(t.TempDir(), "alone")
	require.NoError(t, os.WriteFile(alone+".pub", nil, 0o600))
	_, err = evidence.NewKey(alone)
	require.ErrorIs(t, err, os.ErrExist)
	require.NoFileExists(t, alone, "half a pair is none")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	key, err := evidence.ReadKey(path)
	require.NoError(t, err)
	read, err := evidence.ReadPublicKey(path + ".pub")
	require.NoError(t, err)
	require.Equal(t, public, read)

	signed := evidence.Sign(l.head(""), key)
	require.NoError(t, evidence.CheckSignature(signed, public))
	file := filepath.Join(t.TempDir(), "head.json")
	text, err := json.Marshal(signed)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	back, err := evidence.ReadHead(file)
	require.NoError(t, err)
	require.Equal(t, signed, back)
	require.NoError(t, evidence.CheckSignature(back, public))
	require.NoError(t, evidence.Contains(t.Context(), l.Store, back, nil))

	for name, change := range map[string]func(*evidence.Head){
		"log":       func(h *evidence.Head) { h.Log += "x" },
		"position":  func(h *evidence.Head) { h.Position-- },
		"digest":    func(h *evidence.Head) { h.Digest = strings.Repeat("00", 32) },
		"at":        func(h *evidence.Head) { h.At = h.At.Add(time.Microsecond) },
		"signature": func(h *evidence.Head) { h.Signature = "AAAA" },
	} {
		changed := signed
		change(&changed)
		requireFault(t, fault.Conflict, "signature_wrong", evidence.CheckSignature(changed, public))
		require.NotEmpty(t, name)
	}
	requireFault(t, fault.Conflict, "head_not_signed", evidence.CheckSignature(l.head(""), public))
	other, err := evidence.NewKey(filepath.Join(t.TempDir(), "other"))
	require.NoError(t, err)
	requireFault(t, fault.Conflict, "signed_by_other_key", evidence.CheckSignature(signed, other))

	require.NoError(t, os.Chmod(path, 0o640))
	_, err = evidence.ReadKey(path)
	require.ErrorContains(t, err, "others may read it")
	_, err = evidence.ReadPublicKey(file)
	require.ErrorContains(t, err, "32 bytes in base64")
}

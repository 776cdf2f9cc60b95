package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/race"
)

// noIndex has not come anywhere yet, so that the engine answers from what it
// remembers.
type noIndex struct{}

func (noIndex) Position() uint64 { return 0 }

func (noIndex) Command(context.Context, string) (uint64, string, bool, error) {
	return 0, "", false, nil
}

func (noIndex) Find(context.Context, string, string) ([]commands.Ref, error) { return nil, nil }

// texts are what people write, and what is hard to write as JSON.
var texts = []string{
	"Bolts M8", `"quoted" \ back`, "zwei\nZeilen\tTab", "Ünïcödé 螺丝 🔩", "\u2028 and \u2029", "a\x01b\x1fc\x7f", "</script>&amp;", "",
}

// realLog makes a log with the commands engine on SQLite, and exports it.
func realLog(t testing.TB, seed uint64, moves int) []byte {
	t.Helper()
	store, err := sqlitestore.Open(filepath.Join(t.TempDir(), "log.db"))
	require.NoError(t, err)
	defer store.Close()
	engine, err := commands.Open(t.Context(), commands.Config{
		Store: store, Index: noIndex{}, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	defer engine.Close()
	rnd := rand.New(rand.NewPCG(seed, 0))
	do := func(name string, body map[string]any) {
		text, err := json.Marshal(body)
		require.NoError(t, err)
		command, err := commands.Decode(name, text)
		require.NoError(t, err, "%s", text)
		_, err = engine.Do(t.Context(), commands.Envelope{
			Key: fmt.Sprint(rnd.Uint64()), Actor: "eve", Reason: "say \"why\"",
		}, command)
		require.NoError(t, err)
	}
	const items = 4
	for i := range items {
		do("create-inventory-items", map[string]any{"items": []any{map[string]any{
			"id": fmt.Sprint("item ", i), "sku": fmt.Sprint("SKU/", i), "title": texts[rnd.IntN(len(texts))],
			"metadata":        map[string]any{"note": texts[rnd.IntN(len(texts))]},
			"location_levels": []any{map[string]any{"location_id": "berlin", "stocked_quantity": 100}},
		}}})
	}
	for n := range moves {
		item := fmt.Sprint("item ", rnd.IntN(items))
		line := map[string]any{"inventory_item_id": item, "location_id": "berlin"}
		switch rnd.IntN(4) {
		case 0:
			line["id"], line["quantity"], line["description"] = fmt.Sprint("hold-", n), 1, texts[rnd.IntN(len(texts))]
			do("create-reservations", map[string]any{"reservations": []any{line}})
		case 1: // a commit of several events
			line["adjustment"] = 2
			other := map[string]any{"inventory_item_id": "item 0", "location_id": "berlin", "adjustment": 3}
			do("adjust-inventory-levels", map[string]any{"updates": []any{line, other, line}})
		default:
			line["adjustment"] = 1 + rnd.IntN(5)
			do("adjust-inventory-levels", map[string]any{"updates": []any{line}})
		}
	}
	var out bytes.Buffer
	_, err = evidence.Export(t.Context(), store, &out, nil)
	require.NoError(t, err)
	return out.Bytes()
}

// copied is an export taken apart, to be changed and written again as if nothing
// had been.
type copied struct {
	log    string
	events []event
}

func takeApart(t testing.TB, export []byte) copied {
	t.Helper()
	lines := bytes.Split(bytes.TrimSuffix(export, []byte("\n")), []byte("\n"))
	var first struct{ Log string }
	require.NoError(t, json.Unmarshal(lines[0], &first))
	c := copied{log: first.Log}
	for _, line := range lines[1 : len(lines)-1] {
		var e event
		require.NoError(t, json.Unmarshal(line, &e))
		c.events = append(c.events, e)
	}
	return c
}

func (c copied) clone() copied { return copied{c.log, slices.Clone(c.events)} }

// number gives every event its place in the log.
func (c copied) number() copied {
	for i := range c.events {
		c.events[i].Position = uint64(i) + 1
	}
	return c
}

// link gives every event its place in its stream, and all hashes anew.
func (c copied) link() copied {
	last := make(map[string]event)
	for i := range c.events {
		e := &c.events[i]
		e.Version, e.Prev = last[e.Stream].Version+1, strings.Repeat("00", 32)
		if before, ok := last[e.Stream]; ok {
			e.Prev = before.Hash
		}
		hash := e.link()
		e.Hash = hex.EncodeToString(hash[:])
		last[e.Stream] = *e
	}
	return c
}

// head is the head of the first n events.
func (c copied) head(n int) head {
	var d [32]byte
	h := head{Log: c.log, Position: uint64(n)}
	for _, e := range c.events[:n] {
		hash, _ := hex.DecodeString(e.Hash)
		d = sha256.Sum256(append(d[:], hash...))
		var m meta
		_ = json.Unmarshal([]byte(e.Meta), &m)
		h.At = m.Recorded
	}
	h.Digest = hex.EncodeToString(d[:])
	return h
}

// write writes the copy with the header and the trailer that belong to it.
func (c copied) write() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"format":"stockledger.log.v1","log":%s}`+"\n", quote(c.log))
	for _, e := range c.events {
		fmt.Fprintf(&b, `{"position":%d,"stream":%s,"version":%d,"type":%s,"data":%s,"meta":%s,"prev":"%s","hash":"%s"}`+"\n",
			e.Position, quote(e.Stream), e.Version, quote(e.Type), quote(e.Data), quote(e.Meta), e.Prev, e.Hash)
	}
	h := c.head(len(c.events))
	fmt.Fprintf(&b, `{"head":{"log":%s,"position":%d,"digest":"%s","at":"%s"}}`+"\n", quote(h.Log), h.Position, h.Digest, h.At)
	return b.Bytes()
}

// ends are the numbers of events after which a commit is complete.
func (c copied) ends() (all []int) {
	for i, e := range c.events {
		var m meta
		_ = json.Unmarshal([]byte(e.Meta), &m)
		if m.Part == m.Parts {
			all = append(all, i+1)
		}
	}
	return all
}

// edited is e with another quantity, or another actor where it has none.
func edited(e event) event {
	for _, digit := range "123456789" {
		if changed := strings.Replace(e.Data, `"stocked_quantity":`+string(digit), `"stocked_quantity":1`+string(digit), 1); changed != e.Data {
			e.Data = changed
			return e
		}
	}
	e.Meta = strings.Replace(e.Meta, `"actor":"eve"`, `"actor":"bob"`, 1)
	return e
}

// A mutation makes another export of one. plain ones show without a known head.
type mutation struct {
	name  string
	plain bool
	do    func(r *rand.Rand, export []byte, c copied) []byte
}

var mutations = []mutation{
	// Of bytes.
	{"flip a bit", true, func(r *rand.Rand, x []byte, _ copied) []byte {
		x[r.IntN(len(x))] ^= 1 << r.IntN(8)
		return x
	}},
	{"change a byte", true, func(r *rand.Rand, x []byte, _ copied) []byte {
		x[r.IntN(len(x))] = byte(r.IntN(256))
		return x
	}},
	{"remove bytes", true, func(r *rand.Rand, x []byte, _ copied) []byte {
		at := r.IntN(len(x))
		return slices.Delete(x, at, min(len(x), at+1+r.IntN(3)))
	}},
	{"insert a byte", true, func(r *rand.Rand, x []byte, _ copied) []byte {
		return slices.Insert(x, r.IntN(len(x)+1), " \t\r\n,\"\\0aA{}"[r.IntN(12)])
	}},
	{"swap two bytes", true, func(r *rand.Rand, x []byte, _ copied) []byte {
		i := r.IntN(len(x) - 1)
		x[i], x[i+1] = x[i+1], x[i]
		return x
	}},
	{"cut anywhere", true, func(r *rand.Rand, x []byte, _ copied) []byte { return x[:r.IntN(len(x))] }},

	// Of lines.
	{"drop lines", true, onLines(func(r *rand.Rand, lines [][]byte) [][]byte {
		at := r.IntN(len(lines))
		return slices.Delete(lines, at, min(len(lines), at+1+r.IntN(3)))
	})},
	{"swap two lines", true, onLines(func(r *rand.Rand, lines [][]byte) [][]byte {
		i, j := r.IntN(len(lines)), r.IntN(len(lines))
		lines[i], lines[j] = lines[j], lines[i]
		return lines
	})},
	{"repeat a line", true, onLines(func(r *rand.Rand, lines [][]byte) [][]byte {
		return slices.Insert(lines, r.IntN(len(lines)+1), lines[r.IntN(len(lines))])
	})},
	{"an empty line", true, onLines(func(r *rand.Rand, lines [][]byte) [][]byte {
		return slices.Insert(lines, r.IntN(len(lines)+1), []byte{})
	})},

	// The same said otherwise.
	{"space between", true, respell(`":`, `": `)},
	{"space at the end", true, respell(`}`, `} `)},
	{"a carriage return", true, respell("}", "}\r")},
	{"an escaped letter", true, respell(`"stream":"i`, `"stream":"\u0069`)},
	{"an escaped slash", true, respell(`/`, `\/`)},
	{"a longer escape", true, respell(`\"`, `\u0022`)},
	{"a name in capitals", true, respell(`"data":`, `"Data":`)},
	{"an escaped name", true, respell(`"meta":`, `"m\u0065ta":`)},
	{"a member twice", true, respell(`,"version":`, `,"version":7,"version":`)},
	{"one member more", true, respell(`,"version":`, `,"note":"","version":`)},
	{"null first", true, respell(`"type":`, `"type":null,"type":`)},
	{"a number with a zero before", true, respell(`"position":`, `"position":0`)},
	{"a number with a fraction", true, respell(`,"stream":`, `.0,"stream":`)},
	{"a number with an exponent", true, respell(`,"stream":`, `e0,"stream":`)},
	{"a number as text", true, respell(`"version":1,`, `"version":"1",`)},
	{"members in another order", true, func(r *rand.Rand, _ []byte, c copied) []byte {
		e := c.events[r.IntN(len(c.events))]
		line := fmt.Sprintf(`"prev":%s,"hash":%s`, quote(e.Prev), quote(e.Hash))
		other := fmt.Sprintf(`"hash":%s,"prev":%s`, quote(e.Hash), quote(e.Prev))
		return bytes.Replace(c.write(), []byte(line), []byte(other), 1)
	}},
	{"hexadecimal in capitals", true, func(r *rand.Rand, x []byte, c copied) []byte {
		hash := c.events[r.IntN(len(c.events))].Hash
		return bytes.ReplaceAll(x, []byte(hash), []byte(strings.ToUpper(hash)))
	}},
	{"a mark of byte order", true, func(_ *rand.Rand, x []byte, _ copied) []byte {
		return append([]byte("\xEF\xBB\xBF"), x...)
	}},

	// Half repaired: what the chains and the positions show.
	{"another content", true, func(r *rand.Rand, _ []byte, c copied) []byte {
		i := r.IntN(len(c.events))
		c.events[i] = edited(c.events[i])
		return c.write()
	}},
	{"another content and its hash", true, func(r *rand.Rand, x []byte, c copied) []byte {
		i := r.IntN(len(c.events))
		e := edited(c.events[i])
		if !slices.ContainsFunc(c.events[i+1:], func(other event) bool { return other.Stream == e.Stream }) {
			return slices.Delete(x, 0, 1) // no event behind it would show that
		}
		hash := e.link()
		e.Hash = hex.EncodeToString(hash[:])
		c.events[i] = e
		return c.write()
	}},
	{"dropped and numbered anew", true, func(r *rand.Rand, x []byte, c copied) []byte {
		i := r.IntN(len(c.events))
		if !slices.ContainsFunc(c.events[i+1:], func(other event) bool { return other.Stream == c.events[i].Stream }) {
			return slices.Delete(x, 0, 1)
		}
		c.events = slices.Delete(c.events, i, i+1)
		return c.number().write()
	}},
	{"repeated and numbered anew", true, func(r *rand.Rand, _ []byte, c copied) []byte {
		c.events = slices.Insert(c.events, r.IntN(len(c.events)+1), c.events[r.IntN(len(c.events))])
		return c.number().write()
	}},
	{"positions with a gap", true, func(r *rand.Rand, _ []byte, c copied) []byte {
		for i := range c.events[r.IntN(len(c.events)):] {
			c.events[len(c.events)-1-i].Position++
		}
		return c.write()
	}},
	{"moved to another stream", true, func(r *rand.Rand, _ []byte, c copied) []byte {
		c.events[r.IntN(len(c.events))].Stream = "item-other"
		return c.write()
	}},
	{"a commit torn apart", true, func(r *rand.Rand, x []byte, c copied) []byte {
		ends := c.ends()
		i := r.IntN(len(c.events))
		if slices.Contains(ends, i+1) {
			return slices.Delete(x, 0, 1)
		}
		c.events = c.events[:i+1]
		return c.write()
	}},
	{"another trailer", true, func(r *rand.Rand, x []byte, c copied) []byte {
		h := c.head(len(c.events))
		switch at := bytes.LastIndex(x, []byte(`{"head"`)); r.IntN(4) {
		case 0:
			h.Position += uint64(r.IntN(3)) - 1
			return append(x[:at], trailer(h)...)
		case 1:
			h = c.head(r.IntN(len(c.events)))
			return append(x[:at], trailer(h)...)
		case 2:
			h.At = "2001-01-01T00:00:00Z"
			return append(x[:at], trailer(h)...)
		default:
			h.Log = "another"
			return append(x[:at], trailer(h)...)
		}
	}},

	// Repaired to the last byte: only the known head shows it.
	{"cut behind the head", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		ends := c.ends()
		c.events = c.events[:ends[r.IntN(len(ends)-1)]]
		return c.write()
	}},
	{"all cut", false, func(_ *rand.Rand, _ []byte, c copied) []byte {
		c.events = nil
		return c.write()
	}},
	{"two rows patched, and all hashes behind them", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		for range 2 {
			i := r.IntN(len(c.events))
			c.events[i] = edited(c.events[i])
		}
		return c.link().write()
	}},
	{"the last of a stream dropped, numbered anew", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		i := len(c.events) - 1 - r.IntN(3)
		c.events = slices.Delete(c.events, i, i+1)
		return c.number().link().write()
	}},
	{"an event made up", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		i := r.IntN(len(c.events)) // not behind all of them: what comes after the head is not its concern
		e := c.events[i]
		e.Meta = `{"command_id":"made up","recorded_at":"2026-01-01T00:00:00Z"}`
		c.events = slices.Insert(c.events, i, e)
		return c.number().link().write()
	}},
	{"two commits in the other order", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		ends := append([]int{0}, c.ends()...)
		i := r.IntN(len(ends) - 2)
		a, b, z := ends[i], ends[i+1], ends[i+2]
		c.events = slices.Concat(c.events[:a], c.events[b:z], c.events[a:b], c.events[z:])
		return c.number().link().write()
	}},
	{"moved to another stream, all hashes anew", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		i := r.IntN(len(c.events))
		c.events[i].Stream = "item-" + fmt.Sprint(r.IntN(3))
		return c.link().write()
	}},
	{"another type", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		c.events[r.IntN(len(c.events))].Type += "x"
		return c.link().write()
	}},
	{"another log", false, func(r *rand.Rand, _ []byte, c copied) []byte {
		c.log = fmt.Sprintf("%x", r.Uint64())
		return c.write()
	}},
}

func trailer(h head) string {
	return fmt.Sprintf(`{"head":{"log":%s,"position":%d,"digest":"%s","at":"%s"}}`+"\n", quote(h.Log), h.Position, h.Digest, h.At)
}

func onLines(do func(*rand.Rand, [][]byte) [][]byte) func(*rand.Rand, []byte, copied) []byte {
	return func(r *rand.Rand, x []byte, _ copied) []byte {
		lines := do(r, bytes.Split(bytes.TrimSuffix(x, []byte("\n")), []byte("\n")))
		return append(bytes.Join(lines, []byte("\n")), '\n')
	}
}

// respell writes something otherwise at one of the places where it is.
func respell(from, to string) func(*rand.Rand, []byte, copied) []byte {
	return func(r *rand.Rand, x []byte, _ copied) []byte {
		n := 1 + r.IntN(bytes.Count(x, []byte(from)))
		at := 0
		for range n {
			at += bytes.Index(x[at:], []byte(from)) + len(from)
		}
		return slices.Concat(x[:at-len(from)], []byte(to), x[at:])
	}
}

// Whatever is changed in an exported log, the head that was known before shows
// it; and what is not repaired to the last byte shows without one. What the
// ledger imports is judged the same.
func TestTenThousandMutationsAreDetected(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const logs, workers = 5, 4
	total := 10_000
	if testing.Short() || race.On {
		total = 1_000
	}
	tried := make([][]int, logs*workers)
	var wait sync.WaitGroup
	for l := range logs {
		export := realLog(t, seed+uint64(l), 15)
		apart := takeApart(t, export)
		require.Equal(t, string(export), string(apart.clone().number().link().write()), "the test writes what the ledger writes")
		known := apart.head(len(apart.events))
		_, err := check(bytes.NewReader(export), &known)
		require.NoError(t, err)
		for w := range workers {
			n := l*workers + w
			tried[n] = make([]int, len(mutations))
			wait.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(n)))
				for i := 0; i < total/logs/workers; {
					kind := (i + n) % len(mutations)
					m := mutations[kind]
					changed := m.do(r, bytes.Clone(export), apart.clone())
					if bytes.Equal(changed, export) {
						continue // it had nothing to change this time
					}
					i++
					tried[n][kind]++
					if err := mustBeRefused(t.Context(), m, changed, known, r.IntN(10) == 0); err != nil {
						t.Errorf("%s: %v: %s", m.name, err, firstChange(export, changed))
						return
					}
				}
			})
		}
	}
	wait.Wait()
	sum := 0
	for kind, m := range mutations {
		n := 0
		for _, by := range tried {
			n += by[kind]
		}
		require.NotZero(t, n, m.name)
		sum += n
	}
	require.Equal(t, total, sum)
}

// mustBeRefused is an error when somebody takes a changed export who must not.
func mustBeRefused(ctx context.Context, m mutation, changed []byte, known head, imported bool) error {
	if _, err := check(bytes.NewReader(changed), &known); err == nil {
		return errors.New("not detected")
	}
	_, err := check(bytes.NewReader(changed), nil)
	if m.plain && err == nil {
		return errors.New("not detected without a head")
	}
	if !imported {
		return nil
	}
	switch importing := importError(ctx, changed); {
	case importing != nil && err == nil:
		return fmt.Errorf("only the import refuses it: %w", importing)
	case importing == nil && err != nil:
		return fmt.Errorf("the import takes it: %w", err)
	}
	return nil
}

// firstChange is the first line that was changed.
func firstChange(export, changed []byte) []byte {
	lines := bytes.Split(export, []byte("\n"))
	for i, line := range bytes.Split(changed, []byte("\n")) {
		if i >= len(lines) || !bytes.Equal(line, lines[i]) {
			return line
		}
	}
	return []byte("cut")
}

// named is a store with the identity of another one.
type named struct {
	events.Store
	id string
}

func (n named) LogID() string { return n.id }

func importError(ctx context.Context, export []byte) error {
	_, err := evidence.Import(ctx, bytes.NewReader(export), func(id string) (events.Store, error) {
		return named{memstore.New(), id}, nil
	}, nil)
	return err
}

// Every single bit of a whole export is flipped: nothing is without meaning.
func TestNoBitCanBeFlipped(t *testing.T) {
	t.Parallel()
	export := realLog(t, 1, 0)
	apart := takeApart(t, export)
	apart.events = apart.events[:apart.ends()[0]]
	export = apart.write()
	line := 0
	for i := range export {
		for bit := range 8 {
			if race.On && bit != i%8 { // one of a byte takes long enough
				continue
			}
			export[i] ^= 1 << bit
			_, err := check(bytes.NewReader(export), nil)
			require.Error(t, err, "byte %d, bit %d\n%s", i, bit, export)
			if line > 0 {
				require.Regexp(t, fmt.Sprintf("^position %d: ", line), err.Error(), "byte %d, bit %d", i, bit)
			}
			export[i] ^= 1 << bit
		}
		if export[i] == '\n' {
			line++
		}
	}
}

// A log as it was after each of its commits is right, by itself and against the
// heads that were taken until then.
func TestAnHonestLogIsNeverAccused(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	export := realLog(t, seed, 25)
	apart := takeApart(t, export)
	ends := append([]int{0}, apart.ends()...)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, n := range ends {
		prefix := apart.clone()
		prefix.events = prefix.events[:n]
		written := prefix.write()
		l, err := check(bytes.NewReader(written), nil)
		require.NoError(t, err)
		require.Equal(t, uint64(n), l.Position)
		for _, earlier := range []int{0, n, ends[r.IntN(len(ends))], ends[r.IntN(len(ends))], ends[len(ends)-1]} {
			known := apart.head(earlier)
			_, err := check(bytes.NewReader(written), &known)
			if earlier <= n {
				require.NoError(t, err, "the head of %d of the log of %d", earlier, n)
			} else {
				require.ErrorContains(t, err, fmt.Sprintf("the head is of position %d: the end was cut off", earlier))
			}
		}
		require.NoError(t, importError(t.Context(), written))
	}
}

func TestTheFirstBadPositionIsNamed(t *testing.T) {
	t.Parallel()
	export := realLog(t, 1, 5)
	apart := takeApart(t, export)
	changed := apart.clone()
	changed.events[6] = edited(changed.events[6])
	_, err := check(bytes.NewReader(changed.write()), nil)
	require.EqualError(t, err, fmt.Sprintf("position 7: the bytes of version %d of %s do not match its hash",
		apart.events[6].Version, apart.events[6].Stream))

	known := apart.head(len(apart.events))
	known.Log = "another"
	_, err = check(bytes.NewReader(export), &known)
	require.ErrorContains(t, err, `and the head is of log "another"`)
}

// All hashes are right, and still it is no log that a ledger writes.
func TestWhatNoLedgerWritesIsRefused(t *testing.T) {
	t.Parallel()
	of := func(parts ...string) copied { // a commit "k 1 2" is part 1 of 2 of command k
		c := copied{log: "6f1c6f3a-54a4-4b7e-9d1b-2f8f8c1f0a11"}
		for _, commit := range parts {
			var m meta
			_, err := fmt.Sscan(commit, &m.CommandID, &m.Part, &m.Parts)
			require.NoError(t, err)
			m.Recorded = "2026-01-01T00:00:00Z"
			text, err := json.Marshal(m)
			require.NoError(t, err)
			c.events = append(c.events, event{Stream: "item-a", Type: "t", Data: "{}", Meta: string(text)})
		}
		return c.number().link()
	}
	refusedBoth := func(file []byte, why ...any) {
		t.Helper()
		_, err := check(bytes.NewReader(file), nil)
		require.Error(t, err, why...)
		require.Error(t, importError(t.Context(), file), why...)
	}
	right := of("k 0 0", "l 1 2", "l 2 2", "m 0 0")
	_, err := check(bytes.NewReader(right.write()), nil)
	require.NoError(t, err)
	require.NoError(t, importError(t.Context(), right.write()))
	for _, parts := range [][]string{
		{"k 1 1"}, {"k 2 2"}, {"k 0 2", "k 1 2"}, {"k -1 -1"}, {"k 1 0"}, // how none begins
		{"k 1 2"}, {"k 1 3", "k 2 3"}, // cut
		{"k 1 2", "l 2 2"}, {"k 1 2", "k 2 3", "k 3 3"}, {"k 1 3", "k 3 3"}, {"k 1 2", "k 1 2"}, {"k 1 2", "l 0 0"}, // torn
		{"k 1 2", "k 2 2", "k 3 2"},
	} {
		refusedBoth(of(parts...).write(), parts)
	}
	skipped := right.clone()
	for i := 2; i < 4; i++ { // versions 1, 2, 4, 5
		e := &skipped.events[i]
		e.Version, e.Prev = e.Version+1, skipped.events[i-1].Hash
		hash := e.link()
		e.Hash = hex.EncodeToString(hash[:])
	}
	refusedBoth(skipped.write(), "a version skipped")
	h := right.head(4)
	refusedBoth(append(right.write(), trailer(h)...), "two trailers")
	refusedBoth(append(right.write(), "{}\n"...), "a line behind the trailer")
	numberless := right.clone()
	numberless.events[3].Meta = "null,"
	refusedBoth(numberless.link().write(), "metadata that is no JSON")
}

// What the program says, with files as the ledger makes them.
func TestTheProgramSaysWhatItFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	export := realLog(t, 1, 5)
	apart := takeApart(t, export)
	known := apart.head(apart.ends()[4])
	at, err := time.Parse(time.RFC3339Nano, known.At)
	require.NoError(t, err)
	head := evidence.Head{Log: known.Log, Position: known.Position, Digest: known.Digest, At: at}
	written := func(h evidence.Head) []byte {
		text, err := json.MarshalIndent(h, "", "  ")
		require.NoError(t, err)
		return text
	}
	public, err := evidence.NewKey(filepath.Join(dir, "key"))
	require.NoError(t, err)
	_, err = evidence.NewKey(filepath.Join(dir, "other"))
	require.NoError(t, err)
	key, err := evidence.ReadKey(filepath.Join(dir, "key"))
	require.NoError(t, err)
	signed := evidence.Sign(head, key)
	postdated := signed
	postdated.At = postdated.At.Add(time.Microsecond)
	log, plain := file("log.jsonl", export), file("head.json", written(head))
	sealed, forged := file("signed.json", written(signed)), file("forged.json", written(postdated))
	nowhere := head // as one whose position was lost
	nowhere.Position = 0
	half := file("half.json", written(nowhere))
	pub, other := filepath.Join(dir, "key.pub"), filepath.Join(dir, "other.pub")

	facts := fmt.Sprintf("ok: log %s: events %d, commits 9, streams 8, digest %s", apart.log, len(apart.events), apart.head(len(apart.events)).Digest)
	of := fmt.Sprintf("; it contains the head of position %d", known.Position)
	for _, tc := range []struct {
		args        []string
		says, fails string
	}{
		{args: []string{log}, says: facts},
		{args: []string{"-"}, says: facts},
		{args: []string{"--head", plain, log}, says: facts + of},
		{args: []string{"--head", sealed, log}, says: facts + of},
		{args: []string{"--head", sealed, "--key", pub, log}, says: facts + of + ", signed with " + base64.StdEncoding.EncodeToString(public)},
		{args: []string{"--head", sealed, "--key", other, log}, fails: "it was not signed with the private half"},
		{args: []string{"--head", plain, "--key", pub, log}, fails: "it was not signed with the private half"},
		{args: []string{"--head", forged, "--key", pub, log}, fails: "it was not signed with the private half"},
		{args: []string{"--head", forged, log}, fails: "something was changed since the head was taken"},
		{args: []string{"--head", sealed, "--key", log, log}, fails: "it was not signed"},
		{args: []string{"--head", log, log}, fails: "head " + log},
		{args: []string{"--head", half, log}, fails: "and the head is of log"},
		{args: []string{"--head", "", log}, fails: "usage: chaincheck"}, // a variable that was not set
		{args: []string{"--head", filepath.Join(dir, "none"), log}, fails: "no such file"},
		{args: []string{plain}, fails: "position 1: this is no export in the format stockledger.log.v1"},
		{args: []string{filepath.Join(dir, "none")}, fails: "no such file"},
		{args: nil, fails: "usage: chaincheck"},
		{args: []string{log, log}, fails: "usage: chaincheck"},
		{args: []string{"--key", pub, log}, fails: "usage: chaincheck"},
		{args: []string{"--hat", log}, fails: "usage: chaincheck"},
	} {
		said, err := run(tc.args, bytes.NewReader(export))
		if tc.fails == "" {
			require.NoError(t, err, "%q", tc.args)
		} else {
			require.ErrorContains(t, err, tc.fails, "%q", tc.args)
		}
		require.Equal(t, tc.says, said, "%q", tc.args)
	}
}

// Files that were written once are right for ever.
func TestTheFilesInTheDocumentsAreRight(t *testing.T) {
	t.Parallel()
	said, err := run([]string{"--head", "testdata/monday.json", "--key", "testdata/ledger.key.pub", "testdata/ledger.jsonl"}, nil)
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/evidence.md")
	require.NoError(t, err)
	require.Contains(t, string(page), said, "the page shows true output")
	export, err := os.ReadFile("testdata/ledger.jsonl")
	require.NoError(t, err)
	require.NoError(t, importError(t.Context(), export))
	_, err = run([]string{"-"}, bytes.NewReader(bytes.Replace(export, []byte("-1,"), []byte("-2,"), 1)))
	require.Contains(t, string(page), "chaincheck: "+err.Error())
}

// The page describes the format so well that a checker can be written from it.
func TestTheCheckerInTheDocumentsAgrees(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 to run it with")
	}
	page, err := os.ReadFile("../../docs/evidence.md")
	require.NoError(t, err)
	_, program, _ := strings.Cut(string(page), "```python\n")
	program, _, _ = strings.Cut(program, "\n```")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	export := realLog(t, seed, 15)
	apart := takeApart(t, export)
	known := apart.head(len(apart.events))
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	file("checker.py", []byte(program))
	args := []string{"-c", `
import checker, json, sys
for name in sys.argv[1:]:
    try:
        print(json.dumps(checker.check(open(name, "rb").read())))
    except Exception as wrong:
        print("refused")`, file("export", export)}
	r := rand.New(rand.NewPCG(seed, 2))
	changed := make([][]byte, len(mutations))
	for i, m := range mutations {
		changed[i] = m.do(r, bytes.Clone(export), apart.clone())
		args = append(args, file(fmt.Sprint(i), changed[i]))
	}
	checkers := exec.CommandContext(t.Context(), python, args...)
	checkers.Dir = dir
	said, err := checkers.Output()
	require.NoError(t, err)
	verdicts := strings.Split(strings.TrimSpace(string(said)), "\n")
	require.Len(t, verdicts, 1+len(mutations))
	require.JSONEq(t, fmt.Sprintf(`{"log":%q,"position":%d,"digest":%q,"at":%q}`, known.Log, known.Position, known.Digest, known.At), verdicts[0])
	for i, m := range mutations {
		_, ours := check(bytes.NewReader(changed[i]), nil)
		require.Equal(t, ours != nil, verdicts[1+i] == "refused", "%s: chaincheck says %v: %s", m.name, ours, firstChange(export, changed[i]))
	}
}

// An auditor reads it in ten minutes, and nothing else.
func TestTheCheckerIsSmallAndAlone(t *testing.T) {
	t.Parallel()
	lines := 0
	for _, name := range []string{"main.go", "check.go"} {
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		lines += bytes.Count(source, []byte("\n"))
		parsed, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imported := range parsed.Imports {
			require.NotContains(t, imported.Path.Value, ".", "the standard library has no dots")
		}
	}
	require.Less(t, lines, 300)
}

// Whatever a file holds, it is refused or right; nothing breaks.
func FuzzCheck(f *testing.F) {
	export := realLog(f, 1, 3)
	f.Add(export)
	for _, line := range bytes.SplitAfter(export, []byte("\n")) {
		f.Add(line)
	}
	header := export[:bytes.IndexByte(export, '\n')+1]
	for _, odd := range []string{
		"", "\n", "null\n", "[]\n", "{}\n", "{\"head\":", `{"head":{}}` + "\n", `{"position":18446744073709551615}` + "\n",
		`{"prev":"zz"}` + "\n", `{"meta":"null"}` + "\n", strings.Repeat("[", 100_000) + "\n", "\xff\xfe\n",
	} {
		f.Add([]byte(odd))
		f.Add(append(bytes.Clone(header), odd...))
	}
	apart := takeApart(f, export)
	known := apart.head(len(apart.events))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := check(bytes.NewReader(file), &known)
		if (err == nil) != bytes.Equal(file, export) {
			t.Fatalf("%v\n%s", err, file)
		}
	})
}

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/natsapi"
	"github.com/stockledger/stockledger/internal/ports"
	"github.com/stockledger/stockledger/internal/race"
)

// Ten thousand real sales lines are imported over NATS, while the ledger and the
// import are killed again and again. Every line counts exactly once: each item
// has 5,000 less what was sold of it, with reason, document and date.
func TestRealSalesCountOnceWhateverIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds and more")
	}
	t.Parallel()
	sales := readSales(t, fewerUnderRace())
	newRetail(t, sales, inItsDirectory(t, sales)).countsOnceWhateverIsKilled()
}

// fewerUnderRace is how many lines are read: under the race detector, which sees no
// more in all of them, the first.
func fewerUnderRace() int {
	if race.On {
		return 1500
	}
	return 0
}

// countsOnceWhateverIsKilled imports the file. More arguments are for the items.
func (r *retail) countsOnceWhateverIsKilled(more ...string) {
	sales, part := r.sales, uint64(len(r.sales.lines)/5)
	items, adjustments := append(r.importItems(), more...), r.importAdjustments()

	// The ledger is killed while items come in, and the import goes on by itself.
	run := r.start(items...)
	r.killLedgerAt(r.recorded() + part)
	created := run.finish(r.T)
	require.Equal(r, len(sales.sold), created.settled(), "%+v", created)
	require.Equal(r, len(sales.lines)-len(sales.sold), created.Same)

	// Twice more while adjustments come in; then the import itself is killed, and
	// the ledger once more under the one that resumes. However long the ledger takes
	// to come back, and the test to hear of it, the import is not done by then.
	begun := r.recorded()
	run = r.start(adjustments...)
	r.killLedgerAt(begun + part)
	r.killLedgerAt(begun + 2*part)
	r.waitFor(begun + 3*part)
	require.NoError(r, run.cmd.Process.Kill())
	require.Error(r, run.cmd.Wait())
	run = r.start(adjustments...)
	r.killLedgerAt(begun + 4*part)
	adjusted := run.finish(r.T)
	require.Equal(r, len(sales.lines), adjusted.settled(), "%+v", adjusted)
	require.Positive(r, adjusted.Replayed, "the resumed import must have met rows of the one that was killed")
	require.Equal(r, sales.total.Negated().String(), adjusted.Adjustment.String())

	r.checkStock(sales)
	r.checkMovements(sales)

	// A part of it again, long after and by hand, is nothing new.
	r.head(301)
	repeated := r.start(append(adjustments, "--import-id", adjusted.Import)...).finish(r.T)
	require.Equal(r, 300, repeated.Replayed, "%+v", repeated)
	r.checkStock(sales)
}

// importItems are the arguments that create the items.
func (r *retail) importItems() []string {
	return append([]string{
		"import", "items", r.file, "--map", "id=stock_code", "--map", "sku=stock_code", "--map", "title=description",
		"--distinct", "sku", "--set", "location_id=warehouse", "--set", "stocked_quantity=5000",
	}, r.place.imports...)
}

// importAdjustments are the arguments that sell what was sold.
func (r *retail) importAdjustments() []string {
	return append([]string{
		"import", "adjustments", r.file, "--actor", "loader", "--map", "sku=stock_code", "--map", "adjustment=quantity", "--negate",
		"--map", "reference=invoice_no", "--map", "effective_at=invoice_date", "--set", "location_id=warehouse",
		"--reason-positive", "sale", "--reason-negative", "return",
	}, r.place.imports...)
}

// salesLines are what the file says, read without any code of the import.
type salesLines struct {
	lines []sale
	sold  map[string]events.Quantity // by stock code
	total events.Quantity
}

// A sale is what the ledger must know of a line.
type sale struct{ item, adjustment, reason, reference, date string }

func salesFile() string {
	if path := os.Getenv("STOCKLEDGER_TEST_DATA"); path != "" {
		return path
	}
	return filepath.Join("..", "..", "..", "shared", "data", "online-retail-10k.csv")
}

// readSales reads so many lines of the file, 0 being all.
func readSales(t *testing.T, most int) salesLines {
	t.Helper()
	file, err := os.Open(salesFile())
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the sales lines are not here (%v); say where they are with STOCKLEDGER_TEST_DATA", err)
	}
	require.NoError(t, err)
	defer file.Close()
	reader := csv.NewReader(file)
	_, err = reader.Read()
	require.NoError(t, err)
	s := salesLines{sold: make(map[string]events.Quantity)}
	for {
		cells, err := reader.Read()
		if errors.Is(err, io.EOF) || most > 0 && len(s.lines) == most {
			return s
		}
		require.NoError(t, err)
		quantity, err := events.ParseQuantity(cells[3])
		require.NoError(t, err)
		reason := "sale"
		if quantity.Sign() < 0 {
			reason = "return"
		}
		s.lines = append(s.lines, sale{cells[1], quantity.Negated().String(), reason, cells[0], cells[4]})
		s.sold[cells[1]] = s.sold[cells[1]].Plus(quantity)
		s.total = s.total.Plus(quantity)
	}
}

// A retailPlace is where the log of a retail is, and how its ledger is run.
type retailPlace struct {
	program string   // the ledger's
	serve   []string // arguments
	server  string   // where it answers, again and again
	imports []string // arguments
}

// inItsDirectory keeps the log in the data directory.
func inItsDirectory(t *testing.T, sales salesLines) retailPlace {
	t.Helper()
	listen := ports.Reserve(t) // the ledger must come back where it was
	return retailPlace{
		program: "stockledger", imports: fewAtOnce(sales),
		serve: []string{"--nats-listen", listen}, server: "nats://" + listen,
	}
}

// fewAtOnce are the rows that the import of a part of the file has under way, so
// that it lasts long enough to be killed.
func fewAtOnce(sales salesLines) []string {
	if len(sales.lines) < 5000 {
		return []string{"--in-flight", "8"}
	}
	return nil
}

// A retail is a ledger in a process of its own, and what is needed to import.
type retail struct {
	*testing.T
	sales salesLines
	place retailPlace
	file  string
	dir   string

	server *exec.Cmd
	client client
}

func newRetail(t *testing.T, sales salesLines, place retailPlace) *retail {
	t.Helper()
	r := &retail{T: t, sales: sales, place: place, dir: t.TempDir()}
	r.file = filepath.Join(r.dir, "sales.csv") // a copy, because the journal goes beside it
	text, err := os.ReadFile(salesFile())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.file, text, 0o600))
	r.head(len(sales.lines) + 1)
	r.startLedger()
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(r.dir, "serve.log"))
			t.Logf("the ledger logged:\n%s", text)
		}
		r.client.Close()
		require.NoError(t, r.server.Process.Signal(os.Interrupt))
		require.NoError(t, r.server.Wait(), "told to stop, the ledger must end with 0")
	})
	return r
}

// startLedger starts a ledger process and waits until it serves.
func (r *retail) startLedger() {
	readyFile := filepath.Join(r.dir, "ready.json")
	require.NoError(r, unannounce(readyFile))
	log, err := os.OpenFile(filepath.Join(r.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(r, err)
	defer log.Close()
	r.server = exec.Command(r.place.program, append([]string{
		"serve", "--data", filepath.Join(r.dir, "data"), "--ready-file", readyFile,
	}, r.place.serve...)...)
	r.server.Stderr = log
	r.server.Env = append(os.Environ(), "STOCKLEDGER_HTTP=127.0.0.1:0")
	require.NoError(r, r.server.Start())
	_, err = waitReady(readyFile)
	require.NoError(r, err)
	if r.client != nil {
		r.client.Close()
	}
	r.client, err = reach{Server: r.place.server, Prefix: natsapi.DefaultPrefix, Timeout: patienceInTests}.dial()
	require.NoError(r, err)
}

// head leaves the first lines of the file.
func (r *retail) head(lines int) {
	text, err := os.ReadFile(r.file)
	require.NoError(r, err)
	all := bytes.SplitAfterN(text, []byte("\n"), lines+1)
	require.NoError(r, os.WriteFile(r.file, bytes.Join(all[:lines], nil), 0o600))
}

// waitFor waits until the ledger has recorded so many events.
func (r *retail) waitFor(n uint64) {
	r.Helper()
	for deadline := time.Now().Add(patienceInTests); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if r.recorded() >= n {
			return
		}
	}
	require.Failf(r, "too slow", "%d events were not recorded within %s", n, patienceInTests)
}

// recorded is how many events the log has.
func (r *retail) recorded() uint64 {
	r.Helper()
	h, err := ask[health](r.Context(), r.client, statusQuery, nil)
	require.NoError(r, err)
	return h.Head
}

func (r *retail) count(command string) uint64 {
	r.Helper()
	p, err := ask[page](r.Context(), r.client, "list-commands", object{"command": command, "take": 0})
	require.NoError(r, err)
	return p.total()
}

// killLedgerAt kills the ledger without a warning, once it has recorded so many
// events, and starts another in its place.
func (r *retail) killLedgerAt(n uint64) {
	r.Helper()
	r.waitFor(n)
	require.NoError(r, r.server.Process.Kill())
	require.Error(r, r.server.Wait())
	r.startLedger()
}

// An importRun is an import in a process of its own.
type importRun struct {
	cmd         *exec.Cmd
	out, errors bytes.Buffer
}

func (r *retail) start(args ...string) *importRun {
	r.Helper()
	run := &importRun{cmd: exec.Command(r.place.program,
		append(args, "--json", "--timeout", "2s", "--retry-for", "60s", "--server", r.place.server)...)}
	run.cmd.Stdout, run.cmd.Stderr = &run.out, &run.errors
	require.NoError(r, run.cmd.Start())
	return run
}

// finish waits for the end of an import and returns its totals, all of which
// the ledger must confirm.
func (i *importRun) finish(t *testing.T) (sum totals) {
	t.Helper()
	require.NoError(t, i.cmd.Wait(), i.errors.String())
	require.NoError(t, json.Unmarshal(i.out.Bytes(), &sum))
	require.Zero(t, sum.Refused+sum.Bad+sum.Unknown, "%+v\n%s", sum, i.errors.String())
	require.NotNil(t, sum.Held)
	require.Equal(t, sum.settled(), *sum.Held)
	t.Logf("imported: %+v", sum)
	return sum
}

// caughtUp is the head of the log, once the read models have come so far.
func (r *retail) caughtUp() (head uint64) {
	require.Eventually(r, func() bool {
		h, err := ask[health](r.Context(), r.client, statusQuery, nil)
		if err != nil || h.verdict() != nil {
			return false
		}
		head = h.Head
		for _, m := range h.Models {
			if m.text("behind") != "0" {
				return false
			}
		}
		return true
	}, patienceInTests, 20*time.Millisecond)
	return head
}

// checkStock compares every item with 5,000 less what was sold of it.
func (r *retail) checkStock(sales salesLines) {
	r.Helper()
	head := r.caughtUp()
	stocked := make(map[string]string)
	for skip := 0; ; skip += 1000 {
		p, err := ask[page](r.Context(), r.client, "list-inventory-levels", object{"take": 1000, "skip": skip, "after": head})
		require.NoError(r, err)
		for _, level := range p.Rows {
			require.Equal(r, "warehouse", level.text("location_id"))
			stocked[level.text("inventory_item_id")] = level.text("stocked_quantity")
		}
		if len(p.Rows) < 1000 {
			break
		}
	}
	want := make(map[string]string)
	for item, sold := range sales.sold {
		want[item] = events.Units(5000).Minus(sold).String()
	}
	require.Equal(r, want, stocked)
	require.Equal(r, uint64(len(sales.lines)), r.count("adjust-inventory-levels"))
	require.Equal(r, uint64(len(sales.sold)), r.count("create-inventory-items"))
}

// checkMovements compares every line of the file with the movements that the
// ledger has, as often as each occurs.
func (r *retail) checkMovements(sales salesLines) {
	r.Helper()
	want := make(map[sale]int)
	for _, line := range sales.lines {
		want[line]++
	}
	ctx, cancel := context.WithTimeout(r.Context(), patienceInTests)
	defer cancel()
	got := make(map[sale]int)
	for after := uint64(0); ; {
		part, err := ask[struct {
			Rows []row `json:"rows"`
			More bool  `json:"more"`
		}](ctx, r.client, "stock-history", object{"location_id": "warehouse", "take": 1000, "after_position": after})
		require.NoError(r, err, fault.Code(err))
		for _, m := range part.Rows {
			after, err = strconv.ParseUint(m.text("position"), 10, 64)
			require.NoError(r, err)
			if m.text("kind") == "stock-adjusted" {
				got[sale{
					m.text("inventory_item_id"), m.text("delta_stocked"), m.text("reason"), m.text("reference"), m.text("effective_at"),
				}]++
				require.Equal(r, "loader", m.text("actor"))
			}
		}
		if !part.More {
			break
		}
	}
	require.Equal(r, want, got)
}

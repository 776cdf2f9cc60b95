package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/esdbstore"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/esdbdouble"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/natscluster"
)

// recorder appends commits to a log as commands would.
type recorder struct {
	ends map[string]events.Recorded
	made int
}

// record appends n commits of one to four events.
func (r *recorder) record(t *testing.T, log events.Store, n int) {
	t.Helper()
	if r.ends == nil {
		r.ends = make(map[string]events.Recorded)
	}
	var commits []events.Commit
	for range n {
		r.made++
		var c events.Commit
		for part := range 1 + r.made%4 {
			stream := events.SKUStream(fmt.Sprint((r.made + 7*part) % 500))
			meta := &events.Meta{CommandID: fmt.Sprint("key-", r.made), Recorded: time.Unix(int64(r.made), 0).UTC(), Actor: "Zoë"}
			if r.made%4 > 0 {
				meta.Part, meta.Parts = part+1, 1+r.made%4
			}
			before := r.ends[stream]
			e, err := events.Record(stream, before.Version, before.Hash, events.SKUClaimed{SKU: stream, ItemID: fmt.Sprint(r.made)}, meta)
			require.NoError(t, err)
			r.ends[stream] = e
			c = append(c, e)
		}
		commits = append(commits, c)
	}
	_, err := log.Append(t.Context(), commits...)
	require.NoError(t, err)
}

// recorded is a data directory with a log of n commits.
func recorded(t *testing.T, n int) (dir string, r *recorder) {
	t.Helper()
	dir, r = t.TempDir(), new(recorder)
	log, err := sqlitestore.Open(filepath.Join(dir, "log.db"))
	require.NoError(t, err)
	defer log.Close()
	r.record(t, log, n)
	return dir, r
}

// exportOf is a whole log in a data directory, as text.
func exportOf(t *testing.T, dir string) string {
	t.Helper()
	log, err := sqlitestore.Open(filepath.Join(dir, "log.db"))
	require.NoError(t, err)
	defer log.Close()
	var out bytes.Buffer
	_, err = evidence.Export(t.Context(), log, &out, nil)
	require.NoError(t, err)
	return out.String()
}

// copies runs copy-log, which must succeed.
func copies(t *testing.T, from, to string) (done copied) {
	t.Helper()
	code, out, errs := ran(t, "copy-log", "--from", from, "--to", to, "--json")
	require.Zero(t, code, errs)
	require.NoError(t, json.Unmarshal([]byte(out), &done))
	return done
}

// A sharedEngine is servers that can hold logs, for a test.
type sharedEngine struct {
	name string
	url  string // of a log
	open func(t *testing.T) events.Store
}

// sharedEngines are all there are.
func sharedEngines(t *testing.T) []sharedEngine {
	t.Helper()
	nats, double := natscluster.Start(t, 1).URL()+"/main", esdbdouble.Start(t).URL()+"&ledger=main"
	return []sharedEngine{{
		name: "NATS", url: nats, open: func(t *testing.T) events.Store {
			store, err := natsstore.Open(t.Context(), natsstore.Config{URL: nats})
			require.NoError(t, err)
			return store
		},
	}, {
		name: "EventStoreDB", url: double, open: func(t *testing.T) events.Store {
			store, err := esdbstore.Open(t.Context(), esdbstore.Config{URL: double})
			require.NoError(t, err)
			return store
		},
	}}
}

func TestALogGoesFromEngineToEngineAndBack(t *testing.T) {
	t.Parallel()
	for _, engine := range sharedEngines(t) {
		t.Run(engine.name, func(t *testing.T) {
			dir, _ := recorded(t, 500)
			there := copies(t, "sqlite:"+dir, engine.url)
			back := filepath.Join(t.TempDir(), "back")
			again := copies(t, engine.url, "sqlite:"+back)
			require.Equal(t, there, again)
			require.Equal(t, there.Head.Position, there.Added)
			require.Equal(t, exportOf(t, dir), exportOf(t, back), "the same log, to the byte")
			code, out, errs := ran(t, "head", "--data", dir, "--json")
			require.Zero(t, code, errs)
			var head evidence.Head
			require.NoError(t, json.Unmarshal([]byte(out), &head))
			require.Equal(t, head, there.Head)

			require.Zero(t, copies(t, "sqlite:"+dir, engine.url).Added, "there is nothing left to do")
			require.Zero(t, copies(t, engine.url, "sqlite:"+back).Added)
		})
	}
}

// What the ledger recorded on the other engine comes back to where it was before.
func TestACopyGoesOnWhereTheTargetEnds(t *testing.T) {
	t.Parallel()
	for _, engine := range sharedEngines(t) {
		t.Run(engine.name, func(t *testing.T) {
			dir, r := recorded(t, 300)
			first := copies(t, "sqlite:"+dir, engine.url)
			store := engine.open(t)
			r.record(t, store, 200)
			require.NoError(t, store.Close())
			back := copies(t, engine.url, "sqlite:"+dir)
			require.Equal(t, first.Head.Position, back.Found)
			require.Positive(t, back.Added)
			other := t.TempDir()
			copies(t, engine.url, "sqlite:"+other)
			require.Equal(t, exportOf(t, other), exportOf(t, dir))
		})
	}
}

// A copy that is killed at any moment has left a beginning of the log, and goes on
// from there.
func TestAKilledCopyGoesOn(t *testing.T) {
	t.Parallel()
	const kills = 2
	dir, _ := recorded(t, 3000)
	want := exportOf(t, dir)
	killed := func(t *testing.T, to string, size func() uint64) {
		for i := range kills {
			before := size()
			copying := exec.Command("stockledger", "copy-log", "--from", "sqlite:"+dir, "--to", to)
			require.NoError(t, copying.Start())
			grown := func() bool { return size() > before }
			require.Eventually(t, grown, patienceInTests, 2*time.Millisecond, "the copy does not begin")
			require.NoError(t, copying.Process.Kill())
			_ = copying.Wait()
			t.Logf("kill %d: the target went from %d to %d", i+1, before, size())
		}
	}
	t.Run("SQLite", func(t *testing.T) {
		to := filepath.Join(t.TempDir(), "to")
		killed(t, "sqlite:"+to, func() (sum uint64) {
			for _, name := range []string{unfinishedCopy, unfinishedCopy + "-wal", "log.db"} {
				if info, err := os.Stat(filepath.Join(to, name)); err == nil {
					sum += uint64(info.Size())
				}
			}
			return sum
		})
		copies(t, "sqlite:"+dir, "sqlite:"+to)
		require.Equal(t, want, exportOf(t, to))
	})
	for _, engine := range sharedEngines(t) {
		t.Run(engine.name, func(t *testing.T) {
			copies(t, "sqlite:"+empty(t, dir), engine.url)
			watcher := engine.open(t)
			defer watcher.Close()
			killed(t, engine.url, func() uint64 {
				head, err := watcher.Head(context.Background())
				require.NoError(t, err)
				return head
			})
			done := copies(t, "sqlite:"+dir, engine.url)
			require.Positive(t, done.Found)
			back := filepath.Join(t.TempDir(), "back")
			copies(t, engine.url, "sqlite:"+back)
			require.Equal(t, want, exportOf(t, back))
		})
	}
}

// empty is a data directory with a log of the identity of another, and nothing in
// it yet.
func empty(t *testing.T, of string) string {
	t.Helper()
	log, err := sqlitestore.Open(filepath.Join(of, "log.db"))
	require.NoError(t, err)
	id := log.LogID()
	require.NoError(t, log.Close())
	dir := t.TempDir()
	made, err := sqlitestore.Create(filepath.Join(dir, "log.db"), id)
	require.NoError(t, err)
	require.NoError(t, made.Close())
	return dir
}

// A ledger goes on with another engine on the read models that it has: nothing is
// built anew, and it knows the commands that it carried out before.
func TestReadModelsStayWhenALogMoves(t *testing.T) {
	t.Parallel()
	for _, engine := range sharedEngines(t) {
		t.Run(engine.name, func(t *testing.T) {
			const sale = `{"inventory_item_id":"mug","location_id":"berlin","adjustment":-1}`
			dir := t.TempDir()
			var before, after string
			served(t, func(at ready) {
				code, _, errs := ran(t, "cmd", "create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"berlin","stocked_quantity":5}]}`, "--server", at.HTTP)
				require.Zero(t, code, errs)
				code, out, errs := ran(t, "cmd", "adjust-inventory-levels", sale, "--idempotency-key", "sale-1", "--server", at.HTTP)
				require.Zero(t, code, errs)
				require.Contains(t, out, "accepted at position ")
				before = madeAt(t, at)
			}, "--data", dir, "--nats-listen", "127.0.0.1:0")
			copies(t, "sqlite:"+dir, engine.url)
			old := t.TempDir()
			require.NoError(t, os.Rename(filepath.Join(dir, "log.db"), filepath.Join(old, "log.db")))
			args := []string{"--data", dir, "--store", engine.url}
			if engine.name != "NATS" { // which carries the commands, too
				args = append(args, "--nats-listen", "127.0.0.1:0")
			}
			served(t, func(at ready) {
				code, out, errs := ran(t, "cmd", "adjust-inventory-levels", sale, "--idempotency-key", "sale-1", "--server", at.HTTP)
				require.Zero(t, code, errs)
				require.Contains(t, out, "replayed: ")
				code, out, errs = ran(t, "cmd", "adjust-inventory-levels", sale, "--idempotency-key", "sale-2", "--server", at.HTTP)
				require.Zero(t, code, errs)
				require.Regexp(t, `mug +berlin +3 `, out)
				after = madeAt(t, at)

				// While it leads, nothing is copied to where its log is, and a copy of
				// it says that it goes on.
				code, _, errs = ran(t, "copy-log", "--from", "sqlite:"+old, "--to", engine.url)
				require.Equal(t, exitRefused, code)
				require.Contains(t, errs, "code: target_in_use")
				code, _, errs = ran(t, "copy-log", "--from", engine.url, "--to", "sqlite:"+t.TempDir())
				require.Zero(t, code, errs)
				require.Contains(t, errs, "a ledger goes on with the source")
			}, args...)
			require.Equal(t, before, after)
			require.False(t, copies(t, engine.url, "sqlite:"+filepath.Join(t.TempDir(), "back")).SourceInUse)

			missing := strings.Replace(engine.url, "main", "other", 1)
			code, _, errs := ran(t, "copy-log", "--from", missing, "--to", "sqlite:"+t.TempDir())
			require.Equal(t, exitFailed, code)
			require.Contains(t, errs, "there is no ledger of that name")
		})
	}
}

// served serves a ledger in a process of its own while do is at it.
func served(t *testing.T, do func(ready), args ...string) {
	t.Helper()
	file, said := filepath.Join(t.TempDir(), "ready.json"), new(written)
	serving := exec.Command("stockledger", append([]string{"serve", "--http", "127.0.0.1:0", "--ready-file", file}, args...)...)
	serving.Stderr = said
	require.NoError(t, serving.Start())
	defer func() {
		require.NoError(t, serving.Process.Signal(os.Interrupt))
		require.NoError(t, serving.Wait(), "%s", said)
	}()
	at, err := waitReady(file)
	require.NoError(t, err, "%s", said)
	do(at)
}

// madeAt is what was built of the read models, and when.
func madeAt(t *testing.T, at ready) (made string) {
	t.Helper()
	code, out, errs := ran(t, "generations", "--server", at.HTTP, "--json")
	require.Zero(t, code, errs)
	var all struct {
		Generations []struct {
			Model      string
			Generation int
			Made       time.Time `json:"made_at"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &all), out)
	require.NotEmpty(t, all.Generations, out)
	return fmt.Sprintf("%+v", all.Generations)
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/natsapi"
)

// A shop is a ledger in a process of its own.
type shop struct {
	*testing.T
	dir    string
	server *exec.Cmd
	at     ready
}

// openShop starts a ledger; it is closed after the test.
func openShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{T: t, dir: t.TempDir()}
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *shop) open() {
	s.Helper()
	file := filepath.Join(s.dir, "ready.json")
	require.NoError(s, unannounce(file))
	s.server = exec.Command("stockledger", "serve", "--data", filepath.Join(s.dir, "data"), "--nats-listen", "127.0.0.1:0", "--ready-file", file)
	s.server.Env = append(os.Environ(), "STOCKLEDGER_HTTP=127.0.0.1:0")
	require.NoError(s, s.server.Start())
	var err error
	s.at, err = waitReady(file)
	require.NoError(s, err)
}

// close stops the ledger; open starts it again.
func (s *shop) close() {
	require.NoError(s, s.server.Process.Signal(os.Interrupt))
	require.NoError(s, s.server.Wait())
}

// program is a run of the program against the ledger, which ends at the latest
// when patience does.
func (s *shop) program(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(s.Context(), patienceInTests)
	s.Cleanup(cancel)
	return exec.CommandContext(ctx, "stockledger", append(args, "--server", s.at.NATS)...)
}

// run runs the program, which must succeed, and returns what it prints.
func (s *shop) run(args ...string) string {
	s.Helper()
	out, err := s.program(args...).CombinedOutput()
	require.NoError(s, err, "%v\n%s", args, out)
	return string(out)
}

// Watched, an answer comes again when it changed, and only then; ^C ends it well.
func TestAnAnswerIsWatched(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run("cmd", "create-inventory-items", `[{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]},
		{"id":"cup","location_levels":[{"location_id":"paris","stocked_quantity":3}]}]`)
	adjust := func(item, by string) {
		s.run("cmd", "adjust-inventory-levels", `{"inventory_item_id":"`+item+`","location_id":"paris","adjustment":`+by+`}`)
	}

	watch := s.program("get", "levels", "inventory_item_id=mug", "--json", "--watch=10ms")
	pipe, err := watch.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	answers := bufio.NewScanner(pipe)
	stocked := func() string {
		require.True(t, answers.Scan(), "the watch ended: %v", answers.Err())
		var p page
		require.NoError(t, json.Unmarshal(answers.Bytes(), &p), "each answer is a line of JSON")
		require.Len(t, p.Rows, 1)
		return p.Rows[0].text("stocked_quantity")
	}
	require.Equal(t, "3", stocked())
	adjust("mug", "-1")
	require.Equal(t, "2", stocked())
	adjust("cup", "-1") // of which the watch must say nothing
	adjust("mug", "5")
	require.Equal(t, "7", stocked())

	require.NoError(t, watch.Process.Signal(os.Interrupt))
	require.False(t, answers.Scan(), "nothing comes after ^C, but %s", answers.Text())
	require.NoError(t, watch.Wait())
}

// The past as of now moves on with every event; it is shown again only when it
// holds something else.
func TestThePastIsWatched(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run("cmd", "create-inventory-items", `[{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]},{"id":"cup"}]`)
	watch := s.program("as-of", "mug", "--at", "now", "--clock", "effective", "--json", "--watch=10ms")
	pipe, err := watch.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	answers := bufio.NewScanner(pipe)
	for _, want := range []string{"3", "8"} {
		require.True(t, answers.Scan())
		var was past
		require.NoError(t, json.Unmarshal(answers.Bytes(), &was))
		require.Equal(t, want, was.Stocked.String())
		s.run("cmd", "create-inventory-levels", `{"inventory_item_id":"cup","location_id":"`+want+`"}`)
		s.run("cmd", "adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"paris","adjustment":5}`, "--idempotency-key", "once")
	}
	require.NoError(t, watch.Process.Signal(os.Interrupt))
	require.False(t, answers.Scan(), answers.Text())
	require.NoError(t, watch.Wait())
}

// watch starts a watch, whose answers are lines of JSON; ^C ends it.
func (s *shop) watch(args ...string) (answers *bufio.Scanner, interrupt func()) {
	s.Helper()
	watch := s.program(append(args, "--json", "--watch=10ms")...)
	pipe, err := watch.StdoutPipe()
	require.NoError(s, err)
	require.NoError(s, watch.Start())
	return bufio.NewScanner(pipe), func() {
		require.NoError(s, watch.Process.Signal(os.Interrupt))
		require.NoError(s, watch.Wait())
	}
}

// A refusal is in no event.
func TestRefusalsAreWatched(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	all, interrupt := s.watch("get", "refusals")
	defer interrupt()
	counts, interrupt := s.watch("get", "refusals", "--by-day")
	defer interrupt()
	for n := range 3 {
		for got := -1; got != n; { // counts may be there before details are
			require.True(t, all.Scan(), "the watch ended: %v", all.Err())
			var p page
			require.NoError(t, json.Unmarshal(all.Bytes(), &p))
			got = len(p.Rows)
		}
		for got := ""; got != strconv.Itoa(n); {
			require.True(t, counts.Scan(), "the watch ended: %v", counts.Err())
			var p page
			require.NoError(t, json.Unmarshal(counts.Bytes(), &p))
			got = "0"
			if len(p.Rows) > 0 {
				got = p.Rows[0].text("count")
			}
		}
		require.Error(t, s.program("cmd", "adjust-inventory-levels", `{"inventory_item_id":"mug","location_id":"rome","adjustment":1}`).Run())
	}
}

// A moment ago moves on by itself.
func TestAMovingMomentIsWatched(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run("cmd", "create-inventory-items", `{"id":"mug","location_levels":[{"location_id":"paris","stocked_quantity":3}]}`)
	becomes := func(field, want string, args ...string) {
		answers, interrupt := s.watch(args...)
		defer interrupt()
		got := ""
		for got != want && answers.Scan() {
			var r row
			require.NoError(t, json.Unmarshal(answers.Bytes(), &r))
			got = r.text(field)
		}
		require.Equal(t, want, got, "%v", answers.Err())
	}
	becomes("stocked_quantity", "3", "as-of", "mug", "--at", "2s ago")
	s.run("cmd", "create-inventory-items", `{"id":"cup","location_levels":[{"location_id":"paris","stocked_quantity":4}]}`)
	becomes("value", "4", "explain", "cup", "--as-of", "2s ago")
	s.run("cmd", "create-inventory-items", `{"id":"pot"}`)
	becomes("count", "1", "get", "items", "created_at<2s ago", "pot")
	s.run("cmd", "create-inventory-items", `{"id":"jar","location_levels":[{"location_id":"paris"},{"location_id":"rome"}]}`)
	becomes("more", "true", "history", "--item", "jar", "--until", "2s ago", "--take", "1")
}

// What is shown contains the event that it is shown for, or it would stay out of
// date until the next one.
func TestAWatchWaitsForWhatItSawHappen(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.run("cmd", "create-inventory-items", `{"id":"mug"}`)
	conn, err := reach{Server: s.at.NATS, Prefix: natsapi.DefaultPrefix, Timeout: patienceInTests}.dial()
	require.NoError(t, err)
	defer conn.Close()
	var contains uint64
	o := observer{ledger: conn, out: io.Discard, watched: watched{show: func(_ context.Context, _ io.Writer, after uint64) error {
		contains = after
		return nil
	}}}
	require.NoError(t, o.look(t.Context()))
	h, err := ask[health](t.Context(), conn, statusQuery, nil)
	require.NoError(t, err)
	require.Positive(t, h.Head)
	require.Equal(t, h.Head, contains)
}

func TestAnIntervalIsReadWithAndWithoutADuration(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	for _, args := range [][]string{
		{"get", "items", "--watch=soon"}, {"get", "items", "--watch=-1s"},
	} {
		out, err := s.program(args...).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "is not how long to wait; write it like 2s or 500ms", "%v", args)
	}
	for _, args := range [][]string{
		{"get", "items", "--watch"}, {"get", "items", "--watch", "20ms"}, {"get", "items", "--watch=20ms", "a"}, {"get", "items", "--watch", "--json"},
	} {
		watch := s.program(args...)
		pipe, err := watch.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, watch.Start())
		require.True(t, bufio.NewScanner(pipe).Scan(), "%v", args)
		require.NoError(t, watch.Process.Signal(os.Interrupt))
		require.NoError(t, watch.Wait(), "%v", args)
	}
}

package projections

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
)

// numbers is a fold of positions into a table, with a bug.
type numbers struct {
	bug  func(position uint64, writing bool) error
	held []uint64
}

func (n *numbers) apply(e *event) error {
	n.held = append(n.held, e.Position)
	return n.bug(e.Position, false)
}

func (n *numbers) flush(w *writer) error {
	for _, position := range n.held {
		if err := n.bug(position, true); err != nil {
			return err
		}
		if err := w.exec(`INSERT INTO numbers VALUES (?)`, int64(position)); err != nil {
			return err
		}
	}
	n.forget()
	return nil
}

func (n *numbers) trim()   {}
func (n *numbers) forget() { n.held = nil }

// Whatever goes wrong with an event, and whenever, those before it are in the
// file, those from it on are not, and the position says so.
func TestModelStopsBeforeTheBadEvent(t *testing.T) {
	bad := func(position uint64, when bool, how func() error) func(uint64, bool) error {
		return func(p uint64, writing bool) error {
			if p == position && writing == when {
				return how()
			}
			return nil
		}
	}
	fails := func() error { return fmt.Errorf("no") }
	panics := func() error { panic("ouch") }
	for _, tc := range []struct {
		name string
		bug  func(uint64, bool) error
		at   uint64
		says string
	}{
		{"the first cannot be applied", bad(1, false, fails), 0, "event 1, a.b.v1 item-x@1: no"},
		{"one cannot be applied", bad(7, false, fails), 6, "event 7, a.b.v1 item-x@7: no"},
		{"one cannot be applied, in the second batch", bad(11, false, fails), 10, "event 11"},
		{"one cannot be written", bad(7, true, fails), 6, "event 7, a.b.v1 item-x@7: no"},
		{"the fold panics", bad(7, false, panics), 6, "panic: ouch"},
		{"the fold panics when it writes", bad(12, true, panics), 11, "panic: ouch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := definition{
				name: "numbers", version: 3,
				parts: []part{{schema: `CREATE TABLE numbers (n INTEGER PRIMARY KEY)`, fold: func(*file) fold { return &numbers{bug: tc.bug} }}},
			}
			m, err := openModel(t.Context(), Config{Dir: t.TempDir(), Store: memstore.New(), Logger: slog.New(slog.DiscardHandler)}, d, entry{Number: 1, Version: 3, File: "numbers.v3.db"}, 0)
			require.NoError(t, err)
			defer m.file.close()
			events := numbered(12)
			m.queue <- events[:10]
			close(m.queue)
			m.run(t.Context().Done())
			m.queue = make(chan []*event, queued)
			m.queue <- events[4:] // what it has comes again
			close(m.queue)
			m.run(t.Context().Done())

			require.Equal(t, tc.at, m.position())
			require.ErrorContains(t, m.stopped(), tc.says)
			var n, top, at uint64
			row := m.file.db.QueryRowContext(t.Context(), `SELECT count(*), coalesce(max(n), 0), (SELECT position FROM checkpoint) FROM numbers`)
			require.NoError(t, row.Scan(&n, &top, &at))
			require.Equal(t, []uint64{tc.at, tc.at, tc.at}, []uint64{n, top, at})
		})
	}
}

// A gap in the log stops a model, too.
func TestModelStopsAtAGap(t *testing.T) {
	d := definition{
		name: "numbers", version: 3,
		parts: []part{{schema: `CREATE TABLE numbers (n INTEGER PRIMARY KEY)`, fold: func(*file) fold { return &numbers{bug: func(uint64, bool) error { return nil }} }}},
	}
	m, err := openModel(t.Context(), Config{Dir: t.TempDir(), Store: memstore.New(), Logger: slog.New(slog.DiscardHandler)}, d, entry{Number: 1, Version: 3, File: "numbers.v3.db"}, 0)
	require.NoError(t, err)
	defer m.file.close()
	all := numbered(5)
	m.advance(t.Context().Done(), all[:2])
	m.advance(t.Context().Done(), all[3:])
	require.Equal(t, uint64(2), m.position())
	require.ErrorContains(t, m.stopped(), "the log yielded position 4 after 2")
}

// full allows the file of a model so many pages.
func (m *model) full(t *testing.T, pages int) {
	t.Helper()
	require.NoError(t, m.file.writer.exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)))
}

// A full disk is no event's fault: the model keeps its events, tries again after
// growing pauses, says so once, and goes on when there is room. An event that is
// to blame stops it then, and not before.
func TestModelWaitsForItsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var m *model
		var err error
		var room atomic.Bool
		bug := func(position uint64, _ bool) error {
			switch {
			case position == 2 && room.Load():
				m.full(t, 1_000_000) // here, where the file is in use
			case position == 5_001:
				return fmt.Errorf("no")
			}
			return nil
		}
		d := definition{
			name: "numbers", version: 3,
			parts: []part{{schema: `CREATE TABLE numbers (n INTEGER PRIMARY KEY)`, fold: func(*file) fold { return &numbers{bug: bug} }}},
		}
		cfg := Config{Dir: t.TempDir(), Store: memstore.New(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
		m, err = openModel(t.Context(), cfg, d, entry{Number: 1, Version: 3, File: "numbers.v3.db"}, 0)
		require.NoError(t, err)
		defer m.file.close()
		closing := make(chan struct{})
		require.True(t, m.advance(closing, numbered(1)))
		m.full(t, 1) // SQLite makes it what there is

		began, done := time.Now(), make(chan bool)
		go func() { done <- m.advance(closing, numbered(6_000)) }()
		for _, after := range []time.Duration{50, 150, 350, 750, 1550, 3150, 6350, 12750, 22750, 32750} { // in every pause
			time.Sleep(time.Until(began.Add(after * time.Millisecond)))
			synctest.Wait()
			_, changed := m.watch()
			<-changed // the next attempt
			require.ErrorContains(t, m.now().wait, "full")
			require.NoError(t, m.stopped())
			require.Equal(t, uint64(1), m.position())
		}
		require.Equal(t, 42*time.Second+700*time.Millisecond, time.Since(began).Round(time.Millisecond))
		require.Equal(t, 1, strings.Count(log.String(), "\n"))
		for _, word := range []string{"level=ERROR", "model=numbers", "position=1", "full", "tries again"} {
			require.Contains(t, log.String(), word)
		}

		room.Store(true)
		require.True(t, <-done)
		require.Equal(t, uint64(5_000), m.position())
		require.NoError(t, m.now().wait)
		require.ErrorContains(t, m.stopped(), "event 5001, a.b.v1 item-x@5001: no")
		require.Equal(t, 2, strings.Count(log.String(), "\n"))
	})
}

// Closing ends the wait, and what comes after the events that were given up is
// not folded.
func TestModelThatWaitsIsClosedAtOnce(t *testing.T) {
	d := definition{
		name: "numbers", version: 3,
		parts: []part{{schema: `CREATE TABLE numbers (n INTEGER PRIMARY KEY)`, fold: func(*file) fold { return &numbers{bug: func(uint64, bool) error { return nil }} }}},
	}
	m, err := openModel(t.Context(), Config{Dir: t.TempDir(), Store: memstore.New(), Logger: slog.New(slog.DiscardHandler)}, d, entry{Number: 1, Version: 3, File: "numbers.v3.db"}, 0)
	require.NoError(t, err)
	defer m.file.close()
	m.full(t, 1)
	all := numbered(6_000)
	m.queue <- all[:5_000]
	closing, ended := make(chan struct{}), make(chan struct{})
	go func() {
		m.run(closing)
		close(ended)
	}()
	for now, changed := m.watch(); now.wait == nil; now, changed = m.watch() {
		<-changed
	}
	close(closing)
	m.queue <- all[5_000:]
	close(m.queue)
	<-ended
	require.Equal(t, uint64(0), m.position())
	require.NoError(t, m.stopped())
}

func numbered(n int) []*event {
	var all []*event
	for i := range n {
		position := uint64(i + 1)
		all = append(all, &event{Recorded: events.Recorded{Position: position, Version: position, Stream: "item-x", Type: "a.b.v1"}})
	}
	return all
}

package projections

import (
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stockledger/stockledger/events"
)

// Connect opens a file as the models do.
func Connect(path string) driver.Connector { return connector{dsn(path)} }

// Holding is cfg with no more than so many rows of a table in memory.
func (cfg Config) Holding(rows int) Config {
	cfg.held = rows
	return cfg
}

// Finding is cfg with lists that take so many rows for few.
func (cfg Config) Finding(few int) Config {
	cfg.few = few
	return cfg
}

// Within is cfg with queries that may take so long.
func (cfg Config) Within(longest time.Duration) Config {
	cfg.longest = longest
	return cfg
}

// Far is cfg with new files that do without indexes when so many events behind.
func (cfg Config) Far(behind int) Config {
	cfg.far = behind
	return cfg
}

// Stuck is cfg with models that are stuck after so long.
func (cfg Config) Stuck(after time.Duration) Config {
	cfg.stuck = after
	return cfg
}

// Ploughing is cfg with models that fold so many events at once when they are far
// behind.
func (cfg Config) Ploughing(many int) Config {
	cfg.ploughed = many
	return cfg
}

// Raised is cfg with an inventory model of version 2. Its folds are those of
// version 1, which are still there, or else named fitting if they can go on with
// its files.
func (cfg Config) Raised(superseded bool, adapts map[int]string) Config {
	models := cfg.lineages()
	inventory := &models[ofInventory]
	if inventory.before = nil; superseded {
		inventory.before = []definition{inventory.now}
	}
	inventory.now.version, inventory.now.adapts = 2, adapts
	cfg.models = &models
	return cfg
}

// Failing is cfg with an inventory model that fails to apply the event at a
// position, or panics.
func (cfg Config) Failing(position uint64, how func() error) Config {
	models := cfg.lineages()
	d := &models[ofInventory].now
	d.parts = slices.Concat(d.parts, []part{{fold: func(*file) fold { return failing{position, how} }}})
	cfg.models = &models
	return cfg
}

// Mended is cfg with an inventory model of version 2, of which version 1 is cfg's.
func (cfg Config) Mended() Config {
	broken := cfg.lineages()
	cfg.models = nil
	models := cfg.lineages()
	models[ofInventory].now.version = 2
	models[ofInventory].before = []definition{broken[ofInventory].now}
	cfg.models = &models
	return cfg
}

// Filling is cfg with an inventory model for whose file of that name the disk is
// full from the second event on, until there is room.
func (cfg Config) Filling(name string, room func() bool) Config {
	models := cfg.lineages()
	d := &models[ofInventory].now
	d.parts = slices.Concat(d.parts, []part{{fold: func(f *file) fold {
		return failing{2, func() error {
			if filepath.Base(f.path) != name {
				return nil
			}
			pages := 1 // SQLite makes it what there is
			if room() {
				pages = 1_000_000
			}
			return f.writer.exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
		}}
	}}})
	cfg.models = &models
	return cfg
}

type failing struct {
	position uint64
	how      func() error
}

func (f failing) apply(e *event) error {
	if e.Position == f.position {
		return f.how()
	}
	return nil
}
func (failing) flush(*writer) error { return nil }
func (failing) trim()               {}
func (failing) forget()             {}

// How quantities are stored that rows are found by.
var (
	QuantityKey = quantityKey
	ParseKey    = parseKey
)

// HoldPages takes every connection that pages of levels are read through, each
// inside a page, until the test ends.
func (m *Models) HoldPages(t *testing.T) {
	t.Helper()
	m, done, err := m.pin(ofInventory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	for range readers {
		rows, err := m.inventory.file.db.QueryContext(t.Context(), `SELECT position FROM checkpoint`)
		if err != nil || !rows.Next() {
			t.Fatal(err, rows.Err())
		}
		t.Cleanup(func() { _ = rows.Close() })
	}
}

// Again is cfg with an inventory model of one more version.
func (cfg Config) Again() Config {
	models := cfg.lineages()
	inventory := &models[ofInventory]
	inventory.before = slices.Concat(inventory.before, []definition{inventory.now})
	inventory.now.version++
	cfg.models = &models
	return cfg
}

// Slow is cfg with an inventory model for whose file of that name an event of a
// location takes until a channel is closed. Another one is closed when it begins to.
func (cfg Config) Slow(name, location string, begun chan<- struct{}, until <-chan struct{}) Config {
	models := cfg.lineages()
	d := &models[ofInventory].now
	d.parts = slices.Concat(d.parts, []part{{fold: func(f *file) fold {
		return slow{func(e *event) {
			if filepath.Base(f.path) == name && e.Stream == events.LocationStream(location) {
				close(begun)
				<-until
			}
		}}
	}}})
	cfg.models = &models
	return cfg
}

type slow struct{ wait func(*event) }

func (s slow) apply(e *event) error {
	s.wait(e)
	return nil
}
func (slow) flush(*writer) error { return nil }
func (slow) trim()               {}
func (slow) forget()             {}

// JoinsAnEndedFeed has a feed that has lost its last model end, and go on as it
// does then when nobody else is the main feed.
func (m *Models) JoinsAnEndedFeed() bool {
	m.feeding.Lock()
	main := m.main
	m.main = nil
	f := &feed{cancel: func() {}}
	m.end(f)
	m.feeding.Unlock()
	m.join(f)
	m.feeding.Lock()
	defer m.feeding.Unlock()
	joined := m.main == f
	m.main = main
	return joined
}

// HoldAll has the models that are served fold nothing until release is called.
func (m *Models) HoldAll(t testing.TB) (release func()) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lines {
		l.serves.hold()
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, l := range m.lines {
			l.serves.release()
		}
	}
}

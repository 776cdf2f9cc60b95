package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stockledger/stockledger/internal/figures"
)

// TableConfig says how the table of what is aimed at is taken.
type TableConfig struct {
	Runs     int           `json:"runs"`
	Rows     []string      `json:"rows,omitempty"` // ids; none is all of them
	Callers  int           `json:"callers"`
	Items    int           `json:"items"`
	Duration time.Duration `json:"-"`
	Small    uint64        `json:"small_log"` // events
	Large    uint64        `json:"large_log"`
	Memory   MemoryConfig  `json:"memory"`
}

// Whole is the table as it is aimed at.
func Whole() TableConfig {
	return TableConfig{
		Runs: 3, Callers: 64, Items: 10_000, Duration: 4 * time.Second, Small: 120_000, Large: 1_000_000,
		Memory: MemoryConfig{Items: 1_000_000, Levels: 3, Callers: 64, Adjust: 20 * time.Second},
	}
}

// Quick is a table of the same shape that says nothing about speed.
func Quick() TableConfig {
	return TableConfig{
		Runs: 1, Callers: 8, Items: 20, Duration: 200 * time.Millisecond, Small: 200, Large: 400,
		Memory: MemoryConfig{Items: 100, Levels: 3, Callers: 8, Adjust: 200 * time.Millisecond},
	}
}

// A Table says what is reached of what is aimed at.
type Table struct {
	Machine Machine           `json:"machine"`
	Config  TableConfig       `json:"config"`
	Rows    []Row             `json:"rows"`
	LeftOut map[string]string `json:"left_out,omitempty"`
	Memory  *Memory           `json:"memory,omitempty"`
	// Took is how long all of it took, in seconds.
	Took float64 `json:"took_seconds"`
}

// A Row is one thing that is aimed at. Figures are medians of the runs; the ratio is
// the median of the ratios of the runs, in each of which both sides were measured one
// after the other.
type Row struct {
	ID      string    `json:"id"`
	What    string    `json:"what"`
	Ours    float64   `json:"ours"`
	Unit    string    `json:"unit"`
	Than    string    `json:"beside,omitempty"` // what stands beside it
	Beside  float64   `json:"beside_figure,omitempty"`
	Ratio   float64   `json:"ratio,omitempty"`
	Ratios  []float64 `json:"ratios,omitempty"`
	Aim     string    `json:"aim,omitempty"`
	Reached *bool     `json:"reached,omitempty"` // nil: nothing is aimed at, or it was not measured
}

// aim is what a row is to reach, of the ratio where something stands beside it.
type aim struct {
	id, what     string
	ours, beside string // names of values, PART.VALUE
	unit, than   string
	least, most  float64 // 0 is no bound
	once         bool    // measured in the first run only
}

// aims are the rows. Design has the bounds. What is in braces is of the configuration.
var aims = []aim{
	{id: "file", what: "durable adjustments, Go API, {callers} callers, {items} items", ours: "spread.rate", unit: "/s", beside: "file.rate", than: "a group-committed file of the same bytes", least: 0.25},
	{id: "postgres", what: "durable adjustments, Go API, {callers} callers, {items} items", ours: "spread.rate", unit: "/s", beside: "postgres.rate", than: "a careful PostgreSQL transaction, {callers} clients", least: 2.5},
	{id: "postgres-one", what: "durable adjustments, Go API, {callers} callers, {items} items", ours: "spread.rate", unit: "/s", beside: "postgres-one.rate", than: "the PostgreSQL transaction in one statement", least: 2.5},
	{id: "hot", what: "adjustments of one hot item", ours: "hot.rate", unit: "/s", beside: "spread.rate", than: "{items} items", least: 0.9},
	{id: "hot-postgres", what: "adjustments of one hot item", ours: "hot.rate", unit: "/s", beside: "hot-postgres.rate", than: "PostgreSQL in one statement, one hot row"},
	{id: "nats", what: "adjustments over NATS, request and reply", ours: "nats.rate", unit: "/s", beside: "spread.rate", than: "the Go API", least: 0.5},
	{id: "feed", what: "adjustments over NATS while the feed is published", ours: "feed.rate", unit: "/s", beside: "spread.rate", than: "the Go API, without a feed", least: 0.5},
	{id: "p99", what: "p99 of adjustments, Go API", ours: "spread.p99", unit: "ms", beside: "file.p99", than: "p99 of the file", most: 5},
	{id: "rebuild", what: "rebuild of all read models, a log of {small} events, nearly all of them adjustments", ours: "rebuild.rate", unit: "events/s", least: 100_000},
	{id: "inserts", what: "rebuild of all read models, a log of {small} events, nearly all of them adjustments", ours: "rebuild.rate", unit: "events/s", beside: "rebuild.inserts", than: "plain inserts of the same rows", least: 0.5},
	{id: "rebuild-large", what: "rebuild of all read models, a log of {large} events of all kinds", ours: "large.rate", unit: "events/s", least: 100_000},
	{id: "start", what: "cold start with {large} events, until a command is answered over NATS", ours: "large.start", unit: "s", most: 3},
	{id: "memory", what: "memory at most, {stock} items at {levels} locations", ours: "memory.peak", unit: "GiB", most: 1, once: true},
	{id: "query", what: "level quantity over NATS, {callers} callers", ours: "query.rate", unit: "/s", beside: "echo.rate", than: "an echo service", least: 0.7},
}

// filled is a text with the sizes that things were measured with.
func (c TableConfig) filled(text string) string {
	return strings.NewReplacer(
		"{callers}", strconv.Itoa(c.Callers), "{items}", figures.Thousands(c.Items), "{small}", figures.Thousands(c.Small),
		"{large}", figures.Thousands(c.Large), "{stock}", figures.Thousands(c.Memory.Items), "{levels}", strconv.Itoa(c.Memory.Levels),
	).Replace(text)
}

// RowIDs are the rows that a table can have.
func RowIDs() (ids []string) {
	for _, a := range aims {
		ids = append(ids, a.id)
	}
	return ids
}

// takings are the values of a run by name.
type takings map[string]float64

// TakeTable measures every row that is wanted in every run. What stands beside each
// other is measured one after the other in each run, every second run in the opposite
// order, so that a machine that gets slower or faster meanwhile does so to both.
func (b *Bench) TakeTable(ctx context.Context, config TableConfig) (t Table, err error) {
	begin := b.Now()
	wanted, err := wantedAims(config.Rows)
	if err != nil {
		return t, err
	}
	parts := &parts{b: b, config: config}
	defer func() { err = errors.Join(err, parts.close()) }()
	runs := make([]takings, config.Runs)
	for i := range runs {
		names := partsOf(wanted, i)
		if i%2 == 1 {
			slices.Reverse(names)
		}
		runs[i] = takings{}
		for _, name := range names {
			parts.prefix = fmt.Sprintf("run %d of %d: ", i+1, config.Runs)
			err := parts.take(ctx, name, runs[i])
			if err != nil && !errors.As(err, new(errNoPostgres)) {
				return t, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	t = Table{Machine: b.machine, Config: config, LeftOut: b.leftOut, Memory: b.memory}
	for _, a := range wanted {
		row := a.row(runs)
		row.What, row.Than = config.filled(row.What), config.filled(row.Than)
		t.Rows = append(t.Rows, row)
	}
	t.Took = b.Now().Sub(begin).Seconds()
	return t, nil
}

func wantedAims(ids []string) (wanted []aim, err error) {
	for _, id := range ids {
		if !slices.Contains(RowIDs(), id) {
			return nil, fmt.Errorf("there is no row %q; there are %v", id, RowIDs())
		}
	}
	for _, a := range aims {
		if len(ids) == 0 || slices.Contains(ids, a.id) {
			wanted = append(wanted, a)
		}
	}
	return wanted, nil
}

// row is the row of an aim.
func (a aim) row(runs []takings) Row {
	r := Row{ID: a.id, What: a.what, Unit: a.unit, Than: a.than}
	var ours, beside []float64
	for _, run := range runs {
		our, measured := run[a.ours]
		their, measuredToo := run[a.beside]
		if !measured || a.beside != "" && !measuredToo {
			continue
		}
		ours = append(ours, our)
		if a.beside != "" {
			beside, r.Ratios = append(beside, their), append(r.Ratios, over(our, their))
		}
	}
	r.Aim = a.aim()
	if len(ours) == 0 {
		return r
	}
	r.Ours = figures.Median(ours)
	judged := r.Ours
	if a.beside != "" {
		r.Beside, r.Ratio = figures.Median(beside), figures.Median(r.Ratios)
		judged = r.Ratio
	}
	if a.least > 0 || a.most > 0 {
		reached := judged >= a.least && (a.most == 0 || judged <= a.most)
		r.Reached = &reached
	}
	return r
}

// aim is the bound in words.
func (a aim) aim() string {
	sign, bound := "≥", a.least
	if a.most > 0 {
		sign, bound = "≤", a.most
	}
	switch {
	case bound == 0:
		return ""
	case a.beside != "":
		return fmt.Sprintf("%s %g ×", sign, bound)
	default:
		return fmt.Sprintf("%s %s %s", sign, figures.Thousands(bound), a.unit)
	}
}

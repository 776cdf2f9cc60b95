package projections

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
)

// A planner notes how SQLite goes about each query it runs.
type planner struct {
	*sql.Tx
	t     *testing.T
	plans []string
}

func (p *planner) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	p.explain(text, args)
	return p.Tx.QueryContext(ctx, text, args...)
}

func (p *planner) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	p.explain(text, args)
	return p.Tx.QueryRowContext(ctx, text, args...)
}

func (p *planner) explain(text string, args []any) {
	rows, err := p.Tx.QueryContext(p.t.Context(), `EXPLAIN QUERY PLAN `+text, args...)
	steps, err := gather(rows, err, func(s scanner) (step string, err error) {
		var ignored int
		return step, s.Scan(&ignored, &ignored, &ignored, &step)
	})
	require.NoError(p.t, err, text)
	what := "find:  "
	switch {
	case strings.Contains(text, `IS TRUE`):
		what = "look:  " // at few rows
	case strings.HasPrefix(text, `SELECT count(*)`) && strings.HasSuffix(text, `LIMIT ?)`):
		what = "probe: " // few rows
	case strings.HasPrefix(text, `SELECT count(*)`):
		what = "count: "
	}
	p.plans = append(p.plans, what+strings.Join(steps, "; "))
}

// scansTable is a step that reads a table from end to end. One that goes through
// an index, in the order of the page, stops when the page is full.
var scansTable = regexp.MustCompile(`SCAN (items|totals|levels|reservations)\b($|;)`)

// Nor is one of commands by when they were recorded, which they are in the order of.
func TestCommandsAreFoundByWhenTheyWereRecorded(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Store: memstore.New()}
	m, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	defer m.Close()
	m, done, err := m.pin(ofMovements)
	require.NoError(t, err)
	defer done()
	for _, asked := range []List{
		{Filter: where("recorded_at", is("$gte", "2024-01-01"))},
		{Order: []string{"-recorded_at"}},
		{Order: []string{"recorded_at"}, Filter: where("recorded_at", is("$lt", "2024-01-01"))},
	} {
		for _, plan := range plans(t, m.movements, &commandsTable, asked, 1) {
			require.NotRegexp(t, `SCAN commands($|;)`, plan)
			if asked.Filter == nil && strings.HasPrefix(plan, "find:") {
				require.NotContains(t, plan, "ORDER BY")
			}
		}
	}
}

// plans are those of a list.
func plans(t *testing.T, m *model, of *table, asked List, few int) []string {
	f, err := newFinder(of, asked)
	require.NoError(t, err)
	tx, err := m.file.db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	defer tx.Rollback()
	p := &planner{Tx: tx, t: t}
	f.tx, f.few = p, few
	_, err = f.count(t.Context())
	require.NoError(t, err)
	_, err = f.find(t.Context(), 51, 0)
	require.NoError(t, err)
	return p.plans
}

// No list of a column with an index reads its table from end to end, whether few
// rows fit or many, and none by two columns in the order of one of them; nor does
// one in the order of such a column sort.
func TestNoListOfAnIndexedColumnScans(t *testing.T) {
	t.Parallel()
	a := stockUp(t, t.TempDir(), 300)
	m := a.models.inventory
	defer m.file.close()
	value := map[kind]any{
		asText: "sku", asBoolean: true, asNumber: events.Units(3), asWhole: events.Units(3), asTime: "2024-01-01T00:01:00Z",
	}
	for _, of := range []*table{&itemsTable, &levelsTable, &reservationsTable} {
		for _, ix := range of.indexes {
			col, known := of.column(ix.column)
			require.True(t, known, ix.column)
			asks := []any{value[col.kind], nil, is("$ne", value[col.kind]), is("$exists", true), is("$in", []any{value[col.kind], value[col.kind]})}
			if col.kind != asBoolean {
				asks = append(asks, is("$gte", value[col.kind]), map[string]any{"$gt": value[col.kind], "$lt": value[col.kind]})
			}
			if col.kind == asText {
				asks = append(asks, is("$like", "SKU-000%"))
			}
			for _, ask := range asks {
				for _, few := range []int{1, defaultFew} {
					for _, plan := range plans(t, m, of, List{Filter: where(col.name, ask), WithDeleted: col.name == "deleted_at"}, few) {
						if !strings.HasPrefix(plan, "look:") {
							require.NotRegexp(t, scansTable, plan, "%s %v", col.name, ask)
						}
					}
				}
			}
			if ix.then != `position` {
				continue
			}
			for _, order := range []string{col.name, "-" + col.name} {
				for _, plan := range plans(t, m, of, List{Order: []string{order}, WithDeleted: !ix.live && col.name == "deleted_at"}, 1) {
					if strings.HasPrefix(plan, "find:") {
						require.NotRegexp(t, scansTable, plan, order)
						require.NotContains(t, plan, "ORDER BY", order)
					}
				}
			}
		}
	}
	for _, q := range a.itemQuestions() {
		all := plans(t, m, &itemsTable, q.List, 5)
		for _, plan := range all {
			if strings.HasPrefix(plan, "find:") {
				require.Contains(t, plan, "MATERIALIZE hits", "it cannot be broken off") // see atOnce
			}
		}
		t.Logf("%s\n\t%s", q.name, strings.Join(all, "\n\t"))
		if q.Q != "" && q.name != "q-short" || strings.Contains(q.name, "contains") || strings.Contains(q.name, "ilike") {
			for _, plan := range all {
				if !strings.HasPrefix(plan, "look:") {
					require.NotRegexp(t, scansTable, plan, q.name)
				}
			}
		}
	}
}

package projections

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/stockledger/stockledger/internal/fault"
)

// Bounds of a page.
const (
	defaultTake = 50
	maxTake     = 1000
	maxSkip     = 1_000_000 // the rows that are skipped are passed one by one
)

// List says which rows are wanted. The zero List is the first page of all that
// are not deleted, in the order they were created.
type List struct {
	Skip        int
	Take        *int // nil is 50; at most 1000; 0 only counts
	WithDeleted bool
	// Filter names columns and what they must be: nil, a string, a bool, an
	// events.Quantity, a time.Time, a []string or []any of which one must match,
	// or a map[string]any of operators, such as {"$gt": …}. "$and", "$or" and
	// "$not" stand beside the columns.
	Filter    map[string]any
	Q         string   // words that the searched texts of a row must all contain
	Order     []string // columns; "-field" is descending
	Relations []string // what the rows bring along
	Cursor    string   // the Next of the page before
	NoCount   bool
}

// A Page is one page of a list.
type Page[T any] struct {
	Rows  []T     `json:"rows"`
	Count *uint64 `json:"count"` // of all rows that match, whatever the page; nil when it was not asked for
	Skip  int     `json:"skip"`
	Take  int     `json:"take"`
	Next  *string `json:"next"` // the cursor of the page that follows, nil after the last
}

// A list is how the rows of a table are listed.
type list[T any] struct {
	table     *table
	columns   string // what scan reads
	scan      func(scanner) (T, error)
	relations map[string]relation[T]
}

// run answers a list from one of the models.
func (l list[T]) run(ctx context.Context, m *Models, of source, asked List) (Page[T], error) {
	m, done, err := m.pin(of)
	if err != nil {
		return Page[T]{}, err
	}
	defer done()
	return within(ctx, m.longest, func(ctx context.Context) (Page[T], error) { return l.answer(ctx, m.of(of), asked) })
}

// answer finds where the rows of the page are, then reads them
// and what they bring along. That is one transaction, so that all of it is of
// the same moment.
func (l list[T]) answer(ctx context.Context, m *model, asked List) (Page[T], error) {
	page := Page[T]{Rows: []T{}, Skip: asked.Skip, Take: defaultTake}
	if asked.Take != nil {
		page.Take = *asked.Take
	}
	if err := checkPage(page.Skip, page.Take); err != nil {
		return page, err
	}
	if asked.Cursor != "" && asked.Skip > 0 {
		return page, fault.New(fault.Invalid, "invalid_value", "a cursor goes on after the page before; leave skip out").With("field", "skip")
	}
	for _, name := range asked.Relations {
		if l.relations[name].bring == nil {
			return page, fault.New(fault.Invalid, "unknown_relation", "there is no relation '%s' here", name).
				With("field", "relations").With("relation", name)
		}
	}
	f, err := newFinder(l.table, asked)
	if err != nil {
		return page, err
	}
	if !m.file.ready.Load() {
		return page, fault.New(fault.Unavailable, "not_caught_up",
			"the read model %s is being built and is at position %d; it can be listed when it has caught up", m.name, m.position()).
			With("model", m.name).With("position", m.position())
	}
	tx, err := m.file.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return page, fmt.Errorf("list %s: %w", l.table.name, err)
	}
	defer tx.Rollback()
	f.tx, f.few = tx, m.file.few
	if err := l.read(ctx, tx, f, asked, &page); err != nil {
		return page, fmt.Errorf("list %s: %w", l.table.name, err)
	}
	return page, nil
}

// read fills the page.
func (l list[T]) read(ctx context.Context, tx *sql.Tx, f *finder, asked List, page *Page[T]) error {
	if !asked.NoCount {
		n, err := f.count(ctx)
		if err != nil {
			return err
		}
		page.Count = &n
	}
	if page.Take == 0 {
		return nil
	}
	found, err := f.find(ctx, page.Take+1, asked.Skip) // one more, to know whether there is one
	if err != nil {
		return err
	}
	if len(found) > page.Take {
		found = found[:page.Take]
		next, err := f.cursor(found[page.Take-1])
		if err != nil {
			return err
		}
		page.Next = &next
	}
	if page.Rows, err = l.rows(ctx, tx, found); err != nil {
		return err
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(asked.Relations))) {
		if err := l.relations[name].bring(ctx, tx, page.Rows, asked.WithDeleted); err != nil {
			return fmt.Errorf("with %s: %w", name, err)
		}
	}
	return nil
}

// rows reads what was found, in that order.
func (l list[T]) rows(ctx context.Context, tx *sql.Tx, found []found) ([]T, error) {
	order := make(map[int64]int, len(found))
	positions := make([]int64, len(found))
	for i, f := range found {
		positions[i], order[f.position] = f.position, i
	}
	set, err := json.Marshal(positions)
	if err != nil {
		return nil, err
	}
	from, position := l.table.from(``, l.table.beside.name != ``)
	rows, err := tx.QueryContext(ctx, `SELECT `+position+`, `+l.columns+` FROM `+from+
		` WHERE `+position+` IN (SELECT value FROM json_each(?))`, string(set))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make([]T, len(found))
	for rows.Next() {
		var at int64
		row, err := l.scan(placed{rows, &at})
		if err != nil {
			return nil, err
		}
		all[order[at]] = row
	}
	return all, rows.Err()
}

// placed scans rows that begin with their position.
type placed struct {
	rows *sql.Rows
	at   *int64
}

func (p placed) Scan(dest ...any) error { return p.rows.Scan(append([]any{p.at}, dest...)...) }

func checkPage(skip, take int) error {
	switch {
	case skip < 0:
		return fault.New(fault.Invalid, "invalid_value", "skip must not be negative, not %d", skip).With("field", "skip")
	case skip > maxSkip:
		return fault.New(fault.Invalid, "invalid_value", "skip must be 0 to %d, not %d; to go further, go from page to page by the cursor in next", maxSkip, skip).
			With("field", "skip").With("max", maxSkip)
	}
	return checkTake(take)
}

func checkTake(take int) error {
	if take < 0 || take > maxTake {
		return fault.New(fault.Invalid, "invalid_value", "take must be 0 to %d, not %d", maxTake, take).With("field", "take").With("max", maxTake)
	}
	return nil
}

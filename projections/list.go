package projections

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

// Bounds of a page.
const (
	defaultTake = 50
	maxTake     = 1000
)

// List says which rows are wanted. The zero List is the first page of all that
// are not deleted, in the order they were created.
type List struct {
	Skip        int
	Take        *int // nil is 50; at most 1000; 0 only counts
	WithDeleted bool
	// Filter names columns and the values they must have: nil, a string, a bool,
	// an events.Quantity, or a []string or []any of which one must match.
	Filter map[string]any
}

// A columnType says which values a column is compared with.
type columnType int

const (
	asText columnType = iota
	asBoolean
	asNumber
)

// A column can be filtered by. Its name is the one in answers and in SQL.
type column struct {
	name string
	kind columnType
}

// A list is how the rows of a model are listed. All SQL is made of its texts.
type list[T any] struct {
	from    string // table or join
	columns string // what scan reads
	filters []column
	deletes bool // rows have deleted_at
	scan    func(scanner) (T, error)
}

func (l list[T]) run(ctx context.Context, m *model, asked List) (Page[T], error) {
	take := defaultTake
	if asked.Take != nil {
		take = *asked.Take
	}
	page := Page[T]{Skip: asked.Skip, Take: take}
	if err := checkPage(asked.Skip, take); err != nil {
		return page, err
	}
	where, args, err := l.where(asked)
	if err != nil {
		return page, err
	}
	// One transaction, so that rows and count are of the same moment.
	tx, err := m.file.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return page, fmt.Errorf("list %s: %w", m.name, err)
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM `+l.from+where, args...).Scan(&page.Count); err != nil {
		return page, fmt.Errorf("list %s: %w", m.name, err)
	}
	rows, err := tx.QueryContext(ctx, `SELECT `+l.columns+` FROM `+l.from+where+` ORDER BY position LIMIT ? OFFSET ?`,
		append(args, take, asked.Skip)...)
	if page.Rows, err = gather(rows, err, l.scan); err != nil {
		return page, fmt.Errorf("list %s: %w", m.name, err)
	}
	return page, nil
}

func checkPage(skip, take int) error {
	switch {
	case skip < 0:
		return fault.New(fault.Invalid, "invalid_value", "skip must not be negative, not %d", skip).With("field", "skip")
	case take < 0 || take > maxTake:
		return fault.New(fault.Invalid, "invalid_value", "take must be 0 to %d, not %d", maxTake, take).With("field", "take")
	}
	return nil
}

// where turns the filter into a condition and its arguments.
func (l list[T]) where(asked List) (condition string, args []any, err error) {
	var all []string
	for name := range asked.Filter {
		if !slices.ContainsFunc(l.filters, func(c column) bool { return c.name == name }) {
			return "", nil, unknownField(name)
		}
	}
	for _, c := range l.filters {
		value, asked := asked.Filter[c.name]
		if !asked {
			continue
		}
		condition, arg, err := c.equals(value)
		if err != nil {
			return "", nil, err
		}
		all = append(all, condition)
		if arg != nil {
			args = append(args, arg)
		}
	}
	if l.deletes && !asked.WithDeleted {
		all = append(all, `deleted_at IS NULL`)
	}
	if len(all) == 0 {
		return "", nil, nil
	}
	return ` WHERE ` + strings.Join(all, ` AND `), args, nil
}

// equals is the condition that the column has the value, or one of the values.
func (c column) equals(value any) (condition string, arg any, err error) {
	if value == nil {
		return c.name + ` IS NULL`, nil, nil
	}
	if many, ok := each(value); ok {
		texts := make([]any, len(many))
		for i, one := range many {
			if texts[i], err = c.stored(one); err != nil {
				return "", nil, err
			}
		}
		set, err := json.Marshal(texts)
		return c.name + ` IN (SELECT value FROM json_each(?))`, string(set), err
	}
	arg, err = c.stored(value)
	return c.name + ` = ?`, arg, err
}

func each(value any) ([]any, bool) {
	switch values := value.(type) {
	case []any:
		return values, true
	case []string:
		all := make([]any, len(values))
		for i, v := range values {
			all[i] = v
		}
		return all, true
	}
	return nil, false
}

// stored is a value as the column has it.
func (c column) stored(value any) (any, error) {
	switch c.kind {
	case asBoolean:
		if b, ok := value.(bool); ok {
			return b, nil
		}
		return nil, c.wrongType("boolean")
	case asNumber:
		q, ok := value.(events.Quantity)
		if s, isText := value.(string); isText {
			var err error
			q, err = events.ParseQuantity(s)
			ok = err == nil
		}
		if !ok {
			return nil, c.wrongType("number")
		}
		return q.String(), nil
	case asText:
		if s, ok := value.(string); ok {
			return s, nil
		}
		return nil, c.wrongType("string")
	default:
		return nil, errors.New("column " + c.name + " is of no type")
	}
}

func (c column) wrongType(want string) error {
	return fault.New(fault.Invalid, "invalid_type", "Expected type: '%s' for field '%s'", want, c.name).With("field", c.name)
}

func unknownField(name string) error {
	return fault.New(fault.Invalid, "unknown_field", "Unrecognized fields: '%s'", name).With("field", name)
}

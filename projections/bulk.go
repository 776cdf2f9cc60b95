package projections

import (
	"database/sql/driver"
	"strings"
)

// A spiller is a fold with rows that no later event changes, such as movements.
type spiller interface {
	// spill writes those. In a transaction of many batches it is called after each,
	// so that memory holds no more of them than a batch has.
	spill(w *writer) error
}

func spill(w *writer, folds []fold) error {
	for _, f := range folds {
		if s, ok := f.(spiller); ok {
			if err := s.spill(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// bulkRows is how many rows a bulk inserts with one statement. More save little
// and take long to prepare.
const bulkRows = 32

// A bulk inserts rows into one table, many with one statement, which takes two
// thirds of the time.
type bulk struct {
	columns int
	one     string // the statement that inserts one row
	many    string // and the one that inserts bulkRows
	args    []driver.Value
}

// newBulk takes the statement up to VALUES.
func newBulk(insert string, columns int) *bulk {
	row := `(?` + strings.Repeat(`, ?`, columns-1) + `)`
	return &bulk{
		columns: columns, one: insert + ` VALUES ` + row,
		many: insert + ` VALUES ` + row + strings.Repeat(`, `+row, bulkRows-1),
	}
}

// add takes in a row.
func (b *bulk) add(w *writer, row ...driver.Value) error {
	b.args = append(b.args, row...)
	if len(b.args) < bulkRows*b.columns {
		return nil
	}
	err := w.exec(b.many, b.args...)
	b.forget()
	return err
}

// end writes what is left.
func (b *bulk) end(w *writer) error {
	defer b.forget()
	for rest := b.args; len(rest) > 0; rest = rest[b.columns:] {
		if err := w.exec(b.one, rest[:b.columns]...); err != nil {
			return err
		}
	}
	return nil
}

func (b *bulk) forget() {
	clear(b.args)
	b.args = b.args[:0]
}

package projections

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
)

// A Snapshot is every served row as it is at one position. Folding goes on
// meanwhile and is not seen. It keeps the files from being tidied up, so close it
// soon. Its methods may be called from many goroutines at once, but rows of one
// model are then read in turns.
type Snapshot struct {
	position uint64
	views    []*view
	done     func() // lets go of the generations
	closing  sync.Once
}

// A Table is one of those a model keeps its rows in. The index of the words in
// texts is none, and neither is what a file says about itself.
type Table struct {
	Model   string
	Name    string
	Columns []string // in the order of [Row.Values]
	Key     []string // the columns of the primary key, by which rows are ordered
	// ByPosition says that rows name the event that made them, in Row.Position.
	ByPosition bool
}

// A Row is a row of a table with its values as texts.
type Row struct {
	Model, Table string
	Position     uint64 // of the event that made it, 0 when the table does not say
	Key          string // what people know it by: its id, or the values of its primary key
	// Values are as Table.Columns has them. Quantities are in plain notation (an
	// absent one of a movement is 0), times in UTC as RFC 3339 with all their
	// digits, booleans true or false, kinds of movements by name. A value that its
	// column cannot have begins with "unreadable".
	Values []sql.NullString
}

// Snapshot takes all served rows at one position. It fails with model_building,
// which is [fault.Unavailable], while a model has nothing to serve, and with
// model_stopped when one cannot get to where another one is.
func (m *Models) Snapshot(ctx context.Context) (*Snapshot, error) {
	for {
		s, err := m.snapshot(ctx)
		if errors.Is(err, errLeft) {
			continue // another generation is served since
		}
		if err != nil {
			return nil, fmt.Errorf("take a snapshot of the read models: %w", err)
		}
		return s, nil
	}
}

func (m *Models) snapshot(ctx context.Context) (_ *Snapshot, err error) {
	m, done, err := m.pin(ofInventory, ofMovements)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{done: done}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	served := []*model{m.inventory, m.movements}
	for _, one := range served {
		v, err := openView(ctx, one.name, one.file.path)
		if err != nil {
			return nil, err
		}
		s.views = append(s.views, v)
	}
	s.position, err = m.pinTogether(ctx, served, s.views)
	return s, err
}

// pinTogether pins views of models while these are at one position.
func (c *core) pinTogether(ctx context.Context, models []*model, views []*view) (position uint64, err error) {
	err = c.together(ctx, models, nil, func(at uint64) error {
		position = at
		for _, v := range views {
			if err := v.pin(ctx, at); err != nil {
				return err
			}
		}
		return nil
	})
	for _, v := range views {
		if err == nil {
			err = v.readTables(ctx)
		}
	}
	return position, err
}

// Position is that of the last event that is in the rows.
func (s *Snapshot) Position() uint64 { return s.position }

// Close lets go of the files. What is still being read fails.
func (s *Snapshot) Close() error {
	var errs []error
	for _, v := range s.views {
		errs = append(errs, v.close())
	}
	s.closing.Do(s.done)
	return errors.Join(errs...)
}

// Tables are all tables of all models.
func (s *Snapshot) Tables() []Table {
	var all []Table
	for _, v := range s.views {
		for _, t := range v.tables {
			all = append(all, t.Table)
		}
	}
	return all
}

// Rows are the rows of a table that the events from one position to another have
// made, in the order of the primary key; to 0 is no end. A table that is not
// ByPosition yields all its rows whatever the positions. An error comes last.
func (s *Snapshot) Rows(ctx context.Context, model, table string, from, to uint64) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		v, t, err := s.find(model, table)
		if err != nil {
			yield(Row{}, err)
			return
		}
		where, args := t.madeBetween(from, to)
		v.each(ctx, t, where, args, yield)
	}
}

// RowsWhere are the rows of a table that have a value in a column, in the order
// of the primary key. The value is as Row.Values has it. It is quick if there is
// an index of the column, and looks at all rows if there is none. An error comes
// last.
func (s *Snapshot) RowsWhere(ctx context.Context, model, table, column, value string) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		v, t, err := s.find(model, table)
		if err == nil && !slices.Contains(t.Columns, column) {
			err = fmt.Errorf("the table %s of the read model %s has no column %s", table, model, column)
		}
		var stored driver.Value
		if err == nil {
			stored, err = t.shape.columns[column].stored(value)
		}
		if err != nil {
			yield(Row{}, err)
			return
		}
		v.each(ctx, t, ` WHERE `+column+` IS ?`, []driver.Value{stored}, yield)
	}
}

func (s *Snapshot) find(model, table string) (*view, *viewed, error) {
	for _, v := range s.views {
		if v.model != model {
			continue
		}
		if t := v.table(table); t != nil {
			return v, t, nil
		}
	}
	return nil, nil, fmt.Errorf("there is no table %s of a read model %s", table, model)
}

// A view is the file of a model as it was at one moment: a connection inside a
// transaction that only reads.
type view struct {
	model  string
	tables []*viewed

	mu     sync.Mutex // of the connection
	conn   driver.Conn
	idle   map[string][]driver.Stmt // by text
	busy   int                      // how many statements are at work
	closed bool
}

// A viewed is a table as its file has it.
type viewed struct {
	Table
	shape  shape
	senses []sense // of the columns
	key    []int   // where in a row its primary key is
	name   []int   // and what people know it by
	made   int     // and which event made it; -1 for nowhere
}

// openView opens a model's file, to be pinned.
func openView(ctx context.Context, model, path string) (*view, error) {
	conn, err := connector{dsn(path, "query_only(1)", "busy_timeout(5000)", "cache_size(-8192)")}.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &view{model: model, conn: conn, idle: make(map[string][]driver.Stmt)}, nil
}

// pin keeps the file as it is now, which is at a position.
func (v *view) pin(ctx context.Context, position uint64) error {
	if _, err := v.conn.(driver.ExecerContext).ExecContext(ctx, `BEGIN`, nil); err != nil {
		return err
	}
	at := int64(-1)
	err := v.query(ctx, `SELECT position FROM checkpoint`, nil, func(row []driver.Value) bool {
		at, _ = row[0].(int64)
		return true
	})
	if err == nil && at != int64(position) {
		err = fmt.Errorf("the file of the read model %s is at position %d, not %d", v.model, at, position)
	}
	return err
}

// readTables reads which tables there are.
func (v *view) readTables(ctx context.Context) error {
	keys := make(map[*viewed]map[int64]string) // by their rank, from 1
	err := v.query(ctx, `SELECT t.name, c.name, c.pk FROM pragma_table_list t JOIN pragma_table_info(t.name) c
		WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name <> 'checkpoint'
		ORDER BY t.name, c.cid`, nil, func(row []driver.Value) bool {
		name, column, rank := row[0].(string), row[1].(string), row[2].(int64)
		t := v.table(name)
		if t == nil {
			t = &viewed{Table: Table{Model: v.model, Name: name}, shape: shapeOf(v.model, name)}
			v.tables, keys[t] = append(v.tables, t), make(map[int64]string)
		}
		t.Columns = append(t.Columns, column)
		if rank > 0 {
			keys[t][rank] = column
		}
		return true
	})
	for t, key := range keys {
		t.complete(key)
	}
	return err
}

// complete fills in what follows from the columns and the primary key, which is
// by rank.
func (t *viewed) complete(key map[int64]string) {
	for rank := range int64(len(key)) {
		t.Key = append(t.Key, key[rank+1])
		t.key = append(t.key, slices.Index(t.Columns, key[rank+1]))
	}
	for _, column := range t.Columns {
		t.senses = append(t.senses, t.shape.columns[column])
	}
	t.made = slices.Index(t.Columns, t.shape.made)
	t.ByPosition = t.made >= 0
	for _, column := range t.shape.key {
		if i := slices.Index(t.Columns, column); i >= 0 {
			t.name = append(t.name, i)
		}
	}
	if t.name == nil {
		t.name = t.key
	}
}

func (v *view) table(name string) *viewed {
	for _, t := range v.tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// close ends the view. What is being read of it fails.
func (v *view) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	return v.release()
}

// release closes the connection once nobody needs it.
func (v *view) release() error {
	if !v.closed || v.busy > 0 {
		return nil
	}
	var errs []error
	for _, all := range v.idle {
		for _, stmt := range all {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(append(errs, v.conn.Close())...)
}

// madeBetween is the condition that the events from one position to another made
// a row; to 0 is no end.
func (t *viewed) madeBetween(from, to uint64) (where string, args []driver.Value) {
	if !t.ByPosition {
		return ``, nil
	}
	if from > 0 {
		where, args = ` WHERE `+t.shape.made+` >= ?`, append(args, t.ofEvent(from))
	}
	if to > 0 {
		joint := ` WHERE `
		if where != `` {
			joint = ` AND `
		}
		where, args = where+joint+t.shape.made+` < ?`, append(args, t.ofEvent(to+1))
	}
	return where, args
}

// ofEvent is what the first row that an event makes has to say so.
func (t *viewed) ofEvent(position uint64) int64 {
	if t.shape.doubled {
		return 2 * int64(position)
	}
	return int64(position)
}

// rowsText selects rows of the table in order, and more beside them.
func (t *viewed) rowsText(where, more string) string {
	return `SELECT ` + strings.Join(t.Columns, `, `) + more + ` FROM ` + t.Name + where + ` ORDER BY ` + strings.Join(t.Key, `, `)
}

// called selects what people know the rows by, if it is elsewhere.
func (t *viewed) called() string {
	if t.shape.called == "" {
		return ``
	}
	return `, ` + t.shape.called
}

// each yields rows as texts.
func (v *view) each(ctx context.Context, t *viewed, where string, args []driver.Value, yield func(Row, error) bool) {
	wanted := true
	err := v.query(ctx, t.rowsText(where, t.called()), args, func(stored []driver.Value) bool {
		wanted = yield(t.row(stored), nil)
		return wanted
	})
	if err != nil && wanted {
		yield(Row{}, fmt.Errorf("read %s of the read model %s: %w", t.Name, v.model, err))
	}
}

// row is a stored row as texts. What it is called may come after its values.
func (t *viewed) row(stored []driver.Value) Row {
	r := Row{Model: t.Model, Table: t.Name, Position: t.position(stored), Values: make([]sql.NullString, len(t.Columns))}
	for i := range t.Columns {
		r.Values[i] = t.senses[i].plain(stored[i])
	}
	if len(stored) > len(t.Columns) {
		r.Key, _ = stored[len(t.Columns)].(string)
	}
	if r.Key == "" {
		r.Key = t.keyOf(r.Values)
	}
	return r
}

// keyOf is what people know a row by, as far as it says so itself.
func (t *viewed) keyOf(values []sql.NullString) string {
	parts := make([]string, len(t.name))
	for n, i := range t.name {
		parts[n] = values[i].String
	}
	return strings.Join(parts, "/")
}

// position is that of the event that made a row.
func (t *viewed) position(stored []driver.Value) uint64 {
	if t.made < 0 {
		return 0
	}
	at, _ := stored[t.made].(int64)
	if t.shape.doubled {
		at /= 2
	}
	return uint64(max(0, at))
}

// query hands rows to do until it has enough. They are good until do returns.
func (v *view) query(ctx context.Context, text string, args []driver.Value, do func([]driver.Value) bool) error {
	r, err := v.open(ctx, text, args)
	if err != nil {
		return err
	}
	defer r.close()
	for {
		row, err := r.next(ctx)
		if err != nil || row == nil {
			return err
		}
		if !do(row) {
			return nil
		}
	}
}

// A viewing yields the rows of one query.
type viewing struct {
	view   *view
	text   string
	stmt   driver.Stmt
	rows   driver.Rows
	values []driver.Value
}

func (v *view) open(ctx context.Context, text string, args []driver.Value) (*viewing, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	stmt, err := v.take(text)
	if err != nil {
		return nil, err
	}
	named := make([]driver.NamedValue, len(args))
	for i, value := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: value}
	}
	// Watching ctx while a statement runs costs as much as a short one.
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(context.WithoutCancel(ctx), named)
	if err != nil {
		return nil, errors.Join(err, stmt.Close())
	}
	v.busy++
	return &viewing{view: v, text: text, stmt: stmt, rows: rows, values: make([]driver.Value, len(rows.Columns()))}, nil
}

var errClosed = errors.New("the snapshot is closed")

// take is a statement that nobody else uses.
func (v *view) take(text string) (driver.Stmt, error) {
	if v.closed {
		return nil, errClosed
	}
	if idle := v.idle[text]; len(idle) > 0 {
		v.idle[text] = idle[:len(idle)-1]
		return idle[len(idle)-1], nil
	}
	return v.conn.Prepare(text)
}

// next is the next row, nil after the last one. It is good until the call after.
func (r *viewing) next(ctx context.Context) ([]driver.Value, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.view.mu.Lock()
	defer r.view.mu.Unlock()
	if r.view.closed {
		return nil, errClosed
	}
	err := r.rows.Next(r.values)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return r.values, err
}

func (r *viewing) close() {
	r.view.mu.Lock()
	defer r.view.mu.Unlock()
	_ = r.rows.Close() // what went wrong, next has said
	r.view.idle[r.text] = append(r.view.idle[r.text], r.stmt)
	r.view.busy--
	_ = r.view.release() // of a connection that only read
}

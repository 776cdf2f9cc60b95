package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	"modernc.org/sqlite"
)

// conn is one connection of the driver, without database/sql between: its pool,
// its conversions and a goroutine per cancellable statement would cost more
// than the statements. It is for one goroutine at a time. Contexts given to it
// must have no Done channel, or the driver starts a goroutine for each statement.
type conn struct {
	raw      driver.Conn
	prepared []*stmt
}

// dial connects to the database file, on a virtual file system unless vfs is "", and
// sets the pragmas.
func dial(ctx context.Context, path, vfs string, pragmas ...string) (*conn, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute)}
	if vfs != "" {
		name.RawQuery = url.Values{"vfs": {vfs}}.Encode()
	}
	c, err := new(sqlite.Driver).Open(name.String())
	if err != nil {
		return nil, err
	}
	opened := &conn{raw: c}
	for _, pragma := range pragmas {
		if err := opened.exec(ctx, "PRAGMA "+pragma); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return opened, nil
}

// exec runs a script.
func (c *conn) exec(ctx context.Context, script string) error {
	if _, err := c.raw.(driver.ExecerContext).ExecContext(ctx, script, nil); err != nil {
		return fmt.Errorf("%s: %w", script, err)
	}
	return nil
}

// row runs a query and returns its only row.
func (c *conn) row(ctx context.Context, query string) ([]driver.Value, error) {
	s, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var row []driver.Value
	err = s.query(ctx, func(v []driver.Value) error { row = append(row, v...); return nil })
	if err == nil && row == nil {
		err = fmt.Errorf("%s: no such row", query)
	}
	return row, err
}

// close ends the connection and its statements, without which SQLite would keep
// it half open.
func (c *conn) close() error {
	for _, s := range c.prepared {
		s.close()
	}
	return c.raw.Close()
}

// stmt is a prepared statement.
type stmt struct {
	stmt driver.Stmt
	text string
	args []driver.NamedValue // used again every time
}

func (c *conn) prepare(text string) (*stmt, error) {
	s, err := c.raw.Prepare(text)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", text, err)
	}
	return &stmt{stmt: s, text: text}, nil
}

// keep prepares statements that end with the connection.
func (c *conn) keep(statements map[string]**stmt) error {
	for text, s := range statements {
		var err error
		if *s, err = c.prepare(text); err != nil {
			return err
		}
		c.prepared = append(c.prepared, *s)
	}
	return nil
}

// close ends the statement. Its error would be that of the last execution, which
// has been returned already.
func (s *stmt) close() { _ = s.stmt.Close() }

// bind adds the next arguments: int64, string or []byte.
func (s *stmt) bind(args ...any) {
	for _, a := range args {
		s.args = append(s.args, driver.NamedValue{Ordinal: len(s.args) + 1, Value: a})
	}
}

// exec runs the statement with what was bound before and args.
func (s *stmt) exec(ctx context.Context, args ...any) error {
	s.bind(args...)
	_, err := s.stmt.(driver.StmtExecContext).ExecContext(ctx, s.args)
	s.unbind()
	if err != nil {
		return fmt.Errorf("%s: %w", s.text, err)
	}
	return nil
}

// query runs the statement with what was bound before and args, and gives each
// row to do. The values are do's to keep, the slice is not.
func (s *stmt) query(ctx context.Context, do func(row []driver.Value) error, args ...any) (err error) {
	s.bind(args...)
	rows, err := s.stmt.(driver.StmtQueryContext).QueryContext(ctx, s.args)
	s.unbind()
	if err != nil {
		return fmt.Errorf("%s: %w", s.text, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", s.text, err)
		}
		if err := do(row); err != nil {
			return err
		}
	}
}

func (s *stmt) unbind() {
	clear(s.args)
	s.args = s.args[:0]
}

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
)

// A csvFile is a CSV file with a header.
type csvFile struct{ path string }

// open returns a reader behind the header. The caller closes the file.
func (f csvFile) open(tee io.Writer) (*os.File, *csv.Reader, []string, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the import: %w", err)
	}
	text := bufio.NewReader(io.TeeReader(file, tee))
	if mark, err := text.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" { // Excel's byte order mark
		_, _ = text.Discard(len(mark))
	}
	reader := csv.NewReader(text)
	header, err := reader.Read()
	if err != nil {
		_ = file.Close()
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty; the first line must name the columns")
		}
		return nil, nil, nil, fmt.Errorf("read %s: %w", f.path, err)
	}
	reader.ReuseRecord = true
	return file, reader, header, nil
}

// header reads the names of the columns.
func (f csvFile) header() ([]string, error) {
	file, _, header, err := f.open(io.Discard)
	if err != nil {
		return nil, err
	}
	if strings.Contains(strings.Join(header, ""), "\r") { // the reader leaves out those before a line feed
		err = fmt.Errorf("read %s: its lines end with a carriage return alone; convert it, such as with: tr '\\r' '\\n'", f.path)
	}
	return header, errors.Join(err, file.Close())
}

// lines reads the rows one after the other; those that are no CSV come as bad
// lines. An error of the file is yielded last. All bytes also go to tee.
func (f csvFile) lines(m *mapping, tee io.Writer) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		file, reader, _, err := f.open(tee)
		if err != nil {
			yield(line{}, err)
			return
		}
		defer file.Close()
		seen := make(map[string]struct{})
		for number := 1; ; number++ {
			cells, err := reader.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			l, fatal := m.row(number, reader, cells, err)
			if fatal != nil {
				yield(line{}, fmt.Errorf("read %s: %w", f.path, fatal))
				return
			}
			l.again = repeats(seen, l)
			if !yield(l, nil) {
				return
			}
		}
	}
}

// row is what the reader read, as a line.
func (m *mapping) row(number int, reader *csv.Reader, cells []string, err error) (line, error) {
	if malformed, ok := errors.AsType[*csv.ParseError](err); ok {
		return line{number: number, at: malformed.StartLine, bad: malformed.Err}, nil
	}
	if err != nil {
		return line{}, err
	}
	at, _ := reader.FieldPos(0)
	return m.line(number, at, cells), nil
}

// repeats reports whether an earlier row had the same in the distinct field. Bad
// rows do not count.
func repeats(seen map[string]struct{}, l line) bool {
	if l.distinct == "" || l.bad != nil {
		return false
	}
	_, again := seen[l.distinct]
	seen[l.distinct] = struct{}{}
	return again
}

// An inspection is what reading the whole file says.
type inspection struct {
	id   string // of the import
	rows int
	bad  int
}

// inspect reads the whole file and checks every row. It names the import after
// the file's bytes and the mapping, so that the same import has the same name
// wherever and whenever it is run.
func (f csvFile) inspect(m *mapping, each func(line)) (inspection, error) {
	var found inspection
	sum := sha256.New()
	for l, err := range f.lines(m, sum) {
		if err != nil {
			return found, err
		}
		found.rows++
		if l.bad != nil {
			found.bad++
		}
		each(l)
	}
	identity, err := json.Marshal(m.identity())
	if err != nil {
		return found, err
	}
	sum.Write(identity)
	found.id = "import-" + hex.EncodeToString(sum.Sum(nil)[:16])
	return found, nil
}

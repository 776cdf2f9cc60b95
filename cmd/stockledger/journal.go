package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// A journal notes in a file which rows of an import the ledger has accepted, so
// that the next run need not send them again. Nothing rests on it: a row that is
// sent again has no second effect, and in the end the ledger is asked what it has.
//
// The file is a first line that says which import and which log it is about, and
// the number of an accepted row on each further line.
type journal struct {
	path string
	done numbers
	file *os.File
	w    *bufio.Writer
}

// numbers is a set of row numbers; a million of them take 125 kB.
type numbers struct{ bits []uint64 }

func (n *numbers) add(i int) {
	for i/64 >= len(n.bits) {
		n.bits = append(n.bits, make([]uint64, len(n.bits)+64)...)
	}
	n.bits[i/64] |= 1 << (i % 64)
}

func (n *numbers) has(i int) bool {
	return i >= 0 && i/64 < len(n.bits) && n.bits[i/64]&(1<<(i%64)) != 0
}

var journalFile = ownFile{"import journal", "--journal", regexp.MustCompile("^stockledger import .* into log [^ ]*\n$")}

// openJournal reads the journal at path, if it is about that import into that
// log, and begins a new one otherwise.
func openJournal(path, importID, logID string) (*journal, error) {
	if err := journalFile.mayReplace(path); err != nil {
		return nil, err
	}
	j := &journal{path: path}
	title := fmt.Sprintf("stockledger import %s into log %s", importID, logID)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("import journal: %w", err)
	}
	j.file, j.w = file, bufio.NewWriter(file)
	if err := j.read(title); err != nil {
		return nil, errors.Join(fmt.Errorf("import journal %s: %w", path, err), file.Close())
	}
	return j, nil
}

// read reads the rows, and leaves the file ready for more of them.
func (j *journal) read(title string) error {
	text := bufio.NewReader(j.file)
	first, _ := text.ReadString('\n')
	end := int64(len(first))
	if first != title+"\n" {
		if err := j.file.Truncate(0); err != nil {
			return err
		}
		if _, err := j.file.Seek(0, 0); err != nil {
			return err
		}
		_, err := j.w.WriteString(title + "\n")
		return errors.Join(err, j.w.Flush()) // from now on it is known to be a journal
	}
	for {
		row, err := text.ReadString('\n')
		number, notNumber := strconv.Atoi(strings.TrimSuffix(row, "\n"))
		if err != nil || notNumber != nil || number < 0 {
			break // the end, or a line that was cut off in the middle
		}
		j.done.add(number)
		end += int64(len(row))
	}
	if err := j.file.Truncate(end); err != nil {
		return err
	}
	_, err := j.file.Seek(end, 0)
	return err
}

// has reports whether the row was accepted in an earlier run.
func (j *journal) has(number int) bool { return j != nil && j.done.has(number) }

// accepted notes a row.
func (j *journal) accepted(number int) error {
	if j == nil {
		return nil
	}
	_, err := fmt.Fprintln(j.w, number)
	if err == nil && number%64 == 0 {
		err = j.w.Flush() // what a kill loses is sent again
	}
	return err
}

// close keeps the journal for the next run, or removes it when there is no more
// to do.
func (j *journal) close(finished bool) error {
	if j == nil {
		return nil
	}
	err := errors.Join(j.w.Flush(), j.file.Close())
	if finished {
		err = errors.Join(err, os.Remove(j.path))
	}
	return err
}

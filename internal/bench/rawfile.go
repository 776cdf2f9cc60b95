package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// rawFile is the least that a durable log has to do: records at the end of a file,
// all those that wait with one write and one sync. It keeps nothing apart, checks
// nothing and can find nothing again.
type rawFile struct {
	file *os.File

	mu      sync.Mutex
	more    *sync.Cond
	next    []byte // what waits to be written
	waiting []chan error
	closed  bool

	groups, records int
	done            chan struct{}
}

func openRawFile(path string) (*rawFile, error) {
	file, err := os.Create(path) //nolint:gosec // G304: a file of ours
	if err != nil {
		return nil, err
	}
	f := &rawFile{file: file, done: make(chan struct{})}
	f.more = sync.NewCond(&f.mu)
	go f.write()
	return f, nil
}

// commit returns once record is on disk. Answer is the caller's own, with room for
// one.
func (f *rawFile) commit(record []byte, answer chan error) error {
	f.mu.Lock()
	f.next = append(f.next, record...)
	f.waiting = append(f.waiting, answer)
	f.mu.Unlock()
	f.more.Signal()
	return <-answer
}

func (f *rawFile) write() {
	defer close(f.done)
	var group []byte
	var callers []chan error
	for {
		f.mu.Lock()
		for len(f.waiting) == 0 && !f.closed {
			f.more.Wait()
		}
		group, f.next = f.next, group[:0]
		callers, f.waiting = f.waiting, callers[:0]
		f.mu.Unlock()
		if len(callers) == 0 {
			return
		}
		_, err := f.file.Write(group)
		if err == nil {
			err = syncData(f.file)
		}
		f.groups, f.records = f.groups+1, f.records+len(callers)
		for _, answer := range callers {
			answer <- err
		}
	}
}

// close waits until everything is written.
func (f *rawFile) close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.more.Signal()
	<-f.done
	return f.file.Close()
}

// RawFile appends records of so many bytes to a file, group by group.
func (b *Bench) RawFile(ctx context.Context, load Load, bytes int) (figures Figures, err error) {
	dir, remove, err := b.fresh("file")
	if err != nil {
		return figures, err
	}
	defer remove()
	path := filepath.Join(dir, "log")
	file, err := openRawFile(path)
	if err != nil {
		return figures, err
	}
	workers := make([]worker, load.Callers)
	for i := range workers {
		record, answer := make([]byte, bytes), make(chan error, 1)
		workers[i] = func(context.Context) (Kind, error) { return Adjust, file.commit(record, answer) }
	}
	figures, err = b.drive(ctx, Figures{What: "group-committed file", Durable: true, Bytes: float64(bytes)}, load, workers)
	if err := errors.Join(err, file.close()); err != nil {
		return figures, err
	}
	figures.Group = float64(file.records) / float64(max(1, file.groups))
	return figures, file.check(path, int64(bytes))
}

// check looks whether the file has the bytes that were acknowledged.
func (f *rawFile) check(path string, bytes int64) error {
	about, err := os.Stat(path)
	if err == nil && about.Size() != int64(f.records)*bytes {
		err = fmt.Errorf("the file has %d bytes; %d records of %d were acknowledged", about.Size(), f.records, bytes)
	}
	return err
}

package sqlitestore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Sizes in SQLite's write-ahead log, see https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
const (
	walHeader   = 32
	frameHeader = 24
)

// checkWAL refuses a write-ahead log that is damaged before its end.
//
// SQLite takes the first frame whose checksum is wrong for the end of the file,
// because that is what a crash in the middle of a write leaves, and forgets the
// frames behind it. But a transaction begins to be written once the one before it is
// synced. So where a frame is wrong and another transaction follows its own, it was
// not a crash: what is behind it was acknowledged, and is not to be forgotten.
func checkWAL(path string) error {
	f, err := os.Open(path) //nolint:gosec // G304: the path is the operator's
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	w := &walReader{from: bufio.NewReaderSize(f, 1<<20)}
	if !w.begin() {
		return nil // nothing was ever written to it
	}
	sound := int64(0)
	for !w.broken {
		sound = w.at
		if !w.next() {
			break
		}
	}
	if lost := w.behind(); lost > 0 {
		return fmt.Errorf("the write-ahead log %s is damaged after byte %d, and has at least %d acknowledged transactions behind that, which SQLite would drop; "+
			"copy it and the log away, and restore a backup; "+
			"to go on without what is behind the damage, cut the file off there (truncate -s %d)", path, sound, lost, sound)
	}
	if w.failed != nil {
		return fmt.Errorf("read %s: %w", path, w.failed)
	}
	return nil
}

// A walReader reads the frames of a write-ahead log in their order.
type walReader struct {
	from   io.Reader
	order  binary.ByteOrder // of the words that are summed
	frame  []byte
	salts  uint64 // of the frames that belong to it; others are left from before it was begun anew
	sum    [2]uint32
	at     int64 // bytes read
	broken bool  // the header, or a frame, does not have the sum it says
	failed error
}

// begin reads the header. It reports false if there is none.
func (w *walReader) begin() bool {
	head := make([]byte, walHeader)
	if !w.read(head) {
		return false
	}
	w.order = binary.LittleEndian
	if head[3]&1 == 1 {
		w.order = binary.BigEndian
	}
	w.salts = binary.BigEndian.Uint64(head[16:])
	w.add(head[:24])
	w.broken = w.sum != sums(head[24:])
	size := binary.BigEndian.Uint32(head[8:])
	if size == 1 { // how the largest is written
		size = 65536
	}
	if size < 512 || size > 65536 || size&(size-1) != 0 {
		w.broken, size = true, pageSize
	}
	w.frame = make([]byte, frameHeader+size)
	return true
}

// next reads a frame. It reports false where no whole one is left.
func (w *walReader) next() bool {
	if !w.read(w.frame) {
		return false
	}
	w.add(w.frame[:8])
	w.add(w.frame[frameHeader:])
	w.broken = w.broken || !w.belongs() || w.sum != sums(w.frame[16:])
	return true
}

// belongs reports whether the frame is not left from before.
func (w *walReader) belongs() bool { return binary.BigEndian.Uint64(w.frame[8:]) == w.salts }

// commits reports whether the frame is the last of a transaction.
func (w *walReader) commits() bool { return binary.BigEndian.Uint32(w.frame[4:]) != 0 }

// behind counts the transactions from the frame that was read last on, if another one
// follows the first of them; otherwise that one may never have been synced.
func (w *walReader) behind() (whole int) {
	if !w.broken {
		return 0
	}
	if w.at == walHeader { // the header itself: who knows which salts it had
		if !w.next() {
			return 0
		}
		w.salts = binary.BigEndian.Uint64(w.frame[8:])
	}
	follows := false
	for more := true; more; more = w.next() {
		if !w.belongs() {
			continue
		}
		follows = follows || whole > 0
		if w.commits() {
			whole++
		}
	}
	if !follows {
		return 0
	}
	return whole
}

func (w *walReader) read(into []byte) bool {
	n, err := io.ReadFull(w.from, into)
	w.at += int64(n)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		w.failed = err
	}
	return err == nil
}

// add sums words as SQLite does.
func (w *walReader) add(words []byte) {
	for ; len(words) > 0; words = words[8:] {
		w.sum[0] += w.order.Uint32(words) + w.sum[1]
		w.sum[1] += w.order.Uint32(words[4:]) + w.sum[0]
	}
}

func sums(stated []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(stated), binary.BigEndian.Uint32(stated[4:])}
}

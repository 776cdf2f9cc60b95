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
//
// Damage in the last transaction looks as a crash does, and is taken for one. So is
// damage in the one before it that makes the frame at its end say that it is none,
// by which the two look like one: a bit does that if it is the only one in the number
// of pages there.
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
			"copy it and the log away, and restore a backup", path, sound, lost)
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
	salts  uint64    // of the frames that belong to it; others are left from before it was begun anew
	sum    [2]uint32 // of all before, as it is
	stated [2]uint32 // as the frame before, or the header, says it is
	at     int64     // bytes read
	linked bool      // the frame goes on from the one before it
	ours   bool      // the frame belongs to it
	broken bool      // the header, or a frame, does not have the sum it says
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
	w.sum, w.stated = w.sumOf([2]uint32{}, head[:24]), sums(head[24:])
	if w.broken = w.sum != w.stated; w.broken {
		w.order = binary.NativeEndian // it was written here, whatever the header has become
	}
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
	before, said := w.stated, sums(w.frame[16:])
	salted := binary.BigEndian.Uint64(w.frame[8:]) == w.salts
	w.sum, w.stated = w.sumOf(w.sum, w.frame[:8], w.frame[frameHeader:]), said
	w.linked = w.sum == said
	w.broken = w.broken || !salted || !w.linked
	// It is the frame before that is damaged. Those from before the log was begun anew
	// go on from each other, too, but with other salts.
	if salted && !w.linked && w.sumOf(before, w.frame[:8], w.frame[frameHeader:]) == said {
		w.linked, w.sum = true, said
	}
	w.ours = salted || w.linked // its salts are in no sum
	return true
}

// commits reports whether the frame is the last of a transaction.
func (w *walReader) commits() bool { return binary.BigEndian.Uint32(w.frame[4:]) != 0 }

// behind counts the transactions from the frame that was read last on, if another one
// goes on from one of them: that is written only when the one before it is synced.
// Frames that merely have the same salts prove nothing. They may be left from a
// transaction that was rolled back, or not be those that the disk was told to write.
func (w *walReader) behind() (whole int) {
	if !w.broken {
		return 0
	}
	if w.at == walHeader { // the header itself: who knows which salts it had
		if !w.next() {
			return 0
		}
		w.salts, w.ours = binary.BigEndian.Uint64(w.frame[8:]), true
	}
	synced, ended := false, false
	for more := true; more; more = w.next() {
		synced = synced || ended && w.ours && w.linked
		if ended = w.ours && w.commits(); ended {
			whole++
		}
	}
	if !synced {
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

// sumOf goes on summing words, as SQLite does.
func (w *walReader) sumOf(sum [2]uint32, parts ...[]byte) [2]uint32 {
	for _, words := range parts {
		for ; len(words) > 0; words = words[8:] {
			sum[0] += w.order.Uint32(words) + sum[1]
			sum[1] += w.order.Uint32(words[4:]) + sum[0]
		}
	}
	return sum
}

func sums(stated []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(stated), binary.BigEndian.Uint32(stated[4:])}
}

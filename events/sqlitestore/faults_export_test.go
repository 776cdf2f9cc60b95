package sqlitestore

import (
	"context"
	"errors"
)

// OpenNarrowOn is OpenOn for a log whose bounds are so small that a few appends
// cross them all: its write-ahead log moves to the file every few commits, and is
// begun anew every few times that it moves.
func OpenNarrowOn(vfs, path string) (*Store, error) {
	s, err := OpenOn(vfs, path)
	if err != nil {
		return nil, err
	}
	s.places.key = func(stream string) int64 { return keyOf(stream) & 1023 }
	s.places.size = 7
	s.heads.size = 5
	s.walLimit = 80 << 10
	if err := s.writer.conn.exec(context.Background(), "PRAGMA wal_autocheckpoint = 10"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

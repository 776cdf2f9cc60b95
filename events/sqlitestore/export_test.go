package sqlitestore

import (
	"context"
	"math"
)

// OpenNarrow opens a log whose bounds are so small that every test crosses them,
// and where many streams share a key.
func OpenNarrow(path string) (*Store, error) {
	s, err := Open(path)
	if err != nil {
		return nil, err
	}
	s.places.key = func(stream string) int64 { return keyOf(stream) & 1023 }
	s.places.size = 37
	s.heads.size = 11
	s.walLimit = 1 << 20
	s.moveAll = 300 << 10
	s.mover.every = 100 << 10 // some appends
	return s, nil
}

// Synchronous is the writer's setting: 2 is FULL, an fsync with every commit.
func (s *Store) Synchronous() (any, error) {
	row, err := s.writer.conn.row(context.Background(), "PRAGMA synchronous")
	if err != nil {
		return nil, err
	}
	return row[0], nil
}

// OpenMoved opens a log whose write-ahead log is moved to the file by nobody but
// the mover, every few appends.
func OpenMoved(path string) (*Store, error) {
	s, err := Open(path)
	if err != nil {
		return nil, err
	}
	s.mover.every = 100 << 10
	s.moveAll = math.MaxInt
	return s, nil
}

// Bounded is how many bytes the write-ahead log has at most after an append to a log
// of OpenBounded, while nobody reads.
const Bounded = 256 << 10

// OpenBounded opens a log whose write-ahead log is moved to the file after every
// append, and is begun anew every few appends.
func OpenBounded(path string) (*Store, error) {
	s, err := Open(path)
	if err != nil {
		return nil, err
	}
	s.mover.every = 1
	s.walLimit = Bounded
	return s, nil
}

// OpenStill opens a log whose write-ahead log stays where it is.
func OpenStill(path string) (*Store, error) {
	s, err := Open(path)
	if err != nil {
		return nil, err
	}
	s.mover.every = math.MaxInt
	return s, s.writer.conn.exec(context.Background(), "PRAGMA wal_autocheckpoint = 0")
}

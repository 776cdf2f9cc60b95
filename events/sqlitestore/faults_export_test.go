package sqlitestore

import "errors"

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
	s.mover.every = 80 << 10
	s.moveAll = 120 << 10
	return s, nil
}

// LetGo closes what a store that has stopped keeps open until its process ends. The
// process's end would not move the write-ahead log, and this does.
func LetGo(s *Store) error {
	if s.left == nil {
		return nil
	}
	return errors.Join(s.left.close(), s.lock.Unlock())
}

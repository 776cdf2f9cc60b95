package esdbstore

import "context"

// Crash ends the store as a crash of its process does: at once, whatever is on
// its way.
func (s *Store) Crash() {
	s.once.Do(func() {
		s.queue.close()
		close(s.closing)
		s.stop()
		s.writer.Wait()
		s.journal.tail.Close()
		s.abandon()
		s.others.Wait()
	})
}

// Copied reports whether every event is in its own stream, as far as this store
// knows.
func (s *Store) Copied() bool {
	_, lag, _ := s.journal.moving()
	return lag == 0
}

// Copy waits until every event is in its own stream.
func (s *Store) Copy(ctx context.Context) error { return s.recover(ctx) }

// RevisionIn is revisionIn.
var RevisionIn = revisionIn

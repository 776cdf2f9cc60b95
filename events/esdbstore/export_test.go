package esdbstore

import (
	"context"
	"log/slog"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

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

// Waiting is how many requests the writer has yet to take.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}

// Ahead makes the store know of one more record of the journal than the server
// has, as it does when the server is restored from a backup.
func (s *Store) Ahead() {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.revision++
}

// RevisionIn is revisionIn.
var RevisionIn = revisionIn

// Insist repeats a call as every call to the server is repeated, and tells whether
// it is judged to have been too large.
func Insist(ctx context.Context, do func(ctx context.Context) error) (tooLarge bool, err error) {
	s := newServer(esdb.Configuration{}, slog.New(slog.DiscardHandler))
	s.current = &generation{server: s, retired: make(chan struct{})}
	_, err = insist(ctx, s, func(ctx context.Context, _ *esdb.Client) (struct{}, error) { return struct{}{}, do(ctx) })
	return judge(err) == oversize, err
}

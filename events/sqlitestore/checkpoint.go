package sqlitestore

import (
	"context"
	"sync"
	"sync/atomic"
)

// The write-ahead log moves to the file beside the writer, a little at a time. When
// all of it moved within a COMMIT, as SQLite does by itself, whoever waited for that
// commit waited for 16 MB to be written and synced, some 30 ms; and to sync 4 MB at
// once holds up the writer's own sync for 10.
const (
	// checkpointEvery is how many bytes are appended until what there is moves.
	checkpointEvery = 1 << 19
	// pagesPerAppend is about what an append writes besides its events: the ends of
	// the tables, and the index.
	pagesPerAppend = 8
	pageSize       = 4096
)

// mover moves the write-ahead log to the file.
type mover struct {
	conn    *conn
	wake    chan struct{}
	done    chan struct{} // closed by close
	working sync.WaitGroup
	moving  sync.Mutex            // held while it moves
	failed  atomic.Pointer[error] // of the disk, which ended it

	every int // checkpointEvery
	since int // bytes appended since it was woken; the writer's, and so is every
}

func startMover(ctx context.Context, path, vfs string) (*mover, error) {
	c, err := dial(ctx, path, vfs, "busy_timeout = 0", "synchronous = FULL", "wal_autocheckpoint = 0", "cache_size = -64")
	if err != nil {
		return nil, err
	}
	m := &mover{conn: c, every: checkpointEvery, wake: make(chan struct{}, 1), done: make(chan struct{})}
	m.working.Go(m.move)
	return m, nil
}

// appended says how many bytes an append wrote. It never waits.
func (m *mover) appended(bytes int) {
	if m.since += bytes + pagesPerAppend*pageSize; m.since < m.every {
		return
	}
	m.since = 0
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// move moves what no reader needs where it is. That it cannot is nothing lost: the
// log only becomes longer, until the writer moves it. But when the disk fails it must
// not be asked again, and the store stops.
func (m *mover) move() {
	for {
		select {
		case <-m.wake:
			m.moving.Lock()
			_, err := m.conn.row(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
			if isFailedSync(err) {
				m.failed.Store(&err)
			}
			m.moving.Unlock()
			if isFailedSync(err) {
				return
			}
		case <-m.done:
			return
		}
	}
}

func (m *mover) close() error {
	close(m.done)
	m.working.Wait()
	return m.conn.close()
}

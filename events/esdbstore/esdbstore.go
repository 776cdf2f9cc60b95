// Package esdbstore is the ledger's log in EventStoreDB or KurrentDB.
//
// The ledger needs one order over everything, without gaps, and commits that
// touch several streams. EventStoreDB orders within a stream, and appends to one
// at a time. So the log is one stream, the journal, and an append to it with the
// exact revision expected is the commit point. From there every event is copied
// to a stream of its own, for whoever reads one stream, here or with the tools of
// EventStoreDB. The copies have exact revisions and deterministic ids, so any
// process may make them, any number of times, and what a crash left out is made
// up for before the log is served again. docs/decisions/0014 tells why.
package esdbstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

// Config says which log, and where.
type Config struct {
	// URL is esdb://host:2113[,host…]?tls=false&ledger=NAME, with esdb+discover
	// for a DNS name, or kurrentdb for esdb. The name of the ledger, stockledger if
	// it is left out, begins the names of its streams. maxAppendSize is how many
	// bytes the server takes in one append, 1 MiB if it is left out, which is the
	// limit of servers before 25.1. The other parameters are those of EventStoreDB
	// connection strings; unknown ones are refused.
	URL string
	// LogID is the identity the log must have, or gets if it is new. Empty: any.
	LogID string
	// Existing makes no log: the error is [fs.ErrNotExist] where there is none.
	Existing bool
	Logger   *slog.Logger // nil: slog.Default()
}

// Store is an [events.Shared] in EventStoreDB.
type Store struct {
	id       string
	existing bool      // it is not made
	space    uuid.UUID // of deterministic event ids
	process  uuid.UUID // this one, among all that append to the journal
	names    names
	log      *slog.Logger
	server   *server // for the journal, registers and reads
	copier   *server // for what goes to the streams: a connection carries 100 calls at a time
	journal  *journal
	fanout   fanout
	queue    queue
	limit    atomic.Int64 // bytes that go into one append
	maxSize  int          // bytes that the server takes in one, by the URL
	alone    atomic.Bool  // the journal is followed without $all

	syncing               chan struct{} // held by who reads the journal to its end
	syncsBegun, syncsDone atomic.Int64

	doubt   bool          // the writer does not know how its last append ended
	closing chan struct{} // closed once nothing is appended any more
	once    sync.Once
	stop    context.CancelFunc // ends what goes on in the background
	writer  sync.WaitGroup
	others  sync.WaitGroup
}

var _ events.Shared = (*Store)(nil)

// Open opens the log, and makes it where there is none. It waits for the server
// until ctx ends. What an earlier process committed and did not copy to the
// streams is copied before Open returns. The error is [events.ErrOtherLog] if the
// log has another identity than c.LogID.
func Open(ctx context.Context, c Config) (*Store, error) {
	a, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Store{
		process: uuid.New(), existing: c.Existing, names: namesOf(a.ledger), log: c.Logger.With("ledger", a.ledger), maxSize: a.maxSize,
		syncing: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.server, s.copier = newServer(a.config, s.log), newServer(a.config, s.log)
	s.limit.Store(int64(a.maxSize))
	s.queue.init()
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.fanout.init(background)
	if err := s.open(ctx, c.LogID); err != nil {
		s.abandon()
		return nil, fmt.Errorf("open ledger %s in EventStoreDB: %w", a.ledger, err)
	}
	s.writer.Go(func() { s.write(background) })
	s.others.Go(func() { s.follow(background) })
	s.others.Go(func() { s.tend(background) })
	return s, nil
}

// open finds out where the journal is, and ends what others began.
func (s *Store) open(ctx context.Context, logID string) error {
	if err := s.begin(ctx, logID); err != nil {
		return err
	}
	last, err := s.last(ctx)
	if err != nil {
		return err
	}
	s.journal = &journal{
		tail: events.NewTail(last.label.Before), behind: make(map[string][]events.Recorded),
		at: last.at, revision: last.label.Fanned, head: last.label.Before, fanned: last.label.Fanned, before: last.label.Before,
		versions: versions{all: last.label.Fanned == 0},
	}
	if err := s.sync(ctx); err != nil {
		return err
	}
	return s.recover(ctx)
}

// begin reads the first event of the journal, or writes it: of several
// processes that do so at once one wins, and the others read what it wrote.
func (s *Store) begin(ctx context.Context, logID string) error {
	for {
		found, err := waitFor(ctx, func() (page[*esdb.RecordedEvent], error) {
			return readPage(ctx, s.server, s.names.journal, 0, 1, nil, whole)
		})
		if err != nil {
			return err
		}
		if len(found.items) > 0 {
			return s.identify(found.items[0], logID)
		}
		if s.existing {
			return fmt.Errorf("there is no log: %w", fs.ErrNotExist)
		}
		if err := s.create(ctx, logID); err != nil && judge(err) != moved {
			return err
		}
	}
}

// waitFor repeats what no server answers, until ctx ends.
func waitFor[T any](ctx context.Context, do func() (T, error)) (T, error) {
	for {
		result, err := do()
		if err == nil || ctx.Err() != nil || errors.Is(err, events.ErrClosed) || judge(err) != unknown || errors.Is(err, errJournal) {
			return result, err
		}
	}
}

// create begins the journal with an identity.
func (s *Store) create(ctx context.Context, logID string) error {
	if logID == "" {
		logID = uuid.NewString()
	}
	id, err := identity(logID)
	if err != nil {
		return err
	}
	body, err := json.Marshal(begun{LogID: logID})
	if err != nil {
		return err
	}
	_, err = insist(ctx, s.server, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(ctx, s.names.journal, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, esdb.EventData{
			EventID: uuid.NewSHA1(id, []byte("journal")), EventType: typeBegun, ContentType: esdb.ContentTypeJson, Data: body,
		})
	})
	return err
}

// identify takes the identity of the log from the first event of its journal.
func (s *Store) identify(first *esdb.RecordedEvent, want string) error {
	var b begun
	if first.EventType != typeBegun || first.EventNumber != 0 || json.Unmarshal(first.Data, &b) != nil {
		return fmt.Errorf("stream %s does not begin as a journal does: %w", s.names.journal, errJournal)
	}
	if want != "" && b.LogID != want {
		return fmt.Errorf("the log is %s, not %s: %w", b.LogID, want, events.ErrOtherLog)
	}
	space, err := identity(b.LogID)
	s.id, s.space = b.LogID, space
	return err
}

// last is the newest record of the journal.
func (s *Store) last(ctx context.Context) (record, error) {
	e, err := readLast(ctx, s.server, s.names.journal)
	if err != nil {
		return record{}, err
	}
	if e == nil {
		return record{}, fmt.Errorf("stream %s is gone: %w", s.names.journal, errJournal)
	}
	return recordOf(e)
}

// LogID implements [events.Store].
func (s *Store) LogID() string { return s.id }

// Head implements [events.Store]. It asks the server that leads.
func (s *Store) Head(ctx context.Context) (uint64, error) {
	if err := s.sync(ctx); err != nil {
		return 0, fmt.Errorf("head: %w", err)
	}
	_, head, _ := s.journal.state()
	return head, nil
}

// Close implements [events.Store]. It waits a little for the events appended to
// get to their streams; whoever opens the log next makes up for the others.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.queue.close()
		s.writer.Wait()
		s.settle()
		close(s.closing)
		s.journal.tail.Close()
		s.abandon()
		s.others.Wait()
	})
	return nil
}

// abandon ends everything at once.
func (s *Store) abandon() {
	s.stop()
	s.fanout.wait()
	s.copier.close()
	s.server.close()
}

package esdbstore

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

const (
	markEvery = 1024    // events between remembered places of the journal
	knownMax  = 1 << 18 // streams whose versions are remembered, twice
)

var errJournal = errors.New("the journal is damaged, or a newer version wrote it")

// journal is what a process knows of the journal stream, record by record up to
// some revision. Every reader of the journal goes through apply, so all skip the
// same abandoned parts.
type journal struct {
	mu       sync.Mutex
	tail     *events.Tail
	revision uint64        // of the last record known
	head     uint64        // position of the last event known
	at       esdb.Position // of the last record that came from the server; a subscription goes on there
	parts    partial
	own      *group // being appended by this process, so that its events need no decoding

	pending  []*pending                   // records after fanned, oldest first
	lag      int                          // events of pending that are not known to be in their own streams
	lagBytes int                          // of the facts and metadata of pending
	behind   map[string][]events.Recorded // the events of pending by stream
	fanned   uint64                       // revision; the events up to it are in their own streams
	before   uint64                       // the position it ends at
	moved    chan struct{}                // closed when some more are; nil while nobody waits

	versions versions
	marks    []mark // sorted
}

// mark is where a position is found: in the record at that revision.
type mark struct{ first, revision uint64 }

// pending is a record whose events may not all be in their own streams.
type pending struct {
	revision, end uint64
	events        []events.Recorded
	left          int  // events that this process has yet to see there
	given         bool // to fan out
}

// partial is a commit of which only some parts have come.
type partial struct {
	commit string
	n      int
	body   []byte
}

// add adds a part, and forgets what it does not continue: a writer gave that up.
func (p *partial) add(l label, body []byte) error {
	if l.Part == 1 {
		*p = partial{commit: l.Commit}
	}
	if l.Part != p.n+1 || l.Commit != p.commit {
		return fmt.Errorf("part %d of commit %s comes after %d parts of %s: %w", l.Part, l.Commit, p.n, p.commit, errJournal)
	}
	p.n++
	p.body = append(p.body, body...)
	return nil
}

// decode is the events that a record completes; none if it is a part that does
// not.
func (p *partial) decode(r record) (list []events.Recorded, err error) {
	body := r.body
	if r.label.Parts > 0 {
		if err := p.add(r.label, r.body); err != nil {
			return nil, fmt.Errorf("journal record %d: %w", r.revision, err)
		}
		body = p.body
	}
	if !r.label.complete() {
		return nil, nil
	}
	*p = partial{}
	list, err = eventsIn(body, r.label.First)
	if err == nil && len(list) != r.label.Events {
		err = errBody
	}
	if err != nil {
		return nil, fmt.Errorf("journal record %d: %w", r.revision, err)
	}
	return list, nil
}

// apply takes the next record. One that is known already is passed over; gap
// says that there are others before it.
func (j *journal) apply(r record) (gap bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case r.revision <= j.revision:
		return false, nil
	case r.revision > j.revision+1:
		return true, nil
	}
	if r.label.First != j.head+1 {
		return false, fmt.Errorf("journal record %d begins at position %d after position %d: %w", r.revision, r.label.First, j.head, errJournal)
	}
	list, own, err := j.contents(r)
	if err != nil {
		return false, err
	}
	if r.at.Commit > j.at.Commit { // what was appended here has no certain place
		j.at = r.at
	}
	j.take(r.revision, r.label, list)
	if own {
		j.own.done = true
	}
	return false, nil
}

// contents is the events of a record: the very events this process is appending
// if the record is theirs.
func (j *journal) contents(r record) (list []events.Recorded, own bool, err error) {
	if g := j.own; g != nil && g.id == r.id && g.revision == r.revision {
		j.parts = partial{}
		return g.records, true, nil
	}
	if r.label.Parts == 0 {
		j.parts = partial{}
	}
	list, err = j.parts.decode(r)
	return list, false, err
}

// take adds a record, which is durable, with the events it completes.
func (j *journal) take(revision uint64, l label, list []events.Recorded) {
	j.revision = revision
	if len(list) > 0 {
		j.head = list[len(list)-1].Position
		j.mark(mark{list[0].Position, l.start(revision)})
		p := &pending{revision: revision, end: j.head, events: list, left: len(list)}
		j.pending = append(j.pending, p)
		j.lag += len(list)
		for _, e := range list {
			j.lagBytes += len(e.Data) + len(e.Meta)
			j.behind[e.Stream] = append(j.behind[e.Stream], e)
			j.versions.set(e.Stream, e.Version)
		}
		j.tail.Add(list...)
	}
	j.trim(l.Fanned)
}

// trim forgets the pending records up to a revision: they are in their streams.
func (j *journal) trim(through uint64) {
	for len(j.pending) > 0 && (j.pending[0].revision <= through || j.pending[0].left == 0) {
		p := j.pending[0]
		j.pending = j.pending[1:]
		j.lag -= p.left
		p.left = 0
		for _, e := range p.events {
			j.lagBytes -= len(e.Data) + len(e.Meta)
			if rest := j.behind[e.Stream][1:]; len(rest) > 0 {
				j.behind[e.Stream] = rest
			} else {
				delete(j.behind, e.Stream)
			}
		}
		j.fanned, j.before = p.revision, p.end
		j.progress()
	}
}

// progress wakes those who wait for events to get to their streams.
func (j *journal) progress() {
	if j.moved != nil {
		close(j.moved)
		j.moved = nil
	}
}

// mark remembers where a position is, if none near it is remembered.
func (j *journal) mark(m mark) {
	i := sort.Search(len(j.marks), func(i int) bool { return j.marks[i].first > m.first })
	if i > 0 && m.first-j.marks[i-1].first < markEvery || i < len(j.marks) && j.marks[i].first-m.first < markEvery {
		return
	}
	j.marks = append(j.marks, mark{})
	copy(j.marks[i+1:], j.marks[i:])
	j.marks[i] = m
}

// around is the nearest places known at or before a position, and after it. The
// one after may be behind the end of the journal.
func (j *journal) around(position uint64) (low, high mark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := sort.Search(len(j.marks), func(i int) bool { return j.marks[i].first > position })
	low, high = mark{1, 0}, mark{j.head + 1, j.revision + 1}
	if i > 0 {
		low = j.marks[i-1]
	}
	if i < len(j.marks) {
		high = j.marks[i]
	}
	return low, high
}

func (j *journal) remember(m mark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mark(m)
}

// state is where the journal ends as far as is known.
func (j *journal) state() (revision, head uint64, at esdb.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.revision, j.head, j.at
}

// versions remembers the versions of many streams: the ones used last, or all.
type versions struct {
	young, old map[string]uint64
	all        bool // no stream was forgotten: one that is not here was never written to
	turns      int  // how often some were forgotten
}

func (v *versions) get(stream string) (version uint64, known bool) {
	if version, known = v.young[stream]; known {
		return version, true
	}
	if version, known = v.old[stream]; known {
		v.set(stream, version)
		return version, true
	}
	return 0, v.all
}

func (v *versions) set(stream string, version uint64) {
	if v.young == nil {
		v.young = make(map[string]uint64)
	}
	v.young[stream] = version
	if len(v.young) >= knownMax {
		v.all = v.all && len(v.old) == 0
		v.young, v.old = nil, v.young
		v.turns++
	}
}

// sync reads the journal to its end as it is on the leader now. Callers that
// wait for the same share one.
func (s *Store) sync(ctx context.Context) error {
	asked := s.syncsBegun.Load()
	select {
	case s.syncing <- struct{}{}:
		defer func() { <-s.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return events.ErrClosed
	}
	if s.syncsDone.Load() > asked {
		return nil // one that began after this call
	}
	n := s.syncsBegun.Add(1)
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	s.syncsDone.Store(n)
	return nil
}

// catchUp reads the journal from where it is known on to its end.
func (s *Store) catchUp(ctx context.Context) error {
	for {
		revision, _, _ := s.journal.state()
		page, err := s.records(ctx, revision+1, pageRecords, nil)
		if err != nil {
			return err
		}
		for _, r := range page.items {
			if gap, err := s.journal.apply(r); err != nil || gap {
				return errors.Join(err, gapIn(gap, r))
			}
		}
		if page.ended {
			return nil
		}
	}
}

func gapIn(gap bool, r record) error {
	if !gap {
		return nil
	}
	return fmt.Errorf("journal record %d comes without those before it: %w", r.revision, errJournal)
}

// records reads up to n records of the journal from a revision on.
func (s *Store) records(ctx context.Context, from, n uint64, enough func(record) bool) (page[record], error) {
	return readPage(ctx, s.server, s.names.journal, from, n, enough, recordOf)
}

// follow keeps up with what other processes append, until ctx ends.
func (s *Store) follow(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		heard := false
		err := s.server.subscribe(ctx, s.subscription(), func(e *esdb.SubscriptionEvent) error {
			heard = true
			return s.heard(ctx, e)
		})
		if ctx.Err() != nil || errors.Is(err, events.ErrClosed) {
			return
		}
		if judge(err) == refused && !s.alone.Swap(true) {
			s.log.Warn("following the journal alone, because the server refuses $all", "err", err)
			continue
		}
		s.log.Debug("following the journal again", "err", err)
		if heard {
			pause = backoff{}
		}
		pause.wait(ctx.Done())
	}
}

// subscription subscribes to $all behind the last record seen, with a filter by
// the journal's name, or to the journal where $all is not for this user.
func (s *Store) subscription() func(context.Context, *esdb.Client) (*esdb.Subscription, error) {
	revision, _, at := s.journal.state()
	if s.alone.Load() {
		return func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
			return c.SubscribeToStream(ctx, s.names.journal, esdb.SubscribeToStreamOptions{From: esdb.Revision(revision)})
		}
	}
	var from esdb.AllPosition = at
	if at.Commit == 0 { // servers before 23.10 do not tell positions of a stream's events
		from = esdb.End{}
	}
	return func(ctx context.Context, c *esdb.Client) (*esdb.Subscription, error) {
		return c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{
			From: from, MaxSearchWindow: searchWindow, CheckpointInterval: 1,
			Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{s.names.journal}},
		})
	}
}

// heard takes what a subscription says. The server's checkpoints are not used:
// some servers send one that is ahead of an event still to come. What a
// subscription may have left out is read when it says that it has caught up, or
// when a record shows that one is missing.
func (s *Store) heard(ctx context.Context, e *esdb.SubscriptionEvent) error {
	switch {
	case e.CaughtUp != nil:
		return s.sync(ctx)
	case e.EventAppeared == nil || e.EventAppeared.Event == nil || e.EventAppeared.Event.StreamID != s.names.journal:
		return nil
	}
	if e.EventAppeared.Event.EventNumber <= s.known() {
		s.seen(e.EventAppeared.Event)
		return nil // appended here, or read already: not worth decoding
	}
	r, err := recordOf(e.EventAppeared.Event)
	if err != nil {
		return s.damaged(err)
	}
	gap, err := s.journal.apply(r)
	if gap {
		return s.sync(ctx)
	}
	return s.damaged(err)
}

func (s *Store) known() uint64 {
	revision, _, _ := s.journal.state()
	return revision
}

// seen moves the place where a new subscription begins.
func (s *Store) seen(e *esdb.RecordedEvent) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	if e.Position.Commit > s.journal.at.Commit {
		s.journal.at = e.Position
	}
}

// damaged logs what nobody else would hear.
func (s *Store) damaged(err error) error {
	if err != nil {
		s.log.Error("the journal cannot be read", "journal", s.names.journal, "err", err)
	}
	return err
}

// identity makes the name space of this log's deterministic ids.
func identity(logID string) (uuid.UUID, error) {
	id, err := uuid.Parse(logID)
	if err != nil {
		return uuid.Nil, fmt.Errorf("the identity %q of the log is no UUID: %w", logID, err)
	}
	return id, nil
}

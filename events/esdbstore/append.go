package esdbstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"github.com/stockledger/stockledger/events"
)

const (
	overhead  = 1 << 10  // bytes of an append beside the body: the label, the type
	partsMax  = 64       // appends that a commit may take, so 64 MiB; its readers hold it in memory
	lookups   = 32       // streams whose versions are asked for at once
	lagMax    = 1 << 13  // events in the journal only, before an append waits
	lagBytes  = 32 << 20 // and of their facts and metadata
	groupSize = 1 << 20  // bytes of one record at most, so that answers come soon
)

// request is one call of Append or AppendAt. Until it is taken its caller may
// withdraw it; from then on only the writer touches it.
type request struct {
	commits []events.Commit
	spans   [][]events.Span
	at      *uint64 // where the log must end; it goes on with every commit
	ends    []uint64
	err     error
	done    chan struct{}
}

// finish answers the caller.
func (r *request) finish(err error) {
	r.err = err
	close(r.done)
}

// queue is the requests that wait for the writer.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	more    chan struct{} // has room for one
	closed  bool
}

func (q *queue) init() { q.more = make(chan struct{}, 1) }

func (q *queue) put(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return events.ErrClosed
	}
	q.waiting = append(q.waiting, r)
	q.signal()
	return nil
}

func (q *queue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take is all that waits, once something does. Nothing is the end.
func (q *queue) take() []*request {
	for {
		q.mu.Lock()
		taken, closed := q.waiting, q.closed
		q.waiting = nil
		q.mu.Unlock()
		if len(taken) > 0 || closed {
			return taken
		}
		<-q.more
	}
}

// withdraw takes a request back, if the writer does not have it.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.waiting {
		if w == r {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// Append implements [events.Store]. Commits of callers that wait at the same time
// are appended together. A commit is too large when it has an event that does
// not fit into one append of the server, or is larger than 64 appends are, of 1 MiB
// at most.
func (s *Store) Append(ctx context.Context, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, nil, commits)
}

// AppendAt implements [events.Store].
func (s *Store) AppendAt(ctx context.Context, head uint64, commits ...events.Commit) ([]uint64, error) {
	return s.append(ctx, &head, commits)
}

func (s *Store) append(ctx context.Context, head *uint64, commits []events.Commit) ([]uint64, error) {
	r := &request{commits: commits, at: head, done: make(chan struct{}), spans: make([][]events.Span, len(commits))}
	for i, c := range commits {
		r.spans[i] = c.Spans()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.queue.put(r); err != nil {
		return nil, fmt.Errorf("append: %w", err)
	}
	select {
	case <-r.done:
		return r.ends, r.err
	case <-ctx.Done():
	}
	if s.queue.withdraw(r) {
		return nil, ctx.Err()
	}
	select {
	case <-r.done: // it ended meanwhile
		return r.ends, r.err
	default:
		return nil, fmt.Errorf("append: the answer did not come in time: %w", ctx.Err())
	}
}

// write carries requests out until the store is closed. While a group is on its
// way the next one gathers.
func (s *Store) write(ctx context.Context) {
	for {
		waiting := s.queue.take()
		if len(waiting) == 0 {
			return
		}
		s.carryOut(ctx, waiting)
	}
}

// carryOut carries requests out, one group after another.
func (s *Store) carryOut(ctx context.Context, waiting []*request) {
	fresh := false // the journal is known as it was after these requests came
	for len(waiting) > 0 {
		err := s.room(ctx)
		if err == nil && s.doubt {
			err = s.sync(ctx)
			fresh = err == nil
		}
		var g *group
		if err == nil {
			s.doubt = false
			g, err = s.plan(ctx, waiting)
		}
		if err == nil && g.refused && !fresh {
			if err = s.sync(ctx); err == nil { // who refuses must know the newest
				fresh = true
				continue
			}
		}
		if err == nil {
			err = s.commit(ctx, g)
		}
		if errors.Is(err, errAgain) {
			fresh = fresh || g != nil // it was refused by the journal, which was read then
			continue
		}
		waiting = settle(waiting, g, err)
	}
}

// settle answers the requests that a group ends, and returns the others. After
// an error all end: those that had nothing in the group would only wait for the
// same error.
func settle(waiting []*request, g *group, err error) (rest []*request) {
	if err != nil {
		for _, r := range waiting {
			r.finish(fmt.Errorf("append: %w", err))
		}
		return nil
	}
	for i, r := range waiting {
		if i >= len(g.shares) { // the one before may not have fitted entirely
			return append(rest, waiting[i:]...)
		}
		share := g.shares[i]
		r.ends = append(r.ends, share.ends...)
		r.commits, r.spans = r.commits[len(share.ends):], r.spans[len(share.ends):]
		if r.at != nil && len(share.ends) > 0 {
			end := share.ends[len(share.ends)-1]
			r.at = &end
		}
		if share.refusal != nil || len(r.commits) == 0 {
			r.finish(share.refusal)
		} else {
			rest = append(rest, r)
		}
	}
	return rest
}

// errAgain says that a group was not recorded and may be planned anew.
var errAgain = errors.New("plan again")

// group is what is appended to the journal together: one record, or the parts of
// one large commit.
type group struct {
	id       uuid.UUID // of the last of writes
	revision uint64    // of the last of writes
	records  []events.Recorded
	body     []byte
	writes   []record
	shares   []share // of the first requests that wait
	refused  bool
	done     bool // it is in the journal; under the journal's mutex
}

// share is what a group does for a request.
type share struct {
	ends    []uint64 // of its next commits
	refusal error    // of the one after those
}

// plan makes the next group of what waits, as far as it fits.
func (s *Store) plan(ctx context.Context, waiting []*request) (*group, error) {
	if err := s.learn(ctx, waiting); err != nil {
		return nil, err
	}
	p := planner{group: &group{}, limit: s.bodySize(), event: int(s.limit.Load()) - overhead, largest: partsMax * min(s.maxSize-overhead, groupSize), versions: make(map[string]uint64)}
	j := s.journal
	j.mu.Lock()
	p.journal, p.head = j, j.head
	l := label{First: j.head + 1, Fanned: j.fanned, Before: j.before}
	revision := j.revision + 1
	for _, r := range waiting {
		if !p.add(r) {
			break
		}
	}
	j.mu.Unlock()
	if p.unknown != "" { // too many at once, or forgotten since
		if err := s.ask(ctx, p.unknown); err != nil {
			return nil, err
		}
		return nil, errAgain
	}
	l.Events = len(p.group.records)
	s.label(p.group, l, revision)
	return p.group, nil
}

// bodySize is how much goes into one record.
func (s *Store) bodySize() int { return min(int(s.limit.Load())-overhead, groupSize) }

// planner adds commits to a group, under the journal's mutex.
type planner struct {
	group    *group
	journal  *journal
	head     uint64
	limit    int // bytes of a body
	event    int // bytes of an event in its stream
	largest  int // bytes of a commit
	versions map[string]uint64
	full     bool
	unknown  string // a stream whose version nobody knows
}

// add adds what fits of a request, and reports whether more may fit.
func (p *planner) add(r *request) bool {
	var sh share
	at := r.at
	for i, c := range r.commits {
		if at != nil && *at != p.head {
			sh.refusal = fmt.Errorf("append at %d: the log is at position %d: %w", *at, p.head, events.ErrConflict)
		} else {
			sh.refusal = p.check(c, r.spans[i])
		}
		if p.unknown != "" {
			return false
		}
		if sh.refusal != nil {
			p.group.refused = p.group.refused || errors.Is(sh.refusal, events.ErrConflict)
			break
		}
		size := sizeOf(c)
		if len(p.group.body) > 0 && len(p.group.body)+size > p.limit {
			p.full = true
			break
		}
		p.put(c, r.spans[i])
		sh.ends = append(sh.ends, p.head)
		if at != nil {
			at = &p.head
		}
		if p.full = len(p.group.body) > p.limit; p.full {
			break
		}
	}
	p.group.shares = append(p.group.shares, sh)
	return !p.full
}

// check says why a commit cannot be recorded.
func (p *planner) check(c events.Commit, spans []events.Span) error {
	for _, span := range spans {
		version, known := p.version(span.Stream)
		if !known {
			p.unknown = span.Stream
			return nil
		}
		if version != span.Before {
			return fmt.Errorf("append to %s: it is at version %d, not %d: %w", span.Stream, version, span.Before, events.ErrConflict)
		}
	}
	for i := range c {
		if size := bulk(&c[i]); size > p.event {
			return fmt.Errorf("append to %s: an event of %d bytes, where the server takes %d (maxAppendSize in the URL of the log): %w",
				c[i].Stream, size, p.event, events.ErrTooLarge)
		}
	}
	if size := sizeOf(c); size > p.largest {
		return fmt.Errorf("append to %s and others: a commit of %d bytes, where %d are taken (%d times maxAppendSize in the URL of the log, and %d times %d at most): %w",
			c[0].Stream, size, p.largest, partsMax, partsMax, groupSize, events.ErrTooLarge)
	}
	return nil
}

// bulk bounds how large an event is in its stream, where metadata that is no JSON
// takes a third more.
func bulk(e *events.Recorded) int {
	return len(e.Data) + len(e.Meta)/3*4 + 3*len(e.Type) + 1200 // the rest of its metadata
}

func (p *planner) version(stream string) (version uint64, known bool) {
	if version, known = p.versions[stream]; known {
		return version, true
	}
	return p.journal.versions.get(stream)
}

// put adds a commit, behind the ones before it.
func (p *planner) put(c events.Commit, spans []events.Span) {
	for _, span := range spans {
		p.versions[span.Stream] = span.After
	}
	p.group.body = appendCommit(p.group.body, c)
	for _, e := range c {
		p.head++
		e.Position = p.head
		p.group.records = append(p.group.records, e)
	}
}

// label makes the journal records of a group, the first at a revision. Their ids
// are the same whenever this process appends them there, and others when another
// one appends the same, which has to be told that it came second, or when they are
// cut into other parts, of which an earlier one may yet arrive.
func (s *Store) label(g *group, l label, revision uint64) {
	if len(g.records) == 0 {
		return
	}
	size := s.bodySize()
	name := append(make([]byte, 0, 40+32*len(g.records)), s.process[:]...)
	name = binary.BigEndian.AppendUint64(name, revision)
	name = binary.BigEndian.AppendUint64(name, l.First)
	name = binary.BigEndian.AppendUint64(name, uint64(size)) //nolint:gosec // G115: positive
	for i := range g.records {
		name = append(name, g.records[i].Hash[:]...)
	}
	commit := uuid.NewSHA1(s.space, name)
	bodies := split(g.body, size)
	for i, body := range bodies {
		r := record{revision: revision, id: commit, label: l, body: body}
		if len(bodies) > 1 {
			r.label.Part, r.label.Parts, r.label.Commit = i+1, len(bodies), commit.String()
			r.id = uuid.NewSHA1(commit, binary.BigEndian.AppendUint64(nil, uint64(i+1)))
		}
		g.writes = append(g.writes, r)
		g.id, g.revision = r.id, revision
		revision++
	}
}

// split cuts a body into pieces of a size at most. A group is larger than that
// only if it is one commit.
func split(body []byte, size int) (pieces [][]byte) {
	for len(body) > size {
		pieces, body = append(pieces, body[:size:size]), body[size:]
	}
	return append(pieces, body)
}

// commit appends a group to the journal. The error is errAgain if it is not
// recorded, and another plan may be.
func (s *Store) commit(ctx context.Context, g *group) error {
	if len(g.writes) == 0 {
		return nil
	}
	s.journal.announce(g)
	defer s.journal.announce(nil)
	for _, r := range g.writes {
		if err := s.appendRecord(ctx, r); err != nil {
			return s.resolve(ctx, g, r, err)
		}
		if gap, err := s.journal.apply(r); err != nil || gap {
			return errors.Join(err, gapIn(gap, r))
		}
	}
	s.give()
	return nil
}

// announce says what this process is appending.
func (j *journal) announce(g *group) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.own = g
}

// appendRecord appends one record. The same append is repeated while its outcome
// is unknown: the server takes it once.
func (s *Store) appendRecord(ctx context.Context, r record) error {
	metadata, err := json.Marshal(r.label)
	if err != nil {
		return err
	}
	result, err := insist(ctx, s.server, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(ctx, s.names.journal, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(r.revision - 1)},
			esdb.EventData{EventID: r.id, EventType: typeRecord, ContentType: esdb.ContentTypeBinary, Data: r.body, Metadata: metadata})
	})
	if err == nil && result.NextExpectedVersion != r.revision {
		return fmt.Errorf("journal record %d was written as %d: %w", r.revision, result.NextExpectedVersion, errJournal)
	}
	return err
}

// resolve finds out what became of a group, the append of a record of which failed.
func (s *Store) resolve(ctx context.Context, g *group, r record, failed error) error {
	s.doubt = true
	what := judge(failed)
	if what == unknown || what == refused {
		return failed
	}
	if err := s.sync(ctx); err != nil {
		return err
	}
	s.journal.mu.Lock()
	done, revision := g.done, s.journal.revision
	s.journal.mu.Unlock()
	if what == moved && revision < r.revision { // nobody was first: there is less than there was
		return fmt.Errorf("the journal ends before record %d, which it had: was it restored from a backup? %w", revision, errJournal)
	}
	s.doubt = false
	switch {
	case done:
		s.give()
		return nil
	case what == oversize && !s.lower(len(r.body)):
		return failed
	case errors.Is(failed, errLate): // cut anew, it would come second to itself
		s.doubt = true
		return failed
	}
	return errAgain
}

// lower makes the appends smaller, if they may be: the server took none of a
// size that the URL says it takes.
func (s *Store) lower(size int) bool {
	limit := int64(max(size/2, smallestSize))
	if size <= smallestSize || limit >= s.limit.Load() {
		return false
	}
	s.limit.Store(limit)
	s.log.Warn("EventStoreDB refused an append that maxAppendSize allows, trying smaller ones", "bytes", size, "next", limit)
	return true
}

// learn asks for the versions of the streams that are written to and that nobody
// knows.
func (s *Store) learn(ctx context.Context, waiting []*request) error {
	for _, streams := range s.strangers(waiting) {
		failures := make([]error, len(streams))
		var asking sync.WaitGroup
		for i, stream := range streams {
			asking.Go(func() { failures[i] = s.ask(ctx, stream) })
		}
		asking.Wait()
		if err := errors.Join(failures...); err != nil {
			return err
		}
	}
	return nil
}

// strangers lists the streams of the next commits whose versions are unknown, in
// batches.
func (s *Store) strangers(waiting []*request) (batches [][]string) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	seen := make(map[string]bool)
	size := 0
	for _, r := range waiting {
		for i, c := range r.commits {
			if size += sizeOf(c); size > groupSize && len(seen) > 0 {
				return batches
			}
			for _, span := range r.spans[i] {
				if _, known := s.journal.versions.get(span.Stream); known || seen[span.Stream] {
					continue
				}
				seen[span.Stream] = true
				if n := len(batches); n == 0 || len(batches[n-1]) == lookups {
					batches = append(batches, nil)
				}
				batches[len(batches)-1] = append(batches[len(batches)-1], span.Stream)
			}
		}
	}
	return batches
}

// ask finds the version of a stream. What the journal brings meanwhile wins.
func (s *Store) ask(ctx context.Context, stream string) error {
	e, err := readLast(ctx, s.server, s.names.stream(stream))
	if err != nil {
		return fmt.Errorf("version of %s: %w", stream, err)
	}
	version := uint64(0)
	if e != nil {
		version = e.EventNumber + 1
	}
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if rest := j.behind[stream]; len(rest) > 0 {
		version = max(version, rest[len(rest)-1].Version)
	}
	if _, known := j.versions.get(stream); !known {
		j.versions.set(stream, version)
	}
	return nil
}

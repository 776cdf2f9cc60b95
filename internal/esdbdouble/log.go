package esdbdouble

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
)

// What an append or a deletion may expect of its stream instead of a revision
// (ExpectedVersion.cs).
const (
	expectNoStream     int64 = -1
	expectAny          int64 = -2
	expectStreamExists int64 = -4
)

// deletedStream is the revision of a tombstone, and the $tb of a stream that
// was deleted softly (EventNumber.DeletedStream).
const deletedStream int64 = math.MaxInt64

// recentLimit bounds the memory of recent event ids, and recentEntry is what
// one costs beside its stream's name (ESConsts.CommitedEventsMemCacheLimit and
// the constructor of IndexWriter).
const (
	recentLimit = 8 << 20
	recentEntry = 16 + 4 + 8
)

// recordOverhead is what a record of the log occupies beside its strings and
// bytes (PrepareLogRecord.cs, version 1, with the length before and after it).
const recordOverhead = 104

// position is a place in the log as the server compares them: by commit, then
// by prepare (TFPos.cs).
type position struct{ commit, prepare int64 }

// headOfLog is the position before everything (TFPos.HeadOfTf).
var headOfLog = position{-1, -1}

// firstOfLog is the position of the first record (TFPos.FirstRecordOfTf).
var firstOfLog = position{}

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.commit, q.commit), cmp.Compare(p.prepare, q.prepare))
}

// record is an event in the log. It does not change once it is there.
type record struct {
	pos, post int64 // where it begins, and where the next one does
	stream    string
	revision  int64
	eventType string
	id        uuid.UUID
	hidden    bool // an append without events leaves a record that no reader sees
	message   *streams.ReadResp_ReadEvent_RecordedEvent
}

func (r *record) at() position { return position{r.pos, r.pos} }

// newRecord is a record that has yet to find its place.
func newRecord(stream, eventType, contentType string, id uuid.UUID, data, meta []byte) *record {
	most, least := halves(id)
	return &record{
		stream: stream, eventType: eventType, id: id,
		message: &streams.ReadResp_ReadEvent_RecordedEvent{
			Id: &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
				MostSignificantBits: most, LeastSignificantBits: least,
			}}},
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
			Metadata:         map[string]string{"type": eventType, "content-type": contentType},
			Data:             data,
			CustomMetadata:   meta,
		},
	}
}

// stream is what was written under one name. Nothing is ever scavenged here,
// so an event's revision is its index.
type stream struct {
	events    []*record
	tombstone *record
	maxCount  int64 // 0: no limit
	before    int64 // $tb
}

// head is the revision of the last event, -1 without any.
func (s *stream) head() int64 {
	switch {
	case s == nil:
		return -1
	case s.tombstone != nil:
		return deletedStream
	default:
		return int64(len(s.events)) - 1
	}
}

// first is the lowest revision that may be read (IndexReader.cs).
func (s *stream) first() int64 {
	first := s.before
	if s.maxCount > 0 {
		first = max(first, s.head()-s.maxCount+1)
	}
	return first
}

func (s *stream) softDeleted() bool { return s != nil && s.before == deletedStream }

// log is the data of a node, or of a cluster whose nodes are never behind.
type log struct {
	mu      sync.RWMutex
	end     int64
	all     []*record
	streams map[string]*stream
	recent  map[uuid.UUID]place
	queue   []uuid.UUID // the ids in recent, oldest first
	held    int         // bytes of recent
	changed chan struct{}
}

// place is where an event id was last seen to be written.
type place struct {
	stream   string
	revision int64
}

func newLog() *log {
	l := &log{streams: make(map[string]*stream), recent: make(map[uuid.UUID]place)}
	// A server's log never begins with an event of its users: first it notes
	// its epoch, which no reader of $all is shown.
	l.put([]*record{newRecord(epochStream, epochStream, "application/json", uuid.UUID{1}, []byte("{}"), nil)})
	return l
}

// epochStream holds the server's notes on its leaders.
const epochStream = "$epoch-information"

type decision int

const (
	written decision = iota
	idempotent
	wrongVersion
	streamDeleted
)

// verdict is what became of an append or a deletion.
type verdict struct {
	decision
	current int64  // the stream's head before, with wrongVersion
	last    int64  // the revision of the last event it wrote, or had written before; -1 without events
	at      *int64 // the position of that event; nil: not known
}

// append writes the events if the stream is as expected, all or nothing
// (StorageWriterService.cs, WritePrepares).
func (l *log) append(name string, expected int64, events []*record) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.check(name, expected, events)
	if v.decision != written {
		return v
	}
	s := l.streams[name]
	if len(events) == 0 {
		empty := &record{stream: name, hidden: true, message: &streams.ReadResp_ReadEvent_RecordedEvent{}}
		l.put([]*record{empty})
		return verdict{last: v.current, at: &empty.pos}
	}
	reopens := s.softDeleted()
	original, isMeta := strings.CutPrefix(name, "$$")
	reopensOriginal := isMeta && l.streams[original].softDeleted()
	l.put(events)
	if reopens {
		l.reopen(name, v.current+1)
	}
	if reopensOriginal {
		l.reopen(original, l.streams[original].head()+1)
	}
	return verdict{last: events[len(events)-1].revision, at: &events[len(events)-1].pos}
}

// check decides whether events may be written (IndexWriter.cs, CheckCommit).
func (l *log) check(name string, expected int64, events []*record) verdict {
	s := l.streams[name]
	current := s.head()
	wrong := verdict{decision: wrongVersion, current: current}
	if current == deletedStream {
		return verdict{decision: streamDeleted}
	}
	if expected == expectStreamExists {
		if s.softDeleted() {
			return verdict{decision: streamDeleted}
		}
		if current < 0 && l.streams["$$"+name].head() < 0 {
			return wrong
		}
	}
	switch {
	case expected == expectAny, expected == expectStreamExists:
		return l.checkRecent(name, current, events)
	case expected > current:
		return wrong
	case expected == current:
		return verdict{current: current}
	case len(events) == 0:
		return wrong
	}
	for i, e := range events {
		revision := expected + 1 + int64(i)
		if revision <= current && s.events[revision].id == e.id {
			continue
		}
		if i == 0 && expected == expectNoStream && s.softDeleted() {
			return verdict{current: current}
		}
		return wrong // nothing of it is there, or (corrupted idempotency) only a part
	}
	return l.already(s, expected+int64(len(events)))
}

// checkRecent decides on an append that expects no revision: what is known of
// its ids is what the bounded memory of recent ones says.
func (l *log) checkRecent(name string, current int64, events []*record) verdict {
	last := int64(-1)
	for i, e := range events {
		seen, ok := l.recent[e.id]
		if !ok || seen.stream != name {
			if i == 0 {
				return verdict{current: current}
			}
			return verdict{decision: wrongVersion, current: current}
		}
		last = seen.revision
	}
	if len(events) == 0 {
		return verdict{current: current}
	}
	return l.already(l.streams[name], last)
}

// already is the verdict on events that were written before, up to last. Its
// position is known as long as the last of them can be read.
func (l *log) already(s *stream, last int64) verdict {
	v := verdict{decision: idempotent, last: last}
	if last >= s.first() && last < int64(len(s.events)) {
		v.at = &s.events[last].pos
	}
	return v
}

// put gives each record its place. Callers hold the lock.
func (l *log) put(events []*record) {
	for _, e := range events {
		s := l.streams[e.stream]
		if s == nil {
			s = &stream{}
			l.streams[e.stream] = s
		}
		e.pos = l.end
		l.end += int64(recordOverhead + len(e.stream) + len(e.eventType) + len(e.message.Data) + len(e.message.CustomMetadata))
		e.post = l.end
		l.all = append(l.all, e)
		if e.hidden {
			continue
		}
		if e.revision != deletedStream {
			e.revision = int64(len(s.events))
			s.events = append(s.events, e)
		} else {
			s.tombstone = e
		}
		e.message.StreamRevision = uint64(e.revision)
		e.message.CommitPosition, e.message.PreparePosition = uint64(e.pos), uint64(e.pos)
		e.message.Metadata["created"] = created(len(l.all))
		l.remember(e)
		if original, ok := strings.CutPrefix(e.stream, "$$"); ok {
			l.applyMetadata(original, e.message.Data)
		}
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// created is the time of the nth record, as the server tells it: in ticks of
// 100 ns. The double has no clock: a record comes a millisecond after another.
func created(n int) string {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return strconv.FormatInt(began.Add(time.Duration(n)*time.Millisecond).UnixNano()/100, 10)
}

// remember notes where an id was written. An id that is known stays where it
// was first seen, and costs its bytes once more (BoundedCache.cs, PutRecord).
func (l *log) remember(e *record) {
	for l.held > recentLimit && len(l.queue) > 0 {
		oldest := l.queue[0]
		l.queue = l.queue[1:]
		if seen, ok := l.recent[oldest]; ok {
			l.held -= recentEntry + 2*len(seen.stream)
			delete(l.recent, oldest)
		}
	}
	l.held += recentEntry + 2*len(e.stream)
	l.queue = append(l.queue, e.id)
	if _, ok := l.recent[e.id]; !ok {
		l.recent[e.id] = place{e.stream, e.revision}
	}
}

// forget empties the memory of recent ids: a node that starts, or that becomes
// the leader, has none.
func (l *log) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.recent)
	l.queue, l.held = nil, 0
}

// applyMetadata takes the limits of a stream from the last event of its
// metadata stream. What is no JSON object limits nothing.
func (l *log) applyMetadata(name string, data []byte) {
	var limits struct {
		MaxCount int64 `json:"$maxCount"`
		Before   int64 `json:"$tb"`
	}
	_ = json.Unmarshal(data, &limits) // as the server: unreadable metadata is empty metadata
	s := l.streams[name]
	if s == nil {
		s = &stream{}
		l.streams[name] = s
	}
	s.maxCount, s.before = limits.MaxCount, limits.Before
}

// reopen lets a softly deleted stream begin again at a revision
// (StorageWriterService.cs, SoftUndeleteStream).
func (l *log) reopen(name string, from int64) {
	metadata := l.streams["$$"+name]
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(metadata.events[len(metadata.events)-1].message.Data, &fields); err != nil {
		return
	}
	fields["$tb"] = json.RawMessage(strconv.FormatInt(from, 10))
	data, err := json.Marshal(fields)
	if err != nil {
		return
	}
	l.put([]*record{newRecord("$$"+name, "$metadata", "application/json", uuid.New(), data, nil)})
}

// remove deletes a stream for good, or until somebody writes to it
// (StorageWriterService.cs, WriteDelete).
func (l *log) remove(name string, expected int64, forGood bool) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	deletion := newRecord(name, "$streamDeleted", "application/octet-stream", uuid.New(), nil, nil)
	deletion.revision = deletedStream
	if v := l.check(name, expected, []*record{deletion}); v.decision != written {
		return v
	}
	if !forGood {
		metadata := "$$" + name
		if l.streams[name].head() < 0 && l.streams[metadata].head() < 0 {
			return verdict{decision: wrongVersion, current: -1}
		}
		deletion = newRecord(metadata, "$metadata", "application/json", uuid.New(), []byte(`{"$tb":9223372036854775807}`), nil)
	}
	l.put([]*record{deletion})
	return verdict{at: &deletion.pos}
}

// names are the streams that have events, sorted.
func (l *log) names() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(l.streams)), func(name string) bool {
		return len(l.streams[name].events) == 0 || name == epochStream
	})
}

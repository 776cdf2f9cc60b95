package esdbdouble

import (
	"math"
	"sort"
)

// pageSize is how many events the server reads from its log at once
// (Enumerator.cs, ReadBatchSize).
const pageSize = 32

type readResult int

const (
	readOK readResult = iota
	readNoStream
	readDeleted
	readInvalid // a position that no record begins at
	readError
)

// streamPage is a piece of a stream.
type streamPage struct {
	result readResult
	events []*record
	next   int64
	ends   bool
}

// streamForwards reads up to count events from a revision on (IndexReader.cs,
// ReadStreamEventsForwardInternal).
func (l *log) streamForwards(name string, from int64, count int64) streamPage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if from < 0 || count <= 0 {
		return streamPage{result: readError}
	}
	s, first, head, result := l.readable(name)
	if result != readOK {
		return streamPage{result: result}
	}
	end := from + count - 1
	switch {
	case from >= math.MaxInt64-count:
		end = math.MaxInt64
	case end < first:
		return streamPage{next: first}
	}
	begin := max(from, first)
	if begin > head {
		return streamPage{next: head + 1, ends: true}
	}
	last := min(end, head)
	return streamPage{events: s.events[begin : last+1], next: last + 1, ends: end >= head}
}

// streamBackwards reads up to count events from a revision down; -1 is the head.
// The events come last first.
func (l *log) streamBackwards(name string, from int64, count int64) streamPage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if count <= 0 {
		return streamPage{result: readError}
	}
	s, first, head, result := l.readable(name)
	if result != readOK {
		return streamPage{result: result}
	}
	if from < 0 {
		from = head
	}
	lowest := max(from-count+1, first)
	page := streamPage{next: lowest - 1, ends: lowest <= first}
	for revision := min(from, head); revision >= lowest; revision-- {
		page.events = append(page.events, s.events[revision])
	}
	return page
}

// readable finds a stream and the revisions that may be read of it. A metadata
// stream shows its last event only (IndexReader.cs, _metastreamMetadata).
func (l *log) readable(name string) (s *stream, first, head int64, result readResult) {
	s = l.streams[name]
	head = s.head()
	switch {
	case head == deletedStream:
		return nil, 0, 0, readDeleted
	case head < 0, s.softDeleted():
		return nil, 0, 0, readNoStream
	}
	first = s.first()
	if len(name) > 2 && name[:2] == "$$" {
		first = head
	}
	return s, first, head, readOK
}

// allPage is a piece of the whole log.
type allPage struct {
	result     readResult
	events     []*record
	next       position
	considered int64
	ends       bool  // all there was has been considered
	index      int   // of the first record that was not
	end        int64 // where the next record will begin
}

// allForwards reads from a position on: up to count events that pass, having
// considered no more than window (AllReader.cs, ReadAllEventsForwardInternal).
func (l *log) allForwards(from position, count, window int64, passes filter) allPage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if from.commit < 0 || from.prepare < 0 || count <= 0 {
		return allPage{result: readInvalid}
	}
	page := allPage{next: from, index: len(l.all), end: l.end}
	last := l.all[len(l.all)-1].pos
	if from.commit > last {
		page.ends = true
		return page
	}
	i := sort.Search(len(l.all), func(i int) bool { return l.all[i].pos >= from.commit })
	if l.all[i].pos != from.commit {
		return allPage{result: readInvalid}
	}
	for int64(len(page.events)) < count && page.considered < window {
		if i == len(l.all) {
			page.ends = true
			break
		}
		r := l.all[i]
		i++
		if r.hidden || r.at().compare(from) < 0 {
			continue
		}
		page.considered++
		if passes(r) {
			page.events = append(page.events, r)
		}
		page.next = position{r.post, 0}
	}
	page.index = i
	return page
}

// allBackwards reads from a position down. It takes the records that end at the
// position or before it: the one that begins there is not among them.
func (l *log) allBackwards(from position, count, window int64, passes filter) allPage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if from == headOfLog {
		from = position{l.end, l.end}
	}
	if from.commit < 0 || from.prepare < 0 || count <= 0 || from.commit > l.end {
		return allPage{result: readInvalid}
	}
	page := allPage{next: from}
	i := sort.Search(len(l.all), func(i int) bool { return l.all[i].pos >= from.commit })
	if i < len(l.all) && l.all[i].pos != from.commit {
		return allPage{result: readInvalid}
	}
	for int64(len(page.events)) < count && page.considered < window {
		if i == 0 {
			page.ends = true
			break
		}
		i--
		r := l.all[i]
		if r.hidden || (position{r.post, r.post}).compare(from) > 0 {
			continue
		}
		page.considered++
		if passes(r) {
			page.events = append(page.events, r)
		}
		page.next = position{r.pos, r.pos}
	}
	return page
}

// tail are the records from an index on, and what is closed when there are more.
func (l *log) tail(index int) ([]*record, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.all[index:], l.changed
}

// last is the position of the last record (LastIndexedPosition).
func (l *log) last() (at position, index int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.all[len(l.all)-1].at(), len(l.all)
}

// tailOf are the events of a stream from a revision on, and its tombstone.
func (l *log) tailOf(name string, from int64) (events []*record, tombstone *record, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	s := l.streams[name]
	if s == nil {
		return nil, nil, l.changed
	}
	if from < int64(len(s.events)) {
		events = s.events[from:]
	}
	return events, s.tombstone, l.changed
}

// headOf is the revision of a stream's last event.
func (l *log) headOf(name string) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.streams[name].head()
}

// linked finds the event a link names; nil when it cannot be read.
func (l *log) linked(name string, revision int64) *record {
	page := l.streamForwards(name, revision, 1)
	if page.result != readOK || len(page.events) == 0 || page.events[0].revision != revision {
		return nil
	}
	return page.events[0]
}

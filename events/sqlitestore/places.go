package sqlitestore

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/stockledger/stockledger/events"
)

// generation is how many events may wait for their rows in the table places.
// Twice as many are read again when a log is opened that was not closed, which
// takes a fraction of a second.
const generation = 1 << 16

// place is where a version of a stream is in the log.
type place struct{ version, position uint64 }

// row is a place as the table has it.
type row struct {
	key int64 // of the stream
	place
}

// places is the part of the index from stream and version to position that is
// not on disk yet. Writing a row of the index as its event is appended would
// dirty one page of 4 KiB per event, many times the event's own size. So the
// events collect in a generation; a full one is sorted, and written a piece with
// every append, next to each other in the table, while the next one fills.
//
// The table is complete through the position in meta.indexed; later events are
// found here, and again from the log when it is opened.
type places struct {
	key  func(stream string) int64 // keyOf
	size int                       // generation

	mu     sync.RWMutex
	fresh  map[string][]place // since the last freeze, by stream, oldest first
	frozen map[string][]place // being written, likewise

	// What follows is the writer's.
	count   int        // places in fresh
	through uint64     // last position in fresh, or before it
	sorting chan []row // rows, when they are sorted; nil when they are
	rows    []row      // of frozen that are not in the table yet, sorted as it is
	upTo    uint64     // last position in frozen
}

// keyOf is the stream's key in the table: 64 bits of its SHA-256. Should two
// streams share a key their rows lie side by side, and whoever reads them looks
// at the names.
func keyOf(stream string) int64 {
	sum := sha256.Sum256([]byte(stream))
	return int64(binary.BigEndian.Uint64(sum[:])) //nolint:gosec // G115: the bits are what matters
}

func newPlaces() places {
	return places{key: keyOf, size: generation, fresh: make(map[string][]place)}
}

// of lists the places of a stream after a version, oldest first. Older versions
// than these, and perhaps some of these, are in the table.
func (p *places) of(stream string, after uint64) []place {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return append(later(p.frozen[stream], after), later(p.fresh[stream], after)...)
}

func later(of []place, version uint64) []place {
	i, _ := slices.BinarySearchFunc(of, version+1, func(p place, v uint64) int { return cmp.Compare(p.version, v) })
	return slices.Clip(of[i:])
}

// last is the newest version of a stream, 0 if it is not here.
func (p *places) last(stream string) uint64 {
	for _, of := range [][]place{p.fresh[stream], p.frozen[stream]} {
		if len(of) > 0 {
			return of[len(of)-1].version
		}
	}
	return 0
}

// add takes in events that have become durable.
func (p *places) add(records []events.Recorded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range records {
		p.fresh[e.Stream] = append(p.fresh[e.Stream], place{e.Version, e.Position})
		p.through = e.Position
	}
	p.count += len(records)
}

// due are the next n rows to write, or as many as there are, and whether they
// are the last of their generation.
func (p *places) due(n int) (rows []row, last bool) {
	select {
	case p.rows = <-p.sorting:
		p.sorting = nil
	default:
	}
	n = min(n, len(p.rows))
	return p.rows[:n], n > 0 && n == len(p.rows)
}

// wrote notes that the next n rows due are durable in the table, and goes on to
// the next generation when that was the last and the next is full.
func (p *places) wrote(n int) {
	p.rows = p.rows[n:]
	if p.written() && p.count >= p.size {
		p.freeze()
	}
}

// written reports whether all of frozen is in the table.
func (p *places) written() bool { return p.sorting == nil && len(p.rows) == 0 }

// freeze makes fresh the generation to write; the one before must be written. It is
// sorted meanwhile: 65,536 rows take 100 ms, for which no append should wait.
func (p *places) freeze() {
	frozen, n := p.fresh, p.count
	p.sorting = make(chan []row, 1)
	go func(sorted chan<- []row) { sorted <- p.sorted(frozen, n) }(p.sorting)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen, p.fresh = frozen, make(map[string][]place, len(frozen))
	p.count, p.upTo = 0, p.through
}

// sorted are n places as the table has them.
func (p *places) sorted(frozen map[string][]place, n int) []row {
	keys := make(map[int64][]string, len(frozen))
	for stream := range frozen {
		key := p.key(stream)
		keys[key] = append(keys[key], stream)
	}
	rows := make([]row, 0, n)
	for key, streams := range keys {
		for _, stream := range streams {
			for _, at := range frozen[stream] {
				rows = append(rows, row{key, at})
			}
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.position, b.position))
	})
	return rows
}

// settled reports whether every place is in the table.
func (p *places) settled() bool { return p.written() && p.count == 0 }

// all waits until what is frozen is sorted, having frozen what is not.
func (p *places) all() {
	if p.written() {
		p.freeze()
	}
	if p.sorting != nil {
		p.rows, p.sorting = <-p.sorting, nil
	}
}

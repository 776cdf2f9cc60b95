package projections

import (
	"slices"
	"sync"

	"github.com/stockledger/stockledger/events"
)

const (
	// cacheMost is how many items and levels a cache has: some 12 MiB with the ids
	// that the ledger makes.
	cacheMost = 1 << 16
	// cacheWide is how many live levels an item may have for the cache to have
	// them. Those of others are read from the file, by the locations asked for.
	cacheWide = 64
	// cacheMoving is how many items may be changed in one transaction before the
	// cache rests until it is committed.
	cacheMoving = 1 << 12
)

// A levelCache has the quantities of the levels of some items in memory: what a
// reader found in the file of one generation, until the next event of the item is
// folded there. It is exactly as fresh as the file: what a transaction changes
// leaves the cache before it is committed, and does not come back until
// afterwards, so nobody finds less in the cache than another has read already.
//
// It has at most cacheMost items and levels, and forgets some, whichever, when
// there are more. A nil cache has nothing. Its methods may be called from many
// goroutines at once.
type levelCache struct {
	most int

	mu     sync.Mutex
	items  map[string]*itemLevels // by stream
	size   int                    // of all items
	reads  map[string]uint64      // the leases of those who read an item from the file, by stream
	last   uint64                 // lease
	moving map[string]struct{}    // streams of the events that are being committed
	rests  bool                   // they are too many to know
}

// itemLevels are the live levels of a live item. Nobody changes them.
type itemLevels struct {
	levels []levelStock
	wide   bool // there are more than cacheWide, and they are not here
}

type levelStock struct {
	location          string
	stocked, reserved events.Quantity
}

func (i *itemLevels) size() int { return 1 + len(i.levels) }

// sum is what is at locations, of which each counts once.
func (i *itemLevels) sum(locations []string) (stocked, reserved events.Quantity) {
	for n := range i.levels {
		l := &i.levels[n]
		if slices.Contains(locations, l.location) {
			stocked, reserved = stocked.Plus(l.stocked), reserved.Plus(l.reserved)
		}
	}
	return stocked, reserved
}

func newLevelCache() *levelCache {
	return &levelCache{
		most: cacheMost, items: make(map[string]*itemLevels), reads: make(map[string]uint64), moving: make(map[string]struct{}),
	}
}

// peek is the levels of the item with that stream, nil when they are not here.
func (c *levelCache) peek(stream string) *itemLevels {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.items[stream]
}

// find is peek for who reads the levels from the file when they are not here, and
// then gives them to keep, with the lease.
func (c *levelCache) find(stream string) (found *itemLevels, lease uint64) {
	if c == nil {
		return nil, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found = c.items[stream]; found != nil {
		return found, 0
	}
	if _, moves := c.moving[stream]; moves || c.rests || c.reads[stream] != 0 {
		return nil, 0
	}
	c.last++
	c.reads[stream] = c.last
	return nil, c.last
}

// keep takes what was read under a lease, nil for nothing, unless an event of the
// item has come meanwhile.
func (c *levelCache) keep(stream string, lease uint64, read *itemLevels) {
	if lease == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reads[stream] != lease {
		return
	}
	delete(c.reads, stream)
	if read == nil {
		return
	}
	for other := range c.items {
		if c.size+read.size() <= c.most {
			break
		}
		c.drop(other)
	}
	c.items[stream] = read
	c.size += read.size()
}

// drop forgets an item; mu is held.
func (c *levelCache) drop(stream string) {
	if one := c.items[stream]; one != nil {
		c.size -= one.size()
		delete(c.items, stream)
	}
}

// touch is called for each event of an item before it is committed.
func (c *levelCache) touch(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rests {
		return
	}
	c.drop(stream)
	delete(c.reads, stream)
	c.moving[stream] = struct{}{}
	if len(c.moving) > cacheMoving {
		clear(c.items)
		clear(c.reads)
		c.moving, c.size, c.rests = make(map[string]struct{}), 0, true
	}
}

// settle is called when all events so far are committed, or taken back.
func (c *levelCache) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.moving)
	c.rests = false
}

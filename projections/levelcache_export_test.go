package projections

import (
	"context"

	"github.com/stockledger/stockledger/events"
)

// Plainly is what is stocked and reserved of an item at locations as the file has
// it, and whether the item lives.
func (m *Models) Plainly(ctx context.Context, itemID string, locationIDs []string) (stocked, reserved events.Quantity, lives bool, err error) {
	m, done, err := m.pin(ofInventory)
	if err != nil {
		return stocked, reserved, false, err
	}
	defer done()
	rows, err := m.inventory.file.lookup(ctx, `SELECT 1 FROM items WHERE id = ? AND deleted_at IS NULL`, itemID)
	if _, lives, err = first(rows, err, func(s scanner) (one int, err error) { return one, s.Scan(&one) }); err != nil || !lives {
		return stocked, reserved, lives, err
	}
	stocked, reserved, err = m.sumLevels(ctx, itemID, locationIDs)
	return stocked, reserved, lives, err
}

// CacheAtMost bounds the cache of levels that is served from now on.
func (m *Models) CacheAtMost(n int) {
	c := m.levelCache()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = n
}

// Cached counts what is in the cache of levels, by counting and as it says itself.
func (m *Models) Cached() (items, size, told int) {
	c := m.levelCache()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.items {
		size += one.size()
	}
	return len(c.items), size, c.size
}

func (m *Models) levelCache() *levelCache {
	one, err := m.serves(ofInventory)
	if err != nil {
		panic(err)
	}
	return one.file.levels
}

// TheCache is a cache of levels by itself.
type TheCache struct{ *levelCache }

func NewCache() TheCache                     { return TheCache{newLevelCache()} }
func (c TheCache) Find(stream string) uint64 { _, lease := c.find(stream); return lease }
func (c TheCache) Has(stream string) bool    { return c.peek(stream) != nil }
func (c TheCache) Keep(stream string, lease uint64) {
	c.keep(stream, lease, &itemLevels{levels: []levelStock{{location: "paris"}}})
}
func (c TheCache) Touch(stream string) { c.touch(stream) }
func (c TheCache) Settle()             { c.settle() }

// Streams is how many streams the cache knows anything of.
func (c TheCache) Streams() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.items) + len(c.reads) + len(c.moving)
}

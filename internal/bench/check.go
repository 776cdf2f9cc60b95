package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/projections"
)

// A Check compares what the callers of a load were told with what is in the log and
// in the read models.
type Check struct {
	Acknowledged int `json:"acknowledged"` // commands
	Failed       int `json:"failed"`       // without an answer, or refused
	Recorded     int `json:"recorded"`     // commands of the load in the log
	Lost         int `json:"lost"`         // acknowledged, and not in the log
	Doubled      int `json:"doubled"`      // in the log more than once
	Foreign      int `json:"foreign"`      // in the log, and sent by nobody
	Levels       int `json:"levels"`       // that were compared
	Wrong        int `json:"wrong_levels"` // that do not hold what was acknowledged
	// bytes of the load in the log: streams, types, facts, metadata and hashes.
	bytes uint64
}

// Err is what is wrong.
func (c Check) Err() error {
	if c.Lost+c.Doubled+c.Foreign+c.Wrong == 0 {
		return nil
	}
	return fmt.Errorf("the ledger is wrong after the load: %d acknowledged commands lost, %d doubled, %d that nobody sent, %d of %d levels wrong",
		c.Lost, c.Doubled, c.Foreign, c.Wrong, c.Levels)
}

func (c Check) bytesEach() float64 { return float64(c.bytes) / float64(max(1, c.Recorded)) }

// check reads the log from the seed on, and every level.
func (s *subject) check(ctx context.Context) (c Check, err error) {
	head, err := s.ledger.Events().Head(ctx)
	if err != nil {
		return c, err
	}
	seen := make([]counted, len(s.callers))
	if err := s.readLog(ctx, head, seen, &c); err != nil {
		return c, err
	}
	for i, one := range s.callers {
		for n := range one.sent {
			switch {
			case one.failed[n]:
				c.Failed++
			case !seen[i].has(n):
				c.Lost++
				fallthrough
			default:
				c.Acknowledged++
			}
		}
	}
	if err := s.ledger.Models().WaitFor(ctx, head); err != nil {
		return c, err
	}
	return c, s.readLevels(ctx, &c)
}

// readLog notes the commands of the load that are in the log.
func (s *subject) readLog(ctx context.Context, head uint64, seen []counted, c *Check) error {
	if head == s.seeded {
		return nil
	}
	for recorded, err := range s.ledger.Events().Subscribe(ctx, s.seeded) {
		if err != nil {
			return err
		}
		for _, e := range recorded {
			c.bytes += size(e)
			meta, err := e.Metadata()
			if err != nil {
				return err
			}
			if meta.Last() {
				s.note(meta.CommandID, seen, c)
			}
			if e.Position == head {
				return nil
			}
		}
	}
	return nil
}

func (s *subject) note(key string, seen []counted, c *Check) {
	caller, n, ours := readKey(key)
	switch {
	case !ours || caller >= len(s.callers) || n >= s.callers[caller].sent:
		c.Foreign++
		return
	case seen[caller].has(n):
		c.Doubled++
	}
	seen[caller].add(n)
	c.Recorded++
}

// readKey reads "bench-CALLER-NUMBER".
func readKey(key string) (caller, n int, ours bool) {
	rest, ours := strings.CutPrefix(key, "bench-")
	first, second, _ := strings.Cut(rest, "-")
	caller, err := strconv.Atoi(first)
	n, err2 := strconv.Atoi(second)
	return caller, n, ours && err == nil && err2 == nil && caller >= 0 && n >= 0
}

// size is how many bytes a store has to keep of an event.
func size(e events.Recorded) uint64 {
	return uint64(len(e.Stream) + len(e.Type) + len(e.Data) + len(e.Meta) + len(e.Prev) + len(e.Hash))
}

// counted is a set of small numbers, in few bytes: a load of ten minutes has millions.
type counted []uint64

func (c counted) has(n int) bool { return n/64 < len(c) && c[n/64]&(1<<(n%64)) != 0 }

func (c *counted) add(n int) {
	for n/64 >= len(*c) {
		*c = append(*c, 0)
	}
	(*c)[n/64] |= 1 << (n % 64)
}

// readLevels compares every level with what was acknowledged. A command that failed
// may have been carried out, so then nothing can be said.
func (s *subject) readLevels(ctx context.Context, c *Check) error {
	if c.Failed > 0 {
		return nil
	}
	number := make(map[string]int, len(s.items))
	for i, item := range s.items {
		number[item] = i
	}
	take, list := 1000, projections.List{NoCount: true}
	list.Take = &take
	for {
		page, err := s.ledger.Models().ListLevels(ctx, list)
		if err != nil {
			return err
		}
		for _, level := range page.Rows {
			c.Levels++
			i := number[level.ItemID]
			if !level.Stocked.Equal(events.Units(stocked+s.stocked[i].Load())) || !level.Reserved.Equal(events.Units(s.reserved[i].Load())) {
				c.Wrong++
			}
		}
		if page.Next == nil {
			c.Wrong += max(0, len(s.items)-c.Levels)
			return nil
		}
		list.Cursor = *page.Next
	}
}

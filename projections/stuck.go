package projections

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// stuckAfter is how long a model may be behind the log at one position. A full
// transaction takes a second or two.
const stuckAfter = 30 * time.Second

// looks is how often a model is looked at before it is stuck.
const looks = 6

// lookOut watches whether the models that are served get on, until ctx is done.
func (c *core) lookOut(ctx context.Context) {
	after := cmp.Or(c.config.stuck, stuckAfter)
	ticker := time.NewTicker(after / looks)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if head, err := c.store.Head(ctx); err == nil {
			for _, l := range c.lines {
				c.look(l, head, after)
			}
		}
	}
}

// look notes where a model is.
func (c *core) look(l *line, head uint64, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.serves == nil {
		return
	}
	at := l.serves.position()
	if at >= head || at != l.seen {
		if l.stuck != "" {
			c.logger.Info("a read model gets on again", "model", l.name(), "position", at)
		}
		l.seen, l.looked, l.stuck = at, 0, ""
		return
	}
	if l.looked++; l.looked >= looks {
		if l.stuck == "" {
			c.logger.Error("a read model is behind and does not get on", "model", l.name(), "position", at, "head", head)
		}
		l.stuck = fmt.Sprintf("it is %d events behind and has not moved for %s", head-at, (time.Duration(l.looked) * after / looks).Round(time.Second))
	}
}

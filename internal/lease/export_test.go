package lease

import "time"

// HeldAt is whether Held would be nil at that reading of the process's clock.
func (l *Lease) HeldAt(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost == nil && now.Before(l.until)
}

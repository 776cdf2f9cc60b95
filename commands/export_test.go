package commands

// KeepCommands makes the engine forget commands that the index knows as soon as
// it remembers more than n.
func (e *Engine) KeepCommands(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recent.kept = n
}

// RememberAtMost makes the engine refuse commands when it remembers n.
func (e *Engine) RememberAtMost(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recent.kept, e.recent.most, e.patience = 0, n, 1
}

// Remembered is how many commands the engine has in memory.
func (e *Engine) Remembered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.recent.commands)
}

// Waiting is how many outcomes wait for the committer.
func (e *Engine) Waiting() int { return len(e.current().sealed) }

// Resting reports whether the engine hands nothing more to the store.
func (e *Engine) Resting() bool {
	t := e.current()
	return t == nil || closed(t.resting)
}

// CachedStreams is how many aggregates the engine has in memory.
func (e *Engine) CachedStreams() int {
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	return len(e.cache.entries)
}

// Pinned is how many aggregates are held for a command under way.
func (e *Engine) Pinned() (n int) {
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	for _, entry := range e.cache.entries {
		if entry.pins > 0 {
			n++
		}
	}
	return n
}

// SnapshotEvery makes the engine take a snapshot every so many events of a stream,
// and while it loads one, every 50 times as many. What has more rows than copied is
// read from the log for it. It is called before any command.
func (e *Engine) SnapshotEvery(n uint64, copied int) {
	e.snapshots.pace = pace{tail: n, load: 50 * n, copied: copied}
}

// Seal makes the checksum of a snapshot that of what it holds.
func (s *Snapshot) Seal() { s.Sum = s.sum() }

// BrokenRule is a command that adjusts a level and then breaks.
type BrokenRule struct {
	AdjustInventoryLevels
	Break func() `json:"-"`
}

func (BrokenRule) Name() string { return "broken-rule" }

func (c BrokenRule) decide(d *decision) (any, error) {
	result, err := c.AdjustInventoryLevels.decide(d)
	if err == nil {
		c.Break()
	}
	return result, err
}

// UnspeakableAnswer is a command whose answer cannot be written.
type UnspeakableAnswer struct{ AdjustInventoryLevels }

func (UnspeakableAnswer) Name() string { return "unspeakable-answer" }

func (c UnspeakableAnswer) decide(d *decision) (any, error) {
	_, err := c.AdjustInventoryLevels.decide(d)
	return func() {}, err
}

// Digest is what a retry must have in common with the command it repeats.
func Digest(c Command) (string, error) { return digest(c) }

package commands

// Stale reports whether the next command reads the log before it is fetched for.
func (e *Engine) Stale() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stale
}

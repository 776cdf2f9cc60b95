package natsstore

import "sync"

// A mark says at which position of the log a version of a stream is.
type mark struct{ version, position uint64 }

// heads remembers where streams ended when this process last saw them: JetStream
// checks the position of a stream's last event where commits name its version.
// What it remembers was so, and may no longer be; the server has the last word.
// It is bounded: the streams not touched for size others are forgotten.
type heads struct {
	mu         sync.Mutex
	young, old map[string]mark
	size       int
}

func newHeads(size int) *heads { return &heads{young: make(map[string]mark), size: size} }

// of is the last that was seen of a stream, zero if that is nothing.
func (h *heads) of(stream string) mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m, known := h.young[stream]; known {
		return m
	}
	return h.old[stream]
}

// saw remembers an event. A stream only grows, so of two the later one counts.
func (h *heads) saw(stream string, m mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.young[stream].position >= m.position || h.old[stream].position > m.position {
		return
	}
	if len(h.young) >= h.size {
		h.young, h.old = make(map[string]mark), h.young
	}
	h.young[stream] = m
}

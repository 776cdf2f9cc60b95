package sqlitestore

// warm is how many stream heads each of the two halves of heads takes before
// the older half is dropped: about 10 MB of memory at most in each.
const warm = 1 << 16

// heads remembers the versions of the streams written to lately. This process
// is the only writer, so what it remembers is so. It is bounded: the streams not
// touched for warm others are forgotten, but never during an append.
type heads struct {
	young, old map[string]uint64
	size       int // warm
}

func newHeads() heads { return heads{young: make(map[string]uint64), size: warm} }

// forget forgets all.
func (h *heads) forget() { h.young, h.old = make(map[string]uint64), nil }

func (h *heads) version(stream string) (version uint64, known bool) {
	if version, known = h.young[stream]; known {
		return version, true
	}
	version, known = h.old[stream]
	return version, known
}

func (h *heads) set(stream string, version uint64) { h.young[stream] = version }

// trim drops the older half when the younger is full.
func (h *heads) trim() {
	if len(h.young) >= h.size {
		h.young, h.old = make(map[string]uint64), h.young
	}
}

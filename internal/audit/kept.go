package audit

const (
	// mostKept is how many rows the books that a walker keeps may have. It is some
	// 50 MB, and enough to read no event twice in a ledger of a million rows. In a
	// larger one, streams are read again when they come up again.
	mostKept = 300_000
	// mostGap is how many events behind the kept books may be brought up to date.
	// When more were recorded meanwhile, it takes less to read the streams anew.
	mostGap = 16_000
)

// kept are the books of the streams that a walker has looked at of late.
type kept struct {
	now *books // as of followed
	// then is as of the position of the round: what levels held, for the movements.
	then     *books
	streams  map[string]link // that are in the books: their last events in now
	followed uint64
}

func newKept(s seeds) *kept {
	k := &kept{now: newBooks(s, false), streams: make(map[string]link)}
	k.restart()
	return k
}

// forget empties the books.
func (k *kept) forget() { *k = *newKept(k.now.seeds) }

// restart has every stream begin at its first event again, for a new round.
func (k *kept) restart() {
	k.then = newBooks(k.now.seeds, false)
	k.then.lean = true
}

// apply takes in an event of a stream that is kept.
func (k *kept) apply(e *entry) {
	k.now.apply(e)
	k.streams[e.Stream] = k.now.link(&e.Recorded)
}

// follows reports whether an event is the next one of a stream that is kept.
func (k *kept) follows(stream string, version uint64) bool {
	at, is := k.streams[stream]
	return is && version == at.version+1
}

package projections

import (
	"strings"
	"time"

	"github.com/stockledger/stockledger/events"
)

// An event is a recorded event as the folds want it, read once for all models.
// Nobody changes it.
type event struct {
	events.Recorded
	fact    events.Fact
	factErr error // why there is no fact
	meta    events.Meta
	metaErr error
	changes []change  // of quantities, that the fact makes
	at      time.Time // when it was recorded, UTC
}

// read makes the events of a batch of the log.
func read(batch []events.Recorded) []*event {
	made := make([]event, len(batch))
	refs := make([]*event, len(batch))
	for i, recorded := range batch {
		e := &made[i]
		e.Recorded = recorded
		if e.meta, e.metaErr = recorded.Origin(); e.metaErr == nil {
			e.at = e.meta.Recorded.UTC()
		}
		if e.fact, e.factErr = recorded.Fact(); e.factErr == nil {
			e.changes = changesOf(e.fact)
		}
		refs[i] = e
	}
	return refs
}

// moment is when it was recorded, for a row to keep. A pointer to at would keep
// the whole batch.
func (e *event) moment() *time.Time { return new(e.at) }

// kind is what sort of stream the event is in, "item" of "item-iitem_1".
func (e *event) kind() string {
	kind, _, _ := strings.Cut(e.Stream, "-")
	return kind
}

// known reports whether there are streams of that sort. An event in a stream of
// another sort may mean anything, so no model skips it.
func known(kind string) bool {
	switch kind {
	case "item", "sku", "variant", "location", "command":
		return true
	}
	return false
}

package natsapi

import (
	"sync/atomic"
	"time"

	"github.com/stockledger/stockledger/internal/fault"
)

// tally counts what became of the requests to one endpoint. NATS micro has
// statistics of its own, but stops its clock when a handler returns, and ours
// return at once.
type tally struct {
	answered, refused, failed atomic.Int64
	left                      atomic.Int64 // to the node that leads
	time                      atomic.Int64 // ns, of all that were carried to the ledger
}

func (t *tally) add(took time.Duration, err error) {
	switch {
	case err == nil:
		t.answered.Add(1)
	case fault.Of(err).Kind == fault.Internal:
		t.failed.Add(1)
	default:
		t.refused.Add(1)
	}
	t.time.Add(int64(took))
}

// Tally is what $SRV.STATS shows as the data of an endpoint.
type Tally struct {
	Answered int64 `json:"answered"`
	Refused  int64 `json:"refused"` // with an error that is the publisher's to mend, or busy
	Failed   int64 `json:"failed"`  // with an internal error; the log says why
	Left     int64 `json:"left"`    // to the node that leads, which this one no longer did
	// Average is how long the ledger took for one, in nanoseconds.
	Average time.Duration `json:"average_time"`
}

func (t *tally) snapshot() Tally {
	s := Tally{Answered: t.answered.Load(), Refused: t.refused.Load(), Failed: t.failed.Load(), Left: t.left.Load()}
	if n := s.Answered + s.Refused + s.Failed; n > 0 {
		s.Average = time.Duration(t.time.Load() / n)
	}
	return s
}

package chaos

import (
	"fmt"
	"slices"
	"time"

	"github.com/stockledger/stockledger/internal/figures"
)

// A Report is what a run did and found.
type Report struct {
	Seed    uint64         `json:"seed"`
	Kills   int            `json:"kills"`
	Early   int            `json:"kills_while_starting"` // of those
	Points  map[string]int `json:"points"`               // kills by the moment
	Callers int            `json:"callers"`

	Sent         uint64 `json:"sent"`           // different commands
	Acknowledged uint64 `json:"acknowledged"`   // of those
	Refused      uint64 `json:"refused"`        // by a rule
	GivenUp      uint64 `json:"given_up"`       // never answered, and not sent again
	GivenUpThere uint64 `json:"given_up_there"` // of those, in the log, whole
	Resent       uint64 `json:"sent_again"`     // with the same key, most of them after a kill
	Replayed     uint64 `json:"replayed"`       // answers to what had been carried out before

	Events   uint64 `json:"events"`    // in the log
	Feed     uint64 `json:"feed"`      // messages of the feed that were compared with it
	LogBytes int64  `json:"log_bytes"` // of its file

	Lost     uint64    `json:"lost"`
	Doubled  uint64    `json:"doubled"`
	Findings []Finding `json:"findings"` // the first of everything that must not be

	Restarts      int           `json:"restarts"` // until a command was acknowledged again
	RestartMedian time.Duration `json:"restart_median_ns"`
	RestartWorst  time.Duration `json:"restart_worst_ns"`
	Took          time.Duration `json:"took_ns"`
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Sentence is the report in a line.
func (r Report) Sentence() string {
	said := fmt.Sprintf("%s, %s acknowledged, %s lost, %s doubled; restart median %.2f s, worst %.2f s",
		counted(r.Kills, "kill"), figures.Thousands(r.Acknowledged), figures.Thousands(r.Lost), figures.Thousands(r.Doubled),
		r.RestartMedian.Seconds(), r.RestartWorst.Seconds())
	if !r.OK() {
		said += fmt.Sprintf("; %s wrong", counted(len(r.Findings), "thing"))
	}
	return said
}

func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return figures.Thousands(n) + " " + thing
}

// report is what is known until now.
func (c *campaign) report() Report {
	c.book.mu.Lock()
	defer c.book.mu.Unlock()
	n := c.book.counts
	r := Report{
		Seed: c.Seed, Kills: c.early, Early: c.early, Points: make(map[string]int), Callers: c.Callers,
		Sent: n.sent, Acknowledged: n.acknowledged, Refused: n.refused, GivenUp: n.givenUp, GivenUpThere: n.givenUpThere,
		Resent: n.resent, Replayed: n.replayed, Lost: n.lost, Doubled: n.doubled,
		Events: c.check.trail.at, Feed: c.feed, Findings: slices.Clone(c.book.wrong),
		Restarts: len(c.restarts), RestartMedian: figures.Median(c.restarts),
	}
	for at, times := range c.struck {
		r.Points[at] = times
		r.Kills += times
	}
	if len(c.restarts) > 0 {
		r.RestartWorst = slices.Max(c.restarts)
	}
	return r
}

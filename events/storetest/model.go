package storetest

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/stockledger/stockledger/events"
)

// anywhere is where an append goes that does not say where the log must end.
const anywhere = 1 << 20

// model plays random groups of commits, some of them stale, on the store and on
// a map, and compares all that can be seen.
func model(t *testing.T, s events.Store) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++ // streams of their own for every run, on one log
		base := head(t, s)
		var log []events.Recorded
		streams := make(map[string][]events.Recorded)
		names := make([]string, 5)
		for i := range names {
			names[i] = fmt.Sprintf("item-run-%d-%d", run, i)
		}
		for range rapid.IntRange(1, 8).Draw(rt, "groups") {
			group, wantLog, stale := drawGroup(rt, names, streams)
			var positions []uint64
			var err error
			switch off := rapid.SampledFrom([]int{anywhere, anywhere, 0, 0, 1, -1}).Draw(rt, "head off by"); off {
			case anywhere:
				positions, err = s.Append(t.Context(), group...)
			default:
				at := base + uint64(len(log)) + uint64(off) // before 0 is beyond, too
				positions, err = s.AppendAt(t.Context(), at, group...)
				if off != 0 {
					wantLog, stale = nil, true
				}
			}
			if (err != nil) != stale || stale && !errors.Is(err, events.ErrConflict) {
				rt.Fatalf("append: %v; conflict expected: %v", err, stale)
			}
			var ends []uint64
			for _, c := range wantLog {
				for _, e := range c {
					e.Position = base + uint64(len(log)) + 1
					log = append(log, e)
					streams[e.Stream] = append(streams[e.Stream], e)
				}
				ends = append(ends, log[len(log)-1].Position)
			}
			if fmt.Sprint(positions) != fmt.Sprint(ends) {
				rt.Fatalf("appended at %v, want %v", positions, ends)
			}
			stream := rapid.SampledFrom(names).Draw(rt, "stream")
			after := rapid.IntRange(0, len(streams[stream])+1).Draw(rt, "after")
			got, err := tryRead(t.Context(), s, stream, uint64(after))
			compare(rt, streams[stream][min(after, len(streams[stream])):], got, err)
			if at, err := s.Head(t.Context()); err != nil || at != base+uint64(len(log)) {
				rt.Fatalf("head %d, %v, want %d", at, err, base+uint64(len(log)))
			}
		}
		if len(log) > 0 {
			from := rapid.IntRange(0, len(log)-1).Draw(rt, "from")
			got, err := tryAll(t.Context(), s, base+uint64(from), len(log)-from)
			compare(rt, log[from:], got, err)
		}
	})
}

// drawGroup draws commits to append, and says which of them will be recorded and
// whether one is stale.
func drawGroup(rt *rapid.T, names []string, streams map[string][]events.Recorded) (group, recorded []events.Commit, stale bool) {
	a := Author{last: make(map[string]events.Recorded)}
	for name, of := range streams {
		a.last[name] = of[len(of)-1]
	}
	for range rapid.IntRange(1, 4).Draw(rt, "commits") {
		members := rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(rt, "streams")
		off := rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, -1}).Draw(rt, "off by")
		at := a.last[members[0]]
		switch {
		case off == 1:
			group = append(group, events.Commit{event(members[0], at.Version+2)})
			stale = true
		case off == -1 && at.Version > 0:
			group = append(group, events.Commit{event(members[0], at.Version)})
			stale = true
		default:
			c := a.Commit(members...)
			group = append(group, c)
			if !stale {
				recorded = append(recorded, c)
			}
		}
	}
	return group, recorded, stale
}

func compare(rt *rapid.T, want, got []events.Recorded, err error) {
	if err != nil || len(got) != len(want) {
		rt.Fatalf("read %d events, %v, want %d", len(got), err, len(want))
	}
	for i, e := range got {
		if e.Position != want[i].Position || e.Hash != want[i].Hash || e.Hash != e.Link() {
			rt.Fatalf("read %s@%d at %d, want %s@%d at %d",
				e.Stream, e.Version, e.Position, want[i].Stream, want[i].Version, want[i].Position)
		}
	}
}

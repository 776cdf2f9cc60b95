package events

import "fmt"

// A Span is what a commit does to one stream: it takes it from the version it
// must be at to the version it is at afterwards.
type Span struct {
	Stream        string
	Before, After uint64
}

// Spans lists the streams of the commit in the order of their first events. It
// panics on an empty commit and on one whose events skip a version.
func (c Commit) Spans() []Span {
	if len(c) == 0 {
		panic("events: an empty commit")
	}
	if len(c) == 1 && c[0].Version > 0 { // as most are, and without a map
		return []Span{{c[0].Stream, c[0].Version - 1, c[0].Version}}
	}
	spans := make([]Span, 0, min(len(c), 8))
	index := make(map[string]int, len(c))
	for _, e := range c {
		i, seen := index[e.Stream]
		if !seen {
			if e.Version == 0 {
				panic(fmt.Sprintf("events: a commit has version 0 of %s", e.Stream))
			}
			i = len(spans)
			index[e.Stream] = i
			spans = append(spans, Span{e.Stream, e.Version - 1, e.Version - 1})
		}
		if want := spans[i].After + 1; e.Version != want {
			panic(fmt.Sprintf("events: a commit has version %d of %s where %d follows", e.Version, e.Stream, want))
		}
		spans[i].After = e.Version
	}
	return spans
}

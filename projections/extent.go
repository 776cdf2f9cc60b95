package projections

import (
	"cmp"
	"slices"
	"strings"
)

// An extent is where in a column the values are that a condition is true of: no
// less than those, and just those when it is exact.
type extent struct {
	spans []span  // in order, apart from each other
	null  verdict // on NULL
	exact bool
}

// A verdict is what SQL says of a condition: true, false or unknown.
type verdict int

const (
	unknown verdict = iota
	no
	yes
)

// A span is from one value to another; nil is without end. Values are what a
// column stores, all of one type: string or int64.
type span struct {
	from, to         any
	fromOpen, toOpen bool // the end is not in it
}

var all = []span{{}} // that are not NULL

func point(v any) span { return span{from: v, to: v} }

func (s span) isPoint() bool {
	return s.from != nil && s.from == s.to && !s.fromOpen && !s.toOpen
}

// everything is the extent of no condition.
func everything() extent { return extent{spans: all, null: yes, exact: true} }

// anywhere reports whether it says nothing of where the values are.
func (e extent) anywhere() bool {
	return (e.null == yes || !e.exact) && slices.Equal(e.spans, all)
}

// extentOf is the extent of a comparison that holds in the spans, which are
// points or only one. Like all comparisons it is unknown of NULL.
func extentOf(spans ...span) extent {
	slices.SortFunc(spans, func(a, b span) int { return compareValues(a.from, b.from) })
	return extent{spans: slices.Compact(spans), exact: true}
}

func compareValues(a, b any) int {
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string))
	case int64:
		return cmp.Compare(a, b.(int64))
	}
	return 0
}

// complement is the extent of NOT.
func (e extent) complement() extent {
	if !e.exact {
		return extent{spans: all, null: yes}
	}
	out := extent{exact: true}
	switch e.null {
	case yes:
		out.null = no
	case no:
		out.null = yes
	case unknown:
	}
	gap := span{} // after what has been seen
	for _, s := range e.spans {
		if s.from != nil {
			gap.to, gap.toOpen = s.from, !s.fromOpen
			out.spans = appendSpan(out.spans, gap)
		}
		if s.to == nil {
			return out
		}
		gap = span{from: s.to, fromOpen: !s.toOpen}
	}
	out.spans = append(out.spans, gap)
	return out
}

// and is the extent of both.
func (e extent) and(o extent) extent {
	both := extent{exact: e.exact && o.exact}
	switch {
	case e.null == no || o.null == no:
		both.null = no
	case e.null == yes && o.null == yes:
		both.null = yes
	}
	for i, j := 0, 0; i < len(e.spans) && j < len(o.spans); {
		a, b := e.spans[i], o.spans[j]
		both.spans = appendSpan(both.spans, overlap(a, b))
		if endsBefore(a, b) {
			i++
		} else {
			j++
		}
	}
	return both
}

func overlap(a, b span) span {
	s := a
	if b.from != nil && (a.from == nil || compareValues(b.from, a.from) > 0 || b.from == a.from && b.fromOpen) {
		s.from, s.fromOpen = b.from, b.fromOpen
	}
	if endsBefore(b, a) {
		s.to, s.toOpen = b.to, b.toOpen
	}
	return s
}

func endsBefore(a, b span) bool {
	switch {
	case a.to == nil:
		return false
	case b.to == nil:
		return true
	}
	if c := compareValues(a.to, b.to); c != 0 {
		return c < 0
	}
	return a.toOpen && !b.toOpen
}

// appendSpan appends a span unless there is nothing in it.
func appendSpan(spans []span, s span) []span {
	if s.from != nil && s.to != nil {
		if c := compareValues(s.from, s.to); c > 0 || c == 0 && (s.fromOpen || s.toOpen) {
			return spans
		}
	}
	return append(spans, s)
}

package esdbdouble

import (
	"regexp"
	"slices"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// filter says whether a reader of $all is shown a record.
type filter func(*record) bool

// shown is what every reader of $all is shown: all but the server's notes on
// its leaders and on persistent subscriptions (EventFilter.cs, DefaultAllFilterStrategy).
func shown(r *record) bool {
	if !strings.HasPrefix(r.stream, "$") {
		return true
	}
	ofGroup := strings.HasPrefix(r.stream, "$persistentsubscription-$all::") &&
		(strings.HasSuffix(r.stream, "-checkpoint") || strings.HasSuffix(r.stream, "-parked"))
	return r.stream != epochStream && !ofGroup
}

// newFilter is the filter of a request (Streams.Read.cs, ConvertToEventFilter):
// a regular expression where there is one, else prefixes.
func newFilter(options *streams.ReadReq_Options_FilterOptions) (filter, error) {
	named := func(r *record) string { return r.stream }
	expression := options.GetStreamIdentifier()
	if expression == nil {
		named = func(r *record) string { return r.eventType }
		expression = options.GetEventType()
	}
	if expression.GetRegex() == "" {
		prefixes := slices.Clone(expression.GetPrefix())
		return func(r *record) bool {
			return shown(r) && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(named(r), p) })
		}, nil
	}
	matcher, err := regexp.Compile(expression.GetRegex())
	if err != nil {
		return nil, err
	}
	return func(r *record) bool { return shown(r) && matcher.MatchString(named(r)) }, nil
}

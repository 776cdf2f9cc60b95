package esdbdouble_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/esdbdouble"
)

func span(from, to uint64) []uint64 {
	var all []uint64
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func down(from, to uint64) []uint64 {
	all := span(to, from)
	slices.Reverse(all)
	return all
}

func TestReadsOfAStreamBeginWithTheEventNamed(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "hundred"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 99)...)
	for _, tc := range []struct {
		name      string
		direction esdb.Direction
		from      esdb.StreamPosition
		count     uint64
		want      []uint64
	}{
		{"all", esdb.Forwards, esdb.Start{}, math.MaxUint64, span(0, 99)},
		{"from the middle, over pages", esdb.Forwards, esdb.Revision(10), 70, span(10, 79)},
		{"one", esdb.Forwards, esdb.Revision(99), 1, span(99, 99)},
		{"more than there are", esdb.Forwards, esdb.Revision(98), 10, span(98, 99)},
		{"past the end", esdb.Forwards, esdb.Revision(100), 10, nil},
		{"far past the end", esdb.Forwards, esdb.Revision(100_000), 10, nil},
		{"the last", esdb.Backwards, esdb.End{}, 1, span(99, 99)},
		{"all, backwards", esdb.Backwards, esdb.End{}, math.MaxUint64, down(99, 0)},
		{"from the middle, backwards", esdb.Backwards, esdb.Revision(50), 40, down(50, 11)},
		{"the first, backwards", esdb.Backwards, esdb.Start{}, 5, span(0, 0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all, err := readStream(t, s.Client, stream, esdb.ReadStreamOptions{Direction: tc.direction, From: tc.from}, tc.count)
			require.NoError(t, err)
			require.Equal(t, tc.want, revisions(all))
		})
	}
}

func TestAMissingStreamIsToldByTheFirstRecv(t *testing.T) {
	s := conform(t)
	for _, direction := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
		read, err := s.ReadStream(within(t), s.prefix+"none", esdb.ReadStreamOptions{Direction: direction, From: esdb.End{}}, 1)
		if direction == esdb.Forwards {
			read, err = s.ReadStream(within(t), s.prefix+"none", esdb.ReadStreamOptions{From: esdb.Start{}}, 1)
		}
		require.NoError(t, err, "opening the read says nothing")
		_, err = read.Recv()
		read.Close()
		requireCode(t, err, esdb.ErrorCodeResourceNotFound)
	}
}

func TestALongReadFollowsAStreamThatGrows(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "where it is when the stream grows is the server's affair")
	for range 10_000 / 1000 {
		s.Write("a", make([]esdbdouble.Event, 1000)...)
	}
	c := connect(t, s.URL())
	read, err := c.ReadStream(within(t), "a", esdb.ReadStreamOptions{From: esdb.Start{}}, math.MaxUint64)
	require.NoError(t, err)
	defer read.Close()
	_, err = read.Recv()
	require.NoError(t, err)
	s.Write("a", esdbdouble.Event{Type: "late"})
	last := ""
	for n := 1; ; n++ {
		e, err := read.Recv()
		if err != nil {
			require.Equal(t, 10_001, n)
			break
		}
		last = e.Event.EventType
	}
	require.Equal(t, "late", last)
}

// readAllOf is what of $all is of this test.
func readAllOf(t *testing.T, s server, options esdb.ReadAllOptions) []*esdb.ResolvedEvent {
	t.Helper()
	all, err := collect(s.ReadAll(within(t), options, math.MaxUint64))
	require.NoError(t, err)
	return slices.DeleteFunc(all, func(e *esdb.ResolvedEvent) bool {
		name := e.OriginalEvent().StreamID
		return len(name) < len(s.prefix) || name[:len(s.prefix)] != s.prefix
	})
}

func TestPositionsGrowAndHaveGaps(t *testing.T) {
	s := conform(t)
	var want []string
	for n := range 40 {
		stream := fmt.Sprint(s.prefix, n%3)
		expected := esdb.ExpectedRevision(esdb.NoStream{})
		if n >= 3 {
			expected = esdb.Revision(uint64(n/3) - 1)
		}
		result := mustAppend(t, s.Client, stream, expected, event(stream, n))
		want = append(want, fmt.Sprintf("%s@%d", stream, result.NextExpectedVersion))
	}
	start := esdb.ReadAllOptions{From: esdb.Start{}}
	if esdbdouble.RealServer() != "" { // it holds other things as well
		first := everything(t, s.Client, s.prefix+"0")[0].Event.Position
		start.From = first
	}
	var got []string
	var last esdb.Position
	for i, e := range readAllOf(t, s, start) {
		got = append(got, fmt.Sprintf("%s@%d", e.Event.StreamID, e.Event.EventNumber))
		require.Equal(t, e.Event.Position.Commit, e.Event.Position.Prepare)
		require.Equal(t, e.Event.Position.Commit, *e.Commit)
		if i > 0 {
			require.Greater(t, e.Event.Position.Commit, last.Commit+40, "as offsets of bytes do")
		}
		last = e.Event.Position
	}
	require.Equal(t, want, got)
	// Of a stream the same event has the same position.
	require.Equal(t, last, everything(t, s.Client, s.prefix+"0")[13].Event.Position)
}

func TestReadsOfAllForwardsIncludeAndBackwardsExcludeThePosition(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 79)...)
	middle := everything(t, s.Client, stream)[40].Event.Position
	forwards := readAllOf(t, s, esdb.ReadAllOptions{From: middle})
	require.Equal(t, span(40, 79), revisions(forwards))
	backwards := readAllOf(t, s, esdb.ReadAllOptions{From: middle, Direction: esdb.Backwards})
	require.Equal(t, down(39, 0), revisions(backwards))
	fromEnd := readAllOf(t, s, esdb.ReadAllOptions{From: esdb.End{}, Direction: esdb.Backwards})
	require.Equal(t, down(79, 0), revisions(fromEnd))
	require.Empty(t, readAllOf(t, s, esdb.ReadAllOptions{From: esdb.End{}}))
}

func TestACountBoundsAReadOfAll(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 79)...)
	first := everything(t, s.Client, stream)[0].Event.Position
	for _, count := range []uint64{1, 31, 32, 33, 64, 70} {
		all, err := collect(s.ReadAll(within(t), esdb.ReadAllOptions{From: first}, count))
		require.NoError(t, err)
		require.Len(t, all, int(count))
	}
}

func TestAMadeUpPositionIsRefused(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 9)...)
	within2 := everything(t, s.Client, stream)[5].Event.Position.Commit + 3
	made := esdb.Position{Commit: within2, Prepare: within2}
	for _, direction := range []esdb.Direction{esdb.Forwards, esdb.Backwards} {
		_, err := collect(s.ReadAll(within(t), esdb.ReadAllOptions{From: made, Direction: direction}, 10))
		require.Error(t, err)
		requireCode(t, err, esdb.ErrorCodeUnknown)
	}
	sub, err := s.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{From: made})
	require.NoError(t, err)
	defer sub.Close()
	labels := until(t, sub, s.prefix, "dropped")
	require.Equal(t, []string{"dropped"}, labels)
}

func TestASoftlyDeletedStreamOpensAgainWhereItEnded(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 2)...)
	_, err := s.DeleteStream(within(t), stream, esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(1)})
	requireCode(t, err, esdb.ErrorCodeUnknown)
	require.ErrorContains(t, err, "WrongExpectedVersion")
	_, err = s.DeleteStream(within(t), stream, esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(2)})
	require.NoError(t, err)
	_, err = readStream(t, s.Client, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 10)
	requireCode(t, err, esdb.ErrorCodeResourceNotFound)
	_, err = appendTo(t, s.Client, stream, esdb.StreamExists{}, event(stream, 3))
	requireCode(t, err, esdb.ErrorCodeStreamDeleted)
	result := mustAppend(t, s.Client, stream, esdb.NoStream{}, event(stream, 3))
	require.Equal(t, uint64(3), result.NextExpectedVersion)
	mustAppend(t, s.Client, stream, esdb.Revision(3), event(stream, 4))
	require.Equal(t, []uint64{3, 4}, revisions(everything(t, s.Client, stream)))
	// What was there before still counts for idempotency, as long as no one
	// scavenged it.
	again := mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 2)...)
	require.Equal(t, uint64(2), again.NextExpectedVersion)
}

func TestATombstoneIsForGood(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 2)...)
	_, err := s.TombstoneStream(within(t), stream, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(2)})
	require.NoError(t, err)
	_, err = readStream(t, s.Client, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 10)
	requireCode(t, err, esdb.ErrorCodeStreamDeleted)
	for _, expected := range []esdb.ExpectedRevision{esdb.Any{}, esdb.NoStream{}, esdb.StreamExists{}, esdb.Revision(2)} {
		_, err = appendTo(t, s.Client, stream, expected, event(stream, 3))
		requireCode(t, err, esdb.ErrorCodeStreamDeleted)
	}
	_, err = s.TombstoneStream(within(t), stream, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	requireCode(t, err, esdb.ErrorCodeStreamDeleted)
	sub, err := s.SubscribeToStream(within(t), stream, esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	if err == nil {
		defer sub.Close()
		until(t, sub, s.prefix, "dropped")
	}
}

func TestMetadataLimitsWhatIsRead(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 59)...)
	limit := func(set func(*esdb.StreamMetadata)) {
		var metadata esdb.StreamMetadata
		set(&metadata)
		_, err := s.SetStreamMetadata(within(t), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, metadata)
		require.NoError(t, err)
	}
	limit(func(m *esdb.StreamMetadata) { m.SetMaxCount(10) })
	require.Equal(t, span(50, 59), revisions(everything(t, s.Client, stream)))
	all, err := readStream(t, s.Client, stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, math.MaxUint64)
	require.NoError(t, err)
	require.Equal(t, down(59, 50), revisions(all))
	all, err = readStream(t, s.Client, stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.Revision(20)}, 5)
	require.NoError(t, err)
	require.Empty(t, all)
	limit(func(m *esdb.StreamMetadata) { m.SetTruncateBefore(40) })
	require.Equal(t, span(40, 59), revisions(everything(t, s.Client, stream)), "the last metadata is what counts")
	limit(func(m *esdb.StreamMetadata) { m.SetTruncateBefore(60) })
	all, err = readStream(t, s.Client, stream, esdb.ReadStreamOptions{From: esdb.Start{}}, 10)
	require.NoError(t, err)
	require.Empty(t, all, "there is a stream, and nothing in it to read")
	metadata, err := s.GetStreamMetadata(within(t), stream, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}})
	require.NoError(t, err)
	require.Equal(t, uint64(60), *metadata.TruncateBefore())
	require.Equal(t, []uint64{2}, revisions(everything(t, s.Client, "$$"+stream)), "a metadata stream shows its last event")
	result := mustAppend(t, s.Client, stream, esdb.Revision(59), event(stream, 60))
	require.Equal(t, uint64(60), result.NextExpectedVersion)
}

func TestARegisterIsAStreamOfOneEvent(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "register"
	var metadata esdb.StreamMetadata
	metadata.SetMaxCount(1)
	_, err := s.SetStreamMetadata(within(t), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, metadata)
	require.NoError(t, err)
	mustAppend(t, s.Client, stream, esdb.NoStream{}, event(stream, 0))
	for n := 1; n < 50; n++ {
		mustAppend(t, s.Client, stream, esdb.Revision(uint64(n-1)), event(stream, n))
		require.Equal(t, []uint64{uint64(n)}, revisions(everything(t, s.Client, stream)))
	}
	_, err = appendTo(t, s.Client, stream, esdb.Revision(10), event(s.prefix, 99))
	require.ErrorContains(t, err, "expecting '10' but got '49'")
}

func TestLinksAreFollowedWhereTheyLead(t *testing.T) {
	s := conform(t)
	target, links := s.prefix+"a", s.prefix+"links"
	mustAppend(t, s.Client, target, esdb.NoStream{}, events(target, 0, 1)...)
	link := func(to string) esdb.EventData {
		return esdb.EventData{EventID: uuid.New(), EventType: "$>", Data: []byte(to)}
	}
	mustAppend(t, s.Client, links, esdb.NoStream{}, link("1@"+target), link("7@"+target))
	all, err := readStream(t, s.Client, links, esdb.ReadStreamOptions{From: esdb.Start{}, ResolveLinkTos: true}, 10)
	require.NoError(t, err)
	require.Equal(t, uint64(1), all[0].Event.EventNumber)
	require.Equal(t, target, all[0].Event.StreamID)
	require.Equal(t, uint64(0), all[0].Link.EventNumber)
	require.Nil(t, all[1].Event, "it leads nowhere")
	require.Equal(t, uint64(1), all[1].OriginalEvent().EventNumber)
	unresolved := everything(t, s.Client, links)
	require.Equal(t, "$>", unresolved[0].Event.EventType)
}

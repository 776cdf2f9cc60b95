package esdbdouble_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/esdbdouble"
)

// The sequences of the server's own tests of idempotency, by the names they
// have there (appending_to_implicitly_created_stream.cs): 2e1 is event 2
// appended expecting revision 1, em1 expects no stream, any expects anything,
// and what stands between S and E is one append.
var sequences = []string{
	"0em1_1e0_2e1_3e2_4e3_5e4_0em1_idempotent",
	"0em1_1e0_2e1_3e2_4e3_4e4_0any_idempotent",
	"0em1_1e0_2e1_3e2_4e3_5e4_0e5_non_idempotent",
	"0em1_1e0_2e1_3e2_4e3_5e4_0e6_wev",
	"0em1_1e0_2e1_3e2_4e3_5e4_0e4_wev",
	"0em1_0e0_non_idempotent",
	"0em1_0any_idempotent",
	"0em1_0em1_idempotent",
	"0em1_1e0_2e1_1any_1any_idempotent",
	"S_0em1_1em1_E_S_0em1_E_idempotent",
	"S_0em1_1em1_E_S_0any_E_idempotent",
	"S_0em1_1em1_E_S_1e0_E_idempotent",
	"S_0em1_1em1_E_S_1any_E_idempotent",
	"S_0em1_1em1_E_S_0em1_1em1_2em1_E_idempotancy_fail",
	// And some of ours.
	"0em1_1e0_2e1_0em1_idempotent",
	"0em1_1e0_2e1_1e0_idempotent",
	"S_0em1_1em1_E_S_0em1_2em1_E_wev",
	"S_0em1_1em1_E_S_0any_2any_E_wev",
	"S_0em1_1em1_E_S_2em1_E_wev",
}

// step is one append of a sequence.
type step struct {
	expected esdb.ExpectedRevision
	events   []esdb.EventData
}

var (
	stepText = regexp.MustCompile(`^(\d+)(em1|any|e(\d+))$`)
	outcomes = []string{"_non_idempotent", "_idempotent", "_wev", "_idempotancy_fail"}
)

func parseSequence(t *testing.T, stream, name string) (steps []step, outcome string) {
	t.Helper()
	for _, o := range outcomes {
		if rest, ok := strings.CutSuffix(name, o); ok {
			name, outcome = rest, o[1:]
			break
		}
	}
	together := false
	for word := range strings.SplitSeq(name, "_") {
		if word == "S" {
			together = true
			steps = append(steps, step{})
			continue
		}
		if word == "E" {
			together = false
			continue
		}
		m := stepText.FindStringSubmatch(word)
		require.NotNil(t, m, "%q in %s", word, name)
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		var expected esdb.ExpectedRevision
		switch m[2] {
		case "em1":
			expected = esdb.NoStream{}
		case "any":
			expected = esdb.Any{}
		default:
			revision, err := strconv.ParseUint(m[3], 10, 64)
			require.NoError(t, err)
			expected = esdb.Revision(revision)
		}
		if !together {
			steps = append(steps, step{})
		}
		last := &steps[len(steps)-1]
		last.expected, last.events = expected, append(last.events, event(stream, n))
	}
	return steps, outcome
}

func TestAnAppendRepeatedIsOneAppend(t *testing.T) {
	s := conform(t)
	for _, name := range sequences {
		t.Run(name, func(t *testing.T) {
			stream := s.prefix + name
			steps, outcome := parseSequence(t, stream, name)
			for _, step := range steps[:len(steps)-1] {
				mustAppend(t, s.Client, stream, step.expected, step.events...)
			}
			before := everything(t, s.Client, stream)
			last := steps[len(steps)-1]
			result, err := appendTo(t, s.Client, stream, last.expected, last.events...)
			after := everything(t, s.Client, stream)
			switch outcome {
			case "wev", "idempotancy_fail":
				requireCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
				require.Len(t, after, len(before))
			case "idempotent":
				require.NoError(t, err)
				require.Len(t, after, len(before))
				id := last.events[len(last.events)-1].EventID
				require.Equal(t, id, after[result.NextExpectedVersion].Event.EventID,
					"the answer names the last event that was written then")
			case "non_idempotent":
				require.NoError(t, err)
				require.Len(t, after, len(before)+1)
				require.Equal(t, uint64(len(before)), result.NextExpectedVersion)
			}
		})
	}
}

func TestARepeatedAppendIsKnownWhateverCameAfter(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "long"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 2)...)
	mustAppend(t, s.Client, stream, esdb.Revision(2), events(stream, 3, 4)...)
	for n := 5; n < 300; n++ {
		mustAppend(t, s.Client, stream, esdb.Revision(uint64(n-1)), event(stream, n))
	}
	result := mustAppend(t, s.Client, stream, esdb.Revision(2), events(stream, 3, 4)...)
	require.Equal(t, uint64(4), result.NextExpectedVersion)
	require.Len(t, everything(t, s.Client, stream), 300)
	_, err := appendTo(t, s.Client, stream, esdb.Revision(3), events(stream, 3, 4)...)
	requireCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
}

func TestTheAnswerToARepeatedAppendHasNoPosition(t *testing.T) {
	for _, tc := range []struct {
		options []esdbdouble.Option
		known   bool
	}{{nil, false}, {[]esdbdouble.Option{esdbdouble.IdempotentPositions()}, true}} {
		s := esdbdouble.NeedsDouble(t, "servers may tell the position", tc.options...)
		c := connect(t, s.URL())
		first := mustAppend(t, c, "a", esdb.NoStream{}, event("a", 0))
		require.NotZero(t, first.CommitPosition)
		again := mustAppend(t, c, "a", esdb.NoStream{}, event("a", 0))
		if tc.known {
			require.Equal(t, first.CommitPosition, again.CommitPosition)
		} else {
			require.Zero(t, again.CommitPosition)
		}
	}
}

func TestTheSameIDInAnotherStreamIsAnotherEvent(t *testing.T) {
	s := conform(t)
	same := event(s.prefix, 0)
	for _, stream := range []string{"one", "two"} {
		mustAppend(t, s.Client, s.prefix+stream, esdb.Any{}, same)
		require.Len(t, everything(t, s.Client, s.prefix+stream), 1)
	}
	// The memory of recent ids keeps one stream for each: the first. In the other
	// an append that expects anything is not recognised.
	mustAppend(t, s.Client, s.prefix+"two", esdb.Any{}, same)
	require.Len(t, everything(t, s.Client, s.prefix+"two"), 2)
	mustAppend(t, s.Client, s.prefix+"two", esdb.NoStream{}, same)
	require.Len(t, everything(t, s.Client, s.prefix+"two"), 2)
}

func TestExpectingAnythingIsIdempotentOnlyAsLongAsTheMemoryLasts(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "it restarts the server")
	c := connect(t, s.URL())
	mustAppend(t, c, "a", esdb.Any{}, event("a", 0))
	mustAppend(t, c, "a", esdb.Any{}, event("a", 0))
	require.Len(t, s.Events("a"), 1)
	s.Restart()
	again := connect(t, s.URL())
	mustAppend(t, again, "a", esdb.NoStream{}, event("a", 0))
	require.Len(t, s.Events("a"), 1, "exact revisions are compared with the stream")
	mustAppend(t, again, "a", esdb.Any{}, event("a", 0))
	require.Len(t, s.Events("a"), 2, "and anything with a memory that is gone")

	// 8 MiB of ids is all there is, too.
	mustAppend(t, again, "b", esdb.Any{}, event("b", 1))
	for range 8<<20/(28+2*len("filler"))/1000 + 2 {
		s.Write("filler", make([]esdbdouble.Event, 1000)...)
	}
	mustAppend(t, again, "b", esdb.Any{}, event("b", 1))
	require.Len(t, s.Events("b"), 2)
}

func TestAWrongVersionSaysWhatTheStreamIs(t *testing.T) {
	s := conform(t)
	mustAppend(t, s.Client, s.prefix+"three", esdb.NoStream{}, events(s.prefix, 0, 2)...)
	for _, tc := range []struct {
		stream   string
		expected esdb.ExpectedRevision
		text     string
	}{
		{"three", esdb.NoStream{}, "wrong expected version: expecting 'no_stream' but got '2'"},
		{"three", esdb.Revision(1), "wrong expected version: expecting '1' but got '2'"},
		{"three", esdb.Revision(7), "wrong expected version: expecting '7' but got '2'"},
		{"none", esdb.Revision(0), "wrong expected version: expecting '0' but got 'no_stream'"},
		{"none", esdb.StreamExists{}, "wrong expected version: expecting 'stream_exists' but got 'no_stream'"},
	} {
		_, err := appendTo(t, s.Client, s.prefix+tc.stream, tc.expected, event(s.prefix, 9))
		requireCode(t, err, esdb.ErrorCodeWrongExpectedVersion)
		require.ErrorContains(t, err, tc.text)
	}
	// Even what expects anything can be wrong: the first of these was written.
	_, err := appendTo(t, s.Client, s.prefix+"three", esdb.Any{}, event(s.prefix, 2), event(s.prefix, 9))
	require.ErrorContains(t, err, "wrong expected version: expecting 'any' but got '2'")
}

func TestRevisionsOfAnAppendAreThoseOfItsEvents(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "revisions"
	first := mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 9)...)
	require.Equal(t, uint64(9), first.NextExpectedVersion, "misnamed: it is the last event's revision")
	second := mustAppend(t, s.Client, stream, esdb.Revision(9), event(stream, 10))
	require.Equal(t, uint64(10), second.NextExpectedVersion)
	require.Greater(t, second.CommitPosition, first.CommitPosition)
	exists := mustAppend(t, s.Client, stream, esdb.StreamExists{}, event(stream, 11))
	require.Equal(t, uint64(11), exists.NextExpectedVersion)
	for i, e := range everything(t, s.Client, stream) {
		want := event(stream, i)
		require.Equal(t, uint64(i), e.Event.EventNumber)
		require.Equal(t, want.EventID, e.Event.EventID)
		require.Equal(t, want.EventType, e.Event.EventType)
		require.Equal(t, want.Data, e.Event.Data)
		require.Equal(t, want.Metadata, e.Event.UserMetadata)
		require.Equal(t, "application/json", e.Event.ContentType)
		require.Equal(t, stream, e.Event.StreamID)
	}
}

func TestBytesComeBackAsTheyWere(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "bytes"
	data := []byte{0, 255, '\n', '{', 0x80}
	mustAppend(t, s.Client, stream, esdb.NoStream{}, esdb.EventData{EventID: uuid.New(), EventType: "bytes", Data: data, Metadata: data})
	mustAppend(t, s.Client, stream, esdb.Revision(0), esdb.EventData{EventID: uuid.New(), EventType: "bytes"})
	all := everything(t, s.Client, stream)
	require.Equal(t, data, all[0].Event.Data)
	require.Equal(t, data, all[0].Event.UserMetadata)
	require.Equal(t, "application/octet-stream", all[0].Event.ContentType)
	require.Empty(t, all[1].Event.Data)
}

func TestAnAppendOfNothingToNoStreamIsSaidToHaveWrittenTwo(t *testing.T) {
	// The client's own mistake: without a revision in the answer it says 1.
	s := conform(t)
	result := mustAppend(t, s.Client, s.prefix+"nothing", esdb.NoStream{})
	require.Equal(t, uint64(1), result.NextExpectedVersion)
	_, err := readStream(t, s.Client, s.prefix+"nothing", esdb.ReadStreamOptions{From: esdb.Start{}}, 1)
	requireCode(t, err, esdb.ErrorCodeResourceNotFound)
}

func TestTooLargeAnAppendIsMaskedAsTheEndOfTheStream(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "servers differ in their limit")
	c := connect(t, s.URL())
	kilobytes := func(n, each int) []esdb.EventData {
		var all []esdb.EventData
		for range n {
			all = append(all, esdb.EventData{EventID: uuid.New(), EventType: "e", Data: bytes.Repeat([]byte("x"), each<<10-2)})
		}
		return all
	}
	mustAppend(t, c, "fits", esdb.NoStream{}, kilobytes(1024, 1)...)
	_, err := appendTo(t, c, "much", esdb.NoStream{}, kilobytes(64, 256)...)
	requireCode(t, err, esdb.ErrorCodeUnknown)
	require.ErrorContains(t, err, "EOF")
	require.Empty(t, s.Events("much"), "none of it was written")
	// When it ends with the event that is too many, the reason may get through.
	_, err = appendTo(t, c, "over", esdb.NoStream{}, kilobytes(1025, 1)...)
	requireCode(t, err, esdb.ErrorCodeUnknown)
	require.Empty(t, s.Events("over"))
	require.Equal(t, 3, s.Counts().Appends)
}

// Whatever was appended, by whom and how often: an append that expects a
// revision never writes its events twice, and never over others.
func TestRepeatsOfExactAppendsChangeNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := conform(t)
	stream := s.prefix + "random"
	type done struct {
		expected esdb.ExpectedRevision
		events   []esdb.EventData
		last     uint64
	}
	var history []done
	var expected esdb.ExpectedRevision = esdb.NoStream{}
	length := 0
	for range 150 {
		if len(history) > 0 && random.IntN(2) == 0 {
			again := history[random.IntN(len(history))]
			result := mustAppend(t, s.Client, stream, again.expected, again.events...)
			require.Equal(t, again.last, result.NextExpectedVersion)
			continue
		}
		n := 1 + random.IntN(4)
		next := done{expected, events(stream, length, length+n-1), uint64(length + n - 1)}
		mustAppend(t, s.Client, stream, next.expected, next.events...)
		length += n
		history = append(history, next)
		expected = esdb.Revision(next.last)
	}
	all := everything(t, s.Client, stream)
	require.Len(t, all, length)
	for i, e := range all {
		require.Equal(t, event(stream, i).EventID, e.Event.EventID, fmt.Sprint(i))
	}
}

package esdbdouble_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stockledger/stockledger/internal/esdbdouble"
)

// appeared leaves the events of labels.
func appeared(labels []string) []string {
	return slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return !strings.Contains(l, "@") })
}

// named are the labels of a stream's events.
func named(stream string, revisions []uint64) []string {
	var all []string
	for _, r := range revisions {
		all = append(all, fmt.Sprintf("%s@%d", stream, r))
	}
	return all
}

func TestASubscriptionBeginsAfterTheEventNamed(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 99)...)
	for _, tc := range []struct {
		name string
		from esdb.StreamPosition
		want []uint64
	}{
		{"start", esdb.Start{}, span(0, 99)},
		{"the first", esdb.Revision(0), span(1, 99)},
		{"the middle", esdb.Revision(49), span(50, 99)},
		{"the last", esdb.Revision(99), nil},
		{"end", esdb.End{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sub, err := s.SubscribeToStream(within(t), stream, esdb.SubscribeToStreamOptions{From: tc.from})
			require.NoError(t, err)
			defer sub.Close()
			labels := until(t, sub, s.prefix, "caught up")
			require.Equal(t, append(named("a", tc.want), "caught up"), labels)
		})
	}
	t.Run("of all", func(t *testing.T) {
		middle := everything(t, s.Client, stream)[49].Event.Position
		sub, err := s.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{From: middle})
		require.NoError(t, err)
		defer sub.Close()
		require.Equal(t, append(named("a", span(50, 99)), "caught up"), until(t, sub, s.prefix, "caught up"),
			"and without a filter there are no checkpoints")
	})
}

func TestASubscriptionWaitsForItsStreamToBegin(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	sub, err := s.SubscribeToStream(within(t), stream, esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	require.Equal(t, []string{"caught up"}, until(t, sub, s.prefix, "caught up"))
	mustAppend(t, s.Client, stream, esdb.NoStream{}, events(stream, 0, 2)...)
	require.Equal(t, named("a", span(0, 2)), until(t, sub, s.prefix, "a@2"))
}

func TestATombstoneEndsASubscriptionToItsStream(t *testing.T) {
	s := conform(t)
	stream := s.prefix + "a"
	mustAppend(t, s.Client, stream, esdb.NoStream{}, event(stream, 0))
	sub, err := s.SubscribeToStream(within(t), stream, esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	until(t, sub, s.prefix, "caught up")
	_, err = s.TombstoneStream(within(t), stream, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	until(t, sub, s.prefix, "dropped")
}

// Whoever subscribes while others append misses nothing, sees nothing twice and
// nothing out of order, however the moments fall.
func TestASubscriptionMissesNothingOfWhatIsAppendedMeanwhile(t *testing.T) {
	s := conform(t)
	const streams, each = 4, 100
	failed := make(chan error, streams)
	for n := range streams {
		stream := fmt.Sprintf("%s%d", s.prefix, n)
		go func() {
			expected := esdb.ExpectedRevision(esdb.NoStream{})
			for i := range each {
				result, err := s.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, event(stream, i))
				if err != nil {
					failed <- err
					return
				}
				expected = esdb.Revision(result.NextExpectedVersion)
			}
			failed <- nil
		}()
	}
	sub, err := s.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{
		From:   esdb.Start{},
		Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{s.prefix}},
	})
	require.NoError(t, err)
	defer sub.Close()
	seen := make(map[string]uint64)
	var last esdb.Position
	for total := 0; total < streams*each; {
		e := next(t, sub)
		if e.EventAppeared == nil {
			require.Nil(t, e.SubscriptionDropped)
			continue
		}
		total++
		got := e.EventAppeared.Event
		require.Equal(t, seen[got.StreamID], got.EventNumber)
		seen[got.StreamID]++
		require.Greater(t, got.Position.Commit, last.Commit)
		last = got.Position
	}
	for range streams {
		require.NoError(t, <-failed)
	}
}

func TestFiltersChooseByStreamOrType(t *testing.T) {
	s := conform(t)
	kind := func(k string) esdb.EventData { return esdb.EventData{EventID: uuid.New(), EventType: k} }
	mustAppend(t, s.Client, s.prefix+"item-1", esdb.NoStream{}, kind("one.v1"), kind("two.v1"), kind("three.v1"))
	mustAppend(t, s.Client, s.prefix+"item-2", esdb.NoStream{}, kind("one.v2"))
	mustAppend(t, s.Client, "no-"+s.prefix+"item-2", esdb.NoStream{}, kind("one.v2"))
	mustAppend(t, s.Client, s.prefix+"other", esdb.NoStream{}, kind("two.v2"))
	tag := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	mustAppend(t, s.Client, s.prefix+"other", esdb.Revision(0), kind(tag+".a"), kind(tag+".b"))
	for _, tc := range []struct {
		name   string
		filter esdb.SubscriptionFilter
		want   []string
	}{
		{"stream prefix", esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{s.prefix + "item-"}}, []string{"item-1@0", "item-1@1", "item-1@2", "item-2@0"}},
		{"stream prefixes", esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{s.prefix + "item-2", s.prefix + "oth"}}, []string{"item-2@0", "other@0", "other@1", "other@2"}},
		{"stream regex", esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "^" + s.prefix + ".*[2r]$"}, []string{"item-2@0", "other@0", "other@1", "other@2"}},
		{"type prefix", esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{tag}}, []string{"other@1", "other@2"}},
		{"type regex", esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "^" + tag + `\.b$`}, []string{"other@2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sub, err := s.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: &tc.filter, MaxSearchWindow: 1000})
			require.NoError(t, err)
			defer sub.Close()
			require.Equal(t, tc.want, appeared(until(t, sub, s.prefix, "caught up")))
		})
	}
}

// checkpoints are the positions of the checkpoints up to the first catching up.
func checkpoints(t *testing.T, c *esdb.Client, options esdb.SubscribeToAllOptions) (positions []esdb.Position, shown int) {
	t.Helper()
	sub, err := c.SubscribeToAll(within(t), options)
	require.NoError(t, err)
	defer sub.Close()
	for {
		e := next(t, sub)
		switch {
		case e.CheckPointReached != nil:
			positions = append(positions, *e.CheckPointReached)
		case e.EventAppeared != nil:
			shown++
		case e.CaughtUp != nil:
			return positions, shown
		default:
			require.Nil(t, e.SubscriptionDropped)
		}
	}
}

func TestCheckpointsComeEachWindowTimesInterval(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "what else a server holds moves them")
	s.Write("noise", make([]esdbdouble.Event, 1000)...)
	s.Write("mine", make([]esdbdouble.Event, 1)...)
	c := connect(t, s.URL())
	for _, tc := range []struct{ window, interval, count int }{
		{32, 1, 1000/32 + 1}, {100, 1, 11}, {10, 3, 34}, {1000, 1, 2}, {10_000, 1, 1},
	} {
		got, shown := checkpoints(t, c, esdb.SubscribeToAllOptions{
			From: esdb.Start{}, MaxSearchWindow: tc.window, CheckpointInterval: tc.interval,
			Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"mine"}},
		})
		require.Equal(t, 1, shown)
		require.InDelta(t, tc.count, len(got), 1, "window %d, interval %d", tc.window, tc.interval)
		require.True(t, slices.IsSortedFunc(got, func(a, b esdb.Position) int { return int(a.Commit) - int(b.Commit) }))
		// The last, on going live, is that of the last event that was shown.
		require.Equal(t, s.Events("mine")[0].Position, got[len(got)-1].Commit)
	}
}

func TestLiveCheckpointsAreThoseOfTheEventsConsidered(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "what others append moves them")
	c := connect(t, s.URL())
	sub, err := c.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{
		From: esdb.End{}, MaxSearchWindow: 5, CheckpointInterval: 2,
		Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"mine"}},
	})
	require.NoError(t, err)
	defer sub.Close()
	require.Equal(t, []string{"caught up"}, until(t, sub, "", "caught up"))
	for range 7 {
		s.Write("noise", esdbdouble.Event{Type: "n"}, esdbdouble.Event{Type: "n"}, esdbdouble.Event{Type: "n"})
	}
	s.Write("mine", esdbdouble.Event{Type: "m"})
	log := s.Log()
	for _, want := range []int{9, 19} {
		e := next(t, sub)
		require.NotNil(t, e.CheckPointReached)
		require.Equal(t, log[want].Position, e.CheckPointReached.Commit)
	}
	require.Equal(t, "mine@0", label("", next(t, sub)))
}

// Whoever resumes from what he was told last, an event or a checkpoint, is shown
// all that follows and nothing twice.
func TestResumingFromCheckpointsNeitherSkipsNorRepeats(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := conform(t)
	write := func(n int) {
		for range n {
			name := s.prefix + []string{"mine", "noise", "noise", "noise"}[random.IntN(4)]
			all := make([]esdb.EventData, 1+random.IntN(3))
			for i := range all {
				all[i] = esdb.EventData{EventID: uuid.New(), EventType: "e", Data: make([]byte, random.IntN(100))}
			}
			mustAppend(t, s.Client, name, esdb.Any{}, all...)
		}
	}
	write(100)
	var resume esdb.AllPosition = esdb.Start{}
	var got []uint64
	for range 40 {
		sub, err := s.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{
			From: resume, MaxSearchWindow: 1 + random.IntN(40), CheckpointInterval: 1 + random.IntN(3),
			Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{s.prefix + "mine"}},
		})
		require.NoError(t, err)
		for range random.IntN(40) {
			e := next(t, sub)
			if e.EventAppeared != nil {
				got = append(got, e.EventAppeared.Event.EventNumber)
				resume = e.EventAppeared.Event.Position
			}
			if e.CheckPointReached != nil {
				resume = *e.CheckPointReached
			}
			if e.CaughtUp != nil {
				break
			}
		}
		require.NoError(t, sub.Close())
		write(random.IntN(6))
	}
	sub, err := s.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{
		From: resume, MaxSearchWindow: 100,
		Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{s.prefix + "mine"}},
	})
	require.NoError(t, err)
	defer sub.Close()
	for {
		e := next(t, sub)
		if e.EventAppeared != nil {
			got = append(got, e.EventAppeared.Event.EventNumber)
		}
		if e.CaughtUp != nil {
			break
		}
	}
	want := revisions(everything(t, s.Client, s.prefix+"mine"))
	require.Equal(t, want, got)
}

func TestACheckpointAtTheEndOfTheLogSkipsAnEvent(t *testing.T) {
	for _, broken := range []bool{false, true} {
		s := esdbdouble.NeedsDouble(t, "servers with this bug are old")
		s.SetCheckpointsAtEnd(broken)
		s.Write("mine", esdbdouble.Event{Type: "one"})
		s.Write("noise", make([]esdbdouble.Event, 10)...)
		c := connect(t, s.URL())
		mine := &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"mine"}}
		positions, _ := checkpoints(t, c, esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: mine})
		s.Write("mine", esdbdouble.Event{Type: "two"}, esdbdouble.Event{Type: "three"})
		sub, err := c.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{From: positions[len(positions)-1], Filter: mine})
		require.NoError(t, err)
		want := []string{"mine@1", "mine@2"}
		if broken {
			want = want[1:]
		}
		require.Equal(t, want, appeared(until(t, sub, "", "caught up")))
		require.NoError(t, sub.Close())
	}
}

func TestCheckpointsCanComeTwice(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "a fault of the double's")
	s.SetDuplicateCheckpoints(true)
	s.Write("mine", make([]esdbdouble.Event, 3)...)
	got, _ := checkpoints(t, connect(t, s.URL()), esdb.SubscribeToAllOptions{
		From: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"mine"}},
	})
	require.Len(t, got, 2)
	require.Equal(t, got[0], got[1])
}

func TestASlowConsumerIsToldAgainThatItHasCaughtUp(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "how slow is too slow is the server's affair")
	c := connect(t, s.URL())
	one, err := c.SubscribeToStream(within(t), "a", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer one.Close()
	all, err := c.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer all.Close()
	for _, sub := range []*esdb.Subscription{one, all} {
		until(t, sub, "", "caught up")
	}
	s.Write("a", make([]esdbdouble.Event, 100)...)
	for _, sub := range []*esdb.Subscription{one, all} {
		require.Equal(t, append(named("a", span(0, 99)), "caught up"), until(t, sub, "", "caught up"))
	}
}

func TestAnAbortedSubscriptionDropsWithARawError(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "it aborts subscriptions")
	c := connect(t, s.URL())
	sub, err := c.SubscribeToAll(within(t), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	until(t, sub, "", "caught up")
	require.Equal(t, 1, s.Subscriptions())
	require.Equal(t, 1, s.AbortSubscriptions(codes.Unavailable))
	e := next(t, sub)
	require.NotNil(t, e.SubscriptionDropped)
	require.Equal(t, codes.Unavailable, status.Code(e.SubscriptionDropped.Error))
	require.False(t, errors.As(e.SubscriptionDropped.Error, new(*esdb.Error)), "it is no error of the client's")
	// The client does not look for another node then: the same connection serves on.
	mustAppend(t, c, "a", esdb.NoStream{}, event("a", 0))
	require.Equal(t, 1, s.Accepted())
}

func TestAConnectionCarriesAHundredCalls(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "it makes calls hang")
	c := connect(t, s.URL())
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	hung := s.Inject(esdbdouble.Hang(), esdbdouble.When{Kind: esdbdouble.Reads, Times: 100})
	for range 100 {
		_, err := c.ReadStream(ctx, "a", esdb.ReadStreamOptions{From: esdb.Start{}}, math.MaxUint64)
		require.NoError(t, err)
	}
	hung.Await(t, 100)
	done := make(chan error, 1)
	go func() {
		_, err := c.AppendToStream(within(t), "b", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("b", 0))
		done <- err
	}()
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	_, err := c.AppendToStream(short, "c", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("c", 0))
	requireCode(t, err, esdb.ErrorCodeDeadlineExceeded)
	require.Zero(t, s.Counts().Appends, "none got through")
	cancel()
	require.NoError(t, <-done, "until the others ended")
}

package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/natscluster"
	"github.com/stockledger/stockledger/internal/race"
)

// patience is when a test gives up.
const patience = time.Minute

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// The same promises hold when nothing fits into memory or into a request.
func TestStoreWithNarrowBounds(t *testing.T) {
	if testing.Short() || race.On {
		t.Skip("the suite of two stores again")
	}
	c := natscluster.Start(t, 1)
	storetest.RunShared(t, func(t *testing.T) (a, b events.Shared) {
		url := newURL(c.URL(), 1)
		narrow := func() *natsstore.Store {
			s, err := natsstore.OpenNarrow(t.Context(), natsstore.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		}
		return narrow(), narrow()
	})
}

// A long stream between others is read from anywhere, also where looking for the
// place takes several requests.
func TestALongStreamIsReadFromAnyVersion(t *testing.T) {
	url := newURL(natscluster.Start(t, 1).URL(), 1)
	s := open(t, url)
	var a storetest.Author
	for range 4 {
		var group []events.Commit
		for n := range 300 {
			group = append(group, a.Commit("item-long"), a.Commit(fmt.Sprintf("item-%d", n)), a.Commit("item-long", "item-long"))
		}
		_, err := s.Append(t.Context(), group...)
		require.NoError(t, err)
	}
	narrow, err := natsstore.OpenNarrow(t.Context(), natsstore.Config{URL: url})
	require.NoError(t, err)
	defer narrow.Close()
	for _, after := range []uint64{0, 512, 513, 1800, 3087, 3088, 3598, 3599, 3600, 1 << 63} {
		for _, s := range []*natsstore.Store{s, narrow} {
			if s == narrow && after < 3500 {
				continue // two events a request
			}
			version := after
			for e, err := range s.Read(t.Context(), "item-long", after) {
				require.NoError(t, err)
				version++
				require.Equal(t, version, e.Version)
			}
			require.Equal(t, max(after, 3600), version)
		}
	}
}

// An answer is lost, and nothing tells the store so but time.
func TestAnAnswerThatNeverComesIsFoundOut(t *testing.T) {
	c := natscluster.Start(t, 1)
	proxy := natscluster.Behind(t, c.Address(0))
	url := newURL(proxy.URL(), 1)
	s := open(t, url)
	var a storetest.Author
	head := uint64(0)
	for _, commit := range []events.Commit{a.Commit("item-1"), a.Commit("item-2", "item-1")} {
		lost := proxy.Strike(subjects(url), natscluster.LoseAnswer)
		positions, err := s.AppendAt(t.Context(), head, commit)
		require.NoError(t, err)
		<-lost
		head += uint64(len(commit))
		require.Equal(t, []uint64{head}, positions)
	}
	got, err := s.Head(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, got, "once each")
}

// The server that leads says where the log ends, and another one, which led before
// and has not heard of that, may answer whoever reads. It has less for a moment.
func TestAServerThatLeadsNoMoreIsWaitedFor(t *testing.T) {
	c := natscluster.Start(t, 1)
	url := newURL(c.URL(), 1)
	reader, writer := open(t, url), open(t, url)
	conn, err := nats.Connect(c.URL())
	require.NoError(t, err)
	defer conn.Close()
	asked, err := conn.SubscribeSync("$JS.API.STREAM.MSG.GET." + stream(url))
	require.NoError(t, err)
	require.NoError(t, conn.Flush())
	type answer struct {
		batch []events.Recorded
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		batch, err := reader.After(within(t), 0)
		answered <- answer{batch, err}
	}()
	for range 2 {
		_, err = asked.NextMsgWithContext(within(t))
		require.NoError(t, err)
	}
	var a storetest.Author
	commit := a.Commit("item-1")
	_, err = writer.Append(t.Context(), commit)
	require.NoError(t, err)
	got := <-answered
	require.NoError(t, got.err)
	require.Len(t, got.batch, 1)
	require.Equal(t, commit[0].Hash, got.batch[0].Hash)
}

// Of a commit that was not answered, and of which the log has a part as far as its
// servers say, nobody knows yet what became of it.
func TestACommitThatIsSeenInPartIsUnderWay(t *testing.T) {
	s := open(t, newURL(natscluster.Start(t, 1).URL(), 1))
	var a, other storetest.Author
	commit := a.Commit("item-1", "item-2")
	foreign := other.Commit("item-3", "item-3", "item-3")
	for n, want := range []string{"under way", "under way", "recorded"} {
		if n > 0 {
			_, err := s.AppendAt(t.Context(), uint64(n-1), events.Commit{commit[n-1]})
			require.NoError(t, err)
		}
		became, err := s.WhatBecameOf(within(t), 0, commit)
		require.NoError(t, err)
		require.Equal(t, want, became, "%d of two events are there", n)
	}
	became, err := s.WhatBecameOf(within(t), 0, foreign)
	require.NoError(t, err)
	require.Equal(t, "not recorded", became)
}

// Nobody waits for ever: not whoever appends, nor reads, nor closes.
func TestWithoutAServerEverythingEnds(t *testing.T) {
	c := natscluster.Start(t, 1)
	s := open(t, newURL(c.URL(), 1))
	var a storetest.Author
	_, err := s.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err)
	r, err := s.Register(t.Context(), "lease")
	require.NoError(t, err)
	c.Stop(0)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for _, do := range []func() error{
		func() error { _, err := s.Append(ctx, a.Commit("item-2")); return err },
		func() error { _, err := s.Head(ctx); return err },
		func() error {
			for _, err := range s.Read(ctx, "item-1", 0) {
				return err
			}
			return nil
		},
		func() error { _, _, err := r.Get(ctx); return err },
		func() error { _, err := r.Set(ctx, 0, nil); return err },
		func() error { _, err := s.Register(ctx, "other"); return err },
	} {
		err := do()
		require.Error(t, err)
		require.NotErrorIs(t, err, events.ErrConflict)
	}
	waiting := make(chan error, 1)
	all.Go(func() {
		for _, err := range s.Subscribe(t.Context(), 1) {
			waiting <- err
		}
	})
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-waiting, events.ErrClosed)
	all.Wait()
}

func TestAMessageLargerThanTheServerTakesIsRefused(t *testing.T) {
	c := natscluster.Start(t, 1)
	s := open(t, newURL(c.URL(), 1))
	var a storetest.Author
	good, large := a.Commit("item-1"), a.Commit("item-2", "item-3")
	large[1].Data = make([]byte, 1<<20)
	large[1].Hash = large[1].Link()
	positions, err := s.Append(t.Context(), good, large, a.Commit("item-4"))
	require.ErrorIs(t, err, events.ErrTooLarge)
	require.ErrorContains(t, err, "max_payload")
	require.ErrorContains(t, err, "item-3")
	require.Equal(t, []uint64{1}, positions)

	fits := large[1:]
	fits[0].Data = fits[0].Data[:1<<20-4096]
	fits[0].Hash = fits[0].Link()
	_, err = s.Append(t.Context(), fits)
	require.NoError(t, err)
	for e, err := range s.Read(t.Context(), "item-3", 0) {
		require.NoError(t, err)
		require.Equal(t, fits[0].Hash, e.Link())
	}

	name := storetest.Author{}
	_, err = s.Append(t.Context(), name.Commit("item-"+strings.Repeat("x", 4000)))
	require.ErrorIs(t, err, events.ErrTooLarge)
	for _, odd := range []string{"item-1.2", "item *", "item->", "", "item-\xff"} {
		_, err = s.Append(t.Context(), name.Commit(odd))
		require.Error(t, err, odd)
		for _, err := range s.Read(t.Context(), odd, 0) {
			t.Errorf("%q: %v", odd, err)
		}
	}
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, head)
}

func TestALimitOfMessagesIsNamed(t *testing.T) {
	c := natscluster.Start(t, 1, natscluster.MaxBatch(10))
	s := open(t, newURL(c.URL(), 1))
	var a storetest.Author
	var group []events.Commit
	for range 25 { // commits that fit, of a group that does not
		group = append(group, a.Commit("item-1", "item-2"))
	}
	positions, err := s.AppendAt(t.Context(), 0, group...)
	require.NoError(t, err)
	require.EqualValues(t, 50, positions[24])
	_, err = s.AppendAt(t.Context(), 50, a.Commit("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"))
	require.ErrorIs(t, err, events.ErrTooLarge)
	require.ErrorContains(t, err, "max_msgs")
	require.ErrorContains(t, err, "11 events")
}

func TestALogThatMustBeThere(t *testing.T) {
	url := newURL(natscluster.Start(t, 1).URL(), 1)
	require.ErrorIs(t, tryOpen(t, natsstore.Config{URL: url, Existing: true}), fs.ErrNotExist)
	require.NoError(t, tryOpen(t, natsstore.Config{URL: url}))
	require.NoError(t, tryOpen(t, natsstore.Config{URL: url, Existing: true}))
}

// What somebody wrote past the ledger is never taken for an event, and never
// passed over.
func TestAForeignMessageIsAnErrorToWhoeverReadsIt(t *testing.T) {
	c := natscluster.Start(t, 1)
	js := c.JetStream()
	for name, header := range map[string]nats.Header{
		"no headers":     nil,
		"a type only":    {"Ledger-Type": {"x"}},
		"version 0":      {"Ledger-Type": {"x"}, "Ledger-Version": {"0"}, "Ledger-Data": {"1"}, "Ledger-Hash": {strings.Repeat("0", 64)}},
		"too much data":  {"Ledger-Type": {"x"}, "Ledger-Version": {"1"}, "Ledger-Data": {"9"}, "Ledger-Hash": {strings.Repeat("0", 64)}},
		"half a hash":    {"Ledger-Type": {"x"}, "Ledger-Version": {"1"}, "Ledger-Data": {"1"}, "Ledger-Hash": {"00"}},
		"half a link":    {"Ledger-Type": {"x"}, "Ledger-Version": {"1"}, "Ledger-Data": {"1"}, "Ledger-Hash": {strings.Repeat("0", 64)}, "Ledger-Prev": {"0"}},
		"another status": {"Status": {"204"}},
	} {
		t.Run(name, func(t *testing.T) {
			url := newURL(c.URL(), 1)
			s := open(t, url)
			var a storetest.Author
			_, err := s.Append(t.Context(), a.Commit("item-1"))
			require.NoError(t, err)
			_, err = js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects(url) + "item-2", Header: header, Data: []byte("foreign")})
			require.NoError(t, err)
			var failed error
			for _, failed = range s.Read(t.Context(), "item-2", 0) {
			}
			require.ErrorContains(t, failed, "position 2")
			require.NotErrorIs(t, failed, events.ErrConflict)
			_, err = s.Append(t.Context(), events.Commit{a.Commit("item-2")[0]})
			require.Error(t, err)
			_, err = s.Append(t.Context(), a.Commit("item-1"))
			require.NoError(t, err)
			fresh := open(t, url)
			n := 0
			for batch, err := range fresh.Subscribe(within(t), 0) {
				if failed = err; err != nil {
					break
				}
				n += len(batch)
			}
			require.LessOrEqual(t, n, 1)
			require.ErrorContains(t, failed, "position 2")
		})
	}
}

// A program that writes as the ledger does is one more writer.
func TestAWriterWithoutThisPackageIsSeen(t *testing.T) {
	c := natscluster.Start(t, 1)
	url := newURL(c.URL(), 1)
	s, js := open(t, url), c.JetStream()
	var a storetest.Author
	_, err := s.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err)
	e := a.Commit("item-1")[0]
	publish := func() error {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{
			Subject: subjects(url) + e.Stream, Data: append(append([]byte{}, e.Data...), e.Meta...),
			Header: nats.Header{
				"Ledger-Type": {e.Type}, "Ledger-Version": {"2"}, "Ledger-Data": {fmt.Sprint(len(e.Data))},
				"Ledger-Prev": {e.Prev.String()}, "Ledger-Hash": {e.Hash.String()},
			},
		}, jetstream.WithExpectLastSequencePerSubject(1))
		return err
	}
	require.NoError(t, publish())
	_, err = s.AppendAt(t.Context(), 1, a.Commit("item-2"))
	require.ErrorIs(t, err, events.ErrConflict)
	_, err = s.Append(t.Context(), events.Commit{e})
	require.ErrorIs(t, err, events.ErrConflict)
	for batch, err := range s.Subscribe(within(t), 1) {
		require.NoError(t, err)
		require.Equal(t, e.Hash, batch[0].Hash)
		break
	}
	_, err = s.Append(t.Context(), a.Commit("item-1"))
	require.NoError(t, err)
	require.Error(t, publish(), "and it is refused what is not current")
}

// Servers of a cluster stop and start, and leaders hand over, while two stores
// append and both are followed. What was acknowledged is there once, at the
// position it was acknowledged at, and no subscription skips or repeats a thing.
func TestServersComeAndGo(t *testing.T) {
	c := natscluster.Start(t, 3)
	url := newURL(c.URL(), 3)
	comeAndGo(t, url, func(round int) {
		switch round % 3 {
		case 0:
			leader := c.Leader(stream(url))
			c.Stop(leader)
			c.Restart(leader)
		case 1:
			c.StepDown(stream(url))
		case 2:
			other := (c.Leader(stream(url)) + 1) % 3
			c.Stop(other)
			c.Restart(other)
		}
		c.Ready()
	}, 4)
}

func TestOneServerComesAndGoes(t *testing.T) {
	c := natscluster.Start(t, 1)
	comeAndGo(t, newURL(c.URL(), 1), func(int) { c.Restart(0) }, 3)
}

func comeAndGo(t *testing.T, url string, disturb func(round int), rounds int) {
	const writers = 6
	a, b := open(t, url), open(t, url)
	stop := make(chan struct{})
	logs := make([][]uint64, writers) // positions acknowledged
	var progress [writers]atomic.Int64
	var all sync.WaitGroup
	for n := range writers {
		all.Go(func() {
			logs[n] = writeUntil(t, []*natsstore.Store{a, b}[n%2], fmt.Sprintf("item-%d", n), n%3+1, &progress[n], stop)
		})
	}
	followed := make([]<-chan []events.Recorded, 2)
	for i, s := range []*natsstore.Store{a, b} {
		followed[i] = followUntil(t, s, "item-end")
	}
	for round := range rounds {
		disturb(round)
		for n := range progress {
			before := progress[n].Load()
			require.Eventually(t, func() bool { return progress[n].Load() > before+5 || t.Failed() }, patience, 10*time.Millisecond)
		}
	}
	close(stop)
	all.Wait()
	var end storetest.Author
	last := end.Commit("item-end")
	_, err := a.Append(within(t), last)
	require.NoError(t, err)

	log := <-followed[0]
	require.Equal(t, log, stripped(<-followed[1]))
	prev := make(map[string]events.Recorded)
	for i, e := range log {
		require.EqualValues(t, i+1, e.Position)
		require.NoError(t, e.Verify(prev[e.Stream]), "lost or doubled")
		prev[e.Stream] = e
	}
	count := 0
	for n, positions := range logs {
		for i, position := range positions {
			e := log[position-1]
			require.Equal(t, fmt.Sprintf("item-%d", n), e.Stream)
			require.EqualValues(t, (i+1)*(n%3+1), e.Version, "the commits of a writer are in order, and none is there unacknowledged")
		}
		count += len(positions) * (n%3 + 1)
	}
	require.Len(t, log, count+1)
	t.Logf("%d events from %d writers", count, writers)
}

// writeUntil appends commits to one stream until it is to stop, and returns the
// positions they were acknowledged at. Of a commit it does not know the outcome
// of it reads.
func writeUntil(t *testing.T, s *natsstore.Store, stream string, size int, progress *atomic.Int64, stop <-chan struct{}) (positions []uint64) {
	var author storetest.Author
	names := make([]string, size)
	for i := range names {
		names[i] = stream
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case <-stop:
			return positions
		default:
		}
		progress.Add(1)
		commit := author.Commit(names...)
		for {
			at, err := s.Append(ctx, commit)
			if err == nil {
				positions = append(positions, at[0])
				break
			}
			if errors.Is(err, events.ErrConflict) {
				t.Errorf("%s: its own commit is no conflict: %v", stream, err)
				return positions
			}
			at, readErr := whereIs(ctx, s, commit)
			if ctx.Err() != nil {
				t.Errorf("%s: %v, %v", stream, err, readErr)
				return positions
			}
			if len(at) > 0 {
				positions = append(positions, at[len(at)-1])
				break
			}
		}
	}
}

func whereIs(ctx context.Context, s *natsstore.Store, c events.Commit) (at []uint64, err error) {
	for e, err := range s.Read(ctx, c[0].Stream, c[0].Version-1) {
		if err != nil {
			return nil, err
		}
		at = append(at, e.Position)
	}
	return at, nil
}

// followUntil subscribes until an event of that stream comes.
func followUntil(t *testing.T, s *natsstore.Store, end string) <-chan []events.Recorded {
	done := make(chan []events.Recorded, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	go func() {
		defer cancel()
		var got []events.Recorded
		for batch, err := range s.Subscribe(ctx, 0) {
			if err != nil {
				t.Errorf("after %d events: %v", len(got), err)
				break
			}
			got = append(got, batch...)
			if got[len(got)-1].Stream == end {
				break
			}
		}
		done <- stripped(got)
	}()
	return done
}

// stripped are records as they are stored, without what their maker still knows.
func stripped(records []events.Recorded) (bare []events.Recorded) {
	for _, e := range records {
		bare = append(bare, events.Recorded{
			Position: e.Position, Stream: e.Stream, Version: e.Version, Type: e.Type, Data: e.Data, Meta: e.Meta, Prev: e.Prev, Hash: e.Hash,
		})
	}
	return bare
}

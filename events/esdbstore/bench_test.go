package esdbstore_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/esdbdouble"
)

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B) events.Store { return open(b, esdbdouble.URL(b)) })
}

const (
	benchCallers = 256
	benchStreams = 10_000
)

// BenchmarkCallers is what 256 callers at once get out of the store, and what
// they get out of the client alone, each with exact revisions and the same facts.
// The store's figures count until every event is in its own stream, too. The
// last benchmark runs the client and the store by turns, and reports the ratio.
func BenchmarkCallers(b *testing.B) {
	b.Run("client", func(b *testing.B) { b.ReportMetric(perSecond(b, b.N, benchClient), "commits/s") })
	b.Run("append", func(b *testing.B) { b.ReportMetric(perSecond(b, b.N, benchAppend), "commits/s") })
	b.Run("append at, groups of 256", func(b *testing.B) { b.ReportMetric(perSecond(b, b.N, benchAppendAt), "commits/s") })
	b.Run("ratio", func(b *testing.B) {
		const turns = 4
		var client, calls, groups float64
		for range turns {
			n := max(b.N/turns, 1)
			client += perSecond(b, n, benchClient)
			calls += perSecond(b, n, benchAppend)
			groups += perSecond(b, n, benchAppendAt)
		}
		b.ReportMetric(client/turns, "client/s")
		b.ReportMetric(calls/turns, "append/s")
		b.ReportMetric(groups/turns, "append-at/s")
		b.ReportMetric(calls/client, "append/client")
		b.ReportMetric(groups/client, "append-at/client")
	})
}

// perSecond runs n operations and tells how many fit into a second.
func perSecond(b *testing.B, n int, run func(b *testing.B, url string, commits []events.Commit)) float64 {
	commits := storetest.NewWork(benchStreams).Commits(n)
	url := esdbdouble.URL(b)
	began := b.Elapsed()
	run(b, url, commits)
	return float64(n) / (b.Elapsed() - began).Seconds()
}

// lanes deals commits to callers, so that those of one stream stay in order.
func lanes(commits []events.Commit) [][]events.Commit {
	lanes := make([][]events.Commit, benchCallers)
	of := make(map[string]int)
	for _, c := range commits {
		lane, seen := of[c[0].Stream]
		if !seen {
			lane = len(of) % benchCallers
			of[c[0].Stream] = lane
		}
		lanes[lane] = append(lanes[lane], c)
	}
	return lanes
}

func benchClient(b *testing.B, url string, commits []events.Commit) {
	config, err := esdb.ParseConnectionString(strings.Split(url, "&ledger=")[0])
	require.NoError(b, err)
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	require.NoError(b, err)
	defer client.Close()
	_, err = client.GetServerVersion()
	require.NoError(b, err)
	var callers sync.WaitGroup
	for _, lane := range lanes(commits) {
		callers.Go(func() {
			for _, c := range lane {
				var expected esdb.ExpectedRevision = esdb.NoStream{}
				if v := c[0].Version; v > 1 {
					expected = esdb.Revision(v - 2)
				}
				if _, err := client.AppendToStream(b.Context(), c[0].Stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, esdb.EventData{
					EventID: uuid.New(), EventType: c[0].Type, ContentType: esdb.ContentTypeJson, Data: c[0].Data, Metadata: c[0].Meta,
				}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
}

func benchAppend(b *testing.B, url string, commits []events.Commit) {
	s := open(b, url)
	var callers sync.WaitGroup
	var done atomic.Int64
	for _, lane := range lanes(commits) {
		callers.Go(func() {
			for _, c := range lane {
				if _, err := s.Append(b.Context(), c); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	callers.Wait()
	require.EqualValues(b, len(commits), done.Load(), fmt.Sprint("of ", len(commits)))
	require.NoError(b, s.Copy(b.Context()))
}

func benchAppendAt(b *testing.B, url string, commits []events.Commit) {
	const group = benchCallers // as the engine makes them of so many callers
	s := open(b, url)
	head := uint64(0)
	for at := 0; at < len(commits); at += group {
		ends, err := s.AppendAt(b.Context(), head, commits[at:min(at+group, len(commits))]...)
		require.NoError(b, err)
		head = ends[len(ends)-1]
	}
	require.NoError(b, s.Copy(b.Context()))
}

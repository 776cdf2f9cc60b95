package natsstore_test

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/natsstore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/natscluster"
)

const (
	benchCallers = 256
	benchStreams = 10_000
	benchRound   = 10_240 // commits, before it is the other's turn
)

var benchSync = flag.String("sync", "", "sync_interval of the servers, such as always; the servers' default, 2m, if empty")

func BenchmarkStoreOnOneServer(b *testing.B) {
	c := natscluster.Start(b, 1, natscluster.OnDisk())
	storetest.Benchmark(b, func(b *testing.B) events.Store { return open(b, newURL(c.URL(), 1)) })
}

// BenchmarkBesideTheEngine measures commits of one event and, in turns on the
// same servers, what JetStream's own client publishes of the same bytes with the
// same checks: asynchronously, with 256 messages on their way. "of-engine" is
// the one rate over the other.
func BenchmarkBesideTheEngine(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		var options []natscluster.Option
		if *benchSync != "" {
			options = append(options, natscluster.Synced(*benchSync))
		}
		c := natscluster.Start(b, replicas, append(options, natscluster.OnDisk())...)
		for name, appendAll := range map[string]func(*testing.B, *natsstore.Store, []events.Commit){
			"Append by 256 callers": appendBySome, "AppendAt in groups of 256": appendInGroups,
		} {
			b.Run(fmt.Sprintf("R%d/%s", replicas, name), func(b *testing.B) { beside(b, c, replicas, appendAll) })
		}
	}
}

func beside(b *testing.B, c *natscluster.Cluster, replicas int, appendAll func(*testing.B, *natsstore.Store, []events.Commit)) {
	s, engine := open(b, newURL(c.URL(), replicas)), newEngine(b, c, replicas)
	work := storetest.NewWork(benchStreams)
	var ours, theirs time.Duration
	done := 0
	b.ResetTimer()
	for ; done < b.N; done += benchRound {
		commits := work.Commits(benchRound)
		messages := engine.messages(commits)
		began := time.Now()
		appendAll(b, s, commits)
		ours += time.Since(began)
		began = time.Now()
		engine.publish(b, messages)
		theirs += time.Since(began)
	}
	b.ReportMetric(float64(done)/ours.Seconds(), "commits/s")
	b.ReportMetric(float64(done)/theirs.Seconds(), "engine/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "of-engine")
	b.ReportMetric(0, "ns/op")
}

// appendBySome has 256 callers append, each to streams of its own.
func appendBySome(b *testing.B, s *natsstore.Store, commits []events.Commit) {
	var parts [benchCallers][]events.Commit
	for _, c := range commits {
		h := fnv.New32a()
		h.Write([]byte(c[0].Stream))
		n := h.Sum32() % benchCallers
		parts[n] = append(parts[n], c)
	}
	var all sync.WaitGroup
	for _, part := range parts {
		all.Go(func() {
			for _, c := range part {
				if _, err := s.Append(b.Context(), c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// appendInGroups appends as the engine of commands does: what waits goes together.
func appendInGroups(b *testing.B, s *natsstore.Store, commits []events.Commit) {
	head, err := s.Head(b.Context())
	require.NoError(b, err)
	for at := 0; at < len(commits); at += benchCallers {
		positions, err := s.AppendAt(b.Context(), head, commits[at:min(at+benchCallers, len(commits))]...)
		require.NoError(b, err)
		head = positions[len(positions)-1]
	}
}

// engine is a stream like that of a log, written to with the client library alone.
type engine struct {
	js   jetstream.JetStream
	next uint64
	last map[string]uint64
}

func newEngine(b *testing.B, c *natscluster.Cluster, replicas int) *engine {
	conn := c.Connect()
	b.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(benchCallers))
	require.NoError(b, err)
	name := fmt.Sprintf("engine-%d", ledgers.Add(1))
	_, err = js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: name, Subjects: []string{"engine.log.*"}, Storage: jetstream.FileStorage, Replicas: replicas,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, AllowAtomicPublish: true, Duplicates: time.Second,
	})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, js.DeleteStream(context.Background(), name)) })
	return &engine{js, 0, make(map[string]uint64)}
}

func (e *engine) messages(commits []events.Commit) (all []*nats.Msg) {
	for _, c := range commits {
		r := c[0]
		e.next++
		all = append(all, &nats.Msg{
			Subject: "engine.log." + r.Stream, Data: append(append([]byte{}, r.Data...), r.Meta...),
			Header: nats.Header{
				"Ledger-Type": {r.Type}, "Ledger-Version": {strconv.FormatUint(r.Version, 10)}, "Ledger-Data": {strconv.Itoa(len(r.Data))},
				"Ledger-Prev": {r.Prev.String()}, "Ledger-Hash": {r.Hash.String()},
				jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(e.last[r.Stream], 10)},
			},
		})
		e.last[r.Stream] = e.next
	}
	return all
}

func (e *engine) publish(b *testing.B, messages []*nats.Msg) {
	acks := make([]jetstream.PubAckFuture, 0, len(messages))
	for _, m := range messages {
		ack, err := e.js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute))
		require.NoError(b, err)
		acks = append(acks, ack)
	}
	<-e.js.PublishAsyncComplete()
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			require.NoError(b, err)
		}
	}
}

package natsstore_test

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"syscall"
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
	var ours, theirs spent
	done := 0
	b.ResetTimer()
	for ; done < b.N; done += benchRound {
		commits := work.Commits(benchRound)
		messages := engine.messages(commits)
		ours.on(b, func() { appendAll(b, s, commits) })
		theirs.on(b, func() { engine.publish(b, messages) })
	}
	b.ReportMetric(float64(done)/ours.time.Seconds(), "commits/s")
	b.ReportMetric(float64(done)/theirs.time.Seconds(), "engine/s")
	b.ReportMetric(theirs.time.Seconds()/ours.time.Seconds(), "of-engine")
	b.ReportMetric(theirs.cpu.Seconds()/ours.cpu.Seconds(), "of-engine-by-cpu")
	b.ReportMetric(ours.cpu.Seconds()*1e6/float64(done), "cpu-µs/commit")
	b.ReportMetric(0, "ns/op")
}

// spent is what something took: time, and work of the processors, servers and
// all. The latter is what counts where others work on the machine, too.
type spent struct{ time, cpu time.Duration }

func (s *spent) on(b *testing.B, do func()) {
	began, used := time.Now(), cpu(b)
	do()
	s.time += time.Since(began)
	s.cpu += cpu(b) - used
}

func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
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
	next uint64 // messages so far
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
	return &engine{js: js}
}

// messages are of the same bytes, on as many subjects, but on one after another:
// a cluster refuses a second message to a subject that has one on its way.
func (e *engine) messages(commits []events.Commit) (all []*nats.Msg) {
	for _, c := range commits {
		r := c[0]
		behind := uint64(0)
		if e.next >= benchStreams {
			behind = e.next - benchStreams + 1
		}
		all = append(all, &nats.Msg{
			Subject: fmt.Sprintf("engine.log.item-iitem_01JNQ4Y5ZK3R8M%08d", e.next%benchStreams),
			Data:    append(append([]byte{}, r.Data...), r.Meta...),
			Header: nats.Header{
				"Ledger-Type": {r.Type}, "Ledger-Version": {strconv.FormatUint(r.Version, 10)}, "Ledger-Data": {strconv.Itoa(len(r.Data))},
				"Ledger-Prev": {r.Prev.String()}, "Ledger-Hash": {r.Hash.String()},
				jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(behind, 10)},
			},
		})
		e.next++
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

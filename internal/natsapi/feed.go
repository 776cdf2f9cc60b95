package natsapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
)

const (
	// gather is how long events gather for the next write while there are many:
	// the feed shares the disk with the log, and must not cost it a sync per
	// event. At 10 ms the log was a third slower on two cores, at 50 ms a tenth.
	gather = 50 * time.Millisecond
	// pauses of the feed when NATS or the log fails.
	feedPause    = 100 * time.Millisecond
	maxFeedPause = 10 * time.Second
	// headWithin is how long a log may seem to end before the feed does.
	headWithin = 2 * time.Second

	// maxFollowers bounds those who follow the feed. A stream that does not say has
	// the server's own bound, which is 1,000; it is given when the stream is made.
	maxFollowers = 100_000

	feedLog = "stockledger-log-id" // in the metadata of the feed's stream

	headerPosition = "Ledger-Position"
	headerType     = "Ledger-Type"
	headerHash     = "Ledger-Hash"
)

// errBrokenFeed says that the feed's stream is not what the log says, and never
// will be again.
var errBrokenFeed = errors.New("the feed does not match the log")

// FeedConfig is what ServeFeed needs. Conn and Log must be set.
type FeedConfig struct {
	Conn *nats.Conn
	Log  events.Store
	// Prefix begins every subject; "" is DefaultPrefix.
	Prefix string
	// Replicas of the stream in a NATS cluster; 0 is 1.
	Replicas int
	// Logger is told what a person must act on; nil is slog.Default().
	Logger *slog.Logger
}

// Feed publishes every event of a log on inventory.events.<stream>, in log order
// and each once. The sequence of a message in the feed's JetStream stream is the
// position of its event in the log; that is checked with every write, so that
// the feed has no gaps and no repeats whatever fails. It runs behind the log and
// never holds it up. The node that leads serves it; one that only believes so loses
// its writes to the other, and both write the same.
type Feed struct {
	config FeedConfig
	names  names
	js     jetstream.JetStream
	writer *writer

	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	position uint64
	err      error         // why it stopped for good
	moved    chan struct{} // closed when position or err changes
}

// ServeFeed creates the feed's stream where there is none, and continues it from
// its last event. It fails with an error that wraps [events.ErrOtherLog] when the
// stream was made from another log. Ctx bounds the start only.
func ServeFeed(ctx context.Context, config FeedConfig) (*Feed, error) {
	config.Logger = cmp.Or(config.Logger, slog.Default())
	config.Replicas = cmp.Or(config.Replicas, 1)
	f := &Feed{config: config, moved: make(chan struct{})}
	var err error
	if f.names, err = prefixed(config.Prefix); err != nil {
		return nil, err
	}
	if f.js, err = jetstream.New(config.Conn); err != nil {
		return nil, fmt.Errorf("serve the feed: %w", err)
	}
	if err := f.open(ctx); err != nil {
		return nil, fmt.Errorf("serve the feed: %w", err)
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	f.done.Go(func() { f.run(work) })
	return f, nil
}

// open finds the stream and where it ends.
func (f *Feed) open(ctx context.Context) error {
	name, id := f.names.eventStream(), f.config.Log.LogID()
	info, err := ensureStream(ctx, f.js, jetstream.StreamConfig{
		Name: name, Subjects: []string{f.names.events() + ">"},
		Description: "every event of the ledger; the sequence is the position in the log",
		Storage:     jetstream.FileStorage, Replicas: f.config.Replicas,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, AllowAtomicPublish: true,
		MaxConsumers: maxFollowers,
		Duplicates:   time.Second, // not used, and read anew at every start of the server
		Metadata:     map[string]string{feedLog: id},
	})
	if err != nil {
		return err
	}
	if other := info.Config.Metadata[feedLog]; other != id {
		return fmt.Errorf("stream %s holds the events of log %q, and this is log %q; it %w: choose another prefix, or remove it with `nats stream rm %s`",
			name, other, id, events.ErrOtherLog, name)
	}
	f.writer = &writer{js: f.js, names: f.names, atomic: info.Config.AllowAtomicPublish, limit: int(f.config.Conn.MaxPayload())}
	position, err := f.resume(ctx)
	if err != nil {
		return err
	}
	f.moveTo(position, nil)
	return nil
}

// settled reads a message that is in the stream. Any server of a cluster answers, and
// one that was away a moment ago may not have it yet.
func settled(ctx context.Context, stream jetstream.Stream, sequence uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	for {
		m, err := stream.GetMsg(ctx, sequence)
		if !errors.Is(err, jetstream.ErrMsgNotFound) || wait(ctx, feedPause) != nil {
			return m, err
		}
	}
}

// head is where the log ends. The feed is behind the log, so a log that ends before
// the feed is asked again for a moment: while its servers elect a leader, the one that
// led before may answer with what it had.
func (f *Feed) head(ctx context.Context, fed uint64) (uint64, error) {
	within, cancel := context.WithTimeout(ctx, headWithin)
	defer cancel()
	for {
		head, err := f.config.Log.Head(ctx)
		if err != nil || head >= fed {
			return head, err
		}
		if wait(within, feedPause) != nil {
			return head, ctx.Err()
		}
	}
}

// resume is the position of the last event in the stream, once it is sure that
// everything up to there is what the log has.
func (f *Feed) resume(ctx context.Context) (uint64, error) {
	name := f.names.eventStream()
	broken := func(format string, args ...any) error {
		return fmt.Errorf("stream %s: %s: %w; remove it with `nats stream rm %s` and start again, the feed is then made anew from the log",
			name, fmt.Sprintf(format, args...), errBrokenFeed, name)
	}
	stream, err := f.js.Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", name, err)
	}
	state := stream.CachedInfo().State
	head, err := f.head(ctx, state.LastSeq)
	switch {
	case err != nil:
		return 0, err
	case state.LastSeq > head:
		return 0, errors.Join(broken("it has %d events, and the log has %d", state.LastSeq, head), events.ErrOtherLog)
	case state.NumDeleted > 0:
		return 0, broken("%d events are missing from it", state.NumDeleted)
	case state.LastSeq == 0 || state.Msgs == 0:
		return state.LastSeq, nil
	}
	last, err := settled(ctx, stream, state.LastSeq)
	if err != nil {
		return 0, fmt.Errorf("stream %s: read message %d: %w", name, state.LastSeq, err)
	}
	for batch, err := range f.config.Log.Subscribe(ctx, state.LastSeq-1) {
		if err != nil {
			return 0, fmt.Errorf("read the log at %d: %w", state.LastSeq, err)
		}
		if last.Header.Get(headerHash) != batch[0].Hash.String() {
			return 0, broken("message %d is not event %d of the log", state.LastSeq, state.LastSeq)
		}
		break
	}
	return state.LastSeq, nil
}

// run publishes until ctx ends or the stream turns out to be broken.
func (f *Feed) run(ctx context.Context) {
	for pause := feedPause; ; pause = min(2*pause, maxFeedPause) {
		before := f.Position()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.Position() != before {
			pause = feedPause
		}
		if isBehind(err) {
			f.config.Logger.Info("another node has written to the feed; going on behind what it wrote", "position", f.Position())
		} else {
			f.config.Logger.Warn("the feed is interrupted", "position", f.Position(), "err", err)
		}
		if wait(ctx, pause) != nil {
			return
		}
		position, err := f.resume(ctx)
		switch {
		case errors.Is(err, errBrokenFeed):
			f.config.Logger.Error("the feed has stopped", "err", err)
			f.moveTo(f.Position(), err)
			return
		case errors.Is(err, events.ErrClosed):
			f.moveTo(f.Position(), err)
			return
		case err == nil:
			f.moveTo(position, nil)
		}
	}
}

// follow publishes what comes after the position, until that fails.
func (f *Feed) follow(ctx context.Context) error {
	for batch, err := range f.config.Log.Subscribe(ctx, f.Position()) {
		if err != nil {
			return fmt.Errorf("read the log after %d: %w", f.Position(), err)
		}
		head, err := f.config.Log.Head(ctx)
		busy := err == nil && batch[len(batch)-1].Position < head // there are more; they need not gather
		timer := time.NewTimer(gather)
		for len(batch) > 0 {
			n, err := f.writer.write(ctx, batch)
			if err != nil {
				timer.Stop()
				return fmt.Errorf("publish the events after %d: %w", f.Position(), err)
			}
			f.moveTo(batch[n-1].Position, nil)
			batch = batch[n:]
		}
		if busy {
			timer.Stop()
			continue
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// isBehind reports whether the feed's stream refused a write because it has more
// than the writer knows: another node wrote it, or a write of ours whose answer was
// lost. Whether it is what the log says, resume finds out.
func isBehind(err error) bool {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Feed) moveTo(position uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position, f.err = position, err
	close(f.moved)
	f.moved = make(chan struct{})
}

// Position is that of the last event in the feed.
func (f *Feed) Position() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

// Err is why the feed has stopped for good, nil while it runs.
func (f *Feed) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// WaitFor returns once the feed has the event at position.
func (f *Feed) WaitFor(ctx context.Context, position uint64) error {
	for {
		f.mu.Lock()
		at, err, moved := f.position, f.err, f.moved
		f.mu.Unlock()
		if at >= position || err != nil {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "not_caught_up", "the feed is at position %d and not yet at %d; ask again later", at, position)
		}
	}
}

// Close stops the feed. It continues from where it is when it is next served.
func (f *Feed) Close() error {
	f.cancel()
	f.done.Wait()
	return nil
}

// header is what a message of the feed says of its event without being decoded.
func header(r events.Recorded) nats.Header {
	return nats.Header{
		headerPosition: {strconv.FormatUint(r.Position, 10)},
		headerType:     {r.Type},
		headerHash:     {r.Hash.String()},
	}
}

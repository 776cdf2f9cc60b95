package natsapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

const (
	// submissionsInFlight is how many submissions are carried out at once; each
	// waits for two durable writes, the commit's and the outcome's.
	submissionsInFlight = 64
	// submissionsFetched is how many wait in memory behind those.
	submissionsFetched = 32
	// submissionsPending is how many the server lets be under way or put off.
	submissionsPending = 4096
	// maxSubmission is the largest message the stream takes. It is above MaxBody,
	// so that what is too large is kept with the dead letters, and below what
	// would make the queue in memory a danger.
	maxSubmission = 4 << 20
	// deadLetterRoom is what a dead letter has in headers on top of its original.
	deadLetterRoom = 64 << 10
	// defaultMaxDeliver tries for three quarters of an hour, with maxDelay.
	defaultMaxDeliver = 100
	minDelay          = 250 * time.Millisecond
	maxDelay          = 30 * time.Second
	// defaultAckWait is how long after a crash a submission that was under way is
	// taken up again. The ledger gets half of it for one attempt.
	defaultAckWait = 20 * time.Second
	defaultKept    = 7 * 24 * time.Hour
	// storing bounds one exchange of ours with NATS or JetStream.
	storing = 10 * time.Second

	streamIdentity = "stockledger-stream-id" // in the metadata of the submission stream
	headerOrigin   = "Submission"            // of an outcome: which submission it is of
)

// SubmitConfig is what ServeSubmissions needs. Conn and Ledger must be set.
type SubmitConfig struct {
	Conn   *nats.Conn
	Ledger Ledger
	// Prefix begins every subject; "" is DefaultPrefix.
	Prefix string
	// Replicas of the streams in a NATS cluster; 0 is 1.
	Replicas int
	// Kept is how long outcomes can be asked for; 0 is seven days. Older ones the
	// query retrieve-command knows.
	Kept time.Duration
	// MaxDeliver is how often a submission is tried that the ledger could not
	// carry out; 0 is 100. Then it goes to the dead letters.
	MaxDeliver int
	// AckWait is how long one attempt may take; 0 is 20 seconds.
	AckWait time.Duration
	// Logger is told what a person must act on; nil is slog.Default().
	Logger *slog.Logger
}

// Submissions carries out the commands that were submitted through JetStream.
//
// A submission is acknowledged to its publisher once it is stored, and to the
// queue once it is committed or refused and its outcome is stored. A submission
// that is delivered again has the same key, so it has one effect. The key is the
// header Idempotency-Key, or Nats-Msg-Id, or made from the place in the queue.
//
// Submissions are carried out concurrently, in no particular order, not even
// those of one publisher: who needs an order waits for the outcome of one before
// submitting the next, or sends both in one command.
//
// The node that leads takes them, and when it has been closed another one, or the
// same, may again. What a node has taken that died is delivered again after AckWait.
type Submissions struct {
	config   SubmitConfig
	names    names
	js       jetstream.JetStream
	identity string          // of the queue
	taking   context.Context //nolint:containedctx // ends when no more submissions are to be taken
	rest     context.CancelFunc
	keeping  sync.WaitGroup // that submissions are taken, as long as taking lasts

	slots  chan struct{}
	under  sync.WaitGroup
	work   context.Context //nolint:containedctx // the life of the service, which submissions share
	cancel context.CancelFunc
}

// ServeSubmissions creates the streams where there are none, and starts carrying
// out what is submitted and what was. Ctx bounds the start only.
func ServeSubmissions(ctx context.Context, config SubmitConfig) (_ *Submissions, err error) {
	config.Logger = cmp.Or(config.Logger, slog.Default())
	config.Replicas = cmp.Or(config.Replicas, 1)
	config.Kept = cmp.Or(config.Kept, defaultKept)
	config.MaxDeliver = cmp.Or(config.MaxDeliver, defaultMaxDeliver)
	config.AckWait = cmp.Or(config.AckWait, defaultAckWait)
	s := &Submissions{config: config, slots: make(chan struct{}, submissionsInFlight)}
	if s.names, err = prefixed(config.Prefix); err != nil {
		return nil, err
	}
	if s.js, err = jetstream.New(config.Conn); err != nil {
		return nil, fmt.Errorf("serve submissions: %w", err)
	}
	if err := s.streams(ctx); err != nil {
		return nil, fmt.Errorf("serve submissions: %w", err)
	}
	s.work, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.taking, s.rest = context.WithCancel(s.work)
	consume, err := s.open(ctx)
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("serve submissions: %w", err)
	}
	s.keeping.Go(func() { s.keep(consume) })
	return s, nil
}

// open begins to take submissions.
func (s *Submissions) open(ctx context.Context) (jetstream.ConsumeContext, error) {
	consumer, err := s.js.CreateOrUpdateConsumer(ctx, s.names.submitStream(), jetstream.ConsumerConfig{
		Durable:     "engine",
		Description: "carries out what is submitted",
		AckPolicy:   jetstream.AckExplicitPolicy,
		AckWait:     s.config.AckWait,
		MaxDeliver:  -1, // the server would only stop; we put what fails aside, with the reason
		// What was put off for a while counts here, too.
		MaxAckPending: submissionsPending,
	})
	if err != nil {
		return nil, err
	}
	return consumer.Consume(s.take, jetstream.PullMaxMessages(submissionsFetched),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			s.config.Logger.Warn("taking submissions is interrupted", "stream", s.names.submitStream(), "err", err)
		}))
}

// keep sees to it that submissions are taken until none are to be. The library gives
// up for good when the server says that the consumer is gone: somebody deleted it, or
// it moved to other servers of the cluster.
func (s *Submissions) keep(consume jetstream.ConsumeContext) {
	for pause := feedPause; ; pause = min(2*pause, maxFeedPause) {
		if consume != nil {
			drain := context.AfterFunc(s.taking, consume.Drain)
			<-consume.Closed()
			drain()
			pause = feedPause
		}
		if wait(s.taking, pause) != nil {
			return
		}
		again, err := s.open(s.taking)
		if err != nil && s.taking.Err() == nil {
			s.config.Logger.Warn("submissions cannot be taken; trying again", "stream", s.names.submitStream(), "err", err)
		}
		consume = again
	}
}

func (s *Submissions) streams(ctx context.Context) error {
	queue, err := ensureStream(ctx, s.js, jetstream.StreamConfig{
		Name: s.names.submitStream(), Subjects: []string{s.names.submit() + ">"},
		Description: "commands that wait to be carried out",
		Retention:   jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: s.config.Replicas,
		MaxMsgSize: largestSubmission(s.config.Conn.MaxPayload()),
		Metadata:   map[string]string{streamIdentity: uuid.NewString()},
	})
	if err != nil {
		return err
	}
	if s.identity = queue.Config.Metadata[streamIdentity]; s.identity == "" {
		return fmt.Errorf("stream %s was not created by stockledger: choose another prefix, or remove it", s.names.submitStream())
	}
	if _, err := ensureStream(ctx, s.js, jetstream.StreamConfig{
		Name: s.names.resultStream(), Subjects: []string{s.names.results() + ">"},
		Description:       "outcomes of submitted commands, by idempotency key",
		MaxMsgsPerSubject: 1, MaxAge: s.config.Kept, Discard: jetstream.DiscardOld, AllowDirect: true,
		Storage: jetstream.FileStorage, Replicas: s.config.Replicas,
	}); err != nil {
		return err
	}
	_, err = ensureStream(ctx, s.js, jetstream.StreamConfig{
		Name: s.names.deadStream(), Subjects: []string{s.names.dead() + ">"},
		Description: "submissions that could not be carried out, as they came",
		Storage:     jetstream.FileStorage, Replicas: s.config.Replicas,
	})
	return err
}

// largestSubmission is what the queue takes, so that it fits the dead letters.
func largestSubmission(payload int64) int32 {
	return int32(min(maxSubmission, max(payload-deadLetterRoom, payload/2))) //nolint:gosec // G115: at most 4 MiB
}

// A submission on its way.
type submission struct {
	jetstream.Msg
	command string
	key     string
	origin  string // the queue and the place in it
	tries   int    // this one included
}

// take starts a submission as soon as there is room for it.
func (s *Submissions) take(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		s.config.Logger.Error("a message is no submission", "subject", m.Subject(), "err", err)
		return
	}
	sub := submission{
		Msg: m, command: m.Subject()[len(s.names.submit()):],
		origin: fmt.Sprintf("%s-%d", s.identity, meta.Sequence.Stream),
		tries:  int(min(meta.NumDelivered, 1<<30)),
	}
	s.slots <- struct{}{}
	s.under.Go(func() {
		defer func() { <-s.slots }()
		s.settle(sub)
	})
}

// settle sees one delivery of a submission through. Whatever it does not
// acknowledge is delivered again.
func (s *Submissions) settle(sub submission) {
	env, err := transport.Envelope(sub.Headers())
	sub.key = cmp.Or(env.Key, sub.Headers().Get(jetstream.MsgIDHeader))
	if len(sub.key) > maxKey {
		err = cmp.Or(err, error(fault.New(fault.Invalid, "too_long", "Field 'Idempotency-Key' has %d bytes, at most %d are allowed",
			len(sub.key), maxKey).With("field", transport.HeaderKey)))
		sub.key = ""
	}
	sub.key = cmp.Or(sub.key, "submission-"+sub.origin)
	env.Key = sub.key

	if sub.tries > 1 {
		switch _, settled, err := s.latest(sub); {
		case err != nil: // it may have been refused, which must not be followed by a second thought
			s.later(sub, fmt.Errorf("look for an outcome: %w", err))
			return
		case settled: // an earlier delivery got as far as storing the outcome
			s.ack(sub)
			return
		}
	}
	if err == nil && len(sub.Data()) > MaxBody {
		err = transport.TooLarge(len(sub.Data()), MaxBody)
	}
	if err != nil {
		s.bury(sub, Refused, err)
		return
	}
	if sub.tries > s.config.MaxDeliver { // it may have ended the process each time
		s.bury(sub, Unknown, fault.New(fault.Unavailable, "given_up", "the command was tried %d times without an outcome", sub.tries-1))
		return
	}
	answer, err := s.do(env, sub)
	switch refused := fault.Of(err); {
	case err == nil:
		s.conclude(sub, Outcome{CommandID: sub.key, Status: Committed, Answer: &Answer{Answer: answer}})
	case refused.Code == standby:
		s.handBack(sub)
	case refused.Kind == fault.Unavailable, refused.Kind == fault.Internal:
		s.putOff(sub, err)
	case refused.Code == "idempotency_key_reused", !sub.isCommand():
		s.bury(sub, Refused, err)
	default:
		public := fault.Public(err)
		s.conclude(sub, Outcome{CommandID: sub.key, Status: Refused, Refusal: &public})
	}
}

// isCommand reports whether the submission can be read at all.
func (sub submission) isCommand() bool {
	_, err := commands.Decode(sub.command, sub.Data())
	return err == nil
}

func (s *Submissions) do(env commands.Envelope, sub submission) (_ commands.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", sub.command, p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(s.work, s.config.AckWait/2)
	defer cancel()
	return s.config.Ledger.DoJSON(ctx, env, sub.command, sub.Data())
}

// conclude stores the outcome, and then takes the submission off the queue. A
// refusal takes nothing back: while this node was stopped another one may have
// carried the submission out.
func (s *Submissions) conclude(sub submission, outcome Outcome) {
	var only []jetstream.PublishOpt
	if outcome.Status == Refused {
		latest, settled, err := s.latest(sub)
		switch {
		case err != nil:
			s.putOff(sub, fmt.Errorf("look for an outcome: %w", err))
			return
		case settled:
			s.ack(sub)
			return
		}
		only = append(only, jetstream.WithExpectLastSequencePerSubject(latest))
	}
	if err := s.store(sub, outcome, only...); err != nil {
		s.putOff(sub, fmt.Errorf("store the outcome: %w", err))
		return
	}
	s.ack(sub)
}

// store publishes an outcome where Client.Result finds it.
func (s *Submissions) store(sub submission, outcome Outcome, options ...jetstream.PublishOpt) error {
	limit := s.config.Conn.MaxPayload() - headerRoom
	body, err := json.Marshal(outcome)
	if err == nil && int64(len(body)) > limit && outcome.Answer != nil {
		omitted := omit(outcome.Answer.Answer, len(body), limit)
		outcome.Answer = &omitted
		body, err = json.Marshal(outcome)
	}
	if err != nil {
		return err
	}
	return s.publish(&nats.Msg{
		Subject: s.names.result(sub.key), Data: body, Header: nats.Header{headerOrigin: {sub.origin}},
	}, options...)
}

func (s *Submissions) publish(m *nats.Msg, options ...jetstream.PublishOpt) error {
	ctx, cancel := context.WithTimeout(s.work, storing)
	defer cancel()
	_, err := s.js.PublishMsg(ctx, m, options...)
	return err
}

// latest is the sequence of the newest outcome of the key, 0 if there is none, and
// whether it is of this submission.
func (s *Submissions) latest(sub submission) (sequence uint64, settled bool, err error) {
	ctx, cancel := context.WithTimeout(s.work, storing)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.names.resultStream())
	if err != nil {
		return 0, false, err
	}
	m, err := stream.GetLastMsgForSubject(ctx, s.names.result(sub.key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return m.Sequence, m.Header.Get(headerOrigin) == sub.origin, nil
}

// ack takes a submission off the queue. When that is lost it is delivered again,
// and found to be settled.
func (s *Submissions) ack(sub submission) {
	if err := sub.Ack(); err != nil {
		s.config.Logger.Warn("a settled submission was not taken off the queue; it will be", "command_id", sub.key, "err", err)
	}
}

// putOff has a submission delivered again later, and puts it aside when that has not
// helped.
func (s *Submissions) putOff(sub submission, cause error) {
	if sub.tries >= s.config.MaxDeliver {
		s.bury(sub, Unknown, cause)
		return
	}
	s.later(sub, cause)
}

// later has a submission delivered again, each time after a longer while.
func (s *Submissions) later(sub submission, cause error) {
	delay := min(minDelay<<min(sub.tries-1, 10), maxDelay)
	s.config.Logger.Warn("a submission is put off", "command", sub.command, "command_id", sub.key,
		"tries", sub.tries, "delay", delay, "err", cause)
	if err := sub.NakWithDelay(delay); err != nil {
		s.config.Logger.Warn("a submission could not be put off; it is delivered again by itself", "command_id", sub.key, "err", err)
	}
}

// handBack puts a submission back into the queue at once, because this node does
// not lead any more, and takes no more of them out: those belong to the node that
// does.
func (s *Submissions) handBack(sub submission) {
	s.rest()
	if err := sub.Nak(); err != nil {
		s.config.Logger.Warn("a submission could not be put back; it is delivered again by itself", "command_id", sub.key, "err", err)
	}
}

// Close stops taking submissions and returns once those under way are settled.
// What waits stays in the queue.
func (s *Submissions) Close() error {
	s.rest()
	done := make(chan struct{})
	go func() {
		s.keeping.Wait()
		s.under.Wait()
		close(done)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	var err error
	select {
	case <-done:
	case <-timer.C:
		err = fmt.Errorf("close: submissions were still under way after %s; they are delivered again", grace)
	}
	s.cancel()
	<-done
	if flushErr := flush(context.Background(), s.config.Conn); !errors.Is(flushErr, nats.ErrConnectionClosed) {
		err = errors.Join(err, flushErr)
	}
	return err
}

package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
)

// format is the version of the messages and the stream. A store reads its own
// format only.
const format = "1"

const (
	metaFormat = "stockledger_format"
	metaLog    = "stockledger_log"
)

// Codes of the JetStream API.
const (
	codeNoPeers       jetstream.ErrorCode = 10005
	codeNotAvailable  jetstream.ErrorCode = 10008 // the cluster has no leader for the API
	codeNotLeader     jetstream.ErrorCode = 10009
	codeNoMessage     jetstream.ErrorCode = 10037
	codeMsgTooLarge   jetstream.ErrorCode = 10054 // max_msg_size of the stream
	codeWrongLast     jetstream.ErrorCode = 10071
	codeOffline       jetstream.ErrorCode = 10118
	codeInFlight      jetstream.ErrorCode = 10164 // a write to that subject is under way
	codeOverloaded    jetstream.ErrorCode = 10167
	codeBatchUnknown  jetstream.ErrorCode = 10176 // messages of the batch did not arrive
	codeBatchTooLarge jetstream.ErrorCode = 10199
	codeTooManyOpen   jetstream.ErrorCode = 10210 // batches
)

// config is how a log is made. All of it but replicas, compression and limits on
// bytes is checked on a log that is there.
func (s *Store) config(logID string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: s.stream, Description: "The log of the ledger " + s.at.ledger + ". Its messages are facts; none may ever be deleted.",
		Subjects: []string{s.prefix + "*"}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
		Discard: jetstream.DiscardNew, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, AllowAtomicPublish: true,
		// No message has an id to find duplicates by. The window is read at every
		// start of a server all the same, so it is small.
		Duplicates: time.Second,
		Replicas:   max(s.at.replicas, 1),
		Metadata:   map[string]string{metaFormat: format, metaLog: logID},
	}
}

// identify finds the log, after making it if there is none.
func (s *Store) identify(ctx context.Context, logID string) (*jetstream.StreamInfo, error) {
	if id, err := uuid.Parse(logID); logID != "" && (err != nil || id.String() != logID) {
		return nil, fmt.Errorf("its identity is to be %q, which is no UUID", logID)
	}
	var info *jetstream.StreamInfo
	err := s.patiently(ctx, func(ctx context.Context) (err error) {
		info, err = s.ensure(ctx, logID)
		return err
	})
	if errors.Is(err, errNobody) {
		err = fmt.Errorf("nobody answers for JetStream: it is not enabled on the server, or not for this user: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if err := s.check(info); err != nil {
		return nil, err
	}
	s.logID, s.replicas = info.Config.Metadata[metaLog], info.Config.Replicas
	if logID != "" && s.logID != logID {
		return nil, fmt.Errorf("it is the log %s and not %s: it %w", s.logID, logID, events.ErrOtherLog)
	}
	if servers := s.conn.ConnectedClusterName(); servers != "" && info.Config.Replicas == 1 {
		s.logger.Warn("the log has one replica though the NATS servers are a cluster: without that one server nothing can be recorded or read",
			"log", s.String(), "cluster", servers)
	}
	return info, nil
}

// ensure is the stream of the log, made if need be.
func (s *Store) ensure(ctx context.Context, logID string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if s.existing {
			return nil, fmt.Errorf("there is no log: %w", fs.ErrNotExist)
		}
		if logID == "" {
			logID = uuid.NewString()
		}
		stream, err = s.js.CreateStream(ctx, s.config(logID))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // made by another just now
			stream, err = s.js.Stream(ctx, s.stream)
		}
	}
	if err != nil {
		return nil, s.failure(ctx, err)
	}
	return stream.CachedInfo(), nil
}

// check says why a stream is none that the log can be kept in.
func (s *Store) check(info *jetstream.StreamInfo) error {
	have, want := info.Config, s.config("")
	if have.Metadata[metaLog] == "" || have.Metadata[metaFormat] == "" {
		return fmt.Errorf("the stream %s is not a log of Stockledger: choose another name for the ledger in the URL", s.stream)
	}
	if got := have.Metadata[metaFormat]; got != format {
		return fmt.Errorf("written in format %s; this version of Stockledger reads format %s only", got, format)
	}
	var wrong []string
	for _, setting := range []struct {
		name string
		good bool
	}{
		{fmt.Sprintf("subjects (must be %s)", want.Subjects[0]), slices.Equal(have.Subjects, want.Subjects)},
		{"retention (must be limits)", have.Retention == want.Retention},
		{"storage (must be file)", have.Storage == want.Storage},
		{"persist_mode (must be the default)", have.PersistMode == jetstream.DefaultPersistMode},
		{"discard (must be new)", have.Discard == want.Discard},
		{"max_age (must be none)", have.MaxAge == 0},
		{"max_msgs (must be unlimited)", have.MaxMsgs <= 0},
		{"max_msgs_per_subject (must be unlimited)", have.MaxMsgsPerSubject <= 0},
		{"deny_delete (must be set)", have.DenyDelete},
		{"deny_purge (must be set)", have.DenyPurge},
		{"allow_rollup_hdrs (must not be set)", !have.AllowRollup},
		{"allow_msg_ttl (must not be set)", !have.AllowMsgTTL},
		{"allow_msg_counter (must not be set)", !have.AllowMsgCounter},
		{"allow_msg_schedules (must not be set)", !have.AllowMsgSchedules},
		{"allow_direct (must be set)", have.AllowDirect},
		{"allow_atomic (must be set)", have.AllowAtomicPublish},
		{"no_ack (must not be set)", !have.NoAck},
		{"sealed (must not be set)", !have.Sealed},
		{"mirror and sources (must be none)", have.Mirror == nil && len(have.Sources) == 0},
		{"subject_transform (must be none)", have.SubjectTransform == nil},
	} {
		if !setting.good {
			wrong = append(wrong, setting.name)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("events could be lost or go unchecked in the stream %s as it is configured; put right: %s", s.stream, strings.Join(wrong, ", "))
	}
	if s.at.replicas != 0 && have.Replicas != s.at.replicas {
		return fmt.Errorf("the log has %d replicas and the URL asks for %d: change it with `nats stream edit %s --replicas %d`, or the URL",
			have.Replicas, s.at.replicas, s.stream, s.at.replicas)
	}
	return whole(info.State)
}

// whole says what of a log is missing.
func whole(state jetstream.StreamState) error {
	if state.LastSeq > 0 && state.FirstSeq != 1 || state.Msgs != state.LastSeq || state.NumDeleted > 0 {
		return fmt.Errorf("the log ends at position %d and has %d events from position %d on: events are missing",
			state.LastSeq, state.Msgs, state.FirstSeq)
	}
	return nil
}

// failure sorts an error of the client library into ours.
func (s *Store) failure(ctx context.Context, err error) error {
	var coded jetstream.JetStreamError
	if errors.As(err, &coded) && coded.APIError() != nil {
		return refused(coded.APIError())
	}
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, jetstream.ErrJetStreamNotEnabled), isNoResponders(err):
		return errNobody
	case ctx.Err() != nil:
		return errLate
	}
	return err
}

// A refusal is an error of the JetStream API.
type refusal struct{ *jetstream.APIError }

func (r refusal) Error() string {
	return fmt.Sprintf("the server refuses: %s (code %d)", r.Description, r.ErrorCode)
}

// refused is an error of the API as the error of a try.
func refused(e *jetstream.APIError) error {
	switch e.ErrorCode {
	case codeNotAvailable, codeNotLeader, codeOffline:
		return errNobody
	case codeNoPeers:
		return fmt.Errorf("%w: %w", errFew, e)
	}
	return refusal{e}
}

// code is the code of a refusal, 0 of any other error.
func code(err error) jetstream.ErrorCode {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.ErrorCode
	}
	return 0
}

// patiently tries again while servers come and go, until patience runs out.
func (s *Store) patiently(ctx context.Context, try func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var between pause
	for {
		err := try(bounded)
		if err == nil || !passing(err) {
			return err
		}
		if between.wait(bounded) != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			return err
		}
		select {
		case <-s.closed:
			return events.ErrClosed
		default:
		}
	}
}

// headOnce asks for the end of the log. An end that has events missing before it
// is an error, and so is one that the log was beyond already: either a leader
// answers that does not know yet that it is none, which passes, or the servers
// have lost events.
func (s *Store) headOnce(ctx context.Context) (uint64, error) {
	seen := s.tail.Head()
	m, err := s.calls.ask(ctx, &nats.Msg{Subject: "$JS.API.STREAM.INFO." + s.stream})
	if err != nil {
		return 0, err
	}
	var got struct {
		Error  *jetstream.APIError    `json:"error"`
		State  *jetstream.StreamState `json:"state"`
		Config struct {
			Metadata map[string]string `json:"metadata"`
		} `json:"config"`
	}
	switch err := json.Unmarshal(m.Data, &got); {
	case err != nil:
		return 0, fmt.Errorf("answer of the server: %w", err)
	case got.Error != nil:
		return 0, refused(got.Error)
	case got.State == nil:
		return 0, errors.New("answer of the server: there is no state in it")
	}
	if id := got.Config.Metadata[metaLog]; id != s.logID {
		return 0, fmt.Errorf("the stream %s is the log %q by now and was %s: it %w", s.stream, id, s.logID, events.ErrOtherLog)
	}
	if got.State.LastSeq < seen {
		return 0, fmt.Errorf("the log ends at position %d and was at %d: %w", got.State.LastSeq, seen, errBehind)
	}
	return got.State.LastSeq, whole(*got.State)
}

func isNoResponders(err error) bool { return errors.Is(err, nats.ErrNoResponders) }

package natsapi

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/internal/fault"
)

// The headers of a dead letter, besides those its original had. None begins with
// Ledger-, so that a dead letter can be submitted again as it is.
const (
	headerDeadCode    = "Dead-Letter-Code"    // such as malformed_json
	headerDeadReason  = "Dead-Letter-Reason"  // for people
	headerDeadFault   = "Dead-Letter-Fault"   // the whole refusal, as JSON
	headerDeadStatus  = "Dead-Letter-Status"  // refused: it has no effect; unknown: it may have
	headerDeadKey     = "Dead-Letter-Key"     // what its outcome is found by
	headerDeadOrigin  = "Dead-Letter-Origin"  // its place in the queue
	headerDeadTries   = "Dead-Letter-Tries"   // how often it was delivered
	headerDeadRenamed = "Dead-Letter-Renamed" // precedes the original's Nats- headers, which the server would obey
)

// maxDeadFault bounds the refusal in a header, in bytes.
const maxDeadFault = 8 << 10

// bury puts a submission aside that cannot be carried out: it moves to the dead
// letters, byte for byte, with the reason, and its outcome says the same.
func (s *Submissions) bury(sub submission, status Status, cause error) {
	public := fault.Public(cause)
	s.config.Logger.Error("a submission cannot be carried out; it is kept with the dead letters",
		"command", sub.command, "command_id", sub.key, "stream", s.names.deadStream(), "tries", sub.tries, "err", cause)
	err := s.publish(s.deadLetter(sub, status, public))
	if err == nil {
		err = s.storeDead(sub, Outcome{CommandID: sub.key, Status: status, Refusal: &public})
	}
	if err == nil {
		err = sub.TermWithReason(headerText(public.Code+": "+public.Message, maxErrorHeader))
	}
	if err != nil {
		s.config.Logger.Error("a dead letter was not kept; its submission stays in the queue", "command_id", sub.key, "err", err)
		_ = sub.NakWithDelay(maxDelay) // or it is delivered again by itself
	}
}

// storeDead stores the outcome of a dead letter. A key that belongs to another
// command keeps the outcome of that one.
func (s *Submissions) storeDead(sub submission, outcome Outcome) error {
	if outcome.Refusal.Code != "idempotency_key_reused" {
		return s.store(sub, outcome)
	}
	err := s.store(sub, outcome, jetstream.WithExpectLastSequencePerSubject(0))
	if apiErr := new(jetstream.APIError); errors.As(err, &apiErr) && apiErr.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil
	}
	return err
}

func (s *Submissions) deadLetter(sub submission, status Status, public fault.Answer) *nats.Msg {
	m := &nats.Msg{Subject: s.names.dead() + sub.command, Data: sub.Data(), Header: make(nats.Header)}
	for name, values := range sub.Headers() {
		if strings.HasPrefix(strings.ToLower(name), "nats-") {
			name = headerDeadRenamed + "-" + name
		}
		if !strings.HasPrefix(name, "Dead-Letter-") || strings.HasPrefix(name, headerDeadRenamed) {
			m.Header[name] = values
		}
	}
	whole, err := json.Marshal(public)
	if err != nil || len(whole) > maxDeadFault {
		public.Message, public.Details = shorten(public.Message, maxErrorHeader), nil
		whole, _ = json.Marshal(public) // texts only
	}
	m.Header.Set(headerDeadCode, public.Code)
	m.Header.Set(headerDeadReason, headerText(public.Message, maxErrorHeader))
	m.Header.Set(headerDeadFault, string(whole))
	m.Header.Set(headerDeadStatus, string(status))
	m.Header.Set(headerDeadKey, headerText(sub.key, maxKey))
	m.Header.Set(headerDeadOrigin, sub.origin)
	m.Header.Set(headerDeadTries, strconv.Itoa(sub.tries))
	m.Header.Set(jetstream.MsgIDHeader, sub.origin) // put aside twice, kept once
	return m
}

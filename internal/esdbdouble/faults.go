package esdbdouble

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Kind is a kind of call.
type Kind uint8

// The kinds of calls that faults are injected into.
const (
	AnyCall       Kind = iota
	Appends            // Append and the requests of BatchAppend
	Reads              // of a stream or of $all, with a count
	Subscriptions      // when they are opened
	Deletions          // Delete and Tombstone
	Features           // ServerFeatures, with which a client probes a node
	GossipReads
)

// Fault is what happens to a call. The zero Fault is none.
type Fault struct {
	early, drop, hang bool
	after             bool // the call is carried out first
	code              codes.Code
	hold              <-chan struct{}
}

// Refuse answers with code; the call is not carried out. Aborted is how the
// server tells a timeout of its own, Unavailable that it is not ready or busy.
func Refuse(code codes.Code) Fault { return Fault{code: code} }

// RefuseEarly answers an append with code before its events have been read, as
// the server does without access: a client that is still sending sees no more
// than the end of the stream.
func RefuseEarly(code codes.Code) Fault { return Fault{code: code, early: true} }

// LoseAnswer carries the call out and answers with code.
func LoseAnswer(code codes.Code) Fault { return Fault{code: code, after: true} }

// Hang does not carry the call out and never answers it.
func Hang() Fault { return Fault{hang: true} }

// HangAfter carries the call out and never answers it.
func HangAfter() Fault { return Fault{hang: true, after: true} }

// Drop breaks the call's connection; the call is not carried out.
func Drop() Fault { return Fault{drop: true} }

// DropAfter carries the call out and breaks its connection instead of answering.
func DropAfter() Fault { return Fault{drop: true, after: true} }

// Hold waits until release is closed, then carries the call out. When the caller
// is gone by then it is carried out nevertheless: a late write.
func Hold(release <-chan struct{}) Fault { return Fault{hold: release} }

// HoldAnswer carries the call out, and answers when release is closed.
func HoldAnswer(release <-chan struct{}) Fault { return Fault{hold: release, after: true} }

// When says which calls a fault befalls: of those of the kind, on a stream that
// Stream accepts, the first Skip ones are spared and the Times ones after them
// are hit.
type When struct {
	Kind   Kind
	Stream func(name string) bool // nil: every stream. "$all" is the name of $all
	Skip   int
	Times  int // 0: all that come, until the fault is removed
}

// Prefix accepts the streams whose names begin with one of the prefixes.
func Prefix(prefixes ...string) func(string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
}

// Injected is a fault in a server.
type Injected struct {
	fault  Fault
	when   When
	server *Server

	mu   sync.Mutex
	seen int
	hits int
	hit  chan struct{} // closed and made anew with each hit
}

// faults are those of a server, in the order they were injected.
type faults struct {
	any  atomic.Bool // spares calls the lock where there are none
	mu   sync.Mutex
	list []*Injected
}

// Inject puts a fault into the server, until it is used up or removed. Where
// several apply to a call, the one injected first does.
func (s *Server) Inject(fault Fault, when When) *Injected {
	in := &Injected{fault: fault, when: when, server: s, hit: make(chan struct{})}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, in)
	s.faults.any.Store(true)
	return in
}

// Remove ends the fault. Calls that hang go on hanging.
func (in *Injected) Remove() {
	f := &in.server.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(other *Injected) bool { return other == in })
	f.any.Store(len(f.list) > 0)
}

// Hits is how many calls it has befallen.
func (in *Injected) Hits() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.hits
}

// hitWithin bounds how long Await waits.
const hitWithin = 30 * time.Second

// Await waits until the fault has befallen n calls, and fails the test when it
// does not. It is for the test's own goroutine.
func (in *Injected) Await(tb testing.TB, n int) {
	tb.Helper()
	timer := time.NewTimer(hitWithin)
	defer timer.Stop()
	for {
		in.mu.Lock()
		hits, hit := in.hits, in.hit
		in.mu.Unlock()
		if hits >= n {
			return
		}
		select {
		case <-hit:
		case <-timer.C:
			tb.Fatalf("esdbdouble: %d calls were hit within %v, not %d", hits, hitWithin, n)
		}
	}
}

// take is the fault that befalls a call whose request is complete; nil: none.
// Calls are counted in the order they are complete in.
func (f *faults) take(kind Kind, stream string) *Fault { return f.first(kind, stream, false) }

// takeEarly is the fault that befalls an append whose events are still to come.
func (f *faults) takeEarly(stream string) *Fault { return f.first(Appends, stream, true) }

func (f *faults) first(kind Kind, stream string, early bool) *Fault {
	if !f.any.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, in := range f.list {
		if in.fault.early == early && in.befalls(kind, stream) {
			return &in.fault
		}
	}
	return nil
}

func (in *Injected) befalls(kind Kind, stream string) bool {
	if in.when.Kind != AnyCall && in.when.Kind != kind || in.when.Stream != nil && !in.when.Stream(stream) {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.seen++
	if in.seen <= in.when.Skip || in.when.Times > 0 && in.hits >= in.when.Times {
		return false
	}
	in.hits++
	close(in.hit)
	in.hit = make(chan struct{})
	return true
}

// before does what a fault does before a call is carried out; an error ends the
// call. It also makes a slow server slow.
func (s *Server) before(ctx context.Context, fault *Fault) error {
	if d := time.Duration(s.latency.Load()); d > 0 && !pause(ctx, d) {
		return status.FromContextError(ctx.Err()).Err()
	}
	if fault == nil || fault.after {
		return nil
	}
	return s.strike(ctx, fault)
}

// instead does what a fault does in the place of an answer.
func (s *Server) instead(ctx context.Context, fault *Fault) error {
	if fault == nil || !fault.after {
		return nil
	}
	return s.strike(ctx, fault)
}

func (s *Server) strike(ctx context.Context, fault *Fault) error {
	switch {
	case fault.drop:
		if from, ok := peer.FromContext(ctx); ok {
			s.dropConnection(from.Addr.String())
		}
		return status.Error(codes.Unavailable, "dropped")
	case fault.hang:
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	case fault.hold != nil:
		return s.held(ctx, fault)
	}
	return status.Error(fault.code, "injected: "+fault.code.String())
}

// held waits for a held call's release, or for its node to stop.
func (s *Server) held(ctx context.Context, fault *Fault) error {
	if fault.after {
		select {
		case <-fault.hold:
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	// The caller's leaving does not stop a late write; the node's end does.
	select {
	case <-fault.hold:
		return nil
	case <-s.stopping():
		return status.Error(codes.Unavailable, "stopped")
	}
}

// SetLatency makes each call wait that long before it is carried out.
func (s *Server) SetLatency(d time.Duration) { s.latency.Store(int64(d)) }

// SetCheckpointsAtEnd turns the bug of [CheckpointsAtEnd] on and off.
func (s *Server) SetCheckpointsAtEnd(on bool) { s.checkpointsAtEnd.Store(on) }

// SetDuplicateCheckpoints makes subscriptions send each checkpoint twice.
func (s *Server) SetDuplicateCheckpoints(on bool) { s.duplicates.Store(on) }

// AbortSubscriptions ends all subscriptions that are open with code. It returns
// how many there were.
func (s *Server) AbortSubscriptions(code codes.Code) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subs {
		select {
		case sub.abort <- status.Error(code, "injected: "+code.String()):
		default: // it was aborted before
		}
	}
	return len(s.subs)
}

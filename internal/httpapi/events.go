package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

const (
	// defaultFollowers each hold two batches of events at most, which they share
	// when they are near the head, and which the store keeps small otherwise.
	defaultFollowers = 256
	// defaultHeartbeat is less than the minute after which proxies give up.
	defaultHeartbeat = 15 * time.Second
	// takeWithin is how long a follower may take for one batch. One that is slower
	// is let go, and resumes.
	takeWithin = 30 * time.Second
)

func (s *Server) eventsRoute() Route {
	return Route{
		Method: http.MethodGet, Path: eventsPath, Name: "follow-events", Scope: Query, stream: true,
		About: "Every event of the log, in its order, as server-sent events. The id of each is its position.",
		Params: []Param{
			{Name: "after", Type: "integer", About: "The position to begin after; 0 is the beginning. The header Last-Event-ID says the same, and goes before."},
			{Name: "stream", About: "Only the events of that stream, such as item-iitem_1."},
			{Name: "follow", Type: "boolean", About: "false ends at the newest event there is; true, the default, waits for more."},
		},
		Errors:  []int{400, 503},
		Handler: s.follow,
	}
}

// wanted is which events a follower asks for.
type wanted struct {
	after   uint64
	ends    bool // with the event at through
	through uint64
	stream  string // "": all
}

func (s *Server) wanted(r *http.Request) (w wanted, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil { // what is left of it would be every event
		return w, errUnreadable
	}
	for name, values := range query {
		if name != "after" && name != "stream" && name != "follow" {
			return w, badParameter(name, "there is no parameter %q; there are after, stream and follow", name)
		}
		if len(values) > 1 {
			return w, badParameter(name, "the parameter %s is there %d times; send it once", name, len(values))
		}
	}
	w.stream = query.Get("stream")
	if text := cmp.Or(r.Header.Get("Last-Event-ID"), query.Get("after")); text != "" {
		if w.after, err = strconv.ParseUint(text, 10, 63); err != nil {
			return w, badParameter("after", "%q is no position; send the id of an event, or 0 for the beginning", text)
		}
	}
	follow := true
	if text := query.Get("follow"); text != "" {
		if follow, err = strconv.ParseBool(text); err != nil {
			return w, badParameter("follow", "follow is %q; send true or false", text)
		}
	}
	head, err := s.config.Log.Head(r.Context())
	if err != nil {
		return w, fmt.Errorf("follow the events: %w", err)
	}
	if w.after > head {
		return w, fault.New(fault.Invalid, "after_beyond_log",
			"position %d is beyond the end of the log, which is at %d; it is from another log", w.after, head).
			With("after", w.after).With("head", head)
	}
	w.ends, w.through = !follow, head
	return w, nil
}

// follow answers with events until there are enough, the client has gone or is
// too slow, or the server closes.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	want, err := s.wanted(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()

	out := &stream{to: w, control: http.NewResponseController(w), now: s.config.Now, want: want}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep them
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	fmt.Fprintf(&out.text, "retry: %d\n\n", time.Second.Milliseconds())
	if !out.send() || want.done(want.after) {
		return
	}
	if err := s.pump(ctx, out); err != nil && ctx.Err() == nil && !errors.Is(err, events.ErrClosed) {
		s.config.Logger.Error("following the events is interrupted", "position", out.at(), "err", err)
	}
}

// done reports whether there is nothing to come after a position.
func (w wanted) done(at uint64) bool { return w.ends && at >= w.through }

// pump reads batches in one goroutine and sends them in another, so that it can
// say that it is there while the log is silent.
func (s *Server) pump(ctx context.Context, out *stream) error {
	ctx, cancel := context.WithCancel(ctx)
	batches, failed := make(chan []events.Recorded), make(chan error, 1)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() {
		for batch, err := range s.config.Log.Subscribe(ctx, out.want.after) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case batches <- batch:
			case <-ctx.Done():
				return
			}
		}
	})
	heartbeat := time.NewTicker(s.config.Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case batch := <-batches:
			done, err := out.batch(batch)
			if err != nil || done {
				return err
			}
		case <-heartbeat.C:
			out.beat()
			if !out.send() {
				return nil
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// A stream writes events to one follower.
type stream struct {
	to      http.ResponseWriter
	control *http.ResponseController
	now     func() time.Time
	want    wanted
	read    uint64 // the position it has come to, wanted or not
	told    uint64 // the last position that the follower was told
	text    bytes.Buffer
}

func (s *stream) at() uint64 { return max(s.read, s.want.after) }

// batch sends those of the events that are wanted, and reports whether they were
// the last, or the follower has gone.
func (s *stream) batch(batch []events.Recorded) (done bool, err error) {
	for _, r := range batch {
		if done = s.want.done(s.read); done {
			break
		}
		s.read = r.Position
		if s.want.stream != "" && r.Stream != s.want.stream {
			continue
		}
		if err := s.event(r); err != nil {
			return true, err
		}
		if s.text.Len() > keepText && !s.send() {
			return true, nil
		}
	}
	done = s.want.done(s.read)
	if done {
		s.beat()
	}
	return !s.send() || done, nil
}

// event writes one. JSON has no line breaks in it.
func (s *stream) event(r events.Recorded) error {
	e, err := transport.EventOf(r)
	if err != nil {
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("position %d: %w", r.Position, err)
	}
	s.told = r.Position
	fmt.Fprintf(&s.text, "id: %d\nevent: %s\ndata: %s\n\n", r.Position, r.Type, data)
	return nil
}

// beat says that the server is there, and how far it has come where that is not
// plain: who resumes then need not pass over again what he did not want.
func (s *stream) beat() {
	if s.read > s.told {
		s.told = s.read
		fmt.Fprintf(&s.text, "id: %d\n\n", s.read)
		return
	}
	s.text.WriteString(":\n\n")
}

// send sends what was written, and reports whether the follower took it. One
// that does not is let go.
func (s *stream) send() bool {
	if s.text.Len() == 0 {
		return true
	}
	if s.control.SetWriteDeadline(s.now().Add(takeWithin)) != nil {
		return false
	}
	_, err := s.to.Write(s.text.Bytes())
	s.text.Reset()
	return err == nil && s.control.Flush() == nil
}

// keepText is from how many bytes on events do not wait for more to be sent.
const keepText = 64 << 10

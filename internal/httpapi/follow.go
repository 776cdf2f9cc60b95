package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

const (
	// silence is after how long without even a heartbeat a connection is lost.
	silence = 4 * defaultHeartbeat
	// pauses before a lost connection is made again that had brought nothing.
	followPause    = 10 * time.Millisecond
	maxFollowPause = 5 * time.Second
	// maxEvent bounds one line of the events, in bytes: an item has 64 KiB of
	// metadata at most.
	maxEvent = 4 << 20
)

// Event is one event of the log.
type Event = transport.Event

// Follow yields the events after a position, in log order, and then waits for
// more. Filter is a stream such as item-iitem_1, or "" for all of them. A
// connection that is lost is made again, and goes on where it was; none is
// skipped, none comes twice. It ends only by yielding an error, which wraps
// ctx.Err() once ctx is done.
func (c *Client) Follow(ctx context.Context, after uint64, filter string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := &follower{client: c, filter: filter, at: after}
		for pause := followPause; ; {
			before := f.at
			going, err := f.once(ctx, func(e Event) bool { return yield(e, nil) })
			if !going {
				return
			}
			if ctx.Err() != nil {
				err = fmt.Errorf("follow the events after %d: %w", f.at, ctx.Err())
			}
			if ctx.Err() != nil || !f.connected || fault.Of(err).Kind != fault.Unavailable {
				yield(Event{}, err)
				return
			}
			if f.at > before {
				pause = followPause
				continue
			}
			sleep(ctx, pause)
			pause = min(2*pause, maxFollowPause)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// follower is where somebody who follows is.
type follower struct {
	client    *Client
	filter    string
	at        uint64 // everything up to it is yielded, or not wanted
	connected bool   // once, so that there is a ledger there
}

// once follows over one connection until it fails, or whoever follows has
// enough, which it reports.
func (f *follower) once(ctx context.Context, yield func(Event) bool) (going bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := time.AfterFunc(silence, cancel)
	defer lost.Stop()
	r, err := f.client.request(ctx, http.MethodGet, eventsPath, nil)
	if err != nil {
		return true, err
	}
	r.URL.RawQuery = url.Values{"stream": {f.filter}}.Encode()
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Last-Event-ID", strconv.FormatUint(f.at, 10))
	reply, err := f.client.http.Do(r)
	if err != nil {
		return true, f.client.failed(err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(reply.Body, maxEvent))
		if err != nil {
			return true, f.client.failed(err)
		}
		return true, f.client.refusal(reply.StatusCode, text)
	}
	f.connected = true
	return f.read(reply.Body, yield, func() { lost.Reset(silence) })
}

// read takes events off a connection. Alive hears of every sign of life.
func (f *follower) read(from io.Reader, yield func(Event) bool, alive func()) (going bool, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxEvent)
	var id, data []byte
	for lines.Scan() {
		alive()
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			id = bytes.Clone(value)
		case "data":
			data = bytes.Clone(value)
		case "event", "retry":
		case "":
			if len(lines.Bytes()) > 0 {
				continue // a comment
			}
			going, err := f.take(id, data, yield)
			if !going || err != nil {
				return going, err
			}
			id, data = nil, nil
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return true, strange(f.client.at.String(), lines.Err())
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return true, f.client.failed(err)
}

// take yields an event, checked against its place in the log. What has no data
// only says how far the log was read.
func (f *follower) take(id, data []byte, yield func(Event) bool) (going bool, err error) {
	if id == nil {
		return true, nil
	}
	position, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		return true, strange(f.client.at.String(), err)
	}
	if data == nil {
		f.at = max(f.at, position)
		return true, nil
	}
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		return true, strange(f.client.at.String(), err)
	}
	if e.Position != position || position <= f.at || f.filter == "" && position != f.at+1 {
		return true, strange(f.client.at.String(), fmt.Errorf("event %d came after event %d", position, f.at))
	}
	f.at = position
	return yield(e), nil
}

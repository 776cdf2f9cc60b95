package esdbdouble

import (
	"math"
	"strconv"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// reading is one call of Read.
type reading struct {
	*Server
	call    streams.Streams_ReadServer
	options *streams.ReadReq_Options
	passes  filter
	window  int64
}

// Read implements streams.StreamsServer (Streams.Read.cs).
func (s streamsService) Read(request *streams.ReadReq, call streams.Streams_ReadServer) error {
	options := request.GetOptions()
	if options.GetUuidOption() == nil {
		return status.Error(codes.InvalidArgument, "`uuidOption` is a required argument")
	}
	r := reading{Server: s.Server, call: call, options: options, passes: shown, window: math.MaxInt32}
	if wanted := options.GetFilter(); wanted != nil {
		passes, err := newFilter(wanted)
		if err != nil {
			return errHandler
		}
		r.passes = passes
		switch window := wanted.GetWindow().(type) {
		case *streams.ReadReq_Options_FilterOptions_Max:
			r.window = int64(window.Max)
		case *streams.ReadReq_Options_FilterOptions_Count:
			r.window = pageSize
		default:
			return status.Error(codes.InvalidArgument, "'None' is not a valid WindowOneofCase")
		}
		if r.window == 0 {
			return errHandler
		}
	}
	name, kind := "$all", Reads
	if of := options.GetStream(); of != nil {
		name = string(of.GetStreamIdentifier().GetStreamName())
	}
	if options.GetSubscription() != nil {
		kind = Subscriptions
	}
	fault := s.faults.take(kind, name)
	s.calls.read(call.Context(), kind)
	if err := s.before(call.Context(), fault); err != nil {
		return err
	}
	if err := r.serve(name, kind); err != nil {
		return err
	}
	return s.instead(call.Context(), fault)
}

func (r reading) serve(name string, kind Kind) error {
	backwards := r.options.GetReadDirection() == streams.ReadReq_Options_Backwards
	switch ofAll, filtered := r.options.GetAll() != nil, r.options.GetFilter() != nil; {
	case r.options.GetStreamOption() == nil, r.options.GetCountOption() == nil,
		!ofAll && filtered, kind == Subscriptions && backwards:
		return status.Error(codes.InvalidArgument, "The combination is invalid.")
	case kind == Subscriptions && ofAll:
		return r.subscribeAll()
	case kind == Subscriptions:
		return r.subscribeStream(name)
	case ofAll:
		return r.readAll(backwards)
	default:
		return r.readStream(name, backwards)
	}
}

func (r reading) readStream(name string, backwards bool) error {
	var from int64 // the start
	switch option := r.options.GetStream().GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		from = int64(option.Revision)
	case *streams.ReadReq_Options_StreamOptions_End:
		from = -1
	}
	read := r.cluster.streamForwards
	if backwards {
		read = r.cluster.streamBackwards
	}
	for left := r.options.GetCount(); ; {
		if err := r.refuseFollowing(r.call); err != nil {
			return err
		}
		page := read(name, from, int64(min(left, pageSize)))
		switch page.result {
		case readOK:
		case readNoStream:
			return r.call.Send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{
				StreamNotFound: &streams.ReadResp_StreamNotFound{
					StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(name)},
				},
			}})
		case readDeleted:
			return refuseDeleted(r.call, name)
		default:
			return status.Error(codes.Unknown, "Unexpected ReadStreamResult: Error")
		}
		if err := r.sendAll(page.events); err != nil {
			return err
		}
		left -= uint64(len(page.events))
		if page.ends || left == 0 {
			return nil
		}
		from = page.next
	}
}

func (r reading) readAll(backwards bool) error {
	from := firstOfLog
	switch option := r.options.GetAll().GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		from = position{int64(option.Position.CommitPosition), int64(option.Position.PreparePosition)}
	case *streams.ReadReq_Options_AllOptions_End:
		from = headOfLog
	}
	read := r.cluster.allForwards
	if backwards {
		read = r.cluster.allBackwards
	} else if from == headOfLog {
		last, _ := r.cluster.last()
		from = position{last.commit + 1, last.commit + 1}
	}
	for left := r.options.GetCount(); ; {
		if err := r.refuseFollowing(r.call); err != nil {
			return err
		}
		page := read(from, int64(min(left, pageSize)), r.window, r.passes)
		if page.result != readOK {
			// Reads with a count do not foresee this answer of the log's reader.
			return status.Error(codes.Unknown, "Unexpected ReadAllResult: InvalidPosition")
		}
		if err := r.sendAll(page.events); err != nil {
			return err
		}
		left -= uint64(len(page.events))
		if page.ends || left == 0 {
			return nil
		}
		from = page.next
	}
}

func (r reading) sendAll(events []*record) error {
	for _, e := range events {
		if err := r.send(e); err != nil {
			return err
		}
	}
	return nil
}

func (r reading) send(e *record) error {
	event := &streams.ReadResp_ReadEvent{
		Event:    r.spelled(e),
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: uint64(e.pos)},
	}
	if r.options.GetResolveLinks() && e.eventType == "$>" {
		event.Event, event.Link = nil, event.Event
		if target := r.target(e); target != nil {
			event.Event = r.spelled(target)
		}
	}
	return r.call.Send(&streams.ReadResp{Content: &streams.ReadResp_Event{Event: event}})
}

// spelled is an event with its id as the reader wants it.
func (r reading) spelled(e *record) *streams.ReadResp_ReadEvent_RecordedEvent {
	if _, asText := r.options.GetUuidOption().GetContent().(*streams.ReadReq_Options_UUIDOption_String_); !asText {
		return e.message
	}
	message := proto.CloneOf(e.message)
	message.Id = &shared.UUID{Value: &shared.UUID_String_{String_: e.id.String()}}
	return message
}

// target is the event that a link is to: its data is revision@stream.
func (r reading) target(link *record) *record {
	digits, name, ok := strings.Cut(string(link.message.Data), "@")
	revision, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return nil
	}
	return r.cluster.linked(name, revision)
}

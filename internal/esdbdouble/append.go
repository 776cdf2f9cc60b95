package esdbdouble

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strconv"
	"unicode/utf16"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// streamsService is the Streams service of a node.
type streamsService struct {
	streams.UnimplementedStreamsServer
	*Server
}

// errHandler is what a client sees of an exception that the server's code did
// not foresee.
var errHandler = status.Error(codes.Unknown, "Exception was thrown by handler.")

var none = &shared.Empty{}

// Append implements streams.StreamsServer (Streams.Append.cs).
func (s streamsService) Append(call streams.Streams_AppendServer) error {
	ctx := call.Context()
	first, err := call.Recv()
	if err != nil {
		return err
	}
	options := first.GetOptions()
	if options == nil {
		return errHandler
	}
	name := string(options.GetStreamIdentifier().GetStreamName())
	expected, err := expectedOfAppend(options)
	if err != nil {
		return err
	}
	s.calls.append(ctx)
	if fault := s.faults.takeEarly(name); fault != nil {
		return s.strike(ctx, fault)
	}
	events, trailer, err := s.receive(call, name)
	if err != nil {
		call.SetTrailer(trailer)
		return err
	}
	fault := s.faults.take(Appends, name)
	if err := s.before(ctx, fault); err != nil {
		return err
	}
	if err := s.refuseFollowing(call); err != nil {
		return err
	}
	if name == "" || name == "$$" {
		return errHandler
	}
	v := s.cluster.append(name, expected, events)
	if err := s.instead(ctx, fault); err != nil {
		return err
	}
	switch v.decision {
	case streamDeleted:
		return refuseDeleted(call, name)
	case wrongVersion:
		return call.SendAndClose(&streams.AppendResp{Result: wrongVersionOf(options, v)})
	default:
		return call.SendAndClose(&streams.AppendResp{Result: s.successOf(v)})
	}
}

func expectedOfAppend(options *streams.AppendReq_Options) (int64, error) {
	switch expected := options.GetExpectedStreamRevision().(type) {
	case *streams.AppendReq_Options_Revision:
		return int64(expected.Revision), nil
	case *streams.AppendReq_Options_NoStream:
		return expectNoStream, nil
	case *streams.AppendReq_Options_Any:
		return expectAny, nil
	case *streams.AppendReq_Options_StreamExists:
		return expectStreamExists, nil
	default:
		return 0, status.Error(codes.InvalidArgument, "'None' is not a valid ExpectedStreamRevisionOneofCase")
	}
}

// receive takes the events of an append to the end. It refuses what is too
// large when it has become so, while the client may still be sending.
func (s *Server) receive(call streams.Streams_AppendServer, name string) ([]*record, metadata.MD, error) {
	var events []*record
	for size := 0; ; {
		request, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		proposed := request.GetProposedMessage()
		if proposed == nil {
			return nil, nil, errHandler
		}
		event, missing := s.proposed(name, proposed)
		if missing != "" {
			return nil, trailer("missing-required-metadata-property", "required-metadata-properties", "type,content-type"),
				status.Errorf(codes.InvalidArgument, "Required Metadata Property '%s' is missing", missing)
		}
		if size += sizeOf(event); size > s.set.maxAppendSize {
			return nil, trailer("maximum-append-size-exceeded", "maximum-append-size", strconv.Itoa(s.set.maxAppendSize)),
				status.Errorf(codes.InvalidArgument, "Maximum Append Size of %d Exceeded.", s.set.maxAppendSize)
		}
		events = append(events, event)
	}
}

// proposal is an event as Append and BatchAppend carry it.
type proposal interface {
	GetId() *shared.UUID
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

// proposed is the record of a proposed event, or the name of the metadata it lacks.
func (s *Server) proposed(name string, p proposal) (event *record, missing string) {
	for _, required := range []string{"type", "content-type"} {
		if _, ok := p.GetMetadata()[required]; !ok {
			return nil, required
		}
	}
	contentType := "application/octet-stream"
	if p.GetMetadata()["content-type"] == "application/json" {
		contentType = "application/json"
	}
	return newRecord(name, p.GetMetadata()["type"], contentType, idOf(p.GetId()), p.GetData(), p.GetCustomMetadata()), ""
}

// sizeOf is what an event counts for the limit of an append: its bytes, and two
// for each UTF-16 unit of its type (Event.cs, SizeOnDisk).
func sizeOf(e *record) int {
	return len(e.message.Data) + len(e.message.CustomMetadata) + 2*len(utf16.Encode([]rune(e.eventType)))
}

func idOf(id *shared.UUID) uuid.UUID {
	if text := id.GetString_(); text != "" {
		parsed, _ := uuid.Parse(text) // what is none is the empty id
		return parsed
	}
	var bytes uuid.UUID
	binary.BigEndian.PutUint64(bytes[:8], uint64(id.GetStructured().GetMostSignificantBits()))
	binary.BigEndian.PutUint64(bytes[8:], uint64(id.GetStructured().GetLeastSignificantBits()))
	return bytes
}

func halves(id uuid.UUID) (most, least int64) {
	return int64(binary.BigEndian.Uint64(id[:8])), int64(binary.BigEndian.Uint64(id[8:]))
}

func (s *Server) successOf(v verdict) *streams.AppendResp_Success_ {
	success := &streams.AppendResp_Success{
		CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(v.last)},
		PositionOption:        &streams.AppendResp_Success_NoPosition{NoPosition: none},
	}
	if v.last < 0 {
		success.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{NoStream: none}
	}
	if at, ok := s.answered(v); ok {
		success.PositionOption = &streams.AppendResp_Success_Position{
			Position: &streams.AppendResp_Position{CommitPosition: at, PreparePosition: at},
		}
	}
	return &streams.AppendResp_Success_{Success: success}
}

// answered is the position that is told of a write.
func (s *Server) answered(v verdict) (at uint64, ok bool) {
	if v.at == nil || v.decision == idempotent && !s.set.idempotentPositions {
		return 0, false
	}
	return uint64(*v.at), true
}

// wrongVersionOf fills the fields of servers from 20.6.1 on and, as they still
// do, those from before.
func wrongVersionOf(options *streams.AppendReq_Options, v verdict) *streams.AppendResp_WrongExpectedVersion_ {
	wrong := &streams.AppendResp_WrongExpectedVersion{
		CurrentRevisionOption:        &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: uint64(v.current)},
		CurrentRevisionOption_20_6_0: &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: uint64(v.current)},
	}
	if v.current < 0 {
		wrong.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: none}
		wrong.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: none}
	}
	switch expected := options.GetExpectedStreamRevision().(type) {
	case *streams.AppendReq_Options_Any:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: none}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: none}
	case *streams.AppendReq_Options_StreamExists:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: none}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: none}
	case *streams.AppendReq_Options_NoStream:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: none}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: math.MaxUint64}
	case *streams.AppendReq_Options_Revision:
		wrong.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: expected.Revision}
		wrong.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: expected.Revision}
	}
	return &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: wrong}
}

// Delete implements streams.StreamsServer (Streams.Delete.cs).
func (s streamsService) Delete(ctx context.Context, request *streams.DeleteReq) (*streams.DeleteResp, error) {
	options := request.GetOptions()
	var expected int64
	switch e := options.GetExpectedStreamRevision().(type) {
	case *streams.DeleteReq_Options_Revision:
		expected = int64(e.Revision)
	case *streams.DeleteReq_Options_NoStream:
		expected = expectNoStream
	case *streams.DeleteReq_Options_StreamExists:
		expected = expectStreamExists
	default:
		expected = expectAny
	}
	at, err := s.delete(ctx, string(options.GetStreamIdentifier().GetStreamName()), expected, false)
	if err != nil {
		return nil, err
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{
		Position: &streams.DeleteResp_Position{CommitPosition: at, PreparePosition: at},
	}}, nil
}

// Tombstone implements streams.StreamsServer (Streams.Delete.cs).
func (s streamsService) Tombstone(ctx context.Context, request *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	options := request.GetOptions()
	var expected int64
	switch e := options.GetExpectedStreamRevision().(type) {
	case *streams.TombstoneReq_Options_Revision:
		expected = int64(e.Revision)
	case *streams.TombstoneReq_Options_NoStream:
		expected = expectNoStream
	case *streams.TombstoneReq_Options_StreamExists:
		expected = expectStreamExists
	default:
		expected = expectAny
	}
	at, err := s.delete(ctx, string(options.GetStreamIdentifier().GetStreamName()), expected, true)
	if err != nil {
		return nil, err
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{
		Position: &streams.TombstoneResp_Position{CommitPosition: at, PreparePosition: at},
	}}, nil
}

func (s *Server) delete(ctx context.Context, name string, expected int64, forGood bool) (uint64, error) {
	fault := s.faults.take(Deletions, name)
	if err := s.before(ctx, fault); err != nil {
		return 0, err
	}
	call := trailing{ctx}
	if err := s.refuseFollowing(call); err != nil {
		return 0, err
	}
	v := s.cluster.remove(name, expected, forGood)
	if err := s.instead(ctx, fault); err != nil {
		return 0, err
	}
	switch v.decision {
	case streamDeleted:
		return 0, refuseDeleted(call, name)
	case wrongVersion:
		call.SetTrailer(trailer("wrong-expected-version", "stream-name", name,
			"expected-version", strconv.FormatInt(expected, 10), "actual-version", strconv.FormatInt(v.current, 10)))
		return 0, status.Errorf(codes.FailedPrecondition, "Delete failed due to WrongExpectedVersion. "+
			"Stream: %s, Expected version: %d, Actual version: %d", name, expected, v.current)
	default:
		return uint64(*v.at), nil
	}
}

// answering is a call whose trailer can be set.
type answering interface {
	Context() context.Context
	SetTrailer(md metadata.MD)
}

// trailing is a call with one request and one answer.
type trailing struct{ ctx context.Context } //nolint:containedctx // it is the call

func (c trailing) Context() context.Context { return c.ctx }

func (c trailing) SetTrailer(md metadata.MD) {
	_ = grpc.SetTrailer(c.ctx, md) // it fails outside a call only
}

// trailer is what the server adds to an error: which one it is, and pairs.
func trailer(exception string, pairs ...string) metadata.MD {
	return metadata.Pairs(append([]string{"exception", exception}, pairs...)...)
}

func refuseDeleted(call answering, name string) error {
	call.SetTrailer(trailer("stream-deleted", "stream-name", name))
	return status.Errorf(codes.FailedPrecondition, "Event stream '%s' is deleted.", name)
}

// refuseFollowing refuses a call that asks for the leader, on a node that is
// not (RpcExceptions.cs, LeaderInfo and NoLeaderInfo).
func (s *Server) refuseFollowing(call answering) error {
	now := s.roleNow()
	if now.leads || !asksForLeader(call.Context()) {
		return nil
	}
	if now.leader == "" {
		return status.Error(codes.Unknown, "No leader info available in response")
	}
	host, port := hostPort(now.leader)
	call.SetTrailer(trailer("not-leader", "leader-endpoint-host", host, "leader-endpoint-port", strconv.Itoa(int(port))))
	return status.Error(codes.NotFound, "Leader info available")
}

func asksForLeader(ctx context.Context) bool {
	values := metadata.ValueFromIncomingContext(ctx, "requires-leader")
	return len(values) > 0 && values[0] == "true"
}

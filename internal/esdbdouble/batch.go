package esdbdouble

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/emptypb"
)

// batch is a request of BatchAppend that may arrive in pieces.
type batch struct {
	correlation *shared.UUID
	options     *streams.BatchAppendReq_Options
	name        string
	expected    int64
	size        int
	events      []*record
}

// batchCall is one call of BatchAppend.
type batchCall struct {
	*Server
	call streams.Streams_BatchAppendServer

	sending sync.Mutex
	pending map[uuid.UUID]*batch
}

// BatchAppend implements streams.StreamsServer (Streams.BatchAppend.cs): many
// appends over one call, each answered by itself, each atomic by itself.
// Deadlines of requests are not kept.
func (s streamsService) BatchAppend(call streams.Streams_BatchAppendServer) error {
	b := &batchCall{Server: s.Server, call: call, pending: make(map[uuid.UUID]*batch)}
	var carrying sync.WaitGroup
	defer carrying.Wait()
	for {
		request, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		complete, refused := b.take(request)
		if refused != nil {
			if err := b.answer(refused); err != nil {
				return err
			}
		}
		if complete == nil {
			continue
		}
		if err := b.refuseFollowing(call); err != nil {
			return err
		}
		// A request with a fault waits by itself; the others keep their order.
		fault := b.faults.take(Appends, complete.name)
		b.calls.append(call.Context())
		if fault == nil {
			if err := b.carryOut(call.Context(), complete, nil); err != nil {
				return err
			}
			continue
		}
		carrying.Go(func() { _ = b.carryOut(call.Context(), complete, fault) })
	}
}

// take adds a piece of a request. It returns the request when it is complete,
// or the answer that refuses it.
func (b *batchCall) take(request *streams.BatchAppendReq) (complete *batch, refused *streams.BatchAppendResp) {
	id := idOf(request.GetCorrelationId())
	if options := request.GetOptions(); options != nil && b.pending[id] == nil {
		b.pending[id] = &batch{
			correlation: request.GetCorrelationId(), options: options,
			name: string(options.GetStreamIdentifier().GetStreamName()), expected: expectedOfBatch(options),
		}
	}
	pending := b.pending[id]
	if pending == nil {
		return nil, nil
	}
	for _, p := range request.GetProposedMessages() {
		event, missing := b.proposed(pending.name, p)
		if missing != "" {
			delete(b.pending, id)
			return nil, pending.refusal(codes.InvalidArgument, "BadRequest", &shared.BadRequest{Message: missing + " is missing"})
		}
		pending.size += sizeOf(event)
		pending.events = append(pending.events, event)
	}
	if pending.size > b.set.maxAppendSize {
		delete(b.pending, id)
		return nil, pending.refusal(codes.InvalidArgument, "MaximumAppendSizeExceeded",
			&shared.MaximumAppendSizeExceeded{MaxAppendSize: uint32(min(b.set.maxAppendSize, math.MaxUint32))})
	}
	if !request.GetIsFinal() {
		return nil, nil
	}
	delete(b.pending, id)
	return pending, nil
}

func expectedOfBatch(options *streams.BatchAppendReq_Options) int64 {
	switch expected := options.GetExpectedStreamPosition().(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		return int64(expected.StreamPosition)
	case *streams.BatchAppendReq_Options_NoStream:
		return expectNoStream
	case *streams.BatchAppendReq_Options_StreamExists:
		return expectStreamExists
	default:
		return expectAny
	}
}

func (b *batchCall) carryOut(ctx context.Context, request *batch, fault *Fault) error {
	if err := b.before(ctx, fault); err != nil {
		return b.answer(request.refusal(codes.DeadlineExceeded, "Timeout", &shared.Timeout{}))
	}
	v := b.cluster.append(request.name, request.expected, request.events)
	if err := b.instead(ctx, fault); err != nil {
		return b.answer(request.refusal(codes.DeadlineExceeded, "Timeout", &shared.Timeout{}))
	}
	return b.answer(b.answerTo(request, v))
}

func (b *batchCall) answer(response *streams.BatchAppendResp) error {
	b.sending.Lock()
	defer b.sending.Unlock()
	return b.call.Send(response)
}

func (b *batchCall) answerTo(request *batch, v verdict) *streams.BatchAppendResp {
	switch v.decision {
	case streamDeleted:
		return request.refusal(codes.NotFound, "StreamDeleted",
			&shared.StreamDeleted{StreamIdentifier: request.options.GetStreamIdentifier()})
	case wrongVersion:
		return request.refusal(codes.AlreadyExists, "WrongExpectedVersion", wrongVersionOfBatch(request, v))
	}
	success := &streams.BatchAppendResp_Success{
		CurrentRevisionOption: &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(v.last)},
		PositionOption:        &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}},
	}
	if v.last < 0 {
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}}
	}
	if at, ok := b.answered(v); ok {
		success.PositionOption = &streams.BatchAppendResp_Success_Position{
			Position: &shared.AllStreamPosition{CommitPosition: at, PreparePosition: at},
		}
	}
	response := request.response()
	response.Result = &streams.BatchAppendResp_Success_{Success: success}
	return response
}

func wrongVersionOfBatch(request *batch, v verdict) *shared.WrongExpectedVersion {
	wrong := &shared.WrongExpectedVersion{
		CurrentStreamRevisionOption: &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(v.current)},
	}
	if v.current < 0 {
		wrong.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	}
	switch request.expected {
	case expectAny:
		wrong.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	case expectStreamExists:
		wrong.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	case expectNoStream:
		wrong.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	default:
		wrong.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: uint64(request.expected)}
	}
	return wrong
}

func (r *batch) response() *streams.BatchAppendResp {
	return &streams.BatchAppendResp{CorrelationId: r.correlation, StreamIdentifier: r.options.GetStreamIdentifier()}
}

// refusal is an answer with an error (Status.cs).
func (r *batch) refusal(code codes.Code, message string, details protoadapt.MessageV1) *streams.BatchAppendResp {
	refused, err := status.New(code, message).WithDetails(details)
	if err != nil {
		panic(err) // details are messages of the protocol
	}
	response := r.response()
	response.Result = &streams.BatchAppendResp_Error{Error: refused.Proto()}
	return response
}

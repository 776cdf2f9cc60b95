package esdbdouble_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/stockledger/stockledger/internal/esdbdouble"
)

// stub is the Streams service of a double without the client.
func stub(t *testing.T, s *esdbdouble.Server) streams.StreamsClient {
	t.Helper()
	conn, err := grpc.NewClient(s.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return streams.NewStreamsClient(conn)
}

func protoID(id uuid.UUID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}
}

// batched is a request of BatchAppend for the events of a stream.
func batched(stream string, expected any, last bool, all ...esdb.EventData) *streams.BatchAppendReq {
	request := &streams.BatchAppendReq{CorrelationId: protoID(uuid.NewSHA1(uuid.Nil, []byte(stream))), IsFinal: last}
	options := &streams.BatchAppendReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)}}
	switch e := expected.(type) {
	case int:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: uint64(e)}
		request.Options = options
	case string:
		options.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
		request.Options = options
	}
	for _, e := range all {
		request.ProposedMessages = append(request.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{
			Id: protoID(e.EventID), Data: e.Data, CustomMetadata: e.Metadata,
			Metadata: map[string]string{"type": e.EventType, "content-type": "application/json"},
		})
	}
	return request
}

func TestBatchAppendAnswersEachRequestByItself(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "the client never uses BatchAppend")
	call, err := stub(t, s).BatchAppend(within(t))
	require.NoError(t, err)
	s.Inject(esdbdouble.LoseAnswer(codes.Aborted), esdbdouble.When{Kind: esdbdouble.Appends, Stream: esdbdouble.Prefix("lost"), Times: 1})
	for _, request := range []*streams.BatchAppendReq{
		batched("pieces", "no stream", false, events("pieces", 0, 1)...),
		batched("wrong", 4, true, event("wrong", 0)),
		batched("lost", "no stream", true, event("lost", 0)),
		batched("pieces", nil, true, event("pieces", 2)),
		batched("large", "no stream", true, esdb.EventData{EventType: "e", Data: make([]byte, 1<<20)}),
	} {
		require.NoError(t, call.Send(request))
	}
	require.NoError(t, call.CloseSend())
	got := make(map[string]string)
	for range 4 {
		response, err := call.Recv()
		require.NoError(t, err)
		outcome := fmt.Sprint(response.GetSuccess().GetCurrentRevision())
		if refused := response.GetError(); refused != nil {
			outcome = strings.TrimSpace(refused.GetMessage())
		}
		got[string(response.GetStreamIdentifier().GetStreamName())] = outcome
	}
	require.Equal(t, map[string]string{
		"pieces": "2", "wrong": "WrongExpectedVersion", "lost": "Timeout", "large": "MaximumAppendSizeExceeded",
	}, got)
	require.Len(t, s.Events("pieces"), 3)
	require.Len(t, s.Events("lost"), 1)
}

// What the client does not pass on is there all the same.
func TestAWrongVersionAnswersInFields(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "it needs no client")
	s.Write("a", make([]esdbdouble.Event, 3)...)
	call, err := stub(t, s).Append(within(t))
	require.NoError(t, err)
	require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("a")},
		ExpectedStreamRevision: &streams.AppendReq_Options_Revision{Revision: 7},
	}}}))
	require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
		Id: protoID(uuid.New()), Metadata: map[string]string{"type": "e", "content-type": "application/octet-stream"},
	}}}))
	response, err := call.CloseAndRecv()
	require.NoError(t, err)
	wrong := response.GetWrongExpectedVersion()
	require.Equal(t, uint64(2), wrong.GetCurrentRevision())
	require.Equal(t, uint64(7), wrong.GetExpectedRevision())
	require.Equal(t, uint64(2), wrong.GetCurrentRevision_20_6_0())
	require.Equal(t, uint64(7), wrong.GetExpectedRevision_20_6_0())
}

func TestMetadataOfTheSystemIsRequired(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "the client always sends it")
	for _, missing := range []string{"type", "content-type"} {
		call, err := stub(t, s).Append(within(t))
		require.NoError(t, err)
		require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
			StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte("a")},
			ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
		}}}))
		metadata := map[string]string{"type": "e", "content-type": "application/json"}
		delete(metadata, missing)
		require.NoError(t, call.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{
			ProposedMessage: &streams.AppendReq_ProposedMessage{Id: protoID(uuid.New()), Metadata: metadata},
		}}))
		_, err = call.CloseAndRecv()
		require.ErrorContains(t, err, "Required Metadata Property '"+missing+"' is missing")
	}
}

func TestAFilteredReadWithACount(t *testing.T) {
	s := esdbdouble.NeedsDouble(t, "the client has no filtered reads")
	for n := range 100 {
		s.Write([]string{"mine", "noise"}[n%2], esdbdouble.Event{Type: "e"})
	}
	for _, direction := range []streams.ReadReq_Options_ReadDirection{streams.ReadReq_Options_Forwards, streams.ReadReq_Options_Backwards} {
		options := &streams.ReadReq_Options{
			ReadDirection: direction,
			CountOption:   &streams.ReadReq_Options_Count{Count: 40},
			StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
				AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}},
			}},
			UuidOption: &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}},
			FilterOption: &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
				Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
					StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: []string{"mine"}},
				},
				Window: &streams.ReadReq_Options_FilterOptions_Max{Max: 10}, CheckpointIntervalMultiplier: 1,
			}},
		}
		if direction == streams.ReadReq_Options_Backwards {
			options.GetAll().AllOption = &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}}
		}
		call, err := stub(t, s).Read(within(t), &streams.ReadReq{Options: options})
		require.NoError(t, err)
		count := 0
		for {
			response, err := call.Recv()
			if err != nil {
				break
			}
			event := response.GetEvent().GetEvent()
			require.Equal(t, "mine", string(event.GetStreamIdentifier().GetStreamName()))
			id, err := uuid.Parse(event.GetId().GetString_())
			require.NoError(t, err)
			require.NotEqual(t, uuid.Nil, id)
			count++
		}
		require.Equal(t, 40, count)
	}
}

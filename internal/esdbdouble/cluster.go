package esdbdouble

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
)

type gossipService struct {
	gossip.UnimplementedGossipServer
	*Server
}

// Read implements gossip.GossipServer: it tells which nodes there are, where,
// and which of them leads, as far as this one knows.
func (s gossipService) Read(ctx context.Context, _ *shared.Empty) (*gossip.ClusterInfo, error) {
	if err := s.before(ctx, s.faults.take(GossipReads, "")); err != nil {
		return nil, err
	}
	info := &gossip.ClusterInfo{}
	for i, node := range s.cluster.nodes {
		info.Members = append(info.Members, node.member(i))
	}
	return info, nil
}

// member is the node as gossip has it.
func (s *Server) member(index int) *gossip.MemberInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	host, port := hostPort(s.address)
	most, least := halves(uuid.UUID{byte(index) + 1})
	m := &gossip.MemberInfo{
		InstanceId: &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
			MostSignificantBits: most, LeastSignificantBits: least,
		}}},
		State:        gossip.MemberInfo_Follower,
		IsAlive:      s.running != nil,
		HttpEndPoint: &gossip.EndPoint{Address: host, Port: port},
	}
	if s.role.leads {
		m.State = gossip.MemberInfo_Leader
	}
	return m
}

type featuresService struct {
	serverfeatures.UnimplementedServerFeaturesServer
	*Server
}

// GetSupportedMethods implements serverfeatures.ServerFeaturesServer
// (ServerFeatures.cs): the version, three numbers, and what the double has.
func (s featuresService) GetSupportedMethods(ctx context.Context, _ *shared.Empty) (*serverfeatures.SupportedMethods, error) {
	s.calls.features.Add(1)
	fault := s.faults.take(Features, "")
	if err := s.before(ctx, fault); err != nil {
		return nil, err
	}
	const service = "event_store.client.streams.streams"
	return &serverfeatures.SupportedMethods{
		EventStoreServerVersion: s.set.version,
		Methods: []*serverfeatures.SupportedMethod{
			{MethodName: "read", ServiceName: service, Features: []string{"position", "events"}},
			{MethodName: "append", ServiceName: service},
			{MethodName: "delete", ServiceName: service},
			{MethodName: "tombstone", ServiceName: service},
			{MethodName: "batchappend", ServiceName: service, Features: []string{"deadline_duration"}},
		},
	}, s.instead(ctx, fault)
}

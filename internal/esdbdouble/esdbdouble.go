// Package esdbdouble is a double of the EventStoreDB Streams service, for tests.
package esdbdouble

import (
	_ "github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	_ "github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	_ "github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	_ "github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	_ "google.golang.org/grpc"
)

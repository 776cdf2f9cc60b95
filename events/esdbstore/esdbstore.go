// Package esdbstore is the ledger's log in EventStoreDB or KurrentDB.
package esdbstore

import (
	_ "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	_ "google.golang.org/grpc"
)

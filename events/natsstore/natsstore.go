// Package natsstore is the ledger's log in a JetStream stream of a NATS server
// or cluster.
package natsstore

import (
	_ "github.com/nats-io/nats.go/jetstream"
	_ "github.com/synadia-io/orbit.go/jetstreamext"
)

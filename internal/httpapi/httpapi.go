// Package httpapi is the ledger on HTTP. It decides nothing: all it does is carry.
//
//	POST     /ledger/v1/commands/<command>   answered once the command is durable
//	GET|POST /ledger/v1/queries/<query>
//	POST     /ledger/v1/operations/<operation>
//	GET      /ledger/v1/events               every event of the log, as server-sent events
//	GET      /healthz /readyz /metrics /openapi.json
//
// A list of Routes is the one source of what is served, who may ask for it, and
// what /openapi.json says; other packages add theirs. Serve answers, Client is
// the other end of it.
package httpapi

import (
	"github.com/stockledger/stockledger/internal/transport"
)

// Ledger is what is carried to; *stockledger.Ledger is one.
type Ledger = transport.Ledger

// MaxBody is how many bytes the body of a request may have: room for the 20,000
// lines that a command may have, also where they are long.
const MaxBody = 8 << 20

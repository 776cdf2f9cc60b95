package natsstore

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/stockledger/stockledger/events"
)

// Passing reports whether an error is of servers that come and go.
func Passing(err error) bool { return passing(err) }

// OfServers are the errors of servers that come and go.
func OfServers() []error {
	return []error{errLost, errLate, errNobody, errUnsent, refused(&jetstream.APIError{Code: 400, ErrorCode: codeNoPeers})}
}

// OpenNarrow is Open with bounds so small that everything is beyond them.
func OpenNarrow(ctx context.Context, c Config) (*Store, error) {
	return open(ctx, c, bounds{warm: 3, page: 2, near: 1, ahead: 2, echoes: 2, group: 3})
}

// After reads the event after a position, which another server has said is there.
func (s *Store) After(ctx context.Context, position uint64) ([]events.Recorded, error) {
	return s.between(ctx, position, position+1)
}

// WhatBecameOf looks what became of a commit behind a position, which was sent and
// not answered.
func (s *Store) WhatBecameOf(ctx context.Context, head uint64, c events.Commit) (string, error) {
	g, err := s.group(&head, []events.Commit{c}, [][]events.Span{spansOf(c)})
	if err != nil {
		return "", err
	}
	_, became, err := s.fate(ctx, g)
	return [...]string{itIsUnderWay: "under way", itIsRecorded: "recorded", itIsNot: "not recorded"}[became], err
}

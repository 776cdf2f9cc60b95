package transport_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/transport"
)

// headers reads lines of the form "name: value".
func headers(text string) map[string][]string {
	all := make(map[string][]string)
	for line := range strings.SplitSeq(text, "\n") {
		name, value, _ := strings.Cut(line, ":")
		all[name] = append(all[name], strings.TrimSpace(value))
	}
	return all
}

// Whatever headers a command comes with, they are refused by name, or are an
// envelope that is written as headers and read again the same.
func FuzzEnvelope(f *testing.F) {
	for _, text := range []string{
		"", "Idempotency-Key: order-1", "idempotency-key: a\nIdempotency-Key: b", "Idempotency-Key:", "Ledger-Actor: anna\nLedger-Reason: count",
		"Ledger-Dry-Run: true", "Ledger-Dry-Run: perhaps", "Ledger-Dryrun: true", "Ledger-Effective-At: 2026-01-31T13:45:00.123456789Z",
		"Ledger-Effective-At: 0001-01-01T00:00:00Z", "Ledger-Effective-At: 9999-12-31T23:59:59-23:59", "LEDGER-REFERENCE: order:1",
		"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Content-Type: text/plain\nX: y", "Ledger-\u017fctor: x",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		env, err := transport.Envelope(headers(text))
		if err != nil {
			refusal := fault.Of(err)
			require.Equal(t, "invalid_header", refusal.Code, "%v", err)
			require.NotNil(t, refusal.Details["header"])
			return
		}
		again, err := transport.Envelope(transport.Headers(env))
		require.NoError(t, err)
		require.True(t, env.Effective.Equal(again.Effective))
		env.Effective, again.Effective = time.Time{}, time.Time{}
		require.Equal(t, env, again)
	})
}

// Whatever the log holds, an event of the feed is refused, or is one that clients
// read as it was written.
func FuzzEventOf(f *testing.F) {
	f.Add("inventory.stock-adjusted.v1", []byte(`{"item_id":"cup","level_id":"L","location_id":"paris","delta":-1,"stocked_quantity":2,"reserved_quantity":0}`),
		[]byte(`{"command":"adjust-inventory-levels","command_id":"k","recorded_at":"2026-01-31T13:45:00Z","part":1,"parts":1}`))
	f.Add("inventory.reservation-moved.v1", []byte(`{"item_id":"cup","reservation_id":"r","quantity":1e17}`), []byte(`{}`))
	f.Add("inventory.command-accepted.v1", []byte(`{}`), []byte(`{"answer":{"a":[]}}`))
	f.Add("inventory.item-created.v1", []byte(`{"attributes":{"metadata":{"a":{"b":[[[1]]]}}}}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, eventType string, data, meta []byte) {
		e, err := transport.EventOf(events.Recorded{Position: 1, Stream: "item-cup", Version: 1, Type: eventType, Data: data, Meta: meta})
		if err != nil {
			return
		}
		require.NotNil(t, e.Before)
		require.NotNil(t, e.After)
		sent, err := json.Marshal(e)
		if err != nil {
			require.ErrorContains(t, err, "Time", "only a time that no RFC 3339 has cannot be sent")
			return
		}
		var come transport.Event
		require.NoError(t, json.Unmarshal(sent, &come), "%s", sent)
		again, err := json.Marshal(come)
		require.NoError(t, err)
		require.Equal(t, string(sent), string(again))
	})
}

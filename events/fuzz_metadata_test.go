package events_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
)

// Whatever a log holds as metadata, reading it fails or settles: what was read is
// written and read again the same, and without its answer it is the same but for
// the answer.
func FuzzMetadata(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add([]byte(r.Meta))
	}
	for _, odd := range []string{
		"", "null", "{}", "[]", `{"part":-1,"parts":1e99}`, `{"recorded_at":"yesterday"}`, `{"actor":"\ud800"}`, `{"actor":"a","actor":"b"}`,
		`{"answer":{"result":[1,{"a":null}]},"actor":"a"}`, `{"unknown":[[[[]]]]}`,
	} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		meta, err := events.Recorded{Meta: data}.Metadata()
		if err != nil {
			return
		}
		origin, err := events.Recorded{Meta: data}.Origin()
		require.NoError(t, err, "what can be read can be read in part")
		written := writtenMeta(t, meta)
		again, err := events.Recorded{Meta: written}.Metadata()
		require.NoError(t, err, "%s", written)
		require.Equal(t, string(written), string(writtenMeta(t, again)))
		meta.Answer = nil
		require.Equal(t, string(writtenMeta(t, meta)), string(writtenMeta(t, origin)))
	})
}

func writtenMeta(t *testing.T, meta events.Meta) []byte {
	written, err := json.Marshal(meta)
	require.NoError(t, err)
	return written
}

// What is recorded of any fact is what encoding/json writes of it, to the byte:
// hashes of the first day and of today are over the same form.
func FuzzRecorded(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add(r.Type, []byte(r.Data), []byte(r.Meta))
	}
	f.Fuzz(func(t *testing.T, eventType string, data, metadata []byte) {
		fact, err := events.Decode(eventType, data)
		if err != nil {
			return
		}
		meta, err := events.Recorded{Meta: metadata}.Metadata()
		if err != nil {
			return
		}
		e, err := events.Record("item-x", 0, events.Hash{}, fact, &meta)
		wantData, dataErr := json.Marshal(fact)
		wantMeta, metaErr := json.Marshal(meta)
		if dataErr != nil || metaErr != nil {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, string(wantData), string(e.Data))
		require.Equal(t, string(wantMeta), string(e.Meta))
		stored := events.Recorded{Stream: e.Stream, Version: e.Version, Type: e.Type, Data: e.Data, Meta: e.Meta, Prev: e.Prev, Hash: e.Hash}
		require.NoError(t, stored.Verify(events.Recorded{}))
		_, err = stored.Fact()
		require.NoError(t, err)
		_, err = stored.Metadata()
		require.NoError(t, err)
	})
}

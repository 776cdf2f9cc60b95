package evidence

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/memstore"
	"github.com/stockledger/stockledger/internal/fault"
)

// exported is a log of a few events as a file.
func exported(f *testing.F) []byte {
	store := memstore.New()
	defer store.Close()
	meta := events.Meta{Command: "c", CommandID: "k", Recorded: time.Date(2026, 1, 31, 13, 45, 0, 0, time.UTC), Part: 1, Parts: 2}
	first, err := events.Record("item-cup", 0, events.Hash{}, events.ItemCreated{ItemID: "cup"}, &meta)
	require.NoError(f, err)
	meta.Part = 2
	second, err := events.Record("item-cup", 1, first.Hash, events.ItemDeleted{ItemID: "cup"}, &meta)
	require.NoError(f, err)
	_, err = store.Append(f.Context(), events.Commit{first, second})
	require.NoError(f, err)
	var file bytes.Buffer
	_, err = Export(f.Context(), store, &file, nil)
	require.NoError(f, err)
	return file.Bytes()
}

// readAgain reads an export and writes what it read.
func readAgain(from io.Reader) ([]byte, error) {
	in := newReader(from)
	log, err := in.header()
	if err != nil {
		return nil, err
	}
	written := headerLine(log)
	for commit, err := range in.commits() {
		if err != nil {
			return nil, err
		}
		for _, e := range commit {
			written = appendEvent(written, e)
		}
	}
	return append(written, trailerLine(in.head)...), nil
}

// Whatever a file holds, it is refused, naming the line, or is an export to the
// byte.
func FuzzImport(f *testing.F) {
	whole := exported(f)
	f.Add(whole)
	for _, line := range bytes.SplitAfter(whole, []byte("\n")) {
		f.Add(line)
		f.Add(append(bytes.SplitAfterN(bytes.Clone(whole), []byte("\n"), 2)[0], line...))
		f.Add(bytes.Replace(whole, line, nil, 1))
		f.Add(bytes.Replace(whole, line, append(bytes.Clone(line), line...), 1))
	}
	for _, odd := range []string{"", "\n", "null\n", "\xef\xbb\xbf{}\n", `{"format":"stockledger.log.v2","log":"x"}` + "\n"} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		again, err := readAgain(bytes.NewReader(file))
		if err != nil {
			require.Equal(t, fault.Invalid, fault.Of(err).Kind, "%v", err)
			return
		}
		require.Equal(t, string(file), string(again))
	})
}

// Whatever is in the file that a head was kept in, the head of the log is right.
func FuzzSavedHead(f *testing.F) {
	store := memstore.New()
	f.Cleanup(func() { _ = store.Close() })
	meta := events.Meta{Command: "c", CommandID: "k", Recorded: time.Date(2026, 1, 31, 13, 45, 0, 0, time.UTC), Part: 1, Parts: 1}
	e, err := events.Record("item-cup", 0, events.Hash{}, events.ItemCreated{ItemID: "cup"}, &meta)
	require.NoError(f, err)
	_, err = store.Append(f.Context(), events.Commit{e})
	require.NoError(f, err)
	right, err := HeadOf(context.Background(), store, "", nil)
	require.NoError(f, err)
	path := f.TempDir() + "/head.json"
	_, err = HeadOf(context.Background(), store, path, nil)
	require.NoError(f, err)
	kept, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(kept)
	for _, odd := range []string{"", "null", "{}", `{"position":1}`, `{"position":18446744073709551615}`} {
		f.Add([]byte(odd))
	}
	f.Fuzz(func(t *testing.T, saved []byte) {
		require.NoError(t, write(path, saved))
		got, err := HeadOf(t.Context(), store, path, nil)
		require.NoError(t, err)
		require.Equal(t, right, got)
	})
}

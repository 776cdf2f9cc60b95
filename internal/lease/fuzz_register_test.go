package lease

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// kept is a register that holds what somebody has put there.
type kept []byte

func (k kept) Get(context.Context) ([]byte, uint64, error)         { return k, 7, nil }
func (k kept) Set(context.Context, uint64, []byte) (uint64, error) { return 8, nil }

// Whatever is in the register, it is not read, or is a lease that a node judges
// without falling over.
func FuzzRegister(f *testing.F) {
	for _, value := range []string{
		"", "null", "{}", "[]", `{"id":"a","node":"ledger-1","term":3,"renewal":9,"info":{"http":"http://127.0.0.1:1"}}`,
		`{"id":"a","released":true}`, `{"term":-1}`, `{"info":{"a":1}}`, `{"term":18446744073709551615}`,
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		l := New(Config{Register: kept(value), Node: "ledger-2", Logger: slog.New(slog.DiscardHandler)})
		s, revision, err := l.read(t.Context())
		if err != nil {
			return
		}
		var seen sight
		seen.look(revision, time.Unix(0, 0))
		l.note(s, revision, l.free(s, &seen))
		_ = l.Holder()
		_ = s.term(revision)
	})
}

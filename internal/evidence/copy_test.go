package evidence_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/internal/evidence"
	"github.com/stockledger/stockledger/internal/fault"
)

// emptyCopy is a log of the identity of l, with nothing in it.
func emptyCopy(l *ledger) *ledger {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "copy.db")
	store, err := sqlitestore.Create(path, l.LogID())
	require.NoError(l.t, err)
	l.t.Cleanup(func() { require.NoError(l.t, store.Close()) })
	return &ledger{Store: store, t: l.t, path: path, ends: make(map[string]events.Recorded)}
}

// beginning is a copy of the first n commits of l.
func beginning(l *ledger, n int) *ledger {
	l.t.Helper()
	copied := emptyCopy(l)
	var commit events.Commit
	for _, e := range l.all() {
		if n == 0 {
			break
		}
		commit = append(commit, e)
		meta, err := e.Metadata()
		require.NoError(l.t, err)
		if meta.Last() {
			_, err := copied.Append(l.t.Context(), commit)
			require.NoError(l.t, err)
			commit = nil
			n--
		}
	}
	return copied
}

func TestACopyIsTheSameLogWhereverItWasInterrupted(t *testing.T) {
	for _, n := range []int{0, 1, 9, 600} {
		l := newLedger(t)
		l.commits(n)
		for _, had := range []int{0, 1, 4, n / 2, n} {
			if had > n {
				continue
			}
			to := beginning(l, had)
			found := uint64(len(to.all()))
			copied, err := evidence.Copy(t.Context(), l.Store, to.Store, nil)
			require.NoError(t, err)
			require.Equal(t, evidence.Copied{Head: l.head(""), Found: found, Added: uint64(len(l.all())) - found}, copied)
			require.True(t, bytes.Equal(l.export(), to.export()), "to the byte")
			again, err := evidence.Copy(t.Context(), l.Store, to.Store, nil)
			require.NoError(t, err)
			require.Equal(t, evidence.Copied{Head: copied.Head, Found: copied.Head.Position}, again, "there is nothing left to do")
		}
	}
}

func TestACopyIsOfTheLogAsItWasAtTheStart(t *testing.T) {
	l := newLedger(t)
	l.commits(1500)
	before := l.head("")
	to := emptyCopy(l)
	copied, err := evidence.Copy(t.Context(), l.Store, to.Store, func(string, uint64, uint64) { l.commit("item-a") })
	require.NoError(t, err)
	require.Equal(t, before, copied.Head)
	require.Equal(t, before, to.head(""))
	copied, err = evidence.Copy(t.Context(), l.Store, to.Store, nil)
	require.NoError(t, err)
	require.Equal(t, before.Position, copied.Found)
	require.Equal(t, l.head(""), to.head(""), "and the rest comes the next time")
}

// Two copies at once, or a ledger that is served from the target meanwhile.
func TestACopyNeverWritesBehindWhatItDidNotCopy(t *testing.T) {
	l := newLedger(t)
	l.commits(1500)
	to := emptyCopy(l)
	_, err := evidence.Copy(t.Context(), l.Store, to.Store, func(string, uint64, uint64) { to.commit("item-of-somebody-else") })
	require.ErrorIs(t, err, events.ErrConflict)
	require.ErrorContains(t, err, "another copy, or a ledger, writes to it")
	_, err = evidence.Copy(t.Context(), l.Store, to.Store, nil)
	requireFault(t, fault.Conflict, "target_differs", err)
}

func TestACopyGoesToTheBeginningOfTheSameLogOnly(t *testing.T) {
	l := newLedger(t)
	l.commits(20)
	refused := func(code string, from, to *ledger) *fault.Error {
		t.Helper()
		before := to.export()
		_, err := evidence.Copy(t.Context(), from.Store, to.Store, nil)
		refusal := requireFault(t, fault.Conflict, code, err)
		require.True(t, bytes.Equal(before, to.export()), "the target is as it was")
		return refusal
	}
	refused("target_is_another_log", l, newLedger(t))
	refused("target_is_ahead", beginning(l, 5), l)

	apart := beginning(l, 5)
	apart.commit("item-d", "item-d")
	parted := apart.head("").Position - 1
	refusal := refused("target_differs", l, apart)
	require.Equal(t, parted, refusal.Details["position"])
	require.Contains(t, refusal.Message, "item-d@1")

	rewritten := beginning(l, 10).reopened(func(db *sql.DB) { rewrite(t, db, 4) })
	refusal = refused("target_differs", l, rewritten)
	require.EqualValues(t, 4, refusal.Details["position"])
}

// What is wrong with either log ends a copy, and nothing that is wrong is copied.
func TestADamagedLogIsNotCopied(t *testing.T) {
	all := newLedger(t)
	all.commits(20)
	all.commit("item-a", "item-b")
	for name, tc := range map[string]struct{ change, says string }{
		"a byte":          {`UPDATE events SET data = CAST(data || ' ' AS BLOB) WHERE position = 7`, "position 7: the bytes of"},
		"a missing event": {`DELETE FROM events WHERE position = 7`, "position 8 where 7 follows"},
		"half a commit":   {`DELETE FROM events WHERE position = (SELECT max(position) FROM events)`, "in the middle of command"},
	} {
		damage := func(l *ledger) *ledger {
			return l.reopened(func(db *sql.DB) {
				l.exec(db, tc.change)
				l.exec(db, "DELETE FROM places")
				l.exec(db, "UPDATE meta SET value = 0 WHERE name = 'indexed'")
			})
		}
		from := damage(beginning(all, all.made))
		to := emptyCopy(all)
		_, err := evidence.Copy(t.Context(), from.Store, to.Store, nil)
		require.ErrorContains(t, err, "source: ", name)
		require.ErrorContains(t, err, tc.says, name)
		require.Less(t, len(to.all()), len(all.all()), name)

		_, err = evidence.Copy(t.Context(), all.Store, damage(beginning(all, all.made)).Store, nil)
		require.Error(t, err, name)
	}
}

// Each event is right by itself, and one does not continue its stream.
func TestABrokenChainIsNotCopied(t *testing.T) {
	l := newLedger(t)
	for range 5 {
		l.commit("item-a")
	}
	from := beginning(l, 5).reopened(func(db *sql.DB) {
		e := l.all()[2]
		e.Data = []byte(`{"sku":"another"}`)
		hash := e.Link()
		_, err := db.ExecContext(t.Context(), "UPDATE events SET data = ?, hash = ? WHERE position = 3", e.Data, hash[:])
		require.NoError(t, err)
	})
	to := emptyCopy(l)
	_, err := evidence.Copy(t.Context(), from.Store, to.Store, nil)
	refusal := requireFault(t, fault.Conflict, "log_damaged", err)
	require.Contains(t, refusal.Message, "item-a@4: does not continue the chain of version 3")
	require.Empty(t, to.all())
}

func TestACopyEndsWithItsContext(t *testing.T) {
	l := newLedger(t)
	l.commits(1500)
	ctx, cancel := context.WithCancel(t.Context())
	to := emptyCopy(l)
	_, err := evidence.Copy(ctx, l.Store, to.Store, func(string, uint64, uint64) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	copied, err := evidence.Copy(t.Context(), l.Store, to.Store, nil)
	require.NoError(t, err)
	require.Positive(t, copied.Found)
	require.Equal(t, l.head(""), to.head(""))
}

// A commit is never divided, however large it is beside a group.
func TestACopyKeepsCommitsWhole(t *testing.T) {
	l := newLedger(t)
	streams := make([]string, 2500)
	for i := range streams {
		streams[i] = fmt.Sprint("item-", i)
	}
	l.commit("item-a")
	l.commit(streams...)
	l.commits(5)
	to := emptyCopy(l)
	_, err := evidence.Copy(t.Context(), l.Store, to.Store, func(_ string, done, _ uint64) {
		head, err := to.Head(t.Context())
		require.NoError(t, err)
		require.NotContains(t, []uint64{1000, 2000}, head)
	})
	require.NoError(t, err)
	require.Equal(t, l.head(""), to.head(""))
}

// Nor is one that has more bytes than are otherwise appended at once.
func TestACopyKeepsLargeCommitsWhole(t *testing.T) {
	l := newLedger(t)
	l.commit("item-a")
	var large events.Commit
	for part := range 4 {
		meta := &events.Meta{CommandID: "large", Recorded: start, Part: part + 1, Parts: 4}
		e, err := events.Record(fmt.Sprint("sku-", part), 0, events.Hash{}, events.SKUClaimed{SKU: strings.Repeat("x", 3<<20)}, meta)
		require.NoError(t, err)
		large = append(large, e)
	}
	_, err := l.Append(t.Context(), large)
	require.NoError(t, err)
	l.commits(5)
	to := emptyCopy(l)
	_, err = evidence.Copy(t.Context(), l.Store, to.Store, nil)
	require.NoError(t, err)
	require.Equal(t, l.head(""), to.head(""))
}

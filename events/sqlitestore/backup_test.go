package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/events/sqlitestore"
	"github.com/stockledger/stockledger/events/storetest"
	"github.com/stockledger/stockledger/internal/race"
)

// appending appends until it is told to stop.
func appending(t *testing.T, s events.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var a storetest.Author
		for n := 0; ctx.Err() == nil; n++ {
			own := fmt.Sprintf("busy-%d", n%50)
			if _, err := s.Append(context.WithoutCancel(ctx), a.Commit(own, own+"-b", own), a.Commit("hot")); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

// awaitAppend returns once something is appended that was not there.
func awaitAppend(t *testing.T, s events.Store) {
	t.Helper()
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, err := range s.Subscribe(ctx, head) {
		require.NoError(t, err)
		return
	}
}

func TestBackup_while_others_append_is_a_log_of_its_own(t *testing.T) {
	for _, bound := range []string{"", "narrow"} {
		t.Run("bound="+bound, func(t *testing.T) {
			dir := t.TempDir()
			s, err := openers[bound](filepath.Join(dir, "log.db"))
			require.NoError(t, err)
			defer s.Close()
			var a storetest.Author
			rounds := 12 // several statements for the events, and for the index
			if race.On {
				rounds = 3
			}
			for range rounds {
				commits := make([]events.Commit, 1000)
				for n := range commits {
					commits[n] = a.Commit(fmt.Sprintf("item-%d", n%700))
				}
				_, err := s.Append(t.Context(), commits...)
				require.NoError(t, err)
			}
			stop := appending(t, s)
			before, err := s.Head(t.Context())
			require.NoError(t, err)
			var told []string
			copied := filepath.Join(dir, "copy.db")
			require.NoError(t, s.Backup(t.Context(), copied, func(stage string, done, total uint64) {
				require.LessOrEqual(t, done, total)
				if told = append(told, stage); len(told) == 1 {
					awaitAppend(t, s) // they go on meanwhile, however slow the disk is
				}
			}))
			stop()
			require.Contains(t, told, "copy events")

			info, err := os.Stat(copied)
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
			for range 2 { // opened once, closed, and opened again
				c, err := openers[bound](copied)
				require.NoError(t, err)
				require.Equal(t, s.LogID(), c.LogID())
				got, want := wholeLog(t, c), wholeLog(t, s)
				require.GreaterOrEqual(t, uint64(len(got)), before)
				for i := range got { // both verify, and so hashes say it all
					require.Equal(t, want[i].Hash, got[i].Hash)
				}
				require.NoError(t, c.Close())
			}
			c, err := openers[bound](copied)
			require.NoError(t, err)
			defer c.Close()
			_, err = c.Append(t.Context(), a.Commit("item-0"))
			require.NoError(t, err, "it can be continued")
		})
	}
}

func TestBackup_of_an_empty_log(t *testing.T) {
	s, err := sqlitestore.Open(filepath.Join(t.TempDir(), "log.db"))
	require.NoError(t, err)
	defer s.Close()
	copied := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, s.Backup(t.Context(), copied, nil))
	c, err := sqlitestore.Open(copied)
	require.NoError(t, err)
	defer c.Close()
	require.Empty(t, wholeLog(t, c))
	require.Equal(t, s.LogID(), c.LogID())
}

func TestBackup_that_fails_leaves_nothing(t *testing.T) {
	dir := t.TempDir()
	s, err := sqlitestore.Open(filepath.Join(dir, "log.db"))
	require.NoError(t, err)
	defer s.Close()
	var a storetest.Author
	for range 20 {
		commits := make([]events.Commit, 1000)
		for n := range commits {
			commits[n] = a.Commit(fmt.Sprintf("item-%d", n))
		}
		_, err := s.Append(t.Context(), commits...)
		require.NoError(t, err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")

	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, s.Backup(ctx, copied, func(string, uint64, uint64) { cancel() }), context.Canceled)
	_, err = os.Stat(copied)
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, os.WriteFile(copied, []byte("something"), 0o600))
	require.ErrorIs(t, s.Backup(t.Context(), copied, nil), fs.ErrExist)
	kept, err := os.ReadFile(copied)
	require.NoError(t, err)
	require.Equal(t, "something", string(kept))

	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Backup(t.Context(), filepath.Join(dir, "other.db"), nil), events.ErrClosed)
	_, err = os.Stat(filepath.Join(dir, "other.db"))
	require.True(t, errors.Is(err, fs.ErrNotExist))
}

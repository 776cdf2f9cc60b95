package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	_ "modernc.org/sqlite"
)

// A log with an event that nobody can read does not open as a ledger. That it is
// damaged, and where, is what verify is asked for.
func TestALogThatDoesNotOpenIsVerifiedAllTheSame(t *testing.T) {
	t.Parallel()
	dir := spoilt(t)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "models")))
	db, err := sql.Open("sqlite", filepath.Join(dir, "log.db"))
	require.NoError(t, err)
	_, err = db.Exec(`UPDATE events SET meta = x'00' WHERE position = 5`)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	code, out, errs := ran(t, "verify", "--data", dir)

	require.Equal(t, exitFailed, code)
	require.Regexp(t, `(?m)^wrong: .*event 5\b`, out)
	require.Contains(t, errs, "only the log could be verified: ")
}

// What is not checked must not look like what is right.
func TestAnEmptyNameOfAHeadIsAMistake(t *testing.T) {
	t.Parallel()
	dir := spoilt(t)
	for _, args := range [][]string{
		{"head", "--check", "", "--data", dir},
		{"head", "--check", "x", "--key", "", "--data", dir},
		{"import-log", "-", "--head", "", "--data", filepath.Join(dir, "copy")},
	} {
		code, _, errs := ran(t, args...)
		require.Equal(t, exitFailed, code, args)
		require.Contains(t, errs, "it names no file", args)
	}
}

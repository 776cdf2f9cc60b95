//go:build race

// Package race says whether a test runs under the race detector, which makes SQLite
// some twenty times slower unless it is left out, as the README's command has it, and all
// else several times.
package race

// On says so.
const On = true

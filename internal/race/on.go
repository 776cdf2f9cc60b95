//go:build race

// Package race says whether a test runs under the race detector, which makes SQLite
// some twenty times slower.
package race

// On says so.
const On = true

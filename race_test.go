//go:build race

package stockledger_test

// raceDetector makes everything take ten times as long.
const raceDetector = true

//go:build !race

package stockledger_test

const raceDetector = false

//go:build race

package main

// raceDetector makes everything take ten times as long.
const raceDetector = true

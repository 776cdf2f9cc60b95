//go:build !race

package race

// On says so.
const On = false

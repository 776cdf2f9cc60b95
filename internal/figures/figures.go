// Package figures writes and sums up what was measured.
package figures

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Thousands writes a figure with three digits that mean something, or all of them
// before the point: 92,104, 1.31, 0.0042.
func Thousands[N int | int64 | uint64 | float64](n N) string {
	v := float64(n)
	if math.Abs(v) < 100 {
		return strconv.FormatFloat(rounded(v), 'f', -1, 64)
	}
	text := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	var b strings.Builder
	if v < 0 {
		b.WriteByte('-')
	}
	for i, digit := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// rounded is v to three digits.
func rounded(v float64) float64 {
	if v == 0 {
		return 0
	}
	unit := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*unit) / unit
}

// Median is the middle one of some values, or the mean of the two in the middle; 0 of
// none.
func Median[N ~int64 | ~float64](of []N) N {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

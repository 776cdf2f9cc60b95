package projections

import (
	"fmt"
	"strings"

	"github.com/stockledger/stockledger/events"
)

// Quantities are stored as text in plain notation, exactly as
// [events.Quantity.String] writes them, in columns with the collation decimal,
// so that comparing and ordering them in SQL is exact, too.

// compareDecimals is the collation: it orders numbers in plain notation, such as
// -12.5, without rounding.
func compareDecimals(a, b string) int {
	a, aNegative := strings.CutPrefix(a, "-")
	b, bNegative := strings.CutPrefix(b, "-")
	switch {
	case aNegative && bNegative:
		a, b = b, a
	case aNegative:
		return -1
	case bNegative:
		return 1
	}
	aWhole, aRest, _ := strings.Cut(a, ".")
	bWhole, bRest, _ := strings.Cut(b, ".")
	switch {
	case len(aWhole) < len(bWhole):
		return -1
	case len(aWhole) > len(bWhole):
		return 1
	case aWhole != bWhole:
		return strings.Compare(aWhole, bWhole)
	}
	return strings.Compare(aRest, bRest)
}

// parseStored reads a stored quantity. Unlike one from outside it may be a sum,
// with more digits than [events.ParseQuantity] takes.
func parseStored(s string) (events.Quantity, error) {
	q, err := events.ParseQuantity(s)
	if err == nil {
		return q, nil
	}
	digits, negative := strings.CutPrefix(s, "-")
	whole, rest, _ := strings.Cut(digits, ".")
	for _, digit := range whole {
		if digit < '0' || digit > '9' {
			return q, fmt.Errorf("stored quantity: %w", err)
		}
		q = tenTimes(q).Plus(events.Units(int64(digit - '0')))
	}
	if rest != "" {
		fraction, err := events.ParseQuantity("0." + rest)
		if err != nil {
			return q, fmt.Errorf("stored quantity: %w", err)
		}
		q = q.Plus(fraction)
	}
	if negative {
		q = q.Negated()
	}
	return q, nil
}

func tenTimes(q events.Quantity) events.Quantity {
	q = q.Plus(q)
	four := q.Plus(q)
	return four.Plus(four).Plus(q)
}

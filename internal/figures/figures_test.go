package figures_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/figures"
)

func TestFiguresHaveThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.00123456: "0.00123", 0.2512: "0.251", 1.005: "1", 9.996: "10", 47.25: "47.3", 99.97: "100", 999.4: "999", 1234.6: "1,235", 92104: "92,104", 1e6: "1,000,000",
	} {
		require.Equal(t, want, figures.Thousands(v))
	}
	require.Equal(t, "1,248,112", figures.Thousands(uint64(1248112)))
	require.Equal(t, "-1,000", figures.Thousands(-1000))
}

func TestMedians(t *testing.T) {
	require.InDelta(t, 2.5, figures.Median([]float64{4, 1, 2, 3}), 0)
	require.Equal(t, 2*time.Second, figures.Median([]time.Duration{time.Second, time.Minute, 2 * time.Second}))
	require.Zero(t, figures.Median([]float64{}))
}

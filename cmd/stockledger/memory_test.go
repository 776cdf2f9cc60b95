package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheHeapMayGrowByWhatIsLeftOfItsMemory(t *testing.T) {
	for alive, want := range map[uint64]int{
		0: 200, 80 << 20: 200, 213 << 20: 200, 320 << 20: 100, 400 << 20: 60, 427 << 20: 50, 4 << 30: 50,
	} {
		require.Equal(t, want, growth(alive), "%d MiB", alive>>20)
	}
}

func TestGarbageIsPacedAfterEveryCollection(t *testing.T) {
	t.Setenv("GOGC", "")
	paceGarbage()
	paced := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	require.EqualValues(t, mostGrowth, paced())
	held := make([]byte, 400<<20) // most of it is never touched, and takes no memory
	require.Eventually(t, func() bool { runtime.GC(); return paced() < mostGrowth }, patienceInTests, time.Millisecond)
	runtime.KeepAlive(held)
	require.Eventually(t, func() bool { runtime.GC(); return paced() == mostGrowth }, patienceInTests, time.Millisecond)
}

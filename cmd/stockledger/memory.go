package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// The memory of Go, garbage and all, is to stay below memoryAim while that can be had
// for little: the rest of 1 GiB is left to SQLite. Where little is alive, garbage is
// collected seldom; where much is, it is never collected more often than after
// leastGrowth, as a limit would have it, which takes most of the processors in the end.
const (
	memoryAim   = 640 << 20
	leastGrowth = 50 // percent of what is alive
	mostGrowth  = 200
)

// growth is by how many percent the heap may grow over what is alive, until garbage is
// collected.
func growth(alive uint64) int {
	room := 100*memoryAim/float64(max(alive, 1)) - 100
	return int(min(max(room, leastGrowth), mostGrowth))
}

// paceGarbage sets that anew after every collection, for the whole process, unless
// GOGC is in the environment.
var paceGarbage = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(mostGrowth)
		onCollection()
	}
})

// onCollection is called back when what it leaves behind is collected.
func onCollection() {
	runtime.SetFinalizer(&struct{ self *int }{}, func(any) {
		alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(alive)
		debug.SetGCPercent(growth(alive[0].Value.Uint64()))
		onCollection()
	})
}

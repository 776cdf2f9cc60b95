//go:build !linux

package bench

import (
	"os"
	"syscall"
	"time"
)

// syncData waits until the bytes of a file are on disk.
func syncData(f *os.File) error { return f.Sync() }

// quietDisks does nothing here.
func quietDisks() {}

// processorTime is not known here.
func processorTime() time.Duration { return 0 }

// asUser starts a process as the user that this one runs as.
func asUser(uint32, uint32) *syscall.SysProcAttr { return nil }

//go:build linux || darwin

package telemetry

import "syscall"

// diskOf is how many bytes are free for us on the disk of a directory, and how
// many it has.
func diskOf(dir string) (free, size uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize) //nolint:gosec // G115: it is positive
	return s.Bavail * block, s.Blocks * block, nil
}

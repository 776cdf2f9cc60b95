//go:build !linux && !darwin

package telemetry

import "errors"

// diskOf is how many bytes are free for us on the disk of a directory, and how
// many it has.
func diskOf(string) (free, size uint64, err error) {
	return 0, 0, errors.ErrUnsupported
}

package telemetry

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// filesIn is how many bytes the files in a directory have. A file that goes
// away meanwhile does not count.
func filesIn(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				size += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return size, err
}

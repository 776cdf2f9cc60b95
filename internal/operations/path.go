package operations

import (
	"path/filepath"
	"strings"

	"github.com/stockledger/stockledger/internal/fault"
)

// mayWrite refuses a path that means something else here than to whoever wrote
// it, and one among the files of the ledger itself. That nothing is replaced is
// for whoever writes there.
func (o *Operations) mayWrite(path string) error {
	refuse := func(code, message string, args ...any) error {
		return fault.New(fault.Invalid, code, message, args...).With("field", "to").With("to", path)
	}
	switch {
	case path == "":
		return refuse("invalid_data", "say where to write, with to: an absolute path on the machine of the ledger")
	case strings.ContainsRune(path, 0), !filepath.IsAbs(path), filepath.Clean(path) != path:
		return refuse("path_not_absolute", "%q is no absolute path without . and ..; the ledger writes on its own machine, from whichever directory it runs in", path)
	case inside(resolved(o.dir), resolved(path)):
		return refuse("path_in_data", "%s is in the data directory of the ledger, which is for its own files; choose another place", path)
	}
	return nil
}

// inside reports whether path is dir or below it.
func inside(dir, path string) bool {
	below, err := filepath.Rel(dir, path)
	return err == nil && below != ".." && !strings.HasPrefix(below, ".."+string(filepath.Separator))
}

// resolved is a path without symbolic links, as far as there is something.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	parent := filepath.Dir(path)
	if parent == path {
		return filepath.Clean(path)
	}
	return filepath.Join(resolved(parent), filepath.Base(path))
}

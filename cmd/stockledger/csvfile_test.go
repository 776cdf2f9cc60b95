package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file whose lines end as on old Macs is one line, which would be taken for the
// names of columns above no rows.
func TestAFileOfOneLineThatIsManyIsNoEmptyOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mac.csv")
	require.NoError(t, os.WriteFile(path, []byte("sku,title\rMUG-RED,Red mug\rMUG-BLUE,Blue mug\r"), 0o600))
	_, err := csvFile{path}.header()
	require.ErrorContains(t, err, "mac.csv: its lines end with a carriage return alone; convert it, such as with: tr '\\r' '\\n'")

	require.NoError(t, os.WriteFile(path, []byte("sku,\"title\r\nof it\"\r\nMUG-RED,Red mug\r\n"), 0o600))
	header, err := csvFile{path}.header()
	require.NoError(t, err)
	require.Equal(t, []string{"sku", "title\nof it"}, header)
}

package operations

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/fault"
)

func TestWhereTheLedgerMayWrite(t *testing.T) {
	at := t.TempDir()
	data, beside, link := filepath.Join(at, "data"), filepath.Join(at, "data.bak"), filepath.Join(at, "link")
	require.NoError(t, os.MkdirAll(filepath.Join(data, "models"), 0o700))
	require.NoError(t, os.Symlink(data, link))
	for _, dir := range []string{data, link} { // the ledger may know its directory by either name
		o := &Operations{dir: dir}
		for path, code := range map[string]string{
			"":                              "invalid_data",
			"backup":                        "path_not_absolute",
			"./backup":                      "path_not_absolute",
			data + "/../data/log.db":        "path_not_absolute",
			at + "/a\x00b":                  "path_not_absolute",
			data:                            "path_in_data",
			data + "/log.db":                "path_in_data",
			data + "/models/x/y/z":          "path_in_data",
			link:                            "path_in_data",
			link + "/new":                   "path_in_data",
			beside:                          "",
			at + "/new/and/deeper/back.tar": "",
			at + "/..data":                  "",
			"/":                             "",
		} {
			err := o.mayWrite(path)
			require.Equal(t, code, fault.Code(err), "%q: %v", path, err)
		}
	}
}

package esdbdouble_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No program of ours and no package of one contains the double: tests import it.
func TestOnlyTestsImportTheDouble(t *testing.T) {
	const double = "github.com/stockledger/stockledger/internal/esdbdouble"
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	list.Dir = "../.."
	out, err := list.Output()
	require.NoError(t, err)
	packages := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); packages++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		require.NoError(t, dec.Decode(&p))
		require.NotContains(t, p.Imports, double, "%s is no test", p.ImportPath)
	}
	require.Greater(t, packages, 10, strings.TrimSpace(string(out)))
}

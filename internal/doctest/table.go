package doctest

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Rows are those of the tables in one section of page, such as "Limits", by their
// first cell. No two of them may have the same one.
func Rows(t testing.TB, page, section string) map[string][]string {
	t.Helper()
	source, err := os.ReadFile(page)
	require.NoError(t, err)
	_, text, found := strings.Cut(string(source), "\n## "+section+"\n")
	require.True(t, found, "%s has no section %s", page, section)
	text, _, _ = strings.Cut(text, "\n## ")
	rows := make(map[string][]string)
	heading := true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			heading = true
		case heading:
			heading = false
		case strings.HasPrefix(line, "|---"):
		default:
			cells := strings.Split(strings.Trim(line, "| "), " | ")
			require.NotContains(t, rows, cells[0], "%s has it twice", page)
			rows[cells[0]] = cells
		}
	}
	require.NotEmpty(t, rows)
	return rows
}

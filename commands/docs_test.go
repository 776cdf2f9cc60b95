package commands_test

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/doctest"
	"github.com/stockledger/stockledger/internal/fault"
)

const page = "../docs/commands.md"

var update = flag.Bool("update", false, "write the answers in docs/commands.md")

func document(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	return string(text)
}

// Under the heading of each command there are two blocks: a payload and the
// result. Under Answers and Refusals there are a payload of adjust and what it
// gets.
func TestTheExamplesInTheDocumentsAreTrue(t *testing.T) {
	s := newShop(t, func(c *commands.Config) { c.Now = func() time.Time { return instant } })
	other := newShop(t, func(c *commands.Config) { c.Now = func() time.Time { return instant } })
	other.do("create-inventory-items", `{"id":"tray","location_levels":[{"location_id":"paris","stocked_quantity":5}]}`)
	var shown []string
	doctest.Run(t, page, *update, func(title, payload string) any {
		switch title {
		case "Answers":
			return other.do("adjust-inventory-levels", payload, commands.Envelope{Key: "sale-1"})
		case "Refusals":
			_, err := other.try("adjust-inventory-levels", payload)
			return fault.Public(err)
		}
		shown = append(shown, title)
		return s.do(title, payload).Result
	})
	slices.Sort(shown)
	require.Equal(t, commands.Names(), shown, "every command has an example")
}

func TestEveryRefusalIsInTheDocuments(t *testing.T) {
	codes := map[string]bool{"internal": true}
	for _, dir := range []string{".", "../domain"} {
		files, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, pattern := range []string{
				`fault\.New\(\s*fault\.\w+,\s*"(\w+)"`, `levelFault\(\s*fault\.\w+,\s*"(\w+)"`, `invalid\(\s*[^,]+,\s*"(\w+)"`, `notNow\(\s*"(\w+)"`,
			} {
				for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(source), -1) {
					codes[found[1]] = true
				}
			}
		}
	}
	require.Greater(t, len(codes), 30, "the patterns above find them")
	_, section, _ := strings.Cut(document(t), "## Refusals")
	section, _, _ = strings.Cut(section, "## Limits")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1])
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(codes)), listed)
}

// The documents name the test that shows a thing, as `TestName` or, for a row of a
// table, as `TestName/name of the row`.
func TestEveryTestThatTheDocumentsNameIsThere(t *testing.T) {
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(source), -1) {
			tests[found[1]] = true
		}
		return err
	}))
	for family, all := range families {
		for _, sc := range all {
			tests[fmt.Sprintf("Test%s%s/%s", strings.ToUpper(family[:1]), family[1:], sc.name)] = true
		}
	}
	named := regexp.MustCompile("`(Test[A-Z][^`]*)`").FindAllStringSubmatch(document(t), -1)
	require.Greater(t, len(named), 33, "one for each workflow and each method")
	for _, name := range named {
		require.True(t, tests[name[1]], name[1])
	}
}

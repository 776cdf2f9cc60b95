// Package arch checks what no compiler does: that imports point one way, that
// the documents name what exists, and that links in them lead somewhere.
package arch

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/events"
	"github.com/stockledger/stockledger/internal/operations"
)

const module = "github.com/stockledger/stockledger"

// allowed lists, for each package, the packages of ours it may import. A package
// that is not listed may not exist. It is the drawing in docs/architecture.md.
var allowed = map[string][]string{
	"":                     {"commands", "events", "events/sqlitestore", "internal/fault", "internal/lease", "internal/audit", "internal/refusals", "internal/snapshots", "projections"},
	"cmd/chaincheck":       {},
	"cmd/stockledger":      {"*"},
	"commands":             {"domain", "events", "internal/fault"},
	"domain":               {"events", "internal/fault"},
	"events":               {},
	"events/esdbstore":     {"events"},
	"events/memstore":      {"events"},
	"events/natsstore":     {"events"},
	"events/sqlitestore":   {"events"},
	"events/storetest":     {"events"},
	"internal/arch":        {},
	"internal/audit":       {"events", "internal/fault", "projections"},
	"internal/backup":      {"events", "events/sqlitestore", "internal/audit", "internal/evidence", "internal/fault", "projections"},
	"internal/bench":       {"", "commands", "events", "internal/fault", "internal/figures", "internal/httpapi", "internal/natsapi", "internal/transport", "projections"},
	"internal/chaos":       {"", "commands", "events", "internal/fault", "internal/figures", "internal/natsapi", "internal/operations", "projections"},
	"internal/diskfault":   {},
	"internal/doctest":     {},
	"internal/esdbdouble":  {"internal/ports"},
	"internal/evidence":    {"events", "internal/fault"},
	"internal/fault":       {},
	"internal/figures":     {},
	"internal/httpapi":     {"commands", "events", "internal/fault", "internal/transport"},
	"internal/lease":       {"events"},
	"internal/natscluster": {"internal/ports"},
	"internal/medusaapi":   {"commands", "events", "internal/fault", "internal/httpapi", "internal/transport", "projections"},
	"internal/natsapi":     {"", "commands", "events", "internal/fault", "internal/transport", "projections"},
	"internal/operations":  {"", "internal/audit", "internal/backup", "internal/evidence", "internal/fault", "projections"},
	"internal/ports":       {},
	"internal/race":        {},
	"internal/refusals":    {"events", "internal/fault"},
	"internal/simstore":    {"events", "events/memstore"},
	"internal/snapshots":   {"commands"},
	"internal/telemetry":   {"commands", "internal/fault", "internal/transport"},
	"internal/transport":   {"commands", "events", "internal/fault"},
	"projections":          {"events", "internal/fault"},
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may, known := allowed[name]
		require.True(t, known, "package %s is not in the drawing", name)
		for _, imported := range p.Imports {
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			ours := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
			require.True(t, may != nil && (len(may) > 0 && may[0] == "*" || slices.Contains(may, ours)),
				"%s imports %s", name, ours)
		}
	}
}

func TestTheExampleIsWhatAnybodyCanWrite(t *testing.T) {
	require.NotContains(t, read(t, "example_test.go"), "/internal/")
}

func TestDomainAndEventsKnowNoClockAndNoWorld(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != module+"/domain" && p.ImportPath != module+"/events" {
			continue
		}
		for _, banned := range []string{"os", "net", "net/http", "math/rand", "math/rand/v2", "log", "log/slog", "database/sql"} {
			require.NotContains(t, p.Imports, banned, p.ImportPath)
		}
	}
}

func TestEveryEventTypeIsInTheCatalogue(t *testing.T) {
	page := read(t, "docs/events.md")
	for _, name := range events.Types() {
		require.Contains(t, page, "`"+name+"`")
	}
	for _, named := range regexp.MustCompile("`(inventory\\.[a-z-]+\\.v[0-9]+)`").FindAllStringSubmatch(page, -1) {
		require.Contains(t, events.Types(), named[1], "docs/events.md names a fact that does not exist")
	}
}

func TestEveryCommandIsInTheDocuments(t *testing.T) {
	page := read(t, "docs/commands.md")
	for _, name := range commands.Names() {
		require.Contains(t, page, "`"+name+"`")
	}
}

// undocumented are codes that no caller ever sees.
var undocumented = []string{
	"feed_trimmed",    // of a client that our tests and benchmarks alone follow the feed with
	"invalid_request", // Medusa's routes, which answer without a code
	"log_not_empty",   // import-log makes the log that it imports into
}

func TestEveryCodeIsInTheDocuments(t *testing.T) {
	documented := make(map[string]bool)
	for _, page := range documents(t) {
		for _, found := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(read(t, page), -1) {
			documented[found[1]] = true
		}
	}
	constant := regexp.MustCompile(`(?m)^const (\w+) = ("[a-z_]+")$`)
	refusal := regexp.MustCompile(`fault\.New\(fault\.[A-Z][A-Za-z]*,\s*"([a-z_]+[a-z])"`)
	sources(t, func(path, text string) {
		for _, found := range constant.FindAllStringSubmatch(text, -1) {
			text = strings.ReplaceAll(text, ", "+found[1]+",", ", "+found[2]+",")
		}
		for _, found := range refusal.FindAllStringSubmatch(text, -1) {
			if !strings.HasSuffix(path, "_test.go") && !slices.Contains(undocumented, found[1]) {
				require.True(t, documented[found[1]], "%s refuses with %s, which no document has", path, found[1])
			}
		}
	})
}

func TestEveryOperationIsInTheDocuments(t *testing.T) {
	page := read(t, "docs/http.md")
	for name := range operations.Names() {
		require.Contains(t, page, "| `"+name+"` |")
	}
}

func TestEveryTestNamedInTheDocumentsExists(t *testing.T) {
	var source strings.Builder
	sources(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") {
			source.WriteString(text)
		}
	})
	for _, page := range documents(t) {
		for _, name := range regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]*\b`).FindAllString(read(t, page), -1) {
			require.Contains(t, source.String(), "func "+name+"(t ", "%s names a test that does not exist", page)
		}
	}
}

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)]*)?\)`)
	for _, page := range documents(t) {
		for _, found := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			target := page
			if found[1] != "" {
				target = filepath.Join(filepath.Dir(page), found[1])
			}
			_, err := os.Stat(filepath.Join(root, target))
			require.NoError(t, err, "%s links to %s", page, found[1])
			if found[2] != "" && strings.HasSuffix(target, ".md") {
				require.Contains(t, anchors(read(t, target)), found[2], "%s links to %s", page, found[0])
			}
		}
	}
}

// anchors are what the headings of a page are called in links.
func anchors(page string) (all []string) {
	outside := regexp.MustCompile("(?ms)^ *```.*?^ *```").ReplaceAllString(page, "")
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(outside, -1) {
		name := regexp.MustCompile(`[^\pL\pN_ -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

const root = "../.."

// sources shows every Go file of ours.
func sources(t *testing.T, show func(path, text string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		show(path, string(text))
		return err
	}))
}

func documents(t *testing.T) []string {
	t.Helper()
	pages := []string{"README.md"}
	require.NoError(t, filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			page, relErr := filepath.Rel(root, path)
			pages = append(pages, page)
			return relErr
		}
		return err
	}))
	return pages
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	return string(text)
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	list.Dir = root
	out, err := list.Output()
	require.NoError(t, err)
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p goPackage
		require.NoError(t, dec.Decode(&p))
		all = append(all, p)
	}
	return all
}

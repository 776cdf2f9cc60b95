// Package doctest runs the examples of a document, so that what it shows is what
// happens.
package doctest

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	heading = regexp.MustCompile(`(?m)^##`)
	block   = regexp.MustCompile("(?s)```json\n(.*?)```\n")
	made    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	hash    = regexp.MustCompile(`[0-9a-f]{64}`)
)

// Run runs the examples of page. A section with JSON has two blocks of it: what
// is asked and what is answered. Ask gets the section's title and its first
// block; its answer, as JSON and with UUIDs and hashes shortened to …, must be
// the second one, or becomes it when write is true.
func Run(t *testing.T, page string, write bool, ask func(title, payload string) any) {
	t.Helper()
	source, err := os.ReadFile(page)
	require.NoError(t, err)
	sections := heading.Split(string(source), -1)
	for i, section := range sections {
		blocks := block.FindAllStringSubmatchIndex(section, -1)
		if len(blocks) == 0 {
			continue
		}
		title, _, _ := strings.Cut(strings.TrimLeft(section, "# "), "\n")
		require.Len(t, blocks, 2, "%s: %s", page, title)
		answer, err := json.Marshal(ask(title, section[blocks[0][2]:blocks[0][3]]))
		require.NoError(t, err)
		answer = hash.ReplaceAll(made.ReplaceAll(answer, []byte("…")), []byte("…"))
		from, to := blocks[1][2], blocks[1][3]
		if write {
			sections[i] = section[:from] + wrapped(t, answer) + section[to:]
		} else {
			require.Equal(t, compact(t, answer), compact(t, []byte(section[from:to])), "%s: %s", page, title)
		}
	}
	if write {
		require.NoError(t, os.WriteFile(page, []byte(strings.Join(sections, "##")), 0o600))
	}
}

func compact(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Compact(&b, text), "%s", text)
	return b.String()
}

// wrapped is JSON in lines of at most 120 characters.
func wrapped(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, text, "", " "))
	var lines []string
	line := ""
	for token := range strings.SplitSeq(b.String(), "\n") {
		token = strings.TrimSpace(token)
		opens := line == "" || strings.HasSuffix(line, "{") || strings.HasSuffix(line, "[") || strings.HasPrefix(token, "}") || strings.HasPrefix(token, "]")
		switch {
		case strings.HasSuffix(line, "},") && token == "{":
			lines = append(lines, line)
			line = " {"
		case line != "" && len(line)+1+len(token) > 120:
			lines = append(lines, line)
			line = "  " + token
		case opens:
			line += token
		default:
			line += " " + token
		}
	}
	return strings.Join(append(lines, line), "\n") + "\n"
}

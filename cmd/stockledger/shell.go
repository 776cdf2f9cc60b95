package main

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/internal/natsapi"
)

// shellWord is text as one word of a POSIX shell, for commands that a user is
// told to run.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// builtByGoRun is where go run puts a program: into a directory of its own, or
// into the build cache.
var builtByGoRun = regexp.MustCompile(`/go-build[^/]*/|/[0-9a-f]{64}-d/`)

// invocation is the words that run the program again as it was run, given the
// first of its arguments.
func invocation(name string) []string {
	if filepath.IsAbs(name) && builtByGoRun.MatchString(filepath.ToSlash(name)) {
		return []string{"go", "run", "./cmd/stockledger"}
	}
	return []string{name}
}

// line is a command line of this program for the user to paste, without the
// secrets in the URL of a server.
func (s *settings) line(words ...string) string {
	words = slices.Clone(words)
	for i, word := range words {
		before := ""
		if i > 0 {
			before = words[i-1]
		}
		url, isServer := strings.CutPrefix(word, "--server=")
		switch {
		case isServer:
			words[i] = "--server=" + natsapi.Redacted(url)
		case strings.HasPrefix(word, "--token="):
			words[i] = "--token=xxxxx"
		case before == "--server":
			words[i] = natsapi.Redacted(word)
		case before == "--token":
			words[i] = "xxxxx"
		}
	}
	return shellLine(append(slices.Clip(s.program), words...)...)
}

// shellLine joins words to a command line.
func shellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

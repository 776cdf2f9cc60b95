package stockledger_test

import (
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger"
	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/doctest"
	"github.com/stockledger/stockledger/internal/fault"
)

var update = flag.Bool("update", false, "write the answers in docs/queries.md")

func TestTheQueriesInTheDocumentsAreTrue(t *testing.T) {
	const page = "docs/queries.md"
	var clock atomic.Int64
	clock.Store(time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC).UnixNano())
	ledger, err := stockledger.Open(t.Context(), stockledger.Config{
		Dir: t.TempDir(), Now: func() time.Time { return time.Unix(0, clock.Load()) },
	})
	require.NoError(t, err)
	defer ledger.Close()
	source, err := os.ReadFile(page)
	require.NoError(t, err)
	var position uint64
	refused := 0
	for line := range strings.Lines(string(source)) {
		if !strings.HasPrefix(line, "stockledger cmd ") {
			continue
		}
		name, body, env := command(t, line)
		answer, err := ledger.DoJSON(t.Context(), env, name, []byte(body))
		if err != nil {
			require.Equal(t, fault.NotAllowed, fault.Of(err).Kind, "%s: %v", line, err)
			refused++
		}
		position = max(position, answer.Position)
		clock.Add(int64(time.Hour))
	}
	require.Equal(t, 2, refused)
	require.NoError(t, ledger.Models().WaitFor(t.Context(), position))

	var shown []string
	doctest.Run(t, page, *update, func(title, payload string) any {
		shown = append(shown, title)
		answer, err := ledger.Query(t.Context(), title, []byte(payload))
		require.NoError(t, err, title)
		return answer
	})
	slices.Sort(shown)
	require.Equal(t, slices.Sorted(maps.Keys(ledger.QueryNames())), shown, "every query has an example")
}

var word = regexp.MustCompile(`'[^']*'|\S+`)

// command reads a line of the command line's cmd.
func command(t *testing.T, line string) (name, body string, env commands.Envelope) {
	t.Helper()
	words := word.FindAllString(line, -1)
	name, body = words[2], strings.Trim(words[3], "'")
	for flag := range slices.Chunk(words[4:], 2) {
		switch flag[0] {
		case "--idempotency-key":
			env.Key = flag[1]
		case "--actor":
			env.Actor = flag[1]
		case "--reason":
			env.Reason = flag[1]
		case "--reference":
			env.Reference = flag[1]
		case "--effective-at":
			at, err := time.Parse(time.RFC3339, flag[1])
			require.NoError(t, err)
			env.Effective = at
		default:
			t.Fatalf("%s: flag %s", line, flag[0])
		}
	}
	return name, body, env
}

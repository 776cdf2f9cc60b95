package bench_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stockledger/stockledger/internal/bench"
)

const page = "By hand.\n<!-- bench:begin table -->\nold\n<!-- bench:end table -->\nBy hand, too.\n"

func TestOnlyWhatIsBetweenTheMarkersIsReplaced(t *testing.T) {
	got, err := bench.Replace(page, "table", "new\n\n")
	require.NoError(t, err)
	require.Equal(t, "By hand.\n<!-- bench:begin table -->\nnew\n<!-- bench:end table -->\nBy hand, too.\n", got)
	require.Equal(t, "new\n", bench.Block(got, "table"))
	again, err := bench.Replace(got, "table", "new")
	require.NoError(t, err)
	require.Equal(t, got, again)
}

func TestADocumentWithoutItsMarkersIsLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"none": "By hand.\n", "no end": "<!-- bench:begin table -->\n", "another": "<!-- bench:begin soak -->\n<!-- bench:end soak -->\n",
		"the end first": "<!-- bench:end table -->\n<!-- bench:begin table -->\n", "twice": page + page,
	} {
		_, err := bench.Replace(text, "table", "new")
		require.ErrorContains(t, err, `block "table"`, name)
	}
}

// A table of few rows is measured; what has no figure is not said to be reached.
func TestATableSaysWhatIsReached(t *testing.T) {
	b := newBench(t)
	config := bench.Quick()
	config.Rows = []string{"file", "postgres", "inserts", "start"}
	table, err := b.TakeTable(t.Context(), config)
	require.NoError(t, err)
	require.Len(t, table.Rows, 4)
	for _, r := range table.Rows {
		if r.ID == "postgres" {
			require.Nil(t, r.Reached)
			require.Contains(t, r.Verdict(), "left out")
			continue
		}
		require.NotNil(t, r.Reached, r.ID)
		if r.Than != "" {
			require.Len(t, r.Ratios, 1, r.ID)
		}
	}
	require.Contains(t, table.Markdown(), "| durable adjustments, Go API, 8 callers, 20 items |")
}

// A machine may be so busy that a point has no figure.
func TestPlotsAreDrawnOfWhateverThereIs(t *testing.T) {
	dir := t.TempDir()
	for _, curves := range [][]bench.Curve{
		nil,
		{{What: "nothing", Points: []bench.Figures{{Callers: 1}}}},
		{{What: "one", Points: []bench.Figures{{Callers: 1, Rate: 0.5, P99: 0.01}}}},
		{{What: "two", Points: []bench.Figures{{Callers: 1, Rate: 10, P99: 1}, {Callers: 4, Rate: 40, P99: 1}}}},
	} {
		files, err := bench.Scale{Config: bench.ScaleConfig{Callers: []int{1, 4}}, Curves: curves}.Plot(dir)
		require.NoError(t, err)
		require.Len(t, files, 2)
	}
	require.NoError(t, bench.Soak{}.Plot(filepath.Join(dir, "soak.svg")))
	text, err := os.ReadFile(filepath.Join(dir, "latency.svg"))
	require.NoError(t, err)
	require.Contains(t, string(text), "99 of 100")
	require.Contains(t, string(text), ",sans-serif")
}

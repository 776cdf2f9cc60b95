package bench

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stockledger/stockledger/internal/figures"
)

// Replace puts text between the markers of a block of a document, which are lines of
// their own: <!-- bench:begin NAME --> and <!-- bench:end NAME -->. Everything else
// stays as it is. It fails when the markers are not there, or more than once.
func Replace(document, name, text string) (string, error) {
	begin, end := "<!-- bench:begin "+name+" -->\n", "<!-- bench:end "+name+" -->\n"
	before, rest, found := strings.Cut(document, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("the document has no block %q: there must be a line %s and below it a line %s",
			name, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	if strings.Contains(rest, begin) || strings.Contains(after, end) || strings.Contains(before, end) {
		return "", fmt.Errorf("the document has the block %q more than once", name)
	}
	return before + begin + strings.TrimRight(text, "\n") + "\n" + end + after, nil
}

// Block is the text between the markers of a block, "" when there is none.
func Block(document, name string) string {
	_, rest, _ := strings.Cut(document, "<!-- bench:begin "+name+" -->\n")
	block, _, _ := strings.Cut(rest, "<!-- bench:end "+name+" -->\n")
	return block
}

// Markdown is the table of a document.
func (t Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| what | ours | beside it | ratio | aim | reached |\n|---|--:|--:|--:|---|---|\n",
		t.Machine.sentence(fmt.Sprintf("Medians of %d runs of %g s each.", t.Config.Runs, t.Config.Duration.Seconds())))
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.What, r.Figure(), r.BesideFigure(), r.RatioText(), r.Aim, r.Verdict())
	}
	return b.String() + leftOut(t.LeftOut)
}

// Figure is ours with its unit.
func (r Row) Figure() string {
	if r.Ours == 0 {
		return "–"
	}
	return withUnit(r.Ours, r.Unit)
}

// BesideFigure is what stands beside it, with its unit and what it is.
func (r Row) BesideFigure() string {
	switch {
	case r.Than == "":
		return ""
	case r.Beside == 0:
		return r.Than
	default:
		return withUnit(r.Beside, r.Unit) + ", " + r.Than
	}
}

// RatioText is the ratio with those of the runs that were least and most.
func (r Row) RatioText() string {
	if len(r.Ratios) == 0 {
		return ""
	}
	least, most := figures.Thousands(slices.Min(r.Ratios)), figures.Thousands(slices.Max(r.Ratios))
	if least == most {
		return figures.Thousands(r.Ratio)
	}
	return fmt.Sprintf("%s (%s–%s)", figures.Thousands(r.Ratio), least, most)
}

// Verdict is whether what is aimed at is reached: yes, no, or that it was left out,
// for a reason that the table has.
func (r Row) Verdict() string {
	switch {
	case r.Ours == 0:
		return "left out"
	case r.Reached == nil:
		return ""
	case *r.Reached:
		return "yes"
	default:
		return "**no**"
	}
}

func withUnit(v float64, unit string) string {
	if strings.HasPrefix(unit, "/") {
		return figures.Thousands(v) + unit
	}
	return strings.TrimSpace(figures.Thousands(v) + " " + unit)
}

// sentence says first how, then where and when figures were taken.
func (m Machine) sentence(how string) string {
	return fmt.Sprintf("%s Taken on %s: commit %s, %s, %d cores, %.0f GiB, %s, %s, %s whose sync takes %.2f ms, seed %d.",
		how, m.Taken.Format("2006-01-02 15:04 MST"), m.CommitName(), m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.Kernel, m.Go,
		m.Filesystem, m.Sync/1000, m.Seed)
}

// TakenAt reports whether a block has the figures of this commit and no other source.
func (m Machine) TakenAt(block string) bool {
	return m.Commit != "unknown" && !m.Modified && strings.Contains(block, "commit "+m.CommitName()+",")
}

func leftOut(why map[string]string) string {
	var b strings.Builder
	for what, why := range why {
		fmt.Fprintf(&b, "\nLeft out: %s: %s.\n", what, why)
	}
	return b.String()
}

// Markdown is the scale of a document, with plots in a directory beside it.
func (s Scale) Markdown(plots string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", s.Machine.sentence(fmt.Sprintf("%s items, %g s a point.", figures.Thousands(s.Config.Items), s.Config.Duration.Seconds())))
	fmt.Fprintf(&b, "![adjustments a second over callers](%s)\n![p99 over callers](%s)\n\n",
		filepath.ToSlash(filepath.Join(plots, throughputPlot)), filepath.ToSlash(filepath.Join(plots, latencyPlot)))
	b.WriteString("| callers |")
	for _, c := range s.Curves {
		fmt.Fprintf(&b, " %s, /s | p50, ms | p99, ms |", c.What)
	}
	b.WriteString("\n|--:|" + strings.Repeat("--:|--:|--:|", len(s.Curves)) + "\n")
	for i, callers := range s.Config.Callers {
		fmt.Fprintf(&b, "| %d |", callers)
		for _, c := range s.Curves {
			p := c.Points[i]
			fmt.Fprintf(&b, " %s | %s | %s |", figures.Thousands(p.Rate), figures.Thousands(p.P50), figures.Thousands(p.P99))
		}
		b.WriteByte('\n')
	}
	return b.String() + leftOut(s.LeftOut)
}

// Markdown is the memory of a document.
func (m Memory) Markdown(machine Machine) string {
	mib := func(n int64) string { return figures.Thousands(float64(n)/(1<<20)) + " MiB" }
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| | |\n|---|--:|\n", machine.sentence("A process of its own, the ledger in it with both read models and the walk."))
	for _, line := range [][2]string{
		{"items, levels of each, events", fmt.Sprintf("%s, %d, %s", figures.Thousands(m.Config.Items), m.Config.Levels, figures.Thousands(m.Events))},
		{"until the log and the read models had them", figures.Thousands(m.Loaded) + " s"},
		{"resident at most meanwhile", mib(m.PeakLoading)},
		{fmt.Sprintf("adjustments at random by %d callers after that", m.Config.Callers), figures.Thousands(m.Adjusted)},
		{"resident at most, all in all", "**" + mib(m.Peak) + "**"},
		{"resident at the end; of that the live heap", mib(m.After) + "; " + mib(m.Heap)},
		{"streams in the cache", figures.Thousands(m.Cached)},
		{"on disk: log, read models", mib(m.Log) + ", " + mib(m.Models)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", line[0], line[1])
	}
	return b.String()
}

// Markdown is the soak of a document, with its plot.
func (s Soak) Markdown(plots string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n![memory over time](%s)\n\n", s.Machine.sentence(fmt.Sprintf("%g minutes, %d callers, %s, %s items.",
		s.Minutes, s.Config.Callers, s.Config.Mix, figures.Thousands(s.Config.Items))), filepath.ToSlash(filepath.Join(plots, memoryPlot)))
	b.WriteString("| median of | second quarter | last quarter | allowed | flat |\n|---|--:|--:|--:|---|\n")
	for _, t := range s.Trends {
		flat := "yes"
		if !t.Flat {
			flat = "**no**"
		}
		fmt.Fprintf(&b, "| %s%s | %s | %s | %s | %s |\n", t.What, map[string]string{"MiB": ", MiB"}[t.Unit], figures.Thousands(t.Second), figures.Thousands(t.Last), figures.Thousands(t.Allowed), flat)
	}
	first, last := s.Samples[0], s.Samples[len(s.Samples)-1]
	fmt.Fprintf(&b, "\n%s commands, each of them in the log once; %s/s at first and %s/s at last; a log of %s MiB. %s.\n",
		figures.Thousands(s.Check.Acknowledged), figures.Thousands(first.Rate), figures.Thousands(last.Rate), figures.Thousands(float64(last.Log)/(1<<20)), strings.ToUpper(Rule[:1])+Rule[1:])
	return b.String()
}

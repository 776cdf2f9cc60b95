package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stockledger/stockledger/internal/bench"
)

type benchTable struct {
	Runs     int           `default:"3" help:"How many times everything is measured; figures and ratios are medians."`
	Rows     []string      `placeholder:"ROW,…" help:"Only these rows; an unknown one is told which there are."`
	Duration time.Duration `default:"4s" help:"How long each load is measured in a run."`
	Quick    bool          `help:"Small and short: to see that it works, not how fast."`
	benchAnswer
}

// Help implements kong.HelpProvider.
func (benchTable) Help() string {
	return `Measures everything that the design aims at, each beside what it is compared with, and says what is reached. Three runs take about nine minutes
and 4 GB of disk; most of that is a log of a million events and a ledger of a million items.

Rows: ` + strings.Join(bench.RowIDs(), ", ") + `.

Examples:

    stockledger bench table
    stockledger bench table --rows file,hot,p99 --runs 5
    stockledger bench table --quick`
}

// Validate implements kong's hook of that name.
func (c *benchTable) Validate() error {
	if c.Duration <= 0 {
		return errors.New("--duration must be more than nothing")
	}
	return nil
}

// config is the table as it was asked for.
func (c *benchTable) config() bench.TableConfig {
	config := bench.Whole()
	config.Duration = c.Duration
	if c.Quick {
		config = bench.Quick()
	} else {
		config.Runs = max(1, c.Runs)
	}
	config.Rows = c.Rows
	return config
}

// Run takes the table.
func (c *benchTable) Run(ctx context.Context, s streams) error {
	return c.measure(ctx, s, func(b *bench.Bench) error {
		table, err := b.TakeTable(ctx, c.config())
		if err != nil {
			return err
		}
		return c.show(s.out, table, func(w io.Writer) { showTable(w, table) }, nil)
	})
}

// showTable prints the ratios first: figures are of one machine.
func showTable(w io.Writer, t bench.Table) {
	rows := make([]row, len(t.Rows))
	for i, r := range t.Rows {
		rows[i] = textRow(map[string]string{
			"row": r.ID, "ratio": r.RatioText(), "aim": r.Aim, "reached": strings.Trim(r.Verdict(), "*"),
			"ours": r.Figure(), "beside": r.BesideFigure(), "what": r.What,
		})
	}
	printTable(w, []column{
		col("ROW", "row"), num("RATIO", "ratio"), col("AIM", "aim"), col("REACHED", "reached"), num("OURS", "ours"), col("WHAT", "what"), col("BESIDE", "beside"),
	}, rows)
	fmt.Fprintf(w, "\n%s of %g s each, %.0f s in all\n", several(t.Config.Runs, "run"), t.Config.Duration.Seconds(), t.Took)
	tellLeftOut(w, t.LeftOut)
	tellMachine(w, t.Machine)
}

type benchScale struct {
	Callers  []int         `default:"1,2,4,8,16,32,64,128,256" help:"How many callers there are at each point."`
	Items    int           `default:"10000" help:"How many items they draw from."`
	Duration time.Duration `default:"2s" help:"How long each point is measured."`
	Plots    string        `placeholder:"DIR" help:"Draw the curves there, as throughput.svg and latency.svg."`
	benchAnswer
}

// Help implements kong.HelpProvider.
func (benchScale) Help() string {
	return `Adjustments by more and more callers: a ledger, a file with the same bytes, and PostgreSQL, one after the other at each point.

Examples:

    stockledger bench scale
    stockledger bench scale --callers 1,16,64 --plots plots`
}

// Validate implements kong's hook of that name.
func (c *benchScale) Validate() error {
	for _, n := range c.Callers {
		if n < 1 || n > bench.MaxCallers {
			return fmt.Errorf("--callers: %d; each must be from 1 to %d", n, bench.MaxCallers)
		}
	}
	if len(c.Callers) == 0 || c.Items < 1 || c.Duration <= 0 {
		return fmt.Errorf("--callers must name at least one number, --items must be at least 1, and --duration more than nothing")
	}
	return nil
}

// Run takes the curves.
func (c *benchScale) Run(ctx context.Context, s streams) error {
	return c.measure(ctx, s, func(b *bench.Bench) error {
		scale, err := b.TakeScale(ctx, bench.ScaleConfig{Callers: c.Callers, Items: c.Items, Duration: c.Duration})
		if err != nil {
			return err
		}
		if c.Plots != "" {
			if _, err := scale.Plot(c.Plots); err != nil {
				return err
			}
		}
		return c.show(s.out, scale, func(w io.Writer) { showScale(w, scale) }, scale.Err())
	})
}

func showScale(w io.Writer, scale bench.Scale) {
	for i, curve := range scale.Curves {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, curve.What)
		rows := make([]row, len(curve.Points))
		for j, f := range curve.Points {
			f.What = fmt.Sprint(f.Callers)
			rows[j] = figuresRow(f)
		}
		printTable(w, append([]column{num("CALLERS", "what")}, figureColumns[1:]...), rows)
	}
	tellLeftOut(w, scale.LeftOut)
	tellMachine(w, scale.Machine)
}
